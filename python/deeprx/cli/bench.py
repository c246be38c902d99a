# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx bench: what a slot takes, by contender, at other sizes, and over many slots."""

import argparse
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gnuradio import gr
from rich.console import Console

from deeprx_common import limits
from deeprx_common.checks import check_range
from deeprx_common.examples import SINR_DB
from deeprx_common.files import write_json
from deeprx_common.host import host, versions
from deeprx_common.revision import git_revision
from deeprx_common.shipped import CLASSICAL, shipped_models
from deeprx_common.slot import SLOTS
from deeprx_common.slot_file import changed_slot, given_slot
from deeprx_common.terminal import make_console, steps

from ..measure.avx2 import stay_with_avx2
from ..measure.compare import Comparison
from ..measure.contenders import CONTENDERS, LEFT_OUT, NO_FILE, OURS, bench_cores
from ..measure.job import Job
from ..measure.roofline import Roofline
from ..measure.scale import SETTLING, Memory, Scale
from ..models.file import read_model_file
from .bench_view import (
    plot,
    plot_scale,
    plot_stages,
    show,
    show_scale,
    show_sharing,
    show_stages,
)
from .options import SLOT, TRUST, Unset, add_options, jail_limits, out_folder, read_models

SCHEMA = "deeprx.bench/2"
SCALE_SCHEMA = "deeprx.bench-scale/1"
MEMORY_SCHEMA = "deeprx.bench-memory/1"
ROOFLINE_SCHEMA = "deeprx.bench-roofline/1"
LEAK = 16.0  # bytes a slot, above which memory is not flat: a message is larger

DESCRIPTION = """\
deeprx bench           every receiver by every contender: our block in a running flowgraph, its
                       engine alone, and what else could run the same model. Each contender is a
                       process of its own on the same core; they take turns of 0.2 s, so that
                       whatever else the machine does strikes all alike. Then GNU Radio's own
                       equaliser, our LDPC decoder, and matrix products for what the core can
                       do at most.
deeprx bench scale     the block at other sizes: PRBs, antennas, batches, threads, queue; on a GPU,
                       too, where there is one
deeprx bench memory    whether memory stays flat while the block receives slot after slot
deeprx bench roofline  the stages of the native engine: time, FLOP, bytes, and how near each comes
                       to what matrix products and copies reach on this core in the same run;
                       beside them the other engines on the same net, and GNU Radio's equaliser
"""


