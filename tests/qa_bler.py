# SPDX-License-Identifier: GPL-3.0-or-later
"""What slot_probe and deeprx loopback tell of transport blocks."""

import csv
import os
import re
import signal
import time

import numpy as np
import pmt
import pytest
import receiver_models as models
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx.blocks.messages import read_report
from gnuradio.deeprx.blocks.slot_statistics import SlotStatistics
from gnuradio.deeprx.blocks.transport import seeded_bits
from gnuradio.deeprx.cli import bler, main
from gnuradio.deeprx.measure import bler_search
from gnuradio.deeprx.measure.bler_search import Search
from gnuradio.deeprx.measure.link import Link
from qa_messages import MESSAGES
from qa_not_finite import Broken

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
    sent = read_report(reports.get_message(1))
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


class TestSearch:
    """Receivers whose BLER falls by `slope` decades in 10 dB, past 0.1 at the SINR given."""

    def searched(self, receivers, slope=2.0, **options):
        rng = np.random.default_rng(1)
        settings = {"target": 0.1, "errors": 400, "most_slots": 20_000} | options
        search = Search(list(receivers), **settings)
        counted = []
        while wanted := search.next():
            sinr_db, _, slots = wanted
            counted.append(wanted)
            hard = rng.random(slots)  # a slot that one receiver loses the worse one loses, too
            rates = {n: 10 ** (-1 - slope * (sinr_db - at) / 10) for n, at in receivers.items()}
            search.add(sinr_db, {name: hard < rate for name, rate in rates.items()})
        return search, counted

    def test_where_they_cross_and_by_how_much(self):
        search, counted = self.searched({"good": 7.3, "bad": 7.9, "worst": 13.6})
        for name, at in (("good", 7.3), ("bad", 7.9), ("worst", 13.6)):
            crossing = search.crossing(name)
            low, high = crossing.ci95
            assert low < at < high and high - low < 1.0, name
            assert crossing.sinr_db == pytest.approx(at, abs=0.4)
        behind, (low, high) = search.behind("bad", "good")
        assert behind == pytest.approx(0.6, abs=0.15) and low < 0.6 < high and high - low < 0.4
        assert search.slots == sum(slots for _, _, slots in counted) < 60_000

    def test_both_sides_of_a_crossing_have_their_errors(self):
        search, counted = self.searched({"one": 4.4})
        slots = {s: sum(n for at, _, n in counted if at == s) for s in (4.0, 5.0)}
        for sinr_db in (4.0, 5.0):
            rate = search.rate(sinr_db, "one")
            assert rate.errors >= 400 and rate.bits == slots[sinr_db]
        firsts = [first for at, first, _ in counted if at == 4.0]
        assert firsts[:3] == [0, 200, 1200]

    def test_a_crossing_at_an_sinr_that_is_counted(self):
        """Half of the time it looks to be below: what is beside it tells."""
        search, _ = self.searched({"one": 9.0})
        low, high = search.crossing("one").ci95
        assert np.isfinite([low, high]).all() and low < 9.0 < high

    def test_not_reached(self):
        search, counted = self.searched({"floor": 99.0, "good": 5.0})
        assert search.crossing("floor").sinr_db == np.inf
        assert search.behind("floor", "good") is None
        assert max(sinr_db for sinr_db, _, _ in counted) == 32.0

    def test_below_the_target_everywhere(self):
        search, counted = self.searched({"one": -40.0}, slope=0.5)
        assert search.crossing("one").sinr_db == -np.inf
        assert min(sinr_db for sinr_db, _, _ in counted) == -20.0

    def test_slots_have_an_end(self):
        _, counted = self.searched({"one": 6.5}, errors=10_000, most_slots=2000)
        assert max(first + slots for _, first, slots in counted) == 2200


