# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipes: one TOML file says everything about a training run, and its hash travels with the
model.
"""

import hashlib
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

from .data import Conditions
from .receivers import build


@dataclass(frozen=True)
class Member:
    """One receiver of a run: its net, loss weights (bce, kl, mse) and distillation temperature."""

    name: str
    net: dict
    loss: dict = field(default_factory=lambda: {"bce": 1.0})
    temperature: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """What a run trains and on what. All members see the same batches, steps and optimiser.

    steps of batch slots each; lr warms up over warmup steps and falls linearly to zero from
    decay_from (a share of steps); chunk: how many batches are drawn at once; teacher: file that
    the members with a kl or mse loss learn from; kd_until: share of the steps after which they go
    on with BCE alone.
    """

    members: tuple[Member, ...]
    seed: int = 1
    steps: int = 1000
    batch: int = 64
    chunk: int = 4
    lr: float = 3e-3
    weight_decay: float = 1e-4
    warmup: int = 200
    decay_from: float = 0.3
    sinr_weight: bool = True
    clip_grad: float = 1.0
    teacher: str = ""
    kd_until: float = 1.0
    data: Conditions = field(default_factory=Conditions)
    sha256: str = ""
    text: str = ""


class RecipeError(ValueError):
    """A recipe that cannot be run; the message is one line."""


def _known(cls, table: dict, where: str) -> dict:
    names = {f.name for f in fields(cls)} - {"sha256", "text"}
    if unknown := set(table) - names:
        raise RecipeError(
            f"{where}: unknown key {sorted(unknown)[0]!r}; known: {', '.join(sorted(names))}"
        )
    return table


def load(path: str | Path) -> Recipe:
    """Read and check a recipe; RecipeError is one line that names the file and the key."""
    path = Path(path)
    try:
        text = path.read_text()
        table = tomllib.loads(text)
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a TOML recipe: {error}") from None
    data = dict(_known(Conditions, table.pop("data", {}), f"{path} [data]"))
    if "dmrs" in data:  # TOML keys are strings: "2,11" = 0.75
        data["dmrs"] = {tuple(int(s) for s in key.split(",")): w for key, w in data["dmrs"].items()}
    data = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    members = []
    for m in table.pop("members", []):
        member = Member(**_known(Member, m, f"{path} [[members]]"))
        try:
            build(member.net)
        except ValueError as error:
            raise RecipeError(f"{path}: member {member.name}: {error}") from None
        members.append(member)
    if not members:
        raise RecipeError(f"{path}: no [[members]]: nothing to train")
    _known(Recipe, table, str(path))
    digest = hashlib.sha256(text.encode()).hexdigest()
    recipe = Recipe(
        members=tuple(members), data=Conditions(**data), sha256=digest, text=text, **table
    )
    if not recipe.teacher and (
        m := next((m for m in members if m.loss.get("kl") or m.loss.get("mse")), None)
    ):
        raise RecipeError(
            f"{path}: member {m.name} learns from a teacher (kl, mse), but the recipe names none"
        )
    return recipe
