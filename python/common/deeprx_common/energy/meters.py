# SPDX-License-Identifier: GPL-3.0-or-later
"""Meters: counters of joules behind one interface, whatever counts them.

find_meter() gives the best one for a receiver's device, or the one that was asked for. NoMeter
stands in where there is none, so that nobody has to ask whether there is one.
"""

import ctypes
import math
import os
import re
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from .price import Price

POWERCAP = Path("/sys/class/powercap")
HWMON = Path("/sys/class/hwmon")

LIMIT_W = 5000.0  # no package, board or rail draws more: a larger step is a counter that jumped
TICKS_SEEN = 8
TICK_LIMIT_S = 1.0  # a counter that does not move for so long stands still
SAMPLE_S = 0.02  # between two readings of a power sensor; NVIDIA's and INA's renew theirs slower
GAP_LIMIT_S = 1.0  # between two samples: nobody knows what was drawn meanwhile

METERS = "auto, none, rapl[:package|dram|psys], nvml, nvml-power, hwmon[:RAIL]"


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
        start = time.monotonic()
        last, steps = self.joules(), []
        while len(steps) <= TICKS_SEEN and (now := time.monotonic()) - start < TICK_LIMIT_S:
            if (joules := self.joules()) != last:
                last = joules
                steps.append(now)
            time.sleep(0.0002)
        ticks = sorted(b - a for a, b in pairwise(steps))
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


def _read_until(meter: Callable[[], Meter | None], stop: threading.Event, period_s: float) -> None:
    while not stop.wait(period_s):
        if (found := meter()) is None:
            return
        with suppress(OSError):  # the meter keeps it as a fault
            found.joules()
        del found


class _Counter(Meter):
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


class RaplMeter(_Counter):
    """CPU packages and memory through Linux powercap (Intel and AMD RAPL), summed over sockets.

    domains: of "package", "dram", "psys". Package and dram are apart; psys, the whole platform,
    contains both and is never added to them. Counters wrap around at max_energy_range_uj, which a
    thread that reads every few seconds notices.

    Raises OSError with one line where there is no such counter or it may not be read.
    """

    def __init__(self, root: Path | None = None, domains: Sequence[str] = ("package", "dram")):
        root = root or POWERCAP
        zones = {}
        # intel-rapl-mmio:0 is intel-rapl:0 by another way: counted once
        for zone in sorted(root.glob("intel-rapl:*")):
            name = (zone / "name").read_text().strip()
            domain = name.partition("-")[0]  # package-0, package-1-die-0
            if domain in domains:
                zones[zone] = domain
        if not zones:
            wanted = "" if "package" in domains else f"{domains[0]} "
            raise OSError(f"no RAPL {wanted}counter under {root}")
        self._zones = list(zones)
        found = [d for d in domains if d in zones.values()]
        names = {"package": "cpu packages", "dram": "dram", "psys": "platform"}
        self._ranges = [_read_int(zone / "max_energy_range_uj") + 1 for zone in self._zones]
        super().__init__("RAPL powercap", " and ".join(names[d] for d in found), 1e-6)
        soonest_s = min(self._ranges) * self.resolution_j / LIMIT_W
        self._keep_reading(min(5.0, soonest_s / 2))

    def _counts(self):
        return [_read_int(zone / "energy_uj") for zone in self._zones]

    def _range(self, index):
        return self._ranges[index]


def _read_int(path: Path) -> int:
    try:
        return int(path.read_text())
    except PermissionError:
        raise OSError(f"may not read {path}: sudo chmod a+r it, or run as root") from None
    except (OSError, ValueError) as error:
        raise OSError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from None


