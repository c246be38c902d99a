# SPDX-License-Identifier: GPL-3.0-or-later
"""What SigMF says of any recording: its schema, its sample types, its hash.

Debian has no package of sigmf-python, and recordings are replayed with Debian's packages alone; the
tests compare with it. sigmf-schema.json is the schema of SigMF 1.2.6 as sigmf-python 1.14.0 has it
(LGPL-3.0-or-later, https://github.com/sigmf/sigmf-python).
"""

import hashlib
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
from jsonschema import validators
from jsonschema.exceptions import ValidationError, best_match

SPECIFICATION = "1.2.6"
_TYPE = re.compile("([cr])([fiu])(8|16|32|64)(_[lb]e)?")


@cache
def _validator():
    schema = json.loads(Path(__file__).with_name("sigmf-schema.json").read_text())
    return validators.validator_for(schema)(schema)


def validate(metadata: dict) -> None:
    """Check the metadata of a recording against the schema, and that captures and annotations
    ascend. Raises ValidationError.
    """
    if error := best_match(_validator().iter_errors(metadata)):
        raise error
    for key in ("captures", "annotations"):
        starts = [item["core:sample_start"] for item in metadata[key]]
        if starts != sorted(starts):
            raise ValidationError(f"{key} are not in the order of their core:sample_start")


def sample_type(name: str) -> tuple[bool, np.dtype]:
    """Whether samples of a core:datatype are complex, and of which type a component is. Raises
    ValueError.
    """
    match = _TYPE.fullmatch(name)
    if not match:
        raise ValueError(f"expected a type of samples such as ci16_le, found {name!r:.40}")
    number, kind, bits, order = match.groups("")
    return number == "c", np.dtype(f"{'>' if order == '_be' else '<'}{kind}{int(bits) // 8}")


def sha512(path: Path, first: int = 0, count: int | None = None) -> str:
    """Of count bytes of a file from the first one on, None: to its end; in hexadecimal."""
    digest = hashlib.sha512()
    with open(path, "rb") as file:
        file.seek(first)
        left = path.stat().st_size - first if count is None else count
        while left > 0 and (piece := file.read(min(left, 1 << 20))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()
