# SPDX-License-Identifier: GPL-3.0-or-later
import json
import socket
import time

import numpy as np
import pmt
import pytest
import zmq
from gnuradio import blocks, gr
from gnuradio.deeprx import slot_probe
from gnuradio.deeprx.slot_probe import in_flight_slots
from gnuradio.deeprx.slot_statistics import SlotStatistics

from deeprx_common import report
from deeprx_common.slot import SlotConfig

SLOT = {"n_prb": 6, "modulation": "QPSK"}
CONFIG = SlotConfig(**SLOT)
SEED = 7


def decisions(slot_index, errors=0):
    bits = CONFIG.bits(SEED, slot_index).copy()
    bits[:errors] ^= 1
    return bits


def statistics(cluster_slots=10, **options):
    return SlotStatistics(CONFIG, cluster_slots, lambda k: CONFIG.bits(SEED, k), **options)


def point(counted):
    return counted.point(slot_probe(**SLOT).report()["points"][0]["energy_per_slot_j"])


class TestSlotStatistics:
    def test_errors_are_counted_per_cluster(self):
        counted = statistics(cluster_slots=2)
        for index, errors in ((0, 3), (1, 4), (2, 0), (3, 5)):
            counted.add_slot(index, decisions(index, errors))
        n = CONFIG.n_bits
        assert counted.clusters == {0: [7, 2 * n], 1: [5, 2 * n]}
        made = point(counted)
        assert (made["bit_errors"], made["bits"], made["clusters"]) == (12, 4 * n, 2)

    def test_gaps_in_the_index_are_missed_slots(self):
        counted = statistics()
        for index in (5, 6, 9, 10, 14):
            counted.add_slot(index, decisions(index))
        assert counted.slots == 5
        assert counted.missed_slots == 2 + 3
        assert counted.clusters[0] == [0, 3 * CONFIG.n_bits]  # later slots keep their own bits

    def test_transmitter_that_starts_again_misses_nothing(self):
        counted = statistics()
        for index in (0, 1, 2, 0, 1):
            counted.add_slot(index, decisions(index))
        assert (counted.slots, counted.missed_slots) == (5, 0)

    def test_dropped_slot_is_missed_once(self):
        counted = statistics()
        counted.add_slot(0, decisions(0))
        counted.add_stats({"slot_index": 1, "dropped": "NaN"})
        assert counted.missed_slots == 1
        counted.add_slot(2, decisions(2))
        assert counted.missed_slots == 1
        assert point(counted)["dropped_slots"] == {"NaN": 1}

    def test_slots_beyond_the_last_are_not_counted(self):
        counted = statistics(n_slots=2)
        for index in range(4):
            counted.add_slot(index, decisions(index))
        assert counted.slots == 2

    @pytest.mark.parametrize("truth_first", [True, False])
    def test_reference_may_come_early_or_late(self, truth_first):
        counted = SlotStatistics(CONFIG, 10)
        sides = [counted.add_reference, counted.add_slot]
        for side in sides if truth_first else sides[::-1]:
            for index in range(3):
                side(index, decisions(index, 2 if side == counted.add_slot else 0))
        assert counted.clusters == {0: [6, 3 * CONFIG.n_bits]}

    def test_reference_that_never_comes_does_not_fill_the_memory(self, monkeypatch):
        monkeypatch.setattr("gnuradio.deeprx.slot_statistics.PENDING_SLOTS", 4)
        counted = SlotStatistics(CONFIG, 10)
        for index in range(10):
            counted.add_slot(index, decisions(index))
        for index in range(10):
            counted.add_reference(index, CONFIG.bits(SEED, index))
        assert counted.clusters[0][1] == 4 * CONFIG.n_bits

    def test_times_come_from_the_receiver(self):
        counted = statistics()
        for k in range(1, 101):
            message = {"slot_index": k, "inference_ns": k * 1000, "cpu_ns": 2000, "model": "net"}
            counted.add_stats(message | {"model_sha256": "ab"})
        counted.add_stats({"model_loaded": "other"})
        counted.add_slot(0, decisions(0))
        made = point(counted)
        assert made["inference_s_per_slot"]["mean"] == pytest.approx(50.5e-6)
        assert made["inference_s_per_slot"]["p50"] == pytest.approx(50.5e-6)
        assert made["inference_s_per_slot"]["p99"] == pytest.approx(99e-6, abs=1e-6)
        assert made["cpu_s_per_slot"] == pytest.approx(2e-6)
        assert (made["receiver"], made["model_sha256"]) == ("net", "ab")

    def test_cluster_needs_slots(self):
        with pytest.raises(ValueError, match="cluster_slots must be at least 1, got 0"):
            statistics(cluster_slots=0)


