# SPDX-License-Identifier: GPL-3.0-or-later
"""LMMSE channel estimation with the true second-order statistics: how far pilots alone can go.

What the receiver is told of each slot, and cannot know in the field: the channel's model (its
paths' delays, powers, correlation between antennas and over time, from the tables of TR 38.901),
the slot's delay spread, maximum Doppler shift and noise power, and its residual timing and CFO. It
is not told any path's amplitude or phase, nor, over a CDL, which way the terminal moves: there the
correlation over time is the mean over directions as Sionna draws them.
"""

import math

import torch
from sionna.phy.channel.tr38901 import CDL, TDL
from torch import Tensor

from deeprx_common.slot import N_SYMBOLS, SlotConfig

from ..data.channels import LayerBatch, SlotGenerator, symbol_s
from .classical import Demapper

_DIRECTIONS = 16  # midpoints over the zenith of travel: 1e-7 exact up to 12 radians


class PathStatistics:
    """Second-order statistics of a channel model's paths, which are independent of each other.

    delays float64 [P], in delay spreads. antennas complex128 [P, R, R]: power times correlation
    between antennas; the traces sum to R. A line of sight is a path of its own.
    """

    def __init__(self, model: TDL | CDL, n_rx: int):
        if isinstance(model, TDL):
            self._of_tdl(model, n_rx)
        else:
            self._of_cdl(model, n_rx)

    def _of_tdl(self, model: TDL, n_rx: int) -> None:
        powers = model.mean_powers.double().cpu()
        self.delays = model.delays.double().cpu()
        self._los_cosine = None
        self._zenith = None
        white = torch.eye(n_rx, dtype=torch.complex128)
        if model.los:  # its phase is the same on all antennas
            los = model.mean_power_los.double().cpu()
            powers[0] -= los
            self.delays = torch.cat([self.delays[:1], self.delays])
            self._los_cosine = float(torch.cos(model._los_angle_of_arrival))
        self.antennas = powers[:, None, None] * white
        if model.los:
            self.antennas = torch.cat([(los * torch.ones_like(white))[None], self.antennas])

    def _of_cdl(self, model: CDL, n_rx: int) -> None:
        """Uplink: rays arrive at the base station's row of antennas, half a wavelength apart, and
        leave the terminal, which moves. Azimuth and zenith of the rays are coupled at random.
        """
        powers, delays = model._powers.double().cpu(), model._delays.double().cpu()
        azimuth, zenith = model._aoa.double().cpu(), model._zoa.double().cpu()  # [P, rays]
        leaving = model._zod.double().cpu()
        self._los_cosine = None

        def correlation(azimuth, zenith):  # [P, rays] each: mean over all pairs of rays
            sine = torch.sin(zenith)[:, :, None] * torch.sin(azimuth)[:, None, :]
            apart = torch.arange(n_rx)[:, None] - torch.arange(n_rx)
            turn = math.pi * apart[:, :, None, None, None] * sine
            return torch.polar(torch.ones_like(turn), turn).mean((-1, -2)).movedim(-1, 0)

        antennas = powers[:, None, None] * correlation(azimuth, zenith)
        if model._has_los:
            k = model._k_factor.double().cpu()
            los = [a.double().cpu().view(1, 1) for a in (model._los_aoa, model._los_zoa)]
            antennas = torch.cat([k * correlation(*los), antennas]) / (1 + k)
            delays = torch.cat([torch.zeros(1, dtype=torch.float64), delays])
            line = model._los_zod.double().cpu().expand(1, leaving.size(1))
            leaving = torch.cat([line, leaving])
        self.delays, self.antennas, self._zenith = delays, antennas, leaving

    def over_time(self, x: Tensor) -> Tensor:
        """Correlation of every path with itself after x = 2 pi Doppler * lag radians, x >= 0:
        float64 [...] to complex128 [..., P].
        """
        if self._zenith is None:  # Jakes; the line of sight comes from a fixed angle
            jakes = torch.special.bessel_j0(x)[..., None].expand(*x.shape, len(self.delays))
            jakes = jakes.to(torch.complex128)
            if self._los_cosine is None:
                return jakes
            line = torch.polar(torch.ones_like(x), x * self._los_cosine)[..., None]
            return torch.cat([line, jakes[..., 1:]], -1)
        # a ray of zenith g, travel of uniform azimuth and uniform zenith t:
        # E cos(x (sin g sin t cos a + cos g cos t)) = E_t J0(x sin g sin t) cos(x cos g cos t)
        t = (torch.arange(_DIRECTIONS, dtype=torch.float64) + 0.5) * math.pi / _DIRECTIONS
        g = self._zenith[..., None]  # [P, rays, 1]
        x = x[..., None, None, None]
        correlation = torch.special.bessel_j0(x * (torch.sin(g) * torch.sin(t))) * torch.cos(
            x * (torch.cos(g) * torch.cos(t))
        )
        return correlation.mean((-1, -2)).to(torch.complex128)


