# SPDX-License-Identifier: GPL-3.0-or-later
"""Model files read as data: weights without the program."""

import json
import resource
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hostile import archives, files

from deeprx_common.model_archive import read_model_file
from deeprx_training.files import TrainingError
from deeprx_training.receivers import build, weights
from deeprx_training.teaching.checkpoint import load_receiver

GIANT = {"net": "HybridRx", "channels": 2048, "dilations": [[1, 1]] * 64}  # 19 GB
MODELS = Path(__file__).parents[2] / "models"


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.pt")), ids=lambda path: path.stem)
def test_weights_are_those_of_the_program(path):
    archive = read_model_file(path)
    tensors = weights.of_program(archive)
    expected = torch.jit.load(str(path)).state_dict()
    assert expected.keys() <= tensors.keys()
    for key, tensor in expected.items():
        assert tensor.dtype == tensors[key].dtype and torch.equal(tensor, tensors[key])
    carried = weights.read(archive)
    if path.stem.startswith("baseline"):  # no net
        assert carried is None
    else:
        assert carried.keys() == expected.keys()
        for key, tensor in expected.items():
            assert tensor.dtype == carried[key].dtype and torch.equal(tensor, carried[key])


def stranger(path, net):
    metadata = archives.METADATA | {"net": net}
    path.write_bytes(archives.model(json=json.dumps(metadata).encode()))
    return str(path)


def test_a_file_imports_no_module_that_it_names(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    path = stranger(tmp_path / "m.pt", {"net": "planted:Net"})
    with pytest.raises(TrainingError, match="is of a net that is none of DeepRx"):
        load_receiver(path, rebuild=True)
    assert "planted" not in sys.modules


@pytest.mark.parametrize(
    "net",
    [
        "DeepRx", 3, [], {"net": []}, {"net": "DeepRx", "width": 1e9},
        {"net": "DeepRx", "width": "x" * 3000}, {"net": "DeepRx", "x" * 3000: 1},
    ],
)  # fmt: skip
def test_a_net_that_is_none_is_one_line(tmp_path, net):
    checkpoint(tmp_path / "last.ckpt", net)
    for path in (stranger(tmp_path / "m.pt", net), str(tmp_path / "last.ckpt")):
        with pytest.raises(TrainingError) as error:
            load_receiver(path, rebuild=True)
        assert str(error.value).isprintable() and len(str(error.value)) < 1000


@pytest.fixture
def little_memory():
    """Half a GiB more than there is: enough for any file here."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(
        resource.RLIMIT_AS, (pages * resource.getpagesize() + (512 << 20), limits[1])
    )
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def checkpoint(path, spec, **net):
    state = {"recipe_sha256": "", "specs": {"a": json.dumps(spec)}, "nets": {"a": net}}
    torch.save(state, path)


def checkpoint_without_weights(path):
    checkpoint(path, GIANT)


def checkpoint_of_one_element(path):
    with build._Unallocated():
        net = build.build(GIANT)
    one = torch.zeros(1)
    checkpoint(path, GIANT, **{n: one.expand(w.shape) for n, w in net.state_dict().items()})


def checkpoint_that_grows(path):
    """As its zeros are deflated."""
    checkpoint(path, {"net": "HybridRx"}, w=torch.zeros(1 << 20))
    records = files.records(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)


def model_of_another_net(path):
    records = files.records(MODELS / "deeprx-pusch-small.pt")
    about = next(name for name in records if name.endswith("/deeprx.json"))
    records[about] = json.dumps(json.loads(records[about]) | {"net": GIANT}).encode()
    files.write(path, records)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (checkpoint_without_weights, "the weights of a are not those of the net that it names"),
        (checkpoint_of_one_element, "expected a checkpoint of a training run, found something"),
        (checkpoint_that_grows, "expected a checkpoint of a training run, found something"),
        (model_of_another_net, "the weights of HybridRx are not those of the net that it names"),
    ],
)
def test_a_small_file_takes_no_more_memory_than_it_has(write, says, tmp_path, request):
    path = tmp_path / ("m.pt" if "model" in write.__name__ else "last.ckpt")
    write(path)
    request.getfixturevalue("little_memory")
    with pytest.raises(TrainingError, match=says) as error:
        load_receiver(str(path), rebuild=True)
    assert str(error.value).isprintable() and "memory" not in str(error.value)


def test_weights_are_real_numbers_and_nothing_else_is_obeyed(tmp_path):
    net = build.build({"net": "HybridRx"})
    given = net.state_dict()
    given._metadata = 5
    loaded = build.build_with({"net": "HybridRx"}, given)
    assert all(torch.equal(w, given[name]) for name, w in loaded.state_dict().items())
    name = next(iter(given))
    checkpoint(tmp_path / "last.ckpt", {"net": "HybridRx"}, **given | {name: given[name] + 0j})
    says = f"expected torch.float32 in {name}, found torch.complex64"
    with pytest.raises(TrainingError, match=says):
        load_receiver(str(tmp_path / "last.ckpt"), rebuild=True)


def test_a_program_whose_tensors_repeat_an_element_has_no_weights_to_write(tmp_path, request):
    wide = archives.tensor(size=(1 << 28,), stride=(0,))
    (tmp_path / "m.pt").write_bytes(archives.model(data=archives.module(w=wide)))
    archive = read_model_file(tmp_path / "m.pt")
    request.getfixturevalue("little_memory")
    with pytest.raises(
        ValueError, match=r"expected tensors of at most \d+ bytes, found 1073741824"
    ):
        weights.of_program(archive)
