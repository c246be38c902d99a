# SPDX-License-Identifier: GPL-3.0-or-later
"""A recording's PUSCH received again, one by one: block errors beside those of the receiver that
was there.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol

import numpy as np

from deeprx_common.commands import Failure
from deeprx_common.printable import printable
from deeprx_common.report import COMPARISON, Pairs, block_difference
from deeprx_common.schema import (
    COUNT,
    COUNTS,
    INDEX,
    LONGEST,
    RATE,
    RATES,
    TEXT,
    check,
    number,
    several,
    table,
)
from deeprx_common.slot import SlotConfig, User
from deeprx_common.stats import block_error_rate, paired_difference

from ..blocks.slot_statistics import count_by_name
from ..deeprx_python import Engine, TransportBlockDecoder, data_scrambling
from ..models.file import ModelFile
from ..recording.pusch import RecordedPusch, received_grid
from ..recording.recording import Recording
from .flowgraph import CLUSTER_SLOTS

KINDS = 8  # of slots that a model is kept loaded for
_SECONDS = number(0)
BESIDE = {
    "pusch": COUNT.of("with a verdict of the receiver that was there"),
    "errors": COUNT.of("of these, ours"),
    "errors_there": COUNT.of("of these, of the receiver that was there"),
    "only_here": COUNT.of("received by us alone"),
    "only_there": COUNT.of("received by the other alone"),
    "difference": number(-1, 1).or_null("our block error rate minus the other's"),
    "ci95": COMPARISON["ci95"],
    "clusters": COUNT.of("of these PUSCH"),
}


COMPARED = {key: COMPARISON[key] for key in ("a", "b", "clusters")} | {
    "bler_difference": number(-1, 1).of("block error rate of a minus that of b"),
    "bler_ci95": COMPARISON["ci95"],
    "only_a": COUNT.of("received by a alone"),
    "only_b": COUNT.of("received by b alone"),
}


# Of a grid, complex64 [n_rx, n_symbols, n_sc], LLRs log P(1)/P(0), float32 [n_bits] as transmitted
Receive = Callable[[np.ndarray], np.ndarray]


class SlotReceiver(Protocol):
    """name: for tables."""

    name: str

    def prepare(self, config: SlotConfig, n_rx: int, slot_index: int) -> Receive:
        """Load and allocate what a slot of one user needs, and make its pilots.

        Raises RuntimeError with one line where the receiver does not take such slots. What it
        returns does so where a slot is to be dropped, as the receiver block drops it. Both raise
        Failure where the model's jail is lost.
        """


class Model:
    """A SlotReceiver: a model file or classical; device, engine: as the receiver block has."""

    def __init__(self, model: ModelFile, name: str, device: str = "cpu", engine: str = "auto"):
        self.name = name
        self._model, self._how = model, {"device": device, "engine": engine}
        self._engine = lru_cache(maxsize=KINDS)(self._loaded)
        self._lost = ""

    def prepare(self, config: SlotConfig, n_rx: int, slot_index: int) -> Receive:
        engine, data, bits = self._engine_of(config, n_rx), config.data_mask, config.bits_per_symbol
        pilots = _pairs(config.pilots(slot_index))[None]
        return lambda grid: engine.infer(_pairs(grid)[None], pilots)[0, 0, data, :bits].ravel()

    def _engine_of(self, config: SlotConfig, n_rx: int) -> Engine:
        """For slots that differ in nothing else than who sends, what, and the pilots' sequence. A
        file that has lost its jail while it loaded is not loaded again: each load may take minutes.
        """
        if self._lost:
            raise Failure(self._lost)
        users = tuple(User(user.modulation, port=user.port) for user in config.users)
        alike = replace(config, users=users, limited_buffer=0, slot_number=None)
        engine = self._engine(alike, n_rx)
        if isinstance(engine, str):
            raise RuntimeError(engine)
        return engine

    def _loaded(self, config: SlotConfig, n_rx: int) -> Engine | str:
        """Or why it does not take such slots: neither is found out for every slot."""
        try:
            return self._model.engine(config, n_rx, **self._how)
        except Failure as error:
            self._lost = str(error)
            raise
        except RuntimeError as error:
            return str(error)


def _pairs(values: np.ndarray) -> np.ndarray:
    """Complex64 [...] as float32 [..., 2]."""
    return np.ascontiguousarray(values, np.complex64)[..., None].view(np.float32)


@dataclass
class ReceivedPusch:
    """What a receiver made of a recording's PUSCH, in their order.

    right: whether the CRC was right, and the block the one that was sent, where that is known; None
    where the receiver refused or dropped it. refused: by reason, the slot indices of these.
    dropped_slots: by reason. lost: why, where the model's jail was lost and nothing received since.
    undetected: CRC right, block wrong. without_first: retransmissions of whose block there is
    nothing before: decoded alone. dropped: soft buffers, the oldest where all are in use. bits,
    bit_errors: coded, of PUSCH whose block is known.
    """

    receiver: str
    right: list[bool | None] = field(default_factory=list)
    refused: dict[str, list[int]] = field(default_factory=dict)
    dropped_slots: Counter[str] = field(default_factory=Counter)
    lost: str = ""
    undetected: int = 0
    without_first: int = 0
    dropped: int = 0
    bits: int = 0
    bit_errors: int = 0
    iterations: float = 0.0
    receive_s: float = 0.0
    decode_s: float = 0.0

    @property
    def received(self) -> int:
        """How many were neither refused nor dropped."""
        return len(self.right) - self.right.count(None)


class PuschReplay:
    """Receivers side by side on a recording's PUSCH, each with soft buffers of its own.

    Raises ValueError where the recording has none.
    """

    def __init__(self, recording: Recording, receivers: Sequence[SlotReceiver]):
        if not recording.pusch:
            raise ValueError(f"{recording.path}: expected annotated PUSCH, found none")
        self.recording = recording
        self._receivers = receivers
        self._decoders = [TransportBlockDecoder() for _ in receivers]
        self.results = [ReceivedPusch(receiver.name) for receiver in receivers]

    def run(self, stopped: Callable[[], bool] = lambda: False, advance=lambda done: None) -> None:
        """Receive all of them, or until stopped() is true; advance: called with how many are done.

        Raises ValueError where the recording became shorter, or every receiver refused all of them.
        """
        for done, pusch in enumerate(self.recording.pusch):
            if stopped():
                return
            grid = received_grid(self.recording, pusch)
            for receiver, decoder, result in zip(
                self._receivers, self._decoders, self.results, strict=True
            ):
                _receive(pusch, grid, receiver, decoder, result)
            advance(done + 1)
        if all(r.refused and not r.received and not r.dropped_slots for r in self.results):
            raise ValueError("; ".join(dict.fromkeys(w for r in self.results for w in r.refused)))

    def points(self) -> list[dict]:
        """Of each receiver what a report holds, see RECEIVED."""
        points = [_point(result, self.recording.pusch) for result in self.results]
        for point in points:
            check(point, RECEIVED, "a receiver's PUSCH")
        return points

    def comparisons(self, classical: Collection[str], reference: str | None = None) -> list[dict]:
        """Of each receiver with one of them what a report holds, see COMPARED.

        Over the PUSCH that neither refused or dropped. classical: names of receivers. reference:
        the one that all others are compared with; None: the classical one that received most
        blocks, or the first where none is classical.
        """
        known = [r for r in self.results if r.receiver in classical]
        best = max(known or self.results[:1], key=lambda r: r.right.count(True))
        other = next((r for r in self.results if r.receiver == reference), best)
        compared = [
            _compared(r, other, self.recording.pusch) for r in self.results if r is not other
        ]
        return [comparison for comparison in compared if comparison]


def _receive(
    pusch: RecordedPusch,
    grid: np.ndarray,
    receiver: SlotReceiver,
    decoder: TransportBlockDecoder,
    result: ReceivedPusch,
) -> None:
    config, user = pusch.config, pusch.config.users[0]
    if pusch.new_data or pusch.earlier_missing:
        decoder.flush(user.rnti, pusch.process)
    try:
        receive = receiver.prepare(config, len(grid), pusch.slot_index)
    except Failure as error:
        _drop(result, error)
        return
    except RuntimeError as error:
        result.refused.setdefault(printable(error, LONGEST), []).append(pusch.slot_index)
        result.right.append(None)
        return
    start = time.perf_counter()
    try:
        llr = receive(grid)
    except RuntimeError as error:
        _drop(result, error)
        return
    result.receive_s += time.perf_counter() - start
    result.lost = ""
    block = pusch.transport_block
    scrambling = data_scrambling(user.rnti, user.n_id, config.n_bits)
    if pusch.block is not None:
        coded = block.encode(pusch.block, pusch.rv) ^ scrambling
        result.bits += coded.size
        result.bit_errors += int(np.count_nonzero((llr > 0) != coded))
    start = time.perf_counter()
    llr = llr * (1 - 2 * scrambling.astype(np.float32))
    process = pusch.rv, user.rnti, pusch.process
    try:
        decoded, right, iterations = decoder.decode(block, llr, *process, pusch.new_data)
    except ValueError:
        if pusch.new_data:
            raise
        result.without_first += 1
        decoded, right, iterations = decoder.decode(block, llr, *process, True)
    result.dropped = decoder.dropped
    result.decode_s += time.perf_counter() - start
    result.iterations += iterations
    wrong = right and pusch.block is not None and decoded != pusch.block
    result.undetected += wrong
    result.right.append(right and not wrong)


def _drop(result: ReceivedPusch, error: RuntimeError) -> None:
    count_by_name(result.dropped_slots, printable(error, LONGEST))
    result.right.append(None)
    if isinstance(error, Failure):
        result.lost = str(error)


REFUSED = {
    "reason": TEXT.of("why the receiver does not take such slots"),
    "pusch": COUNT.of("refused for it"),
    "first_slot": INDEX.of("index of the first one's slot"),
}
RECEIVED = {
    "receiver": TEXT.of("its name"),
    "pusch": COUNT.of("received, transmissions each, but for those that it refused or dropped"),
    "refused": several(table(REFUSED)).of("PUSCH that it does not take, by reason"),
    "block_errors": COUNT.of("transmissions after which the block was not there"),
    "bler": RATE.or_null("block_errors over pusch; null without any"),
    "bler_ci95": RATES.or_null(f"its 95 % interval over clusters of {CLUSTER_SLOTS} slots"),
    "undetected": COUNT.of("CRC right, block another than the one that was sent"),
    "without_first": COUNT.of(
        "retransmissions decoded alone: what was sent of their block before is not in the "
        "recording, it was dropped, or its soft buffer was"
    ),
    "dropped": COUNT.of("soft buffers of HARQ processes: where 256 are in use, the oldest"),
    "dropped_slots": COUNTS.of("by the receiver, by reason"),
    "bits": COUNT.of("coded, of blocks that are known"),
    "bit_errors": COUNT.of("wrong of these before decoding"),
    "iterations": number(0).of("of the decoder, mean"),
    "receive_s": _SECONDS.of("of a slot, mean, from grid to LLRs"),
    "decode_s": _SECONDS.of("of a slot, mean, from LLRs to block"),
    "beside": table(BESIDE).or_null("the receiver that was there, on the same PUSCH"),
}


def _point(result: ReceivedPusch, pusch: Sequence[RecordedPusch]) -> dict:
    pusch = [p for p, right in zip(pusch, result.right, strict=False) if right is not None]
    n = len(pusch)
    wrong = np.array([right is False for right in result.right if right is not None], bool)
    clusters = _clusters(pusch)
    rate = block_error_rate(np.bincount(clusters, wrong), np.bincount(clusters)) if n else None
    return {
        "receiver": result.receiver,
        "pusch": n,
        "refused": [
            {"reason": reason, "pusch": len(slots), "first_slot": slots[0]}
            for reason, slots in result.refused.items()
        ],
        "block_errors": int(wrong.sum()),
        "bler": rate and rate.rate,
        "bler_ci95": rate and list(rate.ci95),
        "undetected": result.undetected,
        "without_first": result.without_first,
        "dropped": result.dropped,
        "dropped_slots": dict(result.dropped_slots),
        "bits": result.bits,
        "bit_errors": result.bit_errors,
        "iterations": result.iterations / max(n, 1),
        "receive_s": result.receive_s / max(n, 1),
        "decode_s": result.decode_s / max(n, 1),
        "beside": _beside(wrong, pusch),
    }


def _clusters(pusch: Sequence[RecordedPusch]) -> np.ndarray:
    """Of each its cluster's number, without gaps."""
    return np.unique([p.slot_index // CLUSTER_SLOTS for p in pusch], return_inverse=True)[1]


def _pairs_of(a: np.ndarray, b: np.ndarray, pusch: Sequence[RecordedPusch]) -> Pairs:
    """a, b: whether each of them was received wrong."""
    clusters = _clusters(pusch)
    return np.bincount(clusters, a), np.bincount(clusters, b), np.bincount(clusters)


def _compared(a: ReceivedPusch, b: ReceivedPusch, pusch: Sequence[RecordedPusch]) -> dict | None:
    """None where they received no PUSCH both."""
    both = [k for k, right in enumerate(zip(a.right, b.right, strict=True)) if None not in right]
    if not both:
        return None
    right_a, right_b = (np.array([r.right[k] for k in both], bool) for r in (a, b))
    pairs = _pairs_of(~right_a, ~right_b, [pusch[k] for k in both])
    compared = {
        "a": a.receiver,
        "b": b.receiver,
        "clusters": len(pairs[2]),
        **block_difference(pairs),
        "only_a": int(np.sum(right_a & ~right_b)),
        "only_b": int(np.sum(right_b & ~right_a)),
    }
    check(compared, COMPARED, "a comparison")
    return compared


def _beside(wrong: np.ndarray, pusch: Sequence[RecordedPusch]) -> dict | None:
    judged = [p for p in pusch if p.crc_ok is not None]
    if not judged:
        return None
    ours = wrong[[p.crc_ok is not None for p in pusch]]
    theirs = np.array([not p.crc_ok for p in judged])
    paired = paired_difference(*_pairs_of(ours, theirs, judged))
    return {
        "pusch": len(ours),
        "errors": int(ours.sum()),
        "errors_there": int(theirs.sum()),
        "only_here": int(np.sum(~ours & theirs)),
        "only_there": int(np.sum(ours & ~theirs)),
        "difference": paired.difference,
        "ci95": paired.shown,
        "clusters": paired.clusters,
    }
