# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loop: every member of a recipe on the same batches, resumable to the same result."""

import json
import math
import pickle
import signal
import time
from pathlib import Path

import torch
from lightning_fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from deeprx_common.report import replacing

from .data import SlotGenerator
from .losses import objective, sinr_weight
from .receivers import build
from .recipe import Recipe


class TrainingError(RuntimeError):
    """Training cannot go on; the message is one line."""


def write_atomically(path: Path, write) -> None:
    """Call write(temporary path), then rename: the file is whole or not there."""
    try:
        with replacing(path) as temporary:
            write(temporary)
    except (
        OSError,
        RuntimeError,
    ) as error:  # torch's writers raise RuntimeError when the disk is full
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise TrainingError(f"{path}: cannot be written: {reason}") from None


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, flat, then linear to zero (the schedule of the DeepRx paper)."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    flat = recipe.decay_from * recipe.steps
    return recipe.lr * min(1.0, (recipe.steps - step) / max(1.0, recipe.steps - flat))


def load_receiver(reference: str, rebuild: bool = False) -> tuple[str, nn.Module]:
    """(name, net in eval mode) from "CHECKPOINT[:MEMBER]" of a training run, or an exported
    "FILE.pt".

    Checkpoints are unpickled safely. A model file is a program that this runs: trusted files only.
    It comes back as it was shipped, in its own precision, or with rebuild as a float32 net of its
    weights. TrainingError says in one line what is wrong with the file.
    """
    path, _, member = reference.partition(":")
    if not Path(path).is_file():
        raise TrainingError(f"{path}: no such checkpoint or model file")
    if path.endswith(".pt"):
        return Path(path).stem, _from_model_file(path, rebuild)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        specs = state["specs"]
    except (RuntimeError, pickle.UnpicklingError, KeyError, EOFError, TypeError):
        raise TrainingError(
            f"{path}: expected a checkpoint of a training run, found something else"
        ) from None
    member = member or next(iter(specs))
    if member not in specs:
        raise TrainingError(f"{path}: holds {', '.join(specs)}, not {member!r}")
    net = build(json.loads(specs[member]))
    net.load_state_dict(state["nets"][member])
    return member, net.eval()


def _from_model_file(path: str, rebuild: bool) -> nn.Module:
    extra = {"deeprx.json": ""}
    try:
        script = torch.jit.load(path, map_location="cpu", _extra_files=extra)
        spec = json.loads(extra["deeprx.json"])["training"].get("net")
    except (RuntimeError, ValueError, KeyError):
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
    net.load_state_dict(script.state_dict())
    return net.eval()


