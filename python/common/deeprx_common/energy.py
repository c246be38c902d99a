# SPDX-License-Identifier: GPL-3.0-or-later
"""Energy meters behind one interface, and the modelled value that stands beside them.

A meter reads a counter of joules. A window is two readings; what it says is *measured* for the
meter's whole scope (a GPU board, a CPU package). A receiver's share of a CPU package is
*attributed* by CPU time, and where there is no counter nothing is measured: the report says why.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

POWERCAP = Path("/sys/class/powercap")

# Assumptions of the modelled energy, named in every report that uses them. Both are a data sheet's
# peak rate over its rated power, at a utilisation of a quarter that small convolutions reach.
CPU_FLOP_PER_S_PER_W = 5e9  # server core: 2.4 GHz x 32 float32 FLOP/clock x 1/4 over 4 W
GPU_FLOP_PER_S_PER_W = 2.4e10  # H100 SXM: 67 TFLOP/s float32 x 1/4 over 700 W


class Meter(Protocol):
    """A counter of joules. scope: what it counts; resolution_j: joules of one count."""

    source: str
    scope: str
    resolution_j: float

    def joules(self) -> float:
        """Joules since the meter was made; never decreases. Raises OSError when it fails."""
        ...


class RaplMeter:
    """CPU packages through Linux powercap (Intel and AMD RAPL): energy_uj, summed over packages.

    A counter wraps at max_energy_range_uj (minutes to hours under load): read it more often.
    Raises OSError with one line where there is no counter or it may not be read.
    """

    source = "RAPL powercap"
    scope = "cpu packages"
    resolution_j = 1e-6

    def __init__(self, root: Path):
        # intel-rapl:0 is a package, intel-rapl:0:1 a part of it: counted once
        self._zones = sorted(z for z in root.glob("*-rapl:*") if z.name.count(":") == 1)
        if not self._zones:
            raise OSError(f"no RAPL counter under {root}")
        unreadable = [z for z in self._zones if not os.access(z / "energy_uj", os.R_OK)]
        if unreadable:
            raise OSError(
                f"may not read {unreadable[0]}/energy_uj: sudo chmod a+r it, or run as root"
            )
        self._range_uj = [self._read(z / "max_energy_range_uj") for z in self._zones]
        self._last_uj = [self._read(z / "energy_uj") for z in self._zones]
        self._total_uj = 0

    @staticmethod
    def _read(path: Path) -> int:
        return int(path.read_text())

    def joules(self) -> float:
        for k, zone in enumerate(self._zones):
            now = self._read(zone / "energy_uj")
            step = now - self._last_uj[k]
            self._total_uj += step if step >= 0 else step + self._range_uj[k] + 1
            self._last_uj[k] = now
        return self._total_uj * 1e-6


class NvmlMeter:
    """One NVIDIA GPU board through NVML's total-energy counter (Volta and later), millijoules.

    The counter advances in ticks (20 to 100 ms on most boards), which window() measures.
    Raises OSError with one line where there is no driver, device or counter.
    """

    source = "NVML total energy"
    scope = "gpu board"
    resolution_j = 1e-3

    def __init__(self, index: int = 0):
        try:
            import pynvml
        except ImportError as error:
            raise OSError("nvidia-ml-py is not installed") from error
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._device = pynvml.nvmlDeviceGetHandleByIndex(index)
            self._start_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._device)
        except pynvml.NVMLError as error:
            raise OSError(f"no NVIDIA energy counter: {error}") from error

    def joules(self) -> float:
        try:
            now = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device)
        except self._nvml.NVMLError as error:
            raise OSError(f"the NVIDIA energy counter failed: {error}") from error
        return (now - self._start_mj) * 1e-3


def find_meter(device: str = "cpu") -> tuple[Meter | None, str]:
    """The meter for a receiver's device ("cpu", "cuda:1"), or None and why there is none."""
    try:
        if device.startswith("cuda"):
            return NvmlMeter(int(device.partition(":")[2] or 0)), ""
        return RaplMeter(POWERCAP), ""
    except OSError as error:
        return None, str(error)


