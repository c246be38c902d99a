# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines: what computes inside the receiver block, called without it."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import receiver_models as models
import torch
from gnuradio import deeprx
from gnuradio.deeprx import deeprx_python
from slots import slot_of

torch.set_num_threads(1)


def slots(config, n_rx, batch, seed=1):
    """Grids y and pilots p of the model contract, one layer."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(batch, n_rx, 14, config.n_sc, 2)).astype(np.float32)
    pilots = np.ascontiguousarray(config.pilots()).view(np.float32).reshape(14, config.n_sc, 2)
    return y, np.repeat(pilots[None, None], batch, 0)


def eager(module, y, p, bits):
    with torch.inference_mode():
        return module.eval()(torch.from_numpy(y), torch.from_numpy(p[:, 0]), bits)[:, None].numpy()


@pytest.fixture
def model(tmp_path):
    module = models.ConvNet(bits=8)
    return models.save(module, tmp_path / "model.pt", name="small"), module


def test_bare_engine_gives_the_models_llrs(model):
    path, module = model
    y, p = slots(deeprx.SlotConfig(), 2, 3)
    engine = deeprx.Engine(path, max_batch=4, trust=[path])
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
        (lambda e, y, p: e.infer(y, p[..., :12, :]), ["p must have shape (1, 1, 14, 312, 2)"]),
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


def assert_one_line(error, *words):
    text = str(error.value)
    assert "\n" not in text, text
    for word in words:
        assert word in text, text


def test_instructions_are_the_processors():
    with open("/proc/cpuinfo") as file:
        flags = set(file.read().split())
    assert deeprx_python.instructions("float32")
    bfloat16 = flags & {"amx_bf16", "avx512_bf16", "bf16"}
    assert bool(deeprx_python.instructions("bfloat16")) == bool(bfloat16)
    assert deeprx_python.engines()[0] == f"TorchScript {torch.__version__.partition('+')[0]}"


def test_model_may_require_instructions(tmp_path):
    path = models.save(models.Constant(1.0), tmp_path / "m.pt", requires=["int8", "bfloat16"])
    if deeprx_python.instructions("bfloat16") and deeprx_python.instructions("int8"):
        deeprx.Engine(path)
    else:
        with pytest.raises(RuntimeError) as error:
            deeprx.Engine(path)
        assert_one_line(error, "needs a processor with", "instructions")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"engine": "abacus"}, ["engine must be", "abacus"]),
        ({"max_batch": 0}, ["max_batch must be 1 to 256"]),
    ],
)
def test_parameter_out_of_range_is_refused(model, parameters, words):
    with pytest.raises(ValueError) as error:
        deeprx.Engine(model[0], **parameters)
    assert_one_line(error, *words)


# OpenVINO

openvino = pytest.mark.skipif(
    not models.has_openvino(), reason="gr-deeprx was built without OpenVINO"
)


@pytest.fixture(scope="module")
def net():
    """A receiver of real arithmetic, and its IR for 16QAM."""
    module = models.ConvNet(bits=8)
    return module, models.ir_of(module)


@pytest.fixture
def carrying(net, tmp_path):
    """A model file that carries an IR, and its module."""
    return models.save(net[0], tmp_path / "carrying.pt", net[1]), net[0]


@openvino
@pytest.mark.parametrize("n_prb", [6, 26, 51])
def test_openvino_gives_the_models_llrs(carrying, n_prb):
    path, module = carrying
    config = deeprx.SlotConfig(n_prb=n_prb)
    y, p = slots(config, 2, 3)
    engine = deeprx.Engine(path, max_batch=4, trust=[path], slot=slot_of(n_prb=n_prb))
    assert engine.description.startswith("OpenVINO ")
    assert "float32" in engine.description
    expected = eager(module, y, p, 4)
    for batch in (3, 1, 3):  # at any size, one after the other
        got = engine.infer(y[:batch], p[:batch])
        np.testing.assert_allclose(got, expected[:batch], rtol=1e-4, atol=1e-4)


@openvino
def test_arithmetic_is_the_files(tmp_path):
    """bfloat16 where the IR says so, and float32 around it."""

    class Mixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.head = torch.nn.Conv2d(4, 64, 3, padding=1).bfloat16()
            self.tail = torch.nn.Conv2d(64, 8, 3, padding=1).bfloat16()

        def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
            x = y.permute(0, 1, 4, 2, 3).flatten(1, 2)
            out = self.tail(torch.relu(self.head(x.to(torch.bfloat16)))).float()
            return 1e3 + 1e-2 * out.permute(0, 2, 3, 1) + 0.0 * p[..., :1]  # bfloat16 has 8 bits

    module = Mixed()
    path = models.save(module, tmp_path / "m.pt", models.ir_of(module), precision="bfloat16")
    engine = deeprx.Engine(path, trust=[path])
    y, p = slots(deeprx.SlotConfig(), 2, 1)
    np.testing.assert_allclose(engine.infer(y, p), eager(module, y, p, 4), rtol=0, atol=1e-3)
    if by := deeprx_python.instructions("bfloat16"):
        assert engine.description.endswith(f", bfloat16, {by}")


@openvino
def test_engine_can_be_chosen(carrying, model):
    path = carrying[0]
    for trust in ([], [path]):
        for keywords, engine in [
            ({"engine": "openvino"}, "OpenVINO"),
            ({"engine": "torchscript"}, "TorchScript"),
            ({"slot": slot_of("QPSK")}, "TorchScript"),
            ({"threads": 2}, "TorchScript"),
        ]:
            assert deeprx.Engine(path, trust=trust, **keywords).description.startswith(engine)
    assert deeprx.Engine(model[0], trust=model[:1]).description.startswith("TorchScript")


@openvino
@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"slot": slot_of("QPSK")}, ["holds no openvino/bits2.xml"]),
        ({"threads": 2}, ["threads=1"]),
    ],
)
def test_openvino_that_cannot_be_is_an_error(carrying, parameters, words):
    with pytest.raises(RuntimeError) as error:
        deeprx.Engine(carrying[0], engine="openvino", **parameters)
    assert_one_line(error, carrying[0], *words)


@openvino
def test_ir_of_another_receiver_is_refused(net, tmp_path):
    """A file must not show one receiver and run another."""
    other = models.ConvNet(bits=8)
    with torch.no_grad():
        other.tail.bias += 0.1
    path = models.save(other, tmp_path / "m.pt", net[1])
    with pytest.raises(RuntimeError) as error:
        deeprx.Engine(path)
    assert_one_line(error, path, "another receiver than its TorchScript")
    deeprx.Engine(path, engine="torchscript")


XML, BIN = "openvino/bits4.xml", "openvino/bits4.bin"


@openvino
@pytest.mark.parametrize(
    ("name", "old", "new", "word"),
    [
        (XML, b'type="Convolution"', b'type="ReadValue"', "the layer ReadValue"),
        (XML, b'type="Convolution" version="opset1"', b'type="Convolution" version="mine"', "mine"),
        (XML, b'type="Add"', b'type="&#65;dd"', "other than plain tags"),
        (XML, b"<edges>", b"<!-- --><edges>", "XML other than plain tags"),
        (XML, b"<edges>", b"<?x y='?><edges>", "XML other than plain tags"),
        (XML, b"<?xml ", b"<?xml x='>' ", "no XML"),
        (XML, b"<?xml ", b"onnx", "no XML"),
        (XML, b' version="11">\n', b' version="99">\n', "IR 10 and 11"),
        (XML, b'offset="0"', b'offset="18446744073709551615"', "outside its weights"),
        (XML, b'offset="0"', b'offset="-1"', "the offset or size '-1'"),
        (XML, b'<data element_type="f32"', b'<data element_type="string"', "type 'string'"),
        (XML, b'names="y"', b'names="x"', "inputs y, p and d"),
        (XML, b"</net>", b"<", "XML other than plain tags"),
        (XML, b"<edge ", b"<edgy ", "OpenVINO IR: "),
    ],
)
def test_hostile_ir_is_refused(net, tmp_path, name, old, new, word):
    module, ir = net
    assert old in ir[name]
    path = models.save(module, tmp_path / "m.pt", ir | {name: ir[name].replace(old, new)})
    with pytest.raises(RuntimeError) as error:
        deeprx.Engine(path)
    assert_one_line(error, path, word)


@openvino
def test_weights_cut_short_are_refused(net, tmp_path):
    module, ir = net
    path = models.save(module, tmp_path / "m.pt", ir | {BIN: ir[BIN][:100]})
    with pytest.raises(RuntimeError) as error:
        deeprx.Engine(path)
    assert_one_line(error, path, "outside its weights")


def load_damaged(folder, count, seed=1):
    """Loads files whose IR has some bytes changed; the process dies if anything but Python's own
    exceptions comes of it. Prints how many loaded.
    """
    module = models.ConvNet(bits=8)
    ir = models.ir_of(module)
    rng = np.random.default_rng(seed)
    loaded = 0
    for _ in range(count):
        damaged = bytearray(ir[XML])
        for at in rng.integers(0, len(damaged), rng.integers(1, 4)):
            damaged[at] = rng.choice(list(b'0123456789"<>-/ az'))
        file = models.save(module, f"{folder}/m.pt", ir | {XML: bytes(damaged)})
        try:
            deeprx.Engine(file, slot=slot_of(n_prb=6))
            loaded += 1
        except RuntimeError as error:
            assert "\n" not in str(error), error
    print(loaded)


@openvino
def test_damaged_irs_end_in_one_line(tmp_path):
    code = f"import qa_engines as q; q.load_damaged({str(tmp_path)!r}, 15)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@openvino
def test_openvino_computes_in_the_calling_thread(carrying):
    """So that the CPU time of a receiver is that of its thread."""
    engine = deeprx.Engine(carrying[0], slot=slot_of(n_prb=106))
    before = time.process_time()
    counted = engine.time(40)[:, 1].sum()
    assert counted > 0.8 * (time.process_time() - before)
