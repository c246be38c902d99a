# SPDX-License-Identifier: GPL-3.0-or-later
"""slot_source and slot_transmitter: tags, the grid on the air, packets of a wrong length."""

import gc
import os
import time
from pathlib import Path

import numpy as np
import pmt
import pytest
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx import deeprx_python
from gnuradio.deeprx.blocks.preamble import preamble_samples
from gnuradio.deeprx.deeprx_python import in_flowgraph
from slots import slot_of

from deeprx_common.slot import SlotConfig, User

CONFIGURATIONS = [
    {},
    {"n_prb": 6, "modulation": "QPSK", "dmrs": (2,)},
    {"modulation": "64QAM", "dmrs_n_id": 77, "equal_prefixes": True},
    {"slot_number": None},
    {"n_prb": 273, "modulation": "256QAM", "slot_number": 7},
    {"n_prb": 20, "first_prb": 5, "carrier_prb": 51, "scs_khz": 30, "fft_size": 768},
    {"dmrs": (2, 7, 11), "cdm_groups": 2, "slot_number": None},
    {"n_prb": 1, "dmrs": (3,), "n_symbols": 4},
    {"dmrs": (2, 5, 8, 11), "n_symbols": 12, "cdm_groups": 2, "scs_khz": 60},
    {"scs_khz": 30, "phase_compensation_hz": 3.5e9 + 1e3, "slot_number": None},
    {"scs_khz": 60, "slot_number": None},
    {"scs_khz": 60, "slot_number": None, "equal_prefixes": True},
    {"scs_khz": 60, "slot_number": None, "phase_compensation_hz": 3.5e9 + 1e3, "fft_size": 768},
    {"scs_khz": 60, "slot_number": None, "dmrs": (2, 11), "cdm_groups": 2, "n_symbols": 13},
    {"phase_compensation_hz": 7e8 + 1e3, "dmrs": (2, 9), "n_symbols": 11},
]


def transmit(n_slots, preamble=False, first_slot=0, seed=7, **slot):
    """Samples and tags of some slots, with their SlotConfig."""
    top = gr.top_block()
    transmitter = deeprx.slot_transmitter(preamble=preamble, slot=slot_of(**slot))
    sink = blocks.vector_sink_c()
    top.connect(
        deeprx.slot_source(seed, first_slot, n_slots, slot=slot_of(**slot)), transmitter, sink
    )
    top.run()
    return np.array(sink.data(), np.complex64), sink.tags(), transmitter.config


def tag_values(tags, key):
    return {t.offset: pmt.to_python(t.value) for t in tags if pmt.symbol_to_string(t.key) == key}


def grid_of(samples, config, slot_index=0):
    """The allocation of one slot's samples, by plain NumPy; all else is silent."""
    rows = []
    for prefix in config.cp_lengths(slot_index):
        rows.append(np.fft.fft(samples[prefix : prefix + config.fft_size], norm="ortho"))
        samples = samples[prefix + config.fft_size :]
    rows = np.array(rows) * config.phase_compensation(slot_index).conj()[:, None]
    grid = rows[: config.n_symbols, config.carriers].copy()
    rows[: config.n_symbols, config.carriers] = 0
    assert np.abs(rows).max() < 1e-5
    return grid


def test_source_bits_follow_from_seed_and_index():
    config = SlotConfig()
    top = gr.top_block()
    sink = blocks.vector_sink_b()
    top.connect(deeprx.slot_source(seed=5, first_slot=40, n_slots=3), sink)
    top.run()
    bits = np.array(sink.data(), np.uint8).reshape(3, -1)
    for i in range(3):
        np.testing.assert_array_equal(bits[i], config.bits(5, 40 + i))
    n = config.n_bits
    assert tag_values(sink.tags(), "packet_len") == {0: n, n: n, 2 * n: n}
    assert tag_values(sink.tags(), "slot_index") == {0: 40, n: 41, 2 * n: 42}


