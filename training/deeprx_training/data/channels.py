# SPDX-License-Identifier: GPL-3.0-or-later
"""Received slots over 3GPP channels, drawn on the fly with Sionna (TR 38.901 TDL and CDL).

Every batch is a pure function of (conditions, seed, step): a resumed run sees the data it would
have seen. Two domains: "frequency" multiplies each subcarrier by its channel (Sionna's OFDM
channel, no inter-carrier interference); "time" lets the channel move within the symbol, which
leaks into the neighbours, and adds the residual timing, CFO and phase that a synchronised front
end leaves.
"""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BeforeValidator
from sionna.phy import config as sionna_config
from sionna.phy.channel.tr38901 import CDL, TDL, PanelArray

from deeprx_common import limits
from deeprx_common.modulation import MODULATIONS, constellation
from deeprx_common.slot import N_SYMBOLS, SlotConfig, User, dmrs_symbols

from ..values import Text, number, pair, several, table_of, weights, whole
from . import seeds
from .seeds import EVALUATION_CHANNELS, TRAINING_CHANNELS

SPEC_VERSION = "19.2"  # of TR 38.901
CARRIER_HZ = 3.5e9
LIGHT_M_S = 299_792_458.0
# what receivers here interpolate in time through
DMRS = tuple(dmrs_symbols(l0=l0, additional_position=more) for l0 in (2, 3) for more in (0, 1))


def _symbols(key: str) -> tuple[int, ...]:
    """TOML keys are text: "2,11" = 0.75."""
    parts = key.split(",")
    symbols = tuple(sorted(int(p) for p in parts if p.strip().isdecimal()))
    if len(symbols) != len(parts) or symbols not in DMRS:
        known = ", ".join(f'"{",".join(map(str, symbols))}"' for symbols in DMRS)
        raise ValueError(f"expected one or two DMRS symbols, one of {known}, found {key!r}")
    return symbols


@table_of
@dataclass(frozen=True)
class Conditions:
    """What a slot is drawn from; a pair is a uniform range (one draw per slot).

    channels: of TR 38.901; each slot has one of them.
    n_prb: resource blocks.
    n_rx: receive antennas.
    modulations, dmrs: options and their weights; one of each is drawn per batch. DMRS symbols are
        written "2", "3", "2,11" or "3,11".
    snr_db: per data resource element and antenna.
    sir_db: the same over an interferer, where there is one.
    interferer: probability that a slot has one.
    delay_spread_s: root mean square, in seconds.
    doppler_hz: maximum shift.
    time_domain: probability that a batch is drawn in the time domain, with inter-carrier
        interference, residual timing and residual frequency offset.
    timing_samples: residual timing at the slot's sample rate, positive where the FFT window opens
        early.
    cfo_hz: standard deviation of the residual frequency offset.
    cell_ids: of the pilots' scrambling.
    """

    channels: several(Text) = TRAINING_CHANNELS
    n_prb: whole(6, 273) = 26
    n_rx: whole(1, 4) = 2
    modulations: weights(Literal[*MODULATIONS]) = field(default_factory=lambda: {"16QAM": 1.0})
    dmrs: weights(Annotated[tuple[int, ...], BeforeValidator(_symbols)]) = field(
        default_factory=lambda: {(2, 11): 1.0}
    )
    snr_db: pair(number(*limits.SNR_DB)) = (-4.0, 32.0)
    sir_db: pair(number(*limits.SNR_DB)) = (0.0, 36.0)
    interferer: number(0, 1) = 0.0
    delay_spread_s: pair(number(*limits.DELAY_SPREAD_S)) = (10e-9, 300e-9)
    doppler_hz: pair(number(*limits.DOPPLER_HZ)) = (0.0, 500.0)
    time_domain: number(0, 1) = 0.0
    timing_samples: pair(number(-1000, 1000)) = (0.0, 0.0)
    cfo_hz: number(0, 1e4) = 0.0
    cell_ids: pair(whole(0, 1007)) = (0, 1007)

    def at(self, snr_db: float) -> "Conditions":
        """The same at one SNR."""
        return replace(self, snr_db=(snr_db, snr_db))

    def cropped(self, n_prb: int) -> "Conditions":
        """The same in fewer PRB. Timing counts samples, which are longer in a narrower slot."""
        longer = SlotConfig(n_prb=self.n_prb).fft_size / SlotConfig(n_prb=n_prb).fft_size
        early, late = self.timing_samples
        return replace(self, n_prb=n_prb, timing_samples=(early / longer, late / longer))

    def slot(self, modulation: str, dmrs: tuple[int, ...]) -> SlotConfig:
        """One of its slots."""
        # with equal prefixes a seed's slots stay those of recipes and results that were published
        user = User(modulation)
        return SlotConfig(n_prb=self.n_prb, dmrs=dmrs, users=(user,), equal_prefixes=True)


