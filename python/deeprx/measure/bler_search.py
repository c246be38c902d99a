# SPDX-License-Identifier: GPL-3.0-or-later
"""At which SINR receivers lose a share of their transport blocks: where to look for it, and what
was seen there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deeprx_common.stats import ErrorRate, block_error_rate, sinr_apart, sinr_at_ber

LOWEST_DB, HIGHEST_DB, STEP_DB = -20.0, 32.0, 1.0
STRIDE_DB = 4.0  # while a crossing is not between two SINRs yet
FIRST, MORE = 200, 1000  # slots at an SINR


@dataclass(frozen=True)
class Crossing:
    """SINR in dB, its 95 % interval over slots, and what was counted around it. inf: not reached at
    HIGHEST_DB; -inf: still below the target at LOWEST_DB.
    """

    sinr_db: float
    ci95: tuple[float, float]
    slots: int
    errors: int


class Search:
    """Slots of several SINRs, which all receivers have in common; each draws more for as long as it
    needs. SINRs are STEP_DB apart. The two around each receiver's crossing get `errors` block
    errors, or most_slots; those beside them as many as tell that they lie on their side of it.

    blocks: of a slot.
    """

    def __init__(
        self,
        receivers: Sequence[str],
        target: float,
        errors: int,
        most_slots: int,
        blocks: int = 1,
        start_db: float = 12.0,
    ):
        self.receivers, self.target = tuple(receivers), target
        self._errors, self._most, self._blocks, self._start = errors, most_slots, blocks, start_db
        self._counted: dict[float, dict[str, np.ndarray]] = {}

    @property
    def slots(self) -> int:
        return sum(map(self._slots, self._counted))

    def _slots(self, sinr_db: float) -> int:
        counted = self._counted.get(sinr_db)
        return len(counted[self.receivers[0]]) if counted else 0

    def next(self) -> tuple[float, int, int] | None:
        """SINR, first slot and number of slots to count next; None where nothing is open."""
        for name in self.receivers:
            if (sinr_db := self._wanted(name)) is not None:
                slots = self._slots(sinr_db)
                return sinr_db, slots, MORE if slots else FIRST
        return None

    def add(self, sinr_db: float, errors: Mapping[str, Sequence[int]]) -> None:
        """Block errors of each of the slots that next() asked for, of every receiver."""
        known = self._counted.setdefault(sinr_db, {})
        for name in self.receivers:
            more = np.asarray(errors[name], np.int64)
            known[name] = np.concatenate([known[name], more]) if name in known else more

    def rate(self, sinr_db: float, name: str) -> ErrorRate:
        errors = self._counted[sinr_db][name]
        return block_error_rate(errors, [self._blocks] * len(errors))

    def _around(self, name: str) -> tuple[float | None, float | None]:
        """The highest SINR with more errors than the target, and the next one that was counted."""
        rates = {s: self.rate(s, name).rate for s in self._counted}
        above = max((s for s, rate in rates.items() if rate >= self.target), default=None)
        below = [s for s in rates if above is None or s > above]
        return above, min(below, default=None)

    def _wanted(self, name: str) -> float | None:
        above, below = self._around(name)
        if above is None and below is None:
            return self._start
        if above is None:
            return self._beyond(below, -STRIDE_DB, name)
        if below is None:
            return self._beyond(above, STRIDE_DB, name)
        if below - above > STEP_DB:
            return above + round((below - above) / (2 * STEP_DB)) * STEP_DB
        for sinr_db in (above, below):
            if self._is_open(sinr_db, name):
                return sinr_db
        for beside, step in ((above, -STEP_DB), (below, STEP_DB)):
            outer = beside + step
            if self._is_sure(beside, name) or not LOWEST_DB <= outer <= HIGHEST_DB:
                continue
            if outer not in self._counted or self._may_tell(outer, name):
                return outer
        return None

    def _beyond(self, sinr_db: float, stride: float, name: str) -> float | None:
        """Further out; at the end, more of the same until it is sure."""
        further = min(max(sinr_db + stride, LOWEST_DB), HIGHEST_DB)
        if further != sinr_db:
            return further
        return sinr_db if self._may_tell(sinr_db, name) else None

    def _is_open(self, sinr_db: float, name: str) -> bool:
        counted = self._counted[sinr_db][name]
        return counted.sum() < self._errors and len(counted) < self._most

    def _is_sure(self, sinr_db: float, name: str) -> bool:
        """Whether the point lies on one side of the target."""
        low, high = self.rate(sinr_db, name).ci95
        return low > self.target or high < self.target

    def _may_tell(self, sinr_db: float, name: str) -> bool:
        """Whether more slots could."""
        return not self._is_sure(sinr_db, name) and self._is_open(sinr_db, name)

    def _points(self, name: str) -> list[tuple[float, np.ndarray]]:
        """What tells where a receiver crosses: around it, and beside that."""
        above, below = self._around(name)
        if above is None or below is None:
            return []
        near = (above - STEP_DB, above, below, below + STEP_DB)
        return [(s, self._counted[s][name]) for s in near if s in self._counted]

    def crossing(self, name: str) -> Crossing:
        above, below = self._around(name)
        points = self._points(name)
        if not points:
            nowhere = np.inf if below is None else -np.inf
            end = self._counted[above if below is None else below][name]
            return Crossing(nowhere, (nowhere, nowhere), len(end), int(end.sum()))
        of_all = [(s, errors, [self._blocks] * len(errors)) for s, errors in points]
        sinr_db, ci95 = sinr_at_ber(of_all, self.target)
        slots = sum(len(errors) for _, errors in points)
        return Crossing(sinr_db, ci95, slots, int(sum(errors.sum() for _, errors in points)))

    def behind(self, name: str, other: str) -> tuple[float, tuple[float, float]] | None:
        """dB more SINR than another receiver needs, and its interval; None where one of them
        crosses nowhere.
        """
        points, others = self._points(name), self._points(other)
        if not points or not others:
            return None
        return sinr_apart(points, others, self._blocks, self.target)
