# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of slot that a recipe can ask for, against its description."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deeprx_common.modulation import MODULATIONS, constellation
from deeprx_common.slot import legal_dmrs
from deeprx_training.data.channels import SlotGenerator
from deeprx_training.data.conditions import LENGTHS, Conditions, Kinds
from deeprx_training.data.feed import BatchPlan, SlotCache
from deeprx_training.receivers.contract import check_taken
from deeprx_training.teaching import recipe as recipes

LISTS = {symbols for length in LENGTHS for symbols in legal_dmrs(length)}
EVERY = Conditions(
    channels=("TDL-B", "CDL-D"),
    n_prb=12,
    min_prb=1,
    carrier_prb=20,
    scs_khz={15: 1.0, 30: 1.0, 60: 1.0},
    n_rx=4,
    min_rx=1,
    n_symbols=dict.fromkeys(LENGTHS, 1.0),
    dmrs=dict.fromkeys(sorted(LISTS), 1.0),
    cdm_groups={1: 1.0, 2: 1.0},
    n_scid=0.5,
    users={1: 1.0, 2: 1.0},
    modulations=dict.fromkeys(MODULATIONS, 1.0),
    interferer=0.5,
    interferer_dmrs=0.5,
    time_domain=0.5,
    timing_samples=(-4.0, 12.0),
    cfo_hz=50.0,
    cell_ids=(0, 65535),
    standard=True,
)
TWO = Conditions(
    channels=("TDL-B",), n_prb=6, users={2: 1.0}, modulations={"QPSK": 1.0, "64QAM": 1.0}
)


def sent(slot, bits):
    """x complex64 [..., n_sym, n_sc] of the data REs; slot of one user."""
    points = torch.from_numpy(constellation(slot.modulation))
    label = (bits.long() * 2 ** torch.arange(slot.bits_per_symbol - 1, -1, -1)).sum(-1)
    return points[label] * torch.from_numpy(slot.data_mask)


def received(batch):
    """What the users' channels make of what they send, complex64 like y."""
    layers = [batch.of_layer(i) for i in range(batch.config.n_layers)]
    return sum(b.h * (sent(b.config, b.bits) + torch.view_as_complex(b.p))[:, None] for b in layers)


@pytest.fixture(scope="module")
def kinds():
    drawn = []
    for step in range(500):
        chunk = Kinds(EVERY, seed=1, step=step)
        drawn += [chunk.draw() for _ in range(2)]
    return drawn


def test_every_kind_of_slot_is_drawn_as_often_as_its_weight(kinds):
    slots = [kind.slot for kind in kinds]
    for seen, options in (
        ([slot.scs_khz for slot in slots], (15, 30, 60)),
        ([slot.n_prb for slot in slots], range(1, 13)),
        ([slot.n_symbols for slot in slots], LENGTHS),
        ([slot.cdm_groups for slot in slots], (1, 2)),
        ([slot.n_scid for slot in slots], (0, 1)),
        ([slot.n_layers for slot in slots], (1, 2)),
        ([slot.modulation for slot in slots], MODULATIONS),
        ([slot.users[-1].modulation for slot in slots if slot.n_layers > 1], MODULATIONS),
        ([kind.n_rx for kind in kinds], (1, 2, 3, 4)),
        ([kind.domain for kind in kinds], ("time", "frequency")),
    ):
        counts, mean = Counter(seen), len(seen) / len(options)
        assert set(counts) == set(options)
        # a chunk's two batches have one grid: twice the variance
        assert all(abs(n - mean) < 5 * (2 * mean) ** 0.5 for n in counts.values())
    assert {slot.dmrs for slot in slots} == LISTS
    assert {slot.first_prb for slot in slots} == set(range(20))
    assert {slot.carrier_prb for slot in slots} == {20}
    assert len({slot.dmrs_n_id for slot in slots}) > 900


ALONE = {(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3)}  # CDM groups and port


