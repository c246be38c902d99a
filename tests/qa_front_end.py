# SPDX-License-Identifier: GPL-3.0-or-later
"""aligned_front_end: the transmitted grid comes back, with the tags of its slots."""

import numpy as np
import pmt
import pytest
from gnuradio import blocks, deeprx, fft, gr
from gnuradio.deeprx.deeprx_python import unitary_fft
from slots import slot_of

from deeprx_common.slot import SlotConfig


def index_tag(offset, slot_index):
    tag = gr.tag_t()
    tag.offset, tag.key = offset, pmt.intern("slot_index")
    tag.value = pmt.from_uint64(slot_index)
    return tag


def symbols(samples, tags=(), **arguments):
    """(symbols [n_rx, n, fft_size], tags of output 0, front end) for samples [n_rx, n]."""
    top = gr.top_block()
    front_end = deeprx.aligned_front_end(len(samples), **arguments)
    size = front_end.config.fft_size
    sinks = [blocks.vector_sink_c(size) for _ in samples]
    for antenna, sink in enumerate(sinks):
        tagged = list(tags) if antenna == 0 else []
        source = blocks.vector_source_c(samples[antenna], False, 1, tagged)
        top.connect(source, (front_end, antenna), sink)
    top.run()
    return np.array([np.reshape(s.data(), (-1, size)) for s in sinks]), sinks[0].tags(), front_end


def slots(n_slots, first_slot=0, **slot):
    """Samples of some slots and their grids."""
    top = gr.top_block()
    transmitter = deeprx.slot_transmitter(slot=slot_of(**slot))
    sink = blocks.vector_sink_c()
    top.connect(deeprx.slot_source(1, first_slot, n_slots, slot=slot_of(**slot)), transmitter, sink)
    top.run()
    config = transmitter.config
    indices = range(first_slot, first_slot + n_slots)
    return np.array(sink.data()), np.array([config.grid(config.bits(1, i), i) for i in indices])


def indices_of(tags):
    """slot_index by item; every slot must also have its packet_len of 14 symbols."""
    values = {"packet_len": {}, "slot_index": {}}
    for tag in tags:
        values[pmt.symbol_to_string(tag.key)][tag.offset] = pmt.to_python(tag.value)
    assert values["packet_len"] == dict.fromkeys(values["slot_index"], 14)
    return values["slot_index"]


@pytest.mark.parametrize(
    "slot",
    [
        {},
        {"n_prb": 6, "dmrs": (3,)},
        {"equal_prefixes": True, "slot_number": None},
        {"n_prb": 106},
        {"n_prb": 20, "first_prb": 5, "carrier_prb": 51, "scs_khz": 30, "fft_size": 768},
        {"dmrs": (2, 7, 11), "cdm_groups": 2, "phase_compensation_hz": 2e9 + 1e3},
        {"scs_khz": 30, "phase_compensation_hz": 3.5e9 + 1e3, "slot_number": None},
        {"scs_khz": 60, "slot_number": None},
        {"scs_khz": 60, "slot_number": None, "phase_compensation_hz": 3.5e9 + 1e3},
        {"scs_khz": 60, "slot_number": None, "fft_size": 768, "dmrs": (2, 7, 11), "cdm_groups": 2},
    ],
)
@pytest.mark.parametrize("first_slot", [20, 37])
def test_ideal_channel_returns_the_transmitted_grid(slot, first_slot):
    samples, grids = slots(4, first_slot=first_slot, **slot)
    received, tags, front_end = symbols(
        [samples, 2j * samples], first_slot=first_slot, slot=slot_of(**slot)
    )
    config = front_end.config
    carriers = config.fft_size // 2 + config.carriers
    wanted = grids.reshape(-1, config.n_sc)
    np.testing.assert_allclose(received[0][:, carriers], wanted, atol=3e-6)
    np.testing.assert_allclose(received[1][:, carriers], 2j * wanted, atol=6e-6)
    guard = np.delete(received[0], carriers, axis=1)
    assert np.abs(guard).max() < 3e-6
    assert indices_of(tags) == {14 * i: first_slot + i for i in range(4)}


