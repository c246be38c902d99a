# SPDX-License-Identifier: GPL-3.0-or-later
"""What the values of a dictionary must be: declared once, checked, and documented from there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Field:
    """words: what a value must be. holds: says whether one is. meaning: a sentence for the
    documentation. optional: the key may be missing.
    """

    words: str
    holds: Callable[[object], bool]
    meaning: str = ""
    optional: bool = False

    def of(self, meaning: str, optional: bool = False) -> "Field":
        return replace(self, meaning=meaning, optional=optional)

    def or_null(self, meaning: str, optional: bool = False) -> "Field":
        return Field(
            f"{self.words} or null", lambda v: v is None or self.holds(v), meaning, optional
        )


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def _is_count(value) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _numbers(value, n: int) -> bool:
    return isinstance(value, list) and len(value) == n and all(map(_is_number, value))


TEXT = Field("a text", lambda v: isinstance(v, str))
NUMBER = Field("a finite number", _is_number)
COUNT = Field("a whole number of 0 or more", _is_count)
WHOLE = Field("a whole number", lambda v: type(v) is int and abs(v) < 2**64)
FLAG = Field("true or false", lambda v: isinstance(v, bool))
DICT = Field("a dictionary", lambda v: isinstance(v, Mapping))
LIST = Field("a list", lambda v: isinstance(v, list))
INDICES = Field("a list of indices", lambda v: isinstance(v, list) and all(map(_is_count, v)))
INTERVAL = Field("two numbers, the lower first", lambda v: _numbers(v, 2) and v[0] <= v[1])
COUNTS = Field(
    "counts by name", lambda v: isinstance(v, Mapping) and all(map(_is_count, v.values()))
)


def check(found: object, fields: Mapping[str, Field], where: str) -> None:
    """Raise ValueError with one line unless found is a mapping that holds what fields declare."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{where} must be a dictionary, got {found!r:.80}")
    for key, field in fields.items():
        if key in found and not field.holds(found[key]):
            raise ValueError(f"{where}: {key!r} must be {field.words}, got {found[key]!r:.80}")
        if key not in found and not field.optional:
            raise ValueError(f"{where} lacks {key!r}")
