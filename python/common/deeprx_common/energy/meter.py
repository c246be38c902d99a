# SPDX-License-Identifier: GPL-3.0-or-later
"""What all meters have in common: counters, and power sensors whose integral a thread takes."""

import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from .price import Price

LIMIT_W = 5000.0  # no package, board or rail draws more: a larger step is a counter that jumped
TICKS_SEEN = 8
TICK_LIMIT_S = 1.0  # a counter that does not move for so long stands still
SAMPLE_S = 0.02  # between two readings of a power sensor; NVIDIA's and INA's renew theirs slower
GAP_LIMIT_S = 1.0  # between two samples: nobody knows what was drawn meanwhile


class Meter(ABC):
    """Joules since it was made.

    source: what is read, as reports name it. scope: what it counts, more than the receiver as a
    rule. kind: "measured"; "none" of a NoMeter. resolution_j: joules of one count. price: of the
    modelled joules beside what it counts.
    tick_s, edge_s: median and longest time between two updates, seconds, from measure_tick();
    edge_s is how far off in time a reading may be, 0 where a reading is made when it is asked for.
    error_j: joules by which the total may be off for other reasons so far.
    faults, fault: failures so far, and the last one: a window over a fault is not valid.
    """

    kind = "measured"

    def __init__(self, source: str, scope: str, resolution_j: float):
        self.source, self.scope, self.resolution_j = source, scope, resolution_j
        self.price = Price()
        self.tick_s = self.edge_s = self.error_j = 0.0
        self.faults, self.fault = 0, ""
        self._lock = threading.Lock()
        self._total_j = 0.0
        self._read_s = self._stepped_s = time.monotonic()

    @abstractmethod
    def _step(self, elapsed_s: float) -> float:
        """Joules since the last call, elapsed_s ago. Raises OSError with one line."""

    def joules(self) -> float:
        """Joules since the meter was made; never less than before.

        Raises OSError with one line when the counter fails or jumps; the next reading counts on
        from there.
        """
        with self._lock:
            now = time.monotonic()
            try:
                step = self._step(now - self._read_s)
            except OSError as error:
                self.faults, self.fault = self.faults + 1, str(error)
                self._stepped_s = now
                raise
            finally:
                self._read_s = now
            if step:
                self._stepped_s = now
            self._total_j += step
            return self._total_j

    def still_s(self) -> float:
        """Seconds since a reading last found the counter moved."""
        return time.monotonic() - self._stepped_s

    def disturbance(self) -> str:
        """Who else is using what is measured, in one line; empty: nobody, as far as one can see."""
        return ""

    def measure_tick(self) -> None:
        """Watch updates for up to TICKS_SEEN of them or TICK_LIMIT_S; sets tick_s and edge_s.

        Raises OSError with one line where the counter stands still.
        """
        ticks = _ticks(self.joules, 0.0002)
        if not ticks:
            raise OSError(f"{self.source}: the counter stood still for {TICK_LIMIT_S:g} s")
        self.tick_s, self.edge_s = ticks[len(ticks) // 2], ticks[-1]

    def describe(self) -> str:
        """One line: source, scope, resolution, update period."""
        return (
            f"{self.source} ({self.scope}), resolution {self.resolution_j:.2g} J, "
            f"renewed every {self.tick_s * 1e3:.3g} ms"
        )

    def _keep_reading(self, period_s: float) -> None:
        stop = threading.Event()
        weakref.finalize(self, stop.set)
        threading.Thread(
            target=_read_until, args=(weakref.ref(self), stop, period_s), daemon=True
        ).start()


def _ticks(read: Callable[[], float], pause_s: float) -> list[float]:
    """Seconds between changes of what is read, ascending, of up to TICKS_SEEN and TICK_LIMIT_S."""
    start = time.monotonic()
    last, changes = read(), []
    while len(changes) <= TICKS_SEEN and (now := time.monotonic()) - start < TICK_LIMIT_S:
        if (value := read()) != last:
            last = value
            changes.append(now)
        time.sleep(pause_s)
    return sorted(b - a for a, b in pairwise(changes))


def _read_until(meter: Callable[[], Meter | None], stop: threading.Event, period_s: float) -> None:
    while not stop.wait(period_s):
        if (alive := meter()) is None:
            return
        with suppress(OSError):  # the meter keeps it as a fault
            alive.joules()
        del alive


class Counter(Meter):
    """Counters that a device keeps, summed; each may wrap around at a known count."""

    def __init__(self, source: str, scope: str, resolution_j: float):
        super().__init__(source, scope, resolution_j)
        self._last = self._counts()

    @abstractmethod
    def _counts(self) -> list[int]:
        """All counters now, in units of resolution_j. Raises OSError with one line."""

    def _range(self, index: int) -> int | None:
        """Counts after which a counter starts again; None: never."""
        return None

    def _step(self, elapsed_s: float) -> float:
        counts = self._counts()
        before, self._last = self._last, counts
        # what a counter that stood still has saved up came over the time since it last moved
        limit_j = LIMIT_W * (time.monotonic() - self._stepped_s + 0.1)
        total = 0
        for index, (then, now) in enumerate(zip(before, counts, strict=True)):
            step = now - then
            if step < 0 and (span := self._range(index)):
                step += span
            if not 0 <= step * self.resolution_j <= limit_j:
                way = "ahead" if now > then else "back"
                jump = abs(now - then) * self.resolution_j
                raise OSError(f"{self.source}: the counter jumped {way} by {jump:.4g} J")
            total += step
        return total * self.resolution_j


class PowerSensor(Meter):
    """The integral of a power sensor that a thread samples, by the trapezoidal rule.

    error_j adds up how far the power may have strayed between two samples.
    """

    def __init__(self, source: str, scope: str, resolution_w: float):
        super().__init__(source, scope, 0.0)
        self._resolution_w = resolution_w
        self._last_w = self._watts()
        self._changed_s = time.monotonic()
        self._keep_reading(SAMPLE_S)

    @abstractmethod
    def _watts(self) -> float:
        """The sensor's power now. Raises OSError with one line."""

    def _step(self, elapsed_s):
        now, before = self._watts(), self._last_w
        self._last_w = now
        if elapsed_s > GAP_LIMIT_S:
            raise OSError(f"{self.source}: no sample for {elapsed_s:.1f} s")
        if now != before:  # anywhere since the sensor's last renewal, which may be samples ago
            self.error_j += abs(now - before) / 2 * (time.monotonic() - self._changed_s)
            self._changed_s = time.monotonic()
        self.error_j += self._resolution_w / 2 * elapsed_s
        return (now + before) / 2 * elapsed_s

    def measure_tick(self):
        """As Meter's; a power that happens to be steady leaves the period of the sampling."""
        ticks = _ticks(self._watts, 0.001)
        self.tick_s = ticks[len(ticks) // 2] if ticks else SAMPLE_S
        self.resolution_j = self._resolution_w * self.tick_s


class NoMeter(Meter):
    """There is no counter; source says so and why. Its windows are never valid."""

    kind = "none"

    def __init__(self, why: str):
        super().__init__(f"none: {why}", "nothing", 0.0)

    def _step(self, elapsed_s):
        raise OSError(self.source)

    def measure_tick(self):
        """Nothing to measure."""

    def describe(self):
        return self.source


def read_int(path: Path) -> int:
    try:
        return int(path.read_text())
    except PermissionError:
        raise OSError(f"may not read {path}: sudo chmod a+r it, or run as root") from None
    except (OSError, ValueError) as error:
        raise OSError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from None
