# SPDX-License-Identifier: GPL-3.0-or-later
"""What slot_probe counts, without a flowgraph."""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable

import numpy as np

from deeprx_common import report
from deeprx_common.checks import check_whole
from deeprx_common.slot import SlotConfig

from .cluster_counts import ClusterCounts

PENDING_SLOTS = 4096  # slots of one side that wait for the other: 8 MiB of 16QAM at 26 PRB
MOST_MISSED = 2**62  # an index may jump by more
MOST_NAMES = 100  # of models, and of reasons; others are counted together
MOST_PROCESSES = 4096  # of HARQ, whose blocks wait for another transmission
RECENT_TIMES = 100_000  # inference times that the percentiles are taken over


class SlotStatistics:
    """Errors per cluster, missed slots, and time per slot of one receiver, and what became of
    transport blocks.

    reference: gives the bits of a slot, uint8 [n_bits], from its index; None where they come
    through add_reference(). cluster_slots: slots with the same index // cluster_slots are one
    cluster.
    n_slots: slots of this index and above are not counted; 0: all are. sent: gives the transport
    block of a slot from its index, where that is known: a wrong one whose CRC is right is an error.
    most_transmissions: of a block, where it may be sent again. layer: of the user that is counted;
    the receiver's time is that of all of them.
    """

    def __init__(
        self,
        config: SlotConfig,
        cluster_slots: int,
        reference: Callable[[int], np.ndarray] | None = None,
        n_slots: int = 0,
        sent: Callable[[int], bytes] | None = None,
        most_transmissions: int = 1,
        layer: int = 0,
    ):
        check_whole("cluster_slots", cluster_slots, 1)
        self._slot, self._layer = config, layer
        self._config = config.alone(layer)
        self._cluster_slots = cluster_slots
        self._reference = reference
        self._end = n_slots or float("inf")
        self._decided: OrderedDict[int, np.ndarray] = OrderedDict()
        self._known: OrderedDict[int, np.ndarray] = OrderedDict()
        self._next: int | None = None
        self._latest = self._latest_block = -1
        self._gaps = 0
        self._dropped_ahead: set[int] = set()
        self._inference_s: deque[float] = deque(maxlen=RECENT_TIMES)
        self._cpu_s: list[float] = [0.0, 0]  # sum, slots
        self.inference_total_s = 0.0
        self.clusters = ClusterCounts()  # errors of bits
        self.slots = 0
        self.transmissions = 0  # of transport blocks
        self.dropped: Counter[str] = Counter()
        self.slots_by_model: Counter[str] = Counter()
        self.model = ""
        self.model_sha256: str | None = None
        self.engine: str | None = None
        self._flop = 0
        self._queue_slots: int | None = None
        self._sent = sent
        self.most_transmissions = most_transmissions
        self.block_clusters = ClusterCounts()  # errors of blocks
        self.delivery_clusters = ClusterCounts()  # blocks of transmissions
        self._unfinished: dict[tuple[int, int], None] = {}  # processes, the newest last
        self.delivered_bits = 0
        self.decoder_cpu_s = 0.0
        self._decoded = Counter()  # delivered, failed, retransmissions, slots
        self._iterations = 0.0

    def add_slot(self, slot_index: int, decisions: np.ndarray) -> None:
        """Count one received slot. decisions: hard bits, uint8 [n_bits]."""
        self._latest = max(self._latest, slot_index)
        if slot_index >= self._end:
            return
        if self._next is not None and slot_index > self._next:
            self._gaps += slot_index - self._next
        # an index that goes back is a transmitter that started again, not a loss
        self._next = slot_index + 1
        self._dropped_ahead = {k for k in self._dropped_ahead if k >= self._next}
        self.slots += 1
        if self._reference is not None:
            self._compare(slot_index, decisions, self._reference(slot_index))
        elif slot_index in self._known:
            known = np.unpackbits(self._known.pop(slot_index), count=self._config.n_bits)
            self._compare(slot_index, decisions, known)
        else:
            self._keep(self._decided, slot_index, decisions)

    def add_reference(self, slot_index: int, bits: np.ndarray) -> None:
        """The truth of one slot, before or after its decisions. bits: uint8 [n_bits]."""
        if slot_index in self._decided:
            decided = np.unpackbits(self._decided.pop(slot_index), count=self._config.n_bits)
            self._compare(slot_index, decided, bits)
        else:
            self._keep(self._known, slot_index, bits)

    @staticmethod
    def _keep(waiting: OrderedDict[int, np.ndarray], slot_index: int, bits: np.ndarray) -> None:
        waiting[slot_index] = np.packbits(bits)
        if len(waiting) > PENDING_SLOTS:
            waiting.popitem(last=False)

    def _compare(self, slot_index: int, decisions: np.ndarray, bits: np.ndarray) -> None:
        errors = int(np.count_nonzero(decisions != bits))
        self.clusters.add(slot_index // self._cluster_slots, errors, len(bits))

    def add_block(self, about: dict, block: bytes) -> None:
        """One message of tb_decoder's port `blocks`, see messages.BLOCKS, and the block's bytes."""
        index, counted = about["slot_index"], self._decoded
        self._latest_block = max(self._latest_block, index)
        if index >= self._end:
            return
        self.transmissions += 1
        good = about["crc_ok"] and (self._sent is None or block == self._sent(index))
        process = about.get("rnti", 0), about.get("process", 0)
        new_data = about.get("new_data", True)
        unfinished = process in self._unfinished
        self._unfinished.pop(process, None)
        if new_data:
            self.block_clusters.add(index // self._cluster_slots, not good, 1)
            counted["failed"] += unfinished
        else:
            counted["retransmissions"] += 1
        if not good:
            self._unfinished[process] = None
            if len(self._unfinished) > MOST_PROCESSES:
                del self._unfinished[next(iter(self._unfinished))]
        delivered = good and (new_data or unfinished)  # else it was delivered before
        if delivered:
            counted["delivered"] += 1
            self.delivered_bits += 8 * len(block)
        self.delivery_clusters.add(index // self._cluster_slots, delivered, 1)
        if "iterations" in about:
            counted["slots"] += 1
            self._iterations += about["iterations"]
            self.decoder_cpu_s += about.get("cpu_ns", 0) * 1e-9

    def add_stats(self, stats: dict) -> None:
        """One message of the receiver's port `stats`, as a Python dict."""
        if "dropped" in stats:
            index = stats.get("slot_index")
            self._latest = max(self._latest, -1 if index is None else index)
            if index is not None and index >= self._end:
                return
            count_by_name(self.dropped, stats["dropped"])
            ahead = index is not None and (self._next is None or index >= self._next)
            if ahead and len(self._dropped_ahead) < RECENT_TIMES:
                self._dropped_ahead.add(index)
        elif "inference_ns" in stats and stats.get("slot_index", 0) < self._end:
            self._inference_s.append(stats["inference_ns"] * 1e-9)
            self.inference_total_s += self._inference_s[-1]
            self._cpu_s[0] += stats.get("cpu_ns", 0) * 1e-9
            self._cpu_s[1] += 1
            self.model = stats.get("model", self.model)
            count_by_name(self.slots_by_model, self.model)
            self.model_sha256 = stats.get("model_sha256", self.model_sha256) or None
            self.engine = stats.get("engine", self.engine)
            self._flop += stats.get("flop_per_slot", 0)
            self._queue_slots = stats.get("queue_depth", self._queue_slots)

    @property
    def complete(self) -> bool:
        """Whether slot n_slots - 1 or a later one has come, and its block where there are any; some
        before it may be missing.
        """
        latest = min(self._latest, self._latest_block) if self.block_clusters else self._latest
        return latest >= self._end - 1

    @property
    def missed_slots(self) -> int:
        """Slots without decisions: gaps between indices, and those dropped after the last one."""
        return min(self._gaps + len(self._dropped_ahead), MOST_MISSED)

    @property
    def flop_per_slot(self) -> int:
        """Mean over slots, whichever models received them; 0: unknown."""
        return round(self._flop / self._cpu_s[1]) if self._cpu_s[1] else 0

    @property
    def cpu_s(self) -> float:
        """CPU seconds of the receiver so far."""
        return self._cpu_s[0]

    def _blocks(self) -> dict:
        """The point's keys of transport blocks, where there were any."""
        if not self.block_clusters:
            return {}
        counted, n = self._decoded, self._decoded["slots"]
        harq = None
        if self.most_transmissions > 1:
            of_block = ("retransmissions", "delivered", "failed")
            harq = {key: counted[key] for key in of_block}
            harq["transmissions"] = self.most_transmissions
        air_s = (self.slots + self.missed_slots) * self._config.slot_s
        return {
            "cluster_block_errors": self.block_clusters.counts,
            "cluster_blocks": self.block_clusters.of,
            "harq": harq,
            "goodput_bit_per_s": self.delivered_bits / air_s if air_s else None,
            "decoder": {
                "iterations": self._iterations / n if n else None,
                "cpu_s": self.decoder_cpu_s / n if n else None,
            },
        }

    def point(self, energy: dict, bit_energy: dict | None = None, **fields) -> dict:
        """A point of the report (deeprx_common.report.point) from what was counted.

        energy: energy_per_slot_j. bit_energy: energy_per_delivered_bit_j. fields: what is known of
        the operating point, and overrides.
        """
        total, count = self._cpu_s
        counted = {
            "receiver": self.model or "unknown",
            "model_sha256": self.model_sha256,
            "domain": "time",
            "modulation": self._config.modulation,
            "n_prb": self._config.n_prb,
            "dmrs": list(self._config.dmrs),
            "layers": self._slot.n_layers,
            "layer": self._layer,
            "slot": self._slot.as_dict(),
            "mcs": self._config.users[0].mcs,
            "slots": self.slots,
            "missed_slots": self.missed_slots,
            "cpu_s_per_slot": total / count if count else None,
            "energy_per_slot_j": energy,
            "energy_per_delivered_bit_j": bit_energy,
        }
        if self.engine is not None:
            counted["engine"] = self.engine
        if self._queue_slots is not None:
            counted["queue_slots"] = self._queue_slots
        if len(self.slots_by_model) > 1:
            counted["slots_by_model"] = dict(self.slots_by_model)
        if self.dropped:
            counted["dropped_slots"] = dict(self.dropped)
        return report.point(
            cluster_errors=self.clusters.counts,
            cluster_bits=self.clusters.of,
            inference_s=list(self._inference_s),
            **counted | self._blocks() | fields,
        )


def count_by_name(counter: Counter[str], name: str) -> None:
    """One more of this name; of MOST_NAMES others, one more of the others."""
    counter[name if name in counter or len(counter) < MOST_NAMES else "others"] += 1
