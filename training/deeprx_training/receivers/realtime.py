# SPDX-License-Identifier: GPL-3.0-or-later
"""The real-time student: few operators, real arithmetic, static shapes.

What HybridRx does with a classical receiver and a large net this does with as little as keeps its
accuracy: a small net on the pilots estimates the channel, exact combining turns it into symbols,
and a second net on blocks of subcarriers corrects the channel by what those symbols say about it.
No operator here is complex and no shape depends on a value, so that engines other than LibTorch
can run it.

Complex grids are planes [B, 2 C, S, K], all real parts first.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .classical import smoothing_kernels


def quarter_turn(z: Tensor) -> Tensor:
    """j z of planes [B, 2 C, ...]."""
    re, im = z.chunk(2, 1)
    return torch.cat([-im, re], 1)


def turn(z: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """z (cos + j sin) of planes."""
    return torch.addcmul(z * cos, quarter_turn(z), sin)


def combine(y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum ratio combining at unit noise power: symbols [B, 2, S, K] and their SINR [B, 1, S,
    K].
    """
    sinr = h.square().sum(1, keepdim=True).clamp(min=1e-6)
    re = (h * y).sum(1, keepdim=True)
    im = (quarter_turn(h) * y).sum(1, keepdim=True)
    return torch.cat([re, im], 1) / sinr, sinr


def level_spacing(bits: int) -> float:
    """Half the distance of neighbouring levels of square QAM at unit power."""
    return (1.5 / (2.0**bits - 1)) ** 0.5


