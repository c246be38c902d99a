# SPDX-License-Identifier: GPL-3.0-or-later
"""What a modelled joule is: seconds that a core or a board was busy, times its stated watts."""

from dataclasses import dataclass

# Where nobody says otherwise: rated power. Of a server processor over its cores (EPYC 9654: 360 W,
# 96 cores), and of an H100 SXM's board.
CORE_W = 4.0
BOARD_W = 700.0


@dataclass(frozen=True)
class Price:
    """The one price of modelled joules, wherever they stand.

    device: "cpu", whose busy seconds are CPU time, worker threads included, or a GPU, whose are
    inference time. stated_w: of a busy core, or of the busy board; None: CORE_W, or BOARD_W.

    Raises ValueError unless stated_w is above 0.
    """

    device: str = "cpu"
    stated_w: float | None = None

    def __post_init__(self):
        if self.stated_w is not None and not 0 < self.stated_w < float("inf"):
            raise ValueError(f"watts of a busy core must be above 0, got {self.stated_w:g}")

    @property
    def watts(self) -> float:
        return self.stated_w or (CORE_W if self.device == "cpu" else BOARD_W)

    def joules(self, busy_s: float) -> float:
        return self.watts * busy_s

    def __str__(self) -> str:
        """The model's name in reports, with its assumption."""
        what = ("CPU", "a busy core") if self.device == "cpu" else ("inference", "of the board")
        known = "given" if self.stated_w else "assumed"
        return f"{what[0]} time x {self.watts:g} W {what[1]}, {known}"
