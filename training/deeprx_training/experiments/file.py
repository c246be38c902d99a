# SPDX-License-Identifier: GPL-3.0-or-later
"""The experiment file: one recipe, groups of receivers that are changes to it, teachers, and how to
compare what comes out.

A group is a recipe that would run by itself: its members learn from the same batches in one
process. [[group]] names nets and settings; the points of [[grid]]s that differ in their members
alone are the members of one group. Choices are made on the set "validation": the channels that
receivers train on, under a seed of its own. The set "evaluation" (other channels, the published
seed) is for reporting what was chosen.
"""

import itertools
import math
import re
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import tomli_w

from deeprx_common import limits
from deeprx_common import mcs as schemes
from deeprx_common.files import read_regular
from deeprx_common.modulation import MODULATIONS
from deeprx_common.printable import printable

from ..reference import Reference
from ..teaching import recipe as recipes
from ..values import LINE, Text, check, number, parse_toml, several, table_of, whole

MOST_POINTS = 1000  # of a grid: the net of each is built once before any is trained


class ExperimentError(ValueError):
    """An experiment that cannot be run; the message is one line."""


@table_of
@dataclass(frozen=True)
class Examination:
    """What is counted of trained receivers.

    set: validation: training channels under a held-out seed, to choose settings by; evaluation:
        the evaluation channels, which only report.
    sinr_db: points.
    slots: a point, each an independent channel draw.
    domains: of the channel.
    modulation: of the slots, where no mcs says it.
    groups: names of the [[group]] whose receivers are counted; empty: all.
    mcs: index; slots then have transport blocks, and their errors are counted.
    mcs_table: 1 to 3.
    """

    set: Literal["validation", "evaluation"]
    sinr_db: several(number(*limits.SNR_DB), least=2)
    slots: whole(2) = 256
    domains: several(Literal["frequency", "time"]) = ("frequency",)
    modulation: Literal[*MODULATIONS] = "16QAM"
    groups: tuple[Text, ...] = ()
    mcs: whole(0) | None = None
    mcs_table: whole(1, 3) = 1

    def __post_init__(self):
        if self.mcs is not None:
            schemes.mcs(self.mcs_table, self.mcs)


@table_of
@dataclass(frozen=True)
class NamedGroup:
    """Receivers that are trained in one process on the same slots; any other key is one of the
    recipe's, and changes it.

    name: of the group, and of its folder.
    members: pairs of a name in [nets] and one in [settings].
    """

    name: Text
    members: several(tuple[Text, Text])
    changes: dict[str, Any] = field(default_factory=dict)


@table_of
@dataclass(frozen=True)
class EnergyStep:
    """What receivers take on this machine, measured when all groups have been trained: joules and
    seconds a slot, beside what the machine's own rates say of them.

    name: of the step, and of its folder.
    receivers: each the name of one of [teachers], GROUP:MEMBER, or FILE.pt.
    precision: of the convolutions; tf32 is float32 whose products a GPU may shorten.
    batches: slots that are received together.
    window_s: seconds of a window.
    rounds: windows of each receiver and batch; they are measured in turns.
    calibrate_s: seconds of the machine's benchmarks, before anything else.
    """

    name: Text
    receivers: several(Text)
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = "float32"
    batches: several(whole(1)) = (1,)
    window_s: number(0, above=True) = 2.5
    rounds: whole(1) = 3
    calibrate_s: number(0, above=True) = 60.0


@table_of
@dataclass(frozen=True)
class Scale:
    """A size at which the experiment runs; any other key is one of the recipe's, and changes it.

    groups: names of the [[group]]s that are trained, in this order.
    slots: of every examination, instead of its own.
    energy: names of the [[energy]] steps that follow.
    teachers: changes of the file's [teachers], by their names.
    """

    groups: several(Text)
    slots: whole(2) | None = None
    energy: tuple[Text, ...] = ()
    teachers: dict[str, dict[str, Any]] = field(default_factory=dict)