def decisions(x: Tensor, bits: int) -> list[Tensor]:
    """How far x [B, 2, S, K] is on the side of 1, for each bit of an axis of Gray QAM (TS 38.211):
    folding the axis at one bit's threshold leaves the next bit's.
    """
    u = -x
    sides = [u]
    for i in range(1, bits // 2):
        u = u.abs() - 2.0 ** (bits // 2 - i) * level_spacing(bits)
        sides.append(u)
    return sides


def demap(x: Tensor, sinr: Tensor, bits: int) -> Tensor:
    """Max-log LLRs [B, bits / 2, 2, S, K], exactly.

    Where more than one threshold of another bit lies between x and the nearest level of the other
    value, each adds its excess to the bit's own decision.
    """
    d = level_spacing(bits)
    llrs = decisions(x, bits)
    for i in range(bits // 2):
        u = llrs[i]
        for k in range(1, 1 << (bits // 2 - 1 - i)):
            llrs[i] = llrs[i] + (u - u.clamp(-2.0 * k * d, 2.0 * k * d))
    return torch.stack(llrs, 1) * (4 * d * sinr)[:, None]


def soft_symbol(x: Tensor, sinr: Tensor, bits: int) -> Tensor:
    """What was probably sent, [B, 2, S, K]. A clamp stands for the tanh of half an LLR, which would
    cost ten times as much.
    """
    d = level_spacing(bits)
    slope = -1.6 * d * sinr
    s = torch.zeros_like(x)
    bit = decisions(x, bits)
    for i in range(bits // 2):
        s = (slope * bit[bits // 2 - 1 - i]).clamp(-1.0, 1.0) * (2.0**i - s)
    return s * d


class ResidualBlock(nn.Module):
    """Two convolutions, dense or depthwise and pointwise; every batch norm follows one and folds
    into it.
    """

    def __init__(
        self, channels: int, kernel: tuple[int, int], dilation: tuple[int, int], separable: bool
    ):
        super().__init__()
        reach = {
            "padding": [d * (k // 2) for k, d in zip(kernel, dilation, strict=True)],
            "dilation": dilation,
            "bias": False,
        }

        def half():
            dense = [nn.Conv2d(channels, channels, kernel, **reach)]
            depthwise = [
                nn.Conv2d(channels, channels, kernel, groups=channels, **reach),
                nn.Conv2d(channels, channels, 1, bias=False),
            ]
            return nn.Sequential(*(depthwise if separable else dense), nn.BatchNorm2d(channels))

        self.first, self.second = half(), half()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class Body(nn.Module):
    """A residual net on planes float32 [B, C, H, W], which may compute in bfloat16; its last layer
    starts at zero.
    """

    def __init__(
        self,
        c_in: int,
        channels: int,
        c_out: int,
        blocks: int,
        kernel: tuple[int, int],
        dilation: tuple[int, int] = (1, 1),
        separable: bool = False,
    ):
        super().__init__()
        head = nn.Conv2d(channels, c_out, 1)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        self.net = nn.Sequential(
            nn.Conv2d(c_in, channels, (kernel[0], 1), padding=(kernel[0] // 2, 0), bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            *(ResidualBlock(channels, kernel, dilation, separable) for _ in range(blocks)),
            head,
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.net[0].weight.dtype).contiguous(memory_format=torch.channels_last)
        return self.net(x).float()


class RealtimeRx(nn.Module):
    """channels and blocks of the net on the grid, whose `fold` neighbouring subcarriers are one
    position, in each of so many rounds (0: the pilots alone); pilot_channels and pilot_blocks of
    the net on the pilots. The blocks on the grid have a dilation (time, frequency) and are dense
    or separable: training/experiments/search.toml compares them.

    While training, it returns the LLRs after every round, one after another along B: each round is
    taught, and a net can be cut short after any of them.

    One or two antennas, one or two DMRS symbols, any number of PRBs. ValueError for other numbers
    of antennas and for a fold that does not divide a PRB.
    """

    def __init__(
        self,
        n_rx: int = 2,
        channels: int = 48,
        blocks: int = 1,
        rounds: int = 1,
        fold: int = 6,
        pilot_channels: int = 96,
        pilot_blocks: int = 1,
        dilation: tuple[int, int] = (1, 1),
        separable: bool = False,
    ):
        super().__init__()
        if (
            n_rx not in (1, 2)
            or fold not in (1, 2, 3, 4, 6, 12)
            or min(channels, pilot_channels) < 1
        ):
            raise ValueError(
                "expected one or two antennas, at least one channel and a fold that divides the 12 "
                f"subcarriers of a PRB, got n_rx {n_rx}, channels {channels} and {pilot_channels}, "
                f"fold {fold}"
            )
        self.n_rx, self.fold = n_rx, fold
        self.register_buffer("windows", smoothing_kernels())
        n = 2 * len(self.windows)
        # for both DMRS symbols their own pilots, over three; for the parabola none
        mix = torch.zeros(3, n)
        mix[0, 1] = mix[1, n // 2 + 1] = 1.0
        self.mix = nn.Parameter(mix)
        # a position is a PRB: real and imaginary parts of its 6 pilots of two symbols, and the
        # level; out: its 12 subcarriers at both symbols and the parabola, and the mix
        out = 72 * n_rx + 3 * n
        self.pilot_net = Body(24 * n_rx + 1, pilot_channels, out, pilot_blocks, kernel=(1, 3))
        planes = ((4 * n_rx + 4) * fold, channels, 2 * n_rx * fold)
        blocks_are = {"kernel": (3, 3), "dilation": tuple(dilation), "separable": separable}
        self.rounds = nn.ModuleList(Body(*planes, blocks, **blocks_are) for _ in range(rounds))

    @torch.jit.unused
    def bodies(self) -> list[nn.Module]:
        return [self.pilot_net, *self.rounds]

    def whitener(self, z: Tensor) -> Tensor:
        """What makes the noise white and of unit power: [B, 2 R, 2 R], for planes.

        From second differences of neighbouring pilots z [B, 2 R, 2, P], as PilotEstimate, shrunk
        towards white noise (OAS).
        """
        e = (z[..., :-2] - 2 * z[..., 1:-1] + z[..., 2:]).flatten(2)
        n = e.size(2)
        cov = e @ e.transpose(1, 2) / (6.0 * n)  # of real and imaginary parts
        if self.n_rx == 1:
            a = (cov[:, 0, 0] + cov[:, 1, 1] + 1e-12).rsqrt()
            return torch.eye(2, device=z.device) * a[:, None, None]
        p0, p1 = cov[:, 0, 0] + cov[:, 2, 2], cov[:, 1, 1] + cov[:, 3, 3]
        re, im = cov[:, 0, 1] + cov[:, 2, 3], cov[:, 2, 1] - cov[:, 0, 3]
        cross, trace = re.square() + im.square(), p0 + p1
        excess = (p0 * p0 + p1 * p1 + 2 * cross - trace.square() / 2).clamp(min=1e-30)
        keep = 1 - (trace.square() / (n * 18.0 / 35.0 * excess)).clamp(0.0, 1.0)
        rest = (1 - keep) * trace / 2 + 1e-6 * trace + 1e-12
        p0, p1, re, im = keep * p0 + rest, keep * p1 + rest, keep * re, keep * im
        # the second antenna without what the first says about its noise
        a = p0.rsqrt()
        d = (p1 - (re.square() + im.square()) / p0).clamp(min=1e-12).rsqrt()
        u, v, o = -re / p0 * d, im / p0 * d, torch.zeros_like(a)
        rows = [a, o, o, o, u, d, -v, o, o, o, a, o, v, o, u, d]
        return torch.stack(rows, 1).view(-1, 4, 4)

    def channel(self, z: Tensor, first: Tensor, last: Tensor, n_sym: int) -> Tensor:
        """Pilots z [B, 2 R, 2, P] to the channel [B, 2 R, S, K].

        The net sees the pilots and says, PRB by PRB, how to mix smoothing windows of both symbols
        into the channel at both and into the parabola between them, and adds what windows cannot
        give.
        """
        b, planes, p = z.size(0), z.size(1), z.size(3)
        prbs, n = p // 6, 2 * self.windows.size(0)
        power = z.square().mean((1, 2, 3), keepdim=True).clamp(min=1e-6)
        seen = (z * power.rsqrt()).flatten(1, 2).view(b, 2 * planes, prbs, 6).transpose(2, 3)
        loudness = (0.1 * power.log()).expand(-1, -1, -1, prbs)
        seen = torch.cat([seen.reshape(b, 12 * planes, 1, prbs), loudness], 1)
        numbers = self.pilot_net(seen)  # [B, 36 planes + 3 n, 1, prbs]
        windows, margin = self.windows[:, None], self.windows.size(1) // 2
        smooth = torch.conv1d(z.reshape(-1, 1, p), windows, padding=margin)
        smooth = smooth / torch.conv1d(torch.ones_like(z[:1, :1, 0]), windows, padding=margin)
        smooth = smooth.view(b, planes, n, prbs, 6).permute(0, 3, 2, 1, 4).reshape(b, prbs, n, -1)
        mix = numbers[:, 36 * planes :, 0].transpose(1, 2).reshape(b, prbs, 3, n) + self.mix
        h = (
            (mix @ smooth)
            .view(b, prbs, 3, planes, 6)
            .permute(0, 3, 2, 1, 4)
            .reshape(b, planes, 3, p)
        )
        after = torch.cat([h[..., 1:], h[..., -1:]], -1)
        h = torch.stack([h, (h + after) / 2], -1).flatten(-2)
        more = numbers[:, : 36 * planes].view(b, planes, 3, 12, prbs).transpose(3, 4)
        h = torch.addcmul(h, more.reshape(b, planes, 3, 12 * prbs), power.sqrt())
        t = torch.arange(n_sym, device=z.device, dtype=z.dtype)
        two = (last > first).to(z.dtype)  # DMRS symbols, or the channel stays as at the only one
        w = (two * (t - first) / (last - first).clamp(min=1))[:, None]
        line = torch.addcmul(h[:, :, :1], h[:, :, 1:2] - h[:, :, :1], w)
        return torch.addcmul(line, h[:, :, 2:], w * (1 - w))

    def seen(self, y: Tensor, h: Tensor, p: Tensor, bits: int) -> tuple[Tensor, Tensor]:
        """What a net on the grid sees, [B, C fold, S, K / fold]: the innovation (y - h s) s* of the
        soft-decided symbols s, h, how sure they are, the SINR and the modulation.

        And the innovation's size in the slot, [B, 1, 1, 1], of which the net sees but the
        logarithm: it is between noise and a hundred times as much.
        """
        b, n_sym, k = h.size(0), h.size(2), h.size(3)
        x, sinr = combine(y, h)
        data = 1 - p.square().sum(1, keepdim=True)
        s = torch.addcmul(p, soft_symbol(x, sinr, bits), data)
        energy = s.square().sum(1, keepdim=True)
        innovation = turn(y, s[:, :1], -s[:, 1:]) - h * energy
        size = innovation.square().mean((1, 2, 3), keepdim=True).clamp(min=1e-6).sqrt()
        level = sinr.mean((1, 2, 3), keepdim=True).rsqrt()
        loudness = (0.1 * size.log()).expand_as(energy)
        order = torch.full_like(energy, bits / 8.0)
        grids = [innovation / size, h * level, energy, 0.1 * sinr.log(), loudness, order]
        grids = torch.cat(grids, 1).view(b, -1, n_sym, k // self.fold, self.fold)
        return grids.permute(0, 4, 1, 2, 3).reshape(b, -1, n_sym, k // self.fold), size

    def forward(self, y: Tensor, p: Tensor, bits: int) -> Tensor:
        b, n_sym, k = y.size(0), y.size(2), y.size(3)
        y = y.movedim(-1, 1).reshape(b, -1, n_sym, k)
        p = p.movedim(-1, 1).contiguous()
        used = (p[0].abs().sum((0, 2)) > 0).int()
        first = used.argmax(0, keepdim=True)
        last = n_sym - 1 - used.flip(0).argmax(0, keepdim=True)
        dmrs = torch.cat([first, last])

        # least squares, turned back by the slot's bulk delay
        known = p.index_select(2, dmrs)[..., ::2]
        z = turn(y.index_select(2, dmrs)[..., ::2], known[:, :1], -known[:, 1:])
        ahead, behind = z[..., 1:], z[..., :-1]
        re = (ahead * behind).sum((1, 2, 3))
        im = (ahead * quarter_turn(behind)).sum((1, 2, 3))
        subcarrier = torch.arange(k, device=y.device, dtype=y.dtype) - k // 2
        angle = (-0.5 * torch.atan2(im, re)[:, None] * subcarrier)[:, None, None]
        cos, sin = angle.cos(), angle.sin()
        z = turn(z, cos[..., ::2], sin[..., ::2])
        white = self.whitener(z)
        z = (white @ z.flatten(2)).view(z.shape)
        y = turn((white @ y.flatten(2)).view(y.shape), cos, sin)

        h = self.channel(z, first, last, n_sym)
        exits = [h]
        for net in self.rounds:
            seen, size = self.seen(y, h.detach(), p, bits)
            change = net(seen).view(b, -1, self.fold, n_sym, k // self.fold).permute(0, 1, 3, 4, 2)
            h = torch.addcmul(h, change.reshape(h.shape), size)
            exits.append(h)
        if not self.training:
            return self.llrs(y, h, bits)
        return torch.cat([self.llrs(y, h, bits) for h in exits])

    def llrs(self, y: Tensor, h: Tensor, bits: int) -> Tensor:
        x, sinr = combine(y, h)
        llr = 12 * torch.tanh(demap(x, sinr, bits) / 12)  # as HybridRx
        return llr.permute(0, 3, 4, 1, 2).reshape(h.size(0), h.size(2), h.size(3), bits)
