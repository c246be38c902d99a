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
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from sionna.phy import config as sionna_config
from sionna.phy.channel.tr38901 import CDL, TDL, PanelArray
from torch.nn.functional import pad

from deeprx_common.modulation import constellation
from deeprx_common.slot import N_SYMBOLS, SlotConfig, legal_dmrs

from . import seeds
from .conditions import Conditions, Kind, Kinds, lowest_tenth
from .seeds import EVALUATION_CHANNELS, TRAINING_CHANNELS

SPEC_VERSION = "19.2"  # of TR 38.901
CARRIER_HZ = 3.5e9
LIGHT_M_S = 299_792_458.0


@dataclass
class Propagation:
    """What each slot of a batch was drawn with. channel int64 [B, n_layers] index into channels;
    float32 [B, n_layers]: delay_spread_s, doppler_hz (the maximum: speed times carrier over the
    speed of light); float32 [B]: timing_samples and cfo_hz (both zero in the frequency domain).
    interferer: what interferers send, None where no slot has one.
    """

    channels: tuple[str, ...]
    channel: torch.Tensor
    delay_spread_s: torch.Tensor
    doppler_hz: torch.Tensor
    timing_samples: torch.Tensor
    cfo_hz: torch.Tensor
    interferer: SlotConfig | None

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
    float32 [B] (inf without an interferer). drawn is None where a batch comes out of
    storage, and so is h, unless it is stored, too.
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
        of_layer = {
            "config": config,
            "p": self.p[:, layer],
            "bits": self.bits[:, layer, ..., : config.bits_per_symbol],
            "h": None if self.h is None else self.h[:, layer],
            "drawn": self.drawn and self.drawn.of_layer(layer),
        }
        return LayerBatch(**vars(self) | of_layer)


class LayerBatch(SlotBatch):
    """One layer of a SlotBatch: p, bits, h and what was drawn for it without the layers' axis, bits
    of its own modulation, and config as if it were alone. y has the other layer, too.
    """


