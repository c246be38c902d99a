# SPDX-License-Identifier: GPL-3.0-or-later
"""What a receiver's slots cost while it runs, without a flowgraph."""

import threading
from collections import Counter
from typing import ClassVar

from deeprx_common import energy

from .slot_statistics import SlotStatistics

IDLE_S = 1.0


class SlotEnergy:
    """Energy per slot of one receiver, over the slots since restart().

    meter: a Meter, or a choice of find_meter(). idle_w: power at rest; 0: measured for IDLE_S now,
    where there is a counter. busy_w: of the modelled joules' Price; 0: assumed. users: of the slot,
    each with a SlotEnergy: a slot's joules are the receiver's for all of them, a delivered bit's of
    an even share. Receivers of one process that share a GPU share its joules by inference time.

    Raises OSError or ValueError with one line where the meter asked for is not there.
    """

    _gpu_inference_s: ClassVar[Counter[str]] = Counter()  # of all receivers on a device
    _lock = threading.Lock()

    def __init__(
        self,
        device: str,
        bits_per_slot: int,
        meter="auto",
        idle_w: float = 0.0,
        busy_w: float = 0.0,
        users: int = 1,
    ):
        self._device, self._bits_per_slot, self._users = device, bits_per_slot, users
        self._gpu = "cuda:0" if device == "cuda" else device
        if isinstance(meter, str):
            meter = energy.find_meter(device, meter, busy_w or None)
        self._meter = meter
        self._idle = energy.Idle(idle_w) if idle_w else None
        if not idle_w and self._meter.kind == "measured":
            self._idle = energy.measure_idle(self._meter, IDLE_S)
        self.restart()

    def restart(self, statistics: SlotStatistics | None = None) -> None:
        """Begin anew, with what statistics hold by now left out; None: they will be new as well."""
        self._before = _spent(statistics) if statistics else (0, 0.0, 0.0, 0, 0.0)
        self._gpu_before_s = self._gpu_inference_s[self._gpu]
        self._window = energy.EnergyWindow(self._meter, self._idle)

    def add_inference(self, seconds: float) -> None:
        """Time that this receiver's inference took, for its share of a GPU."""
        with self._lock:
            self._gpu_inference_s[self._gpu] += seconds / self._users

    def per_slot(self, statistics: SlotStatistics) -> dict:
        """energy_per_slot_j of the slots so far. After a fault it starts again by itself."""
        slots, cpu_s, inference_s, *_ = self._since(statistics)
        window = self._window.read().served(slots, slots * self._bits_per_slot, cpu_s)
        joules = energy.energy_per_slot(window, inference_s, self._share(inference_s))
        if self._meter.kind != "none" and self._window.lost:
            self.restart(statistics)
        return joules

    def per_delivered_bit(self, statistics: SlotStatistics) -> dict | None:
        """energy_per_delivered_bit_j, the decoder's share in it; None: no bit was delivered."""
        _, cpu_s, inference_s, bits, decoder_s = self._since(statistics)
        if not bits:
            return None
        inference_s /= self._users
        window = self._window.read().served(bits, bits, cpu_s / self._users + decoder_s)
        return energy.energy_per_slot(window, inference_s, self._share(inference_s))

    def _since(self, statistics: SlotStatistics) -> list:
        return [b - a for a, b in zip(self._before, _spent(statistics), strict=True)]

    def _share(self, inference_s: float) -> float | None:
        """Of a GPU that others use, too."""
        all_s = self._gpu_inference_s[self._gpu] - self._gpu_before_s
        shared = self._device != "cpu" and inference_s < 0.999 * all_s
        return inference_s / all_s if shared else None


def _spent(statistics: SlotStatistics) -> tuple[int, float, float, int, float]:
    s = statistics
    return s.slots, s.cpu_s, s.inference_total_s, s.delivered_bits, s.decoder_cpu_s
