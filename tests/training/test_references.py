# SPDX-License-Identifier: GPL-3.0-or-later
"""Classical receivers and perfect CSI of every kind of slot: against the C++ ones, and beside each
other.
"""

import json

import numpy as np
import pytest
import torch
from runtime import in_runtime, needs_the_blocks
from test_kinds import EVERY

from deeprx_common.modulation import MODULATIONS, constellation
from deeprx_common.shipped import CLASSICAL
from deeprx_training.data.channels import SlotGenerator, bit_errors
from deeprx_training.data.conditions import Conditions
from deeprx_training.receivers.classical import Demapper
from deeprx_training.receivers.references import (
    classical,
    classical_names,
    interference,
    perfect_csi,
)

NATIVE = """
import json, sys
import numpy as np
from deeprx_common.slot import SlotConfig
from gnuradio.deeprx.deeprx_python import ClassicalReceiver
given, out = np.load(sys.argv[1]), {}
for i, slot in enumerate(json.loads(str(given["slots"]))):
    slot = SlotConfig.from_dict(slot)
    for name in json.loads(sys.argv[3]):
        y = given[f"y{i}"]
        try:
            receiver = ClassicalReceiver(slot, y.shape[1], name)
        except ValueError:
            continue
        results = [(receiver.infer(grid, given[f"p{i}"]), *receiver.estimate()) for grid in y]
        for what, values in zip(("llr", "h", "noise"), zip(*results)):
            out[f"{what}{i} {name}"] = np.stack(values)
np.savez(sys.argv[2], **out)
"""


def bits_of(batch):
    return [user.bits_per_symbol for user in batch.config.users]


def names_of(batch):
    return classical_names(batch.config.n_layers, batch.y.size(1))


@pytest.fixture(scope="module")
def drawn():
    """A few slots of many kinds: every number of antennas, users, DMRS symbols, groups, symbols."""
    generator = SlotGenerator(EVERY)
    return [generator.batch(2, seed=3, step=step) for step in range(120)]


@pytest.fixture(scope="module")
def native(drawn, tmp_path_factory):
    """What the C++ receivers make of them, by what and slot."""
    folder = tmp_path_factory.mktemp("native")
    grids = {f"y{i}": batch.y.numpy() for i, batch in enumerate(drawn)}
    pilots = {f"p{i}": batch.p[0].numpy() for i, batch in enumerate(drawn)}
    slots = json.dumps([batch.config.as_dict() for batch in drawn])
    np.savez(folder / "given.npz", slots=slots, **grids, **pilots)
    files = [str(folder / name) for name in ("given.npz", "out.npz")]
    in_runtime("-c", NATIVE, *files, json.dumps(CLASSICAL), check=True)
    return np.load(files[1])


