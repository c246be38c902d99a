# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of any size in blocks of one size, and back, in order, whatever was lost.

A block: a header, messages one behind the other, each behind its own header, zeros to its end. A
message may begin in one block and end in another.
"""

import secrets
import struct
from collections import deque
from dataclasses import dataclass

from deeprx_common.checks import check_range

# Session, sequence number, base, bytes used, where a message first begins
_BLOCK = struct.Struct(">IHHII")
_MESSAGE = struct.Struct(">HI")  # number, bytes
_WRAP = 1 << 16  # of sequence numbers and of message numbers
_NOWHERE = 0xFFFFFFFF
MOST_AHEAD = 256  # that a block may be of the oldest one on its way: 16 processes, 16 transmissions
MOST_BYTES = 1 << 24  # of a message
FEWEST_BYTES = _BLOCK.size + 1  # of a block
SESSIONS = 1 << 32


@dataclass(frozen=True)
class Frame:
    """What a block holds.

    session: of its transmitter, another one each time it is made. sequence: its number, modulo
    2^16; padding has that of the block to come. base: of the oldest block that is still sent; what
    is older comes no more. content: empty in padding. first: where in it a message begins, None
    where none does.
    """

    session: int
    sequence: int
    base: int
    content: bytes
    first: int | None

    @classmethod
    def read(cls, block: bytes) -> "Frame":
        """Raises ValueError where the block is none of a Segmenter's."""
        if len(block) < FEWEST_BYTES:
            raise ValueError(f"expected blocks of {FEWEST_BYTES} bytes or more, got {len(block)}")
        session, sequence, base, used, first = _BLOCK.unpack_from(block)
        content = block[_BLOCK.size :][:used]
        starts = first == _NOWHERE or first < used
        if len(content) < used or not starts or not 0 <= _ahead(sequence, base) <= MOST_AHEAD:
            raise ValueError("the block holds no frame of a link transmitter")
        return cls(session, sequence, base, content, None if first == _NOWHERE else first)


class Segmenter:
    """Queues messages, and fills blocks with them. block_bytes: of a block, FEWEST_BYTES or more.
    session: 0 to 2^32 - 1, see Frame; None: any.

    Raises ValueError where a value is out of range.
    """

    def __init__(self, block_bytes: int, session: int | None = None):
        check_range("block_bytes", block_bytes, FEWEST_BYTES)
        if session is not None:
            check_range("session", session, 0, SESSIONS - 1)
        self._session = secrets.randbelow(SESSIONS) if session is None else session
        self._capacity = block_bytes - _BLOCK.size
        self._messages: deque[bytes] = deque()
        self._current = memoryview(b"")  # what is left of a message that has begun
        self._number = 0
        self.queued_bytes = 0  # headers included

    def push(self, message: bytes) -> None:
        """Raises ValueError for more than MOST_BYTES."""
        if len(message) > MOST_BYTES:
            raise ValueError(f"a message has at most {MOST_BYTES} bytes, got {len(message)}")
        self._messages.append(_MESSAGE.pack(self._number, len(message)) + message)
        self._number = (self._number + 1) % _WRAP
        self.queued_bytes += _MESSAGE.size + len(message)

    def block(self, sequence: int, base: int) -> bytes:
        """The next block, of zeros where nothing is queued: padding."""
        content, first = bytearray(), _NOWHERE
        while len(content) < self._capacity and (self._current or self._messages):
            if not self._current:
                self._current = memoryview(self._messages.popleft())
                first = min(first, len(content))
            part = self._current[: self._capacity - len(content)]
            self._current = self._current[len(part) :]
            content += part
        self.queued_bytes -= len(content)
        header = _BLOCK.pack(
            self._session, sequence % _WRAP, base % _WRAP, len(content), first
        )
        return header + bytes(content.ljust(self._capacity, b"\0"))


class Reassembler:
    """Takes frames in any order, once or more often, and gives back their messages in order.

    A message that a lost block held a part of is lost. A frame's base says which blocks come no
    more; those that did not come are lost. With a frame of another session a new transmission
    begins.

    session: of the newest frame; None: there was none.
    """

    def __init__(self):
        self.blocks = self.duplicates = self.lost_blocks = 0
        self.messages = self.bytes = self.lost_messages = 0
        self._restart(None)

    def _restart(self, session: int | None) -> None:
        self.session = session
        self._next: int | None = None  # block to be read
        self._waiting: dict[int, Frame] = {}
        self._begin(None)

    def _begin(self, number: int | None) -> None:
        self._number = number  # of the next message
        self._text: bytearray | None = None  # from a message's header on; None: until one begins

    def add(self, frame: Frame) -> list[bytes]:
        """The messages that are complete with this frame."""
        if frame.session != self.session:
            self._restart(frame.session)
            self._next = frame.base
            self._begin(0 if frame.base == 0 else None)
        messages = []
        for _ in range(_ahead(frame.base, self._next)):
            messages += self._read_next()
        if frame.content:
            if _ahead(frame.sequence, self._next) < 0 or frame.sequence in self._waiting:
                self.duplicates += 1
            else:
                self._waiting[frame.sequence] = frame
        while self._next in self._waiting:
            messages += self._read_next()
        return messages

    def _read_next(self) -> list[bytes]:
        frame = self._waiting.pop(self._next, None)
        self._next = (self._next + 1) % _WRAP
        if frame is None:
            self.lost_blocks += 1
            self._text = None
            return []
        self.blocks += 1
        if self._text is not None:
            self._text += frame.content
        elif frame.first is not None:
            self._text = bytearray(frame.content[frame.first :])
        return self._complete()

    def _complete(self) -> list[bytes]:
        messages, at = [], 0
        while self._text is not None and len(self._text) - at >= _MESSAGE.size:
            number, length = _MESSAGE.unpack_from(self._text, at)
            if length > MOST_BYTES:  # none of a Segmenter's
                self._text = None
                break
            begin = at + _MESSAGE.size
            if len(self._text) < begin + length:
                break
            at = begin + length
            messages.append(bytes(self._text[begin:at]))
            self.bytes += length
            if self._number is not None:
                self.lost_messages += (number - self._number) % _WRAP
            self._number = (number + 1) % _WRAP
        if self._text is not None:
            del self._text[:at]
        self.messages += len(messages)
        return messages


def _ahead(number: int, other: int) -> int:
    """How far a number that wraps is ahead of another one, -2^15 to 2^15 - 1."""
    return (number - other + _WRAP // 2) % _WRAP - _WRAP // 2
