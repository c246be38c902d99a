# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of parameters: ValueError with one line that says what was expected and what was found."""

import math
from collections.abc import Iterable
from numbers import Integral, Real


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _shown(value) -> str:
    return str(value) if _is_number(value) else f"{value!r:.80}"


def check_range(
    name: str, value: float, low: float, high: float = math.inf, unit: str = ""
) -> None:
    """value must be a number, low to high, both included, and finite."""
    if _is_number(value) and low <= value <= high and abs(value) < math.inf:
        return
    expected = f"at least {low}" if high == math.inf else f"{low} to {high}"
    if (low, high) == (-math.inf, math.inf):
        expected = "a finite number"
    raise ValueError(f"{name} must be {expected}{unit and ' ' + unit}, got {_shown(value)}")


def check_whole(
    name: str, value: int, low: float = -math.inf, high: float = math.inf, unit: str = ""
) -> None:
    """value must be a whole number, low to high, both included; no float, no bool."""
    if not (_is_number(value) and isinstance(value, Integral)):
        raise ValueError(f"{name} must be a whole number, got {_shown(value)}")
    check_range(name, value, low, high, unit)


def check_above(name: str, value: float, low: float, unit: str = "") -> None:
    """value must be above low, and finite."""
    if not (_is_number(value) and low < value < math.inf):
        raise ValueError(f"{name} must be above {low}{unit and ' ' + unit}, got {_shown(value)}")


def check_one_of(name: str, value, names: Iterable) -> None:
    """value must be one of names."""
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(map(str, names))}, got {value!r}")
