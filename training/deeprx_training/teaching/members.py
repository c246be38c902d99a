# SPDX-License-Identifier: GPL-3.0-or-later
"""The nets of a recipe as they begin, and what steps their weights."""

from collections.abc import Iterable

import torch
from pytorch_optimizer import Lamb
from torch import nn

from ..files import TrainingError
from ..receivers.build import build
from ..receivers.nets import HybridRx, last_hidden
from .checkpoint import damaged, load_receiver
from .recipe import Member, Recipe

# A batch has one modulation, so statistics that are to be held must come of many batches.
HELD_MOMENTUM = 0.01


def begin(member: Member, recipe: Recipe) -> nn.Module:
    """A member's net; members that are equal begin with equal weights."""
    torch.manual_seed(recipe.seed)
    net = build(member.net, [recipe.folder])
    if recipe.norm_until < 1:
        for norm in batch_norms(net):
            norm.momentum = HELD_MOMENTUM
    if member.start:
        trained = load_receiver(member.start, rebuild=True)[1]
        try:
            net.load_state_dict(trained.state_dict())
        except RuntimeError as error:
            raise TrainingError(damaged(member.start, member.name, error)) from None
    return net


def batch_norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


def optimizer_of(net: nn.Module, recipe: Recipe, gpu: bool) -> torch.optim.Optimizer:
    options = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "lamb":
        return Lamb(net.parameters(), **options)
    return torch.optim.AdamW(net.parameters(), **options, **({"fused": True} if gpu else {}))


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, flat, then linear to zero (the schedule of the DeepRx paper)."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    flat = recipe.decay_from * recipe.steps
    return recipe.lr * min(1.0, (recipe.steps - step) / max(1.0, recipe.steps - flat))


class _OncePerBatch:
    """A net's classical part, computed for the first net that asks about a batch."""

    def __init__(self, compute):
        self._compute, self._y = compute, None

    def __call__(self, y, p, bits):
        if y is not self._y:
            self._y, self._result = y, self._compute(y, p, bits)
        return self._result


def share_classical(nets: Iterable[nn.Module], compile_demapper: bool = False) -> None:
    """Let hybrid nets share what has no weights: the demapper, and the classical part, which is
    then computed once for a batch that all of them see.
    """
    shared: dict[bool, HybridRx] = {}
    for net in nets:
        if isinstance(net, HybridRx):
            first = shared.setdefault(net.innovation, net)
            if net is first:
                net.classical = _OncePerBatch(net.classical)
                if compile_demapper:
                    net.demap.compile(dynamic=False)
            net.classical, net.demap = first.classical, first.demap


class Features:
    """What the last hidden layers of some nets put out last, by name."""

    def __init__(self):
        self._last: dict[str, torch.Tensor] = {}

    def watch(self, name: str, net: nn.Module) -> None:
        def keep(_module, _input, output):
            self._last[name] = output

        last_hidden(net).register_forward_hook(keep)

    def of(self, name: str) -> torch.Tensor:
        return self._last[name]
