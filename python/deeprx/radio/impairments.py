# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cheap software radio does to the samples that it receives."""

import math
import time
from dataclasses import asdict, dataclass

import numpy as np
import pmt
from gnuradio import analog, blocks, channels, filter, gr

from deeprx_common.checks import check_above, check_range, check_whole
from deeprx_common.slot import SlotConfig

from ..blocks.guarded import SelfKeeping
from ..blocks.slot_stream import slot_config

_PHASE_NOISE_POLE = 0.01  # phase_noise_gen's: a bandwidth of 12 kHz at 7.68 MS/s


@dataclass(frozen=True)
class Impairments:
    """How far a receiver is from an ideal one; every 0 is ideal.

    clock_ppm: its sample clock and its oscillator run so many parts per million fast. cfo_hz: a
    further offset of its oscillator. phase_noise_deg: rms. iq_gain_db, iq_phase_deg: imbalance of
    the in-phase and quadrature branches. dc: offset of both branches, full scale is 1.
    gain_step_db: the gain changes by so much and back, every gain_step_s seconds. adc_bits: of the
    converter, which clips at full scale. drop_every_s: mean time between lost buffers of
    drop_samples samples.
    """

    clock_ppm: float = 0.0
    cfo_hz: float = 0.0
    phase_noise_deg: float = 0.0
    iq_gain_db: float = 0.0
    iq_phase_deg: float = 0.0
    dc: float = 0.0
    gain_step_db: float = 0.0
    gain_step_s: float = 0.01
    adc_bits: int = 0
    drop_every_s: float = 0.0
    drop_samples: int = 16384

    def __post_init__(self):
        check_whole("adc_bits", self.adc_bits)
        check_whole("drop_samples", self.drop_samples, 1)
        for name, value in asdict(self).items():
            check_range(name, value, -math.inf)
        check_range("clock_ppm", self.clock_ppm, -100, 100)
        if self.adc_bits != 0:
            check_range("adc_bits", self.adc_bits, 2, 16, "bits, or 0 for none")
        check_range("drop_every_s", self.drop_every_s, 0)
        check_above("gain_step_s", self.gain_step_s, 0)


# An 8-bit converter, a plain crystal oscillator, no calibration, a computer that is now and then
# too slow
CHEAP_SDR = Impairments(
    clock_ppm=10.0,
    phase_noise_deg=1.0,
    iq_gain_db=0.5,
    iq_phase_deg=2.0,
    dc=0.02,
    gain_step_db=1.0,
    adc_bits=8,
    drop_every_s=0.1,
)


class _buffer_dropper(SelfKeeping, gr.basic_block):
    """Loses buffers at random, seeded times and tags what follows with rx_time, as UHD does.

    Not keep_m_in_n: it keeps to a fixed rhythm and tells nobody.
    """

    def __init__(self, n_rx: int, sample_rate: float, every_s: float, n_samples: int, seed: int):
        super().__init__("Buffer dropper", [np.complex64] * n_rx, [np.complex64] * n_rx)
        self._rate, self._n_samples = sample_rate, n_samples
        self._mean = every_s * sample_rate
        self._random = np.random.default_rng(seed)
        self._until = self._interval()  # samples to pass before the next loss
        self._losing = 0  # samples still to lose
        self._tag = True
        self._began = time.time()
        self.set_tag_propagation_policy(gr.TPP_DONT)

    def _interval(self) -> float:
        return 1 + int(self._random.exponential(self._mean)) if self._mean else math.inf

    def forecast(self, noutput_items, ninputs):
        return [1] * ninputs

    def general_work(self, input_items, output_items):
        available = min(len(samples) for samples in input_items)
        read = written = 0
        while read < available and written < len(output_items[0]):
            if self._losing:
                n = min(self._losing, available - read)
                self._losing -= n
                read += n
                continue
            if self._tag:
                self._add_time(self.nitems_read(0) + read, self.nitems_written(0) + written)
            n = min(self._until, available - read, len(output_items[0]) - written)
            for samples, out in zip(input_items, output_items, strict=True):
                out[written : written + n] = samples[read : read + n]
            read += n
            written += n
            self._until -= n
            if not self._until:
                self._until, self._losing, self._tag = self._interval(), self._n_samples, True
        self.consume_each(read)
        return written

    def _add_time(self, read: int, written: int) -> None:
        whole, fraction = divmod(read / self._rate + self._began % 1, 1)
        when = (pmt.from_uint64(int(self._began) + int(whole)), pmt.from_double(fraction))
        self.add_item_tag(0, written, pmt.intern("rx_time"), pmt.make_tuple(*when))
        self._tag = False


