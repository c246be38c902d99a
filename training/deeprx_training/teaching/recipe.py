# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipes: one TOML file says everything about a training run, and its hash travels with the
model.
"""

import hashlib
import json
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

from deeprx_common import limits
from deeprx_common.slot import MODULATIONS, N_SYMBOLS

from .. import rules
from ..data import seeds
from ..data.channels import TRAINING_CHANNELS, Conditions
from ..data.feed import BatchPlan
from ..receivers.nets import MAX_BITS, build
from .losses import LOSSES


@dataclass(frozen=True)
class Member:
    """One receiver of a run: its net, the weights of its losses (losses.LOSSES), the distillation
    temperature and, if it goes on from trained weights, their file.
    """

    name: str
    net: dict
    loss: dict = field(default_factory=lambda: {"bce": 1.0})
    temperature: float = 1.0
    start: str = ""


@dataclass(frozen=True)
class Recipe:
    """What a run trains and on what. All members see the same batches, steps and optimiser.

    steps of batch slots each; lr warms up over warmup steps and falls linearly to zero from
    decay_from (a share of steps); optimizer: adamw or lamb (the DeepRx paper's); chunk: how many
    batches are drawn at once; distinct: how many batches there are before they come again (0: all
    are different); data_seed: of the slots, where it differs from seed, which draws the nets' first
    weights and the batches' order; teacher: file that members with a loss other than bce learn
    from, sought like Member.start in the working directory, in the recipe's folder and in those
    above it; kd_until: share of the steps after which they go on with BCE alone; norm_until: share
    of the steps after which batch norms hold the statistics they have, and the nets learn with
    those that they are shipped with; precision of the convolutions: float32, bfloat16, or auto:
    bfloat16 where the machine has it.
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
    norm_until: float = 1.0
    data: Conditions = field(default_factory=Conditions)
    sha256: str = ""
    text: str = ""

    @property
    def plan(self) -> BatchPlan:
        return BatchPlan(
            self.data, self.batch, self.chunk, self.distinct, self.seed, self.data_seed
        )


class RecipeError(ValueError):
    """A recipe that cannot be run; the message is one line."""


def _symbols(key: str) -> tuple[int, ...]:
    """TOML keys are text: "2,11" = 0.75."""
    parts = key.split(",")
    symbols = tuple(int(p) for p in parts if p.strip().isdecimal())
    if len(symbols) != len(parts) or not 1 <= len(set(symbols)) == len(symbols) <= 2:
        raise ValueError(f'expected one or two DMRS symbols, e.g. "2,11", found {key!r}')
    if max(symbols) >= N_SYMBOLS:
        raise ValueError(f"expected symbols 0 to {N_SYMBOLS - 1}, found {key!r}")
    return symbols


_PROBABILITY = rules.number(0, 1)
_CONDITIONS = {
    "channels": rules.several(rules.choice(*TRAINING_CHANNELS)),
    "n_prb": rules.whole(6, 273),
    "n_rx": rules.whole(1, 4),
    "modulations": rules.weights(rules.choice(*MODULATIONS)),
    "dmrs": rules.weights(_symbols),
    "snr_db": rules.pair(rules.number(*limits.SNR_DB)),
    "sir_db": rules.pair(rules.number(*limits.SNR_DB)),
    "interferer": _PROBABILITY,
    "delay_spread_s": rules.pair(rules.number(*limits.DELAY_SPREAD_S)),
    "doppler_hz": rules.pair(rules.number(*limits.DOPPLER_HZ)),
    "time_domain": _PROBABILITY,
    "timing_samples": rules.pair(rules.number(-1000, 1000)),
    "cfo_hz": rules.number(0, 1e4),
    "cell_ids": rules.pair(rules.whole(0, 1007)),
}
_MEMBER = {
    "name": rules.text,
    "net": lambda spec: build(spec) and spec,
    "loss": rules.weights(rules.choice(*LOSSES)),
    "temperature": rules.number(0, 1000, above=True),
    "start": rules.text,
}
_RECIPE = {
    "seed": rules.whole(0),
    "steps": rules.whole(1),
    "batch": rules.whole(1),
    "chunk": rules.whole(1),
    "distinct": rules.whole(0),
    "data_seed": rules.whole(0),
    "optimizer": rules.choice("adamw", "lamb"),
    "precision": rules.choice("auto", "float32", "bfloat16"),
    "lr": rules.number(0, above=True),
    "weight_decay": rules.number(0),
    "warmup": rules.whole(0),
    "decay_from": rules.number(0, 1),
    "sinr_weight": rules.flag,
    "clip_grad": rules.number(0, above=True),
    "teacher": rules.text,
    "kd_until": rules.number(0, 1),
    "norm_until": rules.number(0, 1),
}


def located(reference: str, folder: Path) -> str:
    """A receiver's file, from the working directory, the folder or one above it; what is nowhere
    stays as it is.
    """
    file, colon, member = reference.partition(":")
    folder = folder.resolve()
    places = (Path(place) / file for place in ("", folder, *folder.parents))
    return f"{next((p for p in places if p.is_file()), file)}{colon}{member}"


def content_sha256(text: str) -> str:
    """Of what a TOML text says: comments, layout and the order of keys aside. Hexadecimal."""
    return hashlib.sha256(json.dumps(tomllib.loads(text), sort_keys=True).encode()).hexdigest()


def conditions_of(text: str) -> Conditions:
    """What a recipe's text draws its slots from; ValueError where its [data] is wrong."""
    return _conditions(tomllib.loads(text).get("data", {}))


def _conditions(data: dict) -> Conditions:
    return Conditions(**rules.table(data, _CONDITIONS))


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
    members, data = table.pop("members", []), table.pop("data", {})
    where = path
    try:
        table = rules.table(table, _RECIPE)
        where = f"{path} [data]"
        data = _conditions(data)
        made = []
        for k, member in enumerate(members if isinstance(members, list) else []):
            named = isinstance(member, dict) and member.get("name")
            where = f"{path}: member {named or k + 1}"
            member = Member(**rules.table(member, _MEMBER, required=("name", "net")))
            made.append(replace(member, start=located(member.start, path.parent)))
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from None
    table["teacher"] = located(table.get("teacher", ""), path.parent)
    table.setdefault("data_seed", table.get("seed", Recipe.seed))
    recipe = Recipe(
        members=tuple(made), data=data, sha256=content_sha256(text), text=text, **table
    )
    _check(recipe, path)
    return recipe


def _check(recipe: Recipe, path: Path) -> None:
    """What concerns several keys."""
    data = recipe.data
    if not recipe.members:
        raise RecipeError(f"{path}: no [[members]]: nothing to train")
    if recipe.distinct % recipe.chunk:
        raise RecipeError(
            f"{path}: distinct: expected a multiple of chunk ({recipe.chunk}), "
            f"found {recipe.distinct}"
        )
    if data.interferer and recipe.batch < 2:
        raise RecipeError(
            f"{path}: batch: expected at least 2: an interferer's channel is another slot's, found "
            f"{recipe.batch}"
        )
    for key in ("seed", "data_seed"):
        if getattr(recipe, key) in seeds.RESERVED.values():
            raise RecipeError(
                f"{path}: {key}: expected one that no evaluation or validation uses, found "
                f"{getattr(recipe, key)}"
            )
    names = [m.name for m in recipe.members]
    if len(set(names)) < len(names):
        raise RecipeError(f"{path}: two members have one name: {', '.join(sorted(names))}")
    bits = max(MODULATIONS[name] for name in data.modulations)
    for m in recipe.members:
        for key, usual, needed in (("n_rx", 2, data.n_rx), ("bits", MAX_BITS, bits)):
            found = m.net.get(key, usual)
            if found < needed or (key == "n_rx" and found != needed):
                raise RecipeError(
                    f"{path}: member {m.name}: {key}: expected {needed}, as [data] has it, "
                    f"found {found}"
                )
        if not recipe.teacher and (taught := [n for n in m.loss if n != "bce" and m.loss[n]]):
            raise RecipeError(
                f"{path}: member {m.name} learns from a teacher ({', '.join(taught)}), but the "
                "recipe names none"
            )
