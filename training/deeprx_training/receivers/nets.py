# SPDX-License-Identifier: GPL-3.0-or-later
"""Neural receivers. All of them are `forward(y, p, bits)` of the model contract and export to
TorchScript.

y float32 [B, R, 14, K, 2] received grid, p float32 [B, 14, K, 2] pilots; float32 LLRs [B, 14, K,
>= bits].
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .classical import (
    Demapper,
    PilotEstimate,
    SureSmoother,
    combine,
    interpolate_frequency,
    interpolate_time,
    noise_inverse,
)
from .realtime import Body, RealtimeRx

MAX_BITS = 8  # of a symbol: nets put out as many, of which lower modulations use the first


def planes(z: Tensor) -> Tensor:
    """Real and imaginary parts of complex grids [B, C, S, K] as channels, float32 [B, 2 C, S,
    K].
    """
    return torch.cat([z.real, z.imag], 1)


def paper_planes(y: Tensor, p: Tensor) -> Tensor:
    """The paper's 4 R + 2 input planes, float32 [B, 4 R + 2, S, K]: received grid, pilots, and
    their product. Each slot is scaled to unit power, so that any receive gain does.
    """
    yc, pc = torch.view_as_complex(y), torch.view_as_complex(p)[:, None]
    yc = yc * yc.abs().square().mean((1, 2, 3), keepdim=True).add(1e-12).rsqrt()
    return planes(torch.cat([yc, pc, yc * pc.conj()], 1))


class SeparableConv(nn.Sequential):
    """Depthwise 3x3 with multiplier 2, then 1x1.

    Nothing nonlinear is between the two: they are one dense convolution with few degrees of
    freedom. They are trained as that: up to 4.5 times the arithmetic, but libraries are fast at
    dense convolutions and slow at the gradients of depthwise ones.
    """

    def __init__(self, c_in: int, c_out: int, dilation: tuple[int, int]):
        super().__init__(
            nn.Conv2d(c_in, 2 * c_in, 3, padding=dilation, dilation=dilation, groups=c_in),
            nn.Conv2d(2 * c_in, c_out, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting() and self.training:
            return self._dense(x)
        return self[1](self[0](x))

    def _kernel(self) -> tuple[Tensor, Tensor]:
        """Weight [c_out, c_in, 3, 3] and bias of the one dense convolution."""
        depthwise, pointwise = self
        mixing = pointwise.weight.unflatten(1, (depthwise.in_channels, 2))[..., 0, 0]
        taps = depthwise.weight.unflatten(0, (depthwise.in_channels, 2))[:, :, 0]
        bias = pointwise.bias + pointwise.weight.flatten(1) @ depthwise.bias
        return torch.einsum("oam,amij->oaij", mixing, taps), bias

    @torch.no_grad()
    def dense(self) -> nn.Conv2d:
        """The one dense convolution that these are, by itself."""
        weight, bias = self._kernel()
        c_out, c_in = weight.shape[:2]
        dilation = self[0].dilation
        conv = nn.Conv2d(c_in, c_out, 3, padding=dilation, dilation=dilation)
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)
        return conv

    @torch.jit.unused
    def _dense(self, x: Tensor) -> Tensor:
        depthwise = self[0]
        weight, bias = self._kernel()
        dilation, c_out = depthwise.dilation, len(bias)
        a, o = -depthwise.in_channels % 16, -c_out % 16
        if max(dilation) > 1 and (a or o):  # to 16 channels: precision.bfloat16_is_safe
            x = F.pad(x, (0, 0, 0, 0, 0, a))
            weight, bias = F.pad(weight, (0, 0, 0, 0, 0, a, 0, o)), F.pad(bias, (0, o))
        return F.conv2d(x, weight, bias, padding=dilation, dilation=dilation)[:, :c_out]


class KindNorm(nn.BatchNorm2d):
    """Batch norm with statistics for each kind of slot, its modulation and DMRS symbols.

    A training batch is of one kind, so it is normalised by that kind's statistics. Those of all
    kinds together, which batch norm keeps, are other numbers: a teacher that ran with them was
    worse than a classical receiver with 256-QAM. (Wu, Johnson, "Rethinking 'Batch' in BatchNorm",
    arXiv 2105.07576, section 5.) A kind that was never seen has the last batch's.
    """

    KINDS = 8

    def __init__(self, channels: int):
        super().__init__(channels)
        self.running_mean = torch.zeros(self.KINDS, channels)
        self.running_var = torch.ones(self.KINDS, channels)
        self.num_batches_tracked = torch.zeros(self.KINDS, dtype=torch.long)

    @staticmethod
    def kind(bits: int, dmrs: int) -> int:
        """Of slots with so many bits per symbol and DMRS symbols (1 or 2)."""
        return bits - 2 + min(dmrs, 2) - 1

    def forward(self, x: Tensor, kind: int) -> Tensor:
        if not torch.jit.is_scripting() and self.training:
            return self._learn(x, kind)
        mean, var = self.running_mean[kind], self.running_var[kind]
        return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)

    @torch.jit.unused
    def _learn(self, x: Tensor, kind: int) -> Tensor:
        mean, var = self.running_mean[kind].clone(), self.running_var[kind].clone()
        x = F.batch_norm(x, mean, var, self.weight, self.bias, True, self.momentum, self.eps)
        self.num_batches_tracked[kind] += 1
        follows = self.num_batches_tracked == 0
        follows[kind].fill_(True)  # not = True, which copies from the CPU
        self.running_mean.copy_(torch.where(follows[:, None], mean, self.running_mean))
        self.running_var.copy_(torch.where(follows[:, None], var, self.running_var))
        return x


_KNOWN: ContextVar[int] = ContextVar("kind of the slots", default=-1)


@contextmanager
def slots_of_kind(bits: int, dmrs: int) -> Iterator[None]:
    """Within it kind_of() is told what slots there are, and waits for no GPU to look."""
    token = _KNOWN.set(KindNorm.kind(bits, dmrs))
    try:
        yield
    finally:
        _KNOWN.reset(token)


@torch.jit.unused
def _known_kind() -> int:
    return _KNOWN.get()


def kind_of(p: Tensor, bits: int) -> int:
    """KindNorm.kind of slots by their pilots, float32 [B, 14, K, 2], and bits per symbol."""
    if not torch.jit.is_scripting():
        known = _known_kind()
        if known >= 0:
            return known
    return KindNorm.kind(bits, int((p[0].abs().sum((1, 2)) > 0).sum()))


class DeepRxBlock(nn.Module):
    """Pre-activation residual block: (BN, ReLU, depthwise 3x3 with multiplier 2, 1x1) twice."""

    def __init__(self, c_in: int, c_out: int, dilation: tuple[int, int]):
        super().__init__()
        self.norms = nn.ModuleList([KindNorm(c_in), KindNorm(c_out)])
        self.convs = nn.ModuleList(SeparableConv(c, c_out, dilation) for c in (c_in, c_out))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, kind: int) -> Tensor:
        z = x
        for norm, conv in zip(self.norms, self.convs):  # noqa: B905 (TorchScript has no strict)
            z = conv(F.relu(norm(z, kind)))
        return self.skip(x) + z


class DeepRxBody(nn.Module):
    """What DeepRx is behind its input: residual blocks of these channels and dilations."""

    def __init__(self, c_in: int, channels: list[int], dilations: list[tuple[int, int]]):
        super().__init__()
        self.first = nn.Conv2d(c_in, channels[0], 3, padding=1)
        ends = zip([channels[0], *channels], channels, dilations, strict=False)
        self.blocks = nn.ModuleList(DeepRxBlock(*block) for block in ends)
        self.norm = KindNorm(channels[-1])
        self.last = nn.ReLU()
        self.head = nn.Conv2d(channels[-1], MAX_BITS, 1)

    def forward(self, x: Tensor, kind: int) -> Tensor:
        x = x.to(self.first.weight.dtype).contiguous(memory_format=torch.channels_last)
        x = self.first(x)
        for block in self.blocks:
            x = block(x, kind)
        return self.head(self.last(self.norm(x, kind))).float()


class DeepRx(nn.Module):
    """DeepRx as published (Honkala, Korpi, Huttunen, arXiv 2005.01494, table I), and its width- and
    depth-scaled students.

    width 1.0 and 11 blocks are the paper's net; fewer blocks (at least 2) are spread evenly over
    its 11, the first and the last included. larger_in_time: whether the larger dilation of (2, 3)
    and (3, 6) runs along time instead of frequency (sources disagree).

    Its input is the published one on slots of unit power. Its batch norms keep statistics for each
    kind of slot, since a batch here is of one kind; the weights are the paper's in number and use.
    """

    CHANNELS = (64, 64, 128, 128, 256, 256, 256, 128, 128, 64, 64)
    DILATIONS = ((1, 1),) * 2 + ((2, 3),) * 3 + ((3, 6),) + ((2, 3),) * 3 + ((1, 1),) * 2

    def __init__(
        self,
        n_rx: int = 2,
        width: float = 1.0,
        blocks: int = 11,
        larger_in_time: bool = False,
    ):
        super().__init__()
        if not (width > 0 and 2 <= blocks <= len(self.CHANNELS)):
            raise ValueError(
                f"DeepRx: expected width above 0 and 2 to 11 blocks, got {width} and {blocks}"
            )
        self.n_rx = n_rx
        kept = [round(i * (len(self.CHANNELS) - 1) / (blocks - 1)) for i in range(blocks)]
        channels = [max(1, round(self.CHANNELS[i] * width)) for i in kept]
        dilations = [self.DILATIONS[i] for i in kept]
        if larger_in_time:
            dilations = [d[::-1] for d in dilations]
        self.net = DeepRxBody(4 * n_rx + 2, channels, dilations)

    def forward(self, y: Tensor, p: Tensor, bits: int) -> Tensor:
        return self.net(paper_planes(y, p), kind_of(p, bits)).permute(0, 2, 3, 1)


def dense_form(net: DeepRx) -> DeepRx:
    """A copy that computes the same with dense convolutions in place of separable ones."""
    net = deepcopy(net)
    for block in net.net.blocks:
        block.convs = nn.ModuleList(conv.dense() for conv in block.convs)
    return net


class DenseBlock(nn.Module):
    """Pre-activation residual block of two dense 3x3 convolutions."""

    def __init__(self, channels: int, dilation: tuple[int, int]):
        super().__init__()

        def conv():
            return nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)

        self.norms = nn.ModuleList([KindNorm(channels), KindNorm(channels)])
        self.convs = nn.ModuleList([conv(), conv()])

    def forward(self, x: Tensor, kind: int) -> Tensor:
        z = x
        for norm, conv in zip(self.norms, self.convs):  # noqa: B905 (TorchScript has no strict)
            z = conv(F.relu(norm(z, kind)))
        return x + z


class FoldedNet(nn.Module):
    """Dense 3x3 residual net over a grid whose `fold` neighbouring subcarriers are folded into
    channels.

    Folding aligns the net with the pilot comb (fold 2) and turns memory traffic into matrix work,
    which is what CPUs with matrix units and GPUs are good at. dilations: (time, frequency) of each
    block. kind: of the slots, KindNorm.kind.
    """

    def __init__(
        self, c_in: int, c_out: int, channels: int, dilations: list[tuple[int, int]], fold: int
    ):
        super().__init__()
        if channels < 1 or fold not in (1, 2, 3, 4, 6, 12) or not dilations:
            raise ValueError(
                "expected at least one channel and one block and a fold that divides the 12 "
                f"subcarriers of a PRB, got channels {channels}, dilations {dilations}, fold {fold}"
            )
        self.fold = fold
        self.first = nn.Conv2d(c_in * fold, channels, 3, padding=1)
        self.blocks = nn.ModuleList(DenseBlock(channels, d) for d in dilations)
        self.norm = KindNorm(channels)
        self.last = nn.ReLU()
        self.head = nn.Conv2d(channels, c_out * fold, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, kind: int) -> Tensor:
        b, c, s, k = x.shape
        f = self.fold
        x = x.view(b, c, s, k // f, f).permute(0, 4, 1, 2, 3).reshape(b, f * c, s, k // f)
        x = x.to(self.first.weight.dtype).contiguous(memory_format=torch.channels_last)
        x = self.first(x)
        for block in self.blocks:
            x = block(x, kind)
        x = self.head(self.last(self.norm(x, kind))).float()
        return x.reshape(b, f, -1, s, k // f).permute(0, 2, 3, 4, 1).reshape(b, -1, s, k)


class PaperInputRx(nn.Module):
    """A folded dense net on the paper's input alone: received grid, pilots, and their product."""

    def __init__(
        self,
        n_rx: int = 2,
        channels: int = 32,
        dilations: tuple[tuple[int, int], ...] = ((1, 1),) * 3,
        fold: int = 2,
    ):
        super().__init__()
        self.n_rx = n_rx
        self.net = FoldedNet(4 * n_rx + 2, MAX_BITS, channels, list(dilations), fold)

    def forward(self, y: Tensor, p: Tensor, bits: int) -> Tensor:
        return self.net(paper_planes(y, p), kind_of(p, bits)).permute(0, 2, 3, 1)


