# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx bench scale and deeprx bench memory."""

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from deeprx_common.files import replacing, write_json
from deeprx_common.shipped import shipped_models
from deeprx_common.terminal import make_console, number, table

from ..measure.scale import SETTLING, Memory, Point, Scale, bytes_per_slot
from ..measure.worker import Job
from ..models.file import ModelFile, read_model_file
from .bench import heading, progress, show_sharing

SCHEMA = "deeprx.bench-scale/1"
MEMORY_SCHEMA = "deeprx.bench-memory/1"
LEAK = 16.0  # bytes a slot, above which memory is not flat: a message is larger


def default_models() -> list[ModelFile]:
    """A baseline and the student of the fewest FLOP."""
    students = [
        m for m in map(read_model_file, shipped_models()) if m.metadata.get("kind") == "student"
    ]
    students.sort(key=lambda model: model.flop_per_slot(26, 2) or float("inf"))
    return [read_model_file("baseline-lmmse.pt"), *students[:1]]


def run(arguments, base: Job) -> int:
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
    where = write_json(heading(SCHEMA, stopped) | {"points": rows}, a.out / "scale.json")
    with (
        replacing(a.out / "scale.csv") as temporary,
        Path(temporary).open("w", newline="") as file,
    ):
        flat = [_flat(row) for row in rows]
        writer = csv.DictWriter(file, flat[0])
        writer.writeheader()
        writer.writerows(flat)
    show(scale.points, console)
    alone = [p for p in scale.points if p.device == "cpu" and p.threads == 1]
    show_sharing([p.busy for p in alone if p.busy], console)
    plot(scale.points, a.out / "scale.png")
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


def _panels(points: Sequence[Point]) -> dict[tuple[str, str], list[Point]]:
    found: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        found.setdefault((point.device, point.axis), []).append(point)
    return found


def show(points: Sequence[Point], console: Console) -> None:
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


def plot(points: Sequence[Point], path: Path) -> None:
    """A panel for each thing that was changed, a line for each receiver."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    panels = _panels([point for point in points if point.cpu_s is not None])
    if not panels:
        return
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(3.0 * len(panels), 3.4), sharey=True, squeeze=False
    )
    for axis, ((device, name), found) in zip(axes[0], panels.items(), strict=True):
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
        axis.grid(True, which="both", alpha=0.3)
    axes[0, 0].set_ylabel("ms")
    axes[0, 0].legend(fontsize="small")
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    pyplot.close(figure)


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
