# SPDX-License-Identifier: GPL-3.0-or-later
import csv
import json
import os
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pmt
import pytest
import zmq
from gnuradio import blocks, gr
from gnuradio.deeprx import slot_probe
from gnuradio.deeprx.blocks.cluster_counts import ClusterCounts
from gnuradio.deeprx.blocks.messages import read_report
from gnuradio.deeprx.blocks.slot_energy import SlotEnergy
from gnuradio.deeprx.blocks.slot_probe import in_flight_slots
from gnuradio.deeprx.blocks.slot_statistics import SlotStatistics
from gnuradio.deeprx.telemetry.pubsub import Subscription
from slots import slot_of
from soak import allocated
from telemetry_reports import free_port, until, wait_for_publisher

from deeprx_common import energy, report

SLOT = {"n_prb": 6, "modulation": "QPSK"}
CONFIG = slot_of(**SLOT)
SEED = 7


def decisions(slot_index, errors=0):
    bits = CONFIG.bits(SEED, slot_index).copy()
    bits[:errors] ^= 1
    return bits


def statistics(cluster_slots=10, **options):
    return SlotStatistics(CONFIG, cluster_slots, lambda k: CONFIG.bits(SEED, k), **options)


def by_cluster(counts):
    """{cluster: [errors, bits]}"""
    rows = zip(counts.clusters, counts.counts, counts.of, strict=True)
    return {int(cluster): [int(n), int(of)] for cluster, n, of in rows}


def point(counted):
    return counted.point(
        slot_probe(slot=slot_of(**SLOT)).report()["points"][0]["energy_per_slot_j"]
    )


class TestSlotStatistics:
    def test_errors_are_counted_per_cluster(self):
        counted = statistics(cluster_slots=2)
        for index, errors in ((0, 3), (1, 4), (2, 0), (3, 5)):
            counted.add_slot(index, decisions(index, errors))
        n = CONFIG.n_bits
        assert by_cluster(counted.clusters) == {0: [7, 2 * n], 1: [5, 2 * n]}
        totals = point(counted)
        assert (totals["bit_errors"], totals["bits"], totals["clusters"]) == (12, 4 * n, 2)

    def test_clusters_may_come_in_any_order(self):
        counted = ClusterCounts()
        for cluster in (5, 2**60, 2, 5, 0, 2**60, 3):
            counted.add(cluster, 1, 10)
        once, twice = [1, 10], [2, 20]
        assert by_cluster(counted) == {0: once, 2: once, 3: once, 5: twice, 2**60: twice}
        assert list(by_cluster(counted)) == sorted(by_cluster(counted))

    def test_a_cluster_takes_few_bytes(self):
        """A receiver that runs for months has very many."""
        counted = SlotStatistics(CONFIG, 1, lambda k: bits)
        bits = CONFIG.bits(SEED, 0)
        counted.add_slot(0, bits)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for index in range(1, 20_001):
                counted.add_slot(index, bits)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 40 * 20_000

    def test_gaps_in_the_index_are_missed_slots(self):
        counted = statistics()
        for index in (5, 6, 9, 10, 14):
            counted.add_slot(index, decisions(index))
        assert counted.slots == 5
        assert counted.missed_slots == 2 + 3
        # later slots keep their own bits
        assert by_cluster(counted.clusters)[0] == [0, 3 * CONFIG.n_bits]

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
            counted.add_stats({"slot_index": 10 + index, "dropped": "NaN"})
        assert (counted.slots, counted.missed_slots, counted.dropped) == (2, 0, {})

    @pytest.mark.parametrize("truth_first", [True, False])
    def test_reference_may_come_early_or_late(self, truth_first):
        counted = SlotStatistics(CONFIG, 10)
        sides = [counted.add_reference, counted.add_slot]
        for side in sides if truth_first else sides[::-1]:
            for index in range(3):
                side(index, decisions(index, 2 if side == counted.add_slot else 0))
        assert by_cluster(counted.clusters) == {0: [6, 3 * CONFIG.n_bits]}

    def test_reference_that_never_comes_does_not_fill_the_memory(self, monkeypatch):
        monkeypatch.setattr("gnuradio.deeprx.blocks.slot_statistics.PENDING_SLOTS", 4)
        counted = SlotStatistics(CONFIG, 10)
        for index in range(10):
            counted.add_slot(index, decisions(index))
        for index in range(10):
            counted.add_reference(index, CONFIG.bits(SEED, index))
        assert by_cluster(counted.clusters)[0][1] == 4 * CONFIG.n_bits

    def test_times_come_from_the_receiver(self):
        counted = statistics()
        for k in range(1, 101):
            message = {"slot_index": k, "inference_ns": k * 1000, "cpu_ns": 2000, "model": "net"}
            counted.add_stats(message | {"model_sha256": "ab"})
        counted.add_stats({"model_loaded": "other"})
        counted.add_slot(0, decisions(0))
        times = point(counted)
        assert times["inference_s_per_slot"]["mean"] == pytest.approx(50.5e-6)
        assert times["inference_s_per_slot"]["p50"] == pytest.approx(50.5e-6)
        assert times["inference_s_per_slot"]["p99"] == pytest.approx(99e-6, abs=1e-6)
        assert times["cpu_s_per_slot"] == pytest.approx(2e-6)
        assert (times["receiver"], times["model_sha256"]) == ("net", "ab")

    def test_cluster_needs_slots(self):
        with pytest.raises(ValueError, match="cluster_slots must be at least 1, got 0"):
            statistics(cluster_slots=0)


