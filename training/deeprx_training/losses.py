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


def sinr_weight(sinr_db: Tensor) -> Tensor:
    """log2(1 + SINR), scaled to mean 1: high-SINR slots have few errors left to learn from, and
    all of the floor.
    """
    weight = torch.log2(1 + 10 ** (sinr_db / 10))
    return weight / weight.mean()


def objective(
    llr: Tensor,
    bits: Tensor,
    data: Tensor,
    weights: dict[str, float],
    teacher: Tensor | None = None,
    weight: Tensor | None = None,
    temperature: float = 1.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of the weighted parts {"bce", "kl", "mse"}; returns (total, {name: unweighted part})."""
    parts = {}
    if weights.get("bce"):
        parts["bce"] = bce(llr, bits, data, weight)
    if teacher is not None and weights.get("kl"):
        parts["kl"] = bernoulli_kl(llr, teacher, data, weight, temperature)
    if teacher is not None and weights.get("mse"):
        parts["mse"] = clipped_mse(llr, teacher, data, weight)
    total = sum(weights[name] * part for name, part in parts.items())
    return total, {name: part.detach() for name, part in parts.items()}
