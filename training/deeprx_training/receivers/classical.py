# SPDX-License-Identifier: GPL-3.0-or-later
"""Classical OFDM reception in torch: pilots to channel, combining, exact demapping. Exports to
TorchScript.

The baseline receiver and the neural receivers' input features are both made of these. Shapes: B
slots, R antennas, S symbols, K subcarriers, D DMRS symbols, P = K / 2 pilots in each.
"""

import math
from typing import Final

import torch
from torch import Tensor, nn

from deeprx_common.modulation import constellation


class PilotEstimate(nn.Module):
    """Least squares at the pilots, with the slot's bulk delay taken out.

    The mean phase step from pilot to pilot is estimated over all antennas and removed from the
    received grid, so that smoothing and interpolation see the flattest channel there is. Returns
    (y, z, symbols, cov): y complex64 [B, R, S, K] turned back; z complex64 [B, R, D, P] pilot
    estimates; symbols int64 [D]; cov complex64 [B, R, R] noise-plus-interference covariance, from
    second differences of neighbouring pilots, which a channel that is linear over three pilots
    does not enter. It is shrunk towards white noise as far as its sampling error asks for (OAS:
    Chen, Wiesel, Eldar, Hero, IEEE TSP 58(10), 2010): without an interferer that is maximum ratio
    combining, with one interference rejection.
    """

    def forward(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        yc = torch.view_as_complex(y)
        pc = torch.view_as_complex(p)
        symbols = (p[0].abs().sum((1, 2)) > 0).nonzero().flatten()
        z = yc[:, :, symbols, ::2] * pc[:, None, symbols, ::2].conj()
        n_sc = y.size(3)
        step = (z[..., 1:] * z[..., :-1].conj()).sum((1, 2, 3)).angle() / 2
        k = torch.arange(n_sc, device=y.device, dtype=y.dtype) - n_sc // 2
        turn = -step[:, None, None] * k
        back = torch.polar(torch.ones_like(turn), turn)
        yc = yc * back[:, None]
        z = z * back[:, None, :, ::2]
        e = (z[..., :-2] - 2 * z[..., 1:-1] + z[..., 2:]).flatten(2)
        cov = e @ e.mH / (6.0 * e.size(2))
        return yc, z, symbols, shrink_covariance(cov, e.size(2) * 18.0 / 35.0)


def shrink_covariance(cov: Tensor, samples: float) -> Tensor:
    """OAS shrinkage of cov complex64 [B, R, R]; samples: how many independent ones it was
    estimated from.

    Second differences of white noise are correlated (6, -4, 1): n of them count as 18/35 n.
    """
    r = cov.size(1)
    trace = cov.diagonal(dim1=1, dim2=2).real.sum(1)
    square = (cov.abs() ** 2).sum((1, 2))
    excess = (square - trace**2 / r).clamp(min=1e-30)
    rho = (((1 - 2 / r) * square + trace**2) / ((samples + 1 - 2 / r) * excess)).clamp(0.0, 1.0)[
        :, None, None
    ]
    white = (trace / r)[:, None, None] * torch.eye(r, dtype=cov.dtype, device=cov.device)
    return (1 - rho) * cov + rho * white


def interpolate_time(h: Tensor, symbols: Tensor, n_sym: int) -> Tensor:
    """Linear in time through one or two DMRS symbols, extended as straight lines; [B, R, D, K] to
    [B, R, S, K].
    """
    if symbols.size(0) == 1:
        return h.expand(-1, -1, n_sym, -1)
    s = torch.arange(n_sym, device=h.device, dtype=torch.float32)
    w = ((s - symbols[0]) / (symbols[1] - symbols[0]))[:, None]
    return h[:, :, :1] * (1 - w) + h[:, :, 1:] * w


def pair_average(z: Tensor) -> Tensor:
    """Pilots to all subcarriers: linear interpolation of the means of neighbouring pilot pairs;
    [.., P] to [.., 2 P].
    """
    pairs = (z[..., :-1] + z[..., 1:]) / 2
    odd = torch.cat([pairs, pairs[..., -1:]], -1)
    even = torch.cat([pairs[..., :1], (pairs[..., :-1] + pairs[..., 1:]) / 2, pairs[..., -1:]], -1)
    return torch.stack([even, odd], -1).flatten(-2)


def noise_inverse(cov: Tensor) -> Tensor:
    """Inverse of a noise-plus-interference covariance, complex64 [B, R, R], floored at 1e-6 of its
    mean power.
    """
    eye = torch.eye(cov.size(1), dtype=cov.dtype, device=cov.device)
    floor = 1e-6 * cov.diagonal(dim1=1, dim2=2).real.mean(1) + 1e-12
    return torch.linalg.inv(cov + floor[:, None, None] * eye)


def combine(y: Tensor, h: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Interference-rejecting MRC: unbiased symbol estimate complex64 [B, S, K] and its SINR
    float32 [B, S, K].

    inverse = noise_inverse(cov). The same decisions as LMMSE equalisation with its bias removed.
    """
    w = (inverse @ h.flatten(2)).view(h.shape)
    gain = (w.conj() * h).sum(1).real.clamp(min=1e-9)
    return (w.conj() * y).sum(1) / gain, gain


def whiten_combine(y: Tensor, h: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
    """combine() with the inverse of cov complex64 [B, R, R]."""
    return combine(y, h, noise_inverse(cov))


class Demapper(nn.Module):
    """Exact LLRs of square Gray QAM in Gaussian noise, log P(b=1)/P(b=0): log-MAP, or max-log.

    forward(x complex [...], sinr float [...], bits) returns float32 [..., bits]. I and Q bits
    alternate (TS 38.211), and one axis does not see the other, so each axis is a PAM of 2^(bits/2)
    levels.
    """

    at_once: Final[int] = 4096  # symbols, which a processor's cache holds

    def __init__(self, max_log: bool = False):
        super().__init__()
        self.max_log = max_log
        for b, name in ((2, "QPSK"), (4, "16QAM"), (6, "64QAM"), (8, "256QAM")):
            points = torch.from_numpy(constellation(name))
            m = b // 2
            label = torch.arange(2**m)
            spread = torch.zeros_like(label)  # PAM label to the even bits of the QAM label
            for i in range(m):
                spread |= (label >> i & 1) << (2 * i + 1)
            levels = points[spread].real.contiguous()
            ones = torch.stack([label >> (m - 1 - i) & 1 for i in range(m)]).bool()
            self.register_buffer(f"levels{b}", levels)
            # levels where bit i is 1, and where it is 0: [m, 2^(m-1)]
            self.register_buffer(f"one{b}", torch.stack([levels[r] for r in ones]))
            self.register_buffer(f"zero{b}", torch.stack([levels[~r] for r in ones]))

    def _sets(self, bits: int) -> tuple[Tensor, Tensor]:
        if bits == 2:
            return self.one2, self.zero2
        if bits == 4:
            return self.one4, self.zero4
        if bits == 6:
            return self.one6, self.zero6
        return self.one8, self.zero8

    def _score(self, x: Tensor, scale: Tensor, levels: Tensor) -> Tensor:
        metric = -scale * (x - levels.T[..., None, None]) ** 2  # [2^(m-1), m, 2, N]
        best = metric.amax(0)
        if self.max_log:
            return best
        # exp() is slow where its result is denormal, and 1 + exp(-80) is 1
        return best + (metric - best).clamp(min=-80.0).exp().sum(0).log()

    def mean(self, x: Tensor, sinr: Tensor, bits: int) -> Tensor:
        """Posterior mean of the transmitted symbol, complex64 like x."""
        if bits == 2:
            levels = self.levels2
        elif bits == 4:
            levels = self.levels4
        elif bits == 6:
            levels = self.levels6
        else:
            levels = self.levels8
        axes = torch.stack([x.real, x.imag], -1)[..., None]
        metric = -sinr[..., None, None] * (axes - levels) ** 2
        # torch.softmax is slow over so short an axis
        weight = (metric - metric.amax(-1, keepdim=True)).exp()
        return torch.view_as_complex((weight * levels).sum(-1) / weight.sum(-1))

    def forward(self, x: Tensor, sinr: Tensor, bits: int) -> Tensor:
        one, zero = self._sets(bits)
        if bits == 2:  # one level each: the difference of squares, exactly
            return 4 * sinr[..., None] * torch.view_as_real(x) * one.flatten()
        axes, scale = torch.view_as_real(x).reshape(-1, 2).T, sinr.flatten()
        llrs: list[Tensor] = []
        for first in range(0, scale.size(0), self.at_once):
            x_part = axes[:, first : first + self.at_once]
            part = scale[first : first + self.at_once]
            llr = self._score(x_part, part, one) - self._score(x_part, part, zero)  # [m, 2, N]
            llrs.append(llr.flatten(0, 1).T)
        return torch.cat(llrs).unflatten(0, x.shape)

    def of_layers(self, x: Tensor, sinr: Tensor, data: Tensor, bits: list[int]) -> list[Tensor]:
        """LLRs of each layer [B, S, K, its bits], 0 where there is no data; x and sinr [B, L, S,
        K], data bool [S, K].
        """
        llrs: list[Tensor] = []
        for i, m in enumerate(bits):
            llrs.append(torch.where(data[..., None], self.forward(x[:, i], sinr[:, i], m), 0.0))
        return llrs


WIDTHS = (1, 3, 7, 15, 31)  # pilots that a window smooths over


def smoothing_kernels() -> Tensor:
    """Hann windows over WIDTHS pilots, each of sum 1, centred in the widest: float32 [len(WIDTHS),
    max(WIDTHS)].
    """
    span = max(WIDTHS)
    out = torch.zeros(len(WIDTHS), span)
    for i, w in enumerate(WIDTHS):
        taps = torch.sin(math.pi * torch.arange(1, w + 1) / (w + 1)) ** 2
        out[i, (span - w) // 2 : (span + w) // 2] = taps / taps.sum()
    return out


class SureSmoother(nn.Module):
    """Smooths the pilots over frequency with the window that Stein's unbiased risk estimate finds
    best, per slot.

    SURE of a linear smoother H on z = h + n, noise power n0: |z - Hz|^2 + 2 n0 tr(H) - n0, up to
    terms without H.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("kernels", smoothing_kernels())

    def forward(self, z: Tensor, n0: Tensor) -> Tensor:
        """z complex64 [B, R, D, P], n0 float32 [B, R] noise power per antenna; returns complex64
        [B, R, D, P].
        """
        n, span = self.kernels.size(0), self.kernels.size(1)
        b, r, d, p = z.shape
        rows = torch.view_as_real(z).movedim(-1, -2).reshape(-1, 1, p)
        kernels = self.kernels[:, None]
        smooth = torch.conv1d(rows, kernels, padding=span // 2)
        weight = torch.conv1d(torch.ones_like(rows[:1]), kernels, padding=span // 2)
        smooth = smooth / weight
        trace = (self.kernels[:, span // 2, None] / weight[0]).mean(-1)  # [n]
        residual = ((rows - smooth) ** 2).view(b, r, d, 2, n, p).sum(3).mean((2, 4))  # [B, R, n]
        risk = (residual + 2 * n0[..., None] * trace).sum(1)  # [B, n]
        best = risk.argmin(1)
        smooth = smooth.view(b, r * d * 2, n, p)
        index = best[:, None, None, None].expand(-1, r * d * 2, 1, p)
        picked = smooth.gather(2, index).view(b, r, d, 2, p).movedim(3, -1).contiguous()
        return torch.view_as_complex(picked)


def interpolate_frequency(z: Tensor) -> Tensor:
    """Pilots to all subcarriers by linear interpolation, [.., P] to [.., 2 P]; the last one
    repeats.
    """
    after = torch.cat([z[..., 1:], z[..., -1:]], -1)
    return torch.stack([z, (z + after) / 2], -1).flatten(-2)


class Baseline(nn.Module):
    """LS with linear interpolation, interference-rejecting LMMSE, exact demapper: the model
    contract's forward.

    Any number of PRBs and antennas, one or two DMRS symbols, QPSK to 256-QAM. The pilots are
    averaged in neighbouring pairs, or smoothed by the window that SURE picks for each slot.
    """

    def __init__(self, max_log: bool = False, sure: bool = False):
        super().__init__()
        self.estimate = PilotEstimate()
        self.smooth = SureSmoother()
        self.demap = Demapper(max_log)
        self.sure = sure

    def forward(self, y: Tensor, p: Tensor, bits: int) -> Tensor:
        yc, z, symbols, cov = self.estimate(y, p)
        if self.sure:
            h = interpolate_frequency(self.smooth(z, cov.diagonal(dim1=1, dim2=2).real))
        else:
            h = pair_average(z)
        x, sinr = whiten_combine(yc, interpolate_time(h, symbols, y.size(2)), cov)
        return self.demap(x, sinr, bits)
