# SPDX-License-Identifier: GPL-3.0-or-later
"""CUDA graphs of training steps. A step of DeepRx is some 2000 small kernels, which take a process
longer to launch, one by one, than a GPU to run; a graph launches them at once.
"""

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from dataclasses import fields, replace

import torch
from torch import Tensor

from ..data.channels import SlotBatch

Loss = Callable[[SlotBatch, Tensor | None], tuple[Tensor, dict[str, Tensor]]]


class StepGraph:
    """One net's passes over batches of one kind, on the caller's copies of them.

    loss(batch, teacher's LLRs or None) -> (total, its parts); gradients: where those of the
    parameters go. What a capture leaves in the memory of pool is used before the next replay.
    """

    def __init__(
        self,
        loss: Loss,
        parameters: list[Tensor],
        gradients: list[Tensor],
        batch: SlotBatch,
        teacher_llr: Tensor | None,
        pool,
    ):
        tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
        tensors = {k: t.clone() for k, t in tensors.items() if torch.is_tensor(t)}
        self._batch = replace(batch, drawn=None, **tensors)
        self._llr = None if teacher_llr is None else teacher_llr.clone()
        self._copied = list(tensors)
        self._parameters, self._gradients = parameters, gradients
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        # the thread of backward passes may ask for memory, as it must not in other modes
        of_pool = {"pool": pool, "capture_error_mode": "thread_local"}
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # what passes without a graph have held is as much again
        with torch.cuda.graph(self._forward, **of_pool):
            total, self._parts = loss(self._batch, self._llr)
        with torch.cuda.graph(self._backward, **of_pool):
            torch._foreach_copy_(gradients, torch.autograd.grad(total, parameters))

    def forward(self, batch: SlotBatch, teacher_llr: Tensor | None) -> dict[str, Tensor]:
        """The parts of the loss, which the next pass overwrites."""
        for name in self._copied:
            getattr(self._batch, name).copy_(getattr(batch, name), non_blocking=True)
        if self._llr is not None:
            self._llr.copy_(teacher_llr, non_blocking=True)
        self._forward.replay()
        return self._parts

    def backward(self) -> None:
        """Of the last forward(); the parameters have their gradients then."""
        self._backward.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient


class StepGraphs:
    """The graphs of one net, by kind of batch. The first passes of a kind go without: libraries
    choose their algorithms then. Where one cannot be captured, for want of memory say, stderr is
    told, and all passes that have none go without from then on.

    quiet: within it no other thread uses the GPU. pool: of torch.cuda.graph_pool_handle(), which
    nets that take turns may share.
    """

    PASSES_BEFORE = 2

    def __init__(
        self, loss: Loss, parameters: Iterable[Tensor], quiet: AbstractContextManager, pool
    ):
        self._loss, self._quiet, self._pool = loss, quiet, pool
        self._fail = False
        self._parameters = list(parameters)
        self._gradients = [torch.zeros_like(w) for w in self._parameters]
        self._passes: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, StepGraph] = {}

    def of(self, batch: SlotBatch, teacher_llr: Tensor | None) -> StepGraph | None:
        """The one for batches like this, None in the first passes."""
        config = batch.config
        modulations = tuple(user.modulation for user in config.users)
        kind = (modulations, config.dmrs, batch.y.shape, teacher_llr is not None)
        self._passes[kind] += 1
        late = self._passes[kind] > self.PASSES_BEFORE
        if kind not in self._graphs and late and not self._fail:
            given = (self._loss, self._parameters, self._gradients, batch, teacher_llr, self._pool)
            try:
                with self._quiet:
                    self._graphs[kind] = StepGraph(*given)
            except RuntimeError as error:
                self._fail = True
                why = str(error).splitlines()[0]
                print(f"training: no CUDA graphs of further steps: {why}", file=sys.stderr)
        return self._graphs.get(kind)
