# SPDX-License-Identifier: GPL-3.0-or-later
"""Receivers under named conditions, each drawn for as long as the rule asks: many evaluations,
whose parts one pool counts.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeprx_common.terminal import make_console, progress_bar

from ..evaluation import never_worse as rule
from ..evaluation.evaluate import (
    DROPPED,
    GNB,
    PERFECT,
    SURE,
    Counts,
    EvaluationError,
    Part,
    batch_of,
)
from ..evaluation.named import Named
from ..evaluation.outcomes import Outcome
from ..teaching.checkpoint import ReceiverFile
from .campaign import Plan, Pool, files_of, fingerprint

REFERENCES = SURE, GNB  # where they take the slots


@dataclass(frozen=True)
class Receivers:
    """files: by name; the rest as of Plan and Evaluation."""

    files: dict[str, ReceiverFile]
    trust: tuple[str, ...] = ()
    device: str = "cpu"


class Course:
    """A condition under way. Slots are used in order, whatever order they are counted in, so the
    rule stops at the same one.

    Bits come first; as soon as a reference has too few wrong ones, all is counted anew with
    transport blocks. Of a slot that a receiver drops half of the bits are wrong, as guesses are,
    and its blocks are lost.
    """

    def __init__(self, named: Named, receivers: Receivers, kept: Path):
        self.named, self._receivers, self._kept = named, receivers, kept
        self._batch = batch_of(named.conditions())
        self.flying = 0
        self.outcome: Outcome | None = None
        self._begin(with_blocks=False)

    def _begin(self, with_blocks: bool) -> None:
        self._with_blocks = with_blocks
        self._most = rule.MOST_BLOCK_SLOTS if with_blocks else rule.MOST_SLOTS
        self._submitted = self._used = 0
        self._arrived: dict[int, Counts] = {}
        self._counts: list[dict[tuple[str, str], np.ndarray]] = []
        self._dropped: Counter[str] = Counter()
        self._promises = {name: rule.Promises() for name in self._receivers.files}
        table, index = rule.lowest_mcs(self.named.condition.modulation)
        arguments = {
            "sinr_db": [self.named.condition.snr_db],
            "conditions": self.named.conditions(),
            "seed": self.named.seed,
            "device": self._receivers.device,
            "mcs": index if with_blocks else None,
            "mcs_table": table,
            "ideals": (PERFECT,),
            "joining": REFERENCES,
            "slot": self.named.slot,
        }
        files = self._receivers.files.values()
        kept = self._kept / fingerprint(files, **arguments)
        arguments["slots"] = self._most
        self._plan = Plan(kept, files_of(files), self._receivers.trust, arguments)

    @property
    def ready(self) -> bool:
        return self.outcome is None and self._submitted < self._most

    def next(self) -> tuple[Plan, Part]:
        """The next part to count."""
        part = Part(0, self._submitted, min(self._batch, self._most - self._submitted))
        self._submitted += part.size
        self.flying += 1
        return self._plan, part

    def take(self, plan: Plan, part: Part, counts: Counts | EvaluationError) -> None:
        """What was counted of a part that next() gave."""
        self.flying -= 1
        if plan != self._plan or self.outcome:
            return
        if isinstance(counts, EvaluationError):
            self.outcome = Outcome(self.named, 0, None, {}, {}, refused=str(counts))
            return
        self._arrived[part.first] = counts
        while self.outcome is None and self._used in self._arrived:
            self._use(self._arrived.pop(self._used))

    def _use(self, counts: Counts) -> None:
        self._used += len(counts["errors", PERFECT])
        guessed = [self.named.slot.alone(i).n_bits // 2 for i in range(self.named.slot.n_layers)]
        errors = {}
        for (what, name), of_layers in counts.items():
            if "errors" in what:
                dropped = of_layers == DROPPED
                self._dropped[name] += int(dropped.any(1).sum())
                errors[what, name] = np.where(dropped, guessed, of_layers).sum(1)
        self._counts.append(errors)
        for name, promises in self._promises.items():
            promises.add(counts["margins", name].sum(1))
        if not self._with_blocks and not all(map(self._bits_judged, self._references)):
            self._begin(with_blocks=True)
            return
        pairs = self._pairs()
        drawing = self._used < rule.FEWEST_SLOTS or any(pair.open for pair in pairs.values())
        if not drawing or self._used >= self._most:
            self.outcome = self._outcome(pairs)
            self._counts, self._promises = [], {}

    def _of(self, what: str, name: str) -> np.ndarray:
        return np.concatenate([counts[what, name] for counts in self._counts])

    @property
    def _references(self) -> list[str]:
        return [name for name in REFERENCES if ("errors", name) in self._counts[0]]

    def _bits_judged(self, reference: str) -> bool:
        return rule.bits_judged(self._of("errors", reference), self._slot_bits)

    @property
    def _slot_bits(self) -> int:
        return self.named.slot.n_layers * self.named.slot.n_bits

    def _pairs(self) -> dict[tuple[str, str], rule.Pair]:
        pairs = {}
        for reference in self._references:
            what, of, each = "errors", rule.of_bits, self._slot_bits
            if not self._bits_judged(reference):
                what, of, each = "block_errors", rule.of_blocks, self.named.slot.n_layers
            for name in self._receivers.files:
                pairs[name, reference] = of(self._of(what, name), self._of(what, reference), each)
        return pairs

    def _outcome(self, pairs: dict[tuple[str, str], rule.Pair], stopped: bool = False) -> Outcome:
        perfect = float(self._of("errors", PERFECT).mean()) / self._slot_bits
        promised = {name: promises.calibration() for name, promises in self._promises.items()}
        dropped = dict(+self._dropped)
        return Outcome(self.named, self._used, perfect, pairs, promised, dropped, stopped=stopped)

    def so_far(self) -> Outcome | None:
        """None where nothing is counted yet."""
        if self.outcome or not self._used:
            return self.outcome
        return self._outcome(self._pairs(), stopped=True)


def run(
    conditions: Sequence[Named], receivers: Receivers, kept: Path, pool: Pool
) -> tuple[list[Outcome], bool]:
    """Outcomes in the conditions' order, and whether Ctrl-C cut them short. kept: a folder for what
    is counted, of which the next run counts nothing again.
    """
    courses = {c.name: Course(c, receivers, kept) for c in conditions}
    by_plan: dict[Plan, Course] = {}

    def tasks() -> Iterator[tuple[Plan, Part] | None]:
        while True:
            ready = [course for course in courses.values() if course.ready]
            course = min(ready, key=lambda course: course.flying, default=None)
            task = course and course.next()
            if task:
                by_plan[task[0]] = course
            yield task

    left, counted = len(courses), 0
    with progress_bar(make_console(), "{task.completed} of {task.total} conditions") as progress:
        bar = progress.add_task("evaluating", total=left)
        try:
            for plan, part, counts in pool(tasks()):
                counted += part.size
                progress.update(bar, description=f"{counted} slots")
                course = by_plan[plan]
                if course.outcome:
                    continue
                course.take(plan, part, counts)
                if course.outcome:
                    progress.console.print(_line(course.outcome), soft_wrap=True)
                    progress.advance(bar)
                    left -= 1
                if not left:
                    break
        except KeyboardInterrupt:
            pass
    outcomes = [outcome for course in courses.values() if (outcome := course.so_far())]
    return outcomes, left > 0


def _line(outcome: Outcome) -> str:
    name = outcome.named.name
    if outcome.refused:
        return f"{name}: {outcome.refused}"
    ratios = [
        f"{receiver} {pair.ratio:.3f} of {reference}"
        for (receiver, reference), pair in outcome.pairs.items()
        if pair.ratio is not None
    ]
    return f"{name}: {outcome.slots} slots; {', '.join(ratios)}"
