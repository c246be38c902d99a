# SPDX-License-Identifier: GPL-3.0-or-later
"""What models cost by count, what a machine's rates predict, and energy --calibrate."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import receiver_models
import torch
from gnuradio.deeprx import Engine
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.deeprx_python import core_clock_hz
from gnuradio.deeprx.models.file import read_model_file
from gnuradio.deeprx.models.runner import EngineRunner, torchscript_call
from receiver_models import ConvNet, ReadsFile, WritesFileOnLoading, ir_of, save

from deeprx_common import energy, report
from deeprx_common.energy import windows
from deeprx_common.energy.benchmarks import MachineBenchmarks, find_power, machine_name
from deeprx_common.energy.machine import (
    ARITHMETIC,
    Benchmark,
    MachineProfile,
    Operator,
)
from deeprx_common.energy.operators import count_operators
from deeprx_common.slot import SlotConfig
from deeprx_common.trusted import hash_of

NAMES = ("baseline-lmmse", "baseline-sure", "deeprx-student")  # the teacher takes too long
MODELS = [Path(__file__).parents[1] / "models" / f"{name}.pt" for name in NAMES]


# A machine of known constants: 1 GFLOP/s, 2 in convolutions and 4 in bfloat16; 10 GB/s up to 1 MB,
# 2 GB/s from 100 MB; 1 us a call, 0.5 us a view; 5 W at rest; above that 1 nJ a FLOP (0.5 in
# convolutions), 0.2 nJ a byte in a cache and 0.8 in memory, 3 uJ a call.
IDLE_W, CALL_S, CALL_J = 5.0, 1e-6, 3e-6
RATES = {"gemm": 1e9, "conv": 2e9}
FLOP_J = {"conv": 0.5e-9}
SIZES = ((1e6, 10e9, 0.2e-9), (100e6, 2e9, 0.8e-9))


def machine(device="cpu", **changes):
    benchmarks = []

    def add(kind, dtype, flop, moved, seconds, joules):
        joules += IDLE_W * seconds
        benchmarks.append(Benchmark(kind, dtype, flop, moved, seconds, (seconds, seconds), joules))

    for kind in ARITHMETIC:
        for dtype, faster in (("float32", 1), ("bfloat16", 4)):
            rate, joules = RATES.get(kind, 1e9) * faster, FLOP_J.get(kind, 1e-9)
            add(kind, dtype, 1e8, 1e6, 1e8 / rate, 1e8 * joules + 1e6 * 0.2e-9)
    for moved, rate, joules in SIZES:
        add("copy", "float32", 0, moved, moved / rate, moved * joules)
    add("call", "float32", 0, 0, CALL_S, CALL_J)
    add("view", "float32", 0, 0, CALL_S / 2, CALL_J / 2)
    fields = dict(
        machine="machine", host={}, versions={}, device=device, threads=1, clock_hz=2e9,
        clock_source="test", idle_w=IDLE_W, power_kind="attributed", power_source="test",
        benchmarks=tuple(benchmarks),
    )  # fmt: skip
    return MachineProfile(**{**fields, **changes})


def test_known_constants_are_found_again():
    profile = machine()
    assert profile.flop_per_s("gemm", "float32") == pytest.approx(1e9)
    assert profile.flop_per_s("conv", "bfloat16") == pytest.approx(8e9)
    assert profile.flop_per_s("gemm", "complex64") == pytest.approx(1e9)  # as float32
    assert profile.j_per_flop("gemm", "float32") == pytest.approx(1e-9)
    assert profile.j_per_flop("conv", "float32") == pytest.approx(0.5e-9)
    assert profile.s_per_byte(1e6) == pytest.approx(1e-10)
    assert profile.s_per_byte(1e9) == pytest.approx(5e-10)  # beyond the largest: as the largest
    assert profile.s_per_byte(1e7) == pytest.approx(3e-10)  # halfway on a logarithmic scale
    assert profile.j_per_byte(1e7) == pytest.approx(0.5e-9)
    busy_w = IDLE_W + 1.002  # a matrix product: 1 GFLOP/s x 1 nJ, 10 MB/s x 0.2 nJ
    assert profile.busy_w() == pytest.approx(busy_w)
    assert profile.flop_per_s_per_w() == pytest.approx(1e9 / busy_w)


def test_the_three_estimates_by_hand():
    profile = machine()
    predicted = profile.predict(
        [
            Operator("convolution", "conv", "float32", flop=4e6, bytes=1e6),  # 2 ms against 0.1
            Operator("add", "elementwise", "float32", flop=1e5, bytes=100e6),  # 0.1 ms against 50
            Operator("clone", "move", "float32", flop=0, bytes=1e6),  # 0.1 ms
            Operator("view", "view", "float32", flop=0, bytes=0),
        ]
    )
    assert (predicted.flop, predicted.bytes, predicted.calls) == (4.1e6, 102e6, 3)
    assert predicted.flop_s == pytest.approx(4.1e-3)
    assert predicted.clock_s == pytest.approx(2.1e-3)
    assert predicted.bytes_s == pytest.approx(50.2e-3)
    assert predicted.roofline_s == pytest.approx(4e-3 + 50e-3 + 0.1e-3)
    assert predicted.calls_s == pytest.approx(3.5e-6)
    assert predicted.traffic_s == pytest.approx(2e-3 + 50e-3 + 0.1e-3 + 3.5e-6)
    assert predicted.flop_j == pytest.approx(predicted.flop / profile.flop_per_s_per_w())
    clock_hz, flop_per_clock = 2e9, {"conv": 1.0, "elementwise": 0.5}
    by_clock = 4e6 / (flop_per_clock["conv"] * clock_hz) + 1e5 / (0.5 * clock_hz)
    assert predicted.clock_j == pytest.approx(profile.busy_w() * by_clock)
    compute, traffic = 4e6 * 0.5e-9 + 1e5 * 1e-9, 2e6 * 0.2e-9 + 100e6 * 0.8e-9
    idle = IDLE_W * predicted.traffic_s
    assert predicted.traffic_j == pytest.approx(compute + traffic + 3.5 * CALL_J + idle)
    assert predicted.bound == "memory"
    assert predicted.attainable == pytest.approx(4.1e6 / 50.2e-3)
    parts = predicted.parts(60e-3)
    assert sum(parts.values()) == pytest.approx(1)
    assert parts["memory"] == pytest.approx((54.1 - 4.1) / 60)
    assert parts["kernels"] == pytest.approx((52.1 - 54.1) / 60)


def test_on_a_gpu_calls_hide_behind_work():
    work = [Operator("mm", "gemm", "float32", flop=1e6, bytes=0)]
    tiny = [Operator("add", "elementwise", "float32", flop=1, bytes=0)]
    assert machine("cuda").predict(work).traffic_s == pytest.approx(1e-3)
    assert machine("cuda").predict(tiny).traffic_s == pytest.approx(CALL_S)
    assert machine("cpu").predict(work).traffic_s == pytest.approx(1e-3 + CALL_S)


def count(run):
    """The operators that do something, without their times."""
    return [(o.name, o.kind, o.flop, o.bytes) for o in count_operators(run) if o.kind != "view"]


def test_convolutions_by_hand():
    x, w = torch.randn(1, 8, 14, 24), torch.randn(16, 8, 3, 3)
    moved = 4 * (8 * 14 * 24 + 16 * 8 * 9 + 16 * 14 * 24)
    flop = 2 * 16 * 8 * 9 * 14 * 24
    assert count(lambda: torch.conv2d(x, w, padding=1)) == [("convolution", "conv", flop, moved)]
    w = torch.randn(8, 1, 3, 3)
    moved = 4 * (2 * 8 * 14 * 24 + 8 * 9)
    flop = 2 * 8 * 9 * 14 * 24
    assert count(lambda: torch.conv2d(x, w, padding=1, groups=8)) == [
        ("convolution", "depthwise", flop, moved)
    ]
    half = x.bfloat16(), w.bfloat16()
    assert count(lambda: torch.conv2d(*half, padding=1, groups=8))[0][3] == moved / 2


def test_other_operators_by_hand():
    x, row, z = torch.randn(30, 40), torch.randn(40), torch.randn(30, 40, dtype=torch.complex64)
    n = 30 * 40
    assert count(lambda: x + row) == [("add", "elementwise", n, 4 * (n + 40 + n))]
    assert count(lambda: x * x) == [("mul", "elementwise", n, 4 * 2 * n)]  # x is read once
    assert count(lambda: z * z.conj().resolve_conj())[-1] == ("mul", "elementwise", 6 * n, 24 * n)
    assert count(lambda: x.exp()) == [("exp", "transcendental", n, 8 * n)]
    assert count(lambda: x.sum(1)) == [("sum", "reduction", n, 4 * (n + 30))]
    assert count(lambda: torch.logsumexp(x, 1)) == [
        ("logsumexp", "transcendental", 4 * n, 4 * (n + 30))
    ]
    assert count(lambda: x.t().contiguous()) == [("clone", "move", 0, 8 * n)]
    assert count(lambda: x[:, torch.tensor([1, 2])])[-1] == ("index", "move", 0, 4 * 120 + 16)
    assert count(lambda: torch.zeros(5).fill_(1.0))[-1] == ("fill_", "move", 0, 20)
    assert count(lambda: x.expand(9, 30, 40) + 1.0) == [
        ("add", "elementwise", 9 * n, 4 * (n + 9 * n))  # what is broadcast is read once
    ]
    assert count(lambda: x.t().unsqueeze(0)[:, 1:].select(0, 0)) == []


def test_an_operators_time_is_its_own():
    x = torch.randn(1, 64, 14, 312)
    w = torch.randn(64, 64, 3, 3)
    small, large = (
        sum(o.seconds for o in count_operators(lambda x=x: torch.conv2d(x, w, padding=1)))
        for x in (x[:, :, :2, :20], x)
    )
    assert 0 <= small < large


def test_operators_know_their_layers():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.Sequential(torch.nn.ReLU()))
    x = torch.ones(1, 1, 2, 2)
    operators = count_operators(lambda: net(x).exp(), net=net)
    assert [(o.name, o.layer) for o in operators if o.kind != "view"] == [
        ("convolution", "0"), ("relu", "1.0"), ("exp", ""),
    ]  # fmt: skip
    assert not net._forward_hooks and not net[0]._forward_pre_hooks


def test_on_a_gpu_operators_are_timed_by_events_that_queue_up(monkeypatch):
    """With a stream of the test's own: each operator takes a millisecond, a pause comes first."""
    stream = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            stream.append(self)
            self.ms = len(stream) / 2  # two events an operator

        def elapsed_time(self, other):
            assert stream[-1] == "synchronised"
            return 2 * (other.ms - self.ms)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda clocks: stream.append("pause"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: stream.append("synchronised"))
    x = torch.ones(3)
    operators = count_operators(lambda: x.exp() + x, "cuda")
    assert stream[0] == "pause" and stream.count("pause") == stream.count("synchronised") == 7
    assert [(o.name, o.seconds) for o in operators] == [("exp", 1e-3), ("add", 1e-3)]


