# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON documents that one command writes and another reads, checked before anything uses them."""

import os
from collections.abc import Mapping

from .files import read_regular
from .schema import Field, check, parse_json


def read_document(
    path: str | os.PathLike, fields: Mapping[str, Field], what: str, writer: str
) -> dict:
    """The document at path. what: it is; writer: the command that writes it.

    Raises OSError, and ValueError in one line where the file holds something else than fields
    declare.
    """
    try:
        document = parse_json(read_regular(path))
        check(document, fields, "the document")
    except ValueError as error:
        raise ValueError(f"{path}: expected {what}, as {writer} writes it: {error}") from None
    return document
