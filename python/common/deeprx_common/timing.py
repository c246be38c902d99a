# SPDX-License-Identifier: GPL-3.0-or-later
"""Timing what computes: by which clock, and in turns."""

import time
from collections.abc import Callable, Iterable


def compute_clock(device: str, threads: int = 1) -> Callable[[], float]:
    """Seconds by which a call is timed that computes on a device, on so many of the CPU's threads.

    That of the thread alone where it is one on a CPU: others on the machine do not count. Else wall
    time.
    """
    return time.thread_time if device == "cpu" and threads == 1 else time.perf_counter


def cost_clock(device: str) -> Callable[[], float]:
    """Seconds by which a process is timed that does nothing else: CPU time of all its threads, on a
    GPU wall time.
    """
    return time.process_time if device == "cpu" else time.perf_counter


def in_turns(items: Iterable, k: int) -> list:
    """The order of round k: every other one goes backwards, so that a steady drift of clock,
    temperature or other load strikes all alike.
    """
    order = list(items)
    return order[::-1] if k % 2 else order
