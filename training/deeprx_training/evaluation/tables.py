# SPDX-License-Identifier: GPL-3.0-or-later
"""An evaluation's report for people: markdown tables, one tidy CSV, pictures."""

import csv
from pathlib import Path

import numpy as np

from deeprx_common import report as reports
from deeprx_common import report_view
from deeprx_common.figure import curve_style, figure, rate_curve
from deeprx_common.files import replacing

from .evaluate import BER_TARGETS, BLER_TARGET, PERFECT, Counted
from .soft_bits import SPAN

COLUMNS = (
    "receiver", "sinr_db", "by", "bin", "metric", "value", "low", "high", "slots"
)  # fmt: skip


def rows(report: dict) -> list[dict]:
    """Every number with its interval, one a row: COLUMNS. metric: "ber", "bler RATE", "information"
    (bits per coded bit), "ber difference to RECEIVER", or "sinr_db at METRIC = TARGET", which has
    no sinr_db; by and bin are empty but in breakdowns. "gain on RECEIVER at ber = TARGET": dB less.
    """
    lines = []

    def row(source, metric, value, interval, slots="", **more):
        low, high = interval or ("", "")
        lines.append(
            dict.fromkeys(COLUMNS, "")
            | {k: source[k] for k in ("receiver", "sinr_db", "by", "bin") if k in source}
            | {"metric": metric, "value": value, "low": low, "high": high, "slots": slots}
            | more
        )

    for p in report["points"]:
        row(p, "ber", p["ber"], p["ber_ci95"], p["slots"])
        llr = p["llr"]
        row(p, "information", llr["information"], llr["information_ci95"], p["slots"])
        for rate, c in p["coded"].items():
            row(p, f"bler {rate}", c["bler"], c["bler_ci95"], c["blocks"])
    for b in report["breakdown"]:
        row(b, "ber", b["ber"], b["ber_ci95"], b["slots"])
    for c in report["comparisons"]:
        metric = f"ber difference to {c['b']}"
        row(c, metric, c["ber_difference"], c["ci95"], c["clusters"], receiver=c["a"])
    for c in report["crossings"]:
        metric = f"sinr_db at {c['metric']} = {c['target']:g}"
        row(c, metric, c["sinr_db"], c["ci95"], sinr_db="")
    for g in report["gains"]:
        metric = f"gain on {g['b']} at ber = {g['target']:g}"
        row({}, metric, g["db"], g["ci95"], receiver=g["a"])
    return lines


