# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx loopback: receivers side by side on the same slots, over TDL channels."""

from collections import deque

from ..measure.flowgraph import Flowgraph
from ..measure.link import Link
from ..models.file import ModelFile, PerfectReceiver
from .budget import Budget, show_budget
from .options import (
    BLOCKS,
    FADING,
    METERING,
    REQUIRED,
    SLOT,
    TRUST,
    add_options,
    add_timing,
    link_of,
)
from .results import Session, read_receivers


def configure(parser, **defaults) -> None:
    """defaults: of options, where they are not loopback's own."""
    parser.epilog = "The receiver perfect-csi is told the channel: the bound."
    defaults = {"receiver": REQUIRED} | defaults
    names = "receiver", "reference", "channel", "sinr", "slots"
    slot = *SLOT, *BLOCKS, "harq"
    others = "n_rx", *FADING, "seed", *TRUST, "device", "engine", *METERING, "out"
    add_options(parser, *names, *slot, *others, **defaults)
    add_timing(parser, sync=False)
    parser.add_argument(
        "--budget", action="store_true", help="show the CPU time that each block takes a slot"
    )


def run(arguments) -> int:
    """Measure, show the table, write report.json and ber.png; Ctrl-C keeps what was measured."""
    a = arguments
    links = [link_of(a, channel, sinr_db) for channel in a.channel for sinr_db in a.sinr]
    models = read_receivers(a, simulated=True)
    # A receiver's ACKs decide what is sent to it
    groups = [[model] for model in models] if a.harq > 1 else [models]
    runs = [(link, group) for link in links for group in groups]
    budgets = []
    total, done = sum(link.slots for link, _ in runs), 0
    counts = "{task.completed:.0f}/{task.total:.0f} slots  {task.fields[rate]}"
    session = Session(a, counts)
    # Of the first runs: who does not take these slots says so before any is sent
    ready = deque(flowgraph_of(group, links[0], a.device, a.engine) for group in groups)
    with session:
        task = session.progress.add_task("", total=total, rate="")
        for k, (link, group) in enumerate(runs):
            where = f"{link.channel} {link.sinr_db:g} dB"
            session.progress.update(task, description=where)
            flowgraph = ready.popleft() if ready else flowgraph_of(group, link, a.device, a.engine)
            if a.budget:
                budgets.append(Budget())

            def advance(done=done, flowgraph=flowgraph):
                if budgets:
                    budgets[-1].sample(flowgraph.slots)
                slots = done + flowgraph.slots
                rate = f"{slots / session.seconds:.0f}/s"
                session.progress.update(task, completed=slots, rate=rate)

            window = session.run(flowgraph, advance, every_s=0.05 if budgets else 0.2)
            known = link.conditions | flowgraph.synchronisation | {"seed": link.seed}
            fields = [known] * len(flowgraph.probes)
            session.add_points(flowgraph, window, fields, link.slots, where=link)
            done += link.slots
            if not session.console.is_terminal:
                print(f"{where} ({k + 1}/{len(runs)}): {session.seconds:.0f} s", flush=True)
            if session.stop.is_set():
                break
    if budgets:
        show_budget(budgets, done / session.seconds, session.console)
    return session.conclude(f"{total} slots")


def flowgraph_of(models: list[ModelFile], link: Link, device: str, engine: str) -> Flowgraph:
    """One transmitter, channel and front end, all receivers."""
    flowgraph = Flowgraph("deeprx loopback", models, link.config, link.n_rx, link.preamble)
    fading = link.connect(flowgraph)
    for antenna in range(link.n_rx):
        flowgraph.connect((fading, antenna), (flowgraph.front_end, antenna))
    perfect = any(isinstance(model, PerfectReceiver) for model in models)
    flowgraph.connect_receivers(
        device,
        engine,
        link.perfect_receiver() if perfect else None,
        seed=link.seed,
        cluster_slots=link.burst,
        n_slots=link.slots,
        transmissions=link.transmissions,
    )
    return flowgraph
