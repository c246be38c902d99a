# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures what ships: results/*.json, which the documents quote.

ber.json and limits.json are counted here, on slots that all receivers share; time.json and
energy.json hold what `./dev bench` and `deeprx energy` say.
"""

import hashlib
import json
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import torch

from deeprx_common.files import write_json
from deeprx_common.host import host, versions
from deeprx_common.report import sinr_db
from deeprx_common.revision import git_revision
from deeprx_common.shipped import shipped_models
from deeprx_common.stats import error_rate, paired_ratio, sinr_at_ber

from ..data import seeds
from ..evaluation.evaluate import (
    BATCH,
    BER_TARGETS,
    LS,
    PERFECT,
    SURE,
    TRUE,
    Counted,
    Evaluation,
    evaluation_conditions,
)
from ..export.describe import content_sha256, read
from ..files import TrainingError
from ..teaching.checkpoint import load_receiver

SCHEMA = "deeprx.results/1"
ROOT = Path(__file__).parents[3]
CLASSICAL = {LS: "baseline-lmmse", SURE: "baseline-sure"}  # what the model files are called


@dataclass(frozen=True)
class Table:
    """One evaluation: a point for each SINR (with an interferer, SNR), all receivers on the same
    slots. title: of its conditions, for people.
    """

    title: str
    sinr_db: tuple[float, ...]
    slots: int
    domain: str = "frequency"
    conditions: dict = field(default_factory=dict)
    seed: int = seeds.EVALUATION


def _kind(modulation: str, *sinr_db: float, dmrs=(2, 11)) -> Table:
    symbols = " and ".join(map(str, dmrs))
    return Table(
        f"{modulation}, DMRS on symbol{'s' * (len(dmrs) > 1)} {symbols}, frequency domain",
        sinr_db,
        384,
        conditions=dict(modulations={modulation: 1.0}, dmrs={tuple(dmrs): 1.0}),
    )


_SINR = tuple(float(s) for s in range(0, 31, 3))
BER = {
    "16qam": Table("16QAM, DMRS on symbols 2 and 11, frequency domain", _SINR, 1024),
    "16qam-time": Table("16QAM, DMRS on symbols 2 and 11, time domain", _SINR, 1024, "time"),
    "qpsk": _kind("QPSK", 0.0, 6.0, 12.0),
    "64qam": _kind("64QAM", 12.0, 18.0, 24.0),
    "256qam": _kind("256QAM", 18.0, 24.0, 30.0),
    "16qam-one-dmrs": _kind("16QAM", 6.0, 12.0, 18.0, dmrs=(2,)),
}


def _limit(title: str, snr_db: float, **conditions) -> Table:
    return Table(title, (snr_db,), 1024, "frequency", conditions, seeds.LIMITS)


LIMITS = {
    f"delay-{ns}": _limit(
        f"delay spread {ns} ns (TDL-C, 30 Hz, 18 dB, 16QAM)", 18.0,
        channels=("TDL-C",), delay_spread_s=(ns * 1e-9, ns * 1e-9), doppler_hz=(30.0, 30.0),
    )
    for ns in (400, 500, 700)
} | {
    f"sir-{sir}": _limit(
        f"interferer at SIR {sir} dB (SNR 20 dB, 16QAM)", 20.0,
        interferer=1.0, sir_db=(float(sir), float(sir)), cell_ids=(0, 1007),
    )
    for sir in (12, 6, 0)
} | {
    "256qam-mild": _limit(
        "256-QAM on a mild channel (30 to 100 ns, 10 to 50 Hz, 30 dB)", 30.0,
        modulations={"256QAM": 1.0}, delay_spread_s=(30e-9, 100e-9), doppler_hz=(10.0, 50.0),
    ),
    "qpsk-low": _limit("QPSK at -4 dB", -4.0, modulations={"QPSK": 1.0}),
}  # fmt: skip


def heading(part: str, models: list[str]) -> dict:
    """What every file of results begins with. models: SHA-256 of what each file computes."""
    return {
        "schema": SCHEMA,
        "command": f"./dev results --only {part}",
        "date": date.today().isoformat(),
        "host": host() | {"instructions": torch.backends.cpu.get_cpu_capability()},
        "versions": versions("torch", "sionna-no-rt", "openvino"),
        "git": git_revision(),
        "models": {read(path)["name"]: content_sha256(path) for path in models},
    }


def nets(models: list[str]) -> dict[str, torch.nn.Module]:
    """What is to be counted, cheapest first; the classical receivers join by themselves."""
    about = {path: read(path) for path in models}
    learned = [path for path in models if about[path]["kind"] != "baseline"]
    learned.sort(key=lambda path: about[path]["flop_per_slot"]["matmul"])
    return {about[path]["name"]: load_receiver(path)[1] for path in learned}


def count(
    tables: dict[str, Table], models: list[str], kept: Path, slots: int | None, say: Callable
) -> dict[str, tuple[Table, Counted]]:
    """Every table's errors. kept: a folder of batches already counted; slots: instead of the
    tables' own; say(line): of progress.
    """
    import sionna

    receivers, tables_counted = nets(models), {}
    programs = [content_sha256(path) for path in models]
    for name, table in tables.items():
        conditions = evaluation_conditions(table.domain, **table.conditions)
        ideals = () if conditions.interferer else (TRUE, PERFECT)
        of = repr([conditions, table.sinr_db, table.seed, BATCH, ideals, programs])
        of += torch.__version__ + sionna.__version__
        run = Evaluation(
            receivers,
            list(table.sinr_db),
            slots or table.slots,
            conditions,
            table.seed,
            ideals=ideals,
            kept=kept / f"{name}-{hashlib.sha256(of.encode()).hexdigest()[:16]}",
        )
        done, total = 0, len(table.sinr_db) * (slots or table.slots)

        def progress(n: int, name=name, total=total) -> None:
            nonlocal done
            done += n
            say(f"{name}: {done} of {total} slots")

        run.run(progress)
        tables_counted[name] = table, run.counted()
    return tables_counted


def _points(table: Table, counted: Counted, receiver: str) -> list[dict]:
    conditions = evaluation_conditions(table.domain, **table.conditions)
    sir_db = conditions.sir_db[0] if conditions.interferer else None
    bits = counted.bits(counted.slots)
    rates = [error_rate(errors, bits) for errors in counted.errors[receiver]]
    return [
        {
            "receiver": CLASSICAL.get(receiver, receiver),
            "domain": table.domain,
            "channel": "+".join(conditions.channels),
            "modulation": counted.config.modulation,
            "dmrs": list(counted.config.dmrs),
            "snr_db": snr,
            "sir_db": sir_db,
            "sinr_db": sinr_db(snr, sir_db),
            "ber": rate.rate,
            "ber_ci95": list(rate.ci95),
            "bits": rate.bits,
            "bit_errors": rate.errors,
            "slots": counted.slots,
            "clusters": rate.clusters,
            "seed": table.seed,
        }
        for snr, rate in zip(counted.snr_db, rates, strict=True)
    ]


def _crossings(counted: Counted, receiver: str) -> list[dict]:
    bits = counted.bits(counted.slots)
    points = [(s, e, bits) for s, e in zip(counted.sinr_db, counted.errors[receiver], strict=True)]
    crossings = []
    for target in BER_TARGETS:
        at, ends = sinr_at_ber(points, target)
        at, low, high = (v if abs(v) < float("inf") else None for v in (at, *map(float, ends)))
        name = CLASSICAL.get(receiver, receiver)
        crossings.append({"receiver": name, "ber": target, "sinr_db": at, "ci95": [low, high]})
    return crossings


def ber(models, kept, slots, say) -> dict:
    """BER over SINR on the evaluation channels."""
    tables = {
        name: {
            "title": table.title,
            "points": [p for receiver in c.errors for p in _points(table, c, receiver)],
            "crossings": [x for receiver in c.errors for x in _crossings(c, receiver)],
        }
        for name, (table, c) in count(BER, models, kept, slots, say).items()
    }
    return heading("ber", models) | {"tables": tables}


def limits(models, kept, slots, say) -> dict:
    """How many times the errors of the best classical receiver nets make where they are weak."""
    tables = {}
    for name, (table, c) in count(LIMITS, models, kept, slots, say).items():
        best = min(CLASSICAL, key=lambda receiver: c.errors[receiver].sum())
        points = []
        for receiver in (r for r in c.errors if r not in (TRUE, PERFECT)):
            ratio, ci95 = paired_ratio(c.errors[receiver][0], c.errors[best][0])
            points += [
                point
                | {"condition": table.title, "errors_over_classical": ratio, "ci95": list(ci95)}
                | {"classical": CLASSICAL[best]}
                for point in _points(table, c, receiver)
            ]
        tables[name] = {"title": table.title, "points": points}
    return heading("limits", models) | {"tables": tables}


def _measured(part: str, file: str, command: list[str], models) -> dict:
    """What another command of ./dev measures and writes into its --out."""
    with tempfile.TemporaryDirectory() as folder:
        line = [str(ROOT / "dev"), *command, "--out", folder]
        done = subprocess.run(line)
        if done.returncode:
            raise TrainingError(f"./dev {shlex.join(command)}: ended with {done.returncode}")
        measured = json.loads((Path(folder) / file).read_text())
    return heading(part, models) | {"measured_by": shlex.join(["./dev", *command]), part: measured}


def time(models, kept, slots, say) -> dict:
    """CPU time a slot, in the running block."""
    seconds = "0.2" if slots else "2"
    contenders = ["--contender", "block", "--contender", "engine"]
    return _measured("time", "bench.json", ["bench", *contenders, "--seconds", seconds], models)


def energy(models, kept, slots, say) -> dict:
    """Joules a slot."""
    rounds = ["--rounds", "1", "--window", "0.2"] if slots else []
    return _measured("energy", "report.json", ["run", "deeprx", "energy", *rounds], models)


PARTS = {"ber": ber, "limits": limits, "time": time, "energy": energy}


def measure(parts: list[str], out: Path, kept: Path, slots: int | None, say: Callable) -> None:
    """Write parts of PARTS into a folder, each when it is finished. slots: for a quick look."""
    models = shipped_models()
    for part in parts:
        results = PARTS[part](models, kept, slots, say)
        say(f"{write_json(results, out / f'{part}.json')}: written")