def apart(a, b):
    """RMS of the difference over the RMS."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@needs_the_blocks
@torch.inference_mode()
@pytest.mark.parametrize("name", CLASSICAL)
def test_every_slot_is_received_as_in_cpp(drawn, native, name):
    receiver = classical(name)
    for i, batch in enumerate(drawn):
        if name not in names_of(batch):
            assert f"llr{i} {name}" not in native
            continue
        llr = receiver(batch.y, batch.p, batch.data, bits_of(batch)).numpy()
        h, noise = receiver.estimate(batch.y, batch.p, batch.data)
        assert apart(torch.view_as_complex(h).numpy(), native[f"h{i} {name}"]) < 1e-6, batch.config
        assert apart(noise.numpy(), native[f"noise{i} {name}"]) < 1e-5, batch.config
        expected = native[f"llr{i} {name}"]
        if name == "gnb":  # where rounding takes the next of 8-bit steps
            steps = np.abs(llr - expected)
            assert np.mean(steps > 1e-3) < 1e-3 and steps.max() < 0.21, batch.config
        else:
            assert apart(llr, expected) < 1e-4, batch.config


def test_the_slots_are_of_every_kind(drawn):
    slots = [batch.config for batch in drawn]
    assert {batch.y.size(1) for batch in drawn} == {1, 2, 3, 4}
    assert {tuple(user.port for user in slot.users) for slot in slots} == {
        (0,), (1,), (2,), (3,), (0, 1), (0, 2)
    }  # fmt: skip
    assert {(len(slot.dmrs), slot.cdm_groups) for slot in slots} == {
        (n, groups) for n in (1, 2, 3, 4) for groups in (1, 2)
    }
    assert {slot.n_symbols for slot in slots} == set(range(4, 15))
    assert {1, 12} <= {slot.n_prb for slot in slots}
    assert {user.modulation for slot in slots for user in slot.users} == set(MODULATIONS)


@torch.inference_mode()
@pytest.mark.parametrize("name", CLASSICAL)
def test_they_script(drawn, name):
    receiver = classical(name)
    script = torch.jit.script(receiver)
    for batch in (b for b in drawn[:20] if name in names_of(b)):
        given = batch.y, batch.p, batch.data
        assert apart(script(*given, bits_of(batch)), receiver(*given, bits_of(batch))) < 1e-6
        for one, other in zip(script.estimate(*given), receiver.estimate(*given), strict=True):
            assert apart(one, other) < 1e-6


@torch.inference_mode()
@pytest.mark.parametrize("scale", [1e-4, 1e4])
@pytest.mark.parametrize("name", CLASSICAL)
def test_scale_changes_nothing(drawn, name, scale):
    receiver = classical(name)
    for batch in (b for b in drawn[:20] if name in names_of(b)):
        llrs = [receiver(s * batch.y, batch.p, batch.data, bits_of(batch)) for s in (1, scale)]
        assert apart(llrs[1], llrs[0]) < 1e-3


def test_one_antenna_cannot_separate_users_by_zero_forcing(drawn):
    batch = next(b for b in drawn if "gnb" not in names_of(b))
    with pytest.raises(ValueError, match="needs 2 antennas or more, got 1"):
        classical("gnb")(batch.y, batch.p, batch.data, bits_of(batch))


TWO_USERS = {"users": {2: 1.0}, "n_rx": 4, "modulations": {"QPSK": 1.0, "64QAM": 1.0}}


def wrong(llr, batch):
    """Each layer's bits that are decided wrongly."""
    layers = [batch.of_layer(i) for i in range(batch.config.n_layers)]
    return [int(bit_errors(llr[:, i], layer).sum()) for i, layer in enumerate(layers)]


@torch.inference_mode()
@pytest.mark.parametrize(
    "conditions",
    [{}, TWO_USERS, TWO_USERS | {"cdm_groups": {2: 1.0}}, {"interferer": 1.0}],
    ids=str,
)
def test_nothing_is_better_than_perfect_csi(conditions):
    c = Conditions(channels=("TDL-B",), n_prb=8, sir_db=(0.0, 0.0), **conditions)
    for step in range(3):
        batch = SlotGenerator(c.at(9.0)).batch(48, seed=1, step=step)
        best = wrong(perfect_csi(batch, Demapper()), batch)
        for name in CLASSICAL:
            llr = classical(name)(batch.y, batch.p, batch.data, bits_of(batch))
            for least, errors in zip(best, wrong(llr, batch), strict=True):
                assert least < errors, name


@pytest.mark.parametrize("domain", [0.0, 1.0])
def test_interferers_are_known_to_perfect_csi(domain):
    """What is received beside the users has the covariance that it reckons with, and LLRs promise
    the errors they make.
    """
    c = Conditions(
        channels=("TDL-B",), n_prb=4, interferer=0.7, interferer_dmrs=1.0, sir_db=(-6.0, 6.0),
        cdm_groups={1: 1.0, 2: 1.0}, time_domain=domain, doppler_hz=(5.0, 5.0), standard=True,
    ).at(40.0)  # fmt: skip
    for step in range(4):
        batch = SlotGenerator(c).batch(64, seed=2, step=step)
        sent = torch.view_as_complex(batch.p).clone()
        points = torch.from_numpy(constellation(batch.config.modulation))
        label = (batch.bits[:, 0].long() * 2 ** torch.arange(3, -1, -1)).sum(-1)
        sent[:, 0, batch.data] = points[label][:, batch.data]
        rest = torch.view_as_complex(batch.y) - (batch.h * sent[:, :, None]).sum(1)
        g = interference(batch)
        expected = g.abs().square().sum((0, 1, 3))
        assert (rest.abs().square().sum((0, 1, 3)) / expected - 1).abs().max() < 0.25
        # what is left across the interferers' direction is noise
        across = rest[:, 0] * g[:, 1] - rest[:, 1] * g[:, 0]
        across = across.abs().square() / g.abs().square().sum(1)
        assert across.nanmean() < (2e-4 if domain == 0 else 3e-3)
        llr = perfect_csi(batch, Demapper())[:, 0][:, batch.data].flatten(1)
        bits = batch.bits[:, 0][:, batch.data].flatten(1)
        promised = torch.sigmoid(-llr.abs()).mean()
        assert ((llr > 0) != bits.bool()).double().mean() < 1.3 * promised + 2e-4
