# SPDX-License-Identifier: GPL-3.0-or-later
"""What receivers make of a recording, LLR by LLR, for the tests of replay."""

import argparse

import numpy as np
import pmt
from gnuradio import blocks
from gnuradio.deeprx.cli import replay
from gnuradio.deeprx.measure.replay import Replay
from gnuradio.deeprx.models.file import read_model_file
from gnuradio.deeprx.recording.recording import Recording

UNSAID = dict.fromkeys(replay.UNSAID)


def replayed(path, *models, sync=True, chunk=None, **options):
    """The slot indices, int [slots], and for each model LLRs, float32 [slots, n_bits].

    chunk: most items that a block may process in one call.
    """
    recording = Recording(path)
    slots = replay.expected(recording, argparse.Namespace(**UNSAID | options))
    files = [read_model_file(model) for model in models]
    flowgraph = Replay(recording, slots, files, sync, "cpu", "auto")
    sinks = []
    for receiver in flowgraph.receivers:
        sinks.append(blocks.vector_sink_f())
        flowgraph.connect(receiver, sinks[-1])
    flowgraph.run(*[chunk] if chunk else [])
    indices = [
        pmt.to_uint64(tag.value)
        for tag in sinks[0].tags()
        if pmt.symbol_to_string(tag.key) == "slot_index"
    ]
    n_bits = slots.sent.config.n_bits
    return indices, [np.array(s.data(), np.float32).reshape(-1, n_bits) for s in sinks]
