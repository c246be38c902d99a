# SPDX-License-Identifier: GPL-3.0-or-later
"""Training loads no stranger's program: one line, nothing written."""

import os
from pathlib import Path

import pytest
import torch
from hostile import files
from hostile.files import FILES
from hostile.serve import Victim

from deeprx_common.model_archive import ModelFileError, read_model_file
from deeprx_common.shipped import model_path
from deeprx_training.cli import main
from deeprx_training.evaluation import named
from deeprx_training.experiments import file as experiments
from deeprx_training.teaching import recipe as recipes


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    log = tmp_path_factory.mktemp("victim") / "said"
    victim = Victim(Path(__file__).parents[1] / "hostile" / "training_victim.py", log)
    yield victim
    victim.end()


@pytest.mark.parametrize("name", FILES)
def test_one_line_nothing_written_and_alive(name, victim, tmp_path):
    """By every command that a model file is given to, as far as its archive is read at all."""
    (tmp_path / "written").mkdir()
    file = tmp_path / "hostile.pt"
    FILES[name](str(file), tmp_path / "written" / "by_the_program")
    as_data = "its weights cannot be used apart from its program"
    reasons = {"evaluate": f"--trust {file}", "export": as_data, "quantise": as_data}
    try:
        read_model_file(file)
    except ModelFileError as refusal:
        reasons = dict.fromkeys(reasons, str(refusal))
    for command, reason in reasons.items():
        answer = victim.ask(command, file, 30)
        assert answer["verdict"] == "refused"
        assert answer["said"].isprintable() and reason in answer["said"]
    assert "Traceback" not in victim.log.read_text()
    assert not list((tmp_path / "written").iterdir())


@pytest.fixture
def disguised(tmp_path):
    """A file of a net that is known, with a program of its own, which writes where it is loaded."""
    path, written = tmp_path / "disguised.pt", tmp_path / "written"
    entries = files.records(model_path("deeprx-slim-0"))
    code = next(name for name in entries if name.endswith("/realtime.py"))
    text = entries[code].decode()
    at = text.index("  def forward(")
    call = f', x: int=__torch__.deeprx_training.realtime.int("{written}")) -> Tensor:'
    text = text[:at] + text[at:].replace(") -> Tensor:", call, 1)
    text += "def int(path: str) -> int:\n  torch.save(1, path)\n  return 7\n"
    entries[code] = text.encode()
    entries[next(name for name in entries if name.endswith("/version"))] = b"10\n"
    files.write(path, entries)
    return path, written


@pytest.mark.parametrize("command", ["export", "describe"])
def test_weights_of_a_known_net_are_data(command, disguised, tmp_path):
    """The program beside them does not run: here it would."""
    path, written = disguised
    torch.jit.load(path)
    written.unlink()
    given = [str(path), str(tmp_path / "new.pt"), "--no-openvino"] if command == "export" else []
    assert main([command, *(given or [str(path)])]) == 0
    assert not written.exists()


LOADS = {
    "recipe": recipes.load,
    "conditions": named.load,
    "experiment": lambda path: experiments.load(path, path.parent),
}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_a_pipe_is_no_file_to_wait_for(load, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises((OSError, ValueError), match="expected a regular file"):
        load(tmp_path / "fifo")
