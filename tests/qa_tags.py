# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags with other values than they should have: anybody may tag a stream. Blocks go on."""

import json

import numpy as np
import pmt
import pytest
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx import deeprx_python
from gnuradio.deeprx.blocks.guarded import raise_failure
from gnuradio.deeprx.radio.monitor import radio_monitor
from slots import slot_of

VALUES = [
    pmt.PMT_NIL,
    pmt.intern("seven"),
    pmt.from_double(float("nan")),
    pmt.from_long(-1),
    pmt.make_dict(),
]


def tags(key, value, at):
    return [gr.tag_utils.python_to_tag((offset, pmt.intern(key), value)) for offset in at]


def output(source, block, sink):
    flowgraph = gr.top_block()
    flowgraph.connect(source, block, sink)
    flowgraph.run()
    raise_failure(flowgraph)
    return np.array(sink.data())


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_slot_cutter_counts_on(value):
    samples = np.arange(3 * 14 * 72).astype(complex)
    source = blocks.vector_source_c(samples, False, 1, tags("slot_index", value, [0, 1008]))
    cutter = deeprx_python.slot_cutter(64, [[8] * 14], 1, 0, 5)
    sink = blocks.vector_sink_c(64)
    assert len(output(source, cutter, sink)) == 3 * 14 * 64
    indices = [pmt.to_uint64(t.value) for t in sink.tags() if str(t.key) == "slot_index"]
    assert indices == [5, 6, 7]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_slot_gate_drops_packets_of_no_length_and_counts_on(value):
    good = tags("packet_len", pmt.from_long(100), [0, 200])
    wrong = tags("packet_len", value, [100]) + tags("slot_index", value, [200])
    source = blocks.vector_source_b([1] * 300, False, 1, good + wrong)
    gate = deeprx_python.slot_gate(100, {"packet_len": 100})
    sink = blocks.vector_sink_b()
    assert len(output(source, gate, sink)) == 200
    assert gate.dropped_packets() == 1
    indices = [pmt.to_uint64(t.value) for t in sink.tags() if str(t.key) == "slot_index"]
    assert indices == [0, 1]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_tdl_fader_keeps_its_draw(value):
    def faded(with_tags):
        fading = deeprx_python.tdl_fading([[1.0]], [1.0], False, 1, 1e-4, 1, 0, 8)
        fader = deeprx_python.tdl_fader(fading, burst_slots=1, tags=True)
        source = blocks.vector_source_c([1.0] * 500, False, 1, with_tags)
        return output(source, fader, blocks.vector_sink_c())

    np.testing.assert_array_equal(faded(tags("slot_index", value, [100])), faded([]))


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("kind", ["probe", "controller"])
def test_slot_probe_and_controller_count_on(kind, value):
    slot = {"n_prb": 6, "modulation": "QPSK"}
    n = slot_of(**slot).n_bits
    good = tags("packet_len", pmt.from_long(n), [0, n, 3 * n])
    wrong = tags("packet_len", value, [2 * n]) + tags("slot_index", value, [n])
    source = blocks.vector_source_f([1.0] * 4 * n, False, 1, good + wrong)
    if kind == "probe":
        block = deeprx.slot_probe(meter="none", every_slots=0, slot=slot_of(**slot))
    else:
        block = deeprx.receiver_controller(["baseline-lmmse.pt", "baseline-sure.pt"])
        rated = []
        block._pair = rated.append
    flowgraph = gr.top_block()
    flowgraph.connect(source, block)
    flowgraph.run()
    raise_failure(flowgraph)
    if kind == "probe":
        assert block.report()["points"][0]["slots"] == 3
    else:
        assert rated == [0, 1, 2]


RADIO_VALUES = [
    *VALUES,
    pmt.from_complex(1j),
    pmt.make_tuple(pmt.from_uint64(1)),
    pmt.make_tuple(pmt.intern("a"), pmt.from_double(0)),
    pmt.make_tuple(pmt.from_uint64(1), pmt.from_double(float("nan"))),
    pmt.make_tuple(pmt.from_uint64(1), pmt.intern("b")),
]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (key, value)
        for key in ("rx_freq", "rx_time", "slot_index")
        for value in RADIO_VALUES
        if key != "rx_freq" or not pmt.is_integer(value)  # a frequency may be an integer
    ],
    ids=str,
)
def test_recording_sink_records_on(key, value, tmp_path):
    sink = deeprx.recording_sink(tmp_path / "a", 1e6, n_rx=1, slot=slot_of(n_prb=6))
    flowgraph = gr.top_block()
    flowgraph.connect(blocks.vector_source_c([0.1] * 500, False, 1, tags(key, value, [100])), sink)
    flowgraph.run()
    raise_failure(flowgraph)
    sink.stop()
    assert sink.samples() == 500
    assert len(json.loads((tmp_path / "a.sigmf-meta").read_text())["captures"]) == 1


@pytest.mark.parametrize("value", RADIO_VALUES, ids=str)
def test_a_radio_is_watched_on(value):
    watched = radio_monitor(1e6)
    flowgraph = gr.top_block()
    source = blocks.vector_source_c([0.1] * 500, False, 1, tags("rx_time", value, [100, 300]))
    flowgraph.connect(source, watched)
    flowgraph.run()
    raise_failure(flowgraph)
    assert (watched.samples, watched.overflows) == (500, 0)
