# SPDX-License-Identifier: GPL-3.0-or-later
"""Real-time receivers in int8: two forms of one net, chosen scales, fine-tuning, the model file."""

import copy
import json
import subprocess
import sys
import zipfile

import pytest
import torch
from needs import needs
from torch import nn

from deeprx_common.trusted import hash_of
from deeprx_training.data.channels import SlotGenerator
from deeprx_training.data.conditions import Conditions
from deeprx_training.export import quantise as quantising
from deeprx_training.export.export import export
from deeprx_training.export.openvino_ir import ir_files
from deeprx_training.export.quantise import quantise
from deeprx_training.files import TrainingError
from deeprx_training.receivers.flop import example
from deeprx_training.receivers.int8 import (
    SIGNED,
    UNSIGNED,
    best_step,
    rounded,
    to_integer,
    to_rounded,
)
from deeprx_training.receivers.nets import HybridRx
from deeprx_training.receivers.realtime import RealtimeRx
from deeprx_training.teaching.checkpoint import load_receiver
from deeprx_training.teaching.losses import bce
from deeprx_training.teaching.rounding import calibrate, fine_tune

SPEC = {"net": "RealtimeRx", "channels": 16, "pilot_channels": 16, "fold": 12}
CONDITIONS = Conditions(n_prb=6, modulations={"16QAM": 0.5, "64QAM": 0.5})


@pytest.fixture(scope="module")
def net():
    """As if trained: batch norms that do something, heads that correct a little."""
    torch.manual_seed(3)
    net = RealtimeRx(**{k: v for k, v in SPEC.items() if k != "net"})
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.3, 2.0)
    for body in net.bodies():
        nn.init.normal_(body.net[-1].weight, std=0.02)
    return net.eval()


@pytest.fixture(scope="module")
def rounded_net(net):
    rounded_net = to_rounded(net)
    calibrate(rounded_net, CONDITIONS, 32)
    return rounded_net


def difference(llr, expected):
    return float((llr - expected).square().mean().sqrt() / expected.square().mean().sqrt())


@torch.no_grad()
def llrs(net, bits=4, n_prb=26):
    return net(*example(2, n_prb=n_prb, batch=2), bits)


def test_rounding_changes_little_and_something(net, rounded_net):
    """Batch norms folded and all steps right, or the difference would be that of another net."""
    silent = copy.deepcopy(net)
    for body in silent.bodies():
        nn.init.zeros_(body.net[-1].weight)
    corrections = difference(llrs(silent), llrs(net))
    assert 0 < difference(llrs(rounded_net), llrs(net)) < 0.05 * corrections


@needs("int8")
@pytest.mark.parametrize("bits", [2, 8])
def test_integers_compute_what_was_rounded(rounded_net, bits):
    assert difference(llrs(to_integer(rounded_net), bits), llrs(rounded_net, bits)) < 1e-3


@needs("int8")
def test_openvino_runs_int8_kernels(rounded_net):
    """All convolutions but the heads."""
    import openvino

    files = ir_files(rounded_net, *example(2), [4])
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(files["openvino/bits4.xml"], files["openvino/bits4.bin"]), "CPU"
    )
    about = [op.get_rt_info() for op in compiled.get_runtime_model().get_ordered_ops()]
    layers = [a for a in about if a["layerType"].astype(str) == "Convolution"]
    integer = [a for a in layers if a["runtimePrecision"].astype(str) in ("i8", "u8")]
    assert len(integer) == 3 * len(rounded_net.bodies())


@pytest.mark.parametrize("limits", [SIGNED, UNSIGNED])
def test_best_step_has_the_least_error(limits):
    """Of long-tailed values, of which it pays to let the largest saturate."""
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(1)) ** 3
    x = x if limits is SIGNED else x.relu()

    def error(step):
        return float((rounded(x, step, limits) - x).square().mean())

    step, whole = best_step(x, limits), float(x.abs().max()) / 127
    assert error(step) < error(whole) and step < whole
    assert error(step) <= 1.02 * min(error(whole * s / 100) for s in range(10, 300))
    assert best_step(torch.zeros(10), limits) > 0


def test_calibration_is_repeatable_and_sees_the_conditions(net, rounded_net):
    again, loud = to_rounded(net), to_rounded(net)
    calibrate(again, CONDITIONS, 32)
    calibrate(loud, CONDITIONS.at(40.0), 32)
    assert [b.steps for b in again.bodies()] == [b.steps for b in rounded_net.bodies()]
    assert [b.steps for b in loud.bodies()] != [b.steps for b in rounded_net.bodies()]


