# SPDX-License-Identifier: GPL-3.0-or-later
"""Modulation mapping of TS 38.211 clause 5.1."""

import numpy as np

MODULATIONS = {"QPSK": 2, "16QAM": 4, "64QAM": 6, "256QAM": 8}  # bits per symbol


def modulate(bits: np.ndarray, modulation: str) -> np.ndarray:
    """Map bits to QAM symbols of unit mean energy, TS 38.211 clause 5.1.

    bits: uint8 [..., n * bits_per_symbol]; returns complex64 [..., n].
    """
    b = MODULATIONS[modulation]
    s = 1.0 - 2.0 * np.asarray(bits, np.float64).reshape(*np.shape(bits)[:-1], -1, b)
    # amplitude of one axis: s0 * (2^(m-1) - s1 * (... - s_last)), bits of the axis alternate (I, Q)
    axis = s[..., b - 2 : b]
    for k in range(b // 2 - 2, -1, -1):
        axis = s[..., 2 * k : 2 * k + 2] * (2 ** (b // 2 - 1 - k) - axis)
    norm = np.sqrt(2 * (4 ** (b // 2) - 1) / 3)
    return ((axis[..., 0] + 1j * axis[..., 1]) / norm).astype(np.complex64)


def constellation(modulation: str) -> np.ndarray:
    """All points, complex64 [2**bits_per_symbol]; point i carries the bits of i, most significant
    first.
    """
    b = MODULATIONS[modulation]
    labels = np.arange(2**b)[:, None] >> np.arange(b - 1, -1, -1) & 1
    return modulate(labels.astype(np.uint8), modulation)[:, 0]
