# SPDX-License-Identifier: GPL-3.0-or-later
"""What the receiver block costs at other sizes, one thing changed at a time, and whether its memory
stays flat: `deeprx bench scale` and `deeprx bench memory`.
"""

import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deeprx_common.report import summarise_s

from ..models.file import ModelFile
from .contenders import ContenderError, Kit, Worker, bench_cores, labels, make_kit
from .job import Job, Turn

TURNS = 3
SETTLING = 0.2  # of a run's slots, before memory counts: buffers and caches fill

# What changes: name, field of the Job, values on a CPU, values on a GPU
AXES = (
    ("PRB", "n_prb", (6, 13, 26, 52, 106, 273), (26, 106, 273)),
    ("antennas", "n_rx", (1, 2, 3, 4), ()),
    ("slots of a batch at most", "batch", (1, 2, 4, 8, 16), (1, 4, 16, 64)),
    ("threads", "threads", (1, 2, 4, 8, 16), ()),
    ("slots that may queue", "queued", (4, 8, 16, 32, 64), ()),
)


@dataclass(frozen=True)
class Point:
    """The block at one size.

    axis: what was changed, to value. why: it was not measured; then what was not measured is None.
    cpu_s: CPU time a slot, worker threads included: median over turns; cpu_s_spread: the least and
    the largest. call_s: mean, p50 and p99 of a slot's share of its batch: CPU time on a CPU, wall
    time on a GPU. batch, waiting: mean slots of a batch and behind it. latency_s: what a slot that
    comes then waits for its LLRs, (waiting + batch) / slots_per_s. busy: the process's CPU time
    over wall time. bytes: resident at the end.
    """

    receiver: str
    device: str
    axis: str
    value: int
    n_prb: int
    fft_size: int
    n_rx: int
    threads: int
    max_batch: int
    why: str | None = None
    cpu_s: float | None = None
    cpu_s_spread: list[float] | None = None
    call_s: dict | None = None
    slots_per_s: float | None = None
    batch: float | None = None
    waiting: float | None = None
    latency_s: float | None = None
    busy: float | None = None
    bytes: int | None = None


class Scale:
    """Measures every receiver at every size; points: filled as they come."""

    def __init__(
        self, models: Sequence[ModelFile], base: Job, devices: Sequence[str], seconds: float
    ):
        self._folder = tempfile.TemporaryDirectory(prefix="deeprx-bench-")
        self._base, self._seconds = base, seconds
        self._kits = {
            label: make_kit(m, base.config, base.n_rx, "cpu", Path(self._folder.name, str(k)))
            for k, (label, m) in enumerate(zip(labels(models), models, strict=True))
        }
        cores = len(os.sched_getaffinity(0))
        self._sizes = [
            (device, axis, field, value)
            for device in devices
            for axis, field, on_cpu, on_gpu in AXES
            for value in (on_cpu if device == "cpu" else on_gpu)
            if field != "threads" or value <= cores
        ]
        self.points: list[Point] = []

    def close(self) -> None:
        self._folder.cleanup()

    @property
    def steps(self) -> int:
        return len(self._sizes) * len(self._kits)

    def run(self) -> Iterator[str]:
        """Measures; says what comes next."""
        for device, axis, field, value in self._sizes:
            for name, kit in self._kits.items():
                yield f"{device}, {axis}: {value}"
                job = replace(self._base, device=device, **{field: value})
                config = job.config
                point = Point(
                    name, device, axis, value, job.n_prb, config.fft_size, job.n_rx, job.threads,
                    job.batch,
                )  # fmt: skip
                try:
                    self.points.append(self._measured(point, kit, job))
                except ContenderError as error:
                    self.points.append(replace(point, why=str(error)))

    def _measured(self, point: Point, kit: Kit, job: Job) -> Point:
        job = replace(job, cores=bench_cores(job.threads))
        with Worker(kit.job("watched-block", job)) as worker:
            turns = [worker.turn(self._seconds / TURNS) for _ in range(TURNS)]
            cpu_s = [turn.receiver_s / turn.slots for turn in turns]
            slots_per_s = statistics.median(turn.slots / turn.seconds for turn in turns)
            batch, waiting = (
                float(np.mean([getattr(turn, key) for turn in turns]))
                for key in ("batch", "queued")
            )
            return replace(
                point,
                cpu_s=statistics.median(cpu_s),
                cpu_s_spread=[min(cpu_s), max(cpu_s)],
                call_s=summarise_s([call for turn in turns for call in turn.calls_s]),
                slots_per_s=slots_per_s,
                batch=batch,
                waiting=waiting,
                latency_s=(batch + waiting) / slots_per_s,
                busy=statistics.median(turn.busy_s / turn.seconds for turn in turns),
                bytes=worker.bytes,
            )


class Memory:
    """Resident memory of a process whose flowgraph runs the block on and on.

    samples: (slots so far, bytes), one a second.
    """

    def __init__(self, model: ModelFile, base: Job, slots: int):
        self._folder = tempfile.TemporaryDirectory(prefix="deeprx-bench-")
        folder = Path(self._folder.name, "model")
        self._kit = make_kit(model, base.config, base.n_rx, base.device, folder)
        self._base, self._slots = base, slots
        self.samples: list[tuple[int, int]] = []

    def close(self) -> None:
        self._folder.cleanup()

    def run(self, seconds: float = 1.0) -> Iterator[int]:
        """Measures; gives the slots so far. seconds: between samples."""
        done = 0
        with Worker(self._kit.job("steady", self._base)) as worker:
            while done < self._slots:
                turn: Turn = worker.turn(seconds)
                done += turn.slots
                self.samples.append((done, worker.bytes))
                yield done


def bytes_per_slot(samples: Sequence[tuple[int, int]]) -> float | None:
    """Slope of the least-squares line once SETTLING is over; None of fewer than 3 samples."""
    kept = [s for s in samples if s[0] > SETTLING * samples[-1][0]]
    if len(kept) < 3:
        return None
    slots, used = np.transpose(kept)
    return float(np.polyfit(slots, used, 1)[0])
