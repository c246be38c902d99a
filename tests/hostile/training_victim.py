# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that evaluates model files with the training command line."""

import tempfile

from hostile.serve import run_command, serve

from deeprx_training.cli import main

OUT = tempfile.mkdtemp()


def evaluate(path):
    given = ["--sinr", "9", "--slots", "2", "--channel", "TDL-A", "--out", OUT]
    run_command(main, ["evaluate", path, *given])


if __name__ == "__main__":
    serve({"evaluate": evaluate}, "baseline-lmmse.pt")
