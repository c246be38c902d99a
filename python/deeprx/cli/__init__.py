# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line `deeprx`: one module a command, loaded when it is called."""

import argparse
import sys
from importlib import metadata

from deeprx_common import __version__
from deeprx_common.commands import EXIT_STATUS, add_commands, run_command
from deeprx_common.options import Parser

COMMANDS = {
    "loopback": "BER, time and energy of receivers over TDL channels",
    "demo": "the shipped baselines and a real-time net over TDL-A and TDL-E",
    "bler": "the SINR at which receivers lose a share of their transport blocks",
    "record": "slots over a TDL channel into a SigMF recording",
    "import-gnb": "a gNB's dump of uplink grids and its log into a SigMF recording of PUSCH",
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
        epilog="Lists are comma-separated; of numbers they may hold ranges: 6:18:3, or 6:12, by 1. "
        + EXIT_STATUS,
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="of gr-deeprx, GNU Radio and PyTorch"
    )
    add_commands(parser, COMMANDS, __package__)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: see EXIT_STATUS."""
    return run_command(make_parser(), sys.argv[1:] if argv is None else argv, _prepare)


def _prepare(arguments: argparse.Namespace) -> None:
    """Tables say what blocks say at "info"; jails have the limits that were given."""
    from gnuradio import gr

    if hasattr(arguments, "trust"):
        from .options import limit_jails

        limit_jails(arguments)
    gr.logging().set_default_level(gr.log_levels.warn)
