# SPDX-License-Identifier: GPL-3.0-or-later
"""What both command lines make of their options: lists, ranges, names in any case, one-line errors.

Lists are comma-separated. A list of numbers may hold ranges: 6:18:3 is 6,9,12,15,18, and 6:9 is
6,7,8,9.
"""

import argparse
import math
import re
from collections.abc import Callable, Iterable

from .printable import printable


class Parser(argparse.ArgumentParser):
    """Says a mistake in one line, takes a list that begins with a negative number for a value, and
    has --debug, which is in the namespace where it was given.
    """

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self._negative_number_matcher = re.compile(r"-\.?\d")
        self.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show where an error arose",
        )

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {printable(message, 4000)} ({self.prog} --help)\n")


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """An argparse type: one of these names, in any case."""
    known = {name.upper(): name for name in names}

    def parse(text: str) -> str:
        if text.strip().upper() not in known:
            expected = ", ".join(known.values())
            raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
        return known[text.strip().upper()]

    return parse


def list_of(kind: Callable) -> Callable[[str], list]:
    """An argparse type: comma-separated values; of numbers also ranges, first:last[:step]."""

    def parse(text: str) -> list:
        try:
            return [value for part in text.split(",") for value in _values(part, kind)]
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"expected {_EXPECTED.get(kind, 'values')}, found {text!r}"
            ) from None

    return parse


_EXPECTED = {
    int: "whole numbers, as 2,11, or a range, as 0:8:2",
    float: "numbers, as 6,9,12, or a range, as 6:18:3",
}


def _values(text: str, kind: Callable) -> list:
    if kind not in (int, float) or ":" not in text:
        return [kind(text)]
    first, last, step = [kind(part) for part in f"{text}:1".split(":")[:3]]
    if text.count(":") > 2 or not step > 0 or not first <= last < first + 1000 * step:
        raise ValueError
    return [first + k * step for k in range(math.floor((last - first) / step + 1e-9) + 1)]
