# SPDX-License-Identifier: GPL-3.0-or-later
"""What the receiver block costs at other sizes, one thing changed at a time, and whether its memory
stays flat: `deeprx bench scale` and `deeprx bench memory`.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from ..models.file import ModelFile, labels
from .compare import per_slot, summary
from .contenders import ContenderError, Kit, Measurement, Worker, bench_cores
from .job import Job

TURNS = 3
SETTLING = 0.2  # of a run's slots, before memory counts: buffers and caches fill

# What changes: name, n_prb or a field of the Job, values on a CPU, values on a GPU
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


class Scale(Measurement):
    """Measures every receiver at every size; points: filled as they come."""

    def __init__(
        self, models: Sequence[ModelFile], base: Job, devices: Sequence[str], seconds: float
    ):
        super().__init__()
        self._base, self._seconds = base, seconds
        self._kits = {
            label: self._kit(model, base, "cpu")
            for label, model in zip(labels(models), models, strict=True)
        }
        cores = len(os.sched_getaffinity(0))
        self._sizes = [
            (device, axis, field, value)
            for device in devices
            for axis, field, on_cpu, on_gpu in AXES
            for value in (on_cpu if device == "cpu" else on_gpu)
            if field != "threads" or value <= cores
        ]
        self.steps = len(self._sizes) * len(self._kits)
        self.points: list[Point] = []

    @property
    def measured(self) -> bool:
        return bool(self.points)

    def as_dict(self) -> dict:
        """Its key of the file."""
        return {"points": [asdict(point) for point in self.points]}

    def run(self) -> Iterator[str]:
        """Measures; says what comes next."""
        for device, axis, field, value in self._sizes:
            for name, kit in self._kits.items():
                yield f"{device}, {axis}: {value}"
                job = _changed(replace(self._base, device=device), field, value)
                point = Point(
                    name, device, axis, value, job.config.n_prb, job.config.fft_size, job.n_rx,
                    job.threads, job.batch,
                )  # fmt: skip
                try:
                    self.points.append(self._measured(point, kit, job))
                except ContenderError as error:
                    self.points.append(replace(point, why=str(error)))

    def _measured(self, point: Point, kit: Kit, job: Job) -> Point:
        job = replace(job, cores=bench_cores(job.threads))
        with Worker(kit.job("watched-block", job)) as worker:
            turns = [worker.turn(self._seconds / TURNS) for _ in range(TURNS)]
        times, cpu_s = summary(turns), per_slot(turns)
        batch = float(np.mean([turn.batch for turn in turns]))
        waiting = float(np.mean([turn.queued for turn in turns]))
        return replace(
            point,
            **times,
            cpu_s_spread=[min(cpu_s), max(cpu_s)],
            batch=batch,
            waiting=waiting,
            latency_s=(batch + waiting) / times["slots_per_s"],
            bytes=worker.bytes,
        )


def _changed(job: Job, field: str, value: int) -> Job:
    if field == "n_prb":
        return replace(job, slot=job.config.with_n_prb(value).as_dict())
    if field == "threads":  # each has a slot of a batch
        return replace(job, threads=value, batch=value)
    return replace(job, **{field: value})


class Memory(Measurement):
    """Resident memory of a process whose flowgraph runs the block on and on.

    samples: (slots so far, bytes), one a second.
    """

    def __init__(self, model: ModelFile, base: Job, slots: int):
        super().__init__()
        self.model, self._base, self.steps = model, base, slots
        self._checked = self._kit(model, base, base.device)
        self.samples: list[tuple[int, int]] = []

    @property
    def bytes_per_slot(self) -> float | None:
        """Slope of the least-squares line once SETTLING is over; None of fewer than 3 samples."""
        settled = self.settled
        if len(settled) < 3:
            return None
        return float(np.polyfit(*np.transpose(settled), 1)[0])

    @property
    def settled(self) -> list[tuple[int, int]]:
        """The samples once SETTLING is over."""
        return [s for s in self.samples if s[0] > SETTLING * self.samples[-1][0]]

    @property
    def measured(self) -> bool:
        return self.bytes_per_slot is not None

    def as_dict(self) -> dict:
        """Its keys of the file."""
        return {
            "receiver": self.model.name,
            "model_sha256": self.model.sha256,
            "n_prb": self._base.config.n_prb,
            "slot": self._base.slot,
            "n_rx": self._base.n_rx,
            "bytes_per_slot": self.bytes_per_slot,
            "samples": [{"slots": slots, "bytes": used} for slots, used in self.samples],
        }

    def run(self, seconds: float = 1.0) -> Iterator[str]:
        """Measures; says how far it is. seconds: between samples."""
        done = 0
        with Worker(self._checked.job("steady", self._base)) as worker:
            while done < self.steps:
                self.step = worker.turn(seconds).slots
                done += self.step
                self.samples.append((done, worker.bytes))
                yield f"slots: {done} of {self.steps}"
