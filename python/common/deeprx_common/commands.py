# SPDX-License-Identifier: GPL-3.0-or-later
"""A command line of several commands, a module each, loaded when it is called.

A module has configure(parser), which adds its options, and run(arguments), which returns the exit
status.
"""

import argparse
import dis
import io
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from . import packages
from .options import Parser
from .printable import printable
from .stopping import INTERRUPTED, interrupt_on_signals, was_interrupted

PIPE_CLOSED = 141  # exit status of a shell's command that SIGPIPE ends
MISTAKEN = 2  # exit status of what cannot be done as it was asked for
FAILED = 3  # exit status of what is nobody's mistake but the program's
EXIT_STATUS = (
    "Exit status: 0; 1 where the answer is no, as no slot received, or part of what was asked for "
    f"failed; {MISTAKEN} for a mistake in what was asked, or what the machine refuses, as a full "
    f"disk; {FAILED} for an error of the program's own, or where a model has lost its jail; "
    f"{INTERRUPTED} for Ctrl-C; {PIPE_CLOSED} where nobody reads its output any more."
)
OURS = ("deeprx_common.", "deeprx_training.", "gnuradio.deeprx.")  # packages


class Failure(RuntimeError):
    """A part of the program failed while it ran; one line. Its cause, if any, has the trace."""


class _CommandParser(Parser):
    """Loads the command's module when it parses, and refuses itself what it does not know."""

    module: str

    def parse_known_args(self, args=None, namespace=None):
        module = import_module(self.module)
        module.configure(self)
        self.set_defaults(run=module.run)
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown


def add_commands(parser: Parser, commands: Mapping[str, str], package: str) -> None:
    """Commands {name: what it does}, each a module of the package."""
    added = parser.add_subparsers(
        dest="command",
        required=True,
        metavar="COMMAND",
        parser_class=_CommandParser,
        prog=parser.prog,
    )
    for name, about in commands.items():
        module = f"{package}.{name.replace('-', '_')}"
        added.add_parser(name, help=about, description=about).module = module


def run_command(
    parser: argparse.ArgumentParser,
    argv: Sequence[str],
    prepare: Callable[[argparse.Namespace], None] = lambda _: None,
) -> int:
    """Run what argv says; returns the exit status: the command's, MISTAKEN, FAILED, INTERRUPTED
    for Ctrl-C and for SIGTERM, which service managers and schedulers send, PIPE_CLOSED where nobody
    reads any more. prepare(arguments) is called before the command.
    """
    _open_standard_streams()
    interrupt_on_signals()
    debug = "--debug" in argv
    try:
        arguments = parser.parse_args(argv)
        prepare(arguments)
        status = arguments.run(arguments)
        if sys.stdout:
            sys.stdout.flush()  # here an error is still told
        return INTERRUPTED if was_interrupted() else status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has what it wants; what was measured is in its files
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return PIPE_CLOSED
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        if was_interrupted():
            return INTERRUPTED
        told, failed = is_told(error), isinstance(error, Failure)
        line = ("" if told or failed else f"{type(error).__name__}: ") + _one_line(error)
        hint = "" if debug or told else " (--debug shows where)"
        print(f"{parser.prog}: error: {printable(line, 4000)}{hint}", file=sys.stderr)
        return MISTAKEN if told and not failed else FAILED


class _Unfailing(io.FileIO):
    """Takes what cannot be written: where standard error is full, closed or left, there is still
    the exit status to tell.
    """

    def write(self, data):
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _open_standard_streams() -> None:
    """Where one is closed, the next file to be opened would take what is written to it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number
    if sys.stderr is sys.__stderr__:
        told = io.BufferedWriter(_Unfailing(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(told, errors="backslashreplace", line_buffering=True)


def is_told(error: Exception) -> bool:
    """Whether an error was raised on purpose, to tell what was wrong: by a statement of ours, by
    the operating system, or by an import of what is not installed. What NumPy or PyTorch finds in
    its arguments is a bug. Errors of the C++ library and of other processes are marked: told.
    """
    if isinstance(error, Failure):
        return error.__cause__ is None
    if isinstance(error, ImportError) or (isinstance(error, OSError) and error.errno is not None):
        return True
    told = getattr(error, "told", None)
    return isinstance(error, ValueError | RuntimeError | OSError) and (
        _is_stated(error) if told is None else told
    )


def _is_stated(error: Exception) -> bool:
    """Whether a statement `raise` of ours made it."""
    made = error.__traceback__
    while made.tb_next:
        made = made.tb_next
    module = made.tb_frame.f_globals.get("__name__", "") + "."
    instruction = made.tb_frame.f_code.co_code[made.tb_lasti]
    return module.startswith(OURS) and dis.opname[instruction] == "RAISE_VARARGS"


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{printable(error.filename, 800)}: {error.strerror}"
    if isinstance(error, ImportError):
        return packages.advice(error)
    return str(error)
