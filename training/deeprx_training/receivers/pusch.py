# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver for every PUSCH: small nets that steer filters, and exact combining.

What is done to received samples is linear: windows that smooth the pilots, modes that carry them
over time, filters that smooth what decided symbols say about the channel, combining. The nets see
powers and their ratios alone, which all antennas share, and say how much of each filter to take in
each PRB. So their weights do not depend on how many antennas, users, DMRS symbols, symbols or PRBs
there are, a channel that is turned or scaled is estimated turned or scaled, and without its nets
it is a classical receiver.

Arithmetic is real: complex values have an axis [.., 2, ..] of real and imaginary parts. B slots,
L layers, R antennas, S symbols, K subcarriers, N PRBs; D DMRS symbols, each with P = K / 2 pilots
of a layer.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deeprx_common.slot import N_SYMBOLS, legal_dmrs

from .classical import WIDTHS, smoothing_kernels
from .realtime import level_spacing, soft_symbol

DOPPLERS = (0.004, 0.012, 0.03, 0.07)  # turns a symbol of the fastest path, of which modes know
PLAIN = 3  # modes that know of no Doppler
MOST_DMRS = 4
REACH = 3  # PRBs that a window reaches to both sides
AVERAGED = (1, 3, 9)  # PRBs over which the covariance of interference is averaged
SLOT_NUMBERS = 8
HINTS = 4  # of a round's net to the one that judges its LLRs
PILOT_FEATURES = 2 * (len(WIDTHS) + 1)
ROUND_FEATURES = 7 + 2 + 3 + SLOT_NUMBERS + PILOT_FEATURES


def windows() -> Tensor:
    """Hann windows as a convolution over PRBs of 6 pilots: [6 len(WIDTHS), 6, 2 REACH + 1]."""
    taps = smoothing_kernels()
    half = taps.size(1) // 2
    prb = 6 * (torch.arange(2 * REACH + 1) - REACH)
    pilot = torch.arange(6)
    apart = prb + pilot[:, None] - pilot[:, None, None]  # [to, from, PRB]
    inside = (apart.abs() <= half).float()
    return (taps[:, (apart + half).clamp(0, 2 * half)] * inside).flatten(0, 1)


def time_modes(dmrs: tuple[int, ...]) -> Tensor:
    """How the channel at all 14 symbols is made of that at DMRS symbols, float32 [PLAIN +
    len(DOPPLERS), 14, MOST_DMRS]: their mean; the line that fits them best; lines between
    neighbours and beyond the outer ones; Wiener interpolation of Jakes' spectrum at each of
    DOPPLERS, at 20 dB.
    """
    d = torch.tensor(dmrs, dtype=torch.float64)
    t = torch.arange(N_SYMBOLS, dtype=torch.float64)
    n = len(dmrs)
    lines = torch.zeros(N_SYMBOLS, n, dtype=torch.float64)
    if n == 1:
        lines[:] = 1.0
    else:
        before = (torch.searchsorted(d, t, right=True) - 1).clamp(0, n - 2)
        weight = (t - d[before]) / (d[before + 1] - d[before])
        lines.scatter_(1, before[:, None], 1 - weight[:, None])
        lines.scatter_(1, before[:, None] + 1, weight[:, None])
    mean, away = torch.full_like(lines, 1 / n), d - d.mean()
    slope = (t - d.mean())[:, None] * away / away.square().sum().clamp(min=1)
    modes = [mean, mean + slope, lines]
    for doppler in DOPPLERS:
        alike = torch.special.bessel_j0(2 * math.pi * doppler * (d[:, None] - d))
        across = torch.special.bessel_j0(2 * math.pi * doppler * (t[:, None] - d))
        modes.append(across @ torch.linalg.inv(alike + 0.01 * torch.eye(n, dtype=torch.float64)))
    return F.pad(torch.stack(modes).float(), (0, MOST_DMRS - n))


