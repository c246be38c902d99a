# SPDX-License-Identifier: GPL-3.0-or-later
"""Stop-and-wait HARQ: which block goes into which slot, until each is acknowledged or given up."""

from collections import deque
from dataclasses import dataclass, field

from deeprx_common.checks import check_whole

from .framing import Segmenter

RV_ORDER = (0, 2, 3, 1)
MOST_PROCESSES = 16
MOST_TRANSMISSIONS = 16


@dataclass(frozen=True)
class Transmission:
    """A block in a slot, as the decoder has to know it."""

    slot_index: int
    process: int
    rv: int
    new_data: bool
    block: bytes


@dataclass
class _Block:
    base: int
    content: bytes
    sequence: int | None  # None: padding
    slots: list[int] = field(default_factory=list)  # in which it was sent
    redundancy: int = 0  # transmissions since its last new data
    received: bool = False  # the decoder has soft bits of it
    settled: bool = False


class HarqSender:
    """Sends blocks in consecutive slots until they are acknowledged.

    Processes take turns: slot k belongs to process k modulo processes, and is filled once the
    verdict on slot k - processes is known, with what the verdicts on it and earlier slots ask for:
    what is sent does not depend on when they come, until grow() or expire(). What was not
    acknowledged is sent again in its process's next slot, transmissions times at most. A verdict on
    a slot says that earlier ones without any were lost on the way. While blocks are under way and
    no new one is there, padding carries them through the chain. Where the last ones were lost,
    padding says so, and is sent as often as a block; once as many were in vain as there are
    processes, nothing more is sent, and unheard_ends counts it.

    segmenter: where blocks come from. processes: to begin with, 1 to 16; the chain from here to the
    verdict must hold back fewer slots than there are, see grow(). transmissions: of a block at
    most, 1 to 16.

    Raises ValueError where a value is out of range.
    """

    def __init__(self, segmenter: Segmenter, processes: int = 8, transmissions: int = 4):
        check_whole("processes", processes, 1, MOST_PROCESSES)
        check_whole("transmissions", transmissions, 1, MOST_TRANSMISSIONS)
        self._segmenter = segmenter
        self._turns = deque(range(processes))  # of the processes, the next one first
        self._blocks: dict[int, _Block] = {}  # by process
        self._transmissions = transmissions
        self._slot = 0
        self._sequence = 0
        self._outstanding: dict[int, _Block] = {}  # by sequence number, ascending
        self._sent: dict[int, _Block] = {}  # by slot, of what is not settled
        self._in_flight: dict[int, _Block] = {}  # by slot, ascending, whose verdict is not applied
        self._verdicts: dict[int, tuple[bool, bool]] = {}  # on them
        self._newest = -1  # slot with a verdict
        self._gap = -1  # newest block that was given up, until the receiver knows of it
        self._in_vain = 0  # padding that said so and was given up, too
        self.slots = self.padding = self.blocks = self.retransmissions = 0
        self.first_failures = self.acknowledged = self.lost = self.unreported = 0
        self.unheard_ends = 0

    @property
    def idle(self) -> bool:
        """Whether the receiver has every block or knows that it is lost, or cannot be told."""
        return not self._outstanding and self._gap < 0

    @property
    def processes(self) -> int:
        return len(self._turns)

    @property
    def waiting(self) -> int | None:
        """The slot whose verdict the next one waits for."""
        slot_index = self._slot - self.processes
        known = self._newest > slot_index or slot_index in self._verdicts
        return slot_index if slot_index in self._in_flight and not known else None

    def next(self) -> Transmission | None:
        """What is sent in the next slot; None: nothing before there is a verdict or data."""
        if self.waiting is not None:
            return None
        self._apply(self._slot - self.processes)
        process = self._turns[0]
        block = self._blocks.get(process)
        if block is None or block.settled:
            block = self._begin()
            if block is None:
                return None
            self._blocks[process] = block
        else:
            block.redundancy = block.redundancy + 1 if block.received else 0
            self.retransmissions += block.sequence is not None
        self.padding += block.sequence is None
        block.slots.append(self._slot)
        self._in_flight[self._slot] = self._sent[self._slot] = block
        rv = RV_ORDER[block.redundancy % len(RV_ORDER)]
        sent = Transmission(self._slot, process, rv, block.redundancy == 0, block.content)
        self._turns.rotate(-1)
        self._slot += 1
        self.slots += 1
        return sent

    def _begin(self) -> _Block | None:
        is_padding = not self._segmenter.queued_bytes
        if is_padding and self.idle:
            return None
        base = next(iter(self._outstanding), self._sequence)
        content = self._segmenter.block(self._sequence, base)
        if is_padding:
            return _Block(base, content, None)
        block = self._outstanding[self._sequence] = _Block(base, content, self._sequence)
        self._sequence += 1
        self.blocks += 1
        return block

    def verdict(self, slot_index: int, ack: bool, received: bool = True) -> None:
        """What the receiver says of a slot. received: whether its decoder kept what came; if not,
        the block is new data to it once more. Of slots that were not sent, or whose block is
        settled, nothing changes.
        """
        if slot_index >= self._slot:
            return
        self._newest = max(self._newest, slot_index)
        if slot_index in self._in_flight:
            self._verdicts.setdefault(slot_index, (ack, received))
        elif ack and slot_index in self._sent:  # it comes late
            self._succeed(self._sent[slot_index])

    def grow(self) -> bool:
        """Where a verdict is waited for: twice as many processes, 16 at most. Too long nothing
        came, and perhaps the chain holds back as many slots as there are processes. Whether there
        are more now; of the slots under way nothing is given up.
        """
        count = self.processes
        if self.waiting is None or count == MOST_PROCESSES:
            return False
        self._turns.extendleft(reversed(range(count, min(2 * count, MOST_PROCESSES))))
        return True

    def expire(self) -> int | None:
        """The slot that is waited for counts as lost: too long nothing came. Which it is."""
        slot_index = self.waiting
        if slot_index is not None:
            self._newest = max(self._newest, slot_index + 1)
        return slot_index

    def _apply(self, slot_index: int) -> None:
        block = self._in_flight.pop(slot_index, None)
        verdict = self._verdicts.pop(slot_index, None)
        if block is None or block.settled:
            return
        if verdict is None:
            self.unreported += 1
        else:
            ack, block.received = verdict
            if ack:
                self._succeed(block)
                return
        self.first_failures += len(block.slots) == 1 and block.sequence is not None
        last = len(block.slots) == self._transmissions
        if block.sequence is not None:
            if last:
                self._gap, self._in_vain = max(self._gap, block.sequence), 0
                self.lost += 1
                self._settle(block)
            return
        over = not self._outstanding and not self._segmenter.queued_bytes
        telling = over and 0 <= self._gap < block.base
        if last or not telling:
            self._settle(block)
        if last and telling:
            self._in_vain += 1
            if self._in_vain >= self.processes:
                self._gap = -1
                self.unheard_ends += 1

    def _succeed(self, block: _Block) -> None:
        if block.base > self._gap:
            self._gap = -1
        self.acknowledged += block.sequence is not None
        self._settle(block)

    def _settle(self, block: _Block) -> None:
        block.settled = True
        for slot_index in block.slots:
            self._sent.pop(slot_index, None)
        if block.sequence is not None:
            del self._outstanding[block.sequence]