@pytest.mark.parametrize("offset", [-7, 12])
def test_window_offset_leaves_a_linear_phase(offset):
    samples, grids = slots(3)
    delayed = np.concatenate((np.zeros(12), samples, np.zeros(30)))
    samples = delayed if offset > 0 else np.append(samples, np.zeros(7))
    received, _, front_end = symbols([samples], offset_samples=offset)
    config = front_end.config
    turn = np.exp(2j * np.pi * config.carriers * min(offset, 0) / config.fft_size)
    wanted = grids.reshape(-1, config.n_sc) * turn
    received = received[0][: len(wanted), config.fft_size // 2 + config.carriers]
    np.testing.assert_allclose(received, wanted, atol=3e-6)


def test_index_tags_number_the_slots_and_show_lost_samples():
    samples, grids = slots(4)
    n = SlotConfig().n_samples()
    lost = np.delete(samples, slice(n + 100, n + 1100))  # within slot 1
    tags = [index_tag(0, 70), index_tag(n, 71), index_tag(2 * n - 1000, 72)]
    received, tags, front_end = symbols([lost], tags)
    assert front_end.dropped_samples() == n - 1000
    assert indices_of(tags) == {0: 70, 14: 72, 28: 73}
    carriers = 256 + SlotConfig().carriers
    wanted = grids[[0, 2, 3]].reshape(-1, 312)
    np.testing.assert_allclose(received[0][:, carriers], wanted, atol=3e-6)


def test_a_tag_says_which_prefixes_a_slot_of_60_khz_has():
    """Of a gap of any length, whatever the front end had counted."""
    config = SlotConfig(scs_khz=60, slot_number=None)
    indices = [70, 71, 74, 77, 79, 80]
    starts, tags, samples, grids = 0, [], [], []
    for index in indices:
        waveform, grid = slots(1, index, scs_khz=60, slot_number=None)
        tags.append(index_tag(starts, index))
        starts += len(waveform)
        samples.append(waveform)
        grids += list(grid)
    assert [len(s) for s in samples] == [config.n_samples(i) for i in indices]
    received, tags, front_end = symbols([np.concatenate(samples)], tags, slot=config)
    assert front_end.dropped_samples() == 0
    assert list(indices_of(tags).values()) == indices
    carriers = 256 + config.carriers
    np.testing.assert_allclose(received[0][:, carriers], np.concatenate(grids), atol=3e-6)


@pytest.mark.parametrize("first_slot", [0, 1])
def test_slots_of_60_khz_come_in_pieces_of_any_size(first_slot):
    """A slot with the longer prefix is waited for, and one without is not made to wait."""
    config = SlotConfig(scs_khz=60, slot_number=None)
    samples, grids = slots(3, first_slot, scs_khz=60, slot_number=None)
    front_end = deeprx.aligned_front_end(1, first_slot=first_slot, slot=config)
    top, sink = gr.top_block(), blocks.vector_sink_c(512)
    source = blocks.vector_source_c(samples)
    piece = min(config.n_samples(i) for i in (0, 1)) + 5
    source.set_max_noutput_items(piece)
    top.connect(source, front_end, sink)
    top.run()
    received = np.reshape(sink.data(), (-1, 512))[:, 256 + config.carriers]
    np.testing.assert_allclose(received, grids.reshape(-1, config.n_sc), atol=3e-6)


def test_other_tags_stay_on_their_symbol():
    samples, _ = slots(2)
    tag = index_tag(SlotConfig().n_samples() + 548 * 3 + 40, 0)
    tag.key = pmt.intern("rx_freq")
    _, tags, _ = symbols([samples], [tag])
    assert [t.offset for t in tags if pmt.symbol_to_string(t.key) == "rx_freq"] == [14 + 3]


@pytest.mark.parametrize("front_end", [deeprx.aligned_front_end, deeprx.sync_front_end])
def test_antennas_out_of_range_are_refused(front_end):
    with pytest.raises(ValueError, match="n_rx must be 1 to 4 antennas, got 5"):
        front_end(n_rx=5)


@pytest.mark.parametrize("offset", [-37, 513])
def test_window_outside_of_the_symbol_is_refused(offset):
    with pytest.raises(ValueError, match=f"offset_samples must be -36 .* to 512, got {offset}"):
        deeprx.aligned_front_end(offset_samples=offset)


@pytest.mark.parametrize("size", [128, 512, 4096])
def test_spectra_do_not_depend_on_what_fftw_has_timed(size):
    random = np.random.default_rng(1)
    symbols = (random.standard_normal((14, size, 2)) @ [1, 1j]).astype(np.complex64)
    first = unitary_fft(size)(symbols)
    timed = fft.fft_vcc(size, True, np.ones(size), True)  # FFTW remembers what was fastest
    assert timed.name() == "fft_v_fftw"
    np.testing.assert_array_equal(unitary_fft(size)(symbols), first)
    exact = np.fft.fftshift(np.fft.fft(symbols.astype(complex), norm="ortho"), axes=-1)
    np.testing.assert_allclose(first, exact, atol=3e-6)
