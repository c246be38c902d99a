# SPDX-License-Identifier: GPL-3.0-or-later
"""Several receivers on the same slots of the evaluation channels, slot by slot.

Every slot is an independent channel draw, so the slots are the clusters of each interval, and two
receivers are compared slot by slot.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from deeprx_common import report
from deeprx_common.energy import energy_per_slot
from deeprx_common.files import replacing
from deeprx_common.slot import SlotConfig
from deeprx_common.stats import error_rate, mean_ci95, sinr_at_ber, sinr_gain
from deeprx_common.terminal import make_console, progress_bar

from ..data import seeds
from ..data.channels import EVALUATION_CHANNELS, Conditions, SlotBatch, SlotGenerator, seed_of
from ..receivers.classical import Baseline, Demapper, perfect_csi
from ..receivers.flop import flop_per_slot
from ..receivers.wiener import TrueStatistics
from . import soft_bits
from .coded import TransportBlock

BATCH = 128  # part of what a seed means
LS, SURE, TRUE, PERFECT = "LS-LMMSE", "SURE-LMMSE", "true-statistics LMMSE", "perfect CSI"
BER_TARGETS, BLER_TARGET = (1e-2, 1e-3), 0.1
BINS = 4  # of delay spread and of Doppler, over their ranges

Receiver = Callable[[SlotBatch], Tensor]


class EvaluationError(ValueError):
    """Receivers cannot be evaluated like this; the message is one line."""


def evaluation_conditions(domain: str = "frequency", **changes) -> Conditions:
    """Design of the evaluation: channels never trained on; the time domain with a front end's
    residuals.
    """
    time = dict(time_domain=1.0, timing_samples=(0.0, 4.0), cfo_hz=30.0) if domain == "time" else {}
    return replace(Conditions(channels=EVALUATION_CHANNELS, cell_ids=(1, 1)), **time, **changes)


@dataclass
class Counted:
    """What was counted, for P points of sinr_db and S slots each.

    By receiver: errors int64 [P, S] wrong bits; margins int32 [P, S, bins] soft_bits.histogram; and
    by code rate, block_errors bool [P, S]. Of the slots, [P, S]: channel (names), delay_spread_s,
    doppler_hz.
    """

    sinr_db: list[float]
    config: SlotConfig
    errors: dict[str, np.ndarray]
    margins: dict[str, np.ndarray]
    block_errors: dict[Fraction, dict[str, np.ndarray]]
    channel: np.ndarray
    delay_spread_s: np.ndarray
    doppler_hz: np.ndarray

    @property
    def slots(self) -> int:
        return self.channel.shape[1]

    def bits(self, slots: int) -> list[int]:
        return [self.config.n_bits] * slots


class Evaluation:
    """Counts with run(), which may be interrupted at any time; counted() is what there is so far.

    receivers follow the model contract; LS-LMMSE, SURE-LMMSE and the ideals, receivers that know
    what no receiver can, join them. conditions must name one modulation and one DMRS pattern, and
    no interferer where there are ideals, which do not know it. rates: of the codes whose block
    errors are counted too. kept: a folder for what is counted, batch by batch; a run of the same
    with it counts only what is missing.
    """

    def __init__(
        self,
        receivers: dict[str, nn.Module],
        sinr_db: list[float],
        slots: int,
        conditions: Conditions,
        seed: int = seeds.EVALUATION,
        device: str = "cpu",
        rates: tuple[Fraction, ...] = (),
        ideals: tuple[str, ...] = (TRUE, PERFECT),
        kept: Path | None = None,
    ):
        if len(conditions.modulations) != 1 or len(conditions.dmrs) != 1:
            raise EvaluationError("expected one modulation and one DMRS pattern")
        if ideals and conditions.interferer:
            raise EvaluationError(f"{', '.join(ideals)}: expected no interferer")
        self.sinr_db, self.slots, self.seed, self._conditions = sinr_db, slots, seed, conditions
        self._generator = SlotGenerator(conditions, device)
        (modulation,), (dmrs,) = conditions.modulations, conditions.dmrs
        self.config = SlotConfig(n_prb=conditions.n_prb, modulation=modulation, dmrs=dmrs)
        m = self.config.bits_per_symbol
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
        where = str(self._generator.device)  # Sionna wants cuda:0, not cuda
        self._blocks = [TransportBlock(self.config.n_bits, m, rate, where) for rate in rates]
        self._kept = kept
        self._parts: list[list[dict]] = [[] for _ in sinr_db]

    def _flop(self, name: str, net: nn.Module) -> int:
        n_rx, n_prb = self._conditions.n_rx, self._conditions.n_prb
        try:
            found = flop_per_slot(net, n_rx, n_prb, self.config.bits_per_symbol)
        except (RuntimeError, IndexError):
            raise EvaluationError(
                f"{name}: does not receive slots of {n_rx} antennas and {n_prb} PRB; --n-rx says "
                "how many antennas there are"
            ) from None
        return found["matmul"] + found["other"]

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
        part = self._count(batch, sinr, seed_of(self.seed, i, first))
        if file:
            with replacing(file) as temporary:
                np.savez_compressed(temporary, **{":".join(key): part[key] for key in part})
        return part

    def _count(self, batch: SlotBatch, sinr: float, seed: int) -> dict:
        bits = batch.bits[:, batch.data].flatten(1)  # transmit order
        codewords = [block.draw(len(bits), seed) for block in self._blocks]
        part = {}
        for name, receive in self._receivers.items():
            llr = receive(batch)[:, batch.data].flatten(1)
            if not llr.isfinite().all():
                raise EvaluationError(f"{name}: gives LLRs that are not finite at {sinr:g} dB")
            part["errors", name] = ((llr > 0) != bits.bool()).sum(1).cpu().numpy()
            margins = soft_bits.histogram(soft_bits.margins(llr, bits))
            part["margins", name] = margins.cpu().numpy()
            for block, drawn in zip(self._blocks, codewords, strict=True):
                wrong = block.errors(llr, bits, drawn)
                part[str(block.rate), name] = wrong.cpu().numpy()
        drawn = batch.drawn
        part["channel", ""] = np.array(drawn.channels)[drawn.channel.cpu().numpy()]
        part["delay_spread_s", ""] = drawn.delay_spread_s.cpu().numpy()
        part["doppler_hz", ""] = drawn.doppler_hz.cpu().numpy()
        return part

    def counted(self) -> Counted:
        """Of an interrupted run, the points that were begun, with equally many slots each.

        Raises EvaluationError where nothing was counted yet.
        """
        begun = [i for i, parts in enumerate(self._parts) if parts]
        if not begun:
            raise EvaluationError("stopped before the first slots were counted; nothing is written")
        joined = [
            {k: np.concatenate([p[k] for p in self._parts[i]]) for k in self._parts[i][0]}
            for i in begun
        ]
        slots = min(len(j["channel", ""]) for j in joined)
        found = {k: np.stack([j[k][:slots] for j in joined]) for k in joined[0]}

        def each(what):
            return {name: found[what, name] for name in self._receivers}

        return Counted(
            sinr_db=[self.sinr_db[i] for i in begun],
            config=self.config,
            errors=each("errors"),
            margins=each("margins"),
            block_errors={block.rate: each(str(block.rate)) for block in self._blocks},
            channel=found["channel", ""],
            delay_spread_s=found["delay_spread_s", ""],
            doppler_hz=found["doppler_hz", ""],
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


def evaluate(
    receivers: dict[str, nn.Module],
    sinr_db: list[float],
    slots: int,
    conditions: Conditions,
    seed: int = seeds.EVALUATION,
    device: str = "cpu",
    shas: dict[str, str | None] | None = None,
    rates: tuple[Fraction, ...] = (),
    reference: str = LS,
) -> tuple[dict, Counted, bool]:
    """An Evaluation with a progress bar: the report, what was counted, and whether Ctrl-C cut it
    short.
    """
    run = Evaluation(receivers, sinr_db, slots, conditions, seed, device, rates)
    if reference not in (names := [*run.flop, TRUE, PERFECT]):
        raise EvaluationError(f"reference: expected one of {', '.join(names)}, got {reference!r}")
    stopped = False
    with progress_bar(make_console(), "{task.completed} of {task.total} slots") as progress:
        task = progress.add_task("evaluating", total=slots * len(sinr_db))
        try:
            run.run(lambda n: progress.advance(task, n))
        except KeyboardInterrupt:
            stopped = True
    counted = run.counted()
    made = _report(counted, conditions, seed, device, run.flop, shas or {})
    made["comparisons"] = _comparisons(counted, made["points"], reference, list(receivers))
    made["below_perfect_csi"] = [
        c for c in made["comparisons"] if c["b"] == PERFECT and c["ci95"][1] < 0
    ]
    made["breakdown"] = breakdown(counted, conditions)
    made["crossings"] = crossings(counted, conditions)
    made["gains"] = gains(counted, reference)
    return made, counted, stopped


def _report(counted, conditions, seed, device, flop, shas) -> dict:
    import sionna

    domain = "time" if conditions.time_domain else "frequency"
    one = {"delay_spread_s": conditions.delay_spread_s, "doppler_hz": conditions.doppler_hz}
    one = {k: low if low == high else None for k, (low, high) in one.items()}  # or drawn per slot
    made = report.new(sionna=sionna.__version__)
    made["conditions"] = {
        "delay_spread_s": list(conditions.delay_spread_s),
        "doppler_hz": list(conditions.doppler_hz),
        "timing_samples": list(conditions.timing_samples),
        "cfo_hz": conditions.cfo_hz,
        "device": device,
    }
    for i, sinr in enumerate(counted.sinr_db):
        for name, errors in counted.errors.items():
            coded = {str(r): e[name][i] for r, e in counted.block_errors.items()}
            made["points"].append(
                report.point(
                    receiver=name,
                    model_sha256=shas.get(name),
                    channel="+".join(conditions.channels),
                    **one,
                    domain=domain,
                    modulation=counted.config.modulation,
                    n_prb=conditions.n_prb,
                    n_rx=conditions.n_rx,
                    dmrs=list(counted.config.dmrs),
                    sync=False,
                    snr_db=sinr,
                    seed=seed,
                    slots=counted.slots,
                    missed_slots=0,
                    cluster_errors=errors[i],
                    cluster_bits=counted.bits(counted.slots),
                    inference_s=[],
                    flop_per_slot=flop.get(name),
                    energy_per_slot_j=energy_per_slot(source="none: not measured offline"),
                    llr=_llr_quality(counted.margins[name][i]),
                    coded={rate: block_error_rate(wrong) for rate, wrong in coded.items()},
                )
            )
    return made


def _llr_quality(margins: np.ndarray) -> dict:
    """Of one point, margins [S, bins]: the interval is over slots."""
    per_slot = soft_bits.information(margins)
    total = margins.sum(0)
    mean, ci95 = mean_ci95(per_slot)
    scale, best = soft_bits.best_scale(total)
    return {
        "information": mean,
        "information_ci95": ci95 and list(ci95),
        "best_scale": scale,
        "information_at_best_scale": best,
        "p99": soft_bits.largest(total),
        "reliability": soft_bits.reliability(total),
    }


def block_error_rate(wrong: np.ndarray) -> dict:
    """Slots are independent: Clopper and Pearson, Biometrika 26(4), 1934."""
    k, n = int(wrong.sum()), len(wrong)
    low, high = binomtest(k, n).proportion_ci(0.95, "exact")
    return {"blocks": n, "block_errors": k, "bler": k / n, "bler_ci95": [float(low), float(high)]}


def _comparisons(counted: Counted, points: list[dict], reference: str, nets: list[str]) -> list:
    """Everyone against the reference, and the nets against perfect CSI."""
    made = []
    by_key = {(p["receiver"], p["sinr_db"]): p for p in points}
    pairs = [(name, reference) for name in counted.errors if name != reference]
    pairs += [(name, PERFECT) for name in nets if reference != PERFECT]
    for i, sinr in enumerate(counted.sinr_db):
        for a, b in pairs:
            errors = counted.errors[a][i], counted.errors[b][i]
            pa, pb = by_key[a, sinr], by_key[b, sinr]
            made.append(report.comparison(pa, pb, *errors, counted.bits(counted.slots)))
    return made


def _groups(counted: Counted, conditions: Conditions) -> list[tuple[str, str, np.ndarray]]:
    """(what, bin, mask bool [P, S]) of each channel, delay spread and Doppler bin, where the run
    drew from more than one.
    """
    made = []
    if len(conditions.channels) > 1:
        made += [("channel", c, counted.channel == c) for c in conditions.channels]
    for what, values, (low, high), unit in (
        ("delay spread", counted.delay_spread_s * 1e9, conditions.delay_spread_s, "ns"),
        ("Doppler", counted.doppler_hz, conditions.doppler_hz, "Hz"),
    ):
        if low < high:
            edges = np.linspace(low, high, BINS + 1) * (1e9 if unit == "ns" else 1)
            index = np.clip(np.searchsorted(edges, values) - 1, 0, BINS - 1)
            for k in range(BINS):
                made.append((what, f"{edges[k]:.0f}-{edges[k + 1]:.0f} {unit}", index == k))
    return made


def breakdown(counted: Counted, conditions: Conditions) -> list[dict]:
    """BER of each receiver and point within each channel, delay spread and Doppler bin."""
    made = []
    for what, value, mask in _groups(counted, conditions):
        for i, sinr in enumerate(counted.sinr_db):
            n = int(mask[i].sum())
            for name, errors in counted.errors.items() if n else ():
                found = error_rate(errors[i][mask[i]], counted.bits(n))
                made.append(
                    {"receiver": name, "sinr_db": sinr, "by": what, "bin": value, "slots": n}
                    | {"bits": found.bits, "bit_errors": found.errors}
                    | {"ber": found.rate, "ber_ci95": list(found.ci95)}
                )
    return made


def gains(counted: Counted, reference: str) -> list[dict]:
    """dB less SINR than the reference that everyone needs for a BER, paired over the slots; null
    where one of both does not cross it.
    """
    made = []
    if len(counted.sinr_db) < 2:
        return made
    base, bits = counted.errors[reference][None], counted.config.n_bits
    for name, errors in counted.errors.items():
        if name == reference:
            continue
        for target in BER_TARGETS:
            found, ends = sinr_gain(counted.sinr_db, errors[None], base, bits, target)
            db, low, high = (float(v) if np.isfinite(v) else None for v in (found[0], *ends))
            pair = {"a": name, "b": reference, "target": target}
            made.append(pair | {"db": db, "ci95": [low, high]})
    return made


def crossings(counted: Counted, conditions: Conditions) -> list[dict]:
    """SINR in dB at which curves cross a BER or a block error rate, with its interval; null where
    they do not. By channel, delay spread and Doppler bin at the first BER alone.
    """
    if len(counted.sinr_db) < 2:
        return []
    everything = ("", "", np.ones_like(counted.channel, bool))
    made = []

    def add(name, group, metric, target, errors, bits):
        what, value, mask = group
        points = [
            (sinr, e[m], [bits] * int(m.sum()))
            for sinr, e, m in zip(counted.sinr_db, errors, mask, strict=True)
            if m.any()
        ]
        if len(points) > 1:
            at, ends = sinr_at_ber(points, target)
            at, low, high = (float(v) if np.isfinite(v) else None for v in (at, *ends))
            made.append(
                {"receiver": name, "by": what, "bin": value, "metric": metric, "target": target}
                | {"sinr_db": at, "ci95": [low, high]}
            )

    for name, errors in counted.errors.items():
        for target in BER_TARGETS:
            add(name, everything, "ber", target, errors, counted.config.n_bits)
        for rate, wrong in counted.block_errors.items():
            add(name, everything, f"bler {rate}", BLER_TARGET, wrong[name], 1)
        for group in _groups(counted, conditions):
            add(name, group, "ber", BER_TARGETS[0], errors, counted.config.n_bits)
    return made
