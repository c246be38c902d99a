# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's measured rates, and what they predict of a model: time and joules.

Three estimates, each knowing more than the one before (Lbath, Labriji, arXiv 2507.10409, then the
roofline of Williams, Waterman, Patterson, CACM 52(4)):

  FLOP only   E = FLOP / (FLOP/s/W), with the rate and the power of a matrix product
  FLOP/clock  E = P x FLOP / (FLOP/clock x clock), with the FLOP/clock of each kind of operator
  traffic     E = FLOP x J/FLOP + bytes x J/byte + calls x J/call + idle power x time

and the same three for time. What the second adds to the first is slower kernels, what the third
adds is memory traffic and the cost of calling an operator at all.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

SCHEMA = "deeprx.profile/1"
ARITHMETIC = ("gemm", "conv", "depthwise", "elementwise", "transcendental", "reduction")
KINDS = (*ARITHMETIC, "move", "view")

# At rest, of the power under load, where there is no counter: a server processor's core, an H100.
IDLE_PART = {"cpu": 0.25, "cuda": 0.1}


@dataclass(frozen=True)
class Operator:
    """One operator of a model as it was executed.

    kind: of KINDS. bytes: its inputs, weights included, and outputs, each once. seconds: measured,
    where it was. layer: the module that called it, where that is known.
    """

    name: str
    kind: str
    dtype: str
    flop: float
    bytes: float
    seconds: float | None = None
    layer: str = ""


@dataclass(frozen=True)
class Benchmark:
    """One iteration of a microbenchmark.

    kind: of ARITHMETIC, "copy", or "call" and "view" for operators that do next to nothing.
    seconds, spread: median over rounds, and the least and largest of them. joules: None where the
    power is not known.
    """

    kind: str
    dtype: str
    flop: float
    bytes: float
    seconds: float
    spread: tuple[float, float]
    joules: float


@dataclass(frozen=True)
class Prediction:
    """What a machine's rates say of one inference; seconds and joules.

    flop_s, flop_j: FLOP only. clock_s, clock_j: FLOP/clock of each kind. traffic_s, traffic_j: with
    memory traffic and calls. roofline_s: what FLOP at the rate of a matrix product and bytes take,
    whichever is longer for each operator. bytes_s: the bytes alone. calls_s: the calls' part of
    traffic_s.
    """

    flop: float
    bytes: float
    calls: int
    flop_s: float
    clock_s: float
    roofline_s: float
    traffic_s: float
    bytes_s: float
    calls_s: float
    flop_j: float
    clock_j: float
    traffic_j: float

    @property
    def intensity(self) -> float:
        """FLOP per byte."""
        return self.flop / self.bytes

    @property
    def bound(self) -> str:
        return "memory" if self.bytes_s > self.flop_s else "compute"

    @property
    def attainable(self) -> float:
        """FLOP/s on the roofline at this intensity."""
        return self.flop / max(self.flop_s, self.bytes_s)

    def parts(self, measured_s: float) -> dict[str, float]:
        """Shares of a measured time: FLOP at a matrix product's rate, what memory traffic adds,
        slower kernels, calls, and the rest that nothing of it explains (negative: predicted too
        much)."""
        seconds = {
            "flop": self.flop_s,
            "memory": self.roofline_s - self.flop_s,
            "kernels": self.traffic_s - self.calls_s - self.roofline_s,
            "calls": self.calls_s,
            "rest": measured_s - self.traffic_s,
        }
        return {name: value / measured_s for name, value in seconds.items()}


