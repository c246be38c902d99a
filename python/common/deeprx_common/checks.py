# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of parameters: ValueError with one line that says what was expected and what was found."""

import math
from collections.abc import Iterable


def check_range(
    name: str, value: float, low: float, high: float = math.inf, unit: str = ""
) -> None:
    """value must be low to high, both included, and finite."""
    if low <= value <= high and math.isfinite(value):
        return
    expected = f"at least {low}" if high == math.inf else f"{low} to {high}"
    raise ValueError(f"{name} must be {expected}{unit and ' ' + unit}, got {value}")


def check_above(name: str, value: float, low: float, unit: str = "") -> None:
    """value must be above low, and finite."""
    if not low < value < math.inf:
        raise ValueError(f"{name} must be above {low}{unit and ' ' + unit}, got {value}")


def check_one_of(name: str, value, names: Iterable) -> None:
    """value must be one of names."""
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(map(str, names))}, got {value!r}")
