# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of error rates. matplotlib is loaded when one is drawn."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from .files import replacing


@contextmanager
def figure(
    path: str | os.PathLike,
    panels: int = 1,
    *,
    columns: int = 4,
    size: tuple[float, float] = (4.5, 4.3),
    one_scale: bool = False,
    title: str = "",
    legend: str | None = "small",
) -> Iterator[list]:
    """So many axes, at most columns in a row, written to path as a picture when the body ends;
    where it raises nothing is written.

    Titles and legends may be a stranger's: in these "$" is a letter as any other, and one that the
    font lacks is a box. size: of a panel, inches. one_scale: panels share their vertical axis.
    legend: its font size; None: there is none.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.text import Text

    rows = -(-panels // columns)
    columns = -(-panels // rows)
    picture, axes = pyplot.subplots(
        rows, columns, figsize=(0.5 + size[0] * columns, 0.5 + size[1] * rows),
        sharey=one_scale, squeeze=False, layout="constrained",
    )  # fmt: skip
    try:
        for axis in axes.flat[panels:]:
            axis.remove()
        shown = list(axes.flat[:panels])
        yield shown
        for axis in shown:
            axis.grid(True, which="both", alpha=0.3)
            axis.title.set_fontsize("small")
            texts = [part for part in axis.get_children() if isinstance(part, Text)]
            if legend and axis.get_legend_handles_labels()[0]:
                texts += axis.legend(fontsize=legend).get_texts()
            for text in texts:
                text.set_parse_math(False)
        if title:
            picture.suptitle(title, fontsize="small", parse_math=False)
        with replacing(path) as temporary, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph|constrained_layout not applied")
            picture.savefig(temporary, dpi=120)
    finally:
        pyplot.close(picture)


def curve_style(k: int) -> dict:
    """Colour and marker of the k-th curve; those after the tenth in lighter colours."""
    from matplotlib import colormaps

    colour = colormaps["tab20"](2 * (k % 10) + (k // 10) % 2)
    return {"color": colour, "marker": "osDv^<>pP*"[k % 10], "markersize": 4}


def rate_curve(axis, x: Sequence, rates: Sequence, ci95: Sequence, label: str, **style) -> None:
    """Rates with intervals on a logarithmic axis; one without errors is an arrow down from its
    bound.
    """
    axis.set_yscale("log")
    order = np.argsort(x)
    x, rates = (np.asarray(v, float)[order] for v in (x, rates))
    low, high = np.asarray(ci95, float)[order].T
    seen = rates > 0
    if seen.any():
        error = np.maximum([rates - low, high - rates], 0)[:, seen]
        axis.errorbar(x[seen], rates[seen], error, label=label, capsize=2, **style)
    for at, bound in zip(x[~seen], high[~seen], strict=True):
        axis.errorbar([at], [bound], [bound / 2], uplims=True, **(style | {"marker": ""}))