def test_users_have_the_ports_of_their_cdm_groups(kinds):
    ports = Counter(
        (kind.slot.cdm_groups, *(user.port for user in kind.slot.users)) for kind in kinds
    )
    assert set(ports) == ALONE | {(1, 0, 1), (2, 0, 1), (2, 0, 2)}
    assert 0.7 < ports[2, 0, 1] / ports[2, 0, 2] < 1.4
    for groups, port in ALONE:
        mean = 1000 / 2 / 2 / (2 * groups)
        assert abs(ports[groups, port] - mean) < 5 * mean**0.5
    others = [kind.interferer for kind in kinds]
    assert {(other.cdm_groups, other.users[0].port) for other in others} == ALONE


def test_standard_slots_are_of_any_number_and_have_the_standards_prefixes(kinds):
    for scs_khz in (15, 30, 60):
        slots = [kind.slot for kind in kinds if kind.slot.scs_khz == scs_khz]
        counts = Counter(slot.slot_number for slot in slots)
        assert set(counts) == set(range(slots[0].slots_per_frame))
        mean = len(slots) / len(counts)
        assert all(abs(n - mean) < 5 * mean**0.5 for n in counts.values())
    assert not any(kind.slot.equal_prefixes for kind in kinds)
    assert all(kind.slot.slot_number == kind.interferer.slot_number for kind in kinds)


def test_other_slots_are_number_0_on_port_0_with_equal_prefixes():
    for step in range(100):
        kind = Kinds(replace(EVERY, standard=False), 1, step).draw()
        for slot in (kind.slot, kind.interferer):
            assert slot.equal_prefixes and slot.slot_number == 0 and slot.users[0].port == 0


def test_an_interferer_has_its_own_dmrs_on_the_same_resource_blocks(kinds):
    place = ("n_prb", "first_prb", "carrier_prb", "scs_khz", "n_symbols")
    differs = {"dmrs": 0, "cdm_groups": 0, "n_scid": 0, "modulation": 0}
    for kind in kinds:
        slot, other = kind.slot, kind.interferer
        assert all(getattr(slot, key) == getattr(other, key) for key in place)
        assert other.n_layers == 1 and other.dmrs_n_id != slot.dmrs_n_id
        for key in differs:
            differs[key] += getattr(slot, key) != getattr(other, key)
    assert 0.2 < differs["cdm_groups"] / len(kinds) < 0.3  # half of half of them
    assert all(n > 0.15 * len(kinds) for n in differs.values())
    never = replace(EVERY, interferer_dmrs=0.0)
    for step in range(50):
        kind = Kinds(never, 1, step).draw()
        assert kind.interferer == replace(kind.slot.alone(0), dmrs_n_id=kind.interferer.dmrs_n_id)


@pytest.mark.parametrize("step", range(8))
def test_a_drawn_batch_is_what_its_slot_says(step):
    generator = SlotGenerator(replace(EVERY, interferer=0.0, snr_db=(10.0, 20.0), time_domain=0.0))
    for batch in generator.chunk(4, 2, seed=5, step=step):
        slot = batch.config
        grid = (slot.n_symbols, slot.n_sc)
        most = max(user.bits_per_symbol for user in slot.users)
        assert batch.y.shape[2:] == (*grid, 2) and 1 <= batch.y.shape[1] <= 4
        assert batch.p.shape == (4, slot.n_layers, *grid, 2)
        assert batch.bits.shape == (4, slot.n_layers, *grid, most)
        assert batch.h.shape == (4, slot.n_layers, batch.y.shape[1], *grid)
        assert torch.equal(batch.data, torch.from_numpy(slot.data_mask))
        pilots = torch.from_numpy(slot.pilots())
        assert all(torch.equal(torch.view_as_complex(p), pilots) for p in batch.p)
        for layer, user in enumerate(slot.users):
            assert not batch.bits[:, layer, ..., user.bits_per_symbol :].any()
        assert batch.drawn.channel.shape == (4, slot.n_layers)
        assert batch.drawn.interferer is None
        noise = torch.view_as_complex(batch.y) - received(batch)
        snr_db = -10 * torch.log10(noise.abs().square().mean((1, 2, 3)))
        res = noise[0].numel()
        assert (snr_db - batch.snr_db).abs().max() < 25 / res**0.5


