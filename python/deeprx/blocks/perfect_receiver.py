# SPDX-License-Identifier: GPL-3.0-or-later
from collections.abc import Sequence

import numpy as np
import pmt
from gnuradio import gr

from deeprx_common.modulation import MODULATIONS, constellation
from deeprx_common.slot import N_SYMBOLS, SlotConfig

from .guarded import SelfKeeping
from .slot_stream import add_slot_tags, slot_starts
from .tdl import TdlFading

_INSTANTS = 3  # of an FFT window, over which the channel is averaged
_LEAST = 1e-300


class PerfectCsi:
    """LMMSE and exact LLRs with the true channel and the true noise power, which a simulation knows
    and no receiver can: the bound that estimates are held against. Inter-carrier interference
    counts for nothing.

    fadings: of each user of the slot, with the parameters of those that fade its samples.
    noise_power: of a resource element and antenna. burst_slots: of one fading draw.
    """

    def __init__(
        self,
        config: SlotConfig,
        fadings: Sequence[TdlFading],
        noise_power: float,
        burst_slots: int,
    ):
        self.config, self._fadings, self._burst = config, fadings, burst_slots
        self._noise = max(noise_power, np.finfo(np.float32).tiny)
        turns = np.arange(fadings[0].length)[:, None] * config.carriers / config.fft_size
        self._responses = [f.filters.T @ np.exp(-2j * np.pi * turns) for f in fadings]
        self._axes = {b: _axis(b) for b in {u.bits_per_symbol for u in config.users}}

    def channel(self, slot_index: int) -> np.ndarray:
        """What each subcarrier of each OFDM symbol goes through on its way from a transmitter's to
        a front end's symbols, complex64 [n_layers, n_rx, n_symbols, n_sc].
        """
        c = self.config
        first = slot_index // self._burst * self._burst
        start = c.n_samples(first, slot_index - first) if slot_index > first else 0
        prefixes = np.array(c.cp_lengths(slot_index)[: c.n_symbols])
        windows = start + np.cumsum(prefixes + c.fft_size) - c.fft_size
        within = (np.arange(_INSTANTS) + 0.5) / _INSTANTS * c.fft_size
        times = (windows[:, None] + within).ravel()
        channels = []
        for fading, response in zip(self._fadings, self._responses, strict=True):
            fading.redraw(first // self._burst)
            taps = fading.taps(times).reshape(c.n_symbols, _INSTANTS, fading.n_rx, -1).mean(1)
            channels.append(np.moveaxis(taps @ response, 1, 0))
        return np.asarray(channels, np.complex64)

    def receive(self, grid: np.ndarray, slot_index: int) -> list[np.ndarray]:
        """LLRs of each user's data in transmit order, float32 [n_data_re * bits], log P(1)/P(0).

        grid: complex64 [n_rx, n_symbols, n_sc].
        """
        data = self.config.data_mask
        h = np.moveaxis(self.channel(slot_index)[:, :, data], -1, 0)  # [n_data_re, users, n_rx]
        y = np.moveaxis(grid[:, data], -1, 0)
        matched = (h.conj() @ y[:, :, None])[..., 0] / self._noise
        gram = h.conj() @ h.swapaxes(1, 2) / self._noise
        inverse = np.linalg.inv(gram + np.eye(gram.shape[-1]))
        left = np.minimum(np.diagonal(inverse, axis1=1, axis2=2).real, 1 - 1e-9)  # of the power
        symbols = (inverse @ matched[:, :, None])[..., 0] / (1 - left)
        sinr = 1 / left - 1
        return [
            self._demap(symbols[:, layer], sinr[:, layer], user.bits_per_symbol)
            for layer, user in enumerate(self.config.users)
        ]

    def _demap(self, symbols: np.ndarray, sinr: np.ndarray, bits: int) -> np.ndarray:
        points, ones = self._axes[bits]
        llr = np.empty((len(symbols), bits // 2, 2), np.float32)
        for axis, values in enumerate((symbols.real, symbols.imag)):
            metric = -sinr[:, None].astype(np.float64) * (values[:, None] - points) ** 2
            weight = np.exp(metric - metric.max(1, keepdims=True))
            one, zero = weight @ ones, weight @ (1 - ones)
            llr[:, :, axis] = np.log(np.maximum(one, _LEAST)) - np.log(np.maximum(zero, _LEAST))
        return llr.ravel()


def _axis(bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Of one axis of a constellation: its amplitudes [n], and which bits are 1 [n, bits // 2]."""
    (modulation,) = (name for name, b in MODULATIONS.items() if b == bits)
    points = constellation(modulation)
    words = np.arange(len(points))[:, None] >> np.arange(bits - 1, -1, -1) & 1
    row = np.flatnonzero(~words[:, 1::2].any(1))  # the other axis has zeros alone
    return points[row].real.astype(np.float64), words[row, ::2].astype(np.float64)


class perfect_receiver(SelfKeeping, gr.basic_block):
    """PerfectCsi as a block, with the streams of the receiver block.

    Inputs: n_rx streams of OFDM symbols as an aligned front end gives them. Outputs: of each user
    LLRs, float, one packet a slot; tags packet_len and slot_index. Nothing comes out of `stats`:
    what this takes of time is no receiver's.
    """

    def __init__(self, receiver: PerfectCsi, n_rx: int):
        config = self.config = receiver.config
        users = config.n_layers
        super().__init__(
            "Perfect CSI", [(np.complex64, config.fft_size)] * n_rx, [np.float32] * users
        )
        self.message_port_register_out(pmt.intern("stats"))
        self._receiver = receiver
        self._sizes = [config.alone(layer).n_bits for layer in range(users)]
        self.set_tag_propagation_policy(gr.TPP_DONT)
        self.set_output_multiple(max(self._sizes))
        self.set_relative_rate(max(self._sizes), N_SYMBOLS)

    def forecast(self, noutput_items, ninputs):
        return [N_SYMBOLS] * ninputs

    def general_work(self, input_items, output_items):
        config = self.config
        available = min(len(symbols) for symbols in input_items)
        base = self.nitems_read(0)
        starts = slot_starts(self.get_tags_in_window(0, 0, available))
        room = min(len(out) // n for out, n in zip(output_items, self._sizes, strict=True))
        read = slots = 0
        while available - read >= N_SYMBOLS and slots < room:
            index = starts.get(base + read)
            if index is None:  # no slot starts here
                read += 1
                continue
            grid = np.stack([x[read : read + config.n_symbols, config.bins] for x in input_items])
            for port, llr in enumerate(self._receiver.receive(grid, index)):
                n = self._sizes[port]
                output_items[port][slots * n : (slots + 1) * n] = llr
                add_slot_tags(self, self.nitems_written(port) + slots * n, n, index, port)
            read, slots = read + N_SYMBOLS, slots + 1
        self.consume_each(read)
        for port, n in enumerate(self._sizes):
            self.produce(port, slots * n)
        return gr.WORK_CALLED_PRODUCE