def test_fine_tuning_trains_what_rounds(net, rounded_net):
    """From steps that are far too coarse; on slots that it was not trained on."""
    coarse = copy.deepcopy(rounded_net)
    for body in coarse.bodies():
        body.steps = [12 * step for step in body.steps]
    batch = SlotGenerator(CONDITIONS.at(15.0)).batch(32, 77).of_layer(0)

    @torch.no_grad()
    def loss():
        llr = coarse(batch.y, batch.p, batch.config.bits_per_symbol)
        return float(bce(llr, batch.bits, batch.data))

    before, steps = loss(), [b.steps for b in coarse.bodies()]
    fine_tune(coarse, net, CONDITIONS, steps=40, lr=1e-3)
    assert loss() < 0.93 * before
    assert [b.steps for b in coarse.bodies()] == steps


@pytest.mark.parametrize(("loss_db", "steps"), [(0.05, 0), (0.3, 2)])
def test_fine_tuned_only_where_it_loses(net, monkeypatch, loss_db, steps):
    answers = iter([{"float32": 14.0, "int8": 14.0 + loss_db}, {"int8": 14.02}])
    monkeypatch.setattr(quantising, "sinr_at_target", lambda *_: next(answers))
    _, done = quantise(net, CONDITIONS, slots=16, steps=2)
    assert done["fine_tuning_steps"] == steps
    assert done["sinr_db_at_ber_1e-2"] == {"float32": 14.0, "int8": 14.02 if steps else 14.05}


def test_sinr_at_target_is_of_other_slots_and_says_where_there_is_none(net):
    silent = copy.deepcopy(net)
    for body in silent.bodies():
        nn.init.zeros_(body.net[-1].weight)
    sinr_db = quantising.sinr_at_target({"float32": silent}, Conditions(), 16)
    assert 13.0 < sinr_db["float32"] < 19.0
    deaf = copy.deepcopy(net)
    nn.init.normal_(deaf.pilot_net.net[-1].weight, std=3.0)
    with pytest.raises(TrainingError, match="does not cross BER 1e-2 between 12 and 21 dB"):
        quantising.sinr_at_target({"float32": deaf}, CONDITIONS, 8)


@needs("int8")
def test_model_file(rounded_net, tmp_path):
    path = tmp_path / "small.pt"
    metadata = export(
        rounded_net, path, "small", "student", [2], "int8", described=SPEC, openvino=False
    )
    with zipfile.ZipFile(path) as archive:
        (record,) = (n for n in archive.namelist() if n.endswith("extra/deeprx.json"))
        assert json.loads(archive.read(record)) == metadata
    assert (metadata["precision"], metadata["quantized_engine"]) == ("int8", "onednn")
    assert metadata["requires"] == ["int8"]
    torch.backends.quantized.engine = "fbgemm"  # a fresh process has another than the file's
    name, loaded = load_receiver(str(path), trust=[hash_of(path)])
    assert name == "small"
    assert difference(llrs(loaded, n_prb=11), llrs(rounded_net, n_prb=11)) < 1e-3
    with pytest.raises(TrainingError, match="holds rounded weights"):
        load_receiver(str(path), rebuild=True)


def test_only_realtime_receivers():
    with pytest.raises(TrainingError, match="expected a RealtimeRx from a checkpoint"):
        quantise(HybridRx(channels=4, dilations=((1, 1),)), CONDITIONS)


@needs("int8")
def test_int8_files_load_in_silence(rounded_net, tmp_path):
    """In a process of its own: LibTorch warns once for each."""
    path = str(tmp_path / "small.pt")
    export(rounded_net, path, "small", "student", [2], "int8", openvino=False)
    program = (
        "from deeprx_common.trusted import hash_of; from deeprx_training.teaching import "
        f"checkpoint; checkpoint.load_receiver({path!r}, trust=[hash_of({path!r})])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_instructions_tests_are_skipped_by_name(tmp_path, monkeypatch):
    monkeypatch.delenv("DEEPRX_AVX2_ONLY", raising=False)
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu sse4_2 avx2 avx512_bf16\n")
    mark = needs("int8", tmp_path / "cpuinfo")
    assert mark.args == (True,) and "no instructions for int8" in mark.kwargs["reason"]
    assert needs("bfloat16", tmp_path / "cpuinfo").args == (False,)
    monkeypatch.setenv("DEEPRX_AVX2_ONLY", "1")  # which holds engines to what most users have
    assert needs("bfloat16", tmp_path / "cpuinfo").args == (True,)
