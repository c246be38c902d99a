# SPDX-License-Identifier: GPL-3.0-or-later
"""Model files whose programs attack: one line at most, nothing written, the process goes on."""

import sys
from pathlib import Path

import pytest
from hostile.files import FILES, REFUSED
from hostile.serve import Refused, Victim, run_command

MEMORY = 1 << 30  # of the process that asked; the programs take four times as much

# Known holes: an entry goes when it is mended
HOLES = set()


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    log = tmp_path_factory.mktemp("victim") / "said"
    victim = Victim(Path(__file__).with_name("hostile") / "victim.py", log)
    yield victim
    victim.end()


# One of each kind also through a message and `deeprx info` in every run
KINDS = {
    "int_writes", "long_folder_writes", "setstate_writes", "storage_overwrites", "load_memory",
    "inference_memory", "first_batch_endless", "inference_endless", "remainder_by_0",
    "batch_norm_sizes", "cast_of_class", "deep_parentheses", "ir_mod_least_folded",
    "ir_gather_nd_outside", "two_deeprx_json",
}  # fmt: skip


def cases(way, holes):
    for name in FILES:
        marks = [pytest.mark.xfail(strict=True, reason="known hole")] if name in holes else []
        if way != "engine" and name not in KINDS:
            marks.append(pytest.mark.slow)
        yield pytest.param(way, name, marks=marks, id=f"{way}-{name}")


@pytest.mark.parametrize(
    ("way", "name"),
    [
        *cases("engine", HOLES),
        *cases("message", HOLES),
        *cases("info", ()),
        *(pytest.param("parity", name, id=f"parity-{name}") for name in sorted(KINDS)),
    ],
)
def test_one_line_at_most_nothing_written_and_alive(way, name, victim, tmp_path):
    (tmp_path / "written").mkdir()
    file = tmp_path / "hostile.pt"
    FILES[name](str(file), tmp_path / "written" / "by_the_program")
    answer = victim.ask(way, file, 30)
    assert answer["verdict"] in ("accepted", "refused"), answer
    # a running receiver drops the slots whose batch fails, and goes on with the model
    dropped = way != "engine" and name in ("inference_memory", "inference_endless")
    if way != "info" and name in REFUSED and not dropped:
        assert answer["verdict"] == "refused"
    assert answer["said"].isprintable()  # one line, nothing for a terminal
    assert "Traceback" not in victim.log.read_text()
    assert not list((tmp_path / "written").iterdir())
    assert answer["rss"] < MEMORY


@pytest.mark.parametrize(
    ("what", "name"),
    [
        *(("bench", name) for name in sorted(KINDS)),
        *((f"bench {what}", "int_writes") for what in ("scale", "memory", "roofline")),
    ],
)
def test_a_benchmark_which_has_no_jail_asks_for_trust(what, name, victim, tmp_path):
    (tmp_path / "written").mkdir()
    file = tmp_path / "hostile.pt"
    FILES[name](str(file), tmp_path / "written" / "by_the_program")
    answer = victim.ask(what, file, 30)
    assert answer["verdict"] == "refused", answer
    assert answer["said"].isprintable() and answer["said"].startswith("deeprx: error: ")
    read = victim.ask("info", file, 30)["verdict"] == "accepted"
    assert ("--trust" in answer["said"]) == read  # else its archive is refused before that
    assert not list((tmp_path / "written").iterdir())
    assert answer["rss"] < MEMORY


ADVICE = (
    "; --jail-load and --jail-batch (the block's jail) allow it more, --trust (its trust) does "
    "without a jail, if you know who made it"
)


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ("its jail was ended after 0.3 s without an answer" + ADVICE, True),
        ("its jail has ended: Bad system call", True),
        ("its jail has ended with status 0", True),
        ("its jail has ended with status 0" + ADVICE, False),
        ("its jail was ended after 2 s without an answer", False),
        ("its jail is odd (--debug shows where)", False),
        ("its jail has ended (--debug shows where)", False),
    ],
)
def test_of_what_the_program_fails_at_only_a_lost_jail_is_the_files(said, refused):
    def main(_arguments):
        print(f"deeprx: error: model file 'a.pt': {said}", file=sys.stderr)
        return 3

    with pytest.raises(Refused if refused else AssertionError):
        run_command(main, [])
