# SPDX-License-Identifier: GPL-3.0-or-later
"""How command lines are stopped: by Ctrl-C, and by SIGTERM, which service managers and schedulers
send and which does the same.
"""

import os
import signal
import threading

INTERRUPTED = 130  # exit status of a shell's command that Ctrl-C ends

_interrupted = threading.Event()


def quit_on_ctrl_c() -> None:
    """Let Ctrl-C end the program at once, while it has nothing to tidy up."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))


def interrupt_on_signals() -> None:
    """Let SIGINT raise KeyboardInterrupt, and SIGTERM do what SIGINT does.

    Also where Ctrl-C is ignored, as in a script's background jobs. It may be lost on its way: an
    extension that is being imported tells it as a failure of its own, and a destructor drops it.
    was_interrupted() tells of it all the same.
    """

    def interrupt(_number, _frame):
        _interrupted.set()
        raise KeyboardInterrupt

    def terminate(_, frame):
        current = signal.getsignal(signal.SIGINT)
        (current if callable(current) else interrupt)(signal.SIGINT, frame)

    _interrupted.clear()
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, terminate)


def was_interrupted() -> bool:
    """Whether KeyboardInterrupt was raised since interrupt_on_signals()."""
    return _interrupted.is_set()
