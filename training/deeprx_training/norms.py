# SPDX-License-Identifier: GPL-3.0-or-later
"""The statistics of batch norms, averaged over many slots of every kind after training."""

import torch
from rich.progress import track
from torch import nn

from .data import Conditions, SlotGenerator, seed_of
from .receivers import KindNorm

SEED = 1_000_000_004  # no training run's
BATCH = 64


def settle(net: nn.Module, conditions: Conditions, slots: int = 512) -> None:
    """Replace the statistics of net's KindNorms by averages over so many slots of each kind that
    conditions draw.

    Training keeps those of its last ten batches of a kind, as many slots as that is. ("PreciseBN":
    Wu, Johnson, arXiv 2105.07576, section 3.) ValueError where net has none.
    """
    norms = [m for m in net.modules() if isinstance(m, KindNorm)]
    if not norms:
        raise ValueError(f"a {type(net).__name__} has no statistics for each kind of slot")
    momentum = norms[0].momentum
    kinds = [(m, d) for m in conditions.modulations for d in conditions.dmrs]
    batches = -(-slots // BATCH)
    generator = SlotGenerator(conditions)
    net.eval()
    for norm in norms:
        norm.num_batches_tracked.zero_()
        norm.train()
    with torch.no_grad():
        for step in track(range(batches * len(kinds)), "settling batch norms", transient=True):
            kind, i = divmod(step, batches)
            modulation, dmrs = kinds[kind]
            of_kind = generator.under(modulations={modulation: 1.0}, dmrs={dmrs: 1.0})
            batch = of_kind.batch(BATCH, seed_of(SEED, kind), i)
            for norm in norms:
                norm.momentum = 1.0 / (i + 1)
            net(batch.y, batch.p, batch.config.bits_per_symbol)
    for norm in norms:
        norm.momentum = momentum
    net.eval()
