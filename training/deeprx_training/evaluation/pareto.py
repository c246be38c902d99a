# SPDX-License-Identifier: GPL-3.0-or-later
"""Which receivers are worth their time: error rate against milliseconds and FLOP of the same model
files, from an evaluation and a bench.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeprx_common.documents import read_document
from deeprx_common.figure import figure
from deeprx_common.files import read_arrays, replacing
from deeprx_common.schema import INTERVAL, TEXT, named, number, several, table

from .cells import crossing_cell, markdown_table
from .curves import Curve, Gain, gain
from .evaluate import BER_TARGETS, PERFECT

BENCH = {
    "schema": named("deeprx.bench/"),
    "device": TEXT,
    "rows": several(
        table(
            {
                "receiver": TEXT,
                "contender": TEXT,
                "model_sha256": TEXT.or_null(),
                "real_time": number(0).or_null(),
                "flop_per_s": number(0).or_null(),
                "cpu_s_quartiles": INTERVAL.or_null(),
            }
        )
    ),
}
EVALUATION = {"points": several(table({"receiver": TEXT, "model_sha256": TEXT.or_null()}))}
EVALUATE = "./dev train evaluate"


class FrontError(ValueError):
    """Files from which no front can be made; the message is one line."""


@dataclass(frozen=True)
class Candidate:
    """A receiver. ms: a slot takes, CPU time or, on a GPU, wall time: median and, of CPU time,
    quartiles; gflop: per slot. behind: dB of SINR that it needs more than perfect CSI at each of
    BER_TARGETS, paired over slots.
    """

    name: str
    ms: float
    ms_quartiles: tuple[float, float] | None
    gflop: float
    behind: tuple[Gain, ...]


def read(evaluation: str | Path, bench: str | Path, contender: str) -> list[Candidate]:
    """Receivers of an evaluation's folder that the bench.json has, too, cheapest first. OSError or
    ValueError where a file is not what is expected, FrontError where they have no receiver in
    common.
    """
    folder = Path(evaluation)
    report = read_document(folder / "report.json", EVALUATION, "an evaluation's report", EVALUATE)
    measured = read_document(bench, BENCH, "a bench.json", "./dev bench")
    counted = {p["receiver"]: p["model_sha256"] for p in report["points"]}
    curves = _curves(folder / "errors.npz", {PERFECT, *counted})
    times = {
        row["model_sha256"]: row
        for row in measured["rows"]
        if row["contender"] == contender and row["real_time"]
    }
    candidates = []
    for name, sha256 in counted.items():
        row = times.get(sha256)
        if row is None:
            continue
        ms = 1 / row["real_time"]  # a slot lasts 1 ms
        quartiles = None
        if measured["device"] == "cpu" and row["cpu_s_quartiles"]:
            quartiles = tuple(1e3 * s for s in row["cpu_s_quartiles"])
        gflop = 1e-12 * row["flop_per_s"] * ms if row["flop_per_s"] else np.nan
        behind = tuple(gain(curves[PERFECT], curves[name], target) for target in BER_TARGETS)
        candidates.append(Candidate(name, ms, quartiles, gflop, behind))
    if not candidates:
        raise FrontError(
            f"{folder} and {bench}: no model file is in both, with times as {contender!r}"
        )
    return sorted(candidates, key=lambda c: c.ms)


def _curves(file: Path, names: Collection[str]) -> dict[str, Curve]:
    """Of what an evaluation counted of each receiver, [SINR, slots]."""
    try:
        sinr_db, bits, *errors = read_arrays(file, ["sinr_db", "n_bits", *names])
        like = errors[0].shape
        numbers = all(a.dtype.kind in "iuf" for a in (sinr_db, bits, *errors))
        alike = numbers and len(like) == 2 and all(e.shape == like for e in errors)
        if not (alike and sinr_db.shape == like[:1] and bits.shape == () and bits > 0 < like[1]):
            raise ValueError("expected errors of each receiver at each SINR and slot")
        if not all(((e >= 0) & (e <= bits)).all() for e in errors):
            raise ValueError(f"expected from 0 to {bits} errors a slot")
    except ValueError as error:
        raise FrontError(
            f"{file}: {error}, as {EVALUATE} writes them beside this report.json"
        ) from None
    return {
        name: Curve({"seeds": [0]}, sinr_db, of_name[None], int(bits))
        for name, of_name in zip(names, errors, strict=True)
    }


def front(costs: list[float], losses: list[float]) -> list[bool]:
    """Which pairs no other beats: none costs at most as much and loses at most as much, and one of
    the two less. What is not finite is never on the front.
    """
    pairs = list(zip(costs, losses, strict=True))
    return [
        bool(np.isfinite([cost, loss]).all())
        and not any(c <= cost and o <= loss and (c, o) != (cost, loss) for c, o in pairs)
        for cost, loss in pairs
    ]


def _clock(candidates: list[Candidate]) -> str:
    return ("CPU" if candidates[0].ms_quartiles else "wall") + " ms a slot"


def markdown(candidates: list[Candidate]) -> str:
    """A table, cheapest first; bold is on the front of that column against ms, a star on that
    against GFLOP.
    """
    marks = []
    for i in range(len(BER_TARGETS)):
        losses = [c.behind[i].mean for c in candidates]
        by_time = front([c.ms for c in candidates], losses)
        marks.append((by_time, front([c.gflop for c in candidates], losses)))
    lines = []
    for k, c in enumerate(candidates):
        line = [c.name, f"{c.gflop:.3f}", f"{c.ms:.2f}"]
        if c.ms_quartiles:
            line[-1] += " [{:.2f}, {:.2f}]".format(*c.ms_quartiles)
        for g, (by_time, by_flop) in zip(c.behind, marks, strict=True):
            cell = crossing_cell(g.mean, g.over_slots)
            cell = f"**{cell}**" if by_time[k] else cell
            line.append(cell + " \\*" * by_flop[k])
        lines.append(line)
    head = ["receiver", "GFLOP", _clock(candidates)]
    head[-1] += " [quartiles]" * bool(candidates[0].ms_quartiles)
    head += [f"dB behind perfect CSI at {t:g}" for t in BER_TARGETS]
    return markdown_table(head, lines)


def draw(candidates: list[Candidate], path: Path) -> None:
    """The dB behind perfect CSI over ms (above) and GFLOP (below); the front has names."""
    names = [c.name for c in candidates]
    about = "95 % intervals over channel draws, paired with perfect CSI"
    panels = [
        (label, costs, i)
        for label, costs in (
            (_clock(candidates), [c.ms for c in candidates]),
            ("GFLOP per slot", [c.gflop for c in candidates]),
        )
        for i in range(len(BER_TARGETS))
    ]
    with figure(path, len(panels), columns=len(BER_TARGETS), size=(6, 4.5), title=about) as axes:
        for axis, (label, costs, i) in zip(axes, panels, strict=True):
            losses = [c.behind[i].mean for c in candidates]
            on = front(costs, losses)
            steps = sorted((c, o) for c, o, is_on in zip(costs, losses, on, strict=True) if is_on)
            axis.step(*zip(*steps, strict=True), where="post", color="0.6", linewidth=1)
            for k, (cost, loss, is_on) in enumerate(zip(costs, losses, on, strict=True)):
                if not is_on:
                    axis.plot([cost], [loss], "o", color="0.6", markersize=3)
                    continue
                low, high = candidates[k].behind[i].over_slots
                error = [[max(0, loss - low)], [max(0, high - loss)]]
                axis.errorbar([cost], [loss], error, fmt="o", color="C0", markersize=4, linewidth=1)
                axis.annotate(
                    names[k], (cost, loss), textcoords="offset points", xytext=(4, 4),
                    fontsize="x-small", rotation=45,
                )  # fmt: skip
            axis.set(
                xscale="log",
                xlabel=label,
                ylabel=f"dB behind perfect CSI at BER {BER_TARGETS[i]:g}",
            )


def write(candidates: list[Candidate], folder: Path) -> list[str]:
    """front.md and front.png into a folder; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "front.md") as temporary:
        Path(temporary).write_text(markdown(candidates) + "\n")
    draw(candidates, folder / "front.png")
    return ["front.md", "front.png"]
