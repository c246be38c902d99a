# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows: what a meter counted while something ran, how far off it may be, or why it is not valid.

A live block reads an EnergyWindow whenever it likes. A measurement that owns the machine uses
measure(), whose windows begin and end on the counter's own steps, and compare(), which interleaves
receivers so that a drift of temperature, clock or background cancels.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..stats import mean_ci95
from ..timing import in_turns
from .meter import Meter
from .price import Price

SLEEP_LIMIT_S = 0.5  # clocks with and without a machine's sleep apart by more: it slept
STALL_TICKS, STALL_LIMIT_S = 10, 1.0  # a counter without a step for the longer of both stands still


def cpu_busy_s() -> float:
    """CPU seconds of all cores since boot, idle and waiting excluded (/proc/stat)."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Idle:
    """Power of a meter's scope at rest: watts, and by how much they may be off.

    Raises ValueError where they are below 0.
    """

    watts: float
    bound_w: float = 0.0

    def __post_init__(self):
        if not self.watts >= 0:
            raise ValueError(f"idle power must be 0 W or more, got {self.watts:g} W")


@dataclass(frozen=True)
class Window:
    """What a meter counted over some seconds, for its whole scope.

    joules: gross; None where the window is not valid, and then so is everything made of it.
    bound_j: joules may be off by this much, by the counter's resolution and ticks, as long as the
    power at an edge is at most twice the mean; how exact the sensor itself is, its maker says.
    reason: why the window is not valid; empty where it is. busy_s: CPU seconds that all processes
    of the machine used meanwhile. cpu_s: those of the receiver alone. slots, bits: served
    meanwhile, bits being information bits. The last three come from served().
    kind: "measured", "attributed", or "none" without a meter. price: the meter's.
    """

    joules: float | None
    bound_j: float | None
    seconds: float
    busy_s: float
    kind: str
    source: str
    scope: str
    reason: str = ""
    slots: int | None = None
    bits: int | None = None
    cpu_s: float | None = None
    idle: Idle | None = None
    price: Price = field(default_factory=Price)

    @property
    def valid(self) -> bool:
        return not self.reason

    @property
    def watts(self) -> float | None:
        """Mean power."""
        return self.joules / self.seconds if self.valid else None

    @property
    def net_j(self) -> float | None:
        """Joules above what the scope draws at rest; None where that is not known."""
        if not self.valid or self.idle is None:
            return None
        return self.joules - self.idle.watts * self.seconds

    @property
    def net_bound_j(self) -> float | None:
        if not self.valid or self.idle is None:
            return None
        return self.bound_j + self.idle.bound_w * self.seconds

    def served(self, slots: int, bits: int | None = None, cpu_s: float | None = None) -> "Window":
        """The same window as one receiver's, which served so many slots; not valid without any."""
        served = replace(self, slots=slots, bits=bits, cpu_s=cpu_s)
        return served if slots or not self.valid else served._invalid("no slots in the window")

    def _invalid(self, reason: str) -> "Window":
        return replace(self, joules=None, bound_j=None, reason=reason)

    def share(self, part: float) -> "Window":
        """What is billed to one of several: this part of the joules, then `attributed`."""
        if not self.valid:
            return self
        return replace(
            self,
            joules=self.joules * part,
            bound_j=self.bound_j * part,
            idle=self.idle and Idle(self.idle.watts * part, self.idle.bound_w * part),
            kind="attributed",
        )

    def attributed(self) -> "Window":
        """The receiver's share: its CPU time over that of everything that ran, cpu_s / busy_s."""
        if not self.valid:
            return self
        if self.cpu_s is None:
            return self._invalid("the receiver's CPU time is not known")
        if self.busy_s <= 0:
            return self._invalid("no CPU time in the window")
        return self.share(min(1.0, self.cpu_s / self.busy_s))

    def per_slot(self, joules: float | None) -> float | None:
        """Of joules, bound_j, net_j or net_bound_j: joules per slot."""
        return joules / self.slots if joules is not None and self.slots else None

    def per_bit(self, joules: float | None) -> float | None:
        """The same per information bit."""
        return joules / self.bits if joules is not None and self.bits else None


