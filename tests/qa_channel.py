# SPDX-License-Identifier: GPL-3.0-or-later
"""The TDL channel: its statistics as TR 38.901 has them, and SNR, SIR and CFO as defined."""

import numpy as np
import pytest
from gnuradio import analog, blocks, deeprx, gr
from gnuradio.deeprx.tdl import INTERPOLATOR_DELAY, PROFILES, TdlFading, profile_taps

RATE = 7.68e6


def impulse_responses(profile, draws, delay_spread_s=100e-9, n_rx=2):
    """Sample-spaced responses, complex [draws, n_rx, length]."""
    fading = TdlFading(profile, n_rx, delay_spread_s, 50.0, RATE, seed=1)
    impulse = np.zeros(fading.length, np.complex64)
    impulse[0] = 1
    responses = []
    for draw in range(draws):
        fading.redraw(draw)
        responses.append(fading.process(impulse))
    return np.array(responses)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_subcarrier_has_unit_mean_power(profile):
    responses = impulse_responses(profile, 3000)
    spectrum = np.fft.fft(responses, 512)[..., np.arange(-156, 156)]
    power = (np.abs(spectrum) ** 2).mean((0, 1))
    assert power.mean() == pytest.approx(1, abs=0.03)
    assert np.abs(power - 1).max() < 0.12  # 6000 draws of an exponential: sigma 0.013


@pytest.mark.parametrize("profile", ["TDL-A", "TDL-E"])
def test_mean_delay_and_delay_spread_are_those_of_the_table(profile):
    delay_spread = 300e-9
    delays, powers = profile_taps(profile)
    mean = delays @ powers
    spread = np.sqrt((delays - mean) ** 2 @ powers)
    assert spread == pytest.approx(1, abs=0.01)  # tables are normalised to it

    # frequency correlation E[H(f) H*(f + df)] is the transform of the power delay profile
    spectrum = np.fft.fft(impulse_responses(profile, 4000, delay_spread), 512)
    band = spectrum[..., np.arange(-156, 156)]
    for lag in (4, 16, 48):
        measured = (band[..., lag:] * band[..., :-lag].conj()).mean()
        seconds = delays * delay_spread + INTERPOLATOR_DELAY / RATE
        expected = powers @ np.exp(-2j * np.pi * lag * RATE / 512 * seconds)
        assert abs(measured - expected) < 0.05


def test_fading_is_gaussian_with_the_autocorrelation_of_clarke():
    fading = TdlFading("TDL-A", 4, 100e-9, 500.0, RATE, seed=3)
    times = np.arange(0, 1.2e-3, 1e-4) * RATE
    samples = []
    for draw in range(400):
        fading.redraw(draw)
        samples.append(fading.taps(times))
    taps = np.array(samples)  # [draw, time, antenna, tap]
    taps /= np.sqrt((np.abs(taps) ** 2).mean((0, 1, 2)))
    measured = (taps * taps[:, :1].conj()).mean((0, 2, 3))
    angles = np.linspace(0, np.pi, 1001)[:-1]
    shifts = 2 * np.pi * 500.0 * times / RATE
    bessel = np.cos(shifts[:, None] * np.sin(angles)).mean(1)  # J0
    np.testing.assert_allclose(measured, bessel, atol=0.02)
    assert (np.abs(taps) ** 4).mean() == pytest.approx(2, abs=0.1)


def test_line_of_sight_has_its_power_and_doppler():
    fading = TdlFading("TDL-E", 1, 100e-9, 500.0, RATE, seed=3)
    times = np.arange(100) * 1e-4 * RATE
    los = fading.taps(times)[:, 0, 0]
    assert np.abs(los) == pytest.approx(np.sqrt(profile_taps("TDL-E")[1][0]), rel=1e-5)
    steps = np.angle(los[1:] / los[:-1]) / (2 * np.pi * 1e-4)
    np.testing.assert_allclose(steps, 0.7 * 500, atol=0.1)


def test_antennas_draws_seeds_and_links_are_uncorrelated():
    times = np.arange(0, 0.5, 2e-3) * RATE  # 250 instants over 50 coherence times
    taps = []
    for seed, link, draw in [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1), (2, 1, 1)]:
        fading = TdlFading("TDL-B", 2, 100e-9, 50.0, RATE, seed, link)
        fading.redraw(draw)
        taps.append(fading.taps(times).reshape(len(times), -1))
    taps = np.concatenate(taps, 1)
    taps /= np.sqrt((np.abs(taps) ** 2).mean(0))
    correlation = np.abs(taps.conj().T @ taps / len(times)) - np.eye(taps.shape[1])
    assert np.sqrt((correlation**2).mean()) < 0.2
    assert correlation.max() < 0.75  # selective_fading_model's neighbouring seeds: 0.9997


def test_output_does_not_depend_on_block_sizes_and_is_steady_from_the_start():
    rng = np.random.default_rng(0)
    signal = (rng.standard_normal(9000) + 1j * rng.standard_normal(9000)).astype(np.complex64)
    whole = TdlFading("TDL-A", 2, 100e-9, 300.0, RATE, 1).process(signal)
    pieces = TdlFading("TDL-A", 2, 100e-9, 300.0, RATE, 1)
    parts = [pieces.process(part) for part in np.split(signal, [1, 100, 101, 4000, 8999])]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-5)


