# SPDX-License-Identifier: GPL-3.0-or-later
"""Drawn slots: reproducible, and what the definitions of SNR, SIR and domain say."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from deeprx_training.data import seeds
from deeprx_training.data.channels import EVALUATION_CHANNELS, TRAINING_CHANNELS, SlotGenerator
from deeprx_training.data.conditions import Conditions

FAST = dict(channels=("TDL-A", "TDL-E"), doppler_hz=(500.0, 500.0))


def transmitted(batch):
    """x of the data REs, rebuilt from the bits; zero at pilots."""
    from deeprx_common.modulation import constellation

    points = torch.from_numpy(constellation(batch.config.modulation))
    b = batch.config.bits_per_symbol
    label = (batch.bits.long() * 2 ** torch.arange(b - 1, -1, -1)).sum(-1)
    return points[label] * batch.data + torch.view_as_complex(batch.p)


def test_a_batch_is_a_function_of_seed_and_step():
    generator = SlotGenerator(Conditions(interferer=0.5, time_domain=0.5, cfo_hz=30.0))
    a = generator.batch(12, seed=3, step=7)
    generator.batch(12, seed=3, step=8)
    b = generator.batch(12, seed=3, step=7)
    c = generator.batch(12, seed=3, step=9)
    assert torch.equal(a.y, b.y) and torch.equal(a.bits, b.bits) and torch.equal(a.sir_db, b.sir_db)
    assert not torch.equal(a.bits, c.bits)


@pytest.mark.parametrize(
    "changes",
    [
        {"snr_db": (3.0, 3.0)},
        {"doppler_hz": (0.0, 10.0)},
        {"n_rx": 4},
        {"channels": ("TDL-B", "CDL-D")},
        {"mild": 1.0},
    ],
)
def test_a_generator_under_other_conditions_draws_what_a_new_one_does(changes):
    """Sionna's channel models know of some conditions, too."""
    first = Conditions(channels=("TDL-A", "CDL-B"), n_prb=6)
    drawn = SlotGenerator(first).under(**changes).batch(4, 1).of_layer(0)
    expected = SlotGenerator(replace(first, **changes)).batch(4, 1).of_layer(0)
    assert torch.equal(drawn.y, expected.y)
    assert torch.equal(drawn.drawn.doppler_hz, expected.drawn.doppler_hz)
    with pytest.raises(AttributeError):
        SlotGenerator(first).conditions = expected


def test_a_seeds_slots_have_symbols_of_one_length():
    """Published recipes and results were drawn so."""
    slot = SlotGenerator(Conditions(channels=("TDL-B",), n_prb=6)).batch(1, 1).config
    assert slot.n_samples() == 14 * (128 + 9)


def test_seeds_that_must_never_meet_are_distinct():
    assert {"EVALUATION", "VALIDATION", "INT8_VALIDATION"} < set(seeds.RESERVED)
    assert len(set(seeds.RESERVED.values())) == len(seeds.RESERVED)


def test_training_and_evaluation_channels_are_disjoint():
    assert not set(TRAINING_CHANNELS) & set(EVALUATION_CHANNELS)


@pytest.mark.parametrize("channel", ["TDL-A", "TDL-D", "CDL-B", "CDL-E"])
def test_channel_has_unit_mean_power(channel):
    h = SlotGenerator(Conditions(channels=(channel,))).batch(600, 1).of_layer(0).h
    power = (h.abs() ** 2).mean((1, 2, 3))
    assert abs(float(power.mean()) - 1) < 4 * float(power.std()) / 600**0.5 + 0.01


def test_snr_is_per_resource_element_and_antenna():
    batch = SlotGenerator(Conditions(**FAST).at(7.0)).batch(40, 1).of_layer(0)
    noise = torch.view_as_complex(batch.y) - batch.h * transmitted(batch)[:, None]
    assert float(10 * torch.log10(1 / noise.abs().square().mean())) == pytest.approx(7.0, abs=0.05)


def test_a_modulation_has_snrs_of_its_own():
    apart = {"QPSK": (-8.0, -4.0), "256QAM": (20.0, 30.0)}
    kinds = {"QPSK": 1.0, "16QAM": 1.0, "256QAM": 1.0}
    c = Conditions(**FAST, modulations=kinds, snr_db=(3.0, 9.0), snr_db_of=apart)
    seen = {}
    for batch in SlotGenerator(c).chunk(20, 20, seed=1):
        seen.setdefault(batch.config.modulation, []).append(batch.snr_db)
    for modulation, (low, high) in (apart | {"16QAM": (3.0, 9.0)}).items():
        snr_db = torch.cat(seen[modulation])
        assert low <= snr_db.min() and snr_db.max() <= high
        assert float(snr_db.mean()) == pytest.approx((low + high) / 2, abs=(high - low) / 6)
    assert {float(b.snr_db.mean()) for b in SlotGenerator(c.at(5.0)).chunk(4, 8, 1)} == {5.0}


