# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped model files: what they say of themselves, and that the block runs them as
PyTorch does.
"""

import hashlib
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from gnuradio.deeprx.models.file import read_model_file
from qa_receiver import eager_llrs, run
from receiver_models import LayerOf
from slots import slot_of

from deeprx_common.model_schema import FLOP, LIMIT, MEASURED, MODEL, TRAINED
from deeprx_common.slot import SlotConfig

TEACHER = "deeprx-teacher"  # takes long
MODELS = sorted((Path(__file__).parents[1] / "models").glob("*.pt"))
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2, "int8": 3e-2}  # RMS of the difference over RMS


def received(config, n_rx, n_slots, snr_db):
    """Slots over a two-tap channel with noise, as a front end gives them: [n_rx, 14 n_slots,
    fft_size].
    """
    rng = np.random.default_rng(5)
    grids = np.stack([config.grid(config.bits(1, i), i) for i in range(n_slots)])
    taps = (rng.normal(size=(n_slots, n_rx, 2)) + 1j * rng.normal(size=(n_slots, n_rx, 2))) / 2
    steer = np.exp(-2j * np.pi * np.outer([2.0, 5.0], config.carriers) / config.fft_size)
    y = np.einsum("irp,pk->irk", taps, steer)[:, :, None] * grids[:, None]
    noise = rng.normal(size=(*y.shape, 2)) @ [1, 1j]
    y = y + noise * np.sqrt(10 ** (-snr_db / 10) / 2)
    symbols = np.zeros((n_rx, n_slots, 14, config.fft_size), np.complex64)
    first = config.fft_size // 2 - 6 * config.n_prb
    symbols[..., first : first + config.n_sc] = y.transpose(1, 0, 2, 3)
    return symbols.reshape(n_rx, 14 * n_slots, -1)


def test_the_promised_models_are_there():
    baselines = {"baseline-lmmse", "baseline-sure"}
    nets = {"teacher", "student", "pusch", "pusch-small"}
    assert {path.stem for path in MODELS} == baselines | {f"deeprx-{net}" for net in nets}


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_model_says_what_it_is(path):
    metadata = read_model_file(path).metadata
    assert metadata.keys() == MODEL.keys() and metadata["flop_per_slot"].keys() == FLOP.keys()
    for key, fields in (("ber", MEASURED), ("limits", LIMIT)):
        assert all(row.keys() == fields.keys() for row in metadata[key])
    assert metadata["name"] == path.stem and metadata["licence"] == "GPL-3.0-or-later"
    assert metadata["flop_per_slot"]["matmul"] + metadata["flop_per_slot"]["other"] > 1e5
    if metadata["kind"] != "baseline":
        assert metadata["trained"].keys() == TRAINED.keys()
        assert metadata["params"] > 0
        assert len(metadata["training"]["recipe_sha256"]) == 64
        assert metadata["training"]["recipe"].startswith("# ./dev train ")
        measured = {(m["domain"], m["sinr_db"]) for m in metadata["ber"]}
        assert {(d, s) for d in ("frequency", "time") for s in (6.0, 12.0, 18.0)} <= measured


@pytest.mark.parametrize(
    ("path", "modulation"),
    [
        pytest.param(
            path,
            modulation,
            id=f"{path.stem}-{modulation}",
            marks=() if (modulation, path.stem != TEACHER) == ("16QAM", True) else pytest.mark.slow,
        )
        for path in MODELS
        for modulation in ("QPSK", "16QAM", "256QAM")
    ],
)
def test_block_gives_the_llrs_of_pytorch(path, modulation):
    config = slot_of(modulation=modulation)
    metadata = read_model_file(path).metadata
    symbols = received(config, 2, 3, 25.0)
    computed = run(config, str(path), symbols).slots(config)
    expected = eager_llrs(config, LayerOf(torch.jit.load(str(path))), symbols)
    assert computed.shape == expected.shape == (3, config.n_bits)
    error = np.sqrt(np.mean((computed - expected) ** 2) / np.mean(expected**2))
    assert error <= TOLERANCE[metadata["precision"]]
    if modulation != "256QAM":  # at 25 dB these come through
        bits = np.stack([config.bits(1, i) for i in range(3)])
        assert np.mean((computed > 0) != bits) < 0.05


@pytest.mark.parametrize(
    "path", [path for path in MODELS if path.stem != TEACHER], ids=lambda p: p.stem
)
def test_bits_are_the_same_at_any_scale(path):
    """Of the samples: a path gain of a ray tracer, integers, the raw numbers of a radio."""
    config = SlotConfig(n_prb=12)
    slot = received(config, 2, 1, 15.0)
    factors = np.float32([1, *(2.0**e for e in (-100, -24, -3, 1, 15, 90)), 1e-7, 1e-6, 32767])
    symbols = np.concatenate([slot * factor for factor in factors], axis=1)
    expected, *scaled = run(config, str(path), symbols).slots(config)
    for factor, llrs in zip(factors[1:7], scaled, strict=False):
        np.testing.assert_array_equal(llrs, expected, err_msg=f"{factor}")
    for factor, llrs in zip(factors[7:], scaled[6:], strict=True):  # rounded, other than by those
        far = np.abs(expected) > 0.3
        assert far.mean() > 0.8
        np.testing.assert_array_equal((llrs > 0)[far], (expected > 0)[far], err_msg=f"{factor}")


def test_models_carry_the_recipes_of_the_repository():
    """By content: comments may change."""
    recipes = (Path(__file__).parents[1] / "training" / "recipes").glob("*.toml")
    known = [tomllib.loads(path.read_text()) for path in recipes]
    for path in MODELS:
        training = read_model_file(path).metadata["training"]
        if training:
            recipe = tomllib.loads(training["recipe"])
            assert recipe in known, path
            content = json.dumps(recipe, sort_keys=True)
            assert training["recipe_sha256"] == hashlib.sha256(content.encode()).hexdigest(), path


def test_an_own_module_that_the_block_would_refuse_is_not_written(tmp_path, monkeypatch):
    """save_receiver works in the runtime environment, too, and vets there."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "training")
    from deeprx_training.export import ExportError, save_receiver

    with pytest.raises(ExportError, match=r"mine\.pt: not written: the receiver block refuses it"):
        save_receiver(ReadsFiles(), tmp_path / "mine.pt", modulations=["QPSK"])
    assert not list(tmp_path.iterdir())


class ReadsFiles(torch.nn.Module):
    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        secret = torch.from_file("/etc/passwd", False, 16, dtype=torch.uint8)
        return torch.ones(len(y), 14, y.size(3), 8) * secret.sum()