def faded(n_slots, **channel):
    """Grids [n_rx, n_slots, 14, n_sc] after transmitter, channel and aligned front end."""
    channel = {"n_rx": 2, **channel}
    top = gr.top_block()
    transmitter = deeprx.slot_transmitter()
    tdl = deeprx.tdl_channel(**channel)
    front_end = deeprx.aligned_front_end(channel["n_rx"])
    top.connect(deeprx.slot_source(1, 0, n_slots), transmitter, tdl)
    if channel.get("sir_db") is not None:
        other = deeprx.slot_transmitter(cell_id=2)
        top.connect(deeprx.slot_source(2, 0, n_slots, cell_id=2), other, (tdl, 1))
    config = transmitter.config
    sinks = [blocks.vector_sink_c(config.fft_size) for _ in range(channel["n_rx"])]
    for antenna, sink in enumerate(sinks):
        top.connect((tdl, antenna), (front_end, antenna), sink)
    top.run()
    carriers = config.fft_size // 2 + config.carriers
    grids = np.array([sink.data() for sink in sinks]).reshape(
        channel["n_rx"], n_slots, 14, config.fft_size
    )
    return grids[..., carriers], sinks[0].tags()


@pytest.mark.parametrize("snr_db", [0, 12])
def test_snr_is_per_resource_element_and_antenna(snr_db):
    clean, _ = faded(40, snr_db=np.inf, burst_slots=1)
    noisy, _ = faded(40, snr_db=snr_db, burst_slots=1)
    noise = (np.abs(noisy - clean) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(-10 * np.log10(noise), snr_db, atol=0.05)
    correlation = ((noisy - clean)[0] * (noisy - clean)[1].conj()).mean()
    assert abs(correlation) < 0.02 * noise.mean()


def test_mean_power_over_draws_is_one():
    clean, _ = faded(400, snr_db=np.inf, burst_slots=1, n_rx=4)
    assert (np.abs(clean) ** 2).mean() == pytest.approx(1, abs=0.05)


def test_interferer_has_its_sir_its_own_fading_and_no_tags():
    wanted, _ = faded(150, snr_db=np.inf, burst_slots=1)
    both, tags = faded(150, snr_db=np.inf, burst_slots=1, sir_db=6)
    interference = both - wanted
    assert -10 * np.log10((np.abs(interference) ** 2).mean()) == pytest.approx(6, abs=0.4)
    assert len(tags) == 2 * 150
    power = np.sqrt((np.abs(wanted) ** 2).mean() * (np.abs(interference) ** 2).mean())
    assert abs((wanted * interference.conj()).mean()) < 0.02 * power


def test_a_slot_fades_by_seed_and_index_alone():
    first, _ = faded(6, snr_db=np.inf, burst_slots=2, seed=9)
    again, _ = faded(4, snr_db=np.inf, burst_slots=2, seed=9)
    np.testing.assert_allclose(first[:, :4], again, atol=1e-5)
    other, _ = faded(4, snr_db=np.inf, burst_slots=2, seed=10)
    assert np.abs(other - again).mean() > 0.3


def test_setters_give_what_the_constructor_would():
    def output(tdl, set_to):
        for name, value in set_to.items():
            getattr(tdl, f"set_{name}")(value)
        top = gr.top_block()
        sink = blocks.vector_sink_c()
        head = blocks.head(gr.sizeof_gr_complex, 20_000)
        top.connect(analog.sig_source_c(RATE, analog.GR_CONST_WAVE, 0, 1), (tdl, 0))
        top.connect(analog.sig_source_c(RATE, analog.GR_COS_WAVE, 1e6, 1), (tdl, 1))
        top.connect(tdl, head, sink)
        top.run()
        return np.array(sink.data())

    values = {"snr_db": 20.0, "sir_db": 10.0, "cfo_hz": 500.0}
    wanted = output(deeprx.tdl_channel(n_rx=1, **values), {})
    start = {"snr_db": 0.0, "sir_db": 0.0, "cfo_hz": 0.0}
    np.testing.assert_allclose(
        output(deeprx.tdl_channel(n_rx=1, **start), values), wanted, atol=1e-4
    )


def test_cfo_turns_all_antennas_alike():
    still, _ = faded(2, snr_db=np.inf, doppler_hz=0.0)
    turned, _ = faded(2, snr_db=np.inf, doppler_hz=0.0, cfo_hz=100.0)
    rotation = np.angle((turned * still.conj()).sum(-1))  # [n_rx, slot, symbol]
    slope = np.polyfit(np.arange(14) * 548 / RATE, np.unwrap(rotation[:, 0]).T, 1)[0]
    np.testing.assert_allclose(slope / (2 * np.pi), 100, atol=1)
    np.testing.assert_allclose(rotation[0], rotation[1], atol=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "TDL-F"}, "profile must be one of TDL-A.*got 'TDL-F'"),
        ({"delay_spread_s": -1e-9}, "delay_spread_s must be at least 0"),
        ({"doppler_hz": 1e6}, "doppler_hz must be at most sample_rate / 64 = 120000, got 1e"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"burst_slots": -1}, "burst_slots must not be negative, got -1"),
    ],
)
def test_bad_parameters_are_one_line(arguments, message):
    with pytest.raises(ValueError, match=message):
        deeprx.tdl_channel(**arguments)
