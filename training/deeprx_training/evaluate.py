# SPDX-License-Identifier: GPL-3.0-or-later
"""Bit errors of several receivers on the same slots of the evaluation channels, slot by slot.

Every slot is an independent channel draw, so the slots are the clusters of each interval.
"""

from dataclasses import replace

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from deeprx_common import report
from deeprx_common.energy import energy_per_slot
from deeprx_common.stats import error_rate, sinr_at_ber

from .classical import Baseline, Demapper, perfect_csi
from .data import EVALUATION_CHANNELS, Conditions, SlotGenerator, bit_errors, bits_per_slot, seed_of

EVALUATION_SEED = 20_250_710


def evaluation_conditions(domain: str = "frequency", **changes) -> Conditions:
    """Design of the evaluation: channels never trained on; the time domain with a front end's
    residuals.
    """
    time = dict(time_domain=1.0, timing_samples=(0.0, 4.0), cfo_hz=30.0) if domain == "time" else {}
    return replace(Conditions(channels=EVALUATION_CHANNELS, cell_ids=(1, 1)), **time, **changes)


@torch.inference_mode()
def count_errors(
    receivers: dict[str, nn.Module],
    sinr_db: list[float],
    slots: int,
    device: str = "cpu",
    conditions: Conditions | None = None,
    seed: int = EVALUATION_SEED,
    batch: int = 128,
    on_batch=None,
) -> tuple[int, dict[str, np.ndarray]]:
    """Errors per slot, {name: int64 [len(sinr_db), slots]}, with "LS-LMMSE", "SURE-LMMSE" and
    "perfect CSI" beside the receivers; and the bits of a slot. conditions must name one modulation
    and one DMRS pattern.
    """
    conditions = conditions or evaluation_conditions()
    classical = {"LS-LMMSE": Baseline(), "SURE-LMMSE": Baseline(sure=True)}
    demap = Demapper().to(device)
    nets = {name: net.to(device).eval() for name, net in {**classical, **receivers}.items()}
    errors = {name: np.zeros((len(sinr_db), slots), np.int64) for name in [*nets, "perfect CSI"]}
    generator = SlotGenerator(conditions, device)
    n_bits = 0
    for i, sinr in enumerate(sinr_db):
        generator.conditions = conditions.at(sinr)
        for first in range(0, slots, batch):
            b = generator.batch(min(batch, slots - first), seed_of(seed, i), first // batch)
            part = slice(first, first + len(b.y))
            m = b.config.bits_per_symbol
            n_bits = bits_per_slot(b.config)
            for name, net in nets.items():
                errors[name][i, part] = bit_errors(net(b.y, b.p, m), b).cpu().numpy()
            llr = perfect_csi(b.y, b.h, b.n0, demap, m)
            errors["perfect CSI"][i, part] = bit_errors(llr, b).cpu().numpy()
            if on_batch:
                on_batch(len(b.y))
    return n_bits, errors


def evaluate(
    receivers: dict[str, nn.Module],
    sinr_db: list[float],
    slots: int,
    conditions: Conditions,
    seed: int = EVALUATION_SEED,
    device: str = "cpu",
    shas: dict[str, str | None] | None = None,
) -> tuple[dict, dict[str, np.ndarray]]:
    """count_errors with a progress bar, as a report (deeprx.report/1) with paired comparisons to
    LS-LMMSE, and its arrays: sinr_db, n_bits and the errors of each receiver slot by slot.
    """
    domain = "time" if conditions.time_domain else "frequency"
    (modulation,), (dmrs,) = conditions.modulations, conditions.dmrs
    one = {"delay_spread_s": conditions.delay_spread_s, "doppler_hz": conditions.doppler_hz}
    one = {k: low if low == high else None for k, (low, high) in one.items()}  # or drawn per slot
    columns = (
        TextColumn("evaluating"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("slots"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("", total=slots * len(sinr_db))
        n_bits, errors = count_errors(
            receivers,
            sinr_db,
            slots,
            device,
            conditions,
            seed,
            on_batch=lambda n: progress.advance(task, n),
        )
    import sionna

    made = report.new(torch=torch.__version__, sionna=sionna.__version__)
    made["conditions"] = {
        "delay_spread_s": list(conditions.delay_spread_s),
        "doppler_hz": list(conditions.doppler_hz),
        "timing_samples": list(conditions.timing_samples),
        "cfo_hz": conditions.cfo_hz,
        "device": device,
    }
    flop = {n: _flop(net, conditions.n_rx) for n, net in receivers.items()}
    flop |= {
        "LS-LMMSE": _flop(Baseline(), conditions.n_rx),
        "SURE-LMMSE": _flop(Baseline(sure=True), conditions.n_rx),
    }
    bits = [n_bits] * slots
    for i, sinr in enumerate(sinr_db):
        points = {}
        for name, counted in errors.items():
            points[name] = report.point(
                receiver=name,
                model_sha256=(shas or {}).get(name),
                channel="+".join(conditions.channels),
                **one,
                domain=domain,
                modulation=modulation,
                n_prb=conditions.n_prb,
                n_rx=conditions.n_rx,
                dmrs=list(dmrs),
                sync=False,
                snr_db=sinr,
                seed=seed,
                slots=slots,
                missed_slots=0,
                cluster_errors=counted[i],
                cluster_bits=bits,
                inference_s=[],
                flop_per_slot=flop.get(name),
                energy_per_slot_j=energy_per_slot(
                    flop.get(name), source="none: not measured offline"
                ),
            )
        made["points"] += points.values()
        for name in receivers:
            for other in ("LS-LMMSE", "perfect CSI"):
                made.setdefault("comparisons", []).append(
                    report.comparison(
                        points[name], points[other], errors[name][i], errors[other][i], bits
                    )
                )
    return made, {"sinr_db": np.array(sinr_db), "n_bits": np.array(n_bits), **errors}


def markdown(counted: dict[str, np.ndarray]) -> str:
    """evaluate's arrays as a table: BER with half its 95 % interval over slots, and the SINR in dB
    at which each curve crosses BER 1e-2 and 1e-3, with a bootstrap interval."""
    sinr, n_bits = counted["sinr_db"], int(counted["n_bits"])
    lines = [
        ["receiver", *(f"{s:g} dB" for s in sinr), "SINR at 1e-2", "at 1e-3"],
        ["---"] * (len(sinr) + 3),
    ]
    for name, errors in counted.items():
        if name in ("sinr_db", "n_bits"):
            continue
        points = [(float(s), e, [n_bits] * len(e)) for s, e in zip(sinr, errors, strict=True)]
        row = [name]
        for _, e, bits in points:
            found = error_rate(e, bits)
            half = (found.ci95[1] - found.ci95[0]) / 2
            row.append(
                f"{found.rate:.3g} ± {half / found.rate:.0%}"
                if found.rate
                else f"< {found.ci95[1]:.1g}"
            )
        for target in (1e-2, 1e-3):
            at, (low, high) = sinr_at_ber(points, target) if len(points) > 1 else (np.inf, (0, 0))
            row.append(f"{at:.2f} [{low:.2f}, {high:.2f}]" if np.isfinite(at) else "-")
        lines.append(row)
    width = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    padded = ([cell.ljust(w) for cell, w in zip(line, width, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _flop(net: nn.Module, n_rx: int) -> int:
    from .export import flop_per_slot

    counted = flop_per_slot(net, n_rx)
    return counted["matmul"] + counted["other"]
