# SPDX-License-Identifier: GPL-3.0-or-later
"""How command lines are stopped."""

import signal


def stop_on_sigterm() -> None:
    """Let SIGTERM, which service managers and schedulers send, do what Ctrl-C does.

    Also where Ctrl-C is ignored, as in a script's background jobs.
    """

    def handle(_, frame):
        interrupt = signal.getsignal(signal.SIGINT)
        if not callable(interrupt):
            raise KeyboardInterrupt
        interrupt(signal.SIGINT, frame)

    signal.signal(signal.SIGTERM, handle)
