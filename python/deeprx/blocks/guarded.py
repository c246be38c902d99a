# SPDX-License-Identifier: GPL-3.0-or-later
"""How blocks fail: with a line, and never in silence; and how flowgraphs are run."""

import gc
import math
import re
import threading
import time
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ClassVar

import pmt
from gnuradio import gr

from deeprx_common.commands import Failure
from deeprx_common.printable import printable

from ..deeprx_python import block_failure, in_flowgraph, system_handler

_STOP_S = 5.0  # that blocks may take to stop
_SILENCE_S = 1.0  # between two lines about messages


class MessageError(ValueError):
    """A message that a port cannot use; one line. Raised by a handler, it is logged, no more."""


def _guarded(result):
    """A block's method whose exception ends the flowgraph; it then returns result."""

    def guard(method):
        @wraps(method)
        def call(self, *args):
            try:
                return method(self, *args)
            except Exception as error:
                _end_flowgraph(self, error)
                return result

        return call

    return guard


class Guarded:
    """Mixin, first base of a block written in Python, which does not let it fail in silence.

    An exception in work(), start(), stop() or a message handler would end the block's thread alone,
    and its flowgraph would wait for ever: here it ends the flowgraph, with a line in the log, and
    raise_failure() says it again.
    """

    _ignored = 0  # messages
    _complained = _failed = -math.inf

    def __init__(self, *args):
        super().__init__(*args)
        self.set_msg_handler(pmt.intern("system"), self._on_system)

    def _on_system(self, message):
        """GNU Radio's own handler ends the block's thread where a message is none of its own."""
        known = pmt.is_pair(message) and pmt.eq(pmt.car(message), pmt.intern("done"))
        if not known or not pmt.is_integer(pmt.cdr(message)):
            raise MessageError("the port system takes (done . 1)")
        system_handler(self.gateway, message)

    def __init_subclass__(cls, **keywords):
        super().__init_subclass__(**keywords)
        for name in ("start", "stop"):
            if name in cls.__dict__:
                setattr(cls, name, _guarded(False)(cls.__dict__[name]))

    @_guarded(-1)
    def handle_general_work(self, *args):
        """What GNU Radio calls, around work() or general_work()."""
        return super().handle_general_work(*args)

    def set_msg_handler(self, port, handler):
        """As gr.basic_block's, for a handler that may raise MessageError."""

        @wraps(handler)
        def handle(message):
            if time.monotonic() - self._failed < _STOP_S:
                return  # GNU Radio stops a block's thread when all that waited has been handled
            try:
                handler(message)
            except MessageError as error:
                self._ignore(error)
            except Exception as error:
                _end_flowgraph(self, error)
                self._failed = time.monotonic()

        setattr(self, handler.__name__, handle)  # GNU Radio calls it by its name
        super().set_msg_handler(port, handle)

    def _ignore(self, error: MessageError) -> None:
        """A line, but no flood of them."""
        self._ignored += 1
        now = time.monotonic()
        if now - self._complained >= _SILENCE_S:
            counted = f" ({self._ignored} so far)" if self._ignored > 1 else ""
            self.logger.error(printable(f"message ignored: {error}{counted}"))
            self._complained = now


class SelfKeeping(Guarded):
    """Guarded, and kept until it has run and no flowgraph holds it any more.

    A flowgraph owns only the C++ half of a block written in Python. Where nobody names the other
    half, as in ``top.connect(slot_source(), ...)``, the first call into it ends the process, be it
    when the flowgraph starts for a second time.
    """

    _kept: ClassVar[set] = set()
    _has_run = False

    def __init__(self, *args):
        super().__init__(*args)
        gone = [b for b in self._kept if b._has_run and not in_flowgraph(b.gateway)]
        self._kept.difference_update(gone)
        self._kept.add(self)

    def start(self):
        self._has_run = True
        return True

    def stop(self):
        return True


def _end_flowgraph(block: gr.basic_block, error: Exception) -> None:
    """Log what struck a block, and stop the top block that it is in."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = printable(f"{type(error).__name__}: {error}")
    line = f"{block.name()}: {what} ({Path(frame.filename).name}, line {frame.lineno})"
    block.logger.error(f"{line}; the flowgraph ends here")
    failure = Failure(line)
    failure.__cause__ = error
    for top in _top_blocks():
        if block.alias() in _aliases(top):
            _stop(top, failure)


def end_failed_flowgraphs() -> None:
    """Stop those in which a block written in C++ has failed; its line is in the log."""
    for top in _top_blocks():
        if failure := _failure(top, _aliases(top)):
            _stop(top, failure)


def _top_blocks() -> list[gr.top_block]:
    return [o for o in gc.get_objects() if issubclass(type(o), gr.top_block)]


def _stop(top: gr.top_block, failure: Failure) -> None:
    top.deeprx_failure = getattr(top, "deeprx_failure", failure)  # others follow from it
    threading.Thread(target=top.stop, daemon=True).start()  # a block's own is to be stopped


def _aliases(top: gr.top_block) -> set[str]:
    """The blocks of a flowgraph that runs."""
    edges = top.edge_list() + top.msg_edge_list()
    return set(re.findall(r"(?:^|->)(.*?):", edges, re.MULTILINE))


def _failure(top: gr.top_block, aliases: set[str]) -> Failure | None:
    if failure := getattr(top, "deeprx_failure", None):
        return failure
    line = next(filter(None, map(block_failure, aliases)), "")
    return Failure(line) if line else None


def raise_failure(top: gr.top_block) -> None:
    """Failure with one line where an exception has ended a block of a flowgraph that runs: one of
    ours, in Python or in C++, or GNU Radio's.
    """
    if failure := _failure(top, _aliases(top)):
        raise failure


def run_flowgraph(
    top: gr.top_block,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[], None] = lambda: None,
    every_s: float = 0.2,
) -> None:
    """Run a flowgraph to its end, or until Ctrl-C or stopped() ends it, and call progress() now and
    then.

    Where an exception ends a block, top_block.run() may wait for ever; here the flowgraph is
    stopped, and Failure raised with one line.
    """
    top.start()
    aliases = _aliases(top)  # which are forgotten at the end
    ended = threading.Event()  # Python 3.11's join() takes a thread for ended after Ctrl-C

    def wait():
        top.wait()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    interrupted = False
    try:
        while not ended.is_set():
            try:
                ended.wait(every_s)
                progress()
                if interrupted or stopped() or _failure(top, aliases):
                    top.stop()
            except KeyboardInterrupt:
                if interrupted or stopped():  # the second one, which a block that hangs needs
                    raise
                interrupted = True
    except BaseException:
        top.stop()
        ended.wait(_STOP_S)
        raise
    if failure := _failure(top, aliases):
        raise failure