@pytest.mark.parametrize("slot", CONFIGURATIONS)
def test_grid_on_the_air_is_the_slot_config_grid(slot):
    samples, tags, config = transmit(3, first_slot=9, **slot)
    lengths = {i: config.n_samples(i) for i in (9, 10, 11)}
    starts = {i: config.n_samples(9, i - 9) for i in lengths}
    assert len(samples) == sum(lengths.values())
    assert tag_values(tags, "packet_len") == {starts[i]: lengths[i] for i in lengths}
    assert tag_values(tags, "slot_index") == {starts[i]: i for i in lengths}
    for i, start in starts.items():
        grid = config.grid(config.bits(7, i), i)
        np.testing.assert_allclose(grid_of(samples[start:], config, i), grid, atol=3e-6)


@pytest.mark.parametrize("n_prb", [6, 26, 52, 106])
def test_samples_do_not_depend_on_what_fftw_has_timed(n_prb):
    """They are those of unitary_fft, which asks no clock: the same from run to run."""
    samples, _, config = transmit(1, n_prb=n_prb)
    spectra = np.zeros((14, config.fft_size), np.complex64)
    spectra[:, config.bins] = config.grid(config.bits(7, 0))
    ends = np.cumsum(np.add(config.cp_lengths(), config.fft_size))
    symbols = [samples[end - config.fft_size : end] for end in ends]
    expected = deeprx_python.unitary_fft(config.fft_size, inverse=True)(spectra)
    np.testing.assert_array_equal(symbols, expected)


@pytest.mark.parametrize("scs_khz", [15, 60])
def test_preamble_precedes_the_slot(scs_khz):
    slot = {"scs_khz": scs_khz, "slot_number": None}
    samples, tags, config = transmit(2, preamble=True, first_slot=3, **slot)
    lead = 2 * (config.fft_size + min(config.cp_lengths()))
    bursts = [lead + config.n_samples(3), lead + config.n_samples(4)]
    assert tag_values(tags, "packet_len") == {0: bursts[0], bursts[0]: bursts[1]}
    assert tag_values(tags, "slot_index") == {0: 3, bursts[0]: 4}
    training = samples[36 : 36 + 512]
    np.testing.assert_allclose(training[:256], training[256:], atol=1e-6)
    for i in range(2):
        grid = config.grid(config.bits(7, 3 + i), 3 + i)
        received = grid_of(samples[i * bursts[0] + lead :], config, 3 + i)
        np.testing.assert_allclose(received, grid, atol=3e-6)


def test_mean_power_of_a_sample_is_the_occupied_share():
    samples, _, config = transmit(20, preamble=True)
    power = np.mean(np.abs(samples) ** 2) * config.fft_size / config.n_sc
    assert power == pytest.approx(1, abs=0.02)


def test_packets_of_a_wrong_length_are_dropped_and_the_others_unharmed():
    config = SlotConfig()
    good = [config.bits(1, i) for i in range(3)]
    packets = [good[0], good[1][:-4], np.zeros(config.n_bits + 1, np.uint8), good[2]]
    tags, offset = [], 0
    for packet in packets:
        tag = gr.tag_t()
        tag.offset, tag.key = offset, pmt.intern("packet_len")
        tag.value = pmt.from_long(len(packet))
        tags.append(tag)
        offset += len(packet)
    top = gr.top_block()
    transmitter = deeprx.slot_transmitter()
    sink = blocks.vector_sink_c()
    source = blocks.vector_source_b(np.concatenate(packets).tolist(), False, 1, tags)
    top.connect(source, transmitter, sink)
    top.run()
    samples = np.array(sink.data(), np.complex64)
    assert transmitter.dropped_packets() == 2
    assert len(samples) == 2 * config.n_samples()
    assert list(tag_values(sink.tags(), "slot_index").values()) == [0, 1]
    received = grid_of(samples[config.n_samples() :], config)
    np.testing.assert_allclose(received, config.grid(good[2]), atol=3e-6)


