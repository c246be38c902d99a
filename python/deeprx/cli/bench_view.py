# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and pictures of deeprx bench."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from deeprx_common.figure import figure
from deeprx_common.shipped import CLASSICAL
from deeprx_common.terminal import interval, number, table

from ..measure.compare import PRECISIONS, REFERENCE, VECTORS, Comparison, Row, fastest
from ..measure.contenders import CONTENDERS, JAILED
from ..measure.job import Job
from ..measure.roofline import Roofline, Stage
from ..measure.scale import Point

SMALL = 0.01  # of a slot's time: stages below it are shown together
SHARED = 0.05  # of the wall time without the core, above which the run says so


def show(
    comparison: Comparison,
    base: Job,
    console: Console,
) -> None:
    """A table for each receiver, why contenders are missing, and whether the core was shared."""
    rows, gemm_flop_per_s = comparison.rows, comparison.gemm_flop_per_s
    clock = "CPU" if base.device == "cpu" else "wall"
    threads = f"{base.threads} thread" + ("s" if base.threads > 1 else "")
    sir = "" if base.sir_db is None else f", SIR {base.sir_db:g} dB"
    slot = f"{base.config.n_prb} PRB, {base.config.modulation}, {base.n_rx} RX{sir}"
    slot += f", {threads}, {base.device}"
    for receiver in dict.fromkeys(row.receiver for row in rows):
        group = [row for row in rows if row.receiver == receiver]
        shown = table(
            f"{receiver}: {slot}" if group[0].model_sha256 or receiver in CLASSICAL else receiver,
            [row for row in group if row.cpu_s is not None],
            [
                ("\ncontender", lambda r: r.contender),
                ("\nprecision", lambda r: r.precision),
                ("CPU ms\na slot", lambda r: number(r.cpu_s, 1e3)),
                ("\nquartiles", lambda r: interval(r.cpu_s_quartiles, 1e3)),
                (f"{clock} ms a\ncall: p50", lambda r: number(r.call_s["p50"], 1e3)),
                ("\np99", lambda r: number(r.call_s["p99"], 1e3)),
                ("latency\nms: p50", lambda r: number(r.call_latency_s["p50"], 1e3)),
                ("\np99", lambda r: number(r.call_latency_s["p99"], 1e3)),
                ("\nslots/s", lambda r: number(r.slots_per_s)),
                ("real-time\nfactor", lambda r: number(r.real_time)),
                ("\nGFLOP/s", lambda r: number(r.flop_per_s, 1e-9)),
                ("of GEMM\npeak", lambda r: _as(r.of_peak, "{:.0%}")),
                ("peak\nMiB", lambda r: f"{r.peak_bytes / 2**20:.0f}"),
                ("start\ns", lambda r: number(r.startup_s)),
                (f"CPU against\n{REFERENCE}", _against),
                ("LLRs\ndiffer", lambda r: _as(r.llr_difference, "{:.0e}").replace("0e+00", "0")),
            ],
            left=2,
        )
        if shown.row_count:
            console.print(shown)
        for row in group:
            if row.contender in ("block", "watched-block", *JAILED) and row.description:
                console.print(f"{row.contender}: {row.description}{_above(row)}")
            if row.contender == "decoded" and row.cpu_s is not None:
                others = [f"; {v}: not measured" for v in VECTORS if v != comparison.instructions]
                console.print(
                    f"decoded: {comparison.instructions or 'no vectors'} at most{''.join(others)}"
                )
            if row.why:
                console.print(f"{receiver}, {row.contender}: {row.why}", soft_wrap=True)
        if said := fastest(group, base.device):
            console.print(said)
        console.print()
    peaks = ", ".join(
        f"{number(gemm_flop_per_s[p], 1e-9)} in {p}" for p in PRECISIONS if p in gemm_flop_per_s
    )
    console.print(f"matrix products, GFLOP/s: {peaks or 'not measured'}")
    for vectors, decoder in comparison.ldpc_decoder.items():
        took, clock = "not measured", ""
        if decoder:
            took = f"{1e6 * decoder['iteration_s']:.1f} µs an iteration"
            clock = f", {decoder['clock']}" if decoder["clock"] else ""
        console.print(f"LDPC decoder, K = 8448, rate 1/2: {took} ({vectors}{clock})")
    if base.device == "cpu" and base.threads == 1:
        kept_busy = [row.busy for row in rows if row.busy and row.contender != "jailed-apart"]
        show_sharing(kept_busy, console)


def show_sharing(busy: Sequence[float], console: Console) -> None:
    """busy: CPU time over wall time of processes that one thread keeps busy."""
    lost = 1 - min(busy, default=1.0)
    if lost > SHARED:
        console.print(
            f"the core was shared: up to {lost:.0%} of the wall time went to others. CPU times and "
            "ratios stand, slots/s and latencies do not: run again on a quiet machine",
            soft_wrap=True,
        )


