# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands show: a console, progress, tables of numbers. Needs rich."""

from collections.abc import Callable, Iterable
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

FILE_WIDTH = 160  # characters: a file has no width to fold tables to


class _Console(Console):
    def on_broken_pipe(self):
        raise  # what rich ends the process for is run_command()'s to handle


def make_console() -> Console:
    """Where tables go: the terminal, or a file or pipe in its place. Texts are shown as they are:
    the brackets of a name are no markup.
    """
    plain = {"highlight": False, "markup": False, "emoji": False}
    console = _Console(**plain)
    return console if console.is_terminal else _Console(**plain, width=FILE_WIDTH)


def progress_bar(console: Console, counts: str = "", width: int = 0) -> Progress:
    """Description, bar, counts (with the task's fields) and time left; nothing in a file."""
    return Progress(
        TextColumn(f"{{task.description:{width}}}", markup=False),
        BarColumn(),
        TextColumn(f"{counts}  left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def steps(console: Console, total: int):
    """A progress bar, as a function to call with what each of so many steps does."""
    with progress_bar(console, width=30) as progress:
        task = progress.add_task("", total=total)
        yield lambda what, steps=1: progress.update(task, advance=steps, description=what)


def table(
    title: str, rows: Iterable, columns: Iterable[tuple[str, Callable]], left: int = 1
) -> Table:
    """A table of numbers: of each column its heading, and the text that it shows of a row. The
    first columns, so many as left says, are no numbers.
    """
    headings, cells = zip(*columns, strict=True)
    shown = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False, padding=0)
    for k, heading in enumerate(headings):
        shown.add_column(heading, justify="left" if k < left else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*(cell(row) for cell in cells))
    return shown


def number(value: float | None, scale: float = 1.0) -> str:
    """Three digits, without an exponent; "-" for None."""
    if value is None:
        return "-"
    rounded = float(f"{value * scale:.3g}")
    return f"{rounded:#.3g}".rstrip(".") if 1e-4 < abs(rounded) < 1000 else f"{rounded:.0f}"


def interval(ends: Iterable[float] | None, scale: float = 1.0) -> str:
    """Both ends as number(); "-" for None."""
    return "-" if ends is None else " ".join(number(end, scale) for end in ends)
