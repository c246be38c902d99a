# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures and tables of the table that an experiment writes."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from deeprx_common.figure import curve_style, figure, rate_curve
from deeprx_common.files import replacing
from deeprx_common.stats import block_error_rate, paired_difference, sinr_at_ber

from .cells import crossing_cell, gain_cell, markdown_table, percent_cell, rate_cell
from .curves import (
    Curve,
    curves,
    describe,
    gain,
    identity,
    net_name,
    read,
    read_block_errors,
    scores_of,
    scratch_of,
    seed_pairs,
)
from .evaluate import BER_TARGETS, BLER_TARGET


def draw(path: str | Path) -> list[Path]:
    """Write the pictures and tables.md of a table beside it; returns what was written."""
    folder, rows = read(path)
    scores = scores_of(rows)
    written, parts = [], [_ABOUT]
    for key in dict.fromkeys((r["set"], r["domain"], r["modulation"]) for r in rows):
        some = curves([r for r in rows if (r["set"], r["domain"], r["modulation"]) == key], scores)
        stem = "-".join(key)
        for name, picture in (
            ("ber", _ber),
            ("flop", _flop),
            ("teacher", _teacher_size),
            ("distilling", _distilling),
        ):
            file = folder / f"{name}-{stem}.png"
            title = f"{' '.join(key)}; 95 % intervals over channel draws"
            panels = partial(figure, file, size=(4, 3.7), title=title, legend="xx-small")
            if picture(some, panels):
                written.append(file)
            else:
                file.unlink(missing_ok=True)  # of an earlier table
        parts += [f"## {', '.join(key)}", _ber_table(some), *_gain_tables(some)]
    for file in sorted(folder.glob("*-mcs-*.npz")):
        parts.append(_block_table(file))
    with replacing(folder / "tables.md") as temporary:
        Path(temporary).write_text("\n\n".join(parts) + "\n")
    return [*written, folder / "tables.md"]


_ABOUT = """# Results

Intervals are 95 % over slots, each a channel of its own; seeds are pooled. A distilled student is
compared with the same student from scratch (same slots, steps, optimiser and seeds): its BER less
the other's on the same slots, in per cent of it (below 0: distilling is ahead), and the dB of SINR
that it needs less to reach a BER (above 0: ahead), mean over seeds [paired bootstrap over slots]
[Student's t over seeds]. `-`: does not cross. Settings are chosen on the set validation; evaluation
only reports."""


def _ber_table(some: list[Curve]) -> str:
    head = ["receiver", *(f"{s:g} dB" for s in some[0].sinr_db)]
    head += [f"SINR at {t:g}" for t in BER_TARGETS] + ["seeds"]
    lines = []
    for curve in some:
        crossings = (curve.crossing(t) for t in BER_TARGETS)
        line = [describe(curve, some), *(rate_cell(r.rate, r.ci95) for r in curve.rates())]
        line += [crossing_cell(*c) for c in crossings]
        seeds = len(curve.errors) if curve.facts["kind"] in ("distilled", "scratch") else ""
        lines.append([*line, str(seeds)])
    return markdown_table(head, lines)


def _gain_tables(some: list[Curve]) -> list[str]:
    paired, gains = [], []
    for curve in some:
        base = scratch_of(curve, some) if curve.facts["kind"] == "distilled" else None
        if base is None or not seed_pairs(curve, base):
            continue
        name = describe(curve, some)
        against = [_against(curve, base, i) for i in range(len(curve.sinr_db))]
        paired.append([name, *(percent_cell(*a) if a else "-" for a in against)])
        some_gains = [gain(curve, base, target) for target in BER_TARGETS]
        cells = [gain_cell(g.mean, g.over_slots, g.over_seeds) for g in some_gains]
        gains.append([name, str(curve.facts["params"]), *cells, str(some_gains[0].seeds)])
    if not paired:
        return ["No distilled student has a counterpart from scratch."]
    return [
        markdown_table(["BER", *(f"{s:g} dB" for s in some[0].sinr_db)], paired),
        markdown_table(
            ["gain, dB", "parameters", *(f"at {t:g}" for t in BER_TARGETS), "seeds"], gains
        ),
    ]


def _block_table(file: Path) -> str:
    """Block error rates of an examination with an MCS."""
    lines = []
    sinr, counted = read_block_errors(file)
    for name, wrong in counted.items():
        ones = np.ones(wrong.shape[1], int)
        rates = [block_error_rate(w, ones) for w in wrong]
        points = [(s, w, ones) for s, w in zip(sinr, wrong, strict=True)]
        cells = [rate_cell(r.rate, r.ci95) for r in rates]
        lines.append([name, *cells, crossing_cell(*sinr_at_ber(points, BLER_TARGET, 200))])
    head = ["receiver", *(f"{s:g} dB" for s in sinr), f"SINR at {BLER_TARGET:.0%}"]
    which, mcs = file.stem.split("-mcs-")
    table, index = mcs.split("-")
    title = f"## {which}: block error rate, MCS {index} of table {table}"
    return f"{title}\n\n{markdown_table(head, lines)}"


