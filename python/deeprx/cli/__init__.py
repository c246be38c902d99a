# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line `deeprx`."""

import argparse
import sys

from gnuradio import gr

from deeprx_common.stopping import stop_on_sigterm

from . import (
    bench,
    doctor,
    energy,
    info,
    keys,
    loopback,
    monitor,
    parity,
    profile,
    radio,
    record,
    replay,
)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} ({self.prog} --help)\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for a user's mistake, 130 for Ctrl-C
    and for SIGTERM, which service managers and schedulers send.
    """
    stop_on_sigterm()
    parser = _Parser(
        prog="deeprx", description="Learned OFDM receivers in GNU Radio: measure and inspect them."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    loopback.add_loopback(commands)
    loopback.add_demo(commands)
    record.add(commands)
    replay.add(commands)
    radio.add(commands)
    info.add(commands)
    doctor.add(commands)
    parity.add(commands)
    profile.add(commands)
    energy.add(commands)
    bench.add(commands)
    monitor.add(commands)
    keys.add(commands)
    arguments = parser.parse_args(argv)
    gr.logging().set_default_level(gr.log_levels.warn)  # tables say what blocks say at "info"
    try:
        return arguments.run(arguments)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"deeprx: error: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
