# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
from gnuradio import gr

from .guarded import SelfKeeping
from .receiver_controller import expected_error_rate


class llr_quality(SelfKeeping, gr.sync_block):
    """What LLRs promise, where nobody knows the bits that were sent.

    Input: float LLRs. Every number is an estimate that believes the LLRs: a receiver that is too
    sure of itself, or whose LLRs saturate, promises more or less than it holds.
    """

    def __init__(self):
        super().__init__("LLR quality", [np.float32], None)
        self._count = 0
        self._sums = np.zeros(3)  # of |LLR|, error rate, binary entropy

    def work(self, input_items, output_items):
        llrs = input_items[0].astype(np.float64)
        size = np.abs(llrs[np.isfinite(llrs)])
        ratio = np.exp(-size)
        # H(p) = log2(1 + e^-|L|) + p |L| / ln 2
        entropy = (np.log1p(ratio) + size * ratio / (1 + ratio)) / np.log(2)
        self._sums += size.sum(), expected_error_rate(llrs) * len(llrs), entropy.sum()
        self._count += len(llrs)
        return len(input_items[0])

    def estimate(self) -> dict | None:
        """None without LLRs, else mean_abs_llr, estimated_ber (see expected_error_rate) and
        estimated_bits_per_bit (information: 1 minus the mean binary entropy of a decision).
        """
        if not self._count:
            return None
        mean_abs_llr, ber, entropy = (self._sums / self._count).tolist()
        return {
            "mean_abs_llr": mean_abs_llr,
            "estimated_ber": ber,
            "estimated_bits_per_bit": 1 - entropy,
        }
