# SPDX-License-Identifier: GPL-3.0-or-later
"""An evaluation's report for people: markdown tables, one tidy CSV, pictures."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deeprx_common import report as reports
from deeprx_common import report_view
from deeprx_common.figure import curve_style, figure, rate_curve
from deeprx_common.files import replacing, write_arrays
from deeprx_common.report import user_of
from deeprx_common.slot import SlotConfig

from ..receivers.soft_bits import SPAN
from .cells import crossing_cell, gain_cell, markdown_table, percent_cell, rate_cell
from .evaluate import BER_TARGETS, BLER_TARGET, PERFECT, Counted
from .report import COLUMNS, crossing, difference_to, gain_on


def write(report: dict, counted: Counted, folder: Path) -> list[str]:
    """The report and all that is made of it, into a folder; returns the files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    reports.write(report, folder / "report.json")
    slots = {
        "sinr_db": counted.sinr_db,
        "n_bits": counted.slot_bits,
        "channel": counted.channel,
        "delay_spread_s": counted.delay_spread_s,
        "doppler_hz": counted.doppler_hz,
    }
    write_arrays(counted.errors | slots, folder / "errors.npz")
    with (
        replacing(folder / "results.csv") as temporary,
        open(temporary, "w", newline="") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(report["numbers"])
    with replacing(folder / "tables.md") as temporary:
        Path(temporary).write_text(markdown(report))
    return ["report.json", "results.csv", "errors.npz", "tables.md", *plots(report, folder)]


class _Numbers:
    """A user's, by what they are of, laid out as tables and lines. user: user_of() its points."""

    def __init__(self, report: dict, layer: int):
        points = [p for p in report["points"] if p["layer"] == layer]
        self.first, self.user = points[0], user_of(points[0])
        self.receivers = list(dict.fromkeys(p["receiver"] for p in points))
        self.sinr_db = sorted({p["sinr_db"] for p in points})
        rows = [row for row in report["numbers"] if row["user"] in (None, layer + 1)]
        key = ("metric", "receiver", "sinr_db", "by", "bin")
        self._rows = {tuple(row[k] for k in key): row for row in rows}
        self.breakdowns = [by for by in dict.fromkeys(r["by"] for r in rows) if by]
        self.llr = {(p["receiver"], p["sinr_db"]): p["llr"] for p in points}

    def of(self, metric: str, receiver: str, sinr_db=None, by=None, value=None) -> tuple:
        """(number, interval), or () where there is none."""
        row = self._rows.get((metric, receiver, sinr_db, by, value))
        return (row["value"], (row["low"], row["high"])) if row else ()

    def difference(self, reference: str, metric: str, receiver: str, sinr_db: float) -> tuple:
        """(number, interval, slots); None for the interval where they are equal."""
        row = self._rows[difference_to(reference, metric), receiver, sinr_db, None, None]
        return row["value"], None if row["low"] is None else (row["low"], row["high"]), row["slots"]

    def bins(self, by: str) -> list[str]:
        return list(dict.fromkeys(r["bin"] for r in self._rows.values() if r["by"] == by))

    def line(self, metric: str, receiver: str, by=None, value=None) -> list[tuple]:
        """(SINR, rate, interval) of each point."""
        points = ((s, *self.of(metric, receiver, s, by, value)) for s in self.sinr_db)
        return [point for point in points if len(point) > 1]

    def table(self, columns: dict[str, Callable[[str], str]], leave_out: str = "") -> str:
        """A row for each receiver but one; columns: cells of a name, by head."""
        names = [name for name in self.receivers if name != leave_out]
        cells = [[name, *(cell(name) for cell in columns.values())] for name in names]
        return markdown_table(["receiver", *columns], cells)

    def over_sinr(self, cell: Callable[[str, float], str]) -> dict[str, Callable[[str], str]]:
        return {f"{s:g} dB": lambda name, s=s: cell(name, s) for s in self.sinr_db}

    def crossing(self, metric: str, target: float, *where: str) -> Callable[[str], str]:
        metric = crossing(metric, target)
        return lambda name: crossing_cell(*self.of(metric, name, None, *where) or (None, ()))

    def rates(self, metric: str) -> dict[str, Callable[[str], str]]:
        return self.over_sinr(lambda name, s: rate_cell(*self.of(metric, name, s)))


def _users(report: dict) -> list[_Numbers]:
    return [_Numbers(report, layer) for layer in range(report["points"][0]["layers"])]


def ber_tables(report: dict) -> str:
    """Of each user, BER with half its 95 % interval over slots, and the SINR in dB at which each
    curve crosses a BER, with a bootstrap interval.
    """
    users = _users(report)
    return "\n\n".join(f"{u.user}\n\n{_ber_table(u)}".strip() for u in users)


def _ber_table(numbers: _Numbers) -> str:
    first, second = (numbers.crossing("ber", target) for target in BER_TARGETS)
    return numbers.table(numbers.rates("ber") | {"SINR at 1e-2": first, "at 1e-3": second})


def block_tables(report: dict) -> str:
    """Of each user, under a line that names the MCS, block error rates and the SINR in dB at which
    each curve crosses one; empty where slots had no blocks.
    """
    return "\n\n".join(filter(None, map(_block_table, _users(report))))


def _paired_table(
    numbers: _Numbers, reference: str, metric: str = "ber", targets: Sequence[float] = BER_TARGETS
) -> str:
    """Per cent of the reference's BER or BLER; dB less SINR than it at the targets."""

    def difference(name: str, sinr_db: float) -> str:
        base, _ = numbers.of(metric, reference, sinr_db)
        value, ci95, slots = numbers.difference(reference, metric, name, sinr_db)
        if not base and ci95:
            return "-"
        return percent_cell(value / (base or 1), ci95 and [end / base for end in ci95], slots)

    def gain(target: float) -> Callable[[str], str]:
        at = gain_on(reference, target, metric)
        return lambda name: gain_cell(*numbers.of(at, name) or (None,))

    columns = {f"gain at {target:g}, dB": gain(target) for target in targets}
    return numbers.table(numbers.over_sinr(difference) | columns, leave_out=reference)


def _breakdown_table(numbers: _Numbers, by: str) -> str:
    """SINR at the first BER target in each bin, and the BER at the highest SINR."""
    target, top = BER_TARGETS[0], numbers.sinr_db[-1]
    columns = {}
    for value in numbers.bins(by):
        columns[f"{value}: SINR at {target:g}"] = numbers.crossing("ber", target, by, value)
    for value in numbers.bins(by):
        columns[f"{value}: BER at {top:g} dB"] = lambda name, value=value: (
            rate_cell(*rate) if (rate := numbers.of("ber", name, top, by, value)) else "-"
        )
    return numbers.table(columns)


def _block_table(numbers: _Numbers) -> str:
    first = numbers.first
    if not first["blocks"]:
        return ""
    layer = first["layer"]
    size = SlotConfig.from_dict(first["slot"]).transport_block_size(layer)
    table = first["slot"]["users"][layer]["mcs_table"]
    crossing = numbers.crossing("bler", BLER_TARGET)
    return (
        f"Block error rate{_of(numbers.user)}, MCS {first['mcs']} of table {table}: transport "
        f"blocks of {size} bits, first transmissions\n\n"
        + numbers.table(numbers.rates("bler") | {f"SINR at {BLER_TARGET:.0%}": crossing})
    )


def _llr_table(numbers: _Numbers) -> str:
    def cell(name: str, sinr_db: float) -> str:
        q = numbers.llr[name, sinr_db]
        gain = abs(q["information_at_best_scale"] - q["information"])
        p99 = f"{q['p99']:.1f}" if q["p99"] < SPAN else f">= {SPAN:.0f}"
        return f"{q['information']:.4f}, x{q['best_scale']:.2f} +{gain:.4f}, {p99}"

    return numbers.table(numbers.over_sinr(cell))


def _of(user: str) -> str:
    return f" of {user}" if user else ""


def warnings(report: dict) -> list[str]:
    """One line for each net that dropped slots, or whose BER is below perfect CSI's."""
    dropped = [
        f"{p['receiver']} dropped {n} slots at {p['sinr_db']:g} dB, which count for no receiver: "
        f"{why}"
        for p in report["points"]
        if p["layer"] == 0
        for why, n in p.get("dropped_slots", {}).items()
    ]
    return dropped + [
        f"{c['a']}{_of(user_of(c))} is below perfect CSI at {c['sinr_db']:g} dB: BER difference "
        f"{c['ber_difference']:.2e} [{c['ci95'][0]:.2e}, {c['ci95'][1]:.2e}]. Knowing the channel "
        "is hard to beat: look for truth that leaks into the receiver"
        + (
            ", or for inter-carrier interference, which perfect CSI takes for nothing"
            if report["points"][0]["domain"] == "time"
            else ""
        )
        for c in report["below_perfect_csi"]
    ]


def markdown(report: dict) -> str:
    """All tables of a report, with what they show."""
    first = report["points"][0]
    sir = "" if first["sir_db"] is None else f"SIR {first['sir_db']:g} dB, "
    parts = [
        f"{first['n_prb']} PRB, DMRS {','.join(map(str, first['dmrs']))}, {first['n_rx']} RX, "
        f"{first['channel']}, {sir}{first['domain']} domain, {first['slots']} slots a point, seed "
        f"{first['seed']}. Intervals are 95 % over slots, each a channel of its own."
    ]
    parts += [f"**Warning**: {line}." for line in warnings(report)]
    reference = report["comparisons"][0]["b"] if report["comparisons"] else None
    for numbers in _users(report):
        parts += _of_user(numbers, reference)
    return "\n\n".join(parts) + "\n"


def _of_user(numbers: _Numbers, reference: str | None) -> list[str]:
    of = _of(numbers.user)
    parts = [f"## Uncoded BER{of}, {numbers.first['modulation']}\n\n" + _ber_table(numbers)]
    if reference:
        parts.append(
            f"## BER{of} minus that of {reference} on the same slots, in per cent of it; how many "
            "dB less SINR is needed\n\n" + _paired_table(numbers, reference)
        )
    if blocks := _block_table(numbers):
        parts.append("## " + blocks)
        if reference:
            parts.append(
                f"## BLER{of} minus that of {reference} on the same slots, in per cent of it; how "
                "many dB less SINR is needed\n\n"
                + _paired_table(numbers, reference, "bler", (BLER_TARGET,))
            )
    for by in numbers.breakdowns:
        parts.append(f"## By {by}{of}\n\n" + _breakdown_table(numbers, by))
    parts.append(
        f"## What the LLRs{of} carry\n\nInformation in bits per coded bit; the factor on all LLRs "
        "that gives most, and what it gains; the magnitude that 99 % of the LLRs do not exceed.\n\n"
        + _llr_table(numbers)
    )
    return parts


def plots(report: dict, folder: Path) -> list[str]:
    """Pictures into a folder: their names."""
    report_view.plot(report["points"], folder / "ber.png")
    drawn = ["ber.png"]
    for numbers in _users(report):
        of = f"_{numbers.user.replace(' ', '_')}" if numbers.user else ""
        drawn.append(f"llr{of}.png")
        _plot_llr(numbers, folder / drawn[-1])
        for by in numbers.breakdowns:
            drawn.append(f"ber_by_{by.replace(' ', '_')}{of}.png".lower())
            panels = {f"{by} {value}": (by, value) for value in numbers.bins(by)}
            _plot_bers(numbers, panels, folder / drawn[-1])
    return drawn


def _plot_bers(numbers: _Numbers, panels: dict[str, tuple], path: Path) -> None:
    """panels: by title, what it is broken down by, and the bin."""
    with figure(path, len(panels), one_scale=True, legend="x-small") as axes:
        for axis, (title, where) in zip(axes, panels.items(), strict=True):
            for k, name in enumerate(numbers.receivers):
                if line := numbers.line("ber", name, *where):
                    rate_curve(axis, *zip(*line, strict=True), name, **curve_style(k))
            axis.set(title=title, xlabel="SINR, dB")
        axes[0].set_ylabel("uncoded BER")


def _plot_llr(numbers: _Numbers, path: Path) -> None:
    sinrs, llr = numbers.sinr_db, numbers.llr
    middle = sinrs[len(sinrs) // 2]
    promised = np.linspace(0, 14, 100)
    with figure(path, 3) as axes:
        axes[0].plot(promised, 1 / (1 + np.exp(promised)), "k--", linewidth=1, label="as promised")
        for k, name in enumerate(numbers.receivers):
            style = curve_style(k)
            bins = [b for b in llr[name, middle]["reliability"] if b["wrong"] >= 20]
            axes[0].plot(
                [-np.log(b["promised"] / (1 - b["promised"])) for b in bins],
                [b["wrong"] / b["bits"] for b in bins],
                label=name, **style,
            )  # fmt: skip
            quality = [llr[name, s] for s in sinrs]
            best = np.array([q["information_at_best_scale"] for q in quality])
            ideal = [llr[PERFECT, s]["information_at_best_scale"] for s in sinrs]
            axes[1].plot(sinrs, ideal - np.array([q["information"] for q in quality]), **style)
            axes[1].plot(sinrs, ideal - best, ":", color=style["color"])
            axes[2].plot(sinrs, [q["p99"] for q in quality], **style)
        axes[0].set(
            title=f"calibration at {middle:g} dB", xlabel="|LLR|, nats", ylabel="bits wrong",
            yscale="log", xlim=(0, 14),
        )  # fmt: skip
        axes[1].set(
            title="information that perfect CSI has more (dotted: after the best factor)",
            xlabel="SINR, dB", ylabel="bits per coded bit",
        )  # fmt: skip
        axes[2].set(title="99 % of |LLR| are below", xlabel="SINR, dB", ylabel="nats")
