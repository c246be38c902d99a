# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes llrs.npz: slots, and the LLRs that each shipped file gives of them.

    ./dev run python3 tests/golden/make_llrs.py [NAME ..]

Run it where a shipped receiver is meant to give other LLRs: of those named alone, or of all. What
is there was made by the files of contract 1, before they were converted, and by deeprx-pusch.
"""

import sys
from pathlib import Path

import numpy as np
from gnuradio import deeprx

from deeprx_common.examples import received_slots
from deeprx_common.shipped import shipped_models, study_models
from deeprx_common.slot import SlotConfig, User

FILE = Path(__file__).parent / "llrs.npz"
SLOTS = {
    "16QAM": SlotConfig(n_prb=6),
    "QPSK": SlotConfig(n_prb=6, dmrs=(2,), users=(User("QPSK"),)),
    "64QAM": SlotConfig(n_prb=6, users=(User("64QAM"),)),
    "256QAM": SlotConfig(n_prb=6, users=(User("256QAM"),)),
}
EVERY = {"16QAM": 1, "QPSK": 1, "64QAM": 6, "256QAM": 6}  # so many data REs, one is kept
N_RX = 2


def llrs(model, modulation: str, y, p, engine: str) -> np.ndarray:
    """Of the data REs that are kept, float32 [slots, n, bits]."""
    config = SLOTS[modulation]
    outputs = deeprx.Engine(
        model,
        slot=config,
        n_rx=N_RX,
        max_batch=len(y),
        engine=engine,
    ).infer(y, p)
    data = outputs.reshape(-1, *outputs.shape[-3:])[:, config.data_mask, : config.bits_per_symbol]
    return data[:, :: EVERY[modulation]]


def main() -> None:
    models = {Path(path).stem: path for path in [*shipped_models(), *study_models()]}
    chosen = sys.argv[1:] or list(models)
    kept = dict(np.load(FILE)) if sys.argv[1:] else {}
    for name, config in SLOTS.items():
        y, p, _ = received_slots(config, N_RX, 1)
        kept |= {f"{name} y": y, f"{name} p": p}
        for model in map(models.__getitem__, chosen):
            kept[f"{name} {Path(model).stem}"] = llrs(model, name, y, p, "torchscript")
    np.savez_compressed(FILE, **kept)


if __name__ == "__main__":
    main()
