# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring in turns."""

from collections.abc import Iterable


def in_turns(items: Iterable, k: int) -> list:
    """The order of round k: every other one goes backwards, so that a steady drift of clock,
    temperature or other load strikes all alike.
    """
    order = list(items)
    return order[::-1] if k % 2 else order
