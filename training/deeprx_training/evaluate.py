# SPDX-License-Identifier: GPL-3.0-or-later
"""Bit errors of several receivers on the same slots of the evaluation channels, slot by slot.

Every slot is an independent channel draw, so the slots are the clusters of each interval.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from .classical import Baseline, Demapper, perfect_csi
from .data import EVALUATION_CHANNELS, Conditions, SlotGenerator, bit_errors, bits_per_slot, seed_of

EVALUATION_SEED = 20_250_710


def evaluation_conditions(domain: str = "frequency", **changes) -> Conditions:
    """Design of the evaluation: channels never trained on; the time domain with a front end's residuals."""
    time = dict(time_domain=1.0, timing_samples=(0.0, 4.0), cfo_hz=30.0) if domain == "time" else {}
    return replace(Conditions(channels=EVALUATION_CHANNELS, cell_ids=(1, 1)), **time, **changes)


@torch.inference_mode()
def count_errors(
    receivers: dict[str, nn.Module],
    sinr_db: list[float],
    slots: int,
    device: str = "cpu",
    conditions: Conditions | None = None,
    seed: int = EVALUATION_SEED,
    batch: int = 128,
    on_batch=None,
) -> tuple[int, dict[str, np.ndarray]]:
    """Errors per slot, {name: int64 [len(sinr_db), slots]}, with "LS-LMMSE", "SURE-LMMSE" and "perfect CSI" beside
    the receivers; and the bits of a slot. conditions must name one modulation and one DMRS pattern."""
    conditions = conditions or evaluation_conditions()
    classical = {"LS-LMMSE": Baseline(), "SURE-LMMSE": Baseline(sure=True)}
    demap = Demapper().to(device)
    nets = {name: net.to(device).eval() for name, net in {**classical, **receivers}.items()}
    errors = {name: np.zeros((len(sinr_db), slots), np.int64) for name in [*nets, "perfect CSI"]}
    generator = SlotGenerator(conditions, device)
    n_bits = 0
    for i, sinr in enumerate(sinr_db):
        generator.conditions = conditions.at(sinr)
        for first in range(0, slots, batch):
            b = generator.batch(min(batch, slots - first), seed_of(seed, i), first // batch)
            part = slice(first, first + len(b.y))
            m = b.config.bits_per_symbol
            n_bits = bits_per_slot(b.config)
            for name, net in nets.items():
                errors[name][i, part] = bit_errors(net(b.y, b.p, m), b).cpu().numpy()
            llr = perfect_csi(b.y, b.h, b.n0, demap, m)
            errors["perfect CSI"][i, part] = bit_errors(llr, b).cpu().numpy()
            if on_batch:
                on_batch(len(b.y))
    return n_bits, errors