def test_half_of_the_chunks_are_mild_in_delay_and_half_in_doppler():
    c = Conditions(n_prb=1, delay_spread_s=(100e-9, 1100e-9), doppler_hz=(0.0, 900.0), mild=0.5)
    generator, kinds = SlotGenerator(c), []
    for step in range(40):
        (batch,) = generator.chunk(24, 1, 2, step)
        delay_s, doppler_hz = batch.drawn.delay_spread_s.max(), batch.drawn.doppler_hz.max()
        assert delay_s < 200e-9 or delay_s > 600e-9
        assert doppler_hz < 90 or doppler_hz > 400
        kinds.append((bool(delay_s < 200e-9), bool(doppler_hz < 90)))
        moved = (batch.h[..., -1, :] - batch.h[..., 0, :]).abs().square().mean()
        assert (moved < 0.5) == (doppler_hz < 90)
    assert all(4 < kinds.count(kind) < 18 for kind in product((False, True), repeat=2))


def test_interferer_is_at_its_sir():
    c = Conditions(**FAST, interferer=1.0, sir_db=(3.0, 3.0)).at(60.0)
    batch = SlotGenerator(c).batch(400, 1).of_layer(0)
    rest = torch.view_as_complex(batch.y) - batch.h * transmitted(batch)[:, None]
    assert float(10 * torch.log10(1 / rest.abs().square().mean())) == pytest.approx(3.0, abs=0.4)
    assert torch.allclose(batch.sinr_db, torch.full((400,), 3.0), atol=0.01)


def test_time_domain_has_the_inter_carrier_interference_of_jakes_fading():
    """sum of the power that leaves a subcarrier: (pi fd T)^2 / 6 for a Jakes spectrum (Li, Cimini
    2001).
    """
    c = Conditions(channels=("TDL-A",), doppler_hz=(500.0, 500.0), time_domain=1.0).at(80.0)
    batch = SlotGenerator(c).batch(100, 1).of_layer(0)
    rest = torch.view_as_complex(batch.y) - batch.h * transmitted(batch)[:, None]
    inner = rest[..., 40:-40]  # subcarriers with neighbours on both sides
    measured = float(inner.abs().square().mean())
    expected = (torch.pi * 500 / 15e3) ** 2 / 6
    assert 0.8 * expected < measured < 1.2 * expected


def test_early_window_turns_the_subcarriers():
    still = dict(
        channels=("TDL-E",), doppler_hz=(0.0, 0.0), delay_spread_s=(1e-12, 1e-12), time_domain=1.0
    )
    h = SlotGenerator(Conditions(**still, timing_samples=(8.0, 8.0))).batch(4, 1).of_layer(0).h
    step = (h[..., 1:] * h[..., :-1].conj()).angle()
    assert torch.allclose(step, torch.full_like(step, -2 * torch.pi * 8 / 512), atol=1e-3)


def test_a_crop_has_the_channel_of_the_whole_slot():
    """An early window turns neighbouring subcarriers as much, however many there are of them."""
    still = dict(channels=("TDL-E",), doppler_hz=(0.0, 0.0), delay_spread_s=(1e-12, 1e-12))
    whole = Conditions(**still, time_domain=1.0, timing_samples=(8.0, 8.0))
    h = SlotGenerator(whole.cropped(8)).batch(4, 1).of_layer(0).h
    assert h.shape[-1] == 96
    step = (h[..., 1:] * h[..., :-1].conj()).angle()
    assert torch.allclose(step, torch.full_like(step, -2 * torch.pi * 8 / 512), atol=1e-3)


def test_residual_cfo_turns_the_symbols():
    still = dict(channels=("TDL-E",), doppler_hz=(0.0, 0.0), time_domain=1.0)
    h = SlotGenerator(Conditions(**still, cfo_hz=100.0)).batch(400, 1).of_layer(0).h
    turns = (h[:, :, 1:] * h[:, :, :-1].conj()).sum((1, 2, 3)).angle() / (
        2 * torch.pi * 548 / 7.68e6
    )
    assert float(turns.std()) == pytest.approx(100.0, rel=0.12)


def test_modulations_and_dmrs_are_drawn_by_weight():
    c = Conditions(
        channels=("TDL-B",),
        modulations={"QPSK": 1.0, "256QAM": 1.0},
        dmrs={(2,): 1.0, (2, 11): 1.0},
    )
    seen = {(b.config.modulation, b.config.dmrs) for b in SlotGenerator(c).chunk(1, 40, 1)}
    assert seen == {(m, d) for m in ("QPSK", "256QAM") for d in ((2,), (2, 11))}
