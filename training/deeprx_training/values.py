# SPDX-License-Identifier: GPL-3.0-or-later
"""What a TOML table may hold: dataclasses whose annotations pydantic checks. A mistake is one line:
the key, what was expected and what was found.
"""

import tomllib
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError

CLOSED = ConfigDict(extra="forbid", allow_inf_nan=False)  # __pydantic_config__ of such a dataclass

Text = Annotated[str, Strict()]
Flag = Annotated[bool, Strict()]


def whole(low: int, high: int | None = None) -> type:
    return Annotated[int, Strict(), Field(ge=low, le=high)]


def number(low: float | None = None, high: float | None = None, above: bool = False) -> type:
    """above: low itself is none."""
    limit = {"gt": low} if above else {"ge": low}
    return Annotated[float, Strict(), Field(le=high, allow_inf_nan=False, **limit)]


def several(each: type, least: int = 1) -> type:
    return Annotated[tuple[each, ...], Field(min_length=least)]


def pair(each: type) -> type:
    """Of numbers, the smaller first."""

    def ordered(values):
        if values[0] > values[1]:
            raise ValueError("expected the smaller number first")
        return values

    return Annotated[tuple[each, each], AfterValidator(ordered)]


def weights(key: type) -> type:
    """A table of weights, not all zero."""

    def some(table):
        if not sum(table.values()) > 0:
            raise ValueError("expected a weight above 0")
        return table

    return Annotated[dict[key, number(0)], AfterValidator(some)]


LINE = 900  # characters of a refusal at most: it shows what was found
MOST, LONGEST = 65_536, 500  # characters of a TOML text and of its lines: long keys take minutes
DEEPEST = 50  # tables and lists in one another: what reads them calls itself for each


def parse_toml(text: str) -> dict:
    """Raises ValueError, tomllib.TOMLDecodeError among them."""
    if len(text) > MOST:
        raise ValueError(f"expected at most {MOST} characters, found {len(text)}")
    if (longest := max(map(len, text.split("\n")))) > LONGEST:
        raise ValueError(f"expected lines of at most {LONGEST} characters, found {longest}")
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    nested = [table]
    for _ in range(DEEPEST):
        parts = (p for n in nested for p in (n.values() if isinstance(n, dict) else n))
        nested = [part for part in parts if isinstance(part, dict | list)]
    if nested:
        raise ValueError("nested too deeply")
    return table


_EXPECTED = {
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "{le} or less",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "literal_error": "{expected}",
    "tuple_type": "a list",
    "list_type": "a list",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of {max_length}",
    "dict_type": "a table",
    "dataclass_type": "a table",
}


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def check(kind: Any, value: Any) -> Any:
    """value as TOML gives it, as this type, lists as tuples. ValueError names the key that is
    unknown, missing or wrong.
    """
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    *above, last = first["loc"] or ("",)
    where = _path(value, above)
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        keys = fields(kind) if is_dataclass(kind) else ()
        known = ", ".join(f.name for f in keys) or ", ".join(getattr(kind, "model_fields", ()))
        known = f"; known: {known}" if known and not above else ""
        raise ValueError(f"{where}unknown key {last!r}{known}") from None
    if first["type"].startswith("missing"):
        if isinstance(last, int):  # of a list
            above, last = above[:-1], above[-1]
            raise ValueError(f"{_path(value, above)}{last}: expected a longer list") from None
        raise ValueError(f"{where}{last} is missing") from None
    key = _path(value, first["loc"])
    if first["type"] == "value_error":
        raise ValueError(f"{key}{first['ctx']['error']}") from None
    expected = _EXPECTED.get(first["type"])
    expected = f"expected {expected.format(**first.get('ctx', {}))}" if expected else first["msg"]
    raise ValueError(f"{key}{expected}, found {first['input']!r}") from None


def _path(value: Any, keys) -> str:
    """a.b[0]: of keys; members of a list by their name."""
    text = ""
    for key in keys:
        if key == "[key]":
            continue
        try:
            value = value[key]
        except (TypeError, KeyError, IndexError):
            value = None
        if isinstance(key, int):
            named = isinstance(value, dict) and isinstance(value.get("name"), str)
            text += f" {value['name']}" if named else f"[{key}]"
        else:
            text += f".{key}" if text else str(key)
    return f"{text}: " if text else ""


def table_of(kind: type) -> type:
    """A dataclass that check() takes tables for, without unknown keys."""
    assert is_dataclass(kind)
    kind.__pydantic_config__ = CLOSED
    return kind
