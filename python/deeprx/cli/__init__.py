# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line `deeprx`: one module a command, loaded when it is called.

A module has configure(parser), which adds its options, and run(arguments), which returns the exit
status.
"""

import argparse
import sys
import traceback
from importlib import import_module, metadata

from deeprx_common import __version__, packages
from deeprx_common.options import Parser
from deeprx_common.stopping import stop_on_sigterm

COMMANDS = {
    "loopback": "BER, time and energy of receivers over TDL channels",
    "demo": "the shipped baselines and a real-time student over TDL-A and TDL-E",
    "record": "slots over a TDL channel into a SigMF recording",
    "replay": "BER, time and energy of receivers on a SigMF recording",
    "radio": "slots through a radio: BER, time and energy of receivers",
    "info": "what a model file says of itself",
    "doctor": "what this machine has for receivers, and what is slow or wrong",
    "parity": "the receiver block's LLRs against those of the net that was exported",
    "energy": "joules and time per slot of receivers, in turns, against their error rates",
    "bench": "receivers beside ONNX Runtime, OpenVINO, torch.compile and others, in turns",
    "monitor": "a live view of what slot probes publish (their zmq_address)",
    "keys": "make keys for telemetry between machines",
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


class _Version(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        from gnuradio import gr

        print(f"gr-deeprx {__version__}, GNU Radio {gr.version()}, PyTorch {_torch_version()}")
        parser.exit()


def _torch_version() -> str:
    """Without importing it, which takes seconds."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "not in this Python"


def make_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = Parser(
        prog="deeprx",
        description="Learned OFDM receivers in GNU Radio: measure and inspect them.",
        epilog="Exit status: 0; 1 where what was asked for was not found to be so, as no slot "
        "received; 2 for a mistake in what was asked; 130 for Ctrl-C; 70 for an error of deeprx.",
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="of gr-deeprx, GNU Radio and PyTorch"
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_CommandParser
    )
    for command, about in COMMANDS.items():
        commands.add_parser(command, help=about, description=about).command = command
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 where what was asked for was not found to be
    so, 2 for a user's mistake, 130 for Ctrl-C and for SIGTERM, which service managers and
    schedulers send, 70 for an error of deeprx itself.
    """
    stop_on_sigterm()
    argv = sys.argv[1:] if argv is None else argv
    debug = "--debug" in argv
    try:
        arguments = make_parser().parse_args(argv)
        from gnuradio import gr

        gr.logging().set_default_level(gr.log_levels.warn)  # tables say what blocks say at "info"
        return arguments.run(arguments)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        expected = isinstance(error, ValueError | RuntimeError | OSError | ImportError)
        line = _one_line(error) if expected else f"{type(error).__name__}: {_one_line(error)}"
        hint = "" if debug or _is_told(error) else " (--debug shows where)"
        print(f"deeprx: error: {line}{hint}", file=sys.stderr)
        return 2 if expected else BUG


def _is_told(error: Exception) -> bool:
    """Whether an error tells what was wrong with what was asked. A ValueError that no statement
    raised may be what NumPy found in its arguments: a bug.
    """
    raised = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return isinstance(error, OSError | RuntimeError | ImportError) or (
        isinstance(error, ValueError) and raised.startswith("raise ")
    )


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ImportError):
        return packages.advice(error)
    return " ".join(str(error).split())