def tags(indices, length=CONFIG.n_bits, with_index=True):
    made = []
    for k, index in enumerate(indices):
        values = {"packet_len": pmt.from_long(length)}
        if with_index:
            values["slot_index"] = pmt.from_uint64(index)
        for key, value in values.items():
            tag = gr.tag_t()
            tag.offset, tag.key, tag.value = k * length, pmt.intern(key), value
            made.append(tag)
    return made


def llr_source(indices, errors=0, sign=1, **tag_options):
    bits = np.concatenate([decisions(k, errors) for k in indices])
    llr = sign * np.where(bits, 1.5, -0.5)
    return blocks.vector_source_f(llr.tolist(), False, 1, tags(indices, **tag_options))


def bit_source(indices):
    bits = np.concatenate([decisions(k) for k in indices])
    return blocks.vector_source_b(bits.tolist(), False, 1, tags(indices))


def run_probe(source, reference=None, connect=None, **options):
    top = gr.top_block()
    probe = slot_probe(
        **{"seed": SEED, "reference_input": reference is not None, "cluster_slots": 4}
        | SLOT
        | options
    )
    top.connect(source, (probe, 0))
    if reference is not None:
        top.connect(reference, (probe, 1))
    if connect:
        connect(top, probe)
    top.run()
    return probe