def _line(axis, curve: Curve, label: str, **style) -> None:
    rates = curve.rates()
    rate_curve(
        axis, curve.sinr_db, [r.rate for r in rates], [r.ci95 for r in rates], label, **style
    )


# Pictures: each function draws some curves onto panels(count, one_scale), and says whether it did


def _students(some: list[Curve], *kinds: str) -> list[Curve]:
    students = [c for c in some if c.facts["kind"] in (kinds or ("distilled", "scratch"))]
    return sorted(students, key=lambda c: c.facts["params"])


def _by_net(students: list[Curve]) -> dict[str, list[Curve]]:
    nets: dict[str, list[Curve]] = {}
    for curve in students:
        nets.setdefault(curve.facts["net"], []).append(curve)
    return nets


def _ber(some: list[Curve], panels: Callable) -> bool:
    """One panel for each student net, distilled as validation prefers; teachers and baselines in
    all.
    """
    nets = _by_net(_students(some))
    others = [c for c in some if c.facts["kind"] in ("teacher", "baseline")]
    with panels(max(1, len(nets)), one_scale=True) as axes:
        for axis, students in zip(axes, nets.values() or [[]], strict=True):
            for k, curve in enumerate(others):
                look = {"color": str(0.2 + 0.5 * k / max(1, len(others))), "linewidth": 1}
                look["linestyle"] = ("--", ":", "-.")[k % 3]
                _line(axis, curve, describe(curve, some), **look)
            best = list(_best(students, lambda c: c.facts["kind"]).values())
            for k, curve in enumerate(reversed(_same_seeds(best))):
                _line(axis, curve, curve.facts["kind"], **curve_style(k))
            first = students[0] if students else None
            title = f"{net_name(first)}, {first.facts['params']} parameters" if first else ""
            axis.set(xlabel="SINR per data RE and antenna, dB", title=title)
        axes[0].set_ylabel("uncoded BER")
    return True


def _best(some: list[Curve], by: Callable) -> dict:
    """The curve of each by(curve) that validation prefers, in ascending order of by."""
    best: dict = {}
    for curve in sorted(some, key=lambda c: (by(c), c.score)):
        best.setdefault(by(curve), curve)
    return best


def _same_seeds(some: list[Curve]) -> list[Curve]:
    """Cut to the seeds that all have, to be compared with one another; as they are if none."""
    seeds = [c.facts["seeds"] for c in some]
    shared = [s for s in (seeds[0] if seeds else []) if all(s in of for of in seeds)]
    if not shared:
        return some
    cut = [(c, [c.facts["seeds"].index(s) for s in shared]) for c in some]
    return [replace(c, errors=c.errors[i], facts=c.facts | {"seeds": shared}) for c, i in cut]


