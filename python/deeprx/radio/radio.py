# SPDX-License-Identifier: GPL-3.0-or-later
"""Radios: where samples leave for the air and come back from it, hardware or software.

A radio has sink(), a block that takes one stream of complex samples, full scale 1, and source(),
one that gives n_rx of them; each is made once. What they set is checked against what the device
can do: ValueError with one line that says what was asked for and what there is.
"""

import importlib
import math
import os
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import asdict, dataclass, fields

import numpy as np
import pmt
from gnuradio import blocks, gr

from deeprx_common.slot import SlotConfig

from ..blocks.slot_stream import MessageError, SelfKeeping
from ..blocks.tdl_channel import tdl_channel
from .impairments import CHEAP_SDR, Impairments, radio_impairments

TRANSMIT_RMS = 0.25  # 12 dB below full scale: one OFDM sample in ten million is clipped
_START_S = 0.2  # from now until a timed burst begins
_FULL_SCALE = 0.999  # of a converter of 8 bits or more: 1 - 1 / 128 and what rounds to it
_ZMQ_WAIT_MS, _ZMQ_QUEUE = 100, 16


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

    @abstractmethod
    def sink(self, tuning: Tuning) -> gr.basic_block:
        """See the module."""

    @abstractmethod
    def source(self, tuning: Tuning, n_rx: int) -> gr.basic_block:
        """See the module."""

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


class SoapyRadio(Radio):
    """Any device that SoapySDR has a module for, through gr-soapy.

    args: SoapySDR device arguments, e.g. "driver=lime". Streams run from start to stop; lost
    samples are no more than marks on stderr, see counting_marks().
    """

    def __init__(self, args: str):
        super().__init__(args, "SoapySDR")
        _key_values(args)

    def sink(self, tuning: Tuning) -> gr.basic_block:
        block = self._make("sink", 1)
        self._tune(block, tuning, 1)
        return block

    def source(self, tuning: Tuning, n_rx: int) -> gr.basic_block:
        block = self._make("source", n_rx)
        self._tune(block, tuning, n_rx)
        for channel in range(n_rx):
            if block.has_dc_offset_mode(channel):
                block.set_dc_offset_mode(channel, True)
        return block

    def _make(self, kind: str, n_channels: int):
        make = getattr(_gnuradio_module("soapy"), kind)
        try:
            return self._try(make, self.args, "fc32", n_channels, "", "", [""], [""])
        except ValueError as error:
            if "no match" not in str(error):
                raise
            raise ValueError(
                f"{self.args}: no such radio (SoapySDRUtil --find lists those there are; each kind "
                "of device needs its soapysdr-module-... package)"
            ) from error

    def _tune(self, block, tuning: Tuning, n_channels: int) -> None:
        names = self._antennas(tuning, n_channels)
        for channel in range(n_channels):
            self._try(block.set_sample_rate, channel, tuning.sample_rate)
            self._check_rate(tuning, block.get_sample_rate(channel))
            ranges = [(r.minimum(), r.maximum()) for r in block.get_frequency_range(channel)]
            self._check("frequency", tuning.frequency_hz, ranges, "Hz")
            self._try(block.set_frequency, channel, tuning.frequency_hz)
            gains = block.get_gain_range(channel)
            self._check("gain", tuning.gain_db, [(gains.minimum(), gains.maximum())], "dB")
            self._try(block.set_gain, channel, tuning.gain_db)
            if names:
                self._check_antenna(names[channel], block.list_antennas(channel))
                self._try(block.set_antenna, channel, names[channel])


