# SPDX-License-Identifier: GPL-3.0-or-later
"""Imported by what Companion generates: a block that cannot be made ends it with one line.

That is a package that is missing, a file that is not there, a value out of range, a radio that does
not answer. Other errors keep their traceback, and so do these under `python3 -X dev`. Ctrl-C ends
it even where Qt calls Python, and would drop the exception.
"""

import os
import re
import signal
import sys
import traceback

from deeprx_common import packages
from deeprx_common.printable import printable

MISTAKES = (ImportError, OSError, RuntimeError, ValueError)


def _line(error: BaseException, trace) -> str | None:
    """What to say in place of a traceback; None where it says more."""
    if sys.flags.dev_mode or not isinstance(error, MISTAKES):
        return None
    script = os.path.abspath(sys.argv[0])
    frames = [f for f in traceback.extract_tb(trace) if os.path.abspath(f.filename) == script]
    if not frames:
        return None
    imported = isinstance(error, ImportError)
    text = printable(packages.advice(error) if imported else error)
    if block := re.match(r"self\.(\w+) = ", frames[-1].line):
        text = f"block {block[1]}: {text}"
    elif not imported:
        return None
    return f"{os.path.basename(script)}: error: {text}"


def _hook(kind, error, trace) -> None:
    if kind is KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    line = _line(error, trace)
    if line is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(line, file=sys.stderr)


sys.excepthook = _hook
