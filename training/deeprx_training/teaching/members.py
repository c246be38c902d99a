# SPDX-License-Identifier: GPL-3.0-or-later
"""The nets of a recipe: as they begin, and one step of each."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from lightning_fabric import Fabric
from pytorch_optimizer import Lamb
from torch import Tensor, nn

from ..data.channels import SlotBatch
from ..files import TrainingError
from ..receivers.build import build
from ..receivers.contract import OneLayer, of_contract
from ..receivers.nets import DeepRx, HybridRx, PaperInputRx, last_hidden, slots_of_kind
from ..receivers.weights import put
from . import precision
from .checkpoint import damaged, load_receiver
from .graphs import StepGraphs
from .ledger import Ledger
from .losses import error_weight, objective, sinr_weight
from .recipe import Member, Recipe

# A batch has one modulation, so statistics that are to be held must come of many batches.
HELD_MOMENTUM = 0.01


class Members:
    """The nets of a recipe with their optimisers, by name, on a fabric's device.

    features: of their last hidden layers, where a hint asks for them, or None. quiet: within it
    no other thread uses the device.
    """

    def __init__(
        self,
        recipe: Recipe,
        fabric: Fabric,
        ledger: Ledger,
        compile_nets: bool = False,
        quiet: AbstractContextManager | None = None,
    ):
        self.recipe, self.fabric, self.ledger = recipe, fabric, ledger
        self.nets, self.optimizers, self.precision = {}, {}, {}
        self.features = Features() if any(m.loss.get("hint") for m in recipe.members) else None
        nets = [_begin(member, recipe) for member in recipe.members]
        share_classical(nets, compile_nets)
        self._graphs: dict[str, StepGraphs] = {}
        pool = torch.cuda.graph_pool_handle() if ledger.gpu else None
        for member, net in zip(recipe.members, nets, strict=True):
            try:
                kind = precision.of_training(net, recipe.precision, ledger.gpu)
                if member.loss.get("hint"):
                    self.features.watch(member.name, net)
            except ValueError as error:
                raise TrainingError(f"member {member.name}: {error}") from None
            net = precision.cast(net, kind, fabric.device)
            optimizer = _optimizer_of(net, recipe, ledger.gpu)
            self.precision[member.name] = kind
            net, self.optimizers[member.name] = fabric.setup(of_contract(net), optimizer)
            if member.shown:
                net.mark_forward_method("exits")
            self.nets[member.name] = net
            if ledger.gpu and self._is_graph(member):
                loss = partial(self._loss, member)
                self._graphs[member.name] = StepGraphs(
                    loss, net.parameters(), quiet or nullcontext(), pool
                )

    def _is_graph(self, member: Member) -> bool:
        """Whether a step of it asks the GPU for nothing on its way, and is one of few."""
        data = self.recipe.data
        return (
            isinstance(self.plain(member.name), DeepRx | PaperInputRx)
            and data.min_prb in (0, data.n_prb)
            and self.fabric.world_size == 1
            and self.features is None
            and self.recipe.slot_weight != "error"
            and self.recipe.norm_until == 1
        )

    def plain(self, name: str) -> nn.Module:
        """A net without what the fabric and the contract have put around it."""
        net = self.nets[name]
        while hasattr(net, "module"):
            net = net.module
        return net.receiver if isinstance(net, OneLayer) else net

    def state(self) -> dict:
        return {
            "nets": {name: self.plain(name).state_dict() for name in self.nets},
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
        }

    def load_state(self, state: dict) -> None:
        for name in self.nets:
            put(state["nets"][name], self.plain(name))
            self.optimizers[name].load_state_dict(state["optimizers"][name])

    def step(
        self, step: int, batch: SlotBatch, teacher_llr: Tensor | None
    ) -> dict[str, dict[str, Tensor]]:
        """Each member's next step; its losses by part. teacher_llr: None where no teacher is
        asked.
        """
        recipe = self.recipe
        if step >= recipe.norm_until * recipe.steps:
            for net in self.nets.values():
                for norm in batch_norms(net):
                    norm.eval()
        rate = learning_rate(recipe, step)
        return {m.name: self._step(m, rate, batch, teacher_llr) for m in recipe.members}

    def _step(
        self,
        member: Member,
        rate: float,
        batch: SlotBatch,
        teacher_llr: Tensor | None,
    ) -> dict[str, Tensor]:
        net, optimizer = self.nets[member.name], self.optimizers[member.name]
        size = len(batch.y)
        for group in optimizer.param_groups:
            group["lr"] = rate
        graphs = self._graphs.get(member.name)
        graph = graphs.of(batch, teacher_llr) if graphs else None
        with self.ledger.phase("forward", size):
            if graph:
                parts = graph.forward(batch, teacher_llr)
            else:
                total, parts = self._loss(member, batch, teacher_llr)
        with self.ledger.phase("backward", size):
            if graph:
                graph.backward()
            else:
                optimizer.zero_grad(set_to_none=True)
                self.fabric.backward(total)
            clip = self.recipe.clip_grad
            self.fabric.clip_gradients(net, optimizer, max_norm=clip, error_if_nonfinite=False)
            optimizer.step()
        return parts

    def _loss(
        self, member: Member, batch: SlotBatch, teacher_llr: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Of one member on a batch, and its parts."""
        net, size = self.nets[member.name], len(batch.y)
        orders = [user.bits_per_symbol for user in batch.config.users]
        given = (batch.y, batch.p, batch.data, orders)
        channel, believed = None, ()
        with slots_of_kind(orders[0], len(batch.config.dmrs)):
            if member.shown:
                exits, channels, believed, whitener, turn = net.exits(*given, True)
                llr, channel = torch.cat(exits), (channels, batch.h, whitener, turn)
            else:
                llr = net(*given)
        times = len(llr) // size  # a net may return the LLRs of several exits
        llr, bits = llr.float(), batch.bits.repeat(times, 1, 1, 1, 1)
        weight = None
        if self.recipe.slot_weight == "sinr":
            weight = sinr_weight(batch.sinr_db).repeat(times)
        elif self.recipe.slot_weight == "error":
            weight = error_weight(llr, bits, batch.data, orders)
        features = None
        if teacher_llr is not None and member.loss.get("hint"):
            features = (self.features.of(member.name), self.features.of("teacher"))
        return objective(
            llr,
            bits,
            batch.data,
            orders,
            member.weights(with_teacher=teacher_llr is not None),
            None if teacher_llr is None else teacher_llr.repeat(times, 1, 1, 1, 1),
            weight,
            member.temperature,
            features,
            channel,
            believed,
        )


