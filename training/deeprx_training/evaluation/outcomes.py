# SPDX-License-Identifier: GPL-3.0-or-later
"""What named conditions say of receivers: tables for people, failures first, and two CSVs."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deeprx_common.files import replacing

from . import never_worse as rule
from .cells import markdown_table
from .named import Named

VERDICTS = "worse", "refused", "not decided", "not worse"


@dataclass(frozen=True)
class Outcome:
    """What there is of a condition. slots that were used; perfect: BER of perfect CSI; pairs of
    each receiver with each reference; calibrations of each receiver; dropped: slots of each that
    dropped some. refused: why it cannot be counted; stopped: before the rule had all slots that it
    asks for.
    """

    named: Named
    slots: int
    perfect: float | None
    pairs: dict[tuple[str, str], rule.Pair]
    calibrations: dict[str, rule.Calibration]
    dropped: dict[str, int] = field(default_factory=dict)
    refused: str = ""
    stopped: bool = False


def rows(outcomes: Sequence[Outcome], receiver: str) -> list[dict]:
    """One of each condition and reference, failures first, then by ratio."""
    judged = [
        (outcome, reference, pair)
        for outcome in outcomes
        for (name, reference), pair in outcome.pairs.items()
        if name == receiver
    ]
    after = rule.corrected([pair for *_, pair in judged])
    judgements = [
        _of(outcome)
        | {
            "receiver": receiver,
            "reference": reference,
            "judged": pair.metric,
            "slots": pair.slots,
            "rate": pair.rate,
            "reference_rate": pair.reference_rate,
            "perfect_csi_ber": outcome.perfect,
            "ratio": pair.ratio,
            "low": pair.ci95 and pair.ci95[0],
            "high": pair.ci95 and pair.ci95[1],
            "p": pair.p,
            "p_holm": p,
            "decided": pair.decided,
            "verdict": rule.verdict(pair, p),
        }
        for (outcome, reference, pair), p in zip(judged, after, strict=True)
    ]
    judgements += [
        _of(o) | {"receiver": receiver, "verdict": "refused"} for o in outcomes if o.refused
    ]
    return sorted(judgements, key=lambda r: (VERDICTS.index(r["verdict"]), -(r.get("ratio") or 0)))


def _of(outcome: Outcome) -> dict:
    c, slot = outcome.named.condition, outcome.named.slot
    return {
        "condition": c.name,
        "n_prb": slot.n_prb,
        "scs_khz": slot.scs_khz,
        "n_symbols": slot.n_symbols,
        "dmrs": " ".join(map(str, slot.dmrs)),
        "cdm_groups": slot.cdm_groups,
        "users": slot.n_layers,
        "modulation": c.modulation,
        "channel": c.channel,
        "delay_spread_ns": c.delay_spread_ns,
        "past_prefix": outcome.named.past_prefix(),
        "doppler_hz": c.doppler_hz,
        "sinr_db": outcome.named.sinr_db,
        "sir_db": c.sir_db,
        "n_rx": c.n_rx,
        "domain": c.domain,
    }


def llr_rows(outcomes: Iterable[Outcome], receiver: str) -> Iterator[dict]:
    """One of each condition and bin of |LLR|."""
    for outcome in outcomes:
        if calibration := outcome.calibrations.get(receiver):
            for each in calibration.bins:
                yield {
                    "receiver": receiver,
                    "condition": outcome.named.name,
                    "llr": each.low,
                    "draws": each.draws,
                    "wrong": each.wrong,
                    "promised": each.promised,
                    "ratio": each.ratio,
                    "low": each.ci95[0],
                    "high": each.ci95[1],
                    "kept": each.kept,
                    "best_scale": calibration.scale,
                    "gain_bit_per_bit": calibration.gain,
                }


def failures(outcomes: Sequence[Outcome], receiver: str) -> tuple[int, int]:
    """Pairs that are worse or refused, and conditions whose LLRs break their promise."""
    bad = sum(row["verdict"] in ("worse", "refused") for row in rows(outcomes, receiver))
    broken = (o.calibrations.get(receiver) for o in outcomes)
    return bad, sum(c is not None and not c.kept for c in broken)


def summary(outcomes: Sequence[Outcome], receiver: str) -> str:
    """One line."""
    verdicts = [row["verdict"] for row in rows(outcomes, receiver)]
    counted = ", ".join(f"{verdicts.count(v)} {v}" for v in VERDICTS if v in verdicts)
    _, broken = failures(outcomes, receiver)
    calibrated = sum(receiver in o.calibrations for o in outcomes)
    dropped = sum(o.dropped.get(receiver, 0) for o in outcomes)
    told = f"; dropped {dropped} slots, whose bits count as guessed, blocks as lost"
    return (
        f"{receiver}: {counted or 'nothing'} of {len(verdicts)} pairs of condition and reference; "
        f"LLRs break their promise in {broken} of {calibrated} conditions"
        + (told if dropped else "")
    )


def markdown(outcomes: Sequence[Outcome], receivers: Sequence[str]) -> str:
    """All tables; first, where there are several receivers, what they are beside each other."""
    parts = _side_by_side(outcomes, receivers) if len(receivers) > 1 else []
    for receiver in receivers:
        parts += [
            f"## {receiver}\n\n{summary(outcomes, receiver)}.",
            _pairs_table(rows(outcomes, receiver)),
            f"### LLRs of {receiver}\n\nThe factor on all LLRs that gives most information, and "
            "what it gains in bit per coded bit; observed over promised errors in the lowest bins "
            "of |LLR| that do not keep their promise (llrs.csv has all).",
            _llr_table(outcomes, receiver),
        ]
    parts += [f"**{o.named.name}**: {o.refused}." for o in outcomes if o.refused]
    stopped = [f"{o.named.name} after {o.slots} slots" for o in outcomes if o.stopped]
    parts += [f"Stopped: {', '.join(stopped)}."] if stopped else []
    return "\n\n".join(parts) + "\n"


def _side_by_side(outcomes: Sequence[Outcome], receivers: Sequence[str]) -> list[str]:
    parts = ["## Side by side\n\n" + "\n".join(f"* {summary(outcomes, r)}." for r in receivers)]
    judged = {
        (row["condition"], row.get("reference"), receiver): row
        for receiver in receivers
        for row in rows(outcomes, receiver)
    }
    for reference in dict.fromkeys(name for o in outcomes for _, name in o.pairs):
        table = []
        for o in outcomes:
            of = None if o.refused else reference
            if each := [judged[o.named.name, of, r] for r in receivers if o.pairs or o.refused]:
                rate = "-" if o.refused else f"{each[0]['reference_rate']:.3g}"
                known = [o.named.name, each[0].get("judged", "-"), str(o.slots), rate]
                table.append(known + [_beside(row) for row in each])
        head = ["condition", "judged", "slots", f"{reference}'s error rate", *receivers]
        parts.append(
            f"### Errors over those of {reference}\n\nOn the same slots; below 1 are fewer."
        )
        parts.append(markdown_table(head, table))
    return parts


def _beside(row: dict) -> str:
    ratio = row.get("ratio")
    said = row["verdict"] if row["verdict"] in ("worse", "refused") else ""
    return " ".join(filter(None, ["" if ratio is None else f"{ratio:.3f}", said])) or "-"


def _pairs_table(pairs: list[dict]) -> str:
    head = [
        "condition", "slot", "channel", "SINR", "RX", "reference", "judged", "slots",
        "error rate", "its", "perfect CSI's BER", "ratio", "p", "verdict",
    ]  # fmt: skip
    return markdown_table(head, [_cells(row) for row in pairs])


def _cells(row: dict) -> list[str]:
    groups = "s" * (row["cdm_groups"] > 1)
    slot = (
        f"{row['modulation']}, {row['n_prb']} PRB, {row['scs_khz']} kHz, {row['n_symbols']} "
        f"symbols, DMRS {row['dmrs'].replace(' ', ',')}, {row['cdm_groups']} group{groups}"
    )
    slot += f", {row['users']} users" * (row["users"] > 1)
    channel = f"{row['channel']} {row['delay_spread_ns']:g} ns, {row['doppler_hz']:g} Hz"
    if row["domain"] == "time":
        channel += ", time domain"
    if row["past_prefix"]:
        channel += f", {row['past_prefix']:.1%} of the power past the prefix"
    sinr = f"{row['sinr_db']:.1f} dB"
    if row["sir_db"] is not None:
        sinr += f" (SIR {row['sir_db']:g} dB)"
    cells = [row["condition"], slot, channel, sinr, str(row["n_rx"])]
    if row["verdict"] == "refused":
        return [*cells, *["-"] * 8, "refused"]
    perfect, ratio = row["perfect_csi_ber"], row["ratio"]
    return [
        *cells,
        row["reference"],
        row["judged"],
        str(row["slots"]),
        f"{row['rate']:.3g}",
        f"{row['reference_rate']:.3g}",
        "-" if perfect is None else f"{perfect:.3g}",
        "-" if ratio is None else f"{ratio:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
        "-" if row["p_holm"] is None else f"{row['p_holm']:.2g}",
        row["verdict"],
    ]


def _llr_table(outcomes: Sequence[Outcome], receiver: str) -> str:
    judged = [(o, o.calibrations[receiver]) for o in outcomes if receiver in o.calibrations]
    judged.sort(key=lambda each: (each[1].kept, -each[1].gain))
    return markdown_table(
        ["condition", "draws", "factor", "gain", "bins not as promised", "verdict"],
        [
            [
                outcome.named.name,
                str(outcome.slots),
                f"x{c.scale:.2f}",
                f"{c.gain:.4f}",
                _broken(c.broken),
                "kept" if c.kept else "broken",
            ]
            for outcome, c in judged
        ],
    )


def _broken(bins: list[rule.Bin], shown: int = 2) -> str:
    texts = [
        f"{b.low:g} to {b.low + 1:g}: {b.ratio:.2f} [{b.ci95[0]:.2f}, {b.ci95[1]:.2f}]"
        for b in bins[:shown]
    ]
    more = len(bins) - shown
    return "; ".join([*texts, f"{more} more"] if more > 0 else texts)


def write(outcomes: Sequence[Outcome], receivers: Sequence[str], folder: Path) -> list[str]:
    """conditions.md, conditions.csv and llrs.csv into a folder; returns their names."""
    pairs = [row for receiver in receivers for row in rows(outcomes, receiver)]
    llrs = [row for receiver in receivers for row in llr_rows(outcomes, receiver)]
    with replacing(folder / "conditions.md") as temporary:
        Path(temporary).write_text(markdown(outcomes, receivers))
    _write_csv(pairs, folder / "conditions.csv")
    _write_csv(llrs, folder / "llrs.csv")
    return ["conditions.md", "conditions.csv", "llrs.csv"]


def _write_csv(table: list[dict], path: Path) -> None:
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        columns = list(dict.fromkeys(key for row in table for key in row))
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(table)
