# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose programs may run in this process: TorchScript of files that ship, or that a user names."""

import argparse
import hashlib
import os
from collections.abc import Collection
from functools import cache
from pathlib import Path

from .model_archive import ModelFileError, read_bytes
from .shipped import model_path


@cache
def shipped_hashes() -> frozenset[str]:
    """SHA-256 of the files in models/ as they were released: a file put there is none of them."""
    listed = Path(__file__).with_name("shipped_models.sha256").read_text()
    return frozenset(line.split()[0] for line in listed.splitlines())


def hash_of(path: str | os.PathLike) -> str:
    """SHA-256 of a file that a user trusts, as it is now: what it holds later is another's. path:
    as model_path() takes it. An argparse type: --trust is this once, before anything is loaded.
    """
    try:
        return hashlib.sha256(read_bytes(model_path(path))).hexdigest()
    except ModelFileError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from None


def is_trusted(sha256: str, trust: Collection[str] = ()) -> bool:
    return sha256 in shipped_hashes() or sha256 in trust