class TestCommand:
    COMMAND = (
        "bler", "--n-prb", "3", "--mcs", "9", "--errors", "20", "--receiver", "ls-lmmse",
        "--receiver", "perfect-csi",
    )  # fmt: skip

    def rows(self, folder):
        with (folder / "bler.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def test_tables_and_a_second_run(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(bler_search, "MORE", 200)
        command = [*self.COMMAND, "--out", str(tmp_path)]
        assert main(command) == 0
        assert "not reached" not in capsys.readouterr().out
        ls, perfect = self.rows(tmp_path)
        assert (ls["receiver"], perfect["receiver"]) == ("ls-lmmse", "perfect-csi")
        assert float(perfect["high"]) > float(perfect["sinr_db"]) > float(perfect["low"])
        assert float(ls["behind_low"]) > 0 and perfect["behind_db"] == ""
        text = (tmp_path / "bler.md").read_text()
        assert f"{float(ls['sinr_db']):.2f} [" in text and "seed 1;" in text
        assert (tmp_path / "bler.png").stat().st_size > 10_000
        kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "counted").rglob("*.npz")}
        assert main(command) == 0
        again = {p: p.stat().st_mtime_ns for p in (tmp_path / "counted").rglob("*.npz")}
        assert kept == again and self.rows(tmp_path) == [ls, perfect]
        file = min(kept)
        np.savez(file, **{"ls-lmmse": np.zeros(3), "perfect-csi": np.zeros(3)})
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{file}: expected what was lost and dropped of each slot; delete it" in line

    def test_blocks_of_dropped_slots_are_lost(self, tmp_path, capsys, monkeypatch):
        """Of a receiver that drops half of the slots, at any SINR."""
        monkeypatch.setattr(bler_search, "HIGHEST_DB", 20.0)
        monkeypatch.setattr(bler_search, "MORE", 200)
        broken = models.save(Broken(float("nan")), tmp_path / "broken.pt", name="broken")
        command = [*self.COMMAND[:-4], "--receiver", str(broken), "--receiver", "perfect-csi"]
        command += ["--trust", str(broken), "--out", str(tmp_path)]
        for _ in range(2):
            assert main(command) == 0
            said = capsys.readouterr().out
            (dropped,) = re.findall(
                r"^broken: dropped (\d+) slots, whose blocks count as lost$", said, re.M
            )
            lost, perfect = self.rows(tmp_path)
            assert lost["sinr_db"] == "inf" and perfect["sinr_db"] != "inf"
            assert int(dropped) > 50
        (counted,) = (tmp_path / "counted").rglob("+20-0-200.npz")
        lost, drops = np.load(counted)["broken"]
        assert 60 < drops.sum() < 140 and (lost >= drops).all()

    def test_ctrl_c_keeps_what_was_counted(self, tmp_path, capsys, monkeypatch):
        whole = bler._Counts.get
        calls = []

        def get(self, *where):
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            calls.append(where)
            return whole(self, *where)

        monkeypatch.setattr(bler._Counts, "get", get)
        command = [*self.COMMAND, "--out", str(tmp_path)]
        assert main(command) == 130
        assert "the same command goes on from there" in capsys.readouterr().err
        assert len(list((tmp_path / "counted").rglob("*.npz"))) == 2
        assert not (tmp_path / "bler.csv").exists()

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            (["--mcs", "40"], "mcs of table 1"),
            (["--bler", "0.7"], "--bler"),
            (["--receiver", "nobody"], "nobody"),
            (["--n-rx", "5"], "n-rx"),
            (["--reference", "gnb"], "--reference"),
        ],
    )
    def test_mistakes(self, tmp_path, capsys, changes, says):
        assert main([*self.COMMAND, *changes, "--out", str(tmp_path)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and says in err


class TestPerfectCsi:
    def link(self, **options):
        config = options.pop("config", SLOT)
        usual = {
            "n_rx": 2, "channel": "TDL-A", "delay_spread_s": 100e-9, "doppler_hz": 50.0,
            "sinr_db": 60.0, "sir_db": None, "cfo_hz": 0.0, "slots": 7, "burst": 3,
            "preamble": False, "seed": 5,
        }  # fmt: skip
        return Link(config, **usual | options)

    @pytest.mark.parametrize(
        "config",
        [
            SLOT,
            SlotConfig(n_prb=6, scs_khz=30, cdm_groups=2, dmrs=(2, 7, 11), carrier_prb=24,
                       first_prb=15, users=(User("64QAM"), User("64QAM", port=2, rnti=2))),
            SlotConfig(n_prb=3, scs_khz=60, slot_number=None, equal_prefixes=False),
        ],
        ids=["default", "two users", "60 kHz"],
    )  # fmt: skip
    def test_it_knows_the_channel(self, config):
        """What was received is what was sent times this channel, to the noise of 60 dB and the
        fading within a symbol; and with another fading draw it is not.
        """
        link = self.link(config=config)
        top = gr.top_block()
        seen = [blocks.vector_sink_c(config.fft_size) for _ in range(2)]
        front = deeprx.aligned_front_end(n_rx=2, slot=config)
        channel = link.connect(top)
        for antenna in range(2):
            top.connect((channel, antenna), (front, antenna), seen[antenna])
        top.run()
        perfect = link.perfect_receiver()._receiver
        symbols = [np.reshape(s.data(), (-1, config.fft_size))[:, config.bins] for s in seen]
        users = range(config.n_layers)
        for index in range(link.slots):
            got = np.stack([s[14 * index : 14 * index + config.n_symbols] for s in symbols])
            sent = np.zeros((config.n_layers, config.n_symbols, config.n_sc), complex)
            for layer in users:
                bits = seeded_bits(config, link.seed, layer)(index)
                sent[layer] = config.grid(bits, index, layer)
            h = perfect.channel(index)
            error = np.mean(np.abs(got - (h * sent[:, None]).sum(0)) ** 2)
            assert error < 1e-4
            other = perfect.channel(index + 3)
            assert np.mean(np.abs(got - (other * sent[:, None]).sum(0)) ** 2) > 0.1

    def test_no_receiver_has_fewer_errors(self, tmp_path):
        command = ["loopback", "--sinr", "6,18", "--slots", "300", "--doppler", "200"]
        for name in ("perfect-csi", "ls-lmmse", "sure-lmmse"):
            command += ["--receiver", name]
        assert main([*command, "--out", str(tmp_path)]) == 0
        measured = report.read(tmp_path / "report.json")
        for c in measured["comparisons"]:
            if c["a"] == "perfect-csi":
                assert c["b"] == "sure-lmmse" and c["ci95"][1] < 0
        point, _ = [p for p in measured["points"] if p["receiver"] == "perfect-csi"]
        assert report.energy_value(point["energy_per_slot_j"])[0] is None

    def test_its_llrs_promise_what_they_keep(self):
        rng = np.random.default_rng(2)
        config = SlotConfig(n_prb=26, users=(User("64QAM"),))
        link = self.link(config=config, sinr_db=14.0)
        perfect = link.perfect_receiver()._receiver
        wrong = promised = 0.0
        for index in range(40):
            bits = rng.integers(0, 2, config.n_bits).astype(np.uint8)
            received = perfect.channel(index)[0] * config.grid(bits, index)
            noise = rng.normal(size=(2, *received.shape)) * np.sqrt(10**-1.4 / 2)
            (llr,) = perfect.receive(received + noise[0] + 1j * noise[1], index)
            wrong += np.sum((llr > 0) != bits)
            promised += np.sum(1 / (1 + np.exp(np.minimum(np.abs(llr), 80))))
        assert wrong / promised == pytest.approx(1, abs=0.03)

    @pytest.mark.parametrize(
        "option", [["--sir", "20"], ["--cfo", "100"], ["--sync"], ["--harq", "2", "--mcs", "5"]]
    )
    def test_what_it_does_not_know(self, option, tmp_path, capsys):
        command = ["loopback", "--receiver", "perfect-csi", "--slots", "5", "--sinr", "6", *option]
        assert main([*command, "--out", str(tmp_path)]) == 2
        assert option[0] in capsys.readouterr().err

    @pytest.mark.parametrize("command", [["radio", "--args", "driver=software"], ["energy"]])
    def test_only_where_all_is_simulated(self, command, capsys):
        assert main([*command, "--receiver", "perfect-csi"]) == 2
        assert "only a simulation knows the channel" in capsys.readouterr().err