def test_a_model_that_never_does_the_same_is_refused():
    calls = []

    def run():
        calls.append(1)
        torch.zeros(len(calls)).exp()

    with pytest.raises(RuntimeError, match="other things with the same slots"):
        count_operators(run)


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_shipped_models_count_what_their_files_say(path):
    torch.set_num_threads(1)
    model = read_model_file(path)
    operators = count_operators(torchscript_call(model, SlotConfig(), 2))
    told = model.metadata["flop_per_slot"]
    counted = sum(o.flop for o in operators if o.kind in ("gemm", "conv", "depthwise"))
    assert counted == told["matmul"]
    assert sum(o.flop for o in operators) == pytest.approx(told["matmul"] + told["other"], rel=0.4)
    if model.metadata["params"]:  # weights are read, every plane of every layer is written
        assert (
            sum(o.bytes for o in operators) > 4 * model.metadata["params"] + 8 * 32 * 14 * 156 * 4
        )


@pytest.mark.filterwarnings("ignore:torch.quantize_per")
def test_layers_in_int8_count_as_convolutions(tmp_path):
    """Two of 3 x 3 from 8 to 8 channels; their packed weights are a byte each."""
    torch.set_num_threads(1)
    path = receiver_models.save(
        receiver_models.Int8Net(), tmp_path / "m.pt", precision="int8", quantized_engine="onednn"
    )
    operators = count_operators(
        torchscript_call(read_model_file(path, [hash_of(path)]), SlotConfig(), 2)
    )
    layers = [o for o in operators if o.kind == "conv"]
    values = 8 * 14 * 312
    assert [o.flop for o in layers] == [2 * 8 * 9 * values] * 2
    assert all(2 * values + 8 * 8 * 9 <= o.bytes < 4 * values for o in layers)


