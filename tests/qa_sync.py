# SPDX-License-Identifier: GPL-3.0-or-later
"""Synchroniser and sync_front_end: slots found over fading channels, in order, whatever is lost."""

import time
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pmt
import pytest
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx.blocks.preamble import Preamble
from gnuradio.deeprx.blocks.slot_equaliser import equalise
from gnuradio.deeprx.blocks.synchroniser import MAX_CFO_SPACINGS, Synchroniser
from gnuradio.deeprx.blocks.tdl import INTERPOLATOR_DELAY, TdlFading
from slots import slot_of

from deeprx_common.slot import SlotConfig


@lru_cache(maxsize=4)
def transmitted(config, n_slots, first_slot=0):
    """Samples of slots with preamble, complex64, by plain NumPy."""
    preamble = Preamble(config)
    parts = []
    for index in range(first_slot, first_slot + n_slots):
        prefixes = (min(config.cp_lengths()),) * 2 + config.cp_lengths(index)
        grid = np.zeros((16, config.fft_size), complex)
        grid[:, config.carriers] = [
            preamble.training,
            preamble.header(index),
            *config.grid(config.bits(1, index), index),
        ]
        for symbol, prefix in zip(np.fft.ifft(grid, norm="ortho"), prefixes, strict=True):
            parts += [symbol[-prefix:], symbol]
    return np.concatenate(parts).astype(np.complex64)


def receive(samples, snr_db, seed, config=SlotConfig(), profile="TDL-A", n_rx=2, cfo_hz=1000.0):  # noqa: B008
    fading = TdlFading(profile, n_rx, 100e-9, 50.0, config.sample_rate, seed)
    received = fading.process(samples)
    received = received * np.exp(2j * np.pi * cfo_hz / config.sample_rate * np.arange(len(samples)))
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((2, *received.shape)) * 10 ** (-snr_db / 20) / np.sqrt(2)
    return (received + noise[0] + 1j * noise[1]).astype(np.complex64)


def synchronise(received, config=SlotConfig(), block=5000):  # noqa: B008
    synchroniser = Synchroniser(config, len(received))
    slots = []
    for start in range(0, received.shape[1], block):
        synchroniser.push(received[:, start : start + block])
        while slot := synchroniser.next():
            slots.append(slot)
    return slots, synchroniser


def first_window(config):
    """Where the training symbol of slot 0 begins behind TdlFading, for its first path."""
    return min(config.cp_lengths()) + INTERPOLATOR_DELAY


@pytest.mark.parametrize(
    ("snr_db", "share"), [(12, 0.99), pytest.param(6, 0.95, marks=pytest.mark.slow), (0, 0.9)]
)
def test_finds_the_slots_over_tdl_a(snr_db, share):
    """8 independent runs of 100 slots, each begun cold, 1 kHz CFO."""
    config = SlotConfig()
    samples = transmitted(config, 100)
    in_place, offsets = 0, []
    for seed in range(8):
        slots, sync = synchronise(receive(samples, snr_db, seed))
        for slot in slots:
            error = slot.start - first_window(config) - slot.slot_index * sync.period
            in_place += -8 <= error <= 1
            offsets.append(slot.cfo_hz - 1000)
        assert all(a.slot_index < b.slot_index for a, b in pairwise(slots))
        assert sync.missed == slots[-1].slot_index - slots[0].slot_index + 1 - len(slots)
    assert in_place >= share * 800
    assert np.sqrt(np.mean(np.square(offsets))) < 80


@pytest.mark.parametrize(
    ("slot", "n_rx", "cfo_hz"),
    [
        ({"n_prb": 6}, 2, 200.0),
        ({"equal_prefixes": True}, 1, -12e3),
        ({"n_prb": 106, "modulation": "256QAM", "slot_number": None}, 4, 14e3),
        ({"scs_khz": 60, "slot_number": None}, 2, 200.0),
        ({"dmrs": (2, 7, 11), "cdm_groups": 2, "slot_number": None}, 2, -20e3),
        ({"dmrs": (2, 5, 8, 11), "cdm_groups": 2, "n_prb": 12}, 1, 200.0),
        ({"n_prb": 12, "carrier_prb": 51, "fft_size": 768}, 2, 3e3),
        ({"n_prb": 20, "first_prb": 31, "carrier_prb": 51, "scs_khz": 30}, 2, -40e3),
    ],
)
def test_other_slots_antennas_and_offsets(slot, n_rx, cfo_hz):
    config = slot_of(**slot)
    samples = transmitted(config, 40, first_slot=995)
    received = receive(samples, 18, 3, config, n_rx=n_rx, cfo_hz=cfo_hz)
    slots, sync = synchronise(received, config)
    indices = [s.slot_index for s in slots]
    assert len(indices) >= 38
    assert indices == list(range(indices[0], indices[0] + len(indices)))
    assert indices[0] >= 995 and indices[-1] <= 1034
    assert sync.cfo_hz == pytest.approx(cfo_hz, abs=60)


