# SPDX-License-Identifier: GPL-3.0-or-later
"""Trained receivers out of checkpoints and model files."""

import io
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from deeprx_common.model_archive import ModelArchive, ModelFileError, read_model_file
from deeprx_common.model_schema import expect_contract
from deeprx_common.printable import printable
from deeprx_common.schema import parse_json
from deeprx_common.shipped import shipped_names
from deeprx_common.trusted import is_trusted

from ..files import TrainingError, read_hashed_tensors
from ..receivers import weights
from ..receivers.build import (
    NETS,
    ForeignClass,
    build_with,
    described,
    import_class,
    is_class,
)
from ..receivers.contract import LayerOf, of_one_layer
from ..receivers.int8 import select_engine
from ..receivers.realtime import RealtimeRx
from ..reference import Reference
from .recipe import Recipe


@dataclass(frozen=True)
class ReceiverFile:
    """A receiver out of a file that was read once.

    name: the member's, or the model file's. net: in eval mode. sha256: of the file, hexadecimal.
    metadata: a model file's; a checkpoint has none. recipe_sha256: of the recipe that a checkpoint
    was trained by; None of a model file. described: the net, as described() has it; None for one
    from elsewhere.
    """

    reference: Reference
    name: str
    net: nn.Module
    sha256: str
    metadata: dict
    recipe_sha256: str | None
    described: dict | None


def read_receiver(
    reference: str, rebuild: bool = False, trust: Collection[str] = ()
) -> ReceiverFile:
    """Of "CHECKPOINT[:MEMBER[@ROUNDS]]" of a training run, or an exported "FILE.pt". ROUNDS cuts a
    RealtimeRx short.

    Checkpoints are unpickled safely. One of a class that no recipe has named comes only if trust
    holds its SHA-256. With rebuild comes the net; a model file's is in float32, of
    its weights, which are read as data. Else comes a receiver of one layer; a model file's is its
    program as it was shipped, in its own precision: one that ships, or whose SHA-256 trust holds.
    TrainingError says in one line what is wrong with the file.
    """
    named = Reference.parse(reference)
    path = named.file
    if not path.exists():
        raise TrainingError(
            f"{path}: no such checkpoint or model file; those that ship: {shipped_names()}"
        )
    if named.is_model_file:
        archive = read_model(path)
        about = archive.metadata
        try:
            expect_contract(about)
        except ValueError as error:
            raise TrainingError(f"{path}: {error}") from None
        net = _rebuilt(path, archive) if rebuild else _program(path, archive, trust)
        sha256 = archive.sha256
        return ReceiverFile(named, path.stem, net.eval(), sha256, about, None, about.get("net"))
    state, sha256 = _hashed_checkpoint(path)
    member = named.member or next(iter(state["specs"]))
    net, spec = _member(path, state, member, named.rounds, is_trusted(sha256, trust))
    if not (rebuild or named.rounds):
        net = of_one_layer(net)
    known = described(spec) if spec.get("net") in NETS else None
    name = f"{member}@{named.rounds}" if named.rounds else member
    return ReceiverFile(named, name, net.eval(), sha256, {}, state["recipe_sha256"], known)


def _member(
    path: Path, state: dict, member: str, rounds: str, trusted: bool
) -> tuple[nn.Module, dict]:
    """A net, and its spec. trusted: whether Python may import what it names."""
    if member not in state["specs"]:
        raise TrainingError(f"{path}: holds {', '.join(state['specs'])}, not {member!r}")
    try:
        spec = parse_json(state["specs"][member])
        if trusted and isinstance(spec, dict) and is_class(spec.get("net")):
            import_class(spec["net"])
        net = build_with(spec, state["nets"][member])
    except ForeignClass as error:
        raise TrainingError(
            f"{path}: {member} {error}: --trust {path} has Python import it, if you know who made "
            "the checkpoint; in training, name it in the recipe's 'classes'"
        ) from None
    except ValueError as error:
        raise TrainingError(f"{path}: {member}: {error}") from None
    except (KeyError, RuntimeError) as error:
        raise TrainingError(damaged(path, member, error)) from None
    if not rounds:
        return net, spec
    if not (isinstance(net, RealtimeRx) and rounds.isdecimal() and int(rounds) <= len(net.rounds)):
        raise TrainingError(f"{path}: {member} cannot be cut to {rounds} rounds")
    net.rounds = net.rounds[: int(rounds)]
    return net, spec | {"rounds": int(rounds)}


