# SPDX-License-Identifier: GPL-3.0-or-later
"""What an evaluation says: a report whose numbers are one row each.

metric: "ber", "bler", "information" (bits per coded bit), "METRIC difference to RECEIVER" (of BER
or BLER), "sinr_db at METRIC = TARGET", or "gain on RECEIVER at METRIC = TARGET", which is dB less;
sinr_db is None for the last two. by and bin: of a breakdown by channel, delay spread or Doppler.
user: which of two, from 1.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch import nn

from deeprx_common import report as reports
from deeprx_common.energy import energy_per_slot
from deeprx_common.report import NOT_FINITE
from deeprx_common.stats import (
    error_rate,
    mean_ci95,
    sinr_at_ber,
    sinr_gain,
)
from deeprx_common.terminal import make_console, progress_bar

from ..data import seeds
from ..data.conditions import Conditions
from ..receivers import soft_bits
from .evaluate import (
    BER_TARGETS,
    BLER_TARGET,
    PERFECT,
    CountEach,
    Counted,
    Evaluation,
    EvaluationError,
)

BINS = 4  # of delay spread and of Doppler, over their ranges
COLUMNS = (
    "receiver", "sinr_db", "by", "bin", "metric", "value", "low", "high", "slots", "user"
)  # fmt: skip


def evaluate(
    receivers: dict[str, nn.Module],
    sinr_db: list[float],
    slots: int,
    conditions: Conditions,
    seed: int = seeds.EVALUATION,
    device: str = "cpu",
    shas: dict[str, str | None] | None = None,
    reference: str | None = None,
    keep: Callable[[dict], None] = lambda report: None,
    each: CountEach | None = None,
    **others,
) -> tuple[dict, Counted, bool]:
    """An Evaluation with a progress bar: the report, what was counted of all users, and whether
    Ctrl-C cut it short. reference: whom the others are compared with, in any case; None: the best
    classical receiver. keep: takes the report's points so far whenever all have grown. each: who
    counts, in place of this process. others: further arguments of Evaluation.
    """
    run = Evaluation(receivers, sinr_db, slots, conditions, seed, device, **others)
    if reference is not None:
        reference = _one_of(run.names, reference)
    stopped = False
    with progress_bar(make_console(), "{task.completed} of {task.total} slots") as progress:
        task = progress.add_task("evaluating", total=slots * len(sinr_db))
        batches = itertools.count(1)

        def on_batch(n):
            progress.advance(task, n)
            if next(batches) % len(sinr_db) == 0:
                keep(_report(run, conditions, shas or {}))

        try:
            run.run(on_batch, each)
        except KeyboardInterrupt:
            stopped = True
    counted = run.counted()
    reference = reference or counted.best_classical()
    report = _report(run, conditions, shas or {})
    report["comparisons"], report["numbers"] = [], []
    for layer in range(run.config.n_layers):
        of_layer = run.counted(layer)
        points = [p for p in report["points"] if p["layer"] == layer]
        comparisons = _comparisons(of_layer, points, reference, list(receivers))
        numbers = [*_of_points(points), *_breakdown(of_layer, conditions)]
        numbers += [*_of_comparisons(comparisons), *_crossings(of_layer, conditions)]
        numbers += _gains(of_layer, reference)
        if run.config.n_layers > 1:
            numbers = [row | {"user": layer + 1} for row in numbers]
        report["comparisons"] += comparisons
        report["numbers"] += numbers
    report["below_perfect_csi"] = [
        c for c in report["comparisons"] if c["b"] == PERFECT and c["ci95"] and c["ci95"][1] < 0
    ]
    return report, counted, stopped


def _one_of(names: list[str], name: str) -> str:
    same = [n for n in names if n == name] or [n for n in names if n.lower() == name.lower()]
    if not same:
        raise EvaluationError(f"reference: expected one of {', '.join(names)}, got {name!r}")
    return same[0]


def _report(run: Evaluation, conditions: Conditions, shas: dict[str, str | None]) -> dict:
    import sionna

    domain = "time" if conditions.time_domain else "frequency"
    one = {"delay_spread_s": conditions.delay_spread_s, "doppler_hz": conditions.doppler_hz}
    one = {k: low if low == high else None for k, (low, high) in one.items()}  # or drawn per slot
    report = reports.new(sionna=sionna.__version__)
    report["conditions"] = {
        "delay_spread_s": list(conditions.delay_spread_s),
        "doppler_hz": list(conditions.doppler_hz),
        "timing_samples": list(conditions.timing_samples),
        "cfo_hz": conditions.cfo_hz,
        "device": run.device,
    }
    for layer in range(run.config.n_layers):
        counted = run.counted(layer)
        for i, snr in enumerate(counted.snr_db):
            for name, errors in counted.errors.items():
                report["points"].append(
                    reports.point(
                        receiver=name,
                        model_sha256=shas.get(name),
                        channel="+".join(conditions.channels),
                        **one,
                        domain=domain,
                        modulation=counted.config.modulation,
                        n_prb=conditions.n_prb,
                        n_rx=conditions.n_rx,
                        layers=run.config.n_layers,
                        layer=layer,
                        slot=run.config.as_dict(),
                        dmrs=list(counted.config.dmrs),
                        sync=False,
                        snr_db=snr,
                        sir_db=counted.sir_db,
                        sinr_db=counted.sinr_db[i],
                        seed=run.seed,
                        slots=counted.slots,
                        **_missed(int(counted.dropped[name][i])),
                        cluster_errors=errors[i],
                        cluster_bits=counted.bits(counted.slots),
                        inference_s=[],
                        flop_per_slot=run.flop.get(name),
                        energy_per_slot_j=energy_per_slot(source="none: not measured offline"),
                        llr=_llr_quality(counted.margins[name][i]),
                        **_of_blocks(counted, name, i),
                    )
                )
    return report


def _missed(dropped: int) -> dict:
    """What a point has of slots that its receiver dropped."""
    return {"missed_slots": dropped} | ({"dropped_slots": {NOT_FINITE: dropped}} if dropped else {})


def _of_blocks(counted: Counted, name: str, i: int) -> dict:
    """What a point has of transport blocks, where there are any."""
    if not counted.block_errors:
        return {}
    wrong, config = counted.block_errors[name][i], counted.config
    blocks = counted.blocks(len(wrong))
    right = float((blocks - wrong).mean()) * config.transport_block_size()
    return {
        "cluster_block_errors": wrong,
        "cluster_blocks": blocks,
        "mcs": config.users[0].mcs,
        "goodput_bit_per_s": right / config.slot_s,
    }


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


def _comparisons(counted: Counted, points: list[dict], reference: str, nets: list[str]) -> list:
    """Everyone against the reference, and the nets against perfect CSI."""
    comparisons = []
    by_key = {(p["receiver"], p["sinr_db"]): p for p in points}
    pairs = [(name, reference) for name in counted.errors if name != reference]
    pairs += [(name, PERFECT) for name in nets if reference != PERFECT]
    for i, sinr in enumerate(counted.sinr_db):
        for a, b in pairs:
            pair = by_key[a, sinr], by_key[b, sinr]
            bits = counted.errors[a][i], counted.errors[b][i], counted.bits(counted.slots)
            blocks = counted.block_errors
            blocks = blocks and (blocks[a][i], blocks[b][i], counted.blocks(counted.slots))
            comparisons.append(reports.comparison(*pair, bits, blocks))
    return comparisons


def _groups(counted: Counted, conditions: Conditions) -> list[tuple[dict, np.ndarray]]:
    """({by, bin}, mask bool [P, S]) of each channel, delay spread and Doppler bin, where the run
    drew from more than one.
    """
    groups = []
    if len(conditions.channels) > 1:
        channels = conditions.channels
        groups += [({"by": "channel", "bin": c}, counted.channel == c) for c in channels]
    for by, values, (low, high), unit in (
        ("delay spread", counted.delay_spread_s * 1e9, conditions.delay_spread_s, "ns"),
        ("Doppler", counted.doppler_hz, conditions.doppler_hz, "Hz"),
    ):
        if low < high:
            edges = np.linspace(low, high, BINS + 1) * (1e9 if unit == "ns" else 1)
            index = np.clip(np.searchsorted(edges, values) - 1, 0, BINS - 1)
            for k in range(BINS):
                name = f"{edges[k]:.0f}-{edges[k + 1]:.0f} {unit}"
                groups.append(({"by": by, "bin": name}, index == k))
    return groups


def number(metric: str, receiver: str, value: float, ci95: Sequence | None, **where) -> dict:
    """One of a report's numbers: COLUMNS; what is not finite is None."""
    value, low, high = (
        None if v is None or not np.isfinite(v) else float(v)
        for v in (value, *(ci95 or (None, None)))
    )
    known = {"receiver": receiver, "metric": metric, "value": value, "low": low, "high": high}
    return dict.fromkeys(COLUMNS) | known | where


