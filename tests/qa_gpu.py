# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPU's path: its pipeline on any machine, with a thread in the GPU's place; its LLRs, graphs
and times where there is a GPU.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gnuradio.deeprx import deeprx_python

TESTS = Path(__file__).parent
BUILT_TESTS = Path(deeprx_python.__file__).parents[3] / "tests"


def run(*command, timeout=200):
    return subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, timeout=timeout, check=False
    )


def test_pipeline():
    """Batches that overlap, recordings, errors: the cases of qa_device_engine.cc."""
    found = run(BUILT_TESTS / "qa_device_engine")
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_gpu_receives_what_the_cpu_receives(tmp_path):
    """The shipped receivers' bits, batch by batch, as the stand-alone benchmark checks them."""
    found = run(sys.executable, TESTS / "gpu" / "bench.py", "--out", tmp_path, "--seconds", "0.02")
    assert found.returncode == 0, found.stdout + found.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["models"]
    for model in report["models"]:
        assert not model["errors"], model["model"]
        for checked in model["against_cpu_eager"].values():
            assert checked["rms_difference"] < 0.03 * checked["rms_llr"]
            assert abs(checked["bit_errors"] - checked["bit_errors_cpu"]) < 1e-3 * checked["bits"]
