# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipes: one TOML file says everything about a training run, and its hash travels with the
model.
"""

import hashlib
import json
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from deeprx_common.files import read_regular
from deeprx_common.printable import printable

from ..data import seeds
from ..data.channels import TRAINING_CHANNELS
from ..data.conditions import Conditions
from ..data.feed import BatchPlan
from ..receivers.build import NETS, build, check_takes, import_class, is_class
from ..receivers.contract import knows_layers
from ..receivers.norms import kind_norms
from ..reference import Reference
from ..values import LINE, Text, check, number, parse_toml, several, table_of, weights, whole
from .losses import LOSSES, SHOWN, TAUGHT


@table_of
@dataclass(frozen=True)
class Member:
    """One receiver of a run.

    name: by which CHECKPOINT:MEMBER and the tables call it.
    net: net = "HybridRx" or another of receivers.build.NETS, or "module:Class" of your own, and
        that class's arguments.
    loss: weights of its losses: bce on the bits; kl, skew_kl, mse and hint on the teacher's LLRs;
        of nets like PuschRx that show their estimates, channel on the true channel and symbols on
        the noise that those sent show in those received.
    temperature: of kl and skew_kl, by which LLRs are divided.
    start: checkpoint or model file whose weights it goes on from, sought like Recipe.teacher.
    """

    name: Text
    net: dict[str, Any]
    loss: weights(Literal[LOSSES]) = field(default_factory=lambda: {"bce": 1.0})
    temperature: number(0, 1000, above=True) = 1.0
    start: Text = ""

    @property
    def lessons(self) -> list[str]:
        """Its losses that ask a teacher."""
        return [name for name, weight in self.loss.items() if weight and name in TAUGHT]

    @property
    def shown(self) -> list[str]:
        """Its losses that are on what the net shows of itself."""
        return [name for name, weight in self.loss.items() if weight and name in SHOWN]

    def weights(self, with_teacher: bool) -> dict[str, float]:
        """Of its losses, while its teacher is asked or later."""
        if with_teacher or not self.lessons:
            return self.loss
        return {"bce": 1.0} | {name: self.loss[name] for name in self.shown}


@table_of
@dataclass(frozen=True)
class Recipe:
    """What a run trains and on what. All members see the same batches, steps and optimiser.

    members: the receivers, one table [[members]] each.
    seed: of the nets' first weights and of the batches' order.
    steps: of the optimiser, each over batch slots.
    batch: slots a step.
    chunk: how many batches are drawn at once.
    distinct: how many batches there are before they come again; 0: all are different.
    data_seed: of the slots, where it differs from seed.
    optimizer: adamw, or lamb (the DeepRx paper's).
    precision: of the convolutions; auto: bfloat16 where the machine has it.
    lr: learning rate after the warm-up.
    weight_decay: of the optimiser.
    warmup: steps over which the learning rate rises from zero.
    decay_from: share of the steps from which the learning rate falls, linearly to zero.
    slot_weight: how much each slot weighs. none: alike; sinr: log2(1 + SINR), as few errors are
        left at high SINR, and they are the floor; error: one over its own cross-entropy (and 0.03
        nats), so that a slot of any SINR teaches as much.
    clip_grad: norm above which gradients are scaled down.
    teacher: file that members with losses on its LLRs learn from, sought in the working directory,
        in the recipe's folder and in those above it.
    classes: "module:Class" of yours that the teacher's checkpoint, or one to start from, names, and
        no member does. A checkpoint alone has nothing imported.
    kd_until: share of the steps after which members go on without it, with bce in its place.
    norm_until: share of the steps after which batch norms hold the statistics they have, and the
        nets learn with those that they are shipped with.
    settle: whole slots of each modulation and DMRS pattern over which the statistics of batch norms
        are averaged anew after the last step; 0: they stay those of the last batches.
    crop_prb: PRBs of the slots that are trained on, where they are fewer than data's; 0: all.
    data: what slots are drawn from, the table [data].
    """

    members: several(Member)
    seed: whole(0) = 1
    steps: whole(1) = 1000
    batch: whole(1) = 64
    chunk: whole(1) = 4
    distinct: whole(0) = 0
    data_seed: whole(0) | None = None
    optimizer: Literal["adamw", "lamb"] = "adamw"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    lr: number(0, above=True) = 3e-3
    weight_decay: number(0) = 1e-4
    warmup: whole(0) = 200
    decay_from: number(0, 1) = 0.3
    slot_weight: Literal["none", "sinr", "error"] = "sinr"
    clip_grad: number(0, above=True) = 1.0
    teacher: Text = ""
    classes: several(Text, 0) = ()
    kd_until: number(0, 1) = 1.0
    norm_until: number(0, 1) = 1.0
    settle: whole(0) = 0
    crop_prb: whole(0) = 0
    data: Conditions = field(default_factory=Conditions)
    sha256: str = ""
    text: str = ""
    folder: str = ""

    @property
    def plan(self) -> BatchPlan:
        data = self.data.cropped(self.crop_prb) if self.crop_prb else self.data
        return BatchPlan(data, self.batch, self.chunk, self.distinct, self.seed, self.data_seed)


class RecipeError(ValueError):
    """A recipe that cannot be run; the message is one line."""


def located(reference: str, folder: Path) -> str:
    """A receiver's file, from the working directory, the folder or one above it; what is nowhere
    stays as it is.
    """
    named, folder = Reference.parse(reference), folder.resolve()
    places = (Path(place) / named.file for place in ("", folder, *folder.parents))
    file = next((p for p in places if p.is_file()), None)
    return str(replace(named, file=file)) if file else reference


def content_sha256(text: str) -> str:
    """Of what a TOML text says: comments, layout and the order of keys aside. Hexadecimal."""
    return hashlib.sha256(json.dumps(tomllib.loads(text), sort_keys=True).encode()).hexdigest()


def conditions_of(text: str) -> Conditions:
    """What a recipe's text draws its slots from; ValueError where it is none, or its [data] is
    wrong.
    """
    if not isinstance(text, str):
        raise ValueError(f"expected a recipe's text, found a {type(text).__name__}")
    return check(Conditions, parse_toml(text).get("data", {}))


def load(path: str | Path) -> Recipe:
    """Read and check a recipe; RecipeError is one line that names the file and the key."""
    path = Path(path)
    try:
        text = read_regular(path).decode()
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not a TOML recipe: {error}") from None
    return parse(text, str(path), path.parent)


def parse(text: str, where: str, folder: Path = Path()) -> Recipe:
    """A recipe's text as a Recipe; where: what errors call it; folder: beside which files and
    modules are that it names.
    """
    try:
        table = parse_toml(text)
        if set_here := {"sha256", "text", "folder"} & set(table):
            raise ValueError(f"unknown key {min(set_here)!r}")
        recipe = check(Recipe, table)
        recipe = replace(
            recipe,
            members=tuple(replace(m, start=located(m.start, folder)) for m in recipe.members),
            teacher=located(recipe.teacher, folder),
            data_seed=recipe.seed if recipe.data_seed is None else recipe.data_seed,
            sha256=content_sha256(text),
            text=text,
            folder=str(folder),
        )
        _check(recipe, folder)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{where}: not a TOML recipe: {error}") from None
    except ValueError as error:
        raise RecipeError(printable(f"{where}: {error}", LINE)) from None
    return recipe


def _check(recipe: Recipe, folder: Path) -> None:
    """What concerns several keys; ValueError."""
    data = recipe.data
    if unknown := set(data.channels) - set(TRAINING_CHANNELS):
        raise ValueError(
            f"data.channels: expected some of {', '.join(TRAINING_CHANNELS)}, found "
            f"{min(unknown)!r}"
        )
    if recipe.distinct % recipe.chunk:
        raise ValueError(
            f"distinct: expected a multiple of chunk ({recipe.chunk}), found {recipe.distinct}"
        )
    if data.interferer and recipe.batch < 2:
        raise ValueError(
            "batch: expected at least 2: an interferer's channel is another slot's, found "
            f"{recipe.batch}"
        )
    for key in ("seed", "data_seed"):
        if getattr(recipe, key) in seeds.RESERVED.values():
            raise ValueError(
                f"{key}: expected one that no evaluation or validation uses, found "
                f"{getattr(recipe, key)}"
            )
    if recipe.crop_prb and not 6 <= recipe.crop_prb <= data.n_prb:
        raise ValueError(f"crop_prb: expected 0 or 6 to {data.n_prb}, found {recipe.crop_prb}")
    for name in recipe.classes:
        if not is_class(name):
            raise ValueError(f"classes: expected module:Class, found {name!r}")
        import_class(name, [folder])
    names = [m.name for m in recipe.members]
    if len(set(names)) < len(names):
        raise ValueError(f"two members have one name: {', '.join(sorted(names))}")
    for m in recipe.members:
        try:
            if is_class(name := m.net.get("net")):
                import_class(name, [folder])
            net = build(m.net)
        except ValueError as error:
            raise ValueError(f"members {m.name}: net: {error}") from None
        n_rx = m.net.get("n_rx", 2)
        if type(net) in NETS.values() and not knows_layers(net):
            if n_rx != data.n_rx:
                raise ValueError(
                    f"members {m.name}: n_rx: expected {data.n_rx}, as [data] has it, found {n_rx}"
                )
            if data.min_rx not in (0, n_rx):
                raise ValueError(
                    f"data.min_rx: expected {n_rx}, as many antennas as {m.name} has, found "
                    f"{data.min_rx}"
                )
        try:
            check_takes(net, data)
        except ValueError as error:
            raise ValueError(f"data.{error}: {m.name} takes no others") from None
        if m.shown and not hasattr(net, "exits"):
            raise ValueError(
                f"members {m.name}: loss.{m.shown[0]}: expected a net that shows its estimates, "
                f"found a {type(net).__name__}"
            )
        if recipe.settle and not kind_norms(net):
            raise ValueError(
                f"members {m.name}: settle: expected a net whose batch norms keep statistics for "
                f"each kind of slot, found a {type(net).__name__}"
            )
        if m.lessons and not recipe.teacher:
            raise ValueError(
                f"members {m.name} learns from a teacher ({', '.join(m.lessons)}), but the recipe "
                "names none"
            )
