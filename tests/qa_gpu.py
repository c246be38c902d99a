# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPU's path: its pipeline on any machine, with a thread in the GPU's place; its LLRs, graphs
and times where there is a GPU.
"""

import ctypes
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import qa_receiver
import receiver_models as models
import torch
from gnuradio import deeprx
from gnuradio.deeprx import deeprx_python

TESTS = Path(__file__).parent
BUILT_TESTS = Path(deeprx_python.__file__).parents[3] / "tests"


def run(*command, timeout=200, **options):
    return subprocess.run(
        [str(c) for c in command],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )


def run_with_two_lanes(*arguments):
    """Python in a process whose receivers have the GPU's engine, on threads (two_lanes.cc)."""
    library = BUILT_TESTS / "two_lanes" / "libgnuradio-deeprx.so"
    return run(sys.executable, *arguments, cwd=TESTS, env=os.environ | {"LD_PRELOAD": str(library)})


@pytest.mark.slow  # half of qa_receiver.py once more
def test_block_receives_alike_with_two_batches_under_way():
    """The block's own tests of LLRs, order, tags, statistics, drops and hot swaps."""
    chosen = "(llrs or tag or tags or stats or batches or dropped or drops or swap)"
    chosen += " and not gpu and not engine and not latency"
    options = ["-q", "-p", "no:cacheprovider", "-k", chosen]
    ran = run_with_two_lanes("-m", "pytest", *options, "qa_receiver.py")
    assert ran.returncode == 0, ran.stdout[-4000:]
    assert " passed" in ran.stdout


def test_estimates_are_those_of_their_slots_with_two_batches_under_way():
    chosen = "(truth or none) and False"  # the engine on threads has no jail
    ran = run_with_two_lanes(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, "qa_estimates.py"
    )
    assert ran.returncode == 0, ran.stdout[-4000:]
    assert " passed" in ran.stdout


def overlap(model):
    """Run with two lanes: batches overlap. Gives seconds of inference over seconds passed."""
    config = deeprx.SlotConfig()
    symbols = qa_receiver.random_symbols(config, 2, 4)
    tags = qa_receiver.slot_tags(4)
    flowgraph = qa_receiver.Flowgraph(model, symbols, tags, repeat=True)
    flowgraph.start()
    qa_receiver.wait_for_slots(flowgraph, 100)
    first, started = len(flowgraph.stats()), time.monotonic()
    qa_receiver.wait_for_slots(flowgraph, 500)
    last, took = len(flowgraph.stats()), time.monotonic() - started
    flowgraph.stop()
    flowgraph.wait()
    assert ctypes.CDLL(None).most_under_way() == 2
    stats = flowgraph.stats()
    assert [s["slot_index"] for s in stats] == list(range(len(stats)))
    return 1e-9 * sum(s["inference_ns"] for s in stats[first:last]) / took


def overlap_in_time(model):
    """Run with two lanes: times of inference add up to what passed."""
    assert 0.3 < overlap(model) < 1.3


def ends(model):
    """Run with two lanes: every slot comes out at the end of the stream, whatever is left over."""
    config = deeprx.SlotConfig()
    for n in (1, 2, 3, 13):
        symbols = qa_receiver.random_symbols(config, 2, n)
        flowgraph = qa_receiver.run(config, model, symbols, max_batch=4, max_latency_ms=0)
        np.testing.assert_array_equal(flowgraph.slots(config), np.ones((n, config.n_bits)))
        assert [s["slot_index"] for s in flowgraph.stats()] == list(range(n))


def six_prb(folder, n_slots, **parameters):
    """A flowgraph of one antenna, the LLRs of its slots, and their configuration."""
    config = deeprx.SlotConfig(n_prb=6)
    module = models.ConvNet(n_rx=1)
    symbols = qa_receiver.random_symbols(config, 1, n_slots)
    model = models.save(module, Path(folder) / "six.pt")
    tags = qa_receiver.slot_tags(n_slots)
    flowgraph = qa_receiver.Flowgraph(
        model, symbols, tags, slot=config, max_batch=4, max_latency_ms=0, **parameters
    )
    return flowgraph, qa_receiver.eager_llrs(config, module, symbols), config


