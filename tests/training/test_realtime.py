# SPDX-License-Identifier: GPL-3.0-or-later
"""RealtimeRx: its arithmetic against the classical receivers', and what training and cutting it
promise.
"""

import pytest
import torch

from deeprx_common.modulation import constellation
from deeprx_training.data.channels import SlotGenerator, bit_errors
from deeprx_training.data.conditions import Conditions
from deeprx_training.files import TrainingError
from deeprx_training.receivers.build import build
from deeprx_training.receivers.classical import (
    Baseline,
    Demapper,
    shrink_covariance,
    whiten_combine,
)
from deeprx_training.receivers.flop import flop_per_slot
from deeprx_training.receivers.int8 import to_rounded
from deeprx_training.receivers.nets import count_parameters
from deeprx_training.receivers.realtime import (
    Body,
    RealtimeRx,
    combine,
    decisions,
    demap,
    level_spacing,
    soft_symbol,
)
from deeprx_training.teaching.checkpoint import load_receiver


def as_planes(z):
    """complex [B, C, ...] to [B, 2 C, ...]."""
    return torch.cat([z.real, z.imag], 1)


def normal(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def moved(net, by=0.05):
    """The net with its last layers, which start at zero, set at random."""
    torch.manual_seed(3)
    with torch.no_grad():
        for body in net.bodies():
            body.net[-1].weight.normal_(std=by)
    return net.eval()


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_llrs_are_max_log_exactly(bits):
    x = 1.5 * normal(3, 1, 4, 50)
    sinr = 40 * torch.rand(3, 1, 4, 50, generator=torch.Generator().manual_seed(2)) + 0.1
    expected = Demapper(max_log=True)(x[:, 0], sinr[:, 0], bits)
    llr = demap(as_planes(x), sinr, bits).permute(0, 3, 4, 1, 2).flatten(-2)
    torch.testing.assert_close(llr, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("bits", "name"), [(2, "QPSK"), (4, "16QAM"), (6, "64QAM"), (8, "256QAM")])
def test_soft_symbols_are_the_sent_ones_where_it_is_quiet(bits, name):
    points = torch.from_numpy(constellation(name))
    sent = as_planes(points[None, None, None])
    quiet = torch.full((1, 1, 1, len(points)), 4.0**bits)
    torch.testing.assert_close(soft_symbol(sent, quiet, bits), sent, atol=1e-5, rtol=0)
    assert soft_symbol(sent, quiet * 1e-9, bits).abs().max() < 1e-3
    nearest = torch.stack(decisions(sent, bits)).abs().min()
    assert float(nearest) == pytest.approx(level_spacing(bits), rel=1e-5)


def test_whitening_then_combining_rejects_interference_as_the_classical_combiner():
    net = RealtimeRx(rounds=0)
    interferer, pilots = normal(4, 2, 1, 1, seed=5), normal(4, 1, 2, 78, seed=6)
    noise = 3 * interferer * pilots + 0.3 * normal(4, 2, 2, 78, seed=7)
    e = (noise[..., :-2] - 2 * noise[..., 1:-1] + noise[..., 2:]).flatten(2)
    cov = shrink_covariance(e @ e.mH / (6 * e.size(2)), e.size(2) * 18 / 35)
    white = net.whitener(as_planes(noise))
    y, h = normal(4, 2, 14, 156, seed=8), normal(4, 2, 14, 156, seed=9)
    x, sinr = combine(*((white @ as_planes(z).flatten(2)).view(4, 4, 14, 156) for z in (y, h)))
    expected, gain = whiten_combine(y, h, cov)
    torch.testing.assert_close(sinr[:, 0], gain, rtol=1e-3, atol=1e-3)
    difference = (torch.complex(x[:, 0], x[:, 1]) - expected).abs().mean()
    assert difference < 1e-3 * expected.abs().mean()


@pytest.mark.parametrize("modulation", ["QPSK", "16QAM", "64QAM"])
@pytest.mark.parametrize("dmrs", [(2, 11), (2,)])
def test_training_starts_from_a_good_classical_receiver(modulation, dmrs):
    conditions = Conditions(modulations={modulation: 1.0}, dmrs={dmrs: 1.0}, n_prb=13)
    batch = SlotGenerator(conditions.at(15.0)).batch(24, seed=4).of_layer(0)
    bits = batch.config.bits_per_symbol
    with torch.no_grad():
        errors = bit_errors(RealtimeRx().eval()(batch.y, batch.p, bits), batch).sum()
        expected = bit_errors(Baseline()(batch.y, batch.p, bits), batch).sum()
    assert 0 < errors < 1.05 * expected


@pytest.mark.parametrize("n_rx", [1, 2])
@pytest.mark.parametrize("n_prb", [6, 25])
def test_sizes_and_torchscript(n_rx, n_prb):
    batch = SlotGenerator(Conditions(n_rx=n_rx, n_prb=n_prb)).batch(2, seed=1).of_layer(0)
    net = moved(RealtimeRx(n_rx, channels=8, pilot_channels=8, rounds=2))
    script = torch.jit.freeze(torch.jit.script(net))
    with torch.no_grad():
        expected = net(batch.y, batch.p, 4)
        torch.testing.assert_close(script(batch.y, batch.p, 4), expected, rtol=1e-3, atol=1e-3)
        alone = net(batch.y[:1], batch.p[:1], 4)
    assert expected.shape == (2, 14, 12 * n_prb, 4)
    torch.testing.assert_close(alone, expected[:1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("change", [{"dilation": [2, 3]}, {"separable": True}])
def test_other_blocks_on_the_grid(change):
    """TorchScript takes them, int8 refuses them; parameters and FLOP are as counted by hand."""
    spec = {"net": "RealtimeRx", "channels": 8, "pilot_channels": 8, "blocks": 2}
    plain, net = build(spec), moved(build(spec | change))
    fewer = 4 * (9 * 8 * 8 - (9 * 8 + 8 * 8)) if "separable" in change else 0
    assert count_parameters(plain) - count_parameters(net) == fewer
    flop = [flop_per_slot(n, 2)["matmul"] for n in (plain, net)]
    assert flop[0] - flop[1] == 2 * 14 * 52 * fewer
    batch = SlotGenerator(Conditions(n_prb=6)).batch(2, seed=1).of_layer(0)
    with torch.no_grad():
        expected = net.eval()(batch.y, batch.p, 4)
        script = torch.jit.freeze(torch.jit.script(net))
        torch.testing.assert_close(script(batch.y, batch.p, 4), expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="int8: expected dense blocks without dilation"):
        to_rounded(net)


@pytest.mark.parametrize("separable", [False, True])
def test_dilation_is_of_time_and_frequency(separable):
    body = Body(4, 8, 4, 1, (3, 3), (2, 3), separable).eval()
    torch.manual_seed(4)
    torch.nn.init.normal_(body.net[-1].weight)
    x = torch.zeros(1, 4, 21, 41)
    with torch.no_grad():
        silent = body(x)
        x[..., 10, 20] = 100.0
        touched = (body(x) != silent).any(1)[0]
    symbols, positions = touched.any(1).nonzero(), touched.any(0).nonzero()
    assert (symbols.min(), symbols.max()) == (10 - 5, 10 + 5)  # the first layer 1, the block 2 + 2
    assert (positions.min(), positions.max()) == (20 - 6, 20 + 6)  # the block 3 + 3


def test_no_scale_matters():
    batch = SlotGenerator(Conditions()).batch(2, seed=2).of_layer(0)
    net = moved(RealtimeRx(channels=8, pilot_channels=8))
    with torch.no_grad():
        expected = net(batch.y, batch.p, 4)
        torch.testing.assert_close(net(1e3 * batch.y, batch.p, 4), expected, rtol=1e-2, atol=1e-2)


def test_every_round_is_taught_and_can_be_the_last():
    batch = SlotGenerator(Conditions(n_prb=6)).batch(4, seed=3).of_layer(0)
    net = moved(RealtimeRx(channels=8, pilot_channels=8, rounds=2)).train()
    llr = net(batch.y, batch.p, 4)
    assert len(llr) == 3 * len(batch.y)
    for i in range(3):  # after round i
        net.zero_grad()
        llr[4 * i : 4 * i + 4].square().mean().backward(retain_graph=True)
        heads = [body.net[-1].weight.grad for body in net.bodies()]
        learning = [grad is not None and bool(grad.abs().sum() > 0) for grad in heads]
        assert learning == [True] * (i + 1) + [False] * (2 - i)
    net.eval()
    with torch.no_grad():
        whole = net(batch.y, batch.p, 4)
        net.rounds = net.rounds[:1]
        cut = net(batch.y, batch.p, 4)
    assert not torch.allclose(whole, cut)


def test_a_checkpoint_is_cut_by_name(tmp_path):
    net = RealtimeRx(channels=8, pilot_channels=8, rounds=2)
    spec = '{"net": "RealtimeRx", "channels": 8, "pilot_channels": 8, "rounds": 2}'
    state = {"specs": {"a": spec}, "nets": {"a": net.state_dict()}, "recipe_sha256": ""}
    torch.save(state, tmp_path / "last.ckpt")
    name, net = load_receiver(f"{tmp_path}/last.ckpt:a@1")
    assert name == "a@1" and len(net.rounds) == 1
    for wrong in ("a@3", "a@x"):
        with pytest.raises(TrainingError, match="cannot be cut"):
            load_receiver(f"{tmp_path}/last.ckpt:{wrong}")


@pytest.mark.parametrize("wrong", [{"n_rx": 3}, {"fold": 5}, {"channels": 0}])
def test_impossible_sizes(wrong):
    with pytest.raises(ValueError, match="expected one or two antennas"):
        RealtimeRx(**wrong)


def test_one_dmrs_symbol_gives_a_channel_that_does_not_move():
    net = moved(RealtimeRx(channels=8, pilot_channels=8, rounds=0))
    z = as_planes(normal(2, 2, 1, 36)).expand(-1, -1, 2, -1)
    with torch.no_grad():
        still = net.channel(z, torch.tensor([2]), torch.tensor([2]), 14)
        moving = net.channel(z, torch.tensor([2]), torch.tensor([11]), 14)
    torch.testing.assert_close(still, still[:, :, :1].expand_as(still))
    torch.testing.assert_close(moving[:, :, 2], still[:, :, 2])
    assert (moving[:, :, 7] - moving[:, :, 2]).abs().max() > 0.1
