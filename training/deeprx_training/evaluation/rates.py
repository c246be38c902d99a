# SPDX-License-Identifier: GPL-3.0-or-later
"""Code rates. Apart from the code itself, which loads Sionna."""

from fractions import Fraction

LOWEST, HIGHEST = Fraction(1, 3), Fraction(11, 12)


def code_rate(text: str) -> Fraction:
    """Of "1/2". ValueError where it is none, or the code has none such."""
    try:
        rate = Fraction(text)
        if LOWEST <= rate <= HIGHEST:
            return rate
    except (ValueError, ZeroDivisionError):
        pass
    raise ValueError(f"expected a code rate from {LOWEST} to {HIGHEST}, as 1/2, found {text!r}")
