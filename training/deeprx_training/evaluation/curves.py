# SPDX-License-Identifier: GPL-3.0-or-later
"""What remains of groups when their seeds are pooled: a receiver over SINR, compared with others.

All groups of a table were examined on the same slots, so errors add up slot by slot, and the slots
stay the clusters of the intervals.
"""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from scipy.stats import t as student_t

from deeprx_common.files import array_names, read_arrays
from deeprx_common.schema import (
    COUNT,
    INDICES,
    NUMBER,
    POSITIVE,
    TEXT,
    WHOLE,
    Field,
    check,
    number,
    parse_json,
)
from deeprx_common.stats import error_rate, sinr_at_ber, sinr_gain

from ..teaching.losses import LOSSES
from ..teaching.recipe import Recipe

_DISTILLING = ("teacher", "temperature", "kd_until", *(f"loss_{k}" for k in LOSSES))
_SEEDS = ("seed", "data_seed")
_NUMBERS = tuple(
    f.name
    for f in fields(Recipe)
    if isinstance(f.default, int | float | str)
    and f.name not in (*_SEEDS, "sha256", "text", "folder")
)
# What tells curves apart, with every key of [data] that an experiment varies
_IDENTITY = ("net", "params", "flop_per_slot", *_NUMBERS, *_DISTILLING)


ROW = {
    "group": TEXT,
    "receiver": TEXT,
    "kind": TEXT,
    "set": TEXT,
    "domain": TEXT,
    "modulation": TEXT,
    "sinr_db": NUMBER,
    "errors": INDICES,
    "slots": POSITIVE,
    "bit_errors": COUNT,
    "bits": POSITIVE,
}
NET = {"params": COUNT, "flop_per_slot": number(0, 1e30)}
STUDENT = NET | {
    "net": Field("a net, as JSON", lambda v: TEXT.holds(v) and _is_net(v)),
    "seed": WHOLE,
    "data_seed": WHOLE,
    "teacher": TEXT,
}
OF_KIND = {"distilled": STUDENT, "scratch": STUDENT, "teacher": NET}


def _is_net(text: str) -> bool:
    try:
        net = parse_json(text)
    except ValueError:
        return False
    return isinstance(net, dict) and TEXT.holds(net.get("net"))


BLOCK_ERRORS = "block_errors "  # and a receiver: an array's name


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

    def rates(self) -> list:
        """An ErrorRate for each SINR, over slots."""
        bits = [self.bits * len(self.errors)] * self.errors.shape[2]
        return [error_rate(e, bits) for e in self.errors.sum(0)]

    def crossing(self, target: float, resamples: int = 200) -> tuple[float, tuple[float, float]]:
        """SINR in dB at a BER, and its interval over slots."""
        bits = [self.bits * len(self.errors)] * self.errors.shape[2]
        points = [(s, e, bits) for s, e in zip(self.sinr_db, self.errors.sum(0), strict=True)]
        return sinr_at_ber(points, target, resamples)

    def one(self, seed: int) -> "Curve":
        return replace(self, errors=self.errors[seed : seed + 1])


def identity(row: dict, *leave_out: str) -> tuple:
    """What a row is of, whatever was measured and whatever the seeds."""
    kept = {k for k in row if k in _IDENTITY or k.startswith("data.")}.difference(leave_out)
    return tuple((k, row[k]) for k in sorted(kept))


def _setting(row: dict) -> tuple:
    return (*identity(row), (row["kind"], row["receiver"]))