class EnergyWindow:
    """Counts from when it is made; read() gives the window so far, as often as one likes.

    meter: as find_meter() gives. idle: its power at rest, for the net of idle. edge_s: how old the
    counter's last step may be, in seconds, where that is known better than from its tick.
    start_s: when the window began, of time.monotonic().

        meter = find_meter("cpu")
        window = EnergyWindow(meter)
        ...
        print(window.read().joules)
    """

    def __init__(self, meter: Meter, idle: Idle | None = None, *, edge_s: float | None = None):
        self._meter, self._idle = meter, idle
        self._reason = ""
        self._joules = 0.0
        try:
            self._joules = meter.joules()
        except OSError as error:
            self._reason = str(error)
        self._reason = self._reason or meter.disturbance()
        self._edge_s = _edge_s(meter) if edge_s is None else edge_s
        self._faults, self._error_j = meter.faults, meter.error_j
        self._busy_s, self._asleep_s = cpu_busy_s(), _asleep_s()
        self.start_s = time.monotonic()

    def read(self, *, edge_s: float | None = None) -> Window:
        """The window from its start until now, of nobody in particular (see Window.served)."""
        meter = self._meter
        try:
            joules = meter.joules() - self._joules
        except OSError:  # kept by the meter as a fault
            joules = 0.0
        seconds = time.monotonic() - self.start_s
        # a lag at the start and one at the end are of opposite sign; power at an edge: see Window
        edge_s = max(self._edge_s, _edge_s(meter) if edge_s is None else edge_s)
        bound = meter.resolution_j + meter.error_j - self._error_j
        bound += 2 * joules / seconds * edge_s if seconds > 0 else 0.0
        idle = self._idle
        reason = self._why_invalid(joules, seconds)
        if not reason and idle and joules + bound < (idle.watts - idle.bound_w) * seconds:
            reason = (
                f"{joules / seconds:.3g} W under load is less than the {idle.watts:.3g} W at rest"
            )
        return Window(
            joules=None if reason else joules,
            bound_j=None if reason else bound,
            seconds=seconds,
            busy_s=cpu_busy_s() - self._busy_s,
            kind=meter.kind,
            source=meter.source,
            scope=meter.scope,
            reason=reason,
            idle=idle,
            price=meter.price,
        )

    @property
    def lost(self) -> str:
        """Why no later read() can be valid either; empty while one can."""
        if not self._reason:
            slept_s = _asleep_s() - self._asleep_s
            if self._meter.faults != self._faults:
                self._reason = self._meter.fault
            elif slept_s > SLEEP_LIMIT_S:
                self._reason = f"the machine slept for {slept_s:.1f} s"
            else:
                self._reason = self._meter.disturbance()
        return self._reason

    def _why_invalid(self, joules: float, seconds: float) -> str:
        meter = self._meter
        if self.lost:
            return self.lost
        if seconds <= meter.tick_s:
            return (
                f"the window of {seconds * 1e3:.3g} ms is shorter than the counter's "
                f"tick of {meter.tick_s * 1e3:.3g} ms"
            )
        still_s = meter.still_s()
        if joules == 0 or still_s > max(STALL_TICKS * meter.tick_s, STALL_LIMIT_S):
            return f"{meter.source}: the counter stood still for {still_s:.1f} s"
        return ""


def _edge_s(meter: Meter) -> float:
    """How long before a reading its last update may have been."""
    return meter.edge_s + meter.still_s() if meter.edge_s else 0.0


