# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that blocks take: what they must be, and how they are read. Anybody may send anything,
from another block or over a socket.

A kind is asked for before each access: what PMT raises holds the text of the whole value, and to
write that of one nested deeply ends the process.
"""

from collections.abc import Iterator, Mapping

import pmt

from deeprx_common import report
from deeprx_common.printable import printable
from deeprx_common.schema import (
    FLAG,
    INDEX,
    LONGEST,
    TEXT,
    Field,
    check,
    number,
    parse_json,
    whole,
)

from .guarded import MessageError

_NS, _SLOTS = whole(10**17), whole(10**6)
STATS = {
    "slot_index": INDEX.of(
        "Of a slot that was received or dropped, or that estimate_error is about.", True
    ),
    "inference_ns": _NS.of("Wall time of its inference, of a batch's its part.", True),
    "cpu_ns": _NS.of("CPU time of the receiver for it, worker threads included.", True),
    "engine_cpu_ns": _NS.of("CPU time of the inference alone.", True),
    "queue_depth": _SLOTS.of("Slots that waited when its batch began, its own too.", True),
    "batch": _SLOTS.of("Slots of its batch.", True),
    "model": TEXT.of("Name of the model that received it.", True),
    "model_sha256": TEXT.of("Of that model's file, hexadecimal; empty: it has none.", True),
    "engine": TEXT.of("What computed: engine, precision, instructions.", True),
    "flop_per_slot": whole(10**17).of("By the model's file; 0: unknown.", True),
    "estimator": TEXT.of(
        "Who estimated its channel and noise, the model or sure-lmmse, where somebody listens to "
        "the port estimates.",
        True,
    ),
    "dropped": TEXT.of("Why the slot was dropped; it has no inference_ns then.", True),
    "model_loaded": TEXT.of("Name of a model that was asked for, once it is loaded.", True),
    "model_error": TEXT.of("Why a model that was asked for is not loaded.", True),
    "model_replaced": TEXT.of("Which request was replaced by a newer one before it began.", True),
    "path": TEXT.of("As it was asked for, with each of these three answers.", True),
    "model_lost": TEXT.of("What happened to the jail of the model that receives.", True),
    "estimate_error": TEXT.of("Why the port estimates lacks a slot that was received.", True),
}
BLOCKS = {
    "slot_index": INDEX.of("Of the slot."),
    "rnti": whole(65535).of("Of the user.", True),
    "process": whole(15).of("Of HARQ.", True),
    "rv": whole(3).of("Redundancy version.", True),
    "new_data": FLAG.of("Whether it was its first transmission.", True),
    "crc_ok": FLAG.of("Whether the block's CRC is right."),
    "iterations": number(0, 1000).of("Of the LDPC decoder, mean over code blocks.", True),
    "transmissions": whole(10**6).of("That were combined.", True),
    "cpu_ns": _NS.of("CPU time of the decoder.", True),
    "dropped": TEXT.of("Why nothing could be decoded.", True),
}
ACKS = {
    "slot_index": INDEX.of("Of the slot."),
    "ack": FLAG.of("Whether its block arrived: the CRC is right."),
    "received": FLAG.of(
        "Whether the decoder kept what came, to combine it; if not, it needs new data.", True
    ),
}
MOST = 1000  # entries of a dictionary, and members of a list, that are looked at


def read_stats(message) -> dict:
    """A message of the receiver's port `stats`: the keys of STATS that it has, texts of any kind
    made printable.

    Raises MessageError where it is none.
    """
    if not pmt.is_dict(message) or pmt.is_null(message):
        raise MessageError(
            f"expected a dictionary of a receiver's port stats, found {shown(message)}"
        )
    fields = _checked(message, STATS, "stats")
    if not fields or ("inference_ns" in fields and "slot_index" not in fields):
        raise MessageError("stats: expected a slot_index, model_loaded or model_error")
    return fields


def read_ack(message) -> dict:
    """A message of link_receiver's port `acks`: the keys of ACKS. Raises MessageError."""
    if not pmt.is_dict(message) or pmt.is_null(message):
        raise MessageError(f"expected a dictionary of a link receiver, found {shown(message)}")
    return _checked(message, ACKS, "acks")


