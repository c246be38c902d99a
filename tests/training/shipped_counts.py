# SPDX-License-Identifier: GPL-3.0-or-later
"""Bit errors of shipped files on ten of the named conditions, at a fixed seed; as a program, writes
shipped_counts.json. In the training environment:

    PYTHONPATH=python/common:training .venv-training/bin/python tests/training/shipped_counts.py
"""

import json
from pathlib import Path

from deeprx_training.evaluation.evaluate import Evaluation
from deeprx_training.evaluation.named import Named, load
from deeprx_training.receivers.contract import misfit
from deeprx_training.teaching.checkpoint import load_receiver, read_model

ROOT = Path(__file__).parents[2]
COUNTS = Path(__file__).with_suffix(".json")
CONDITIONS = (
    "delay-1000ns", "doppler-900hz", "sir-0db", "qpsk-minus-6db", "256qam-30db-mild",
    "one-antenna-16qam", "four-antennas-64qam", "two-users", "gnb-delay-50ns",
    "six-prb-seven-symbols",
)  # fmt: skip
SLOTS, SEED = 8, 77


def named() -> list[Named]:
    return load(ROOT / "training/experiments/conditions.toml", list(CONDITIONS))


def errors(file: Path, condition: Named) -> int | None:
    """Of SLOTS slots; None where the file does not take them."""
    if misfit(read_model(file).metadata, condition.slot, condition.condition.n_rx):
        return None
    name, net = load_receiver(str(file))
    run = Evaluation(
        {name: net}, [condition.condition.snr_db], SLOTS, condition.conditions(), SEED,
        ideals=(), joining=(), slot=condition.slot,
    )  # fmt: skip
    run.run()
    return int(run.counted().errors[name].sum())


if __name__ == "__main__":
    files = sorted((ROOT / "models").rglob("*.pt"))
    counts = {f.stem: {c.name: errors(f, c) for c in named()} for f in files}
    COUNTS.write_text(json.dumps(counts, indent=1) + "\n")