def _begin(member: Member, recipe: Recipe) -> nn.Module:
    """A member's net; members that are equal begin with equal weights."""
    torch.manual_seed(recipe.seed)
    net = build(member.net)
    if recipe.norm_until < 1:
        for norm in batch_norms(net):
            norm.momentum = HELD_MOMENTUM
    if member.start:
        trained = load_receiver(member.start, rebuild=True)[1]
        try:
            net.load_state_dict(trained.state_dict())
        except RuntimeError as error:
            raise TrainingError(damaged(member.start, member.name, error)) from None
    return net


def batch_norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


def _optimizer_of(net: nn.Module, recipe: Recipe, gpu: bool) -> torch.optim.Optimizer:
    options = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "lamb":
        return Lamb(net.parameters(), **options)
    return torch.optim.AdamW(net.parameters(), **options, **({"fused": True} if gpu else {}))


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, flat, then linear to zero (the schedule of the DeepRx paper)."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    flat = recipe.decay_from * recipe.steps
    return recipe.lr * min(1.0, (recipe.steps - step) / max(1.0, recipe.steps - flat))


class _OncePerBatch:
    """A net's classical part, computed for the first net that asks about a batch."""

    def __init__(self, compute):
        self._compute, self._y = compute, None

    def __call__(self, y, p, bits):
        if y is not self._y:
            self._y, self._result = y, self._compute(y, p, bits)
        return self._result


def share_classical(nets: Iterable[nn.Module], compile_demapper: bool = False) -> None:
    """Let hybrid nets share what has no weights: the demapper, and the classical part, which is
    then computed once for a batch that all of them see.
    """
    shared: dict[bool, HybridRx] = {}
    for net in nets:
        if isinstance(net, HybridRx):
            first = shared.setdefault(net.innovation, net)
            if net is first:
                net.classical = _OncePerBatch(net.classical)
                if compile_demapper:
                    net.demap.compile(dynamic=False)
            net.classical, net.demap = first.classical, first.demap


class Features:
    """What the last hidden layers of some nets put out last, by name."""

    def __init__(self):
        self._last: dict[str, torch.Tensor] = {}

    def watch(self, name: str, net: nn.Module) -> None:
        def keep(_module, _input, output):
            self._last[name] = output

        last_hidden(net).register_forward_hook(keep)

    def of(self, name: str) -> torch.Tensor:
        return self._last[name]