class HybridRx(nn.Module):
    """A folded dense net beside a classical receiver: it sees what that one sees and corrects it.

    Input planes: the received grid turned back by its bulk delay, the SURE-smoothed channel
    estimate, the LMMSE symbol and its SINR, the innovation (y - h s) s* of the soft-decided symbol
    s, and the modulation. With refine, the net first returns a channel correction, which is
    combined and demapped exactly; its LLR output then adds to that. The last layer starts at zero:
    training starts from the classical receiver.
    """

    def __init__(
        self,
        n_rx: int = 2,
        channels: int = 32,
        dilations: tuple[tuple[int, int], ...] = ((1, 1),) * 3,
        fold: int = 2,
        innovation: bool = True,
        refine: bool = True,
    ):
        super().__init__()
        self.estimate = PilotEstimate()
        self.smooth = SureSmoother()
        self.demap = Demapper()
        self.n_rx = n_rx
        self.innovation = innovation
        self.refine = refine
        c_in = 2 * n_rx * (3 if innovation else 2) + 2 + 2
        self.n_h = 2 * n_rx if refine else 0
        self.net = FoldedNet(c_in, MAX_BITS + self.n_h, channels, list(dilations), fold)

    def classical(
        self, y: Tensor, p: Tensor, bits: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
        """What the net corrects and sees, without weights: y and h complex64 [B, R, 14, K], the
        inverse of the noise's covariance [B, R, R], planes [B, C, 14, K]; the slots' kind.
        """
        scale = y.square().sum(-1).mean((1, 2, 3)).add(1e-12).rsqrt()
        yc, z, symbols, cov = self.estimate(y * scale[:, None, None, None, None], p)
        z = self.smooth(z, cov.diagonal(dim1=1, dim2=2).real)
        h = interpolate_time(interpolate_frequency(z), symbols, y.size(2))
        inverse = noise_inverse(cov)
        x, sinr = combine(yc, h, inverse)
        grids = [yc, h, (x * (sinr / (1 + sinr)))[:, None]]
        if self.innovation:
            pilots = torch.view_as_complex(p)
            soft = torch.where(pilots.abs() > 0, pilots, self.demap.mean(x, sinr, bits))[:, None]
            grids.append((yc - h * soft) * soft.conj())
        level = (sinr.log() / 4).clamp(-2.0, 3.0)[:, None]
        order = torch.full_like(level, bits / 8.0)
        seen = torch.cat([planes(torch.cat(grids, 1)), level, order], 1)
        return yc, h, inverse, seen, KindNorm.kind(bits, symbols.size(0))

    def forward(self, y: Tensor, p: Tensor, bits: int) -> Tensor:
        with torch.no_grad():
            yc, h, inverse, seen, kind = self.classical(y, p, bits)
        out = self.net(seen, kind)
        if self.refine:
            h = h + torch.complex(out[:, : self.n_rx], out[:, self.n_rx : self.n_h])
        x, sinr = combine(yc, h, inverse)
        llr = 12 * torch.tanh(self.demap(x, sinr, bits) / 12)
        return llr + out[:, self.n_h : self.n_h + bits].permute(0, 2, 3, 1)


def count_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def bodies(net: nn.Module) -> list[nn.Module]:
    """The convolutional parts of a net, which run in bfloat16 where it is asked for; the arithmetic
    around them needs float32. Of a net from elsewhere, none.
    """
    if isinstance(net, RealtimeRx):
        return net.bodies()
    return [net.net] if isinstance(net, DeepRx | PaperInputRx | HybridRx) else []


def last_hidden(net: nn.Module) -> nn.Module:
    """The module whose output, [B, C, S, K'], is the last before the head. ValueError where a net
    from elsewhere has none that is known.
    """
    if not bodies(net):
        raise ValueError(f"no hints for a {type(net).__name__}: its last hidden layer is unknown")
    body = bodies(net)[-1]
    return body.net[-2] if isinstance(body, Body) else body.last