class _NvidiaGpu:
    """One GPU by what CUDA calls it or by its UUID; NVML counts differently than CUDA."""

    def __init__(self, device: str):
        try:
            import pynvml
        except ImportError as error:
            raise OSError("nvidia-ml-py is not installed") from error
        self.nvml = pynvml
        try:
            pynvml.nvmlInit()
            uuid = device if device.startswith("GPU-") else cuda_uuid(_ordinal(device))
            self.handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError as error:
            raise OSError(f"NVML: {error}") from error

    def ask(self, function: str, *arguments):
        try:
            return getattr(self.nvml, function)(self.handle, *arguments)
        except self.nvml.NVMLError as error:
            raise OSError(f"NVML: {error}") from error

    def disturbance(self) -> str:
        try:
            found = self.nvml.nvmlDeviceGetComputeRunningProcesses(self.handle)
        except self.nvml.NVMLError:
            return ""
        others = [p.pid for p in found if p.pid != os.getpid()]
        if len(others) == len(found):  # in a container NVML knows us by a number that we do not
            others = others[1:]
        if not others:
            return ""
        return f"another process is using the GPU (pid {', '.join(map(str, others))})"


def _ordinal(device: str) -> int:
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if not match:
        raise ValueError(f"expected device cpu, cuda, cuda:<n> or GPU-<uuid>, got {device!r}")
    return int(match[1] or 0)


def cuda_uuid(ordinal: int) -> str:
    """UUID of what this process calls cuda:<ordinal>, from the CUDA driver.

    NVML numbers boards by their place on the bus and knows nothing of CUDA_VISIBLE_DEVICES.
    Raises OSError with one line.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise OSError("no NVIDIA driver (libcuda.so.1) on this machine") from None
    device, uuid = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    for status in (
        cuda.cuInit(0),
        cuda.cuDeviceGet(ctypes.byref(device), ordinal),
        cuda.cuDeviceGetUuid(uuid, device),
    ):
        if status:
            raise OSError(f"CUDA has no device {ordinal} (driver error {status})")
    text = bytes(uuid).hex()
    return "GPU-" + "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


class NvmlMeter(_Counter):
    """One NVIDIA board through NVML's total-energy counter (Volta and later).

    device: "cuda", "cuda:1" or a UUID "GPU-...". Raises OSError with one line where there is no
    driver, device or counter.
    """

    def __init__(self, device: str = "cuda"):
        self._gpu = _NvidiaGpu(device)
        super().__init__("NVML total energy", "gpu board", 1e-3)
        self.price = Price(device)

    def disturbance(self):
        return self._gpu.disturbance()

    def _counts(self):
        return [self._gpu.ask("nvmlDeviceGetTotalEnergyConsumption")]


class _PowerSensor(Meter):
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
        start = time.monotonic()
        last, changes = self._watts(), []
        while len(changes) <= TICKS_SEEN and (now := time.monotonic()) - start < TICK_LIMIT_S:
            if (watts := self._watts()) != last:
                last = watts
                changes.append(now)
            time.sleep(0.001)
        ticks = sorted(b - a for a, b in pairwise(changes))
        self.tick_s = ticks[len(ticks) // 2] if ticks else SAMPLE_S
        self.resolution_j = self._resolution_w * self.tick_s


class NvmlPowerMeter(_PowerSensor):
    """One NVIDIA board: the integral of NVML's instant power, for boards without a counter."""

    def __init__(self, device: str = "cuda"):
        self._gpu = _NvidiaGpu(device)
        super().__init__("NVML instant power", "gpu board", 1e-3)
        self.price = Price(device)

    def disturbance(self):
        return self._gpu.disturbance()

    def _watts(self):
        (field,) = self._gpu.ask(
            "nvmlDeviceGetFieldValues", [self._gpu.nvml.NVML_FI_DEV_POWER_INSTANT]
        )
        if field.nvmlReturn != 0:
            raise OSError(f"NVML instant power: {self._gpu.nvml.NVMLError(field.nvmlReturn)}")
        return field.value.uiVal * 1e-3