@table_of
@dataclass(frozen=True)
class File:
    """What is trained and counted: groups that are named, and the points of the grids.

    recipe: what all start from: a file, relative to this one, or a table without members.
    examination: what is counted of the receivers, one table [[examination]] each.
    nets: nets by name, as a recipe's members have them.
    settings: by name what else a recipe's members have: loss, temperature, start.
    group: receivers trained together, one table [[group]] each.
    energy: what receivers take on this machine, measured at the end, one table [[energy]] a step.
    grid: lists of values by dotted path, as "members.*.temperature" = [1.0, 4.0]; every combination
        is trained, and those that differ in their members alone together, as one group.
    teachers: recipe and changes of teachers that are trained before their students, by the name
        that teacher = "NAME" gives them.
    scale: sizes at which it runs, one table [scale.NAME] each.
    """

    recipe: Text | dict[str, Any]
    examination: several(Examination)
    nets: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    group: tuple[dict[str, Any], ...] = ()
    energy: tuple[EnergyStep, ...] = ()
    grid: tuple[dict[str, Any], ...] = ()
    teachers: dict[str, dict[str, Any]] = field(default_factory=dict)
    scale: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """One process of an experiment.

    name: its folder; recipe: TOML text, or "" for a teacher that is only counted; steps: of the
    recipe; changes: what the file sets in it but for members; teacher: name of the group that
    trains its teacher, or ""; teacher_label: what the table calls its teacher, or ""; label: of a
    teacher, what the table calls it; reference: of a teacher's weights.
    """

    name: str
    recipe: str = ""
    steps: int = 0
    changes: tuple[tuple[str, Any], ...] = ()
    teacher: str = ""
    teacher_label: str = ""
    label: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Energy:
    """A step, and the references of its receivers, in their order."""

    step: EnergyStep
    references: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """A file, expanded: in groups, teachers that are trained before their students, those that are
    only counted at the end; their slots' antennas and PRBs; the file's folder, where modules of
    nets may lie; the energy steps that follow.
    """

    groups: tuple[Group, ...]
    examinations: tuple[Examination, ...]
    n_rx: int
    n_prb: int
    folder: str
    energy: tuple[Energy, ...] = ()

    def of(self, group: Group) -> list[Examination]:
        """The examinations of a group."""
        every = group.label
        return [e for e in self.examinations if every or not e.groups or group.name in e.groups]


def load(path: str | Path, out: str | Path, scale: str = "") -> Experiment:
    """Read an experiment file, expand it and check every recipe it gives.

    Raises ExperimentError with one line that names the file and what is wrong. out: the folder of
    its results, where students will find teachers that it trains. scale: one of the file's, where
    it has any.
    """
    path = Path(path)
    try:
        return _Expansion(path, Path(out)).experiment(scale)
    except OSError as error:
        raise ExperimentError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: not a TOML file: {error}") from None
    except ValueError as error:
        text = str(error)
        text = text if text.startswith(f"{path}") else f"{path}: {text}"
        raise ExperimentError(printable(text, LINE)) from None


