# SPDX-License-Identifier: GPL-3.0-or-later
"""What every command that measures receivers does: flowgraph and points of the report."""

import signal
import threading
from contextlib import contextmanager

from gnuradio import gr
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from deeprx_common import energy, report
from deeprx_common.slot import SlotConfig

from ..blocks.front_end import aligned_front_end, sync_front_end
from ..blocks.slot_probe import slot_probe
from ..blocks.slot_stream import raise_failure
from ..deeprx_python import receiver
from ..model_file import ModelFile
from .link import slot_keywords

IDLE_S = 3.0  # of nothing running, before the first flowgraph


class Flowgraph(gr.top_block):
    """A flowgraph of one operating point: a front end, and a receiver of its slots for each model.

    sync: whether the front end finds slots by their preamble.
    """

    def __init__(
        self, name: str, models: list[ModelFile], config: SlotConfig, n_rx: int, sync: bool
    ):
        super().__init__(name, catch_exceptions=True)
        self.models, self.config, self.n_rx, self.sync = models, config, n_rx, sync
        kind = sync_front_end if sync else aligned_front_end
        self.front_end = kind(n_rx=n_rx, **slot_keywords(config))
        self.receivers, self.probes = [], []

    @property
    def slots(self) -> int:
        """Slots that every receiver has received."""
        return min(probe.slots() for probe in self.probes)

    @property
    def synchronisation(self) -> dict:
        """Keys of a report's point: how slots were found."""
        if not self.sync:
            return {"sync": False}
        return {"sync": True, "synchronisation": self.front_end.statistics()}

    def connect_receivers(self, device: str, engine: str, **probe) -> None:
        """A receiver and a slot_probe(**probe) for each model, all behind the front end."""
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
                self.connect((self.front_end, antenna), (block, antenna))
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


def add_points(
    measured: dict, flowgraph: Flowgraph, window: energy.Window, fields, slots, stopped
) -> list[dict]:
    """Add one point for each receiver to a report, and each one's difference to the best classical
    one on the same clusters, or to the first where none is classical.

    window: energy over the run. fields: for each receiver, further keys of its point. slots: how
    many there were, to count the missed ones by; None, or where the run was stopped: gaps in the
    slot index are what was missed.
    """
    statistics = [probe.statistics for probe in flowgraph.probes]
    inference_s = sum(s.inference_total_s for s in statistics)
    labels = _labels(flowgraph.models)
    points, counts = [], []
    for model, label, counted, known in zip(
        flowgraph.models, labels, statistics, fields, strict=True
    ):
        if stopped and counted.slots == 0:
            continue
        flop = model.flop_per_slot(flowgraph.config.n_prb, flowgraph.n_rx)
        shared = inference_s > 0 and len(statistics) > 1
        share = counted.inference_total_s / inference_s if shared else None
        served = window.served(
            counted.slots, counted.slots * flowgraph.config.n_bits, counted.cpu_s
        )
        used = energy.energy_per_slot(served, counted.inference_total_s, share)
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
        counts.append((points[-1], counted.clusters, model.metadata.get("kind") == "baseline"))
    measured["points"] += points
    measured["comparisons"] += _comparisons(counts)
    return points


def _comparisons(counts: list[tuple[dict, dict, bool]]) -> list[dict]:
    """counts: of each receiver its point, {cluster: (errors, bits)}, whether it is classical."""
    classical = [c for c in counts if c[2] and c[0]["ber"] is not None]
    if not counts:
        return []
    reference = min(classical, key=lambda c: c[0]["ber"], default=counts[0])
    made = []
    for point, clusters, _ in counts:
        shared = [k for k in reference[1] if k in clusters and reference[1][k][1] == clusters[k][1]]
        if point is reference[0] or not shared:
            continue
        errors, bits = zip(*(reference[1][k] for k in shared), strict=True)
        others = [clusters[k][0] for k in shared]
        made.append(report.comparison(point, reference[0], others, errors, bits))
    return made


def _labels(models: list[ModelFile]) -> list[str]:
    """A name for each model, told apart by its file where two are called the same."""
    names = [model.name for model in models]
    return [
        name if names.count(name) == 1 else f"{name} ({model.path})"
        for name, model in zip(names, models, strict=True)
    ]