def _as(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _against(row: Row) -> str:
    return "{1:.2f} [{0:.2f}, {2:.2f}]".format(*row.against) if row.against else "-"


def _above(row: Row) -> str:
    parts = {
        "work()": row.work_above_engine_s,
        "CPU" if row.contender in JAILED else "with the scheduler": row.above_engine_s,
        "latency": row.latency_above_engine_s,
    }
    told = [
        f"{what} {1e6 * s.median:+.0f} µs [{1e6 * s.low:+.0f}, {1e6 * s.high:+.0f}]"
        for what, s in parts.items()
        if s
    ]
    above = f"; above its engine alone: {', '.join(told)}" if told else ""
    if s := row.work_overhead_s:
        above += (
            f"; work() without its inference {1e6 * s.median:.0f} µs, "
            f"quartiles {1e6 * s.low:.0f} {1e6 * s.high:.0f}"
        )
    return above


def plot(rows: Sequence[Row], path: Path) -> None:
    """CPU time of a slot, a panel for each receiver, quartiles as whiskers."""
    panels: dict[str, list[Row]] = {}
    for row in rows:
        if row.cpu_s is not None and row.model_sha256:
            panels.setdefault(row.receiver, []).append(row)
    if not panels:
        return
    with figure(path, len(panels), columns=1, size=(7.5, 2.2), legend=None) as axes:
        for axis, (receiver, group) in zip(axes, panels.items(), strict=True):
            names = [row.contender for row in group]
            low, milli, high = (
                1e3
                * np.array([(r.cpu_s_quartiles[0], r.cpu_s, r.cpu_s_quartiles[1]) for r in group]).T
            )
            colours = [f"C{list(CONTENDERS).index(name)}" for name in names]
            axis.barh(names, milli, xerr=[milli - low, high - milli], color=colours, capsize=3)
            if (factor := group[0].real_time) is not None:  # of what a slot lasts
                axis.axvline(1e3 * factor * group[0].cpu_s, color="k", linestyle=":")
            axis.invert_yaxis()
            axis.set_title(f"{receiver}, {group[0].precision}", loc="left")
        axes[-1].set_xlabel("CPU time a slot, ms (dotted: the slot's own 1 ms)")


def show_stages(roofline: Roofline, console: Console) -> None:
    """A table of the native engine's stages for each receiver."""
    for label, stages in roofline.stages.items():
        total_s = sum(stage.seconds for stage in stages)
        large, small = _by_size(stages)
        counted = [stage for stage in stages if stage.roofline_s is not None]
        console.print(
            table(
                f"{label}: stages of a slot",
                large,
                [
                    ("\nstage", lambda s: s.name),
                    ("\nprecision", lambda s: s.precision),
                    ("held at\nmost by", lambda s: s.bound),
                    ("\nµs", lambda s: number(s.seconds, 1e6)),
                    ("of the\nslot", lambda s, t=total_s: f"{s.seconds / t:.0%}"),
                    ("\nkFLOP", lambda s: number(s.flop, 1e-3)),
                    ("\nkB", lambda s: number(s.bytes, 1e-3)),
                    ("\nGFLOP/s", lambda s: number(s.flop / s.seconds, 1e-9)),
                    ("\nGB/s", lambda s: number(s.bytes / s.seconds, 1e-9)),
                    ("roofline\nµs", lambda s: number(s.roofline_s, 1e6)),
                    ("times\nroofline", _times),
                ],
                left=3,
            )
        )
        small_s = sum(stage.seconds for stage in small)
        roofline_s = sum(stage.roofline_s for stage in counted)
        compute = sum(s.seconds for s in counted if s.bound == "compute") / total_s
        memory = sum(s.seconds for s in counted if s.bound == "memory") / total_s
        took_s = roofline.engine_s(label) or total_s
        console.print(
            f"{len(small)} more stages: {number(small_s, 1e6)} µs. In all {number(total_s, 1e6)} "
            f"µs; without a clock {number(took_s, 1e6)} µs, {took_s / roofline_s:.2f} times the "
            f"roofline, {number(roofline_s, 1e6)} µs. Held at most by compute {compute:.0%}, by "
            f"memory {memory:.0%}, neither counted {1 - compute - memory:.0%}",
            soft_wrap=True,
        )
        console.print()
    rates = ", ".join(
        f"{1e-9 / rate:.0f} of {moved / 2**20:.3g} MiB"
        for moved, rate in sorted(roofline.copy_s_per_byte.items())
    )
    console.print(f"copies, GB/s read and written: {rates}", soft_wrap=True)


def _by_size(stages: Sequence[Stage]) -> tuple[list[Stage], list[Stage]]:
    limit_s = SMALL * sum(stage.seconds for stage in stages)
    return (
        [stage for stage in stages if stage.seconds >= limit_s],
        [stage for stage in stages if stage.seconds < limit_s],
    )


def _times(stage: Stage) -> str:
    return number(stage.seconds / stage.roofline_s) if stage.roofline_s else "-"


def plot_stages(roofline: Roofline, path: Path) -> None:
    """For each receiver its stages with their rooflines, and beside them what runs the same net."""
    from matplotlib.patches import Patch

    if not roofline.stages:
        return
    colours = {"compute": "C0", "memory": "C1", "-": "0.6"}
    panels = 2 * len(roofline.stages)
    with figure(path, panels, columns=2, size=(6.0, 3.0), legend=None) as axes:
        pairs = zip(axes[::2], axes[1::2], strict=True)
        for (left, right), (label, stages) in zip(pairs, roofline.stages.items(), strict=True):
            shown, _ = _by_size(stages)
            micro = [1e6 * stage.seconds for stage in shown]
            left.barh(range(len(shown)), micro, color=[colours[s.bound] for s in shown])
            left.set_yticks(range(len(shown)), [s.name for s in shown], fontsize="x-small")
            roofs = [1e6 * (s.roofline_s or 0.0) for s in shown]
            left.scatter(roofs, range(len(shown)), s=60, color="k", marker="|")
            left.invert_yaxis()
            left.set_title(f"{label}: stages, µs (stroke: roofline)", loc="left")
            rows = [r for r in roofline.rows if r.receiver == label or r.contender == "equaliser"]
            rows = [row for row in rows if row.cpu_s is not None]
            bars = right.barh(
                [r.contender for r in rows], [1e3 * r.cpu_s for r in rows], color="C2"
            )
            right.bar_label(bars, [number(r.cpu_s, 1e3) for r in rows], padding=3)
            right.margins(x=0.15)
            right.invert_yaxis()
            right.set_title("CPU time of a slot, ms", loc="left")
        kinds = [("compute", "compute"), ("memory", "memory"), ("-", "neither counted")]
        axes[0].legend(
            handles=[Patch(color=colours[kind], label=name) for kind, name in kinds],
            fontsize="x-small",
            loc="lower right",
        )


def _panels(points: Sequence[Point]) -> dict[tuple[str, str], list[Point]]:
    panels: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        panels.setdefault((point.device, point.axis), []).append(point)
    return panels


def show_scale(points: Sequence[Point], console: Console) -> None:
    for (device, axis), panel in _panels(points).items():
        first = panel[0]
        batch = "as threads" if axis == "threads" else first.max_batch
        fixed = {
            "PRB": f"{first.n_prb} PRB",
            "antennas": f"{first.n_rx} RX",
            "slots of a batch at most": f"batch {batch}",
            "threads": f"{first.threads} thread",
        }
        clock = "CPU" if device == "cpu" else "wall"
        shown = table(
            f"{axis}, {device}; {', '.join(v for k, v in fixed.items() if k != axis)}",
            sorted((p for p in panel if p.cpu_s is not None), key=lambda p: p.receiver),
            [
                ("\nreceiver", lambda p: p.receiver),
                (f"\n{axis}", lambda p: str(p.value)),
                ("\nFFT", lambda p: str(p.fft_size)),
                ("CPU ms\na slot", lambda p: number(p.cpu_s, 1e3)),
                ("\nspread", lambda p: interval(p.cpu_s_spread, 1e3)),
                (f"{clock} ms a\nslot: p50", lambda p: number(p.call_s["p50"], 1e3)),
                ("\np99", lambda p: number(p.call_s["p99"], 1e3)),
                ("\nslots/s", lambda p: number(p.slots_per_s)),
                ("slots\na batch", lambda p: number(p.batch)),
                ("slots\nwaiting", lambda p: number(p.waiting)),
                ("latency\nms", lambda p: number(p.latency_s, 1e3)),
                ("\nMiB", lambda p: f"{p.bytes / 2**20:.0f}"),
            ],
        )
        console.print(shown)
        for point in panel:
            if point.why:
                console.print(
                    f"{point.receiver}, {axis} {point.value}: {point.why}",
                    soft_wrap=True,
                )


def _shown(point: Point) -> tuple[float, str]:
    """What a picture shows of a point, in seconds, and what it is called."""
    if point.device != "cpu":
        return point.call_s["p50"], "wall time of a slot"
    if point.axis == "threads":
        return 1 / point.slots_per_s, "wall time of a slot"
    if point.axis == "slots that may queue":
        return point.latency_s, "latency"
    return point.cpu_s, "CPU time of a slot"


def plot_scale(points: Sequence[Point], path: Path) -> None:
    """A panel for each thing that was changed, a line for each receiver."""
    from matplotlib import ticker

    panels = _panels([point for point in points if point.cpu_s is not None])
    if not panels:
        return
    with figure(path, len(panels), columns=len(panels), size=(3.0, 3.4), one_scale=True) as axes:
        axes[0].set_ylabel("ms")
        for axis, ((device, name), panel) in zip(axes, panels.items(), strict=True):
            for receiver in dict.fromkeys(point.receiver for point in panel):
                line = [point for point in panel if point.receiver == receiver]
                milli = [1e3 * _shown(point)[0] for point in line]
                axis.plot([point.value for point in line], milli, "o-", label=receiver)
            title = f"{_shown(panel[0])[1]}, {device}"
            axis.set(xscale="log", yscale="log", xlabel=name)
            axis.set_title(title, fontsize="medium")
            values = sorted({point.value for point in panel})
            axis.set_xticks(values, map(str, values))
            axis.xaxis.set_minor_locator(ticker.NullLocator())
            axis.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