class TrueStatistics:
    """The two-dimensional Wiener filter over the pilots of all antennas, then LMMSE equalisation
    whose noise includes the estimate's own error at each resource element, then exact demapping.

    In the time domain inter-carrier interference counts as white noise of its mean power.
    """

    def __init__(self, generator: SlotGenerator):
        self._paths = {
            name: PathStatistics(model, generator.conditions.n_rx)
            for name, model in generator.models.items()
        }
        self._demap = Demapper().to(generator.device)

    @staticmethod
    def takes(slot: SlotConfig) -> bool:
        return slot.n_layers == 1 and slot.n_symbols == N_SYMBOLS and slot.cdm_groups == 1

    def __call__(self, batch: LayerBatch) -> Tensor:
        """LLRs float32 [B, 14, K, bits] of a batch as drawn, without interferers."""
        bits = batch.config.bits_per_symbol
        llr = batch.y.new_empty(*batch.p.shape[:3], bits)
        for i, name in enumerate(batch.drawn.channels):
            rows = (batch.drawn.channel == i).nonzero().flatten()
            if len(rows):
                y, h, cov = self._estimate(batch, rows, self._paths[name])
                w = torch.linalg.solve(cov, h[..., None])[..., 0]
                sinr = (w.conj() * h).sum(-1).real.clamp(min=1e-9)
                llr[rows] = self._demap((w.conj() * y).sum(-1) / sinr, sinr, bits)
        return llr

    def _estimate(
        self, batch: LayerBatch, rows: Tensor, paths: PathStatistics
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of some rows of a batch: y and h complex64 [B, 14, K, R], turned back by timing and CFO;
        cov complex64 [B, 14, K, R, R] of noise plus estimation error.

        Everything runs through the paths, whose delays are known: with h = S g (S: the delays'
        phases at the pilots, g: P paths x D symbols x R antennas of covariance C), the filter
        solves for P D R unknowns instead of one for each pilot.
        """
        slot, drawn, dev = batch.config, batch.drawn, batch.y.device
        n, r, p, d = len(rows), batch.y.size(1), len(paths.delays), len(slot.dmrs)
        symbols = torch.arange(N_SYMBOLS, device=dev)
        carriers = torch.as_tensor(slot.carriers, dtype=torch.float64, device=dev)
        cfo, early = drawn.cfo_hz[rows].double(), drawn.timing_samples[rows].double()
        turns = (cfo * symbol_s(slot))[:, None, None] * symbols[:, None] - (early / slot.fft_size)[
            :, None, None
        ] * carriers
        y = torch.view_as_complex(batch.y[rows]) * _phasor(-turns)[:, None]

        radians = 2 * math.pi * symbol_s(slot) * drawn.doppler_hz[rows].double()
        lags = paths.over_time((radians[:, None] * symbols).cpu()).to(dev)  # [B, 14, P]
        apart = symbols[:, None] - symbols
        time = lags[:, apart.abs()]
        time = torch.where((apart < 0)[..., None], time.conj(), time)  # [B, 14, 14, P]
        antennas = paths.antennas.to(dev)
        n0 = batch.n0[rows].double()
        if batch.domain == "time":
            n0 = n0 + _leakage(slot, lags[:, 1] @ antennas.diagonal(0, 1, 2).mean(1), cfo)

        pilots = torch.view_as_complex(batch.p[rows])
        z = y[:, :, slot.dmrs, ::2] * pilots[:, None, slot.dmrs, ::2].conj()  # |pilot| = 1
        delays = drawn.delay_spread_s[rows].double()[:, None] * paths.delays.to(dev)
        steer = _phasor(-delays[:, None] * carriers[:, None] * (slot.scs_khz * 1e3))  # [B, K, P]
        at_pilots = steer[:, ::2]
        # covariance of g, [P D R, P D R], and of the taps at every symbol with it, [P, 14, R, D R]
        seen = time[:, :, slot.dmrs]
        cross = torch.einsum("bstp,pij->bpsitj", seen, antennas).reshape(n, p, N_SYMBOLS, r, d * r)
        prior = torch.zeros(n, p, d * r, p, d * r, dtype=torch.complex128, device=dev)
        each = torch.arange(p, device=dev)
        prior[:, each, :, each] = cross[:, :, slot.dmrs].reshape(n, p, d * r, d * r).movedim(1, 0)
        prior = prior.view(n, p * d * r, p * d * r)
        eye = torch.eye(d * r, dtype=torch.complex128, device=dev)
        gram = torch.einsum("bpq,ij->bpiqj", at_pilots.mH @ at_pilots, eye).reshape(prior.shape)
        matched = torch.einsum("bkp,bidk->bpdi", at_pilots.conj(), z).reshape(n, -1, 1)
        # (n0 I + S^H S C)^-1 of the matched pilots for the estimate, of S^H S for its error
        loaded = gram @ prior + n0[:, None, None] * torch.eye(p * d * r, device=dev)
        solved = torch.linalg.solve(loaded, torch.cat([matched, gram], 2))
        taps = torch.einsum("bptiu,bpu->bpti", cross, solved[:, :, 0].view(n, p, d * r))
        gained = torch.einsum(
            "bptiu,bpuqv->btipqv", cross, solved[:, :, 1:].view(n, p, d * r, p, d * r)
        )
        error = -torch.einsum("btipqv,bqtjv->btijpq", gained, cross.conj())
        error.diagonal(dim1=-2, dim2=-1).add_(antennas.movedim(0, -1))

        steer = steer.to(torch.complex64)
        h = torch.einsum("bkp,bpti->btki", steer, taps.to(torch.complex64))
        spread = torch.einsum("bkp,btijpq->btijkq", steer, error.to(torch.complex64))
        cov = torch.einsum("btijkq,bkq->btkij", spread, steer.conj())
        cov.diagonal(dim1=-2, dim2=-1).add_(n0.float()[:, None, None, None])
        return y.permute(0, 2, 3, 1).to(torch.complex64), h, cov


def _phasor(turns: Tensor) -> Tensor:
    """exp(2 pi j turns), complex128."""
    return torch.polar(torch.ones_like(turns), 2 * math.pi * turns)


def _leakage(slot: SlotConfig, next_symbol: Tensor, cfo: Tensor) -> Tensor:
    """Mean power of inter-carrier interference, float64 [B]: of a channel that moves along a
    straight line within the symbol, and of the residual CFO in Hz.

    next_symbol complex [B]: correlation of the channel with itself one symbol later.
    """
    useful = slot.fft_size / (slot.fft_size + slot.cp_lengths()[1])
    moved = 2 * (1 - next_symbol.real) * useful**2
    turned = (2 * math.pi * cfo / (slot.scs_khz * 1e3)) ** 2
    return (moved + turned) / 12
