# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx bler: the SINR at which receivers lose a share of their transport blocks."""

import csv
import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from operator import itemgetter
from pathlib import Path

import numpy as np
from gnuradio import gr

from deeprx_common import __version__
from deeprx_common.checks import check_range
from deeprx_common.commands import Failure
from deeprx_common.figure import curve_style, figure
from deeprx_common.files import read_arrays, replacing, write_arrays
from deeprx_common.options import list_of
from deeprx_common.revision import git_revision
from deeprx_common.terminal import make_console, progress_bar, table

from ..blocks.guarded import run_flowgraph
from ..measure.bler_search import HIGHEST_DB, Search
from ..measure.flowgraph import stop_on_ctrl_c
from ..measure.link import Link
from ..models.file import PERFECT, ModelFile, labels
from .loopback import flowgraph_of
from .options import REQUIRED, SLOT, TRUST, Unset, add_options, link_of, out_folder
from .results import read_receivers

_COLUMNS = (
    "channel", "delay_spread_ns", "doppler_hz", "n_rx", "users", "n_prb", "scs_khz", "dmrs",
    "cdm_groups", "modulation", "mcs", "mcs_table", "receiver", "bler", "sinr_db", "low", "high",
    "behind", "behind_db", "behind_low", "behind_high", "slots", "block_errors",
)  # fmt: skip


def configure(parser) -> None:
    parser.description = (
        "Looks for the SINR at which each receiver loses a share of its transport blocks, of every "
        "MCS, number of antennas and Doppler shift that is given. All receivers have the same "
        "slots, each with a fading draw of its own, and perfect-csi among them knows the channel. "
        "Writes bler.md, bler.csv and bler.png; Ctrl-C keeps what was counted, and the same "
        "command goes on from there."
    )
    add = parser.add_argument
    add_options(parser, receiver=REQUIRED)
    add_options(parser, reference=Unset("perfect-csi where it takes part, else the first"))
    add_options(parser, "channel")
    add("--mcs", type=list_of(int), required=True, metavar="N,..", help="indices of MCS")
    add_options(parser, "mcs_table")
    add("--n-rx", type=list_of(int), default=[2], metavar="N,..", help="receive antennas (2)")
    add(
        "--doppler", type=list_of(float), default=[50.0], metavar="HZ,..",
        help="maximum Doppler shifts (50)",
    )  # fmt: skip
    add_options(parser, "delay_spread", *(n for n in SLOT if n != "modulation"), "users")
    add(
        "--bler", type=float, default=0.1, metavar="RATE",
        help="share of transport blocks that are lost, each sent once (0.1)",
    )  # fmt: skip
    add(
        "--errors", type=int, default=400, metavar="N",
        help="block errors of a receiver at each SINR around its own (400)",
    )  # fmt: skip
    add(
        "--most-slots", type=int, default=20_000, metavar="N",
        help="slots of an SINR at most (20000)",
    )  # fmt: skip
    add_options(parser, "seed", *TRUST, "device", "engine", "out")


def _row(link: Link, receiver: str, search: Search, reference: str) -> dict:
    """What was found of a receiver over a link."""
    user, crossing = link.config.users[0], search.crossing(receiver)
    apart = search.behind(receiver, reference) if receiver != reference else None
    behind, ends = apart or (None, (None, None))
    values = (
        link.channel, link.delay_spread_s * 1e9, link.doppler_hz, link.n_rx, link.config.n_layers,
        link.config.n_prb, link.config.scs_khz, " ".join(map(str, link.config.dmrs)),
        link.config.cdm_groups, user.modulation, user.mcs, user.mcs_table, receiver, search.target,
        crossing.sinr_db, *crossing.ci95, reference, behind, *ends, crossing.slots, crossing.errors,
    )  # fmt: skip
    return dict(zip(_COLUMNS, values, strict=True))


