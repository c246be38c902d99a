# SPDX-License-Identifier: GPL-3.0-or-later
"""A PuschRx as a model file: which slots it takes, and its weights as data."""

import json

import pytest
import torch

from deeprx_common.examples import received_slots
from deeprx_common.model_archive import read_model_file
from deeprx_common.slot import SlotConfig, User, legal_dmrs
from deeprx_training.cli import main
from deeprx_training.receivers import weights
from deeprx_training.receivers.build import build, described

SPEC = {"net": "PuschRx", "channels": 4, "pilot_channels": 4, "basis": 3, "filters": 2}
RECIPE = """steps = 1
batch = 1
[data]
min_rx = 1
n_rx = 2
users = {{ 1 = 1.0, 2 = 0.0 }}
cdm_groups = {{ 1 = 0.0, 2 = 1.0 }}
n_symbols = {{ 14 = 1.0, 13 = 1.0 }}
dmrs = {{ "2,11" = 1.0, "2,7,11" = 1.0, "2" = 0.0 }}
scs_khz = {{ 30 = 1.0 }}
[[members]]
name = "a"
[members.net]
{net}
"""


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(1)
    net = build(SPEC)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return net.eval()


@pytest.fixture(scope="module")
def checkpoint(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    specs = {"a": json.dumps(SPEC)}
    torch.save({"specs": specs, "nets": {"a": net.state_dict()}, "recipe_sha256": ""}, path)
    return str(path)


def test_without_a_recipe_it_takes_every_slot(net, checkpoint, tmp_path, capsys):
    path = tmp_path / "m.pt"
    assert main(["export", checkpoint, str(path)]) == 0
    assert "TorchScript only" not in capsys.readouterr().out
    archive = read_model_file(path)
    about = archive.metadata
    assert (about["n_rx"], about["layers"], about["cdm_groups"]) == ([1, 2, 3, 4], [1, 2], [1, 2])
    assert about["n_prb"] == [1, 273] and about["scs_khz"] == [15, 30, 60]
    assert about["n_sym"] == list(range(4, 15)) and about["n_dmrs"] == [1, 2, 3, 4]
    legal = {symbols for n in range(4, 15) for symbols in legal_dmrs(n)}
    assert {tuple(symbols) for symbols in about["dmrs"]} == legal
    assert about["engines"] == ["torchscript", "native"] and about["net"] == described(SPEC)
    carried = weights.read(archive)
    assert all(torch.equal(carried[name], tensor) for name, tensor in net.state_dict().items())
    users = (User("QPSK"), User("64QAM", port=2))
    slot = SlotConfig(n_prb=3, users=users, cdm_groups=2, n_symbols=9, dmrs=(2, 7))
    y, p, d = map(torch.from_numpy, received_slots(slot, 4, 2))
    with torch.no_grad():
        expected = net(y, p, d, [2, 6])
        found = torch.jit.load(path)(y, p, d, [2, 6])
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_with_a_recipe_it_takes_the_slots_that_are_drawn(checkpoint, tmp_path):
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in SPEC.items())
    recipe, path = tmp_path / "r.toml", tmp_path / "m.pt"
    recipe.write_text(RECIPE.format(net=lines))
    assert main(["export", checkpoint, str(path), "--recipe", str(recipe)]) == 0
    about = read_model_file(path).metadata
    assert (about["n_rx"], about["layers"], about["cdm_groups"]) == ([1, 2], [1], [2])
    assert (about["scs_khz"], about["n_sym"]) == ([30], [13, 14])
    assert about["dmrs"] == [[2, 7, 11], [2, 11]] and about["trained"]["n_rx"] == [1, 2]
