# SPDX-License-Identifier: GPL-3.0-or-later
"""The project's command lines as their parsers have them, and whether a line parses.

Works with any program whose main(argv) uses argparse, however its parsers are made.
"""

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass


class _Stop(BaseException):
    """Ends main() where it would begin to work."""

    def __init__(self, parser: argparse.ArgumentParser | None = None):
        self.parser = parser


@dataclass
class Option:
    """names: of an option, or of a positional argument in its metavar. text: its help."""

    names: list[str]
    text: str


@dataclass
class Command:
    """words: of the command behind the program's name. commands: below it."""

    words: list[str]
    usage: str
    description: str
    epilog: str
    options: list[Option]
    commands: list[list[str]]


@contextlib.contextmanager
def _patched(name: str, function: Callable):
    before = getattr(argparse.ArgumentParser, name)
    setattr(argparse.ArgumentParser, name, function(before))
    try:
        yield
    finally:
        setattr(argparse.ArgumentParser, name, before)


def _parser(main: Callable, words: Sequence[str]) -> argparse.ArgumentParser:
    def stop(before):
        def print_help(self, file=None):
            raise _Stop(self)

        return print_help

    with _patched("print_help", stop):
        try:
            main([*words, "--help"])
        except _Stop as stopped:
            return stopped.parser
    raise ValueError(f"{' '.join(words)}: no --help")


def describe(main: Callable, words: Sequence[str] = ()) -> list[Command]:
    """A command and all below it, each with its options as its parser has them."""
    parser = _parser(main, words)
    options, below = [], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            below = [[*words, name] for name in action.choices]
        elif action.help is not argparse.SUPPRESS and "--help" not in action.option_strings:
            formatter = parser._get_formatter()
            text = formatter._expand_help(action) if action.help else ""
            heading = formatter._format_action_invocation(action)
            options.append(Option([heading], " ".join(text.split())))
    usage = " ".join(parser.format_usage().split()).removeprefix("usage: ")
    command = Command(
        list(words), usage, parser.description or "", parser.epilog or "", options, below
    )
    return [command, *(c for words in below for c in describe(main, words))]


def mistake(main: Callable, argv: Sequence[str]) -> str:
    """What the parser says is wrong with a command line; empty: nothing. Nothing is run."""

    def stop(before):
        def parse_args(self, args=None, namespace=None):
            before(self, args, namespace)
            raise _Stop

        return parse_args

    said = io.StringIO()
    with (
        _patched("parse_args", stop),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),  # of --help
    ):
        try:
            main(list(argv))
        except _Stop:
            return ""
        except SystemExit as ended:
            return said.getvalue().strip() if ended.code else ""
    return said.getvalue().strip()


if __name__ == "__main__":  # in the training environment
    from deeprx_training.cli import main

    json.dump([asdict(command) for command in describe(main)], sys.stdout)
