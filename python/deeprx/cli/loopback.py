# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx loopback and deeprx demo: receivers side by side on the same slots, over TDL channels."""

import argparse
import math
import signal
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from gnuradio import gr
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from deeprx_common import energy, report
from deeprx_common.slot import MODULATIONS, SlotConfig

from ..deeprx_python import receiver
from ..front_end import aligned_front_end, sync_front_end
from ..model_file import ModelFile, read_model_file
from ..slot_probe import slot_probe
from ..slot_source import slot_source
from ..slot_transmitter import slot_transmitter
from ..tdl_channel import tdl_channel

CHANNELS = ("TDL-A", "TDL-B", "TDL-C", "TDL-D", "TDL-E")
DEMO_MODELS = ("baseline-lmmse.pt", "baseline-sure.pt", "deeprx-student.pt")
TAIL_SLOTS = 3  # after the last counted one: what follows a slot carries it to the end of the chain


def add_loopback(commands) -> None:
    parser = commands.add_parser(
        "loopback", help="BER, time and energy of receivers over TDL channels"
    )
    add = parser.add_argument
    add("--receiver", action="append", required=True, metavar="MODEL.pt", help="repeat to compare")
    _add_run(parser, out="report")
    add(
        "--channel", type=_list(_channel), default=["TDL-A"], help="TDL-A to TDL-E, comma-separated"
    )
    add("--delay-spread", type=float, default=100e-9, metavar="S", help="rms, seconds (100e-9)")
    add("--doppler", type=float, default=50.0, metavar="HZ", help="maximum shift (50)")
    add("--sinr", type=_list(float), default=[6.0, 9.0, 12.0], metavar="DB,..", help="(6,9,12)")
    add("--sir", type=float, metavar="DB", help="add an interfering slot; noise makes up the rest")
    add("--cfo", type=float, default=0.0, metavar="HZ", help="carrier frequency offset (0)")
    add("--slots", type=int, default=200, help="a channel and SINR (200)")
    add("--burst", type=int, default=5, metavar="SLOTS", help="slots of one fading draw (5)")
    add("--modulation", choices=MODULATIONS, default="16QAM")
    add("--n-prb", type=int, default=26, help="6 to 273 (26)")
    add("--n-rx", type=int, default=2, help="antennas, 1 to 4 (2)")
    add("--dmrs", type=_list(int), default=[2, 11], metavar="SYMBOL,..", help="(2,11)")
    add("--sync", action="store_true", help="find the slots by their preamble (default: aligned)")
    parser.set_defaults(run=lambda arguments: run(_setup(arguments)))


def add_demo(commands) -> None:
    parser = commands.add_parser(
        "demo", help="the shipped baselines and student over TDL-A and TDL-E"
    )
    _add_run(parser, out="build/demo")
    parser.add_argument("--slots", type=int, default=600, help="a channel and SINR (600)")
    parser.set_defaults(run=lambda arguments: run(_demo_setup(arguments)))


def _add_run(parser, out: str) -> None:
    parser.add_argument("--seed", type=int, default=1, help="of bits, fading and noise (1)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<n> (cpu)")
    parser.add_argument(
        "--out", type=Path, default=Path(out), metavar="DIR", help=f"report.json, ber.png ({out})"
    )


def _list(kind):
    def parse(text):
        return [kind(part) for part in text.split(",")]

    parse.__name__ = "list"  # as argparse's message calls it
    return parse


def _channel(name: str) -> str:
    if name not in CHANNELS:
        raise argparse.ArgumentTypeError(f"expected {', '.join(CHANNELS)}, found {name!r}")
    return name


@dataclass(frozen=True)
class Setup:
    """What a loopback does: every model at every SINR of every channel."""

    models: list[ModelFile]
    config: SlotConfig
    n_rx: int
    channels: list[str]
    delay_spread_s: float
    doppler_hz: float
    sinr_db: list[float]
    sir_db: float | None
    cfo_hz: float
    slots: int
    burst: int
    sync: bool
    seed: int
    device: str
    out: Path

    def __post_init__(self):
        if self.slots < 1 or self.burst < 1:
            raise ValueError(
                f"--slots and --burst must be at least 1, got {self.slots} and {self.burst}"
            )
        if not 1 <= self.n_rx <= 4:
            raise ValueError(f"--n-rx must be 1 to 4 antennas, got {self.n_rx}")
        if self.sir_db is not None and max(self.sinr_db) >= self.sir_db:
            raise ValueError(
                f"an SIR of {self.sir_db:g} dB rules out an SINR of {max(self.sinr_db):g} dB: "
                "give --sinr values below --sir"
            )

    def snr_db(self, sinr_db: float) -> float:
        """The thermal noise that makes up the SINR beside the interferer."""
        if self.sir_db is None:
            return sinr_db
        return -10 * math.log10(10 ** (-sinr_db / 10) - 10 ** (-self.sir_db / 10))


