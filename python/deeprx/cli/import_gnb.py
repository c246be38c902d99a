# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx import-gnb: what a gNB received, as a recording of grids that replay takes."""

import sys

from deeprx_common.terminal import make_console, progress_bar

from ..recording.gnb_dump import Imported, import_gnb


def configure(parser) -> None:
    parser.description = (
        "Writes the uplink grids that an open gNB (srsRAN Project, OCUDU) dumped as a SigMF "
        "recording: each PUSCH of its log with parameters, HARQ process, the gNB's CRC verdict "
        "and, where that was good, the transport block. `deeprx replay OUT.sigmf-meta` receives "
        "them again and sets its block errors beside the gNB's."
    )
    parser.epilog = (
        "The gNB's configuration: log: {phy_level: debug, hex_max_size: -1, "
        "phy_rx_symbols_filename: DUMP.bin, phy_rx_symbols_port: all}. PUSCH with UCI, mapping "
        "type B, transform precoding, DMRS type 2 or several layers are passed over and counted. "
        "Exit status 1 where the dump ends before its log does: what there is was imported."
    )
    add = parser.add_argument
    add("dump", metavar="DUMP.bin", help="what phy_rx_symbols_filename named")
    add("log", metavar="GNB.log", help="the gNB's log of the same run, as text")
    add("out", metavar="OUT", help="OUT.sigmf-meta and OUT.sigmf-data are written")
    add(
        "--scs",
        type=int,
        choices=(15, 30, 60),
        help="subcarrier spacing in kHz (the least that has slots of the numbers of dumped PUSCH)",
    )


def run(arguments) -> int:
    a = arguments
    with progress_bar(make_console(), "{task.completed:.0f}/{task.total:.0f} slots") as progress:
        task = progress.add_task("importing", total=None)
        done = import_gnb(
            a.dump,
            a.log,
            a.out,
            a.scs,
            lambda slots, total: progress.update(task, completed=slots, total=total),
        )
    for line in _said(done):
        print(line)
    if done.scs_assumed:
        print(
            f"deeprx: {a.log}: has no slot beyond 9 of a frame: {done.scs_khz} kHz is assumed; "
            "--scs says another",
            file=sys.stderr,
        )
    if done.zeros:
        print(
            f"deeprx: {a.dump}: {done.zeros} of {done.pusch} PUSCH hold only zeros, as where a "
            "part of the dump is missing",
            file=sys.stderr,
        )
    if done.missing:
        print(
            f"deeprx: {a.dump}: ends {done.missing} values of 8 bytes before its log does; what "
            f"there is was imported: {done.paths[0]}",
            file=sys.stderr,
        )
    return 1 if done.missing else 0


def _said(done: Imported) -> list[str]:
    return [
        f"{done.pusch} PUSCH, {done.blocks} of them with their transport block: {done.paths[0]}",
        f"carrier: {done.carrier_prb} PRB at {done.scs_khz} kHz, {done.n_rx} "
        + ("antennas" if done.n_rx > 1 else "antenna"),
        *([f"PUSCH passed over: {done.skipped.text()}"] if done.skipped else []),
        *([f"lines passed over: {done.lines.text()}"] if done.lines else []),
        *([f"crc=OK without truth: {done.unknown.text()}"] if done.unknown else []),
        *([f"grids without a PUSCH: {done.empty_grids}"] if done.empty_grids else []),
    ]
