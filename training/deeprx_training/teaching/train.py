# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loop: every member of a recipe on the same batches, resumable to the same result."""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import torch
from lightning_fabric import Fabric

from deeprx_common import report
from deeprx_common.checks import check_range, check_whole
from deeprx_common.energy import find_meter

from ..data.channels import slots_of_every_kind
from ..data.feed import SlotFeed
from ..files import TrainingError, writable_folder, write_atomically
from ..receivers.build import build
from ..receivers.norms import settle
from ..reference import Reference
from .checkpoint import damaged, read_checkpoint
from .ledger import EnergyBill, Ledger, spent
from .log import Log
from .members import Members, learning_rate
from .recipe import Recipe
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
        device = self.fabric.device
        gpu = device.type == "cuda"
        self.ledger = Ledger(gpu)
        self.bill = EnergyBill(find_meter(str(device) if gpu else "cpu"), gpu)
        drawing = threading.Lock()
        self.members = Members(recipe, self.fabric, self.ledger, compile_nets, drawing)
        self.teacher = Teacher(recipe, device) if recipe.teacher else None
        self._taught_by = Reference.parse(recipe.teacher).sha256() if recipe.teacher else ""
        # hints need the teacher's features, not only its LLRs: then each step asks it
        self._hints = self.teacher is not None and self.members.features is not None
        if self._hints:
            self.members.features.watch("teacher", self.teacher.net)
        self.feed = SlotFeed(
            recipe.plan,
            device,
            self.ledger.phase,
            teach=None if self._hints else self.teacher,
            teacher_sha256=self.teacher.sha256 if self.teacher else "",
            cache=cache,
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
            channels=any(m.loss.get("channel") for m in recipe.members),
            drawing=drawing,
        )
        self.step, self.wall_s = 0, 0.0
        self._stop = False

    @property
    def checkpoint(self) -> Path:
        return self.out / "last.ckpt"

    def save(self) -> None:
        """Checkpoint and run record, from the first process only.

        TrainingError where a weight is not finite: the file stays as it was.
        """
        for name, net in self.members.nets.items():
            if not all(w.isfinite().all() for w in net.parameters()):
                raise self._diverged(name, "a weight")
        if self.fabric.is_global_zero:
            state = self.members.state() | {
                "step": self.step,
                "recipe_sha256": self.recipe.sha256,
                "teacher_sha256": self._taught_by,
                "specs": {m.name: json.dumps(m.net) for m in self.recipe.members},
                "wall_s": self.wall_s,
                "ledger": self.ledger.state(),
                "bill": self.bill.state(),
                "cached_llr_slots": self.feed.cached_llr_slots,
            }
            write_atomically(self.checkpoint, lambda p: torch.save(state, p))
            text = json.dumps(self.record(), indent=2)
            write_atomically(self.out / "run.json", lambda p: Path(p).write_text(text + "\n"))

    def record(self) -> dict:
        """What the run has taken so far, "deeprx.training/1": of the first process; the others of a
        torchrun do as much each.
        """
        recipe, header = self.recipe, report.new()
        slots = self.step * recipe.batch * self.fabric.world_size
        return {
            "schema": "deeprx.training/1",
            "host": header["host"],
            "versions": header["versions"],
            "device": torch.cuda.get_device_name() if self.ledger.gpu else "cpu",
            "threads": torch.get_num_threads(),
            "processes": self.fabric.world_size,
            "precision": self.members.precision,
            "recipe_sha256": recipe.sha256,
            "teacher": recipe.teacher or None,
            "members": {m.name: m.net for m in recipe.members},
            "students": [m.name for m in recipe.members if m.lessons],
            "step": self.step,
            "slots": slots,
            "resource_elements": round(slots * recipe.plan.conditions.mean_re),
            "wall_s": self.wall_s,
            "cached_llr_slots": self.feed.cached_llr_slots,
        } | spent(self.ledger, self.bill)

    def resume(self) -> None:
        """Go on from last.ckpt if there is one; TrainingError if it is of another recipe, or its
        teacher's file was another one.
        """
        if not self.checkpoint.exists():
            return
        state = read_checkpoint(self.checkpoint)
        if state["recipe_sha256"] != self.recipe.sha256:
            raise TrainingError(
                f"{self.checkpoint}: belongs to another recipe; choose another --out or delete it"
            )
        if state.get("teacher_sha256", self._taught_by) != self._taught_by:  # not said before
            raise TrainingError(
                f"{self.checkpoint}: had another teacher than {self.recipe.teacher} is now; choose "
                "another --out or delete it"
            )
        try:
            self.members.load_state(state)
            check_whole("step", state["step"], 0, self.recipe.steps)
            check_range("wall_s", state["wall_s"], 0)
            self.step, self.wall_s = state["step"], state["wall_s"]
            self.ledger.load_state(state["ledger"])
            self.bill.load_state(state["bill"])
            self.feed.cached_llr_slots = state["cached_llr_slots"]
        except (ValueError, LookupError, RuntimeError, TypeError, AttributeError) as error:
            names = ", ".join(self.members.nets)
            raise TrainingError(damaged(self.checkpoint, names, error)) from None

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
        recipe, world = self.recipe, self.fabric.world_size
        self._stop = False
        previous = signal.signal(signal.SIGINT, self.stop)
        begin = saved = time.monotonic()
        before_s = self.wall_s
        self.bill.start()
        for net in self.members.nets.values():
            net.train()
        batches = self.feed.batches(self.step, self._distilling)
        silent, unfinished = not self.fabric.is_global_zero, self.step < recipe.steps
        try:
            with Log(self.out, self.step, recipe.steps, recipe.batch * world, silent) as log:
                losses, stopped = {}, False
                while self.step < recipe.steps and not stopped:
                    on_step()
                    losses = self._train(*next(batches))
                    self.step += 1
                    now = time.monotonic()
                    self.wall_s = before_s + now - begin
                    if self.step % log_every == 0 or self.step == recipe.steps:
                        rate = learning_rate(recipe, self.step - 1)
                        log.write(self.step, rate, self._finite(losses))
                    if world == 1 or self.step % recipe.chunk == 0:
                        late = max_seconds is not None and now - begin > max_seconds
                        stopped = self._agreed(self._stop or late)
                    if now - saved > self.save_every_s and self.step < recipe.steps:
                        self._finite(losses)
                        self.save()
                        saved = now
            self._finite(losses)
            if recipe.settle and unfinished and self.step == recipe.steps:
                self._settle()
        except OSError as error:
            raise TrainingError(f"{self.out}: cannot be written: {error.strerror}") from None
        finally:
            signal.signal(signal.SIGINT, previous)
            batches.close()
            self.bill.stop()
        if unfinished:  # what is finished stays as it was
            self.save()
        return self.step >= recipe.steps

    def _settle(self) -> None:
        """Average the statistics of all members' batch norms over slots of every kind, in float32,
        as nets are counted and exported: those of a net in bfloat16 are others, with which DeepRx
        makes several times the errors at high SINR.
        """
        device = self.fabric.device
        for member in self.recipe.members:
            trained = self.members.plain(member.name)
            net = build(member.net).to(device)
            net.load_state_dict(trained.state_dict())
            kinds = slots_of_every_kind(self.recipe.data, self.recipe.settle, device)
            settle(net, chain.from_iterable(kinds))
            trained.load_state_dict(net.state_dict())

    def _distilling(self, step: int) -> bool:
        return self.teacher is not None and step < self.recipe.kd_until * self.recipe.steps

    def _train(self, batch, teacher_llr) -> dict[str, dict[str, torch.Tensor]]:
        if self._hints and self._distilling(self.step):
            with self.ledger.phase("teacher", len(batch.y)):
                teacher_llr = self.teacher(batch)
        return self.members.step(self.step, batch, teacher_llr)

    def _finite(self, losses: dict) -> dict[str, dict[str, float]]:
        """Losses as numbers; TrainingError where one is none."""
        values = {n: {k: float(v) for k, v in parts.items()} for n, parts in losses.items()}
        for name, parts in values.items():
            if not all(map(math.isfinite, parts.values())):
                raise self._diverged(name, "the loss")
        return values

    def _diverged(self, name: str, what: str) -> TrainingError:
        kept = "nothing was saved before"
        if self.checkpoint.exists():
            kept = f"{self.checkpoint} holds an earlier state"
        return TrainingError(
            f"at step {self.step} {what} of {name} is not finite; {kept}. Train with a lower lr, "
            "in another --out"
        )

    def _agreed(self, stop: bool) -> bool:
        """Whether any process wants to stop: all must at the same step."""
        if self.fabric.world_size == 1:
            return stop
        wishes = self.fabric.all_reduce(torch.tensor(float(stop)), reduce_op="sum")
        return bool(wishes > 0)
