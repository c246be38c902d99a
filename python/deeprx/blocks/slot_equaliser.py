# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
from gnuradio import gr

from deeprx_common.checks import check_range
from deeprx_common.slot import N_SYMBOLS

from .guarded import SelfKeeping
from .slot_stream import add_slot_tags, slot_config, slot_starts


def equalise(received: np.ndarray, pilots: np.ndarray) -> np.ndarray:
    """Least squares at the pilots, linear interpolation, maximum ratio combining.

    received: complex [n_rx, 14, n_sc]. pilots: complex [14, n_sc], zero where there is none.
    Returns unbiased symbol estimates, complex64 [14, n_sc].
    """
    n_sc = pilots.shape[1]
    dmrs = np.flatnonzero(np.abs(pilots).sum(1))
    at_pilots = received[:, dmrs, ::2] * pilots[dmrs, ::2].conj()
    # a bulk delay turns the phase over frequency: without it, neighbouring pilots average well
    step = np.angle(np.sum(at_pilots[..., 1:] * at_pilots[..., :-1].conj())) / 2
    turn = np.exp(-1j * step * np.arange(n_sc))
    at_pilots = at_pilots * turn[::2]
    pairs = (at_pilots[..., 1:] + at_pilots[..., :-1]) / 2  # lie on the odd subcarriers
    inner = (pairs[..., 1:] + pairs[..., :-1]) / 2
    channel = np.empty((*at_pilots.shape[:2], n_sc), complex)
    channel[..., 1:-1:2], channel[..., 2:-2:2] = pairs, inner
    channel[..., 0] = pairs[..., 0]
    channel[..., -2:] = pairs[..., -1:]
    if len(dmrs) == 2:
        weight = ((np.arange(N_SYMBOLS) - dmrs[0]) / (dmrs[1] - dmrs[0]))[:, None]
        channel = channel[:, :1] * (1 - weight) + channel[:, 1:] * weight
    gain = np.maximum(np.sum(np.abs(channel) ** 2, axis=0), np.finfo(float).tiny)
    return (np.sum(channel.conj() * (received * turn), axis=0) / gain).astype(np.complex64)


class slot_equaliser(SelfKeeping, gr.basic_block):
    """The slot's data symbols after a classical equaliser: what a constellation display shows.

    Inputs: n_rx streams of OFDM symbols as the front ends give them. Output: complex64 estimates of
    the data resource elements in transmit order, one packet a slot; tags packet_len (n_data_re) and
    slot_index. See equalise().

    every: only slots whose slot_index is a multiple of it (a display needs no more).
    Other keywords: see SlotConfig.

    Not ofdm_frame_equalizer_vcvc: it takes one antenna and does not interpolate between pilots.

    Raises ValueError where a value is out of range.
    """

    def __init__(self, n_rx: int = 2, every: int = 1, **slot):
        config = self.config = slot_config(**slot)
        check_range("n_rx", n_rx, 1, 4, "antennas")
        check_range("every", every, 1)
        super().__init__("Slot equaliser", [(np.complex64, config.fft_size)] * n_rx, [np.complex64])
        self._every = every
        self.set_tag_propagation_policy(gr.TPP_DONT)
        self.set_output_multiple(config.n_data_re)
        self.set_relative_rate(config.n_data_re, N_SYMBOLS * every)

    def forecast(self, noutput_items, ninputs):
        return [N_SYMBOLS] * ninputs

    def general_work(self, input_items, output_items):
        out, config = output_items[0], self.config
        available = min(len(symbols) for symbols in input_items)
        base = self.nitems_read(0)
        starts = slot_starts(self.get_tags_in_window(0, 0, available))
        read = written = 0
        while available - read >= N_SYMBOLS and len(out) - written >= config.n_data_re:
            index = starts.get(base + read)
            if index is None:  # no slot starts here
                read += 1
                continue
            if index % self._every == 0:
                received = np.stack([x[read : read + N_SYMBOLS, config.bins] for x in input_items])
                symbols = equalise(received, config.pilots(index))
                out[written : written + config.n_data_re] = symbols[~config.pilot_mask]
                add_slot_tags(self, self.nitems_written(0) + written, config.n_data_re, index)
                written += config.n_data_re
            read += N_SYMBOLS
        self.consume_each(read)
        return written