def _setup(arguments) -> Setup:
    a = arguments
    return Setup(
        models=[read_model_file(path) for path in a.receiver],
        config=SlotConfig(n_prb=a.n_prb, modulation=a.modulation, dmrs=tuple(a.dmrs)),
        n_rx=a.n_rx,
        channels=a.channel,
        delay_spread_s=a.delay_spread,
        doppler_hz=a.doppler,
        sinr_db=a.sinr,
        sir_db=a.sir,
        cfo_hz=a.cfo,
        slots=a.slots,
        burst=a.burst,
        sync=a.sync,
        seed=a.seed,
        device=a.device,
        out=a.out,
    )


def _demo_setup(arguments) -> Setup:
    return Setup(
        models=[read_model_file(name) for name in DEMO_MODELS],
        config=SlotConfig(),
        n_rx=2,
        channels=["TDL-A", "TDL-E"],
        delay_spread_s=100e-9,
        doppler_hz=300.0,
        sinr_db=[6.0, 9.0, 12.0, 15.0, 18.0],
        sir_db=None,
        cfo_hz=0.0,
        slots=arguments.slots,
        burst=5,
        sync=False,
        seed=arguments.seed,
        device=arguments.device,
        out=arguments.out,
    )


class _Point(gr.top_block):
    """The flowgraph of one channel and SINR: one transmitter and front end, all receivers."""

    def __init__(self, setup: Setup, channel: str, sinr_db: float):
        super().__init__("deeprx loopback", catch_exceptions=True)
        self.handle_sigint = False
        config = setup.config
        slot = {
            "n_prb": config.n_prb,
            "modulation": config.modulation,
            "dmrs": config.dmrs,
        }
        sent = setup.slots + TAIL_SLOTS
        self._blocks = []  # GNU Radio holds only the C++ side of a Python block

        def keep(block):
            self._blocks.append(block)
            return block

        fading = keep(
            tdl_channel(
                profile=channel,
                n_rx=setup.n_rx,
                delay_spread_s=setup.delay_spread_s,
                doppler_hz=setup.doppler_hz,
                snr_db=setup.snr_db(sinr_db),
                sir_db=setup.sir_db,
                cfo_hz=setup.cfo_hz,
                sample_rate=config.sample_rate,
                seed=setup.seed,
                burst_slots=setup.burst,
            )
        )
        links = [(setup.seed, config.cell_id)]
        if setup.sir_db is not None:  # another user: its own bits and pilots
            links.append((setup.seed + 1, config.cell_id + 1))
        for port, (seed, cell_id) in enumerate(links):
            link = slot | {"cell_id": cell_id}
            source = keep(slot_source(seed=seed, n_slots=sent, **link))
            transmitter = keep(slot_transmitter(preamble=setup.sync, **link))
            self.connect(source, transmitter, (fading, port))
        kind = sync_front_end if setup.sync else aligned_front_end
        front_end = keep(kind(n_rx=setup.n_rx, **slot))
        for antenna in range(setup.n_rx):
            self.connect((fading, antenna), (front_end, antenna))
        self.probes = []
        for model in setup.models:
            block = receiver(
                model=str(model.path), n_rx=setup.n_rx, device=setup.device, threads=1, **slot
            )
            probe = slot_probe(
                seed=setup.seed,
                cluster_slots=setup.burst,
                every_slots=0,
                n_slots=setup.slots,
                **slot,
            )
            for antenna in range(setup.n_rx):
                self.connect((front_end, antenna), (block, antenna))
            self.connect(block, probe)
            self.msg_connect(block, "stats", probe, "stats")
            self.probes.append(probe)

    def run_watched(self, stop: threading.Event, progress) -> None:
        """Run to the end or until stop is set, and tell progress(slots) how far it is."""
        waiter = threading.Thread(target=self.wait, daemon=True)
        self.start()
        waiter.start()
        while waiter.is_alive():
            waiter.join(0.2)
            progress(min(probe.slots() for probe in self.probes))
            if stop.is_set():
                self.stop()


@contextmanager
def _stop_on_ctrl_c():
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


