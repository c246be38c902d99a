# SPDX-License-Identifier: GPL-3.0-or-later
"""The training command line: train receivers from recipes, evaluate them, export them as model
files. One module a command, loaded when it is called.

A module has configure(parser), which adds its options, and run(arguments), which returns the exit
status.
"""

import argparse
import sys
import traceback
from importlib import import_module

from deeprx_common import __version__
from deeprx_common.options import Parser
from deeprx_common.stopping import stop_on_sigterm

COMMANDS = {
    "run": "train the receivers of a recipe; RECIPE.toml alone does the same",
    "evaluate": "BER of receivers on the evaluation channels, on the same slots, with intervals",
    "experiment": "many receivers trained and compared side by side",
    "plot": "pictures and tables of an experiment; of an evaluation, error rate against time",
    "export": "write a receiver as a model file for the GNU Radio block",
    "quantise": "write a real-time receiver as a model file whose convolutions are int8",
    "describe": "rewrite what model files say of themselves, and nothing else of them",
    "results": "measure what ships into results/*.json, and write its tables into the documents",
    "cost": "what a training run cost, by phase, and when a student has paid it back",
}
BUG = 70  # exit status: sysexits.h calls it an internal software error


class _CommandParser(Parser):
    """Loads the command's module when it parses."""

    command: str

    def parse_known_args(self, args=None, namespace=None):
        module = import_module(f".{self.command}", __package__)
        module.configure(self)
        self.set_defaults(run=module.run)
        return super().parse_known_args(args, namespace)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="./dev train",
        description="Train OFDM receivers, compare them, and write model files for GNU Radio.",
        usage="./dev train RECIPE.toml --out DIR [OPTIONS]\n       ./dev train COMMAND ...",
        epilog="A receiver is named CHECKPOINT[:MEMBER[@ROUNDS]] (a training run's last.ckpt; "
        "ROUNDS cuts a RealtimeRx short) or FILE.pt (an exported model file, which is a program: "
        "name only those you trust here; the GNU Radio block vets what it loads).",
    )
    parser.add_argument("--version", action="version", version=f"gr-deeprx {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_CommandParser
    )
    for command, about in COMMANDS.items():
        prog = f"./dev train {command}"
        commands.add_parser(command, help=about, description=about, prog=prog).command = command
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 where part of what was asked for failed, 2 for
    a user's mistake, 130 for Ctrl-C and for SIGTERM, which schedulers send, 70 for a bug.
    """
    stop_on_sigterm()
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0].endswith(".toml"):
        argv.insert(0, "run")
    debug = "--debug" in argv
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        line = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            line = f"{error.filename or ''}: {error.strerror}"
        expected = isinstance(error, ValueError | RuntimeError | OSError)
        if not expected:
            line = f"{type(error).__name__}: {line}" + "" if debug else " (--debug shows where)"
        print(f"error: {line}", file=sys.stderr)
        return 2 if expected else BUG
