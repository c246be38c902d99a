# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx info: what a model file says of itself, read without running it."""

import json

from rich.console import Console
from rich.table import Table

from ..model_file import read_model_file


def add(commands) -> None:
    parser = commands.add_parser("info", help="what a model file says of itself")
    parser.add_argument("model", nargs="+", metavar="MODEL.pt")
    parser.set_defaults(run=run)


def run(arguments) -> int:
    console = Console(highlight=False)
    for path in arguments.model:
        model = read_model_file(path)
        table = Table(title=str(path), title_justify="left", show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for key, value in model.metadata.items():
            table.add_row(key, *_cells(key, value))
        table.add_row("file size", f"{model.path.stat().st_size:,} bytes")
        table.add_row("sha256", model.sha256)
        console.print(table)
    return 0


def _cells(key: str, value) -> list[str]:
    if key == "dmrs" and value is None:
        return ["any"]
    if isinstance(value, int) and not isinstance(value, bool):
        return [f"{value:,}"]
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [
            "\n".join(
                f"{k}: {v if isinstance(v, str) else json.dumps(v)}" for k, v in value.items()
            )
        ]
    return [json.dumps(value)]
