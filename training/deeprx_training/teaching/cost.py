# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training run cost, and after how many slots served a distilled student has paid it back.

The case study's question (arXiv 2507.10409). In FLOP it needs no assumption about the machine: a
student pays back what was spent on it (its own training, the teacher's forward passes it learned
from, the teacher's training) with what each slot costs less than at the teacher.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from deeprx_common import schema
from deeprx_common.documents import read_document
from deeprx_common.schema import COUNT, DICT, TEXT, TEXTS
from deeprx_common.terminal import number, table

from ..files import TrainingError
from ..receivers.build import build
from ..receivers.flop import flop_per_slot
from .ledger import PHASES
from .recipe import Recipe
from .recipe import load as load_recipe

_AMOUNT = schema.number(0, 1e30)  # FLOP are many
_PHASE = {
    "slots": COUNT,
    "s": _AMOUNT,
    "flop": _AMOUNT,
    "joules": _AMOUNT.or_null(),
    "modelled_j": _AMOUNT,
}
RUN = {
    "schema": schema.named("deeprx.training/1"),
    "host": schema.table({"cpu": TEXT}),
    "device": TEXT,
    "threads": COUNT,
    "precision": schema.by_name(TEXT),
    "teacher": TEXT.or_null(),
    "members": schema.by_name(DICT, "a dictionary of a net or more", least=1),
    "students": TEXTS,
    "step": COUNT,
    "slots": COUNT,
    "resource_elements": COUNT,
    "wall_s": _AMOUNT,
    "cached_llr_slots": COUNT,
    "phases": schema.table({name: schema.table(_PHASE) for name in PHASES}),
    "energy_j": schema.table(
        {
            "kind": TEXT,
            "joules": _AMOUNT.or_null(),
            "source": TEXT,
            "invalid": TEXT.or_null(),
            "modelled": _AMOUNT,
            "model": TEXT,
        }
    ),
}


@dataclass(frozen=True)
class Payback:
    """FLOP spent on one student, by what they were spent on, and what a slot of it saves.

    slots: how many slots it must serve until the saving equals what was spent; None where a slot
    saves nothing.
    """

    student: str
    student_training_flop: float
    teacher_forward_flop: float
    teacher_training_flop: float
    saved_flop_per_slot: float

    @property
    def spent_flop(self) -> float:
        return self.student_training_flop + self.teacher_forward_flop + self.teacher_training_flop

    @property
    def slots(self) -> float | None:
        saved = self.saved_flop_per_slot
        return self.spent_flop / saved if saved > 0 else None


def read_run(folder: str | Path) -> dict:
    """A run's record, run.json; TrainingError where it is not one."""
    path = Path(folder) / "run.json"
    try:
        run = read_document(path, RUN, "the record of a training run", "./dev train run")
    except FileNotFoundError:
        raise TrainingError(
            f"{path}: no such run record; training writes it beside last.ckpt"
        ) from None
    except ValueError as error:
        raise TrainingError(str(error)) from None
    if strangers := set(run["students"]).difference(run["members"]):
        raise TrainingError(f"{path}: expected students among its members, found {strangers}")
    return run


def inference_flop(net: dict) -> int:
    """FLOP of one 26-PRB slot of a net as a recipe names it: convolutions and matrix products."""
    built = build(net)
    return flop_per_slot(built, built.n_rx)["matmul"]


def training_flop(recipe: Recipe) -> float:
    """What training a recipe takes by rule of thumb: three forward passes for every slot."""
    return 3.0 * recipe.steps * recipe.batch * sum(inference_flop(m.net) for m in recipe.members)


def teacher_cost(reference: str) -> tuple[float, float]:
    """(FLOP of the teacher's training, FLOP of a slot served) from a run's folder or, by the rule
    of thumb, from a recipe; the first member is the teacher.
    """
    if Path(reference).is_dir():
        run = read_run(reference)
        net = next(iter(run["members"].values()))
        return sum(p["flop"] for p in run["phases"].values()), inference_flop(net)
    recipe = load_recipe(reference)
    return training_flop(recipe), inference_flop(recipe.members[0].net)


def payback(run: dict, teacher: tuple[float, float]) -> list[Payback]:
    """For every member of a run. They share the data equally, forward and backward passes by their
    nets' FLOP; students also share the teacher's passes (cached ones included, as if
    they had been run), and each is billed the whole of the teacher's training.
    """
    trained, served = teacher
    flop = {name: inference_flop(net) for name, net in run["members"].items()}
    phases = run["phases"]
    slots = phases["teacher"]["slots"]
    per_slot = phases["teacher"]["flop"] / slots if slots else served
    students = run["students"]
    passes = (slots + run["cached_llr_slots"]) * per_slot / max(1, len(students))
    nets = phases["forward"]["flop"] + phases["backward"]["flop"]
    data = phases["data"]["flop"]
    return [
        Payback(
            student=name,
            student_training_flop=nets * f / sum(flop.values()) + data / len(flop),
            teacher_forward_flop=passes if name in students else 0.0,
            teacher_training_flop=trained if name in students else 0.0,
            saved_flop_per_slot=served - f,
        )
        for name, f in flop.items()
    ]


def phase_table(run: dict) -> Table:
    """Slots, seconds, FLOP, rate and joules of a run by phase."""
    phases = [{"phase": name} | run["phases"][name] for name in PHASES]

    def rate(p: dict, per: float | None) -> str:
        return number(p["flop"] / per if per else None, 1e-9)

    columns = (
        ("phase", lambda p: p["phase"]),
        ("slots", lambda p: str(p["slots"])),
        ("seconds", lambda p: number(p["s"])),
        ("TFLOP", lambda p: number(p["flop"], 1e-12)),
        ("GFLOP/s", lambda p: rate(p, p["s"])),
        ("joules", lambda p: number(p["joules"])),
        ("modelled J", lambda p: number(p["modelled_j"])),
        ("GFLOP/s/W", lambda p: rate(p, p["joules"])),
    )
    return table("", phases, columns)


def payback_table(paybacks: list[Payback]) -> Table:
    """TFLOP spent on each student and the slots that pay it back."""

    def slots(count: float | None) -> str:
        return "never" if count is None else f"{count:,.0f} slots"

    columns = (
        ("student", lambda p: p.student),
        ("student's TFLOP", lambda p: f"{p.student_training_flop / 1e12:.1f}"),
        ("teacher's passes", lambda p: f"{p.teacher_forward_flop / 1e12:.1f}"),
        ("teacher's training", lambda p: f"{p.teacher_training_flop / 1e12:.0f}"),
        ("saved GFLOP/slot", lambda p: f"{p.saved_flop_per_slot / 1e9:.3f}"),
        ("paid back after", lambda p: slots(p.slots)),
        (
            "without the teacher's training",
            lambda p: slots(replace(p, teacher_training_flop=0.0).slots),
        ),
    )
    return table("", paybacks, columns)
