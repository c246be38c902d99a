# SPDX-License-Identifier: GPL-3.0-or-later
"""Received slots to run receivers on, where what they hold does not matter but must be a slot."""

from collections.abc import Callable
from functools import partial

import numpy as np

from .slot import SlotConfig

SINR_DB = 12.0


def received_slots(
    config: SlotConfig,
    n_rx: int,
    n: int,
    bits: Callable[[int, int], np.ndarray] | None = None,
    sir_db: float | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n slots over a flat channel at an SINR of SINR_DB, their pilots, and which REs carry data,
    always the same ones. bits: of a slot and layer; None: SlotConfig.bits() of seed 1. sir_db: of
    an interferer, above SINR_DB, in all REs, whose path to each antenna is 0.5 us longer than to
    the one before; None: noise alone.

    Returns y, p and d of the model contract: float32 [n, n_rx, n_symbols, n_sc, 2] and
    [n, n_layers, n_symbols, n_sc, 2], bool [n_symbols, n_sc].
    """
    rng = np.random.default_rng(1)
    layers = range(config.n_layers)
    bits = bits or partial(config.bits, 1)
    grids = np.stack(
        [[config.grid(bits(i, k), i, k) for k in layers] for i in range(n)]
    )  # [n, n_layers, n_symbols, n_sc]
    share = 0.0 if sir_db is None else 10 ** ((SINR_DB - sir_db) / 10)  # the interferer's
    deviation = 10 ** (-SINR_DB / 20) / 2**0.5 * (1 - share) ** 0.5
    noise = rng.normal(0, deviation, (n, n_rx, *grids.shape[2:], 2)) @ [1, 1j]
    gains = np.exp(2j * np.pi * rng.random((n, n_rx, config.n_layers, 1, 1)))
    pilots = np.stack([config.pilots(i) for i in range(n)])
    if sir_db is not None:
        others = 10 ** (-sir_db / 20) * 1j ** rng.integers(4, size=(n, 1, *grids.shape[2:]))
        turns = 0.5e-3 * config.scs_khz * np.arange(n_rx)[:, None, None]  # from RE to RE
        noise += np.exp(2j * np.pi * turns * np.arange(config.n_sc)) * others
    y = (gains * grids[:, None]).sum(2) + noise
    y, p = (a.astype(np.complex64)[..., None].view(np.float32) for a in (y, pilots))
    return y, p, config.data_mask