@pytest.mark.parametrize("cfo_hz", [-104e3, -45e3, -20e3, -7e3, 2.5e3, 5e3, 7e3, 9e3, 30e3, 104e3])
def test_any_offset_up_to_seven_subcarriers(cfo_hz):
    slots, sync = synchronise(receive(transmitted(SlotConfig(), 12), 6, 1, cfo_hz=cfo_hz))
    assert [s.slot_index for s in slots] == list(range(12))
    assert (sync.locks, sync.false_locks) == (1, 0)
    assert sync.cfo_hz == pytest.approx(cfo_hz, abs=150)


@pytest.mark.parametrize(("snr_db", "bound_hz"), [(3, 20), (-4, 60)])
def test_offset_is_estimated_without_bias(snr_db, bound_hz):
    """3 kHz, mean over 6 runs of 60 slots, the first 20 of each left out."""
    samples = transmitted(SlotConfig(), 60)
    errors = [
        slot.cfo_hz - 3000
        for seed in range(6)
        for slot in synchronise(receive(samples, snr_db, 1000 + seed, cfo_hz=3000.0))[0]
        if slot.slot_index >= 20
    ]
    assert len(errors) > 200
    assert abs(np.mean(errors)) < bound_hz


def test_a_slot_that_is_too_narrow_for_a_preamble_is_refused_in_a_line():
    narrow = SlotConfig(n_prb=3, carrier_prb=51)
    says = "in 4 PRB or more, got n_prb=3: slots of fewer are received aligned$"
    for make in (
        lambda: deeprx.slot_transmitter(preamble=True, slot=narrow),
        lambda: deeprx.sync_front_end(n_rx=1, slot=narrow),
    ):
        with pytest.raises(ValueError, match=says):
            make()
    fewest = narrow.with_n_prb(4)
    slots, _ = synchronise(receive(transmitted(fewest, 3), 30, 1, fewest, cfo_hz=0), fewest)
    assert [slot.slot_index for slot in slots] == [0, 1, 2]


def test_documents_agree_on_the_offset():
    root = Path(__file__).parents[1]
    documents = [root / "grc" / "deeprx_sync_front_end.block.yml", *root.glob("docs/**/radio.md")]
    assert len(documents) == 2
    for path in documents:
        assert f"{MAX_CFO_SPACINGS} subcarrier spacings" in path.read_text()
    assert f"+-{15 * MAX_CFO_SPACINGS} kHz" in Synchroniser.__doc__


def test_lost_samples_cost_the_slot_they_fall_into():
    config = SlotConfig()
    received = receive(transmitted(config, 60), 12, seed=2)
    period = received.shape[1] // 60
    lost = np.concatenate((
        received[:, : 20 * period + 3000],  # 1234 samples within slot 20 are gone
        received[:, 20 * period + 4234 : 40 * period + 5000],
        received[:, 47 * period + 5000 :],  # and just 7 slots, in the midst of slot 40
    ), axis=1)  # fmt: skip
    slots, sync = synchronise(lost)
    indices = [s.slot_index for s in slots]
    assert indices == sorted(set(indices))
    kept = set(range(60)) - {20, *range(40, 49)}
    assert kept <= set(indices)
    assert sync.missed == 60 - len(indices)
    places = {s.slot_index: s.start for s in slots}
    assert places[30] == pytest.approx(30 * period - 1234 + first_window(config), abs=8)


@pytest.mark.parametrize("snr_db", [6, 12, 18])
@pytest.mark.parametrize("size", [-1500, -256, -100, 100, 256, 1500])
def test_slip_of_any_place(size, snr_db):
    """From one slot's preamble to the next one's, in steps of 700 samples."""
    for place in range(0, 8768, 700):
        assert_found_again(snr_db, size, place)


