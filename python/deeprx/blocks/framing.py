# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of any size in blocks of one size, and back, in order, whatever was lost.

A block: a header, messages one behind the other, each behind its length, zeros to its end. A
message may begin in one block and end in another.
"""

import secrets
import struct
from collections import deque
from dataclasses import dataclass

from deeprx_common.checks import check_whole

# Session, sequence number, this minus base, messages begun before, bytes used, where one begins
_BLOCK = struct.Struct(">IIHIII")
_MESSAGE = struct.Struct(">I")  # bytes
_WRAP = 1 << 32  # of sequence numbers and of message numbers
_NOWHERE = 0xFFFFFFFF
MOST_AHEAD = 256  # that a block may be of the oldest one on its way: 16 processes, 16 transmissions
MOST_BYTES = 1 << 24  # of a message
FEWEST_BYTES = _BLOCK.size + 1  # of a block
SESSIONS = 1 << 32


def _check_bytes(block_bytes: int) -> None:
    if block_bytes < FEWEST_BYTES:
        raise ValueError(
            f"a link needs transport blocks of {FEWEST_BYTES} bytes or more, got {block_bytes}: "
            "more PRBs or a higher MCS make them larger"
        )


@dataclass(frozen=True)
class Frame:
    """What a block holds.

    session: of its transmitter, another one each time it is made. sequence: its number in the
    session, modulo 2^32; padding has that of the block to come. base: of the oldest block that is
    still sent; what is older comes no more. begun: messages that began in earlier blocks, modulo
    2^32. content: empty in padding. first: where in it a message begins, None where none does.
    """

    session: int
    sequence: int
    base: int
    begun: int
    content: bytes
    first: int | None

    @classmethod
    def read(cls, block: bytes) -> "Frame":
        """Raises ValueError where the block is none of a Segmenter's."""
        _check_bytes(len(block))
        session, sequence, ahead, begun, used, first = _BLOCK.unpack_from(block)
        content = block[_BLOCK.size :][:used]
        starts = first == _NOWHERE or first < used
        if len(content) < used or not starts or ahead > MOST_AHEAD:
            raise ValueError("the block holds no frame of a link transmitter")
        base, first = (sequence - ahead) % _WRAP, None if first == _NOWHERE else first
        return cls(session, sequence, base, begun, content, first)


class Segmenter:
    """Queues messages, and fills blocks with them. block_bytes: of a block, FEWEST_BYTES or more.
    session: 0 to 2^32 - 1, see Frame; None: any.

    Raises ValueError where a value is out of range.
    """

    def __init__(self, block_bytes: int, session: int | None = None):
        _check_bytes(block_bytes)
        if session is not None:
            check_whole("session", session, 0, SESSIONS - 1)
        self._session = secrets.randbelow(SESSIONS) if session is None else session
        self._capacity = block_bytes - _BLOCK.size
        self._messages: deque[bytes] = deque()
        self._current = memoryview(b"")  # what is left of a message that has begun
        self._begun = 0  # messages
        self.queued_bytes = 0  # headers included

    def push(self, message: bytes) -> None:
        """Raises ValueError for more than MOST_BYTES."""
        if len(message) > MOST_BYTES:
            raise ValueError(f"a message has at most {MOST_BYTES} bytes, got {len(message)}")
        self._messages.append(_MESSAGE.pack(len(message)) + message)
        self.queued_bytes += _MESSAGE.size + len(message)

    @property
    def fills_a_block(self) -> bool:
        return self.queued_bytes >= self._capacity

    def block(self, sequence: int, base: int) -> bytes:
        """The next block, of zeros where nothing is queued: padding."""
        content, first, begun = bytearray(), _NOWHERE, self._begun
        while len(content) < self._capacity and (self._current or self._messages):
            if not self._current:
                self._current = memoryview(self._messages.popleft())
                first = min(first, len(content))
                self._begun += 1
            part = self._current[: self._capacity - len(content)]
            self._current = self._current[len(part) :]
            content += part
        self.queued_bytes -= len(content)
        numbers = sequence % _WRAP, sequence - base, begun % _WRAP
        header = _BLOCK.pack(self._session, *numbers, len(content), first)
        return header + bytes(content.ljust(self._capacity, b"\0"))


