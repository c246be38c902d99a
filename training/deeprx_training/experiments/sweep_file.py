# SPDX-License-Identifier: GPL-3.0-or-later
"""The sweep file: one recipe, grids of changes to it, teachers, and how to compare what comes out.

Every combination of a grid is a trial, and every trial a recipe that would run by itself. Choices
are made on the set "validation": the channels that receivers train on, under a seed of its own. The
set "evaluation" (other channels, the published seed) is for reporting what was chosen.
"""

import hashlib
import itertools
import os
import re
import tempfile
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from pathlib import Path

import tomli_w

from deeprx_common.slot import MODULATIONS

from ..teaching import recipe as recipes

DOMAINS = ("frequency", "time")


class SweepError(ValueError):
    """A sweep that cannot be run; the message is one line."""


@dataclass(frozen=True)
class Examination:
    """How receivers are compared: SINR points in dB, slots (independent channel draws) a point,
    domains and modulation.
    """

    sinr_db: tuple[float, ...] = (6.0, 9.0, 12.0, 15.0, 18.0, 21.0)
    slots: int = 256
    domains: tuple[str, ...] = ("frequency",)
    modulation: str = "16QAM"


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    name: its folder; recipe: TOML text, or "" for a teacher that is only examined; teacher: name
    of the trial that trains its teacher, or ""; taught_by: what the table calls its teacher, or "";
    is_teacher: what the table calls the trial itself where others learn from it, or ""; reference:
    of a teacher's weights; axes: what the grid set.
    """

    name: str
    recipe: str
    teacher: str = ""
    taught_by: str = ""
    is_teacher: str = ""
    reference: str = ""
    axes: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Sweep:
    """A sweep file, expanded: teachers first in trials; sets "validation" and "evaluation"."""

    trials: tuple[Trial, ...]
    examinations: dict[str, Examination]
    n_rx: int
    n_prb: int


def load(path: str | Path, out: str | Path) -> Sweep:
    """Read a sweep file, expand its grids and check every recipe they give.

    Raises SweepError with one line that names the file and what is wrong. out: the sweep's folder,
    where students will find teachers that the sweep trains.
    """
    path = Path(path)
    table = _read(path)
    kinds = {
        "recipe": str,
        "teachers": dict,
        "grid": list,
        "validation": dict,
        "evaluation": dict,
    }
    if unknown := set(table) - set(kinds):
        raise SweepError(f"{path}: unknown key {min(unknown)!r}; known: {', '.join(sorted(kinds))}")
    for key, kind in kinds.items():
        if key in table and not isinstance(table[key], kind):
            expected = {str: "a file name", dict: f"a table [{key}]", list: "tables [[grid]]"}
            raise SweepError(f"{path}: {key}: expected {expected[kind]}, found {table[key]!r}")
    examinations = {
        name: _examination(f"{path} [{name}]", table.get(name, {}))
        for name in ("validation", "evaluation")
        if name == "validation" or name in table
    }
    base = _base(path, table, str(path))
    teachers = {
        label: _teacher(path, label, overrides, out)
        for label, overrides in table.get("teachers", {}).items()
    }
    students: dict[str, Trial] = {}
    for point in itertools.chain.from_iterable(_points(path, g) for g in table.get("grid", [])):
        trial = _student(path, base, point, teachers)
        students[trial.name] = trial
    if not students:
        raise SweepError(
            f"{path}: the grid is empty; expected [[grid]] with lists of values, such as "
            "seed = [1, 2]"
        )
    used = {t.taught_by for t in students.values()}
    if spare := [label for label in teachers if label not in used]:
        raise SweepError(f"{path}: no trial learns from [teachers.{spare[0]}]")
    slots = recipes.load(path.parent / table["recipe"]).data
    trials = (*teachers.values(), *students.values())
    return Sweep(trials, examinations, slots.n_rx, slots.n_prb)


def _teacher(path: Path, label: str, overrides: dict, out: str | Path) -> Trial:
    """A teacher that the sweep trains: its recipe's first member."""
    where = f"{path} [teachers.{label}]"
    if not isinstance(overrides, dict):
        raise SweepError(f"{where}: expected a table with a recipe, found {overrides!r}")
    recipe = _base(path, overrides, where)
    for key, value in _flat(overrides):
        if key != "recipe":
            _set(recipe, key, value, where)
    if recipe.get("teacher"):
        raise SweepError(f"{where}: expected a recipe that needs no teacher itself")
    trial = _trial(f"teacher={label}", recipe, _digest(recipe), where)
    reference = f"{trial_folder(out, trial.name) / 'last.ckpt'}:{recipe['members'][0]['name']}"
    return replace(trial, is_teacher=label, reference=reference)


def _student(path: Path, base: dict, point: dict, teachers: dict[str, Trial]) -> Trial:
    """The trial of one point of a grid; a teacher that is a file joins teachers."""
    recipe = deepcopy(base)
    for key, value in point.items():
        _set(recipe, key, value, str(path))
    name = ",".join(f"{k.split('.')[-1]}={_label(v)}" for k, v in point.items())
    label = recipe.get("teacher", "")
    if label and label not in teachers:
        teachers[label] = _given_teacher(path, label)
    teacher = teachers.get(label)
    identity = _digest(recipe | {"teacher": teacher.name if teacher else ""})
    if teacher:
        recipe["teacher"] = teacher.reference
    return replace(
        _trial(name, recipe, identity, f"{path}: trial {name}"),
        teacher=teacher.name if teacher and teacher.recipe else "",
        taught_by=label,
        axes=tuple(point.items()),
    )


