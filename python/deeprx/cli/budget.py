# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a flowgraph's CPU time goes: each block runs in a thread of its own, named after it."""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from deeprx_common.terminal import number, table

_TASKS = Path("/proc/self/task")


class Budget:
    """CPU seconds per slot of every thread of this process, from Linux's own clock of each.

    Not GNU Radio's performance counters: they leave out what the scheduler itself takes. Blocks
    of the same name are added up. The receivers' warm-up, before the first slot, is left out.

    Raises OSError where the system has no such clock.
    """

    def __init__(self):
        if not (_TASKS / str(next(_TASKS.iterdir()).name) / "schedstat").exists():
            raise OSError("--budget needs Linux: /proc/self/task/*/schedstat")
        self._first: dict[str, tuple[str, float, int]] = {}  # thread: (name, CPU seconds, slots)
        self._last: dict[str, tuple[str, float, int]] = {}

    def sample(self, slots: int) -> None:
        """Read every thread's clock; slots: how many have come through by now."""
        if not slots:
            return
        for task in _TASKS.iterdir():
            try:
                name = (task / "comm").read_text().strip()
                cpu_s = int((task / "schedstat").read_text().split()[0]) * 1e-9
            except OSError:  # it has just ended
                continue
            self._first.setdefault(task.name, (name, cpu_s, slots))
            self._last[task.name] = (name, cpu_s, slots)

    def per_slot(self) -> Counter[str]:
        """CPU seconds per slot by thread. Each counts over the slots of its own life: a source
        ends before the slots that it sent have arrived.
        """
        spent: Counter[str] = Counter()
        for thread, (name, cpu_s, slots) in self._last.items():
            _, first_s, first_slots = self._first[thread]
            if slots > first_slots:
                spent[name] += (cpu_s - first_s) / (slots - first_slots)
        return spent


def show_budget(budgets: list[Budget], slots_per_s: float, console: Console) -> None:
    """The mean over these operating points, as a table."""
    threads: Counter[str] = Counter()
    for budget in budgets:
        for name, seconds in budget.per_slot().items():
            threads[name] += seconds / len(budgets)
    spent: Counter[str] = Counter()
    for thread, block in _blocks(threads).items():
        spent[block] += threads[thread]
    total = sum(spent.values())
    made = table(f"{slots_per_s:.0f} slots/s", "block", "CPU ms a slot", "share")
    for name, seconds in spent.most_common():
        if seconds >= 1e-6:
            made.add_row(name, number(seconds, 1e3), f"{seconds / total:.0%}")
    made.add_section()
    made.add_row("all", number(total, 1e3), "")
    console.print(made)


def _blocks(threads: Iterable[str]) -> dict[str, str]:
    """The block of each thread. GNU Radio ends a thread's name with the block's number and cuts it
    to 15 characters, so that a block has a shorter name where numbers are longer.
    """
    names = {thread: re.sub(r"\d+$", "", thread) for thread in threads}
    names |= {thread: "main thread" for thread in names if thread == Path(sys.executable).name}
    return {
        thread: max(
            (n for n in names.values() if n.startswith(name) and len(thread) == 15),
            key=len,
            default=name,
        )
        for thread, name in names.items()
    }
