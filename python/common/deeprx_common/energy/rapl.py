# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU packages and memory: RAPL through Linux powercap."""

from collections.abc import Sequence
from pathlib import Path

from .meter import LIMIT_W, Counter, read_int

POWERCAP = Path("/sys/class/powercap")


class RaplMeter(Counter):
    """CPU packages and memory through Linux powercap (Intel and AMD RAPL), summed over sockets.

    domains: of "package", "dram", "psys". Package and dram are apart; psys, the whole platform,
    contains both and is never added to them. Counters wrap around at max_energy_range_uj, which a
    thread that reads every few seconds notices.

    Raises OSError with one line where there is no such counter or it may not be read.
    """

    def __init__(self, domains: Sequence[str] = ("package", "dram")):
        zones = {}
        # intel-rapl-mmio:0 is intel-rapl:0 by another way: counted once
        for zone in sorted(POWERCAP.glob("intel-rapl:*")):
            name = (zone / "name").read_text().strip()
            domain = name.partition("-")[0]  # package-0, package-1-die-0
            if domain in domains:
                zones[zone] = domain
        if not zones:
            wanted = "" if "package" in domains else f"{domains[0]} "
            raise OSError(f"no RAPL {wanted}counter under {POWERCAP}")
        self._zones = list(zones)
        counted = [d for d in domains if d in zones.values()]
        names = {"package": "cpu packages", "dram": "dram", "psys": "platform"}
        self._ranges = [read_int(zone / "max_energy_range_uj") + 1 for zone in self._zones]
        super().__init__("RAPL powercap", " and ".join(names[d] for d in counted), 1e-6)
        soonest_s = min(self._ranges) * self.resolution_j / LIMIT_W
        self._keep_reading(min(5.0, soonest_s / 2))

    def _counts(self):
        return [read_int(zone / "energy_uj") for zone in self._zones]

    def _range(self, index):
        return self._ranges[index]
