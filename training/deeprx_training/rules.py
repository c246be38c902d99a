# SPDX-License-Identifier: GPL-3.0-or-later
"""What the values in a recipe or a study may be.

A rule takes a value as TOML gives it and returns it, lists as tuples; it raises ValueError,
"expected ..., found ...".
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Rule = Callable[[Any], Any]


def _refuse(expected: str, found) -> ValueError:
    return ValueError(f"expected {expected}, found {found!r}")


def _range(low, high) -> str:
    return f"{low} or more" if high == math.inf else f"from {low} to {high}"


def whole(low: int, high: float = math.inf) -> Rule:
    def rule(value):
        if type(value) is not int or not low <= value <= high:
            raise _refuse(f"a whole number, {_range(low, high)}", value)
        return value

    return rule


def number(low: float = -math.inf, high: float = math.inf, above: bool = False) -> Rule:
    """above: low itself is none."""

    def rule(value):
        fine = type(value) in (int, float) and math.isfinite(value) and low <= value <= high
        if not fine or (above and value == low):
            limits = "" if low == -math.inf else f", {_range(low, high)}"
            raise _refuse("a number" + (f" above {low}" if above else limits), value)
        return value

    return rule


def text(value):
    if not isinstance(value, str):
        raise _refuse("a text", value)
    return value


def flag(value):
    if not isinstance(value, bool):
        raise _refuse("true or false", value)
    return value


def choice(*allowed: str) -> Rule:
    def rule(value):
        if not isinstance(value, str) or value not in allowed:
            raise _refuse(" or ".join(allowed), value)
        return value

    return rule


def exactly(n: int, each: Rule) -> Rule:
    def rule(value):
        if not isinstance(value, (list, tuple)) or len(value) != n:
            raise _refuse(f"{n} numbers in brackets", value)
        return tuple(each(v) for v in value)

    return rule


def pair(each: Rule) -> Rule:
    def rule(value):
        low, high = exactly(2, each)(value)
        if low > high:
            raise _refuse("the smaller number first", value)
        return low, high

    return rule


def several(each: Rule) -> Rule:
    def rule(value):
        if not isinstance(value, (list, tuple)) or not value:
            raise _refuse("a list of at least one", value)
        return tuple(each(v) for v in value)

    return rule


def weights(each: Rule) -> Rule:
    """A table of weights, not all zero; each: of its keys."""

    def rule(value):
        if not isinstance(value, dict):
            raise _refuse("a table of weights", value)
        found = {each(key): number(0)(weight) for key, weight in value.items()}
        if not sum(found.values()) > 0:
            raise _refuse("a weight above 0", value)
        return found

    return rule


def table(found, rules: Mapping[str, Rule], required: Iterable[str] = ()) -> dict:
    """found, every value checked; ValueError names the key that is unknown, missing or wrong."""
    if not isinstance(found, dict):
        raise _refuse("a table", found)
    if unknown := sorted(set(found) - set(rules)):
        raise ValueError(f"unknown key {unknown[0]!r}; known: {', '.join(sorted(rules))}")
    if missing := [key for key in required if key not in found]:
        raise ValueError(f"{missing[0]} is missing")
    checked = {}
    for key, value in found.items():
        try:
            checked[key] = rules[key](value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    return checked
