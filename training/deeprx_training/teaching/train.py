# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loop: every member of a recipe on the same batches, resumable to the same result."""

import json
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from deeprx_common import report
from deeprx_common.energy import find_meter
from deeprx_common.terminal import make_console, progress_bar

from ..data.channels import SlotBatch
from ..data.feed import SlotFeed
from ..files import TrainingError, writable_folder, write_atomically
from . import members, precision
from .checkpoint import damaged, read_checkpoint
from .ledger import EnergyBill, Ledger
from .losses import objective, sinr_weight
from .members import Features
from .recipe import Member, Recipe
from .teacher import Teacher


def _launch(accelerator: str) -> Fabric:
    """This process on its device, or this of torchrun's processes."""
    gpu = accelerator in ("cuda", "gpu") or (accelerator == "auto" and torch.cuda.is_available())
    if gpu and not torch.cuda.is_available():
        raise TrainingError(
            "a GPU was asked for, but torch finds none: use --device cpu or check the driver"
        )
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # as torchrun says
    fabric = Fabric(accelerator="cuda" if gpu else "cpu", devices="auto" if gpu else processes)
    fabric.launch()
    if gpu:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    return fabric


class Trainer:
    """Trains a recipe into a folder: last.ckpt, log.jsonl, run.json (what it took), tensorboard/.

    Under torchrun every process trains its share of the slots (Fabric's data-parallel strategy).
    cache: folder for drawn slots and the teacher's LLRs, which other runs on the same data share.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        accelerator: str = "auto",
        compile_nets: bool = False,
        cache: Path | None = None,
        save_every_s: float = 120.0,
    ):
        self.recipe, self.out, self.save_every_s = recipe, Path(out), save_every_s
        writable_folder(self.out)
        self.fabric = _launch(accelerator)
        gpu = self.fabric.device.type == "cuda"
        self.ledger = Ledger(gpu)
        self.bill = EnergyBill(find_meter(str(self.fabric.device) if gpu else "cpu"), gpu)
        self.nets, self.optimizers, self.precision = {}, {}, {}
        self.features = Features() if any(m.loss.get("hint") for m in recipe.members) else None
        self._make_nets(compile_nets)
        self.teacher = Teacher(recipe, self.fabric.device) if recipe.teacher else None
        if self.teacher and self.features:
            self.features.watch("teacher", self.teacher.net)
        self.feed = SlotFeed(
            recipe.plan,
            self.fabric.device,
            self.ledger.phase,
            # hints need the teacher's features, not only its LLRs: then each step asks it
            teach=None if self.features else self.teacher,
            teacher_sha256=self.teacher.sha256 if self.teacher else "",
            cache=cache,
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
        )
        self.step, self.wall_s = 0, 0.0
        self._stop = False

    def _make_nets(self, compile_nets: bool) -> None:
        recipe, device = self.recipe, self.fabric.device
        nets = [members.begin(member, recipe) for member in recipe.members]
        members.share_classical(nets, compile_nets)
        for member, net in zip(recipe.members, nets, strict=True):
            try:
                kind = precision.of_training(net, recipe.precision, self.ledger.gpu)
                if member.loss.get("hint"):
                    self.features.watch(member.name, net)
            except ValueError as error:
                raise TrainingError(f"member {member.name}: {error}") from None
            net = precision.cast(net, kind, device)
            optimizer = members.optimizer_of(net, recipe, self.ledger.gpu)
            self.precision[member.name] = kind
            self.nets[member.name], self.optimizers[member.name] = self.fabric.setup(net, optimizer)

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
            "wall_s": self.wall_s,
            "ledger": self.ledger.state(),
            "bill": self.bill.state(),
            "cached_llr_slots": self.feed.cached_llr_slots,
        }

    @staticmethod
    def _plain(net) -> nn.Module:
        while hasattr(net, "module"):
            net = net.module
        return net

    def save(self) -> None:
        """Checkpoint and run record, from the first process only.

        TrainingError where a weight is not finite: the file stays as it was.
        """
        for name, net in self.nets.items():
            if not all(w.isfinite().all() for w in net.parameters()):
                raise self._diverged(name, "a weight")
        if self.fabric.is_global_zero:
            write_atomically(self.checkpoint, lambda p: torch.save(self._state(), p))
            text = json.dumps(self.record(), indent=2)
            write_atomically(self.out / "run.json", lambda p: Path(p).write_text(text + "\n"))

    def record(self) -> dict:
        """What the run has taken so far, "deeprx.training/1": slots, seconds, FLOP and joules by
        phase.

        Of the first process; the others of a torchrun do as much each. A slot that several members
        train on counts for each in `forward` and `backward`. A phase's `joules` are its share of
        the run's by time, `modelled_j` its time at the price of a busy GPU, or of as many busy
        cores as there are threads.
        """
        r, gpu, price = self.recipe, self.ledger.gpu, self.bill.meter.price
        busy = 1 if gpu else torch.get_num_threads()
        header = report.new()
        joules, reason = self.bill.joules()
        shares = self.ledger.shares()
        phases = {
            name: {
                "slots": p.slots,
                "s": p.seconds,
                "flop": p.flop,
                "joules": None if joules is None else joules * shares[name],
                "modelled_j": price.joules(p.seconds * busy),
            }
            for name, p in self.ledger.phases.items()
        }
        return {
            "schema": "deeprx.training/1",
            "host": header["host"],
            "versions": header["versions"],
            "device": torch.cuda.get_device_name() if gpu else "cpu",
            "threads": torch.get_num_threads(),
            "processes": self.fabric.world_size,
            "precision": self.precision,
            "recipe_sha256": r.sha256,
            "teacher": r.teacher or None,
            "members": {m.name: m.net for m in r.members},
            "students": [m.name for m in r.members if m.lessons],
            "step": self.step,
            "slots": self.step * r.batch * self.fabric.world_size,
            "wall_s": self.wall_s,
            "cached_llr_slots": self.feed.cached_llr_slots,
            "phases": phases,
            "energy_j": {
                "kind": "measured" if gpu else "attributed",
                "joules": joules,
                "source": self.bill.meter.source,
                "invalid": reason or None,
                "modelled": sum(p["modelled_j"] for p in phases.values()),
                "model": str(price) + ("" if gpu else f"; {busy} threads, all of the time"),
            },
        }

    def resume(self) -> None:
        """Go on from last.ckpt if there is one; TrainingError if it is of another recipe."""
        if not self.checkpoint.exists():
            return
        state = read_checkpoint(self.checkpoint)
        if state["recipe_sha256"] != self.recipe.sha256:
            raise TrainingError(
                f"{self.checkpoint}: belongs to another recipe; choose another --out or delete it"
            )
        try:
            for name, net in self.nets.items():
                self._plain(net).load_state_dict(state["nets"][name])
                self.optimizers[name].load_state_dict(state["optimizers"][name])
            self.step, self.wall_s = state["step"], state["wall_s"]
            self.ledger.load_state(state["ledger"])
            self.bill.load_state(state["bill"])
            self.feed.cached_llr_slots = state["cached_llr_slots"]
        except (ValueError, KeyError, RuntimeError, TypeError) as error:
            raise TrainingError(damaged(self.checkpoint, ", ".join(self.nets), error)) from None

    def _distilling(self, step: int) -> bool:
        return self.teacher is not None and step < self.recipe.kd_until * self.recipe.steps

    def _train_step(self, batch: SlotBatch, teacher_llr: torch.Tensor | None) -> dict:
        """One step of every member; returns its losses by name, as tensors."""
        size = len(batch.y)
        if self.step >= self.recipe.norm_until * self.recipe.steps:
            for net in self.nets.values():
                for norm in members.batch_norms(net):
                    norm.eval()
        weight = sinr_weight(batch.sinr_db) if self.recipe.sinr_weight else None
        if self.features and self._distilling(self.step):
            with self.ledger.phase("teacher", size):
                teacher_llr = self.teacher(batch)
        return {
            m.name: self._train_member(m, batch, teacher_llr, weight, size)
            for m in self.recipe.members
        }

    def _train_member(self, member: Member, batch, teacher_llr, weight, size) -> dict:
        net, optimizer = self.nets[member.name], self.optimizers[member.name]
        bits = batch.config.bits_per_symbol
        for group in optimizer.param_groups:
            group["lr"] = members.learning_rate(self.recipe, self.step)
        with self.ledger.phase("forward", size):
            llr = net(batch.y, batch.p, bits)[..., :bits].float()
            times = len(llr) // size  # a net may return the LLRs of several exits
            features = None
            if teacher_llr is not None and member.loss.get("hint"):
                features = (self.features.of(member.name), self.features.of("teacher"))
            total, named = objective(
                llr,
                batch.bits.repeat(times, 1, 1, 1),
                batch.data,
                member.loss if teacher_llr is not None else {"bce": 1.0},
                None if teacher_llr is None else teacher_llr.repeat(times, 1, 1, 1),
                None if weight is None else weight.repeat(times),
                member.temperature,
                features,
            )
        with self.ledger.phase("backward", size):
            optimizer.zero_grad(set_to_none=True)
            self.fabric.backward(total)
            self.fabric.clip_gradients(
                net, optimizer, max_norm=self.recipe.clip_grad, error_if_nonfinite=False
            )
            optimizer.step()
        return named

    def _check_finite(self, parts: dict[str, dict[str, torch.Tensor]]) -> None:
        for name, named in parts.items():
            if not all(math.isfinite(float(v)) for v in named.values()):
                raise self._diverged(name, "the loss")

    def _diverged(self, name: str, what: str) -> TrainingError:
        kept = "nothing was saved before"
        if self.checkpoint.exists():
            kept = f"{self.checkpoint} holds an earlier state"
        return TrainingError(
            f"at step {self.step} {what} of {name} is not finite; {kept}. Train with a lower lr, "
            "in another --out"
        )

    def _log(self, parts, rate: float, board: SummaryWriter | None) -> str:
        """Writes log.jsonl and TensorBoard; returns the line of the progress bar."""
        self._check_finite(parts)
        values = {n: {k: float(v) for k, v in named.items()} for n, named in parts.items()}
        if board:
            line = {"step": self.step, "slots_per_s": round(rate, 1)}
            line |= {n: {k: round(v, 5) for k, v in named.items()} for n, named in values.items()}
            with (self.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            board.add_scalar("slots_per_s", rate, self.step)
            board.add_scalar("lr", members.learning_rate(self.recipe, self.step - 1), self.step)
            for name, named in values.items():
                for part, value in named.items():
                    board.add_scalar(f"{part}/{name}", value, self.step)
        shown = list(values.items())[:3]
        return f"{rate:.0f} slots/s  " + "  ".join(
            f"{n} {next(iter(v.values())):.4f}" for n, v in shown
        )

    def _agreed(self, stop: bool) -> bool:
        """Whether any process wants to stop: all must at the same step."""
        if self.fabric.world_size == 1:
            return stop
        wishes = self.fabric.all_reduce(torch.tensor(float(stop)), reduce_op="sum")
        return bool(wishes > 0)

    def stop(self, *_) -> None:
        """Let fit() return after the step that it is at."""
        self._stop = True

    def fit(
        self,
        log_every: int = 100,
        max_seconds: float | None = None,
        on_step: Callable[[], None] = lambda: None,
    ) -> bool:
        """Train to the recipe's last step; returns False if stopped before (Ctrl-C, max_seconds,
        stop()). on_step() is called as each step begins.
        """
        self._stop = False
        recipe, world, first = self.recipe, self.fabric.world_size, self.fabric.is_global_zero
        previous = signal.signal(signal.SIGINT, self.stop)
        begin = saved = marked = time.monotonic()
        before_s, marked_step = self.wall_s, self.step
        self.bill.start()
        for net in self.nets.values():
            net.train()
        console = make_console()
        console.quiet = not first
        board = None
        if first and self.step < recipe.steps:
            board = SummaryWriter(self.out / "tensorboard", purge_step=self.step + 1)
        batches = self.feed.batches(self.step, self._distilling)
        try:
            with progress_bar(console, "{task.completed:.0f}/{task.total:.0f} steps") as progress:
                task = progress.add_task("training", total=recipe.steps, completed=self.step)
                stopped = False
                while self.step < recipe.steps and not stopped:
                    on_step()
                    batch, teacher_llr = next(batches)
                    parts = self._train_step(batch, teacher_llr)
                    self.step += 1
                    now = time.monotonic()
                    self.wall_s = before_s + now - begin
                    if self.step % log_every == 0 or self.step == recipe.steps:
                        slots = (self.step - marked_step) * recipe.batch * world
                        shown = self._log(parts, slots / max(now - marked, 1e-9), board)
                        progress.update(task, completed=self.step, description=shown)
                        marked, marked_step = now, self.step
                    if world == 1 or self.step % recipe.chunk == 0:
                        late = max_seconds is not None and now - begin > max_seconds
                        stopped = self._agreed(self._stop or late)
                    if now - saved > self.save_every_s:
                        self._check_finite(parts)
                        self.save()
                        saved = now
            if self.step > marked_step:
                self._check_finite(parts)
        except OSError as error:
            raise TrainingError(f"{self.out}: cannot be written: {error.strerror}") from None
        finally:
            signal.signal(signal.SIGINT, previous)
            batches.close()
            self.bill.stop()
            if board:
                board.close()
        self.save()
        return self.step >= recipe.steps