class CpuTimeMeter(energy.Meter):
    """A counter of 10 W for each core that this process keeps busy."""

    kind = "measured"

    def __init__(self):
        self._cpu_s = time.process_time()
        super().__init__("fake", "cpu packages", 1e-6)

    def _step(self, elapsed_s):
        before, self._cpu_s = self._cpu_s, time.process_time()
        return 10.0 * (self._cpu_s - before)


def benchmark(meter, seconds=0.5, **power):
    torch.set_num_threads(1)
    benchmarks = MachineBenchmarks("cpu", 1, meter, find_power("cpu", 1, meter, **power), seconds)
    assert 3 * len(list(benchmarks.run_round())) == benchmarks.steps
    return benchmarks.profile()


@pytest.mark.timing
def test_this_machines_rates_make_sense():
    profile = benchmark(energy.NoMeter("test"))
    assert profile.power_kind == "modelled" and "assumed (none: test)" in profile.power_source
    assert profile.busy_w() == pytest.approx(4.0)
    for b in profile.benchmarks:
        assert 0 < b.spread[0] <= b.seconds <= b.spread[1] < 1
    for kind in ARITHMETIC:
        assert profile.flop_per_s(kind, "float32") > 1e6
    assert profile.flop_per_s("gemm", "float32") > profile.flop_per_s("transcendental", "float32")
    assert 1e-8 < profile.call_s["view"] < profile.call_s["call"] < 1e-2
    if profile.clock_hz:
        assert 0.4e9 < profile.clock_hz < 8e9
        assert 0.1 < profile.flop_per_s("gemm", "float32") / profile.clock_hz < 1000