@dataclass(frozen=True)
class Window:
    """What a meter counted between two readings: joules (gross) over seconds, for its whole scope.

    bound_j: at most this much of joules is quantisation, one tick at either end at the mean power.
    busy_s: CPU seconds that all processes used meanwhile.
    """

    joules: float
    seconds: float
    busy_s: float
    bound_j: float


def cpu_busy_s() -> float:
    """CPU seconds of all cores since boot, idle and waiting excluded (/proc/stat)."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def measure_tick(
    meter: Meter, limit_s: float = 0.5, clock: Callable[[], float] = time.monotonic
) -> float:
    """Seconds between two steps of a counter, median of up to five; limit_s if it stands still."""
    start = last_step = clock()
    last, ticks = meter.joules(), []
    while len(ticks) < 6 and (now := clock()) - start < limit_s:
        if (joules := meter.joules()) != last:
            ticks.append(now - last_step)
            last, last_step = joules, now
        time.sleep(0.0005)
    return sorted(ticks[1:])[len(ticks[1:]) // 2] if len(ticks) > 1 else limit_s


class EnergyWindow:
    """Counts from when it is made; read() gives the window so far. tick_s: measure_tick()'s."""

    def __init__(self, meter: Meter, tick_s: float):
        self._meter, self._tick_s = meter, tick_s
        self._joules, self._time, self._busy = meter.joules(), time.monotonic(), cpu_busy_s()

    def read(self) -> Window:
        seconds = time.monotonic() - self._time
        joules = self._meter.joules() - self._joules
        bound = self._meter.resolution_j
        if seconds > 0:
            bound += joules * min(1.0, self._tick_s / seconds)
        return Window(joules, seconds, cpu_busy_s() - self._busy, bound)


def modelled_j(flop: float, device: str = "cpu") -> tuple[float, str]:
    """Energy of so many FLOP: E = FLOP / (FLOP/s/W), and the model's name with its assumption.

    The first of the case study's models (Lbath, Labriji, arXiv 2507.10409): it knows neither memory
    traffic nor idle power, and its constant is an assumption, not a measurement of this machine.
    """
    rate = GPU_FLOP_PER_S_PER_W if device.startswith("cuda") else CPU_FLOP_PER_S_PER_W
    return flop / rate, f"FLOP / ({rate:.2g} FLOP/s/W, assumed for {device.partition(':')[0]})"


def energy_per_slot(
    slots: int,
    cpu_s: float,
    flop_per_slot: float | None,
    device: str = "cpu",
    window: Window | None = None,
    source: str = "",
    gpu_share: float | None = None,
) -> dict:
    """The report's energy_per_slot_j: joules per slot, each value under what it really is.

    slots and cpu_s: the receiver's in the window. source: the meter, or why there is none.
    On a GPU `measured` is the board's gross energy over the slots; where several receivers shared
    the board, gpu_share is this one's part of their inference time and the value is `attributed`.
    On a CPU the package counter also counts everything else that ran, so nothing is measured for
    one receiver: `attributed` is the package's joules times the receiver's share of all CPU time.
    `net` of idle needs an idle window and is null here. `bound`: quantisation, joules per slot.
    """
    modelled, model = modelled_j(flop_per_slot, device) if flop_per_slot else (None, None)
    energy = {
        "measured": None,
        "attributed": None,
        "net": None,
        "bound": None,
        "source": source if window else f"none: {source}",
        "modelled": modelled,
        "model": model,
    }
    if window and slots:
        if not device.startswith("cuda"):
            share = min(1.0, cpu_s / window.busy_s) if window.busy_s > 0 else 0.0
            kind = "attributed"
        elif gpu_share is not None:
            share, kind = gpu_share, "attributed"
        else:
            share, kind = 1.0, "measured"
        energy[kind] = window.joules * share / slots
        energy["bound"] = window.bound_j * share / slots
    return energy
