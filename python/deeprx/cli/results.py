# SPDX-License-Identifier: GPL-3.0-or-later
"""What loopback, replay and radio do alike: they run, and end with the report, its tables, and what
the tables do not show.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from rich.console import Console

from deeprx_common import energy, report, report_view
from deeprx_common.terminal import make_console, progress_bar

from ..blocks.guarded import run_flowgraph
from ..measure.flowgraph import Flowgraph, stop_on_ctrl_c
from ..measure.points import Counted, add_points, compare, new_report
from ..models.file import ModelFile, labels
from .options import open_meter, out_folder, read_models

CHANCE = 0.45  # BER of bits that have nothing to do with those sent, and nearly so
KEPT_S = 1.0  # between two copies of a report that grows


def read_receivers(arguments, simulated: bool = False) -> list[ModelFile]:
    """read_models() of --receiver. Raises ValueError where --reference is none of them, too."""
    models = read_models(arguments.receiver, arguments, simulated)
    names = labels(models)
    if arguments.reference not in (None, *names):
        raise ValueError(
            f"--reference: expected one of {', '.join(names)}, found {arguments.reference!r}"
        )
    return models


class Keeper:
    """Puts a report on disk while it grows, about once a second; one that takes long to make, of
    very many clusters, may take a twentieth of the time.
    """

    def __init__(self, path: Path):
        self._path, self._due = path, time.monotonic() + KEPT_S

    def keep(self, measured: Callable[[], dict]) -> None:
        """Write what it gives, if it is time. Raises OSError where that cannot be kept."""
        start = time.monotonic()
        if start < self._due:
            return
        report.write(measured(), self._path)
        end = time.monotonic()
        self._due = end + max(KEPT_S, 19 * (end - start))


class Session:
    """A report that grows with every flowgraph that runs, on disk, too: whatever ends the command
    leaves the points that were finished, and of one that takes long what was measured of it. An
    error that ends it shows those that were finished.

    counts: what the progress bar shows of a task. Raises what open_meter() raises. Entering makes
    the folder for the results, shows the bar, and lets Ctrl-C set stop.
    """

    def __init__(self, arguments, counts: str):
        self._arguments = arguments
        self._meter, self._idle = open_meter(arguments)
        self.console = make_console()
        self.report = new_report()
        self._counted: dict[Hashable, list[Counted]] = defaultdict(list)
        self.progress = progress_bar(self.console, counts)

    @property
    def seconds(self) -> float:
        """Since its beginning."""
        return time.monotonic() - self._started

    def __enter__(self) -> "Session":
        self._folder = out_folder(self._arguments)
        self._started = time.monotonic()
        with ExitStack() as entered:
            self.stop = entered.enter_context(stop_on_ctrl_c())
            entered.enter_context(self.progress)
            self._entered = entered.pop_all()
        return self

    def __exit__(self, kind, error, trace):
        self._entered.close()
        if isinstance(error, Exception) and self.report["points"]:
            with suppress(BrokenPipeError):
                show(self.report, self.console)

    def run(
        self,
        flowgraph: Flowgraph,
        advance: Callable[[], None],
        every_s: float = 0.2,
        fields: Callable[[], list[dict]] | None = None,
    ) -> energy.Window:
        """Run to the end, until it is complete or until Ctrl-C, calling advance() now and then;
        returns what the meter counted. fields: gives those of add_points(): the points grow on disk
        meanwhile. Raises as run_flowgraph() does, and OSError where they cannot be kept.
        """
        window = energy.EnergyWindow(self._meter, self._idle)
        keeper = Keeper(self._folder / "report.json")

        def progress():
            advance()
            if fields and flowgraph.slots:
                keeper.keep(lambda: self._so_far(flowgraph, window.read(), fields()))

        def stopped():
            return self.stop.is_set() or flowgraph.complete

        run_flowgraph(flowgraph, stopped, progress, every_s)
        return window.read()

    def _so_far(self, flowgraph: Flowgraph, window: energy.Window, fields: list[dict]) -> dict:
        """The report, as if the flowgraph had been stopped now."""
        measured = self.report | {"points": list(self.report["points"])}
        with ExitStack() as held:
            for probe in flowgraph.probes:
                held.enter_context(probe.held())
            counted = add_points(measured, flowgraph, window, fields, None, stopped=True)
            compared = compare(counted, self._arguments.reference)
        return measured | {"comparisons": self.report["comparisons"] + compared}

    def add_points(
        self, flowgraph: Flowgraph, window: energy.Window, fields, slots, where: Hashable = None
    ) -> list[dict]:
        """See measure.points.add_points(). where: the operating point, whose receivers are compared
        with --reference or the best classical one. Raises OSError where they cannot be kept.
        """
        counted = add_points(self.report, flowgraph, window, fields, slots, self.stop.is_set())
        self._counted[where] += counted
        self.report["comparisons"] = [
            comparison
            for every in self._counted.values()
            for comparison in compare(every, self._arguments.reference)
        ]
        report.write(self.report, self._folder / "report.json")
        return [c.point for c in counted]

    def conclude(self, what: str, notes: Sequence[str] = ()) -> int:
        """Write report.json, and ber.png where bit error rates are known over SINR; show tables,
        notes and what the slots tell of themselves; say where all is. Returns the exit status: 130
        where it was stopped, 1 where no receiver received any slot, else 0.

        what: was measured, for the last line.
        """
        points, files = self.report["points"], [self._folder / "report.json"]
        report.write(self.report, files[0])
        show(self.report, self.console)
        for note in notes:
            print(note)
        picture = self._folder / "ber.png"
        if any(p["ber"] is not None and p["sinr_db"] is not None for p in points):
            files.append(picture)
            report_view.plot(points, picture)
        else:  # another run's would pass for this one's
            picture.unlink(missing_ok=True)
        where = ", ".join(map(str, files))
        if self.stop.is_set():
            kept = f"what was measured: {where}" if points else "nothing was measured"
            print(f"deeprx: stopped after {self.seconds:.0f} s; {kept}", file=sys.stderr)
            return 130
        if not any(p["slots"] for p in points):
            print(f"deeprx: {what}: no slot was received; report: {where}", file=sys.stderr)
            return 1
        line = f"{what} in {self.seconds:.0f} s: {where}"
        self.console.print(line, soft_wrap=True)
        return 0


def show(measured: dict, console: Console) -> None:
    """The tables, and a line for each thing that they leave out."""
    points = measured["points"]
    for table in report_view.tables(points):
        console.print(table)
    lines = [_compared(c) for c in measured["comparisons"]]
    lines += [f"{_where(p)}  {_synchronised(p)}" for p in points if p.get("synchronisation")]
    lines += [f"{_where(p)}  {line}" for p in points for line in dropped(p)]
    lines += [f"{p['receiver']}: {p['engine']}" for p in points if p.get("engine")]
    lines += [f"energy: {line}" for line in report_view.energy_sources(points)]
    for line in dict.fromkeys(lines):
        console.print(line, soft_wrap=True)


def dropped(point: dict) -> list[str]:
    """A line for each reason why the receiver dropped slots."""
    by_reason = point.get("dropped_slots", {})
    return [f"{point['receiver']}: {n} slots dropped: {why}" for why, n in by_reason.items()]


def _where(point: dict) -> str:
    where = point["channel"] or "unknown channel"
    return where if point["sinr_db"] is None else f"{where} {point['sinr_db']:5.1f} dB"


def _compared(c: dict) -> str:
    low, high = c["ci95"] or (0, 0)
    verdict = "no difference shown from" if low <= 0 <= high else "errors than"
    more = "" if low <= 0 <= high else "fewer " if high < 0 else "more "
    where = ", ".join(filter(None, [_where(c), report.user_of(c)]))
    clusters, difference = c["clusters"], report_view.difference
    told = [("BER", difference(c["ber_difference"], c["ci95"], clusters), c["ci95"])]
    if "bler_ci95" in c:
        ends = c["bler_ci95"]
        told.append(("BLER", difference(c["bler_difference"], ends, clusters), ends))
    if "goodput_ci95" in c:
        ends = c["goodput_ci95"] and [1e-6 * end for end in c["goodput_ci95"]]
        mega = 1e-6 * c["goodput_difference_bit_per_s"]
        told.append(("goodput", difference(mega, ends, clusters, "+.2f", " Mbit/s"), ends))
    told.sort(key=lambda rate: rate[2] is not None)  # intervals last: the clusters are theirs
    over = f" over {clusters} clusters" if told[-1][2] else ""
    rates = ", ".join(f"{name} {difference}" for name, difference, _ in told)
    return f"{where}  {c['a']}: {more}{verdict} {c['b']}, {rates}{over}"


def _synchronised(p: dict) -> str:
    s = p["synchronisation"]
    measured = f", {p['slots']} of them measured" if p["slots"] != s["slots"] else ""
    return (
        f"synchronisation: {s['slots']} slots found{measured}, {s['carried']} without a visible "
        f"preamble, {s['locks']} locks, {s['false_locks']} false ones, {s['slips']} slips, "
        f"{s['bad_samples']} bad samples, {s['cfo_hz']:.0f} Hz offset"
    )


def seed_hint(points: Sequence[dict], seed: str) -> list[str]:
    """A line where bits look as if others had been sent; seed: what named it, and its value."""
    known = [p["ber"] for p in points if p["ber"] is not None]
    if not known or min(known) < CHANCE:
        return []
    return [f"slots were received, but half of their bits are wrong: is {seed} the transmitter's?"]
