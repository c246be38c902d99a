# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training step is fed: a batch of slots and, when distilling, the teacher's LLRs.

Chunks of batches are drawn in a thread while the nets train. With a cache folder they are drawn
once: every chunk is a file, and so are its true channels, where they are asked for, and the
teacher's LLRs on it, so that many students can share slots and teacher on a machine where both are
dear. A run sees the same with the cache and without.
"""

import ast
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from deeprx_common import gold, modulation, slot
from deeprx_common.slot import SlotConfig

from ..files import TrainingError, read_tensors, write_atomically
from . import channels, conditions
from .channels import SlotBatch, SlotGenerator
from .conditions import Conditions

Teacher = Callable[[SlotBatch], Tensor]
Phase = Callable[[str, int], AbstractContextManager]
_STORED = ("y", "p", "data", "n0", "snr_db", "sir_db")  # as it is, or without repetition
_CACHED = "cached slots"


@dataclass(frozen=True)
class BatchPlan:
    """Which batches there are and in what order.

    batch slots each, of conditions and data_seed, drawn chunk at once; distinct: how many batches
    there are before they come again, in an order of seed's (0: all are different).
    """

    conditions: Conditions
    batch: int
    chunk: int
    distinct: int
    seed: int
    data_seed: int

    @property
    def slots(self) -> tuple:
        """What decides which slots there are, whatever their order."""
        return (asdict(self.conditions), self.batch, self.chunk, self.data_seed)


def _pack(batch: SlotBatch) -> dict:
    return {
        "config": json.dumps(batch.config.as_dict()),
        "domain": batch.domain,
        "y": batch.y.cpu(),
        "p": batch.p[0].cpu(),
        "bits": torch.from_numpy(np.packbits(batch.bits.cpu().numpy(), axis=3)),
        "data": batch.data.cpu(),
        "n0": batch.n0.cpu(),
        "snr_db": batch.snr_db.cpu(),
        "sir_db": batch.sir_db.cpu(),
    }


def _is_packed(stored: object) -> bool:
    kinds = dict.fromkeys(_STORED, Tensor) | {"config": str, "domain": str, "bits": Tensor}
    return isinstance(stored, dict) and all(isinstance(stored.get(k), kinds[k]) for k in kinds)


def _unpack(stored: dict, device: torch.device) -> SlotBatch:
    bits = np.unpackbits(stored["bits"].numpy(), axis=3, count=stored["y"].size(3))
    tensors = {k: stored[k].to(device, non_blocking=True) for k in _STORED}
    tensors["p"] = tensors["p"].expand(len(tensors["y"]), -1, -1, -1, -1)
    return SlotBatch(
        config=SlotConfig.from_dict(json.loads(stored["config"])),
        domain=stored["domain"],
        bits=torch.from_numpy(bits).to(device),
        h=None,
        **tensors,
    )


def code_sha256(*modules: ModuleType) -> str:
    """Of what modules do: comments, docstrings and layout aside."""
    digest = hashlib.sha256()
    for module in modules:
        tree = ast.parse(inspect.getsource(module))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (
                ast.get_docstring(node) is not None
            ):
                del node.body[0]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()


def _half(h: Tensor) -> Tensor:
    """complex64 as float16 [..., 2]."""
    return torch.view_as_real(h).half()


def _complex(half: Tensor, device: torch.device) -> Tensor:
    return torch.view_as_complex(half.to(device, non_blocking=True).float())


class SlotCache:
    """A folder of drawn chunks, their channels (float16) and teachers' LLRs (float16);
    TrainingError where a file is bad.

    What is drawn depends on the plan, the device (its random numbers), Sionna, PyTorch and the code
    that draws: files of others are never read. teacher_sha256: of all that a teacher's LLRs on
    given slots depend on.
    """

    def __init__(self, folder: Path, plan: BatchPlan, device: torch.device, teacher_sha256: str):
        drawn = [
            plan.slots,
            torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            version("sionna-no-rt"),
            torch.__version__,
            code_sha256(channels, conditions, slot, gold, modulation),
        ]
        digest = hashlib.sha256(repr(drawn).encode()).hexdigest()
        self.slots = Path(folder) / f"slots-{digest[:16]}"
        self.channels = self.slots / "channels"
        self.llrs = self.slots / f"teacher-{teacher_sha256[:16]}"
        try:
            for part in (self.channels, self.llrs):
                part.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{folder}: cannot hold a cache: {error.strerror}") from None

    @staticmethod
    def _keep(path: Path, make: Callable[[], list], holds: Callable[[object], bool]) -> list:
        """holds: what each of them must be."""
        if not path.exists():
            values = make()
            write_atomically(path, lambda temporary: torch.save(values, temporary))
            return values
        values, what = read_tensors(path, _CACHED, mapped=True), f"{path}: expected {_CACHED}"
        if not (isinstance(values, list) and all(map(holds, values))):
            raise TrainingError(f"{what}, found something else; delete it or choose another")
        return values

    def chunk(
        self, key: int, draw: Callable[[], list[SlotBatch]], device, channels: bool = False
    ) -> list[SlotBatch]:
        """The chunk of this key, with the true channels if asked, drawn if it is not there yet."""
        draw, name = cache(draw), f"{key:06d}.pt"
        stored = self._keep(self.slots / name, lambda: [_pack(b) for b in draw()], _is_packed)
        batches = [_unpack(s, device) for s in stored]
        if not channels:
            return batches
        halves = self._keep(
            self.channels / name, lambda: [_half(b.h).cpu() for b in draw()], torch.is_tensor
        )
        return [
            replace(b, h=_complex(half, device)) for b, half in zip(batches, halves, strict=True)
        ]

    def llrs_of(self, key: int, teach: Callable[[], list[Tensor]]) -> list[Tensor]:
        """The teacher's LLRs on that chunk."""
        file = self.llrs / f"{key:06d}.pt"
        return self._keep(file, lambda: [t.cpu() for t in teach()], torch.is_tensor)


