# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers with their 95 % intervals as cells of markdown tables."""

import math
from collections.abc import Sequence

from deeprx_common.report_view import difference


def markdown_table(head: list[str], lines: list[list[str]]) -> str:
    every = [head, ["---"] * len(head), *lines]
    width = [max(len(line[i]) for line in every) for i in range(len(head))]
    return "\n".join(
        f"| {' | '.join(c.ljust(w) for c, w in zip(line, width, strict=True))} |" for line in every
    )


def rate_cell(value: float, ci95: Sequence[float]) -> str:
    if not value:
        return f"< {ci95[1]:.1g}"
    half = (ci95[1] - ci95[0]) / 2 / value
    if half > 0.5:  # too skewed for one number
        return f"{value:.3g} [{ci95[0]:.1g}, {ci95[1]:.1g}]"
    return f"{value:.3g} ± {half:.0%}"


def crossing_cell(sinr_db: float | None, ci95: Sequence[float | None]) -> str:
    """SINR in dB at which a curve crosses something; None or infinite where it does not, as an end
    of the interval outside of the SINRs that there were.
    """
    if sinr_db is None or not math.isfinite(sinr_db):
        return "-"
    low, high = ("-" if v is None or not math.isfinite(v) else f"{v:.2f}" for v in ci95)
    return f"{sinr_db:.2f} [{low}, {high}]"


def percent_cell(share: float, ci95: Sequence[float] | None, clusters: int) -> str:
    """Of a difference."""
    return difference(share, ci95, clusters, "+.1%")


def gain_cell(db: float | None, *intervals: Sequence[float | None]) -> str:
    """dB; each interval is left out where an end is none."""
    if db is None or not math.isfinite(db):
        return "-"
    ends = [i for i in intervals if None not in i and all(map(math.isfinite, i))]
    return " ".join([f"{db:+.2f}", *(f"[{low:+.2f}, {high:+.2f}]" for low, high in ends)])
