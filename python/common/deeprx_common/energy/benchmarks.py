# SPDX-License-Identifier: GPL-3.0-or-later
"""Microbenchmarks of what receivers are made of, for a machine's profile. Needs PyTorch."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata

import torch

from ..host import host
from ..timing import compute_clock, in_turns
from . import nvml
from .machine import IDLE_PART, Benchmark, MachineProfile
from .meter import Meter
from .windows import Idle, measure

ROUNDS = 3
CALL_S = {"cpu": 1e-3, "cuda": 20e-3}  # of one call: short, so that few are disturbed


_Measured = tuple[float, float]  # seconds and joules of an iteration


@dataclass(frozen=True)
class Work:
    """One iteration of a benchmark."""

    kind: str
    dtype: str
    flop: float
    bytes: float
    run: Callable[[], object]
    operators: int = 1  # of one run, which share its time


def machine_name(device: str) -> str:
    """The processor or GPU of a device."""
    return host()["cpu"] if device == "cpu" else torch.cuda.get_device_name(device)


def matrix_product(device: str, dtype: str) -> Work:
    """Of two square matrices, of a slot's size on a CPU; they fill a GPU. int8 adds up in int32."""
    n = 384 if device == "cpu" else 8192
    a, b = (torch.randn(n, n, device=device).to(getattr(torch, dtype)) for _ in range(2))
    out_dtype, multiply = (torch.int32, torch._int_mm) if dtype == "int8" else (a.dtype, torch.mm)
    c = torch.empty(n, n, dtype=out_dtype, device=device)
    return Work("gemm", dtype, 2.0 * n**3, 3 * a.nbytes, lambda: multiply(a, b, out=c))


