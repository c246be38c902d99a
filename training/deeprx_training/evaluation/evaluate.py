# SPDX-License-Identifier: GPL-3.0-or-later
"""Several receivers on the same slots of the evaluation channels, slot by slot.

Every slot is an independent channel draw, so the slots are the clusters of each interval, and two
receivers are compared slot by slot.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deeprx_common import mcs as schemes
from deeprx_common.files import replacing
from deeprx_common.slot import SlotConfig

from ..data import seeds
from ..data.channels import EVALUATION_CHANNELS, LayerBatch, SlotBatch, SlotGenerator, seed_of
from ..data.conditions import Conditions
from ..receivers.classical import Baseline, Demapper, perfect_csi
from ..receivers.contract import check_taken, of_contract
from ..receivers.flop import flop_per_slot
from ..receivers.wiener import TrueStatistics
from . import soft_bits
from .coded import TransportBlock

BATCH, LARGEST = 128, 26_624  # slots, and PRBs times antennas, of a part: of what a seed means
LS, SURE, TRUE, PERFECT = "LS-LMMSE", "SURE-LMMSE", "true-statistics LMMSE", "perfect CSI"
BER_TARGETS, BLER_TARGET = (1e-2, 1e-3), 0.1
CLASSICAL = LS, SURE

Receiver = Callable[[SlotBatch], Tensor]  # LLRs [B, L, S, K, >= bits]


class EvaluationError(ValueError):
    """Receivers cannot be evaluated like this; the message is one line."""


class NothingCounted(EvaluationError):
    """It was stopped too early."""


def evaluation_conditions(domain: str = "frequency", **changes) -> Conditions:
    """Design of the evaluation: channels never trained on; the time domain with a front end's
    residuals.
    """
    time = dict(time_domain=1.0, timing_samples=(0.0, 4.0), cfo_hz=30.0) if domain == "time" else {}
    return replace(Conditions(channels=EVALUATION_CHANNELS, cell_ids=(1, 1)), **time, **changes)


def of_slot(slot: SlotConfig) -> dict:
    """The conditions that draw slots like this one: its PRBs, spacing, symbols, DMRS and
    modulation. Where the carrier has them, its prefixes, slot number and identities of the data
    make no difference to receivers here.
    """
    return dict(
        n_prb=slot.n_prb,
        scs_khz={slot.scs_khz: 1.0},
        n_symbols={slot.n_symbols: 1.0},
        dmrs={slot.dmrs: 1.0},
        cdm_groups={slot.cdm_groups: 1.0},
        n_scid=float(slot.n_scid),
        users={slot.n_layers: 1.0},
        modulations={slot.modulation: 1.0},
        cell_ids=(slot.dmrs_n_id, slot.dmrs_n_id),
    )


@dataclass
class Counted:
    """What was counted, for P points of sinr_db and S slots each.

    By receiver, of all layers: errors int64 [P, S] wrong bits; margins int32 [P, S, bins]
    soft_bits.histogram; block_errors int64 [P, S], of nobody where slots have no transport blocks.
    Of the slots, [P, S]: channel (names), delay_spread_s, doppler_hz, which are the first layer's.
    """

    sinr_db: list[float]
    config: SlotConfig
    errors: dict[str, np.ndarray]
    margins: dict[str, np.ndarray]
    block_errors: dict[str, np.ndarray]
    channel: np.ndarray
    delay_spread_s: np.ndarray
    doppler_hz: np.ndarray

    @property
    def slots(self) -> int:
        return self.channel.shape[1]

    @property
    def slot_bits(self) -> int:
        """Of all layers, which have one modulation."""
        return self.config.n_layers * self.config.n_bits

    def bits(self, slots: int) -> list[int]:
        return [self.slot_bits] * slots

    def blocks(self, slots: int) -> np.ndarray:
        return np.full(slots, self.config.n_layers)

    def best_classical(self) -> str:
        """Of all slots the one with fewer wrong blocks, or bits where there are no blocks."""
        return min(CLASSICAL, key=lambda name: (self.block_errors or self.errors)[name].sum())


@dataclass(frozen=True)
class Part:
    """Slots first to first + size at the point-th SINR of an evaluation: what is counted at once,
    and a pure function of the evaluation and of where it is, so that any process may count it.
    """

    point: int
    first: int
    size: int


Counts = dict[tuple[str, str], np.ndarray]  # of a part, by what is counted and receiver
CountEach = Callable[[Iterable[Part]], Iterable[tuple[Part, Counts]]]  # in any order


class Evaluation:
    """Counts with run(), which may be interrupted at any time; counted() is what there is so far.

    receivers follow the model contract, or receive one layer; LS-LMMSE, SURE-LMMSE and the ideals,
    receivers that know what no receiver can, join them. conditions must draw slots of one kind and
    size that all of them take, and where there are ideals one user and no interferer, which they do
    not know. mcs: index in table mcs_table, which says the modulation in the conditions' place;
    each layer of a slot then has a transport block, and block errors are counted, too. kept: a
    folder for what is counted, part by part; a run of the same with it counts only what is missing.

    Raises ValueError where there is no such MCS.
    """

    def __init__(
        self,
        receivers: dict[str, nn.Module],
        sinr_db: list[float],
        slots: int,
        conditions: Conditions,
        seed: int = seeds.EVALUATION,
        device: str = "cpu",
        mcs: int | None = None,
        mcs_table: int = 1,
        ideals: tuple[str, ...] = (TRUE, PERFECT),
        kept: Path | None = None,
    ):
        if mcs is not None:
            modulation, _ = schemes.mcs(mcs_table, mcs)
            conditions = replace(conditions, modulations={modulation: 1.0})
        check_taken(conditions)
        tables = (conditions.modulations, conditions.dmrs, conditions.scs_khz, conditions.users)
        if any(len(table) != 1 for table in tables) or conditions.min_prb or conditions.min_rx:
            raise EvaluationError(
                "expected one modulation, DMRS pattern and subcarrier spacing, number of PRB, of "
                "antennas and of users"
            )
        if ideals and (conditions.interferer or 2 in conditions.users):
            raise EvaluationError(f"{', '.join(ideals)}: expected no interferer, and one user")
        self.sinr_db, self.slots, self.seed, self._conditions = sinr_db, slots, seed, conditions
        self._generator = SlotGenerator(conditions, device)
        (modulation,), (dmrs,) = conditions.modulations, conditions.dmrs
        self.config = conditions.slot(modulation, dmrs)
        cell, last_cell = conditions.cell_ids
        if cell == last_cell and conditions.n_scid in (0, 1):
            self.config = replace(self.config, dmrs_n_id=cell, n_scid=int(conditions.n_scid))
        if 2 in conditions.users:
            first = self.config.users[0]
            self.config = replace(self.config, users=(first, replace(first, rnti=2, port=1)))
        m = self.config.bits_per_symbol
        self._block = None
        if mcs is not None:
            self.config = self.config.with_user(mcs=mcs, mcs_table=mcs_table)
            self._block = TransportBlock(
                self.config.transport_block_size(),
                self.config.n_bits,
                m,
                self.config.users[0].code_rate,
                str(self._generator.device),  # Sionna wants cuda:0, not cuda
            )
        self._demap = Demapper().to(device)
        nets = {LS: Baseline(), SURE: Baseline(sure=True), **receivers}
        self.flop = {name: self._flop(name, net.cpu().eval()) for name, net in nets.items()}
        self._receivers = {name: self._of(net.to(device)) for name, net in nets.items()}
        if TRUE in ideals:
            true = TrueStatistics(self._generator)
            self._receivers[TRUE] = lambda b: true(b.of_layer(0))[:, None]
        if PERFECT in ideals:
            self._receivers[PERFECT] = lambda b: self._perfect_csi(b.of_layer(0))[:, None]
        self._kept = kept
        self._parts: list[dict[int, Counts]] = [{} for _ in sinr_db]

    @staticmethod
    def _of(net: nn.Module) -> Receiver:
        program = of_contract(net)

        def receive(batch: SlotBatch) -> Tensor:
            bits = [user.bits_per_symbol for user in batch.config.users]
            return program(batch.y, batch.p, batch.data, bits)

        return receive

    def _perfect_csi(self, batch: LayerBatch) -> Tensor:
        return perfect_csi(batch.y, batch.h, batch.n0, self._demap, self.config.bits_per_symbol)

    def _flop(self, name: str, net: nn.Module) -> int:
        n_rx, n_prb = self._conditions.n_rx, self._conditions.n_prb
        try:
            flop = flop_per_slot(net, n_rx, n_prb, self.config.bits_per_symbol)
        except (RuntimeError, IndexError):
            raise EvaluationError(
                f"{name}: does not receive slots of {n_rx} antennas and {n_prb} PRB; --n-rx says "
                "how many antennas there are"
            ) from None
        return flop["matmul"] + flop["other"]

    @property
    def batch(self) -> int:
        """Slots of a part, the last of a point aside."""
        return min(BATCH, LARGEST // (self._conditions.n_prb * self._conditions.n_rx))

    def parts(self) -> Iterator[Part]:
        """Some slots at every SINR, then some more."""
        for first in range(0, self.slots, self.batch):
            for point in range(len(self.sinr_db)):
                yield Part(point, first, min(self.batch, self.slots - first))

    def run(
        self, on_part: Callable[[int], None] = lambda slots: None, each: CountEach | None = None
    ) -> None:
        """Count all slots; on_part(slots) after each part. each: who counts them, in place of
        count().

        Raises EvaluationError where a receiver's LLRs are not finite.
        """
        each = each or (lambda parts: ((part, self.count(part)) for part in parts))
        for part, counts in each(self.parts()):
            self.add(part, counts)
            on_part(part.size)

    def add(self, part: Part, counts: Counts) -> None:
        """What was counted of a part, by count() of any process."""
        self._parts[part.point][part.first] = counts

    @torch.inference_mode()
    def count(self, part: Part) -> Counts:
        i, first, size = part.point, part.first, part.size
        file = self._kept and self._kept / f"{i}-{first}-{size}.npz"
        if file and file.exists():
            with np.load(file) as stored:
                return {tuple(key.split(":")): stored[key] for key in stored.files}
        sinr = self.sinr_db[i]
        batch = self._generator.under(snr_db=(sinr, sinr)).batch(
            size, seed_of(self.seed, i), first // self.batch
        )
        counts = self._count(batch, sinr, seed_of(self.seed, i, first))
        if file:
            with replacing(file) as temporary:
                np.savez_compressed(temporary, **{":".join(key): counts[key] for key in counts})
        return counts

    def _count(self, batch: SlotBatch, sinr: float, seed: int) -> Counts:
        m, layers = self.config.bits_per_symbol, batch.config.n_layers
        bits = batch.bits[:, :, batch.data].flatten(2)  # transmit order
        drawn = self._block and self._block.draw(len(bits) * layers, seed)
        counts = {}
        for name, receive in self._receivers.items():
            llr = receive(batch)[..., :m]
            if llr.shape[1] != layers:
                raise EvaluationError(f"{name}: receives {llr.shape[1]} user, found {layers}")
            llr = llr[:, :, batch.data].flatten(2)
            if not llr.isfinite().all():
                raise EvaluationError(f"{name}: gives LLRs that are not finite at {sinr:g} dB")
            counts["errors", name] = ((llr > 0) != bits.bool()).sum((1, 2)).cpu().numpy()
            margins = soft_bits.histogram(soft_bits.margins(llr, bits).flatten(1))
            counts["margins", name] = margins.cpu().numpy()
            if self._block:
                wrong = self._block.errors(llr.flatten(0, 1), bits.flatten(0, 1), drawn)
                counts["block_errors", name] = wrong.view(-1, layers).sum(1).cpu().numpy()
        propagation = batch.drawn.of_layer(0)
        channel = propagation.channel.cpu().numpy()
        counts["channel", ""] = np.array(propagation.channels)[channel]
        counts["delay_spread_s", ""] = propagation.delay_spread_s.cpu().numpy()
        counts["doppler_hz", ""] = propagation.doppler_hz.cpu().numpy()
        return counts

    def counted(self) -> Counted:
        """Of an interrupted run, the points that were begun, with equally many slots each.

        Raises NothingCounted where nothing was counted yet.
        """
        begun = [i for i, parts in enumerate(self._parts) if parts]
        if not begun:
            raise NothingCounted("stopped before the first slots were counted; nothing is written")
        counted = [[counts for _, counts in sorted(self._parts[i].items())] for i in begun]
        joined = [{k: np.concatenate([c[k] for c in each]) for k in each[0]} for each in counted]
        slots = min(len(j["channel", ""]) for j in joined)
        arrays = {k: np.stack([j[k][:slots] for j in joined]) for k in joined[0]}

        def each(what):
            return {name: arrays[what, name] for name in self._receivers}

        return Counted(
            sinr_db=[self.sinr_db[i] for i in begun],
            config=self.config,
            errors=each("errors"),
            margins=each("margins"),
            block_errors=each("block_errors") if self._block else {},
            channel=arrays["channel", ""],
            delay_spread_s=arrays["delay_spread_s", ""],
            doppler_hz=arrays["doppler_hz", ""],
        )


def count_errors(
    receivers: dict[str, nn.Module],
    sinr_db: list[float],
    slots: int,
    device: str = "cpu",
    conditions: Conditions | None = None,
    seed: int = seeds.EVALUATION,
) -> tuple[int, dict[str, np.ndarray]]:
    """Bits of a slot, and errors per slot, {name: int64 [len(sinr_db), slots]}: of the receivers,
    LS-LMMSE, SURE-LMMSE and perfect CSI.
    """
    conditions = conditions or evaluation_conditions()
    run = Evaluation(receivers, sinr_db, slots, conditions, seed, device, ideals=(PERFECT,))
    run.run()
    counted = run.counted()
    return counted.slot_bits, counted.errors
