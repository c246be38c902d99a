# SPDX-License-Identifier: GPL-3.0-or-later
"""The case study's numbers, out of what an experiment has trained, counted and measured so far:
results/case_study/SCALE.json, which its page quotes.
"""

import shlex
from datetime import date
from pathlib import Path

import numpy as np

from deeprx_common.revision import git_revision
from deeprx_common.schema import NUMBER, TEXT, named, several, table
from deeprx_common.stats import mean_ci95, paired_ratio

from ..evaluation.curves import Curve, curves, gain, scratch_of, seed_pairs
from ..files import TrainingError
from ..teaching.cost import payback, read_run
from .energy import FILE, measured_rounds, read
from .file import Experiment, Group
from .table import is_counted, rows_of

SCHEMA = "deeprx.study/1"
STORED = {  # what is used of an earlier one
    "schema": named(SCHEMA),
    "date": TEXT,
    "energy": several(
        table(
            {
                "step": table({"name": TEXT}),
                "device": TEXT,
                "points": several(table({"receiver": TEXT, "joules": NUMBER.or_null()})),
            }
        )
    ),
}
LEVELS = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1)  # BERs at which gains are looked for
FLOOR_DB = 18.0  # from here on BER is called a floor


def summarise(
    experiment: Experiment, out: Path, scale: str, command: list[str], stored: dict | None = None
) -> dict:
    """Everything that the page quotes. stored: of this scale before, of which energy steps are kept
    that out has not measured: each has its machine and its date.

    Raises TrainingError where no group was counted yet.
    """
    counted = [g for g in experiment.groups if is_counted(out / g.name, g)]
    if not counted:
        raise TrainingError(f"{out}: no group was trained and counted yet")
    rows = rows_of(out / g.name for g in counted)
    runs = {g.name: read_run(out / g.name) for g in counted if g.recipe}
    kinds = dict.fromkeys((r["set"], r["domain"], r["modulation"]) for r in rows)
    sets = {}
    for kind in kinds:
        of_kind = [r for r in rows if (r["set"], r["domain"], r["modulation"]) == kind]
        sets["-".join(kind)] = _set(curves(of_kind))
    energy = _energy_steps(experiment, out, stored)
    known = {e["step"]["name"] for e in energy}
    training = [_training(name, run) for name, run in runs.items()]
    return {
        "schema": SCHEMA,
        "command": shlex.join(command),
        "date": date.today().isoformat(),
        "git": git_revision(),
        "scale": scale,
        "missing": [g.name for g in experiment.groups if g not in counted],
        "missing_energy": [e.step.name for e in experiment.energy if e.step.name not in known],
        "sets": sets,
        "training": training,
        "energy": energy,
        "payback": _paybacks(rows, runs, counted, energy, training),
    }


def name_of(facts: dict) -> str:
    """Of a curve: its member's name, and its teacher."""
    if facts["kind"] != "distilled":
        return facts["receiver"]
    return f"{facts['receiver']} by {Path(facts['teacher']).stem}"


def _set(some: list[Curve]) -> dict:
    """Of one set of channels: every receiver's rates, and students against the same from scratch.
    Receivers that were counted at other SINRs, before the examination was changed, are left out.
    """
    first = max(some, key=lambda curve: len(curve.sinr_db))
    alike = [c for c in some if list(c.sinr_db) == list(first.sinr_db)]
    left_out = [name_of(c.facts) for c in some if not any(c is a for a in alike)]
    some = alike
    return {
        "sinr_db": list(map(float, first.sinr_db)),
        "left_out": left_out,
        "receivers": [_receiver(curve) for curve in some],
        "pairs": [
            _pair(curve, base)
            for curve in some
            if curve.facts["kind"] == "distilled"
            and (base := scratch_of(curve, some)) is not None
            and seed_pairs(curve, base)
        ],
    }


def _receiver(curve: Curve) -> dict:
    facts, rates = curve.facts, curve.rates()
    of_student = facts["kind"] in ("distilled", "scratch")
    return {
        "name": name_of(facts),
        "kind": facts["kind"],
        "net": _net(facts) if of_student else facts["receiver"],
        "params": facts.get("params"),
        "flop_per_slot": facts.get("flop_per_slot"),
        "teacher": facts.get("teacher") or None,
        "temperature": facts.get("temperature"),
        "bits_share": facts.get("loss_bce") if facts["kind"] == "distilled" else None,
        "slot_weight": facts.get("slot_weight") if of_student else None,
        "seeds": len(curve.errors) if of_student else None,
        "train_slots": facts.get("train_slots"),
        "slots": int(curve.errors.shape[2]),
        "ber": [rate.rate for rate in rates],
        "ci95": [list(rate.ci95) for rate in rates],
        "by_seed": _by_seed(curve) if of_student else {},
        "crossings": [_crossing(curve, level) for level in LEVELS],
    }