def memory_copy(device: str, size: int) -> Work:
    """Of so many bytes, each read and written."""
    source = torch.empty(size // 4, device=device).fill_(1.0)
    target = torch.empty_like(source)
    return Work("copy", "float32", 0.0, 2.0 * size, lambda: target.copy_(source))


def _works(device: str) -> list[Work]:
    """Sizes are a slot's on a CPU, and fill a GPU."""
    on_gpu = device != "cpu"
    channels, slots = (128, 64) if on_gpu else (64, 1)
    copies = (2**20, 2**23, 2**25, 2**28, 2**30) if on_gpu else (2**17, 2**20, 2**22, 2**24, 2**26)
    small = (2**26 if on_gpu else 2**18) // 8  # complex elements of an elementwise operator

    def tensor(*shape, dtype=torch.float32):
        return torch.randn(*shape, device=device).to(dtype)

    works = []
    for name in ("float32", "bfloat16", *(["float16"] if on_gpu else [])):
        dtype = getattr(torch, name)
        works.append(matrix_product(device, name))
        x = tensor(slots, channels, 14, 312, dtype=dtype).contiguous(
            memory_format=torch.channels_last
        )
        for kind, groups in (("conv", 1), ("depthwise", channels)):
            w = tensor(channels, channels // groups, 3, 3, dtype=dtype)
            works.append(
                Work(
                    kind, name, 2.0 * w.numel() * x.numel() / channels, 2 * x.nbytes + w.nbytes,
                    lambda x=x, w=w, g=groups: torch.conv2d(x, w, padding=1, groups=g),
                )
            )  # fmt: skip
    z, e = torch.view_as_complex(tensor(small, 2)), tensor(2 * small)
    zout, eout = torch.empty_like(z), torch.empty_like(e)
    works += [
        Work("elementwise", "complex64", 6.0 * small, 2 * z.nbytes,
              lambda: torch.mul(z, z, out=zout)),
        Work("transcendental", "float32", e.numel(), 2 * e.nbytes,
              lambda: torch.exp(e, out=eout)),
        Work("reduction", "float32", e.numel(), 1.25 * e.nbytes,
              lambda: e.view(-1, 4).sum(1)),
    ]  # fmt: skip
    works += [memory_copy(device, size) for size in copies]
    for kind, calls in (("call", _calls(device)), ("view", _views(device))):
        works.append(
            Work(kind, "float32", 0.0, 0.0, lambda c=calls: [one() for one in c], len(calls))
        )
    return works


def _calls(device: str) -> list[Callable[[], object]]:
    """Different operators on next to nothing, as a receiver calls them: the code of one that was
    called just before would still be in the first cache.
    """
    f = torch.ones(4, 4, device=device)
    z, i, m = f.to(torch.complex64), torch.zeros(4, dtype=torch.long, device=device), f > 0.0
    return [
        lambda: f + 1.0, lambda: f * f, lambda: f - f, lambda: f / f, lambda: z * z,
        lambda: z + z, lambda: z - z, lambda: z / 2.0, lambda: z.abs(), lambda: z.angle(),
        lambda: z.clone(), lambda: z.sum(0), lambda: f.sum(0), lambda: f.mean(),
        lambda: f.amax(0), lambda: f.argmin(0), lambda: f.exp(), lambda: f.log(),
        lambda: f.tanh(), lambda: f.rsqrt(), lambda: f.square(), lambda: f.pow(3.0),
        lambda: f.neg(), lambda: f.clamp(0.0, 1.0), lambda: f.relu(), lambda: f > 1.0,
        lambda: torch.where(m, f, f), lambda: torch.cat([f, f]), lambda: torch.stack([z, z]),
        lambda: f.logsumexp(0), lambda: f[i], lambda: torch.full_like(f, 2.0),
        lambda: torch.mm(f, f), lambda: torch.polar(f, f), lambda: torch.complex(f, f),
        lambda: f.to(torch.bfloat16),
    ]  # fmt: skip


def _views(device: str) -> list[Callable[[], object]]:
    f = torch.ones(4, 4, device=device)
    z = f.to(torch.complex64)
    return [
        lambda: f[1:], lambda: f.unsqueeze(0), lambda: f.permute(1, 0), lambda: f.select(0, 1),
        lambda: f.view(2, 8), lambda: f.diagonal(), lambda: torch.view_as_real(z),
        lambda: f.expand(4, 4), lambda: f[0], lambda: f.t(),
    ]  # fmt: skip


class Timed:
    """Calls a work so often that a call takes CALL_S, and returns how often: for measure().

    seconds: of an iteration in each call so far.
    """

    def __init__(self, work: Work, device: str, threads: int):
        self.work, self.seconds = work, []
        self._wait = (lambda: None) if device == "cpu" else torch.cuda.synchronize
        self._clock = compute_clock(device, threads)
        self._repeats = 1
        self()
        self()
        target_s = CALL_S[device.partition(":")[0]]
        run_s = max(self.seconds[-1] * work.operators, 1e-7)
        self._repeats = max(1, round(target_s / run_s))
        self.seconds.clear()

    @torch.inference_mode()
    def __call__(self) -> int:
        start = self._clock()
        for _ in range(self._repeats):
            self.work.run()
        self._wait()
        iterations = self._repeats * self.work.operators
        self.seconds.append((self._clock() - start) / iterations)
        return iterations


def sm_clock_hz(device: str) -> float | None:
    """A GPU's clock now, as NVML says it; None where it does not."""
    import pynvml

    try:
        pynvml.nvmlInit()
        uuid = nvml.cuda_uuid(torch.device(device).index or 0)
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM) * 1e6
    except (pynvml.NVMLError, OSError):
        return None


@dataclass(frozen=True)
class Power:
    """Of a machine at rest and at work. busy_w: None where the meter counts it."""

    idle: Idle
    busy_w: float | None
    kind: str
    source: str


def find_power(device: str, threads: int, meter: Meter, idle: Idle | None = None) -> Power:
    """What joules of a profile come from: the meter's counter, or else its price.

    idle: at rest, as it was given or measured; where there is no counter None takes a part of the
    power under load, IDLE_PART. Raises OSError where the counter gave no power at rest.
    """
    if meter.kind == "measured":
        if idle is None:
            raise OSError(f"{meter.source}: power at rest could not be measured {meter.fault}")
        kind = "attributed" if device == "cpu" else "measured"
        return Power(idle, None, kind, f"{meter.source} ({meter.scope})")
    busy_w, known = meter.price.watts * (threads if device == "cpu" else 1), "given"
    if idle is None:
        idle = Idle(busy_w * IDLE_PART[device.partition(":")[0]])
        known = "assumed"
    source = f"{meter.price}; {idle.watts:g} W at rest, {known} ({meter.source})"
    return Power(idle, busy_w, "modelled", source)


class MachineBenchmarks:
    """Measures rates, clock and power in rounds; each goes through all benchmarks, the next one
    backwards, so that a drift is the same for all.

    device: "cpu", "cuda" or "cuda:<n>". threads: of torch, process-wide. seconds: of ROUNDS rounds
    together. core_clock_hz: tells a CPU's clock under load, or None; a GPU's is NVML's.
    """

    def __init__(
        self,
        device: str,
        threads: int,
        meter: Meter,
        power: Power,
        seconds: float,
        core_clock_hz: Callable[[], float | None] = lambda: None,
    ):
        self._clock_hz = core_clock_hz if device == "cpu" else partial(sm_clock_hz, device)
        self._device, self._threads, self._meter, self._power = device, threads, meter, power
        torch.set_num_threads(threads)
        self._timed = [Timed(work, device, threads) for work in _works(device)]
        self._window_s = seconds / ROUNDS / len(self._timed)
        self._measured: dict[Timed, list[_Measured]] = {timed: [] for timed in self._timed}
        self._clocks: list[float] = []

    @property
    def rounds(self) -> int:
        """Whole ones so far."""
        return min(map(len, self._measured.values()))

    @property
    def begun(self) -> bool:
        """Whether there is anything to profile()."""
        return any(self._measured.values())

    @property
    def steps(self) -> int:
        """Of run()."""
        return ROUNDS * len(self._timed)

    def run(self) -> Iterator[str]:
        """ROUNDS rounds; says what it measured, benchmark by benchmark."""
        for _ in range(ROUNDS):
            yield from self.run_round()

    def run_round(self) -> Iterator[str]:
        """One round, a benchmark a step; says what it measured."""
        for timed in in_turns(self._timed, self.rounds):
            timed.seconds.clear()
            window = measure(self._meter, timed, self._window_s, self._power.idle)
            if self._device == "cpu":
                window = window.attributed()
            seconds = statistics.median(timed.seconds)
            if self._power.busy_w is not None:
                joules = self._power.busy_w * seconds
            elif window.valid:
                joules = window.per_slot(window.joules)
            else:
                raise OSError(f"no valid window of {self._window_s:.2g} s: {window.reason}")
            self._measured[timed].append((seconds, joules))
            if timed.work.kind == "gemm" and (clock := self._clock_hz()):
                self._clocks.append(clock)
            yield f"{timed.work.kind} {timed.work.dtype}"

    def profile(self) -> MachineProfile:
        """Of the benchmarks so far; it predicts nothing before there was a whole round."""
        benchmarks = []
        for timed, rounds in self._measured.items():
            if not rounds:
                continue
            w, (seconds, joules) = timed.work, zip(*rounds, strict=True)
            spread = (min(seconds), max(seconds))
            benchmarks.append(
                Benchmark(
                    w.kind, w.dtype, w.flop, w.bytes,
                    statistics.median(seconds), spread, statistics.median(joules),
                )
            )  # fmt: skip
        return MachineProfile(
            machine=machine_name(self._device),
            host=host(),
            versions={"torch": metadata.version("torch")},
            device=self._device,
            threads=self._threads,
            clock_hz=statistics.median(self._clocks) if self._clocks else None,
            clock_source=_clock_source(self._device) if self._clocks else "none: cannot be told",
            idle_w=self._power.idle.watts,
            power_kind=self._power.kind,
            power_source=self._power.source,
            benchmarks=tuple(benchmarks),
        )


def _clock_source(device: str) -> str:
    if device == "cpu":
        return "a chain of dependent multiplications, 3 cycles each, after each matrix product"
    return "NVML SM clock after each matrix product"