def write(report: dict, counted: Counted, folder: Path) -> list[str]:
    """The report and all that is made of it, into a folder; returns the files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    reports.write(report, folder / "report.json")
    with replacing(folder / "errors.npz") as temporary:
        np.savez_compressed(
            temporary,
            sinr_db=counted.sinr_db,
            n_bits=counted.config.n_bits,
            channel=counted.channel,
            delay_spread_s=counted.delay_spread_s,
            doppler_hz=counted.doppler_hz,
            **counted.errors,
        )
    with (
        replacing(folder / "results.csv") as temporary,
        open(temporary, "w", newline="") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows(report))
    with replacing(folder / "tables.md") as temporary:
        Path(temporary).write_text(markdown(report))
    return ["report.json", "results.csv", "errors.npz", "tables.md", *plots(report, folder)]


def _receivers(report: dict) -> list[str]:
    return list(dict.fromkeys(p["receiver"] for p in report["points"]))


def _points(report: dict) -> dict[tuple[str, float], dict]:
    return {(p["receiver"], p["sinr_db"]): p for p in report["points"]}


def _sinrs(report: dict) -> list[float]:
    return sorted({p["sinr_db"] for p in report["points"]})


def markdown_table(head: list[str], lines: list[list[str]]) -> str:
    every = [head, ["---"] * len(head), *lines]
    width = [max(len(line[i]) for line in every) for i in range(len(head))]
    return "\n".join(
        f"| {' | '.join(c.ljust(w) for c, w in zip(line, width, strict=True))} |" for line in every
    )


def rate_cell(value: float, interval: list[float]) -> str:
    if not value:
        return f"< {interval[1]:.1g}"
    half = (interval[1] - interval[0]) / 2 / value
    if half > 0.5:  # too skewed for one number
        return f"{value:.3g} [{interval[0]:.1g}, {interval[1]:.1g}]"
    return f"{value:.3g} ± {half:.0%}"


def crossing_cell(crossing: dict | None) -> str:
    if crossing is None or crossing["sinr_db"] is None:
        return "-"
    low, high = (
        end if v is None else f"{v:.2f}"
        for v, end in zip(crossing["ci95"], ("-inf", "inf"), strict=True)
    )
    return f"{crossing['sinr_db']:.2f} [{low}, {high}]"


def _at(report: dict, receiver: str, metric: str, target: float, by="", value="") -> dict | None:
    wanted = (receiver, metric, target, by, value)
    for c in report["crossings"]:
        if (c["receiver"], c["metric"], c["target"], c["by"], c["bin"]) == wanted:
            return c
    return None


def ber_table(report: dict) -> str:
    """BER with half its 95 % interval over slots, and the SINR in dB at which each curve crosses
    a BER, with a bootstrap interval."""
    points, sinrs = _points(report), _sinrs(report)
    head = ["receiver", *(f"{s:g} dB" for s in sinrs), "SINR at 1e-2", "at 1e-3"]
    return markdown_table(
        head,
        [
            [
                name,
                *(rate_cell(p["ber"], p["ber_ci95"]) for p in (points[name, s] for s in sinrs)),
                *(crossing_cell(_at(report, name, "ber", t)) for t in BER_TARGETS),
            ]
            for name in _receivers(report)
        ],
    )


def _paired_table(report: dict, reference: str) -> str:
    """Per cent of the reference's BER; dB less SINR than it at the BER targets."""
    points, sinrs = _points(report), _sinrs(report)
    paired = {(c["a"], c["sinr_db"]): c for c in report["comparisons"] if c["b"] == reference}

    def cell(name, sinr):
        c, base = paired[name, sinr], points[reference, sinr]["ber"]
        if not base:
            return "-"
        low, high = (100 * v / base for v in c["ci95"])
        return f"{100 * c['ber_difference'] / base:+.1f} % [{low:+.1f}, {high:+.1f}]"

    gains = {(g["a"], g["target"]): g for g in report["gains"]}

    def gain(name, target):
        g = gains.get((name, target))
        if g is None or None in (g["db"], *g["ci95"]):
            return "-"
        return f"{g['db']:+.2f} [{g['ci95'][0]:+.2f}, {g['ci95'][1]:+.2f}]"

    names = [n for n in _receivers(report) if (n, sinrs[0]) in paired]
    return markdown_table(
        ["receiver", *(f"{s:g} dB" for s in sinrs), "gain at 1e-2, dB", "at 1e-3"],
        [
            [name, *(cell(name, s) for s in sinrs), *(gain(name, t) for t in BER_TARGETS)]
            for name in names
        ],
    )


def _bins(report: dict, what: str) -> list[str]:
    return list(dict.fromkeys(b["bin"] for b in report["breakdown"] if b["by"] == what))


def _breakdown_table(report: dict, what: str) -> str:
    """SINR at the first BER target in each bin, and the BER at the highest SINR."""
    bins, top = _bins(report, what), _sinrs(report)[-1]
    at_top = {
        (b["receiver"], b["bin"]): b
        for b in report["breakdown"]
        if b["by"] == what and b["sinr_db"] == top
    }
    lines = []
    for name in _receivers(report):
        line = [name]
        for value in bins:
            line.append(crossing_cell(_at(report, name, "ber", BER_TARGETS[0], what, value)))
        for value in bins:
            b = at_top.get((name, value))
            line.append(rate_cell(b["ber"], b["ber_ci95"]) if b else "-")
        lines.append(line)
    head = [f"{v}: SINR at {BER_TARGETS[0]:g}" for v in bins]
    return markdown_table(["receiver", *head, *(f"{v}: BER at {top:g} dB" for v in bins)], lines)


def _coded_table(report: dict, rate: str) -> str:
    points, sinrs = _points(report), _sinrs(report)
    lines = []
    for name in _receivers(report):
        line = [name]
        for s in sinrs:
            c = points[name, s]["coded"][rate]
            low, high = c["bler_ci95"]
            line.append(f"{c['bler']:.3g} [{low:.2g}, {high:.2g}]")
        line.append(crossing_cell(_at(report, name, f"bler {rate}", BLER_TARGET)))
        lines.append(line)
    head = [*(f"{s:g} dB" for s in sinrs), f"SINR at {BLER_TARGET:.0%}"]
    return markdown_table(["receiver", *head], lines)


def _llr_table(report: dict) -> str:
    points, sinrs = _points(report), _sinrs(report)
    lines = []
    for name in _receivers(report):
        line = [name]
        for s in sinrs:
            q = points[name, s]["llr"]
            gain = abs(q["information_at_best_scale"] - q["information"])
            p99 = f"{q['p99']:.1f}" if q["p99"] < SPAN else f">= {SPAN:.0f}"
            line.append(f"{q['information']:.4f}, x{q['best_scale']:.2f} +{gain:.4f}, {p99}")
        lines.append(line)
    return markdown_table(["receiver", *(f"{s:g} dB" for s in sinrs)], lines)