class HwmonMeter(_PowerSensor):
    """The integral of power sensors under Linux hwmon, as a Jetson's INA3221.

    rail: a sensor's label (VDD_IN) or a chip's name (ina3221, power_meter); all of a chip's rails
    are summed, but one that feeds the others (VDD_IN, POM_5V_IN) stands for them. Power is
    power*_input in microwatts, or in*_input in millivolts times curr*_input in milliamperes.

    Raises OSError with one line where there is no such sensor or it may not be read.
    """

    def __init__(self, rail: str = "ina3221", root: Path | None = None):
        root = root or HWMON
        rails = [
            (label, files)
            for chip in sorted(root.glob("hwmon*"))
            for label, files in _rails(chip).items()
            if rail in (label, (chip / "name").read_text().strip())
        ]
        inputs = [found for found in rails if found[0].endswith("_IN")]
        rails = inputs[:1] or rails
        if not rails:
            raise OSError(f"no power sensor {rail} under {root}")
        self._files = [files for _, files in rails]
        labels = " + ".join(dict.fromkeys(label for label, _ in rails))
        super().__init__(f"hwmon {labels}", "board", 1e-3)

    def _watts(self):
        return sum(math.prod(map(_read_int, files)) for files in self._files) * 1e-6


def _rails(chip: Path) -> dict[str, list[Path]]:
    """Label: the files whose product is microwatts, of the connected rails of one hwmon chip."""
    found = {}
    for power in sorted(chip.glob("power*_input")) or sorted(chip.glob("power*_average")):
        number = re.sub(r"\D", "", power.name)
        label = chip / f"power{number}_label"
        found[label.read_text().strip() if label.exists() else power.name] = [power]
    for label in chip.glob("in*_label"):  # without one: an INA3221's shunt voltages and their sum
        number = re.sub(r"\D", "", label.name)
        rail = [chip / f"in{number}_input", chip / f"curr{number}_input"]
        enabled = chip / f"in{number}_enable"
        name = label.read_text().strip()
        connected = name != "NC" and (not enabled.exists() or enabled.read_text().strip() != "0")
        if connected and all(file.exists() for file in rail):
            found.setdefault(name, rail)
    return found


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


def find_meter(device: str = "cpu", choice: str = "auto", busy_w: float | None = None) -> Meter:
    """The meter for a receiver's device, its update period measured (up to a second).

    device: "cpu", "cuda", "cuda:1" or "GPU-<uuid>". choice: one of METERS. "auto" takes the best
    there is, NVML before instant power, RAPL, and a Jetson's INA3221 last, and is a NoMeter with
    the reason where there is none. busy_w: of its price, see Price.

    Raises OSError with one line where the meter that was asked for is not there, ValueError for an
    unknown choice or device and for watts that are not above 0.
    """
    price = Price(device, busy_w)
    meter = _find(device, choice)
    meter.price = price
    return meter


def _find(device: str, choice: str) -> Meter:
    on_gpu = device != "cpu"
    if on_gpu and not device.startswith("GPU-"):
        _ordinal(device)
    if choice == "none":
        return NoMeter("not asked for")
    if choice != "auto":
        meter = _named(choice, device)
        meter.measure_tick()
        return meter
    why = []
    for candidate in ("nvml", "nvml-power", "hwmon") if on_gpu else ("rapl", "hwmon"):
        try:
            return _find(device, candidate)
        except OSError as error:
            why.append(str(error))
    return NoMeter(why[0])  # of the counter that such a machine would have


def _named(choice: str, device: str) -> Meter:
    kind, _, detail = choice.partition(":")
    if kind == "rapl" and detail in ("", "package", "dram", "psys"):
        if device != "cpu":
            raise ValueError(f"meter {choice} counts CPUs: give device cpu, got {device}")
        return RaplMeter(domains=(detail,) if detail else ("package", "dram"))
    if kind == "hwmon":
        return HwmonMeter(detail or "ina3221")
    if choice in ("nvml", "nvml-power"):
        if device == "cpu":
            raise ValueError(
                f"meter {choice} counts a GPU: give a device cuda or cuda:<n>, got cpu"
            )
        return NvmlMeter(device) if choice == "nvml" else NvmlPowerMeter(device)
    raise ValueError(f"unknown meter {choice!r}: expected {METERS}")
