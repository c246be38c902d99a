# SPDX-License-Identifier: GPL-3.0-or-later
"""A PuschRx as a model file: which slots it takes, and its weights as data."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from runtime import in_runtime, needs_the_blocks

from deeprx_common.examples import received_slots
from deeprx_common.model_archive import read_model_file
from deeprx_common.modulation import MODULATIONS
from deeprx_common.shipped import model_path
from deeprx_common.slot import SlotConfig, User, legal_dmrs
from deeprx_training.cli import main
from deeprx_training.data.channels import SlotGenerator
from deeprx_training.data.conditions import Conditions
from deeprx_training.receivers import weights
from deeprx_training.receivers.build import build, described
from deeprx_training.teaching.checkpoint import read_receiver

SPEC = {"net": "PuschRx", "channels": 4, "pilot_channels": 4, "basis": 3, "filters": 2}
CLOSE = {
    "float32": 1e-4,
    "bfloat16": 0.05,
    "int8": 0.05,
}  # RMS of the LLRs' difference over their RMS
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


def shaken(spec):
    """A net whose first weights have moved."""
    torch.manual_seed(1)
    net = build(spec)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return net.eval()


def kept(net, spec, folder):
    path = folder / "last.ckpt"
    specs = {"a": json.dumps(spec)}
    torch.save({"specs": specs, "nets": {"a": net.state_dict()}, "recipe_sha256": ""}, path)
    return str(path)


@pytest.fixture(scope="module")
def net():
    return shaken(SPEC)


@pytest.fixture(scope="module")
def checkpoint(net, tmp_path_factory):
    return kept(net, SPEC, tmp_path_factory.mktemp("run"))


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


@pytest.fixture(scope="module")
def in_int8(checkpoint, tmp_path_factory):
    return export_at("int8", checkpoint, tmp_path_factory)


@pytest.fixture(params=["float32", "bfloat16", "int8"])
def exported(request):
    """A model file, and slots with the net's LLRs."""
    return request.getfixturevalue(f"in_{request.param}")


def below_float32(precision, name, tensor):
    """A weight of a net of symbols as a file of this precision has it."""
    if precision != "int8":
        return tensor.to(getattr(torch, precision))
    if name.endswith(".bias") or ".net.net.0." in name:  # of first layers
        return tensor
    step = tensor.abs().amax((1, 2, 3), keepdim=True) / 127
    return (tensor / step).round() * step


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
    assert about["requires"] == [] and about["quantized_engine"] is None
    carried, expected = weights.read(archive), net.state_dict()
    for name, tensor in expected.items():
        if ".net.net." in name and name.startswith(("rounds", "reliability")):
            expected[name] = below_float32(about["precision"], name, tensor)
    assert carried.keys() == expected.keys()
    assert all(torch.equal(carried[name], tensor) for name, tensor in expected.items())
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
for engine in {}, {"trust": [path]}, {"trust": [path], "engine": "torchscript"}:
    print(deeprx.Engine(path, **engine, **how).description)
"""


def write_received(net, batch, path):
    """A batch as RECEIVE takes it, with the LLRs of PyTorch's net."""
    bits = [user.bits_per_symbol for user in batch.config.users]
    with torch.no_grad():
        llr = net(batch.y, batch.p, batch.data, bits)[:, :, batch.data].numpy()
    np.savez(
        path,
        slot=json.dumps(batch.config.as_dict()),
        y=batch.y.numpy(),
        p=batch.p.numpy(),
        llr=llr,
        bits=batch.bits[:, :, batch.data].numpy(),
        is_bit=np.arange(max(bits))
        < np.array(bits)[None, :, None, None] + np.zeros_like(llr, bool),
    )
    return str(path)


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
        files.append(write_received(net, batch, tmp_path / f"{step}.npz"))
        config, bits = batch.config, [user.bits_per_symbol for user in batch.config.users]
        kinds |= {("layers", config.n_layers), ("antennas", batch.y.size(1)), *zip(bits)}
        kinds |= {("groups", config.cdm_groups), ("dmrs", len(config.dmrs))}
    assert len(kinds) == 2 + 4 + 4 + 2 + 4
    run = in_runtime("-c", RECEIVE, path, *files, text=True)
    assert not run.returncode, run.stderr
    *slots, stranger, trusted, program = run.stdout.splitlines()
    apart, wrong, expected = np.array([line.split() for line in slots], float).T
    assert len(apart) == 40 and apart.max() < CLOSE[precision], apart
    assert wrong.sum() <= 1.01 * expected.sum() and expected.sum() > 1000
    assert stranger == trusted and stranger.startswith("native, ")
    computed = "float32" if precision == "int8" else precision  # where it rounds
    assert program.startswith("TorchScript ") and program.split(", ")[1] == computed


@needs_the_blocks
@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_the_native_engine_computes_as_many_rounds_as_the_net_has(rounds, tmp_path):
    spec = SPEC | {"rounds": rounds}
    net, path = shaken(spec), str(tmp_path / "m.pt")
    assert main(["export", kept(net, spec, tmp_path), path]) == 0
    generator = SlotGenerator(EVERY_KIND)
    files = [
        write_received(net, generator.batch(2, seed=4, step=step), tmp_path / f"{step}.npz")
        for step in range(6)
    ]
    run = in_runtime("-c", RECEIVE, path, *files, text=True)
    assert not run.returncode, run.stderr
    apart = [float(line.split()[0]) for line in run.stdout.splitlines()[: len(files)]]
    assert max(apart) < CLOSE["float32"], apart


@needs_the_blocks
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_a_bit_in_a_thousand_wrong_is_at_most_a_hundredth_more(precision, tmp_path):
    shipped, path = str(model_path("deeprx-pusch")), str(tmp_path / "m.pt")
    assert main(["export", shipped, path, "--precision", precision]) == 0
    net = read_receiver(shipped, rebuild=True).net
    steady = Conditions(
        channels=("TDL-B", "CDL-C"),
        n_prb=9,
        delay_spread_s=(10e-9, 300e-9),
        doppler_hz=(0.0, 50.0),
        standard=True,
    )
    for modulation, snr_db in {"QPSK": 14.0, "16QAM": 20.5, "64QAM": 26.3, "256QAM": 32.0}.items():
        generator = SlotGenerator(replace(steady, modulations={modulation: 1.0}).at(snr_db))
        batches = [generator.batch(128, seed=5, step=step) for step in range(4)]
        files = [
            write_received(net, batch, tmp_path / f"{modulation}{i}.npz")
            for i, batch in enumerate(batches)
        ]
        run = in_runtime("-c", RECEIVE, path, *files, text=True)
        assert not run.returncode, run.stderr
        slots = [line.split() for line in run.stdout.splitlines()[: len(files)]]
        apart, wrong, expected = np.array(slots, float).T
        bits = sum(batch.bits[:, :, batch.data].numel() for batch in batches)
        print(f"{modulation}: {wrong.sum():.0f} for {expected.sum():.0f} of {bits}, {apart.max()}")
        assert apart.max() < CLOSE[precision]
        assert 5e-4 < expected.sum() / bits < 2e-3 and wrong.sum() <= 1.01 * expected.sum()


def test_int8_of_another_net_is_refused(tmp_path, capsys):
    path = tmp_path / "b.pt"
    assert main(["export", "baseline", str(path), "--precision", "int8"]) == 2
    said = capsys.readouterr().err
    assert "--precision int8: expected a PuschRx, found a Baseline; ./dev train quantise" in said
    assert said.count("\n") == 1 and not path.exists()
