# SPDX-License-Identifier: GPL-3.0-or-later
"""The statistics of batch norms, averaged over many slots of every kind after training."""

from collections import Counter
from collections.abc import Iterable

import torch
from torch import nn

from ..data.channels import LayerBatch
from .nets import KindNorm, SeparableConv


def kind_norms(net: nn.Module) -> list[KindNorm]:
    return [m for m in net.modules() if isinstance(m, KindNorm)]


def settle(net: nn.Module, batches: Iterable[LayerBatch]) -> None:
    """Replace the statistics of net's KindNorms by averages over batches of equal size, which are
    of every kind that it is to receive.

    Training keeps those of its last ten batches of a kind, as many slots as that is. ("PreciseBN":
    Wu, Johnson, arXiv 2105.07576, section 3.) ValueError where net has none.
    """
    norms = kind_norms(net)
    if not norms:
        raise ValueError(f"a {type(net).__name__} has no statistics for each kind of slot")
    momentum = norms[0].momentum
    net.eval()
    for module in net.modules():
        if isinstance(module, KindNorm | SeparableConv):  # dense convolutions are faster
            module.train()
    for norm in norms:
        norm.num_batches_tracked.zero_()
    seen = Counter()
    with torch.no_grad():
        for batch in batches:
            kind = (batch.config.modulation, batch.config.dmrs)
            seen[kind] += 1
            for norm in norms:
                norm.momentum = 1.0 / seen[kind]
            net(batch.y, batch.p, batch.config.bits_per_symbol)
    for norm in norms:
        norm.momentum = momentum
    net.eval()
