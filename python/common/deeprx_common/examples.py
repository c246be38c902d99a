# SPDX-License-Identifier: GPL-3.0-or-later
"""Received slots to run receivers on, where what they hold does not matter but must be a slot."""

from collections.abc import Callable
from functools import partial

import numpy as np

from .slot import SlotConfig


def received_slots(
    config: SlotConfig,
    n_rx: int,
    n: int,
    bits: Callable[[int, int], np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n slots over a flat channel at 12 dB, their pilots, and which REs carry data, always the same
    ones. bits: of a slot and layer; None: SlotConfig.bits() of seed 1.

    Returns y, p and d of the model contract: float32 [n, n_rx, n_symbols, n_sc, 2] and
    [n, n_layers, n_symbols, n_sc, 2], bool [n_symbols, n_sc].
    """
    rng = np.random.default_rng(1)
    layers = range(config.n_layers)
    bits = bits or partial(config.bits, 1)
    grids = np.stack(
        [[config.grid(bits(i, k), i, k) for k in layers] for i in range(n)]
    )  # [n, n_layers, n_symbols, n_sc]
    noise = rng.normal(0, 10 ** (-12 / 20) / 2**0.5, (n, n_rx, *grids.shape[2:], 2)) @ [1, 1j]
    gains = np.exp(2j * np.pi * rng.random((n, n_rx, config.n_layers, 1, 1)))
    pilots = np.stack([config.pilots(i) for i in range(n)])
    y = (gains * grids[:, None]).sum(2) + noise
    y, p = (a.astype(np.complex64)[..., None].view(np.float32) for a in (y, pilots))
    return y, p, config.data_mask
