# SPDX-License-Identifier: GPL-3.0-or-later
"""link_transmitter: bytes in, transport blocks out, until the other end has them."""

import threading
import time

import numpy as np
import pmt
from gnuradio import gr

from deeprx_common.checks import check_above
from deeprx_common.slot import SlotConfig

from ..deeprx_python import message_port_in, message_port_out
from .framing import Segmenter
from .guarded import MessageError, SelfKeeping
from .harq import HarqSender, Transmission
from .messages import pdu, read_ack, read_pdu
from .slot_stream import slot_config

MOST_QUEUED = 1 << 26  # bytes of messages that wait
STREAM_QUEUED = 1 << 18  # at which a stream waits
STREAM_PDU = 1024  # bytes of a message that a stream is cut into, for UDP
STATUS_SLOTS = 100  # between two messages of status


class _link_sender(SelfKeeping, gr.basic_block):
    """The messages. What is sent is decided here, in whichever thread something has come."""

    def __init__(self, segmenter: Segmenter, transmissions: int, timeout_s: float):
        check_above("timeout_s", timeout_s, 0, "s")
        super().__init__("Link transmitter", None, None)
        self._segmenter = segmenter
        self._harq = HarqSender(self._segmenter, transmissions=transmissions)
        self._timeout_s = timeout_s
        self._lock = threading.Condition()
        self._progress = time.monotonic()
        self._bytes = self._dropped = 0
        self._rest = b""  # of a stream, no whole message yet
        self._reported = 0  # slots, when status was last published
        self._unheard = 0  # ends, of which the log has a line
        self._ended = threading.Event()
        self._ended.set()
        for port, handler in (("pdus", self._on_pdu), ("acks", self._on_ack)):
            self.message_port_register_in(pmt.intern(port))
            self.set_msg_handler(pmt.intern(port), handler)
        for port in ("blocks", "status"):
            self.message_port_register_out(pmt.intern(port))

    def start(self):
        self._ended.clear()
        self._timer = threading.Thread(target=self._watch, daemon=True)
        self._timer.start()
        with self._lock:
            self._send()
        return super().start()

    def stop(self):
        self._ended.set()
        self._timer.join()
        return super().stop()

    def push(self, *messages: bytes) -> None:
        """Raises ValueError where there is no room. Until the flowgraph runs, they wait."""
        with self._lock:
            for message in messages:
                try:
                    if self._segmenter.queued_bytes + len(message) > MOST_QUEUED:
                        raise ValueError(f"{MOST_QUEUED} bytes wait to be sent: a PDU is dropped")
                    self._segmenter.push(message)
                except ValueError:
                    self._dropped += 1
                    raise
                self._bytes += len(message)
            if not self._ended.is_set():
                self._send()

    def push_stream(self, data: bytes) -> None:
        """What comes next of a stream. Its messages are cut at its own places, wherever calls cut
        it, while what waits fills blocks; else what there is goes at once.
        """
        with self._lock:
            self._bytes += len(data)
            self._rest += data
            while len(self._rest) >= STREAM_PDU:
                self._segmenter.push(self._rest[:STREAM_PDU])
                self._rest = self._rest[STREAM_PDU:]
            if not self._ended.is_set():
                self._send()

    def wait_for_room(self, seconds: float) -> bool:
        """Whether a stream may give more, after so long at most."""
        with self._lock:
            return self._lock.wait_for(
                lambda: self._segmenter.queued_bytes < STREAM_QUEUED, seconds
            )

    def statistics(self) -> dict:
        harq = self._harq
        with self._lock:
            return {
                "bytes": self._bytes,
                "slots": harq.slots,
                "blocks": harq.blocks,
                "first_failures": harq.first_failures,
                "retransmissions": harq.retransmissions,
                "acknowledged": harq.acknowledged,
                "lost_blocks": harq.lost,
                "unheard_ends": harq.unheard_ends,
                "unreported_slots": harq.unreported,
                "padding_slots": harq.padding,
                "processes": harq.processes,
                "queued_bytes": self._segmenter.queued_bytes + len(self._rest),
                "dropped_pdus": self._dropped,
            }

    def idle(self) -> bool:
        with self._lock:
            return self._harq.idle and not self._segmenter.queued_bytes and not self._rest

    def _on_pdu(self, message):
        try:
            self.push(read_pdu(message))
        except ValueError as error:
            raise MessageError(str(error)) from None

    def _on_ack(self, message):
        ack = read_ack(message)
        with self._lock:
            self._progress = time.monotonic()
            self._harq.verdict(ack["slot_index"], ack["ack"], ack.get("received", True))
            self._send()

    def _send(self) -> None:
        while transmission := self._next():
            self._progress = time.monotonic()
            self.message_port_pub(pmt.intern("blocks"), _pdu(transmission))
        self._lock.notify_all()
        if self._unheard < self._harq.unheard_ends:
            self._unheard = self._harq.unheard_ends
            self.logger.warn(
                "the last blocks were lost, and so was all that would have told the receiver: "
                "nothing more is sent until there is data"
            )
        slots = self._harq.slots
        if slots >= self._reported + STATUS_SLOTS or (slots > self._reported and self.idle()):
            self._reported = slots
            self.message_port_pub(pmt.intern("status"), pmt.to_pmt(self.statistics()))

    def _next(self) -> Transmission | None:
        if self._rest and not self._segmenter.fills_a_block:
            self._segmenter.push(self._rest)
            self._rest = b""
        return self._harq.next()

    def _watch(self) -> None:
        while not self._ended.wait(self._timeout_s / 8):
            with self._lock:
                if self.idle() or time.monotonic() - self._progress < self._timeout_s:
                    continue
                if self._harq.grow():
                    self.logger.warn(
                        f"no ACK for {self._timeout_s:g} s: {self._harq.processes} HARQ processes "
                        "from here on, as the chain may hold back so many slots"
                    )
                elif (slot_index := self._harq.expire()) is not None:
                    self.logger.warn(
                        f"slot {slot_index} counts as lost: no ACK for {self._timeout_s:g} s; if "
                        f"this goes on, the chain holds back {self._harq.processes} slots or more"
                    )
                self._send()