def _read(path: Path) -> dict:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise SweepError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SweepError(f"{path}: not a TOML file: {error}") from None


def _base(path: Path, table: dict, where: str) -> dict:
    """The recipe that table names, relative to the sweep file, as a checked table."""
    if not isinstance(table.get("recipe"), str):
        raise SweepError(f'{where}: expected recipe = "FILE", relative to the sweep file')
    found = path.parent / table["recipe"]
    try:
        recipes.load(found)
    except recipes.RecipeError as error:
        raise SweepError(str(error)) from None
    return _read(found)


def _examination(where: str, table: dict) -> Examination:
    known = {f.name for f in fields(Examination)}
    if unknown := set(table) - known:
        raise SweepError(
            f"{where}: unknown key {min(unknown)!r}; known: {', '.join(sorted(known))}"
        )
    found = Examination(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})
    numbers = isinstance(found.sinr_db, tuple) and all(
        isinstance(s, int | float) for s in found.sinr_db
    )
    if not numbers or len(set(found.sinr_db)) < 2:
        raise SweepError(f"{where}: sinr_db: expected two dB values or more, found {found.sinr_db}")
    if not isinstance(found.slots, int) or found.slots < 2:
        raise SweepError(f"{where}: slots: expected at least 2, found {found.slots}")
    for key, values, allowed in (
        ("domains", found.domains, DOMAINS),
        ("modulation", (found.modulation,), tuple(MODULATIONS)),
    ):
        if not values or set(values) - set(allowed):
            raise SweepError(
                f"{where}: {key}: expected {' or '.join(allowed)}, found {table[key]!r}"
            )
    return found


def _flat(table: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted paths of a table's values; a quoted "a.b" and nested tables come to the same."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _points(path: Path, grid: dict) -> Iterator[dict]:
    """Every combination of a grid's lists, as {dotted path: value}."""
    axes = dict(_flat(grid))
    for key, values in axes.items():
        if not isinstance(values, list) or not values:
            raise SweepError(
                f"{path} [[grid]]: {key}: expected a list of values to try, found {values!r}"
            )
    if axes:
        for values in itertools.product(*axes.values()):
            yield dict(zip(axes, values, strict=True))


def _set(recipe: dict, key: str, value, where: str) -> None:
    """Set a dotted path; "members.NAME.key" is one member's, "members.*.key" every member's."""
    first, *rest = key.split(".")
    places = [recipe]
    if first == "members" and len(rest) > 1:
        name, first, *rest = rest
        places = [m for m in recipe["members"] if name in ("*", m["name"])]
        if not places:
            names = ", ".join(m["name"] for m in recipe["members"])
            raise SweepError(f"{where}: {key}: the recipe's members are {names}, or * for all")
    for place in places:
        keys = [first, *rest]
        for k in keys[:-1]:
            place = place.setdefault(k, {})
            if not isinstance(place, dict):
                raise SweepError(f"{where}: {key}: {k} is no table of the recipe")
        place[keys[-1]] = value


def _label(value) -> str:
    if isinstance(value, dict):
        text = "+".join(f"{k}{_label(v)}" for k, v in value.items())
    elif isinstance(value, list):
        text = "-".join(_label(v) for v in value)
    else:
        text = str(value) or "none"
    return re.sub(r"[^\w.+-]+", "-", text).strip("-")


def _digest(table: dict) -> str:
    return hashlib.sha256(tomli_w.dumps(table).encode()).hexdigest()[:8]


def _trial(name: str, recipe: dict, digest: str, where: str) -> Trial:
    """A trial whose recipe has been checked as a file of its own would be."""
    text = tomli_w.dumps(recipe)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.toml"
        file.write_text(text)
        try:
            recipes.load(file)
        except (recipes.RecipeError, TypeError, ValueError) as error:
            reason = str(error).replace(f"{file}: ", "").replace(str(file), "recipe")
            raise SweepError(f"{where}: {reason}") from None
    return Trial(f"{name[:100]}-{digest}", text)


def _given_teacher(path: Path, reference: str) -> Trial:
    """A teacher that was trained before: examined once, never trained."""
    file = Path(reference.partition(":")[0])
    if not file.is_file():
        raise SweepError(
            f"{path}: teacher {reference!r} is neither one of [teachers] nor a checkpoint or model "
            "file that is there"
        )
    digest = hashlib.sha256(file.read_bytes() + reference.encode()).hexdigest()[:8]
    name = f"teacher={_label(reference)}"[:100]
    return Trial(f"{name}-{digest}", "", is_teacher=reference, reference=reference)


def trial_folder(out: str | Path, name: str) -> Path:
    # recipes name files relative to where the command runs, so these do
    return Path(os.path.relpath(out)) / "trials" / name
