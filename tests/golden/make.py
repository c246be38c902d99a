# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the golden recordings and the bits that receivers must find in them.

Run it where a receiver is meant to change, and look at what else did:

    ./dev run python3 tests/golden/make.py               # the bits, of the recordings there are
    ./dev run python3 tests/golden/make.py --recordings  # new recordings too
"""

import sys
from pathlib import Path

import numpy as np
from gnuradio import deeprx
from gnuradio.deeprx.cli import main

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))

from replays import replayed  # noqa: E402

MODELS = ("baseline-lmmse", "baseline-sure", "deeprx-student")
COMMON = ["--n-prb", "12", "--slots", "6", "--burst", "1", "--author", "gr-deeprx"]
RECORDINGS = {
    "ci16": ["--datatype", "ci16_le", "--channel", "TDL-A", "--sinr", "12", "--cfo", "700"],
    "cf32": ["--datatype", "cf32_le", "--channel", "TDL-E", "--sinr", "9", "--modulation", "QPSK"],
}
SURE = 0.1  # LLRs nearer to zero may fall to either side on another processor


def record(name: str) -> None:
    for old in HERE.glob(f"{name}.sigmf-*"):
        old.unlink()
    assert main(["record", str(HERE / name), *RECORDINGS[name], *COMMON, "--seed", "11"]) == 0


def keep_bits(name: str) -> None:
    """Per model: whether each LLR is positive, and whether it is away from zero, packed."""
    models = [deeprx.model_path(f"{model}.pt") for model in MODELS]
    slots, outputs = replayed(HERE / f"{name}.sigmf-meta", *models)
    kept = {"slots": slots}
    for model, llrs in zip(MODELS, outputs, strict=True):
        kept[f"{model} bits"] = np.packbits(llrs > 0, axis=1)
        kept[f"{model} sure"] = np.packbits(np.abs(llrs) > SURE, axis=1)
    np.savez_compressed(HERE / f"{name}.npz", **kept)


if __name__ == "__main__":
    for each in RECORDINGS:
        if "--recordings" in sys.argv[1:]:
            record(each)
        keep_bits(each)