@pytest.mark.parametrize("snr_db", [6, 18])
@pytest.mark.parametrize("profile", ["TDL-A", "TDL-E"])
def test_slip_of_any_size(profile, snr_db):
    """Samples cut out or zeros put in amid a slot: more than the training symbol's halves tell."""
    for size in (*range(20, 151, 10), *range(170, 271, 20)):
        assert_found_again(snr_db, -size, 4000, profile)
        assert_found_again(snr_db, size, 4000, profile)


def assert_found_again(snr_db, size, place, profile="TDL-A"):
    """A slip of size samples within slot 4: all slots but 4 and 5 lie where they should."""
    config = SlotConfig()
    received = received_once(snr_db, profile)
    period = received.shape[1] // 12
    before, after = np.split(received, [4 * period + place], axis=1)
    zeros = np.zeros((2, max(0, size)), np.complex64)
    slots, sync = synchronise(np.concatenate((before, zeros, after[:, max(0, -size) :]), axis=1))
    starts = {s.slot_index: s.start for s in slots}
    assert set(starts) >= set(range(11)) - {4, 5}
    assert sync.missed == slots[-1].slot_index + 1 - len(slots)
    for index in set(starts) - {4, 5}:
        wanted = first_window(config) + index * period + (size if index > 4 else 0)
        assert starts[index] == pytest.approx(wanted - 4, abs=8)


@lru_cache(maxsize=8)
def received_once(snr_db, profile):
    return receive(transmitted(SlotConfig(), 12), snr_db, 11, profile=profile)


def test_a_lock_carries_through_a_fade_and_ends_when_the_signal_does():
    config = SlotConfig()
    received = receive(transmitted(config, 100), 15, seed=4)
    period = received.shape[1] // 100
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal(received.shape) + 1j * rng.standard_normal(received.shape)) * 0.1
    faded = received.copy()
    faded[:, 30 * period : 45 * period] = noise[:, 30 * period : 45 * period]
    slots, sync = synchronise(faded)
    assert [s.slot_index for s in slots] == list(range(100))
    assert [s.slot_index for s in slots if not s.seen] == list(range(30, 45))
    assert (sync.locks, sync.missed, sync.carried) == (1, 0, 15)

    slots, sync = synchronise(np.concatenate((received, noise, received), 1).astype(np.complex64))
    assert [s.slot_index for s in slots[:150]] == list(range(150))  # 50 carried, then given up
    assert [s.slot_index for s in slots[150:]] == list(range(100))
    assert sync.locks == 2


def test_noise_alone_gives_no_slot():
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((2, 2, 900_000)).astype(np.float32)
    slots, sync = synchronise(noise[0] + 1j * noise[1])
    assert not slots
    assert sync.false_locks <= 1


def test_another_cell_is_not_locked_to():
    received = receive(transmitted(SlotConfig(dmrs_n_id=9), 30), 30, seed=1)
    slots, sync = synchronise(received, SlotConfig(dmrs_n_id=1))
    assert not slots
    assert sync.false_locks >= 20


def test_bad_samples_are_counted_and_harm_only_their_slot():
    received = receive(transmitted(SlotConfig(), 30), 15, seed=5)
    period = received.shape[1] // 30
    received[0, 10 * period + 3000] = np.nan
    received[1, 11 * period + 100 : 11 * period + 400] = np.inf
    received[0, 12 * period] = 1e30
    slots, sync = synchronise(received)
    assert [s.slot_index for s in slots] == list(range(30))
    assert sync.bad_samples == 302
    assert all(np.isfinite(s.symbols).all() for s in slots)


def test_symbol_clock_error_is_followed():
    """20 ppm: a sample more every 50 000, as resampling to the nearest sample gives it."""
    config = SlotConfig()
    received = receive(transmitted(config, 300), 12, seed=6)
    nearest = np.arange(received.shape[1]) / (1 + 20e-6)
    slots, sync = synchronise(received[:, nearest.astype(int)])
    assert len(slots) >= 299
    drift = [s.start - s.slot_index * sync.period for s in slots]
    wanted = first_window(config) + 20e-6 * sync.period * slots[-1].slot_index
    assert drift[-1] == pytest.approx(wanted - 4, abs=5)