def test_layers_have_unit_power_and_independent_channels():
    batch = SlotGenerator(replace(TWO, n_rx=2)).batch(800, 1)
    power = batch.h.abs().square().mean((3, 4)).mean(0)  # [layer, antenna]
    assert (power - 1).abs().max() < 0.12
    centre = batch.h[:, :, :, 7, 36]
    for a in range(2):
        for b in range(2):
            across = (centre[:, 0, a] * centre[:, 1, b].conj()).mean().abs()
            assert across < 3.5 / 800**0.5
    for layer in range(2):
        one = batch.of_layer(layer)
        x = sent(one.config, one.bits)[:, one.data]
        assert float(x.abs().square().mean()) == pytest.approx(1, abs=0.01)
        assert one.config.n_layers == 1 and one.h.shape == (800, 2, 14, 72)
    same = (batch.bits[:, 0, ..., :2] == batch.bits[:, 1, ..., :2]).float().mean()
    assert float(same) == pytest.approx(0.5, abs=0.01)
    assert not torch.equal(*batch.drawn.doppler_hz.unbind(1))


def test_the_interferer_sends_its_own_pilots_at_its_sir():
    c = replace(
        EVERY, n_prb=6, min_prb=0, carrier_prb=0, users={1: 1.0}, interferer=1.0,
        interferer_dmrs=1.0, time_domain=0.0, sir_db=(5.0, 5.0),
    ).at(70.0)  # fmt: skip
    kinds = set()
    powers = []
    for batch in SlotGenerator(c).chunk(60, 6, seed=2):
        other = batch.drawn.interferer
        rest = torch.view_as_complex(batch.y) - received(batch)
        pilots = torch.from_numpy(other.pilots()[0])
        at = torch.from_numpy(other.pilot_mask())
        expected = 10 ** (-5 / 20) * batch.h[:, 0].roll(1, 0) * pilots
        assert (rest - expected)[..., at].abs().max() < 0.01
        powers.append(rest[..., torch.from_numpy(other.data_mask)].abs().square().mean())
        kinds.add((other.dmrs, other.cdm_groups) == (batch.config.dmrs, batch.config.cdm_groups))
    assert False in kinds
    assert float(10 * torch.log10(1 / torch.stack(powers).mean())) == pytest.approx(5, abs=0.6)


@pytest.mark.parametrize("scs_khz", [30, 60])
def test_inter_carrier_interference_falls_with_the_spacing(scs_khz):
    """As (pi fd T)^2 / 6 for a Jakes spectrum (Li, Cimini 2001)."""
    c = Conditions(
        channels=("TDL-A",), doppler_hz=(900.0, 900.0), time_domain=1.0, scs_khz={scs_khz: 1.0}
    )
    batch = SlotGenerator(c.at(90.0)).batch(60, 1)
    rest = torch.view_as_complex(batch.y) - received(batch)
    measured = float(rest[..., 40:-40].abs().square().mean())
    expected = (torch.pi * 900 / (scs_khz * 1e3)) ** 2 / 6
    assert 0.75 < measured / expected < 1.25