class TestSlotProbe:
    def test_counts_against_the_seed(self):
        made = run_probe(llr_source(range(20), errors=3)).report()
        report.validate(made)
        (found,) = made["points"]
        assert (found["slots"], found["bit_errors"]) == (20, 60)
        assert (found["bits"], found["clusters"]) == (20 * CONFIG.n_bits, 5)
        assert (found["modulation"], found["n_prb"], found["seed"]) == ("QPSK", 6, SEED)

    def test_counts_against_the_reference_input_where_slots_are_missing(self):
        probe = run_probe(llr_source([0, 1, 4, 5], errors=2), bit_source(range(8)), seed=99)
        (found,) = probe.report()["points"]
        assert (found["slots"], found["missed_slots"], found["bit_errors"]) == (4, 2, 8)
        assert found["seed"] is None

    def test_flipped_llrs(self):
        probe = run_probe(llr_source(range(3), errors=1, sign=-1), llr_sign=-1)
        assert probe.report()["points"][0]["bit_errors"] == 3

    def test_slots_without_an_index_are_counted_from_zero(self):
        probe = run_probe(llr_source(range(3), with_index=False))
        assert probe.report()["points"][0]["bit_errors"] == 0

    def test_packets_of_another_length_are_not_counted(self, capfd):
        wrong = llr_source(range(3), length=CONFIG.n_bits - 8)
        assert run_probe(wrong).slots() == 0
        text = "".join(capfd.readouterr())
        assert text.count(f"expected slots of {CONFIG.n_bits} bits") == 1
        assert f"found one of {CONFIG.n_bits - 8}" in text

    def test_reads_the_receivers_stats(self):
        message = pmt.to_pmt(
            {"slot_index": 0, "inference_ns": 5000, "cpu_ns": 4000, "model": "net"}
        )

        top = gr.top_block()
        probe = slot_probe(seed=SEED, **SLOT)
        throttle = blocks.throttle(gr.sizeof_float, 200 * CONFIG.n_bits)
        top.connect(llr_source(range(1000)), throttle, probe)
        strobe = blocks.message_strobe(message, 10)
        top.msg_connect(strobe, "strobe", probe, "stats")
        top.start()
        deadline = time.monotonic() + 5
        while probe.statistics.cpu_s == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        top.stop()
        top.wait()
        (found,) = probe.report()["points"]
        assert found["receiver"] == "net"
        assert found["inference_s_per_slot"]["p50"] == pytest.approx(5e-6)

    def test_publishes_every_so_many_slots(self):
        sink = blocks.message_debug()

        def connect(top, probe):
            top.msg_connect(probe, "report", sink, "store")

        run_probe(llr_source(range(10)), connect=connect, every_slots=4, conditions={"snr_db": 9.0})
        deadline = time.monotonic() + 5
        while sink.num_messages() < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sink.num_messages() == 2
        made = json.loads(pmt.symbol_to_string(sink.get_message(1)))
        report.validate(made)
        assert made["points"][0]["slots"] == 8
        assert made["points"][0]["snr_db"] == 9.0

    def test_publishes_over_zmq_on_this_machine(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        top = gr.top_block()
        probe = slot_probe(seed=SEED, every_slots=0, every_s=0.02, zmq_address=str(port), **SLOT)
        rate = 200 * CONFIG.n_bits
        top.connect(llr_source(range(1000)), blocks.throttle(gr.sizeof_float, rate), probe)
        subscriber = zmq.Context.instance().socket(zmq.SUB)
        subscriber.connect(f"tcp://127.0.0.1:{port}")
        subscriber.subscribe("")
        top.start()
        try:
            assert subscriber.poll(5000)
            report.validate(json.loads(subscriber.recv_string()))
        finally:
            top.stop()
            top.wait()
            subscriber.close()

    def test_energy_is_modelled_from_flop(self):
        probe = run_probe(llr_source(range(4)), flop_per_slot=5e9)
        used = probe.report()["points"][0]["energy_per_slot_j"]
        assert used["modelled"] == pytest.approx(1.0)
        assert used["measured"] is None

    def test_flop_are_what_the_receiver_says_of_its_model(self):
        probe = slot_probe(**SLOT)
        probe._on_stats({"slot_index": 0, "inference_ns": 1, "flop_per_slot": 10**9})
        made = probe.report()["points"][0]
        assert made["flop_per_slot"] == 10**9
        assert made["energy_per_slot_j"]["modelled"] == pytest.approx(0.2)

    def test_new_conditions_begin_a_new_point_without_the_slots_on_their_way(self):
        probe = slot_probe(conditions={"snr_db": 3.0}, seed=SEED, **SLOT)
        for index in range(10):
            probe._on_slot(index, decisions(index, errors=5))
        probe.set_conditions({"snr_db": 3.0})  # the same: nothing changes
        assert probe.slots() == 10
        probe.set_conditions({"snr_db": 9.0})
        late = in_flight_slots(CONFIG)
        for index in range(10, 10 + late):
            probe._on_slot(index, decisions(index, errors=5))
        for index in range(10 + late, 20 + late):
            probe._on_slot(index, decisions(index))
        made = probe.report()["points"][0]
        assert (made["snr_db"], made["slots"], made["bit_errors"]) == (9.0, 10, 0)
        assert made["missed_slots"] == 0

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"zmq_address": "nowhere"}, "cannot publish at zmq_address 'nowhere'"),
            ({"cluster_slots": 0}, "cluster_slots must be at least 1"),
            ({"every_slots": -1}, "must be 0 or more"),
            ({"llr_sign": 2}, "llr_sign must be 1 or -1, got 2"),
            ({"n_prb": 3}, "n_prb must be 6 to 273"),
        ],
    )
    def test_bad_parameters_say_what_is_wrong(self, options, says):
        with pytest.raises(ValueError, match=says):
            slot_probe(**options)