def _of_points(points: list[dict]) -> Iterator[dict]:
    for p in points:
        name, at, llr = p["receiver"], {"sinr_db": p["sinr_db"], "slots": p["slots"]}, p["llr"]
        yield number("ber", name, p["ber"], p["ber_ci95"], **at)
        yield number("information", name, llr["information"], llr["information_ci95"], **at)
        if p["blocks"]:
            yield number("bler", name, p["bler"], p["bler_ci95"], **at)


def _breakdown(counted: Counted, conditions: Conditions) -> Iterator[dict]:
    """BER of each receiver and point within each channel, delay spread and Doppler bin."""
    for where, mask in _groups(counted, conditions):
        for i, sinr in enumerate(counted.sinr_db):
            n = int(mask[i].sum())
            for name, errors in counted.errors.items() if n else ():
                rate = error_rate(errors[i][mask[i]], counted.bits(n))
                yield number("ber", name, rate.rate, rate.ci95, sinr_db=sinr, slots=n, **where)


def _of_comparisons(comparisons: list[dict]) -> Iterator[dict]:
    for c in comparisons:
        at = {"sinr_db": c["sinr_db"], "slots": c["clusters"]}
        yield number(difference_to(c["b"]), c["a"], c["ber_difference"], c["ci95"], **at)
        if "bler_difference" in c:
            of_blocks = c["bler_difference"], c["bler_ci95"]
            yield number(difference_to(c["b"], "bler"), c["a"], *of_blocks, **at)