class radio_impairments(gr.hier_block2):
    """The imperfections of a direct-conversion receiver, from its mixer to the computer.

    Inputs and outputs: n_rx antennas, complex samples; outputs are those of one device: all
    antennas share clock, oscillator and lost buffers. Tags end here; as behind a UHD source, output
    0 has rx_time at the start and after each loss.

    frequency_hz: what the receiver is tuned to: with clock_ppm it gives the frequency offset that
    belongs to the clock's. gain_db: ahead of the converter, whose full scale is 1. seed: of the
    losses. slot: whose sample rate all inputs have. sample_rate: samples/s, of a radio at another
    rate than the slot's. Other keywords: see Impairments.

    Raises ValueError where a value is out of range, TypeError where slot is no SlotConfig. Made of
    stock blocks, save for the losses. Not channels.impairments: it knows neither clock, converter
    nor gain, and turns its offset back.
    """

    def __init__(
        self,
        n_rx: int = 2,
        frequency_hz: float = 0.0,
        gain_db: float = 0.0,
        slot: SlotConfig | None = None,
        seed: int = 1,
        sample_rate: float | None = None,
        **impairments,
    ):
        check_whole("n_rx", n_rx, 1)
        check_whole("seed", seed, 0)
        i = Impairments(**impairments)
        slot = slot_config(slot)
        if sample_rate is None:
            sample_rate = slot.sample_rate
        gr.hier_block2.__init__(
            self,
            "Radio impairments",
            gr.io_signature(n_rx, n_rx, gr.sizeof_gr_complex),
            gr.io_signature(n_rx, n_rx, gr.sizeof_gr_complex),
        )
        self._dropper = _buffer_dropper(n_rx, sample_rate, i.drop_every_s, i.drop_samples, seed)
        for antenna in range(n_rx):
            chain = _mixer(i, sample_rate, frequency_hz)
            chain.append(blocks.multiply_const_cc(10 ** (gain_db / 20)))
            if i.gain_step_db:
                steps = blocks.vector_source_c([1, 10 ** (i.gain_step_db / 20)], True)
                held = blocks.repeat(gr.sizeof_gr_complex, round(i.gain_step_s * sample_rate))
                product = blocks.multiply_cc()
                self.connect(steps, held, (product, 1))
                chain.append(product)
            if i.iq_gain_db or i.iq_phase_deg:
                chain.append(channels.iqbal_gen(i.iq_gain_db, i.iq_phase_deg, 1))
            if i.dc:
                chain.append(blocks.add_const_cc(complex(i.dc, i.dc)))
            if i.adc_bits:
                chain.append(_converter(i.adc_bits))
            self.connect((self, antenna), *chain, (self._dropper, antenna), (self, antenna))


def _mixer(i: Impairments, sample_rate: float, frequency_hz: float) -> list[gr.basic_block]:
    fast = 1e-6 * i.clock_ppm
    chain = []
    if fast:
        chain.append(filter.mmse_resampler_cc(0, 1 / (1 + fast)))
    cfo_hz = i.cfo_hz - fast * frequency_hz
    if cfo_hz:
        chain.append(blocks.rotator_cc(2 * math.pi * cfo_hz / sample_rate))
    if i.phase_noise_deg:
        white = math.radians(i.phase_noise_deg) * math.sqrt(2 / _PHASE_NOISE_POLE - 1)
        chain.append(channels.phase_noise_gen(white, _PHASE_NOISE_POLE))
    return chain


class _converter(gr.hier_block2):
    """Both branches through a quantiser that clips, which the stock one alone does not."""

    def __init__(self, bits: int):
        signature = gr.io_signature(1, 1, gr.sizeof_gr_complex)
        gr.hier_block2.__init__(self, "Converter", signature, signature)
        split, joined = blocks.complex_to_float(), blocks.float_to_complex()
        self.connect(self, split)
        for branch in range(2):
            clip = analog.rail_ff(-1, 1 - 2.0 ** (1 - bits))
            self.connect((split, branch), clip, channels.quantizer(bits), (joined, branch))
        self.connect(joined, self)
