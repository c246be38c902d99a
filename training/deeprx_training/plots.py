# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sweep found, in pictures and in decibels: reads the table that sweep.gather writes.

A curve is what remains of one or more trials when their seeds are pooled: all were examined on the
same slots, so errors add up slot by slot, and the slots stay the clusters of the intervals.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from scipy.stats import t as student_t

from deeprx_common.report import replacing
from deeprx_common.stats import error_rate, paired_difference, sinr_at_ber

from .losses import LOSSES

TARGETS = (1e-2, 1e-3)
_DISTILLING = ("teacher", "temperature", "kd_until", *(f"loss_{k}" for k in LOSSES))
_MEASURED = (
    "trial", "kind", "receiver", "set", "domain", "modulation", "sinr_db", "ber", "ber_low",
    "ber_high", "bit_errors", "bits", "slots", "errors", "train_s", "train_flop",
    "train_j", "train_j_kind", "train_j_modelled", "recipe_sha256",
)  # fmt: skip
_SEEDS = ("seed", "data_seed")


class PlotError(ValueError):
    """A table that cannot be drawn; the message is one line."""


@dataclass(frozen=True)
class Curve:
    """One receiver over SINR: facts of its first row; sinr_db [P]; errors int64 [seeds, P, slots]
    by seed; bits of a slot; score: mean log10 BER on the set validation, by which settings are
    chosen, whatever the set that is drawn.
    """

    facts: dict
    sinr_db: np.ndarray
    errors: np.ndarray
    bits: int
    score: float = np.nan

    def points(self, pick: np.ndarray | None = None) -> list[tuple]:
        """For sinr_at_ber; pick int [P, slots] resamples the slots of each point."""
        errors = self.errors.sum(0)
        if pick is not None:
            errors = np.take_along_axis(errors, pick, 1)
        return [
            (s, [e.sum()], [self.bits * e.size * len(self.errors)])
            for s, e in zip(self.sinr_db, errors, strict=True)
        ]

    def rates(self) -> list:
        """An ErrorRate for each SINR, over slots."""
        bits = [self.bits * len(self.errors)] * self.errors.shape[2]
        return [error_rate(e, bits) for e in self.errors.sum(0)]

    def one(self, seed: int) -> "Curve":
        return replace(self, errors=self.errors[seed : seed + 1])


def _key(row: dict, *leave_out: str) -> tuple:
    """What a row is of, whatever was measured and whatever the seeds."""
    apart = {*_MEASURED, *_SEEDS, "seeds", *leave_out}
    return tuple((k, v) for k, v in row.items() if k not in apart)


def _setting(row: dict) -> tuple:
    return (*_key(row), (row["kind"], row["receiver"]))


def _scores(rows: list[dict]) -> dict[tuple, float]:
    logs: dict[tuple, list[float]] = {}
    for row in rows:
        if row["set"] == "validation":
            rate = max(row["bit_errors"], 0.5) / row["bits"]
            logs.setdefault(_setting(row), []).append(np.log10(rate))
    return {setting: float(np.mean(values)) for setting, values in logs.items()}


