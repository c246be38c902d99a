# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that gives model files to the training command line."""

import tempfile
from pathlib import Path

from hostile.serve import run_command, serve

from deeprx_training.cli import main

OUT = tempfile.mkdtemp()
RECIPE = Path(__file__).parents[2] / "training" / "recipes" / "realtime.toml"


def evaluate(path):
    given = ["--sinr", "9", "--slots", "2", "--channel", "TDL-A", "--out", OUT]
    run_command(main, ["evaluate", path, *given])


def export(path):
    run_command(main, ["export", path, f"{OUT}/exported.pt", "--no-openvino"])


def quantise(path):
    run_command(main, ["quantise", path, f"{OUT}/int8.pt", "--recipe", str(RECIPE)])


WAYS = {
    "evaluate": evaluate,
    "export": export,
    "quantise": quantise,
}

if __name__ == "__main__":
    serve(WAYS, "baseline-lmmse.pt")
