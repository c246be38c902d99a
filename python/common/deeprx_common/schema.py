# SPDX-License-Identifier: GPL-3.0-or-later
"""What JSON and messages of others must be: declared once, checked once, documented from there.

What was checked holds finite numbers below 2^64 and printable texts only, under keys that are
declared and under others.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

MOST = 1e18  # of a number that is no whole one: more is a mistake, and hundreds of digits to show
LONGEST = 500  # characters of a text
LONGEST_PROSE = 100_000  # of one that may have several lines
DEEPEST = 16  # levels of what is not declared


@dataclass(frozen=True)
class Field:
    """words: what a value must be. holds: says whether one is. meaning: a sentence for the
    documentation. optional: the key may be missing. inside: what a dictionary's keys must be. each:
    what a list's members must be, or those of a dictionary, under any keys.
    """

    words: str
    holds: Callable[[object], bool]
    meaning: str = ""
    optional: bool = False
    inside: Mapping[str, "Field"] | None = None
    each: "Field | None" = None

    def of(self, meaning: str, optional: bool = False) -> "Field":
        return replace(self, meaning=meaning, optional=optional)

    def or_null(self, meaning: str = "", optional: bool = False) -> "Field":
        return replace(
            self,
            words=f"{self.words} or null",
            holds=lambda v: v is None or self.holds(v),
            meaning=meaning,
            optional=optional,
        )


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -MOST < value < MOST


def _is_count(value) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_text(value) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST and value.isprintable()


def _is_prose(value) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_PROSE and _printable_lines(value)


def _printable_lines(text: str) -> bool:
    return text.replace("\n", "").replace("\t", "").isprintable()


def _numbers(value, n: int) -> bool:
    return isinstance(value, list) and len(value) == n and all(map(_is_number, value))


def _is_anything(value, levels: int = DEEPEST) -> bool:
    if isinstance(value, Mapping):
        return levels > 0 and all(
            _is_text(k) and _is_anything(v, levels - 1) for k, v in value.items()
        )
    if isinstance(value, list):
        return levels > 0 and all(_is_anything(v, levels - 1) for v in value)
    if isinstance(value, float):
        return math.isfinite(value) and abs(value) < MOST
    return (
        value is None
        or isinstance(value, bool)
        or (isinstance(value, int) and abs(value) < 2**64)
        or _is_prose(value)
    )


def number(low: float, high: float = MOST, unit: str = "") -> Field:
    """A number from low to high, both included."""
    words = f"a number of {low:g} or more" if high == MOST else f"a number from {low:g} to {high:g}"
    return Field(words + (unit and f" {unit}"), lambda v: _is_number(v) and low <= v <= high)


TEXT = Field("a printable text", _is_text)
NUMBER = Field("a finite number", _is_number)
COUNT = Field("a whole number of 0 or more", _is_count)
INDEX = Field("a whole number from 0, below 2^64", lambda v: type(v) is int and 0 <= v < 2**64)
POSITIVE = Field("a whole number of 1 or more", lambda v: _is_count(v) and v > 0)
WHOLE = Field("a whole number", lambda v: type(v) is int and abs(v) < 2**64)
FLAG = Field("true or false", lambda v: isinstance(v, bool))
DICT = Field(
    "a dictionary of finite numbers and printable texts",
    lambda v: isinstance(v, Mapping) and _is_anything(v),
)
ANYTHING = Field("finite numbers, below 2^64, and printable texts", _is_anything)
INDICES = Field("a list of indices", lambda v: isinstance(v, list) and all(map(_is_count, v)))
TEXTS = Field("a list of printable texts", lambda v: isinstance(v, list) and all(map(_is_text, v)))
RATE = number(0, 1)
INTERVAL = Field("two numbers, the lower first", lambda v: _numbers(v, 2) and v[0] <= v[1])
COUNTED = Field(
    "two whole numbers of 1 or more, the lower first",
    lambda v: INDICES.holds(v) and len(v) == 2 and 1 <= v[0] <= v[1],
)
RATES = Field(
    "two numbers from 0 to 1, the lower first",
    lambda v: _numbers(v, 2) and 0 <= v[0] <= v[1] <= 1,
)
COUNTS = Field(
    "counts by name",
    lambda v: isinstance(v, Mapping) and all(_is_text(k) and _is_count(n) for k, n in v.items()),
)


def whole(high: int) -> Field:
    """A whole number from 0 to high."""
    return Field(f"a whole number from 0 to {high:g}", lambda v: _is_count(v) and v <= high)


def table(fields: Mapping[str, Field]) -> Field:
    """A dictionary of these keys, and maybe of others."""
    return Field("a dictionary", lambda v: isinstance(v, Mapping), inside=fields)


def partial(fields: Mapping[str, Field]) -> dict[str, Field]:
    """The same, where any of them may be missing."""
    return {key: replace(field, optional=True) for key, field in fields.items()}


def several(each: Field, what: str = "a list", least: int = 0) -> Field:
    return Field(what, lambda v: isinstance(v, list) and len(v) >= least, each=each)


def by_name(each: Field, what: str = "a dictionary", least: int = 0) -> Field:
    return Field(what, lambda v: isinstance(v, Mapping) and len(v) >= least, each=each)


def named(schema: str) -> Field:
    """The schema of a document, in any version where it ends with a slash."""
    end = schema.endswith("/")
    words = f'"{schema}' + ('..."' if end else '"')
    return Field(words, lambda v: v == schema or (end and _is_text(v) and v.startswith(schema)))


def check(value: object, fields: Mapping[str, Field], where: str) -> None:
    """Raise ValueError with one line unless value is a mapping that holds what fields declare, and
    nothing else than ANYTHING under other keys.
    """
    check_value(value, table(fields), where)


def check_value(value: object, field: Field, where: str) -> None:
    """Raise ValueError with one line unless value is what field declares."""
    _check(value, field, where, where)


def _check(value: object, field: Field, where: str, path: str) -> None:
    """where: what an error calls the value; path: what it calls those inside."""
    if not field.holds(value):
        raise ValueError(f"{where} must be {field.words}, got {value!r:.80}")
    if field.each is not None and value is not None:
        members = value.items() if isinstance(value, Mapping) else enumerate(value)
        for k, member in members:
            at = f"{path}[{k!r:.80}]"
            _check(member, field.each, at, at)
    if field.inside is None or value is None:
        return
    for key, declared in field.inside.items():
        if key in value:
            _check(value[key], declared, f"{path}: {key!r}", f"{path}.{key}")
        elif not declared.optional:
            raise ValueError(f"{path} lacks {key!r}")
    for key in value:
        if not TEXT.holds(key):
            raise ValueError(f"{path}: a key must be {TEXT.words}, got {key!r:.80}")
        if key not in field.inside:
            _check(value[key], ANYTHING, f"{path}: {key!r:.80}", path)


def parse_json(text: str | bytes, real: Callable[[str], object] = float):
    """What JSON says. real: makes a number of a text with a fraction or an exponent.

    Raises ValueError with one line, also for NaN, infinity, whole numbers of 2^64 or more, and an
    object with a key twice.
    """

    def finite(text: str):
        if not math.isfinite(float(text)):
            raise ValueError(f"expected finite numbers, found {text:.40}")
        return real(text)

    try:
        return json.loads(
            text,
            parse_float=finite,
            parse_int=_integer,
            parse_constant=finite,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def first_twice(keys: Iterable[str]) -> str:
    """The first of them that came before."""
    seen = set()
    return next(key for key in keys if key in seen or seen.add(key))


def _object(pairs: list[tuple[str, object]]) -> dict:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = first_twice(key for key, _ in pairs)
        raise ValueError(f"expected each key once, found {twice!r:.80} twice")
    return values


def _integer(text: str) -> int:
    if len(text) > 21 or abs(int(text)) >= 2**64:
        raise ValueError(f"expected numbers below 2^64, found {text:.40}")
    return int(text)