def run(arguments) -> int:
    a = arguments
    check_range("--bler", a.bler, 0.001, 0.45)
    check_range("--errors", a.errors, 10)
    check_range("--most-slots", a.most_slots, 200)
    models = read_receivers(a, simulated=True)
    names = labels(models)
    reference = a.reference or (PERFECT if PERFECT in names else names[0])
    links = _links(a)
    for link in links:  # who does not take these slots says so before any is sent
        flowgraph_of(models, link, a.device, a.engine)
    folder, console = out_folder(a), make_console()
    rows, done, dropped = [], 0, Counter()
    with stop_on_ctrl_c() as stop, progress_bar(console, "{task.completed} of {task.total}") as bar:
        task = bar.add_task("", total=len(links))
        for link in links:
            users = link.config.n_layers
            search = Search(names, a.bler, a.errors, a.most_slots, users)
            counts = _Counts(folder / "counted", link, models, a)
            while not stop.is_set() and (wanted := search.next()):
                sinr_db, first, slots = wanted
                where = f"{_name(link)}: {sinr_db:g} dB, {search.slots} slots"
                bar.update(task, description=where)
                counted = counts.get(sinr_db, first, slots, stop)
                if counted is not None:
                    search.add(sinr_db, {name: lost for name, (lost, _) in counted.items()})
                    dropped.update({name: drops.sum() for name, (_, drops) in counted.items()})
            if stop.is_set():
                break
            rows += [_row(link, name, search, reference) for name in names]
            _write(rows, folder, a.seed)
            bar.advance(task)
            done += 1
            if not console.is_terminal:
                print(f"{_name(link)} ({done}/{len(links)}): {search.slots} slots", flush=True)
    if rows:
        heads = [(head, itemgetter(k)) for k, head in enumerate(_heads(rows))]
        console.print(table(_title(rows[0]), map(_text, rows), heads, left=5))
    for name, slots in (+dropped).items():
        print(f"{name}: dropped {slots} slots, whose blocks count as lost")
    files = ", ".join(str(folder / f"bler.{kind}") for kind in ("md", "csv", "png"))
    if done < len(links):
        kept = f"{done} of {len(links)} links: {files}" if rows else "no link was counted whole"
        print(f"deeprx: stopped; {kept}; the same command goes on from there", file=sys.stderr)
        return 130
    print(files)
    return 0


def _links(arguments) -> list[Link]:
    """Every combination of the lists."""
    a = arguments
    a.sir, a.cfo, a.burst, a.sync, a.slots = None, 0.0, 1, False, 1
    lists = a.mcs, a.n_rx, a.doppler
    links = []
    for a.n_rx in lists[1]:
        for a.doppler in lists[2]:
            for channel in a.channel:
                for a.mcs in lists[0]:
                    links.append(link_of(a, channel, 0.0))
    a.mcs, a.n_rx, a.doppler = lists
    return links


def _name(link: Link) -> str:
    user = link.config.users[0]
    users = f", {link.config.n_layers} users" * (link.config.n_layers > 1)
    return f"{link.channel} {link.doppler_hz:g} Hz, {link.n_rx} RX{users}, MCS {user.mcs}"


class _Counts:
    """What receivers lose over one link, kept in a folder: what was counted once is read."""

    def __init__(self, folder: Path, link: Link, models: Sequence[ModelFile], arguments):
        self._link, self._models, self._arguments = link, models, arguments
        known = asdict(replace(link, sinr_db=0.0)) | {"config": link.config.as_dict()}
        files = [(model.name, model.sha256) for model in models]
        code = __version__, git_revision()
        text = json.dumps([known, files, arguments.engine, arguments.device, code])
        self._folder = folder / hashlib.sha256(text.encode()).hexdigest()[:16]

    def get(self, sinr_db: float, first: int, slots: int, stop) -> dict[str, np.ndarray] | None:
        """Of slots first to first + slots, int64 [2, slots] of each receiver: blocks that it lost,
        and whether it dropped the slot. None where Ctrl-C came before they had all passed.
        """
        file = self._folder / f"{sinr_db:+g}-{first}-{slots}.npz"
        if file.exists():
            return self._counted(file, slots)
        counted = self._count(sinr_db, first, slots, stop)
        if counted is not None:
            write_arrays(counted, file)
        return counted

    def _counted(self, file: Path, slots: int) -> dict[str, np.ndarray]:
        names = labels(self._models)
        try:
            arrays = read_arrays(file, names)
            if any(a.dtype.kind != "i" or a.shape != (2, slots) for a in arrays):
                raise ValueError("expected what was lost and dropped of each slot")
        except ValueError as error:
            raise ValueError(f"{file}: {error}; delete it to count these slots anew") from None
        return dict(zip(names, arrays, strict=True))

    def _count(self, sinr_db: float, first: int, slots: int, stop) -> dict[str, np.ndarray] | None:
        """The same fading and noise at every SINR."""
        a, users = self._arguments, self._link.config.n_layers
        seed = int(np.random.SeedSequence((a.seed, first)).generate_state(1)[0] >> 1)
        link = replace(self._link, sinr_db=sinr_db, slots=slots, seed=seed)
        flowgraph = flowgraph_of(self._models, link, a.device, a.engine)
        run_flowgraph(flowgraph, stop.is_set)
        if stop.is_set():
            return None
        counted = {}
        for k, name in enumerate(labels(self._models)):
            lost, drops = np.zeros((2, slots), np.int64)
            for probe in flowgraph.probes[k * users : (k + 1) * users]:
                blocks = probe.statistics.block_clusters
                received = blocks.clusters.astype(int)
                dropped = probe.statistics.dropped.total()
                if len(received) + dropped != slots:
                    raise Failure(
                        f"{name}: expected {slots} slots at {sinr_db:g} dB, found {len(received)} "
                        f"and {dropped} dropped"
                    )
                drops[:] = 1
                drops[received] = 0
                lost += drops
                lost[received] += blocks.counts
            counted[name] = np.stack([lost, drops])
        return counted


