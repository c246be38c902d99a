# SPDX-License-Identifier: GPL-3.0-or-later
"""The report, "deeprx.report/2": what the demo, the loopback, the benchmark and the probe write.

A report is a dict that JSON can hold: schema, host, versions and a list of points. A point is one
receiver at one operating point, for one user; point() makes it, validate() says what is wrong with
one. Reports of version 1, whose points know nothing of transport blocks, are read as well.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from .files import read_regular, write_json
from .host import host, versions
from .schema import (
    COUNT,
    COUNTS,
    DICT,
    FLAG,
    INDICES,
    INTERVAL,
    NUMBER,
    RATE,
    RATES,
    TEXT,
    WHOLE,
    check,
    number,
    parse_json,
    partial,
    several,
    table,
)
from .slot import SlotConfig
from .stats import block_error_rate, error_rate, paired_difference

SCHEMA = "deeprx.report/2"
NOT_FINITE = "the model gave NaN or infinite LLRs"  # why a slot is dropped, as the block says it

_SECONDS, _DECIBELS = number(0, 1e9), number(-1000, 1000)

INFERENCE = {key: _SECONDS.or_null(f"{key} over slots") for key in ("mean", "p50", "p99")}
ENERGY = {
    "measured": NUMBER.or_null("what a counter counted for the receiver alone: a GPU's board"),
    "attributed": NUMBER.or_null("the receiver's share of what was counted"),
    "net": NUMBER.or_null("the same above idle"),
    "bound": number(0).or_null("by how much ticks and resolution may be off"),
    "modelled": number(0).or_null("CPU time, or a GPU's inference time, at stated watts"),
    "source": TEXT.of("the counter, or why there is none"),
    "model": TEXT.or_null("how the modelled value came about, watts included"),
    "scope": TEXT.or_null("what the counter counts", optional=True),
    "invalid": TEXT.or_null("why the counter's window holds no number", optional=True),
}
HARQ = {
    "transmissions": COUNT.of("of a block at most"),
    "retransmissions": COUNT.of("that were decoded"),
    "delivered": COUNT.of("blocks, whichever of their transmissions it took"),
    "failed": COUNT.of("blocks whose last transmission failed"),
}
DECODER = {
    "iterations": number(0).or_null("mean over code blocks"),
    "cpu_s": _SECONDS.or_null("CPU time a slot"),
}
_BLOCKS = {
    "layers": COUNT.or_null("on the same PRBs, each a user's"),
    "layer": COUNT.or_null("of the user that this point is about, from 0", optional=True),
    "total_snr_db": _DECIBELS.or_null("SNR of all layers together", optional=True),
    "slot": DICT.or_null("carrier, allocation, DMRS and users, as SlotConfig.as_dict() gives them"),
    "mcs": COUNT.or_null("index, in the slot's MCS table"),
    "blocks": COUNT.or_null("transport blocks that were sent for the first time; null: only bits"),
    "block_errors": COUNT.or_null("blocks whose first transmission was not decoded"),
    "bler": RATE.or_null("block error rate of first transmissions; null without blocks"),
    "bler_ci95": RATES.or_null(
        "its 95 % interval: Clopper and Pearson's where every block is a cluster, else over them"
    ),
    "harq": table(HARQ).or_null("retransmissions; null where there are none"),
    "goodput_bit_per_s": number(0).or_null("information bits delivered in a second of air time"),
    "decoder": table(DECODER).or_null("of transport blocks"),
    "energy_per_delivered_bit_j": table(ENERGY).or_null(
        "joules of receiver and decoder for an information bit that was delivered"
    ),
}
POINT = {
    "receiver": TEXT.of("the model file's name"),
    "model_sha256": TEXT.or_null("of the whole model file"),
    "channel": TEXT.or_null("the channel model's name, e.g. TDL-A"),
    "delay_spread_s": _SECONDS.or_null("rms delay spread in seconds"),
    "doppler_hz": number(0).or_null("maximum Doppler shift in Hz"),
    "domain": TEXT.of("time: a flowgraph's channel; frequency: Sionna's"),
    "modulation": TEXT.of("QPSK, 16QAM, 64QAM or 256QAM"),
    "n_prb": COUNT.of("resource blocks of 12 subcarriers"),
    "n_rx": COUNT.or_null("receive antennas"),
    "dmrs": INDICES.of("OFDM symbols of the slot that carry DMRS"),
    "sync": FLAG.or_null("whether slots were found by their preamble"),
    "sinr_db": _DECIBELS.or_null("1/SINR = 1/SNR + 1/SIR"),
    "snr_db": _DECIBELS.or_null("per layer, data resource element and antenna, over thermal noise"),
    "sir_db": _DECIBELS.or_null("the same over an interfering slot; null without one"),
    "seed": WHOLE.or_null("of bits, fading and noise"),
    "slots": COUNT.of("received"),
    "clusters": COUNT.of("independent channels, the unit of the interval"),
    "missed_slots": COUNT.of("sent, but not received"),
    "bits": COUNT.of("compared with what was sent"),
    "bit_errors": COUNT.of("bits that differ from what was sent"),
    "ber": RATE.or_null("uncoded bit error rate; null without bits"),
    "ber_ci95": RATES.or_null("its 95 % interval over clusters"),
    "inference_s_per_slot": table(INFERENCE).of("wall time of a slot's inference, seconds"),
    "cpu_s_per_slot": _SECONDS.or_null("CPU time of the receiver, worker threads included"),
    "flop_per_slot": number(0).or_null("2 per multiply-accumulate; the rest by formula"),
    "energy_per_slot_j": table(ENERGY).of("joules, each under what it really is"),
    "engine": TEXT.of("what computed: engine, precision, instructions", optional=True),
    "queue_slots": COUNT.of("slots that waited for the receiver, lately", optional=True),
    "slots_by_model": COUNTS.of("where the model was swapped", optional=True),
    "dropped_slots": COUNTS.of("by the receiver, by reason", optional=True),
} | _BLOCKS
COMPARISON = {
    "a": TEXT.of("the receiver that is compared"),
    "b": TEXT.of("whom with: the best classical receiver here, or the one that was named"),
    "channel": TEXT.or_null("as the points'"),
    "sinr_db": _DECIBELS.or_null("as the points'"),
    "layers": COUNT.or_null("as the points'"),
    "layer": COUNT.or_null("as the points'"),
    "ber_difference": number(-1, 1).of("BER of a minus that of b"),
    "ci95": INTERVAL.or_null("its 95 % interval, paired over clusters; null: equal in all"),
    "clusters": COUNT.of("that both received: same slots, fading and noise"),
    "bler_difference": number(-1, 1).of(
        "BLER of a minus that of b, where both received the same blocks", optional=True
    ),
    "bler_ci95": INTERVAL.or_null("likewise", optional=True),
    "goodput_difference_bit_per_s": NUMBER.of(
        "goodput of a minus that of b, where each one's ACKs decided what was sent to it",
        optional=True,
    ),
    "goodput_ci95": INTERVAL.or_null("likewise", optional=True),
}
REPORT = {
    "schema": TEXT.of(f'"{SCHEMA}"'),
    "host": DICT.of("processor, cores, memory and operating system"),
    "versions": DICT.of("of Python and of the packages that took part"),
    "points": several(table(POINT)).of("one receiver at one operating point each"),
    "comparisons": several(table(partial(COMPARISON))).of(
        "receivers with one of them, on the same slots", optional=True
    ),
}
_VERSIONS = {
    SCHEMA: REPORT,
    "deeprx.report/1": REPORT | {"points": several(table(POINT | partial(_BLOCKS)))},
}


def sinr_db(snr_db: float | None, sir_db: float | None) -> float | None:
    """1/SINR = 1/SNR + 1/SIR, in dB; without an interferer (sir_db None) the SNR itself."""
    if snr_db is None or sir_db is None:
        return snr_db
    return -10 * float(np.log10(10 ** (-snr_db / 10) + 10 ** (-sir_db / 10)))


def _total_snr_db(snr_db: float | None, layers: int | None) -> float | None:
    return None if None in (snr_db, layers) else snr_db + 10 * float(np.log10(layers))


def user_of(point: Mapping) -> str:
    """Which of a slot's users a point or a comparison is about, "" where there is one."""
    layers, layer = point.get("layers") or 1, point.get("layer")
    return "" if layers == 1 or layer is None else f"user {layer + 1} of {layers}"


