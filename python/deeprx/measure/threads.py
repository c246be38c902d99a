# SPDX-License-Identifier: GPL-3.0-or-later
"""The clocks of this process's threads: GNU Radio runs each block in one named after it."""

import time
from pathlib import Path

from gnuradio import gr

_TASKS = Path("/proc/self/task")
_NAME_BYTES = 15  # that Linux keeps of a thread's


def thread_name(block: gr.basic_block) -> str:
    """As GNU Radio names the thread that runs a block: a long name gives way to the block's number,
    but for a digit. The number in its alias is another.
    """
    number = str(block.unique_id())
    return (block.name()[: _NAME_BYTES + 1 - len(number)] + number)[:_NAME_BYTES]


def thread_clocks() -> dict[int, tuple[str, float]]:
    """Of every thread its name, as Linux cuts it, and its CPU seconds so far.

    Not GNU Radio's performance counters: they leave out what the scheduler itself takes.
    """
    clocks = {}
    for task in _TASKS.iterdir():
        try:
            name = (task / "comm").read_text().rstrip("\n")
            clocks[int(task.name)] = name, time.clock_gettime(~int(task.name) << 3 | 6)
        except OSError:  # it has just ended
            continue
    return clocks
