# SPDX-License-Identifier: GPL-3.0-or-later
"""link_receiver: decoded transport blocks in, the bytes of a link_transmitter out, in order."""

import threading

import pmt
from gnuradio import gr

from deeprx_common.slot import SlotConfig

from .framing import MOST_AHEAD, Frame, Reassembler
from .guarded import MessageError, SelfKeeping
from .messages import pdu, read_block
from .slot_stream import slot_config

STATUS_SLOTS = 100  # between two messages of status


class link_receiver(SelfKeeping, gr.basic_block):
    """Gives the messages of a link_transmitter back in order, and acknowledges their blocks.

    Message port in `blocks`: of tb_decoder, a PDU for each slot. Message port out `acks`: for each
    a dictionary of slot_index, ack, and received (whether the decoder kept what came). Message port
    out `pdus`: the messages in order, each once. One that a lost block held a part of is missing,
    and counted. Message port out `status`: a dictionary of statistics(), every 100 slots and
    whenever a block was lost.

    A block of another session is of a transmitter that started again: what of the last one is
    complete is given out, the rest is lost.

    slot: for the air time of a slot.
    """

    def __init__(self, slot: SlotConfig):
        super().__init__("Link receiver", None, None)
        self._slot_s = slot_config(slot).slot_s
        self._lock = threading.Lock()
        self._reassembler = Reassembler()
        self._first = self._last = None  # slots
        self._slots = self._block_errors = self._new_blocks = self._first_failures = 0
        self._foreign = 0
        self._before = 0  # slots of transmitters before this one
        self.message_port_register_in(pmt.intern("blocks"))
        self.set_msg_handler(pmt.intern("blocks"), self._on_block)
        for port in ("acks", "pdus", "status"):
            self.message_port_register_out(pmt.intern(port))

    def _on_block(self, message):
        given, block = read_block(message)
        slot_index, crc_ok = given["slot_index"], given["crc_ok"]
        messages, frame, error = [], None, None
        try:
            frame = Frame.read(block) if crc_ok else None
        except ValueError as wrong:
            error = MessageError(f"slot {slot_index}: {wrong}")
        with self._lock:
            lost = self._reassembler.lost_blocks
            self._foreign += error is not None
            if frame and self._reassembler.session not in (None, frame.session):
                self._before += self._last - self._first + 1
                self._first = self._last = None
            self._count(given, frame)
            if frame:
                messages = self._reassembler.add(frame)
            due = self._slots % STATUS_SLOTS == 0 or lost < self._reassembler.lost_blocks
        for text in messages:
            self.message_port_pub(pmt.intern("pdus"), pdu(text))
        self.message_port_pub(pmt.intern("acks"), _ack(slot_index, crc_ok, "dropped" not in given))
        if due:
            self.message_port_pub(pmt.intern("status"), pmt.to_pmt(self.statistics()))
        if error:
            raise error

    def _count(self, given: dict, frame: Frame | None) -> None:
        slot_index, crc_ok = given["slot_index"], given["crc_ok"]
        near = self._first is not None and abs(slot_index - self._last) <= MOST_AHEAD
        if self._first is None or (frame and not near and self._reassembler.session is None):
            self._first = self._last = slot_index
        elif near or frame:  # what was found in noise may say any index
            self._last = max(self._last, slot_index)
        self._slots += 1
        self._block_errors += not crc_ok
        if given.get("new_data", True):
            self._new_blocks += 1
            self._first_failures += not crc_ok

    def statistics(self) -> dict:
        """Counts so far: slots, block_errors (of all transmissions), new_blocks (padding, too) and
        of these first_failures; blocks (delivered), lost_blocks (of the session, that come no more
        and did not arrive), duplicate_blocks, foreign_blocks (that hold no frame); messages, bytes,
        lost_messages (of which a part was in a lost block, once the next one arrives); air_s (of
        the slots from the first to the last one), goodput_bit_per_s (of the messages, over air_s).
        """
        r = self._reassembler
        with self._lock:
            slots = self._before + (0 if self._first is None else self._last - self._first + 1)
            air_s = slots * self._slot_s
            return {
                "slots": self._slots,
                "block_errors": self._block_errors,
                "new_blocks": self._new_blocks,
                "first_failures": self._first_failures,
                "blocks": r.blocks,
                "lost_blocks": r.lost_blocks,
                "duplicate_blocks": r.duplicates,
                "foreign_blocks": self._foreign,
                "messages": r.messages,
                "bytes": r.bytes,
                "lost_messages": r.lost_messages,
                "air_s": air_s,
                "goodput_bit_per_s": 8 * r.bytes / air_s if air_s else 0.0,
            }


def _ack(slot_index: int, ack: bool, received: bool):
    message = pmt.dict_add(pmt.make_dict(), pmt.intern("slot_index"), pmt.from_uint64(slot_index))
    message = pmt.dict_add(message, pmt.intern("ack"), pmt.from_bool(ack))
    return pmt.dict_add(message, pmt.intern("received"), pmt.from_bool(received))
