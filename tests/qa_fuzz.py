# SPDX-License-Identifier: GPL-3.0-or-later
"""Half a minute of ./dev fuzz, and what it once found; a short ./dev soak."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import campaign
import pytest
import soak
from fuzz import mutate
from hostile import archives, files
from hostile.serve import Victim

TESTS = Path(__file__).resolve().parent
BUILD = TESTS.parent / "build"
PARSERS = sorted(path.stem for path in (TESTS / "fuzz").glob("*.cc"))
SANITIZED = {"fuzz": PARSERS, "storm": ["swap_storm"]}  # folders of BUILD: their targets
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


class Counted(campaign.Part):
    def __init__(self, name, goal, inputs_a_turn):
        super().__init__(name, goal)
        self.turn_s, self.inputs_a_turn, self.turns = 0.01, inputs_a_turn, 0

    def run(self, seconds, stopped):
        time.sleep(seconds)
        self.counts["inputs"] += self.inputs_a_turn
        self.turns += 1


def test_counts_of_a_revision_go_on_towards_the_goals(monkeypatch, tmp_path):
    monkeypatch.setattr(campaign, "BUILD", tmp_path)
    monkeypatch.setattr(campaign, "git_revision", lambda: "one")

    def parts():
        return [Counted("fast", 100, 10), Counted("slow", 100, 1), Counted("reached", 1, 1)]

    before = parts()
    campaign.load(before)
    campaign.lane(before, 0.7, threading.Event())
    campaign.save(before)
    fast, slow, reached = before
    assert reached.turns == 1 and 0 < fast.turns < slow.turns / 5
    after = parts()
    campaign.load(after)
    assert [part.counts for part in after] == [part.counts for part in before]
    campaign.lane(after, 0.7, threading.Event())
    assert all(part.turns for part in after)
    assert after[1].counts["inputs"] == slow.counts["inputs"] + after[1].turns
    monkeypatch.setattr(campaign, "git_revision", lambda: "two")
    other = parts()
    campaign.load(other)
    assert not any(part.counts["inputs"] for part in other)


def test_a_jail_that_judged_others_refuses_what_one_of_its_own_does(victim, tmp_path):
    draw = random.Random(1)
    verdicts = []
    for k in range(24):
        ((_, path), _) = campaign.model_files(draw, tmp_path)
        if k % 8 == 0:  # as it was
            path.unlink()
            files.write(path, campaign._base("net_ir" if k % 16 else "echo", tmp_path))
        shared, alone = (victim.ask(way, path, 60) for way in ("many_engines", "engine"))
        assert shared["verdict"] == alone["verdict"] in ("accepted", "refused"), (shared, alone)
        verdicts.append(shared["verdict"])
    assert 3 <= verdicts.count("accepted") < 24


@pytest.fixture(scope="module")
def sanitized():
    """Folders that were built with sanitizers, of the sources as they are now."""
    built = [name for name in SANITIZED if (BUILD / name / "CMakeCache.txt").exists()]
    for name in built:
        make = ["cmake", "--build", BUILD / name, "--target", *SANITIZED[name]]
        ran = subprocess.run(make, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout[-2000:]
    return built


@pytest.mark.timeout(1800)  # that building may take
@pytest.mark.parametrize("name", SANITIZED)
def test_the_campaign_has_its_parts_in_cpp(name, sanitized):
    if name not in sanitized:
        pytest.skip(f"build/{name} is not there: ./dev test without arguments makes it")
    if name == "storm" and subprocess.run([*campaign.USUAL_ADDRESSES, "true"]).returncode:
        pytest.skip("ThreadSanitizer needs setarch -R, which is refused here")
    assert set(SANITIZED[name]) <= {part.name for part in campaign.in_cpp()}


@pytest.mark.timeout(1800)
def test_a_minute_of_the_campaign_finds_nothing(sanitized):
    """Each part has a turn in it."""
    ran = subprocess.run(
        [sys.executable, TESTS / "campaign.py", "--minutes", "1"],
        capture_output=True,
        text=True,
        timeout=290,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    *_, table = ran.stdout.split("\n\n")
    inputs = [line.split()[1] for line in table.splitlines()[1:]]
    assert len(inputs) >= 7 and "0" not in inputs, table


def test_no_slot_is_lost_uncounted(monkeypatch):
    """As ./dev soak, with all that it does, in less time: memory needs a long run."""
    monkeypatch.setattr(soak, "RESTART_SLOTS", 1500)
    counts = soak.soak(4000)
    assert not [fault for fault in soak.faults(counts) if "memory" not in fault], counts
    assert counts["dropped"] > 0 and counts["restarts"] == 2 and counts["swaps"] > 0
