# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a training run: written whole or not at all, read without running what is in them."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from deeprx_common import files


class TrainingError(RuntimeError):
    """Training cannot go on; the message is one line."""


def writable_folder(path: str | Path) -> None:
    """files.writable_folder(), as a TrainingError."""
    try:
        files.writable_folder(path)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be the output folder: {error.strerror}") from None


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call write(temporary path), then rename: the file is whole or not there."""
    try:
        with files.replacing(path) as temporary:
            write(temporary)
    # torch's writers raise RuntimeError when the disk is full
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise TrainingError(f"{path}: cannot be written: {reason}") from None


def read_tensors(path: Path, what: str, mapped: bool = False) -> Any:
    """What torch.save wrote, on the CPU, mapped: read from the file when it is used; TrainingError
    where the file is not `what`.
    """
    with _opened(path, what) as file:
        where = path if mapped else file  # a map needs the name
        return torch.load(where, map_location="cpu", weights_only=True, mmap=mapped)


def read_hashed_tensors(path: Path, what: str) -> tuple[Any, str]:
    """The same, not mapped, and the SHA-256 of the bytes they were read from, hexadecimal."""
    with _opened(path, what) as file:
        data = file.read()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(record.compress_type for record in archive.infolist()):  # may be of any size
                raise ValueError("expected records that are stored")
        tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        check_held(_tensors(tensors), len(data))
        return tensors, hashlib.sha256(data).hexdigest()


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    """All that are in there: those of a container that comes again once."""
    waiting, seen = [values], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value


@contextmanager
def _opened(path: Path, what: str) -> Iterator[BinaryIO]:
    try:
        with files.open_regular(path) as file:
            yield file
    except OSError as error:
        if error.filename:
            raise
        raise TrainingError(f"{path}: cannot be read: {error.strerror}; is it whole?") from None
    except Exception:  # whatever bytes that are no checkpoint make the unpickler trip over
        raise TrainingError(
            f"{path}: expected {what}, found something else; delete it or choose another"
        ) from None


def check_held(tensors: Iterable[torch.Tensor], size: int) -> None:
    """ValueError where tensors name each byte of a file of this size more than twice, as those do
    that take one element for many. Two nets may share their weights.
    """
    named = sum(tensor.nbytes for tensor in tensors)
    if named > 2 * size:
        raise ValueError(f"expected tensors of at most {2 * size} bytes, found {named}")
