# SPDX-License-Identifier: GPL-3.0-or-later
"""FLOP and bytes of every operator of a model, counted while it runs. Needs PyTorch.

Convolutions and matrix products count 2 FLOP per multiply-accumulate, as torch counts them. Any
other operator counts one per element of its largest tensor (batch norm 2, log-sum-exp and softmax
4), 6 for a complex product or quotient and 2 for other complex arithmetic; what only moves data
counts none.

Bytes are those of an operator's distinct inputs, weights included, and of its outputs, each once,
broadcast dimensions not repeated: what must cross the border between it and the rest. What a cache
keeps for the next operator, and what a kernel reads twice, is not in it.
"""

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from ..timing import compute_clock
from .machine import Operator

TIMED_RUNS = 7
HEAD_START = 10**8  # clocks that a GPU sleeps while operators queue up: it never waits for a call

_MOVES = {
    "_to_copy", "arange", "cat", "clone", "complex", "constant_pad_nd", "copy_", "eye", "fill_",
    "flip", "full", "full_like", "gather", "index", "index_put_", "index_select", "masked_fill",
    "nonzero", "ones", "ones_like", "repeat", "repeat_interleave", "roll", "scatter", "stack",
    "_unsafe_view", "where", "zero_", "zeros", "zeros_like",
}  # fmt: skip
_PICKS = {"gather", "index", "index_select"}  # read as many elements as they give
_WRITES = {"copy_", "fill_", "zero_"}  # do not read what they change
_MULTIPLIES = {"gemm", "conv", "depthwise"}
_COMPOUND = {"native_batch_norm": 2, "logsumexp": 4, "_softmax": 4, "_log_softmax": 4}
_TRANSCENDENTAL = {
    "acos", "angle", "asin", "atan", "atan2", "cos", "cosh", "erf", "exp", "expm1", "log", "log10",
    "log1p", "log2", "_log_softmax", "logsumexp", "polar", "sigmoid", "sin", "sinh", "_softmax",
    "tan", "tanh",
}  # fmt: skip


def count_operators(
    run: Callable[[], object], device: str = "cpu", net: torch.nn.Module | None = None
) -> list[Operator]:
    """The operators that run() executes, in order, each with its own time.

    run: called several times; it must do the same each time. device: "cpu", or where it runs: on a
    GPU an operator's time is that between two events around it. net: whose modules name the
    operators' layers. An operator's seconds are a median, without what recording it takes.
    """
    runs = []
    for _ in range(TIMED_RUNS):
        recorder = _Recorder() if device == "cpu" else _GpuRecorder()
        with torch.no_grad(), _layers(net, recorder), recorder:
            run()
        runs.append(recorder.timed())
    if len({tuple((o.name, o.bytes) for o in operators) for operators in runs}) > 1:
        raise RuntimeError("the model does other things with the same slots each time it runs")
    views = [o.seconds for operators in runs for o in operators if o.kind == "view"]
    recording_s = statistics.median(views) if views else 0.0
    return [
        replace(
            first,
            seconds=max(0.0, statistics.median(o.seconds for o in (first, *others)) - recording_s),
        )
        for first, *others in zip(*runs, strict=True)
    ]


