# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx loopback: receivers side by side on the same slots, over TDL channels."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from deeprx_common import energy, report
from deeprx_common.slot import SlotConfig

from ..front_end import aligned_front_end, sync_front_end
from ..model_file import ModelFile, read_model_file
from .budget import Budget, show_budget
from .link import Link, add_fading, channel, list_of, slot_keywords
from .measure import (
    Flowgraph,
    add_engine,
    add_meter,
    add_points,
    new_report,
    open_meter,
    progress_bar,
    run_watched,
    show,
    stop_on_ctrl_c,
)


def configure(parser) -> None:
    add = parser.add_argument
    add("--receiver", action="append", required=True, metavar="MODEL.pt", help="repeat to compare")
    add_run(parser, out="report")
    add(
        "--channel",
        type=list_of(channel),
        default=["TDL-A"],
        help="TDL-A to TDL-E, comma-separated",
    )
    add("--sinr", type=list_of(float), default=[6.0, 9.0, 12.0], metavar="DB,..", help="(6,9,12)")
    add("--slots", type=int, default=200, help="a channel and SINR (200)")
    add("--sync", action="store_true", help="find the slots by their preamble (default: aligned)")
    add_fading(parser)
    add("--budget", action="store_true", help="show the CPU time that each block takes a slot")
    add_engine(parser)


def run(arguments) -> int:
    return measure(_setup(arguments))


def add_run(parser, out: str) -> None:
    add_meter(parser)
    parser.add_argument(
        "--out", type=Path, default=Path(out), metavar="DIR", help=f"report.json, ber.png ({out})"
    )


@dataclass(frozen=True)
class Setup:
    """What a loopback does: every model on every link."""

    models: list[ModelFile]
    links: list[Link]
    device: str
    meter: energy.Meter
    idle: energy.Idle | None
    out: Path
    budget: bool = False
    engine: str = "auto"


def _setup(arguments) -> Setup:
    a = arguments
    config = SlotConfig(n_prb=a.n_prb, modulation=a.modulation, dmrs=tuple(a.dmrs))
    meter, idle = open_meter(a)
    return Setup(
        models=[read_model_file(path) for path in a.receiver],
        links=[
            Link(
                config=config,
                n_rx=a.n_rx,
                channel=profile,
                delay_spread_s=a.delay_spread,
                doppler_hz=a.doppler,
                sinr_db=sinr_db,
                sir_db=a.sir,
                cfo_hz=a.cfo,
                slots=a.slots,
                burst=a.burst,
                preamble=a.sync,
                seed=a.seed,
            )
            for profile in a.channel
            for sinr_db in a.sinr
        ],
        device=a.device,
        meter=meter,
        idle=idle,
        out=a.out,
        budget=a.budget,
        engine=a.engine,
    )


def _flowgraph(setup: Setup, link: Link) -> Flowgraph:
    """One transmitter, channel and front end, all receivers."""
    flowgraph = Flowgraph("deeprx loopback", setup.models, link.config, link.n_rx)
    fading = link.connect(flowgraph)
    kind = sync_front_end if link.preamble else aligned_front_end
    front_end = kind(n_rx=link.n_rx, **slot_keywords(link.config))
    for antenna in range(link.n_rx):
        flowgraph.connect((fading, antenna), (front_end, antenna))
    flowgraph.connect_receivers(
        front_end,
        setup.device,
        setup.engine,
        seed=link.seed,
        cluster_slots=link.burst,
        n_slots=link.slots,
    )
    return flowgraph


def measure(setup: Setup) -> int:
    """Measure, show the table, write report.json and ber.png; Ctrl-C keeps what was measured."""
    console = Console(highlight=False)
    report.writable_folder(setup.out)
    made = new_report()
    budgets = []
    total = sum(link.slots for link in setup.links)
    started = time.monotonic()
    bar = progress_bar(console, "{task.completed:.0f}/{task.total:.0f} slots  {task.fields[rate]}")
    with stop_on_ctrl_c() as stop, bar as progress:
        task = progress.add_task("", total=total, rate="")
        done = 0
        for k, link in enumerate(setup.links):
            where = f"{link.channel} {link.sinr_db:g} dB"
            progress.update(task, description=where)
            flowgraph = _flowgraph(setup, link)
            if setup.budget:
                budgets.append(Budget())

            def advance(done=done, flowgraph=flowgraph):
                received = min(probe.slots() for probe in flowgraph.probes)
                if budgets:
                    budgets[-1].sample(received)
                slots = done + received
                rate = slots / (time.monotonic() - started)
                progress.update(task, completed=slots, rate=f"{rate:.0f}/s")

            window = energy.EnergyWindow(setup.meter, setup.idle)
            run_watched(flowgraph, stop, advance, every_s=0.05 if budgets else 0.2)
            add_points(
                made,
                flowgraph,
                window.read(),
                [link.conditions | {"sync": link.preamble, "seed": link.seed}] * len(setup.models),
                link.slots,
                stop.is_set(),
            )
            done += link.slots
            if not console.is_terminal:
                took = time.monotonic() - started
                print(f"{where} ({k + 1}/{len(setup.links)}): {took:.0f} s", flush=True)
            if stop.is_set():
                break
    report.write(made, setup.out / "report.json")
    if made["points"]:
        report.plot(made["points"], setup.out / "ber.png")
        show(made, console)
    if budgets:
        show_budget(budgets, done / (time.monotonic() - started), console)
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