@pytest.mark.parametrize(
    ("preamble", "slot"), [(False, {}), (True, {}), (False, {"scs_khz": 60, "slot_number": None})]
)
def test_a_flowgraph_starts_again_a_hundred_times(preamble, slot):
    """Slots pass each time, and the last ones are whole: their grids are on the air."""
    top = gr.top_block()
    source = deeprx.slot_source(seed=7, slot=SlotConfig(**slot))
    transmitter = deeprx.slot_transmitter(preamble=preamble, slot=SlotConfig(**slot))
    sink = blocks.vector_sink_c()
    top.connect(source, transmitter, sink)
    for _ in range(100):
        sink.reset()
        top.start()
        deadline = time.monotonic() + 20
        while sink.nitems_read(0) < 3 * transmitter.config.n_samples():
            assert time.monotonic() < deadline, "nothing passes"
            time.sleep(0.001)
        top.stop()
        top.wait()
    assert transmitter.dropped_packets() == 0
    config = transmitter.config
    samples = np.array(sink.data(), np.complex64)
    indices = tag_values(sink.tags(), "slot_index")
    lead = preamble * preamble_samples(config)
    for at, index in sorted(indices.items())[:-1]:
        received = grid_of(samples[at + lead :], config, index)
        np.testing.assert_allclose(received, config.grid(config.bits(7, index), index), atol=3e-6)


def test_a_block_that_nobody_names_starts_again():
    """Made before others, connected later, and forgotten: its Python half stays."""

    def build():
        top, sink = gr.top_block(), blocks.null_sink(1)
        source = deeprx.slot_source(slot=slot_of(n_prb=6))
        for _ in range(3):
            deeprx.slot_source(slot=slot_of(n_prb=6))
        top.connect(source, sink)
        return top, sink

    top, sink = build()
    for _ in range(3):
        gc.collect()
        top.start()
        deadline = time.monotonic() + 20
        while not sink.nitems_read(0):
            assert time.monotonic() < deadline, "nothing passes"
            time.sleep(0.001)
        top.stop()
        top.wait()


HIERARCHICAL = [
    name
    for name in dir(deeprx)
    if isinstance(kind := getattr(deeprx, name), type) and issubclass(kind, gr.hier_block2)
]


@pytest.mark.parametrize("name", HIERARCHICAL)
def test_a_hierarchical_block_does_not_hold_itself(name):
    """As it would after msg_connect() of itself: it and its buffers would stay for ever."""
    arguments = {"link_transmitter": {"slot": SlotConfig(users=(User(mcs=9),))}}
    block = getattr(deeprx, name)(**arguments.get(name, {}))
    assert not in_flowgraph(block.to_basic_block())


def shared_memory():
    """Pieces that this process made: GNU Radio's buffers. A machine has 4096."""
    pieces = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return sum(piece.split()[4] == str(os.getpid()) for piece in pieces)


def test_buffers_go_with_their_flowgraph():
    held = []
    for _ in range(3):
        front_end, top = deeprx.sync_front_end(n_rx=1), gr.top_block()
        top.connect(blocks.null_source(8), blocks.head(8, 1), front_end, blocks.null_sink(8 * 512))
        top.run()
        del front_end, top
        gc.collect()
        held.append(shared_memory())
    assert held[2] <= held[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_slots": -1}, "n_slots must be at least 0, got -1"),
        ({"first_slot": 2**64 - 3, "n_slots": 4}, "slots stay below 2\\^64, got"),
    ],
)
def test_bad_parameters_are_one_line(arguments, message):
    with pytest.raises(ValueError, match=message):
        deeprx.slot_source(**arguments)


@pytest.mark.parametrize("first_slot", [-1, 2**64, 1.5, "a"])
@pytest.mark.parametrize("block", ["slot_source", "aligned_front_end", "sync_front_end"])
def test_a_slot_index_is_a_whole_number_of_64_bits(block, first_slot):
    with pytest.raises(ValueError, match=f"^first_slot must be a whole .*, got {first_slot!r}$"):
        getattr(deeprx, block)(first_slot=first_slot)
    getattr(deeprx, block)(first_slot=2**64 - 1)
