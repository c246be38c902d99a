# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loop: every member of a recipe on the same batches, resumable to the same result."""

import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from lightning_fabric import Fabric
from pytorch_optimizer import Lamb
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from deeprx_common import report
from deeprx_common.energy import find_meter
from deeprx_common.slot import MODULATIONS, SlotConfig

from ..data.channels import SlotBatch
from ..data.feed import SlotFeed, code_sha256
from ..files import TrainingError, writable_folder, write_atomically
from ..receivers import classical, realtime
from ..receivers import nets as receivers
from ..receivers.build import build
from ..receivers.nets import HybridRx, SeparableConv, bodies, last_hidden
from ..reference import Reference
from .checkpoint import damaged, load_receiver, read_checkpoint
from .ledger import EnergyBill, Ledger
from .losses import objective, sinr_weight
from .recipe import Member, Recipe

# A batch has one modulation, so statistics that are to be held must come of many batches.
HELD_MOMENTUM = 0.01


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, flat, then linear to zero (the schedule of the DeepRx paper)."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    flat = recipe.decay_from * recipe.steps
    return recipe.lr * min(1.0, (recipe.steps - step) / max(1.0, recipe.steps - flat))


def bfloat16_is_safe(net: nn.Module) -> bool:
    """Whether a CPU computes this net's gradients rightly in bfloat16.

    oneDNN (in torch 2.13) gives wrong weight gradients, up to NaN, for dilated convolutions in
    channels-last order whose channels are not a multiple of 16.
    """
    dense = [(m, m) for m in net.modules() if isinstance(m, nn.Conv2d) and m.groups == 1]
    dense += [tuple(m) for m in net.modules() if isinstance(m, SeparableConv)]
    return not any(
        max(first.dilation) > 1 and (first.in_channels % 16 or last.out_channels % 16)
        for first, last in dense
    )


def batch_norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


