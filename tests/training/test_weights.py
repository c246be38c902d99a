# SPDX-License-Identifier: GPL-3.0-or-later
"""Model files read as data: weights without the program."""

import json
import sys
from pathlib import Path

import pytest
import torch
from hostile import archives

from deeprx_common.model_archive import read_model_file
from deeprx_training.files import TrainingError
from deeprx_training.receivers import weights
from deeprx_training.teaching.checkpoint import load_receiver

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


@pytest.mark.parametrize("net", ["DeepRx", 3, [], {"net": []}, {"net": "DeepRx", "width": 1e9}])
def test_a_net_that_is_none_is_one_line(tmp_path, net):
    with pytest.raises(TrainingError) as error:
        load_receiver(stranger(tmp_path / "m.pt", net), rebuild=True)
    assert str(error.value).isprintable()
