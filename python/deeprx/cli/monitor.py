# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx monitor: what slot probes of this and other machines publish, live."""

import json
import math
import sys
import time

import zmq
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deeprx_common import report
from deeprx_common.report_view import number
from deeprx_common.terminal import make_console

from ..telemetry.pubsub import Subscription
from ..telemetry.source import Source

PORT = "5599"
REDRAW_S = 0.25
SILENCE_S = 1.0  # between two lines about the messages of a source
WAIT_S = 1.0  # for messages: Ctrl-C that strikes just before a wait is seen after it
WIDTH = 100  # at most, of the terminal
_BARS = "▁▂▃▄▅▆▇█"
_COLOURS = {"live": "green", "stale": "yellow", "waiting": "yellow"}


def configure(parser) -> None:
    add = parser.add_argument
    add(
        "--connect",
        action="append",
        metavar="ADDRESS",
        help=f"tcp://host:port, or a port of this machine; repeat for several ({PORT})",
    )
    add("--keys", metavar="FOLDER", help="of `deeprx keys`, where the probes have keys")
    add("--once", action="store_true", help="show one report of every source, then end")
    add("--timeout", type=float, default=30.0, metavar="S", help="of --once, seconds (30)")
    add("--json", action="store_true", help="every report as a line of JSON")
    add(
        "--prometheus",
        type=int,
        metavar="PORT",
        help="serve metrics at http://127.0.0.1:PORT/metrics",
    )


def run(arguments) -> int:
    if arguments.timeout <= 0:
        raise ValueError(f"--timeout must be positive, got {arguments.timeout:g}")
    context, poller = zmq.Context(), zmq.Poller()
    sources = {}
    for address in dict.fromkeys(arguments.connect or [PORT]):
        subscription = Subscription(address, arguments.keys, context)
        sources[subscription] = Source(subscription.address)
        poller.register(subscription.socket, zmq.POLLIN)
    if arguments.prometheus is not None:
        from ..telemetry.prometheus import serve

        serve(arguments.prometheus, list(sources.values()))
    try:
        if arguments.once:
            return _once(arguments, sources, poller)
        return _follow(arguments, sources, poller)
    finally:
        for subscription in sources:
            subscription.close()
        context.destroy(linger=0)


def _receive(sources, poller, wait_s: float):
    """Wait for messages, and yield the sources that one brought up to date. Each has at most one
    read, so that no flood keeps the others, or the caller, waiting.
    """
    ready = dict(poller.poll(wait_s * 1e3))
    for subscription, source in sources.items():
        message = None
        if subscription.socket in ready:
            message = subscription.receive()
        else:
            subscription.stay_connected()
        source.complaint, source.unreadable = subscription.complaint, subscription.unreadable
        if message:
            source.dropped = subscription.dropped
            source.take(message, time.monotonic())
            yield source


def _once(arguments, sources, poller) -> int:
    end = time.monotonic() + arguments.timeout
    silent = list(sources.values())
    while silent and (left := end - time.monotonic()) > 0:
        for _ in _receive(sources, poller, min(left, WAIT_S)):
            silent = [source for source in silent if source.message is None]
    console = make_console()
    for source in sources.values():
        if source.message is not None:
            print(_as_json(source)) if arguments.json else console.print(
                _panel(source, min(console.width, WIDTH))
            )
    if silent:
        names = ", ".join(source.address for source in silent)
        why = next(
            (s.complaint for s in silent if s.complaint),
            "is a slot_probe publishing there, with the same keys?",
        )
        raise ValueError(f"no report from {names} within {arguments.timeout:g} s: {why}")
    return 0


def _follow(arguments, sources, poller) -> int:
    console = make_console()
    if arguments.json or not console.is_terminal:
        told = {}
        while True:
            for source in _receive(sources, poller, WAIT_S):
                print(_as_json(source) if arguments.json else _line(source), flush=True)
            now = time.monotonic()
            for source in sources.values():
                counted, when = told.get(source, (0, -math.inf))
                if source.unreadable > counted and now - when >= SILENCE_S:
                    told[source] = source.unreadable, now
                    why = f"{_plain(source.complaint)} ({source.unreadable} so far)"
                    print(f"deeprx: {source.address}: message ignored: {why}", file=sys.stderr)

    def view():
        width = min(console.width, WIDTH)
        panels = (_panel(source, width) for source in sources.values())
        return Group(*panels, Text("Ctrl-C ends", style="dim"))

    with Live(get_renderable=view, console=console, auto_refresh=False) as live:
        while True:
            redraw = time.monotonic() + REDRAW_S
            while (left := redraw - time.monotonic()) > 0:
                for _ in _receive(sources, poller, left):
                    pass
            live.refresh()


