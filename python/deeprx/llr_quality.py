# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
from gnuradio import gr

from .slot_stream import SelfKeeping


class llr_quality(SelfKeeping, gr.sync_block):
    """What LLRs promise, where nobody knows the bits that were sent.

    Input: float LLRs. Every number is an estimate that believes the LLRs: a receiver that is too
    sure of itself, or whose LLRs saturate, promises more or less than it holds.
    """

    def __init__(self):
        super().__init__("LLR quality", [np.float32], None)
        self._count = 0
        self._sums = np.zeros(3)  # of |LLR|, error probability, binary entropy

    def work(self, input_items, output_items):
        size = np.abs(input_items[0][np.isfinite(input_items[0])]).astype(np.float64)
        error = 1 / (1 + np.exp(size))
        # H(p) = log2(1 + e^-|L|) + p |L| / ln 2
        entropy = np.log1p(np.exp(-size)) / np.log(2) + error * size / np.log(2)
        self._sums += size.sum(), error.sum(), entropy.sum()
        self._count += len(size)
        return len(input_items[0])

    def estimate(self) -> dict | None:
        """None without LLRs, else mean_abs_llr, estimated_ber (the mean of 1 / (1 + e^|LLR|)) and
        estimated_bits_per_bit (1 minus the mean binary entropy: information in a decision).
        """
        if not self._count:
            return None
        mean_abs_llr, ber, entropy = (self._sums / self._count).tolist()
        return {
            "mean_abs_llr": mean_abs_llr,
            "estimated_ber": ber,
            "estimated_bits_per_bit": 1 - entropy,
        }
