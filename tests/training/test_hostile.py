# SPDX-License-Identifier: GPL-3.0-or-later
"""Training loads no stranger's program: one line, nothing written."""

from pathlib import Path

import pytest
from hostile.files import FILES
from hostile.serve import Victim

NAMES = (
    "int_writes", "long_folder_writes", "setstate_writes", "forward_writes", "other_method_writes",
    "storage_overwrites", "load_endless", "remainder_by_0", "deep_parentheses", "two_deeprx_json",
)  # fmt: skip


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    log = tmp_path_factory.mktemp("victim") / "said"
    victim = Victim(Path(__file__).parents[1] / "hostile" / "training_victim.py", log)
    yield victim
    victim.end()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.xfail(strict=True, reason="known hole: whatever it is given is run")
def test_one_line_nothing_written_and_alive(name, victim, tmp_path):
    (tmp_path / "written").mkdir()
    file = tmp_path / "hostile.pt"
    FILES[name](str(file), tmp_path / "written" / "by_the_program")
    answer = victim.ask("evaluate", file, 30)
    assert answer["verdict"] == "refused"
    assert answer["said"].isprintable()
    assert "trust" in answer["said"]  # not for another reason
    assert "Traceback" not in victim.log.read_text()
    assert not list((tmp_path / "written").iterdir())
