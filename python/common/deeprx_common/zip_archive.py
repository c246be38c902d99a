# SPDX-License-Identifier: GPL-3.0-or-later
"""ZIP archives as LibTorch and Python write them, and no others (in C++:
gr-deeprx/lib/engines/zip_archive.h). Numbers in comments: APPNOTE.TXT 6.3.10 of PKWARE.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from .model_errors import ModelFileError, refuse
from .model_rules import LIMITS

LOCAL, CENTRAL, END = 0x04034B50, 0x02014B50, 0x06054B50
END64, LOCATOR64 = 0x06064B50, 0x07064B50
BEHIND_DATA, UTF8 = 0x0008, 0x0800  # flags
STORED, DEFLATED = 0, 8  # methods
ALIGNED = 64  # LibTorch's alignment of records


@dataclass(frozen=True)
class Record:
    """name: without the folder that all are in. data: as it is there, maybe deflated; size: of what
    it holds.
    """

    name: str
    data: memoryview
    crc: int
    size: int
    deflated: bool
    start: int
    end: int


def _damaged(what: str):
    raise ModelFileError(f"is not a TorchScript archive, or a damaged one: {what}")


def _unpack(form: str, data, at: int) -> tuple:
    if at < 0 or at + struct.calcsize(form) > len(data):
        _damaged("its list of records cannot be read")
    return struct.unpack_from(form, data, at)


def _take(data, at: int, size: int):
    if size > len(data) - at:
        _damaged("its list of records cannot be read")
    return data[at : at + size]


def _find_directory(data: memoryview) -> tuple[int, int, int]:
    """Records, size and place of their list (4.3.14 to 4.3.16): nothing may stand behind it."""
    end = len(data) - 22
    if end < 0:
        _damaged("it ends too early")
    mark, disks, here, records, size, at, comment = _unpack("<IIHHIIH", data, end)
    if mark != END:
        _damaged("it ends otherwise than a ZIP archive")
    if disks or here != records or comment:
        _damaged("it is of several disks, or ends with a comment")
    if end >= 76 and _unpack("<I", data, end - 20)[0] == LOCATOR64:
        _, disk, place, n_disks = _unpack("<IIQI", data, end - 20)
        end -= 76
        mark, length, _, disks, here, *wide = _unpack("<IQIQQQQQ", data, end)
        if disk or place != end or n_disks != 1 or mark != END64 or length != 44:
            _damaged("its ZIP64 end does not stand where it says")
        narrow = zip((records, size, at), wide, (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True)
        if disks or here != wide[0] or not all(n in (w, most) for n, w, most in narrow):
            _damaged("its two ends differ")
        records, size, at = wide
    if at > end or size != end - at:
        _damaged("its list of records does not stand where it says")
    if records > LIMITS["records"]:
        _damaged(f"it lists {records} records, allowed are {LIMITS['records']}")
    return records, size, at


def _split(name: bytes) -> tuple[str, str]:
    """Folder and the name in it."""
    if len(name) > LIMITS["name_bytes"] or not all(32 < c < 127 and c != 92 for c in name):
        _damaged(
            f"the name of a record is longer than {LIMITS['name_bytes']} characters or not "
            "printable"
        )
    text = name.decode("ascii")
    if {"", ".", ".."} & set(text.split("/")):
        _damaged("the name of a record has an empty part, . or ..")
    folder, slash, rest = text.partition("/")
    if not slash:
        _damaged("a record is not in a folder")
    return folder, rest


def _read_entry(data: memoryview, at: int) -> tuple[str, tuple, int]:
    """Folder, record and where the next entry of the list is (4.3.7, 4.3.9, 4.3.12)."""
    (mark, _, flags, method, _, crc, packed, size, n, extra, comment, disk, _, start) = _unpack(
        "<IIHHIIIIHHHH6sI", data, at
    )
    if mark != CENTRAL:
        _damaged("its list of records cannot be read")
    name = bytes(_take(data, at + 46, n))
    _take(data, at + 46, n + extra + comment)
    folder, short = _split(name)
    if flags & ~(BEHIND_DATA | UTF8) or disk or method not in (STORED, DEFLATED):
        _damaged(f"{short} is encrypted, or compressed in a way that models are not")
    if method == STORED and packed != size:
        _damaged(f"{short} has two sizes")
    return (
        folder,
        (short, name, flags, method, crc, packed, size, start),
        at + 46 + n + extra + comment,
    )


def _read_local(data: memoryview, entry: tuple) -> Record:
    short, name, flags, method, crc, packed, size, start = entry
    mark, _, *local, n, extra = _unpack("<IHHHIIIIHH", data, start)
    if mark != LOCAL:
        _damaged(f"{short} does not stand where it says")
    local_flags, local_method, _, *sums = local
    later = flags & BEHIND_DATA and sums == [0, 0, 0]
    told = bytes(_take(data, start + 30, n))
    if (told, local_flags, local_method) != (name, flags, method) or not (
        sums == [crc, packed, size] or later
    ):
        _damaged(f"{short} is told of in two ways")
    first = start + 30 + n + extra
    _take(data, start + 30, n + extra)
    body = _take(data, first, packed)
    return Record(short, body, crc, size, method == DEFLATED, start, first + packed)


def read_zip(data: bytes) -> list[Record]:
    """The records in the order of their names; ModelFileError where this is no such archive.

    Every name is printable, of one top folder, and no other's whatever its case; every record lies
    in a place of its own, and its local header says what the central directory does. contents()
    looks at their checksums.
    """
    view = memoryview(data)
    count, size, at = _find_directory(view)
    listed, records, folders = at + size, [], set()
    before = view[:at]
    for _ in range(count):
        folder, entry, at = _read_entry(view[:listed], at)
        folders.add(folder)
        records.append(_read_local(before, entry))
    if at != listed:
        _damaged("its list of records is longer than its records")
    if len(folders) > 1:
        _damaged("its records are in several folders")
    end, seen = 0, set()
    for record in sorted(records, key=lambda r: r.start):
        if record.start < end:
            _damaged(f"{record.name} overlaps another record")
        end = record.end
        if record.name.lower() in seen:  # LibTorch finds records without regard to case
            refuse(f"a second record {record.name}")
        seen.add(record.name.lower())
    return sorted(records, key=lambda r: r.name)


def contents(record: Record) -> memoryview:
    """Exactly the size and checksum that it was written with; ModelFileError where it has not."""
    data = record.data
    if record.deflated:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            inflated = inflater.decompress(data, record.size + 1)
        except zlib.error:
            inflated = b""
        whole = inflater.eof and not inflater.unused_data and not inflater.unconsumed_tail
        if not whole or len(inflated) != record.size:
            _damaged(f"{record.name} does not inflate to the size that it says")
        data = memoryview(inflated)
    if zlib.crc32(data) != record.crc:
        raise ModelFileError(
            f"is damaged: {record.name} has not the checksum that it was written with"
        )
    return data


def write_zip(records: Mapping[str, bytes | memoryview], folder: str = "m") -> bytes:
    """Records stored in one folder, each at a multiple of 64 bytes."""
    out, directory = bytearray(), bytearray()
    for name, data in sorted(records.items()):
        path = f"{folder}/{name}".encode("ascii")
        start, crc = len(out), zlib.crc32(data)
        pad = -(start + 30 + len(path) + 4) % ALIGNED
        sizes = (0x00210000, crc, len(data), len(data), len(path))
        out += struct.pack("<IHHHIIIIHH", LOCAL, 20, 0, STORED, *sizes, 4 + pad) + path
        out += struct.pack("<2sH", b"FB", pad) + b"Z" * pad + data  # as LibTorch pads
        directory += struct.pack("<IHHHHIIIIH12xI", CENTRAL, 20, 20, 0, STORED, *sizes, start)
        directory += path
    n, at = len(records), len(out)
    out += directory + struct.pack("<IIHHIIH", END, 0, n, n, len(directory), at, 0)
    return bytes(out)
