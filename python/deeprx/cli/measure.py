# SPDX-License-Identifier: GPL-3.0-or-later
"""What every command that measures receivers does: flowgraph, points of the report, tables."""

import signal
import threading
from contextlib import contextmanager

from gnuradio import gr
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from deeprx_common import energy, report, report_view
from deeprx_common.slot import SlotConfig

from ..blocks.slot_probe import slot_probe
from ..blocks.slot_stream import raise_failure
from ..deeprx_python import receiver
from ..model_file import ModelFile
from .link import slot_keywords

IDLE_S = 3.0  # of nothing running, before the first flowgraph


class Flowgraph(gr.top_block):
    """A flowgraph of one operating point, whose slots go to one receiver for each model."""

    def __init__(self, name: str, models: list[ModelFile], config: SlotConfig, n_rx: int):
        super().__init__(name, catch_exceptions=True)
        self.models, self.config, self.n_rx = models, config, n_rx
        self.receivers, self.probes = [], []

    def connect_receivers(
        self, front_end: gr.basic_block, device: str, engine: str = "auto", **probe
    ) -> None:
        """A receiver and a slot_probe(**probe) for each model, all behind one front end."""
        slot = slot_keywords(self.config)
        number = -1 if self.config.slot_number is None else self.config.slot_number
        for model in self.models:
            block = receiver(
                model=str(model.path),
                n_rx=self.n_rx,
                device=device,
                engine=engine,
                threads=1,
                n_prb=self.config.n_prb,
                modulation=self.config.modulation,
                dmrs=list(self.config.dmrs),
                cell_id=self.config.cell_id,
                slot_number=number,
            )
            counter = slot_probe(**{"every_slots": 0, "meter": "none"} | probe, **slot)
            for antenna in range(self.n_rx):
                self.connect((front_end, antenna), (block, antenna))
            self.connect(block, counter)
            self.msg_connect(block, "stats", counter, "stats")
            self.receivers.append(block)
            self.probes.append(counter)


def run_watched(
    flowgraph: gr.top_block, stop: threading.Event, progress=lambda: None, every_s: float = 0.2
) -> None:
    """Run to the end or until stop is set, and call progress() now and then.

    Raises RuntimeError with one line where an exception in a block ended it.
    """
    flowgraph.handle_sigint = False
    waiter = threading.Thread(target=flowgraph.wait, daemon=True)
    flowgraph.start()
    waiter.start()
    while waiter.is_alive():
        waiter.join(every_s)
        progress()
        if stop.is_set():
            flowgraph.stop()
    raise_failure(flowgraph)


@contextmanager
def stop_on_ctrl_c():
    """An event that Ctrl-C sets, wherever it strikes; a second Ctrl-C ends the program."""
    stop = threading.Event()

    def handle(number, frame):
        stop.set()
        signal.signal(number, before)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def open_meter(arguments) -> tuple[energy.Meter, energy.Idle | None]:
    """The meter that was asked for, and what it counts while nothing runs, if that is known."""
    meter = energy.find_meter(arguments.device, arguments.meter, arguments.core_power)
    if arguments.idle_power is not None:
        return meter, energy.Idle(arguments.idle_power)
    return meter, energy.measure_idle(meter, IDLE_S) if meter.kind == "measured" else None


def progress_bar(console: Console, counts: str) -> Progress:
    """Description, bar, counts (with the task's fields) and time left; nothing in a file."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{counts}  left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def new_report() -> dict:
    """A report without points, of these versions."""
    return report.new(gnuradio=gr.version()) | {"comparisons": []}


def add_points(made, flowgraph, window, fields, slots, stopped) -> list[dict]:
    """One point for each receiver, and each one's difference to the first on the same clusters.

    window: energy over the run. fields: for each receiver, further keys of its point. slots: how
    many there were, to count the missed ones by; None, or where the run was stopped: gaps in the
    slot index are what was missed.
    """
    statistics = [probe.statistics for probe in flowgraph.probes]
    inference_s = sum(s.inference_total_s for s in statistics)
    points = []
    labels = _labels(flowgraph.models)
    for model, label, counted, known in zip(
        flowgraph.models, labels, statistics, fields, strict=True
    ):
        if stopped and counted.slots == 0:
            continue
        flop = model.flop_per_slot(flowgraph.config.n_prb, flowgraph.n_rx)
        share = counted.inference_total_s / inference_s if len(statistics) > 1 else None
        own = window.served(counted.slots, counted.slots * flowgraph.config.n_bits, counted.cpu_s)
        used = energy.energy_per_slot(own, counted.inference_total_s, share)
        missed = {} if slots is None or stopped else {"missed_slots": slots - counted.slots}
        points.append(
            counted.point(
                used,
                receiver=label,
                model_sha256=model.sha256,
                n_rx=flowgraph.n_rx,
                flop_per_slot=flop,
                **known | missed,
            )
        )
    made["points"] += points
    if len(points) < len(statistics):
        return points
    for other, counted in zip(points[1:], statistics[1:], strict=True):
        first = statistics[0].clusters
        shared = [
            k for k in first if k in counted.clusters and first[k][1] == counted.clusters[k][1]
        ]
        if shared:
            errors, bits = zip(*(first[k] for k in shared), strict=True)
            others = [counted.clusters[k][0] for k in shared]
            made["comparisons"].append(report.comparison(other, points[0], others, errors, bits))
    return points


def show(made, console: Console) -> None:
    """The tables, and what they do not show: who is better on the same slots, whence the energy."""
    if not console.is_terminal:
        console = Console(highlight=False, width=160)  # a file has no width to fold tables to
    for table in report_view.tables(made["points"]):
        console.print(table)
    for c in made["comparisons"]:
        low, high = c["ci95"]
        verdict = "lower BER" if high < 0 else "higher BER" if low > 0 else "not told apart"
        where = c["channel"] or "unknown channel"
        if c["sinr_db"] is not None:
            where += f" {c['sinr_db']:5.1f} dB"
        console.print(
            f"{where}  {c['a']} - {c['b']}: "
            f"{c['ber_difference']:+.2e} [{low:+.2e}, {high:+.2e}] over {c['clusters']} clusters: "
            f"{verdict}",
            markup=False,
        )
    for line in dict.fromkeys(
        f"{p['receiver']}: {p['engine']}" for p in made["points"] if p.get("engine")
    ):
        console.print(line, markup=False)
    for line in report_view.energy_sources(made["points"]):
        console.print(f"energy: {line}", markup=False)


def show_synchronisation(found: dict) -> None:
    """A line of a sync_front_end's statistics."""
    print(
        f"synchronisation: {found['found']} slots found, {found['carried']} of them without a "
        f"visible preamble, {found['locks']} locks, {found['false_locks']} false ones, "
        f"{found['slips']} slips, {found['bad_samples']} bad samples, "
        f"{found['cfo_hz']:.0f} Hz offset"
    )


def _labels(models: list[ModelFile]) -> list[str]:
    """A name for each model, told apart by its file where two are called the same."""
    names = [model.name for model in models]
    return [
        name if names.count(name) == 1 else f"{name} ({model.path})"
        for name, model in zip(names, models, strict=True)
    ]