def summarise_s(seconds: Sequence[float]) -> dict:
    """Mean, median and 99th percentile of times per slot, in seconds; null where there are none."""
    if len(seconds) == 0:
        return {"mean": None, "p50": None, "p99": None}
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"mean": float(np.mean(seconds)), "p50": float(p50), "p99": float(p99)}


def point(
    *,
    cluster_errors: Sequence[int],
    cluster_bits: Sequence[int],
    inference_s: Sequence[float],
    cluster_block_errors: Sequence[int] = (),
    cluster_blocks: Sequence[int] = (),
    snr_db: float | None = None,
    sir_db: float | None = None,
    **fields,
) -> dict:
    """One point of a report.

    cluster_errors, cluster_bits: per cluster (an independent channel). inference_s: seconds, one
    per slot. cluster_block_errors, cluster_blocks: likewise, of transport blocks, in clusters that
    have any; none: only bits were sent. fields: the schema's other keys as they are; what a live
    radio cannot know (channel, delay_spread_s, doppler_hz, seed, ...) may be left out and is null.

    Raises ValueError where a key is missing or of the wrong type.
    """
    values = {key: None for key, field in POINT.items() if field.holds(None)}
    values |= {
        "snr_db": snr_db,
        "sir_db": sir_db,
        "sinr_db": sinr_db(snr_db, sir_db),
        "total_snr_db": _total_snr_db(snr_db, fields.get("layers")),
        "clusters": len(cluster_bits),
        "bits": int(np.sum(cluster_bits)),
        "bit_errors": int(np.sum(cluster_errors)),
        "inference_s_per_slot": summarise_s(inference_s),
    } | fields
    if len(cluster_bits):
        rate = error_rate(cluster_errors, cluster_bits)
        values |= {"ber": rate.rate, "ber_ci95": list(rate.ci95)}
    if len(cluster_blocks):
        rate = block_error_rate(cluster_block_errors, cluster_blocks)
        values |= {"blocks": rate.bits, "block_errors": rate.errors}
        values |= {"bler": rate.rate, "bler_ci95": list(rate.ci95)}
    values = {key: values[key] for key in (*POINT, *values) if key in values}
    check(values, POINT, "point")
    return values


