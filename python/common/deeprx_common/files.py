# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are whole or not there, and folders that can be written to."""

import errno
import io
import json
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

MOST_BYTES = 1 << 30  # of a file that is read whole
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def writable_folder(path: str | os.PathLike) -> None:
    """Make a folder for results, before the work that they take.

    Raises OSError, which names the folder, where nothing can be written there.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


_KINDS = {
    stat.S_IFREG: "a regular file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}


def kind_of(path: str | os.PathLike) -> str:
    """What is at a path, in words."""
    try:
        return _KINDS[stat.S_IFMT(os.stat(path).st_mode)]
    except OSError as error:
        return error.strerror.lower()


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """A file to read, which a pipe, that may never end nor even begin, and a device are not.

    Raises OSError.
    """
    _expect_regular(os.stat(path), path)  # first: opening a device may do something
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _expect_regular(os.fstat(handle), path)
    except OSError:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def _expect_regular(about: os.stat_result, path: str | os.PathLike) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(about.st_mode):
        why = f"expected a regular file, found {_KINDS[stat.S_IFMT(about.st_mode)]}"
        raise OSError(errno.EINVAL, why, str(path))


def read_regular(path: str | os.PathLike, most: int = MOST_BYTES) -> bytes:
    """All of what open_regular() opens. Raises OSError, also for more than so many bytes."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.read(most) or b""  # None of a kernel's file that has nothing to say yet


class replacing:
    """A temporary name beside path, renamed to path when the body succeeds, removed when not.

    An OSError of the temporary file is told as the path's.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = Path(path)

    def __enter__(self) -> str:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle, self._temporary = tempfile.mkstemp(
                dir=self._path.parent, prefix=".", suffix=self._path.suffix
            )
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        os.close(handle)
        return self._temporary

    def __exit__(self, kind, value, trace):
        if kind is None:
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(self._temporary, 0o666 & ~umask)  # mkstemp's 0600 is for secrets
            os.replace(self._temporary, self._path)
            return
        os.unlink(self._temporary)
        if isinstance(value, OSError) and value.filename in (None, self._temporary):
            raise OSError(value.errno, value.strerror, str(self._path)) from None


def write_json(value, path: str | os.PathLike) -> Path:
    """Put a value at path as JSON, whole or not at all; returns path.

    Raises ValueError for NaN and infinity, OSError, which names the path, where it cannot be.
    """
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    try:
        with replacing(path) as temporary:
            Path(temporary).write_text(text)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    return Path(path)


_NO_ARRAYS = (  # what bytes that are none make their readers trip over
    KeyError, EOFError, ArithmeticError, MemoryError, RuntimeError, struct.error,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def array_names(path: str | os.PathLike) -> list[str]:
    """Of what write_arrays() put at path. Raises OSError and ValueError as read_arrays()."""
    try:
        with open_regular(path) as opened, zipfile.ZipFile(opened) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except _NO_ARRAYS:
        raise ValueError("expected arrays by name") from None


def read_arrays(path: str | os.PathLike, names: Iterable[str]) -> list[np.ndarray]:
    """The arrays of these names that write_arrays() put at path.

    Raises OSError, also for more than MOST_BYTES, which compressed ones may be; ValueError where
    the file holds something else.
    """
    try:
        with open_regular(path) as opened, zipfile.ZipFile(opened) as archive:
            records = [archive.getinfo(f"{name}.npy") for name in names]
            if any(record.compress_type not in COMPRESSIONS for record in records):
                raise ValueError("expected arrays that are stored or deflated")
            if sum(record.file_size for record in records) > MOST_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
            arrays = []
            for record in records:
                with archive.open(record) as file:
                    arrays.append(np.lib.format.read_array(file, allow_pickle=False))
            return arrays
    except _NO_ARRAYS:
        raise ValueError("expected arrays by name") from None


def write_arrays(arrays: Mapping[str, np.ndarray], path: str | os.PathLike) -> None:
    """Put arrays at path as np.load() reads them by name, whole or not at all.

    np.savez() has names of its own, and zipfile has more to say of a full disk than its error.
    Raises OSError, which names the path, where it cannot be.
    """
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    with replacing(path) as temporary:
        Path(temporary).write_bytes(data.getbuffer())
