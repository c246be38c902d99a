# SPDX-License-Identifier: GPL-3.0-or-later
"""A gNB's dump of uplink grids and its log as a recording of grids."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from deeprx_common.files import open_regular, replacing
from deeprx_common.printable import printable
from deeprx_common.slot import N_SYMBOLS, SlotConfig

from .gnb_log import FRAMES, DumpedGrid, LoggedPusch, PassedOver, Unsupported, read_gnb_log
from .pusch import RecordedPusch, allocation, carrier_re
from .recording import NAMESPACE, VERSION
from .sigmf import SPECIFICATION
from .writer import new_recording

MOST_RX = 4
_DAY_S = 24 * 3600  # no dump is as long


@dataclass
class Imported:
    """What became of a log's PUSCH.

    pusch: imported; blocks: of them with their block. skipped: others, by reason. lines: that are
    damaged or contradict others of the log, by reason. unknown: PUSCH imported without the block
    that the gNB received. zeros: PUSCH imported whose grid holds nothing else, as a hole in a file
    does. empty_grids: without a PUSCH that was imported. n_rx: antennas. scs_assumed: no slot of
    the log is beyond 9, so that it may be of a larger spacing, too. missing: complex floats that
    the log speaks of beyond the end of the dump. paths: what was written.
    """

    n_rx: int
    carrier_prb: int
    scs_khz: int
    scs_assumed: bool = False
    paths: tuple[Path, ...] = ()
    pusch: int = 0
    blocks: int = 0
    skipped: PassedOver = field(default_factory=PassedOver)
    lines: PassedOver = field(default_factory=PassedOver)
    unknown: PassedOver = field(default_factory=PassedOver)
    zeros: int = 0
    empty_grids: int = 0
    missing: int = 0


class GnbCapture:
    """Grids and PUSCH of a gNB's log, put together by their slot.

    scs_khz: None: the least that has slots of the numbers of dumped PUSCH. n_rx, carrier_prb: of
    the grids. slots: by slot index, counted over frames, the grid or None, and the slot's PUSCH.
    lines: that are in none of them. Where lines contradict each other, it is as most of them say.

    Raises ValueError with one line where the log is none, half its grids are of another size, some
    of another sector, or its times and frames do not go together.
    """

    def __init__(self, log: str | Path, scs_khz: int | None = None):
        self.lines = PassedOver()
        records = list(read_gnb_log(log, self.lines))
        grids = [r for r in records if isinstance(r, DumpedGrid)]
        pusch = [r for r in records if isinstance(r, LoggedPusch)]
        if not grids or not pusch:
            raise ValueError(
                f"{log}: expected the log of a gNB, its PHY at level debug and with "
                f"phy_rx_symbols_filename, found {len(grids)} RX_SYMBOL and {len(pusch)} PUSCH "
                "lines"
            )
        sector = _sector(log, grids)
        dumped = {(g.frame, g.slot) for g in grids} & {(p.frame, p.slot) for p in pusch}
        highest = max(slot for _, slot in dumped or [(r.frame, r.slot) for r in records])
        self.scs_khz = _spacing(log, highest, scs_khz)
        self.scs_assumed = scs_khz is None and highest < 10
        size = _most_common_size(log, [grid for grid in grids if grid.sector == sector])
        self.carrier_prb, self.n_rx = _shape(log, size, pusch)
        n_slots = 10 * self.scs_khz // 15
        alike = [r for r in records if self._is_alike(r, n_slots, sector, size)]
        self.slots: dict[int, tuple[DumpedGrid | None, list[LoggedPusch]]] = {}
        for index, record in _indexed(log, alike, n_slots, self.lines):
            self._add(index, record)
        self._drop_overlapping(size)

    def _drop_overlapping(self, size: int) -> None:
        """Grids of which only one can be where their lines say: nobody knows which."""
        there = sorted((grid.offset, index) for index, (grid, _) in self.slots.items() if grid)
        overlapping = set()
        for (offset, index), (following, other) in pairwise(there):
            if following < offset + size:
                overlapping |= {index, other}
        for index in sorted(overlapping):
            grid, pusch = self.slots[index]
            self.lines.add("grids that overlap in the dump", grid.line)
            self.slots[index] = None, pusch

    def _is_alike(
        self, record: DumpedGrid | LoggedPusch, n_slots: int, sector: int, size: int
    ) -> bool:
        if record.slot >= n_slots:
            self.lines.add(f"of slots that {self.scs_khz} kHz has not", record.line)
        elif isinstance(record, DumpedGrid) and record.sector != sector:
            self.lines.add("grids of another sector", record.line)
        elif isinstance(record, DumpedGrid) and record.size != size:
            self.lines.add("grids of another size", record.line)
        else:
            return True
        return False

    def _add(self, index: int, record: DumpedGrid | LoggedPusch) -> None:
        grid, pusch = self.slots.get(index, (None, []))
        if isinstance(record, LoggedPusch):
            if any(record.sender == other.sender for other in pusch):
                self.lines.add("PUSCH of a user who has one in its slot", record.line)
                return
            pusch.append(record)
        elif grid:
            self.lines.add("grids of a slot that has one", record.line)
        else:
            grid = record
        self.slots[index] = grid, pusch


def _spacing(log, highest: int, scs_khz: int | None) -> int:
    known = [s for s in (15, 30, 60) if highest < 10 * s // 15]
    if scs_khz is None and known:
        return known[0]
    if scs_khz not in known:
        raise ValueError(
            f"{log}: expected slots of {scs_khz or '15, 30 or 60'} kHz, found slot {highest} of a "
            "frame"
        )
    return scs_khz


def _sector(log, grids: list[DumpedGrid]) -> int:
    """Of all grids but a line or a hundredth of them: PUSCH lines do not say theirs."""
    sectors = Counter(grid.sector for grid in grids)
    (sector, count), *others = sectors.most_common(2)
    if len(grids) - count >= min(count, max(2, len(grids) / 100)):
        raise ValueError(
            f"{log}: expected grids of one sector, found {sector} and {others[0][0]}: let the gNB "
            "dump one cell"
        )
    return sector


def _most_common_size(log, grids: list[DumpedGrid]) -> int:
    sizes = Counter(grid.size for grid in grids)
    (size, count), *others = sizes.most_common(2)
    if 2 * count <= len(grids):
        raise ValueError(f"{log}: expected grids of one size, found {size} and {others[0][0]}")
    return size


def _shape(log, size: int, pusch: list[LoggedPusch]) -> tuple[int, int]:
    """Resource blocks of the carrier, which its bandwidth parts fill, and antennas of the dump.

    Initial bandwidth parts end before the carrier does, damaged ones behind it: the largest that
    two PUSCH and a tenth of all say, as far as it goes with the grids' size.
    """
    carriers = Counter()
    for logged in pusch:
        try:
            carriers[logged.carrier_prb] += 1
        except Unsupported as error:
            reason = error
    if not carriers:
        raise ValueError(f"{log}: no PUSCH line says its bandwidth part: {reason}")
    least = max(2, carriers.total() / 10)
    often = [prb for prb, count in carriers.items() if count >= least] or list(carriers)
    fit = [prb for prb in often if size in [n * carrier_re(prb) for n in range(1, MOST_RX + 1)]]
    if not fit:
        carrier = max(often)
        raise ValueError(
            f"{log}: expected grids of 1 to {MOST_RX} antennas, {carrier_re(carrier)} values each "
            f"for the {carrier} PRB of its bandwidth parts, found {size} values"
        )
    return max(fit), size // carrier_re(max(fit))


def _indexed(
    log, records, slots_per_frame: int, lines: PassedOver
) -> Iterator[tuple[int, DumpedGrid | LoggedPusch]]:
    """Each record with its slot's index, counted on where the frame number begins anew.

    How often it began anew in a pause, the times of the lines tell. They are of another clock than
    the frames, and threads log late: the offset between both is the mean over all lines.
    """
    period = FRAMES * slots_per_frame
    number = np.array([r.frame * slots_per_frame + r.slot for r in records])
    time = np.array([r.time for r in records])
    ahead = (time - time[0]) * 100 * slots_per_frame - number
    offset = np.mean(np.exp(2j * np.pi * ahead / period))
    if abs(offset) < 0.5:
        raise ValueError(
            f"{log}: expected lines of one run, found times and frames that contradict each other"
        )
    turns = ahead / period - np.angle(offset) / (2 * np.pi)
    turn = np.round(turns).astype(int)
    right = (np.abs(turns - turn) < 0.25) & (np.abs(time - np.median(time)) < _DAY_S)
    index = number + period * (turn - np.min((number + period * turn)[right]) // period)
    for k, record in enumerate(records):
        if right[k]:
            yield int(index[k]), record
        else:
            lines.add("whose time and frame contradict the others'", record.line)


class _Dump:
    """Complex floats of a file, size of them."""

    def __init__(self, path: str | Path):
        self._path = Path(path)
        try:
            self._file = open_regular(path)
            self.size = os.fstat(self._file.fileno()).st_size // 8
        except OSError as error:
            raise ValueError(f"{path}: cannot read the dump: {error.strerror}") from None
        if not self.size:
            raise ValueError(f"{path}: expected a gNB's dump of grids, found an empty file")

    def read(self, grid: DumpedGrid, n_rx: int) -> np.ndarray | None:
        """Complex64 [n_rx, 14, 12 carrier_prb]; None where the dump ends before the grid does."""
        if grid.offset + grid.size > self.size:
            return None
        self._file.seek(8 * grid.offset)
        values = np.fromfile(self._file, "<c8", grid.size)
        if len(values) < grid.size:
            raise ValueError(f"{self._path}: became shorter while it was read")
        return values.reshape(n_rx, N_SYMBOLS, -1)


def import_gnb(
    dump: str | Path,
    log: str | Path,
    out: str | Path,
    scs_khz: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Imported:
    """Write the recording of grids OUT.sigmf-meta and OUT.sigmf-data; returns what is in it.

    dump, log: of a gNB. scs_khz: subcarrier spacing; None: see GnbCapture. progress: called with
    the slots that are done, and all.

    Raises ValueError with one line where the files do not go together or nothing can be imported,
    FileExistsError where there is a recording.
    """
    base = new_recording(out)
    capture = GnbCapture(log, scs_khz)
    grids = _Dump(dump)
    done = Imported(
        capture.n_rx,
        capture.carrier_prb,
        capture.scs_khz,
        capture.scs_assumed,
        lines=capture.lines,
    )
    done.paths = tuple(base.with_name(base.name + end) for end in (".sigmf-meta", ".sigmf-data"))
    annotations = []
    begun: set[tuple[int, int]] = set()
    digest = hashlib.sha512()
    with replacing(done.paths[1]) as data, replacing(done.paths[0]) as meta:
        with open(data, "wb") as file:
            for k, (index, (place, logged)) in enumerate(sorted(capture.slots.items())):
                progress(k, len(capture.slots))
                received = place and grids.read(place, done.n_rx)
                if place and received is None:
                    done.missing = max(done.missing, place.offset + place.size - grids.size)
                here = _import_slot(received, place, logged, index, done, begun)
                if not here:
                    done.empty_grids += received is not None
                    continue
                start = file.tell() // (8 * done.n_rx)
                size = carrier_re(done.carrier_prb)
                annotations += [replace(one, start=start).annotation(size) for one in here]
                frames = np.ascontiguousarray(received.reshape(done.n_rx, -1).T)
                digest.update(frames)
                file.write(frames)
        if not done.pusch:
            raise ValueError(f"{log}: found no PUSCH to import, but {done.skipped.text()}")
        metadata = _metadata(done, annotations, digest.hexdigest(), Path(log))
        Path(meta).write_text(json.dumps(metadata, indent=1) + "\n")
    return done


def _import_slot(received, place, logged, index, done: Imported, begun) -> list[RecordedPusch]:
    """The PUSCH of a slot that can be imported; received: its grid, None where there is none.
    begun: (RNTI, process) of whose block something was imported.
    """
    pusch = []
    for one in logged:
        try:
            recorded = _recorded(one, done, index)
            if received is None:
                raise Unsupported(
                    "beyond the end of the dump" if place else "of slots that were not dumped"
                )
            values = allocation(received, recorded.config)
            if not np.isfinite(values).all():
                raise Unsupported("with values that are not finite")
        except Unsupported as error:
            done.skipped.add(str(error), one.line)
            _pass_over(one, begun)
        else:
            process = one.rnti, one.process
            missing = not one.new_data and process not in begun
            pusch.append(replace(recorded, earlier_missing=missing))
            begun.add(process)
            done.zeros += not values.any()
            if recorded.crc_ok and recorded.block is None:
                done.unknown.add("whose block is not there whole (hex_max_size: -1)", one.line)
    done.pusch += len(pusch)
    done.blocks += sum(one.block is not None for one in pusch)
    return sorted(pusch, key=lambda one: one.config.first_prb)


def _pass_over(logged: LoggedPusch, begun: set[tuple[int, int]]) -> None:
    """What is sent again of a block that was passed over belongs to nothing before."""
    try:
        if logged.has_block and logged.new_data:
            begun.discard((logged.rnti, logged.process))
    except Unsupported:  # it may be anybody's
        begun.clear()


def _recorded(logged: LoggedPusch, done: Imported, index: int) -> RecordedPusch:
    pusch = RecordedPusch(
        start=0,
        config=logged.slot_config(done.carrier_prb, done.scs_khz),
        slot_index=index,
        process=logged.process,
        rv=logged.rv,
        new_data=logged.new_data,
        block=logged.transport_block,
        crc_ok=logged.crc_ok,
    )
    try:
        graph = pusch.transport_block.base_graph
    except ValueError as error:
        raise Unsupported(f"that do not fit ({printable(error, 160)})") from None
    if graph != logged.base_graph:
        raise Unsupported(f"with bg={logged.base_graph}, where TS 38.212 has {graph}")
    return pusch


def _metadata(done: Imported, annotations: list[dict], sha512: str, log: Path) -> dict:
    config = SlotConfig(n_prb=done.carrier_prb, scs_khz=done.scs_khz)
    return {
        "global": {
            "core:datatype": "cf32_le",
            "core:num_channels": done.n_rx,
            "core:sample_rate": carrier_re(done.carrier_prb) / config.slot_s,
            "core:sha512": sha512,
            "core:version": SPECIFICATION,
            "core:recorder": "gr-deeprx import-gnb",
            "core:description": f"{done.pusch} PUSCH of {printable(log.name, 200)}",
            "core:extensions": [{"name": NAMESPACE, "version": VERSION, "optional": False}],
            f"{NAMESPACE}:grids": True,
        },
        "captures": [{"core:sample_start": 0}],
        "annotations": annotations,
    }
