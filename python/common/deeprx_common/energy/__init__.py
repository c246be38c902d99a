# SPDX-License-Identifier: GPL-3.0-or-later
"""Energy: meters behind one interface, windows over them, and the modelled value beside them.

    meter = find_meter("cpu")  # or "cuda:1"; find_meter("cpu", "rapl:psys") for a certain one
    window = EnergyWindow(meter)
    ...
    found = window.read()
    print(found.joules if found.valid else found.reason, found.source)

What a meter counts is *measured* for its whole scope (a GPU board, CPU packages). A receiver's
share of CPU packages is *attributed* by CPU time. Where there is no counter nothing is measured:
find_meter() then gives a NoMeter, whose windows say why and hold no number. *Modelled* joules never
stand in for the others.
"""

from .meters import (
    METERS,
    HwmonMeter,
    Meter,
    NoMeter,
    NvmlMeter,
    NvmlPowerMeter,
    PowerModelMeter,
    RaplMeter,
    find_meter,
)
from .model import CPU_FLOP_PER_S_PER_W, GPU_FLOP_PER_S_PER_W, energy_per_slot, modelled_j
from .usage import cpu_busy_s
from .windows import Comparison, EnergyWindow, Estimate, Idle, Window, measure, measure_idle

__all__ = [
    "CPU_FLOP_PER_S_PER_W",
    "GPU_FLOP_PER_S_PER_W",
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
    "PowerModelMeter",
    "RaplMeter",
    "Window",
    "cpu_busy_s",
    "energy_per_slot",
    "find_meter",
    "measure",
    "measure_idle",
    "modelled_j",
]