def test_clock_is_steady_under_load():
    clocks = [core_clock_hz() for _ in range(20)]
    assert clocks[0] is None or 0.4e9 < min(clocks) <= max(clocks) < 8e9


def test_what_a_counter_counts_is_attributed(monkeypatch):
    monkeypatch.setattr(windows, "cpu_busy_s", time.process_time)  # nobody else is there
    profile = benchmark(CpuTimeMeter(), idle=energy.Idle(0.0))
    assert (profile.power_kind, profile.idle_w) == ("attributed", 0.0)
    assert profile.busy_w() == pytest.approx(10, rel=0.5)
    assert profile.power_source == "fake (cpu packages)"


def test_other_commands_do_not_wait_for_torch():
    code = "import sys, gnuradio.deeprx.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_benchmark_counts_before_its_round_is_whole():
    torch.set_num_threads(1)
    meter = energy.NoMeter("test")
    benchmarks = MachineBenchmarks("cpu", 1, meter, find_power("cpu", 1, meter), 0.01)
    assert not benchmarks.begun
    next(benchmarks.run_round())
    assert benchmarks.begun and benchmarks.rounds == 0
    assert [b.kind for b in benchmarks.profile().benchmarks] == ["gemm"]


def test_a_counter_that_gave_no_power_at_rest():
    with pytest.raises(OSError, match="fake: power at rest could not be measured"):
        find_power("cpu", 1, CpuTimeMeter())


def test_power_without_a_counter_is_the_price_of_modelled_joules():
    meter = energy.find_meter("cpu", "none", 5.0)
    power = find_power("cpu", 4, meter, energy.Idle(8.0))
    assert (power.idle.watts, power.busy_w, power.kind) == (8.0, 20.0, "modelled")
    assert power.source.startswith("CPU time x 5 W a busy core, given; 8 W at rest, given")
    assert find_power("cpu", 4, meter).idle.watts == 5.0


QUICK = ("--calibrate", "0.5", "--rounds", "1", "--window", "0.01")


@pytest.fixture
def tiny(tmp_path):
    return save(ConvNet(), tmp_path / "tiny.pt", name="tiny", bits=4, modulations=["16QAM"])


