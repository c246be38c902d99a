# SPDX-License-Identifier: GPL-3.0-or-later
"""SINR of received slots whose bits are known."""

import math

import numpy as np
from gnuradio import gr

from deeprx_common.slot import N_SYMBOLS, SlotConfig

from .guarded import SelfKeeping
from .slot_stream import slot_starts
from .transport import seeded_bits

_EVERY = 5  # slots: a mean needs no more


def powers(received: np.ndarray, sent: np.ndarray) -> tuple[float, float]:
    """Signal and noise per resource element.

    received: complex [n_rx, 14, n_sc]. sent: the slot's grid, complex [14, n_sc]. The channel is
    fitted in each resource block and antenna, linear over its subcarriers and over the slot; what
    the fit leaves is noise: thermal, quantisation, phase noise, images, neighbouring subcarriers.
    """
    _, n_symbols, n_sc = received.shape
    symbol, carrier = np.meshgrid(np.arange(n_symbols), np.arange(12), indexing="ij")
    basis = np.stack([np.ones(symbol.size), symbol.ravel() - symbol.mean(),
                      carrier.ravel() - carrier.mean()])  # fmt: skip
    y, x = (
        a.reshape(-1, n_symbols, n_sc // 12, 12).swapaxes(1, 2).reshape(-1, n_sc // 12, symbol.size)
        for a in (received, sent[None])
    )  # [n_rx or 1, blocks, elements]
    gram = np.einsum("ie,je,abe->abij", basis, basis, np.abs(x) ** 2)
    projection = (x.conj() * y) @ basis.T
    fit = np.linalg.solve(gram + 0j, projection[..., None])[..., 0]
    total = np.sum(np.abs(y) ** 2)
    residual = total - np.vdot(projection, fit).real
    noise = residual / (symbol.size - len(basis)) * symbol.size
    return (total - noise) / y.size, noise / y.size


class slot_sinr(SelfKeeping, gr.sync_block):
    """Measures the SINR behind a front end, in every fifth slot of known bits.

    Inputs: n_rx antennas, as sync_front_end gives them; window_lead: its own. seed: of slot_source
    or tb_source.
    n_slots: slots of this index and above are not counted; 0: all are.

    Own block: the stock estimators know PSK on one antenna, and no slots.
    """

    def __init__(self, config: SlotConfig, seed: int, n_rx: int, window_lead: int, n_slots: int):
        super().__init__("Slot SINR", [(np.complex64, config.fft_size)] * n_rx, None)
        self._config, self._bits = config, seeded_bits(config, seed)
        self._turn = np.exp(2j * np.pi * config.carriers * window_lead / config.fft_size)
        self._end = n_slots or math.inf
        self._powers = np.zeros(2)
        self.last_index: int | None = None
        self.slots = 0
        self.set_output_multiple(N_SYMBOLS)

    def work(self, input_items, output_items):
        n = len(input_items[0]) // N_SYMBOLS * N_SYMBOLS
        starts = slot_starts(self.get_tags_in_window(0, 0, n))
        for offset, index in sorted(starts.items()):
            at = offset - self.nitems_read(0)
            self.slots += index < self._end
            self.last_index = index
            if index % _EVERY == 0 and at + N_SYMBOLS <= n:
                end = at + self._config.n_symbols
                grid = [samples[at:end, self._config.bins] for samples in input_items]
                sent = self._config.grid(self._bits(index), index)
                self._powers += powers(np.stack(grid) * self._turn, sent)
        return n

    def sinr_db(self) -> float | None:
        """Per resource element and antenna, over the slots so far; None before the first."""
        signal, noise = self._powers
        if not noise > 0:
            return None
        return float(10 * np.log10(max(signal, 1e-12 * noise) / noise))