def tags(indices, length=CONFIG.n_bits, with_index=True):
    tags_ = []
    for k, index in enumerate(indices):
        values = {"packet_len": pmt.from_long(length)}
        if with_index:
            values["slot_index"] = pmt.from_uint64(index)
        for key, value in values.items():
            tag = gr.tag_t()
            tag.offset, tag.key, tag.value = k * length, pmt.intern(key), value
            tags_.append(tag)
    return tags_


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
        | {"slot": CONFIG}
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
        whole = run_probe(llr_source(range(20), errors=3)).report()
        report.validate(whole)
        (totals,) = whole["points"]
        assert (totals["slots"], totals["bit_errors"]) == (20, 60)
        assert (totals["bits"], totals["clusters"]) == (20 * CONFIG.n_bits, 5)
        assert (totals["modulation"], totals["n_prb"], totals["seed"]) == ("QPSK", 6, SEED)

    def test_counts_against_the_reference_input_where_slots_are_missing(self):
        probe = run_probe(llr_source([0, 1, 4, 5], errors=2), bit_source(range(8)), seed=99)
        (totals,) = probe.report()["points"]
        assert (totals["slots"], totals["missed_slots"], totals["bit_errors"]) == (4, 2, 8)
        assert totals["seed"] is None

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
        probe = slot_probe(seed=SEED, slot=slot_of(**SLOT))
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
        (totals,) = probe.report()["points"]
        assert totals["receiver"] == "net"
        assert totals["inference_s_per_slot"]["p50"] == pytest.approx(5e-6)

    def test_publishes_every_so_many_slots(self):
        sink = blocks.message_debug()

        def connect(top, probe):
            top.msg_connect(probe, "report", sink, "store")

        run_probe(llr_source(range(10)), connect=connect, every_slots=4, conditions={"snr_db": 9.0})
        deadline = time.monotonic() + 5
        while sink.num_messages() < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        final = read_report(sink.get_message(1))
        assert final["points"][0]["slots"] == 8
        assert final["points"][0]["snr_db"] == 9.0

    def test_reports_leave_no_memory_behind(self):
        """GNU Radio keeps each symbol for ever."""
        probe = slot_probe(seed=SEED, meter="none", slot=slot_of(**SLOT))
        before = allocated()
        for number in range(50):
            probe._llrs.publish(f"{number:01000000d}")
        assert allocated() - before < 10_000_000

    def test_long_reports_are_made_less_often(self, monkeypatch):
        make_report = slot_probe.report
        monkeypatch.setattr(slot_probe, "report", lambda self: time.sleep(0.1) or make_report(self))
        counts = []
        publish = slot_probe._publish
        monkeypatch.setattr(
            slot_probe, "_publish", lambda self: counts.append(self.slots()) or publish(self)
        )
        run_probe(llr_source(range(40)), every_slots=4)
        assert counts == [4, 40]

    def test_publishes_over_zmq_on_this_machine(self):
        port = free_port()
        top = gr.top_block()
        probe = slot_probe(
            seed=SEED, every_slots=0, every_s=0.02, zmq_address=str(port), slot=slot_of(**SLOT)
        )
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

    def test_the_last_report_goes_out_when_the_flowgraph_stops(self):
        port = free_port()
        subscription = Subscription(str(port))
        run_probe(
            llr_source(range(10)),
            connect=lambda top, probe: wait_for_publisher(subscription),
            every_slots=4,
            zmq_address=str(port),
        )
        published = [until(subscription.receive).point["slots"] for _ in range(3)]
        assert published == [4, 8, 10]
        subscription.close()

    def test_energy_is_modelled_from_cpu_time_whatever_flop_the_model_has(self):
        def connect(top, probe):
            for index in range(4):
                probe._on_stats(
                    {"slot_index": index, "inference_ns": 1, "cpu_ns": 2e6, "flop_per_slot": 10**9}
                )

        probe = run_probe(llr_source(range(4)), connect=connect, core_w=5.0)
        used = probe.report()["points"][0]["energy_per_slot_j"]
        assert used["modelled"] == pytest.approx(5.0 * 2e-3)
        assert used["model"] == "CPU time x 5 W a busy core, given"
        assert used["measured"] is None

    def test_counted_and_modelled_energy_stand_side_by_side(self):
        def connect(top, probe):
            for index in range(8):
                probe._on_stats({"slot_index": index, "inference_ns": 1, "cpu_ns": 1e6})
            busy = time.process_time()
            while time.process_time() < busy + 0.1:  # the kernel counts busy time in ticks of 10 ms
                pass

        meter = Joules(watts=40.0, scope="cpu packages")
        probe = run_probe(llr_source(range(8)), connect=connect, meter=meter, idle_w=10.0)
        used = probe.report()["points"][0]["energy_per_slot_j"]
        assert used["measured"] is None
        assert 0 < used["net"] < used["attributed"]
        assert used["per_bit"] == pytest.approx(used["attributed"] / CONFIG.n_bits)
        assert used["modelled"] == pytest.approx(energy.CORE_W * 1e-3)
        assert (used["source"], used["scope"]) == ("fake counter", "cpu packages")

    def test_meter_that_is_not_there_is_an_error_when_it_was_asked_for(self):
        with pytest.raises(OSError, match="no power sensor NOWHERE under"):
            slot_probe(meter="hwmon:NOWHERE", slot=slot_of(**SLOT))

    @pytest.mark.parametrize("indices", [range(10), [0, 1, 9], [0, 1, 12]])
    def test_it_is_complete_when_the_last_slot_or_a_later_one_has_come(self, indices):
        probe = run_probe(llr_source(indices), n_slots=10)
        assert probe.complete()
        assert not run_probe(llr_source(range(9)), n_slots=10).complete()
        assert not run_probe(llr_source(range(9))).complete()  # endless

    def test_flop_are_what_the_receiver_says_of_its_model(self):
        probe = slot_probe(slot=slot_of(**SLOT))
        probe._on_stats({"slot_index": 0, "inference_ns": 1, "flop_per_slot": 10**9})
        totals = probe.report()["points"][0]
        assert totals["flop_per_slot"] == 10**9

    def test_new_conditions_begin_a_new_point_without_the_slots_on_their_way(self):
        probe = slot_probe(conditions={"snr_db": 3.0}, seed=SEED, slot=slot_of(**SLOT))
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
        totals = probe.report()["points"][0]
        assert (totals["snr_db"], totals["slots"], totals["bit_errors"]) == (9.0, 10, 0)
        assert totals["missed_slots"] == 0

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"zmq_address": "nowhere"}, "cannot publish at zmq_address 'nowhere'"),
            ({"cluster_slots": 0}, "cluster_slots must be at least 1"),
            ({"every_slots": -1}, "every_slots must be at least 0, got -1"),
            ({"meter": "sun"}, "unknown meter 'sun': expected auto, none"),
            ({"idle_w": -3.0}, "idle power must be 0 W or more, got -3 W"),
            ({"log": "log.txt"}, r"log log.txt: expected a name that ends in .jsonl or .csv"),
            ({"log": "/nowhere/log.csv"}, "log /nowhere/log.csv: No such file or directory"),
            ({"llr_sign": 2}, "llr_sign must be 1 or -1, got 2"),
        ],
    )
    def test_bad_parameters_say_what_is_wrong(self, options, says):
        with pytest.raises(ValueError, match=says):
            slot_probe(**options)


