# SPDX-License-Identifier: GPL-3.0-or-later
"""Receivers, each by every contender, and what this machine could do at most: `deeprx bench`."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import binom

from deeprx_common.report import summarise_s

from ..deeprx_python import instructions, ldpc_instructions
from ..models.file import ModelFile, labels
from .contenders import JAILED, OURS, Group, Kit, Measurement, Worker
from .job import Job, Turn

TURN_S = 0.2
REFERENCE = "torchscript"  # what others are compared with, round by round
PRECISIONS = ("float32", "bfloat16", "int8")
VECTORS = ("AVX-512", "AVX2")  # for which there are promises: what is not measured is named


class Interval(NamedTuple):
    """A median between two bounds, in this order in a file, too."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Row:
    """One contender with one receiver.

    why: what was not measured, or ended early. description: library and precision. startup_s: from
    the start of its process until it has received a slot. call_s: of a slot, CPU time on a CPU and
    wall time on a GPU: mean, p50, p99. call_latency_s: wall time of a call, likewise; nulls in a
    flowgraph. cpu_s: CPU time a slot of what receives, worker threads included: median over rounds,
    and quartiles. slots_per_s, busy: medians over rounds; busy is the process's CPU time over wall
    time. real_time: what a slot lasts over cpu_s. flop_per_s: the file's FLOP over cpu_s; of_peak:
    over the rate of a matrix product in the same arithmetic. precision: what ran; "by conversion"
    where the processor lacks its instructions. against: cpu_s over that of "torchscript" in the
    same round: median and quartiles. llr_difference: RMS against "torchscript", over its RMS.
    above_engine_s: of a block, cpu_s above that of "engine" in the same round: median, and its 95 %
    interval over rounds; of a jailed engine, CPU time of the median call above that of "engine",
    and latency_above_engine_s its wall time above that one's, likewise. work_above_engine_s: of
    "block" on one thread, calls of work() above calls of "engine", likewise, the fastest tenth of
    each: what else runs on the machine makes calls longer, never shorter. work_overhead_s: of
    "watched-block" on a CPU, what work() takes besides the inference in it, up to its message:
    median and quartiles over calls. On a GPU cpu_s gives way to call_s's median.
    """

    receiver: str
    contender: str
    model_sha256: str | None = None
    why: str | None = None
    description: str | None = None
    precision: str | None = None
    rounds: int = 0
    slots: int = 0
    startup_s: float | None = None
    peak_bytes: int | None = None
    call_s: dict | None = None
    call_latency_s: dict | None = None
    cpu_s: float | None = None
    cpu_s_quartiles: list[float] | None = None
    slots_per_s: float | None = None
    busy: float | None = None
    real_time: float | None = None
    flop_per_s: float | None = None
    of_peak: float | None = None
    against: Interval | None = None
    llr_difference: float | None = None
    above_engine_s: Interval | None = None
    latency_above_engine_s: Interval | None = None
    work_above_engine_s: Interval | None = None
    work_overhead_s: Interval | None = None


def per_slot(turns: Sequence[Turn]) -> list[float]:
    """CPU seconds of a slot in each turn."""
    return [turn.receiver_s / turn.slots for turn in turns]


def summary(turns: Sequence[Turn]) -> dict:
    """What rows and points share."""
    return {
        "cpu_s": statistics.median(per_slot(turns)),
        "call_s": summarise_s([call for turn in turns for call in turn.calls_s]),
        "slots_per_s": statistics.median(turn.slots / turn.seconds for turn in turns),
        "busy": statistics.median(turn.busy_s / turn.seconds for turn in turns),
    }


def quickest(turns: Sequence[Turn]) -> list[float]:
    """Seconds of a call in each turn: as long as a tenth of them takes at most."""
    return [float(np.quantile(turn.calls_s, 0.1)) for turn in turns]


def _jail_costs(turns: Sequence[Turn], engine: Sequence[Turn]) -> dict:
    """What the median call takes above that of the engine without a jail."""
    cpu_s, latency_s = (
        [[statistics.median(getattr(turn, times)) for turn in of] for of in (turns, engine)]
        for times in ("calls_s", "latencies_s")
    )
    return {"above_engine_s": _above(*cpu_s), "latency_above_engine_s": _above(*latency_s)}


def _above(values: Sequence[float], others: Sequence[float]) -> Interval:
    return median_interval([a - b for a, b in zip(values, others, strict=False)])


def median_quartiles(values: Sequence[float]) -> Interval:
    """Median of values and the quartiles around it."""
    return Interval(*map(float, np.quantile(values, [0.25, 0.5, 0.75])))


