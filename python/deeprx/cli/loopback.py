# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx loopback: receivers side by side on the same slots, over TDL channels."""

import time

from deeprx_common import energy
from deeprx_common.terminal import make_console, progress_bar

from ..blocks.guarded import run_flowgraph
from ..measure.flowgraph import Flowgraph, stop_on_ctrl_c
from ..measure.link import Link
from ..measure.points import add_points, new_report
from ..models.file import ModelFile, read_model_file
from .budget import Budget, show_budget
from .options import (
    FADING,
    METERING,
    REQUIRED,
    SLOT,
    add_options,
    add_timing,
    open_meter,
    out_folder,
    slot_config,
)
from .results import conclude


def configure(parser, **defaults) -> None:
    """defaults: of options, where they are not loopback's own."""
    defaults = {"receiver": REQUIRED} | defaults
    names = "receiver", "channel", "sinr", "slots", *SLOT, "n_rx", *FADING, "seed"
    add_options(parser, *names, "device", "engine", *METERING, "out", **defaults)
    add_timing(parser, sync=False)
    parser.add_argument(
        "--budget", action="store_true", help="show the CPU time that each block takes a slot"
    )


def run(arguments) -> int:
    a, config = arguments, slot_config(arguments)
    links = [
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
    ]
    return _measure([read_model_file(name) for name in a.receiver], links, a)


def _flowgraph(models: list[ModelFile], link: Link, device: str, engine: str) -> Flowgraph:
    """One transmitter, channel and front end, all receivers."""
    flowgraph = Flowgraph("deeprx loopback", models, link.config, link.n_rx, link.preamble)
    fading = link.connect(flowgraph)
    for antenna in range(link.n_rx):
        flowgraph.connect((fading, antenna), (flowgraph.front_end, antenna))
    flowgraph.connect_receivers(
        device, engine, seed=link.seed, cluster_slots=link.burst, n_slots=link.slots
    )
    return flowgraph


def _measure(models: list[ModelFile], links: list[Link], arguments) -> int:
    """Measure, show the table, write report.json and ber.png; Ctrl-C keeps what was measured."""
    a, console = arguments, make_console()
    meter, idle = open_meter(a)
    folder = out_folder(a)
    measured = new_report()
    budgets = []
    total = sum(link.slots for link in links)
    started = time.monotonic()
    bar = progress_bar(console, "{task.completed:.0f}/{task.total:.0f} slots  {task.fields[rate]}")
    with stop_on_ctrl_c() as stop, bar as progress:
        task = progress.add_task("", total=total, rate="")
        done = 0
        for k, link in enumerate(links):
            where = f"{link.channel} {link.sinr_db:g} dB"
            progress.update(task, description=where)
            flowgraph = _flowgraph(models, link, a.device, a.engine)
            if a.budget:
                budgets.append(Budget())

            def advance(done=done, flowgraph=flowgraph):
                received = flowgraph.slots
                if budgets:
                    budgets[-1].sample(received)
                slots = done + received
                rate = slots / (time.monotonic() - started)
                progress.update(task, completed=slots, rate=f"{rate:.0f}/s")

            window = energy.EnergyWindow(meter, idle)
            run_flowgraph(flowgraph, stop.is_set, advance, 0.05 if budgets else 0.2)
            add_points(
                measured,
                flowgraph,
                window.read(),
                [link.conditions | flowgraph.synchronisation | {"seed": link.seed}] * len(models),
                link.slots,
                stop.is_set(),
            )
            done += link.slots
            if not console.is_terminal:
                took = time.monotonic() - started
                print(f"{where} ({k + 1}/{len(links)}): {took:.0f} s", flush=True)
            if stop.is_set():
                break
    if budgets:
        show_budget(budgets, done / (time.monotonic() - started), console)
    return conclude(measured, folder, console, started, f"{total} slots", stop.is_set())
