# SPDX-License-Identifier: GPL-3.0-or-later
"""What nets are compared with, for any PUSCH of one or two layers with DMRS of type 1: the
classical receivers that need no file, and perfect CSI.

ls-lmmse, sure-lmmse and gnb are those of gr-deeprx/lib/phy/classical_receiver.h; the C++ says why
they are as they are, and a test holds their LLRs against each other. They are the model contract's
forward and estimate, and script.

B slots, L layers, R antennas, S symbols, K subcarriers; D DMRS symbols, each with P = K / 2 pilots
of a layer. Two layers are paired where they share pilots, which differ in sign over pairs of them.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deeprx_common.shipped import CLASSICAL

from .classical import (
    Demapper,
    interpolate_frequency,
    pair_average,
    shrink_covariance,
    smoothing_kernels,
)
from .contract import bits_of

if TYPE_CHECKING:
    from ..data.channels import SlotBatch


class Pilots(NamedTuple):
    """z complex64 [B, L, R, D, P]: received pilots over sent ones. dmrs int64 [D]; odd bool [L]:
    which layers' pilots are on odd subcarriers; boost: power of a pilot.
    """

    z: Tensor
    dmrs: Tensor
    odd: Tensor
    boost: float
    paired: bool


def least_squares(y: Tensor, p: Tensor) -> Pilots:
    """Of complex y [B, R, S, K] and p [B, L, S, K]. Slots of a batch have pilots in the same
    places.
    """
    power = p[0].abs().square()
    dmrs = power.sum((0, 2)).nonzero().flatten()
    comb = power.sum(1).unflatten(1, [-1, 2]).sum(1)  # on even and on odd subcarriers
    odd = comb[:, 1] > comb[:, 0]
    boost = float(comb.sum()) / (p.size(1) * dmrs.size(0) * (p.size(3) // 2))
    received, sent = y.index_select(2, dmrs), p.index_select(2, dmrs)
    z = (received[:, None] * sent[:, :, None].conj()).unflatten(-1, [-1, 2]).sum(-1) / boost
    return Pilots(z, dmrs, odd, boost, p.size(1) == 2 and bool(odd[0] == odd[1]))


def phasor(angle: Tensor) -> Tensor:
    return torch.polar(torch.ones_like(angle), angle)


def over_carriers(h: Tensor, odd: Tensor) -> Tensor:
    """[B, L, R, D, K], as if all layers' pilots were on even subcarriers, to where they are."""
    behind = torch.cat([h[..., :1], h[..., :-1]], -1)
    return torch.where(odd[:, None, None, None], behind, h)


def lines(dmrs: Tensor, n_symbols: int) -> Tensor:
    """Weights of DMRS symbols in every symbol's channel, float32 [S, D]: lines between neighbours
    and beyond the outer ones.
    """
    n = dmrs.size(0)
    weights = torch.zeros(n_symbols, n, device=dmrs.device)
    if n == 1:
        return weights + 1
    t = torch.arange(n_symbols, device=dmrs.device)
    before = (torch.searchsorted(dmrs, t, right=True) - 1).clamp(0, n - 2)
    after = (t - dmrs[before]) / (dmrs[before + 1] - dmrs[before])
    weights.scatter_(1, before[:, None], 1 - after[:, None])
    return weights.scatter_(1, before[:, None] + 1, after[:, None])


def separate(
    y: Tensor, h: Tensor, weighted: Tensor, ridge: float, least: float
) -> tuple[Tensor, Tensor]:
    """Unbiased symbols complex64 [B, L, S, K] and their gains float32, what is left of h^H C^-1 h
    when the other layer is removed, as far as a ridge of 1, LMMSE, or 0, zero forcing, asks for.

    y [B, R, S, K]; h and weighted, C^-1 h, [B, L, R, S, K]; least: of gains.
    """
    x = (weighted.conj() * y[:, None]).sum(2)
    gain = (weighted.conj() * h).sum(2).real
    if h.size(1) == 2:
        cross = (weighted[:, 0].conj() * h[:, 1]).sum(1)
        share = torch.stack([cross, cross.conj()], 1) / (gain.flip(1) + ridge)
        gain = gain - (share * share.conj()).real * (gain.flip(1) + ridge)
        x = x - share * x.flip(1)
    gain = gain.clamp(min=least)
    return x / gain, gain


def joined(llrs: list[Tensor], bits: list[int]) -> Tensor:
    """The contract's LLRs of the layers', 0 beyond a layer's own bits."""
    most = max(bits)
    return torch.stack([F.pad(llr, [0, most - llr.size(-1)]) for llr in llrs], 1)