def curves(rows: list[dict], scores: dict[tuple, float] | None = None) -> list[Curve]:
    """Rows of one set, domain and modulation as curves, seeds pooled."""
    groups: dict[tuple, dict] = {}
    for row in rows:
        seed = (row["seed"], row["data_seed"], row["trial"])
        groups.setdefault(_setting(row), {}).setdefault(seed, {})[row["sinr_db"]] = row
    made = []
    for setting, seeds in groups.items():
        first = next(iter(seeds.values()))
        sinr = np.array(sorted(first))
        errors = np.array([[by_sinr[s]["errors"] for s in sinr] for by_sinr in seeds.values()])
        row = first[sinr[0]]
        facts = row | {"seeds": [seed[:2] for seed in seeds]}
        score = (scores or {}).get(setting, np.nan)
        made.append(Curve(facts, sinr, errors, row["bits"] // row["slots"], score))
    return made


def scratch_of(curve: Curve, all_curves: list[Curve]) -> Curve | None:
    """The same student from scratch: same net, data, steps and optimiser; the seeds both have."""
    same = _key(curve.facts, *_DISTILLING)
    for other in all_curves:
        if other.facts["kind"] == "scratch" and _key(other.facts, *_DISTILLING) == same:
            return other
    return None


@dataclass(frozen=True)
class Gain:
    """dB that a curve needs less SINR than another at a target BER, mean over the seeds that both
    have; over_seeds: Student's 95 % interval of that mean (nan with one seed); over_slots: of the
    paired bootstrap over slots. nan or inf where a curve does not cross the target.
    """

    seeds: int
    mean: float
    over_seeds: tuple[float, float]
    over_slots: tuple[float, float]


def _pairs(curve: Curve, other: Curve) -> list[tuple[Curve, Curve]]:
    """Both curves, seed by seed, where both have it."""
    own, theirs = curve.facts["seeds"], other.facts["seeds"]
    return [(curve.one(own.index(s)), other.one(theirs.index(s))) for s in own if s in theirs]


def gain(curve: Curve, other: Curve, target: float, resamples: int = 200) -> Gain:
    """By how many dB curve is ahead of other; the same slots are resampled for both."""
    pairs = _pairs(curve, other)

    def gains(pick=None) -> np.ndarray:
        ends = [[sinr_at_ber(c.points(pick), target, 1)[0] for c in pair] for pair in pairs]
        return np.array([theirs - own for own, theirs in ends])

    rng = np.random.default_rng(0)
    points, slots = curve.errors.shape[1:]
    with np.errstate(invalid="ignore"):  # inf - inf: neither reaches the target
        found = gains()
        mean, n = float(found.mean()), len(found)
        half = student_t.ppf(0.975, n - 1) * found.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
        draws = [gains(rng.integers(slots, size=(points, slots))).mean() for _ in range(resamples)]
        low, high = np.quantile(draws, (0.025, 0.975), method="nearest")
    return Gain(n, mean, (mean - half, mean + half), (float(low), float(high)))


def read(path: str | Path) -> tuple[Path, list[dict]]:
    """A sweep's folder and the rows of its results.parquet; PlotError where there is none."""
    path = Path(path)
    file = path / "results.parquet" if path.is_dir() else path
    try:
        rows = pa.parquet.read_table(file).to_pylist()
    except FileNotFoundError:
        raise PlotError(
            f"{file}: not there; ./dev train sweep writes it when a trial has finished"
        ) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise PlotError(f"{file}: expected a sweep's results.parquet ({error})") from None
    if not rows or not {"kind", "set", "errors", "sinr_db"} <= set(rows[0]):
        raise PlotError(f"{file}: expected a sweep's results.parquet, found another table")
    return file.parent, rows


def describe(curve: Curve, among: list[Curve], *leave_out: str) -> str:
    """A short name: kind, and what sets the curve apart from others of its kind."""
    facts = curve.facts
    if facts["kind"] == "baseline":
        return facts["receiver"]
    if facts["kind"] == "teacher":
        return f"teacher {facts['receiver']}"
    peers = [c.facts for c in among if c.facts["kind"] == facts["kind"]]
    parts = [facts["kind"]]
    if len({p["net"] for p in peers}) > 1:
        parts.append(f"{_net(curve)} {facts['params'] / 1e3:.0f} k")
    for key, value in _key(facts, "net", "params", "flop_per_slot", *leave_out):
        if len({p[key] for p in peers}) > 1:
            value = f"{value:g}" if isinstance(value, float) else value
            parts.append(f"{key.removeprefix('loss_')} {value}")
    return ", ".join(parts)


def draw(path: str | Path) -> list[Path]:
    """Write the pictures and gains.md of a sweep's table beside it; returns what was written."""
    folder, rows = read(path)
    scores = _scores(rows)
    written, gains = [], []
    for key in dict.fromkeys((r["set"], r["domain"], r["modulation"]) for r in rows):
        some = curves([r for r in rows if (r["set"], r["domain"], r["modulation"]) == key], scores)
        stem = "-".join(key)
        for name, picture in (
            ("ber", _ber),
            ("flop", _flop),
            ("teacher", _teacher_size),
            ("distilling", _hyperparameters),
        ):
            file = folder / f"{name}-{stem}.png"
            if _picture(file, picture, some, " ".join(key)):
                written.append(file)
        gains += [f"## {', '.join(key)}", "", *_gain_lines(some), ""]
    with replacing(folder / "gains.md") as temporary:
        Path(temporary).write_text("\n".join([_GAINS, *gains]))
    return [*written, folder / "gains.md"]


_GAINS = """# What distilling gains

dB of SINR that the distilled student needs less than the same student from scratch (same slots,
steps, optimiser and seeds) to reach a BER; positive: distilling is ahead. Mean over seeds, its 95 %
interval over seeds [Student's t] and over channel draws (paired bootstrap). `-`: does not cross.
Settings are chosen on the set validation; evaluation only reports.
"""


def _gain_lines(some: list[Curve]) -> list[str]:
    lines = []
    for curve in some:
        if curve.facts["kind"] != "distilled":
            continue
        base = scratch_of(curve, some)
        if base is None or not _pairs(curve, base):
            continue
        cells = [describe(curve, some), f"{curve.facts['params']}"]
        for target in TARGETS:
            g = gain(curve, base, target)
            cells += [_number(g.mean), _interval(g.over_seeds), _interval(g.over_slots)]
        lines.append(f"| {' | '.join([*cells, str(g.seeds)])} |")
    if not lines:
        return ["No distilled student has a counterpart from scratch."]
    head = ["student", "parameters"]
    for target in TARGETS:
        head += [f"gain at {target:g}, dB", "over seeds", "over slots"]
    head.append("seeds")
    return [f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *lines]


def _number(value: float) -> str:
    return f"{value:+.2f}" if np.isfinite(value) else "-"


def _interval(pair: tuple[float, float]) -> str:
    return f"[{pair[0]:+.2f}, {pair[1]:+.2f}]" if np.isfinite(pair).all() else "-"


# Pictures: each function draws some curves and returns its figure, or None where it has nothing


def _picture(file: Path, make: Callable, some: list[Curve], title: str) -> bool:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = make(pyplot, some)
    if figure is None:
        file.unlink(missing_ok=True)  # of an earlier table
        return False
    figure.suptitle(f"{title}; 95 % intervals over channel draws", fontsize="small")
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=120)
    pyplot.close(figure)
    return True


def _line(axis, x, rates, label, **style) -> None:
    """BER with intervals; a point without errors is an arrow down from its bound."""
    axis.set_yscale("log")
    x, rates = list(x), list(rates)
    ber = np.array([r.rate or np.nan for r in rates])
    low, high = np.array([r.ci95 for r in rates]).T
    axis.errorbar(x, ber, [ber - low, high - ber], label=label, capsize=2, **style)
    for at, rate in zip(x, rates, strict=True):
        if not rate.errors:
            bound = rate.ci95[1]
            axis.errorbar([at], [bound], [bound / 2], uplims=True, **(style | {"marker": ""}))


def _finish(axis, **labels) -> None:
    axis.set(**labels)
    axis.grid(True, which="both", alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize="x-small")


def _students(some: list[Curve], *kinds: str) -> list[Curve]:
    found = [c for c in some if c.facts["kind"] in (kinds or ("distilled", "scratch"))]
    return sorted(found, key=lambda c: c.facts["params"])


def _panels(pyplot, count: int):
    figure, axes = pyplot.subplots(
        1, count, figsize=(1 + 5 * count, 4.5), sharey=True, squeeze=False, layout="constrained"
    )
    return figure, axes[0]


def _ber(pyplot, some: list[Curve]):
    """One panel for each student net, with teachers and baselines in all."""
    nets: dict[str, list[Curve]] = {}
    for curve in _students(some):
        nets.setdefault(curve.facts["net"], []).append(curve)
    others = [c for c in some if c.facts["kind"] in ("teacher", "baseline")]
    figure, axes = _panels(pyplot, max(1, len(nets)))
    for axis, students in zip(axes, nets.values() or [[]], strict=True):
        for k, curve in enumerate(others):
            look = {"color": str(0.2 + 0.5 * k / max(1, len(others))), "linestyle": "--"}
            _line(axis, curve.sinr_db, curve.rates(), describe(curve, some), marker=".", **look)
        for k, curve in enumerate(students):
            look = {"color": f"C{k % 10}", "marker": "osDv^<>pP*"[k % 10], "markersize": 4}
            _line(axis, curve.sinr_db, curve.rates(), describe(curve, students), **look)
        first = students[0] if students else None
        title = f"{_net(first)}, {first.facts['params']} parameters" if first else ""
        _finish(axis, xlabel="SINR per data RE and antenna, dB", title=title)
    axes[0].set_ylabel("uncoded BER")
    return figure


def _best(some: list[Curve], by: Callable) -> dict:
    """The curve of each by(curve) that validation prefers, in ascending order of by."""
    found: dict = {}
    for curve in sorted(some, key=lambda c: (by(c), c.score)):
        found.setdefault(by(curve), curve)
    return found


def _net(curve: Curve) -> str:
    return json.loads(curve.facts["net"])["net"]


def _flop(pyplot, some: list[Curve]):
    """BER over the student's FLOP at every SINR, distilled against scratch, one panel a kind of
    net.
    """
    students = _students(some)
    if len({c.facts["flop_per_slot"] for c in students}) < 2:
        return None
    nets = list(dict.fromkeys(map(_net, students)))
    figure, axes = _panels(pyplot, len(nets))
    for axis, net in zip(axes, nets, strict=True):
        for kind, linestyle in (("distilled", "-"), ("scratch", "--")):
            own = [c for c in _students(some, kind) if _net(c) == net]
            best = _best(own, lambda c: c.facts["flop_per_slot"])
            for i, sinr in enumerate(own[0].sinr_db if own else ()):
                look = {"color": f"C{i % 10}", "linestyle": linestyle, "marker": "o"}
                rates = [c.rates()[i] for c in best.values()]
                _line(axis, best, rates, f"{kind}, {sinr:g} dB", markersize=4, **look)
        axis.set_xscale("log")
        _finish(axis, xlabel="FLOP per slot", title=f"{net}, each size as validation prefers")
    axes[0].set_ylabel("uncoded BER")
    return figure


def _against_scratch(curve: Curve, some: list[Curve], i: int) -> tuple[float, float, float] | None:
    """BER less the scratch counterpart's at one SINR, in percent of that; its paired interval."""
    base = scratch_of(curve, some)
    if base is None or not (pairs := _pairs(curve, base)):
        return None
    own, theirs = (sum(pair[k].errors[0, i] for pair in pairs) for k in (0, 1))
    if not theirs.any():
        return None
    bits = np.full(len(own), curve.bits * len(pairs))
    found = paired_difference(own, theirs, bits)
    percent = 100 * bits.sum() / theirs.sum()
    return tuple(percent * v for v in (found.difference, *found.ci95))


def _effect(pyplot, taught: list[Curve], some: list[Curve], lines: dict, x: Callable, label: str):
    """What distilling does to the BER at the middle and the last SINR, over x(curve)."""
    points = sorted({len(taught[0].sinr_db) // 2, len(taught[0].sinr_db) - 1})
    figure, axes = _panels(pyplot, len(points))
    for axis, i in zip(axes, points, strict=True):
        for k, (name, line) in enumerate(lines.items()):
            drawn = [(x(c), found) for c in line if (found := _against_scratch(c, some, i))]
            if drawn:
                at, found = zip(*drawn, strict=True)
                middle, low, high = np.array(found).T
                look = {"color": f"C{k % 10}", "marker": "o", "markersize": 4, "capsize": 2}
                axis.errorbar(at, middle, [middle - low, high - middle], label=name, **look)
        axis.axhline(0, color="0.4", linestyle=":")
        axis.set_title(f"{taught[0].sinr_db[i]:g} dB")
        _finish(axis, xlabel=label)
    axes[0].set_ylabel("BER against the same student from scratch, %\n(below 0: distilling helps)")
    return figure


def _teacher_size(pyplot, some: list[Curve]):
    """A line for each student size over the teacher's parameters; validation chose the settings."""
    sizes = {c.facts["receiver"]: c.facts["params"] for c in some if c.facts["kind"] == "teacher"}
    taught = [
        c for c in _students(some, "distilled")
        if c.facts["teacher"] in sizes and scratch_of(c, some)
    ]  # fmt: skip
    if len({sizes[c.facts["teacher"]] for c in taught}) < 2:
        return None
    lines = {}
    for params in dict.fromkeys(c.facts["params"] for c in taught):
        own = [c for c in taught if c.facts["params"] == params]
        best = _best(own, lambda c: sizes[c.facts["teacher"]])
        choice = min(best, key=lambda size: best[size].score)
        name = f"student {params / 1e3:.0f} k: validation chooses {choice / 1e3:.0f} k"
        lines[name] = list(best.values())
    figure = _effect(
        pyplot, taught, some, lines, lambda c: sizes[c.facts["teacher"]], "teacher's parameters"
    )
    for axis in figure.axes:
        axis.set_xscale("log")
    return figure


def _hyperparameters(pyplot, some: list[Curve]):
    """A line for each set of loss weights over temperature."""
    taught = [c for c in _students(some, "distilled") if scratch_of(c, some)]
    weights = [f"loss_{k}" for k in LOSSES]
    if len({(c.facts["temperature"], *(c.facts[w] for w in weights)) for c in taught}) < 2:
        return None
    lines: dict[str, list[Curve]] = {}
    for curve in sorted(taught, key=lambda c: c.facts["temperature"]):
        lines.setdefault(describe(curve, taught, "temperature"), []).append(curve)
    return _effect(pyplot, taught, some, lines, lambda c: c.facts["temperature"], "temperature")