@dataclass
class Propagation:
    """What each slot of a batch was drawn with. channel int64 [B, n_layers] index into channels;
    float32 [B, n_layers]: delay_spread_s, doppler_hz (the maximum: speed times carrier over the
    speed of light); float32 [B]: timing_samples and cfo_hz (both zero in the frequency domain).
    """

    channels: tuple[str, ...]
    channel: torch.Tensor
    delay_spread_s: torch.Tensor
    doppler_hz: torch.Tensor
    timing_samples: torch.Tensor
    cfo_hz: torch.Tensor

    def of_layer(self, layer: int) -> "Propagation":
        """The same without the layers' axis."""
        each = ("channel", "delay_spread_s", "doppler_hz")
        return replace(self, **{key: getattr(self, key)[:, layer] for key in each})


@dataclass
class SlotBatch:
    """Slots of one description, as the model contract has them.

    y float32 [B, n_rx, n_sym, n_sc, 2]; p float32 [B, n_layers, n_sym, n_sc, 2]; bits uint8
    [B, n_layers, n_sym, n_sc, b] for the most bits b of a layer's symbol, zero beyond a layer's
    own; data bool [n_sym, n_sc]; h complex64 [B, n_layers, n_rx, n_sym, n_sc] the true channels as
    the front end sees them; n0 float32 [B] noise power; snr_db float32 [B] of each layer; sir_db
    float32 [B] (inf without an interferer). h and drawn are None where a batch comes out of
    storage.
    """

    config: SlotConfig
    domain: str
    y: torch.Tensor
    p: torch.Tensor
    bits: torch.Tensor
    data: torch.Tensor
    h: torch.Tensor
    n0: torch.Tensor
    snr_db: torch.Tensor
    sir_db: torch.Tensor
    drawn: Propagation | None = None

    @property
    def sinr_db(self) -> torch.Tensor:
        return -10 * torch.log10(10 ** (-self.snr_db / 10) + 10 ** (-self.sir_db / 10))

    def of_layer(self, layer: int) -> "LayerBatch":
        """What a receiver of one layer takes and gives back."""
        config = self.config.alone(layer)
        own = {
            "config": config,
            "p": self.p[:, layer],
            "bits": self.bits[:, layer, ..., : config.bits_per_symbol],
            "h": None if self.h is None else self.h[:, layer],
            "drawn": self.drawn and self.drawn.of_layer(layer),
        }
        return LayerBatch(**vars(self) | own)


class LayerBatch(SlotBatch):
    """One layer of a SlotBatch: p, bits, h and what was drawn for it without the layers' axis, bits
    of its own modulation, and config as if it were alone. y has the other layer, too.
    """


def symbol_s(slot: SlotConfig) -> float:
    """Mean seconds of an OFDM symbol."""
    return slot.n_samples() / slot.sample_rate / N_SYMBOLS


def seed_of(*parts: int) -> int:
    """One 31-bit seed from several integers."""
    return int(np.random.SeedSequence(list(parts)).generate_state(1)[0] >> 1)