def _title(row: dict) -> str:
    """What all rows have in common."""
    groups = f"{row['cdm_groups']} group" + "s" * (row["cdm_groups"] > 1)
    dmrs = row["dmrs"].replace(" ", ",")
    users = f", {row['users']} users" * (row["users"] > 1)
    slot = f"{row['n_prb']} PRB, {row['scs_khz']} kHz, DMRS {dmrs}, {groups} without data{users}"
    return f"SINR at BLER {row['bler']:g}: {slot}, {row['delay_spread_ns']:g} ns"


def _text(row: dict) -> list[str]:
    behind = "-"
    if row["behind_db"] is not None:
        behind = _db(row["behind_db"], row["behind_low"], row["behind_high"], "+.2f")
    return [
        row["channel"],
        f"{row['doppler_hz']:g}",
        str(row["n_rx"]),
        f"{row['mcs']} ({row['modulation']})",
        row["receiver"],
        _db(row["sinr_db"], row["low"], row["high"]),
        behind,
        str(row["slots"]),
        str(row["block_errors"]),
    ]


def _db(value: float, low: float, high: float, form: str = ".2f") -> str:
    if value == math.inf:
        return f"not reached at {HIGHEST_DB:g}"
    if value == -math.inf:
        return "below all"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _heads(rows: Sequence[dict]) -> list[str]:
    behind = f"behind {rows[0]['behind']}, dB"
    return [
        "channel", "Hz", "RX", "MCS", "receiver", "SINR, dB", behind, "slots", "block errors"
    ]  # fmt: skip


def _write(rows: Sequence[dict], folder: Path, seed: int) -> None:
    heads = _heads(rows)
    lines = [heads, ["---"] * len(heads), *map(_text, rows)]
    about = f"{_title(rows[0])}. gr-deeprx {__version__}, GNU Radio {gr.version()}, seed {seed}; "
    about += "95 % intervals over slots.\n\n"
    with replacing(folder / "bler.md") as temporary:
        Path(temporary).write_text(about + "".join(f"| {' | '.join(c)} |\n" for c in lines))
    with replacing(folder / "bler.csv") as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    _plot(rows, folder / "bler.png")


def _plot(rows: Sequence[dict], path: Path) -> None:
    """SINR over MCS, a panel for each channel, Doppler shift and number of antennas."""
    panels: dict[str, list[dict]] = {}
    for row in rows:
        title = f"{row['channel']}, {row['doppler_hz']:g} Hz, {row['n_rx']} RX"
        panels.setdefault(title, []).append(row)
    names = list(dict.fromkeys(row["receiver"] for row in rows))
    with figure(path, len(panels), columns=2, size=(5.5, 4), title=_title(rows[0])) as axes:
        for axis, (where, group) in zip(axes, panels.items(), strict=False):
            for k, name in enumerate(names):
                line = [r for r in group if r["receiver"] == name and math.isfinite(r["sinr_db"])]
                if line:
                    mcs, sinr = ([r[key] for r in line] for key in ("mcs", "sinr_db"))
                    axis.plot(mcs, sinr, label=name, **curve_style(k))
            axis.set(xlabel="MCS", ylabel="SINR per data RE and antenna, dB", title=where)