class Reassembler:
    """Takes frames in any order, once or more often, and gives back their messages in order.

    A message that a lost block held a part of is lost. A frame's base says which blocks come no
    more; those that did not come are lost, from the first one of the session on, also where the
    receiver came later. Messages count as lost with the next frame that is read: what it says began
    before and did not arrive. With a frame of another session this one ends: of its blocks and
    messages that are missing those count as lost of which a later block or a part had come.

    session: of the newest frame; None: there was none.
    """

    def __init__(self):
        self.blocks = self.duplicates = self.lost_blocks = 0
        self.messages = self.bytes = self.lost_messages = 0
        self._waiting: dict[int, Frame] = {}
        self._begin(None, 0)

    def _begin(self, session: int | None, base: int) -> None:
        self.session = session
        self.lost_blocks += base
        self._next = base  # block to be read
        self._number = 0  # of the message to be read
        self._text: bytearray | None = None  # from a message's length on; None: until one begins

    def add(self, frame: Frame) -> list[bytes]:
        """The messages that are complete with this frame, or with what it says comes no more."""
        messages = []
        if frame.session != self.session:
            messages += self._read(list(self._waiting))
            self.lost_messages += bool(self._text)
            self._begin(frame.session, frame.base)
        messages += self._read([s for s in self._waiting if _ahead(s, frame.base) < 0])
        self._skip(frame.base)
        if not frame.content:
            if frame.sequence == self._next:
                self._lose_until(frame.begun)
        elif _ahead(frame.sequence, self._next) < 0 or frame.sequence in self._waiting:
            self.duplicates += 1
        else:
            self._waiting[frame.sequence] = frame
        while self._next in self._waiting:
            messages += self._read([self._next])
        return messages

    def _read(self, sequences: list[int]) -> list[bytes]:
        """Of blocks that came; those between them come no more."""
        messages = []
        for sequence in sorted(sequences, key=lambda s: _ahead(s, self._next)):
            self._skip(sequence)
            frame = self._waiting.pop(sequence)
            self._next = (sequence + 1) % _WRAP
            self.blocks += 1
            if self._text is not None:
                self._text += frame.content
            else:
                self._lose_until(frame.begun)
                if frame.first is not None:
                    self._text = bytearray(frame.content[frame.first :])
            messages += self._complete()
        return messages

    def _skip(self, sequence: int) -> None:
        """Blocks before this one come no more."""
        missing = _ahead(sequence, self._next)
        if missing > 0:
            self.lost_blocks += missing
            self._next = sequence
            self._text = None

    def _lose_until(self, number: int) -> None:
        """Messages before this one come no more."""
        self.lost_messages += (number - self._number) % _WRAP
        self._number = number
        self._text = None

    def _complete(self) -> list[bytes]:
        messages, at = [], 0
        while self._text is not None and len(self._text) - at >= _MESSAGE.size:
            (length,) = _MESSAGE.unpack_from(self._text, at)
            if length > MOST_BYTES:  # none of a Segmenter's
                self._text = None
                break
            begin = at + _MESSAGE.size
            if len(self._text) < begin + length:
                break
            at = begin + length
            messages.append(bytes(self._text[begin:at]))
            self.bytes += length
            self._number = (self._number + 1) % _WRAP
        if self._text is not None:
            del self._text[:at]
        self.messages += len(messages)
        return messages


def _ahead(number: int, other: int) -> int:
    """How far a number that wraps is ahead of another one, -2^31 to 2^31 - 1."""
    return (number - other + _WRAP // 2) % _WRAP - _WRAP // 2