class SlotGenerator:
    """Draws SlotBatch after SlotBatch on a device. Its conditions are what Sionna's channel models
    were built from, so they stay; under() is a generator of others.
    """

    def __init__(self, conditions: Conditions, device: str | torch.device = "cpu"):
        self._conditions = conditions
        device = torch.device(device)
        self.device = (
            torch.device("cuda", 0) if device.type == "cuda" and device.index is None else device
        )
        known = TRAINING_CHANNELS + EVALUATION_CHANNELS
        if unknown := set(conditions.channels) - set(known):
            raise ValueError(
                f"channels: expected some of {', '.join(sorted(known))}, got {unknown.pop()!r}"
            )
        if unknown := set(conditions.dmrs) - set(DMRS):
            raise ValueError(
                f"dmrs: expected some of {', '.join(map(str, map(list, DMRS)))}, got "
                f"{list(unknown.pop())}"
            )
        self.models = {name: self._channel(name) for name in conditions.channels}

    @property
    def conditions(self) -> Conditions:
        return self._conditions

    def under(self, **changes) -> "SlotGenerator":
        """A generator of the same slots but for changed conditions; it shares the channel models
        where the changes leave them as they are.
        """
        changed = replace(self._conditions, **changes)
        of_models = ("channels", "n_rx", "doppler_hz")
        if any(getattr(changed, k) != getattr(self._conditions, k) for k in of_models):
            return SlotGenerator(changed, self.device)
        other = copy(self)
        other._conditions = changed
        return other

    def _channel(self, name: str):
        kind, profile = name.split("-")
        c = self.conditions
        speeds = [d * LIGHT_M_S / CARRIER_HZ for d in c.doppler_hz]
        common = dict(
            delay_spread=1.0,  # path delays come out normalised; each slot scales its own
            carrier_frequency=CARRIER_HZ,
            min_speed=speeds[0],
            max_speed=speeds[1],
            device=str(self.device),
            spec_version=SPEC_VERSION,
        )
        if kind == "TDL":
            return TDL(profile, num_rx_ant=c.n_rx, num_tx_ant=1, **common)
        array = dict(
            num_rows_per_panel=1,
            polarization="single",
            polarization_type="V",
            antenna_pattern="omni",
            carrier_frequency=CARRIER_HZ,
            device=str(self.device),
        )
        return CDL(
            profile,
            ut_array=PanelArray(num_cols_per_panel=1, **array),
            bs_array=PanelArray(num_cols_per_panel=c.n_rx, **array),
            direction="uplink",
            **common,
        )

    def _paths(
        self, count: int, symbol_s: float
    ) -> list[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Per channel model: its index, a complex64 [n, n_rx, paths, 29] at half-symbol steps,
        delays [n, paths] and Doppler in Hz [n].
        """
        low, high = self.conditions.doppler_hz
        names = self.conditions.channels
        out = []
        for i, name in enumerate(names):
            n = count // len(names) + (i < count % len(names))
            if n:
                # Sionna keeps each slot's speed to itself, but draws it first
                rng = sionna_config.torch_rng(str(self.device))
                state = rng.get_state()
                doppler = low + (high - low) * torch.rand(n, generator=rng, device=self.device)
                rng.set_state(state)
                a, tau = self.models[name](n, 2 * N_SYMBOLS + 1, 2.0 / symbol_s)
                out.append((i, a[:, 0, :, 0, 0], tau[:, 0, 0], doppler))
        return out

    def batch(self, size: int, seed: int, step: int = 0) -> SlotBatch:
        """The batch of this seed and step; size slots spread evenly over the channels, in random
        order.
        """
        return self.chunk(size, 1, seed, step)[0]

    def chunk(self, size: int, count: int, seed: int, step: int = 0) -> list[SlotBatch]:
        """count batches of size slots at once: cheaper, since each channel model is called once
        for all.
        """
        c, dev = self.conditions, self.device
        sionna_config.seed = seed_of(seed, step)
        host = np.random.default_rng([seed, step])
        rng = torch.Generator(dev).manual_seed(seed_of(seed, step, 1))
        total = size * count

        def uniform(low_high, n=total):
            return low_high[0] + (low_high[1] - low_high[0]) * torch.rand(
                n, generator=rng, device=dev
            )

        slot = c.slot(next(iter(c.modulations)), next(iter(c.dmrs)))  # of all, the same grid
        carriers = torch.as_tensor(slot.carriers, dtype=torch.float32, device=dev)
        f = carriers * (slot.scs_khz * 1e3)
        spread = uniform(c.delay_spread_s)
        order = torch.randperm(total, generator=rng, device=dev)
        responses, channel, doppler, start = [], [], [], 0
        for i, a, tau, speed in self._paths(total, symbol_s(slot)):
            channel.append(torch.full((len(tau),), i, device=dev))
            doppler.append(speed)
            delays = tau * spread[start : start + len(tau), None]
            steer = torch.polar(torch.ones((), device=dev), -2 * torch.pi * delays[..., None] * f)
            responses.append(torch.einsum("brpt,bpk->brtk", a, steer))
            start += len(tau)
        h = torch.cat(responses)[order]  # [total, n_rx, 29, n_sc], half-symbol steps
        drawn = [d[order] for d in (torch.cat(channel), spread, torch.cat(doppler))]
        batches = []
        for i in range(count):
            part = slice(i * size, (i + 1) * size)
            batch = self._receive(h[part], [d[part] for d in drawn], uniform, host, rng)
            batches.append(batch)
        return batches

    def _receive(self, h, drawn, uniform, host, rng) -> SlotBatch:
        c, dev, size = self.conditions, self.device, len(h)

        def pick(weights):
            options = list(weights)
            share = np.array(list(weights.values()), float)
            return options[host.choice(len(options), p=share / share.sum())]

        slot = c.slot(pick(c.modulations), pick(c.dmrs))
        domain = "time" if host.random() < c.time_domain else "frequency"
        b = slot.bits_per_symbol
        shape = (size, N_SYMBOLS, slot.n_sc)
        cells = [int(host.integers(c.cell_ids[0], c.cell_ids[1] + 1)) for _ in range(2)]
        data = torch.from_numpy(slot.data_mask).to(dev)
        points = _points(slot.modulation, dev)
        weights = 2 ** torch.arange(b - 1, -1, -1, device=dev)

        def transmit(cell):
            pilots = torch.from_numpy(replace(slot, dmrs_n_id=cell).pilots()[0]).to(dev)
            bits = torch.randint(0, 2, (*shape, b), generator=rng, device=dev, dtype=torch.uint8)
            x = points[(bits * weights).sum(-1)]
            return bits, pilots, torch.where(data, x, pilots)

        bits, pilots, x = transmit(cells[0])
        snr_db = uniform(c.snr_db, size)
        n0 = 10 ** (-snr_db / 10)
        sir_db = torch.full((size,), torch.inf, device=dev)
        signals = [(h, x, torch.ones(size, device=dev))]
        if c.interferer > 0:
            on = torch.rand(size, generator=rng, device=dev) < c.interferer
            sir_db = torch.where(on, uniform(c.sir_db, size), sir_db)
            signals.append((h.roll(1, 0), transmit(cells[1])[2], 10 ** (-sir_db / 20)))
        impair = _Impairments(c, size, uniform, rng, slot, dev) if domain == "time" else None
        y = torch.zeros(size, c.n_rx, N_SYMBOLS, slot.n_sc, dtype=torch.complex64, device=dev)
        for hs, xs, gain in signals:
            part = impair.apply(hs, xs) if impair else hs[:, :, 1::2] * xs[:, None]
            y += part * gain[:, None, None, None]
        noise = (
            torch.randn(*y.shape, 2, generator=rng, device=dev)
            * (n0 / 2).sqrt()[:, None, None, None, None]
        )
        centre = h[:, :, 1::2]
        true = centre * impair.rotation[:, None] if impair else centre
        return SlotBatch(
            config=replace(slot, dmrs_n_id=cells[0]),
            domain=domain,
            y=torch.view_as_real(y) + noise,
            p=torch.view_as_real(pilots[None]).expand(size, -1, -1, -1, -1).contiguous(),
            bits=bits[:, None],
            data=data,
            h=true[:, None],
            n0=n0,
            snr_db=snr_db,
            sir_db=sir_db,
            drawn=Propagation(
                c.channels,
                *(d[:, None] for d in drawn),
                timing_samples=impair.timing_samples if impair else torch.zeros_like(n0),
                cfo_hz=impair.cfo_hz if impair else torch.zeros_like(n0),
            ),
        )


SETTLING_BATCH = 64


def slots_of_every_kind(
    conditions: Conditions, slots: int, device: str | torch.device = "cpu"
) -> list[Iterator[LayerBatch]]:
    """For each modulation and DMRS pattern of the conditions at least so many slots, which no
    training run sees, in batches of SETTLING_BATCH: their first layers.
    """
    generator = SlotGenerator(conditions, device)
    kinds = [(m, d) for m in conditions.modulations for d in conditions.dmrs]

    def draw(kind: int) -> Iterator[LayerBatch]:
        modulation, dmrs = kinds[kind]
        of_kind = generator.under(modulations={modulation: 1.0}, dmrs={dmrs: 1.0})
        for i in range(-(-slots // SETTLING_BATCH)):
            yield of_kind.batch(SETTLING_BATCH, seed_of(seeds.SETTLING, kind), i).of_layer(0)

    return [draw(k) for k in range(len(kinds))]


@lru_cache
def _points(modulation: str, device) -> torch.Tensor:
    return torch.from_numpy(constellation(modulation)).to(device)


class _Impairments:
    """Inter-carrier interference to first order in the symbol (below -45 dB of the rest at 500 Hz),
    residual CFO, window timing and phase: what the time domain adds to hs * xs."""

    def __init__(self, c: Conditions, size, uniform, rng, slot: SlotConfig, dev):
        n = slot.fft_size
        self.bins = torch.as_tensor(slot.carriers % n, device=dev)
        self.size = n
        # position within the useful part of the symbol, in symbols, zero at its centre
        self.ramp = (torch.arange(n, device=dev) - (n - 1) / 2) / (n + slot.cp_lengths()[1])
        self.cfo_hz = cfo = torch.randn(size, generator=rng, device=dev) * c.cfo_hz
        turns = cfo[:, None] * torch.arange(n, device=dev) / slot.sample_rate
        self.spin = torch.polar(
            torch.ones((), device=dev), 2 * torch.pi * (turns - turns.mean(1, keepdim=True))
        )
        symbols = torch.arange(N_SYMBOLS, device=dev)
        carriers = torch.as_tensor(slot.carriers, device=dev)
        self.timing_samples = early = uniform(c.timing_samples, size)
        turns = (
            uniform((0.0, 1.0), size)[:, None, None]
            + cfo[:, None, None] * symbol_s(slot) * symbols[:, None]
            - early[:, None, None] * carriers / n
        )
        self.rotation = torch.polar(
            torch.ones((), device=dev), 2 * torch.pi * turns
        )  # [B, 14, n_sc]

    def _to_time(self, grid):
        spectrum = torch.zeros(*grid.shape[:-1], self.size, dtype=grid.dtype, device=grid.device)
        spectrum[..., self.bins] = grid
        return torch.fft.ifft(spectrum)

    def apply(self, h, x):
        x = (x * self.rotation)[:, None]
        slope = h[:, :, 2::2] - h[:, :, :-2:2]  # over one symbol
        samples = self._to_time(h[:, :, 1::2] * x) + self.ramp * self._to_time(slope * x)
        return torch.fft.fft(samples * self.spin[:, None, None])[..., self.bins]


def bit_errors(llr: torch.Tensor, batch: LayerBatch) -> torch.Tensor:
    """Wrong bits of each slot, int64 [B]; llr float [B, 14, n_sc, >= b]."""
    b = batch.config.bits_per_symbol
    wrong = ((llr[..., :b] > 0) != batch.bits.bool()) & batch.data[..., None]
    return wrong.sum((1, 2, 3))
