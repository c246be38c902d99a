# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and pictures of deeprx bench."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from deeprx_common.figure import figure
from deeprx_common.files import replacing
from deeprx_common.slot import SLOT_S
from deeprx_common.terminal import number, table

from ..measure.compare import PRECISIONS, REFERENCE, Row, fastest
from ..measure.contenders import CONTENDERS
from ..measure.job import Job
from ..measure.scale import Point

SHARED = 0.05  # of the wall time without the core, above which the run says so


def show(
    rows: Sequence[Row], gemm_flop_per_s: Mapping[str, float], base: Job, console: Console
) -> None:
    """A table for each receiver, why contenders are missing, and whether the core was shared."""
    clock = "CPU" if base.device == "cpu" else "wall"
    threads = f"{base.threads} thread" + ("s" if base.threads > 1 else "")
    slot = f"{base.n_prb} PRB, {base.modulation}, {base.n_rx} RX, {threads}, {base.device}"
    for receiver in dict.fromkeys(row.receiver for row in rows):
        found = [row for row in rows if row.receiver == receiver]
        made = table(
            f"{receiver}: {slot}" if found[0].model_sha256 else receiver,
            "\ncontender", "\nprecision", "CPU ms\na slot", "\nquartiles",
            f"{clock} ms a\ncall: p50", "\np99", "\nslots/s", "real-time\nfactor", "\nGFLOP/s",
            "of GEMM\npeak", "peak\nMiB", "start\ns", f"CPU against\n{REFERENCE}", "LLRs\ndiffer",
            left=2,
        )  # fmt: skip
        for row in found:
            if row.cpu_s is not None:
                made.add_row(*_cells(row))
        if made.row_count:
            console.print(made)
        for row in found:
            if row.contender in ("block", "watched-block") and row.description:
                console.print(f"{row.contender}: {row.description}{_above(row)}", markup=False)
            if row.why:
                console.print(
                    f"{receiver}, {row.contender}: {row.why}", markup=False, soft_wrap=True
                )
        if said := fastest(found, base.device):
            console.print(said, markup=False)
        console.print()
    peaks = ", ".join(
        f"{number(gemm_flop_per_s[p], 1e-9)} in {p}" for p in PRECISIONS if p in gemm_flop_per_s
    )
    console.print(f"matrix products, GFLOP/s: {peaks or 'not measured'}")
    if base.device == "cpu" and base.threads == 1:
        show_sharing([row.busy for row in rows if row.busy], console)


def show_sharing(busy: Sequence[float], console: Console) -> None:
    """busy: CPU time over wall time of processes that one thread keeps busy."""
    lost = 1 - min(busy, default=1.0)
    if lost > SHARED:
        console.print(
            f"the core was shared: up to {lost:.0%} of the wall time went to others. CPU times and "
            "ratios stand, slots/s do not: run again on a quiet machine",
            soft_wrap=True,
        )


def _above(row: Row) -> str:
    found = {"work()": row.work_above_engine_s, "with the scheduler": row.above_engine_s}
    told = [
        f"{what} {1e6 * s.median:+.0f} µs [{1e6 * s.low:+.0f}, {1e6 * s.high:+.0f}]"
        for what, s in found.items()
        if s
    ]
    above = f"; above its engine alone: {', '.join(told)}" if told else ""
    if s := row.work_overhead_s:
        above += (
            f"; work() without its inference {1e6 * s.median:.0f} µs, "
            f"quartiles {1e6 * s.low:.0f} {1e6 * s.high:.0f}"
        )
    return above


def _cells(row: Row) -> list[str]:
    low, high = row.cpu_s_quartiles
    calls = row.call_s
    against = "-"
    if a := row.against:
        against = f"{a.median:.2f} [{a.low:.2f}, {a.high:.2f}]"
    return [
        row.contender,
        row.precision,
        number(row.cpu_s, 1e3),
        f"{number(low, 1e3)} {number(high, 1e3)}",
        number(calls["p50"], 1e3),
        number(calls["p99"], 1e3),
        number(row.slots_per_s),
        number(row.real_time),
        number(row.flop_per_s, 1e-9),
        "-" if row.of_peak is None else f"{row.of_peak:.0%}",
        f"{row.peak_bytes / 2**20:.0f}",
        number(row.startup_s),
        against,
        "-" if row.llr_difference is None else f"{row.llr_difference:.0e}".replace("0e+00", "0"),
    ]


