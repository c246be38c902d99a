# SPDX-License-Identifier: GPL-3.0-or-later
"""A PuschRx as a model file: which slots it takes, and its weights as data."""

import json

import numpy as np
import pytest
import torch
from runtime import in_runtime, needs_the_blocks

from deeprx_common.examples import received_slots
from deeprx_common.model_archive import read_model_file
from deeprx_common.modulation import MODULATIONS
from deeprx_common.slot import SlotConfig, User, legal_dmrs
from deeprx_training.cli import main
from deeprx_training.data.channels import SlotGenerator
from deeprx_training.data.conditions import Conditions
from deeprx_training.receivers import weights
from deeprx_training.receivers.build import build, described

SPEC = {"net": "PuschRx", "channels": 4, "pilot_channels": 4, "basis": 3, "filters": 2}
CLOSE = {"float32": 1e-4, "bfloat16": 0.05}  # RMS of the LLRs' difference over their RMS
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


def export_at(precision, checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    path, parity = str(folder / "m.pt"), str(folder / "m.npz")
    how = ["--parity", parity, "--precision", precision]
    assert main(["export", checkpoint, path, *how]) == 0
    return path, parity


@pytest.fixture(scope="module")
def in_float32(checkpoint, tmp_path_factory):
    return export_at("float32", checkpoint, tmp_path_factory)


@pytest.fixture(scope="module")
def in_bfloat16(checkpoint, tmp_path_factory):
    return export_at("bfloat16", checkpoint, tmp_path_factory)


@pytest.fixture(params=["float32", "bfloat16"])
def exported(request):
    """A model file, and slots with the net's LLRs."""
    return request.getfixturevalue(f"in_{request.param}")


def test_without_a_recipe_it_takes_every_slot(net, exported):
    path = exported[0]
    archive = read_model_file(path)
    about = archive.metadata
    assert (about["n_rx"], about["layers"], about["cdm_groups"]) == ([1, 2, 3, 4], [1, 2], [1, 2])
    assert about["n_prb"] == [1, 273] and about["scs_khz"] == [15, 30, 60]
    assert about["n_sym"] == list(range(4, 15)) and about["n_dmrs"] == [1, 2, 3, 4]
    legal = {symbols for n in range(4, 15) for symbols in legal_dmrs(n)}
    assert {tuple(symbols) for symbols in about["dmrs"]} == legal
    assert about["engines"] == ["torchscript", "native"] and about["net"] == described(SPEC)
    carried, precision = weights.read(archive), getattr(torch, about["precision"])
    for name, tensor in net.state_dict().items():
        of_symbols = ".net.net." in name and name.startswith(("rounds", "reliability"))
        assert torch.equal(carried[name], tensor.to(precision) if of_symbols else tensor)
    users = (User("QPSK"), User("64QAM", port=2))
    slot = SlotConfig(n_prb=3, users=users, cdm_groups=2, n_symbols=9, dmrs=(2, 7))
    y, p, d = map(torch.from_numpy, received_slots(slot, 4, 2))
    with torch.no_grad():
        expected = net(y, p, d, [2, 6])
        computed = torch.jit.load(path)(y, p, d, [2, 6])
    close = 1e-5 if about["precision"] == "float32" else 0.05
    assert (computed - expected).norm() < close * expected.norm()


def test_with_a_recipe_it_takes_the_slots_that_are_drawn(checkpoint, tmp_path):
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in SPEC.items())
    recipe, path = tmp_path / "r.toml", tmp_path / "m.pt"
    recipe.write_text(RECIPE.format(net=lines))
    assert main(["export", checkpoint, str(path), "--recipe", str(recipe)]) == 0
    about = read_model_file(path).metadata
    assert (about["n_rx"], about["layers"], about["cdm_groups"]) == ([1, 2], [1], [2])
    assert (about["scs_khz"], about["n_sym"]) == ([30], [13, 14])
    assert about["dmrs"] == [[2, 7, 11], [2, 11]] and about["trained"]["n_rx"] == [1, 2]


