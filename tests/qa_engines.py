# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines: what computes inside the receiver block, called without it."""

import numpy as np
import pytest
import receiver_models as models
import torch
from gnuradio import deeprx

torch.set_num_threads(1)


def slots(config, n_rx, batch, seed=1):
    """Grids y and pilots p of the model contract."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(batch, n_rx, 14, config.n_sc, 2)).astype(np.float32)
    pilots = np.ascontiguousarray(config.pilots()).view(np.float32).reshape(14, config.n_sc, 2)
    return y, np.repeat(pilots[None], batch, 0)


def eager(module, y, p, bits):
    with torch.inference_mode():
        return module.eval()(torch.from_numpy(y), torch.from_numpy(p), bits).numpy()


@pytest.fixture
def model(tmp_path):
    module = models.ConvNet(bits=8)
    return models.save(module, tmp_path / "model.pt", name="small"), module


def test_bare_engine_gives_the_models_llrs(model):
    path, module = model
    y, p = slots(deeprx.SlotConfig(), 2, 3)
    engine = deeprx.Engine(path, max_batch=4)
    assert engine.name == "small"
    expected = eager(module, y, p, 4)
    np.testing.assert_allclose(engine.infer(y, p), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(engine.infer(y[1:2], p[:1]), expected[1:2], rtol=1e-4, atol=1e-4)


def test_bare_engine_times_its_calls(model):
    engine = deeprx.Engine(model[0], max_batch=2)
    took = engine.time(5, batch=2)
    assert took.shape == (5, 2)
    assert (took > 0).all() and (took < 1).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda e, y, p: e.infer(y[:, :1], p), ["y must have shape (1, 2, 14, 312, 2)"]),
        (lambda e, y, p: e.infer(y, p[..., :12, :]), ["p must have shape (1, 14, 312, 2)"]),
        (lambda e, y, p: e.infer(y.repeat(2, 0), p), ["max_batch=1", "got 2"]),
        (lambda e, y, p: e.time(1, batch=2), ["max_batch=1", "got 2"]),
        (lambda e, y, p: e.time(0), ["calls", "got 0"]),
    ],
)
def test_wrong_arrays_are_one_line(model, call, words):
    engine = deeprx.Engine(model[0])
    with pytest.raises(ValueError) as error:
        call(engine, *slots(deeprx.SlotConfig(), 2, 1))
    for word in words:
        assert word in str(error.value), error.value
    assert "\n" not in str(error.value)
