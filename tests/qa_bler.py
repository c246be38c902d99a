# SPDX-License-Identifier: GPL-3.0-or-later
"""What slot_probe and deeprx loopback tell of transport blocks."""

import json
import time

import numpy as np
import pmt
import pytest
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx.blocks.slot_statistics import SlotStatistics
from gnuradio.deeprx.blocks.transport import seeded_bits
from gnuradio.deeprx.cli import main
from qa_messages import MESSAGES

from deeprx_common import energy, report
from deeprx_common.slot import SlotConfig, User

SLOT = SlotConfig(n_prb=6, users=(User(mcs=10),))
SIZE = SLOT.transport_block_size()
ENERGY = energy.energy_per_slot(source="none")


def counted_blocks(*transmissions, cluster_slots=1, transmissions_at_most=4, slots=None, **options):
    """A point of these transmissions: process, whether new data, whether the CRC was right."""
    counted = SlotStatistics(SLOT, cluster_slots, None, 0, None, transmissions_at_most)
    for index, (process, new_data, crc_ok) in enumerate(transmissions):
        about = {
            "slot_index": index, "rnti": 1, "process": process, "rv": 0, "new_data": new_data,
            "crc_ok": crc_ok, "iterations": 2.0 + 2 * index, "cpu_ns": 1000,
        }  # fmt: skip
        counted.add_slot(index, np.zeros(SLOT.n_bits, np.uint8))
        counted.add_block(about, bytes(SIZE // 8))
    return counted.point(ENERGY), counted


def test_block_errors_are_those_of_first_transmissions():
    point, counted = counted_blocks(
        (0, True, False), (1, True, True), (0, False, False), (1, True, False), (0, False, True),
        (1, True, True),
    )  # fmt: skip
    report.validate(report.new() | {"points": [point]})
    assert (point["blocks"], point["block_errors"], point["bler"]) == (4, 2, 0.5)
    assert point["harq"] == {
        "transmissions": 4, "retransmissions": 2, "delivered": 3, "failed": 1
    }  # fmt: skip
    assert point["goodput_bit_per_s"] == pytest.approx(3 * SIZE / 6e-3)
    assert counted.delivered_bits == 3 * SIZE
    assert point["decoder"] == {"iterations": pytest.approx(7), "cpu_s": pytest.approx(1e-6)}
    assert (point["mcs"], point["layers"], point["layer"]) == (10, 1, 0)
    assert SlotConfig.from_dict(point["slot"]) == SLOT


def test_a_block_that_was_delivered_is_not_delivered_again():
    point, _ = counted_blocks((0, True, True), (0, False, True), (0, False, True))
    assert point["harq"]["delivered"] == 1
    assert point["harq"]["failed"] == 0


def test_interval_is_exact_where_each_block_is_a_cluster():
    errors = [(0, True, k % 5 > 0) for k in range(20)]
    alone, _ = counted_blocks(*errors, transmissions_at_most=1)
    assert alone["bler_ci95"] == pytest.approx([0.0573, 0.4366], abs=1e-4)  # Clopper and Pearson
    assert alone["harq"] is None
    together, _ = counted_blocks(*errors, cluster_slots=5)
    assert together["bler_ci95"] != alone["bler_ci95"]


def test_slots_that_are_not_counted_and_blocks_that_are_other_ones():
    counted = SlotStatistics(SLOT, 1, None, 3, lambda index: SLOT.block(1, index))
    for index in range(5):
        about = {"slot_index": index, "crc_ok": True}
        counted.add_block(about, SLOT.block(1, index if index != 1 else 7))
    point = counted.point(ENERGY)
    assert (point["blocks"], point["block_errors"]) == (3, 1)  # of slot 1 the CRC is right


def test_without_blocks_there_is_nothing_to_tell():
    counted = SlotStatistics(SLOT, 1)
    counted.add_slot(0, np.zeros(SLOT.n_bits, np.uint8))
    point = counted.point(ENERGY)
    for key in ("blocks", "bler", "harq", "goodput_bit_per_s", "decoder"):
        assert point[key] is None


def test_probe_hears_of_blocks_and_of_anything(capfd):
    top = gr.top_block()
    probe = deeprx.slot_probe(every_slots=2, meter="none", slot=SLOT, cluster_slots=1)
    decoder = deeprx.tb_decoder(SLOT)
    bits = np.concatenate([seeded_bits(SLOT, 1)(k) for k in range(4)])
    llr = (16.0 * bits - 8).astype(np.float32)
    llr[SLOT.n_bits : 2 * SLOT.n_bits] *= -1
    tags = [
        gr.tag_utils.python_to_tag(
            (k * SLOT.n_bits, pmt.intern("packet_len"), pmt.from_long(SLOT.n_bits))
        )
        for k in range(4)
    ]
    top.connect(blocks.vector_source_f(llr.tolist(), False, 1, tags), decoder, probe)
    top.msg_connect(decoder, "blocks", probe, "blocks")
    reports = blocks.message_debug()
    top.msg_connect(probe, "report", reports, "store")
    for message in MESSAGES:
        probe._llrs.to_basic_block()._post(pmt.intern("blocks"), message)
    top.run()
    (point,) = probe.report()["points"]
    assert (point["blocks"], point["block_errors"]) == (4, 1)
    assert (point["bits"], point["bit_errors"]) == (4 * SLOT.n_bits, SLOT.n_bits)
    assert point["goodput_bit_per_s"] == pytest.approx(3 * SIZE / 4e-3)
    sent = json.loads(pmt.symbol_to_string(reports.get_message(1)))
    report.validate(sent)
    assert sent["points"][0]["blocks"] == 4
    time.sleep(0.2)
    assert "message ignored: expected a PDU of bytes" in "".join(capfd.readouterr())


def test_loopback_measures_block_errors(tmp_path, capsys):
    command = ["loopback", "--receiver", "baseline-lmmse", "--mcs", "14", "--slots", "20"]
    channel = ["--sinr", "-6,40", "--burst", "1", "--doppler", "5", "--delay-spread", "3e-8"]
    assert main([*command, *channel, "--out", str(tmp_path)]) == 0
    low, high = report.read(tmp_path / "report.json")["points"]
    assert [p["blocks"] for p in (low, high)] == [20, 20]
    assert (low["bler"], high["bler"]) == (1.0, 0.0)
    assert low["bler_ci95"] == pytest.approx([0.025 ** (1 / 20), 1])
    assert high["ber"] < 1e-3 < low["ber"]
    slot = SlotConfig.from_dict(high["slot"])
    assert (high["mcs"], slot.users[0].mcs, high["modulation"]) == (14, 14, "16QAM")
    assert low["goodput_bit_per_s"] == 0
    assert high["goodput_bit_per_s"] == pytest.approx(slot.transport_block_size() / slot.slot_s)
    assert low["energy_per_delivered_bit_j"] is None
    joules, of_bit = high["energy_per_slot_j"], high["energy_per_delivered_bit_j"]
    busy = high["cpu_s_per_slot"] + high["decoder"]["cpu_s"]
    assert of_bit["modelled"] * slot.transport_block_size() == pytest.approx(
        joules["modelled"] * busy / high["cpu_s_per_slot"]
    )
    assert low["decoder"]["iterations"] > high["decoder"]["iterations"] >= 1
    text = " ".join(capsys.readouterr().out.split())
    assert "BLER" in text
    assert "goodput" in text


def test_receivers_are_compared_by_blocks_beside_bits(tmp_path, capsys):
    names = ["--receiver", "ls-lmmse", "--receiver", "sure-lmmse"]
    command = ["loopback", *names, "--mcs", "14", "--sinr", "7", "--slots", "60", "--burst", "1"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    measured = report.read(tmp_path / "report.json")
    ls, sure = measured["points"]
    assert 0 < sure["block_errors"] < ls["block_errors"] < 60
    (compared,) = measured["comparisons"]
    assert (compared["a"], compared["b"], compared["clusters"]) == ("ls-lmmse", "sure-lmmse", 60)
    for rate in ("ber", "bler"):
        assert compared[f"{rate}_difference"] == pytest.approx(ls[rate] - sure[rate])
    low, high = compared["bler_ci95"]
    of_ls, of_sure = (np.diff(p["bler_ci95"]).item() for p in (ls, sure))
    assert low < compared["bler_difference"] < high and high - low < of_ls + of_sure
    said = " ".join(capsys.readouterr().out.split())
    assert f"BLER {compared['bler_difference']:+.2e} [{low:+.2e}, {high:+.2e}] over 60" in said


@pytest.mark.parametrize("users", ["1", "2"])
def test_links_with_acks_are_compared_by_what_they_deliver(users, tmp_path, capsys):
    """Which blocks a slot has is each link's own: not so the fading and noise."""
    command = ["loopback", "--receiver", "ls-lmmse", "--receiver", "sure-lmmse", "--users", users]
    channel = ["--mcs", "5", "--sinr", "3,4", "--slots", "60", "--n-prb", "6"]
    assert main([*command, *channel, "--harq", "4", "--out", str(tmp_path)]) == 0
    measured = report.read(tmp_path / "report.json")
    points = {(p["receiver"], p["sinr_db"], p["layer"]): p for p in measured["points"]}
    assert len(measured["comparisons"]) == 2 * int(users) == len(points) / 2
    for c in measured["comparisons"]:
        a, b = (points[c[side], c["sinr_db"], c["layer"]] for side in "ab")
        assert a is not b and c["clusters"] == 12
        assert c["ber_difference"] == pytest.approx(a["ber"] - b["ber"])
        key = "goodput_bit_per_s"
        assert c["goodput_difference_bit_per_s"] == pytest.approx(a[key] - b[key])
        assert b[key] >= a[key] and "bler_difference" not in c
    assert " Mbit/s over 12 clusters" in " ".join(capsys.readouterr().out.split())


def test_demo_sends_blocks_unless_a_modulation_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("gnuradio.deeprx.cli.demo.MODELS", ["baseline-lmmse"])
    command = ["demo", "--channel", "TDL-A", "--sinr", "12", "--slots", "5"]
    for options, modulation, mcs, n_blocks in (
        ([], "16QAM", 14, 5),
        (["--modulation", "QPSK"], "QPSK", None, None),
        (["--mcs", "3"], "QPSK", 3, 5),
    ):
        assert main([*command, *options, "--out", str(tmp_path)]) == 0
        (point,) = report.read(tmp_path / "report.json")["points"]
        shown = point["modulation"], point["mcs"], point["blocks"]
        assert shown == (modulation, mcs, n_blocks)


@pytest.mark.slow
def test_the_demo_shows_what_it_promises_within_4_minutes(tmp_path, capsys):
    """Of processor time, which other processes do not lengthen; on two cores it takes less."""
    started = time.process_time()
    assert main(["demo", "--out", str(tmp_path)]) == 0
    assert time.process_time() - started < 240
    shown = " ".join(capsys.readouterr().out.split())
    for heading in ("BER", "BLER", "goodput", "nJ a bit"):
        assert heading in shown
    points = report.read(tmp_path / "report.json")["points"]
    assert len(points) == 3 * 2 * 5 and {p["slots"] for p in points} == {600}
    for p in points:
        assert p["blocks"] == 600 and p["goodput_bit_per_s"] > 0
        assert p["energy_per_delivered_bit_j"]["modelled"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mcs", "29"], "mcs of table 1 must be 0 to 28, got 29"),
        (["--mcs", "3", "--modulation", "QPSK"], "give one of --mcs and --modulation"),
        (["--mcs-table", "2"], "--mcs-table is for --mcs, which was not given"),
        (["--mcs", "2", "--mcs-table", "4"], "mcs_table must be 1 to 3, got 4"),
    ],
)
def test_wrong_mcs_is_refused_in_one_line(options, words, tmp_path, capsys):
    command = ["loopback", "--receiver", "baseline-lmmse", "--out", str(tmp_path)]
    assert main([*command, *options]) != 0
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert words in lines[0]


@pytest.mark.parametrize("harq", ["1", "4"])
def test_receivers_that_do_not_take_a_slot_are_refused_before_any_is_sent(harq, tmp_path, capsys):
    receivers = ["--receiver", "sure-lmmse", "--receiver", "baseline-sure"]
    slots = ["--slot", "gnb", "--mcs", "4", "--harq", harq, "--slots", "4"]
    out = tmp_path / "out"
    assert main(["loopback", *receivers, *slots, "--out", str(out)]) == 2
    shown = capsys.readouterr()
    assert "takes cdm_groups" in shown.err
    assert not shown.out
    assert not out.exists()