class _Expansion:
    def __init__(self, path: Path, out: Path):
        self.path, self.out = path, out
        self.file: File = check(File, parse_toml(read_regular(path).decode()))
        self.teachers: dict[str, Group] = {}

    def experiment(self, scale: str) -> Experiment:
        if scale or self.file.scale:
            self._at(scale)
        file = self.file
        self.teachers = {label: self._teacher(label, t) for label, t in file.teachers.items()}
        base = self._recipe(file.recipe)
        groups = [*(self._named(base, table) for table in file.group), *self._points(base)]
        known = {g.name for g in groups}
        if not groups:
            raise ValueError(
                "nothing to train: expected [[group]], or [[grid]] with lists of values, such as "
                "seed = [1, 2]"
            )
        if len(known) < len(groups):
            raise ValueError("group: two have one name")
        spare = set(file.teachers) - {g.teacher_label for g in groups}
        if spare and not scale:
            raise ValueError(f"no group learns from [teachers.{min(spare)}]")
        for e in file.examination:
            if unknown := set(e.groups) - known:
                raise ValueError(f"examination: groups: no group {min(unknown)!r}")
        data = self._check(tomllib.loads(groups[0].recipe), groups[0].name).data
        every: dict[str, Group] = {}
        for group in groups:
            teacher = self.teachers[group.teacher_label]
            every |= {g.name: g for g in (teacher, group) if g.recipe}
        every |= {t.name: t for t in self.teachers.values() if t.name and not t.recipe}
        folder = str(self.path.parent.resolve())
        every = tuple(every.values())
        energy = tuple(self._energy(step, every) for step in file.energy)
        return Experiment(every, file.examination, data.n_rx, data.n_prb, folder, energy)

    def _at(self, name: str) -> None:
        """Make the file what it is at one of its scales."""
        file, known = self.file, ", ".join(self.file.scale) or "none"
        if name not in file.scale:
            raise ValueError(f"--scale: expected one of the file's ({known}), found {name!r}")
        where, table = f"scale {name}", dict(file.scale[name])
        its_own = {f.name for f in fields(Scale)}
        changes = {k: table.pop(k) for k in list(table) if k not in its_own}  # in the file's order
        try:
            scale = check(Scale, table)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        named = ((table.get("name"), table) for table in file.group)
        groups = {label: table for label, table in named if isinstance(label, str)}
        if unknown := set(scale.groups) - set(groups):
            raise ValueError(f"{where}: groups: no group {min(unknown)!r}")
        steps = {step.name: step for step in file.energy}
        if unknown := set(scale.energy) - set(steps):
            raise ValueError(f"{where}: energy: no step {min(unknown)!r}")
        if unknown := set(scale.teachers) - set(file.teachers):
            raise ValueError(f"{where}: teachers: no teacher {min(unknown)!r}")
        self.file = replace(
            file,
            recipe=_changed(self._recipe(file.recipe), dict(_flat(changes)), where),
            group=tuple(groups[g] for g in scale.groups),
            examination=tuple(replace(e, slots=scale.slots or e.slots) for e in file.examination),
            energy=tuple(steps[name] for name in scale.energy),
            teachers={k: t | scale.teachers.get(k, {}) for k, t in file.teachers.items()},
        )

    def _recipe(self, recipe: str | dict) -> dict:
        """A recipe's table, of a file with what it names sought from where it lies."""
        if isinstance(recipe, dict):
            return recipe
        loaded = recipes.load(self.path.parent / recipe)
        table = tomllib.loads(loaded.text)
        if loaded.teacher:
            table["teacher"] = loaded.teacher
        for member, resolved in zip(table["members"], loaded.members, strict=True):
            if resolved.start:
                member["start"] = resolved.start
        return table

    def _teacher(self, label: str, changes: dict) -> Group:
        """A teacher that the experiment trains: its recipe's first member."""
        where = f"[teachers.{label}]"
        if not isinstance(changes.get("recipe"), str):
            raise ValueError(f'{where}: expected recipe = "FILE", relative to this file')
        changes = dict(changes)
        recipe = _changed(self._recipe(changes.pop("recipe")), dict(_flat(changes)), where)
        if recipe.get("teacher"):
            raise ValueError(f"{where}: expected a recipe that needs no teacher itself")
        name = f"teacher={label}-{_digest(recipe)}"
        reference = f"{self.out / name / 'last.ckpt'}:{recipe['members'][0]['name']}"
        return self._group(name, recipe, where, label=label, reference=reference)

    def _given_teacher(self, label: str) -> Group:
        """A teacher that was trained before: counted once, never trained. Of no label: nobody."""
        if not label:
            return Group("")
        reference = recipes.located(label, self.path.parent)
        named = Reference.parse(reference)
        if not named.file.is_file():
            raise ValueError(
                f"teacher {label!r} is neither one of [teachers] nor a checkpoint or model file "
                "that is there"
            )
        name = f"teacher={_label(label)}"[:100]
        return Group(f"{name}-{named.sha256()[:8]}", label=label, reference=reference)

    def _energy(self, step: EnergyStep, groups: tuple[Group, ...]) -> Energy:
        known = {group.label: group.reference for group in groups if group.label}
        for group in groups:
            members = tomllib.loads(group.recipe).get("members", ())
            file = self.out / group.name / "last.ckpt"
            known |= {f"{group.name}:{m['name']}": f"{file}:{m['name']}" for m in members}
        where, references = f"energy {step.name}", []
        if step.name in {group.name for group in groups}:
            raise ValueError(f"{where}: a group has this name")
        for receiver in step.receivers:
            reference = known.get(receiver) or recipes.located(receiver, self.path.parent)
            if receiver not in known and not Reference.parse(reference).file.is_file():
                raise ValueError(
                    f"{where}: {receiver!r} is neither one of the groups' members, nor a teacher "
                    "of theirs, nor a file that is there"
                )
            references.append(reference)
        return Energy(step, tuple(references))

    def _named(self, base: dict, table: dict) -> Group:
        changes = {k: v for k, v in table.items() if k not in ("name", "members")}
        named = check(NamedGroup, {k: v for k, v in table.items() if k not in changes})
        where = f"group {named.name}"
        members = []
        for net, setting in named.members:
            for key, known in ((net, self.file.nets), (setting, self.file.settings)):
                if key not in known:
                    raise ValueError(f"{where}: expected one of {', '.join(known)}, found {key!r}")
            member = {"name": f"{net}-{setting}", "net": self.file.nets[net]}
            members.append(member | self.file.settings[setting])
        changes = dict(_flat(changes))
        recipe = _changed(base | {"members": members}, changes, where)
        return self._students(recipe, changes, where, named.name)

    def _points(self, base: dict) -> Iterator[Group]:
        """The points of all grids, those that differ in their members alone together."""
        groups: dict[str, tuple[dict, dict]] = {}
        for point in itertools.chain.from_iterable(map(_combinations, self.file.grid)):
            changes = {k: v for k, v in point.items() if not k.startswith("members.")}
            recipe = _changed(base, point, "[[grid]]")
            self._check(recipe, f"grid {','.join(_labels(point))}")
            for member in recipe["members"]:
                of_it = (f"members.{member['name']}.", "members.*.")
                labels = _labels({k: v for k, v in point.items() if k.startswith(of_it)})
                member["name"] = "-".join([member["name"], *labels])
            others = _digest({k: v for k, v in recipe.items() if k != "members"})
            members = groups.setdefault(others, (changes, recipe))[1]["members"]
            members += [m for m in recipe["members"] if m not in members]
        for changes, recipe in groups.values():
            label = ",".join(_labels(changes)) or "grid"
            yield self._students(recipe, changes, f"grid {label}", label=label)

    def _students(
        self, recipe: dict, changes: dict, where: str, name: str = "", label: str = ""
    ) -> Group:
        """A group of students; without a name, a hash of what it trains ends its label."""
        called = recipe.get("teacher", "")
        if not isinstance(called, str):
            raise ValueError(f"{where}: teacher: expected a text, found {called!r}")
        if called not in self.teachers:
            self.teachers[called] = self._given_teacher(called)
        teacher = self.teachers[called]
        name = name or f"{label[:100]}-{_digest(recipe | {'teacher': teacher.name})}"
        more = {"teacher": teacher.name if teacher.recipe else "", "teacher_label": called}
        if called:
            recipe["teacher"] = teacher.reference
        return self._group(name, recipe, where, changes=tuple(changes.items()), **more)

    def _group(self, name: str, recipe: dict, where: str, **more) -> Group:
        return Group(name, tomli_w.dumps(recipe), self._check(recipe, where).steps, **more)

    def _check(self, recipe: dict, where: str) -> recipes.Recipe:
        return recipes.parse(tomli_w.dumps(recipe), f"{self.path}: {where}", self.path.parent)