def reconfigured(folder):
    """Run with two lanes: GNU Radio empties a locked flowgraph; the next slot is the first."""
    flowgraph, expected, config = six_prb(folder, 61, repeat=True)
    flowgraph.start()
    for _ in range(4):
        qa_receiver.wait_for_slots(flowgraph, 20)
        flowgraph.lock()
        flowgraph.unlock()
    qa_receiver.wait_for_slots(flowgraph, 20)
    flowgraph.stop()
    flowgraph.wait()
    got = flowgraph.slots(config)
    which = [int(np.abs(expected - llrs).sum(1).argmin()) for llrs in got]
    jumps = [b for a, b in itertools.pairwise(which) if b != (a + 1) % 61]
    assert not any(jumps), which


def slow_reader(folder):
    """Run with two lanes: nothing is written where LLRs still wait to be read."""
    flowgraph, expected, config = six_prb(folder, 60)
    read = flowgraph.sink.work

    def read_slowly(inputs, outputs):
        time.sleep(0.005)
        return read(inputs, outputs)

    flowgraph.sink.work = read_slowly
    flowgraph.sink.set_max_noutput_items(config.n_bits)
    flowgraph.run()
    np.testing.assert_allclose(flowgraph.slots(config), expected, rtol=1e-4, atol=1e-4)


def loses_its_device(model):
    """Run with two lanes: the flowgraph ends by itself, what was received stays."""
    config = deeprx.SlotConfig()
    symbols = qa_receiver.random_symbols(config, 2, 4)
    tags = qa_receiver.slot_tags(4)
    flowgraph = qa_receiver.Flowgraph(model, symbols, tags, repeat=True)
    flowgraph.start()
    qa_receiver.wait_for_slots(flowgraph, 10)
    ctypes.CDLL(None).lose_device()
    flowgraph.wait()
    assert flowgraph.receiver.slots() == len(flowgraph.slots(config)) >= 10
    assert flowgraph.receiver.dropped() == 0
    assert flowgraph.receiver.error() == "cuda:0 is lost: unspecified launch failure"


def run_case(case, argument):
    ran = run_with_two_lanes("-c", f"import qa_gpu; qa_gpu.{case.__name__}({str(argument)!r})")
    assert ran.returncode == 0, ran.stderr[-4000:]
    return ran


@pytest.fixture
def model(tmp_path):
    return models.save(models.Constant(1.0), tmp_path / "model.pt")


@pytest.mark.parametrize("case", [overlap, ends])
def test_batches_of_a_stream(model, case):
    run_case(case, model)


@pytest.mark.timing
def test_times_of_overlapping_batches(model):
    run_case(overlap_in_time, model)


@pytest.mark.parametrize("case", [reconfigured, slow_reader])
def test_every_slot_once(tmp_path, case):
    run_case(case, tmp_path)


def test_lost_device_ends_the_flowgraph_with_one_line(model):
    ran = run_case(loses_its_device, model)
    lines = [line for line in (ran.stdout + ran.stderr).splitlines() if "lost" in line]
    assert len(lines) == 1 and "cuda:0 is lost: unspecified launch failure" in lines[0], lines


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_gpu_receives_what_the_cpu_receives(tmp_path):
    """The shipped receivers' bits, batch by batch, as the stand-alone benchmark checks them."""
    bench = run(sys.executable, TESTS / "gpu" / "bench.py", "--out", tmp_path, "--seconds", "0.02")
    assert bench.returncode == 0, bench.stdout + bench.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["models"]
    for model in report["models"]:
        assert not model["errors"], model["model"]
        for checked in model["against_cpu_eager"].values():
            assert checked["rms_difference"] < 0.03 * checked["rms_llr"]
            assert abs(checked["bit_errors"] - checked["bit_errors_cpu"]) < 1e-3 * checked["bits"]