def symbol_s(slot: SlotConfig) -> float:
    """Mean seconds of an OFDM symbol, the step of channels and of what residual CFO turns.

    With the standard's prefixes symbols begin up to 0.007 of it (at 60 kHz 0.027) from where mean
    ones would, in which a path at 900 Hz turns by less than 0.003 rad.
    """
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
        self.models = self._channels(conditions.doppler_hz)
        self._slow_models = {}
        if conditions.mild:
            self._slow_models = self._channels(lowest_tenth(conditions.doppler_hz))

    @property
    def conditions(self) -> Conditions:
        return self._conditions

    def under(self, **changes) -> "SlotGenerator":
        """A generator of the same slots but for changed conditions; it shares the channel models
        where the changes leave them as they are.
        """
        changed = replace(self._conditions, **changes)
        of_models = ("channels", "n_rx", "doppler_hz", "mild")
        if any(getattr(changed, k) != getattr(self._conditions, k) for k in of_models):
            return SlotGenerator(changed, self.device)
        other = copy(self)
        other._conditions = changed
        return other

    def _channels(self, doppler_hz: tuple[float, float]) -> dict:
        return {name: self._channel(name, doppler_hz) for name in self.conditions.channels}

    def _channel(self, name: str, doppler_hz: tuple[float, float]):
        kind, profile = name.split("-")
        c = self.conditions
        speeds = [d * LIGHT_M_S / CARRIER_HZ for d in doppler_hz]
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
        self, count: int, symbol_s: float, doppler_hz: tuple[float, float]
    ) -> list[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Per channel model: its index, a complex64 [n, n_rx, paths, 29] at half-symbol steps,
        delays [n, paths] and Doppler in Hz [n].
        """
        low, high = doppler_hz
        models = self.models if doppler_hz == self.conditions.doppler_hz else self._slow_models
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
                a, tau = models[name](n, 2 * N_SYMBOLS + 1, 2.0 / symbol_s)
                out.append((i, a[:, 0, :, 0, 0], tau[:, 0, 0], doppler))
        return out

    def batch(self, size: int, seed: int, step: int = 0) -> SlotBatch:
        """The batch of this seed and step; size slots spread evenly over the channels, in random
        order.
        """
        return self.chunk(size, 1, seed, step)[0]

    def chunk(self, size: int, count: int, seed: int, step: int = 0) -> list[SlotBatch]:
        """count batches of size slots at once, on one grid: cheaper, since each channel model is
        called once for all.
        """
        sionna_config.seed = seed_of(seed, step)
        rng = torch.Generator(self.device).manual_seed(seed_of(seed, step, 1))
        kinds = Kinds(self.conditions, seed, step)
        drawn = [kinds.draw() for _ in range(count)]
        layers = [
            self._respond(size * count, kinds, rng)
            for _ in range(max(kind.slot.n_layers for kind in drawn))
        ]
        batches = []
        for i, kind in enumerate(drawn):
            part = slice(i * size, (i + 1) * size)
            of_users = layers[: kind.slot.n_layers]
            batches.append(
                self._receive(kind, [[x[part] for x in layer] for layer in of_users], rng)
            )
        return batches

    def _uniform(self, low_high: tuple[float, float], n: int, rng: torch.Generator) -> torch.Tensor:
        low, high = low_high
        return low + (high - low) * torch.rand(n, generator=rng, device=self.device)

    def _respond(self, total: int, kinds: Kinds, rng: torch.Generator) -> list[torch.Tensor]:
        """A layer's channels: complex64 [total, n_rx, 29, n_sc] at half-symbol steps, and what they
        were drawn with: model, delay spread and Doppler.
        """
        dev, grid = self.device, kinds.grid
        carriers = torch.as_tensor(grid.carriers, dtype=torch.float32, device=dev)
        f = carriers * (grid.scs_khz * 1e3)
        spread = self._uniform(kinds.delay_spread_s, total, rng)
        order = torch.randperm(total, generator=rng, device=dev)
        responses, channel, doppler, start = [], [], [], 0
        for i, a, tau, speed in self._paths(total, symbol_s(grid), kinds.doppler_hz):
            channel.append(torch.full((len(tau),), i, device=dev))
            doppler.append(speed)
            delays = tau * spread[start : start + len(tau), None]
            steer = torch.polar(torch.ones((), device=dev), -2 * torch.pi * delays[..., None] * f)
            responses.append(torch.einsum("brpt,bpk->brtk", a, steer))
            start += len(tau)
        drawn = (torch.cat(responses), torch.cat(channel), spread, torch.cat(doppler))
        return [x[order] for x in drawn]

    def _receive(
        self, kind: Kind, layers: list[list[torch.Tensor]], rng: torch.Generator
    ) -> SlotBatch:
        c, dev, slot = self.conditions, self.device, kind.slot
        hs = [h[:, : kind.n_rx, : 2 * slot.n_symbols + 1] for h, *_ in layers]
        size = len(hs[0])

        def uniform(low_high):
            return self._uniform(low_high, size, rng)

        def transmit(sent: SlotConfig, layer: int):
            b = sent.users[layer].bits_per_symbol
            shape = (size, sent.n_symbols, sent.n_sc, b)
            bits = torch.randint(0, 2, shape, generator=rng, device=dev, dtype=torch.uint8)
            label = (bits * 2 ** torch.arange(b - 1, -1, -1, device=dev)).sum(-1)
            data = torch.from_numpy(sent.data_mask).to(dev)
            pilots = torch.from_numpy(sent.pilots()[layer]).to(dev)
            points = _points(sent.users[layer].modulation, dev)
            return bits, torch.where(data, points[label], pilots)

        bits, sent = zip(*(transmit(slot, layer) for layer in range(slot.n_layers)), strict=True)
        snr_db = uniform(kind.snr_db)
        n0 = 10 ** (-snr_db / 10)
        sir_db = torch.full((size,), torch.inf, device=dev)
        signals = [(h, x, torch.ones(size, device=dev)) for h, x in zip(hs, sent, strict=True)]
        if c.interferer > 0:
            on = torch.rand(size, generator=rng, device=dev) < c.interferer
            sir_db = torch.where(on, uniform(c.sir_db), sir_db)
            x = transmit(kind.interferer, 0)[1]
            signals.append((hs[0].roll(1, 0), x, 10 ** (-sir_db / 20)))
        time = kind.domain == "time"
        impair = _Impairments(c, size, uniform, rng, slot, dev) if time else None
        shape = (size, kind.n_rx, slot.n_symbols, slot.n_sc)
        y = torch.zeros(shape, dtype=torch.complex64, device=dev)
        for h, x, gain in signals:
            part = impair.apply(h, x) if impair else h[:, :, 1::2] * x[:, None]
            y += part * gain[:, None, None, None]
        noise = (
            torch.randn(*y.shape, 2, generator=rng, device=dev)
            * (n0 / 2).sqrt()[:, None, None, None, None]
        )
        centres = [h[:, :, 1::2] for h in hs]
        if impair:
            centres = [h * impair.rotation[:, None] for h in centres]
        pilots = torch.view_as_real(torch.from_numpy(slot.pilots()).to(dev))
        most = max(b.shape[-1] for b in bits)
        return SlotBatch(
            config=slot,
            domain=kind.domain,
            y=torch.view_as_real(y) + noise,
            p=pilots.expand(size, -1, -1, -1, -1).contiguous(),
            bits=torch.stack([pad(b, (0, most - b.shape[-1])) for b in bits], 1),
            data=torch.from_numpy(slot.data_mask).to(dev),
            h=torch.stack(centres, 1),
            n0=n0,
            snr_db=snr_db,
            sir_db=sir_db,
            drawn=Propagation(
                c.channels,
                *(torch.stack(d, 1) for d in zip(*(drawn for _, *drawn in layers), strict=True)),
                timing_samples=impair.timing_samples if impair else torch.zeros_like(n0),
                cfo_hz=impair.cfo_hz if impair else torch.zeros_like(n0),
                interferer=kind.interferer if c.interferer > 0 else None,
            ),
        )


SETTLING_BATCH = 64


def slots_of_every_kind(
    conditions: Conditions, slots: int, device: str | torch.device = "cpu"
) -> list[Iterator[LayerBatch]]:
    """For each modulation and DMRS pattern of the conditions at least so many slots, which no
    training run sees, in batches of SETTLING_BATCH or of so many: their first layers.
    """
    size = min(slots, SETTLING_BATCH)
    generator = SlotGenerator(conditions, device)
    kinds = [(m, d) for m in conditions.modulations for d in conditions.dmrs]

    def draw(kind: int) -> Iterator[LayerBatch]:
        modulation, dmrs = kinds[kind]
        lengths = {n: w for n, w in conditions.n_symbols.items() if dmrs in legal_dmrs(n)}
        of_kind = generator.under(
            modulations={modulation: 1.0}, dmrs={dmrs: 1.0}, n_symbols=lengths
        )
        for i in range(-(-slots // size)):
            yield of_kind.batch(size, seed_of(seeds.SETTLING, kind), i).of_layer(0)

    return [draw(k) for k in range(len(kinds))]


@lru_cache
def _points(modulation: str, device) -> torch.Tensor:
    return torch.from_numpy(constellation(modulation)).to(device)


class _Impairments:
    """Inter-carrier interference to first order in the symbol (below -45 dB of the rest at 500 Hz),
    residual CFO, window timing and phase: what the time domain adds to h * x."""

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
        symbols = torch.arange(slot.n_symbols, device=dev)
        carriers = torch.as_tensor(slot.carriers, device=dev)
        self.timing_samples = early = uniform(c.timing_samples)
        turns = (
            uniform((0.0, 1.0))[:, None, None]
            + cfo[:, None, None] * symbol_s(slot) * symbols[:, None]
            - early[:, None, None] * carriers / n
        )
        self.rotation = torch.polar(
            torch.ones((), device=dev), 2 * torch.pi * turns
        )  # [B, n_sym, n_sc]

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
    """Wrong bits of each slot, int64 [B]; llr float [B, n_sym, n_sc, >= b]."""
    b = batch.config.bits_per_symbol
    wrong = ((llr[..., :b] > 0) != batch.bits.bool()) & batch.data[..., None]
    return wrong.sum((1, 2, 3))