def median_interval(values: Sequence[float]) -> Interval:
    """Median of independent values and its 95 % interval, the order statistics around it; of fewer
    than six values the interval is all they span.
    """
    below = binom.ppf(0.025, len(values), 0.5)
    ordered = np.sort(values)
    rank = max(0, int(below) - 1)
    return Interval(float(ordered[rank]), float(np.median(values)), float(ordered[-1 - rank]))


class Comparison(Measurement):
    """Measures in groups: what the machine can do, then each receiver's contenders.

    names: of CONTENDERS. base: what all jobs have in common. seconds: of each contender with each
    receiver. skip: a model file that does not fit, or needs a processor that is not here, is a row
    that says so, not a RuntimeError. rows, gemm_flop_per_s, ldpc_decoder: filled as groups end,
    also by one that is interrupted. ldpc_decoder: by instructions, None for those of VECTORS that
    are not here. instructions: the best there are here, or "".
    """

    def __init__(
        self,
        models: Sequence[ModelFile],
        names: Sequence[str],
        base: Job,
        seconds: float,
        skip: bool = False,
    ):
        super().__init__()
        jails_alone = bool(set(JAILED) & set(names)) and {"engine", *JAILED} >= set(names)
        self._names, self._base = list(names), replace(base, anew=jails_alone)
        self.rounds = max(1, round(seconds / TURN_S))
        self._seconds = seconds / self.rounds
        self.rows: list[Row] = []
        self.gemm_flop_per_s: dict[str, float] = {}
        self.instructions = instructions("float32")
        self._vectors = ldpc_instructions()
        self.ldpc_decoder: dict[str, dict | None] = dict.fromkeys(
            v for v in VECTORS if v not in self._vectors
        )
        self._precisions = [p for p in PRECISIONS if native(p, base.device)]
        self._kits: dict[str, Kit] = {}
        jailed = set(names) <= set(JAILED)
        for label, model in zip(labels(models), models, strict=True):
            try:
                self._kits[label] = self._kit(model, base, base.device, jailed)
            except RuntimeError as error:
                if not skip:
                    raise
                self.rows.append(Row(label, "block", model.sha256, why=str(error)))
        if not self._kits:
            raise RuntimeError(self.rows[-1].why)

    @property
    def measured(self) -> bool:
        return bool(self.rows)

    def as_dict(self) -> dict:
        """Its keys of the file; times in seconds, memory in bytes."""
        base = self._base
        return {
            "slot": base.slot,
            "n_rx": base.n_rx,
            "sir_db": base.sir_db,
            "device": base.device,
            "threads": base.threads,
            "cores": base.cores,
            "instructions": self.instructions,
            "gemm_flop_per_s": self.gemm_flop_per_s,
            "ldpc_decoder": self.ldpc_decoder,
            "rows": [asdict(row) for row in self.rows],
        }

    @property
    def steps(self) -> int:
        """Of run(): starts and turns."""
        return (len(self._machine()) + len(self._kits) * len(self._names)) * (1 + self.rounds)

    def run(self) -> Iterator[str]:
        """Measures; says what comes next."""
        base = self._base
        yield from self._group("machine", self._machine())
        for label, kit in self._kits.items():
            names = self._contenders(kit)
            jobs = {name: lambda name=name, kit=kit: kit.job(name, base) for name in names}
            yield from self._group(label, jobs, kit)

    def _contenders(self, kit: Kit) -> list[str]:
        """Who receives with it."""
        return self._names

    def _machine(self) -> dict[str, Callable[[], Job]]:
        """What is measured of the machine itself."""
        base = self._base
        machine = {
            p: lambda p=p: replace(base, contender="gemm", precision=p) for p in self._precisions
        }
        stock = replace(base, contender="equaliser", n_rx=1, device="cpu", batch=1)
        decoder = replace(base, contender="ldpc", device="cpu")
        machine |= {"equaliser": lambda: stock}
        return machine | {
            f"ldpc {i}": lambda i=i: replace(decoder, precision=i) for i in self._vectors
        }

    def _group(
        self, label: str, jobs: Mapping[str, Callable[[], Job]], kit: Kit | None = None
    ) -> Iterator[str]:
        """kit: whose jobs they are; None: of the machine."""
        with Group() as group:
            try:
                for name, job in jobs.items():
                    yield f"starting {name}" + (f" of {label}" if kit else "")
                    group.start(name, job)
                for k in range(self.rounds):
                    for _ in group.round(self._seconds):
                        yield f"{label}: round {k + 1} of {self.rounds}"
            finally:
                for name in jobs:
                    self._add(group, name, label, kit)

    def _add(self, group: Group, name: str, label: str, kit: Kit | None) -> None:
        turns = group.turns.get(name)
        if not kit and name in self._precisions:
            if turns:
                times = [call for turn in turns for call in turn.calls_s]
                self.gemm_flop_per_s[name] = group.workers[name].flop / statistics.median(times)
            return
        if name.startswith("ldpc "):
            if turns:
                times = [call for turn in turns for call in turn.calls_s]
                self.ldpc_decoder[name.removeprefix("ldpc ")] = {
                    "iteration_s": statistics.median(times),
                    "clock": group.workers[name].description or None,
                }
            return
        row = Row(label if kit else "GNU Radio, 1 antenna", name, why=group.failures.get(name))
        if kit:
            row = replace(row, model_sha256=kit.model.sha256)
        if turns:
            worker = group.workers[name]
            flop = kit and kit.model.flop_per_slot(self._base.config.n_prb, self._base.n_rx)
            row = measured(row, worker, turns, flop, self.gemm_flop_per_s)
            if reference := group.turns.get(REFERENCE):
                pairs = zip(per_slot(turns), per_slot(reference), strict=False)
                row = replace(row, against=median_quartiles([a / b for a, b in pairs]))
            engine = group.turns.get("engine")
            if engine and name in JAILED:
                row = replace(row, **_jail_costs(turns, engine))
            if engine and name.endswith("block"):
                row = replace(row, above_engine_s=_above(per_slot(turns), per_slot(engine)))
                if name == "block" and self._base.threads == 1:  # whose thread does all of it
                    above = _above(quickest(turns), quickest(engine))
                    row = replace(row, work_above_engine_s=above)
            if kit:
                row = replace(row, llr_difference=_difference(kit.folder, name))
        if turns or row.why:
            self.rows.append(row)