class Joules(energy.Meter):
    """A counter of so many watts, renewed every millisecond."""

    def __init__(self, watts=10.0, scope="gpu board"):
        super().__init__("fake counter", scope, 1e-3)
        self.price = energy.Price("cuda" if scope == "gpu board" else "cpu")
        self.watts, self.fail, self.intruder = watts, "", ""
        self._count = time.monotonic() // 0.001
        self.tick_s = self.edge_s = 0.001

    def _step(self, elapsed_s):
        before, self._count = self._count, time.monotonic() // 0.001
        if self.fail:
            raise OSError(self.fail)
        return (self._count - before) * 0.001 * self.watts

    def disturbance(self):
        return self.intruder


class TestSlotEnergy:
    def serve(self, counted, account, first, n_slots, inference_s=0.001):
        for index in range(first, first + n_slots):
            message = {"slot_index": index, "inference_ns": inference_s * 1e9, "cpu_ns": 1e6}
            counted.add_stats(message)
            account.add_inference(inference_s)
            counted.add_slot(index, decisions(index))

    @pytest.mark.timing
    def test_alone_on_a_gpu_it_is_measured(self):
        counted, account = statistics(), SlotEnergy("cuda:7", 100, Joules(), idle_w=4.0)
        self.serve(counted, account, 0, 10)
        time.sleep(0.05)
        joules = account.per_slot(counted)
        assert joules["measured"] >= 10.0 * 0.045 / 10
        assert joules["attributed"] is None
        assert joules["net"] == pytest.approx(0.6 * joules["measured"], rel=0.1)

    @pytest.mark.timing
    def test_receivers_on_one_gpu_share_its_joules(self):
        meter = Joules()
        counts = [statistics(), statistics()]
        accounts = [SlotEnergy(device, 100, meter, 4.0) for device in ("cuda", "cuda:0")]
        for counted, account, inference_s in zip(counts, accounts, (0.001, 0.003), strict=True):
            self.serve(counted, account, 0, 10, inference_s)
        time.sleep(0.1)
        meter.joules()
        meter.watts = 0.0  # whenever they are read
        small, large = (a.per_slot(c) for a, c in zip(accounts, counts, strict=True))
        assert small["measured"] is large["measured"] is None
        assert large["attributed"] == pytest.approx(3 * small["attributed"], rel=0.2)

    def test_two_users_of_a_receiver_share_what_a_delivered_bit_costs(self):
        """Each probe hears of the whole receiver, whose joules for a slot are those of both."""
        meter = Joules()
        counts = [statistics(), statistics()]
        accounts = [SlotEnergy("cuda:3", 100, meter, 4.0, users=2) for _ in counts]
        for counted, account in zip(counts, accounts, strict=True):
            self.serve(counted, account, 0, 10)
            counted.add_block({"slot_index": 0, "crc_ok": True}, bytes(5))
        time.sleep(0.05)
        meter.joules()
        meter.watts = 0.0
        for counted, account in zip(counts, accounts, strict=True):
            slot, bit = account.per_slot(counted), account.per_delivered_bit(counted)
            assert slot["measured"] is not None
            assert bit["attributed"] * 40 * 2 == pytest.approx(slot["measured"] * 10, rel=0.01)
            assert bit["modelled"] * 40 * 2 == pytest.approx(slot["modelled"] * 10)

    def test_after_a_fault_it_counts_on_with_later_slots(self):
        meter, counted = Joules(), statistics()
        account = SlotEnergy("cuda:6", 100, meter, 4.0)
        self.serve(counted, account, 0, 1000)
        meter.intruder = "another process is using the GPU (pid 1)"
        time.sleep(0.01)
        lost = account.per_slot(counted)
        assert (lost["measured"], lost["invalid"]) == (None, meter.intruder)
        assert lost["modelled"] is not None
        meter.intruder = ""
        account.per_slot(counted)
        self.serve(counted, account, 1000, 5)
        time.sleep(0.05)
        joules = account.per_slot(counted)
        assert joules["measured"] >= 10.0 * 0.045 / 5
        assert joules["invalid"] is None

    def test_no_slots_yet_is_no_number_and_no_fault(self):
        counted, account = statistics(), SlotEnergy("cuda:5", 100, Joules(), 4.0)
        time.sleep(0.01)
        assert account.per_slot(counted)["invalid"] == "no slots in the window"
        self.serve(counted, account, 0, 1)
        assert account.per_slot(counted)["measured"] >= 0.09

    @pytest.mark.timing
    def test_idle_power_is_measured_where_it_is_not_given(self):
        account = SlotEnergy("cuda:4", 100, Joules(watts=30.0))
        assert account._idle.watts == pytest.approx(30, rel=0.01)
        assert SlotEnergy("cpu", 100, "none")._idle is None


