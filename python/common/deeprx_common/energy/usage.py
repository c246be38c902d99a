# SPDX-License-Identifier: GPL-3.0-or-later
"""How busy the machine's CPUs are."""

import os
from pathlib import Path


def cpu_busy_s() -> float:
    """CPU seconds of all cores since boot, idle and waiting excluded (/proc/stat)."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
