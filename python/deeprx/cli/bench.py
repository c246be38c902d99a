# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx bench: receivers beside what else could run them, in turns."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from gnuradio import gr
from rich.console import Console

from deeprx_common.files import replacing, write_json
from deeprx_common.host import host, versions
from deeprx_common.revision import git_revision
from deeprx_common.shipped import shipped_models
from deeprx_common.slot import SLOT_S
from deeprx_common.terminal import make_console, number, steps, table

from ..measure.compare import PRECISIONS, REFERENCE, Comparison, Row, fastest
from ..measure.contenders import CONTENDERS, OURS, bench_cores
from ..measure.worker import Job
from ..models.file import read_model_file
from .options import Unset, add_options, out_folder

SCHEMA = "deeprx.bench/1"
SHARED = 0.05  # of the wall time without the core, above which the run says so

DESCRIPTION = """\
deeprx bench           every receiver by every contender: our block in a running flowgraph, its
                       engine alone, and what else could run the same model. Each contender is a
                       process of its own on the same core; they take turns of 0.2 s, so that
                       whatever else the machine does strikes all alike. Then GNU Radio's own
                       equaliser, and matrix products for what the core can do at most.
deeprx bench scale     the block at other sizes: PRBs, antennas, batches, threads, queue; on a GPU,
                       too, where there is one
deeprx bench memory    whether memory stays flat while the block receives slot after slot
"""


def configure(parser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = "contenders:\n" + "\n".join(
        f"  {n:14} {what}" for n, what in CONTENDERS.items()
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("what", nargs="?", choices=("scale", "memory"), help="(receivers by contenders)")
    shown = "all that ship; scale: a baseline and the smallest student; memory: a baseline"
    add_options(parser, receiver=Unset(shown))
    add(
        "--contender",
        action="append",
        choices=CONTENDERS,
        metavar="NAME",
        help="repeat; see below (all of them)",
    )
    add("--seconds", type=float, default=2.0, help="of each contender and receiver, or size (2)")
    add_options(parser, slots=Unset("memory: 100000"), n_prb=Unset("26; memory: 6"))
    add_options(parser, "modulation", "dmrs", "n_rx", "device", "threads", "out")


def run(arguments) -> int:
    from . import bench_scale

    a = arguments
    if not 0.1 <= a.seconds <= 1e5:
        raise ValueError(f"--seconds must be 0.1 to 100000, got {a.seconds:g}")
    if a.contender and a.what:
        raise ValueError(f"--contender is not for deeprx bench {a.what}, which runs the block")
    base = Job(
        contender="",
        model="",
        n_prb=(6 if a.what == "memory" else 26) if a.n_prb is None else a.n_prb,
        n_rx=a.n_rx,
        modulation=a.modulation,
        dmrs=a.dmrs,
        cores=bench_cores(a.threads),
        device=a.device,
        threads=a.threads,
    )
    base.config  # noqa: B018  raises where a value is out of range
    a.out = out_folder(a)
    if a.what == "scale":
        return bench_scale.run(a, base)
    if a.what == "memory":
        return bench_scale.run_memory(a, base)
    return compare(a, base)


def compare(arguments, base: Job) -> int:
    """Receivers by contenders."""
    a = arguments
    models = [read_model_file(path) for path in dict.fromkeys(a.receiver or shipped_models())]
    console = make_console()
    stopped = False
    names = a.contender or list(CONTENDERS)
    comparison = Comparison(models, names, base, a.seconds, skip=not a.receiver)
    try:
        with progress(console, comparison.steps) as advance:
            for what in comparison.run():
                advance(what)
    except KeyboardInterrupt:
        stopped = True
    finally:
        comparison.close()
    if not comparison.rows:
        print("deeprx: stopped; nothing was measured", file=sys.stderr)
        return 130
    made = results(comparison, base, stopped)
    where = write_json(made, a.out / "bench.json")
    show(comparison.rows, comparison.gemm_flop_per_s, base, console)
    plot(comparison.rows, a.out / "bench.png")
    if stopped:
        print(f"deeprx: stopped; what was measured: {where}", file=sys.stderr)
        return 130
    console.print(f"results: {where}, {a.out / 'bench.png'}", soft_wrap=True)
    failed = [r for r in comparison.rows if a.receiver and r.why and r.contender in OURS]
    for row in failed:
        print(f"deeprx: error: {row.receiver}: {row.contender}: {row.why}", file=sys.stderr)
    return int(bool(failed))


def results(comparison: Comparison, base: Job, stopped: bool) -> dict:
    """The file: schema "deeprx.bench/1"; times in seconds, memory in bytes."""
    return heading(SCHEMA, stopped) | {
        "slot": {key: getattr(base, key) for key in ("n_prb", "n_rx", "modulation", "dmrs")},
        "device": base.device,
        "threads": base.threads,
        "cores": base.cores,
        "gemm_flop_per_s": comparison.gemm_flop_per_s,
        "rows": [asdict(row) for row in comparison.rows],
    }


@contextmanager
def progress(console: Console, total: int):
    """As steps(); in a file, a line for each new part before a colon."""
    said = ""

    def advance(what: str, n: int = 1):
        nonlocal said
        part = what.partition(":")[0]
        if not console.is_terminal and part != said:
            print(part, flush=True)
        said = part
        update(what, n)

    with steps(console, total) as update:
        yield advance


def heading(schema: str, stopped: bool) -> dict:
    """What every file of the benchmark begins with."""
    return {
        "schema": schema,
        "complete": not stopped,
        "host": host(),
        "versions": {"gnuradio": gr.version()}
        | versions("numpy", "torch", "onnxruntime", "openvino"),
        "git": git_revision(),
        "command": sys.argv[1:],
    }


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
        "{} {:+.0f} µs [{:+.0f}, {:+.0f}]".format(what, *(1e6 * seconds for seconds in interval))
        for what, interval in found.items()
        if interval
    ]
    above = f"; above its engine alone: {', '.join(told)}" if told else ""
    if row.own_s:
        own = [1e6 * seconds for seconds in row.own_s]
        above += "; work() without its inference {1:.0f} µs, quartiles {0:.0f} {2:.0f}".format(*own)
    return above


def _cells(row: Row) -> list[str]:
    low, high = row.cpu_s_quartiles
    calls = row.call_s
    against = "-"
    if row.against:
        against = "{1:.2f} [{0:.2f}, {2:.2f}]".format(*row.against)
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
