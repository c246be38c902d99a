# SPDX-License-Identifier: GPL-3.0-or-later
"""Training losses on bit LLRs. Each returns a scalar; `objective` adds them up and names the
parts.

llr and teacher float32 [B, S, K, b]; bits uint8 or float [B, S, K, b]; data bool [S, K] marks
data REs; weight float32 [B] or None scales each slot and has mean 1.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..receivers.pusch import levels, times_conj


def _mean(per_bit: Tensor, data: Tensor, weight: Tensor | None) -> Tensor:
    if weight is not None:
        per_bit = per_bit * weight[:, None, None, None]
    return (per_bit * data[..., None]).sum() / (data.sum() * per_bit.shape[0] * per_bit.shape[-1])


def bce(llr: Tensor, bits: Tensor, data: Tensor, weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy in nats per bit."""
    return _mean(
        F.binary_cross_entropy_with_logits(llr, bits.float(), reduction="none"), data, weight
    )


def bernoulli_kl(
    llr: Tensor,
    teacher: Tensor,
    data: Tensor,
    weight: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """T^2 KL(sigmoid(teacher / T) || sigmoid(llr / T)), each LLR a Bernoulli variable; zero where
    they agree.
    """
    zt, zs = teacher.detach() / temperature, llr / temperature
    q = torch.sigmoid(zt)
    kl = q * (F.logsigmoid(zt) - F.logsigmoid(zs)) + (1 - q) * (
        F.logsigmoid(-zt) - F.logsigmoid(-zs)
    )
    return _mean(kl * temperature**2, data, weight)


def clipped_mse(
    llr: Tensor, teacher: Tensor, data: Tensor, weight: Tensor | None = None, clip: float = 10.0
) -> Tensor:
    """Mean square difference of LLRs, both clipped to +-clip."""
    difference = llr.clamp(-clip, clip) - teacher.detach().clamp(-clip, clip)
    return _mean(difference**2, data, weight)


def skew_kl(
    llr: Tensor,
    teacher: Tensor,
    data: Tensor,
    weight: Tensor | None = None,
    temperature: float = 1.0,
    skew: float = 0.1,
) -> Tensor:
    """T^2 KL(q || skew q + (1 - skew) p) with q = sigmoid(teacher / T) and p = sigmoid(llr / T).

    The mixture bounds the loss where the student is sure and wrong (skew KL of Ko et al.,
    DistiLLM, arXiv 2402.03898, for each bit).
    """
    q = torch.sigmoid(teacher.detach() / temperature)
    p = torch.sigmoid(llr / temperature)
    mixed = skew * q + (1 - skew) * p
    kl = torch.xlogy(q, q) - torch.xlogy(q, mixed)
    kl = kl + torch.xlogy(1 - q, 1 - q) - torch.xlogy(1 - q, 1 - mixed)
    return _mean(kl * temperature**2, data, weight)


def attention(feature: Tensor) -> Tensor:
    """Where a layer is active: mean square over channels, scaled to norm 1 per slot.

    feature [B, C, S, K'] -> [B, S, K'].
    """
    energy = feature.float().square().mean(1)
    return energy / energy.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None]


def hint(feature: Tensor, teacher: Tensor) -> Tensor:
    """Square distance of the attention maps of two layers, float32 [B, C, S, K'], over the slots.

    Attention transfer (Zagoruyko, Komodakis, arXiv 1612.03928): unlike FitNets' hints it needs no
    layer between student and teacher. The finer of two grids is averaged down to the coarser.
    """
    teacher = teacher.detach()
    grid = [min(a, b) for a, b in zip(feature.shape[2:], teacher.shape[2:], strict=True)]
    maps = [attention(F.adaptive_avg_pool2d(f.float(), grid)) for f in (feature, teacher)]
    return (maps[0] - maps[1]).square().sum((1, 2)).mean()


def channel_error(estimates: Sequence[Tensor], h: Tensor, whitener: Tensor, turn: Tensor) -> Tensor:
    """Mean over exits, slots and layers of log(1 + e), e the error of an antenna's channel estimate
    over its noise; the logarithm keeps slots without noise from outweighing all others.

    estimates [B, L, R, 2, S, K] of each exit, whitener and turn as PuschRx.exits() returns them; h
    complex64 [B, L, R, S, K], the true channel.
    """
    h = torch.view_as_real(h).movedim(-1, 3)
    h = (whitener[:, None] @ h.flatten(2, 3).flatten(3)).view(h.shape)
    h = times_conj(h, turn[:, :, None], -3)
    errors = [(e - h).square().sum((2, 3)).mean((2, 3)) / h.size(2) for e in estimates]
    return torch.log1p(torch.stack(errors)).mean()


