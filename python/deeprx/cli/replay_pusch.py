# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx replay on a recording of PUSCH: blocks, beside what the receiver that was there found."""

import sys
import time

from rich.console import Console
from rich.table import Table

from deeprx_common import report, report_view
from deeprx_common.commands import Failure
from deeprx_common.stats import FEWEST_CLUSTERS
from deeprx_common.terminal import interval, make_console, number, progress_bar, table

from ..measure.flowgraph import stop_on_ctrl_c
from ..measure.points import new_report
from ..measure.pusch_replay import Model, PuschReplay
from ..models.file import labels
from ..recording.recording import Recording
from .options import out_folder
from .results import Keeper, dropped, read_receivers


def described(recording: Recording) -> dict:
    """What a report says of a recording."""
    return {
        "name": recording.path.name,
        "datatype": recording.datatype,
        "sample_rate": recording.sample_rate,
        "samples": recording.n_samples,
        "sha512": recording.sha512,
    }


def replay_pusch(recording: Recording, arguments) -> int:
    """Receive, show the table, write report.json, which grows meanwhile; Ctrl-C keeps what was
    received.
    """
    a = arguments
    if a.sync:
        raise ValueError(f"{recording.path}: its PUSCH have no preamble: leave out --sync")
    if a.meter not in ("auto", "none") or a.idle_power is not None or a.core_power is not None:
        raise ValueError(
            f"{recording.path}: energy of PUSCH is not measured: leave out --meter, --idle-power "
            "and --core-power"
        )
    files = read_receivers(a)
    names = labels(files)
    classical = [n for f, n in zip(files, names, strict=True) if f.classical]
    models = zip(files, names, strict=True)
    replay = PuschReplay(recording, [Model(*model, a.device, a.engine) for model in models])
    console, where = make_console(), out_folder(a) / "report.json"
    keeper, started = Keeper(where), time.monotonic()
    bar = progress_bar(console, "{task.completed:.0f}/{task.total:.0f} PUSCH")
    with stop_on_ctrl_c() as stop, bar as progress:
        task = progress.add_task("sha512", total=len(recording.pusch))
        recording.verify()
        progress.update(task, description=recording.path.name)
        about = new_report() | {"recording": described(recording)}

        def measured():
            compared = replay.comparisons(classical, a.reference)
            return about | {"pusch": replay.points(), "comparisons": compared}

        def advance(done):
            progress.update(task, completed=done)
            keeper.keep(measured)

        replay.run(stop.is_set, advance)
    received = measured()
    report.write(received, where)
    points = received["pusch"]
    _show(points, received["comparisons"], console)
    if stop.is_set():
        print(
            f"deeprx: stopped after {len(replay.results[0].right)} of {len(recording.pusch)} "
            f"PUSCH: {where}",
            file=sys.stderr,
        )
        return 130
    for result in replay.results:
        if result.lost:
            raise Failure(result.lost)
    idle = [point["receiver"] for point in points if not point["pusch"]]
    if idle:
        print(
            f"deeprx: {recording.path.name}: {', '.join(idle)}: took none of its PUSCH; the "
            f"others' results: {where}",
            file=sys.stderr,
        )
        return 1
    if all(point["block_errors"] == point["pusch"] for point in points):
        print(
            f"deeprx: {recording.path.name}: no block was received: are grids and parameters of "
            f"one run? report: {where}",
            file=sys.stderr,
        )
        return 1
    seconds = time.monotonic() - started
    console.print(f"{recording.path.name} in {seconds:.0f} s: {where}", soft_wrap=True)
    return 0


def _show(points: list[dict], comparisons: list[dict], console: Console) -> None:
    console.print(_table(points))
    lines = [line for point in points for line in _notes(point)]
    for line in [*lines, *map(_compared, comparisons)]:
        console.print(line, soft_wrap=True)


def _table(points: list[dict]) -> Table:
    return table(
        "PUSCH, retransmissions combined",
        points,
        [
            ("receiver", lambda p: p["receiver"]),
            ("  PUSCH", lambda p: str(p["pusch"])),
            ("  block errors", lambda p: str(p["block_errors"])),
            ("  BLER", lambda p: number(p["bler"])),
            ("  95 %", lambda p: interval(p["bler_ci95"])),
            ("  coded BER", lambda p: number(p["bit_errors"] / p["bits"] if p["bits"] else None)),
            ("  iterations", lambda p: number(p["iterations"])),
            ("  receive ms", lambda p: number(p["receive_s"], 1e3)),
            ("  decode ms", lambda p: number(p["decode_s"], 1e3)),
        ],
    )


def _difference(c: dict, value: str, ci95: str) -> str:
    told = report_view.difference(c[value], c[ci95], c["clusters"], "+.2f")
    if c[ci95] is None or c["clusters"] < FEWEST_CLUSTERS:
        return told
    low, high = c[ci95]
    verdict = "no difference shown" if low <= 0 <= high else "fewer" if high < 0 else "more"
    return f"{verdict}, {told}"


def _compared(c: dict) -> str:
    return (
        f"{c['a']}: {c['only_a']} blocks received that {c['b']} did not, {c['only_b']} the other "
        f"way round; block errors: {_difference(c, 'bler_difference', 'bler_ci95')}"
    )


def _notes(point: dict) -> list[str]:
    notes = []
    if beside := point["beside"]:
        notes.append(
            f"{point['receiver']}: {beside['errors']} block errors where the receiver that was "
            f"there made {beside['errors_there']} ({beside['only_here']} blocks received here "
            f"alone, {beside['only_there']} there alone): "
            f"{_difference(beside, 'difference', 'ci95')}"
        )
    for key, what in (
        ("without_first", "retransmissions without their first transmission, decoded alone"),
        ("dropped", "soft buffers dropped, the oldest of more than 256 HARQ processes"),
        ("undetected", "blocks with a right CRC that are not those sent"),
    ):
        if point[key]:
            notes.append(f"{point['receiver']}: {point[key]} {what}")
    return [*notes, *dropped(point)] + [
        f"{point['receiver']}: {refused['pusch']} PUSCH refused, the first in slot "
        f"{refused['first_slot']}: {refused['reason']}"
        for refused in point["refused"]
    ]