def read_block(message) -> tuple[dict, bytes]:
    """A message of tb_decoder's port `blocks`: the keys of BLOCKS, and the block's bytes. Raises
    MessageError.
    """
    block = read_pdu(message)
    return _checked(pmt.car(message), BLOCKS, "blocks"), block


def pdu(data: bytes, about=None):
    """A PDU of bytes. about: a dictionary (PMT); None: an empty one."""
    about = pmt.make_dict() if about is None else about
    return pmt.cons(about, pmt.init_u8vector(len(data), list(data)))


def read_pdu(message) -> bytes:
    """A PDU's bytes. Raises MessageError where it is none of bytes."""
    if not pmt.is_pair(message) or not pmt.is_u8vector(pmt.cdr(message)):
        raise MessageError(f"expected a PDU of bytes, found {shown(message)}")
    return bytes(pmt.u8vector_elements(pmt.cdr(message)))


def _checked(message, fields: Mapping[str, Field], where: str) -> dict:
    """The keys of a dictionary that are declared."""
    values = {key: _scalar(value) for key, value in _entries(message) if key in fields}
    try:
        check(values, fields, where)
    except ValueError as error:
        raise MessageError(str(error)) from None
    return values


def read_report(message) -> dict:
    """A message of slot_probe's port `report`, a PDU of JSON: the report. Raises MessageError."""
    try:
        sent = parse_json(read_pdu(message).decode())
        report.validate(sent)
    except ValueError as error:
        raise MessageError(f"expected a report as JSON text: {error}") from None
    return sent


def read_events(message) -> list[str]:
    """A message of a usrp_sink's port `async_msgs`: its event codes. Raises MessageError."""
    if not pmt.is_pair(message):
        raise MessageError(f"expected what a usrp_sink says, found {shown(message)}")
    if not pmt.eq(pmt.car(message), pmt.intern("uhd_async_msg")):
        return []
    codes = dict(_entries(pmt.cdr(message))).get("event_code", pmt.PMT_NIL)
    names = [printable(_text(code), LONGEST) for code in _members(codes) if pmt.is_symbol(code)]
    if not names:
        raise MessageError("expected a usrp_sink's event_code, found none")
    return names


def _members(pairs) -> Iterator:
    """Of a list, MOST at most."""
    for _ in range(MOST):
        if not pmt.is_pair(pairs):
            return
        yield pmt.car(pairs)
        pairs = pmt.cdr(pairs)


def _entries(dictionary) -> list[tuple[str, object]]:
    """Keys that are symbols, and their values, the latest last."""
    entries = []
    for entry in _members(dictionary):
        if pmt.is_pair(entry) and pmt.is_symbol(pmt.car(entry)):
            entries.insert(0, (_text(pmt.car(entry)), pmt.cdr(entry)))
    return entries


def shown(message) -> str:
    """What a message is, in a few words."""
    if pmt.is_symbol(message):
        return f"the symbol {printable(_text(message), 60)!r}"
    if pmt.is_number(message) or pmt.is_bool(message):
        return str(message)
    if pmt.is_null(message):
        return "an empty dictionary, an empty list or nil"
    kinds = (
        (pmt.is_dict, "a dictionary"), (pmt.is_pair, "a pair or list"), (pmt.is_tuple, "a tuple"),
        (pmt.is_uniform_vector, "a vector of numbers"), (pmt.is_vector, "a vector"),
    )  # fmt: skip
    return next((name for holds, name in kinds if holds(message)), "something else")


def _text(symbol) -> str:
    try:
        return pmt.symbol_to_string(symbol)
    except UnicodeDecodeError:
        return "a text that is not UTF-8"


class _Other:
    """What is neither a number nor a text, to be refused."""

    def __init__(self, value):
        self._what = shown(value)

    def __repr__(self):
        return self._what


def _scalar(value):
    if pmt.is_symbol(value):
        return printable(_text(value), LONGEST)
    if pmt.is_number(value) or pmt.is_bool(value):
        return pmt.to_python(value)
    return _Other(value)
