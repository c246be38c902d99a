# SPDX-License-Identifier: GPL-3.0-or-later
"""Several receivers on the same slots of the evaluation channels, slot by slot.

Every slot is an independent channel draw, so the slots are the clusters of each interval, and two
receivers are compared slot by slot.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deeprx_common import mcs as schemes
from deeprx_common.files import replacing
from deeprx_common.slot import SlotConfig

from ..data import seeds
from ..data.channels import EVALUATION_CHANNELS, LayerBatch, SlotGenerator, seed_of
from ..data.conditions import Conditions
from ..receivers.classical import Baseline, Demapper, perfect_csi
from ..receivers.contract import check_taken
from ..receivers.flop import flop_per_slot
from ..receivers.wiener import TrueStatistics
from . import soft_bits
from .coded import TransportBlock

BATCH = 128  # part of what a seed means
LS, SURE, TRUE, PERFECT = "LS-LMMSE", "SURE-LMMSE", "true-statistics LMMSE", "perfect CSI"
BER_TARGETS, BLER_TARGET = (1e-2, 1e-3), 0.1
CLASSICAL = LS, SURE

Receiver = Callable[[LayerBatch], Tensor]


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

    By receiver: errors int64 [P, S] wrong bits; margins int32 [P, S, bins] soft_bits.histogram;
    block_errors bool [P, S], of nobody where slots have no transport block. Of the slots, [P, S]:
    channel (names), delay_spread_s, doppler_hz.
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

    def bits(self, slots: int) -> list[int]:
        return [self.config.n_bits] * slots

    def best_classical(self) -> str:
        """Of all slots the one with fewer wrong blocks, or bits where there are no blocks."""
        return min(CLASSICAL, key=lambda name: (self.block_errors or self.errors)[name].sum())


class Evaluation:
    """Counts with run(), which may be interrupted at any time; counted() is what there is so far.

    receivers follow the model contract; LS-LMMSE, SURE-LMMSE and the ideals, receivers that know
    what no receiver can, join them. conditions must draw slots of one kind and size that all of
    them take, and no interferer where there are ideals, which do not know it. mcs: index in table
    mcs_table, which says the modulation in the conditions' place; each slot then has a transport
    block, and block errors are counted, too. kept: a folder for what is counted, batch by batch; a
    run of the same with it counts only what is missing.

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
        tables = (conditions.modulations, conditions.dmrs, conditions.scs_khz)
        if any(len(table) != 1 for table in tables) or conditions.min_prb or conditions.min_rx:
            raise EvaluationError(
                "expected one modulation, DMRS pattern and subcarrier spacing, number of PRB and "
                "of antennas"
            )
        if ideals and conditions.interferer:
            raise EvaluationError(f"{', '.join(ideals)}: expected no interferer")
        self.sinr_db, self.slots, self.seed, self._conditions = sinr_db, slots, seed, conditions
        self._generator = SlotGenerator(conditions, device)
        (modulation,), (dmrs,) = conditions.modulations, conditions.dmrs
        self.config = conditions.slot(modulation, dmrs)
        cell, last_cell = conditions.cell_ids
        if cell == last_cell and conditions.n_scid in (0, 1):
            self.config = replace(self.config, dmrs_n_id=cell, n_scid=int(conditions.n_scid))
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
        demap = Demapper().to(device)
        nets = {LS: Baseline(), SURE: Baseline(sure=True), **receivers}
        self.flop = {name: self._flop(name, net.cpu().eval()) for name, net in nets.items()}
        nets = {name: net.to(device) for name, net in nets.items()}
        self._receivers: dict[str, Receiver] = {
            name: lambda b, net=net: net(b.y, b.p, m)[..., :m] for name, net in nets.items()
        }
        if TRUE in ideals:
            self._receivers[TRUE] = TrueStatistics(self._generator)
        if PERFECT in ideals:
            self._receivers[PERFECT] = lambda b: perfect_csi(b.y, b.h, b.n0, demap, m)
        self._kept = kept
        self._parts: list[list[dict]] = [[] for _ in sinr_db]

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

    @torch.inference_mode()
    def run(self, on_batch: Callable[[int], None] = lambda slots: None) -> None:
        """Count all slots, some at every SINR, then some more; on_batch(slots) after each batch.

        Raises EvaluationError where a receiver's LLRs are not finite.
        """
        for first in range(0, self.slots, BATCH):
            for i in range(len(self.sinr_db)):
                size = min(BATCH, self.slots - first)
                self._parts[i].append(self._part(i, first, size))
                on_batch(size)

    def _part(self, i: int, first: int, size: int) -> dict:
        file = self._kept and self._kept / f"{i}-{first}-{size}.npz"
        if file and file.exists():
            with np.load(file) as stored:
                return {tuple(key.split(":")): stored[key] for key in stored.files}
        sinr = self.sinr_db[i]
        batch = self._generator.under(snr_db=(sinr, sinr)).batch(
            size, seed_of(self.seed, i), first // BATCH
        )
        part = self._count(batch.of_layer(0), sinr, seed_of(self.seed, i, first))
        if file:
            with replacing(file) as temporary:
                np.savez_compressed(temporary, **{":".join(key): part[key] for key in part})
        return part

    def _count(self, batch: LayerBatch, sinr: float, seed: int) -> dict:
        bits = batch.bits[:, batch.data].flatten(1)  # transmit order
        drawn = self._block and self._block.draw(len(bits), seed)
        part = {}
        for name, receive in self._receivers.items():
            llr = receive(batch)[:, batch.data].flatten(1)
            if not llr.isfinite().all():
                raise EvaluationError(f"{name}: gives LLRs that are not finite at {sinr:g} dB")
            part["errors", name] = ((llr > 0) != bits.bool()).sum(1).cpu().numpy()
            margins = soft_bits.histogram(soft_bits.margins(llr, bits))
            part["margins", name] = margins.cpu().numpy()
            if self._block:
                wrong = self._block.errors(llr, bits, drawn)
                part["block_errors", name] = wrong.cpu().numpy()
        channel = batch.drawn.channel.cpu().numpy()
        part["channel", ""] = np.array(batch.drawn.channels)[channel]
        part["delay_spread_s", ""] = batch.drawn.delay_spread_s.cpu().numpy()
        part["doppler_hz", ""] = batch.drawn.doppler_hz.cpu().numpy()
        return part

    def counted(self) -> Counted:
        """Of an interrupted run, the points that were begun, with equally many slots each.

        Raises NothingCounted where nothing was counted yet.
        """
        begun = [i for i, parts in enumerate(self._parts) if parts]
        if not begun:
            raise NothingCounted("stopped before the first slots were counted; nothing is written")
        joined = [
            {k: np.concatenate([p[k] for p in self._parts[i]]) for k in self._parts[i][0]}
            for i in begun
        ]
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
    return run.config.n_bits, run.counted().errors
