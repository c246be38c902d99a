# SPDX-License-Identifier: GPL-3.0-or-later
"""Training losses on bit LLRs. Each returns a scalar; `objective` adds them up and names the
parts.

llr and teacher float32 [B, 14, K, b]; bits uint8 or float [B, 14, K, b]; data bool [14, K] marks
data REs; weight float32 [B] or None scales each slot and has mean 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


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


def sinr_weight(sinr_db: Tensor) -> Tensor:
    """log2(1 + SINR), scaled to mean 1: high-SINR slots have few errors left to learn from, and
    all of the floor.
    """
    weight = torch.log2(1 + 10 ** (sinr_db / 10))
    return weight / weight.mean()


LOSSES = ("bce", "kl", "skew_kl", "mse", "hint")


def objective(
    llr: Tensor,
    bits: Tensor,
    data: Tensor,
    weights: dict[str, float],
    teacher: Tensor | None = None,
    weight: Tensor | None = None,
    temperature: float = 1.0,
    features: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of the parts of LOSSES that have a weight; returns (total, {name: unweighted part}).

    teacher: its LLRs, for kl, skew_kl and mse. features: (student's, teacher's) last hidden layer,
    for hint.
    """
    parts = {}
    if weights.get("bce"):
        parts["bce"] = bce(llr, bits, data, weight)
    if teacher is not None:
        if weights.get("kl"):
            parts["kl"] = bernoulli_kl(llr, teacher, data, weight, temperature)
        if weights.get("skew_kl"):
            parts["skew_kl"] = skew_kl(llr, teacher, data, weight, temperature)
        if weights.get("mse"):
            parts["mse"] = clipped_mse(llr, teacher, data, weight)
    if features is not None and weights.get("hint"):
        parts["hint"] = hint(*features)
    total = sum(weights[name] * part for name, part in parts.items())
    return total, {name: part.detach() for name, part in parts.items()}
