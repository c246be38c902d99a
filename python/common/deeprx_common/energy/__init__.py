# SPDX-License-Identifier: GPL-3.0-or-later
"""Energy: meters behind one interface, windows over them, and the modelled value beside them.

    meter = find_meter("cpu")  # or "cuda:1"; find_meter("cpu", "rapl:psys") for a certain one
    window = EnergyWindow(meter)
    ...
    energy = window.read()
    print(energy.joules if energy.valid else energy.reason, energy.source)

What a meter counts is *measured* for its whole scope (a GPU board, CPU packages). A receiver's
share of CPU packages is *attributed* by CPU time. Where there is no counter nothing is measured:
find_meter() then gives a NoMeter, whose windows say why and hold no number. *Modelled* joules, CPU
time at a stated Price, never stand in for the others.
"""

from .hwmon import HwmonMeter
from .meter import Meter, NoMeter
from .meters import METERS, find_meter
from .nvml import NvmlMeter, NvmlPowerMeter
from .per_slot import energy_per_slot
from .price import BOARD_W, CORE_W, Price
from .rapl import RaplMeter
from .windows import (
    Comparison,
    EnergyWindow,
    Estimate,
    Idle,
    Window,
    cpu_busy_s,
    measure,
    measure_idle,
)

__all__ = [
    "BOARD_W",
    "CORE_W",
    "METERS",
    "Comparison",
    "EnergyWindow",
    "Estimate",
    "HwmonMeter",
    "Idle",
    "Meter",
    "NoMeter",
    "NvmlMeter",
    "NvmlPowerMeter",
    "Price",
    "RaplMeter",
    "Window",
    "cpu_busy_s",
    "energy_per_slot",
    "find_meter",
    "measure",
    "measure_idle",
]
