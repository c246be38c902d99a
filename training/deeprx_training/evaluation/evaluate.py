# SPDX-License-Identifier: GPL-3.0-or-later
"""Several receivers on the same slots of the evaluation channels, slot by slot.

Every slot is an independent channel draw, so the slots are the clusters of each interval, and two
receivers are compared slot by slot.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deeprx_common import mcs as schemes
from deeprx_common import report as reports
from deeprx_common.files import read_arrays, write_arrays
from deeprx_common.modulation import MODULATIONS
from deeprx_common.shipped import CLASSICAL
from deeprx_common.slot import SlotConfig, User, legal_dmrs

from ..data import seeds
from ..data.channels import EVALUATION_CHANNELS, SlotBatch, SlotGenerator, seed_of
from ..data.conditions import Conditions, Kinds
from ..receivers import soft_bits
from ..receivers.build import check_takes
from ..receivers.classical import Demapper
from ..receivers.contract import bits_of, of_contract
from ..receivers.flop import flop_per_slot
from ..receivers.references import classical, classical_names, perfect_csi
from ..receivers.wiener import TrueStatistics
from .coded import TransportBlock

BATCH, LARGEST = 128, 26_624  # slots, and PRBs times antennas, of a part: of what a seed means
LS, SURE, GNB = CLASSICAL
TRUE, PERFECT = "true-statistics LMMSE", "perfect CSI"
BER_TARGETS, BLER_TARGET = (1e-2, 1e-3), 0.1
DROPPED = -1  # errors of a slot whose LLRs are not all finite
ANOTHER = 1 << 20  # steps on, where a batch is of another kind than is evaluated

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
    return replace(Conditions(channels=EVALUATION_CHANNELS, cell_ids=(1, 1)), **time | changes)


def batch_of(conditions: Conditions) -> int:
    """Slots of a part: fewer where they are large, so that they fit a machine's memory."""
    return min(BATCH, LARGEST // (conditions.n_prb * conditions.n_rx))


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
        modulations={user.modulation: 1.0 for user in slot.users},
        cell_ids=(slot.dmrs_n_id, slot.dmrs_n_id),
    )


def interferers(slot: SlotConfig, sir_db: float) -> dict:
    """The conditions that add interferers of other cells to slots like this one: half of them with
    pilots and a modulation as the slot has them, half with any others of their own.
    """
    return dict(
        interferer=1.0,
        interferer_dmrs=0.5,
        sir_db=(sir_db, sir_db),
        dmrs=dict.fromkeys(legal_dmrs(slot.n_symbols), 1.0),
        cdm_groups={1: 1.0, 2: 1.0},
        modulations=dict.fromkeys(MODULATIONS, 1.0),
        cell_ids=(0, 1007),
    )


