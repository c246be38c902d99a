# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipes: one TOML file says everything about a training run, and its hash travels with the
model.
"""

import hashlib
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

from .data import Conditions
from .losses import LOSSES
from .receivers import build


@dataclass(frozen=True)
class Member:
    """One receiver of a run: its net, the weights of its losses (losses.LOSSES) and the
    distillation temperature.
    """

    name: str
    net: dict
    loss: dict = field(default_factory=lambda: {"bce": 1.0})
    temperature: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """What a run trains and on what. All members see the same batches, steps and optimiser.

    steps of batch slots each; lr warms up over warmup steps and falls linearly to zero from
    decay_from (a share of steps); optimizer: adamw or lamb (the DeepRx paper's); chunk: how many
    batches are drawn at once; distinct: how many batches there are before they come again (0: all
    are different); data_seed: of the slots, where it differs from seed, which draws the nets' first
    weights and the batches' order; teacher: file that members with a loss other than bce learn
    from; kd_until: share of the steps after which they go on with BCE alone; precision of the
    convolutions: float32, bfloat16, or auto: bfloat16 where the machine has it.
    """

    members: tuple[Member, ...]
    seed: int = 1
    steps: int = 1000
    batch: int = 64
    chunk: int = 4
    distinct: int = 0
    data_seed: int = -1
    optimizer: str = "adamw"
    precision: str = "auto"
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
    table.setdefault("data_seed", table.get("seed", Recipe.seed))
    recipe = Recipe(
        members=tuple(members), data=Conditions(**data), sha256=digest, text=text, **table
    )
    _check(recipe, path)
    return recipe


def _check(recipe: Recipe, path: Path) -> None:
    choices = {"optimizer": ("adamw", "lamb"), "precision": ("auto", "float32", "bfloat16")}
    for key, allowed in choices.items():
        if (found := getattr(recipe, key)) not in allowed:
            raise RecipeError(f"{path}: {key}: expected {' or '.join(allowed)}, found {found!r}")
    for key in ("steps", "batch", "chunk"):
        if (found := getattr(recipe, key)) < 1:
            raise RecipeError(f"{path}: {key}: expected at least 1, found {found}")
    if recipe.distinct % recipe.chunk:
        raise RecipeError(
            f"{path}: distinct: expected a multiple of chunk ({recipe.chunk}), "
            f"found {recipe.distinct}"
        )
    names = [m.name for m in recipe.members]
    if len(set(names)) < len(names):
        raise RecipeError(f"{path}: two members have one name: {', '.join(sorted(names))}")
    for m in recipe.members:
        if unknown := set(m.loss) - set(LOSSES):
            raise RecipeError(
                f"{path}: member {m.name}: unknown loss {sorted(unknown)[0]!r}; known: "
                + ", ".join(LOSSES)
            )
        if not recipe.teacher and (taught := [n for n in m.loss if n != "bce" and m.loss[n]]):
            raise RecipeError(
                f"{path}: member {m.name} learns from a teacher ({', '.join(taught)}), but the "
                "recipe names none"
            )