class TestLog:
    def test_each_report_and_the_last_slots_are_lines_of_json(self, tmp_path):
        log = tmp_path / "reports.jsonl"
        run_probe(llr_source(range(10), errors=1), every_slots=4, log=str(log))
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert [line["points"][0]["slots"] for line in lines] == [4, 8, 10]
        assert lines[0]["time"] <= lines[1]["time"] <= lines[2]["time"]
        for line in lines:
            report.validate(line)

    def test_csv_goes_on_where_it_ended(self, tmp_path):
        log = tmp_path / "reports.csv"
        for _ in range(2):
            run_probe(
                llr_source(range(4), errors=1),
                every_slots=0,
                log=str(log),
                meter="none",
                conditions={"snr_db": 9.0, "channel": "TDL-A, mine"},
            )
        with log.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 2
        assert (rows[1]["slots"], rows[1]["bit_errors"], rows[1]["sinr_db"]) == ("4", "4", "9.0")
        assert rows[1]["channel"] == "TDL-A, mine"
        assert (rows[1]["measured_j"], rows[1]["energy_source"]) == ("", "none: not asked for")

    def test_file_of_other_columns_stays_as_it_is(self, tmp_path):
        log = tmp_path / "mine.csv"
        log.write_text("a,b\n1,2\n")
        with pytest.raises(ValueError, match="it has other columns; give another name"):
            slot_probe(log=str(log), slot=slot_of(**SLOT))
        assert log.read_text() == "a,b\n1,2\n"

    def test_full_disk_ends_the_log_and_not_the_flowgraph(self, tmp_path, capfd):
        log = tmp_path / "full.jsonl"
        log.symlink_to("/dev/full")
        probe = run_probe(llr_source(range(10)), every_slots=2, log=str(log))
        assert probe.slots() == 10
        text = "".join(capfd.readouterr())
        assert text.count(f"{log}: No space left on device; it ends here") == 1