class _OncePerBatch:
    """A net's classical part, computed for the first net that asks about a batch."""

    def __init__(self, compute):
        self._compute, self._y = compute, None

    def __call__(self, y, p, bits):
        if y is not self._y:
            self._y, self._found = y, self._compute(y, p, bits)
        return self._found


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
        gpu = accelerator in ("cuda", "gpu") or (
            accelerator == "auto" and torch.cuda.is_available()
        )
        if gpu and not torch.cuda.is_available():
            raise TrainingError(
                "a GPU was asked for, but torch finds none: use --device cpu or check the driver"
            )
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # as torchrun says
        self.fabric = Fabric(
            accelerator="cuda" if gpu else "cpu", devices="auto" if gpu else processes
        )
        self.fabric.launch()
        if gpu:
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.benchmark = True
        self.ledger = Ledger(gpu)
        self.bill = EnergyBill(find_meter(str(self.fabric.device) if gpu else "cpu"), gpu)
        self.nets, self.optimizers, self.precision, self._features = {}, {}, {}, {}
        built = []
        for member in recipe.members:
            torch.manual_seed(recipe.seed)  # equal nets start from equal weights
            built.append(self._start(member))
        share_classical(built, compile_nets)
        for member, net in zip(recipe.members, built, strict=True):
            self.precision[member.name] = self._precision(member.name, net)
            net = self._prepare(net, self.precision[member.name])
            optimizer = self._optimizer(net)
            if member.loss.get("hint"):
                self._watch(member.name, net)
            self.nets[member.name], self.optimizers[member.name] = self.fabric.setup(net, optimizer)
        self.teacher, digest = None, ""
        if recipe.teacher:
            net = load_receiver(recipe.teacher, rebuild=True)[1].requires_grad_(False)
            if self._features:
                self._watch("teacher", net)
            # no gradients, so nothing that could go wrong in bfloat16
            precision = "bfloat16" if self._has_bfloat16 else "float32"
            self.teacher = self.fabric.to_device(self._prepare(net, precision))
            self._try_teacher()
            teacher = Reference.parse(recipe.teacher)
            code = code_sha256(classical, realtime, receivers)
            what = f"{teacher.member}@{teacher.rounds} in {precision} by {code}".encode()
            digest = hashlib.sha256(teacher.file.read_bytes() + what).hexdigest()
        self.feed = SlotFeed(
            recipe.plan,
            self.fabric.device,
            self.ledger.phase,
            # hints need the teacher's features, not only its LLRs: then each step asks it
            teach=self._teach if self.teacher is not None and not self._features else None,
            teacher_sha256=digest,
            cache=cache,
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
        )
        self.step, self.wall_s = 0, 0.0
        self._stop = False

    def _start(self, member: Member) -> nn.Module:
        net = build(member.net, [self.recipe.folder])
        if self.recipe.norm_until < 1:
            for norm in batch_norms(net):
                norm.momentum = HELD_MOMENTUM
        if member.start:
            trained = load_receiver(member.start, rebuild=True)[1]
            try:
                net.load_state_dict(trained.state_dict())
            except RuntimeError as error:
                raise TrainingError(damaged(member.start, member.name, error)) from None
        return net

    def _try_teacher(self) -> None:
        data, device = self.recipe.data, self.fabric.device
        most = max(data.modulations, key=MODULATIONS.get)
        config = SlotConfig(n_prb=data.n_prb, modulation=most, dmrs=next(iter(data.dmrs)))
        p = torch.view_as_real(torch.from_numpy(config.pilots()))[None].to(device)
        y = torch.ones(1, data.n_rx, *p.shape[1:], device=device)
        try:
            with torch.no_grad():
                self.teacher(y, p, config.bits_per_symbol)
        except RuntimeError as error:
            raise TrainingError(
                f"{self.recipe.teacher}: cannot receive {data.n_prb} PRB in {most} with "
                f"{data.n_rx} antennas: {str(error).splitlines()[-1].strip()}"
            ) from None

    @property
    def _has_bfloat16(self) -> bool:
        if self.recipe.precision != "auto":
            return self.recipe.precision == "bfloat16"
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return self.ledger.gpu or native

    def _precision(self, name: str, net: nn.Module) -> str:
        if not self._has_bfloat16 or not bodies(net):
            return "float32"
        if self.ledger.gpu or bfloat16_is_safe(net):
            return "bfloat16"
        if self.recipe.precision == "bfloat16":
            raise TrainingError(
                f"member {name}: bfloat16 on a CPU needs dilated convolutions with a multiple of "
                "16 channels; change channels, or precision to auto or float32"
            )
        return "float32"

    def _prepare(self, net: nn.Module, precision: str) -> nn.Module:
        """Only the convolutional body runs in bfloat16: the classical arithmetic around it needs
        float32.
        """
        if precision == "bfloat16":
            cast = torch.autocast(self.fabric.device.type, torch.bfloat16)
            for body in bodies(net):
                body.forward = cast(body.forward)
        return net.to(memory_format=torch.channels_last)

    def _optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        r = self.recipe
        if r.optimizer == "lamb":
            return Lamb(net.parameters(), lr=r.lr, weight_decay=r.weight_decay)
        fused = {"fused": True} if self.fabric.device.type == "cuda" else {}
        return torch.optim.AdamW(net.parameters(), lr=r.lr, weight_decay=r.weight_decay, **fused)

    def _watch(self, name: str, net: nn.Module) -> None:
        self._features[name] = None
        last_hidden(net).register_forward_hook(
            lambda _module, _input, output: self._features.__setitem__(name, output)
        )

    def _teach(self, batch: SlotBatch) -> torch.Tensor:
        bits = batch.config.bits_per_symbol
        with torch.no_grad():
            return self.teacher(batch.y, batch.p, bits)[..., :bits].float()

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
        found = report.new()
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
            "host": found["host"],
            "versions": found["versions"],
            "device": torch.cuda.get_device_name() if gpu else "cpu",
            "threads": torch.get_num_threads(),
            "processes": self.fabric.world_size,
            "precision": self.precision,
            "recipe_sha256": r.sha256,
            "teacher": r.teacher or None,
            "members": {m.name: m.net for m in r.members},
            "taught": [
                m.name for m in r.members if any(w for n, w in m.loss.items() if n != "bce")
            ],
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
        """Go on from last.ckpt if there is one; TrainingError if another recipe made it."""
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

    def _train_step(self, batch: SlotBatch, taught: torch.Tensor | None) -> dict:
        """One step of every member; returns its losses by name, as tensors."""
        size = len(batch.y)
        if self.step >= self.recipe.norm_until * self.recipe.steps:
            for net in self.nets.values():
                for norm in batch_norms(net):
                    norm.eval()
        weight = sinr_weight(batch.sinr_db) if self.recipe.sinr_weight else None
        if self._features and self._distilling(self.step):
            with self.ledger.phase("teacher", size):
                taught = self._teach(batch)
        return {
            m.name: self._train_member(m, batch, taught, weight, size) for m in self.recipe.members
        }

    def _train_member(self, member: Member, batch, taught, weight, size) -> dict:
        net, optimizer = self.nets[member.name], self.optimizers[member.name]
        bits = batch.config.bits_per_symbol
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step)
        with self.ledger.phase("forward", size):
            llr = net(batch.y, batch.p, bits)[..., :bits].float()
            times = len(llr) // size  # a net may return the LLRs of several exits
            features = None
            if taught is not None and member.loss.get("hint"):
                features = (self._features[member.name], self._features["teacher"])
            total, named = objective(
                llr,
                batch.bits.repeat(times, 1, 1, 1),
                batch.data,
                member.loss if taught is not None else {"bce": 1.0},
                None if taught is None else taught.repeat(times, 1, 1, 1),
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
            board.add_scalar("lr", learning_rate(self.recipe, self.step - 1), self.step)
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
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        board = None
        if first and self.step < recipe.steps:
            board = SummaryWriter(self.out / "tensorboard", purge_step=self.step + 1)
        batches = self.feed.batches(self.step, self._distilling)
        try:
            with Progress(*columns, disable=not first) as progress:
                task = progress.add_task("training", total=recipe.steps, completed=self.step)
                stopped = False
                while self.step < recipe.steps and not stopped:
                    on_step()
                    batch, taught = next(batches)
                    parts = self._train_step(batch, taught)
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
