# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule that a receiver is held to under each named condition: not worse than a classical one on
the same slots, and LLRs that keep the error rate that they promise.

Bits are judged where the reference's BER is above 1e-3: slots are drawn until the ratio of errors
is known to 0.7 %, and then it may not be above 1.02. Below, blocks are judged, at the lowest MCS of
the modulation, where the reference loses 2 to 30 % of them. Besides, no one-sided test of a ratio
above 1.01 (of blocks, 1.05) may be significant at 5 % after Holm's correction over all of a
receiver's pairs of condition and reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeprx_common import mcs as schemes
from deeprx_common.stats import block_error_rate, holm, paired_ratio, ratio_above

from ..receivers import soft_bits

BITS_ABOVE = 1e-3  # BER of the reference
HALF_WIDTH, MOST_SLOTS = 0.007, 4000
MOST_RATIO, TESTED_RATIO = 1.02, 1.01
BLER, BLOCK_ERRORS, TESTED_BLOCKS = (0.02, 0.3), 400, 1.05
MOST_BLOCK_SLOTS = 20_000  # that BLOCK_ERRORS take where BLER is lowest
FEWEST_SLOTS = 400  # of which LLRs' promises are judged without an interval
SIGNIFICANT = 0.05

PROMISED, KEPT, GAIN = 2000, (0.9, 1.1), 1e-3


def lowest_mcs(modulation: str) -> tuple[int, int]:
    """(table, index) of the lowest MCS of a modulation: of the table that has 64QAM, of 256QAM the
    other.
    """
    table = 2 if modulation == "256QAM" else 1
    return table, next(i for i in range(32) if schemes.mcs(table, i)[0] == modulation)


@dataclass(frozen=True)
class Pair:
    """A receiver and a reference on the same slots. metric: bits or blocks; errors and of how many;
    ratio of errors and its 95 % interval, None where the reference made none; p: of the one-sided
    test, None where there is nothing to test; decided: whether as much was drawn as the rule asks
    for; open: whether more slots could decide it.
    """

    metric: str
    slots: int
    rate: float
    reference_rate: float
    ratio: float | None
    ci95: tuple[float, float] | None
    p: float | None
    decided: bool
    open: bool

    @property
    def beyond(self) -> bool:
        """Whether bits are decided to be beyond MOST_RATIO."""
        return self.metric == "bits" and self.decided and self.ratio > MOST_RATIO


def bits_judged(errors: Sequence[int], slot_bits: int) -> bool:
    """Whether a reference's bits are what is judged; errors of each slot."""
    return float(np.mean(errors)) / slot_bits > BITS_ABOVE


def of_bits(errors: Sequence[int], reference: Sequence[int], slot_bits: int) -> Pair:
    """errors of each slot."""
    slots = len(errors)
    ratio, ci95 = paired_ratio(errors, reference)
    decided = (ci95[1] - ci95[0]) / 2 <= HALF_WIDTH
    return Pair(
        "bits",
        slots,
        float(np.mean(errors)) / slot_bits,
        float(np.mean(reference)) / slot_bits,
        ratio,
        ci95,
        ratio_above(errors, reference, TESTED_RATIO),
        decided,
        slots < MOST_SLOTS and not decided,
    )


def of_blocks(errors: Sequence[int], reference: Sequence[int], blocks: int) -> Pair:
    """errors of each slot, which has so many blocks."""
    slots = len(errors)
    rate = block_error_rate(reference, [blocks] * slots)
    low, high = BLER
    within = low <= rate.rate <= high
    may_be = rate.ci95[0] <= high and rate.ci95[1] >= low
    decided = within and rate.errors >= BLOCK_ERRORS
    ratio, ci95 = paired_ratio(errors, reference) if rate.errors else (None, None)
    return Pair(
        "blocks",
        slots,
        float(np.mean(errors)) / blocks,
        rate.rate,
        ratio,
        ci95,
        ratio_above(errors, reference, TESTED_BLOCKS) if decided else None,
        decided,
        slots < MOST_BLOCK_SLOTS and may_be and not decided,
    )


def corrected(pairs: Sequence[Pair]) -> list[float | None]:
    """p after Holm's correction over all pairs of one receiver that were tested."""
    after = iter(holm([pair.p for pair in pairs if pair.p is not None]))
    return [None if pair.p is None else next(after) for pair in pairs]


def verdict(pair: Pair, p: float | None) -> str:
    """p: after Holm's correction. What is not decided to 0.7 % may be well below the limit."""
    if pair.beyond or (p is not None and p < SIGNIFICANT):
        return "worse"
    below = pair.metric == "bits" and pair.ci95[1] <= MOST_RATIO
    return "not worse" if pair.decided or below else "not decided"


# LLRs


@dataclass(frozen=True)
class Bin:
    """Bits whose |LLR| is low to low + 1: draws that have such; how many are wrong, how many the
    LLRs promise, their ratio and its 95 % interval over draws.
    """

    low: float
    draws: int
    wrong: int
    promised: float
    ratio: float
    ci95: tuple[float, float]

    @property
    def kept(self) -> bool:
        """Whether the promise is kept: within KEPT; where fewer than PROMISED errors of
        FEWEST_SLOTS draws tell, whether the interval meets that.
        """
        low, high = KEPT
        if self.promised >= PROMISED and self.draws >= FEWEST_SLOTS:
            return low <= self.ratio <= high
        return self.ci95[0] <= high and self.ci95[1] >= low


@dataclass(frozen=True)
class Calibration:
    """gain: bits per coded bit that the best factor on all LLRs, scale, adds."""

    bins: tuple[Bin, ...]
    scale: float
    gain: float

    @property
    def broken(self) -> list[Bin]:
        return [each for each in self.bins if not each.kept]

    @property
    def kept(self) -> bool:
        return not self.broken and self.gain <= GAIN


class Promises:
    """What LLRs promised and kept in each slot, gathered from soft_bits.histogram()s."""

    def __init__(self):
        self._total = np.zeros(len(soft_bits.CENTRES), np.int64)
        self._slots: list[np.ndarray] = []

    def add(self, margins: np.ndarray) -> None:
        """int32 [S, bins]."""
        self._total += margins.sum(0, dtype=np.int64)
        self._slots.append(soft_bits.promises(margins).astype(np.float32))

    def calibration(self) -> Calibration:
        bits, wrong, promised = np.concatenate(self._slots, 1).astype(np.float64)
        bins = []
        for low in range(bits.shape[1]):
            drawn = bits[:, low] > 0
            if (draws := int(drawn.sum())) > 1:
                ratio, ci95 = paired_ratio(wrong[drawn, low], promised[drawn, low])
                sums = int(wrong[:, low].sum()), float(promised[:, low].sum())
                bins.append(Bin(float(low), draws, *sums, ratio, ci95))
        scale, best = soft_bits.best_scale(self._total)
        gain = max(0.0, best - float(soft_bits.information(self._total)))
        return Calibration(tuple(bins), scale, gain)