# Over the clusters that two receivers share: counts of A, counts of B, and of how many
Pairs = tuple[Sequence[int], Sequence[int], Sequence[int]]


def comparison(
    a: Mapping,
    b: Mapping,
    bits: Pairs,
    blocks: Pairs | None = None,
    deliveries: Pairs | None = None,
) -> dict:
    """Point a minus point b over the clusters that they share, see COMPARISON.

    bits: wrong ones. blocks: wrong ones, where both received the same. deliveries: blocks that were
    delivered, of transmissions, where each receiver decided what was sent to it.
    """
    paired = paired_difference(*bits)
    compared = {
        "a": a["receiver"],
        "b": b["receiver"],
        "channel": a["channel"],
        "sinr_db": a["sinr_db"],
        "layers": a["layers"],
        "layer": a["layer"],
        "ber_difference": paired.difference,
        "ci95": paired.shown,
        "clusters": paired.clusters,
    }
    if blocks:
        compared |= block_difference(blocks)
    if deliveries:
        slot, paired = SlotConfig.from_dict(a["slot"]), paired_difference(*deliveries)
        most = slot.transport_block_size(a["layer"]) / slot.slot_s
        compared["goodput_difference_bit_per_s"] = most * paired.difference
        compared["goodput_ci95"] = paired.shown and [most * end for end in paired.shown]
    return compared


def block_difference(blocks: Pairs) -> dict:
    """The keys of a comparison that are about block errors."""
    paired = paired_difference(*blocks)
    return {"bler_difference": paired.difference, "bler_ci95": paired.shown}


def best(points: Sequence[Mapping]) -> Mapping:
    """Of receivers of the same slots: the one with most goodput, and of such the fewest bit
    errors.
    """
    return min(points, key=lambda p: (-(p["goodput_bit_per_s"] or 0), p["ber"]))


def new(**others: str) -> dict:
    """A report without points. others: further versions, of what is no Python package."""
    packages = versions("numpy", "torch") | others
    return {"schema": SCHEMA, "host": host(), "versions": packages, "points": []}


def validate(report: Mapping) -> None:
    """Raise ValueError with one line where a report departs from its schema."""
    schema = report.get("schema") if isinstance(report, Mapping) else type(report).__name__
    if not isinstance(schema, str) or schema not in _VERSIONS:
        raise ValueError(f"expected a report of schema {SCHEMA!r}, got {schema!r:.80}")
    check(report, _VERSIONS[schema], "report")
    for k, p in enumerate(report["points"]):
        where = f"points[{k}]"
        if p["bit_errors"] > p["bits"]:
            raise ValueError(f"{where}: {p['bit_errors']} errors in {p['bits']} bits")
        if {p["ber"] is None, p["ber_ci95"] is None} != {p["bits"] == 0}:
            raise ValueError(f"{where}: 'ber', 'ber_ci95' must be null exactly without bits")
        blocks = p.get("blocks")
        if (p.get("block_errors") or 0) > (blocks or 0):
            raise ValueError(f"{where}: {p['block_errors']} errors in {blocks} blocks")
        if {p.get("bler") is None, p.get("bler_ci95") is None} != {not blocks}:
            raise ValueError(f"{where}: 'bler', 'bler_ci95' must be null exactly without blocks")
        if blocks:  # all that version 2 says of them, in version 1, too
            check({key: p[key] for key in _BLOCKS if key in p}, _BLOCKS, where)


def write(report: Mapping, path: str | os.PathLike) -> None:
    """Validate a report and put it at path, whole or not at all."""
    validate(report)
    write_json(report, path)


def read(path: str | os.PathLike) -> dict:
    """Read and validate a report. Raises ValueError with one line that names the file."""
    try:
        report = parse_json(read_regular(path))
        validate(report)
    except OSError as error:
        raise ValueError(f"cannot read report {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a report: {error}") from error
    return report


def energy_value(joules: Mapping) -> tuple[float | None, str]:
    """The strongest value of an energy_per_slot_j, and its kind: measured, attributed, modelled."""
    for kind in ("measured", "attributed", "modelled"):
        if joules[kind] is not None:
            return joules[kind], kind
    return None, "none"
