# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx bench: contenders in turns, other sizes, memory; with small models and short turns."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gnuradio import blocks
from gnuradio.deeprx import Engine
from gnuradio.deeprx.cli import bench, main, make_parser
from gnuradio.deeprx.cli.options import jail_limits
from gnuradio.deeprx.deeprx_python import ldpc_instructions
from gnuradio.deeprx.measure import avx2, compare, contenders, roofline, scale
from gnuradio.deeprx.measure.bench_flowgraphs import BlockFlowgraph
from gnuradio.deeprx.measure.compare import Row, measured
from gnuradio.deeprx.measure.contenders import (
    AS_DATA,
    JAILED,
    NO_JAIL,
    ONE_CORE,
    ContenderError,
    Group,
    Worker,
    bench_cores,
    make_kit,
)
from gnuradio.deeprx.measure.job import Job, Turn, traced
from gnuradio.deeprx.measure.scale import Memory
from gnuradio.deeprx.measure.threads import thread_clocks, thread_name
from gnuradio.deeprx.models.file import read_model_file
from qa_jail import jails
from qa_native import saved
from receiver_models import ConvNet, WritesFileOnLoading, has_openvino, ir_of, save
from torch import nn

from deeprx_common.examples import received_slots
from deeprx_common.slot import SlotConfig, User
from deeprx_common.trusted import hash_of

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from deeprx_training.receivers.realtime import RealtimeRx

FLOP = {"n_prb": 26, "n_rx": 2, "bits": 4, "matmul": 30_000_000, "other": 0}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny.pt"
    about = {"name": "tiny", "bits": 4, "modulations": ["16QAM"], "n_rx": [2]}
    return save(ConvNet(), path, flop_per_slot=FLOP, **about)


@pytest.fixture(scope="module")
def bfloat16(tmp_path_factory):
    """An untrained RealtimeRx in bfloat16, with its IR."""
    if not has_openvino():
        pytest.skip("gr-deeprx was built without OpenVINO")

    torch.manual_seed(1)
    module = RealtimeRx(channels=16, pilot_channels=16).eval()
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.bfloat16()
    path = tmp_path_factory.mktemp("models") / "bfloat16.pt"
    about = {"bits": 4, "modulations": ["16QAM"], "n_rx": [2], "precision": "bfloat16"}
    return save(module, path, ir_of(module), flop_per_slot=FLOP, **about)


def job(**changes):
    base = Job("", "", SlotConfig().as_dict(), 2, bench_cores(1))
    return replace(base, **changes)


@pytest.fixture
def models_alone(monkeypatch):
    """Of the machine itself the stock equaliser alone is measured, where a test asks no more."""
    monkeypatch.setattr(compare, "PRECISIONS", ())
    monkeypatch.setattr(compare, "ldpc_instructions", list)


def kit(path, folder):
    base = job()
    return make_kit(
        read_model_file(path, [hash_of(path)]), base.config, base.n_rx, "cpu", folder / "kit"
    )


def benched(tiny, out, names, *options):
    chosen = [part for name in names for part in ("--contender", name)]
    asked = [
        "bench",
        "--receiver",
        tiny,
        "--trust",
        tiny,
        "--seconds",
        "0.4",
        "--out",
        str(out),
        *chosen,
        *options,
    ]
    assert main(asked) == 0
    return json.loads((out / "bench.json").read_text())


def test_every_contender_receives_the_same(tiny, tmp_path, capsys):
    names = ("block", "watched-block", "engine", "torchscript", "python-block", "openvino")
    out = tmp_path / "new"
    results = benched(tiny, out, names)
    text = capsys.readouterr().out
    assert (out / "bench.png").stat().st_size > 1000
    assert (results["schema"], results["complete"]) == ("deeprx.bench/2", True)
    assert {"host", "versions", "git", "slot", "device", "threads", "cores"} < set(results)
    peaks = results["gemm_flop_per_s"]
    assert set(peaks) == {p for p in compare.PRECISIONS if compare.native(p, "cpu")}
    assert min(peaks.values()) > 1e8
    decoders, here = results["ldpc_decoder"], ldpc_instructions()
    assert sorted(decoders) == sorted({*here, *compare.VECTORS})
    for vectors in decoders.keys() - set(here):
        assert decoders[vectors] is None
        assert f"not measured ({vectors})" in text
    for vectors in here:
        decoder = decoders[vectors]
        assert 1e-6 < decoder["iteration_s"] < 1e-2
        said = f"{1e6 * decoder['iteration_s']:.1f} µs an iteration ({vectors}"
        assert said in " ".join(text.split())
    rows = {row["contender"]: row for row in results["rows"]}
    assert set(rows) == {"equaliser", *names}
    expected = {field.name for field in fields(Row)}
    for name, row in rows.items():
        assert set(row) == expected
        if row["why"]:  # the ONNX exporter is what only ./dev bench installs
            assert name == "openvino" and "\n" not in row["why"] and row["why"] in text
            continue
        low, high = row["cpu_s_quartiles"]
        assert 0 < low <= row["cpu_s"] <= high
        assert row["real_time"] == pytest.approx(1e-3 / row["cpu_s"])
        assert row["slots"] >= row["rounds"] == 2
        assert min(row["slots_per_s"], row["busy"], row["startup_s"]) > 0
        assert 20 < row["peak_bytes"] / 2**20 < 2000
        assert name in text
        if name == "equaliser":  # a reference: no model, one antenna
            assert row["model_sha256"] is row["against"] is row["flop_per_s"] is None
            continue
        assert row["flop_per_s"] == pytest.approx(3e7 / row["cpu_s"])
        assert row["of_peak"] == pytest.approx(row["flop_per_s"] / peaks["float32"])
        if name in ("engine", "torchscript", "openvino"):
            assert row["llr_difference"] < 1e-4
        assert row["call_s"]["p50"] <= row["call_s"]["p99"]
        assert "float32" in row["description"]
    assert rows["torchscript"]["against"] == [1.0, 1.0, 1.0]
    for name, key in (
        ("block", "above_engine_s"),
        ("block", "work_above_engine_s"),
        ("watched-block", "above_engine_s"),
    ):
        low, middle, high = rows[name][key]
        assert low <= middle <= high
        assert f"{1e6 * middle:+.0f} µs [{1e6 * low:+.0f}, {1e6 * high:+.0f}]" in text
    assert rows["engine"]["above_engine_s"] is rows["watched-block"]["work_above_engine_s"] is None
    low, middle, high = rows["watched-block"]["work_overhead_s"]
    assert 0 < low <= middle <= high and rows["block"]["work_overhead_s"] is None
    assert f"work() without its inference {1e6 * middle:.0f} µs" in text