def times_conj(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """a b* of complex values with their parts along dim < 0; other axes broadcast."""
    a_re, a_im = a.unbind(dim)
    b_re, b_im = b.unbind(dim)
    return torch.stack([a_re * b_re + a_im * b_im, a_im * b_re - a_re * b_im], dim)


def times(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """a b of complex values with their parts along dim < 0; other axes broadcast."""
    a_re, a_im = a.unbind(dim)
    b_re, b_im = b.unbind(dim)
    return torch.stack([a_re * b_re - a_im * b_im, a_im * b_re + a_re * b_im], dim)


class Residual(nn.Module):
    def __init__(self, channels: int, kernel: tuple[int, int]):
        super().__init__()
        reach = [k // 2 for k in kernel]
        self.inner = nn.Conv2d(channels, channels, kernel, padding=reach)
        self.outer = nn.Conv2d(channels, channels, kernel, padding=reach)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(F.relu(self.inner(x)))


class RoundedConv(nn.Conv2d):
    """A convolution as one of int8, in float32: the largest weight of an output is 127 of its
    steps, the largest number that it sees of a slot's layer is 127 of theirs.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__(
            conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding
        )
        weight = conv.weight.detach()
        step = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-30) / 127
        with torch.no_grad():
            self.weight.copy_((weight / step).round() * step)
            self.bias.copy_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        step = x.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-30) / 127
        return F.conv2d((x / step).round() * step, self.weight, self.bias, padding=self.padding)


class Net(nn.Module):
    """A residual net that steers: float32 [B, C, H, W] to [B, start.numel(), H, W], which may
    compute in bfloat16. What it says begins as `start`, whatever it sees. It has no statistics of
    batches.
    """

    def __init__(
        self, c_in: int, channels: int, start: Tensor, blocks: int, kernel: tuple[int, int]
    ):
        super().__init__()
        last = nn.Conv2d(channels, start.numel(), 1)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(start.flatten())
        self.net = nn.Sequential(
            nn.Conv2d(c_in, channels, 1),
            nn.ReLU(),
            *(Residual(channels, kernel) for _ in range(blocks)),
            nn.ReLU(),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.to(self.net[0].weight.dtype)).float()

    def to_int8(self) -> None:
        """All but the first layer, in place. Weights keep their names."""
        for block in self.net[2:-2]:
            block.inner, block.outer = RoundedConv(block.inner), RoundedConv(block.outer)
        self.net[-1] = RoundedConv(self.net[-1])


class Correction(nn.Module):
    """What decided symbols say about the channel, smoothed: one round.

    In each PRB of each symbol the innovation's 12 subcarriers are `basis` numbers; filters over
    frequency, and those followed by filters over all symbols, make 2 `filters` numbers of them,
    which are 12 subcarriers of the channel's correction again. A net weights the numbers on both
    sides of the filters, and says HINTS more of what it saw.

    What a symbol says about its own channel is taken out again: a decision would confirm itself,
    and its LLRs would be believed too much; pilots would confirm any channel to the guard.
    """

    def __init__(self, c_in: int, channels: int, blocks: int, basis: int, filters: int):
        super().__init__()
        self.basis, self.filters, self.hints = basis, filters, HINTS
        start = torch.cat([torch.ones(basis + 2 * filters), torch.zeros(HINTS)])
        self.net = Net(c_in, channels, start, blocks, (3, 3))
        self.into = nn.Conv2d(12, basis, 1, bias=False)
        self.over_frequency = nn.Conv2d(basis, filters, (1, 5), padding=(0, 2), bias=False)
        self.over_time = nn.Conv2d(
            filters, filters, (13, 1), padding=(6, 0), groups=filters, bias=False
        )
        self.back = nn.Conv2d(2 * filters, 12, 1, bias=False)
        nn.init.zeros_(self.back.weight)
        angle = math.pi / 12 * torch.arange(basis)[:, None] * (torch.arange(12) + 0.5)
        with torch.no_grad():
            self.into.weight.copy_((angle.cos() / 12)[:, :, None, None])

    def forward(self, innovation: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """innovation [B, C, 12, S, N], of which each of C is filtered alike; seen [B, c_in, S, N].
        Returns the correction, like innovation, and the hints [B, HINTS, S, N].
        """
        b, c, _, s, n = innovation.shape
        steer = self.net(seen)
        before, behind = steer[:, : self.basis], steer[:, self.basis : -self.hints]
        x = self.into(innovation.flatten(0, 1)).view(b, c, self.basis, s, n)
        x = self.over_frequency((x * before[:, None]).flatten(0, 1))
        x = torch.cat([x, self.over_time(x)], 1).view(b, c, 2 * self.filters, s, n)
        x = self.back((x * behind[:, None]).flatten(0, 1)).view(b, c, 12, s, n)
        own = torch.einsum("rb,nbsk->nrsk", self.own(), before) * behind
        return x - own.sum(1)[:, None, None] * innovation, steer[:, -self.hints :]

    def own(self) -> Tensor:
        """How much of its own innovation comes back to a subcarrier, in a PRB's mean, of each
        number before the filters through each behind: [2 filters, basis].
        """
        into, back = self.into.weight[:, :, 0, 0], self.back.weight[:, :, 0, 0]
        frequency = self.over_frequency.weight[:, :, 0, 2]
        time = self.over_time.weight[:, :, 6, 0] * frequency
        return (into @ back).mT * torch.cat([frequency, time]) / 12


class Interference(nn.Module):
    """The covariance of noise and interference in each PRB, from what decided symbols leave.

    A net weights unit noise and the covariances over AVERAGED PRBs and over all of the slot's. It
    sees their powers and how much of them comes from one direction.
    """

    def __init__(self, channels: int, blocks: int):
        super().__init__()
        self.averaged = list(AVERAGED)
        n = len(AVERAGED) + 1
        start = torch.cat([torch.full((1,), 3.0), torch.zeros(n)])
        self.net = Net(3 * n - 1 + SLOT_NUMBERS, channels, start, blocks, (1, 3))

    def forward(self, rest: Tensor, slot: Tensor) -> Tensor:
        """rest [B, R, 2, S, K] of a received slot of unit noise power, slot as PuschRx.begin() has
        it. Returns what makes each PRB white, [B, N, 2 R, 2 R].
        """
        b, r, n = rest.size(0), rest.size(1), rest.size(4) // 12
        covariance = covariances(rest).flatten(2).mT  # [B, 2 R R, N]
        means = [
            torch.avg_pool1d(covariance, w, 1, w // 2, count_include_pad=False)
            for w in self.averaged
        ]
        means.append(covariance.mean(2, keepdim=True).expand_as(covariance))
        bank = torch.stack(means, 1).view(b, len(means), 2, r, r, n)
        power = bank[:, :, 0].diagonal(dim1=2, dim2=3).sum(3) / r  # [B, W, N]
        directed = bank.square().sum((2, 3, 4)) / (r * power.square() + 1e-12)
        change = (power[:, :-1] + 0.01).log() - (power[:, -1:] + 0.01).log()
        seen = torch.cat([(power + 0.01).log(), directed.log(), change], 1)
        seen = torch.cat([seen, slot[None, :, None].expand(b, -1, n)], 1)
        weights = self.net(seen[:, :, None])[:, :, 0].softmax(1)  # [B, 1 + W, N]
        mixed = (weights[:, 1:, None, None, None] * bank).sum(1).permute(0, 4, 1, 2, 3)
        eye = torch.eye(r, device=rest.device, dtype=rest.dtype)
        return whitening(mixed[:, :, 0] + weights[:, 0, :, None, None] * eye, mixed[:, :, 1])


class Reliability(nn.Module):
    """How noisy symbols are, beyond what their SINR says, and how far they may say nothing at all.

    What symbols show of their noise is E[|x - s|^2] SINR, 1 where the SINR is right, for s sent as
    likely as x says: the expectation step for a Gaussian mixture. A net weights its logarithms over
    the slot, over a symbol, over a PRB and near a PRB of a symbol.
    """

    def __init__(self, channels: int):
        super().__init__()
        start = torch.tensor([-1.0, -0.5, -0.5, -0.2, 0.0, 0.0, -5.0])
        self.net = Net(HINTS + 4 + 4 + 3 + SLOT_NUMBERS, channels, start, 2, (3, 3))

    def forward(
        self, x: Tensor, sinr: Tensor, hints: Tensor, d: Tensor, about: Tensor, bits: list[int]
    ) -> tuple[Tensor, Tensor]:
        """x [B, L, 2, S, K] of this SINR [B, L, S, K]; hints [B L, HINTS, S, N]; d [S, K] marks
        data; about [B L, 3 + SLOT_NUMBERS, S, N] is known of symbols, modulation and slot.

        Returns the logarithm of a factor on the SINR, and the probability that a symbol says
        nothing of its bits: both [B, L, S, K].
        """
        layers = sinr.size(1)
        data = d.to(x.dtype)[None, None]
        noise, n = prbs(second_moment(x, sinr, bits) * data), prbs(data)
        whole = excess(noise.mean((1, 2), keepdim=True), n.mean((1, 2), keepdim=True))
        symbol = excess(noise.mean(2, keepdim=True), n.mean(2, keepdim=True)) - whole
        prb = excess(noise.mean(1, keepdim=True), n.mean(1, keepdim=True)) - whole
        near = excess(mean_of_9(noise), mean_of_9(n)) - whole
        shown = torch.stack([v.expand_as(noise) for v in [whole, symbol, prb, near]], 1)
        log = sinr.log()
        level = prbs(log)
        spread = (prbs(log.square()) - level.square()).clamp(min=0.0).sqrt()
        mean = level.mean((1, 2), keepdim=True)
        levels = torch.stack([0.5 * level, spread, 0.5 * mean.expand_as(level), level - mean], 1)
        out = self.net(torch.cat([hints, shown, levels, about], 1))
        factor = (out[:, :4] * shown).sum(1) + out[:, 4]
        steeper = log - to_subcarriers(level, layers)
        factor = to_subcarriers(shrunk(factor, n), layers)
        factor = factor + steeper * to_subcarriers(out[:, 5], layers)
        doubt = out[:, 6].clamp(-50.0, -0.7).exp()
        return factor, to_subcarriers(doubt, layers)


class PuschRx(nn.Module):
    """The model contract's forward for any PUSCH of one or two layers with DMRS of type 1.

    pilot_channels and pilot_blocks of the net that steers how pilots are smoothed, which can take
    `learned` windows, too; channels, blocks, basis and filters of each of the rounds,
    interference_channels of the net that says how much interference is in it, and
    reliability_channels of the one that says how noisy an exit's symbols are.

    While training, it returns the LLRs of every exit, one after another along B.
    """

    def __init__(
        self,
        pilot_channels: int = 32,
        pilot_blocks: int = 1,
        learned: int = 3,
        channels: int = 24,
        blocks: int = 1,
        rounds: int = 2,
        basis: int = 6,
        filters: int = 16,
        interference_channels: int = 16,
        reliability_channels: int = 16,
    ):
        super().__init__()
        self.learned, self.plain, self.hints = learned, PLAIN, HINTS
        lists = sorted({dmrs for n in range(4, N_SYMBOLS + 1) for dmrs in legal_dmrs(n)})
        places = torch.zeros(len(lists), N_SYMBOLS)
        for i, dmrs in enumerate(lists):
            places[i, list(dmrs)] = 1.0
        self.register_buffer("dmrs_lists", places)
        self.register_buffer("modes", torch.stack([time_modes(dmrs) for dmrs in lists]))
        self.register_buffer("windows", windows())
        # complex: real and imaginary part; of each window the 6 pilots of a PRB; from pilots; PRBs
        self.more_windows = nn.Parameter(torch.empty(2, 6 * learned, 6, 2 * REACH + 1))
        nn.init.uniform_(self.more_windows, -0.03, 0.03)
        start = torch.zeros(PLAIN + len(DOPPLERS), len(WIDTHS) + learned)
        self.pilot_net = Net(
            PLAIN * len(WIDTHS) + PILOT_FEATURES + 2 + SLOT_NUMBERS,
            pilot_channels,
            start,
            pilot_blocks,
            (1, 3),
        )
        self.rounds = nn.ModuleList(
            Correction(ROUND_FEATURES, channels, blocks, basis, filters) for _ in range(rounds)
        )
        self.interference = nn.ModuleList(
            Interference(interference_channels, 1) for _ in range(rounds)
        )
        self.reliability = Reliability(reliability_channels)

    def nets_of_symbols(self) -> list[nn.Module]:
        """Those that run in each PRB of each symbol, which take most of a slot's time. They can be
        in bfloat16 or int8: the pilots' net cannot, as 256-QAM hears its errors.
        """
        return [*(correction.net for correction in self.rounds), self.reliability.net]

    def forward(self, y: Tensor, p: Tensor, d: Tensor, bits: list[int]) -> Tensor:
        return torch.cat(self.exits(y, p, d, bits, self.training)[0])

    def exits(
        self, y: Tensor, p: Tensor, d: Tensor, bits: list[int], every: bool
    ) -> tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor, Tensor]], Tensor, Tensor]:
        """LLRs after the pilots and each round, or only the last round's; and with them the
        channels [B, L, R, 2, S, K] that they come of, as the nets see them: times the whitener
        [B, 2 R, 2 R] of what is received, and turned back by the layers' turns [B, L, 2, 1, K]; and
        symbols [B, L, 2, S, K], their SINR and their doubt [B, L, S, K] as they are believed.
        """
        y = y.movedim(-1, 2).contiguous()
        p = p.movedim(-1, 2).contiguous()
        y, h, plain, white, turn, slot, about = self.begin(y, p)
        if not self.training:
            h = supported(y, h, plain, p, turn)
        known = self.known(p, bits, slot, d.size(0), d.size(1) // 12)
        llr: list[Tensor] = []
        channels: list[Tensor] = []
        believed: list[tuple[Tensor, Tensor, Tensor]] = []
        hints = torch.zeros_like(known[:, :1]).expand(-1, self.hints, -1, -1)
        x, sinr = combine(y, h, turn)
        first, calm = True, torch.zeros(len(y), dtype=torch.bool, device=y.device)
        for correction, interference in zip(self.rounds, self.interference):  # noqa: B905
            # each exit is taught what it can do itself
            if every:
                channels.append(h)
                llr.append(self.judge(x, sinr, hints, d, known, bits, believed))
            x, sinr, h = x.detach(), sinr.detach(), h.detach()
            sent = self.decided(x, sinr, p, d, bits)
            turned = times(sent, turn, -3)
            rest = y - times(h, turned[:, :, None], -3).sum(1)
            innovation = innovation_of(rest, turned)
            seen = self.seen(rest, innovation, x, sent, sinr, d, known, about)
            change, said = correction(innovation, seen)
            corrected = h + change.permute(0, 1, 3, 4, 2).reshape(h.shape)
            if not self.training:
                corrected = supported(y, corrected, plain, p, turn)
            before = calm
            if first:
                calm = is_calm(rest, h, decision_error(sent, x, sinr, bits) * d)
            first = False
            apart = interference(rest, slot)
            eye = torch.eye(apart.size(-1), device=y.device, dtype=y.dtype)
            apart = torch.where(calm[:, None, None, None], eye, apart)
            both = whitened(apart, torch.cat([y[:, None], corrected], 1))
            combined, shown = combine(both[:, 0], both[:, 1:], turn)
            x, sinr = kept(before, x, combined), kept(before, sinr, shown)
            h = kept(before, h, corrected)
            hints = kept(before.repeat_interleave(p.size(1)), hints, said)
        channels.append(h)
        llr.append(self.judge(x, sinr, hints, d, known, bits, believed))
        return llr, channels, believed, white, turn

    def judge(
        self,
        x: Tensor,
        sinr: Tensor,
        hints: Tensor,
        d: Tensor,
        known: Tensor,
        bits: list[int],
        believed: list[tuple[Tensor, Tensor, Tensor]],
    ) -> Tensor:
        """An exit's LLRs; what they come of is appended to `believed`."""
        factor, doubt = self.reliability(x.detach(), sinr.detach(), hints, d, known, bits)
        believed.append((x.detach(), sinr.detach() * factor.exp(), doubt))
        judged = sinr * factor.exp()
        llr = llrs(x, judged, bits, doubt)
        if self.training:  # who learns factors must see what they do
            return llr
        return llr * trust(x, judged, d, bits)[:, :, None, None, None]

    @torch.jit.export
    def estimate(self, y: Tensor, p: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """The contract's: the channel after the pilots and the noise power of each antenna."""
        n = 2 * y.size(1)
        _, h, _, white, turn, _, _ = self.begin(y.movedim(-1, 2), p.movedim(-1, 2).contiguous())
        colour = torch.linalg.inv(white)
        h = (colour[:, None] @ h.flatten(2, 3).flatten(3)).view(h.shape)
        h = times(h, turn[:, :, None], -3).movedim(3, -1)
        noise = (colour @ colour.mT).diagonal(dim1=1, dim2=2).view(-1, n // 2, 2).sum(2) / 2
        return h, noise

    def begin(
        self, y: Tensor, p: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """From y [B, R, 2, S, K] and p [B, L, 2, S, K]: y whitened; the channel that pilots show,
        whitened and turned [B, L, R, 2, S, K], as the net has it of them, and as the best window
        alone; the whitener [B, 2 R, 2 R]; the layers' turns [B, L, 2, 1, K]; numbers that all of
        the slot's PRBs share [8]; and what the pilots' net sees of each PRB [B L, C, N].
        """
        b, r, s, k = y.size(0), y.size(1), y.size(3), y.size(4)
        layers, n = p.size(1), k // 12
        power = p[0].square().sum(1)  # [L, S, K]
        used = (power.sum((0, 2)) > 0).to(y.dtype)
        lists = self.dmrs_lists
        which = (lists[:, :s] == used).all(1) & (lists[:, s:].sum(1) == 0)
        modes = self.modes[which.to(torch.uint8).argmax()]
        dmrs = used.nonzero().flatten()
        n_dmrs = dmrs.size(0)
        comb = power.sum(1).view(layers, k // 2, 2).sum(1)  # on even and on odd subcarriers
        odd = (comb[:, 1] > comb[:, 0]).to(y.dtype)
        boost = comb.sum() / (layers * n_dmrs * (k // 2))
        paired = layers == 2 and bool(odd[0] == odd[1])  # two layers on the same pilots

        # least squares, turned by each layer's delay
        received, sent = y.index_select(3, dmrs), p.index_select(3, dmrs)
        z = times_conj(received[:, None], sent[:, :, None], -3)
        z = z.view(b, layers, r, 2, n_dmrs, k // 2, 2).sum(-1) / boost
        apart = 2 if paired else 1
        drift = times_conj(z[..., apart:], z[..., :-apart], -3).sum((2, 4, 5))  # [B, L, 2]
        step = torch.atan2(drift[..., 1], drift[..., 0]) / (2 * apart)  # a subcarrier
        carrier = torch.arange(k, device=y.device, dtype=y.dtype) - k // 2
        turn = phases(step[..., None] * carrier)
        turn_pilots = phases(step[..., None] * (carrier[::2] + odd[:, None]))
        z = times_conj(z, turn_pilots[:, :, None], -3)

        white = whitener(z[:, :1] if paired else z, boost, apart)
        y = (white @ y.reshape(b, 2 * r, -1)).view(y.shape)
        z = (white[:, None] @ z.reshape(b, layers, 2 * r, -1)).view(b * layers, 2 * r, n_dmrs, -1)

        smooth, own = self.smooth(z, paired)  # [B L, 2 R, D, W, 6, N]
        pilots = smooth[:, :, :, 0] if paired else z.view(b * layers, 2 * r, n_dmrs, n, 6).mT
        # powers of one pilot, where that of its noise is 1
        rough = (pilots[:, :, :, None] - smooth[:, :, :, 1:]).square().sum((1, 2, 4))
        rough = rough * (boost / (6 * r * n_dmrs))
        middle = smooth[:, :, :, 2]
        moves = (middle - middle.mean(2, keepdim=True)).square().sum((1, 2, 3))
        moves = moves * (boost / (6 * r * max(n_dmrs - 1, 1)))
        level = middle.square().sum((1, 2, 3)) / (6 * r * n_dmrs)
        seen = torch.cat([rough, torch.stack([moves, level], 1)], 1)
        seen = torch.cat([seen, seen.mean(2, keepdim=True).expand_as(seen)], 1)
        about = 0.5 * (seen + 0.01).log()
        slot = torch.stack([
            torch.full_like(boost, n_dmrs / 4),
            torch.full_like(boost, r / 4),
            torch.full_like(boost, s / 14),
            torch.full_like(boost, float(layers - 1)),
            torch.full_like(boost, float(paired)),
            torch.full_like(boost, 1 / n),
            boost - 1,
            (dmrs[-1] - dmrs[0]) / 14,
        ])  # fmt: skip
        prb = torch.arange(n, device=y.device, dtype=y.dtype)
        edges = torch.stack([1 / (1 + prb), 1 / (n - prb)])
        shared = torch.cat([edges, slot[:, None].expand(-1, n)]).expand(b * layers, -1, -1)
        modes = modes[:, :s, :n_dmrs]
        fits = modes[: self.plain].index_select(1, dmrs)
        best = best_window(z.view(b, layers, 2 * r, n_dmrs, -1), smooth, own, fits, paired, boost)
        seen = torch.cat([best.flatten(1)[:, :, None].expand(-1, -1, n), about, shared], 1)
        gates = self.pilot_net(seen[:, :, None]).view(b * layers, modes.size(0), -1, n)
        # what is alike in all pilots stays as it is, whatever the net says
        fixed, more = gates[:, :, : -self.learned], gates[:, :, -self.learned :]
        gates = torch.cat([fixed - fixed.mean((1, 2), keepdim=True), more], 2)
        plain = F.pad(best, (0, self.learned, 0, modes.size(0) - self.plain))[..., None]
        h = between(self.mixed(z, smooth, plain + gates, modes), odd).view(b, layers, r, 2, s, k)
        plain = between(self.mixed(z, smooth, plain.expand_as(gates), modes), odd).view_as(h)
        return y, h, plain, white, turn, slot, about

    def smooth(self, z: Tensor, paired: bool) -> tuple[Tensor, Tensor]:
        """Pilots [B, C, D, P] under each window, [B, C, D, W, 6, N], and a pilot's mean weight in
        its own estimate [W]. What is left of a window at an edge sums to 1; of paired layers'
        pilots the even and the odd ones weigh the same.
        """
        b, c, d, pilots = z.size(0), z.size(1), z.size(2), z.size(3)
        n, reach = pilots // 6, self.windows.size(2) // 2
        rows = z.view(-1, n, 6).mT
        even = torch.zeros(6, 1, device=z.device, dtype=z.dtype)
        even[::2] = 1.0
        smooth, weight = torch.zeros(1, device=z.device), torch.zeros(1, device=z.device)
        for part in [even, 1 - even] if paired else [torch.ones_like(even)]:
            share = part / 2 if paired else part
            whole = torch.conv1d(part.expand(1, 6, n), self.windows, padding=reach)
            whole = whole.clamp(min=1e-9)  # a window over one pilot has none of the other parity
            smooth = smooth + torch.conv1d(rows * share, self.windows, padding=reach) / whole
            weight = weight + share / whole.view(-1, 6, n)
        weight = self.windows[::6, 0, reach] * weight.mean((1, 2))
        smooth = smooth.view(b, c, d, -1, 6, n)
        if paired:  # a window over one pilot does not tell the layers apart
            smooth = torch.cat([smooth[:, :, :, 1:2], smooth[:, :, :, 1:]], 3)
            weight = torch.cat([weight[1:2], weight[1:]])
        return smooth, weight

    def mixed(self, z: Tensor, smooth: Tensor, gates: Tensor, modes: Tensor) -> Tensor:
        """The channel at pilots' subcarriers of all symbols, [B, C, S, P], from modes [M, S, D] of
        windows, as gates [B, M, W, N] weight them.
        """
        b, c, d, n = smooth.size(0), smooth.size(1), smooth.size(2), smooth.size(5)
        rows = z.view(b, c // 2, 2, d, n, 6).permute(0, 1, 3, 2, 5, 4).reshape(-1, 12, n)
        parts = self.more_windows - self.more_windows.mean((2, 3), keepdim=True)
        parts = parts.unflatten(1, (self.learned, 6))
        re, im = parts[0], parts[1]
        taps = torch.stack([torch.cat([re, -im], 2), torch.cat([im, re], 2)], 1)
        more = torch.conv1d(rows, taps.flatten(0, 2), padding=self.windows.size(2) // 2)
        more = more.view(b, c // 2, d, self.learned, 2, 6, n)
        more = more.permute(0, 1, 4, 2, 3, 5, 6).reshape(b, c, d, self.learned, 6, n)
        bank = torch.cat([smooth, more], 3)
        h = torch.einsum("bmwn,bcdwin->bcmdni", gates, bank).reshape(b, c, -1, 6 * n)
        return modes.transpose(0, 1).flatten(1) @ h

    def decided(self, x: Tensor, sinr: Tensor, p: Tensor, d: Tensor, bits: list[int]) -> Tensor:
        """What was sent, as far as it is decided, and pilots: [B, L, 2, S, K]."""
        soft: list[Tensor] = []
        for i, m in enumerate(bits):
            soft.append(soft_symbol(x[:, i], sinr[:, i : i + 1], m))
        return torch.where(d, torch.stack(soft, 1), p)

    def known(self, p: Tensor, bits: list[int], slot: Tensor, s: int, n: int) -> Tensor:
        """What is known of symbols and slot before it is received, [B L, 3 + SLOT_NUMBERS, S, N]:
        which symbols have pilots, how far away they are, each layer's modulation, slot's numbers.
        """
        b = p.size(0) * p.size(1)
        used = (p[0].square().sum((0, 1, 3)) > 0).to(p.dtype)
        place = torch.arange(s, device=p.device, dtype=p.dtype)
        away = (place[:, None] - place).abs() + 100 * (1 - used)
        symbols = torch.stack([used, 0.15 * away.amin(1)])[None, :, :, None]
        order = torch.tensor([m / 8.0 for m in bits], device=p.device).repeat(p.size(0))
        parts = [
            symbols.expand(b, -1, -1, n),
            order[:, None, None, None].expand(-1, 1, s, n),
            slot[None, :, None, None].expand(b, -1, s, n),
        ]
        return torch.cat(parts, 1)

    def seen(
        self,
        rest: Tensor,
        innovation: Tensor,
        x: Tensor,
        sent: Tensor,
        sinr: Tensor,
        d: Tensor,
        known: Tensor,
        about: Tensor,
    ) -> Tensor:
        """What a round's net sees, [B L, C, S, N], of what decided symbols `sent` leave of what was
        received, rest [B, R, 2, S, K], and its innovation.
        """
        b, r, s, k = rest.size(0), rest.size(1), rest.size(3), rest.size(4)
        layers, n = sent.size(1), k // 12
        missed = (x - sent).square().sum(2) * sinr * d
        energy = prbs(sent.square().sum(2))
        coherent = innovation.mean(2).square().sum(1) * 12 / (r * (energy + 0.05))
        left = prbs(rest.square().sum((1, 2))[:, None].expand(b, layers, s, k)) / r
        powers = torch.stack([coherent, left, prbs(sinr) / r, prbs(missed)], 1)
        mean = powers[:, :3].mean((2, 3), keepdim=True).expand(-1, -1, s, n)
        logs = 0.5 * (torch.cat([powers, mean], 1) + 0.01).log()
        both = energy.view(b, layers, s, n)
        other = (both.sum(1, keepdim=True) - both).view(b * layers, s, n)
        energies = torch.stack([energy, other], 1)
        return torch.cat([logs, energies, known, about[:, :, None].expand(-1, -1, s, -1)], 1)


def innovation_of(rest: Tensor, turned: Tensor) -> Tensor:
    """(y - sum h s) s* of what symbols s leave, rest [B, R, 2, S, K], by PRBs and for each of the
    layers' symbols [B, L, 2, S, K]: [B L, 2 R, 12, S, N].
    """
    r, s, k = rest.size(1), rest.size(3), rest.size(4)
    innovation = times_conj(rest[:, None], turned[:, :, None], -3)
    return innovation.view(-1, 2 * r, s, k // 12, 12).permute(0, 1, 4, 2, 3)


def whitened(white: Tensor, z: Tensor) -> Tensor:
    """Each PRB's whitener [B, N, 2 R, 2 R] on z [B, C, R, 2, S, K]."""
    b, c, r, s, k = z.size(0), z.size(1), z.size(2), z.size(4), z.size(5)
    n = white.size(1)
    z = z.reshape(b, c, 2 * r, s, n, 12).permute(0, 4, 2, 1, 3, 5).reshape(b, n, 2 * r, -1)
    z = (white @ z).view(b, n, 2 * r, c, s, 12)
    return z.permute(0, 3, 2, 4, 1, 5).reshape(b, c, r, 2, s, k)


def phases(angle: Tensor) -> Tensor:
    """exp(j angle) of [B, L, K] as [B, L, 2, 1, K]."""
    return torch.stack([angle.cos(), angle.sin()], 2)[:, :, :, None]


def excess(noise: Tensor, data: Tensor) -> Tensor:
    """The logarithm of noise over its expectation, each over the same REs."""
    return ((noise + 0.02) / (data + 0.02)).clamp(min=0.02).log()


def mean_of_9(x: Tensor) -> Tensor:
    """Means over a PRB of a symbol and its neighbours, [.., S, N]."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def second_moment(x: Tensor, sinr: Tensor, bits: list[int]) -> Tensor:
    """E[|x - s|^2] SINR of symbols x [B, L, 2, S, K], over what s may have been: [B, L, S, K]."""
    out: list[Tensor] = []
    for i, m in enumerate(bits):
        _, square, likely = likelihoods(x[:, i], sinr[:, i], m)
        out.append(((likely * square).sum(-1) / likely.sum(-1)).sum(1))
    return torch.stack(out, 1)


def likelihoods(x: Tensor, sinr: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Levels s of an axis [N]; |x - s|^2 SINR of symbols x [B, 2, S, K] and how likely each is, the
    nearest 1: [B, 2, S, K, N].
    """
    level = levels(bits)[0].to(x.device)
    square = (x[..., None] - level).square() * sinr[:, None, :, :, None]
    return level, square, (square.amin(-1, keepdim=True) - square).exp()


def decision_error(sent: Tensor, x: Tensor, sinr: Tensor, bits: list[int]) -> Tensor:
    """E[|sent - s|^2] of decisions from symbols x, both [B, L, 2, S, K], over what s may have been:
    the four levels of an axis about x. [B, L, S, K].
    """
    out: list[Tensor] = []
    for i, m in enumerate(bits):
        spacing = level_spacing(m)
        n = 1 << (m // 2)
        middle = (x[:, i] / (2 * spacing)).clamp(min(2 - n // 2, 0), max(n // 2 - 2, 0)).round()
        near = torch.arange(1 - min(n, 4), 4, 2, device=x.device)[: min(n, 4)]
        level = (2 * middle[..., None] + near) * spacing
        square = (x[:, i, ..., None] - level).square() * sinr[:, i, None, :, :, None]
        likely = (square.amin(-1, keepdim=True) - square).exp()
        off = (sent[:, i, ..., None] - level).square()
        out.append(((likely * off).sum(-1) / likely.sum(-1)).sum(1))
    return torch.stack(out, 1)


def shrunk(factor: Tensor, data: Tensor, share: float = 1.3) -> Tensor:
    """Factors [B L, S, N] of PRBs of symbols: their mean over the slot's data [1, S, N], and as
    much of what differs from it as is not explained by what few REs show by chance of a symbol, of
    a PRB and of nine PRBs of symbols (James, Stein 1961), times share: nets say too little.
    """
    weight = data / data.sum()
    mean = (factor * weight).sum((1, 2), keepdim=True)
    apart = factor - mean
    variance = (apart.square() * weight).sum((1, 2), keepdim=True)
    chance = (1 / data.size(1) + 1 / data.size(2) + 1 / 9) / (12 * data.mean())
    return mean + share * (1 - chance / variance.clamp(min=1e-9)).clamp(min=0.0) * apart


def trust(
    x: Tensor, sinr: Tensor, d: Tensor, bits: list[int], few: float = 400.0, low: float = 1.3
) -> Tensor:
    """A factor on a layer's LLRs, [B, L]: what its symbols, x of this SINR, still show of their
    noise, one more expectation step. Few symbols show little, and those of two users less.

    Where the SINR times the levels' squared spacing is low, errors of the channel shrink symbols
    towards 0. These show less noise than they have, by as much as x E[s] is less than E[|s|^2].
    """
    data = d.to(x.dtype)
    n = data.sum()
    power = (1.5 if len(bits) == 1 else 0.5) * n / (n + few)
    out: list[Tensor] = []
    for i, m in enumerate(bits):
        level, square, likely = likelihoods(x[:, i], sinr[:, i], m)
        likely = likely / likely.sum(-1, keepdim=True)
        noise = (likely * square).sum(-1).sum(1)
        weight = sinr[:, i] * data
        along = ((x[:, i] * (likely * level).sum(-1)).sum(1) * weight).sum((1, 2)) / n
        energy = ((likely * level.square()).sum(-1).sum(1) * weight).sum((1, 2)) / n
        scale = (along + 1e-9) / (energy + 1e-9)
        share = 1 / (1 + (weight.sum((1, 2)) / n * level_spacing(m) ** 2 / low) ** 8)
        shown = ((noise * data).sum((1, 2)) / n).clamp(min=0.02).log()
        out.append((power * (share * scale.clamp(min=0.02).log() - shown)).exp())
    return torch.stack(out, 1)


def covariances(e: Tensor) -> Tensor:
    """Of each PRB of e [B, R, 2, S, K]: [B, N, 2, R, R]."""
    b, r, s, n = e.size(0), e.size(1), e.size(3), e.size(4) // 12
    e = e.view(b, r, 2, s, n, 12).permute(0, 4, 2, 1, 3, 5).reshape(b, n, 2, r, -1)
    re, im = e[:, :, 0], e[:, :, 1]
    return torch.stack([re @ re.mT + im @ im.mT, im @ re.mT - re @ im.mT], 2) / (12 * s)


def is_calm(rest: Tensor, h: Tensor, unsure: Tensor) -> Tensor:
    """Whether noise alone explains what a slot's decided symbols leave, bool [B]: no interference,
    and nothing of the channel that another round would find. rest [B, R, 2, S, K], what the channel
    h [B, L, R, 2, S, K] leaves; unsure [B, L, S, K], the squared errors expected of decisions.

    Noise alone lets covariances of PRBs vary by their trace's square over the REs behind them
    (Wishart). How far from that a slot may be is the less the more numbers show it, and the fewer
    PRBs.
    """
    r, s, n = rest.size(1), rest.size(3), rest.size(4) // 12
    covariance = covariances(rest)
    for i in range(h.size(1)):
        error = h[:, i] * unsure[:, i, None, None].sqrt()
        covariance = covariance + covariances(error)
    mean = covariance.mean(1, keepdim=True)
    varies = (covariance - mean).square().sum((1, 2, 3, 4)) / max(n - 1, 1)
    chance = mean[:, 0, 0].diagonal(dim1=1, dim2=2).sum(1).square() / (12 * s)
    return varies < (1 + 1 / r - 5 / n) * chance


def kept(which: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """What was there of some [B] of a batch, the new of others."""
    return torch.where(which.view([-1] + [1] * (new.dim() - 1)), old, new)


def to_subcarriers(x: Tensor, layers: int) -> Tensor:
    """Of each PRB's 12, [B L, S, N] to [B, L, S, K]."""
    return x.repeat_interleave(12, 2).unflatten(0, (-1, layers))


def prbs(x: Tensor) -> Tensor:
    """Means over the subcarriers of each PRB: [B, L, S, K] to [B L, S, N]."""
    return x.reshape(x.size(0) * x.size(1), x.size(2), -1, 12).mean(-1)


def between(h: Tensor, odd: Tensor) -> Tensor:
    """From pilots on even subcarriers, or odd ones where odd [L] is 1, to all: [B L, C, S, P] to
    [B L, C, S, 2 P]; linear between them, and at the edge as the nearest.
    """
    after = torch.cat([h[..., 1:], h[..., -1:]], -1)
    even = torch.stack([h, (h + after) / 2], -1).flatten(-2)
    behind = torch.cat([even[..., :1], even[..., :-1]], -1)
    return torch.lerp(even, behind, odd.repeat(h.size(0) // odd.size(0))[:, None, None, None])


def best_window(
    z: Tensor, smooth: Tensor, own: Tensor, fits: Tensor, paired: bool, boost: Tensor
) -> Tensor:
    """1 for the one window, and the one of the modes without Doppler, that Stein's unbiased risk
    estimate finds best for a slot's layer, or for both of paired ones: [B L, PLAIN, W].

    Pilots z [B, L, 2 R, D, P]; smooth [B L, 2 R, D, W, 6, N] and own [W] as PuschRx.smooth() makes
    them; fits [PLAIN, D, D], modes at DMRS symbols. Of a linear smoother H the risk is |z - H z|^2
    + 2 tr(H) at unit noise power.
    """
    b, layers, c, n_dmrs, pilots = z.size(0), z.size(1), z.size(2), z.size(3), z.size(4)
    wide = smooth.size(3)
    smooth = smooth.mT.reshape(b, layers, c, n_dmrs, wide, pilots)
    if paired:  # what both sent in the same REs, the second with alternating signs
        sign = 1.0 - 2.0 * (torch.arange(pilots, device=z.device) % 2)
        smooth = smooth[:, :1] + sign * smooth[:, 1:]
        z, own = z[:, :1], 2 * own
    scale = 2 * boost / (c * n_dmrs * pilots)
    risks: list[Tensor] = []
    for i, fit in enumerate(fits.unbind(0)):
        fitted = (fit @ smooth.transpose(3, 4)).transpose(3, 4)
        left = (z[:, :, :, :, None] - fitted).square().sum((2, 3, 5)) * scale
        # equal ones count as the first
        risks.append((left + 2 * fit.diagonal().mean() * own) * (1 + 1e-4 * i))
    best = torch.stack(risks, 2).flatten(2).argmin(2).expand(-1, layers).flatten()
    return F.one_hot(best, len(risks) * wide).to(z.dtype).view(b * layers, len(risks), wide)


def supported(y: Tensor, h: Tensor, plain: Tensor, p: Tensor, turn: Tensor) -> Tensor:
    """A slot's channel h where it explains the pilots about as well as plain, or the noise, does;
    else plain. y [B, R, 2, S, K], h and plain [B, L, R, 2, S, K].
    """
    sent = p.square().sum((0, 1, 2)) > 0
    dmrs = sent.any(1).nonzero().flatten()
    y, pilots = y.index_select(3, dmrs), times(p, turn, -3).index_select(3, dmrs)[:, :, None]
    sent = sent.index_select(0, dmrs).to(y.dtype)
    n = sent.sum() * y.size(1)
    left: list[Tensor] = []
    for channel in [h, plain]:
        rest = y - times(channel.index_select(4, dmrs), pilots, -3).sum(1)
        left.append((rest.square() * sent).sum((1, 2, 3, 4)) / n)
    limit = left[1].clamp(min=1.0) * 1.25 + 3 * n.rsqrt()
    return torch.where((left[0] <= limit)[:, None, None, None, None, None], h, plain)


def whitener(z: Tensor, boost: Tensor, apart: int) -> Tensor:
    """What makes noise and interference white and of unit power in data REs: [B, 2 R, 2 R], for
    real and imaginary parts in turn.

    The inverse of the Cholesky factor of their covariance, from second differences of pilots z
    [B, L, R, 2, D, P] as PilotEstimate's, shrunk towards white noise (OAS).
    """
    b, r = z.size(0), z.size(2)
    e = z[..., : -2 * apart] - 2 * z[..., apart:-apart] + z[..., 2 * apart :]
    e = e.permute(0, 2, 3, 1, 4, 5).reshape(b, r, 2, -1)
    n = e.size(3)
    re, im = e[:, :, 0], e[:, :, 1]
    e = torch.stack([re @ re.mT + im @ im.mT, im @ re.mT - re @ im.mT]) * (boost / (6 * n))
    trace = e[0].diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    eye = torch.eye(r, device=z.device, dtype=z.dtype)
    keep = torch.ones_like(trace)
    if r > 1:
        square = e.square().sum((0, 2, 3))[:, None, None]
        excess = (square - trace.square() / r).clamp(min=1e-30)
        free = (n * 18.0 / 35.0 + 1 - 2 / r) * excess
        keep = 1 - (((1 - 2 / r) * square + trace.square()) / free).clamp(0.0, 1.0)
    least = 1e-6 * trace / r + 1e-9 * z.square().mean((1, 2, 3, 4, 5))[:, None, None] + 1e-20
    return whitening(e[0] * keep + eye * ((1 - keep) * trace / r + least), e[1] * keep)


def whitening(re: Tensor, im: Tensor) -> Tensor:
    """The inverse of the Cholesky factor of a covariance [.., R, R], for real and imaginary parts
    in turn: [.., 2 R, 2 R].
    """
    r, shape = re.size(-1), re.shape[:-2]
    re, im = re.reshape(-1, r, r), im.reshape(-1, r, r)
    eye = torch.eye(r, device=re.device, dtype=re.dtype).expand(re.size(0), -1, -1)
    # Gauss's elimination of [covariance | I]
    left = torch.stack([torch.cat([re, eye], 2), F.pad(im, (0, r))], 1)
    rows: list[Tensor] = []
    for i in range(r):
        row = left[:, :, :1]
        pivot = row[:, :1, :, i : i + 1]
        rows.append((row * pivot.rsqrt())[..., r:])
        factor = left[:, :, 1:, i : i + 1] / pivot
        left = left[:, :, 1:] - times(factor.unsqueeze(0), row.unsqueeze(0), -3).squeeze(0)
    w = torch.cat(rows, 2)
    re, im = w[:, 0], w[:, 1]
    turned = torch.stack([torch.stack([re, -im], -1), torch.stack([im, re], -1)], 2)
    return turned.view(list(shape) + [2 * r, 2 * r])  # noqa: RUF005


def combine(y: Tensor, h: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """LMMSE of one or two layers at unit noise power, its bias removed: symbols, turned back,
    [B, L, 2, S, K] and their SINR [B, L, S, K].
    """
    x = times_conj(y[:, None], h, -3).sum(2)
    sinr = h.square().sum((2, 3))
    if h.size(1) == 2:
        other = 1 / (1 + sinr.flip(1))
        cross = times_conj(h[:, 1], h[:, 0], -3).sum(1)  # of the second on the first
        sinr = sinr - cross.square().sum(1)[:, None] * other
        flat = other[:, :, None]
        leak = torch.stack([times(cross, x[:, 1], -3), times_conj(x[:, 0], cross, -3)], 1)
        x = x - leak * flat
    sinr = sinr.clamp(min=1e-6)
    return times_conj(x / sinr[:, :, None], turn, -3), sinr


def levels(bits: int) -> tuple[Tensor, Tensor]:
    """Of an axis of Gray QAM (TS 38.211 clause 5.1), float32: its levels [2^(bits/2)], and which of
    them have 1 in each bit [2^(bits/2), bits/2].
    """
    n = bits // 2
    one = (torch.arange(1 << n)[:, None] >> torch.arange(n - 1, -1, -1)) & 1
    sign = 1.0 - 2.0 * one
    level = sign[:, n - 1]
    for i in range(n - 1):
        level = sign[:, n - 2 - i] * (2.0 ** (i + 1) - level)
    return level * level_spacing(bits), one.float()


def llrs(x: Tensor, sinr: Tensor, bits: list[int], doubt: Tensor) -> Tensor:
    """Exact LLRs of symbols [B, L, 2, S, K] of this SINR, which say nothing of an axis with the
    probability doubt, both [B, L, S, K]: [B, L, S, K, max(bits)].
    """
    out: list[Tensor] = []
    for i, m in enumerate(bits):
        level, one = levels(m)
        level, one = level.to(x.device), one.to(x.device)
        axis = x[:, i].permute(0, 2, 3, 1)[..., None]
        likely = (level * (2 * axis - level)) * sinr[:, i, :, :, None, None]
        likely = (likely - likely.amax(-1, keepdim=True).detach()).exp()
        p1, p0 = likely @ one, likely @ (1 - one)  # [B, S, K, 2, m / 2]
        nothing = (p1 + p0) * doubt[:, i, :, :, None, None]
        llr = (p1 + nothing).log() - (p0 + nothing).log()
        out.append(F.pad(llr.mT.flatten(3), (0, max(bits) - m)))
    return torch.stack(out, 1)