@dataclass
class Counted:
    """What was counted, for P points of snr_db and S slots each, with interferers at sir_db in all
    of them, in none (None), or as they were drawn (None, too).

    By receiver: errors int64 [P, S] wrong bits; margins int32 [P, S, bins] soft_bits.histogram;
    block_errors int64 [P, S], of nobody where slots have no transport blocks. All are of the users
    that config has, one or all of them. dropped int64 [P]: slots whose LLRs were not all finite,
    which count for no receiver here. Of the first user's slots, [P, S]: channel (names),
    delay_spread_s, doppler_hz.
    """

    snr_db: list[float]
    sir_db: float | None
    config: SlotConfig
    errors: dict[str, np.ndarray]
    margins: dict[str, np.ndarray]
    block_errors: dict[str, np.ndarray]
    dropped: dict[str, np.ndarray]
    channel: np.ndarray
    delay_spread_s: np.ndarray
    doppler_hz: np.ndarray

    @property
    def sinr_db(self) -> list[float]:
        if self.sir_db is None:
            return self.snr_db
        return [round(reports.sinr_db(snr, self.sir_db), 6) + 0.0 for snr in self.snr_db]  # no -0

    @property
    def slots(self) -> int:
        return self.channel.shape[1]

    @property
    def slot_bits(self) -> int:
        return self.config.n_data_re * sum(bits_of(self.config))

    def bits(self, slots: int) -> list[int]:
        return [self.slot_bits] * slots

    def blocks(self, slots: int) -> np.ndarray:
        return np.full(slots, self.config.n_layers)

    def best_classical(self) -> str:
        """Of all slots the one with fewer wrong blocks, or bits where there are no blocks."""
        wrong = self.block_errors or self.errors
        counted = [name for name in CLASSICAL if name in wrong]
        return min(counted, key=lambda name: wrong[name].sum())


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

    sinr_db: of the points, where there are interferers over noise alone. receivers follow the model
    contract, or receive one layer. Others join them: of CLASSICAL those
    that are named and take such slots, and the ideals, which know what no receiver can. slot: the
    kind of slot that is evaluated, where conditions draw several; None: the one that they draw, a
    second user like the first. mcs: index in table mcs_table, of all users, in place of their
    modulation. Where users have an MCS, each layer of a slot has a transport block, and block
    errors are counted, too. kept: a folder for what is counted, part by part; a run of the same
    with it counts only what is missing.

    Raises ValueError where there is no such MCS, or a receiver does not take such slots.
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
        joining: tuple[str, ...] = (LS, SURE),
        slot: SlotConfig | None = None,
    ):
        if mcs is not None:
            modulation, _ = schemes.mcs(mcs_table, mcs)
            conditions = replace(conditions, modulations={modulation: 1.0})
        self.sinr_db, self.slots, self.seed, self._conditions = sinr_db, slots, seed, conditions
        self.device = device
        self.config = slot or _only_slot(conditions)
        if mcs is not None:
            of_mcs = {"mcs": mcs, "mcs_table": mcs_table, "modulation": None, "code_rate": None}
            users = tuple(replace(user, **of_mcs) for user in self.config.users)
            self.config = replace(self.config, users=users)
        check_ideals(ideals, conditions, self.config)
        self._generator = SlotGenerator(conditions, device)
        self._blocks = _blocks(self.config, str(self._generator.device))
        names = classical_names(self.config.n_layers, conditions.n_rx)
        nets = {name: classical(name) for name in joining if name in names}
        nets |= receivers
        self.flop = {name: self._flop(name, net.cpu().eval()) for name, net in nets.items()}
        self._receivers = {name: self._of(net.to(device)) for name, net in nets.items()}
        if TRUE in ideals:
            true = TrueStatistics(self._generator)
            self._receivers[TRUE] = lambda b: true(b.of_layer(0))[:, None]
        if PERFECT in ideals:
            demap = Demapper().to(device)
            self._receivers[PERFECT] = lambda b: perfect_csi(b, demap)
        self.names = list(self._receivers)
        self._kept = kept
        self._parts: list[dict[int, Counts]] = [{} for _ in sinr_db]

    @staticmethod
    def _of(net: nn.Module) -> Receiver:
        program = of_contract(net)
        return lambda b: program(b.y, b.p, b.data, bits_of(b.config))

    def _flop(self, name: str, net: nn.Module) -> int | None:
        n_rx, n_prb = self._conditions.n_rx, self._conditions.n_prb
        try:
            check_takes(net, replace(self._conditions, **of_slot(self.config)))
        except ValueError as error:
            raise EvaluationError(f"{name}: {error}") from None
        try:
            flop = flop_per_slot(net, n_rx, self.config)
        except (RuntimeError, IndexError):
            raise EvaluationError(
                f"{name}: does not receive slots of {n_rx} antennas and {n_prb} PRB; --n-rx says "
                "how many antennas there are"
            ) from None
        return flop and flop["matmul"] + flop["other"]

    @property
    def batch(self) -> int:
        """Slots of a part, the last of a point aside."""
        return batch_of(self._conditions)

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

        Raises EvaluationError where no slot of a part has finite LLRs of a receiver.
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
        file = self._kept and self._kept / f"part-{i}-{first}-{size}.npz"
        if file and file.exists():
            return self._counted(file, size)
        sinr, seed = self.sinr_db[i], seed_of(self.seed, i)
        generator = self._generator.under(snr_db=(sinr, sinr))
        batch = generator.batch(size, seed, self._step(seed, first // self.batch))
        counts = self._count(batch, sinr, seed_of(self.seed, i, first))
        if file:
            write_arrays({":".join(key): counts[key] for key in counts}, file)
        return counts

    def _counted(self, file: Path, size: int) -> Counts:
        layers, bins = self.config.n_layers, len(soft_bits.CENTRES)
        each = {"errors": ("i", (size, layers)), "margins": ("i", (size, layers, bins))}
        if self._blocks:
            each["block_errors"] = "i", (size, len(self._blocks))
        expected = {(what, name): each[what] for what in each for name in self.names}
        expected["channel", ""] = "U", (size, layers)
        expected["delay_spread_s", ""] = expected["doppler_hz", ""] = "f", (size, layers)
        try:
            arrays = read_arrays(file, map(":".join, expected))
            if [(a.dtype.kind, a.shape) for a in arrays] != list(expected.values()):
                raise ValueError("expected what each receiver makes of each slot")
        except ValueError as error:
            raise EvaluationError(f"{file}: {error}; delete it to count these slots anew") from None
        return dict(zip(expected, arrays, strict=True))

    def _step(self, seed: int, number: int) -> int:
        """Of the batch of this number: the first of its steps that draws slots like those that are
        evaluated.
        """
        steps = itertools.count(number, ANOTHER)
        return next(
            step
            for step in steps
            if _is_alike(Kinds(self._conditions, seed, step).draw().slot, self.config)
        )

    def _count(self, batch: SlotBatch, sinr: float, seed: int) -> Counts:
        layers = [batch.of_layer(i) for i in range(batch.config.n_layers)]
        bits = [layer.bits[:, batch.data].flatten(1) for layer in layers]  # transmit order
        seeds_of_layers = [seed_of(seed, i) if i else seed for i in range(len(layers))]
        drawn = [
            block.draw(len(batch.y), of_layer)
            for block, of_layer in zip(self._blocks, seeds_of_layers, strict=False)
        ]
        counts = {}
        for name, receive in self._receivers.items():
            llr = receive(batch)
            if llr.shape[1] != len(layers):
                raise EvaluationError(f"{name}: receives {llr.shape[1]} user, found {len(layers)}")
            llrs = [
                llr[:, i, ..., : layer.config.bits_per_symbol][:, batch.data].flatten(1)
                for i, layer in enumerate(layers)
            ]
            finite = torch.stack([llr.isfinite().all(1) for llr in llrs]).all(0)
            if not finite.any():
                raise EvaluationError(f"{name}: gives LLRs that are not finite at {sinr:g} dB")
            llrs = [llr.where(finite[:, None], 0.0) for llr in llrs]
            of_layers = {"errors": [], "margins": [], "block_errors": []}
            for llr, sent in zip(llrs, bits, strict=True):
                wrong = ((llr > 0) != sent.bool()).sum(1)
                of_layers["errors"].append(wrong.where(finite, DROPPED))
                of_layers["margins"].append(soft_bits.histogram(soft_bits.margins(llr, sent)))
            for block, *of_layer in zip(self._blocks, llrs, bits, drawn, strict=False):
                of_layers["block_errors"].append(block.errors(*of_layer).long())
            for what, values in of_layers.items():
                if values:
                    counts[what, name] = torch.stack(values, 1).cpu().numpy()
        propagation = batch.drawn
        counts["channel", ""] = np.array(propagation.channels)[propagation.channel.cpu().numpy()]
        counts["delay_spread_s", ""] = propagation.delay_spread_s.cpu().numpy()
        counts["doppler_hz", ""] = propagation.doppler_hz.cpu().numpy()
        return counts

    def counted(self, layer: int | None = None) -> Counted:
        """Of one layer, or of all together. Of an interrupted run, the points that were begun, with
        equally many slots each: those that no receiver dropped.

        Raises NothingCounted where nothing was counted yet, EvaluationError where no slot of a
        point is left.
        """
        begun = [i for i, parts in enumerate(self._parts) if parts]
        if not begun:
            raise NothingCounted("stopped before the first slots were counted; nothing is written")
        counted = [[counts for _, counts in sorted(self._parts[i].items())] for i in begun]
        joined = [{k: np.concatenate([c[k] for c in each]) for k in each[0]} for each in counted]
        slots = min(len(j["channel", ""]) for j in joined)
        arrays = {k: np.stack([j[k][:slots] for j in joined]) for k in joined[0]}
        dropped = {n: (arrays["errors", n] == DROPPED).any(2) for n in self._receivers}
        left = ~np.any(list(dropped.values()), 0)
        slots = left.sum(1).min()
        if slots == 0:
            raise EvaluationError("no slot is left of a point: each was dropped by a receiver")
        arrays = {
            k: np.stack([of_point[kept][:slots] for of_point, kept in zip(a, left, strict=True)])
            for k, a in arrays.items()
        }

        low, high = self._conditions.sir_db

        def each(what):
            of_each = {name: arrays[what, name] for name in self._receivers}
            return {n: a.sum(2) if layer is None else a[:, :, layer] for n, a in of_each.items()}

        return Counted(
            snr_db=[self.sinr_db[i] for i in begun],
            sir_db=low if self._conditions.interferer == 1 and low == high else None,
            config=self.config if layer is None else self.config.alone(layer),
            errors=each("errors"),
            margins=each("margins"),
            block_errors=each("block_errors") if self._blocks else {},
            dropped={name: of_each.sum(1) for name, of_each in dropped.items()},
            **{
                what: arrays[what, ""][:, :, layer or 0]
                for what in ("channel", "delay_spread_s", "doppler_hz")
            },
        )


def check_ideals(ideals: Iterable[str], conditions: Conditions, slot: SlotConfig) -> None:
    """EvaluationError where one of them does not know what it would have to know of such slots."""
    if TRUE in ideals and (conditions.interferer or not TrueStatistics.takes(slot)):
        raise EvaluationError(
            f"{TRUE}: expected no interferer, and one user in slots of 14 symbols with one CDM "
            "group without data"
        )


def _only_slot(conditions: Conditions) -> SlotConfig:
    """The kind of slot that conditions draw. EvaluationError where there are several."""
    c = conditions
    tables = (c.modulations, c.dmrs, c.scs_khz, c.n_symbols, c.cdm_groups, c.users)
    if any(len(table) != 1 for table in tables) or c.min_prb or c.min_rx:
        raise EvaluationError(
            "expected one modulation, DMRS pattern, number of symbols, of CDM groups, of users, of "
            "PRB and of antennas, and one subcarrier spacing"
        )
    (modulation,), (dmrs,) = c.modulations, c.dmrs
    slot = c.slot(modulation, dmrs)
    cell, last_cell = c.cell_ids
    if cell == last_cell and c.n_scid in (0, 1):
        slot = replace(slot, dmrs_n_id=cell, n_scid=int(c.n_scid))
    if 2 in c.users:
        second = User(modulation, rnti=2, port=slot.cdm_groups)
        slot = replace(slot, users=(*slot.users, second))
    return slot


def _is_alike(drawn: SlotConfig, slot: SlotConfig) -> bool:
    """Whether they are of a kind. It makes no difference on which port a user alone sends."""

    def kind(s: SlotConfig) -> tuple:
        ports = [user.port for user in s.users] if s.n_layers > 1 else []
        return s.scs_khz, s.n_symbols, s.dmrs, s.cdm_groups, ports, bits_of(s)

    return kind(drawn) == kind(slot)


def _blocks(slot: SlotConfig, device: str) -> list[TransportBlock]:
    """Of each layer, where all have them."""
    if any(user.mcs is None for user in slot.users):
        return []
    return [
        TransportBlock(
            slot.transport_block_size(layer),
            slot.n_data_re * user.bits_per_symbol,
            user.bits_per_symbol,
            user.code_rate,
            device,
        )
        for layer, user in enumerate(slot.users)
    ]


def count_errors(
    receivers: dict[str, nn.Module],
    sinr_db: list[float],
    slots: int,
    device: str = "cpu",
    conditions: Conditions | None = None,
    seed: int = seeds.EVALUATION,
) -> tuple[int, dict[str, np.ndarray]]:
    """Bits of a slot, and errors per slot, {name: int64 [len(sinr_db), slots]}: of the receivers,
    ls-lmmse, sure-lmmse and perfect CSI.
    """
    conditions = conditions or evaluation_conditions()
    run = Evaluation(receivers, sinr_db, slots, conditions, seed, device, ideals=(PERFECT,))
    run.run()
    counted = run.counted()
    return counted.slot_bits, counted.errors
