# SPDX-License-Identifier: GPL-3.0-or-later
"""What LLRs are worth: how many bits are wrong, whether the LLRs promise the error rate they keep,
and how much information they carry.

All of it comes from one histogram of each slot: of the LLR's *margin*, the LLR with its sign turned
so that positive is right. LLRs are log P(b=1)/P(b=0) in nats.
"""

import numpy as np
import torch
from torch import Tensor

STEP, SPAN = 0.25, 40.0
EDGES = np.arange(-SPAN, SPAN + STEP, STEP)
CENTRES = (EDGES[1:] + EDGES[:-1]) / 2
SCALES = np.geomspace(0.25, 4.0, 33)


def margins(llr: Tensor, bits: Tensor) -> Tensor:
    """LLRs turned so that positive is right; llr float [B, N], bits {0, 1} [B, N]."""
    return torch.where(bits.bool(), llr, -llr)


def histogram(margin: Tensor) -> Tensor:
    """Counts int32 [B, len(CENTRES)] of margins float [B, N]; those beyond SPAN count as SPAN."""
    n = len(CENTRES)
    index = ((margin + SPAN) / STEP).long().clamp(0, n - 1)
    index += torch.arange(len(margin), device=margin.device)[:, None] * n
    counts = torch.bincount(index.flatten(), minlength=n * len(margin))
    return counts.view(len(margin), n).int()


def information(counts: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Mutual information in bits per coded bit that a decoder gets out of these LLRs times scale,
    E[1 - log2(1 + exp(-scale * margin))]; counts [..., len(CENTRES)].

    The generalised mutual information of bit-metric decoding (Martinez et al., IEEE Trans. Inf.
    Theory 55(6), 2009), which exact LLRs maximise at scale 1. Negative where LLRs are much too
    large.
    """
    loss = np.logaddexp(0.0, -scale * CENTRES) / np.log(2)
    return 1 - counts @ loss / counts.sum(-1)


def best_scale(counts: np.ndarray) -> tuple[float, float]:
    """The factor on all LLRs that gives most information, among SCALES, and that information."""
    values = [float(information(counts, s)) for s in SCALES]
    k = int(np.argmax(values))
    return float(SCALES[k]), values[k]


def promises(counts: np.ndarray, width: float = 1.0) -> np.ndarray:
    """By |LLR|, in bins of width nats: bits, wrong bits and how many the LLRs promise to be wrong,
    the sum of 1 / (1 + exp(|LLR|)). counts [.., len(CENTRES)]; float64 [3, .., bins].
    """
    half = len(CENTRES) // 2
    right, wrong = counts[..., half:], counts[..., :half][..., ::-1]
    promised = (right + wrong) / (1 + np.exp(CENTRES[half:]))
    each = np.stack([right + wrong, wrong, promised])
    return each.reshape(*each.shape[:-1], -1, round(width / STEP)).sum(-1)


def reliability(counts: np.ndarray, width: float = 1.0) -> list[dict]:
    """By |LLR|, in bins of width nats: bits, wrong bits and the error rate that the LLRs promise,
    mean of 1 / (1 + exp(|LLR|)). counts [len(CENTRES)].
    """
    return [
        {
            "llr": [low * width, (low + 1) * width],
            "bits": int(bits),
            "wrong": int(wrong),
            "promised": float(promised / bits),
        }
        for low, (bits, wrong, promised) in enumerate(promises(counts, width).T)
        if bits
    ]


def largest(counts: np.ndarray, share: float = 0.99) -> float:
    """The |LLR| that a share of all bits do not exceed, to STEP; SPAN stands for SPAN and more."""
    half = len(CENTRES) // 2
    sizes = np.cumsum(counts[half:] + counts[:half][::-1])
    return float(EDGES[half + 1 :][np.searchsorted(sizes, share * sizes[-1])])
