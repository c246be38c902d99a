# SPDX-License-Identifier: GPL-3.0-or-later
"""Radios: where samples leave for the air and come back from it, hardware or software.

A radio has sink(), a block that takes one stream of complex samples, full scale 1, and source(),
one that gives n_rx of them; each is made once. What they set is checked against what the device
can do: ValueError with one line that says what was asked for and what there is.
"""

import importlib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from gnuradio import gr

from deeprx_common.slot import SlotConfig

TRANSMIT_RMS = 0.25  # 12 dB below full scale: one OFDM sample in ten million is clipped


@dataclass(frozen=True)
class Tuning:
    """What one end of a radio is set to; antennas: names of connectors, one a stream, or none."""

    sample_rate: float
    frequency_hz: float
    gain_db: float
    antennas: tuple[str, ...] = ()


class Radio(ABC):
    """What is common to radios; see the module.

    args: device arguments. name: for reports. free_running: samples come whether or not anything is
    sent. tail_s: what is sent after the last slot, for a device's buffers. conditions: keys of a
    report's point that are known of the air. burst_slots: slots of one fading draw, None: unknown.
    """

    free_running = True
    tail_s = 0.2
    burst_slots: int | None = None

    def __init__(self, args: str, kind: str):
        self.args = args
        self.name = f"{kind} {args}"
        self.conditions: dict = {}

    def sink(self, tuning: Tuning) -> gr.basic_block:
        """See the module."""
        return self._stream("sink", tuning, 1)

    def source(self, tuning: Tuning, n_rx: int) -> gr.basic_block:
        """See the module."""
        return self._stream("source", tuning, n_rx)

    @abstractmethod
    def _stream(self, kind: str, tuning: Tuning, n_channels: int) -> gr.basic_block:
        """A "sink" or "source" that is set so."""

    def _try(self, call, *arguments):
        """What a driver raises, as ValueError that names the device."""
        try:
            return call(*arguments)
        except (RuntimeError, ValueError, IndexError) as error:
            text = " ".join(str(error).split())
            for prefix in ("source: ", "sink: ", "LookupError: ", "KeyError: "):
                text = text.removeprefix(prefix)
            raise ValueError(f"{self.args}: {text}") from error

    def _antennas(self, tuning: Tuning, n_channels: int) -> tuple[str, ...]:
        if tuning.antennas and len(tuning.antennas) != n_channels:
            raise ValueError(
                f"{self.args}: expected {n_channels} antenna names, one for each stream, found "
                + ",".join(tuning.antennas)
            )
        return tuning.antennas

    def _check_antenna(self, name: str, there) -> None:
        if name not in there:
            raise ValueError(
                f"{self.args}: expected an antenna of {', '.join(there)}, found {name!r}"
            )

    def _check_rate(self, tuning: Tuning, got: float) -> None:
        if abs(got - tuning.sample_rate) > 1e-6 * got:
            raise ValueError(
                f"{self.args}: asked for {tuning.sample_rate:g} samples/s, gives {got:g}: "
                "choose another rate"
            )

    def _check(self, what: str, value: float, ranges, unit: str) -> None:
        if not any(low <= value <= high for low, high in ranges):
            there = " or ".join(f"{low:g} to {high:g}" for low, high in ranges)
            raise ValueError(f"{self.args}: expected a {what} of {there} {unit}, found {value:g}")


def transmit_scale(config: SlotConfig) -> float:
    """Factor that brings slot_transmitter's samples to TRANSMIT_RMS."""
    return TRANSMIT_RMS * math.sqrt(config.fft_size / config.n_sc)


def gnuradio_module(name: str):
    """A module that not every installation of GNU Radio has; ValueError with what to install."""
    try:
        return importlib.import_module(f"gnuradio.{name}")
    except ImportError as error:
        raise ValueError(
            f"expected GNU Radio's module {name}, which this radio needs: install gr-{name} "
            f"(Debian's gnuradio package holds it), found: {error}"
        ) from None


def key_values(args: str) -> dict[str, str]:
    """Device arguments; raises ValueError where they are not key=value pairs."""
    pairs = [part.partition("=") for part in args.split(",")]
    for (key, equals, _), part in zip(pairs, args.split(","), strict=True):
        if not key.strip() or not equals:
            raise ValueError(
                f"expected device arguments such as driver=lime, found {part!r} in {args!r}"
            )
    return {key.strip(): value.strip() for key, _, value in pairs}
