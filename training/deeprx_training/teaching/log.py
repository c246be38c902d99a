# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run shows and writes while it trains: a progress bar, log.jsonl and TensorBoard."""

import json
import time
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from deeprx_common.terminal import make_console, progress_bar


class Log:
    """A context around the steps from first to last. slots: of a step; silent: neither shows nor
    writes, as all processes of a torchrun but one.
    """

    def __init__(self, out: Path, first: int, last: int, slots: int, silent: bool):
        self.file, self.slots, self._step, self._time = out / "log.jsonl", slots, first, None
        console = make_console()
        console.quiet = silent
        self._progress = progress_bar(console, "{task.completed:.0f}/{task.total:.0f} steps")
        self._task = self._progress.add_task("training", total=last, completed=first)
        self._board = None
        if not silent and first < last:
            self._board = SummaryWriter(out / "tensorboard", purge_step=first + 1)

    def __enter__(self) -> "Log":
        self._time = time.monotonic()
        self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()
        if self._board:
            self._board.close()

    def write(self, step: int, lr: float, losses: dict[str, dict[str, float]]) -> None:
        """losses: by member and part."""
        now = time.monotonic()
        rate = (step - self._step) * self.slots / max(now - self._time, 1e-9)
        self._step, self._time = step, now
        shown = [f"{n} {next(iter(parts.values())):.4f}" for n, parts in list(losses.items())[:3]]
        line = "  ".join([f"{rate:.0f} slots/s", *shown])
        self._progress.update(self._task, completed=step, description=line)
        if not self._board:
            return
        rounded = {n: {k: round(v, 5) for k, v in parts.items()} for n, parts in losses.items()}
        with self.file.open("a") as file:
            file.write(json.dumps({"step": step, "slots_per_s": round(rate, 1)} | rounded) + "\n")
        self._board.add_scalar("slots_per_s", rate, step)
        self._board.add_scalar("lr", lr, step)
        for name, parts in losses.items():
            for part, value in parts.items():
                self._board.add_scalar(f"{part}/{name}", value, step)