@dataclass(frozen=True)
class MachineProfile:
    """What `deeprx energy --calibrate` measured of a machine.

    machine: its processor or GPU by name. clock_hz: under load; None where unknown. idle_w: power
    at rest. power_kind: "measured", "attributed" or "modelled", which then all joules are.
    power_source: what counted, or what was assumed.
    """

    machine: str
    host: dict
    versions: dict
    device: str
    threads: int
    clock_hz: float | None
    clock_source: str
    idle_w: float
    power_kind: str
    power_source: str
    benchmarks: tuple[Benchmark, ...]

    @cached_property
    def call_s(self) -> dict[str, float]:
        """Seconds that calling an operator takes: "call" for any, "view" for a view."""
        return {b.kind: b.seconds for b in self.benchmarks if b.kind in ("call", "view")}

    @cached_property
    def _call_j(self) -> dict[str, float]:
        named = {b.kind: b for b in self.benchmarks}
        return {kind: self._above_idle_j(named[kind]) for kind in ("call", "view")}

    def _above_idle_j(self, benchmark: Benchmark) -> float:
        return max(0.0, benchmark.joules - self.idle_w * benchmark.seconds)

    @cached_property
    def _copies(self) -> list[Benchmark]:
        return sorted((b for b in self.benchmarks if b.kind == "copy"), key=lambda b: b.bytes)

    def _over_sizes(self, values: Sequence[float], bytes_moved: float) -> float:
        sizes = [np.log(b.bytes) for b in self._copies]
        return float(np.interp(np.log(max(bytes_moved, 1.0)), sizes, values))

    def s_per_byte(self, bytes_moved: float) -> float:
        """Of a copy that moves so many bytes: its data are where those of an operator are that
        moves as many, in a cache or in memory.
        """
        return self._over_sizes([b.seconds / b.bytes for b in self._copies], bytes_moved)

    def j_per_byte(self, bytes_moved: float) -> float:
        """The same in joules above idle."""
        joules = [self._above_idle_j(b) / b.bytes for b in self._copies]
        return self._over_sizes(joules, bytes_moved)

    def benchmark(self, kind: str, dtype: str) -> Benchmark:
        """Of an arithmetic kind; a dtype that was not measured stands as float32."""
        of_kind = {b.dtype: b for b in self.benchmarks if b.kind == kind}
        return of_kind.get(dtype) or of_kind.get("float32") or next(iter(of_kind.values()))

    def flop_per_s(self, kind: str, dtype: str) -> float:
        benchmark = self.benchmark(kind, dtype)
        return benchmark.flop / benchmark.seconds

    def j_per_flop(self, kind: str, dtype: str) -> float:
        """Joules above idle that arithmetic of a kind takes besides its bytes."""
        benchmark = self.benchmark(kind, dtype)
        bytes_j = self.j_per_byte(benchmark.bytes) * benchmark.bytes
        return max(0.0, self._above_idle_j(benchmark) - bytes_j) / benchmark.flop

    def busy_w(self, dtype: str = "float32") -> float:
        """Power during a matrix product."""
        product = self.benchmark("gemm", dtype)
        return product.joules / product.seconds

    def flop_per_s_per_w(self, dtype: str = "float32") -> float:
        return self.flop_per_s("gemm", dtype) / self.busy_w(dtype)

    def predict(self, operators: Sequence[Operator]) -> Prediction:
        """Time and joules of operators that run one after the other."""
        totals = np.zeros(9)
        for o in operators:
            peak_s = o.flop / self.flop_per_s("gemm", o.dtype)
            kind_s = joules = 0.0
            if o.kind in ARITHMETIC:
                kind_s = o.flop / self.flop_per_s(o.kind, o.dtype)
                joules = o.flop * self.j_per_flop(o.kind, o.dtype)
            bytes_s = o.bytes * self.s_per_byte(o.bytes)
            call = "view" if o.kind == "view" else "call"
            work_s, call_s = max(kind_s, bytes_s), self.call_s[call]
            if self.device != "cpu":  # a GPU works while the next operator is called
                call_s = max(0.0, call_s - work_s)
            power = self.busy_w(o.dtype)
            joules += o.bytes * self.j_per_byte(o.bytes) + self._call_j[call]
            totals += (
                peak_s, kind_s, max(peak_s, bytes_s), work_s + call_s, bytes_s, call_s,
                peak_s * power, kind_s * power, joules,
            )  # fmt: skip
        *seconds, flop_j, clock_j, above_idle_j = map(float, totals)
        return Prediction(
            sum(o.flop for o in operators),
            sum(o.bytes for o in operators),
            sum(o.kind != "view" for o in operators),
            *seconds,
            flop_j,
            clock_j,
            above_idle_j + self.idle_w * seconds[3],
        )

    def as_dict(self) -> dict:
        """For JSON."""
        return {"schema": SCHEMA, **asdict(self)}