def warnings(report: dict) -> list[str]:
    """One line for each net whose BER is below perfect CSI's."""
    return [
        f"{c['a']} is below perfect CSI at {c['sinr_db']:g} dB: BER difference "
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
    reference = report["comparisons"][0]["b"] if report["comparisons"] else None
    first = report["points"][0]
    parts = [
        f"{first['modulation']}, {first['n_prb']} PRB, DMRS {','.join(map(str, first['dmrs']))}, "
        f"{first['n_rx']} RX, {first['channel']}, {first['domain']} domain, {first['slots']} slots "
        f"a point, seed {first['seed']}. Intervals are 95 % over slots, each a channel of its own.",
        "## Uncoded BER\n\n" + ber_table(report),
    ]
    parts += [f"**Warning**: {line}." for line in warnings(report)]
    if reference:
        parts.append(
            f"## BER minus that of {reference} on the same slots, in per cent of it; how many dB "
            "less SINR is needed\n\n" + _paired_table(report, reference)
        )
    for rate in first["coded"]:
        parts.append(
            f"## Block error rate, 5G LDPC code of rate {rate}, one transport block a slot\n\n"
            + _coded_table(report, rate)
        )
    for what in dict.fromkeys(b["by"] for b in report["breakdown"]):
        parts.append(f"## By {what}\n\n" + _breakdown_table(report, what))
    parts.append(
        "## What the LLRs carry\n\nInformation in bits per coded bit; the factor on all LLRs that "
        "gives most, and what it gains; the magnitude that 99 % of the LLRs do not exceed.\n\n"
        + _llr_table(report)
    )
    return "\n\n".join(parts) + "\n"


def plots(report: dict, folder: Path) -> list[str]:
    """Pictures into a folder: their names."""
    report_view.plot(report["points"], folder / "ber.png")
    _plot_llr(report, folder / "llr.png")
    drawn = ["ber.png", "llr.png"]
    points, names = _points(report), _receivers(report)
    for what in dict.fromkeys(b["by"] for b in report["breakdown"]):
        file = f"ber_by_{what.replace(' ', '_')}.png".lower()
        panels: dict[str, dict[str, list]] = {}
        for b in report["breakdown"]:
            if b["by"] == what:
                line = panels.setdefault(f"{what} {b['bin']}", {}).setdefault(b["receiver"], [])
                line.append((b["sinr_db"], b["ber"], b["ber_ci95"]))
        _plot_rates(panels, "uncoded BER", folder / file)
        drawn.append(file)
    if rates := list(report["points"][0]["coded"]):
        coded = {
            f"5G LDPC, rate {rate}, one block a slot": {
                name: [
                    (s, c["bler"], c["bler_ci95"])
                    for s in _sinrs(report)
                    for c in [points[name, s]["coded"][rate]]
                ]
                for name in names
            }
            for rate in rates
        }
        what = "block error rate, Clopper-Pearson intervals"
        _plot_rates(coded, what, folder / "bler.png")
        drawn.append("bler.png")
    return drawn


def _plot_rates(panels: dict[str, dict[str, list]], what: str, path: Path) -> None:
    """panels: by title, and by receiver, (SINR, rate, interval)."""
    with figure(path, len(panels), one_scale=True, legend="x-small") as axes:
        for axis, (title, lines) in zip(axes, panels.items(), strict=True):
            for k, (name, line) in enumerate(lines.items()):
                rate_curve(axis, *zip(*line, strict=True), name, **curve_style(k))
            axis.set(title=title, xlabel="SINR, dB")
        axes[0].set_ylabel(what)


def _plot_llr(report: dict, path: Path) -> None:
    points, sinrs = _points(report), _sinrs(report)
    middle = sinrs[len(sinrs) // 2]
    promised = np.linspace(0, 14, 100)
    with figure(path, 3) as axes:
        axes[0].plot(promised, 1 / (1 + np.exp(promised)), "k--", linewidth=1, label="as promised")
        for k, name in enumerate(_receivers(report)):
            style = curve_style(k)
            bins = [b for b in points[name, middle]["llr"]["reliability"] if b["wrong"] >= 20]
            axes[0].plot(
                [-np.log(b["promised"] / (1 - b["promised"])) for b in bins],
                [b["wrong"] / b["bits"] for b in bins],
                label=name, **style,
            )  # fmt: skip
            quality = [points[name, s]["llr"] for s in sinrs]
            best = np.array([q["information_at_best_scale"] for q in quality])
            ideal = [points[PERFECT, s]["llr"]["information_at_best_scale"] for s in sinrs]
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
