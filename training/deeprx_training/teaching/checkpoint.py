# SPDX-License-Identifier: GPL-3.0-or-later
"""Trained receivers out of checkpoints and model files."""

import json
import sys
from pathlib import Path

import torch
from torch import nn

from deeprx_common.shipped import shipped_names

from ..files import TrainingError, read_tensors
from ..receivers.build import build
from ..receivers.int8 import select_engine
from ..receivers.realtime import RealtimeRx
from ..reference import Reference
from .recipe import Recipe


def load_receiver(reference: str, rebuild: bool = False) -> tuple[str, nn.Module]:
    """(name, net in eval mode) from "CHECKPOINT[:MEMBER[@ROUNDS]]" of a training run, or an
    exported "FILE.pt". ROUNDS cuts a RealtimeRx short.

    Checkpoints are unpickled safely. A model file is a program that this runs: trusted files only.
    It comes back as it was shipped, in its own precision, or with rebuild as a float32 net of its
    weights. TrainingError says in one line what is wrong with the file.
    """
    named = Reference.parse(reference)
    path = named.file
    if not path.is_file():
        raise TrainingError(
            f"{path}: no such checkpoint or model file; those that ship: {shipped_names()}"
        )
    if named.is_model_file:
        return path.stem, _from_model_file(path, rebuild)
    state = read_checkpoint(path)
    specs, rounds = state["specs"], named.rounds
    member = named.member or next(iter(specs))
    if member not in specs:
        raise TrainingError(f"{path}: holds {', '.join(specs)}, not {member!r}")
    try:
        net = build(json.loads(specs[member]))
    except ValueError as error:
        raise TrainingError(f"{path}: {member}: {error}") from None
    try:
        net.load_state_dict(state["nets"][member])
    except (KeyError, RuntimeError) as error:
        raise TrainingError(damaged(path, member, error)) from None
    if not rounds:
        return member, net.eval()
    if not (isinstance(net, RealtimeRx) and rounds.isdecimal() and int(rounds) <= len(net.rounds)):
        raise TrainingError(f"{path}: {member} cannot be cut to {rounds} rounds")
    net.rounds = net.rounds[: int(rounds)]
    return f"{member}@{rounds}", net.eval()


def recipe_of(reference: str) -> str | None:
    """SHA-256 of the recipe a checkpoint was trained by, hexadecimal; None for a model file."""
    named = Reference.parse(reference)
    return None if named.is_model_file else read_checkpoint(named.file)["recipe_sha256"]


def read_checkpoint(path: Path) -> dict:
    """A run's whole state; TrainingError where the file is none."""
    what = "a checkpoint of a training run"
    state = read_tensors(path, what)
    if not (isinstance(state, dict) and {"specs", "nets", "recipe_sha256"} <= set(state)):
        raise TrainingError(f"{path}: expected {what}, found other tensors")
    if not state["specs"]:
        raise TrainingError(f"{path}: expected {what}, found one without a net")
    return state


def damaged(path: str | Path, member: str, error: Exception) -> str:
    """One line for weights that do not fit their net."""
    reason = str(error).splitlines()[-1].strip()
    return f"{path}: the weights of {member} are not those of the net that it names: {reason}"


def _from_model_file(path: Path, rebuild: bool) -> nn.Module:
    extra = {"deeprx.json": ""}
    select_engine()
    try:
        script = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
        metadata = json.loads(extra["deeprx.json"])
        spec = (metadata.get("training") or {}).get("net")
    except (RuntimeError, ValueError, AttributeError):
        raise TrainingError(
            f"{path}: expected a model file with deeprx.json, found something else"
        ) from None
    if not rebuild:
        return script.eval()
    if not spec:
        raise TrainingError(
            f"{path}: says not which net it is; a teacher is exported with --recipe"
        )
    net = build(spec)
    if script.state_dict().keys() != net.state_dict().keys():
        raise TrainingError(f"{path}: holds rounded weights; give the file it was made from")
    net.load_state_dict(script.state_dict())
    return net.eval()


def provenance(recipe: Recipe, file: str, member: str, reference: str) -> dict:
    """What a model file says about the training of MEMBER[@ROUNDS], by the recipe of a file; says
    so where the checkpoint is of another.
    """
    nets = {m.name: m.net for m in recipe.members}
    name, _, rounds = member.partition("@")
    if name not in nets:
        raise TrainingError(f"{file}: trains {', '.join(nets)}, not {name}")
    trained_by = recipe_of(reference)
    if trained_by not in (None, recipe.sha256):
        print(
            f"{reference}: trained by a recipe with SHA-256 {trained_by[:12]}, not by {file} "
            f"({recipe.sha256[:12]}), which the model file will name",
            file=sys.stderr,
        )
    return {
        "recipe": recipe.text,
        "recipe_sha256": recipe.sha256,
        "steps": recipe.steps,
        "batch": recipe.batch,
        "seed": recipe.seed,
        "dataset": "Sionna " + ", ".join(recipe.data.channels),
        "member": member,
        "net": nets[name] | ({"rounds": int(rounds)} if rounds else {}),
    }
