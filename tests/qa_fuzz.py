# SPDX-License-Identifier: GPL-3.0-or-later
"""A minute of ./dev fuzz, and what it once found; a short ./dev soak."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import soak
from fuzz import mutate
from hostile import archives
from hostile.serve import Victim

TESTS = Path(__file__).resolve().parent
BUILD = TESTS.parent / "build" / "fuzz"
FINDINGS = sorted((TESTS / "fuzz" / "found").glob("*/*"))


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    log = tmp_path_factory.mktemp("victim") / "said"
    victim = Victim(TESTS / "hostile" / "victim.py", log)
    yield victim
    victim.end()


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_was_once_found(finding, victim):
    way = finding.parent.name
    sent = finding.read_text() if way == "monitor" else finding
    answer = victim.ask(way, sent, 60)
    assert answer["verdict"] in ("accepted", "refused"), answer
    assert answer["said"].isprintable() and len(answer["said"]) < 1000


def test_both_readers_of_the_archive_judge_alike(victim, tmp_path):
    draw = random.Random(1)
    small = {f"m/{name}": data for name, data in archives.records().items()}
    verdicts = []
    for _ in range(300):
        (tmp_path / "m.pt").write_bytes(mutate.archive(draw, small))
        answer = victim.ask("readers", tmp_path / "m.pt", 60)
        verdicts.append(answer["verdict"])
        assert verdicts[-1] in ("accepted", "refused"), answer
    assert 30 < verdicts.count("accepted") < 270


def test_a_minute_of_the_campaign_finds_nothing():
    if (BUILD / "CMakeCache.txt").exists():  # ./dev fuzz was here
        subprocess.run(["cmake", "--build", BUILD], capture_output=True, check=True)
    ran = subprocess.run(
        [sys.executable, TESTS / "campaign.py", "--minutes", "0.75"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_no_slot_is_lost_uncounted(monkeypatch):
    """As ./dev soak, with all that it does, in less time: memory needs a long run."""
    monkeypatch.setattr(soak, "RESTART_SLOTS", 2000)
    counts = soak.soak(10_000)
    assert not [fault for fault in soak.faults(counts) if "memory" not in fault], counts
    assert counts["dropped"] > 0 and counts["restarts"] == 4 and counts["swaps"] > 0
