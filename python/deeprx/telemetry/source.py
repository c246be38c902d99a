# SPDX-License-Identifier: GPL-3.0-or-later
"""A publisher as its messages tell of it."""

from collections import deque

from .pubsub import Message

HISTORY = 30  # messages
LEAST_S = 1e-6  # between two messages of which a rate can be told
STALE_S = 5.0  # of silence, at least, before a source counts as stale


class Source:
    """One publisher as its messages tell of it. now: seconds of a clock that never goes back."""

    def __init__(self, address: str):
        self.address = address
        self.message: Message | None = None
        self.dropped = 0  # messages that came too fast for this subscriber
        self.unreadable = 0  # messages
        self.complaint = ""  # about the last one
        self.restarts = 0
        self.ber: deque[float | None] = deque(maxlen=HISTORY)  # between messages
        self.slots_per_s: deque[float | None] = deque(maxlen=HISTORY)
        self.p99_s: deque[float | None] = deque(maxlen=HISTORY)
        self._heard = 0.0
        self._pause = 0.0  # between the last two messages

    def take(self, message: Message, now: float) -> None:
        last, self.message = self.message, message
        self._pause, self._heard = now - self._heard if last else 0.0, now
        point = message.point
        before = {"slots": 0, "bits": 0, "bit_errors": 0}
        same_run = last is not None and last.run == message.run
        self.restarts += last is not None and not same_run
        if same_run and last.point["slots"] <= point["slots"]:  # else another point began
            before = last.point
        bits = point["bits"] - before["bits"]
        self.ber.append((point["bit_errors"] - before["bit_errors"]) / bits if bits else None)
        took = message.time_s - last.time_s if same_run else 0
        slots = point["slots"] - before["slots"]
        self.slots_per_s.append(slots / took if took > LEAST_S else None)
        self.p99_s.append(point["inference_s_per_slot"]["p99"])

    def status(self, now: float) -> str:
        """waiting: nothing came yet; stale: silent for three times its pace; or live."""
        if self.message is None:
            return "waiting"
        silent = now - self._heard
        return "stale" if silent > max(STALE_S, 3 * self._pause) else "live"

    def silent_s(self, now: float) -> float:
        return now - self._heard