def _pdu(sent: Transmission):
    meta = pmt.make_dict()
    for key, value in (
        ("slot_index", pmt.from_uint64(sent.slot_index)),
        ("process", pmt.from_long(sent.process)),
        ("rv", pmt.from_long(sent.rv)),
        ("new_data", pmt.from_bool(sent.new_data)),
    ):
        meta = pmt.dict_add(meta, pmt.intern(key), value)
    return pdu(sent.block, meta)


class _byte_sink(SelfKeeping, gr.sync_block):
    """Hands a stream on, and lets it wait where enough of it waits."""

    def __init__(self, sender: _link_sender):
        super().__init__("Link transmitter's bytes", [np.uint8], None)
        self._sender = sender

    def work(self, input_items, output_items):
        if not self._sender.wait_for_room(0.1):
            return 0
        self._sender.push_stream(input_items[0].tobytes())
        return len(input_items[0])


class link_transmitter(gr.hier_block2):
    """Sends bytes in transport blocks until the link_receiver at the other end has them.

    Messages (PDUs) are framed with length and number, segmented and padded into blocks. A block is
    sent by stop-and-wait HARQ, with redundancy versions 0, 2, 3, 1, until its ACK comes or it was
    sent `transmissions` times: then it is lost, and counted. See HarqSender: 8 processes take turns
    in the slots, and each waits for the verdict on its last one.

    Message port in `pdus`: PDUs of bytes, e.g. of a Socket PDU; metadata is not sent. Input 0, with
    bytes_input: a stream of bytes, which is sent as messages of 1024 bytes at most, and waits for
    the link. Message port in `acks`: of link_receiver. Message port out `blocks`: to the port
    `pdus` of tb_source, whose slots must all be of this link. Message port out `status`: a
    dictionary of statistics(), every 100 slots and when all is delivered.

    send() queues a message from Python, also before the flowgraph runs.

    While there is nothing to send it sends nothing: what follows then waits for nothing. Where no
    verdict comes for timeout_s, there are 16 processes from then on, for a chain that holds back 8
    slots or more; where none comes then, as when the chain lost all slots under way, the oldest one
    counts as lost. The log has a line of either, and of an end that the receiver does not hear of:
    the last blocks were lost, and so was the padding behind them, which is sent as often as they.

    slot: whose blocks of user `layer` are filled. transmissions: of a block at most, 1 to 16.
    session: 0 to 2^32 - 1, is in every block, and tells the receiver of one transmitter from the
    next; None: any. One number makes runs repeat to the bit.

    Raises ValueError where a value is out of range, or the slot's block is too small for a frame.
    """

    def __init__(
        self,
        slot: SlotConfig,
        layer: int = 0,
        transmissions: int = 4,
        bytes_input: bool = False,
        timeout_s: float = 5.0,
        session: int | None = None,
    ):
        gr.hier_block2.__init__(
            self,
            "Link transmitter",
            gr.io_signature(int(bytes_input), int(bytes_input), gr.sizeof_char),
            gr.io_signature(0, 0, 0),
        )
        block_bytes = slot_config(slot).transport_block_size(layer) // 8
        segmenter = Segmenter(block_bytes, session)
        self._sender = _link_sender(segmenter, transmissions, timeout_s)
        for port in ("pdus", "acks"):
            message_port_in(self, port, self._sender)
        for port in ("blocks", "status"):
            message_port_out(self, port, self._sender)
        if bytes_input:
            self._bytes = _byte_sink(self._sender)
            self.connect(self, self._bytes)

    def send(self, message: bytes) -> None:
        """Queue a message like one that comes on `pdus`. Raises ValueError where it has no room, or
        is none of bytes.
        """
        if not isinstance(message, (bytes, bytearray, memoryview)):
            raise ValueError(f"a message must be bytes, got {type(message).__name__}")
        self._sender.push(bytes(message))

    def statistics(self) -> dict:
        """Counts so far: bytes of messages; slots and padding_slots; blocks, and of these
        first_failures (of their first transmissions), acknowledged, and lost_blocks (given up
        without an ACK, which may be what was lost);
        retransmissions, unreported_slots; unheard_ends (times that the last blocks were lost and
        the receiver could not be told); queued_bytes, dropped_pdus (too long, or the queue full);
        and how many HARQ processes there are.
        """
        return self._sender.statistics()

    def idle(self) -> bool:
        """Whether the other end has all that was given so far, or knows that it is lost, or cannot
        be told, see unheard_ends.
        """
        return self._sender.idle()