@pytest.mark.parametrize("scale", [1e-12, 1e-7, 1e6])
def test_any_scale(scale):
    """Path gains of ray tracing: positions, offsets and slots are the same, times the scale."""
    received = receive(transmitted(SlotConfig(), 10), 12, seed=7)
    plain, scaled = (synchronise((received * f).astype(np.complex64))[0] for f in (1, scale))
    assert [s.slot_index for s in scaled] == list(range(10))
    for ours, theirs in zip(scaled, plain, strict=True):
        assert (ours.start, ours.seen) == (theirs.start, theirs.seen)
        assert ours.cfo_hz == pytest.approx(theirs.cfo_hz, abs=1e-2)
        np.testing.assert_allclose(ours.symbols / scale, theirs.symbols, atol=2e-5)
    pilots = SlotConfig().pilots(0)[0]
    channel = np.random.default_rng(1).standard_normal((2, *pilots.shape)) + 0j
    np.testing.assert_allclose(
        equalise(channel * scale, pilots), equalise(channel, pilots), rtol=1e-4
    )


def test_block_sizes_do_not_matter():
    received = receive(transmitted(SlotConfig(), 10), 12, seed=7)
    runs = [synchronise(received, block=block)[0] for block in (313, 8768, 10**6)]
    for slots in runs[1:]:
        assert [s.slot_index for s in slots] == [s.slot_index for s in runs[0]]
        assert [s.start for s in slots] == [s.start for s in runs[0]]
        np.testing.assert_array_equal(slots[-1].symbols, runs[0][-1].symbols)


