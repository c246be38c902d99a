# SPDX-License-Identifier: GPL-3.0-or-later
"""What training cost and when a student has paid it back."""

import json
from pathlib import Path

import pytest

from deeprx_training.cli import main
from deeprx_training.experiments import study
from deeprx_training.teaching.cost import inference_flop, payback, teacher_cost

ROOT = Path(__file__).parents[2]
NET = {"net": "HybridRx", "channels": 4, "dilations": [[1, 1]]}
WIDE = NET | {"channels": 8}


def run(students, **members):
    phase = {"slots": 0, "s": 1.0, "flop": 0.0, "joules": None, "modelled_j": 0.0}
    return {
        "schema": "deeprx.training/1",
        "host": {"cpu": "Zen"},
        "threads": 1,
        "precision": dict.fromkeys(members, "32-true"),
        "teacher": None,
        "step": 1,
        "resource_elements": 1000,
        "members": members,
        "students": students,
        "cached_llr_slots": 30,
        "device": "cpu",
        "wall_s": 5.0,
        "slots": 40,
        "energy_j": {
            "kind": "attributed",
            "joules": None,
            "source": "none",
            "invalid": "none: no counter",
            "modelled": 1.0,
            "model": "m",
        },
        "phases": {
            "data": phase | {"slots": 40, "flop": 4.0},
            "teacher": phase | {"slots": 10, "flop": 500.0},
            "forward": phase | {"slots": 80, "flop": 300.0},
            "backward": phase | {"slots": 80, "flop": 600.0},
        },
    }


def test_payback_by_hand():
    a, b = inference_flop(NET), inference_flop(WIDE)
    paybacks = payback(
        run(["small", "wide"], small=NET, wide=WIDE, alone=NET), teacher=(1e6, a + 100.0)
    )
    small, wide, alone = paybacks
    assert small.student_training_flop == pytest.approx(900 * a / (2 * a + b) + 4 / 3)
    # 10 slots asked and 30 from the cache at 50 FLOP each, shared by two students
    assert small.teacher_forward_flop == wide.teacher_forward_flop == 40 * 50 / 2
    assert small.slots == pytest.approx((small.student_training_flop + 1000 + 1e6) / 100)
    # one from scratch owes the teacher nothing
    assert alone.student_training_flop == small.student_training_flop == alone.spent_flop
    assert wide.slots is None  # a slot of it costs more than the teacher's


def test_a_teachers_cost_from_its_recipe():
    """14 000 steps of 256 slots, three forward passes of 10.3 GFLOP each (convolutions alone)."""
    trained, served = teacher_cost(str(ROOT / "training" / "recipes" / "teacher.toml"))
    assert trained == pytest.approx(3 * 14000 * 256 * served) and 9.5e9 < served < 10.6e9


def test_the_command(tmp_path, capsys):
    (tmp_path / "run.json").write_text(json.dumps(run([], small=NET)))
    teacher = str(ROOT / "training" / "recipes" / "teacher.toml")
    assert main(["cost", str(tmp_path), "--teacher", teacher]) == 0
    text = capsys.readouterr().out
    assert "paid back" in text and "no counter" in text and "small" in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such run record"),
        ("{}", "expected the record of a training run"),
        ("x", "expected the record of a training run"),
        (json.dumps(run([], small=NET) | {"energy_j": []}), "'energy_j' must be a dictionary"),
        (json.dumps(run([], small=NET) | {"phases": {}}), "phases lacks 'data'"),
        (json.dumps(run([], small=[])), "members['small'] must be a dictionary"),
        (json.dumps(run([])), "must be a dictionary of a net or more"),
        (json.dumps(run(["large"], small=NET)), "expected students among its members"),
    ],
)
def test_a_bad_record_gets_one_line(tmp_path, capsys, content, says):
    if content:
        (tmp_path / "run.json").write_text(content)
    assert main(["cost", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert says in message and message.count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "joules", "expected"),
    [(0.0, 9.0, (None, "cached")), (2.0, 9.0, (4.5, "measured")), (2.0, None, (3.0, "modelled"))],
)
def test_teachers_passes_out_of_a_cache_have_no_joules(seconds, joules, expected):
    phase = {"s": seconds, "joules": joules, "modelled_j": 6.0}
    run = {"phases": {"teacher": phase}, "energy_j": {"kind": "measured"}, "students": ["a", "b"]}
    assert study._teaching_j(run, None, []) == expected


def test_teachers_passes_without_joules_cost_what_a_slot_of_it_took_elsewhere():
    phase = {"s": 2.0, "joules": None, "modelled_j": 6.0}
    run = {"phases": {"teacher": phase}, "energy_j": {}, "students": ["a", "b"], "slots": 100}
    devices = [{"other": 9.0}, {"deeprx": 0.5}, {"deeprx": 7.0}]
    told = study._teaching_j(run, {"members": {"deeprx": {}}}, devices)
    assert told == (25.0, "measured per slot")
