# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a flowgraph's CPU time goes: each block runs in a thread of its own, named after it."""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from deeprx_common.terminal import number, table

from ..measure.threads import thread_clocks


class Budget:
    """CPU seconds per slot of every thread of this process. Blocks of the same name are added up.
    The receivers' warm-up, before the first slot, is left out.
    """

    def __init__(self):
        self._first: dict[int, tuple[float, int]] = {}  # thread: CPU seconds, slots
        self._last: dict[int, tuple[str, float, int]] = {}  # its name as well

    def sample(self, slots: int) -> None:
        """Read every thread's clock; slots: how many have come through by now."""
        if not slots:
            return
        for thread, (name, cpu_s) in thread_clocks().items():
            self._first.setdefault(thread, (cpu_s, slots))
            self._last[thread] = (name, cpu_s, slots)

    def per_slot(self) -> Counter[str]:
        """CPU seconds per slot by thread. Each counts over the slots of its own life: a source
        ends before the slots that it sent have arrived.
        """
        spent: Counter[str] = Counter()
        for thread, (name, cpu_s, slots) in self._last.items():
            first_s, first_slots = self._first[thread]
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
    shown = table(
        f"{slots_per_s:.0f} slots/s",
        [(name, seconds) for name, seconds in spent.most_common() if seconds >= 1e-6],
        [
            ("block", lambda row: row[0]),
            ("CPU ms a slot", lambda row: number(row[1], 1e3)),
            ("share", lambda row: f"{row[1] / total:.0%}"),
        ],
    )
    shown.add_section()
    shown.add_row("all", number(total, 1e3), "")
    console.print(shown)


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