def test_command_measures_the_machine_and_explains_receivers(tiny, tmp_path, capsys):
    out = tmp_path / "new"
    assert main(["energy", "--receiver", tiny, "--trust", tiny, *QUICK, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    for shown in ("FLOP/", "copy, 64 MiB", "clock under load", "Roofline", "tiny: FLOP alone"):
        assert shown in text
    assert "Estimates of the energy of one slot in mJ beside what is modelled" in text
    for line in text.splitlines():
        if "in mJ" in line or "GFLOP/s/W" in line or "at rest" in line:
            assert "modelled" in line
    profile = json.loads((out / "machine.json").read_text())
    (point,) = report.read(out / "report.json")["points"]
    (model,) = profile["models"]
    joules = point["energy_per_slot_j"]
    assert model["receiver"] == "tiny" and model["measured"]["seconds"] > 0
    assert model["measured"]["joules"] == joules["modelled"]  # its price, never an estimate
    assert joules["modelled"] == pytest.approx(energy.CORE_W * point["cpu_s_per_slot"])
    assert joules["estimates"]["traffic"] == model["predicted"]["traffic_j"]
    assert model["predicted"]["flop"] == sum(o["flop"] for o in model["operators"])
    assert sum(model["share_of_time"].values()) == pytest.approx(1)
    assert profile["schema"] == "deeprx.profile/1" and profile["machine"] == machine_name("cpu")
    assert (profile["device"], profile["threads"]) == ("cpu", 1)
    kinds = {b["kind"] for b in profile["benchmarks"]}
    assert kinds == {*ARITHMETIC, "copy", "call", "view"}
    assert all(b["seconds"] > 0 and b["joules"] > 0 for b in profile["benchmarks"])


def test_runner_times_the_engine_of_the_block(tmp_path):
    module = ConvNet()
    path = save(module, tmp_path / "carrying.pt", ir_of(module))
    torch.set_num_threads(1)
    model = read_model_file(path, [hash_of(path)])
    names = {}
    for engine in ("auto", "torchscript"):
        runner = EngineRunner(model, SlotConfig(), 2, batch=2, engine=engine)
        assert runner() + runner() == 4
        assert len(runner.seconds) == len(runner.cpu_seconds) == 2
        assert min(runner.cpu_seconds) > 0 and 0 < min(runner.seconds) < 1
        names[engine] = runner.description
    assert names == {
        engine: Engine(path, engine=engine, trust=[path]).description
        for engine in ("auto", "torchscript")
    }


@pytest.mark.skipif(not receiver_models.has_openvino(), reason="built without OpenVINO")
def test_estimates_of_a_fused_engine_are_said_to_be_torchscripts(tmp_path, capsys):
    module = ConvNet()
    path = save(module, tmp_path / "m.pt", ir_of(module), name="carrying", bits=8)
    costs = {}
    for engine in ("auto", "torchscript"):
        out = tmp_path / engine
        given = ["--receiver", path, "--trust", path, "--engine", engine, *QUICK, "--out", str(out)]
        assert main(["energy", *given]) == 0
        (costs[engine],) = json.loads((out / "machine.json").read_text())["models"]
        text = capsys.readouterr().out
        assert f"carrying: {costs[engine]['engine']}" in text
        assert ("operators, which this engine fuses" in text) == (engine == "auto")
    fused, plain = costs["auto"], costs["torchscript"]
    assert fused["engine"].startswith("OpenVINO ") and plain["engine"].startswith("TorchScript ")
    assert fused["predicted"]["flop"] == plain["predicted"]["flop"]
    shares = fused["share_of_time"]
    assert shares["memory"] is shares["calls"] is shares["kernels"] is None
    assert shares["flop"] + shares["rest"] == pytest.approx(1)
    assert None not in plain["share_of_time"].values()


def test_ctrl_c_keeps_the_machine(tiny, tmp_path, monkeypatch, capsys):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(energy.Comparison, "run_round", interrupt)
    given = ["energy", "--receiver", tiny, "--trust", tiny, *QUICK, "--out", str(tmp_path / "a")]
    assert main(given) == 130
    assert str(tmp_path / "a" / "machine.json") in capsys.readouterr().err
    assert json.loads((tmp_path / "a" / "machine.json").read_text())["models"] == []
    run_round = MachineBenchmarks.run_round

    def interrupt_later(self):
        yield next(run_round(self))
        raise KeyboardInterrupt

    monkeypatch.setattr(MachineBenchmarks, "run_round", interrupt_later)
    given[-1] = str(tmp_path / "b")
    assert main(given) == 130
    assert str(tmp_path / "b" / "machine.json") in capsys.readouterr().err
    assert len(json.loads((tmp_path / "b" / "machine.json").read_text())["benchmarks"]) == 1
    monkeypatch.setattr(MachineBenchmarks, "run_round", interrupt)
    given[-1] = str(tmp_path / "c")
    assert main(given) == 130
    assert "nothing was measured" in capsys.readouterr().err
    assert not list((tmp_path / "c").iterdir())


def test_trusted_models_are_checked_before_they_run(tmp_path, capsys):
    target = tmp_path / "written"
    for module in (WritesFileOnLoading(str(target)), ReadsFile()):
        path = save(module, tmp_path / "hostile.pt")
        given = ["energy", "--receiver", path, "--trust", path, *QUICK, "--out"]
        assert main([*given, str(tmp_path / "x")]) == 2
        text = capsys.readouterr().err
        assert "hostile.pt': refused" in text and text.count("\n") == 1
    assert not target.exists()