def _by_seed(curve: Curve) -> dict[str, list[float]]:
    """BER over SINR."""
    bers = (curve.errors.mean(2) / curve.bits).tolist()
    return {str(seed[0]): ber for seed, ber in zip(curve.facts["seeds"], bers, strict=True)}


def _crossing(curve: Curve, level: float) -> dict:
    at, ends = curve.crossing(level)
    return {"ber": level, "sinr_db": _finite(at), "ci95": [_finite(end) for end in ends]}


def _pair(curve: Curve, base: Curve) -> dict:
    """A student against the same from scratch, on the same slots, over the seeds that both have."""
    pairs = seed_pairs(curve, base)
    errors, others = (sum(pair[i].errors[0] for pair in pairs) for i in (0, 1))
    points = []
    for i, sinr in enumerate(curve.sinr_db):
        ratio = low = high = None
        if others[i].any():
            ratio, (low, high) = paired_ratio(errors[i], others[i])
        points.append({"sinr_db": float(sinr), "ratio": ratio, "ci95": [low, high]})
    gains = []
    for level in LEVELS:
        g = gain(curve, base, level)
        if np.isfinite(g.mean):
            ends = {"over_slots": g.over_slots, "over_seeds": g.over_seeds}
            gains.append(
                {"ber": level, "db": g.mean}
                | {name: [_finite(end) for end in each] for name, each in ends.items()}
            )
    return {
        "student": name_of(curve.facts),
        "scratch": name_of(base.facts),
        "params": curve.facts["params"],
        "seeds": len(pairs),
        "points": points,
        "gains": gains,  # the first is at the lowest BER that both reach
    }


def _training(name: str, run: dict) -> dict:
    keys = (
        "device", "threads", "precision", "teacher", "students", "step", "slots",
        "resource_elements", "wall_s", "cached_llr_slots", "phases", "energy_j",
    )  # fmt: skip
    return {"group": name, "cpu": run["host"]["cpu"]} | {key: run[key] for key in keys}


def _energy_steps(experiment: Experiment, out: Path, stored: dict | None) -> list[dict]:
    """In the experiment's order, those of which every point was measured at least once."""
    before = {e["step"]["name"]: e for e in stored["energy"]} if stored else {}
    steps = []
    for energy in experiment.energy:
        name, file = energy.step.name, out / energy.step.name / FILE
        if measured_rounds(energy, out):
            steps.append(_energy(file))
        elif name in before:
            steps.append({"date": stored["date"]} | before[name])
    return steps


def _energy(file: Path) -> dict:
    """What a step measured, with the estimates and what each misses."""
    record = read(file)
    machine = record["machine"]
    kept = ("step", "host", "versions", "device", "threads", "source", "scope", "kind", "price")
    return {
        "date": date.fromtimestamp(file.stat().st_mtime).isoformat(),
        **{key: record[key] for key in (*kept, "idle_w")},
        "machine": {k: v for k, v in machine.items() if k not in ("host", "versions", "schema")},
        "points": [_point(point, record["kind"]) for point in record["points"]],
    }


def _point(point: dict, kind: str) -> dict:
    windows, batch, told = point["windows"], point["batch"], point["predicted"]

    def mean(key: str, those: list[dict]) -> tuple[float | None, list | None]:
        values = [w[key] for w in those if w[key] is not None]
        if not values:
            return None, None
        middle, ci95 = mean_ci95(values)
        return middle, ci95 and list(ci95)

    valid = [w for w in windows if not w["invalid"]]
    seconds, seconds_ci95 = mean("seconds", windows)
    joules, joules_ci95 = mean("joules", valid)
    clocks = [w["clock_hz"] for w in windows if w["clock_hz"]]
    estimates = {}
    for name in ("flop", "clock", "traffic"):
        each = told[f"{name}_j"] / batch
        estimates[name] = {"joules": each, "error": joules and each / joules - 1}
        each_s = told[f"{name}_s"] / batch
        estimates[name] |= {"seconds": each_s, "error_s": each_s / seconds - 1}
    return {key: point[key] for key in ("receiver", "form", "batch", "params")} | {
        "flop_per_slot": point["flop"] / batch,
        "bytes_per_slot": point["bytes"] / batch,
        "seconds": seconds,
        "seconds_ci95": seconds_ci95,
        "joules": joules,
        "joules_ci95": joules_ci95,
        "net": mean("net", valid)[0],
        "bound": mean("bound", valid)[0],
        "clock_hz": float(np.median(clocks)) if clocks else None,
        "invalid": next((w["invalid"] for w in windows if w["invalid"]), None),
        "estimates": estimates,
        "parts": {
            "flop": told["flop_s"] / batch / seconds,
            "memory": (told["roofline_s"] - told["flop_s"]) / batch / seconds,
            "kernels": (told["traffic_s"] - told["calls_s"] - told["roofline_s"]) / batch / seconds,
            "calls": told["calls_s"] / batch / seconds,
            "rest": 1 - told["traffic_s"] / batch / seconds,
        },
        "kinds": point["kinds"],
        "layers": point["layers"],
    }


