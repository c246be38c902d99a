# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pmt
from gnuradio import gr

from ..blocks.guarded import SelfKeeping
from ..blocks.slot_stream import device_time

_FULL_SCALE = 0.999  # of a converter of 8 bits or more: 1 - 1 / 128 and what rounds to it


class radio_monitor(SelfKeeping, gr.sync_block):
    """Watches a source: its level, and what it lost.

    Input: complex samples of one antenna. Each rx_time tag after the first is an overflow, and says
    how many samples are missing.
    """

    def __init__(self, sample_rate: float):
        super().__init__("Radio monitor", [np.complex64], None)
        self._rate = sample_rate
        self._reference: tuple[int, int, float] | None = None  # offset, whole and other seconds
        self._energy, self._clipped = 0.0, 0
        self.samples = self.overflows = self.lost_samples = 0

    def work(self, input_items, output_items):
        samples = input_items[0]
        parts = samples.view(np.float32)
        self._energy += float(parts @ parts)
        self._clipped += int(np.count_nonzero(np.abs(parts) >= _FULL_SCALE))
        self.samples += len(samples)
        for tag in self.get_tags_in_window(0, 0, len(samples), pmt.intern("rx_time")):
            time = device_time(tag.value)
            if time is None:
                continue
            whole, fraction = time
            if self._reference is not None:
                at, first, begun = self._reference
                passed = (whole - first + fraction - begun) * self._rate
                self.overflows += 1
                self.lost_samples += max(0, round(passed) - (tag.offset - at))
            self._reference = tag.offset, whole, fraction
        return len(samples)

    def level_dbfs(self) -> float | None:
        """Mean power so far, 0 dB being a full-scale complex tone; None before any."""
        if not self._energy:
            return None
        return float(10 * np.log10(self._energy / self.samples))

    def clipped_share(self) -> float:
        """Share of real and imaginary parts at full scale."""
        return self._clipped / (2 * max(1, self.samples))