def _flat(table: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted paths of a table's values; a quoted "a.b" and nested tables come to the same."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _combinations(grid: dict) -> Iterator[dict]:
    """Every combination of a grid's lists, as {dotted path: value}."""
    axes = dict(_flat(grid))
    for key, values in axes.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"grid: {key}: expected a list of values to try, found {values!r}")
    if (points := math.prod(map(len, axes.values()))) > MOST_POINTS:
        raise ValueError(f"grid: expected at most {MOST_POINTS} combinations, found {points}")
    if axes:
        for values in itertools.product(*axes.values()):
            yield dict(zip(axes, values, strict=True))


def _changed(recipe: dict, changes: dict, where: str) -> dict:
    """A copy with values set by dotted path; "members.NAME.key" is one member's, "members.*.key"
    every member's.
    """
    recipe = deepcopy(recipe)
    for key, value in changes.items():
        first, *rest = key.split(".")
        tables = [recipe]
        if first == "members" and len(rest) > 1:
            name, first, *rest = rest
            tables = [m for m in recipe.get("members", ()) if name in ("*", m["name"])]
            if not tables:
                names = ", ".join(m["name"] for m in recipe.get("members", ()))
                raise ValueError(f"{where}: {key}: the recipe's members are {names}, or * for all")
        *above, last = first, *rest
        for table in tables:
            for k in above:
                table = table.setdefault(k, {})
                if not isinstance(table, dict):
                    raise ValueError(f"{where}: {key}: {k} is no table of the recipe")
            table[last] = deepcopy(value)
    return recipe


def _labels(changes: dict) -> list[str]:
    return [f"{key.split('.')[-1]}={_label(value)}" for key, value in changes.items()]


def _label(value) -> str:
    if isinstance(value, dict):
        text = "+".join(f"{k}{_label(v)}" for k, v in value.items())
    elif isinstance(value, list):
        text = "-".join(_label(v) for v in value)
    else:
        text = str(value) or "none"
    return re.sub(r"[^\w.+-]+", "-", text).strip("-")


def _digest(table: dict) -> str:
    return recipes.content_sha256(tomli_w.dumps(table))[:8]
