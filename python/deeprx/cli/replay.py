# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx replay: receivers side by side on the slots of a SigMF recording."""

from deeprx_common.checks import check_range
from deeprx_common.slot import SLOTS
from deeprx_common.slot_file import changed_slot

from ..measure.flowgraph import CLUSTER_SLOTS
from ..measure.replay import ExpectedSlots, Replay
from ..recording.recording import Recording, SentSlots
from .options import BLOCKS, METERING, REQUIRED, SLOT, TRUST, Unset, add_options, add_timing
from .replay_pusch import described, replay_pusch
from .results import Session, read_receivers, seed_hint

UNSAID = (*SLOT, *BLOCKS, "seed", "burst")


def configure(parser) -> None:
    parser.description = (
        "Receives the slots of a recording again. Where they are a gNB's PUSCH (deeprx import-gnb) "
        "or annotated PUSCH, their blocks are decoded, retransmissions combined, and block errors "
        "are set beside the gNB's."
    )
    add = parser.add_argument
    add("recording", metavar="FILE", help=".sigmf-meta, .sigmf or .sigmf-collection")
    add_options(parser, "reference", receiver=REQUIRED)
    add_timing(parser, sync=True)
    parser.set_defaults(sync=None)  # True, but for slots that need none
    add_options(parser, *TRUST, "device", "engine", *METERING, "out")
    add_options(
        parser.add_argument_group("what the recording does not say of its slots"),
        *SLOT,
        *BLOCKS,
        slot=Unset("default"),
        seed=Unset("unknown, and so is the bit error rate"),
        burst=Unset(CLUSTER_SLOTS),
    )


def _given(options) -> dict:
    return {name: getattr(options, name) for name in UNSAID if getattr(options, name) is not None}


def _check_said(recording: Recording, given: dict) -> None:
    if given:
        raise ValueError(
            f"{recording.path}: says itself how its slots were sent: leave out "
            + ", ".join(f"--{name.replace('_', '-')}" for name in given)
        )


def expected(recording: Recording, options) -> ExpectedSlots:
    """What a recording's annotations, else the options, say of its slots.

    Raises ValueError where the annotations contradict each other or the options.
    """
    given = _given(options)
    check_range("--burst", given.get("burst", 1), 1)
    if not recording.runs:
        seed, burst = given.pop("seed", None), given.pop("burst", None)
        config = changed_slot(given.pop("slot", SLOTS["default"]), given)
        sent = SentSlots(config, preamble=True, bit_seed=seed, burst_slots=burst)
        return ExpectedSlots(sent, None, 0, 0)
    _check_said(recording, given)
    sent = recording.runs[0].sent
    for run in recording.runs[1:]:
        if (run.sent.config, run.sent.bit_seed) != (sent.config, sent.bit_seed):
            raise ValueError(
                f"{recording.path}: expected slots of one kind and bit seed, found others from "
                f"sample {run.start} on"
            )
    same = {
        key: value
        for key, value in sent.conditions.items()
        if all(run.sent.conditions[key] == value for run in recording.runs)
    }
    preamble = all(run.sent.preamble for run in recording.runs)
    return ExpectedSlots(
        SentSlots(sent.config, preamble, sent.bit_seed, same, sent.burst_slots),
        sum(run.n_slots for run in recording.runs),
        recording.runs[0].first_slot,
        max(run.first_slot + run.n_slots for run in recording.runs),
    )


def run(arguments) -> int:
    """Receive, show the table, write report.json, which grows meanwhile; Ctrl-C keeps what was
    measured.
    """
    a = arguments
    recording = Recording(a.recording)
    if recording.grids or recording.pusch:
        _check_said(recording, _given(a))
        return replay_pusch(recording, a)
    models = read_receivers(a)
    slots = expected(recording, a)
    sync = a.sync is not False
    if sync and not slots.sent.preamble:
        raise ValueError(f"{recording.path}: its slots have no preamble: give --aligned")
    with Session(a, "{task.percentage:.0f} %  {task.fields[slots]} slots") as session:
        flowgraph = Replay(recording, slots, models, sync, a.device, a.engine)
        task = session.progress.add_task("sha512", total=recording.n_samples, slots=0)
        recording.verify()
        session.progress.update(task, description=recording.path.name)

        def advance():
            read, received = flowgraph.source.position, flowgraph.slots
            session.progress.update(task, completed=read, slots=received)

        def fields():
            known = slots.sent.conditions | flowgraph.synchronisation
            known |= {"seed": slots.sent.bit_seed}
            return [known | {"llr_quality": q.estimate()} for q in flowgraph.qualities]

        session.report["recording"] = described(recording)
        window = session.run(flowgraph, advance, fields=fields)
    if flowgraph.source.error():
        raise flowgraph.source.error()
    points = session.add_points(flowgraph, window, fields(), slots.slots)
    seed = "the recording's deeprx:bit_seed" if a.seed is None else "--seed"
    notes = _quality(points) + seed_hint(points, f"{seed} {slots.sent.bit_seed}")
    return session.conclude(recording.path.name, notes)


def _quality(points: list[dict]) -> list[str]:
    """What receivers' own LLRs tell where nothing else does."""
    return [
        f"{point['receiver']}: no truth; estimated from its own LLRs: "
        f"BER {quality['estimated_ber']:.2e}, "
        f"{quality['estimated_bits_per_bit']:.3f} bits of information per bit, "
        f"mean |LLR| {quality['mean_abs_llr']:.2f}"
        for point in points
        if (quality := point["llr_quality"]) and point["ber"] is None
    ]