class LmmseRx(nn.Module):
    """ls-lmmse: pilots averaged in neighbouring pairs; with sure, sure-lmmse: smoothed by the
    window that Stein's unbiased risk estimate finds best for the slot, and from three DMRS symbols
    on over time, too. Interference-rejecting LMMSE, exact LLRs.
    """

    def __init__(self, sure: bool):
        super().__init__()
        self.sure = sure
        self.demap = Demapper()
        self.register_buffer("kernels", smoothing_kernels())

    def forward(self, y: Tensor, p: Tensor, d: Tensor, bits: list[int]) -> Tensor:
        received = torch.view_as_complex(y)
        h, cov = self.channel(received, torch.view_as_complex(p))
        power = cov.diagonal(dim1=1, dim2=2).real.mean(1)
        eye = torch.eye(cov.size(1), dtype=cov.dtype, device=cov.device)
        inverse = torch.linalg.inv(cov + (1e-6 * power + 1e-30)[:, None, None] * eye)
        weighted = (inverse.to(h.dtype)[:, None] @ h.flatten(3)).view(h.shape)
        x, sinr = separate(received, h, weighted, 1.0, 1e-9)
        return joined(self.demap.of_layers(x, sinr, d, bits), bits)

    @torch.jit.export
    def estimate(self, y: Tensor, p: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        h, cov = self.channel(torch.view_as_complex(y), torch.view_as_complex(p))
        return torch.view_as_real(h), cov.diagonal(dim1=1, dim2=2).real.float()

    def channel(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Complex64 [B, L, R, S, K], and the covariance of noise and interference, complex128
        [B, R, R].
        """
        z, dmrs, odd, boost, paired = least_squares(y, p)
        apart = 2 if paired else 1
        drift = (z[..., apart:] * z[..., :-apart].conj()).sum((2, 3, 4))
        carrier = torch.arange(y.size(3), device=y.device) - y.size(3) // 2
        turn = phasor(drift.angle()[..., None] / (2 * apart) * carrier)
        of_pilots = turn.unflatten(-1, [-1, 2])
        of_pilots = torch.where(odd[:, None], of_pilots[..., 1], of_pilots[..., 0])
        z = z * of_pilots[:, :, None, None].conj()

        cov = self.covariance(z[:, :1] if paired else z, apart) * boost
        if self.sure:
            noise = cov.diagonal(dim1=1, dim2=2).real.float() / boost
            h = interpolate_frequency(self.smooth(z, noise, dmrs, paired))
        else:
            h = pair_average(z)
        h = over_carriers(h, odd) * turn[:, :, None, None]
        return lines(dmrs, y.size(2)).to(h.dtype) @ h, cov

    def covariance(self, z: Tensor, apart: int) -> Tensor:
        """Of a pilot's noise and interference, from second differences."""
        e = z[..., : -2 * apart] - 2 * z[..., apart:-apart] + z[..., 2 * apart :]
        e = e.transpose(1, 2).flatten(2)
        n, r = e.size(2), e.size(1)
        cov = shrink_covariance((e @ e.mH).to(torch.complex128) / (6 * n), n * 18.0 / 35.0)
        power = z[..., : -2 * apart].abs().square().sum((1, 2, 3, 4)).double() / (r * n)
        # without noise, rounding errors would be taken for an interferer
        eye = torch.eye(r, dtype=cov.dtype, device=z.device)
        return cov + (1e-10 * power)[:, None, None] * eye

    def windows(self, rows: Tensor, paired: bool) -> tuple[Tensor, Tensor]:
        """Rows float32 [N, 1, P] under each window, [N, W, P], and a pilot's mean weight in its own
        estimate [W]. What is left of a window at an edge sums to 1; of paired layers' pilots, the
        even and the odd ones weigh the same.
        """
        kernels = self.kernels[:, None]
        reach = kernels.size(2) // 2
        one = torch.ones_like(rows[:1])
        even = torch.arange(rows.size(2), device=rows.device) % 2 == 0
        parts = [even.to(rows.dtype), 1.0 - even.to(rows.dtype)] if paired else [one[0, 0]]
        smooth, weight = torch.zeros(1, device=rows.device), torch.zeros(1, device=rows.device)
        for part in parts:
            whole = len(parts) * torch.conv1d(one * part, kernels, padding=reach)
            whole = whole.clamp(min=1e-9)  # a window over one pilot has none of the other parity
            smooth = smooth + torch.conv1d(rows * part, kernels, padding=reach) / whole
            weight = weight + part / whole[0]
        trace = (self.kernels[:, reach, None] * weight).mean(1)
        # a single pilot does not tell paired layers apart
        return (smooth[:, 1:], trace[1:]) if paired else (smooth, trace)

    def smooth(self, z: Tensor, noise: Tensor, dmrs: Tensor, paired: bool) -> Tensor:
        """z [B, L, R, D, P] as smooth as SURE finds best. Of a linear smoother H of z = h + n it is
        |z - H z|^2 + 2 n0 tr(H), up to terms without H. noise: of a pilot, float32 [B, R].
        """
        b, layers, r, n_dmrs, n_pilots = z.shape
        parts = torch.view_as_real(z).movedim(-1, 3).contiguous()  # [B, L, R, 2, D, P]
        rows, trace = self.windows(parts.view(-1, 1, n_pilots), paired)
        smooth = rows.view(b, layers, r, 2, n_dmrs, -1, n_pilots).transpose(4, 5)
        seen, each = smooth, 1  # [B, L, R, 2, W, D, P]
        if paired:  # both users' together are one estimate of the pilots that both sent
            sign = 1 - 2 * (torch.arange(n_pilots, device=z.device) % 2)
            seen, each = smooth[:, :1] + sign * smooth[:, 1:], 2
        eye = torch.eye(n_dmrs, device=z.device)
        fits = [eye]
        if n_dmrs > 2:  # a constant and a line over time
            away = dmrs.to(eye.dtype) - dmrs.to(eye.dtype).mean()
            constant = torch.full_like(eye, 1 / n_dmrs)
            fits += [constant, constant + away[:, None] * away / away.square().sum()]
        risks: list[Tensor] = []
        for i, fit in enumerate(fits):
            rest = parts[:, : seen.size(1), :, :, None] - (fit @ seen if i else seen)
            risk = rest.square().sum(3).mean((4, 5))  # [B, L, R, W]
            free = each * trace * (i / n_dmrs if i else 1.0)
            risks.append((risk + 2 * noise[:, None, :, None] * free).sum(2))
        best = torch.stack(risks, -1).flatten(2).argmin(2).expand(-1, layers)
        window = torch.div(best, len(fits), rounding_mode="floor")
        index = window[:, :, None, None, None, None, None]
        picked = smooth.gather(4, index.expand(-1, -1, r, 2, 1, n_dmrs, n_pilots))[:, :, :, :, 0]
        if len(fits) > 1:
            picked = torch.stack(fits)[best % len(fits)][:, :, None, None] @ picked
        return torch.view_as_complex(picked.movedim(3, -1).contiguous())


class GnbRx(nn.Module):
    """gnb: what an open gNB does by default. Each antenna on its own: frequency offset from the
    first two DMRS symbols, pilots averaged over all of them, a raised-cosine low pass over
    frequency, noise from what is left at the pilots; zero forcing; max-log LLRs of 8 bits.
    """

    def __init__(self):
        super().__init__()
        self.demap = Demapper(max_log=True)

    def forward(self, y: Tensor, p: Tensor, d: Tensor, bits: list[int]) -> Tensor:
        if y.size(1) < p.size(1):
            raise ValueError("zero forcing of two users needs 2 antennas or more, got 1")
        received = torch.view_as_complex(y)
        h, noise = self.channel(received, torch.view_as_complex(p))
        x, gain = separate(received, h, h, 1e-30, 1e-36)
        if h.size(1) == 1:
            power = (h.abs().square() * noise[:, None, :, None, None]).sum(2) / gain
        else:
            power = noise.amax(1)[:, None, None, None]
        llrs = self.demap.of_layers(x, gain / power.clamp(min=1e-30), d, bits)
        for i, m in enumerate(bits):
            step = (24 if m == 2 else 20) / 120
            llrs[i] = step * (llrs[i] / step).clamp(-120, 120).round()
        return joined(llrs, bits)

    @torch.jit.export
    def estimate(self, y: Tensor, p: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        h, noise = self.channel(torch.view_as_complex(y), torch.view_as_complex(p))
        return torch.view_as_real(h), noise

    def channel(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Complex64 [B, L, R, S, K], and noise power of each antenna [B, R]."""
        z, dmrs, odd, boost, paired = least_squares(y, p)
        n_dmrs, n_pilots = z.size(3), z.size(4)
        step = torch.zeros(z.size(0), z.size(2), device=z.device)
        if n_dmrs > 1:
            turned = (z[:, :, :, 1] * z[:, :, :, 0].conj()).sum((1, 3))
            step = turned.angle() / (dmrs[1] - dmrs[0])
        at_pilots = phasor(step[:, :, None] * dmrs)[:, None, :, :, None]
        mean = (z * at_pilots.conj()).mean(3)  # [B, L, R, P]
        if paired:
            mean = mean.unflatten(-1, [-1, 2]).mean(-1).repeat_interleave(2, -1)
        mean = self.low_pass(mean)

        seen = mean
        if paired:  # in the same REs, with signs + + and + -
            sign = 1 - 2 * (torch.arange(n_pilots, device=z.device) % 2)
            seen = mean[:, :1] + sign * mean[:, 1:]
        left = (z[:, : seen.size(1)] - at_pilots * seen[:, :, :, None]).abs().square()
        places = left.size(1) * n_dmrs * n_pilots
        noise = boost * left.sum((1, 3, 4)) / (places - 1)
        floor = 1e-10 * mean.abs().square().sum((1, 3)) / n_pilots
        noise = torch.maximum(noise, floor).clamp(min=1e-30)

        h = over_carriers(interpolate_frequency(mean)[:, :, :, None], odd)
        symbols = torch.arange(y.size(2), device=y.device)
        return h * phasor(step[:, :, None] * symbols)[:, None, :, :, None], noise

    def low_pass(self, mean: Tensor) -> Tensor:
        """A raised cosine of roll-off 0.2, three of its symbols of 10 subcarriers long, over pilots
        complex64 [.., P]; beyond the edges, lines through modulus and phase of the nearest.
        """
        n_pilots = mean.size(-1)
        half = (10 * min(n_pilots // 6, 3) + 1) // 4
        t = torch.arange(-half, half + 1, dtype=torch.float64, device=mean.device) / 5
        taps = torch.sinc(t) * torch.cos(math.pi * 0.2 * t) / (1 - (0.4 * t) ** 2)
        taps = (taps / taps.sum()).float()
        n = n_pilots if n_pilots == 6 else half
        extended = torch.cat(
            [beyond(mean[..., :n], -n), mean, beyond(mean[..., n_pilots - n :], n)], -1
        )[..., n - half : n_pilots + n + half]
        rows = torch.view_as_real(extended).movedim(-1, -2)
        shape = rows.shape[:-1]
        rows = torch.conv1d(rows.reshape(-1, 1, n_pilots + 2 * half), taps[None, None])
        rows = rows.view(shape + rows.shape[-1:]).movedim(-2, -1)
        return torch.view_as_complex(rows.contiguous())


def beyond(near: Tensor, apart: int) -> Tensor:
    """Pilots [.., n] that are so far from those near an edge, by lines in least squares."""
    n = near.size(-1)
    away = torch.arange(n, dtype=torch.float64, device=near.device) - (n - 1) / 2
    line = 1 / n + (away[:, None] + apart) * away / away.square().sum()
    turned = (near[..., 1:] * near[..., :-1].conj()).angle()
    phase = torch.cat([near[..., :1].angle(), turned], -1).double().cumsum(-1)
    modulus = (line @ near.abs().double()[..., None]).squeeze(-1)
    return (modulus * phasor((line @ phase[..., None]).squeeze(-1))).to(near.dtype)


def classical(name: str) -> nn.Module:
    """One of CLASSICAL by its name."""
    receivers = {"ls-lmmse": LmmseRx(False), "sure-lmmse": LmmseRx(True), "gnb": GnbRx()}
    return receivers[name].eval()


def classical_names(n_layers: int, n_rx: int) -> list[str]:
    """Those of CLASSICAL that receive slots of so many layers with so many antennas."""
    return [name for name in CLASSICAL if name != "gnb" or n_layers <= n_rx]


def perfect_csi(batch: "SlotBatch", demap: Demapper) -> Tensor:
    """LLRs float32 [B, L, S, K, most bits] of LMMSE with the true channels and the true covariance
    of noise and interference in each RE; inter-carrier interference counts for nothing.
    """
    h, n0 = batch.h, batch.n0[:, None, None]
    weighted = h / n0[:, None, None]
    if batch.drawn.interferer:
        g = interference(batch)
        power = n0 + g.abs().square().sum(1)
        along = (g.conj()[:, None] * weighted).sum(2) / power[:, None]
        weighted = weighted - g[:, None] * along[:, :, None]
    x, sinr = separate(torch.view_as_complex(batch.y), h, weighted, 1.0, 1e-12)
    bits = bits_of(batch.config)
    return joined(demap.of_layers(x, sinr, batch.data, bits), bits)


def interference(batch: "SlotBatch") -> Tensor:
    """The interferers' channels times the amplitude of what they send in each RE, complex64
    [B, R, S, K], up to a phase of each RE. SlotGenerator lets them come over the channel of the
    slot before.
    """
    sent = batch.drawn.interferer
    power = sent.data_mask + np.square(np.abs(sent.pilots()[0]))
    amplitude = torch.from_numpy(np.sqrt(power, dtype=np.float32)).to(batch.n0.device)
    gain = 10 ** (-batch.sir_db / 20)
    return batch.h[:, 0].roll(1, 0) * gain[:, None, None, None] * amplitude
