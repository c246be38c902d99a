# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx bench: what a slot takes, by contender, at other sizes, and over many slots."""

import argparse
import csv
import sys
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from gnuradio import gr
from rich.console import Console

from deeprx_common.files import replacing, write_json
from deeprx_common.host import host, versions
from deeprx_common.revision import git_revision
from deeprx_common.shipped import shipped_models
from deeprx_common.terminal import make_console, steps

from ..measure.compare import Comparison
from ..measure.contenders import CONTENDERS, OURS, bench_cores
from ..measure.job import Job
from ..measure.scale import SETTLING, Memory, Scale, bytes_per_slot
from ..models.file import ModelFile, read_model_file
from .bench_view import plot, plot_scale, show, show_scale, show_sharing
from .options import Unset, add_options, out_folder

SCHEMA = "deeprx.bench/2"
SCALE_SCHEMA = "deeprx.bench-scale/1"
MEMORY_SCHEMA = "deeprx.bench-memory/1"
LEAK = 16.0  # bytes a slot, above which memory is not flat: a message is larger

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
        return run_scale(a, base)
    if a.what == "memory":
        return run_memory(a, base)
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
    """The file: schema "deeprx.bench/2"; times in seconds, memory in bytes."""
    return heading(SCHEMA, stopped) | {
        "slot": {key: getattr(base, key) for key in ("n_prb", "n_rx", "modulation", "dmrs")},
        "device": base.device,
        "threads": base.threads,
        "cores": base.cores,
        "gemm_flop_per_s": comparison.gemm_flop_per_s,
        "rows": [asdict(row) for row in comparison.rows],
    }


def default_models() -> list[ModelFile]:
    """A baseline and the student of the fewest FLOP."""
    students = [
        m for m in map(read_model_file, shipped_models()) if m.metadata.get("kind") == "student"
    ]
    students.sort(key=lambda model: model.flop_per_slot(26, 2) or float("inf"))
    return [read_model_file("baseline-lmmse.pt"), *students[:1]]


def run_scale(arguments, base: Job) -> int:
    """The block at other sizes."""
    a = arguments
    models = [read_model_file(path) for path in a.receiver] if a.receiver else default_models()
    devices = ["cpu", *_gpu()] if a.device == "cpu" else [a.device]
    console, stopped = make_console(), False
    scale = Scale(models, replace(base, device=devices[0]), devices, a.seconds)
    try:
        with progress(console, scale.steps) as advance:
            for what in scale.run():
                advance(what)
    except KeyboardInterrupt:
        stopped = True
    finally:
        scale.close()
    if not scale.points:
        print("deeprx: stopped; nothing was measured", file=sys.stderr)
        return 130
    rows = [asdict(point) for point in scale.points]
    where = write_json(heading(SCALE_SCHEMA, stopped) | {"points": rows}, a.out / "scale.json")
    with (
        replacing(a.out / "scale.csv") as temporary,
        Path(temporary).open("w", newline="") as file,
    ):
        flat = [_flat(row) for row in rows]
        writer = csv.DictWriter(file, flat[0])
        writer.writeheader()
        writer.writerows(flat)
    show_scale(scale.points, console)
    alone = [p for p in scale.points if p.device == "cpu" and p.threads == 1]
    show_sharing([p.busy for p in alone if p.busy], console)
    plot_scale(scale.points, a.out / "scale.png")
    if stopped:
        print(f"deeprx: stopped; what was measured: {where}", file=sys.stderr)
        return 130
    console.print(f"results: {where}, scale.csv, scale.png", soft_wrap=True)
    return 0


def _flat(row: dict) -> dict:
    """A point without lists and dictionaries in it."""
    least, most = row["cpu_s_spread"] or (None, None)
    call = row["call_s"] or {"mean": None, "p50": None, "p99": None}
    kept = {key: value for key, value in row.items() if key not in ("cpu_s_spread", "call_s")}
    return (
        kept | {"cpu_s_least": least, "cpu_s_most": most} | {f"call_s_{k}": call[k] for k in call}
    )


def _gpu() -> list[str]:
    import torch

    return ["cuda"] if torch.cuda.is_available() else []


def run_memory(arguments, base: Job) -> int:
    """Exit status 1 where memory grows."""
    a = arguments
    if a.slots is None:
        a.slots = 100_000
    if a.slots < 1:
        raise ValueError(f"--slots must be at least 1, got {a.slots}")
    if a.receiver and len(a.receiver) > 1:
        raise ValueError(f"deeprx bench memory takes one --receiver, got {len(a.receiver)}")
    model = read_model_file((a.receiver or ["baseline-lmmse.pt"])[0])
    console, stopped = make_console(), False
    memory, done = Memory(model, base, a.slots), 0
    try:
        with progress(console, a.slots) as advance:
            for slots in memory.run():
                advance(f"slots: {slots} of {a.slots}", slots - done)
                done = slots
    except KeyboardInterrupt:
        stopped = True
    finally:
        memory.close()
    slope = bytes_per_slot(memory.samples)
    if slope is None:
        if stopped:
            print("deeprx: stopped; too few slots to say how memory goes", file=sys.stderr)
            return 130
        raise ValueError(f"--slots: {a.slots} are too few to say how memory goes")
    made = heading(MEMORY_SCHEMA, stopped) | {
        "receiver": model.name,
        "model_sha256": model.sha256,
        "n_prb": base.n_prb,
        "n_rx": base.n_rx,
        "bytes_per_slot": slope,
        "samples": [{"slots": slots, "bytes": used} for slots, used in memory.samples],
    }
    where = write_json(made, a.out / "memory.json")
    used = [b for slots, b in memory.samples if slots > SETTLING * done]
    flat = slope <= LEAK
    console.print(
        f"{model.name}, {base.n_prb} PRB: {done} slots, {min(used) / 2**20:.1f} to "
        f"{max(used) / 2**20:.1f} MiB resident after the first {SETTLING:.0%}, "
        f"{slope:+.2g} bytes a slot: {'flat' if flat else 'it grows'}",
        soft_wrap=True,
    )
    console.print(f"results: {where}", soft_wrap=True)
    return 130 if stopped else 0 if flat else 1


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
