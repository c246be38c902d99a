# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of several commands."""

import argparse
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from deeprx_common.trusted import hash_of

from ..values import check, whole


def add_out(parser) -> None:
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder for the results"
    )


def add_cache(parser) -> None:
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="keep drawn slots and the teacher's LLRs here, for other runs on the same data: 70 kB "
        "a slot each, in memory (/dev/shm) or on a disk; pays where recipes repeat their batches "
        "('distinct')",
    )


def add_address(parser) -> None:
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="of a Ray cluster's head, whose machines share this folder and those that options "
        "name on one disk (default: this machine alone, on loopback)",
    )


def add_scale(parser, required: bool = False) -> None:
    parser.add_argument(
        "--scale",
        default="",
        required=required,
        metavar="NAME",
        help="one of the experiment file's, where it has scales",
    )


def add_recipe(parser, required: bool = False) -> None:
    parser.add_argument(
        "--recipe",
        required=required,
        metavar="RECIPE.toml",
        help="the recipe that trained it; goes into the file with its hash",
    )


def add_device(parser) -> None:
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        metavar="NAME",
        help="cpu, cuda, or auto: a GPU if there is one (default: %(default)s)",
    )


def device_of(arguments) -> str:
    """cpu or cuda. ValueError where a GPU was asked for and there is none."""
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: a GPU was asked for, but torch finds none; use cpu")
    return "cuda" if arguments.device != "cpu" and torch.cuda.is_available() else "cpu"


def value(kind: type) -> Callable[[str], int | float]:
    """An argparse type: a number as schema's types say."""

    def parse(text: str) -> int | float:
        try:
            return check(kind, _number(text))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def add_threads(parser) -> None:
    parser.add_argument(
        "--threads",
        type=value(whole(1, 1024)),
        metavar="N",
        help="CPU threads (default: all cores)",
    )


def set_threads(arguments) -> None:
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)


def add_trust(parser) -> None:
    parser.add_argument(
        "--trust",
        type=hash_of,
        action="append",
        default=[],
        metavar="FILE.pt",
        help="run this model file's program although it does not ship, or import the class that "
        "this checkpoint names: one that you know who made; may be given more than once",
    )


def add_compile(parser) -> None:
    parser.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile the demapper of hybrid nets, where small ones spend most of a step: "
        "half a minute more to start, less for each step",
    )


def add_model_file(parser) -> None:
    """Arguments of what writes a model file, behind the receiver's."""
    add = parser.add_argument
    add("file", metavar="FILE.pt", help="the model file to write")
    add("--name", help="default: the file's name")
    add(
        "--kind",
        choices=["teacher", "student", "baseline"],
        default="student",
        help="what the file says it is (default: %(default)s)",
    )
    add(
        "--openvino",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="carry the net as OpenVINO IR, too, for the block's faster engine (where OpenVINO can "
        "express it: no complex numbers)",
    )
    add(
        "--report",
        action="append",
        default=[],
        metavar="FILE",
        help="report.json of an evaluation, whose BER table goes into the file; repeat for more",
    )
    add(
        "--parity",
        metavar="FILE.npz",
        help="also write slots and this net's LLRs, for `./dev run deeprx parity` to check the "
        "model file in the receiver block",
    )
    add_threads(parser)


def write_model_file(
    arguments,
    net,
    described: dict | None,
    kind: str,
    n_rx: list[int],
    precision: str,
    training: dict,
):
    """The model file of a command with add_model_file()."""
    from ..export.describe import EVERY_KIND, antennas, shown_slots, trained_on, trained_slots
    from ..export.export import ber_table, export
    from ..receivers.contract import knows_layers
    from ..teaching.recipe import conditions_of

    file = arguments.file
    name = arguments.name or Path(file).stem
    conditions = conditions_of(training["recipe"]) if training else None
    if knows_layers(net):  # any slot, if there is no recipe to say otherwise
        kinds = conditions or EVERY_KIND
        takes = {"slots": shown_slots(kinds)}
        n_rx = antennas(kinds)
    else:
        takes = trained_slots(conditions) if conditions else {}
    metadata = export(
        net,
        file,
        name,
        kind,
        n_rx,
        precision=precision,
        described=described,
        training=training,
        ber=ber_table(arguments.report, name),
        parity=arguments.parity,
        openvino=arguments.openvino,
        trained=conditions and trained_on(conditions),
        **takes,
    )
    flop = metadata["flop_per_slot"]
    print(
        f"{file}: {name}, {metadata['params']} parameters, "
        f"{(flop['matmul'] + flop['other']) / 1e9:.3f} GFLOP per {flop['n_prb']}-PRB slot, "
        f"{Path(file).stat().st_size / 1e3:.0f} kB, LLRs checked against eager PyTorch"
    )
