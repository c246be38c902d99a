# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are whole or not there, and folders that can be written to."""

import json
import os
import tempfile
from pathlib import Path


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


class replacing:
    """A temporary name beside path, renamed to path when the body succeeds, removed when not."""

    def __init__(self, path: str | os.PathLike):
        self._path = Path(path)

    def __enter__(self) -> str:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, self._temporary = tempfile.mkstemp(
            dir=self._path.parent, prefix=".", suffix=self._path.suffix
        )
        os.close(handle)
        return self._temporary

    def __exit__(self, kind, value, trace):
        if kind is None:
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(self._temporary, 0o666 & ~umask)  # mkstemp's 0600 is for secrets
            os.replace(self._temporary, self._path)
        else:
            os.unlink(self._temporary)


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