EVERY_KIND = Conditions(
    channels=("TDL-B", "CDL-C"),
    n_prb=9,
    min_prb=1,
    n_rx=4,
    min_rx=1,
    scs_khz={15: 1.0, 30: 1.0, 60: 1.0},
    n_symbols=dict.fromkeys(range(4, 15), 1.0),
    dmrs={symbols: 1.0 for n in range(4, 15) for symbols in legal_dmrs(n)},
    cdm_groups={1: 1.0, 2: 1.0},
    users={1: 1.0, 2: 1.0},
    modulations=dict.fromkeys(MODULATIONS, 1.0),
    snr_db=(-6.0, 34.0),
    interferer=0.3,
    sir_db=(0.0, 36.0),
    standard=True,
)
RECEIVE = """
import json, sys
import numpy as np
from gnuradio import deeprx
path, *files = sys.argv[1:]
for file in files:
    slots = np.load(file)
    config = deeprx.SlotConfig.from_dict(json.loads(str(slots["slot"])))
    y, p, llr = slots["y"], slots["p"], slots["llr"]
    how = {"slot": config, "n_rx": y.shape[1], "max_batch": len(y)}
    engine = deeprx.Engine(path, engine="native", **how)
    data = engine.infer(y, p)[:, :, config.data_mask][..., :llr.shape[-1]]
    wrong = [((z > 0) != slots["bits"])[slots["is_bit"]].sum() for z in (data, llr)]
    print(np.linalg.norm(data - llr) / np.linalg.norm(llr), *wrong)
for trust in [], [path]:
    print(deeprx.Engine(path, trust=trust, **how).description)
"""


@needs_the_blocks
@pytest.mark.parametrize("engine", ["native", "torchscript"])
def test_the_block_gives_the_nets_llrs(engine, exported):
    run = in_runtime("-m", "gnuradio.deeprx", "parity", *exported, "--engine", engine, text=True)
    assert run.returncode == 0 and ": the same receiver" in run.stdout, run


@needs_the_blocks
def test_the_native_engine_gives_the_nets_llrs_of_every_kind_of_slot(net, exported, tmp_path):
    path = exported[0]
    precision = read_model_file(path).metadata["precision"]
    generator = SlotGenerator(EVERY_KIND)
    kinds, files = set(), []
    for step in range(40):
        batch = generator.batch(2, seed=3, step=step)
        config, bits = batch.config, [user.bits_per_symbol for user in batch.config.users]
        with torch.no_grad():
            llr = net(batch.y, batch.p, batch.data, bits)
        files.append(str(tmp_path / f"{step}.npz"))
        np.savez(
            files[-1],
            slot=json.dumps(config.as_dict()),
            y=batch.y.numpy(),
            p=batch.p.numpy(),
            llr=llr[:, :, batch.data].numpy(),
            bits=batch.bits[:, :, batch.data].numpy(),
            is_bit=np.arange(max(bits))
            < np.array(bits)[None, :, None, None]
            + np.zeros_like(llr[:, :, batch.data].numpy(), bool),
        )
        kinds |= {("layers", config.n_layers), ("antennas", batch.y.size(1)), *zip(bits)}
        kinds |= {("groups", config.cdm_groups), ("dmrs", len(config.dmrs))}
    assert len(kinds) == 2 + 4 + 4 + 2 + 4
    run = in_runtime("-c", RECEIVE, path, *files, text=True)
    assert not run.returncode, run.stderr
    *slots, stranger, trusted = run.stdout.splitlines()
    apart, wrong, expected = np.array([line.split() for line in slots], float).T
    assert len(apart) == 40 and apart.max() < CLOSE[precision], apart
    assert wrong.sum() <= 1.01 * expected.sum() and expected.sum() > 1000
    assert stranger == trusted and stranger.startswith("native, ")
