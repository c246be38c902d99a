# SPDX-License-Identifier: GPL-3.0-or-later
"""Radios through gr-soapy."""

import os
import threading
from collections import Counter

from gnuradio import gr

from .radio import Radio, Tuning, gnuradio_module, key_values


class SoapyRadio(Radio):
    """Any device that SoapySDR has a module for, through gr-soapy.

    args: SoapySDR device arguments, e.g. "driver=lime". Streams run from start to stop; lost
    samples are no more than marks on stderr, see counting_marks().
    """

    def __init__(self, args: str):
        super().__init__(args, "SoapySDR")
        key_values(args)

    def _stream(self, kind: str, tuning: Tuning, n_channels: int) -> gr.basic_block:
        make = getattr(gnuradio_module("soapy"), kind)
        try:
            block = self._try(make, self.args, "fc32", n_channels, "", "", [""], [""])
        except ValueError as error:
            if "no match" not in str(error):
                raise
            raise ValueError(
                f"{self.args}: no such radio (SoapySDRUtil --find lists those there are; each kind "
                "of device needs its soapysdr-module-... package)"
            ) from error
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
            if kind == "source" and block.has_dc_offset_mode(channel):
                block.set_dc_offset_mode(channel, True)
        return block


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
