# SPDX-License-Identifier: GPL-3.0-or-later
"""Anybody may post anything to any port of a C++ block: it is refused in a line, and it goes on."""

import time

import numpy as np
import pmt
import pytest
import receiver_models as models
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx import deeprx_python

CONFIG = deeprx.SlotConfig(n_prb=6)


def nested(depth):
    value = pmt.PMT_NIL
    for _ in range(depth):
        value = pmt.cons(value, pmt.PMT_NIL)
    return value


MESSAGES = [
    pmt.PMT_NIL,
    pmt.PMT_EOF,
    pmt.PMT_T,
    pmt.from_long(7),
    pmt.from_uint64(2**64 - 1),
    pmt.from_double(float("nan")),
    pmt.from_double(1e308),
    pmt.from_complex(float("inf"), 0),
    pmt.intern(""),
    pmt.intern("x" * 10**6),
    pmt.intern("\x1b]0;title\x07\n\x1b[31m/etc/passwd"),
    pmt.intern("/tmp"),
    pmt.intern("/dev/zero"),
    pmt.cons(pmt.PMT_NIL, pmt.PMT_NIL),
    pmt.cons(pmt.intern("path"), pmt.intern("m.pt")),
    pmt.cons(pmt.from_long(1), pmt.from_long(2)),
    nested(50_000),
    pmt.cons(pmt.intern("done"), nested(50_000)),
    pmt.cons(pmt.intern("done"), pmt.intern("1")),
    pmt.cons(pmt.intern("done"), pmt.from_double(float("nan"))),
    pmt.make_dict(),
    pmt.to_pmt({"path": 7}),
    pmt.to_pmt({"path": "\x1b[31m", "at_slot": 2**62}),
    pmt.to_pmt({"path": "m.pt", "at_slot": "1"}),
    pmt.to_pmt({"path": "m.pt", "at_slot": float("nan")}),
    pmt.to_pmt({"path": "m.pt", "at_slot": -1}),
    pmt.make_tuple(pmt.PMT_NIL, pmt.PMT_NIL),
    pmt.make_vector(10**5, pmt.PMT_NIL),
    pmt.init_u8vector(10**6, [0x1B] * 10**6),
    pmt.init_f32vector(2, [float("nan"), 1.0]),
]


def receiver(tmp_path):
    block = deeprx.receiver(
        models.save(models.Constant(1.0), tmp_path / "m.pt"), slot=CONFIG, n_rx=1
    )
    tags = [gr.tag_utils.python_to_tag((0, pmt.intern("packet_len"), pmt.from_long(14)))]
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(14 * CONFIG.fft_size, 2)).astype(np.float32).view(np.complex64)
    source = blocks.vector_source_c(samples.ravel().tolist(), True, CONFIG.fft_size, tags)
    return source, block, gr.sizeof_float


def slot_gate(tmp_path):
    tags = [gr.tag_utils.python_to_tag((0, pmt.intern("packet_len"), pmt.from_long(100)))]
    source = blocks.vector_source_b([1] * 100, True, 1, tags)
    return source, deeprx_python.slot_gate(100, {"packet_len": 100}), 1


def slot_cutter(tmp_path):
    source = blocks.vector_source_c([1.0] * 1000, True)
    return source, deeprx_python.slot_cutter(64, [[8] * 14], 1, 0, 0), 64 * gr.sizeof_gr_complex


def symbol_ifft(tmp_path):
    source = blocks.vector_source_c([1.0] * 640, True, 64)
    return source, deeprx_python.symbol_ifft(64), 64 * gr.sizeof_gr_complex


def tdl_fader(tmp_path):
    fading = deeprx_python.tdl_fading([[1.0]], [1.0], False, 1, 1e-4, 1, 0, 8)
    fader = deeprx_python.tdl_fader(fading, burst_slots=1, tags=True)
    return blocks.vector_source_c([1.0] * 1000, True), fader, gr.sizeof_gr_complex


@pytest.mark.parametrize("make", [receiver, slot_gate, slot_cutter, symbol_ifft, tdl_fader])
def test_a_block_goes_on_whatever_is_posted(make, tmp_path, capfd):
    source, block, item_size = make(tmp_path)
    flowgraph, sink = gr.top_block(), blocks.null_sink(item_size)
    flowgraph.connect(source, block, sink)
    basic = block.to_basic_block()
    ports = pmt.to_python(basic.message_ports_in())

    def wait_for_items():
        before, deadline = sink.nitems_read(0), time.monotonic() + 20
        while sink.nitems_read(0) <= before:
            assert time.monotonic() < deadline, "it came to a halt"
            time.sleep(0.01)

    flowgraph.start()
    wait_for_items()
    for port in ports:
        for message in MESSAGES:
            basic._post(pmt.intern(port), message)
    time.sleep(0.5)
    wait_for_items()
    flowgraph.stop()
    flowgraph.wait()
    time.sleep(0.2)  # the logger has a thread of its own
    text = "".join(capfd.readouterr())
    assert "\x1b]" not in text and "\x1b[31m/" not in text
    assert max(map(len, text.splitlines()), default=0) < 1300
    if make is receiver:
        assert ports == ["system", "model"] and block.error() == ""