def _asleep_s() -> float:
    """Grows while the machine sleeps, and only then."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def measure_idle(meter: Meter, seconds: float = 3.0) -> Idle | None:
    """Power while this process sleeps; None where the meter gave no valid window."""
    window = EnergyWindow(meter)
    time.sleep(seconds)
    rest = window.read()
    return Idle(rest.watts, rest.bound_j / rest.seconds) if rest.valid else None


def measure(
    meter: Meter,
    work: Callable[[], int],
    seconds: float = 2.0,
    idle: Idle | None = None,
    bits_per_slot: int | None = None,
) -> Window:
    """One window over many slots that begins and ends where the counter steps.

    work: processes some slots and returns how many; it is called again and again, first until the
    counter steps, then for `seconds`, then to the next step, so that no rest is counted. An edge is
    then off by one call of work at most and not by a tick. cpu_s is this process's.
    """
    _, edge_s = _work_to_step(meter, work)
    window = EnergyWindow(meter, idle, edge_s=edge_s)
    cpu_s, slots = time.process_time(), 0
    while time.monotonic() - window.start_s < seconds:
        slots += work()
    more, edge_s = _work_to_step(meter, work)
    slots += more
    bits = None if bits_per_slot is None else slots * bits_per_slot
    return window.read(edge_s=edge_s).served(slots, bits, time.process_time() - cpu_s)


def _work_to_step(meter: Meter, work: Callable[[], int]) -> tuple[int, float]:
    """Slots done until the counter stepped, and how many seconds ago that was at most."""
    slots, start = 0, time.monotonic()
    last, read_s = _joules(meter), start
    while True:
        slots += work()
        now = time.monotonic()
        joules = _joules(meter)
        if joules is None or joules != last or now - start > STALL_LIMIT_S:
            return slots, min(meter.edge_s, now - read_s)
        read_s = now


def _joules(meter: Meter) -> float | None:
    try:
        return meter.joules()
    except OSError:  # the window will say so
        return None


@dataclass(frozen=True)
class Estimate:
    """Joules per slot over repeated windows.

    mean and its 95 % interval (Student's t over rounds; None where there are fewer than two).
    bound: what ticks and resolution may add to that. invalid: reasons of the windows left out.
    """

    mean: float | None
    ci95: tuple[float, float] | None
    bound: float | None
    rounds: int
    invalid: tuple[str, ...] = ()


class Comparison:
    """Energy per slot of several receivers, measured in turns: A B B A, then B A A B.

    Within a round each receiver has two windows whose middles coincide, so that a steady drift is
    the same for all; the order of the next round is reversed.

    works: what measure() calls, by the receiver's name. attribute: bill to a receiver its share of
    the CPU time (a meter of CPU packages), not all that the meter counts.

        comparison = Comparison(meter, {"baseline": run_baseline, "student": run_student})
        for _ in range(5):
            comparison.run_round()
        print(comparison.energy("student"), comparison.difference("student", "baseline"))
    """

    def __init__(
        self,
        meter: Meter,
        works: Mapping[str, Callable[[], int]],
        seconds: float = 2.0,
        idle: Idle | None = None,
        bits_per_slot: int | None = None,
        attribute: bool = False,
    ):
        self._meter, self._works, self._seconds = meter, dict(works), seconds
        self._idle, self._bits_per_slot, self._attribute = idle, bits_per_slot, attribute
        self.rounds: list[dict[str, list[Window]]] = []

    def run_round(self) -> None:
        """Two windows of every receiver; an interrupted round leaves nothing behind."""
        order = in_turns(self._works, len(self.rounds))
        windows: dict[str, list[Window]] = {name: [] for name in self._works}
        for name in order + order[::-1]:
            window = measure(
                self._meter, self._works[name], self._seconds, self._idle, self._bits_per_slot
            )
            windows[name].append(window.attributed() if self._attribute else window)
        self.rounds.append(windows)

    def energy(self, name: str, net: bool = False) -> Estimate:
        """Joules per slot of one receiver, gross or net of idle."""
        return self._estimate(self._per_slot(name, net), name)

    def difference(self, name: str, other: str) -> Estimate:
        """Joules per slot of name minus those of other, gross, paired by round."""
        pairs = zip(self._per_slot(name), self._per_slot(other), strict=True)
        values = [a and b and (a[0] - b[0], a[1] + b[1]) for a, b in pairs]
        return self._estimate(values, name, other)

    def _per_slot(self, name: str, net: bool = False) -> list[tuple[float, float] | None]:
        """Joules per slot and their bound of each round; None where a window is not valid."""
        rounds = []
        for windows in (windows[name] for windows in self.rounds):
            joules = [w.per_slot(w.net_j if net else w.joules) for w in windows]
            bounds = [w.per_slot(w.net_bound_j if net else w.bound_j) for w in windows]
            valid = None not in joules
            rounds.append((float(np.mean(joules)), float(np.mean(bounds))) if valid else None)
        return rounds

    def _estimate(self, rounds: Sequence[tuple[float, float] | None], *names: str) -> Estimate:
        reasons = [w.reason for windows in self.rounds for name in names for w in windows[name]]
        invalid = tuple(reason for reason in reasons if reason)
        valid = [value for value in rounds if value]
        if not valid:
            return Estimate(None, None, None, 0, invalid)
        joules, bounds = zip(*valid, strict=True)
        return Estimate(*mean_ci95(joules), float(np.mean(bounds)), len(valid), invalid)