def scores_of(rows: list[dict]) -> dict[tuple, float]:
    """Mean log10 BER of each setting on the set validation."""
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
        seed = (row.get("seed"), row.get("data_seed"), row["group"])
        groups.setdefault(_setting(row), {}).setdefault(seed, {})[row["sinr_db"]] = row
    pooled = []
    for setting, seeds in groups.items():
        first = next(iter(seeds.values()))
        sinr = np.array(sorted(first))
        row = first[sinr[0]]
        try:
            errors = np.array([[by_sinr[s]["errors"] for s in sinr] for by_sinr in seeds.values()])
        except (KeyError, ValueError):
            raise PlotError(
                f"{row['receiver']}: expected as many slots at the same SINRs for each seed"
            ) from None
        facts = row | {"seeds": [seed[:2] for seed in seeds]}
        score = (scores or {}).get(setting, np.nan)
        pooled.append(Curve(facts, sinr, errors, row["bits"] // row["slots"], score))
    return pooled


def scratch_of(curve: Curve, all_curves: list[Curve]) -> Curve | None:
    """The same student from scratch: same net, data, steps and optimiser; the seeds both have."""
    same = identity(curve.facts, *_DISTILLING)
    for other in all_curves:
        if other.facts["kind"] == "scratch" and identity(other.facts, *_DISTILLING) == same:
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


def seed_pairs(curve: Curve, other: Curve) -> list[tuple[Curve, Curve]]:
    """Both curves, seed by seed, where both have it."""
    a, b = curve.facts["seeds"], other.facts["seeds"]
    return [(curve.one(a.index(s)), other.one(b.index(s))) for s in a if s in b]


def gain(curve: Curve, other: Curve, target: float, resamples: int = 200) -> Gain:
    """By how many dB curve is ahead of other; the same slots are resampled for both."""
    pairs = seed_pairs(curve, other)
    if not pairs:
        return Gain(0, np.nan, (np.nan, np.nan), (np.nan, np.nan))
    sides = (np.concatenate([pair[i].errors for pair in pairs]) for i in (0, 1))
    db, over_slots = sinr_gain(curve.sinr_db, *sides, curve.bits, target, resamples)
    n = len(db)
    with np.errstate(invalid="ignore"):
        mean = float(db.mean())
        half = student_t.ppf(0.975, n - 1) * db.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return Gain(n, mean, (mean - half, mean + half), over_slots)


def read(path: str | Path) -> tuple[Path, list[dict]]:
    """An experiment's folder and the rows of its results.parquet; PlotError where there is none."""
    path = Path(path)
    file = path / "results.parquet" if path.is_dir() else path
    rows = read_rows(file)
    if not rows:
        raise PlotError(f"{file}: expected an experiment's results, found a table without rows")
    return file.parent, rows


def read_rows(file: Path) -> list[dict]:
    """The rows of a group's table or of those of all; PlotError where the file is none."""
    try:
        rows = pa.parquet.read_table(file).to_pylist()
        for k, row in enumerate(rows):
            fields = ROW | OF_KIND.get(row.get("kind"), {})
            check({key: row[key] for key in fields if key in row}, fields, f"row {k}")
    except FileNotFoundError:
        raise PlotError(
            f"{file}: not there; ./dev train experiment writes it when a group has finished"
        ) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PlotError(f"{file}: expected an experiment's results: {error}") from None
    return rows


def read_block_errors(file: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """SINR in dB [P], and wrong blocks [P, slots] by receiver, of an examination with an MCS;
    PlotError where the file holds none.
    """
    try:
        names = [name for name in array_names(file) if name.startswith(BLOCK_ERRORS)]
        sinr_db, *wrong = read_arrays(file, ["sinr_db", *names])
        if not all(a.dtype.kind in "biuf" for a in (sinr_db, *wrong)) or not all(
            w.ndim == 2 and (len(w),) == sinr_db.shape for w in wrong
        ):
            raise ValueError("expected block errors at each SINR and slot")
    except ValueError as error:
        raise PlotError(f"{file}: {error}, as ./dev train experiment counts them") from None
    return sinr_db, {n.removeprefix(BLOCK_ERRORS): w for n, w in zip(names, wrong, strict=True)}


def describe(curve: Curve, among: list[Curve], *leave_out: str) -> str:
    """A short name: kind, and what sets the curve apart from others of its kind."""
    facts = curve.facts
    if facts["kind"] == "baseline":
        return facts["receiver"]
    if facts["kind"] == "teacher":
        return f"teacher {_teacher_name(facts['receiver'])}"
    peers = [c.facts for c in among if c.facts["kind"] == facts["kind"]]
    parts = [facts["kind"]]
    if len({p["net"] for p in peers}) > 1:
        parts.append(f"{net_name(curve)} {facts['params'] / 1e3:.0f} k")
    if len({_loss(p) for p in peers}) > 1:
        parts.append(_loss(facts))
    losses = [f"loss_{k}" for k in LOSSES]
    for key, value in identity(facts, "net", "params", "flop_per_slot", *losses, *leave_out):
        if len({p[key] for p in peers}) > 1:
            value = f"{value:g}" if isinstance(value, float) else value
            short = {"temperature": "T", "kd_until": "until"}.get(key, key)
            parts.append(f"{short} {_teacher_name(value) if key == 'teacher' else value}")
    return ", ".join(parts)


def _teacher_name(file: str) -> str:
    return Path(file).stem if file.endswith(".pt") else file


def _loss(facts: dict) -> str:
    """As in 0.5 bce + 0.02 mse."""
    weights = {k: w for k in LOSSES if (w := facts.get(f"loss_{k}"))}  # old tables have fewer
    return " + ".join(k if w == 1 else f"{w:g} {k}" for k, w in weights.items())


def net_name(curve: Curve) -> str:
    return json.loads(curve.facts["net"])["net"]
