# SPDX-License-Identifier: GPL-3.0-or-later
"""Training loads no stranger's program: one line, nothing written."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from hostile import files
from hostile.files import FILES
from hostile.serve import Victim

from deeprx_common.model_archive import ModelFileError, read_model_file
from deeprx_common.shipped import model_path
from deeprx_common.trusted import hash_of
from deeprx_training.cli import COMMANDS, main
from deeprx_training.evaluation import named
from deeprx_training.experiments import file as experiments
from deeprx_training.files import TrainingError
from deeprx_training.receivers import build
from deeprx_training.teaching import recipe as recipes
from deeprx_training.teaching.checkpoint import read_receiver


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    log = tmp_path_factory.mktemp("victim") / "said"
    victim = Victim(Path(__file__).parents[1] / "hostile" / "training_victim.py", log)
    yield victim
    victim.end()


AS_DATA = "its weights cannot be used apart from its program"
REASONS = {  # by way; None: the file is taken
    "evaluate": "--trust {file}",
    "export": AS_DATA,
    "quantise": AS_DATA,
    "convert": "found 'deeprx.model/2': nothing to convert",
    "describe": None,
    "run teacher": AS_DATA,
    "run start": AS_DATA,
}
OTHER_FILES = {  # commands that are given no model file, and what they read
    "experiment": "recipes, whose teachers `run` takes",
    "plot": "tables and reports",
    "results": "what ships",
    "study": "tables and records",
    "speed": "nothing",
    "cost": "a run's record, or a recipe",
}


def test_no_command_is_left_out():
    assert {way.split()[0] for way in REASONS} | set(OTHER_FILES) == set(COMMANDS)


@pytest.mark.parametrize("name", FILES)
def test_one_line_nothing_written_and_alive(name, victim, tmp_path):
    """By every command that a model file is given to, as far as its archive is read at all."""
    (tmp_path / "written").mkdir()
    file = tmp_path / "hostile.pt"
    FILES[name](str(file), tmp_path / "written" / "by_the_program")
    reasons = REASONS
    try:
        read_model_file(file)
    except ModelFileError as refusal:
        reasons = dict.fromkeys(reasons, str(refusal).removeprefix(f"{file}: "))
    for way, reason in reasons.items():
        answer = victim.ask(way, file, 30)
        assert answer["verdict"] == ("refused" if reason else "accepted"), (way, answer)
        said = (reason or "").replace("{file}", str(file))
        assert answer["said"].isprintable() and said in answer["said"]
    assert "Traceback" not in victim.log.read_text()
    assert not list((tmp_path / "written").iterdir())


@pytest.fixture
def disguised(tmp_path):
    """A file of a net that is known, with a program of its own, which writes where it is loaded."""
    path, written = tmp_path / "disguised.pt", tmp_path / "written"
    entries = files.records(model_path("deeprx-pusch-small"))
    code = next(name for name in entries if name.endswith("/receivers/pusch.py"))
    text = entries[code].decode()
    at = text.index("  def forward(")
    call = f', x: int=__torch__.deeprx_training.receivers.pusch.int("{written}")) -> Tensor:'
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


GRID = '[recipe]\n{}\n[[grid]]\n{}\n[[examination]]\nset = "validation"\nsinr_db = [6, 12]\n'
LONG, ONES = "aaa\n" * 1000, "1,\n" * 999
MEMBERS = '[[members]]\nname = "a"\nnet = {}\n'


@pytest.mark.parametrize(
    ("load", "text", "says"),
    [
        (recipes.load, MEMBERS.format("{ net = {} }"), "found {}"),
        (
            recipes.load,
            f"steps = '''{LONG}'''\n" + MEMBERS.format("{}"),
            "expected a whole number, found 'aaa",
        ),
        (recipes.load, f"steps = {'[' * 60}{']' * 60}", "nested too deeply"),
        (named.load, f"slots = '''{LONG}'''", "expected a table, found 'aaa"),
        (
            LOADS["experiment"],
            GRID.format("", "")
            + '[[group]]\nname = "g"\nmembers = [["n", "s"]]\nteacher = ["a"]\n'
            + "[nets]\nn = {}\n[settings]\ns = {}\n",
            "group g: teacher: expected a text, found ['a']",
        ),
        (
            LOADS["experiment"],
            GRID.format("", f"steps = [{ONES}]\nseed = [{ONES}]"),
            "grid: expected at most 1000 combinations, found 998001",
        ),
        (
            lambda path: experiments.load(path, path.parent, "s"),
            GRID.format("", "") + '[[group]]\nname = ["b"]\n[scale.s]\ngroups = ["b"]\n',
            "groups: no group 'b'",
        ),
    ],
)
def test_toml_is_refused_in_a_line(load, text, says, tmp_path):
    """What ./dev fuzz found, but for the combinations."""
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ValueError) as caught:
        load(tmp_path / "a.toml")
    said = str(caught.value)
    assert says in said and said.isprintable() and len(said) < 1000


CLASSES = 'classes = ["{}"]\n[[members]]\nname="a"\nnet={{net="HybridRx"}}'
FOREIGN = """
import torch
from pathlib import Path
Path(__file__).with_name("imported").touch()
class Foreign(torch.nn.Module):
    def __init__(self, n: int = 3):
        super().__init__()
        self.net = torch.nn.Linear(n, n)
"""


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A function that writes a checkpoint of a net, in a folder with a module."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strange.py").write_text(FOREIGN)
    monkeypatch.delitem(sys.modules, "strange", raising=False)
    monkeypatch.setattr(build, "_classes", {})

    def write(net: str, **arguments) -> str:
        nets = {"m": torch.nn.Linear(3, 3).state_dict(prefix="net.")}
        specs = {"m": json.dumps({"net": net} | arguments)}
        torch.save({"recipe_sha256": "x", "specs": specs, "nets": nets}, "x.ckpt")
        return "x.ckpt"

    return write


@pytest.mark.parametrize("net", ["strange:Foreign", "venv.__main__:x", "torch.nn:Linear"])
def test_a_checkpoint_has_nothing_imported(net, foreign, tmp_path, capsys):
    file = foreign(net, in_features=60000, out_features=60000)
    for arguments in (["export", file, "m.pt"], ["evaluate", file, "--out", "out"]):
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"x.ckpt: m is of {net}, a class that no recipe here names: --trust" in line
    assert not (tmp_path / "imported").exists() and not (tmp_path / "export").exists()


def test_a_checkpoint_that_is_trusted_has_its_class(foreign, tmp_path):
    file = foreign("strange:Foreign")
    with pytest.raises(TrainingError):
        read_receiver(file, rebuild=True, trust=["0" * 64])
    net = read_receiver(file, rebuild=True, trust=[hash_of(file)]).net
    assert type(net).__name__ == "Foreign" and (tmp_path / "imported").exists()


def test_a_recipe_names_the_class_of_its_teachers_checkpoint(foreign):
    file = foreign("strange:Foreign")
    recipes.parse(CLASSES.format("strange:Foreign"), "a")
    assert type(read_receiver(file, rebuild=True).net).__name__ == "Foreign"
    foreign("strange:Foreign", n="three")
    with pytest.raises(TrainingError, match="strange:Foreign: "):
        read_receiver(file, rebuild=True)
    with pytest.raises(ValueError, match="classes: expected module:Class, found 'strange'"):
        recipes.parse(CLASSES.format("strange"), "a")