def assert_whole(slots, config):
    """Every symbol of the slots is where it was sent: what is left is the windows' lead."""
    lead = max(2, min(config.cp_lengths()) // 8)
    for slot in slots:
        spectra = np.fft.fft(slot.symbols[0], norm="ortho")[:, config.carriers]
        spectra *= np.exp(2j * np.pi * config.carriers * lead / config.fft_size)
        grid = config.grid(config.bits(1, slot.slot_index), slot.slot_index)
        gain = np.vdot(grid, spectra) / np.vdot(grid, grid)
        assert np.abs(spectra / gain - grid).max() < 0.05, slot.slot_index


@pytest.mark.parametrize("first_slot", [4, 5])
def test_slots_of_60_khz_have_two_lengths(first_slot):
    """None is missed, up to the last one, whose last samples nobody needs; all lie where they
    were sent.
    """
    config = SlotConfig(scs_khz=60, slot_number=None)
    samples = transmitted(config, 13, first_slot)
    slots, sync = synchronise(samples[None], config)
    assert [s.slot_index for s in slots] == list(range(first_slot, first_slot + 13))
    assert_whole(slots, config)
    assert (sync.locks, sync.slips, sync.missed) == (1, 0, 0)


def test_a_jump_of_the_index_of_60_khz_slots_costs_one_slot():
    """Of an odd number: from then on every second slot is another one."""
    config = SlotConfig(scs_khz=60, slot_number=None)
    samples = np.concatenate((transmitted(config, 10), transmitted(config, 10, 11)))
    slots, sync = synchronise(samples[None], config)
    assert [s.slot_index for s in slots] == [*range(10), *range(12, 21)]
    assert_whole(slots, config)
    assert (sync.locks, sync.slips) == (1, 0)


def test_slot_index_continues_beyond_32_bits():
    first = (1 << 32) - 3
    slots, _ = synchronise(receive(transmitted(SlotConfig(), 6, first), 20, seed=1))
    assert [s.slot_index for s in slots] == list(range(first, first + 6))


@pytest.mark.parametrize("key", ["rx_time", "rx_rate"])
def test_samples_known_to_be_missing_cost_their_slot_alone(key):
    """2000 samples within slot 5, all of slots 9 and 10; a tag on the first sample says nothing."""
    config = slot_of(modulation="QPSK")
    received = receive(transmitted(config, 16), 20, seed=1, n_rx=1)[0]
    period = len(received) // 16
    cuts = [(5 * period + 3000, 5 * period + 5000), (9 * period, 11 * period)]
    kept = np.ones(len(received), bool)
    for start, stop in cuts:
        kept[start:stop] = False
    places = [0, cuts[0][0], cuts[1][0] - 2000]
    tags = [gr.python_to_tag((at, pmt.intern(key), pmt.from_double(0), pmt.PMT_F)) for at in places]
    top = gr.top_block()
    source = blocks.vector_source_c(received[kept].tolist(), False, 1, tags)
    front_end = deeprx.sync_front_end(1, slot=slot_of(modulation="QPSK"))
    sink = blocks.vector_sink_c(config.fft_size)
    top.connect(source, front_end, sink)
    top.run()
    indices = slot_indices(sink)
    assert set(range(15)) - {5, 9, 10} <= set(indices) <= set(range(16)) - {5, 9, 10}
    assert front_end.statistics()["locks"] == 3
    assert front_end.statistics()["missed"] == 3


def test_flowgraph_end_to_end():
    """Transmitter, channel, front end: grids within the noise of the channel, tags, message."""
    n = 120
    top = gr.top_block()
    transmitter = deeprx.slot_transmitter(preamble=True, slot=slot_of(modulation="QPSK"))
    channel = deeprx.tdl_channel("TDL-E", snr_db=20, cfo_hz=1000)
    front_end = deeprx.sync_front_end(slot=slot_of(modulation="QPSK"))
    config = front_end.config
    sinks = [blocks.vector_sink_c(config.fft_size) for _ in range(2)]
    messages = blocks.message_debug()
    top.connect(deeprx.slot_source(1, 0, n, slot=slot_of(modulation="QPSK")), transmitter, channel)
    for antenna, sink in enumerate(sinks):
        top.connect((channel, antenna), (front_end, antenna), sink)
    top.msg_connect(front_end, "sync", messages, "store")
    top.run()

    tags = sinks[0].tags()
    index = [pmt.to_uint64(t.value) for t in tags if pmt.symbol_to_string(t.key) == "slot_index"]
    lengths = [pmt.to_long(t.value) for t in tags if pmt.symbol_to_string(t.key) == "packet_len"]
    assert index == list(range(n))
    assert lengths == [14] * n
    statistics = front_end.statistics()
    assert (statistics["slots"], statistics["missed"], statistics["locks"]) == (n, 0, 1)
    assert statistics["cfo_hz"] == pytest.approx(1035, abs=30)  # the line of sight adds 0.7 x 50 Hz
    assert pmt.to_python(messages.get_message(0))["locks"] == 1

    received = np.array(sinks[0].data()).reshape(n, 14, -1)
    received = received[..., config.fft_size // 2 + config.carriers]
    received *= np.exp(2j * np.pi * config.carriers * 4 / config.fft_size)  # windows start early
    grids = np.array([config.grid(config.bits(1, i), i) for i in range(n)])
    channel = (received * grids.conj()).reshape(n, 14, -1, 12).mean(-1)  # over one resource block
    residual = received.reshape(n, 14, -1, 12) - channel[..., None] * grids.reshape(n, 14, -1, 12)
    assert np.mean(np.abs(residual) ** 2) < 0.03  # noise 0.01, and the channel within a block


@pytest.mark.parametrize("aligned", [False, True])
def test_a_link_starts_again(aligned):
    """Slots come out of the front end each time, none from before the stop."""
    slot = {"n_prb": 12, "modulation": "QPSK"}
    top = gr.top_block()
    channel = deeprx.tdl_channel("TDL-A", snr_db=20, slot=slot_of(**slot))
    kind = deeprx.aligned_front_end if aligned else deeprx.sync_front_end
    front_end = kind(slot=slot_of(**slot))
    sinks = [blocks.vector_sink_c(front_end.config.fft_size) for _ in range(2)]
    transmitter = deeprx.slot_transmitter(preamble=not aligned, slot=slot_of(**slot))
    top.connect(deeprx.slot_source(slot=slot_of(**slot)), transmitter, channel)
    for antenna, sink in enumerate(sinks):
        top.connect((channel, antenna), (front_end, antenna), sink)
    last = -1
    for _ in range(20):
        sinks[0].reset()
        top.start()
        deadline = time.monotonic() + 20
        while sinks[0].nitems_read(0) < 3 * 14:
            assert time.monotonic() < deadline, "nothing passes"
            time.sleep(0.001)
        top.stop()
        top.wait()
        indices = slot_indices(sinks[0])
        assert indices == sorted(set(indices))
        assert indices[0] > last
        last = indices[-1]


def slot_indices(sink):
    key = pmt.intern("slot_index")
    return [pmt.to_uint64(t.value) for t in sink.tags() if pmt.eq(t.key, key)]
