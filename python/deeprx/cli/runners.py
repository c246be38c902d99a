# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands share that run receivers without a flowgraph, in turns.

Here and in those commands PyTorch is imported where it is used: it takes seconds, which other
commands need not wait for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from deeprx_common import energy
from deeprx_common.shipped import shipped_models

from ..models.file import read_model_file
from .options import METERING, SLOT, Unset, add_options, slot_config

if TYPE_CHECKING:
    from ..models.runner import ModelRunner


def add_receivers(parser) -> None:
    """Options that make_runners() and the profile's machine have in common."""
    add_options(parser, receiver=Unset("the shipped ones"))
    add_options(parser, "engine", "device", "threads", *SLOT, "n_rx", *METERING)


def make_runners(
    arguments, batches: Sequence[int] = (1,), precisions: Sequence[str | None] = (None,)
) -> list[ModelRunner]:
    """A runner of each receiver that was asked for, at each batch size and precision.

    precisions: None for what the receiver block runs; others than a file's own are TorchScript's.
    """
    from ..models.runner import EngineRunner, TorchScriptRunner

    a = arguments
    if a.engine == "openvino" and any(precisions):
        raise ValueError("--precision changes TorchScript only: leave out --engine openvino")
    config = slot_config(a)
    models = [read_model_file(path) for path in dict.fromkeys(a.receiver or shipped_models())]
    made = []
    for model in models:
        for precision in precisions:
            for batch in batches:
                slots = model, config, a.n_rx, a.device, batch
                if precision:
                    runner = TorchScriptRunner(*slots, precision)
                    runner.name += f", {precision}"
                else:
                    runner = EngineRunner(*slots, a.engine, a.threads)
                runner.name += f", batch {batch}" if batch > 1 else ""
                made.append(runner)
    for k, runner in enumerate(made):
        if runner.name in [other.name for other in made[:k]]:
            runner.name += f" ({runner.model.path})"
    return made


def compare(
    runners: list[ModelRunner],
    meter: energy.Meter,
    idle: energy.Idle | None,
    seconds: float,
) -> energy.Comparison:
    """Receivers measured in turns, by their runners' names."""
    return energy.Comparison(
        meter,
        {runner.name: runner for runner in runners},
        seconds,
        idle,
        bits_per_slot=runners[0].config.n_bits,
        attribute=runners[0].device == "cpu",
    )


def show_engines(runners: Sequence[ModelRunner], console: Console) -> None:
    """A line for each runner that says what computed."""
    for runner in runners:
        console.print(f"{runner.name}: {runner.description}", markup=False)


def set_threads(threads: int) -> None:
    if threads < 1:
        raise ValueError(f"--threads must be at least 1, got {threads}")
    import torch

    torch.set_num_threads(threads)
