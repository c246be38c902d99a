# SPDX-License-Identifier: GPL-3.0-or-later
"""Named conditions of a TOML file, on which receivers are held against classical ones."""

import zlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sionna.phy.channel.tr38901 import CDL, TDL

from deeprx_common import limits
from deeprx_common.files import read_regular
from deeprx_common.modulation import MODULATIONS
from deeprx_common.printable import printable
from deeprx_common.report import sinr_db
from deeprx_common.slot import SlotConfig

from ..data import seeds
from ..data.channels import SlotGenerator, seed_of
from ..data.conditions import Conditions
from ..receivers.wiener import PathStatistics
from ..values import LINE, Text, check, number, pair, parse_toml, several, table_of, whole
from .evaluate import evaluation_conditions, of_slot

_CHANNELS = seeds.EVALUATION_CHANNELS + seeds.TRAINING_CHANNELS


@table_of
@dataclass(frozen=True)
class Condition:
    """One [[condition]] of a file. slot: of its [slots]; modulation: of all users; snr_db: per data
    RE, antenna and user; sir_db: over an interferer with DMRS of another cell, None: there is none;
    timing_samples, cfo_hz: as of Conditions, in the time domain.
    """

    name: Text
    slot: Text
    modulation: Literal[*MODULATIONS]
    channel: Literal[*_CHANNELS]
    delay_spread_ns: number(*(1e9 * s for s in limits.DELAY_SPREAD_S))
    doppler_hz: number(*limits.DOPPLER_HZ)
    snr_db: number(*limits.SNR_DB)
    sir_db: number(*limits.SNR_DB) | None = None
    n_rx: whole(1, 4) = 2
    domain: Literal["frequency", "time"] = "frequency"
    timing_samples: pair(number(-1000, 1000)) = (0.0, 0.0)
    cfo_hz: number(0, 1e4) = 0.0


@dataclass(frozen=True)
class Named:
    """A condition with its slot, as it is drawn."""

    condition: Condition
    slot: SlotConfig

    @property
    def name(self) -> str:
        return self.condition.name

    @property
    def seed(self) -> int:
        """Its own, whatever other conditions there are."""
        return seed_of(seeds.CONDITIONS, zlib.crc32(self.name.encode()))

    @property
    def sinr_db(self) -> float:
        return sinr_db(self.condition.snr_db, self.condition.sir_db)

    def conditions(self) -> Conditions:
        c = self.condition
        drawn = {
            "channels": (c.channel,),
            "n_rx": c.n_rx,
            "delay_spread_s": (c.delay_spread_ns * 1e-9,) * 2,
            "doppler_hz": (c.doppler_hz,) * 2,
            "snr_db": (c.snr_db,) * 2,
        }
        if c.domain == "time":
            drawn |= {"timing_samples": c.timing_samples, "cfo_hz": c.cfo_hz}
        if c.sir_db is not None:
            drawn |= {"interferer": 1.0, "sir_db": (c.sir_db,) * 2, "cell_ids": (0, 1007)}
        return evaluation_conditions(c.domain, **of_slot(self.slot) | drawn)

    def past_prefix(self) -> float:
        """Share of the power on paths that come later than the cyclic prefix lasts, beside the
        first. Slots drawn offline let it leak into no other symbol.
        """
        (model,) = SlotGenerator(self.conditions()).models.values()
        return _late(model, self.condition, min(self.slot.cp_lengths()) / self.slot.sample_rate)


def _late(model: TDL | CDL, condition: Condition, prefix_s: float) -> float:
    paths = PathStatistics(model, condition.n_rx)
    powers = paths.antennas.diagonal(dim1=1, dim2=2).real.sum(1)
    late = (paths.delays - paths.delays.min()) * condition.delay_spread_ns * 1e-9 > prefix_s
    return float(powers[late].sum() / powers.sum())


@table_of
@dataclass(frozen=True)
class _File:
    slots: dict[Text, dict[Text, Any]]
    condition: several(Condition)


def load(path: str | Path, only: list[str] | None = None) -> list[Named]:
    """A file's conditions, or only some, in its order. Raises ValueError with one line."""
    try:
        file = check(_File, parse_toml(read_regular(path).decode()))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected a TOML file") from None
    except ValueError as error:
        raise ValueError(printable(f"{path}: {error}", LINE)) from None
    conditions = file.condition
    names = [c.name for c in conditions]
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise ValueError(f"{path}: expected one condition of each name, found two {twice[0]!r}")
    if unknown := set(only or ()) - set(names):
        raise ValueError(f"{path}: expected some of {', '.join(names)}, found {min(unknown)!r}")
    return [_named(path, file, c) for c in conditions if not only or c.name in only]


def _named(path: str | Path, file: _File, condition: Condition) -> Named:
    where = f"{path}: condition {condition.name}"
    if condition.slot not in file.slots:
        known = ", ".join(file.slots)
        raise ValueError(f"{where}: slot: expected one of {known}, found {condition.slot!r}")
    if condition.domain == "frequency" and (any(condition.timing_samples) or condition.cfo_hz):
        raise ValueError(f'{where}: timing_samples and cfo_hz: expected domain = "time"')
    slot = SlotConfig.from_dict(
        {"equal_prefixes": True} | file.slots[condition.slot], f"{path}: slots.{condition.slot}"
    )
    users = tuple(replace(user, modulation=condition.modulation) for user in slot.users)
    try:
        named = Named(condition, replace(slot, users=users))
        named.conditions()
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return named