def load_receiver(
    reference: str, rebuild: bool = False, trust: Collection[str] = ()
) -> tuple[str, nn.Module]:
    """(name, net) of read_receiver()."""
    read = read_receiver(reference, rebuild, trust)
    return read.name, read.net


def read_checkpoint(path: Path) -> dict:
    """A run's whole state; TrainingError where the file is none."""
    return _hashed_checkpoint(path)[0]


def _hashed_checkpoint(path: Path) -> tuple[dict, str]:
    what = "a checkpoint of a training run"
    state, sha256 = read_hashed_tensors(path, what)
    if not _is_checkpoint(state):
        raise TrainingError(f"{path}: expected {what}, found other tensors")
    if not state["specs"]:
        raise TrainingError(f"{path}: expected {what}, found one without a net")
    return state, sha256


def _is_checkpoint(state) -> bool:
    return (
        isinstance(state, dict)
        and isinstance(state.get("recipe_sha256"), str)
        and _is_by_name(state.get("specs"), str)
        and _is_by_name(state.get("nets"), dict)
        and all(_is_by_name(net, object) for net in state["nets"].values())
    )


def _is_by_name(values, kind: type) -> bool:
    return isinstance(values, dict) and all(
        isinstance(name, str) and isinstance(value, kind) for name, value in values.items()
    )


def damaged(path: str | Path, member: str, error: Exception) -> str:
    """One line for weights that do not fit their net."""
    reason = printable(str(error).splitlines()[-1], 300)
    return f"{path}: the weights of {member} are not those of the net that it names: {reason}"


def read_model(path: Path) -> ModelArchive:
    """A model file, of which nothing runs; TrainingError where it is none."""
    try:
        return read_model_file(path)
    except ModelFileError as error:
        raise TrainingError(str(error)) from None


def _program(path: Path, archive: ModelArchive, trust: Collection[str]) -> nn.Module:
    if not is_trusted(archive.sha256, trust):
        raise TrainingError(
            f"{path}: is a program, and not one that ships: --trust {path} runs it if you know who "
            "made it (`./dev run deeprx loopback` runs it without that, in a jail)"
        )
    select_engine()
    return LayerOf(torch.jit.load(io.BytesIO(archive.rewritten()), map_location="cpu"))


def _rebuilt(path: Path, archive: ModelArchive) -> nn.Module:
    spec = archive.metadata.get("net")
    if not spec:
        raise TrainingError(
            f"{path}: does not say which net it is, so its weights cannot be used apart from its "
            "program: expected a checkpoint, or the model file of one"
        )
    if not isinstance(spec, dict) or spec.get("net") not in list(NETS):
        raise TrainingError(
            f"{path}: is of a net that is none of {', '.join(NETS)}; give its checkpoint"
        )
    try:
        carried = weights.read(archive)
        if carried is None:
            raise TrainingError(f"{path}: holds rounded weights; give the file it was made from")
        return build_with(spec, carried)
    except ValueError as error:
        raise TrainingError(f"{path}: {error}") from None
    except RuntimeError as error:
        raise TrainingError(damaged(path, spec["net"], error)) from None


def provenance(recipe: Recipe, file: str, receiver: ReceiverFile) -> dict:
    """What a model file says about a receiver's training, by the recipe of a file; says so where
    the checkpoint is of another.
    """
    names = [m.name for m in recipe.members]
    if (name := receiver.name.partition("@")[0]) not in names:
        raise TrainingError(f"{file}: trains {', '.join(names)}, not {name}")
    trained_by = receiver.recipe_sha256
    if trained_by not in (None, recipe.sha256):
        print(
            f"{receiver.reference}: trained by a recipe with SHA-256 {trained_by[:12]}, not by "
            f"{file} ({recipe.sha256[:12]}), which the model file will name",
            file=sys.stderr,
        )
    return {
        "recipe": recipe.text,
        "recipe_sha256": recipe.sha256,
        "steps": recipe.steps,
        "batch": recipe.batch,
        "seed": recipe.seed,
        "dataset": "Sionna " + ", ".join(recipe.data.channels),
        "member": receiver.name,
    }