def _crossings(counted: Counted, conditions: Conditions) -> Iterator[dict]:
    """SINR in dB at which curves cross a BER or a block error rate. By channel, delay spread and
    Doppler bin at the first BER alone.
    """

    def at(name, metric, target, errors, bits, mask, where) -> Iterator[dict]:
        points = [
            (sinr, e[m], [bits] * int(m.sum()))
            for sinr, e, m in zip(counted.sinr_db, errors, mask, strict=True)
            if m.any()
        ]
        if len(points) > 1:
            yield number(crossing(metric, target), name, *sinr_at_ber(points, target), **where)

    bits, everything = counted.slot_bits, (np.ones_like(counted.channel, bool), {})
    for name, errors in counted.errors.items():
        for target in BER_TARGETS:
            yield from at(name, "ber", target, errors, bits, *everything)
        if counted.block_errors:
            wrong = counted.block_errors[name]
            yield from at(name, "bler", BLER_TARGET, wrong, counted.config.n_layers, *everything)
        for where, mask in _groups(counted, conditions):
            yield from at(name, "ber", BER_TARGETS[0], errors, bits, mask, where)


def _gains(counted: Counted, reference: str) -> Iterator[dict]:
    """dB less SINR than the reference that everyone needs for a BER or BLER, paired over slots."""
    if len(counted.sinr_db) < 2:
        return
    of_bits = ((counted.errors, counted.slot_bits, "ber", target) for target in BER_TARGETS)
    of_blocks = counted.block_errors, counted.config.n_layers, "bler", BLER_TARGET
    for every, each, metric, target in (*of_bits, of_blocks):
        for name in every:
            if name != reference:
                pair = every[name][None], every[reference][None]
                (db,), ci95 = sinr_gain(counted.sinr_db, *pair, each, target)
                yield number(gain_on(reference, target, metric), name, db, ci95)


def difference_to(reference: str, metric: str = "ber") -> str:
    return f"{metric} difference to {reference}"


def crossing(metric: str, target: float) -> str:
    return f"sinr_db at {metric} = {target:g}"


def gain_on(reference: str, target: float, metric: str = "ber") -> str:
    return f"gain on {reference} at {metric} = {target:g}"
