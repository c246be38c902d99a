# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine and the software that results come from."""

import os
import platform
from functools import cache
from importlib import metadata
from pathlib import Path


def host() -> dict:
    """CPU, cores, memory and operating system of this machine."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": platform.freedesktop_os_release().get("PRETTY_NAME", platform.platform()),
        "kernel": platform.release(),
    }


def versions(*names: str) -> dict[str, str]:
    """Of Python, and of these packages where they are installed."""
    known = {"python": platform.python_version()} | {name: _version(name) for name in names}
    return {name: version for name, version in known.items() if version}


@cache
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