def test_a_batch_of_every_kind_is_a_function_of_seed_and_step():
    generator = SlotGenerator(EVERY)
    first, again = (generator.chunk(4, 2, seed=3, step=7) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert a.config == b.config and a.drawn.interferer == b.drawn.interferer
        assert all(torch.equal(getattr(a, k), getattr(b, k)) for k in ("y", "p", "bits", "h"))
    assert generator.batch(4, seed=3, step=8).config != first[0].config


def test_users_bits_come_out_of_the_cache_and_kinds_never_share_one(tmp_path):
    device = torch.device("cpu")

    def cache(conditions):
        return SlotCache(tmp_path, BatchPlan(conditions, 4, 1, 0, 1, 1), device, "")

    batch = SlotGenerator(TWO).batch(4, 1)
    for _ in range(2):  # drawn, then read
        (stored,) = cache(TWO).chunk(0, lambda: [batch], device)
        assert stored.config == batch.config
        assert all(torch.equal(getattr(stored, k), getattr(batch, k)) for k in ("y", "p", "bits"))
        assert torch.equal(stored.of_layer(1).bits, batch.of_layer(1).bits)
    changes = (
        {"scs_khz": {30: 1.0}}, {"min_prb": 2}, {"carrier_prb": 9}, {"min_rx": 1},
        {"n_symbols": {13: 1.0}}, {"cdm_groups": {2: 1.0}}, {"n_scid": 1.0}, {"users": {1: 1.0}},
        {"interferer_dmrs": 1.0}, {"standard": True},
    )  # fmt: skip
    folders = {cache(replace(TWO, **change)).slots for change in ({}, *changes)}
    assert len(folders) == 1 + len(changes)


def test_resource_elements_of_a_run_are_the_mean_of_its_slots():
    assert Conditions().mean_re == 26 * 12 * 14
    c = Conditions(
        n_prb=30, min_prb=10, n_symbols={14: 3.0, 6: 1.0}, dmrs={(2,): 1.0, (2, 11): 1.0}
    )
    assert c.mean_re == 20 * 12 * 12


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('dmrs = { "2,9" = 1 }', "dmrs: expected lists of allocations of 14 symbols, found [2, 9]"),
        ("n_symbols = { 14 = 1, 9 = 1 }", "dmrs: expected some of [2], [2, 7], [3], [3, 7] for 9"),
        ("n_symbols = { 3 = 1 }", "expected some of 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, found"),
        ("scs_khz = { 120 = 1 }", "scs_khz.120: expected some of 15, 30, 60, found '120'"),
        ("cdm_groups = { 3 = 1 }", "cdm_groups.3: expected some of 1, 2, found '3'"),
        ("users = { 0 = 1 }", "users.0: expected some of 1, 2, found '0'"),
        ("users = { 1 = 0 }", "expected a weight above 0"),
        ("n_scid = 2", "n_scid: expected 1.0 or less"),
        ("min_prb = 27", "min_prb: expected 26 at most, found 27"),
        ("min_rx = 3", "min_rx: expected 2 at most, found 3"),
        ("carrier_prb = 20", "carrier_prb: expected 0 or at least 26, found 20"),
        ("cell_ids = [0, 65536]", "found 65536"),
        ("mild = 1.5", "mild: expected 1.0 or less"),
        ("snr_db_of = { 16QAM = [9.0, 3.0] }", "snr_db_of.16QAM: expected the smaller number"),
        ("snr_db_of = { BPSK = [3.0, 9.0] }", "snr_db_of.BPSK: expected 'QPSK', '16QAM'"),
    ],
)
def test_conditions_that_fit_no_slot_are_refused(line, says):
    with pytest.raises(ValueError) as error:
        recipes.conditions_of(f"[data]\n{line}\n")
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('dmrs = { "2,7,11" = 1 }', "data.dmrs: expected some of [2], [2, 11], [3], [3, 11], got"),
        ("n_symbols = { 13 = 1 }", "data.n_symbols: expected 14, got 13"),
        ("cdm_groups = { 1 = 1, 2 = 1 }", "data.cdm_groups: expected 1, got 2"),
        ("users = { 2 = 1 }", "data.users: expected 1, got 2: a takes no others"),
        ("n_prb = 5", "data.n_prb: expected 6 or more, got 5"),
        ("min_prb = 5", "data.n_prb: expected 6 or more, got 5"),
        ("min_rx = 1", "data.min_rx: expected 2, as many antennas as a has, found 1"),
    ],
)
def test_recipes_draw_what_their_nets_take(line, says):
    text = f'[[members]]\nname = "a"\nnet = {{ net = "HybridRx", channels = 4 }}\n[data]\n{line}\n'
    with pytest.raises(recipes.RecipeError) as error:
        recipes.parse(text, "r.toml")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_receivers_take_what_they_always_took():
    check_taken(Conditions(scs_khz={60: 1.0}, carrier_prb=106, dmrs={(3, 11): 1.0}, n_scid=0.5))


def test_the_documented_recipe_draws():
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "train.md").read_text()
    table = text.partition("```toml\n[data]\n")[2].partition("```")[0]
    kinds = [Kinds(recipes.conditions_of("[data]\n" + table), 1, i).draw() for i in range(200)]
    assert {kind.slot.scs_khz for kind in kinds} == {15, 30, 60}
    assert {len(kind.slot.dmrs) for kind in kinds} == {1, 2, 3, 4}
    assert {kind.slot.n_layers for kind in kinds} == {1, 2}