def run(setup: Setup) -> int:
    """Measure, show the table, write report.json and ber.png; Ctrl-C keeps what was measured."""
    console = Console(highlight=False)
    setup.out.mkdir(parents=True, exist_ok=True)
    meter, why_none = energy.find_meter(setup.device)
    tick_s = energy.measure_tick(meter) if meter else 0.0
    made = report.new(gnuradio=gr.version(), torch=_torch_version()) | {"comparisons": []}
    operating_points = [(c, s) for c in setup.channels for s in setup.sinr_db]
    total = len(operating_points) * setup.slots
    started = time.monotonic()
    with (
        _stop_on_ctrl_c() as stop,
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} slots  {task.fields[rate]}  left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ) as progress,
    ):
        task = progress.add_task("", total=total, rate="")
        for k, (channel, sinr_db) in enumerate(operating_points):
            progress.update(task, description=f"{channel} {sinr_db:g} dB")

            def show(slots, done=k * setup.slots):
                rate = (done + slots) / (time.monotonic() - started)
                progress.update(task, completed=done + slots, rate=f"{rate:.0f}/s")

            point = _Point(setup, channel, sinr_db)
            window = energy.EnergyWindow(meter, tick_s) if meter else None
            point.run_watched(stop, show)
            counted = window.read() if window else None
            source = meter.source if meter else why_none
            _add_points(made, setup, channel, sinr_db, point, counted, source, stop.is_set())
            if not console.is_terminal:
                took = time.monotonic() - started
                print(
                    f"{channel} {sinr_db:g} dB ({k + 1}/{len(operating_points)}): {took:.0f} s",
                    flush=True,
                )
            if stop.is_set():
                break
    report.write(made, setup.out / "report.json")
    if made["points"]:
        report.plot(made["points"], setup.out / "ber.png")
        _show(made, console)
    took, where = (
        time.monotonic() - started,
        f"{setup.out / 'report.json'}, {setup.out / 'ber.png'}",
    )
    if stop.is_set():
        kept = f"what was measured: {where}" if made["points"] else "nothing was measured"
        print(f"deeprx: stopped after {took:.0f} s; {kept}", file=sys.stderr)
        return 130
    console.print(f"{total} slots in {took:.0f} s: {where}", soft_wrap=True)
    return 0


def _add_points(made, setup, channel, sinr_db, point, window, source, stopped) -> None:
    """One point for each receiver, and each one's difference to the first on the same clusters."""
    statistics = [probe.statistics for probe in point.probes]
    inference_s = sum(s.inference_total_s for s in statistics)
    points = []
    for model, label, counted in zip(setup.models, _labels(setup.models), statistics, strict=True):
        if stopped and counted.slots == 0:
            continue
        flop = model.flop_per_slot(setup.config.n_prb, setup.n_rx)
        share = counted.inference_total_s / inference_s if len(statistics) > 1 else None
        used = energy.energy_per_slot(
            counted.slots, counted.cpu_s, flop, setup.device, window, source, share
        )
        fields = {} if stopped else {"missed_slots": setup.slots - counted.slots}
        points.append(
            counted.point(
                used,
                receiver=label,
                model_sha256=model.sha256,
                channel=channel,
                delay_spread_s=setup.delay_spread_s,
                doppler_hz=setup.doppler_hz,
                n_rx=setup.n_rx,
                sync=setup.sync,
                snr_db=setup.snr_db(sinr_db),
                sir_db=setup.sir_db,
                seed=setup.seed,
                flop_per_slot=flop,
                **fields,
            )
        )
    made["points"] += points
    if len(points) < len(statistics):
        return
    for other, counted in zip(points[1:], statistics[1:], strict=True):
        first = statistics[0].clusters
        shared = [
            k for k in first if k in counted.clusters and first[k][1] == counted.clusters[k][1]
        ]
        if shared:
            errors, bits = zip(*(first[k] for k in shared), strict=True)
            others = [counted.clusters[k][0] for k in shared]
            made["comparisons"].append(report.comparison(other, points[0], others, errors, bits))


def _show(made, console: Console) -> None:
    """The tables, and what they do not show: who is better on the same slots, whence the energy."""
    if not console.is_terminal:
        console = Console(highlight=False, width=160)  # a file has no width to fold tables to
    for table in report.tables(made["points"]):
        console.print(table)
    for c in made["comparisons"]:
        low, high = c["ci95"]
        verdict = "lower BER" if high < 0 else "higher BER" if low > 0 else "not told apart"
        console.print(
            f"{c['channel']} {c['sinr_db']:5.1f} dB  {c['a']} - {c['b']}: "
            f"{c['ber_difference']:+.2e} [{low:+.2e}, {high:+.2e}] over {c['clusters']} clusters: "
            f"{verdict}",
            markup=False,
        )
    used = made["points"][0]["energy_per_slot_j"]
    console.print(
        f"energy source: {used['source']}; modelled: {used['model'] or 'FLOP unknown'}",
        markup=False,
    )


def _labels(models: list[ModelFile]) -> list[str]:
    """A name for each model, told apart by its file where two are called the same."""
    names = [model.name for model in models]
    return [
        name if names.count(name) == 1 else f"{name} ({model.path})"
        for name, model in zip(names, models, strict=True)
    ]


def _torch_version() -> str:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "unknown"