class UhdRadio(Radio):
    """A USRP, through gr-uhd.

    args: UHD device arguments, e.g. "type=b200". The source tags rx_time at its start and after an
    overflow; the sink waits for the tx_time of a burst and reports underflows on its message port
    async_msgs.
    """

    def __init__(self, args: str):
        super().__init__(args, "UHD")
        _key_values(args)

    def sink(self, tuning: Tuning) -> gr.basic_block:
        block = self._make("usrp_sink", 1)
        self._tune(block, tuning, 1)
        self._set_time(block)
        return block

    def source(self, tuning: Tuning, n_rx: int) -> gr.basic_block:
        block = self._make("usrp_source", n_rx)
        self._tune(block, tuning, n_rx)
        self._set_time(block)
        return block

    def _make(self, kind: str, n_channels: int):
        uhd = _gnuradio_module("uhd")
        stream = uhd.stream_args(cpu_format="fc32", channels=list(range(n_channels)))
        return self._try(getattr(uhd, kind), self.args, stream)

    def _set_time(self, block) -> None:
        block.set_time_now(_gnuradio_module("uhd").time_spec(time.time()))

    def _tune(self, block, tuning: Tuning, n_channels: int) -> None:
        names = self._antennas(tuning, n_channels)
        self._try(block.set_samp_rate, tuning.sample_rate)
        self._check_rate(tuning, block.get_samp_rate())
        for channel in range(n_channels):
            band, gains = block.get_freq_range(channel), block.get_gain_range(channel)
            self._check("frequency", tuning.frequency_hz, [(band.start(), band.stop())], "Hz")
            self._try(block.set_center_freq, tuning.frequency_hz, channel)
            self._check("gain", tuning.gain_db, [(gains.start(), gains.stop())], "dB")
            self._try(block.set_gain, tuning.gain_db, channel)
            if names:
                self._check_antenna(names[channel], block.get_antennas(channel))
                self._try(block.set_antenna, names[channel], channel)


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
        given = _key_values(args)
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

    def sink(self, tuning: Tuning) -> gr.basic_block:
        self._antennas(tuning, 1)
        return _software_sink(self.address, tuning)

    def source(self, tuning: Tuning, n_rx: int) -> gr.basic_block:
        self._antennas(tuning, n_rx)
        return _software_source(self, tuning, n_rx)


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
            socket = _gnuradio_module("zeromq").push_sink(
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
            socket = _gnuradio_module("zeromq").pull_source(
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
            tuning.sample_rate,
            tuning.frequency_hz,
            20 * math.log10(radio.scale) + tuning.gain_db,
            air.seed,
            **asdict(radio.impairments),
        )
        self.connect(socket, blocks.multiply_const_cc(1 / radio.scale), channel)
        for antenna in range(n_rx):
            self.connect((channel, antenna), (receiver, antenna), (self, antenna))


def transmit_scale(config: SlotConfig) -> float:
    """Factor that brings slot_transmitter's samples to TRANSMIT_RMS."""
    return TRANSMIT_RMS * math.sqrt(config.fft_size / config.n_sc)


def open_radio(args: str, scale: float, use_uhd: bool = False):
    """The radio that device arguments name. scale: of the samples that its sink is given."""
    if use_uhd:
        return UhdRadio(args)
    if _key_values(args).get("driver") == "software":
        return SoftwareRadio(args, scale)
    return SoapyRadio(args)


class timed_burst(SelfKeeping, gr.sync_block):
    """Makes n_samples samples one timed burst of a usrp_sink: tx_sob, tx_time, tx_eob.

    Not its length tags: each slot would be a burst, and the radio would stop in between. n_samples:
    0 for no end. clock: the sink, asked for the time when the first sample comes. Message port
    async_msgs: the sink's; what it reports is counted in events.
    """

    def __init__(self, n_samples: int, clock):
        super().__init__("Timed burst", [np.complex64], [np.complex64])
        self._last, self._clock = n_samples - 1, clock
        self.events: Counter[str] = Counter()
        self.message_port_register_in(pmt.intern("async_msgs"))
        self.set_msg_handler(pmt.intern("async_msgs"), self._on_async)

    def work(self, input_items, output_items):
        n, first = len(input_items[0]), self.nitems_read(0)
        output_items[0][:] = input_items[0]
        if first == 0:
            now = self._clock.get_time_now()
            whole, fraction = divmod(now.get_frac_secs() + _START_S, 1)
            when = pmt.from_uint64(now.get_full_secs() + int(whole)), pmt.from_double(fraction)
            self.add_item_tag(0, 0, pmt.intern("tx_sob"), pmt.PMT_T)
            self.add_item_tag(0, 0, pmt.intern("tx_time"), pmt.make_tuple(*when))
        if first <= self._last < first + n:
            self.add_item_tag(0, self._last, pmt.intern("tx_eob"), pmt.PMT_T)
        return n

    def _on_async(self, message):
        try:
            if not pmt.eq(pmt.car(message), pmt.intern("uhd_async_msg")):
                return
            codes = pmt.dict_ref(pmt.cdr(message), pmt.intern("event_code"), pmt.PMT_NIL)
            names = [pmt.symbol_to_string(pmt.nth(k, codes)) for k in range(pmt.length(codes))]
        except (ValueError, RuntimeError):  # PMT's
            raise MessageError(f"expected what a usrp_sink says, found {message!s:.80}") from None
        self.events.update(name for name in names if name != "burst_ack")


class radio_monitor(SelfKeeping, gr.sync_block):
    """Watches a source: its level, and what it lost.

    Input: complex samples of one antenna. Each rx_time tag after the first is an overflow, and says
    how many samples are missing.
    """

    def __init__(self, sample_rate: float):
        super().__init__("Radio monitor", [np.complex64], None)
        self._rate = sample_rate
        self._reference: tuple[int, int, float] | None = None  # offset, whole and other seconds
        self._energy, self._clipped = 0.0, 0
        self.samples = self.overflows = self.lost_samples = 0

    def work(self, input_items, output_items):
        samples = input_items[0]
        parts = samples.view(np.float32)
        self._energy += float(parts @ parts)
        self._clipped += int(np.count_nonzero(np.abs(parts) >= _FULL_SCALE))
        self.samples += len(samples)
        for tag in self.get_tags_in_window(0, 0, len(samples), pmt.intern("rx_time")):
            whole, fraction = pmt.to_python(tag.value)
            if self._reference is not None:
                at, first, begun = self._reference
                passed = (whole - first + fraction - begun) * self._rate
                self.overflows += 1
                self.lost_samples += max(0, round(passed) - (tag.offset - at))
            self._reference = tag.offset, whole, fraction
        return len(samples)

    def level_dbfs(self) -> float | None:
        """Mean power so far, 0 dB being a full-scale complex tone; None before any."""
        if not self._energy:
            return None
        return float(10 * np.log10(self._energy / self.samples))

    def clipped_share(self) -> float:
        """Share of real and imaginary parts at full scale."""
        return self._clipped / (2 * max(1, self.samples))


class counting_marks:
    """Counts the marks that gr-soapy leaves on stderr, all that it says of what was lost.

    Within it, stderr goes through a pipe and comes out unchanged. overflow: "sO"; underflow: "sU".
    """

    _MARKS = ((b"sO", "overflow"), (b"sU", "underflow"))

    def __init__(self):
        self.events: Counter[str] = Counter()

    def __enter__(self):
        self._stderr = os.dup(2)
        read, write = os.pipe()
        os.dup2(write, 2)
        os.close(write)
        self._reader = threading.Thread(target=self._forward, args=(read,), daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_):
        os.dup2(self._stderr, 2)  # closes the pipe's only writer
        self._reader.join()
        os.close(self._stderr)

    def _forward(self, pipe: int) -> None:
        last = b""
        while some := os.read(pipe, 4096):
            os.write(self._stderr, some)
            text = last + some
            for mark, event in self._MARKS:
                self.events[event] += text.count(mark)
            last = some[-1:] if some[-1:] == b"s" else b""
        os.close(pipe)


def _gnuradio_module(name: str):
    """A module that not every installation of GNU Radio has; ValueError with what to install."""
    try:
        return importlib.import_module(f"gnuradio.{name}")
    except ImportError as error:
        raise ValueError(
            f"expected GNU Radio's module {name}, which this radio needs: install gr-{name} "
            f"(Debian's gnuradio package holds it), found: {error}"
        ) from None


def _key_values(args: str) -> dict[str, str]:
    """Device arguments; raises ValueError where they are not key=value pairs."""
    pairs = [part.partition("=") for part in args.split(",")]
    for (key, equals, _), part in zip(pairs, args.split(","), strict=True):
        if not key.strip() or not equals:
            raise ValueError(
                f"expected device arguments such as driver=lime, found {part!r} in {args!r}"
            )
    return {key.strip(): value.strip() for key, _, value in pairs}


def _number(args: str, field, text: str):
    """The value of an Air's or Impairments' field."""
    try:
        return type(field.default)(text)
    except ValueError:
        kind = type(field.default).__name__
        raise ValueError(f"{args}: {field.name} must be {kind}, found {text!r}") from None