class SlotFeed:
    """Batches of a plan in order, one iterator per run: (SlotBatch, teacher's LLRs or None).

    phase(name, slots): a context around each pass of "data" and "teacher", which times it. teach:
    the teacher, or None; its LLRs float [B, L, S, K, b] are rounded to float16. channels: whether
    batches have their h, rounded to float16, too; else it is None. drawing: held while slots are
    drawn, which uses the device. cached_llr_slots: those the teacher need not see again.
    """

    def __init__(
        self,
        plan: BatchPlan,
        device: torch.device,
        phase: Phase,
        teach: Teacher | None = None,
        teacher_sha256: str = "",
        cache: Path | None = None,
        rank: int = 0,
        world: int = 1,
        channels: bool = False,
        drawing: AbstractContextManager | None = None,
    ):
        self.plan, self.device, self.teach = plan, device, teach
        self.phase, self.rank, self.world, self.channels = phase, rank, world, channels
        self.generator = SlotGenerator(plan.conditions, device)
        self.drawing = drawing or nullcontext()
        self.cache = SlotCache(cache, plan, device, teacher_sha256) if cache else None
        self.cached_llr_slots = 0

    def key(self, index: int) -> int:
        """Which chunk is the index-th of this rank: all different, or `distinct` of them over and
        over, shuffled anew by the plan's seed each time.
        """
        index = index * self.world + self.rank
        distinct = self.plan.distinct // self.plan.chunk
        if not distinct:
            return index
        epoch, place = divmod(index, distinct)
        return int(np.random.default_rng([self.plan.seed, epoch]).permutation(distinct)[place])

    def _draw(self, key: int) -> list[SlotBatch]:
        p = self.plan

        def draw():
            return self.generator.chunk(p.batch, p.chunk, p.data_seed, key)

        with self.drawing, self.phase("data", p.batch * p.chunk):
            if self.cache:
                return self.cache.chunk(key, draw, self.device, self.channels)
            return [
                replace(b, h=_complex(_half(b.h), self.device) if self.channels else None)
                for b in draw()
            ]

    def _llrs(self, key: int, batches: list[SlotBatch]) -> list[Tensor]:
        slots = self.plan.batch * self.plan.chunk
        self.cached_llr_slots += slots

        def teach():
            self.cached_llr_slots -= slots
            with self.phase("teacher", slots):
                return [self.teach(b).half() for b in batches]

        llrs = self.cache.llrs_of(key, teach) if self.cache else teach()
        return [t.to(self.device, non_blocking=True) for t in llrs]

    def batches(self, step: int, distilling: Callable[[int], bool]) -> Iterator:
        """From this step on; distilling(step) says whether the teacher is asked."""
        chunk = self.plan.chunk
        with ThreadPoolExecutor(1, "slots") as thread:
            index = step // chunk
            coming: Future = thread.submit(self._draw, self.key(index))
            while True:
                drawn = coming.result()
                coming = thread.submit(self._draw, self.key(index + 1))
                distils = self.teach is not None and distilling(index * chunk)
                llrs = self._llrs(self.key(index), drawn) if distils else [None] * chunk
                for i in range(step - index * chunk, chunk):
                    yield drawn[i], llrs[i]
                index, step = index + 1, (index + 1) * chunk
