# SPDX-License-Identifier: GPL-3.0-or-later
"""The pseudo-random sequence of TS 38.211 clause 5.2.1."""

from functools import lru_cache

import numpy as np

_GOLD_NC = 1600


@lru_cache(maxsize=4)
def _gold_basis(length: int) -> tuple[np.ndarray, np.ndarray]:
    """x1, and x2 for each single-bit seed, both packed: x2 is linear in its seed (GF(2))."""
    n = _GOLD_NC + length
    x1 = np.zeros(n + 31, np.uint8)
    x1[0] = 1
    x2 = np.zeros((31, n + 31), np.uint8)
    x2[:, :31] = np.eye(31, dtype=np.uint8)
    for i in range(
        0, n, 28
    ):  # feedback reaches back 28 places, so 28 bits at a time are independent
        x1[i + 31 : i + 59] = (x1[i + 3 : i + 31] ^ x1[i : i + 28])[: n - i]
        taps = (
            x2[:, i + 3 : i + 31]
            ^ x2[:, i + 2 : i + 30]
            ^ x2[:, i + 1 : i + 29]
            ^ x2[:, i : i + 28]
        )
        x2[:, i + 31 : i + 59] = taps[:, : n - i]
    return (
        np.packbits(x1[_GOLD_NC : _GOLD_NC + length]),
        np.packbits(x2[:, _GOLD_NC : _GOLD_NC + length], axis=1),
    )


def gold(c_init: int, length: int) -> np.ndarray:
    """Pseudo-random sequence c(0..length-1) of TS 38.211 clause 5.2.1 (uint8 of 0 and 1)."""
    x1, basis = _gold_basis(1 << max(10, (length - 1).bit_length()))
    rows = [k for k in range(31) if c_init >> k & 1]
    packed = x1 ^ np.bitwise_xor.reduce(basis[rows], axis=0) if rows else x1
    return np.unpackbits(packed, count=length)