def configure(parser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = "contenders:\n" + "\n".join(
        f"  {n:14} {what}" for n, what in CONTENDERS.items()
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add(
        "what", nargs="?", choices=("scale", "memory", "roofline"), help="(receivers by contenders)"
    )
    shown = (
        "all that ship; scale: a baseline and the smallest student; memory: a baseline; roofline: "
        "all that are native"
    )
    add_options(parser, *TRUST, receiver=Unset(shown))
    add(
        "--contender",
        action="append",
        choices=CONTENDERS,
        metavar="NAME",
        help="repeat; see below (all of them)",
    )
    add("--seconds", type=float, default=2.0, help="of each contender and receiver, or size (2)")
    shown = "the slot's; memory of the default slot: 6"
    add_options(parser, *SLOT, "mcs", "mcs_table", n_prb=Unset(shown))
    add_options(parser, "n_rx", "sir", "device", "threads", "out", slots=Unset("memory: 100000"))
    add(
        "--avx2",
        action="store_true",
        help="all parts as on a processor that has AVX2 and nothing newer",
    )


def run(arguments) -> int:
    a = arguments
    if not 0.1 <= a.seconds <= 1e5:
        raise ValueError(f"--seconds must be 0.1 to 100000, got {a.seconds:g}")
    if a.avx2:
        stay_with_avx2()
    if a.contender and a.what:
        runs = "other engines" if a.what == "roofline" else "the block"
        raise ValueError(f"--contender is not for deeprx bench {a.what}, which runs {runs}")
    if a.what == "roofline" and (a.device != "cpu" or a.threads != 1):
        raise ValueError(
            "deeprx bench roofline takes --device cpu and --threads 1, got "
            f"{a.device} and {a.threads}"
        )
    if a.sir is not None and not SINR_DB < a.sir <= limits.SNR_DB[1]:
        raise ValueError(
            f"--sir: expected more than the slots' SINR of {SINR_DB:g} dB, {limits.SNR_DB[1]} dB "
            f"at most, found {a.sir:g} dB"
        )
    n_prb = {"n_prb": 6} if a.what == "memory" and a.slot == SLOTS["default"] else {}
    slot = changed_slot(a.slot, n_prb | given_slot(a))
    if slot.n_layers > 1:
        raise ValueError(f"--slot: expected one user here, found {slot.n_layers}")
    if slot.slot_number is None:  # the same slot comes again and again
        slot = replace(slot, slot_number=0)
    base = Job(
        contender="",
        model="",
        slot=slot.as_dict(),
        n_rx=a.n_rx,
        cores=bench_cores(a.threads),
        device=a.device,
        threads=a.threads,
        batch=a.threads,
        jail=jail_limits(a),
        sir_db=a.sir,
    )
    a.out = out_folder(a)
    make, conclude, name, schema = {
        None: (_comparison, _conclude_comparison, "bench", SCHEMA),
        "scale": (_scale, _conclude_scale, "scale", SCALE_SCHEMA),
        "memory": (_memory, _conclude_memory, "memory", MEMORY_SCHEMA),
        "roofline": (_roofline, _conclude_roofline, "roofline", ROOFLINE_SCHEMA),
    }[a.what]
    measurement, console, stopped = make(a, base), make_console(), False
    file, kept = a.out / f"{name}.json", None
    try:
        with measurement, progress(console, measurement.steps) as advance:
            for what in measurement.run():
                advance(what, measurement.step)
                if measurement.measured and (results := measurement.as_dict()) != kept:
                    write_json(heading(schema, True) | results, file)
                    kept = results
    except KeyboardInterrupt:
        stopped = True
    if not measurement.measured:
        if not stopped:
            raise ValueError(f"--slots: {measurement.steps} are too few to say how memory goes")
        print("deeprx: stopped; nothing was measured", file=sys.stderr)
        return 130
    write_json(heading(schema, stopped) | measurement.as_dict(), file)
    status = conclude(measurement, a, base, console, file.with_suffix(".png"))
    if stopped:
        print(f"deeprx: stopped; what was measured: {file}", file=sys.stderr)
        return 130
    console.print(f"results: {file}", soft_wrap=True)
    return status


def _comparison(arguments, base: Job) -> Comparison:
    a = arguments
    every = a.receiver or [*shipped_models(), *CLASSICAL]
    models = read_models(dict.fromkeys(every), a)
    names = a.contender or list(CONTENDERS)
    return Comparison(models, names, base, a.seconds, skip=not a.receiver)


def _conclude_comparison(comparison, arguments, base, console, picture: Path) -> int:
    show(comparison, base, console)
    plot(comparison.rows, picture)
    failed = [
        row
        for row in comparison.rows
        if arguments.receiver
        and row.why not in (None, *LEFT_OUT)
        and row.contender in (NO_FILE if row.receiver in CLASSICAL else OURS)
    ]
    for row in failed:
        print(f"deeprx: error: {row.receiver}: {row.contender}: {row.why}", file=sys.stderr)
    return int(bool(failed))


def _roofline(arguments, base: Job) -> Roofline:
    """By default of what the native engine runs."""
    a = arguments
    models = read_models(a.receiver or [*shipped_models(), *CLASSICAL], a)
    if not a.receiver:
        models = [m for m in models if not m.archive or "native" in m.metadata.get("engines", [])]
    return Roofline(models, base, a.seconds, skip=not a.receiver)


def _conclude_roofline(roofline, arguments, base, console, picture: Path) -> int:
    show(roofline, base, console)
    show_stages(roofline, console)
    plot_stages(roofline, picture)
    for label, why in roofline.missing.items():
        print(f"deeprx: error: {label}: {why}", file=sys.stderr)
    return int(bool(roofline.missing))


def _scale(arguments, base: Job) -> Scale:
    """By default of a baseline and the student of the fewest FLOP."""
    a = arguments
    models = read_models(a.receiver or shipped_models(), a)
    if not a.receiver:
        students = [m for m in models if m.metadata.get("kind") == "student"]
        students.sort(key=lambda model: model.flop_per_slot(26, 2) or float("inf"))
        models = [read_model_file("baseline-lmmse.pt"), *students[:1]]
    devices = ["cpu", *_gpu()] if a.device == "cpu" else [a.device]
    return Scale(models, replace(base, device=devices[0]), devices, a.seconds)


def _conclude_scale(scale, arguments, base, console, picture: Path) -> int:
    show_scale(scale.points, console)
    alone = [p for p in scale.points if p.device == "cpu" and p.threads == 1]
    show_sharing([p.busy for p in alone if p.busy], console)
    plot_scale(scale.points, picture)
    return 0


def _gpu() -> list[str]:
    import torch

    return ["cuda"] if torch.cuda.is_available() else []


def _memory(arguments, base: Job) -> Memory:
    a = arguments
    if a.slots is not None:
        check_range("--slots", a.slots, 1)
    if a.receiver and len(a.receiver) > 1:
        raise ValueError(f"deeprx bench memory takes one --receiver, got {len(a.receiver)}")
    (model,) = read_models(a.receiver or ["baseline-lmmse.pt"], a)
    return Memory(model, base, a.slots or 100_000)


def _conclude_memory(memory, arguments, base, console, picture) -> int:
    """Exit status 1 where memory grows."""
    slope, slots = memory.bytes_per_slot, memory.samples[-1][0]
    used = [size / 2**20 for _, size in memory.settled]
    flat = slope <= LEAK
    console.print(
        f"{memory.model.name}, {base.config.n_prb} PRB: {slots} slots, {min(used):.1f} to "
        f"{max(used):.1f} MiB resident after the first {SETTLING:.0%}, "
        f"{slope:+.2g} bytes a slot: {'flat' if flat else 'it grows'}",
        soft_wrap=True,
    )
    return 0 if flat else 1


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