class Trainer:
    """Trains a recipe into a folder: last.ckpt and log.jsonl."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        accelerator: str = "auto",
        bfloat16: bool | None = None,
        compile_nets: bool = False,
        save_every_s: float = 120.0,
    ):
        self.recipe, self.out, self.save_every_s = recipe, Path(out), save_every_s
        self.out.mkdir(parents=True, exist_ok=True)
        gpu = accelerator in ("cuda", "gpu") or (
            accelerator == "auto" and torch.cuda.is_available()
        )
        if accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
            raise TrainingError(
                "a GPU was asked for, but torch finds none: use --device cpu or check the driver"
            )
        self.fabric = Fabric(
            accelerator="cuda" if gpu else "cpu",
            devices="auto" if gpu else 1,
        )
        self.fabric.launch()
        device = self.fabric.device
        self.bfloat16 = gpu if bfloat16 is None else bfloat16
        if gpu:
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.benchmark = True
        self.generator = SlotGenerator(recipe.data, device)
        torch.manual_seed(recipe.seed)
        self.nets, self.optimizers = {}, {}
        for member in recipe.members:
            net = self._prepare(build(member.net))
            fused = {"fused": True} if gpu else {}
            optimizer = torch.optim.AdamW(
                net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, **fused
            )
            if compile_nets:
                net.net.compile()
            self.nets[member.name], self.optimizers[member.name] = self.fabric.setup(net, optimizer)
        self.teacher = None
        if recipe.teacher:
            self.teacher = self.fabric.setup_module(
                self._prepare(load_receiver(recipe.teacher, rebuild=True)[1].requires_grad_(False))
            )
        self.step = 0
        self._stop = False

    def _prepare(self, net: nn.Module) -> nn.Module:
        """Only the convolutional body runs in bfloat16: the classical arithmetic around it needs
        float32.
        """
        if self.bfloat16:
            cast = torch.autocast(self.fabric.device.type, torch.bfloat16)
            net.net.forward = cast(net.net.forward)
        return net.to(memory_format=torch.channels_last)

    @property
    def checkpoint(self) -> Path:
        return self.out / "last.ckpt"

    def _state(self) -> dict:
        return {
            "step": self.step,
            "recipe_sha256": self.recipe.sha256,
            "specs": {m.name: json.dumps(m.net) for m in self.recipe.members},
            "nets": {n: self._plain(net).state_dict() for n, net in self.nets.items()},
            "optimizers": {n: o.state_dict() for n, o in self.optimizers.items()},
        }

    @staticmethod
    def _plain(net) -> nn.Module:
        return net.module if hasattr(net, "module") else net

    def save(self) -> None:
        if self.fabric.is_global_zero:
            write_atomically(self.checkpoint, lambda p: torch.save(self._state(), p))

    def resume(self) -> None:
        """Go on from last.ckpt if there is one; TrainingError if another recipe made it."""
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        if state["recipe_sha256"] != self.recipe.sha256:
            raise TrainingError(
                f"{self.checkpoint}: belongs to another recipe; choose another --out or delete it"
            )
        for name, net in self.nets.items():
            self._plain(net).load_state_dict(state["nets"][name])
            self.optimizers[name].load_state_dict(state["optimizers"][name])
        self.step = state["step"]

    def _train_step(self, batch) -> dict[str, dict[str, torch.Tensor]]:
        recipe = self.recipe
        bits = batch.config.bits_per_symbol
        weight = sinr_weight(batch.sinr_db) if recipe.sinr_weight else None
        distilling = self.teacher is not None and self.step < recipe.kd_until * recipe.steps
        taught = None
        if distilling:
            with torch.no_grad():
                taught = self.teacher(batch.y, batch.p, bits)[..., :bits].float()
        parts = {}
        for member in recipe.members:
            net, optimizer = self.nets[member.name], self.optimizers[member.name]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, self.step)
            loss_weights = member.loss if distilling else {"bce": 1.0}
            llr = net(batch.y, batch.p, bits)[..., :bits].float()
            total, named = objective(
                llr, batch.bits, batch.data, loss_weights, taught, weight, member.temperature
            )
            optimizer.zero_grad(set_to_none=True)
            self.fabric.backward(total)
            self.fabric.clip_gradients(
                net, optimizer, max_norm=recipe.clip_grad, error_if_nonfinite=False
            )
            optimizer.step()
            parts[member.name] = named
        return parts

    def _check_finite(self, parts: dict[str, dict[str, torch.Tensor]]) -> None:
        for name, named in parts.items():
            if not all(math.isfinite(float(v)) for v in named.values()):
                raise TrainingError(
                    f"step {self.step}: the loss of {name} is not finite; {self.checkpoint} holds "
                    "the last good state. Lower lr in the recipe and run again"
                )

    def _log(self, parts, rate: float) -> dict:
        self._check_finite(parts)
        line = {"step": self.step, "slots_per_s": round(rate, 1)}
        line |= {
            name: {k: round(float(v), 5) for k, v in named.items()} for name, named in parts.items()
        }
        with (self.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        return line

    def fit(self, log_every: int = 100, max_seconds: float | None = None) -> bool:
        """Train to the recipe's last step; returns False if stopped before (Ctrl-C,
        max_seconds).
        """
        self._stop = False
        recipe = self.recipe
        previous = signal.signal(signal.SIGINT, lambda *_: setattr(self, "_stop", True))
        begin = saved = marked = time.monotonic()
        marked_step = self.step
        world = self.fabric.world_size
        for net in self.nets.values():
            net.train()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        try:
            with Progress(*columns, disable=not self.fabric.is_global_zero) as progress:
                task = progress.add_task("training", total=recipe.steps, completed=self.step)
                while self.step < recipe.steps and not self._stop:
                    first, rank = self.step, self.fabric.global_rank
                    step_key = (first // recipe.chunk) * world + rank
                    for batch in self.generator.chunk(
                        recipe.batch, recipe.chunk, recipe.seed, step_key
                    )[first % recipe.chunk :]:
                        parts = self._train_step(batch)
                        self.step += 1
                        if self.step % log_every == 0 or self.step == recipe.steps:
                            now = time.monotonic()
                            rate = (
                                (self.step - marked_step)
                                * recipe.batch
                                * world
                                / max(now - marked, 1e-9)
                            )
                            line = self._log(parts, rate)
                            marked, marked_step = now, self.step
                            losses = "  ".join(
                                f"{n} {next(iter(p.values())):.4f}"
                                for n, p in list(line.items())[2:5]
                            )
                            progress.update(
                                task,
                                completed=self.step,
                                description=f"{rate:.0f} slots/s  {losses}",
                            )
                        if self.step >= recipe.steps or self._stop:
                            break
                    if time.monotonic() - saved > self.save_every_s:
                        self._check_finite(parts)
                        self.save()
                        saved = time.monotonic()
                    if max_seconds is not None and time.monotonic() - begin > max_seconds:
                        self._stop = True
            if self.step > marked_step:
                self._check_finite(parts)
        finally:
            signal.signal(signal.SIGINT, previous)
        self.save()
        return self.step >= recipe.steps