DISPLAY = """
import json, sys
from PyQt5 import QtWidgets
application = QtWidgets.QApplication([])
from gnuradio.deeprx.blocks.report_display import report_display
widget = report_display().widget
window = QtWidgets.QScrollArea()  # as Companion makes it
window.setWidgetResizable(True)
window.setWidget(QtWidgets.QWidget())
QtWidgets.QVBoxLayout(window.widget()).addWidget(widget)
window.resize(1200, 400)
window.show()
for text in sys.stdin:
    widget._show(json.loads(text))
application.processEvents()
table = widget.findChild(QtWidgets.QTableWidget)
cells = [
    [table.item(r, c).text() for c in range(table.columnCount())] for r in range(table.rowCount())
]
scrolls = [bar.maximum() for bar in (window.verticalScrollBar(), window.horizontalScrollBar())]
legend = [label.item.toPlainText() for _, label in widget._plot.plotItem.legend.items]
print(json.dumps([cells, widget.findChild(QtWidgets.QLabel).text(), scrolls, legend]))
"""


def displayed(lines):
    shown = subprocess.run(
        [sys.executable, "-c", DISPLAY],
        input="\n".join(lines),
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(shown.stdout)


def test_display_takes_the_name_of_a_model_for_text(tmp_path):
    """Not for HTML, which would have it open files."""
    os.mkfifo(tmp_path / "fifo")
    name = f'<img src="{tmp_path}/fifo"> <b>a</b>'
    final = report.new()
    counted = statistics()
    for k in (0, 10):
        counted.add_slot(k, 1 - CONFIG.bits(SEED, k))
    used = energy.energy_per_slot(source="none")
    final["points"].append(counted.point(used, receiver=name, snr_db=9.0, sinr_db=9.0))
    cells, _, _, legend = displayed([json.dumps(final)])
    assert [row[0] for row in cells] == [name] == legend


def test_display_shows_counted_and_modelled_energy_and_their_source_in_a_small_window():
    window = energy.Window(
        0.5, 0.01, 10.0, 4.0, "measured", "RAPL powercap", "cpu packages"
    ).served(100, cpu_s=2.0)
    lines = []
    for name, used in {
        "counted": energy.energy_per_slot(window),
        "not": energy.energy_per_slot(source="none: no RAPL counter under /sys"),
    }.items():
        final = report.new()
        final["points"].append(statistics().point(used, receiver=name))
        lines.append(json.dumps(final))
    early = report.new()  # by time, before the first slot: no row
    early["points"].append(statistics().point(used))
    lines.insert(0, json.dumps(early))
    early["points"][0]["slots"] = 3  # slots that came before the message which names the receiver
    lines.insert(0, json.dumps(early))
    cells, source, scrolls, _ = displayed(lines)
    assert scrolls == [0, 0]
    assert [row[0] for row in cells] == ["counted", "not"]
    assert [row[-2:] for row in cells] == [["2.5 attributed", "80"], ["–", "–"]]
    model = "modelled: CPU time x 4 W a busy core, assumed"
    assert source.splitlines() == [
        f"RAPL powercap (cpu packages), ±2 % by ticks; {model}",
        "none: no RAPL counter under /sys; modelled: none: no CPU time was measured",
    ]
