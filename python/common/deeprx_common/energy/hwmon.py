# SPDX-License-Identifier: GPL-3.0-or-later
"""Power sensors under Linux hwmon, as a Jetson's INA3221."""

import math
import re
from pathlib import Path

from .meter import PowerSensor, read_int

HWMON = Path("/sys/class/hwmon")


class HwmonMeter(PowerSensor):
    """The integral of power sensors under Linux hwmon, as a Jetson's INA3221.

    rail: a sensor's label (VDD_IN) or a chip's name (ina3221, power_meter); all of a chip's rails
    are summed, but one that feeds the others (VDD_IN, POM_5V_IN) stands for them. Power is
    power*_input in microwatts, or in*_input in millivolts times curr*_input in milliamperes.

    Raises OSError with one line where there is no such sensor or it may not be read.
    """

    def __init__(self, rail: str = "ina3221"):
        rails = [
            (label, files)
            for chip in sorted(HWMON.glob("hwmon*"))
            for label, files in _rails(chip).items()
            if rail in (label, (chip / "name").read_text().strip())
        ]
        inputs = [rail_files for rail_files in rails if rail_files[0].endswith("_IN")]
        rails = inputs[:1] or rails
        if not rails:
            raise OSError(f"no power sensor {rail} under {HWMON}")
        self._files = [files for _, files in rails]
        labels = " + ".join(dict.fromkeys(label for label, _ in rails))
        super().__init__(f"hwmon {labels}", "board", 1e-3)

    def _watts(self):
        return sum(math.prod(map(read_int, files)) for files in self._files) * 1e-6


def _rails(chip: Path) -> dict[str, list[Path]]:
    """Label: the files whose product is microwatts, of the connected rails of one hwmon chip."""
    rails = {}
    for power in sorted(chip.glob("power*_input")) or sorted(chip.glob("power*_average")):
        number = re.sub(r"\D", "", power.name)
        label = chip / f"power{number}_label"
        rails[label.read_text().strip() if label.exists() else power.name] = [power]
    for label in chip.glob("in*_label"):  # without one: an INA3221's shunt voltages and their sum
        number = re.sub(r"\D", "", label.name)
        rail = [chip / f"in{number}_input", chip / f"curr{number}_input"]
        enabled = chip / f"in{number}_enable"
        name = label.read_text().strip()
        connected = name != "NC" and (not enabled.exists() or enabled.read_text().strip() != "0")
        if connected and all(file.exists() for file in rail):
            rails.setdefault(name, rail)
    return rails
