# SPDX-License-Identifier: GPL-3.0-or-later
"""The training command line: train receivers from recipes, evaluate them, export them as model
files. One module a command, loaded when it is called.
"""

import sys

from deeprx_common import __version__
from deeprx_common.commands import EXIT_STATUS, add_commands, run_command
from deeprx_common.options import Parser

COMMANDS = {
    "run": "train the receivers of a recipe; RECIPE.toml alone does the same",
    "evaluate": "BER of receivers on the evaluation channels, on the same slots, with intervals",
    "experiment": "many receivers trained and compared side by side",
    "plot": "pictures and tables of an experiment; of an evaluation, error rate against time",
    "export": "write a receiver as a model file for the GNU Radio block",
    "quantise": "write a real-time receiver as a model file whose convolutions are int8",
    "convert": "rewrite model files of an earlier contract for the one that receivers read",
    "describe": "rewrite what model files say of themselves, and nothing else of them",
    "results": "measure what ships into results/*.json, and write its tables into the documents",
    "study": "what the case study's experiment has found, for the documentation's page",
    "speed": "how fast a training step is, in every form that computes the same",
    "cost": "what a training run cost, by phase, and when a student has paid it back",
}


def _parser() -> Parser:
    parser = Parser(
        prog="./dev train",
        description="Train OFDM receivers, compare them, and write model files for GNU Radio.",
        usage="./dev train RECIPE.toml --out DIR [OPTIONS]\n       ./dev train COMMAND ...",
        epilog="A receiver is named CHECKPOINT[:MEMBER[@ROUNDS]] (a training run's last.ckpt; "
        "ROUNDS cuts a RealtimeRx short) or FILE.pt (an exported model file, whose program runs "
        "only if it ships or --trust names it). " + EXIT_STATUS,
    )
    parser.add_argument("--version", action="version", version=f"gr-deeprx {__version__}")
    add_commands(parser, COMMANDS, __package__)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: see EXIT_STATUS."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0].endswith(".toml"):
        argv.insert(0, "run")
    return run_command(_parser(), argv)