@pytest.mark.timing
@pytest.mark.parametrize(("options", "vectors"), [([], "AVX-512"), (["--avx2"], "AVX2")])
def test_the_smallest_net_receives_and_decodes_in_time(options, vectors, tmp_path):
    """26 PRB, 16QAM, rate 1/2, in 1 ms of CPU with AVX-512 and 1.3 with AVX2, which takes 211 us at
    most for six iterations of the largest code block.
    """
    command = [sys.executable, "-m", "gnuradio.deeprx", "bench", "--receiver", "deeprx-pusch-small"]
    command += ["--contender", "decoded", "--seconds", "2", "--out", str(tmp_path)]
    subprocess.run([*command, *options], check=True, timeout=120)
    results = json.loads((tmp_path / "bench.json").read_text())
    decoders = results["ldpc_decoder"]
    if decoders[vectors] is None:
        pytest.skip(f"this processor has no {vectors}")
    (row,) = (row for row in results["rows"] if row["contender"] == "decoded")
    assert row["cpu_s"] < (1e-3 if vectors == "AVX-512" else 1.3e-3)
    assert 6 * decoders["AVX2"]["iteration_s"] < 211e-6


@pytest.mark.timing
def test_a_block_of_the_shipped_nets_adds_microseconds(tmp_path):
    nets = [o for n in ("deeprx-pusch", "deeprx-pusch-small") for o in ("--receiver", n)]
    kinds = [o for n in ("engine", "block", "watched-block") for o in ("--contender", n)]
    assert main(["bench", *nets, *kinds, "--seconds", "3", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    blocks = [row for row in rows if row["contender"] == "block"]
    assert len(blocks) == 2
    for row in blocks:
        assert row["work_above_engine_s"][1] < 10e-6 and row["above_engine_s"][1] < 40e-6, row


def test_a_receiver_and_a_decoder_are_one_contender(tmp_path, models_alone, capsys):
    command = ["bench", "--receiver", "sure-lmmse", "--seconds", "0.4", "--out", str(tmp_path)]
    assert main([*command, "--contender", "block", "--contender", "decoded"]) == 0
    results = json.loads((tmp_path / "bench.json").read_text())
    rows = {row["contender"]: row for row in results["rows"]}
    assert rows["decoded"]["why"] is None
    assert rows["decoded"]["slots"] >= 2
    assert rows["decoded"]["cpu_s"] > rows["block"]["cpu_s"]
    said = f"decoded: {results['instructions'] or 'no vectors'} at most"
    for vectors in compare.VECTORS:
        if vectors != results["instructions"]:
            said += f"; {vectors}: not measured"
    assert said in capsys.readouterr().out


@pytest.mark.timing
def test_threads_share_a_batch(tmp_path, models_alone):
    took = {}
    for threads in ("1", "2"):
        command = ["bench", "--receiver", "sure-lmmse", "--threads", threads, "--seconds", "0.8"]
        names = ["--contender", "block", "--contender", "engine"]
        assert main([*command, *names, "--out", str(tmp_path)]) == 0
        rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
        took[threads] = {row["contender"]: row["cpu_s"] for row in rows}
        (block,) = (row for row in rows if row["contender"] == "block")
        assert (block["work_above_engine_s"] is None) == (threads == "2")  # half of it is elsewhere
    for name in ("block", "engine"):  # CPU time of a slot, wherever it was received
        assert 0.7 < took["2"][name] / took["1"][name] < 1.5


def other_cores():
    return sorted(os.sched_getaffinity(0) - set(bench_cores(1)))


@pytest.mark.parametrize("contender", JAILED)
def test_a_jailed_contender_runs_in_a_jail_on_its_core(contender, tiny, tmp_path):
    """Whose CPU time is the contender's; the kernel says where it was spent."""
    cores = {"jailed-engine": bench_cores(1), "jailed-apart": other_cores()[-1:]}[contender]
    if not cores:
        pytest.skip(ONE_CORE)
    with Worker(kit(tiny, tmp_path).job(contender, job())) as worker:
        (jail,) = jails(worker._process.pid)
        assert os.sched_getaffinity(worker._process.pid) == set(bench_cores(1))
        for thread in os.listdir(f"/proc/{jail}/task"):
            assert os.sched_getaffinity(int(thread)) == set(cores)
        clock = ~jail << 3 | 2  # clock_getcpuclockid(3)
        before = time.clock_gettime(clock)
        turn = worker.turn(0.4)
        used = time.clock_gettime(clock) - before
    assert 0.5 * turn.receiver_s < used < 5 * turn.receiver_s


@pytest.mark.parametrize(("sir_db", "rounds"), [(None, 1), (15.0, 2)])
def test_an_interferer_asks_for_both_rounds(sir_db, rounds, tmp_path):
    with Worker(kit("deeprx-pusch", tmp_path).job("stages", job(sir_db=sir_db))) as worker:
        stages = worker.turn(0.1).stages
    assert [stage["calls"] for stage in stages if stage["name"] == "round"] == [rounds]


def test_an_interferer_is_told(tiny, tmp_path, capsys, models_alone):
    results = benched(tiny, tmp_path, ["engine"], "--sir", "15")
    assert results["sir_db"] == 15.0
    assert "2 RX, SIR 15 dB, 1 thread" in capsys.readouterr().out


def test_every_turn_receives_the_slot():
    task = job(contender="block", model="ls-lmmse")
    y, p, data = task.slots(1)
    expected = np.asarray(Engine(task.model, **task.received).infer(y, p))[0, 0][data]
    flowgraph, llrs = BlockFlowgraph(task), blocks.vector_sink_f()
    flowgraph.top.connect(flowgraph.receiver, llrs)
    for _ in range(5):  # each stops the sources of the two antennas at symbols of their own
        llrs.reset()
        flowgraph.turn(0.05)
        found = np.array(llrs.data()[: expected.size]).reshape(expected.shape)
        np.testing.assert_array_equal(found, expected)


def test_sources_and_sink_are_not_what_receives():
    """By the kernel's clock of the receiver's thread, which does all of it."""
    numbered = [blocks.null_sink(1) for _ in range(200)]  # what comes then has three digits
    flowgraph = BlockFlowgraph(job(contender="block", model="ls-lmmse"))
    named = thread_name(flowgraph.receiver)
    assert len(numbered) == 200 and named.startswith("deeprx_receiv") and named[-1].isdigit()

    def thread_s():
        (clock,) = [s for name, s in thread_clocks().values() if name == named]
        return clock

    def clocks():  # the thread goes on between its two
        return thread_s(), flowgraph._receiver_s(), thread_s(), time.process_time()

    flowgraph.top.start()
    try:
        time.sleep(0.2)
        earliest, before, latest, process_s = clocks()
        time.sleep(1)
        first, after, last, process_end_s = clocks()
    finally:
        flowgraph.top.stop()
        flowgraph.top.wait()
    slack = 0.02 * (after - before)
    assert first - latest - slack < after - before < last - earliest + slack
    assert after - before < 0.98 * (process_end_s - process_s)  # there is something to leave out


@pytest.mark.parametrize("anew", [False, True])
def test_an_engine_is_made_anew_for_each_turn_where_jails_are_compared(anew, tiny, tmp_path):
    with Worker(kit(tiny, tmp_path).job("jailed-engine", replace(job(), anew=anew))) as worker:
        before = jails(worker._process.pid)
        worker.turn(0.1)
        assert len(before) == 1 and (jails(worker._process.pid) != before) == anew
    model, names = read_model_file(tiny, [hash_of(tiny)]), ["engine", *JAILED[:anew]]
    comparison = compare.Comparison([model], names, job(), 0.2)
    assert comparison._base.anew == anew


def test_what_a_jail_costs_is_told(tiny, tmp_path, capsys, models_alone):
    names = ["engine", "jailed-engine", *(["jailed-apart"] if other_cores() else [])]
    rows = {r["contender"]: r for r in benched(tiny, tmp_path, names)["rows"]}
    text = capsys.readouterr().out
    assert not rows["engine"]["description"].endswith(", jailed")
    for name in names[1:]:
        assert rows[name]["description"].endswith(", jailed")
        assert 0 < rows[name]["call_latency_s"]["p50"] <= rows[name]["call_latency_s"]["p99"]
        for what, key in (("CPU", "above_engine_s"), ("latency", "latency_above_engine_s")):
            low, middle, high = rows[name][key]
            assert low <= middle <= high
            assert f"{what} {1e6 * middle:+.0f} µs [{1e6 * low:+.0f}, {1e6 * high:+.0f}]" in text


def left_out(path, contender, out) -> str:
    """Why; it was asked for, and is no failure."""
    command = ["bench", "--receiver", path, "--trust", path, "--contender", contender]
    assert main([*command, "--seconds", "0.2", "--out", str(out)]) == 0
    rows = json.loads((out / "bench.json").read_text())["rows"]
    (row,) = (row for row in rows if row["contender"] == contender)
    assert row["cpu_s"] is None
    return row["why"]


def test_weights_that_run_as_data_have_no_jail(tmp_path, capsys, models_alone):
    assert left_out(saved(tmp_path / "m.pt"), "jailed-engine", tmp_path) == AS_DATA
    assert AS_DATA in " ".join(capsys.readouterr().out.split())


def test_on_one_core_no_jail_is_apart(tiny, tmp_path, monkeypatch, models_alone):
    cores = set(bench_cores(1))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    assert left_out(tiny, "jailed-apart", tmp_path) == ONE_CORE


@pytest.mark.parametrize("contender", JAILED)
def test_a_gpu_has_no_jail(contender, tiny, tmp_path):
    with pytest.raises(ContenderError, match=NO_JAIL):
        kit(tiny, tmp_path).job(contender, job(device="cuda"))


def test_what_does_not_decode_is_no_receiver_of_blocks(tiny, tmp_path, capsys, models_alone):
    command = ["bench", "--receiver", tiny, "--trust", tiny, "--seconds", "0.2"]
    assert main([*command, "--contender", "decoded", "--out", str(tmp_path)]) == 1
    assert "decoded: it does not decode a block at 12 dB" in capsys.readouterr().err


@pytest.mark.timing
def test_times_are_those_of_a_tiny_net(tiny, tmp_path):
    results = benched(tiny, tmp_path, ("block", "watched-block", "engine", "torchscript"))
    rows = {row["contender"]: row for row in results["rows"]}
    for row in rows.values():
        assert row["cpu_s_quartiles"][1] < 0.1 and row["startup_s"] < 60
        assert 1 < row["slots_per_s"] < 1e5 and row["busy"] < 1.2
    for key in ("above_engine_s", "work_above_engine_s"):
        assert abs(rows["block"][key][1]) < 0.05
    assert abs(rows["watched-block"]["above_engine_s"][1]) < 0.05
    assert rows["watched-block"]["work_overhead_s"][2] < 1e-3


def test_a_contenders_jail_has_the_limits_that_were_given(tiny, tmp_path):
    given = ["--jail-memory", "1", "--jail-load", "9", "--jail-batch", "2"]
    limits = jail_limits(make_parser().parse_args(["bench", *given]))
    assert limits == {"memory": 2**20, "load_s": 9.0, "batch_s": 2.0, "most_batch_s": 2.0}
    limited = kit(tiny, tmp_path).job("jailed-engine", job(jail=limits))
    with pytest.raises(ContenderError, match="untrusted"):
        Worker(limited)


def test_jailed_contenders_alone_need_no_trust(tiny, tmp_path, models_alone, capsys):
    command = ["bench", "--receiver", tiny, "--n-prb", "6", "--seconds", "0.2"]
    command += ["--out", str(tmp_path), "--contender", "jailed-engine"]
    assert main(command) == 0
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    (row,) = (row for row in rows if row["contender"] == "jailed-engine")
    assert row["description"].endswith(", jailed")
    capsys.readouterr()
    assert main([*command, "--contender", "engine"]) == 2
    assert "is not trusted" in capsys.readouterr().err


def test_a_contender_that_dies_stops_no_other(tiny, tmp_path):
    checked = kit(tiny, tmp_path)
    with Group() as group:
        for name in ("torchscript", "engine"):
            group.start(name, lambda name=name: checked.job(name, job()))
        group.start("lost", lambda: job(contender="torchscript", model="nowhere.pt"))
        assert list(group.round(0.02)) == ["torchscript", "engine"]
        os.kill(group.workers["engine"]._process.pid, signal.SIGSEGV)
        list(group.round(0.02))
        list(group.round(0.02))
        assert [len(group.turns[name]) for name in ("torchscript", "engine")] == [3, 1]
        assert group.failures["engine"].startswith("ended with SIGSEGV")
        assert "nowhere.pt" in group.failures["lost"] and "\n" not in group.failures["lost"]
        processes = [worker._process for worker in group.workers.values()]
    assert all(process.returncode is not None for process in processes)


def test_a_receiver_that_cannot_be_exported_says_why(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.delenv("DEEPRX_AVX2_ONLY", raising=False)  # which rules ONNX out
    checked = make_kit(
        read_model_file("baseline-lmmse.pt"), job().config, 2, "cpu", tmp_path / "kit"
    )
    for name in ("onnxruntime", "openvino"):
        with pytest.raises(ContenderError, match=r"ONNX: .*complex") as error:
            checked.job(name, job())
        assert "\n" not in str(error.value)
    with pytest.raises(ContenderError, match="CPU only"):
        checked.job("onnxruntime", job(device="cuda"))


def test_an_exporter_that_crashes_is_told(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("DEEPRX_AVX2_ONLY", raising=False)  # which rules ONNX out
    (tmp_path / "to_onnx.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr(contenders, "HERE", tmp_path)
    monkeypatch.setattr(contenders, "find_spec", lambda name: name)
    with pytest.raises(ContenderError, match="ONNX: the exporter ended with SIGSEGV"):
        kit(tiny, tmp_path).job("onnxruntime", job())


def test_traced_operators_do_what_the_file_does(tiny):
    y, p, d = map(torch.from_numpy, received_slots(job().config, 2, 3))
    receiver = torch.jit.load(tiny).eval()
    with torch.no_grad():
        llrs = traced(job(model=tiny))(y[2:], p[2:])
        assert torch.allclose(llrs, receiver(y[2:], p[2:], d, [4]), atol=1e-6)


class Decides(nn.Module):
    """As TorchScript does: decides by values, and makes tensors of numbers."""

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: list[int]) -> torch.Tensor:
        llrs = y.square().sum([1, 4])[:, None, :, :, None].repeat(1, 1, 1, 1, bits[0])
        scale = torch.tensor([1.0 / m for m in bits])
        return llrs * scale if bool(llrs.max() > 0) else llrs


def test_a_traced_program_decides_as_it_does_for_its_slots(tmp_path):
    y, p, d = map(torch.from_numpy, received_slots(job().config, 2, 1))
    path = save(Decides(), tmp_path / "decides.pt")
    with torch.no_grad():
        llrs = traced(job(model=path))(y, p)
        assert torch.equal(llrs, torch.jit.load(path)(y, p, d, [4]))


def test_interval_of_a_median():
    """Order statistics of the binomial distribution: of 20 values the 6th and the 15th."""
    assert compare.median_interval([3.0, 1.0, 2.0]) == (1.0, 2.0, 3.0)
    assert compare.median_interval(range(1, 21)) == (6.0, 10.5, 15.0)
    random = np.random.default_rng(1)
    held = [low <= 0 <= high for low, _, high in (
        compare.median_interval(draw) for draw in random.standard_normal((2000, 20))
    )]  # fmt: skip
    assert 0.94 < np.mean(held) < 0.98  # 0.959 exactly


def test_intervals_have_one_order():
    for interval in (compare.median_interval, compare.median_quartiles):
        ends = interval([4.0, 0.0, 1.0, 3.0, 2.0])
        assert type(ends) is compare.Interval and ends._fields == ("low", "median", "high")
        assert ends.low < ends.median == 2.0 < ends.high


def without_bfloat16(precision):
    return "" if precision in ("bfloat16", "int8") else "AVX2"


BENCHED = """
import sys
from pathlib import Path
import qa_bench
names = "decoded", "engine", "torchscript", "openvino", "onnxruntime"
qa_bench.benched(sys.argv[1], Path(sys.argv[2]), names, "--avx2")
"""
# /proc/PID/task/TID/arch_status: milliseconds since a thread used AVX-512, -1: never.
WATCHED = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import qa_bench
from gnuradio.deeprx.measure.avx2 import stay_with_avx2
from gnuradio.deeprx.measure.contenders import Worker, make_kit
stay_with_avx2()
base = qa_bench.job()
kit = make_kit(
    qa_bench.read_model_file(sys.argv[1], sys.argv[3:]), base.config, 2, "cpu",
    Path(sys.argv[2], "kit")
)
def watched(worker, pool):
    idle = {}
    turn = pool.submit(worker.turn, 4.0)
    while not turn.done():
        for task in Path("/proc", str(worker._process.pid), "task").iterdir():
            try:
                name, status = ((task / n).read_text() for n in ("comm", "arch_status"))
                idle[name.strip()] = int(status.split()[-1])
            except (FileNotFoundError, ProcessLookupError):
                pass
    turn.result()
    return idle
with Worker(kit.job("decoded", base)) as worker, ThreadPoolExecutor() as pool:
    for _ in range(3):  # what comes once, as a library's late start, is not in all of them
        idle = watched(worker, pool)
        if all(ms == -1 or ms > 500 for ms in qa_bench.at_work(idle)):
            break
print(json.dumps(idle))
"""


def at_work(idle):
    """Since when, ms, the threads that receive and decode have used AVX-512; -1: never."""
    return [ms for name, ms in idle.items() if name.startswith(("deeprx_rec", "Transport"))]


@pytest.mark.skipif(
    " avx2 " not in Path("/proc/cpuinfo").read_text(), reason="needs a processor with AVX2"
)
class TestAvx2:
    """deeprx bench --avx2: as a PC without AVX-512, where OpenVINO runs a bfloat16 file in float32
    and PyTorch converts.
    """

    def run(self, script, *arguments):
        # libraries read their limits once in a process
        ran = subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            # of what draws the slots, not of what receives them
            env=os.environ | {
                "OPENBLAS_CORETYPE": "Haswell",
                "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL "
                "AVX512_ICL",
            },
            cwd=Path(__file__).parent, capture_output=True, text=True,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    @pytest.mark.slow
    def test_what_ran_is_named_and_set_against_a_product_of_the_same_arithmetic(
        self, bfloat16, tmp_path
    ):
        text = self.run(BENCHED, bfloat16, tmp_path)
        results = json.loads((tmp_path / "bench.json").read_text())
        peaks = results["gemm_flop_per_s"]
        assert set(peaks) == {"float32"} and "fastest: " in text
        assert list(results["ldpc_decoder"]) == ["AVX-512", "AVX2", "no vectors"]
        assert results["ldpc_decoder"]["AVX-512"] is None
        assert "LDPC decoder, K = 8448, rate 1/2: not measured (AVX-512)" in text
        assert results["instructions"] == "AVX2"
        assert "decoded: AVX2 at most; AVX-512: not measured" in text
        rows = {row["contender"]: row for row in results["rows"]}
        assert rows["onnxruntime"]["why"] == "it cannot be kept to AVX2"
        assert rows["torchscript"]["precision"] == "bfloat16 by conversion"
        assert rows["engine"]["description"].endswith("float32, AVX2")
        assert "float32" in rows["openvino"]["description"]
        for name in ("engine", "openvino", "torchscript"):
            expected = rows[name]["flop_per_s"] / peaks["float32"]
            assert rows[name]["of_peak"] == pytest.approx(expected)

    @pytest.mark.skipif(
        " avx512f " not in Path("/proc/cpuinfo").read_text()
        or not Path("/proc/self/arch_status").exists(),
        reason="needs a processor with AVX-512, and a kernel that says who uses it",
    )
    @pytest.mark.parametrize(
        "receiver", ["openvino", "deeprx-pusch-small", "baseline-lmmse", "sure-lmmse"]
    )
    def test_nothing_newer_receives_and_decodes(self, receiver, bfloat16, tmp_path):
        """The kernel says so. Only while OpenVINO compiles, before slots come, may it be used."""
        named = [receiver, tmp_path]
        if receiver == "openvino":
            named = [bfloat16, tmp_path, hash_of(bfloat16)]
        idle = json.loads(self.run(WATCHED, *named))
        times = at_work(idle)
        assert len(times) == 2
        assert all(ms == -1 or ms > 500 for ms in times), idle


def test_a_processor_without_avx2_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(avx2, "_LIMITS", {})
    monkeypatch.setattr(avx2, "instructions", lambda precision: "NEON")
    assert main(["bench", "--avx2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("error: --avx2: what this processor has for float32 is NEON")


class TestFastest:
    @pytest.mark.parametrize(
        ("others", "says"),
        [
            ({"onnxruntime": 1.0}, "fastest: onnxruntime, 1 ms a slot; what the block runs takes"),
            ({"onnxruntime": 1.0}, "takes 1.60 times as long"),
            ({"onnxruntime": 1.58}, "fastest: what the block runs"),
            ({"engine": 1.5}, "fastest: what the block runs"),
            ({}, ""),
        ],
    )
    def test_the_fastest_is_named(self, others, says):
        took = {"block": 1.6} | others
        rows = [Row("a", name, cpu_s=1e-3 * milli) for name, milli in took.items()]
        assert says in compare.fastest(rows) and bool(says) == bool(compare.fastest(rows))


def test_rows_by_hand(tiny, monkeypatch):
    monkeypatch.setattr(compare, "instructions", lambda precision: "AMX")

    class Measured:
        job = job(precision="bfloat16")
        description, startup_s, peak_bytes = "made up", 1.5, 100

    turns = [Turn(10, 0.1, 0.05, receiver, [1e-3] * 9 + [9e-3]) for receiver in (4e-2, 2e-2, 3e-2)]
    row = measured(Row("a", "block"), Measured, turns, 6_000_000, {"bfloat16": 1e10})
    assert row.cpu_s == pytest.approx(3e-3) and row.slots == 30 and row.rounds == 3
    assert row.cpu_s_quartiles == pytest.approx([2.5e-3, 3.5e-3])
    assert (row.slots_per_s, row.busy) == pytest.approx((100, 0.5))
    assert row.real_time == pytest.approx(1 / 3)
    assert (row.flop_per_s, row.of_peak) == pytest.approx((2e9, 0.2))
    assert row.call_s["p50"] == pytest.approx(1e-3) and row.call_s["p99"] > 8e-3
    assert row.precision == "bfloat16"
    monkeypatch.setattr(compare, "instructions", without_bfloat16)
    row = measured(Row("a", "block"), Measured, turns, 6_000_000, {"float32": 4e9})
    assert (row.precision, row.of_peak) == ("bfloat16 by conversion", pytest.approx(0.5))
    Measured.description = "native, int8, AVX2"
    row = measured(Row("a", "block"), Measured, turns, 6_000_000, {"float32": 4e9})
    assert (row.precision, row.of_peak) == ("int8", None)


def test_ctrl_c_keeps_what_is_there(tiny, tmp_path):
    command = [
        sys.executable,
        "-m",
        "gnuradio.deeprx",
        "bench",
        "--receiver",
        tiny,
        "--trust",
        tiny,
    ]
    command += ["--contender", "torchscript", "--seconds", "60", "--out", str(tmp_path)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while running.stdout.readline() != "machine\n":  # its rounds: every contender has started
        assert running.poll() is None, running.stderr.read()
    time.sleep(2.5)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "stopped; what was measured" in err and "Traceback" not in out + err
    results = json.loads((tmp_path / "bench.json").read_text())
    assert results["complete"] is False
    assert [row["contender"] for row in results["rows"]] == ["equaliser"]
    assert results["rows"][0]["rounds"] >= 1


def test_other_sizes(tiny, tmp_path, monkeypatch, capsys):
    axes = (("PRB", "n_prb", (6, 26), ()), ("slots that may queue", "queued", (16,), ()),
            ("antennas", "n_rx", (3,), ()))  # fmt: skip
    monkeypatch.setattr(scale, "AXES", axes)
    asked = [
        "bench",
        "scale",
        "--receiver",
        tiny,
        "--trust",
        tiny,
        "--seconds",
        "0.15",
        "--out",
        str(tmp_path),
    ]
    assert main(asked) == 0
    text = capsys.readouterr().out
    results = json.loads((tmp_path / "scale.json").read_text())
    assert (results["schema"], results["complete"]) == ("deeprx.bench-scale/1", True)
    assert (tmp_path / "scale.png").exists()
    small, large, queue, refused = results["points"]
    assert [small["fft_size"], large["fft_size"]] == [128, 512]
    assert queue["waiting"] > large["waiting"]
    assert queue["latency_s"] == pytest.approx((queue["waiting"] + 1) / queue["slots_per_s"])
    assert refused["cpu_s"] is None and "n_rx" in refused["why"] and refused["why"] in text


def test_stages_beside_a_roofline(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "PRECISIONS", ("float32",))
    monkeypatch.setattr(roofline, "COPIES", (2**17, 2**20))
    asked = ["bench", "roofline", "--receiver", "ls-lmmse", "--seconds", "0.2"]
    assert main([*asked, "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    results = json.loads((tmp_path / "roofline.json").read_text())
    assert (results["schema"], results["complete"]) == ("deeprx.bench-roofline/1", True)
    assert (tmp_path / "roofline.png").exists()
    assert [row["contender"] for row in results["rows"]] == ["equaliser", "engine"]
    stages = {stage["name"]: stage for stage in results["stages"]["ls-lmmse"]}
    assert "estimate: pilots" in stages
    demap = stages["equalise and demap"]
    assert demap["flop_s"] == pytest.approx(demap["flop"] / results["gemm_flop_per_s"]["float32"])
    rates = results["copy_s_per_byte"]
    assert list(rates) == [str(2**18), str(2**21)]
    assert demap["bytes_s"] == pytest.approx(demap["bytes"] * rates[str(2**18)])
    assert "times the roofline" in text and "equalise and demap" in text


def test_no_roofline_where_no_product_was_timed():
    compared = roofline.Roofline([read_model_file("ls-lmmse")], job(), 0.2)
    compared.gemm_flop_per_s, compared.copy_s_per_byte = {"float32": 1e9}, {1000: 1e-9}
    about = {"name": "sum", "calls": 1.0, "flop": 1e6, "bytes": 1e3, "seconds": 1e-3}
    turn = [about | {"precision": precision} for precision in ("float32", "int8")]
    known, unknown = compared._stages([turn])
    assert (known.roofline_s, known.bound) == (pytest.approx(1e-3), "compute")
    assert (unknown.roofline_s, unknown.bytes_s, unknown.bound) == (None, None, "-")


def test_only_native_has_stages(tiny, tmp_path, monkeypatch, capsys, models_alone):
    monkeypatch.setattr(roofline, "COPIES", ())
    monkeypatch.setattr(roofline, "CONTENDERS", ("engine",))
    asked = ["bench", "roofline", "--receiver", tiny, "--trust", tiny, "--seconds", "0.2"]
    assert main([*asked, "--out", str(tmp_path)]) == 1
    assert "tiny: it runs as TorchScript" in capsys.readouterr().err


def test_shipped_models_that_do_not_fit_are_left_out(tiny, tmp_path):
    one_antenna = save(ConvNet(n_rx=1), tmp_path / "one.pt", name="one", n_rx=[1])
    models = [read_model_file(path, [hash_of(path)]) for path in (one_antenna, tiny)]
    comparison = compare.Comparison(models, ["block"], job(), 0.2, skip=True)
    with comparison:
        (row,) = comparison.rows
        assert row.receiver == "one" and "n_rx" in row.why and row.cpu_s is None
    with pytest.raises(RuntimeError, match="n_rx"):
        compare.Comparison(models[:1], ["block"], job(), 0.2, skip=True)


def test_a_receiver_that_was_asked_for_and_fails_is_an_error(tmp_path, capsys, models_alone):
    """Its file passes every check, and is no receiver."""
    path = save(nn.ReLU(), tmp_path / "relu.pt", name="relu")
    out = ("--out", str(tmp_path), "--seconds", "0.2", "--contender", "engine")
    assert (
        main(
            ["bench", "--receiver", path, "--trust", path, "--receiver", "baseline-lmmse.pt", *out]
        )
        == 1
    )
    error = capsys.readouterr().err
    assert "deeprx: error: relu: engine: " in error and error.count("\n") == 1
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [r["receiver"] for r in rows if r["cpu_s"] and r["contender"] == "engine"] == [
        "baseline-lmmse"
    ]


def test_two_files_of_one_name_are_told_apart(tiny, tmp_path):
    copy = tmp_path / "copy.pt"
    copy.write_bytes(Path(tiny).read_bytes())
    models = [read_model_file(path, [hash_of(path)]) for path in (tiny, copy)]
    sizes = scale.Scale(models, job(), ["cpu"], 0.1)
    comparison = compare.Comparison(models, ["block"], job(), 0.2)
    with sizes, comparison:
        for kits in (sizes._kits, comparison._kits):
            assert list(kits) == [f"{models[0].name} ({path})" for path in (tiny, copy)]


def test_another_slot_is_received_and_decoded(tmp_path, models_alone):
    slot = SlotConfig(
        n_prb=20, first_prb=6, n_symbols=12, dmrs=(2, 9), cdm_groups=2, n_scid=1,
        users=(User(mcs=5),), carrier_prb=51, scs_khz=30, fft_size=768, slot_number=None,
    )  # fmt: skip
    path = tmp_path / "slot.json"
    path.write_text(json.dumps(slot.as_dict()))
    names = [part for name in ("block", "decoded", "engine") for part in ("--contender", name)]
    command = ["bench", "--receiver", "sure-lmmse", "--slot", str(path), "--seconds", "0.2"]
    assert main([*command, *names, "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "bench.json").read_text())
    assert SlotConfig.from_dict(results["slot"]) == replace(slot, slot_number=0)
    assert results["n_rx"] == 2
    assert [row["why"] for row in results["rows"]] == [None] * 4
    for row in results["rows"]:
        assert row["real_time"] == pytest.approx(0.5e-3 / row["cpu_s"])


def test_sizes_of_a_slot_keep_its_carrier():
    base = job(slot=SlotConfig(n_prb=20, carrier_prb=51, fft_size=768).as_dict())
    for n_prb, fft_size in ((6, 768), (51, 768), (52, 1024)):
        changed = scale._changed(base, "n_prb", n_prb).config
        assert (changed.n_prb, changed.fft_size) == (n_prb, fft_size)
    assert scale._changed(base, "n_rx", 4).received == {"slot": base.config, "n_rx": 4}


def test_two_users_are_not_benched(tmp_path, capsys):
    path = tmp_path / "slot.json"
    path.write_text(json.dumps({"users": [{}, {"port": 1}]}))
    assert main(["bench", "--slot", str(path), "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "--slot: expected one user here, found 2" in line


def test_memory_stays_flat(tmp_path, capsys):
    base = job(slot=SlotConfig(n_prb=6).as_dict(), n_rx=1)
    with Memory(read_model_file("baseline-lmmse.pt"), base, 4000) as memory:
        list(memory.run(0.2))
        assert memory.samples[-1][0] >= 4000
        assert abs(memory.bytes_per_slot) < 200  # a message that is kept takes more


def test_memory_that_grows_is_told(tmp_path, monkeypatch, capsys):
    def grow(self, seconds=1.0):
        for k in range(1, 11):
            self.samples.append((100 * k, 10_000_000 + 50 * 100 * k))
            yield f"slots: {100 * k}"

    monkeypatch.setattr(Memory, "run", grow)
    assert main(["bench", "memory", "--out", str(tmp_path)]) == 1
    assert "+50 bytes a slot: it grows" in capsys.readouterr().out
    results = json.loads((tmp_path / "memory.json").read_text())
    assert results["schema"] == bench.MEMORY_SCHEMA and len(results["samples"]) == 10
    assert results["bytes_per_slot"] == pytest.approx(50)


def test_a_shared_core_is_told(tiny, tmp_path, monkeypatch, capsys):
    call = {"p50": 1e-3, "p99": 1e-3}
    times = {"cpu_s": 1e-3, "cpu_s_quartiles": [1e-3] * 2, "call_s": call, "call_latency_s": call}
    row = Row("a", "torchscript", "0" * 64, precision="float32", busy=0.6, peak_bytes=1, **times)

    def run(self):
        self.rows.append(row)
        return iter(())

    monkeypatch.setattr(compare.Comparison, "run", run)
    assert main(["bench", "--receiver", tiny, "--trust", tiny, "--out", str(tmp_path)]) == 0
    assert "the core was shared: up to 40%" in capsys.readouterr().out


def test_hostile_models_are_refused_before_they_run(tmp_path, capsys):
    target = tmp_path / "written"
    path = save(WritesFileOnLoading(str(target)), tmp_path / "hostile.pt")
    for what in ([], ["scale"], ["memory"]):
        assert (
            main(["bench", *what, "--receiver", path, "--trust", path, "--out", str(tmp_path)]) == 2
        )
        text = capsys.readouterr().err
        assert "hostile.pt: refused" in text and text.count("\n") == 1
    assert not target.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seconds", "0"], "--seconds must be 0.1 to 100000, got 0"),
        (["--seconds", "inf"], "--seconds must be 0.1 to 100000, got inf"),
        (["--n-prb", "0"], "n_prb must be 1 to 273 PRB, got 0"),
        (["--out", "/proc"], "/proc: "),
        (["memory", "--slots", "10"], "10 are too few"),
        (["--threads", "0"], "--threads must be 1 to"),
        (["--threads", "1000"], "--threads must be 1 to"),
        (["--receiver", "nowhere.pt"], "nowhere.pt: no such model file; those that ship: "),
        (["--device", "tpu"], "device must be"),
        (["--sir", "12"], "--sir: expected more than the slots' SINR of 12 dB"),
        (["--sir", "nan"], "100 dB at most, found nan dB"),
        (["scale", "--contender", "block"], "--contender is not for deeprx bench scale"),
        (["roofline", "--contender", "engine"], "roofline, which runs other engines"),
        (["roofline", "--threads", "2"], "--threads 1, got cpu and 2"),
        (["memory", "--slots", "0"], "--slots must be at least 1, got 0"),
        (["memory", "--receiver", "a.pt", "--receiver", "b.pt"], "takes one --receiver, got 2"),
    ],
)
def test_mistakes_get_one_line(tiny, tmp_path, capsys, arguments, says):
    given = [] if "--receiver" in arguments else ["--receiver", tiny, "--trust", tiny]
    assert main(["bench", "--out", str(tmp_path), *arguments, *given]) == 2
    text = capsys.readouterr().err
    assert says in text and text.count("\n") == 1


def test_doctor_times_the_ir_of_a_file_that_carries_one(bfloat16, capsys):
    assert main(["doctor", str(bfloat16)]) == 0
    said = capsys.readouterr().out
    line = re.search(r"^  \w+ +\S+ +OpenVINO\b.* ([0-9.]+) ms, real-time factor", said, re.M)
    assert line and 0.01 < float(line[1]) < 100, said
    assert "which is not used" not in said
