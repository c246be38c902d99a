# SPDX-License-Identifier: GPL-3.0-or-later
"""The TDL channel: its statistics as TR 38.901 has them, and SNR, SIR and CFO as defined."""

import numpy as np
import pytest
from gnuradio import analog, blocks, deeprx, gr
from gnuradio.deeprx.blocks.tdl import (
    INTERPOLATOR_DELAY,
    LINE_OF_SIGHT,
    PROFILES,
    TdlFading,
    fractional_delays,
    profile_taps,
)
from scipy import special, stats
from slots import slot_of

from deeprx_common.slot import SLOTS

RATE = 7.68e6
GNB = SLOTS["gnb"]
SLOT = slot_of(n_prb=6)


def defined_gains(profile, n_rx, doppler_hz, seed, link, draw, times, n_sinusoids=20):
    """The gains of TR 38.901's taps as TdlFading defines them, complex [time, n_rx, n_taps]."""
    powers = profile_taps(profile)[1]
    random = np.random.default_rng((seed, link, draw))
    start = random.random((n_rx, len(powers), 1))
    phases = random.random((n_rx, len(powers), n_sinusoids))
    angles = 2 * np.pi * (np.arange(n_sinusoids) + start) / n_sinusoids
    cycles = doppler_hz / RATE * np.cos(angles) * np.reshape(times, (-1, 1, 1, 1)) + phases
    gains = np.sqrt(powers / n_sinusoids) * np.exp(2j * np.pi * cycles).sum(-1)
    if profile in LINE_OF_SIGHT:
        cycles = 0.7 * doppler_hz / RATE * np.reshape(times, (-1, 1)) + phases[:, 0, 0]
        gains[..., 0] = np.sqrt(powers[0]) * np.exp(2j * np.pi * cycles)
    return gains


@pytest.mark.parametrize("profile", ["TDL-A", "TDL-D"])
@pytest.mark.parametrize("draw", [(1, 0, 0), (2**40 + 3, 1, 2**33)])  # also of two words each
def test_fading_is_what_its_definition_gives(profile, draw):
    """The line as it runs, against gains computed anew for every sample: below -75 dB."""
    n_rx, doppler, delay_spread = 3, 500.0, 300e-9
    random = np.random.default_rng(0)
    signal = random.standard_normal((8000, 2)) @ np.array([1, 1j])
    gains = defined_gains(profile, n_rx, doppler, *draw, np.arange(len(signal)))
    filters = fractional_delays(profile_taps(profile)[0] * delay_spread * RATE)
    delayed = np.array([np.convolve(signal, f)[: len(signal)] for f in filters.T])
    expected = np.einsum("nak,kn->an", gains, delayed)

    fading = TdlFading(profile, n_rx, delay_spread, doppler, RATE, draw[0], draw[1])
    fading.redraw(draw[2])
    times = np.arange(0, len(signal), 1000)
    np.testing.assert_allclose(fading.taps(times), gains[times], atol=1e-6)
    error = fading.process(signal) - expected
    assert (np.abs(error) ** 2).mean() < 10**-7.5 * (np.abs(expected) ** 2).mean()


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


def test_envelopes_are_rayleigh_and_rice():
    """Kolmogorov-Smirnov over 4000 draws and 2 antennas; 0.0152 rejects at 5 %."""
    fading = {profile: TdlFading(profile, 2, 100e-9, 50.0, RATE, seed=5) for profile in PROFILES}
    gains = {profile: [] for profile in PROFILES}
    for profile, taps in gains.items():
        for draw in range(4000):
            fading[profile].redraw(draw)
            taps.append(fading[profile].taps([1e5])[0])
        powers = profile_taps(profile)[1]
        taps = np.array(taps).reshape(-1, len(powers))
        first = 0
        if profile in LINE_OF_SIGHT:  # the first two taps are one, with both parts
            rice = stats.rice(np.sqrt(2 * powers[0] / powers[1]), scale=np.sqrt(powers[1] / 2))
            assert stats.kstest(np.abs(taps[:, 0] + taps[:, 1]), rice.cdf).statistic < 0.02
            first = 2
        for tap in (first, len(powers) - 1):
            rayleigh = stats.rayleigh(scale=np.sqrt(powers[tap] / 2))
            assert stats.kstest(np.abs(taps[:, tap]), rayleigh.cdf).statistic < 0.02


