# SPDX-License-Identifier: GPL-3.0-or-later
"""receiver_controller: its policy, what LLRs promise, and swaps in real flowgraphs."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pmt
import pytest
import receiver_models as models
from companion import environment, generate
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx.blocks.receiver_controller import SwitchingPolicy, expected_error_rate
from telemetry_reports import free_port

from deeprx_common.slot import SlotConfig

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


class TestExpectedErrorRate:
    def test_is_the_error_rate_of_honest_llrs(self):
        rng = np.random.default_rng(1)
        bits = rng.integers(0, 2, 200_000)
        amplitude = 1.2
        llrs = 2 * amplitude * (amplitude * (2 * bits - 1) + rng.normal(size=bits.size))
        counted = np.mean((llrs > 0) != bits)
        assert expected_error_rate(llrs.astype(np.float32)) == pytest.approx(counted, rel=0.03)

    @pytest.mark.parametrize(("llr", "rate"), [(0.0, 0.5), (np.nan, 0.5), (-np.inf, 0.0)])
    def test_extremes(self, llr, rate):
        assert expected_error_rate(np.full(8, llr, np.float32)) == rate


class Receivers:
    """Error rates of three receivers, each so many times worse than the next; swaps are at once."""

    def __init__(self, ratios=(1.5, 1.2, 1.0), target=1e-2, window_slots=10, running=2):
        self.policy = SwitchingPolicy(len(ratios), target, window_slots, hysteresis=0.5)
        self.ratios, self.running = ratios, running
        self.history = []

    def receive(self, slots, rate):
        for _ in range(slots):
            self.history.append(self.running)
            self.running = self.policy.add_slot(self.running, rate * self.ratios[self.running])
        return self.running


class TestPolicy:
    def test_good_channel_ends_with_the_cheapest(self):
        receivers = Receivers()
        assert receivers.receive(20, 1e-3) == 0
        assert receivers.history == [2] * 10 + [1] * 10  # a window each

    def test_bad_channel_ends_with_the_dearest_within_slots(self):
        receivers = Receivers(running=0)
        assert receivers.receive(2, 0.2) == 2
        assert receivers.receive(100, 0.2) == 2

    def test_errors_that_a_window_can_bear_move_nothing(self):
        receivers = Receivers(running=0)
        for _ in range(20):
            receivers.receive(1, 0.05)  # one bad slot of ten
            receivers.receive(9, 1e-4)
        assert set(receivers.history) == {0}

    def test_between_target_and_hysteresis_nothing_moves(self):
        for running in range(3):
            receivers = Receivers(ratios=(1, 1, 1), running=running)
            receivers.receive(200, 0.7e-2)
            assert set(receivers.history) == {running}

    def test_trials_that_fail_become_rare(self):
        receivers = Receivers(ratios=(100.0, 1.0), running=1)
        receivers.receive(4000, 1e-3)
        trials = receivers.history.count(0)
        late = receivers.history[-1000:].count(0)
        assert 5 < trials < 60  # 400 windows
        assert late < 10

    def test_model_that_got_better_is_tried_again_and_kept(self):
        receivers = Receivers(ratios=(100.0, 1.0), running=1)
        receivers.receive(1000, 1e-3)
        receivers.ratios = (1.1, 1.0)
        assert receivers.receive(400, 1e-3) == 0

    def test_slots_from_before_a_swap_decide_nothing(self):
        policy = SwitchingPolicy(2, 1e-2, 10, 0.5)
        assert policy.add_slot(0, 0.4) == 1
        for _ in range(50):
            assert policy.add_slot(0, 0.0) == 1

    def test_model_that_cannot_be_loaded_is_left_out(self):
        policy = SwitchingPolicy(3, 1e-2, 10, 0.5)
        assert policy.add_slot(0, 0.4) == 1
        policy.give_up(1)
        assert policy.add_slot(0, 0.4) == 2

    def test_model_of_somebody_else_is_replaced_by_the_dearest(self):
        assert SwitchingPolicy(3, 1e-2, 10, 0.5).add_slot(None, 0.1) == 2


LADDER = ["baseline-sure.pt", "deeprx-student.pt"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"models": LADDER[:1]}, "two models or more, got 1"),
        ({"models": LADDER[:1] * 2}, "models must differ"),
        ({"models": ["nowhere.pt", *LADDER]}, "nowhere.pt: no such model file; those that ship: "),
        ({"models": LADDER, "target_error_rate": 0.6}, "target_error_rate must be above 0"),
        ({"models": LADDER, "window_slots": 0}, "window_slots must be at least 1"),
        ({"models": LADDER, "hysteresis": 1}, "hysteresis must be above 0 and below 1"),
    ],
)
def test_bad_parameters_say_what_is_wrong(options, says):
    with pytest.raises(ValueError, match=says):
        deeprx.receiver_controller(**options)


def link(top, n_slots, snr_db, seed=1):
    """A front end behind a fading channel, in top."""
    source = deeprx.slot_source(seed=seed, n_slots=n_slots)
    channel = deeprx.tdl_channel(n_rx=2, snr_db=snr_db, doppler_hz=300.0, burst_slots=5, seed=seed)
    front_end = deeprx.aligned_front_end(n_rx=2)
    top.connect(source, deeprx.slot_transmitter(), channel)
    for antenna in range(2):
        top.connect((channel, antenna), (front_end, antenna))
    return front_end


@pytest.mark.parametrize("snr_db", [6.0, 15.0])
def test_shipped_models_keep_what_their_llrs_promise(snr_db):
    n_slots = 30
    top = gr.top_block()
    front_end = link(top, n_slots + 2, snr_db)
    sinks = []
    for model in LADDER:
        receiver = deeprx.receiver(model=deeprx.model_path(model), n_rx=2)
        sinks.append(blocks.vector_sink_f())
        for antenna in range(2):
            top.connect((front_end, antenna), (receiver, antenna))
        top.connect(receiver, sinks[-1])
    top.run()
    config = SlotConfig()
    bits = np.concatenate([config.bits(1, k) for k in range(n_slots)])
    for sink in sinks:
        llrs = np.array(sink.data(), np.float32)[: len(bits)]
        counted = np.mean((llrs > 0) != bits)
        assert expected_error_rate(llrs) == pytest.approx(counted, rel=0.2)


def switching_example():
    specification = importlib.util.spec_from_file_location("switching", EXAMPLES / "switching.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_moving_sinr_costs_no_slot_and_less_energy_for_the_same_errors():
    n_slots = 600  # a swap that takes 70 of them, on a loaded machine, costs little of the gain
    flowgraph = switching_example().Switching(LADDER, n_slots, target=1e-2)
    flowgraph.run()
    cheapest, switched, always = (p.report()["points"][0] for p in flowgraph.probes)
    for point in (cheapest, switched, always):
        assert (point["slots"], point["missed_slots"]) == (n_slots, 0)
        assert "dropped_slots" not in point
    assert set(switched["slots_by_model"]) == {"baseline-sure", "deeprx-student"}
    assert sum(switched["slots_by_model"].values()) == n_slots
    energy = [p["energy_per_slot_j"]["modelled"] for p in (cheapest, switched, always)]
    assert energy[0] < energy[1] < 0.95 * energy[2]
    assert switched["ber"] < 1.1 * always["ber"]


def test_model_that_cannot_be_loaded_leaves_the_receiver_running(tmp_path):
    odd = models.save(models.ConvNet(), tmp_path / "odd.pt", name="odd", n_rx=[4])
    best = deeprx.model_path("baseline-sure.pt")
    n_slots = 120
    top = gr.top_block()
    front_end = link(top, n_slots + 2, snr_db=3.0)
    receiver = deeprx.receiver(model=deeprx.model_path("baseline-lmmse.pt"), n_rx=2)
    controller = deeprx.receiver_controller(["baseline-lmmse.pt", odd, best], window_slots=4)
    probe = deeprx.slot_probe(n_slots=n_slots, cluster_slots=5)
    pace = blocks.throttle(gr.sizeof_float, 60 * SlotConfig().n_bits)  # loading takes a while
    for antenna in range(2):
        top.connect((front_end, antenna), (receiver, antenna))
    top.connect(receiver, controller)
    top.connect(receiver, pace, probe)
    for listener in (controller, probe):
        top.msg_connect(receiver, "stats", listener, "stats")
    top.msg_connect(controller, "model", receiver, "model")
    top.run()
    point = probe.report()["points"][0]
    assert (point["slots"], point["missed_slots"]) == (n_slots, 0)
    assert set(point["slots_by_model"]) == {"baseline-lmmse", "baseline-sure"}


def test_errors_of_other_requests_are_not_its_own():
    controller = deeprx.receiver_controller(["baseline-sure.pt", "deeprx-student.pt"])
    policy, path = controller._policy, deeprx.model_path("deeprx-student.pt")
    controller._asked = 1
    for others in (
        {"model_error": "a message to the port model must be the path of a model file, got 7"},
        {"model_error": "no such file", "path": "/nowhere.pt"},
        {"model_replaced": "by a newer request", "path": "/nowhere.pt"},
        {"model_loaded": "deeprx-student", "path": path},
    ):
        controller._handle(pmt.to_pmt(others))
        assert controller._asked == 1 and policy._usable == [0, 1]
    refused = {"model_error": "deeprx-student: refused, since it has lost its jail", "path": path}
    controller._handle(pmt.to_pmt(refused))
    assert controller._asked is None and policy._usable == [0]


@pytest.mark.parametrize(
    "answer",
    [
        {"model_replaced": "by a newer request", "path": deeprx.model_path("baseline-sure.pt")},
        {"model_loaded": "ls-lmmse", "path": "ls-lmmse"},
    ],
)
def test_a_request_whose_place_another_one_took_is_sent_again(answer):
    controller = deeprx.receiver_controller(["baseline-lmmse.pt", "baseline-sure.pt"])
    asked = []
    controller.message_port_pub = lambda _port, path: asked.append(pmt.to_python(path))

    def receive(n_slots):
        for index in range(n_slots):
            controller._rates[index] = 0.3
            slot = {"slot_index": index, "inference_ns": 1, "model": controller._names[0]}
            slot["model_sha256"] = next(iter(controller._places))
            controller._handle(pmt.to_pmt(slot))

    receive(10)
    assert asked == [deeprx.model_path("baseline-sure.pt")]
    controller._handle(pmt.to_pmt(answer))
    receive(10)
    assert asked == 2 * [deeprx.model_path("baseline-sure.pt")]


# Runs the generated flowgraph without a screen: swaps down as the SNR rises.
WATCH = """
import sys
from companion import watch

def down(top):
    return [p for p in top.points(slots=1) if p["receiver"] == "sure-lmmse"]

watch(sys.argv[1], down, lambda top: down(top)[0], begin=lambda top: top.set_snr_db(27))
"""


def test_companion_flowgraph_swaps_down_on_a_good_channel(tmp_path):
    script = generate("switching", tmp_path)
    text = script.read_text()
    script.write_text(text.replace("tcp://127.0.0.1:5599", f"tcp://127.0.0.1:{free_port()}"))
    ran = subprocess.run(
        [sys.executable, "-c", WATCH, "switching_gui"],
        env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1])["missed_slots"] == 0