def plot(rows: Sequence[Row], path: Path) -> None:
    """CPU time of a slot, a panel for each receiver, quartiles as whiskers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [row for row in rows if row.cpu_s is not None and row.model_sha256]
    receivers = list(dict.fromkeys(row.receiver for row in shown))
    if not receivers:
        return
    counts = [sum(row.receiver == r for row in shown) for r in receivers]
    figure, axes = pyplot.subplots(
        len(receivers), 1, figsize=(8, 1 + 0.32 * sum(counts) + 0.5 * len(receivers)),
        height_ratios=counts, squeeze=False,
    )  # fmt: skip
    for axis, receiver in zip(axes[:, 0], receivers, strict=True):
        found = [row for row in shown if row.receiver == receiver]
        names = [row.contender for row in found]
        milli = [1e3 * row.cpu_s for row in found]
        spread = [
            (m - 1e3 * row.cpu_s_quartiles[0], 1e3 * row.cpu_s_quartiles[1] - m)
            for m, row in zip(milli, found, strict=True)
        ]
        colours = [f"C{list(CONTENDERS).index(name)}" for name in names]
        axis.barh(names, milli, xerr=list(zip(*spread, strict=True)), color=colours, capsize=3)
        axis.axvline(1e3 * SLOT_S, color="k", linestyle=":")
        axis.invert_yaxis()
        axis.set_title(f"{receiver}, {found[0].precision}", fontsize="small", loc="left")
    axes[-1, 0].set_xlabel("CPU time a slot, ms (dotted: the slot's own 1 ms)")
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    pyplot.close(figure)


def _panels(points: Sequence[Point]) -> dict[tuple[str, str], list[Point]]:
    found: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        found.setdefault((point.device, point.axis), []).append(point)
    return found


def show_scale(points: Sequence[Point], console: Console) -> None:
    for (device, axis), found in _panels(points).items():
        first = found[0]
        fixed = {
            "PRB": f"{first.n_prb} PRB",
            "antennas": f"{first.n_rx} RX",
            "slots of a batch at most": "batch 1",
            "threads": f"{first.threads} thread",
        }
        clock = "CPU" if device == "cpu" else "wall"
        made = table(
            f"{axis}, {device}; {', '.join(v for k, v in fixed.items() if k != axis)}",
            "\nreceiver", f"\n{axis}", "\nFFT", "CPU ms\na slot", "\nspread",
            f"{clock} ms a\nslot: p50", "\np99", "\nslots/s", "slots\na batch", "slots\nwaiting",
            "latency\nms", "\nMiB",
        )  # fmt: skip
        for point in sorted(found, key=lambda p: p.receiver):
            if point.cpu_s is None:
                continue
            low, high = point.cpu_s_spread
            made.add_row(
                point.receiver,
                str(point.value),
                str(point.fft_size),
                number(point.cpu_s, 1e3),
                f"{number(low, 1e3)} {number(high, 1e3)}",
                number(point.call_s["p50"], 1e3),
                number(point.call_s["p99"], 1e3),
                number(point.slots_per_s),
                number(point.batch),
                number(point.waiting),
                number(point.latency_s, 1e3),
                f"{point.bytes / 2**20:.0f}",
            )
        console.print(made)
        for point in found:
            if point.why:
                console.print(
                    f"{point.receiver}, {axis} {point.value}: {point.why}",
                    markup=False,
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
        for axis, ((device, name), found) in zip(axes, panels.items(), strict=True):
            for receiver in dict.fromkeys(point.receiver for point in found):
                line = [point for point in found if point.receiver == receiver]
                milli = [1e3 * _shown(point)[0] for point in line]
                axis.plot([point.value for point in line], milli, "o-", label=receiver)
            title = f"{_shown(found[0])[1]}, {device}"
            axis.set(xscale="log", yscale="log", xlabel=name)
            axis.set_title(title, fontsize="medium")
            values = sorted({point.value for point in found})
            axis.set_xticks(values, map(str, values))
            axis.xaxis.set_minor_locator(ticker.NullLocator())
            axis.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