def symbol_likelihood(
    believed: Sequence[tuple[Tensor, Tensor, Tensor]],
    bits: Tensor,
    data: Tensor,
    orders: Sequence[int],
) -> Tensor:
    """Minus the logarithm of the likelihood of symbols given those sent, in nats per axis, up to
    what the receiver does not decide: a mean over exits, layers and data REs.

    believed: of each exit symbols x [B, L, 2, S, K], their SINR g and doubt q [B, L, S, K], as
    PuschRx.exits() returns them. An axis of x is Gaussian of variance 1 / (2 g) about the level
    sent, or with the odds q about any level. The bits' cross-entropy shows an SINR that is wrong
    in the few bits alone that are near a threshold; this in every symbol.
    """
    total = []
    for x, sinr, doubt in believed:
        for i, m in enumerate(orders):
            level, _ = levels(m)
            weight = 2 ** torch.arange(m // 2 - 1, -1, -1, device=bits.device)
            axes = bits[:, i, ..., :m].unflatten(-1, (m // 2, 2)).movedim(-1, 1)
            sent = level.to(x.device)[(axes * weight).sum(-1)]
            g, q = sinr[:, i, None], doubt[:, i, None]
            one = (-(x[:, i] - sent).square() * g).exp()
            each = (-(x[:, i, ..., None] - level.to(x.device)).square() * g[..., None]).exp()
            mixed = (one + q * each.sum(-1)).clamp(min=1e-30).log() - (q * len(level)).log1p()
            total.append(-(mixed + 0.5 * g.log())[..., data].mean())
    return torch.stack(total).mean()


def sinr_weight(sinr_db: Tensor) -> Tensor:
    """log2(1 + SINR), scaled to mean 1: high-SINR slots have few errors left to learn from, and
    all of the floor.
    """
    weight = torch.log2(1 + 10 ** (sinr_db / 10))
    return weight / weight.mean()


def error_weight(llr: Tensor, bits: Tensor, data: Tensor, orders: Sequence[int]) -> Tensor:
    """1 / (bce + 0.03 nats) of each slot, [B]: a slot with few errors left to lose teaches as much
    as one with many. Arguments as objective()'s.
    """
    layers = []
    for i, m in enumerate(orders):
        per_bit = F.binary_cross_entropy_with_logits(
            llr[:, i, ..., :m].detach(), bits[:, i, ..., :m].float(), reduction="none"
        )
        layers.append(per_bit[:, data].mean((1, 2)))
    return 1 / (torch.stack(layers).mean(0) + 0.03)


LOSSES = ("bce", "kl", "skew_kl", "mse", "hint", "channel", "symbols")
TAUGHT = ("kl", "skew_kl", "mse", "hint")  # by a teacher
SHOWN = ("channel", "symbols")  # what nets like PuschRx show of each exit


def objective(
    llr: Tensor,
    bits: Tensor,
    data: Tensor,
    orders: Sequence[int],
    weights: dict[str, float],
    teacher: Tensor | None = None,
    weight: Tensor | None = None,
    temperature: float = 1.0,
    features: tuple[Tensor, Tensor] | None = None,
    channel: tuple[Sequence[Tensor], Tensor, Tensor, Tensor] | None = None,
    believed: Sequence[tuple[Tensor, Tensor, Tensor]] = (),
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of the parts of LOSSES that have a weight; returns (total, {name: unweighted part}).

    llr [B, L, S, K, >= b] and bits [B, L, S, K, b] of all layers, orders: bits per symbol of each;
    what is made of LLRs is the mean over layers. teacher: its LLRs, for kl, skew_kl and mse.
    features: (student's, teacher's) last hidden layer, for hint. channel: channel_error()'s
    arguments. believed: symbol_likelihood()'s.
    """

    def over_layers(loss, target: Tensor, **options) -> Tensor:
        layers = [
            loss(llr[:, i, ..., :m], target[:, i, ..., :m], data, weight, **options)
            for i, m in enumerate(orders)
        ]
        return sum(layers) / len(layers)

    parts = {}
    if weights.get("bce"):
        parts["bce"] = over_layers(bce, bits)
    if teacher is not None:
        if weights.get("kl"):
            parts["kl"] = over_layers(bernoulli_kl, teacher, temperature=temperature)
        if weights.get("skew_kl"):
            parts["skew_kl"] = over_layers(skew_kl, teacher, temperature=temperature)
        if weights.get("mse"):
            parts["mse"] = over_layers(clipped_mse, teacher)
    if features is not None and weights.get("hint"):
        parts["hint"] = hint(*features)
    if channel is not None and weights.get("channel"):
        parts["channel"] = channel_error(*channel)
    if believed and weights.get("symbols"):
        parts["symbols"] = symbol_likelihood(believed, bits[: len(believed[0][0])], data, orders)
    total = sum(weights[name] * part for name, part in parts.items())
    return total, {name: part.detach() for name, part in parts.items()}
