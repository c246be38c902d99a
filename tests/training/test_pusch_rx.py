# SPDX-License-Identifier: GPL-3.0-or-later
"""PuschRx: one net for every slot, which neither scale nor order of antennas and layers changes."""

from dataclasses import replace

import pytest
import torch

from deeprx_training.data.channels import SlotGenerator
from deeprx_training.data.conditions import Conditions
from deeprx_training.export.checks import ExportError
from deeprx_training.export.export import export
from deeprx_training.receivers.build import build
from deeprx_training.receivers.flop import flop_per_slot
from deeprx_training.receivers.pusch import (
    HINTS,
    SLOT_NUMBERS,
    Reliability,
    decision_error,
    is_calm,
    levels,
    llrs,
    second_moment,
    shrunk,
    soft_symbol,
    trust,
)
from deeprx_training.receivers.references import classical

FOUR = {"channels": ("TDL-B",), "n_prb": 4, "n_rx": 4, "standard": True}
SLOTS = {
    "one user": Conditions(**FOUR, dmrs={(2,): 1.0}, modulations={"256QAM": 1.0}),
    "four DMRS symbols": Conditions(**FOUR, dmrs={(2, 5, 8, 11): 1.0}, cdm_groups={2: 1.0}),
    "two users": Conditions(
        **FOUR, users={2: 1.0}, n_symbols={10: 1.0}, dmrs={(2, 9): 1.0},
        modulations={"QPSK": 1.0, "64QAM": 1.0},
    ),
    "two users of two groups": Conditions(
        **FOUR, users={2: 1.0}, cdm_groups={2: 1.0}, modulations={"QPSK": 1.0, "64QAM": 1.0}
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def net():
    """With weights of which each does something."""
    torch.manual_seed(1)
    net = build({"net": "PuschRx"})
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return net.eval()


@pytest.fixture(params=SLOTS)
def slots(request):
    """y, p, d and bits of several slots of a kind; of two users in both pairs of ports."""
    generator = SlotGenerator(SLOTS[request.param].at(12.0))
    batches = [generator.batch(3, seed=1, step=step) for step in range(4)]
    return [(b.y, b.p, b.data, [user.bits_per_symbol for user in b.config.users]) for b in batches]


def apart(a, b):
    """RMS of the difference over the RMS."""
    return float((a - b).norm() / b.norm())


@torch.no_grad()
def test_it_scripts(net, slots):
    script = torch.jit.script(net)
    for given in slots:
        assert apart(script(*given), net(*given)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_scale_changes_nothing(net, slots, scale):
    for y, *rest in slots:
        assert apart(net(scale * y, *rest), net(y, *rest)) < 1e-3


@torch.no_grad()
def test_the_order_of_antennas_changes_nothing(net, slots):
    for y, *rest in slots:
        assert apart(net(y[:, [2, 0, 3, 1]], *rest), net(y, *rest)) < 1e-3


@torch.no_grad()
def test_layers_swapped_are_llrs_swapped(net, slots):
    for y, p, d, bits in slots:
        swapped = net(y, p.flip(1), d, bits[::-1])
        assert apart(swapped.flip(1), net(y, p, d, bits)) < 1e-3


@torch.no_grad()
def test_every_slot_has_llrs_of_its_own(net, slots):
    for y, p, d, bits in slots:
        llr = net(y, p, d, bits)
        assert llr.shape == (3, len(bits), *d.shape, max(bits)) and llr.isfinite().all()
        assert apart(net(y[:1], p[:1], d, bits), llr[:1]) < 1e-3
        for i, m in enumerate(bits):
            assert llr[:, i, ..., :m].abs().min() > 0 and not llr[:, i, ..., m:].any()


def test_training_it_returns_every_exit(net, slots):
    y, p, d, bits = slots[0]
    exits, channels, believed, whitener, turn = net.exits(y, p, d, bits, True)
    assert len(exits) == len(channels) == len(believed) == 3 and whitener.shape == (3, 8, 8)
    assert channels[0].shape == (3, len(bits), 4, 2, *d.shape)
    assert turn.shape == (3, len(bits), 2, 1, d.shape[1])
    assert torch.equal(exits[-1], net(y, p, d, bits))
    assert net.train()(y, p, d, bits).shape[0] == 9
    net.eval()


def test_a_decision_does_not_confirm_itself(net):
    """What symbols say about the channel leaves out, on a PRB's average, what each says about its
    own.
    """
    torch.manual_seed(2)
    correction, s, n = net.rounds[0], 5, 3
    seen = torch.randn(1, correction.net.net[0].in_channels, s, n)
    at = torch.zeros(1, 1, 12, s, n)

    def own(j: int, symbol: int, prb: int) -> float:
        """How much of an innovation of 1 comes back to where it is."""
        at.zero_()[0, 0, j, symbol, prb] = 1
        with torch.no_grad():
            return float(correction(at, seen)[0][0, 0, j, symbol, prb])

    for symbol, prb in [(0, 0), (3, 1), (4, 2)]:
        each = torch.tensor([own(j, symbol, prb) for j in range(12)])
        assert abs(each.mean()) < 1e-6 < each.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("bits", [2, 4, 6, 8])
@pytest.mark.parametrize("wrong", [0.7, 1.5])
def test_symbols_show_an_sinr_that_is_wrong(bits, wrong):
    """As it begins, a net of reliability puts right where decisions are right."""
    torch.manual_seed(3)
    level, _ = levels(bits)
    sent = level[torch.randint(len(level), (4, 1, 2, 14, 48))]
    sinr = torch.full((4, 1, 14, 48), 10 ** ((6 + 3 * bits) / 10))
    x = sent + torch.randn_like(sent) / (2 * sinr[:, :, None]).sqrt()
    net, d = Reliability(4), torch.ones(14, 48, dtype=bool)
    given = torch.zeros(4, HINTS, 14, 4), d, torch.zeros(4, 3 + SLOT_NUMBERS, 14, 4), [bits]
    factor, doubt = net(x, wrong * sinr, *given)
    assert factor.exp().mean() == pytest.approx(1 / wrong, rel=0.05)
    llr = llrs(x, wrong * sinr * factor.exp(), [bits], doubt)
    assert llr.abs().max() <= -doubt.min().log() + 1


@torch.no_grad()
def test_doubt_bounds_llrs_and_changes_no_decision():
    torch.manual_seed(4)
    x, sinr = torch.randn(2, 1, 2, 3, 12), torch.full((2, 1, 3, 12), 100.0)
    none, some = torch.full_like(sinr, 1e-12), torch.full_like(sinr, 0.01)
    for bits in ([2], [4], [6], [8]):
        sure, unsure = llrs(x, sinr, bits, none), llrs(x, sinr, bits, some)
        assert torch.equal(sure > 0, unsure > 0)
        assert unsure.abs().max() < -torch.tensor(0.01).log() + 0.1 < sure.abs().max()


def _bit_errors(receiver, batches):
    return sum(
        int(((llr[..., :m] > 0) != bits[..., :m].bool())[:, b.data].sum())
        for b in batches
        for orders in [[user.bits_per_symbol for user in b.config.users]]
        for llr, bits, m in zip(
            receiver(b.y, b.p, b.data, orders).unbind(1), b.bits.unbind(1), orders, strict=True
        )
    )


@torch.no_grad()
@pytest.mark.parametrize("kind", ["one user", "four DMRS symbols", "two users of two groups"])
def test_it_starts_as_the_classical_receiver(kind):
    """Its first weights add nothing to what SURE-LMMSE finds, or to what is better for two users;
    what it knows of interference alone is more.
    """
    generator = SlotGenerator(replace(SLOTS[kind].at(12.0), n_prb=12))
    batches = [generator.batch(32, seed=2, step=step) for step in range(3)]
    net = build({"net": "PuschRx"}).eval()
    assert _bit_errors(net, batches) < 1.03 * _bit_errors(classical("sure-lmmse"), batches)


@torch.no_grad()
def test_pilots_that_contradict_the_nets_are_believed():
    """Nets of random weights move the channel anywhere: the pilots' own estimate stays."""
    generator = SlotGenerator(replace(SLOTS["one user"].at(12.0), n_prb=12))
    batches = [generator.batch(32, seed=3)]
    torch.manual_seed(1)
    net = build({"net": "PuschRx"})
    with torch.no_grad():
        for correction in net.rounds:
            correction.back.weight.normal_()
        net.pilot_net.net[-1].bias.normal_()
    classical_errors = _bit_errors(classical("sure-lmmse"), batches)
    wild = net.train()(batches[0].y, batches[0].p, batches[0].data, [8])[-32:]
    wrong = ((wild[:, 0] > 0) != batches[0].bits[:, 0].bool())[:, batches[0].data].sum()
    assert wrong > 1.5 * classical_errors
    assert _bit_errors(net.eval(), batches) < 1.03 * classical_errors


def test_its_arguments_are_checked():
    with pytest.raises(ValueError, match="basis: expected 12 or less, found 13"):
        build({"net": "PuschRx", "basis": 13})


def test_flop_are_of_every_round():
    counts = [flop_per_slot(build({"net": "PuschRx", "rounds": n}), n_rx=2) for n in range(3)]
    res = 26 * 12 * 14
    per_pilot = 2 * 24  # of two antennas
    expected = res * (38 + 8 + 24 + 12 + 56) + 26 * 12 * per_pilot
    whether_calm = res * (88 + 8)
    assert counts[1]["other"] - counts[0]["other"] == expected + whether_calm
    assert counts[2]["other"] - counts[1]["other"] == expected
    none, one, two = (count["matmul"] for count in counts)
    whether_calm = res * 2 * (2 * 4 * 2**2)  # two covariances
    assert one - none - whether_calm == two - one > 0


def test_a_file_of_it_needs_slots(net, tmp_path):
    with pytest.raises(ExportError, match="expected slots that show what a PuschRx takes"):
        export(net, tmp_path / "m.pt", "m", "student", [2])


def noisy(bits, sinr_db, slots=64, n_prb=26, factor=1.0):
    """x of a layer of this SINR, what was sent, and the SINR that is believed: factor times it."""
    level, _ = levels(bits)
    sent = level[torch.randint(len(level), (slots, 1, 2, 14, 12 * n_prb))]
    sinr = torch.full((slots, 1, 14, 12 * n_prb), 10 ** (sinr_db / 10))
    return sent + torch.randn_like(sent) / (2 * sinr[:, :, None]).sqrt(), sent, factor * sinr


@torch.no_grad()
@pytest.mark.parametrize(("bits", "sinr_db"), [(2, -4), (2, 6), (4, 8), (6, 16), (8, 24)])
def test_how_wrong_decisions_are_is_known(bits, sinr_db):
    torch.manual_seed(5)
    x, sent, sinr = noisy(bits, sinr_db)
    decided = soft_symbol(x[:, 0], sinr, bits)[:, None]
    expected = decision_error(decided, x, sinr, [bits]).mean()
    assert (decided - sent).square().sum(2).mean() == pytest.approx(float(expected), rel=0.03)


@torch.no_grad()
@pytest.mark.parametrize(("n_rx", "spread", "calm"), [(2, 0.0, 0.95), (1, 0.0, 0.95), (2, 0.7, 0)])
def test_a_slot_is_calm_where_noise_alone_is_left(n_rx, spread, calm):
    """Decisions that are wrong do not stir it, another noise in each PRB does."""
    torch.manual_seed(6)
    x, sent, sinr = noisy(4, 6)
    h = sinr[:, :, None, None] ** 0.5 * torch.tensor([1.0, 0.0])[:, None, None]  # [B, 1, 1, 2, ..]
    noise = (x - sent)[:, :, None] * h[:, :, :, :1]
    decided = soft_symbol(x[:, 0], sinr, 4)[:, None]
    rest = noise + (sent - decided)[:, :, None] * h[:, :, :, :1]
    rest = torch.cat([rest[:, 0], torch.randn(64, n_rx - 1, 2, 14, 312) / 2**0.5], 1)
    rest *= (spread * torch.randn(64, 1, 1, 1, 26)).exp().repeat_interleave(12, 4)
    h = torch.cat([h, torch.zeros(64, 1, n_rx - 1, 2, 14, 312)], 2)
    shares = is_calm(rest, h, decision_error(decided, x, sinr, [4])).float().mean()
    assert shares >= calm if calm else shares == 0


@torch.no_grad()
def test_what_few_symbols_show_by_chance_is_left_out():
    torch.manual_seed(7)
    data = torch.ones(1, 14, 26)
    chance = 0.1 * torch.randn(50, 14, 26)
    assert shrunk(chance, data).std((1, 2)).max() < 0.01
    torch.testing.assert_close(shrunk(chance, data).mean((1, 2)), chance.mean((1, 2)))
    there = chance + torch.randn(50, 1, 26)
    assert (shrunk(there, data).std((1, 2)) / there.std((1, 2))).min() > 1.2


@torch.no_grad()
@pytest.mark.parametrize(
    ("bits", "sinr_db", "least", "most"), [(4, 18, 1.15, 1.5), (2, -6, 0.98, 1.02)]
)
def test_an_sinr_that_is_too_low_makes_llrs_larger_where_symbols_show_it(
    bits, sinr_db, least, most
):
    torch.manual_seed(8)
    x, _, sinr = noisy(bits, sinr_db, factor=0.8)
    factor = trust(x, sinr, torch.ones(14, 312, dtype=bool), [bits])
    assert least < factor.min() and factor.max() < most


@torch.no_grad()
def test_symbols_that_the_channels_error_shrinks_do_not_seem_less_noisy():
    """x of 0.92 s and noise is worth the SINR 0.92 over the noise's power, and shows less noise."""
    torch.manual_seed(9)
    x, sent, sinr = noisy(2, 3.0)
    x, data = x - 0.08 * sent, torch.ones(14, 312, dtype=bool)
    assert (second_moment(x, 0.92 * sinr, [2]).mean() - 1).abs() > 0.05
    assert (trust(x, 0.92 * sinr, data, [2]).mean() - 1).abs() < 0.02


@torch.no_grad()
def test_two_users_symbols_show_a_third_of_it():
    torch.manual_seed(10)
    x, _, sinr = noisy(6, 20.0, factor=0.8)
    data = torch.ones(14, 312, dtype=bool)
    one = trust(x, sinr, data, [6])
    two = trust(x.expand(-1, 2, -1, -1, -1), sinr.expand(-1, 2, -1, -1), data, [6, 6])
    torch.testing.assert_close(two, (one ** (1 / 3)).expand(-1, 2))


@torch.no_grad()
@pytest.mark.parametrize("sinr", [0.0, 1e12, 1e20])
def test_an_sinr_beyond_all_numbers_makes_llrs_neither_nan_nor_none(sinr):
    x = levels(4)[0][torch.randint(4, (2, 1, 2, 14, 12))]
    factor = trust(x, torch.full((2, 1, 14, 12), sinr), torch.ones(14, 12, dtype=bool), [4])
    assert factor.isfinite().all() and (factor > 0).all()