def _paybacks(
    rows: list[dict], runs: dict, groups: list[Group], energy: list[dict], training: list[dict]
) -> list[dict]:
    """Of each distilled student: what teaching it took more than training it alone, and what a slot
    of it saves against the smallest net from scratch that is as good at and above FLOOR_DB.
    """
    some = curves([r for r in rows if (r["set"], r["domain"]) == ("evaluation", "frequency")])
    alone = [c for c in some if c.facts["kind"] == "scratch"]
    trained = {g.label: g.name for g in groups if g.recipe and g.label}
    nets = {_net(c.facts) for c in some if c.facts["kind"] in ("distilled", "scratch")}
    of_devices = _joules(energy, nets)
    paybacks = []
    for curve in (c for c in some if c.facts["kind"] == "distilled"):
        facts = curve.facts
        alike = [c for c in alone if c.facts.get("slot_weight") == facts.get("slot_weight")]
        equal = [c for c in alike if _floor(c) <= _floor(curve)]
        run = runs[facts["group"]]
        teachers = runs.get(trained.get(facts["teacher"], ""))
        cost = (sum(p["flop"] for p in teachers["phases"].values()), 0) if teachers else (0.0, 0)
        (price,) = (p for p in payback(run, cost) if p.student == facts["receiver"])
        rival = min(equal, key=lambda c: c.facts["flop_per_slot"], default=None)
        saved = rival and rival.facts["flop_per_slot"] - facts["flop_per_slot"]
        devices = sorted(of_devices, key=lambda device: device != run["device"])
        joules = [of_devices[device] for device in devices]
        passes_j, kind = _teaching_j(run, teachers, joules)
        saved_j = None
        if rival:
            nets = [_net(f) for f in (rival.facts, facts)]
            both = next((j for j in joules if all(net in j for net in nets)), None)
            saved_j = both and both[nets[0]] - both[nets[1]]
        paybacks.append(
            {
                "student": name_of(facts),
                "rival": rival and name_of(rival.facts),
                "teacher_forward_flop": price.teacher_forward_flop,
                "teacher_training_flop": price.teacher_training_flop,
                "saved_flop_per_slot": saved,
                "teacher_forward_j": passes_j,
                "joules": kind,
                "teacher_training_j": teachers and teachers["energy_j"]["joules"],
                "saved_j_per_slot": saved_j,
            }
        )
    return paybacks


def _net(facts: dict) -> str:
    """A member's net, whatever its teaching."""
    return facts["receiver"].partition("-")[0]


def _floor(curve: Curve) -> float:
    """Mean log10 BER at and above FLOOR_DB."""
    those = [
        np.log10(max(rate.errors, 0.5) / rate.bits)
        for sinr, rate in zip(curve.sinr_db, curve.rates(), strict=True)
        if sinr >= FLOOR_DB
    ]
    return float(np.mean(those)) if those else np.nan


def _teaching_j(
    run: dict, teachers: dict | None, of_devices: list[dict[str, float]]
) -> tuple[float | None, str]:
    """Joules of the teacher's passes for one student of a run, and of which kind they are. Where
    they are not measured there: draws times what a slot of the teacher takes in an energy step.
    """
    phase, energy = run["phases"]["teacher"], run["energy_j"]
    students = max(1, len(run["students"]))
    if phase["s"] and phase["joules"] is not None:
        return phase["joules"] / students, energy["kind"]
    for name in teachers["members"] if teachers else ():
        for joules in of_devices:
            if name in joules:
                return run["slots"] * joules[name] / students, "measured per slot"
    if not phase["s"]:
        return None, "cached"
    return phase["modelled_j"] / students, "modelled"


def _joules(energy: list[dict], students: set[str]) -> dict[str, dict[str, float]]:
    """Joules a slot of receivers, each at its best, by device; of students by their net."""
    devices: dict[str, dict[str, float]] = {}
    for step in energy:
        best = devices.setdefault(step["device"], {})
        for point in step["points"]:
            net = _net(point)
            name = net if net in students else point["receiver"]
            if point["joules"] is not None:
                best[name] = min(point["joules"], best.get(name, np.inf))
    return devices


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
