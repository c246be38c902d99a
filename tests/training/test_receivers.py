# SPDX-License-Identifier: GPL-3.0-or-later
"""Receivers: the paper's net as published, exact demapping, the contract, and what they reach."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deeprx_common.modulation import MODULATIONS, constellation
from deeprx_common.stats import error_rate, paired_difference
from deeprx_training.data.channels import SlotGenerator, bit_errors
from deeprx_training.data.conditions import Conditions
from deeprx_training.evaluation.evaluate import count_errors
from deeprx_training.receivers.build import build
from deeprx_training.receivers.classical import (
    Baseline,
    Demapper,
    shrink_covariance,
    whiten_combine,
)
from deeprx_training.receivers.flop import example, flop_per_slot
from deeprx_training.receivers.nets import DeepRx, HybridRx, SeparableConv, count_parameters
from deeprx_training.teaching.checkpoint import load_receiver

ROOT = Path(__file__).parents[2]
REFERENCE = json.loads((Path(__file__).parent / "reference_sionna.json").read_text())


def test_deeprx_has_the_papers_parameters():
    """By hand: stem, eleven blocks of (BN, depthwise x2, 1x1) twice and projections, BN, head, all
    with biases.
    """
    total = 10 * 64 * 9 + 64
    c_in = 64
    for c in (64, 64, 128, 128, 256, 256, 256, 128, 128, 64, 64):
        for a in (c_in, c):
            total += 2 * a + (2 * a * 9 + 2 * a) + (2 * a * c + c)
        total += c_in * c + c if c_in != c else 0
        c_in = c
    total += 2 * 64 + 64 * 8 + 8
    assert count_parameters(DeepRx()) == total == 1_232_776


@pytest.mark.parametrize(("width", "millions"), [(0.5, 0.327), (0.25, 0.092), (0.125, 0.028)])
def test_narrower_deeprx(width, millions):
    assert count_parameters(DeepRx(width=width)) == pytest.approx(millions * 1e6, rel=0.02)


def test_shallower_deeprx_keeps_the_ends():
    """Three blocks: 64, 256 and 64 channels with the paper's dilations of blocks 1, 6 and 11."""
    convs = [m for m in DeepRx(blocks=3).modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert [(c.in_channels, c.dilation) for c in convs] == [
        (64, (1, 1)),
        (64, (1, 1)),
        (64, (3, 6)),
        (256, (3, 6)),
        (256, (1, 1)),
        (64, (1, 1)),
    ]
    with pytest.raises(ValueError, match="2 to 11 blocks, got"):
        DeepRx(blocks=12)


def test_separable_convolutions_train_as_the_dense_one_they_are():
    """Values and all gradients, in float64; what is exported is separable."""
    torch.manual_seed(1)
    net = SeparableConv(6, 10, (2, 3)).double()
    x = torch.randn(2, 6, 14, 24, dtype=torch.float64, requires_grad=True)
    results = []
    for training in (True, False):
        net.train(training)
        out = net(x)
        results.append((out, *torch.autograd.grad(out.sin().sum(), [x, *net.parameters()])))
    for dense, separable in zip(*results, strict=True):
        assert torch.allclose(dense, separable, rtol=0, atol=1e-12)
    shipped = str(torch.jit.script(net.train()).inlined_graph)
    assert shipped.count("aten::conv2d") == 2 and "einsum" not in shipped


def test_deeprx_flop_by_hand():
    re, macs, c_in = 14 * 312, 10 * 64 * 9, 64
    for c in (64, 64, 128, 128, 256, 256, 256, 128, 128, 64, 64):
        macs += sum(2 * a * 9 + 2 * a * c for a in (c_in, c)) + (c_in * c if c_in != c else 0)
        c_in = c
    macs += 64 * 8
    assert flop_per_slot(DeepRx(), 2)["matmul"] == 2 * re * macs
    assert 2 * re * macs == pytest.approx(10.63e9, rel=1e-3)


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_demapper_is_exact(modulation):
    """Against the sum over all points of the constellation, from low to high SINR."""
    b = MODULATIONS[modulation]
    points = torch.from_numpy(constellation(modulation)).to(torch.complex128)
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(200, dtype=torch.complex64, generator=rng)
    sinr = 10 ** (torch.linspace(-1, 3, 200))
    metric = -sinr[:, None].double() * (x[:, None] - points).abs() ** 2
    label = torch.arange(2**b)
    for max_log in (False, True):
        llr = Demapper(max_log)(x, sinr, b)
        for i in range(b):
            one = (label >> (b - 1 - i) & 1).bool()
            reduce = (lambda m: m.amax(1)) if max_log else (lambda m: m.logsumexp(1))
            expected = reduce(metric[:, one]) - reduce(metric[:, ~one])
            torch.testing.assert_close(llr[:, i].double(), expected, rtol=1e-3, atol=1e-3)
    mean = (torch.softmax(metric, 1) * points).sum(1)
    torch.testing.assert_close(
        Demapper().mean(x, sinr, b).to(torch.complex128), mean, rtol=1e-3, atol=1e-3
    )


def test_interference_is_rejected_and_white_noise_is_not_mistaken_for_it():
    rng = torch.Generator().manual_seed(1)
    h = torch.randn(1, 2, 14, 50, dtype=torch.complex64, generator=rng)
    x = torch.randn(1, 14, 50, dtype=torch.complex64, generator=rng)
    g = torch.tensor([1.0, 1.0j]).view(1, 2, 1, 1)
    y = h * x[:, None] + g * torch.randn(1, 1, 14, 50, dtype=torch.complex64, generator=rng)
    cov = (g[:, :, 0] @ g[:, :, 0].mH) + 1e-4 * torch.eye(2)
    rejected, _ = whiten_combine(y, h, cov)
    combined, _ = whiten_combine(y, h, torch.eye(2, dtype=torch.complex64)[None])
    assert (rejected - x).abs().square().median() < 1e-2 * (combined - x).abs().square().median()
    n = torch.randn(500, 2, 100, dtype=torch.complex64, generator=rng)
    white = shrink_covariance(n @ n.mH / 100, 100)
    assert white[:, 0, 1].abs().mean() < 0.6 * (n @ n.mH / 100)[:, 0, 1].abs().mean()


@pytest.mark.parametrize("sinr", [3, 9, 15])
def test_baseline_is_at_or_below_the_independent_reference(sinr):
    """Sionna's own LS + linear + LMMSE on the evaluation channels, 256 draws a point; ours on 384
    others.
    """
    n_bits, errors = count_errors({}, [float(sinr)], 384, seed=5)
    ours = error_rate(errors["ls-lmmse"][0], [n_bits] * 384)
    reference = next(r["all"] for r in REFERENCE if r["sinr_db"] == sinr)
    perfect = error_rate(errors["perfect CSI"][0], [n_bits] * 384)
    spread = lambda rate: (rate.ci95[1] - rate.ci95[0]) / 4  # noqa: E731
    assert ours.rate < reference["ls"] + 2 * np.hypot(spread(ours), reference["se"]["ls"])
    assert abs(perfect.rate - reference["perfect"]) < 3 * np.hypot(
        spread(perfect), reference["se"]["perfect"]
    )
    # on the same slots: how far pilots cost against knowing the channel, free of the draws' luck
    assert ours.rate / perfect.rate < 1.05 * reference["ls"] / reference["perfect"]


@pytest.mark.parametrize("modulation", MODULATIONS)
@pytest.mark.parametrize("dmrs", [(2,), (2, 11)])
def test_baselines_receive_every_modulation(modulation, dmrs):
    c = Conditions(
        channels=("TDL-E",), doppler_hz=(5.0, 5.0), modulations={modulation: 1.0}, dmrs={dmrs: 1.0}
    )
    batch = SlotGenerator(c.at(36.0)).batch(24, 1).of_layer(0)
    for sure in (False, True):
        wrong = bit_errors(
            Baseline(sure=sure)(batch.y, batch.p, batch.config.bits_per_symbol), batch
        )
        assert wrong.float().mean() / batch.config.n_bits < 0.01


@pytest.mark.parametrize("n_rx", [1, 2, 3, 4])
@pytest.mark.parametrize("n_prb", [6, 26, 273])
def test_baseline_takes_any_antennas_and_prbs(n_rx, n_prb):
    y, p = example(n_rx, n_prb, batch=2)
    for net in (Baseline(), Baseline(sure=True), Baseline(max_log=True)):
        llr = torch.jit.script(net)(y, p, 4)
        assert llr.shape == (2, 14, 12 * n_prb, 4) and llr.isfinite().all()


def test_hybrid_starts_from_the_classical_receiver():
    y, p = example(2, batch=3)
    expected = 12 * torch.tanh(Baseline(sure=True)(y, p, 4) / 12)
    torch.testing.assert_close(HybridRx()(y, p, 4), expected, rtol=1e-3, atol=2e-3)


NETS = [
    {"net": "DeepRx", "width": 0.125},
    {"net": "PaperInputRx", "channels": 8},
    {"net": "HybridRx", "channels": 8, "dilations": [[1, 2]]},
    {"net": "HybridRx", "channels": 8, "fold": 4, "innovation": False, "refine": False, "n_rx": 4},
]


@pytest.mark.parametrize("spec", NETS, ids=str)
def test_nets_follow_the_contract_in_torchscript(spec):
    net = build(spec).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    script = torch.jit.script(net)
    for bits in (2, 8):
        y, p = example(net.n_rx, batch=2)
        llr = script(y, p, bits)
        assert llr.dtype == torch.float32 and llr.shape[:3] == (2, 14, 312) and llr.shape[3] >= bits
        torch.testing.assert_close(llr, net(y, p, bits), rtol=1e-4, atol=1e-4)
        assert torch.allclose(net(1000 * y, p, bits), llr, atol=0.05)  # any receive gain


@pytest.mark.parametrize(
    ("spec", "names"),
    [({"net": "ResNet"}, "ResNet"), ({"net": "HybridRx", "widht": 3}, "widht"), ({}, "None")],
)
def test_unknown_nets_and_options_are_named(spec, names):
    with pytest.raises(ValueError, match=names):
        build(spec)


@pytest.fixture(scope="module")
def student():
    """(SINR points, bits of a slot, errors per slot) of the shipped student, with a seed of its own
    on the evaluation channels.
    """
    _, net = load_receiver(str(ROOT / "models" / "deeprx-student.pt"))
    points = [6.0, 9.0, 12.0, 15.0, 18.0]
    return points, *count_errors({"student": net}, points, 192, seed=77)


@pytest.mark.slow
def test_shipped_student_beats_ls_lmmse_from_6_to_18_db(student):
    """On the same slots; the intervals exclude zero."""
    points, n_bits, errors = student
    for i, sinr in enumerate(points):
        difference = paired_difference(errors["student"][i], errors["ls-lmmse"][i], [n_bits] * 192)
        assert difference.ci95[1] < 0, f"{sinr} dB: {difference}"


@pytest.mark.slow
def test_shipped_student_holds_its_table(student):
    """What the model file says was measured, against these slots, within both intervals."""
    extra = {"deeprx.json": ""}
    torch.jit.load(str(ROOT / "models" / "deeprx-student.pt"), _extra_files=extra)
    table = {
        m["sinr_db"]: m["ber_ci95"]
        for m in json.loads(extra["deeprx.json"])["ber"]
        if (m["domain"], m["modulation"], m["dmrs"]) == ("frequency", "16QAM", [2, 11])
    }
    points, n_bits, errors = student
    for i, sinr in enumerate(points):
        low, high = error_rate(errors["student"][i], [n_bits] * 192).ci95
        assert low < table[sinr][1] and table[sinr][0] < high, f"{sinr} dB: {low}, {high}"
