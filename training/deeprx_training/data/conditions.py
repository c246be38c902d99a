# SPDX-License-Identifier: GPL-3.0-or-later
"""What slots are drawn from, the table [data] of a recipe, and which kinds of slots those are."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator

from deeprx_common import limits
from deeprx_common.modulation import MODULATIONS
from deeprx_common.slot import N_SYMBOLS, SlotConfig, User, legal_dmrs

from ..values import Flag, Text, number, pair, several, table_of, weights, whole
from .seeds import TRAINING_CHANNELS

LENGTHS = range(4, N_SYMBOLS + 1)  # of an allocation, in symbols


def _symbols(key: str) -> tuple[int, ...]:
    """TOML keys are text: "2,11" = 0.75."""
    parts = key.split(",")
    symbols = tuple(sorted(int(p) for p in parts if p.strip().isdecimal()))
    legal = sorted({symbols for length in LENGTHS for symbols in legal_dmrs(length)})
    if len(symbols) != len(parts) or symbols not in legal:
        known = ", ".join(f'"{",".join(map(str, symbols))}"' for symbols in legal)
        raise ValueError(f"expected one to four DMRS symbols, one of {known}, found {key!r}")
    return symbols


def _some_of(*known: int) -> type:
    """The same of whole numbers."""

    def read(key: str) -> int:
        if key not in map(str, known):
            raise ValueError(f"expected some of {', '.join(map(str, known))}, found {key!r}")
        return int(key)

    return Annotated[int, BeforeValidator(read)]


@table_of
@dataclass(frozen=True)
class Conditions:
    """What a slot is drawn from. A pair is a uniform range, of which each slot has one value; a
    table holds options and their weights, of which each batch has one.

    channels: of TR 38.901; each slot has one of them.
    n_prb: resource blocks of the allocation.
    min_prb: where it is above 0, n_prb are the most, and a chunk of batches has from min_prb on.
    carrier_prb: resource blocks of the carrier, of which the allocation may be any; 0: it is the
        carrier.
    scs_khz: subcarrier spacings, 15, 30 or 60 kHz; one is drawn per chunk.
    n_rx: receive antennas.
    min_rx: where it is above 0, n_rx are the most, and a batch has from min_rx on.
    n_symbols: of the allocation, 4 to 14 from the slot's first on.
    dmrs: DMRS symbols, "2", "2,11" or any other list of TS 38.211 table 6.4.1.1.3-3; drawn are
        those that the allocation's length has.
    cdm_groups: without data, 1 or 2.
    n_scid: probability that a batch has n_SCID 1.
    users: 1, or 2 with a layer, bits, modulation and channel each, on DMRS ports 0 and 1, or, with
        two CDM groups, in half of the batches 0 and 2.
    modulations: of each user.
    snr_db: per data resource element, antenna and layer.
    snr_db_of: the same of slots whose first user has this modulation, in place of snr_db.
    sir_db: the same over an interferer, where there is one.
    interferer: probability that a slot has one, which has its own bits, channel and cell_ids.
    interferer_dmrs: probability that a batch's interferers have a modulation, DMRS symbols, CDM
        groups, n_SCID and, of standard slots, a DMRS port of their own.
    delay_spread_s: root mean square, in seconds.
    doppler_hz: maximum shift.
    mild: probability that a chunk's delay spreads are of the lowest tenth of their range, and,
        apart from it, that its Doppler shifts are.
    time_domain: probability that a batch is drawn in the time domain, with inter-carrier
        interference, residual timing and residual frequency offset.
    timing_samples: residual timing at the slot's sample rate, positive where the FFT window opens
        early.
    cfo_hz: standard deviation of the residual frequency offset.
    cell_ids: of the pilots' scrambling (n_ID).
    standard: slots are any that the standard sends: with its longer cyclic prefixes, in any slot of
        the frame, a user alone on any DMRS port of the CDM groups without data. Else they are with
        equal prefixes, in slot 0, a user alone on port 0, as recipes have drawn without this key.

    Phase compensation (TS 38.211 clause 5.4) is not drawn: the receiver's undoes the transmitter's
    in each symbol, an interferer's in the same slot, too, so grids are the same with and without.

    Raises ValueError where values do not fit each other.
    """

    channels: several(Text) = TRAINING_CHANNELS
    n_prb: whole(1, 273) = 26
    min_prb: whole(0, 273) = 0
    carrier_prb: whole(0, 275) = 0
    scs_khz: weights(_some_of(15, 30, 60)) = field(default_factory=lambda: {15: 1.0})
    n_rx: whole(1, 4) = 2
    min_rx: whole(0, 4) = 0
    n_symbols: weights(_some_of(*LENGTHS)) = field(default_factory=lambda: {N_SYMBOLS: 1.0})
    dmrs: weights(Annotated[tuple[int, ...], BeforeValidator(_symbols)]) = field(
        default_factory=lambda: {(2, 11): 1.0}
    )
    cdm_groups: weights(_some_of(1, 2)) = field(default_factory=lambda: {1: 1.0})
    n_scid: number(0, 1) = 0.0
    users: weights(_some_of(1, 2)) = field(default_factory=lambda: {1: 1.0})
    modulations: weights(Literal[*MODULATIONS]) = field(default_factory=lambda: {"16QAM": 1.0})
    snr_db: pair(number(*limits.SNR_DB)) = (-4.0, 32.0)
    snr_db_of: dict[Literal[*MODULATIONS], pair(number(*limits.SNR_DB))] = field(
        default_factory=dict
    )
    sir_db: pair(number(*limits.SNR_DB)) = (0.0, 36.0)
    interferer: number(0, 1) = 0.0
    interferer_dmrs: number(0, 1) = 0.0
    delay_spread_s: pair(number(*limits.DELAY_SPREAD_S)) = (10e-9, 300e-9)
    doppler_hz: pair(number(*limits.DOPPLER_HZ)) = (0.0, 500.0)
    mild: number(0, 1) = 0.0
    time_domain: number(0, 1) = 0.0
    timing_samples: pair(number(-1000, 1000)) = (0.0, 0.0)
    cfo_hz: number(0, 1e4) = 0.0
    cell_ids: pair(whole(0, 65535)) = (0, 1007)
    standard: Flag = False

    def __post_init__(self):
        for symbols in self.dmrs:
            if not any(symbols in legal_dmrs(length) for length in self.n_symbols):
                raise ValueError(
                    f"dmrs: expected lists of allocations of {_listed(self.n_symbols)} symbols, "
                    f"found {list(symbols)}"
                )
        for length in self.n_symbols:
            if not any(self.dmrs_of(length).values()):
                known = _listed(map(list, legal_dmrs(length)))
                raise ValueError(f"dmrs: expected some of {known} for {length} symbols, found none")
        for key, least, most in (
            ("min_prb", self.min_prb, self.n_prb),
            ("min_rx", self.min_rx, self.n_rx),
        ):
            if least > most:
                raise ValueError(f"{key}: expected {most} at most, found {least}")
        if 0 < self.carrier_prb < self.n_prb:
            raise ValueError(
                f"carrier_prb: expected 0 or at least {self.n_prb}, found {self.carrier_prb}"
            )

    def dmrs_of(self, n_symbols: int) -> dict[tuple[int, ...], float]:
        """The lists of DMRS symbols that so long an allocation has, and their weights."""
        legal = legal_dmrs(n_symbols)
        return {symbols: weight for symbols, weight in self.dmrs.items() if symbols in legal}

    def snr_db_with(self, modulation: str) -> tuple[float, float]:
        """The range of slots whose first user has this modulation."""
        return self.snr_db_of.get(modulation, self.snr_db)

    @property
    def mean_re(self) -> float:
        """Resource elements of an allocation, on average."""
        shares = self.n_symbols.values()
        symbols = sum(n * share for n, share in self.n_symbols.items()) / sum(shares)
        return 12 * symbols * ((self.min_prb or self.n_prb) + self.n_prb) / 2

    def at(self, snr_db: float) -> "Conditions":
        """The same at one SNR."""
        return replace(self, snr_db=(snr_db, snr_db), snr_db_of={})

    def cropped(self, n_prb: int) -> "Conditions":
        """The same in fewer PRB. Timing counts samples, which are longer in a narrower slot."""
        longer = self.grid(self.n_prb, 0, 15).fft_size / self.grid(n_prb, 0, 15).fft_size
        early, late = self.timing_samples
        return replace(
            self,
            n_prb=n_prb,
            min_prb=min(self.min_prb, n_prb),
            timing_samples=(early / longer, late / longer),
        )

    def slot(self, modulation: str, dmrs: tuple[int, ...]) -> SlotConfig:
        """One of its slots, of one user."""
        return replace(
            self.grid(self.n_prb, 0, next(iter(self.scs_khz))),
            n_symbols=next(n for n in self.n_symbols if dmrs in legal_dmrs(n)),
            dmrs=dmrs,
            cdm_groups=next(iter(self.cdm_groups)),
            users=(User(modulation),),
        )

    def grid(self, n_prb: int, first_prb: int, scs_khz: int) -> SlotConfig:
        """Some slot with these resource blocks."""
        return SlotConfig(
            n_prb=n_prb,
            first_prb=first_prb,
            carrier_prb=self.carrier_prb or n_prb,
            scs_khz=scs_khz,
            equal_prefixes=not self.standard,
        )


def lowest_tenth(low_high: tuple[float, float]) -> tuple[float, float]:
    low, high = low_high
    return low, low + (high - low) / 10


def _listed(values: Iterable) -> str:
    return ", ".join(map(str, values))


@dataclass(frozen=True)
class Kind:
    """What the slots of a batch have in common. interferer: what it sends, where there is one;
    snr_db: the range of their SNRs.
    """

    slot: SlotConfig
    interferer: SlotConfig
    n_rx: int
    domain: str
    snr_db: tuple[float, float]


class Kinds:
    """Draws the grid of a chunk and the ranges of its channels' delay spreads and Doppler shifts,
    then the kinds of its batches.

    What has been drawn since the first recipes has random numbers of its own, which other draws
    leave as they are.
    """

    def __init__(self, conditions: Conditions, seed: int, step: int):
        self._conditions = conditions
        self._first = np.random.default_rng([seed, step])
        self._rest = np.random.default_rng([seed, step, 2])
        self.grid = self._grid()
        self.delay_spread_s, self.doppler_hz = conditions.delay_spread_s, conditions.doppler_hz
        short, slow = np.random.default_rng([seed, step, 3]).random(2) < conditions.mild
        if short:
            self.delay_spread_s = lowest_tenth(self.delay_spread_s)
        if slow:
            self.doppler_hz = lowest_tenth(self.doppler_hz)

    def _grid(self) -> SlotConfig:
        c, rng = self._conditions, self._rest
        n_prb = int(rng.integers(c.min_prb or c.n_prb, c.n_prb + 1))
        first_prb = int(rng.integers(0, (c.carrier_prb or n_prb) - n_prb + 1))
        return c.grid(n_prb, first_prb, _pick(rng, c.scs_khz))

    def draw(self) -> Kind:
        c, first, rest = self._conditions, self._first, self._rest
        n_symbols = _pick(rest, c.n_symbols)
        dmrs = c.dmrs_of(n_symbols)
        modulation, symbols = _pick(first, c.modulations), _pick(first, dmrs)
        domain = "time" if first.random() < c.time_domain else "frequency"
        cells = [int(first.integers(c.cell_ids[0], c.cell_ids[1] + 1)) for _ in range(2)]
        groups = _pick(rest, c.cdm_groups)
        if _pick(rest, c.users) == 2:
            port = int(rest.integers(1, groups + 1))
            other = User(_pick(rest, c.modulations), rnti=2, port=port)
            users = (User(modulation), other)
        else:
            users = (User(modulation, port=self._port(groups)),)
        slot = replace(
            self.grid,
            n_symbols=n_symbols,
            dmrs=symbols,
            cdm_groups=groups,
            dmrs_n_id=cells[0],
            n_scid=int(rest.random() < c.n_scid),
            users=users,
            slot_number=int(rest.integers(self.grid.slots_per_frame)) if c.standard else 0,
        )
        interferer = replace(slot.alone(0), dmrs_n_id=cells[1])
        if rest.random() < c.interferer_dmrs:
            symbols, groups = _pick(rest, dmrs), _pick(rest, c.cdm_groups)
            interferer = replace(
                interferer,
                dmrs=symbols,
                cdm_groups=groups,
                n_scid=int(rest.random() < c.n_scid),
                users=(User(_pick(rest, c.modulations), port=self._port(groups)),),
            )
        n_rx = int(rest.integers(c.min_rx or c.n_rx, c.n_rx + 1))
        return Kind(slot, interferer, n_rx, domain, c.snr_db_with(modulation))

    def _port(self, cdm_groups: int) -> int:
        """Of a user alone."""
        return int(self._rest.integers(2 * cdm_groups)) if self._conditions.standard else 0


def _pick(rng: np.random.Generator, weights: dict):
    options = list(weights)
    share = np.array(list(weights.values()), float)
    return options[rng.choice(len(options), p=share / share.sum())]