@contextmanager
def _layers(net: torch.nn.Module | None, recorder: "_Recorder") -> Iterator[None]:
    """Let the recorder know which module of a net runs."""
    hooks = []

    def leave(*_) -> None:
        recorder.path.pop()

    for name, module in net.named_modules() if net else ():
        hooks += [
            module.register_forward_pre_hook(lambda *_, name=name: recorder.path.append(name)),
            module.register_forward_hook(leave),
        ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Recorder(TorchDispatchMode):
    """path: of the modules that run, the innermost last."""

    @classmethod
    def _should_skip_dynamo(cls):  # nothing is compiled here, and its import takes seconds
        return False

    def __init__(self):
        super().__init__()
        self.path = [""]
        self._operators: list[Operator] = []
        self._spans: list[tuple] = []
        self._mark = compute_clock("cpu", torch.get_num_threads())

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        start = self._mark()
        result = function(*args, **kwargs)
        self._spans.append((start, self._mark()))
        operator = _operator(function, args, kwargs, result)
        self._operators.append(replace(operator, layer=self.path[-1]))
        return result

    def timed(self) -> list[Operator]:
        both = zip(self._operators, self._spans, strict=True)
        return [replace(o, seconds=self._between(*span)) for o, span in both]

    def _between(self, start, end) -> float:
        return end - start


class _GpuRecorder(_Recorder):
    def __init__(self):
        super().__init__()
        self._mark = self._event
        torch.cuda._sleep(HEAD_START)

    def _event(self):
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def timed(self):
        torch.cuda.synchronize()
        return super().timed()

    def _between(self, start, end):
        return 1e-3 * start.elapsed_time(end)


def _operator(function, args, kwargs, result) -> Operator:
    name = function.overloadpacket.__name__
    inputs = [t for leaf in tree_leaves((args, kwargs)) for t in _tensors(leaf)]
    outputs = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
    largest = max((*inputs, *outputs), key=torch.Tensor.numel, default=None)
    kind, flop = _arithmetic(function, name, args, kwargs, result, inputs, largest)
    if kind not in _MULTIPLIES and _is_view(function, name, inputs, outputs):
        kind, flop, moved = "view", 0, 0
    else:
        read = inputs[1:] if name in _WRITES else inputs
        if name in _PICKS:
            read = [*outputs, *inputs[1:]]
        distinct = {(t.data_ptr(), t.shape, t.stride()): t for t in read}
        moved = sum(map(_bytes, distinct.values())) + sum(map(_bytes, outputs))
    dtype = (outputs or inputs)[0].dtype if outputs or inputs else None
    return Operator(name, kind, str(dtype).removeprefix("torch."), flop, moved)


def _tensors(leaf) -> list[torch.Tensor]:
    """Of an argument: itself, or the weights that an int8 layer keeps packed."""
    parts = leaf.unpack() if isinstance(leaf, torch.ScriptObject) else [leaf]
    return [t for t in parts if isinstance(t, torch.Tensor)]


def _arithmetic(function, name, args, kwargs, result, inputs, largest) -> tuple[str, float]:
    """Kind and FLOP of an operator."""
    if function.overloadpacket in flop_registry:
        flop = flop_registry[function.overloadpacket](*args, **kwargs, out_val=result)
        if "convolution" not in name:
            return "gemm", flop
        weight = inputs[1]
        return ("depthwise" if weight.shape[1] == 1 < weight.shape[0] else "conv"), flop
    if function.namespace == "quantized" and name.startswith("conv"):
        weight = next(t for t in inputs if t.dtype == torch.qint8)
        return "conv", 2 * result.numel() * weight[0].numel()
    if name in _MOVES or largest is None:
        return "move", 0
    each = _COMPOUND.get(name, 1)
    if any(t.is_complex() for t in inputs):
        each = 6 if name in ("mul", "mul_", "div", "div_") else 2
    kind = "elementwise"
    if name.removesuffix("_") in _TRANSCENDENTAL:
        kind = "transcendental"
    elif torch.Tag.reduction in function.tags:
        kind = "reduction"
    return kind, each * largest.numel()


def _is_view(function, name: str, inputs, outputs) -> bool:
    """Whether an operator only gives another look at its input, or room for an output."""
    if name.startswith(("empty", "new_empty")) or not outputs:
        return True
    storages = {t.untyped_storage().data_ptr() for t in inputs}
    return not function._schema.is_mutable and all(
        t.untyped_storage().data_ptr() in storages for t in outputs
    )


def _bytes(tensor: torch.Tensor) -> int:
    elements = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        elements *= size if stride else 1
    return elements * tensor.element_size()