def responses_to_impulses(profile, stock, seed, doppler_hz, n_impulses, period=64):
    """Impulse responses of the whole channel, complex [n_rx, n_impulses, period]."""
    top = gr.top_block()
    impulse = np.eye(1, period, dtype=np.complex64)[0].tolist()
    channel = deeprx.tdl_channel(
        profile, 2, 100e-9, doppler_hz, snr_db=np.inf, seed=seed, stock=stock
    )
    head = blocks.head(gr.sizeof_gr_complex, n_impulses * period)
    sinks = [blocks.vector_sink_c() for _ in range(2)]
    top.connect(blocks.vector_source_c(impulse, True), head, channel)
    for antenna, sink in enumerate(sinks):
        top.connect((channel, antenna), sink)
    top.run()
    return np.array([sink.data() for sink in sinks]).reshape(2, n_impulses, period)


@pytest.mark.parametrize("profile", ["TDL-A", "TDL-D"])
def test_statistics_are_those_of_the_stock_model(profile):
    """In the band of 26 PRB: mean power, delay profile, fading over time and between antennas, over
    20 seeds of 64 impulses, a quarter of a Doppler period apart.
    """
    correlations = []
    for stock in (False, True):
        h = np.array(
            [
                responses_to_impulses(profile, stock, seed, 0.25 / 64 * RATE, 64)
                for seed in range(20)
            ]
        )  # [seed, antenna, impulse, delay]
        spectrum = np.fft.fft(h, 512)[..., np.arange(-156, 156)]
        over_frequency = [
            (spectrum[..., lag:] * spectrum[..., : 312 - lag].conj()).mean()
            for lag in (0, 8, 32, 96)
        ]
        late = h[..., 7:]  # behind any line of sight, whose Doppler differs
        power = (np.abs(late) ** 2).sum(-1).mean()
        over_time = [
            (late[:, :, lag:] * late[:, :, :-lag].conj()).sum(-1).mean() / power
            for lag in range(1, 5)
        ]
        np.testing.assert_allclose(over_time, special.j0(np.pi / 2 * np.arange(1, 5)), atol=0.12)
        assert abs((late[:, 0] * late[:, 1].conj()).sum(-1).mean()) < 0.12 * power
        correlations.append(over_frequency)
    np.testing.assert_allclose(correlations[0], correlations[1], atol=0.12)
    assert np.real(correlations)[:, 0] == pytest.approx(1, abs=0.1)


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
    np.testing.assert_array_equal(np.concatenate(parts, 1), whole)


def faded(n_slots, most_items=100_000_000, **channel):
    """Grids [n_rx, n_slots, 14, n_sc] after transmitter, channel and aligned front end."""
    channel = {"n_rx": 2, "slot": SLOT, **channel}
    top = gr.top_block()
    transmitter = deeprx.slot_transmitter(slot=SLOT)
    tdl = deeprx.tdl_channel(**channel)
    front_end = deeprx.aligned_front_end(channel["n_rx"], slot=SLOT)
    top.connect(deeprx.slot_source(1, 0, n_slots, slot=SLOT), transmitter, tdl)
    if channel.get("sir_db") is not None:
        others = slot_of(n_prb=6, dmrs_n_id=2)
        other = deeprx.slot_transmitter(slot=others)
        top.connect(deeprx.slot_source(2, 0, n_slots, slot=others), other, (tdl, 1))
    config = transmitter.config
    sinks = [blocks.vector_sink_c(config.fft_size) for _ in range(channel["n_rx"])]
    for antenna, sink in enumerate(sinks):
        top.connect((tdl, antenna), (front_end, antenna), sink)
    top.run(most_items)
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


