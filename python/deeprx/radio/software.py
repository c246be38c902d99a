# SPDX-License-Identifier: GPL-3.0-or-later
"""A radio without hardware."""

import math
import tempfile
from dataclasses import asdict, dataclass, fields

from gnuradio import blocks, gr

from ..blocks.tdl_channel import tdl_channel
from .impairments import CHEAP_SDR, Impairments, radio_impairments
from .radio import Radio, Tuning, gnuradio_module, key_values

_ZMQ_WAIT_MS, _ZMQ_QUEUE = 100, 16


@dataclass(frozen=True)
class Air:
    """What lies between the software radio's ends.

    address: of the ZMQ socket that carries the samples; empty where both ends are in one process.
    snr_db: at a transmit gain of 0. burst_slots: slots of one fading draw. seed: of fading, noise
    and losses.
    """

    address: str = ""
    channel: str = "TDL-E"
    delay_spread_s: float = 30e-9
    doppler_hz: float = 5.0
    snr_db: float = 30.0
    burst_slots: int = 20
    seed: int = 1


PRESETS = {"cheap-sdr": CHEAP_SDR, "ideal": Impairments()}


class SoftwareRadio(Radio):
    """A radio without hardware: two ends joined by a ZMQ socket, a channel, a poor receiver.

    args: "driver=software", and after commas any field of Air and of Impairments as key=value;
    preset: the impairments' levels, "cheap-sdr" (the default) or "ideal". Everything is a function
    of the arguments: the same samples arrive on every run, as fast as the receiver takes them.

    scale: of the samples that the sink is given, see transmit_scale(); a receive gain of 0 dB
    gives them back at the same level.
    """

    free_running = False
    tail_s = 0.0

    def __init__(self, args: str, scale: float):
        super().__init__(args, "software radio")
        self.scale = scale
        given = key_values(args)
        given.pop("driver")
        preset = given.pop("preset", "cheap-sdr")
        if preset not in PRESETS:
            raise ValueError(f"{args}: expected a preset of {', '.join(PRESETS)}, found {preset!r}")
        air, impairments = (
            {f.name: _number(args, f, given.pop(f.name)) for f in fields(kind) if f.name in given}
            for kind in (Air, Impairments)
        )
        if given:
            known = [f.name for kind in (Air, Impairments) for f in fields(kind)]
            raise ValueError(f"{args}: {', '.join(given)} is not one of {', '.join(known)}, preset")
        try:
            self.air = Air(**air)
            self.impairments = Impairments(**asdict(PRESETS[preset]) | impairments)
        except ValueError as error:
            raise ValueError(f"{args}: {error}") from error
        self._folder = None
        self.address = self.air.address
        if not self.address:
            self._folder = tempfile.TemporaryDirectory(prefix="deeprx-air-")
            self.address = f"ipc://{self._folder.name}/air"
        self.burst_slots = self.air.burst_slots or None
        self.conditions = {
            name: getattr(self.air, name) for name in ("channel", "delay_spread_s", "doppler_hz")
        }

    def _stream(self, kind: str, tuning: Tuning, n_channels: int) -> gr.basic_block:
        self._antennas(tuning, n_channels)
        if kind == "sink":
            return _software_sink(self.address, tuning)
        return _software_source(self, tuning, n_channels)


class _software_sink(gr.hier_block2):
    def __init__(self, address: str, tuning: Tuning):
        gr.hier_block2.__init__(
            self,
            "Software sink",
            gr.io_signature(1, 1, gr.sizeof_gr_complex),
            gr.io_signature(0, 0, 0),
        )
        gain = blocks.multiply_const_cc(10 ** (tuning.gain_db / 20))
        try:
            socket = gnuradio_module("zeromq").push_sink(
                gr.sizeof_gr_complex, 1, address, _ZMQ_WAIT_MS, True, _ZMQ_QUEUE
            )
        except RuntimeError as error:
            raise ValueError(f"cannot send to {address}: {error}") from error
        self.connect(self, gain, socket)


class _software_source(gr.hier_block2):
    def __init__(self, radio: SoftwareRadio, tuning: Tuning, n_rx: int):
        gr.hier_block2.__init__(
            self,
            "Software source",
            gr.io_signature(0, 0, 0),
            gr.io_signature(n_rx, n_rx, gr.sizeof_gr_complex),
        )
        try:
            socket = gnuradio_module("zeromq").pull_source(
                gr.sizeof_gr_complex, 1, radio.address, _ZMQ_WAIT_MS, True, _ZMQ_QUEUE
            )
        except RuntimeError as error:
            raise ValueError(f"cannot receive from {radio.address}: {error}") from error
        air = radio.air
        channel = tdl_channel(
            air.channel,
            n_rx,
            air.delay_spread_s,
            air.doppler_hz,
            air.snr_db,
            sample_rate=tuning.sample_rate,
            seed=air.seed,
            burst_slots=air.burst_slots,
        )
        receiver = radio_impairments(
            n_rx,
            tuning.frequency_hz,
            20 * math.log10(radio.scale) + tuning.gain_db,
            seed=air.seed,
            sample_rate=tuning.sample_rate,
            **asdict(radio.impairments),
        )
        self.connect(socket, blocks.multiply_const_cc(1 / radio.scale), channel)
        for antenna in range(n_rx):
            self.connect((channel, antenna), (receiver, antenna), (self, antenna))


def _number(args: str, field, text: str):
    """The value of an Air's or Impairments' field."""
    try:
        return type(field.default)(text)
    except ValueError:
        kind = type(field.default).__name__
        raise ValueError(f"{args}: {field.name} must be {kind}, found {text!r}") from None
