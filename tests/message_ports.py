# SPDX-License-Identifier: GPL-3.0-or-later
"""Every message port that takes something, what anybody may send there, and what a monitor makes of
a message: for tests and campaigns.
"""

import io
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from copy import deepcopy

import pmt
from gnuradio import blocks, deeprx, gr
from gnuradio import pdu as pdus
from gnuradio.deeprx.blocks.guarded import raise_failure
from gnuradio.deeprx.blocks.messages import pdu, read_block, read_stats
from gnuradio.deeprx.cli import monitor
from gnuradio.deeprx.radio.uhd import timed_burst
from gnuradio.deeprx.telemetry.prometheus import Metrics
from gnuradio.deeprx.telemetry.pubsub import SCHEMA, parse
from gnuradio.deeprx.telemetry.source import Source
from rich.console import Console
from slots import slot_of
from telemetry_reports import report_of

from deeprx_common.slot import SlotConfig, User

SLOT = {"n_prb": 6, "modulation": "QPSK"}
LINK_SLOT = SlotConfig(n_prb=6, users=(User(mcs=14),))


class _Clock:
    def get_time_now(self):
        return self

    def get_full_secs(self):
        return 1000

    def get_frac_secs(self):
        return 0.5


def _probe():
    probe = deeprx.slot_probe(meter="none", every_slots=0, slot=slot_of(**SLOT))
    return probe, probe._llrs


def _alone(block):
    return block, block


def _display():
    """Needs Qt, which others here do not."""
    from gnuradio.deeprx.blocks.report_display import report_display
    from PyQt5 import QtWidgets

    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    qt = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    display = report_display()
    display.qt = qt
    return display, display


def _link_transmitter():
    """Of which slot 0 is under way."""
    transmitter = deeprx.link_transmitter(LINK_SLOT)
    transmitter._sender.push(b"x")
    return transmitter, transmitter._sender


# name: makes a block, and the block in it that has the port
PORTS: dict[str, Callable] = {
    "slot_probe.stats": _probe,
    "receiver_controller.stats": lambda: _alone(
        deeprx.receiver_controller(["baseline-lmmse.pt", "baseline-sure.pt"])
    ),
    "timed_burst.async_msgs": lambda: _alone(timed_burst(0, _Clock())),
    "slot_probe.blocks": _probe,
    "tb_source.pdus": lambda: _alone(deeprx.tb_source(LINK_SLOT, seed=None)),
    "tb_decoder.grants": lambda: _alone(deeprx.tb_decoder(LINK_SLOT)),
    "link_transmitter.pdus": _link_transmitter,
    "link_transmitter.acks": _link_transmitter,
    "link_receiver.blocks": lambda: _alone(deeprx.link_receiver(LINK_SLOT)),
    "link_receiver.system": lambda: _alone(deeprx.link_receiver(LINK_SLOT)),
    "report_display.report": _display,
    "receiver.model": lambda: _alone(deeprx.receiver("baseline-lmmse", slot=slot_of(**SLOT))),
}


# What a block says on other ports
TELLS = {
    "link_receiver.blocks": ["status", "acks"],
    "link_transmitter.acks": ["status"],
    "link_transmitter.pdus": ["status"],
    "receiver.model": ["stats"],
    "tb_decoder.grants": ["blocks"],
}


def post(name: str, handler, message) -> None:
    """Send a message to a port of PORTS; its block handles it when the flowgraph runs."""
    handler._post(pmt.intern(name.partition(".")[2]), message)


def connect(top, name: str, block, source=None) -> None:
    """With a source, or zeros, on all inputs of a block, and nobody behind its output."""
    signature = block.input_signature()
    if not signature.max_streams() + block.output_signature().max_streams():
        silent = pdus.pdu_set(pmt.PMT_NIL, pmt.PMT_NIL)
        top.msg_connect(silent, "pdus", block, name.partition(".")[2])
    for port in range(signature.min_streams()):
        size = signature.sizeof_stream_item(0)
        throttle = blocks.throttle(size, 1e3)
        throttle.set_max_noutput_items(100)  # for whose time it sleeps, whoever stops
        zeros = blocks.null_source(size), throttle
        top.connect(*([source] if source else zeros), (block, port))
    if block.output_signature().min_streams():
        top.connect(block, blocks.null_sink(block.output_signature().sizeof_stream_item(0)))


