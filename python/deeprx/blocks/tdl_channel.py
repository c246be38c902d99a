# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
from gnuradio import analog, blocks, channels, gr

from deeprx_common.checks import check_whole
from deeprx_common.slot import SlotConfig

from ..deeprx_python import tdl_fader
from .slot_stream import reserve_output, slot_config
from .tdl import INTERPOLATOR_DELAY, LINE_OF_SIGHT, TdlFading, profile_taps


class _stock_fader(gr.hier_block2):
    """The same channel by GNU Radio's own block, one for each antenna."""

    def __init__(
        self, profile, n_rx, delay_spread_s, doppler_hz, sample_rate, seed, link, n_sinusoids
    ):
        super().__init__(
            "Stock fader",
            gr.io_signature(1, 1, gr.sizeof_gr_complex),
            gr.io_signature(n_rx, n_rx, gr.sizeof_gr_complex),
        )
        delays, powers = profile_taps(profile)
        k_factor = 0.0
        if profile in LINE_OF_SIGHT:  # the table gives it apart from the Rayleigh part
            k_factor = powers[0] / powers[1]
            delays, powers = delays[1:], np.array([powers[0] + powers[1], *powers[2:]])
        samples = INTERPOLATOR_DELAY + delays * delay_spread_s * sample_rate
        seeds = np.random.SeedSequence((seed, link)).generate_state(n_rx) >> 1
        for antenna, antenna_seed in enumerate(seeds):
            model = channels.selective_fading_model(
                n_sinusoids,
                doppler_hz / sample_rate,
                profile in LINE_OF_SIGHT,
                k_factor,
                int(antenna_seed),
                samples.tolist(),
                np.sqrt(powers).tolist(),
                int(np.ceil(samples.max())) + INTERPOLATOR_DELAY + 1,
            )
            if link > 0:
                model.set_tag_propagation_policy(gr.TPP_DONT)
            self.connect(self, model, (self, antenna))


class tdl_channel(gr.hier_block2):
    """TDL-A to TDL-E fading (TR 38.901 clause 7.7.2), noise, interference and a frequency offset.

    Inputs: samples of a slot_transmitter for each user, and where sir_db is given those of an
    interferer, the last one. Each goes through fading of its own. Outputs: n_rx antennas, complex;
    the tags of input 0, those of others end here.

    SNR and SIR in dB per layer, data resource element and antenna, E|h|^2 = 1 over fading (a slot
    is never normalised): noise has the variance 10^(-snr_db/10) per sample, which the front end's
    unitary FFT keeps; users are as they are sent, and the interferer is scaled by 10^(-sir_db/20).

    The output is 5 samples late (the filter for fractional delays), without any tag moving: an
    aligned front end's FFT windows lie 5 samples inside the cyclic prefix.

    profile: "TDL-A" to "TDL-E". delay_spread_s: rms, seconds. doppler_hz: maximum shift.
    snr_db: inf for no noise. cfo_hz: offset of the receiver's oscillator, the same at every
    antenna. slot: whose sample rate all inputs have. seed: fading, interferer, noise. burst_slots:
    draw new, independent fading whenever slot_index passes a multiple of it (a slot's fading is
    then known from the seed and its index); 0 for one continuous run. n_sinusoids: per tap. stock:
    fade by GNU Radio's selective_fading_model, to compare with: it is several hundred times slower,
    puts the line of sight at a random share of the Doppler, and cannot be drawn anew. users: that
    send in the same slots. sample_rate: samples/s, of a radio at another rate than the slot's.

    Raises ValueError where a value is out of range, TypeError where slot is no SlotConfig.
    """

    def __init__(
        self,
        profile: str = "TDL-A",
        n_rx: int = 2,
        delay_spread_s: float = 100e-9,
        doppler_hz: float = 50.0,
        snr_db: float = 12.0,
        sir_db: float | None = None,
        cfo_hz: float = 0.0,
        slot: SlotConfig | None = None,
        seed: int = 1,
        burst_slots: int = 0,
        n_sinusoids: int = 20,
        stock: bool = False,
        users: int = 1,
        sample_rate: float | None = None,
    ):
        check_whole("users", users, 1)
        check_whole("n_rx", n_rx, 1)
        check_whole("burst_slots", burst_slots, 0)
        n_inputs = users + (sir_db is not None)
        gr.hier_block2.__init__(
            self,
            "TDL channel",
            gr.io_signature(n_inputs, n_inputs, gr.sizeof_gr_complex),
            gr.io_signature(n_rx, n_rx, gr.sizeof_gr_complex),
        )
        slot = slot_config(slot)
        if sample_rate is None:
            sample_rate = slot.sample_rate
        self._sample_rate = sample_rate
        if stock and burst_slots:
            raise ValueError(
                f"the stock model cannot draw anew: burst_slots must be 0, got {burst_slots}"
            )
        faders = []
        for link in range(n_inputs):
            fading = (
                profile, n_rx, delay_spread_s, doppler_hz, sample_rate, seed, link, n_sinusoids
            )  # fmt: skip
            fader = tdl_fader(TdlFading(*fading), burst_slots, tags=link == 0)
            reserve_output(fader, 1 << 15, n_rx)  # few large calls
            faders.append(_stock_fader(*fading) if stock else fader)
        noise_seeds = np.random.SeedSequence((seed, n_inputs)).generate_state(n_rx) >> 1
        self._noise = [analog.noise_source_c(analog.GR_GAUSSIAN, 0, int(s)) for s in noise_seeds]
        self._rotators = [blocks.rotator_cc(0) for _ in range(n_rx)]
        self._gain = blocks.multiply_const_cc(1)
        for user in range(users):
            self.connect((self, user), faders[user])
        if sir_db is not None:
            self.connect((self, users), self._gain, faders[users])
            self.set_sir_db(sir_db)
        for antenna in range(n_rx):
            total = blocks.add_cc()
            for link, fader in enumerate(faders):
                self.connect((fader, antenna), (total, link))
            self.connect(self._noise[antenna], (total, n_inputs))
            self.connect(total, self._rotators[antenna], (self, antenna))
        self.set_snr_db(snr_db)
        self.set_cfo_hz(cfo_hz)

    def set_snr_db(self, snr_db: float) -> None:
        for source in self._noise:
            source.set_amplitude(10 ** (-snr_db / 20))

    def set_sir_db(self, sir_db: float) -> None:
        self._gain.set_k(10 ** (-sir_db / 20))

    def set_cfo_hz(self, cfo_hz: float) -> None:
        for rotator in self._rotators:
            rotator.set_phase_inc(2 * np.pi * cfo_hz / self._sample_rate)
