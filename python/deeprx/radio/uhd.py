# SPDX-License-Identifier: GPL-3.0-or-later
"""USRPs through gr-uhd, and bursts at a time of theirs."""

import time
from collections import Counter

import numpy as np
import pmt
from gnuradio import gr

from ..blocks.guarded import SelfKeeping
from ..blocks.messages import read_events
from .radio import Radio, Tuning, gnuradio_module, key_values

_START_S = 0.2  # from now until a timed burst begins


class UhdRadio(Radio):
    """A USRP, through gr-uhd.

    args: UHD device arguments, e.g. "type=b200". The source tags rx_time at its start and after an
    overflow; the sink waits for the tx_time of a burst and reports underflows on its message port
    async_msgs.
    """

    def __init__(self, args: str):
        super().__init__(args, "UHD")
        key_values(args)

    def _stream(self, kind: str, tuning: Tuning, n_channels: int) -> gr.basic_block:
        uhd = gnuradio_module("uhd")
        stream = uhd.stream_args(cpu_format="fc32", channels=list(range(n_channels)))
        block = self._try(getattr(uhd, f"usrp_{kind}"), self.args, stream)
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
        block.set_time_now(uhd.time_spec(time.time()))
        return block


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
        self.events.update(name for name in read_events(message) if name != "burst_ack")