def storm(name: str) -> None:
    """Send all messages() to a port of PORTS in a flowgraph that runs, then a good one, and say
    "done" where the block has taken that.
    """
    block, handler = PORTS[name]()
    of_block = name.partition(".")[0]
    here = {*pmt.to_python(handler.to_basic_block().message_ports_in())} - {"system"}
    assert {f"{of_block}.{port}" for port in here} <= {*PORTS}
    top = gr.top_block()
    sender = pdus.pdu_to_tagged_stream(gr.types.float_t) if name == "tb_decoder.grants" else None
    connect(top, name, block, sender)
    told = blocks.message_debug()
    for port in TELLS.get(name, ()):
        top.msg_connect(block, port, told, "store")
    top.start()
    for k, (_, message) in enumerate(messages()):
        post(name, handler, message)
        if k % 20 == 0:
            _handled(name, handler)
    good, taken = _good(name, block, told)
    post(name, handler, good)
    _handled(name, handler)
    raise_failure(top)
    if sender:
        n_bits = LINK_SLOT.n_bits
        slot = pmt.cons(dictionary(slot_index=2**40), pmt.init_f32vector(n_bits, [0.0] * n_bits))
        sender._post(pmt.intern("pdus"), slot)
    deadline = time.monotonic() + 60
    while not taken():
        assert time.monotonic() < deadline, "the good message is not taken"
        time.sleep(0.01)
    top.stop()
    top.wait()
    print("done")


def _handled(name: str, handler) -> None:
    deadline = time.monotonic() + 20
    while handler.nmsgs(pmt.intern(name.partition(".")[2])):
        assert time.monotonic() < deadline, "messages are not handled"
        time.sleep(0.01)


def _good(name: str, block, told) -> tuple[object, Callable[[], bool]]:
    """A message that the port can use, and whether it did."""
    if name == "slot_probe.stats":
        good = dictionary(slot_index=2**40, inference_ns=1, model="good")
        return good, lambda: block.report()["points"][0]["receiver"] == "good"
    if name == "receiver_controller.stats":
        return dictionary(slot_index=2**40, inference_ns=1), lambda: 2**40 in block._models
    if name == "link_receiver.system":  # a neighbour has ended: so does a block without streams
        ended = threading.Event()
        block.stop = lambda: ended.set() or True
        return pmt.cons(pmt.intern("done"), pmt.from_long(1)), ended.is_set
    if name == "timed_burst.async_msgs":
        codes = dictionary(event_code=pmt.list1(pmt.intern("good")))
        event = pmt.cons(pmt.intern("uhd_async_msg"), codes)
        return event, lambda: block.events["good"] == 1
    if name == "slot_probe.blocks":
        good = dictionary(slot_index=2**40, crc_ok=False)
        decided = block.statistics.block_clusters
        return pmt.cons(good, pmt.cdr(SCALARS["PDU"])), lambda: 2**40 // 100 in decided.clusters
    if name == "tb_source.pdus":
        n_bytes = LINK_SLOT.transport_block_size() // 8
        good = pmt.cons(dictionary(), pmt.init_u8vector(n_bytes, [1] * n_bytes))
        return good, lambda: block.nitems_written(0) == n_bytes
    if name == "tb_decoder.grants":
        return dictionary(slot_index=2**40, rv=2), lambda: (2**40, 2) in _decoded(told)
    if name == "report_display.report":
        good = pdu(json.dumps(report_of(receiver="good")).encode())
        return good, lambda: block.qt.processEvents() or "good" in block.widget._latest
    if name == "link_transmitter.pdus":
        queued = block.statistics()["queued_bytes"]
        return SCALARS["PDU"], lambda: block.statistics()["queued_bytes"] > queued
    if name == "link_transmitter.acks":
        good = dictionary(slot_index=0, ack=True)
        return good, lambda: block.statistics()["acknowledged"] == 1
    if name == "link_receiver.blocks":
        good = dictionary(slot_index=2**40, crc_ok=False)
        taken = dictionary(slot_index=pmt.from_uint64(2**40), ack=False, received=True)
        return pmt.cons(good, pmt.cdr(SCALARS["PDU"])), lambda: any(
            pmt.equal(taken, heard) for heard in _heard(told)
        )
    return pmt.intern(deeprx.model_path("baseline-sure")), lambda: "baseline-sure" in _loaded(told)


def _heard(told) -> list:
    return [told.get_message(k) for k in range(told.num_messages())]


def _loaded(told) -> list[str]:
    """Models that a receiver's stats say to have been loaded."""
    heard = map(read_stats, _heard(told))
    return [stats["model_loaded"] for stats in heard if "model_loaded" in stats]


def _decoded(told) -> list[tuple[int, int]]:
    """Slots that a decoder had LLRs of, and their redundancy versions."""
    heard = [about for about, _ in map(read_block, _heard(told))]
    return [(about["slot_index"], about["rv"]) for about in heard if "dropped" not in about]


def dictionary(**fields):
    entries = pmt.make_dict()
    for key, value in fields.items():
        value = value if isinstance(value, pmt.pmt_base) else pmt.to_pmt(value)
        entries = pmt.dict_add(entries, pmt.intern(key), value)
    return entries


def nested(levels: int):
    """PMT's own text of so deep a message ends the process."""
    message = pmt.PMT_NIL
    for _ in range(levels):
        message = pmt.cons(message, pmt.PMT_NIL)
    return message


