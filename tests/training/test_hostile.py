# SPDX-License-Identifier: GPL-3.0-or-later
"""Training loads no stranger's program: one line, nothing written."""

import os
from pathlib import Path

import pytest
from hostile.files import FILES
from hostile.serve import Victim

from deeprx_training.evaluation import named
from deeprx_training.experiments import file as experiments
from deeprx_training.teaching import recipe as recipes

# Each with a word of its reason: the archive's reader refuses some before anybody asks for trust
REASONS = {
    "int_writes": "trust",
    "long_folder_writes": "name of a record",
    "setstate_writes": "trust",
    "forward_writes": "trust",
    "other_method_writes": "trust",
    "storage_overwrites": "storage",
    "load_endless": "trust",
    "remainder_by_0": "trust",
    "deep_parentheses": "nested",
    "two_deeprx_json": "several folders",
}


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    log = tmp_path_factory.mktemp("victim") / "said"
    victim = Victim(Path(__file__).parents[1] / "hostile" / "training_victim.py", log)
    yield victim
    victim.end()


@pytest.mark.parametrize(("name", "reason"), REASONS.items())
def test_one_line_nothing_written_and_alive(name, reason, victim, tmp_path):
    (tmp_path / "written").mkdir()
    file = tmp_path / "hostile.pt"
    FILES[name](str(file), tmp_path / "written" / "by_the_program")
    answer = victim.ask("evaluate", file, 30)
    assert answer["verdict"] == "refused"
    assert answer["said"].isprintable()
    assert reason in answer["said"]
    assert "Traceback" not in victim.log.read_text()
    assert not list((tmp_path / "written").iterdir())


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