def _flop(some: list[Curve], panels: Callable) -> bool:
    """The SINR that a BER takes over the receiver's FLOP, distilled and from scratch. Students
    behind the worst baseline are named, not drawn.
    """
    students = _students(some)
    if len({c.facts["flop_per_slot"] for c in students}) < 2:
        return False
    with panels(len(BER_TARGETS)) as axes:
        lines: dict[str, list[Curve]] = {}
        for net in dict.fromkeys(map(net_name, students)):
            for kind in ("distilled", "scratch"):
                group = [c for c in _students(some, kind) if net_name(c) == net]
                lines[f"{net}, {kind}"] = list(
                    _best(group, lambda c: c.facts["flop_per_slot"]).values()
                )
        for teacher in _students(some, "teacher"):
            lines[describe(teacher, some)] = [teacher]
        for axis, target in zip(axes, BER_TARGETS, strict=True):
            known = []
            for k, curve in enumerate(c for c in some if c.facts["kind"] == "baseline"):
                at, _ = curve.crossing(target, 1)
                if np.isfinite(at):
                    known.append(at)
                    style = {"linestyle": ("--", ":", "-.")[k % 3], "color": "0.4", "linewidth": 1}
                    axis.axhline(at, label=describe(curve, some), **style)
            worst, beyond = max(known, default=np.inf), []
            for k, (name, line) in enumerate(lines.items()):
                crossings = [(c, *c.crossing(target)) for c in line]
                drawn = [f for f in crossings if -np.inf < f[1] < worst]
                if len(drawn) < len(crossings):
                    beyond.append(name)
                if drawn:
                    shown, at, intervals = zip(*drawn, strict=True)
                    at, (low, high) = np.array(at), np.array(intervals).T
                    look = curve_style(k // 2) | {"linestyle": "--" if "scratch" in name else "-"}
                    look["markerfacecolor"] = "none" if "scratch" in name else look["color"]
                    x = [c.facts["flop_per_slot"] for c in shown]
                    axis.errorbar(x, at, [at - low, high - at], label=name, capsize=2, **look)
            axis.set_xscale("log")
            title = f"above: {'; '.join(beyond)}" if beyond else ""
            axis.set(xlabel="FLOP per slot", ylabel=f"SINR at BER {target:g}, dB", title=title)
    return True


def _against(curve: Curve, base: Curve, i: int) -> tuple[float, list[float] | None, int] | None:
    """BER less that of base at one SINR, as a share of it; its paired interval, None where they are
    equal; clusters.
    """
    pairs = seed_pairs(curve, base)
    errors, others = (sum(pair[k].errors[0, i] for pair in pairs) for k in (0, 1))
    if not others.any():
        return None
    bits = np.full(len(errors), curve.bits * len(pairs))
    paired = paired_difference(errors, others, bits)
    scale = bits.sum() / others.sum()
    ends = paired.shown and [scale * end for end in paired.shown]
    return scale * paired.difference, ends, paired.clusters


def _distilled(some: list[Curve]) -> list[Curve]:
    """Distilled students that have a counterpart from scratch."""
    pairs = [(c, scratch_of(c, some)) for c in _students(some, "distilled")]
    return [c for c, base in pairs if base is not None and seed_pairs(c, base)]


def _distilling(some: list[Curve], panels: Callable) -> bool:
    """A panel for each student net: what each way of teaching does to its BER over SINR."""
    nets = _by_net(_distilled(some))
    if not nets:
        return False
    with panels(len(nets)) as axes:
        for axis, distilled in zip(axes, nets.values(), strict=True):
            base = scratch_of(distilled[0], some)
            for k, curve in enumerate(sorted(_same_seeds(distilled), key=lambda c: c.score)):
                gaps = [_against(curve, base, i) for i in range(len(curve.sinr_db))]
                pairs = [(s, g) for s, g in zip(curve.sinr_db, gaps, strict=True) if g]
                drawn = [(s, value, *(ends or (value, value))) for s, (value, ends, _) in pairs]
                at, *percent = np.array(drawn).T
                middle, low, high = (100 * p for p in percent)
                name = describe(curve, distilled).removeprefix("distilled, ")
                error = [middle - low, high - middle]
                axis.errorbar(
                    at, middle, error, label=name, capsize=2, linewidth=1, **curve_style(k)
                )
            axis.axhline(0, color="0.4", linestyle=":")
            title = f"{net_name(distilled[0])}, {distilled[0].facts['params']} parameters"
            axis.set(xlabel="SINR per data RE and antenna, dB", title=title)
        axes[0].set_ylabel(
            "BER against the same student from scratch, %\n(below 0: distilling helps)"
        )
    return True


def _teacher_size(some: list[Curve], panels: Callable) -> bool:
    """The gain over the teacher's parameters; students of a line differ in nothing else."""
    sizes = {c.facts["receiver"]: c.facts["params"] for c in some if c.facts["kind"] == "teacher"}
    groups: dict[tuple, list[Curve]] = {}
    for curve in _distilled(some):
        if curve.facts["teacher"] in sizes:
            groups.setdefault(identity(curve.facts, "teacher"), []).append(curve)
    groups = {k: g for k, g in groups.items() if len({sizes[c.facts["teacher"]] for c in g}) > 1}
    if not groups:
        return False
    with panels(len(BER_TARGETS)) as axes:
        for axis, target in zip(axes, BER_TARGETS, strict=True):
            for k, group in enumerate(groups.values()):
                group = sorted(_same_seeds(group), key=lambda c: sizes[c.facts["teacher"]])
                choice = sizes[min(group, key=lambda c: c.score).facts["teacher"]]
                name = describe(group[0], some, "teacher").removeprefix("distilled, ")
                gains = [gain(c, scratch_of(c, some), target) for c in group]
                middle = np.array([g.mean for g in gains])
                low, high = np.array([g.over_slots for g in gains]).T
                x, error = [sizes[c.facts["teacher"]] for c in group], [middle - low, high - middle]
                label = f"{name}: validation chooses {choice / 1e3:.0f} k"
                axis.errorbar(x, middle, error, label=label, capsize=2, **curve_style(k))
            axis.set_xscale("log")
            axis.axhline(0, color="0.4", linestyle=":")
            axis.set(xlabel="teacher's parameters", ylabel=f"gain at BER {target:g}, dB")
    return True