def native(precision: str, device: str) -> bool:
    """Whether the processor multiplies in a precision, and does not convert it to float32 first."""
    return device != "cpu" or bool(instructions(precision))


def precision_of(description: str) -> str | None:
    """Which of PRECISIONS computed, as an engine says it: "OpenVINO 2026.4, float32"."""
    return next((part for part in description.split(", ") if part in PRECISIONS), None)


def fastest(rows: Sequence[Row], device: str = "cpu") -> str:
    """In one line, who takes least of one receiver, beside what the receiver block runs."""
    took = {r.contender: _took(r, device) for r in rows if r.cpu_s is not None}
    ours = took.get("block") or took.get("engine")
    if not ours or len(took) < 2:
        return ""
    name = min(took, key=took.get)
    if name in OURS or ours < 1.05 * took[name]:
        return "fastest: what the block runs"
    return (
        f"fastest: {name}, {1e3 * took[name]:.3g} ms a slot; what the block runs takes "
        f"{ours / took[name]:.2f} times as long"
    )


def _took(row: Row, device: str) -> float:
    return row.cpu_s if device == "cpu" else row.call_s["p50"]


def measured(row: Row, worker: Worker, turns: Sequence[Turn], flop: int | None, peak: dict) -> Row:
    """row with what the turns say."""
    times = summary(turns)
    low, _, high = median_quartiles(per_slot(turns))
    on_cpu = worker.job.device == "cpu"
    took = times["cpu_s"] if on_cpu else times["call_s"]["p50"]
    flop_per_s = flop / took if flop else None
    ran = precision_of(worker.description) or worker.job.precision
    ours = "native" in worker.description.split(", ")  # which says what it computes in
    converted = not ours and not native(ran, worker.job.device)
    limit = peak.get("float32" if converted else ran)
    latencies_s = [call for turn in turns for call in turn.latencies_s]
    overhead = [call for turn in turns for call in turn.work_overhead_s] if on_cpu else []
    return replace(
        row,
        **times,
        description=worker.description,
        precision=ran + (" by conversion" if converted else ""),
        rounds=len(turns),
        slots=sum(turn.slots for turn in turns),
        call_latency_s=summarise_s(latencies_s),
        startup_s=worker.startup_s,
        peak_bytes=worker.peak_bytes,
        cpu_s_quartiles=[low, high],
        real_time=worker.job.config.slot_s / took,
        flop_per_s=flop_per_s,
        of_peak=flop_per_s / limit if flop_per_s and limit else None,
        work_overhead_s=median_quartiles(overhead) if overhead else None,
    )


def _difference(folder: Path, name: str) -> float | None:
    """Of the first batch's LLRs from REFERENCE's, RMS over RMS; None where there is no such
    number.
    """
    try:
        llr, expected = (np.load(folder / f"{n}.npy") for n in (name, REFERENCE))
    except OSError:
        return None
    with np.errstate(all="ignore"):
        error = float(np.sqrt(np.mean((llr - expected) ** 2) / np.mean(expected**2)))
    return error if np.isfinite(error) else None
