# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags with other values than they should have: anybody may tag a stream. Blocks go on."""

import numpy as np
import pmt
import pytest
from gnuradio import blocks, gr
from gnuradio.deeprx import deeprx_python

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
    return np.array(sink.data())


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_slot_cutter_counts_on(value):
    lengths = [8] * 14
    samples = np.arange(3 * 14 * 72).astype(complex)
    source = blocks.vector_source_c(samples, False, 1, tags("slot_index", value, [0, 1008]))
    cutter = deeprx_python.slot_cutter(64, lengths, 1, 0, 5)
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
