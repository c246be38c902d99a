# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
from gnuradio import gr

from deeprx_common.checks import check_whole
from deeprx_common.slot import N_SYMBOLS

from .guarded import SelfKeeping
from .slot_stream import add_slot_tags, slot_config, slot_starts


def equalise(received: np.ndarray, pilots: np.ndarray) -> np.ndarray:
    """Least squares at the pilots, linear interpolation, maximum ratio combining.

    received: complex [n_rx, n_symbols, n_sc]. pilots: complex [n_symbols, n_sc] of one user, zero
    where there is none. Returns unbiased symbol estimates, complex64 [n_symbols, n_sc].
    """
    n_symbols, n_sc = pilots.shape
    dmrs = np.flatnonzero(np.abs(pilots).sum(1))
    at = np.flatnonzero(pilots[dmrs[0]])
    at_pilots = received[:, dmrs][..., at] / pilots[dmrs][:, at]
    # a bulk delay turns the phase over frequency: without it, neighbouring pilots average well
    step = np.angle(np.sum(at_pilots[..., 1:] * at_pilots[..., :-1].conj())) / 2
    turn = np.exp(-1j * step * np.arange(n_sc))
    at_pilots = at_pilots * turn[at]
    pairs = (at_pilots[..., 1:] + at_pilots[..., :-1]) / 2
    between = at[:-1] + 1
    nearest = _segment(between, n_sc)
    share = np.clip((np.arange(n_sc) - between[nearest]) / 2, 0, 1)
    channel = pairs[..., nearest] * (1 - share) + pairs[..., nearest + 1] * share
    if len(dmrs) > 1:  # linear between neighbours, and beyond the first and last two
        segment = _segment(dmrs, n_symbols)
        before, after = dmrs[segment], dmrs[segment + 1]
        weight = ((np.arange(n_symbols) - before) / (after - before))[:, None]
        channel = channel[:, segment] * (1 - weight) + channel[:, segment + 1] * weight
    gain = np.maximum(np.sum(np.abs(channel) ** 2, axis=0), np.finfo(float).tiny)
    return (np.sum(channel.conj() * (received * turn), axis=0) / gain).astype(np.complex64)


def _segment(places: np.ndarray, n: int) -> np.ndarray:
    """Which of the places 0 to n - 1 lie behind, the last but one at most."""
    return np.clip(np.searchsorted(places, np.arange(n), "right") - 1, 0, len(places) - 2)


class slot_equaliser(SelfKeeping, gr.basic_block):
    """The slot's data symbols after a classical equaliser: what a constellation display shows.

    Inputs: n_rx streams of OFDM symbols as the front ends give them. Output: complex64 estimates of
    the data resource elements in transmit order, one packet a slot; tags packet_len (n_data_re) and
    slot_index. See equalise().

    every: only slots whose slot_index is a multiple of it (a display needs no more).
    slot: a SlotConfig of one user.

    Not ofdm_frame_equalizer_vcvc: it takes one antenna and does not interpolate between pilots.

    Raises ValueError where a value is out of range.
    """

    def __init__(self, n_rx: int = 2, every: int = 1, slot=None):
        config = self.config = slot_config(slot)
        check_whole("n_rx", n_rx, 1, 4, "antennas")
        check_whole("every", every, 1)
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
                end = read + config.n_symbols
                received = np.stack([x[read:end, config.bins] for x in input_items])
                symbols = equalise(received, config.pilots(index)[0])
                out[written : written + config.n_data_re] = symbols[config.data_mask]
                add_slot_tags(self, self.nitems_written(0) + written, config.n_data_re, index)
                written += config.n_data_re
            read += N_SYMBOLS
        self.consume_each(read)
        return written
