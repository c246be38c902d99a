# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver of few lines, for tests: least squares, zero forcing, max-log."""

import numpy as np


def llrs(grid, config, slot_index=0):
    """LLRs log P(1)/P(0), float32 [n_data_re * bits], of one user's grid, complex64 [n_rx,
    n_symbols, n_sc].

    The channel is the mean of a few pilots around, the noise what they differ by.
    """
    pilots = config.pilots(slot_index)[0]
    mask = config.pilot_mask(0)
    every = np.flatnonzero(mask[config.dmrs[0]])
    raw = np.stack([grid[:, s, every] / pilots[s, every] for s in config.dmrs], axis=1)
    width = min(7, len(every))
    window = np.ones(width) / np.convolve(np.ones(len(every)), np.ones(width), "same")[:, None]
    smooth = np.empty_like(raw)
    for index in np.ndindex(raw.shape[:2]):
        smooth[index] = np.convolve(raw[index], np.ones(width), "same") * window[:, 0]
    noise = np.mean(np.abs(raw - smooth) ** 2) * config.cdm_groups * width / max(1, width - 1)
    over_frequency = _interpolate(smooth, every, config.n_sc)
    h = _interpolate(np.moveaxis(over_frequency, 1, -1), config.dmrs, config.n_symbols)
    h = np.moveaxis(h, -1, 1)[:, config.data_mask]
    y = grid[:, config.data_mask]
    gain = np.sum(np.abs(h) ** 2, axis=0)
    symbols = np.sum(h.conj() * y, axis=0) / gain
    return _demap(symbols, gain / max(noise, 1e-9), config.users[0].bits_per_symbol)


def _interpolate(values, at, n):
    """Linear over the last axis, the slope kept beyond the ends; constant where there is one."""
    at = np.asarray(at, float)
    if len(at) == 1:
        return np.repeat(values, n, axis=-1)
    k = np.clip(np.searchsorted(at, np.arange(n), "right") - 1, 0, len(at) - 2)
    t = (np.arange(n) - at[k]) / (at[k + 1] - at[k])
    t = np.clip(t, -0.5, 1.5)
    return values[..., k] * (1 - t) + values[..., k + 1] * t


def _demap(symbols, snr, bits):
    """Max-log of TS 38.211 clause 5.1; snr: of each symbol."""
    words = np.arange(2 ** (bits // 2))[:, None] >> np.arange(bits // 2)[::-1] & 1
    points = np.zeros(len(words))
    for bit in reversed(range(bits // 2)):
        points = (1 - 2 * words[:, bit]) * (2 ** (bits // 2 - 1 - bit) - points)
    points = points / np.sqrt(2 * np.mean(points**2))
    result = np.empty((len(symbols), bits), np.float32)
    for half, values in enumerate((symbols.real, symbols.imag)):
        distance = snr[:, None] * (values[:, None] - points) ** 2
        for bit in range(bits // 2):
            one = words[:, bit] == 1
            result[:, 2 * bit + half] = distance[:, ~one].min(1) - distance[:, one].min(1)
    return result.ravel()