def _as_json(source: Source) -> str:
    sent = source.message.report
    received = {"address": source.address, "dropped_messages": source.dropped}
    return json.dumps(sent | {"telemetry": sent["telemetry"] | received})


def _plain(text: str) -> str:
    """Text of strangers without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text[:160])


def _fields(source: Source) -> dict[str, str]:
    """What is shown of a source, by its label."""
    point = source.message.point
    times = point["inference_s_per_slot"]
    joules, kind = report.energy_value(point["energy_per_slot_j"])
    if kind == "modelled":
        kind += f": {point['energy_per_slot_j']['model']}"
    interval = "" if point["ber"] is None else "  {:.1e} … {:.1e}".format(*point["ber_ci95"])
    slots = f"{point['slots']}, {number(source.slots_per_s[-1], '{:.0f}')}/s"
    fields = {
        "receiver": _plain(point["receiver"]),
        "BER": number(point["ber"], "{:.2e}") + interval,
        "slots": f"{slots}, {point['missed_slots']} missed",
        "inference": f"{number(times['p50'], '{:.2f}', 1e3)} ms, "
        f"p99 {number(times['p99'], '{:.2f}', 1e3)} ms, "
        f"queue {number(point.get('queue_slots'), '{}')}",
        "energy": _plain(number(joules, "{:.3g} mJ/slot, ", 1e3) + kind),
    }
    if point.get("bler") is not None:
        fields["blocks"] = (
            "BLER {:.2e}  {:.1e} … {:.1e}, ".format(point["bler"], *point["bler_ci95"])
            + number(point["goodput_bit_per_s"], "{:.2f}", 1e-6)
            + " Mbit/s"
        )
    if point["sinr_db"] is not None:
        fields["receiver"] += f" at {point['sinr_db']:.1f} dB"
    if models := point.get("slots_by_model"):
        fields["by model"] = _plain(", ".join(f"{name} {n}" for name, n in models.items()))
    if source.dropped:
        fields["dropped"] = f"{source.dropped} messages: this monitor is too slow"
    if source.restarts:
        fields["restarts"] = str(source.restarts)
    return fields


def _line(source: Source) -> str:
    shown = ", ".join(f"{label} {text}" for label, text in _fields(source).items())
    return f"{time.strftime('%H:%M:%S')} {source.address}: {shown}"


def _panel(source: Source, width: int) -> Panel:
    now = time.monotonic()
    status = source.status(now)
    title = Text(_plain(source.address))
    if source.message is None:
        content = Text(f"nothing received yet{': ' if source.complaint else ''}{source.complaint}")
    else:
        title.append(f"  {_plain(source.message.source)}", style="dim")
        history = {
            "BER": sparkline(source.ber, logarithmic=True),
            "slots": sparkline(source.slots_per_s),
            "inference": sparkline(source.p99_s),
        }
        content = Table.grid(padding=(0, 2), expand=True)
        content.add_column(style="bold")
        content.add_column(ratio=1)
        content.add_column(style="cyan", no_wrap=True)
        for label, text in _fields(source).items():
            content.add_row(label, Text(text), history.get(label, ""))
        if source.complaint:
            content.add_row("unreadable", Text(_plain(source.complaint)), "")
        if status == "stale":
            status = f"stale: silent for {source.silent_s(now):.0f} s"
    colour = _COLOURS[status.partition(":")[0]]
    return Panel(
        content,
        title=title,
        title_align="left",
        subtitle=Text(status, style=colour),
        subtitle_align="right",
        border_style=colour,
        width=width,
    )


def sparkline(values, logarithmic: bool = False) -> str:
    """One bar a value between the smallest and the largest; blank where there is none."""
    known = [v for v in values if v is not None and (v > 0 or not logarithmic)]
    if not known:
        return ""
    scale = math.log10 if logarithmic else float
    low, high = scale(min(known)), scale(max(known))

    def bar(value):
        if value is None:
            return " "
        if logarithmic and value <= 0:
            return _BARS[0]
        place = (scale(value) - low) / (high - low) if high > low else 0.5
        return _BARS[round(place * (len(_BARS) - 1))]

    return "".join(map(bar, values))
