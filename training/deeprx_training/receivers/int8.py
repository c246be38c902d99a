# SPDX-License-Identifier: GPL-3.0-or-later
"""A real-time receiver whose convolutions are int8; the arithmetic around them stays float32.

Weights are symmetric with a step for each output channel, activations have one step for a tensor
(Jacob et al., arXiv 1712.05877), batch norms are folded. Two forms of one net give the same numbers
but for the last bit: with RoundedBody it computes in float32 and rounds where integers would, so
that it can be calibrated and fine-tuned, and converted to OpenVINO, which makes int8 kernels of it;
with IntegerBody it is made of LibTorch's int8 operators.
"""

import copy
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .realtime import Body, RealtimeRx

ENGINE = "onednn"  # of LibTorch: the one that adds a residual within a convolution
SIGNED, UNSIGNED = (-128, 127), (0, 255)


def select_engine() -> None:
    """Before an int8 net is made or loaded; without effect where LibTorch lacks the engine."""
    with warnings.catch_warnings():
        # torch 2.13 says on the first one that quantised tensors will go; TorchScript has no others
        warnings.simplefilter("ignore")
        torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.quint8)
    if ENGINE in torch.backends.quantized.supported_engines:
        torch.backends.quantized.engine = ENGINE


def rounded(x: Tensor, step: float, limits: tuple[int, int]) -> Tensor:
    """x as an 8-bit integer times step; its gradient passes where it is within the limits."""
    return torch.fake_quantize_per_tensor_affine(x, step, 0, limits[0], limits[1])


def best_step(x: Tensor, limits: tuple[int, int]) -> float:
    """The step of least squared error for values like these; it may saturate the largest."""
    ends = [float(end) / limit for end, limit in zip(x.aminmax(), limits, strict=True) if limit]
    steps = [max(*ends, 1e-8) * 0.97**i for i in range(60)]
    return min(steps, key=lambda step: float((rounded(x, step, limits) - x).square().mean()))


class RoundedConv(nn.Module):
    """A convolution and the batch norm after it, its weights rounded to int8."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d):
        super().__init__()
        gain = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
        self.weight = nn.Parameter(conv.weight.detach() * gain[:, None, None, None])
        self.bias = nn.Parameter(norm.bias.detach() - norm.running_mean * gain)
        self.padding = conv.padding
        self.register_buffer("zero", torch.zeros(len(self.bias), dtype=torch.int32))

    def step(self) -> Tensor:
        """The largest weight of each output channel is 127 steps."""
        return self.weight.detach().abs().amax((1, 2, 3)).clamp(min=1e-8) / 127

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.fake_quantize_per_channel_affine(
            self.weight, self.step(), self.zero, 0, -127, 127
        )
        return F.conv2d(x, weight, self.bias, padding=self.padding)


class RoundedBody(nn.Module):
    """A Body in float32 that rounds weights and, once calibrated, what its convolutions see. Only
    the weights of the head, which is small, stay as they are.

    steps: of the input, of the first layer's output, and of both outputs of each block.
    """

    def __init__(self, body: Body):
        super().__init__()
        first, norm, _, *blocks, head = body.net
        for block in blocks:
            if len(block.first) != 2 or block.first[0].dilation != (1, 1):
                raise ValueError("int8: expected dense blocks without dilation")
        self.first, self.head = RoundedConv(first, norm), head
        self.blocks = nn.ModuleList(
            nn.ModuleList((RoundedConv(*block.first), RoundedConv(*block.second)))
            for block in blocks
        )
        self.steps: list[float] | None = None

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.activations(x)[-1])

    def activations(self, x: Tensor) -> list[Tensor]:
        """What the convolutions see, in the order of steps."""
        seen = [self._rounded(x, 0)]
        seen.append(self._rounded(F.relu(self.first(seen[0])), 1))
        for first, second in self.blocks:
            x = seen[-1]
            seen.append(self._rounded(F.relu(first(x)), len(seen)))
            seen.append(self._rounded(F.relu(x + second(seen[-1])), len(seen)))
        return seen

    def _rounded(self, x: Tensor, i: int) -> Tensor:
        if self.steps is None:
            return x
        return rounded(x, self.steps[i], UNSIGNED if i else SIGNED)


class _Conv(nn.Module):
    """A RoundedConv and the ReLU after it, on quint8 tensors."""

    def __init__(self, conv: RoundedConv, step: float):
        super().__init__()
        weight = torch.quantize_per_channel(
            conv.weight.detach(), conv.step().double(), conv.zero, 0, torch.qint8
        )
        self.packed = torch.ops.quantized.conv2d_prepack(
            weight, conv.bias.detach(), [1, 1], list(conv.padding), [1, 1], 1
        )
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.conv2d_relu(x, self.packed, self.step, 0)


class _Sum(_Conv):
    """The same with a residual that is added before anything is rounded."""

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return torch.ops.quantized.conv2d_add_relu(x, residual, self.packed, self.step, 0)


class _Block(nn.Module):
    def __init__(self, block: nn.ModuleList, inner: float, outer: float):
        super().__init__()
        self.first, self.second = _Conv(block[0], inner), _Sum(block[1], outer)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x), x)


class IntegerBody(nn.Module):
    """A calibrated RoundedBody in LibTorch's int8."""

    def __init__(self, body: RoundedBody):
        super().__init__()
        self.step, first, *rest = body.steps
        self.net = nn.Sequential(
            _Conv(body.first, first),
            *(_Block(b, *s) for b, *s in zip(body.blocks, rest[::2], rest[1::2], strict=True)),
        )
        self.head = body.head.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.net(torch.quantize_per_tensor(x, self.step, 128, torch.quint8))
        return self.head(x.dequantize())


def _with_bodies(net: RealtimeRx, kind: type, make: Callable) -> RealtimeRx:
    net = copy.deepcopy(net).cpu().eval()
    for name, body in list(net.named_modules()):
        if isinstance(body, kind):
            parent, _, leaf = name.rpartition(".")
            setattr(net.get_submodule(parent), leaf, make(body))
    return net


def to_rounded(net: RealtimeRx) -> RealtimeRx:
    """A copy of a trained net with RoundedBody, which are to be calibrated."""
    return _with_bodies(net, Body, RoundedBody)


def to_integer(net: RealtimeRx) -> RealtimeRx:
    """A copy of a calibrated rounded net with IntegerBody."""
    select_engine()
    return _with_bodies(net, RoundedBody, IntegerBody)