def test_users_have_the_same_power_and_fading_of_their_own():
    """Input 0, 1 and 2, the last an interferer: what only one of them sends, at the antennas."""

    def alone(port):
        top = gr.top_block()
        tdl = deeprx.tdl_channel(n_rx=2, snr_db=np.inf, burst_slots=1, sir_db=6, users=2, slot=SLOT)
        head = [blocks.head(gr.sizeof_gr_complex, 150 * SLOT.n_samples()) for _ in range(2)]
        sinks = [blocks.vector_sink_c() for _ in range(2)]
        for link in range(3):
            sent = [deeprx.slot_source(1, 0, 152, slot=SLOT), deeprx.slot_transmitter(slot=SLOT)]
            scale = blocks.multiply_const_cc(float(link == port))
            top.connect(*sent, scale, (tdl, link))
        for antenna in range(2):
            top.connect((tdl, antenna), head[antenna], sinks[antenna])
        top.run()
        assert len(sinks[0].tags()) == 2 * 150
        return np.array([sink.data() for sink in sinks])

    received = [alone(port) for port in range(3)]
    power = np.array([(np.abs(r) ** 2).mean() for r in received]) * SLOT.fft_size / SLOT.n_sc
    levels = 10 * np.log10(power)
    np.testing.assert_allclose(levels, [0, 0, -6], atol=0.4)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        scale = np.sqrt(power[a] * power[b]) * SLOT.n_sc / SLOT.fft_size
        assert abs((received[a] * received[b].conj()).mean()) < 0.25 * scale


def test_a_slot_fades_by_seed_and_index_alone():
    first, _ = faded(6, snr_db=np.inf, burst_slots=2, seed=9)
    again, _ = faded(4, snr_db=np.inf, burst_slots=2, seed=9)
    np.testing.assert_array_equal(first[:, :4], again)
    other, _ = faded(4, snr_db=np.inf, burst_slots=2, seed=10)
    assert np.abs(other - again).mean() > 0.3


def test_result_does_not_depend_on_how_the_scheduler_cuts_the_stream():
    options = {"snr_db": np.inf, "burst_slots": 2, "sir_db": 10}
    whole, _ = faded(5, **options)
    pieces, _ = faded(5, 20_000, **options)
    np.testing.assert_array_equal(pieces, whole)


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
    slope = np.polyfit(np.arange(14) * 137 / SLOT.sample_rate, np.unwrap(rotation[:, 0]).T, 1)[0]
    np.testing.assert_allclose(slope / (2 * np.pi), 100, atol=1)
    np.testing.assert_allclose(rotation[0], rotation[1], atol=0.01)


@pytest.mark.parametrize("profile", ["TDL-A", "TDL-E"])
def test_delays_doppler_and_offset_are_in_the_slots_samples(profile):
    """Of a gNB's slot, 23.04 MS/s, and of another rate where a radio has one."""
    sent = np.random.default_rng(0).standard_normal(8000).astype(np.complex64)
    for options, rate in (
        ({"slot": GNB}, GNB.sample_rate),
        ({"slot": GNB, "sample_rate": 5e6}, 5e6),
        ({}, RATE),
    ):
        top, sink = gr.top_block(), blocks.vector_sink_c()
        channel = deeprx.tdl_channel(
            profile, 1, 300e-9, 900.0, snr_db=np.inf, cfo_hz=500.0, seed=3, **options
        )
        top.connect(blocks.vector_source_c(sent.tolist()), channel, sink)
        top.run()
        expected = TdlFading(profile, 1, 300e-9, 900.0, rate, 3).process(sent)[0]
        expected *= np.exp(2j * np.pi * 500.0 / rate * np.arange(len(expected)))
        received = np.array(sink.data())
        np.testing.assert_allclose(received, expected[: len(received)], atol=1e-3)
        assert len(received) > 7900


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "TDL-F"}, "profile must be one of TDL-A.*got 'TDL-F'"),
        ({"delay_spread_s": -1e-9}, "delay_spread_s must be at least 0"),
        ({"doppler_hz": 1e6}, "doppler_hz must be at most sample_rate / 64 = 120000, got 1e"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"users": 0}, "users must be at least 1, got 0"),
        ({"burst_slots": -1}, "burst_slots must be at least 0, got -1"),
        ({"burst_slots": 5, "stock": True}, "burst_slots must be 0, got 5"),
    ],
)
def test_bad_parameters_are_one_line(arguments, message):
    with pytest.raises(ValueError, match=message):
        deeprx.tdl_channel(**arguments)
