# SPDX-License-Identifier: GPL-3.0-or-later
"""Model files with int8 convolutions: LibTorch's operators, and files that quantise made."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import receiver_models as models
import torch
from gnuradio import deeprx
from needs import needs
from slots import slot_of
from training_commands import NEEDED, train

ROOT = Path(__file__).parents[1]
RECIPE = """
steps = 60
batch = 8
warmup = 10
[[members]]
name = "small"
net = { net = "RealtimeRx", channels = 16, pilot_channels = 16, fold = 12 }
"""
pytestmark = [needs("int8"), pytest.mark.filterwarnings("ignore:torch.quantize_per")]


def test_libtorch_runs_int8_and_says_so(tmp_path):
    module = models.Int8Net()
    path = models.save(
        module, tmp_path / "m.pt", precision="int8", quantized_engine="onednn", requires=["int8"]
    )
    rng = np.random.default_rng(1)
    y = rng.normal(size=(1, 2, 14, 312, 2)).astype(np.float32)
    p = np.zeros((1, 14, 312, 2), np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(y), torch.from_numpy(p), 4).numpy()
    assert expected.std() > 0.1
    np.savez(tmp_path / "slot.npz", y=y, p=p[:, None])
    # in a process where no other engine was chosen before
    program = """
import sys
import numpy as np
from gnuradio import deeprx
slot = np.load(sys.argv[2])
engine = deeprx.Engine(sys.argv[1])
print(engine.description)
np.save(sys.argv[3], engine.infer(slot["y"], slot["p"]))
"""
    files = path, tmp_path / "slot.npz", tmp_path / "llr.npy"
    done = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "TorchScript" in done.stdout and "int8" in done.stdout
    np.testing.assert_array_equal(np.load(tmp_path / "llr.npy")[:, 0], expected)


@NEEDED
def test_quantised_file_in_both_engines(tmp_path):
    """From a recipe to int8 LLRs in the engines."""
    (tmp_path / "small.toml").write_text(RECIPE)

    said = train(
        tmp_path,
        "small.toml --out run",
        "quantise run/last.ckpt small-int8.pt --recipe small.toml --scale-slots 32 --steps 2"
        " --parity slots.npz",
    )
    assert "BER 1e-2 at" in said and "small-int8.pt: small-int8," in said
    path = tmp_path / "small-int8.pt"
    with zipfile.ZipFile(path) as archive:
        (record,) = (n for n in archive.namelist() if n.endswith("/deeprx.json"))
        about = json.loads(archive.read(record))
    assert about["training"]["quantisation"]["calibration_slots"] == 32

    slots = np.load(tmp_path / "slots.npz")
    config = slot_of(modulation="16QAM")
    p = np.ascontiguousarray(config.pilots()).view(np.float32).reshape(1, 1, 14, -1, 2)
    p = p.repeat(len(slots["y"]), 0)
    engines = ["torchscript"] + ["openvino"] * models.has_openvino()
    for name in engines:
        engine = deeprx.Engine(
            str(path), max_batch=len(p), engine=name, slot=slot_of(modulation="16QAM")
        )
        assert "int8" in engine.description
        llr = engine.infer(slots["y"], p)[:, 0, config.data_mask].reshape(len(p), -1)
        error = np.sqrt(np.mean((llr - slots["llr"]) ** 2) / np.mean(slots["llr"] ** 2))
        assert error < slots["allowed"]
