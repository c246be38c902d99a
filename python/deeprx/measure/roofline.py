# SPDX-License-Identifier: GPL-3.0-or-later
"""How near the native engine's stages come to what the core can do: `deeprx bench roofline`."""

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np

from .compare import PRECISIONS, Comparison
from .contenders import Group, Kit

CONTENDERS = ("engine", "torchscript", "torch-compile", "onnxruntime", "openvino")
COPIES = (2**17, 2**20, 2**22, 2**24)  # bytes; a slot's stages move less than the last


@dataclass(frozen=True)
class Stage:
    """A part of a slot, over its calls.

    name: "round: sum" is a kernel in "round", whose own row is what it does besides. seconds:
    median over turns. flop_s: its FLOP at the rate of a matrix product in its precision. bytes_s:
    its bytes at the rate of a copy of as many bytes as a call of it moves. Both None where nothing
    was counted, steps between kernels, and in int8 on a processor without instructions for it,
    where no product was timed.
    """

    name: str
    precision: str
    calls: float
    flop: float
    bytes: float
    seconds: float
    flop_s: float | None
    bytes_s: float | None

    @property
    def roofline_s(self) -> float | None:
        return None if self.flop_s is None else max(self.flop_s, self.bytes_s)

    @property
    def bound(self) -> str:
        """What holds it at most."""
        if self.flop_s is None:
            return "-"
        return "memory" if self.bytes_s > self.flop_s else "compute"


class Roofline(Comparison):
    """A comparison with the other engines that, beside them, times the native engine's stages.

    copy_s_per_byte: by bytes moved. stages: of each receiver, in their order; missing: why there
    are none.
    """

    def __init__(self, models, base, seconds: float, skip: bool = False):
        super().__init__(models, (*CONTENDERS, "stages"), base, seconds, skip)
        self.copy_s_per_byte: dict[int, float] = {}
        self.stages: dict[str, list[Stage]] = {}
        self.missing: dict[str, str] = {}

    def as_dict(self) -> dict:
        return super().as_dict() | {
            "copy_s_per_byte": self.copy_s_per_byte,
            "stages": {
                label: [asdict(stage) for stage in stages] for label, stages in self.stages.items()
            },
            "missing": self.missing,
        }

    def _contenders(self, kit: Kit) -> list[str]:
        return self._names if kit.model.archive else ["engine", "stages"]

    def _machine(self) -> dict:
        copy = replace(self._base, contender="copy", device="cpu")
        jobs = super()._machine()
        kept = {name: job for name, job in jobs.items() if name in (*PRECISIONS, "equaliser")}
        return kept | {f"copy {n}": lambda n=n: replace(copy, precision=str(n)) for n in COPIES}

    def _add(self, group: Group, name: str, label: str, kit: Kit | None) -> None:
        turns = group.turns.get(name)
        if name.startswith("copy "):
            if turns:
                moved = group.workers[name].flop
                times = [call for turn in turns for call in turn.calls_s]
                self.copy_s_per_byte[int(moved)] = statistics.median(times) / moved
        elif name != "stages":
            super()._add(group, name, label, kit)
        elif turns:
            self.stages[label] = list(self._stages([turn.stages for turn in turns]))
        elif why := group.failures.get(name):
            self.missing[label] = why

    def _stages(self, turns: list[list[dict]]) -> Iterator[Stage]:
        for of_turns in zip(*turns, strict=True):
            about = of_turns[0]
            seconds = statistics.median(stage["seconds"] for stage in of_turns)
            flop_s = bytes_s = None
            rate = self.gemm_flop_per_s.get(about["precision"])
            if rate and (about["flop"] or about["bytes"]):
                flop_s = about["flop"] / rate
                bytes_s = about["bytes"] * self.s_per_byte(about["bytes"] / about["calls"])
            yield Stage(**{**about, "seconds": seconds}, flop_s=flop_s, bytes_s=bytes_s)

    def s_per_byte(self, moved: float) -> float:
        """Of a copy that moves so many bytes: its data are in the same cache."""
        sizes = sorted(self.copy_s_per_byte)
        rates = [self.copy_s_per_byte[size] for size in sizes]
        return float(np.interp(np.log(max(moved, 1.0)), np.log(sizes), rates))

    def engine_s(self, label: str) -> float | None:
        """CPU time of a slot without timing of stages."""
        rows = [r for r in self.rows if (r.receiver, r.contender) == (label, "engine")]
        return rows[0].cpu_s if rows else None
