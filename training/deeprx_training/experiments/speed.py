# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a training step of a narrow DeepRx is in every form that computes the same: whole slots
or crops, channels last or first, dense or separable convolutions, float32 or bfloat16.
"""

import itertools
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date

import torch
from pytorch_optimizer import Lamb
from torch import Tensor, nn

from deeprx_common.host import host, versions
from deeprx_common.revision import git_revision
from deeprx_common.timing import in_turns

from ..receivers.flop import example
from ..receivers.nets import MAX_BITS, DeepRx, DeepRxBody, SeparableConv
from ..teaching.precision import cast

SCHEMA = "deeprx.speed/1"
WIDTH = 0.125
PRB = {"whole": (26, 4), "crop": (8, 13)}  # PRBs and slots of a batch: as many resource elements
BITS = 4


@dataclass(frozen=True)
class Path:
    """A way to compute a step. size: of PRB. layout: channels last or first. form: of the
    separable convolutions.
    """

    size: str
    layout: str
    form: str
    precision: str


PATHS = [
    Path(*parts)
    for parts in itertools.product(
        PRB, ("first", "last"), ("separable", "dense"), ("float32", "bfloat16")
    )
]


class _Separable(SeparableConv):
    def forward(self, x: Tensor) -> Tensor:
        return self[1](self[0](x))


class _ChannelsFirst(DeepRxBody):
    def forward(self, x: Tensor, kind: int) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x, kind)
        return self.head(self.last(self.norm(x, kind))).float()


class _Step:
    """Forward, backward and the optimiser's step on one batch, again and again."""

    def __init__(self, path: Path):
        torch.manual_seed(1)
        net = DeepRx(width=WIDTH).train()
        if path.form == "separable":
            for module in net.modules():
                if isinstance(module, SeparableConv):
                    module.__class__ = _Separable
        if path.layout == "first":
            net.net.__class__ = _ChannelsFirst
        self.net = cast(net, path.precision, torch.device("cpu"))
        if path.layout == "first":
            self.net.to(memory_format=torch.contiguous_format)
        n_prb, self.slots = PRB[path.size]
        self.y, self.p = example(2, n_prb, self.slots)
        received = self.y[:, 0, ..., :1]  # something that can be learned
        self.bits = (received > 0).float().expand(-1, -1, -1, MAX_BITS)
        self.optimizer = Lamb(net.parameters(), lr=1e-3)
        self.resource_elements = self.p[..., 0].numel()
        self.seconds: list[float] = []

    def loss(self) -> Tensor:
        llr = self.net(self.y, self.p, BITS)
        return nn.functional.binary_cross_entropy_with_logits(llr, self.bits)

    def gradient(self) -> Tensor:
        """Of all weights, one after another."""
        self.net.zero_grad()
        self.loss().backward()
        gradients = [w.grad.flatten() for w in self.net.parameters()]
        self.net.zero_grad()
        return torch.cat(gradients)

    def __call__(self) -> None:
        start = time.process_time()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimizer.step()
        self.seconds.append(time.process_time() - start)


def measure(rounds: int) -> Iterator[dict]:
    """Steps of all paths in turns, CPU time of all threads; the results after each round. Each path
    says how far its gradient is from that of the same batch in float32 and the published form, as a
    share of it (RMS); None: not finite.
    """
    steps = {path: _Step(path) for path in PATHS}
    plain = {path.size: step for path, step in steps.items() if path == plain_of(path)}
    gradients = {size: step.gradient() for size, step in plain.items()}
    errors = {}
    for path, step in steps.items():
        difference, of = step.gradient() - gradients[path.size], gradients[path.size]
        errors[path] = float(difference.norm() / of.norm())
    for k in range(rounds + 1):
        for step in in_turns(steps.values(), k):
            step()
        if k:  # the first round warms up
            yield _results(steps, errors)


def _results(steps: dict[Path, _Step], errors: dict[Path, float]) -> dict:
    rows = []
    for path, step in steps.items():
        seconds = step.seconds[1:]
        per_element = [step.resource_elements / s for s in seconds]
        rows.append(
            asdict(path)
            | {
                "slots": step.slots,
                "slots_per_s": statistics.median(step.slots / s for s in seconds),
                "resource_elements_per_s": statistics.median(per_element),
                "spread": [min(per_element), max(per_element)],
                "gradient_error": errors[path] if math.isfinite(errors[path]) else None,
            }
        )
    threads = torch.get_num_threads()
    return {
        "schema": SCHEMA,
        "command": f"./dev train speed --threads {threads} --out results/case_study",
        "date": date.today().isoformat(),
        "host": host() | {"instructions": torch.backends.cpu.get_cpu_capability()},
        "versions": versions("torch"),
        "git": git_revision(),
        "threads": threads,
        "rounds": len(seconds),
        "rows": rows,
    }


def plain_of(path: Path) -> Path:
    """The published form of a path: nothing of it was done to be fast."""
    return Path(path.size, "first", "separable", "float32")


def off(gradient_error: float | None) -> str:
    return "all: not finite" if gradient_error is None else f"{100 * gradient_error:.2g} %"