SCALARS = {
    "nil": pmt.PMT_NIL,
    "true": pmt.PMT_T,
    "zero": pmt.from_long(0),
    "negative": pmt.from_long(-1),
    "largest": pmt.from_uint64(2**64 - 1),
    "nan": pmt.from_double(float("nan")),
    "infinity": pmt.from_double(float("inf")),
    "fraction": pmt.from_double(0.5),
    "huge": pmt.from_double(1e300),
    "complex": pmt.from_complex(1j),
    "text": pmt.intern("soon"),
    "empty text": pmt.intern(""),
    "escape": pmt.intern("\x1b[2J\x1b]0;owned\x07\nsecond line"),
    "long text": pmt.intern("x" * 10_000),
    "no UTF-8": pmt.intern(b"\xff\xfe"),
    "empty dictionary": pmt.make_dict(),
    "pair": pmt.cons(pmt.PMT_T, pmt.from_long(3)),
    "list": pmt.list2(pmt.PMT_T, pmt.PMT_NIL),
    "tuple": pmt.make_tuple(pmt.from_long(1), pmt.PMT_NIL),
    "vector": pmt.make_vector(3, pmt.PMT_NIL),
    "numbers": pmt.init_f64vector(2, [float("nan"), 1.0]),
    "PDU": pmt.cons(pmt.make_dict(), pmt.init_u8vector(3, [1, 2, 3])),
    "nested": nested(50_000),
}
_KEYS = (
    "slot_index", "inference_ns", "cpu_ns", "queue_depth", "flop_per_slot", "model", "model_sha256",
    "engine", "dropped", "model_error", "path", "at_slot", "ack", "received", "rnti", "rv",
)  # fmt: skip
_GOOD = {"slot_index": 1, "inference_ns": 1000}


def messages() -> Iterator[tuple[str, object]]:
    """Each scalar alone, and under each key of a message that would be good without; reports."""
    yield from SCALARS.items()
    for k in range(100):
        yield f"report {k}", pdu(mutated(random.Random(k), report_of()))
    for key in _KEYS:
        for name, value in SCALARS.items():
            yield f"{key}: {name}", dictionary(**_GOOD | {key: value})
    for name, value in SCALARS.items():
        yield f"key {name}", pmt.dict_add(dictionary(**_GOOD), value, value)
        event = pmt.cons(pmt.intern("uhd_async_msg"), dictionary(event_code=pmt.list1(value)))
        yield f"event {name}", event
        for key in ("slot_index", "crc_ok", "new_data", "process", "iterations", "cpu_ns"):
            good = {"slot_index": 1, "crc_ok": True, key: value}
            yield f"block's {key} {name}", pmt.cons(dictionary(**good), pmt.cdr(SCALARS["PDU"]))


def monitored(data: bytes, source: Source | None = None) -> str:
    """What a monitor shows of a message in all its ways. Raises ValueError, one line, where it is
    refused.
    """
    source = source or Source("tcp://127.0.0.1:5599")
    source.take(parse(data), time.monotonic())
    console = Console(file=io.StringIO(), width=100)
    console.print(monitor._panel(source, 100))
    list(Metrics([source]).collect())
    return f"{console.file.getvalue()}\n{monitor._line(source)}\n{monitor._as_json(source)}"


def telemetry(point: object = None, **changes) -> dict:
    """A good message; point: in place of its point, or of some of its keys."""
    fields = {"schema": SCHEMA, "source": "s", "run": "r", "sequence": 0, "time_s": 1.0} | changes
    sent = report_of(slots_by_model={"a": 3}, dropped_slots={"NaN": 1}) | {"telemetry": fields}
    if isinstance(point, dict):
        point = sent["points"][0] | point
    return sent if point is None else sent | {"points": [point]}


BAD = [
    None, True, 0, -1, 0.5, 1e300, -1e300, 10**400, 2**64, 2**63, 1e-300, float("inf"),
    float("nan"), "", "x", "\x1b[2J", "a\nb", "\ud800", "\u202e", "[/red]", "x" * 5000, [], [1],
    [2, 1], ["a"], [[]], {}, {"a": 1}, {"\x1b[2J": 1}, {"a": "\x1b[2J"},
]  # fmt: skip


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Where the parts of a JSON value are."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, member in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(member, (*path, key))


def changed(value: dict, path: tuple, to: object) -> dict:
    """A copy with another value at one place."""
    value = deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = deepcopy(to)
    return value


def mutated(rng: random.Random, value: dict) -> bytes:
    """A message with one to three places changed, or bytes of it."""
    for _ in range(rng.randint(1, 3)):
        value = changed(value, rng.choice(list(places(value))), rng.choice(BAD))
    data = bytearray(json.dumps(value).encode())
    for _ in range(rng.choice((0, 0, 1, 5))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)
