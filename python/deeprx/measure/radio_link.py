# SPDX-License-Identifier: GPL-3.0-or-later
"""Flowgraphs of slots through radios: one that sends, one that receives, and how they meet."""

import math
import threading
import time
from collections import Counter
from pathlib import Path

from gnuradio import blocks, filter, gr

from deeprx_common.commands import Failure
from deeprx_common.slot import SlotConfig

from ..blocks.guarded import run_flowgraph
from ..blocks.slot_sinr import slot_sinr
from ..blocks.slot_transmitter import slot_transmitter
from ..models.file import ModelFile
from ..radio.monitor import radio_monitor
from ..radio.radio import Radio, Tuning, transmit_scale
from ..radio.uhd import UhdRadio, timed_burst
from ..recording.recording import SentSlots
from ..recording.sink import recording_sink
from .flowgraph import CLUSTER_SLOTS, Flowgraph
from .link import TAIL_SLOTS, sent_bits

_SETTLE_S = 5.0  # for a device's first samples
_QUIET_S = 5.0  # without any progress: nothing more will come
_MEAN_SHARE = 2.0**-15  # of a sample in the mean that is taken off: 37 Hz at 7.68 MS/s


class Transmitter(gr.top_block):
    """Numbered slots with preamble into a radio's sink. n_slots: 0 for no end."""

    def __init__(self, radio: Radio, tuning: Tuning, config: SlotConfig, n_slots: int, seed: int):
        super().__init__("deeprx radio, transmitter", catch_exceptions=True)
        sent = SentSlots(config, preamble=True)
        if n_slots:
            tail = radio.tail_s * tuning.sample_rate / sent.n_samples()
            n_slots += TAIL_SLOTS + math.ceil(tail)
        sink = radio.sink(tuning)
        chain = [
            *sent_bits(config, seed, n_slots),
            slot_transmitter(preamble=True, slot=config),
            blocks.multiply_const_cc(transmit_scale(config)),
        ]
        self.burst = None
        if isinstance(radio, UhdRadio):
            self.burst = timed_burst(sent.n_samples(0, n_slots), sink)
            chain.append(self.burst)
            self.msg_connect(sink, "async_msgs", self.burst, "async_msgs")
        self.connect(*chain, sink)


class Receiver(Flowgraph):
    """A radio's source, synchronised front end and receivers, and what is watched and recorded.

    The mean is taken off the samples first: a direct-conversion receiver's own oscillator would
    drown a subcarrier. n_slots: as of slot_probe. record: where what was received is kept.
    """

    def __init__(
        self,
        radio: Radio,
        tuning: Tuning,
        config: SlotConfig,
        models: list[ModelFile],
        n_rx: int,
        seed: int,
        n_slots: int,
        device: str,
        engine: str,
        record: Path | None,
    ):
        super().__init__("deeprx radio, receiver", models, config, n_rx, sync=True)
        source = radio.source(tuning, self.n_rx)
        self.monitor = radio_monitor(tuning.sample_rate)
        self.connect(source, self.monitor)
        lead = self.front_end.window_lead()
        self.sinr = slot_sinr(config, seed, self.n_rx, lead, n_slots)
        samples = []
        for antenna in range(self.n_rx):
            samples.append(blocks.sub_cc())
            mean = filter.single_pole_iir_filter_cc(_MEAN_SHARE)
            self.connect((source, antenna), (samples[-1], 0))
            self.connect((source, antenna), mean, (samples[-1], 1))
            self.connect(samples[-1], (self.front_end, antenna), (self.sinr, antenna))
        self.connect_receivers(
            device,
            engine,
            seed=seed,
            cluster_slots=radio.burst_slots or CLUSTER_SLOTS,
            n_slots=n_slots,
        )
        self.recording = None
        if record:  # after all that may fail: it makes files
            self.recording = recording_sink(
                record,
                tuning.sample_rate,
                self.n_rx,
                bit_seed=seed,
                frequency_hz=tuning.frequency_hz,
                hw=radio.name,
                slot=config,
            )
            for antenna in range(self.n_rx):
                self.connect(samples[antenna], (self.recording, antenna))


class Exchange:
    """Slots from one flowgraph to the other; advance() is called now and then."""

    def __init__(
        self, transmitter: Transmitter | None, receiver: Receiver, n_slots: int, start_now
    ):
        self._transmitter, self._receiver, self._n_slots = transmitter, receiver, n_slots
        self._start_now = start_now
        self._sending = threading.Thread(target=self._send, daemon=True)
        self._began = time.monotonic()
        self._changed, self._state = self._began, ()
        self.error: str | None = None
        self.failure: Failure | None = None  # of the transmitter

    def _send(self) -> None:
        try:
            run_flowgraph(self._transmitter)
        except Failure as failure:
            self.failure = failure

    def advance(self) -> None:
        """Start to send once samples come in; stop the receiver when it has all there is."""
        receiver, now = self._receiver, time.monotonic()
        state = receiver.sinr.slots, receiver.slots, *(probe.slots() for probe in receiver.probes)
        if state != self._state:
            self._changed, self._state = now, state
        if self._transmitter is None:
            done = receiver.slots >= self._n_slots
        elif self._sending.ident is None:
            if self._start_now or receiver.monitor.samples:
                self._sending.start()
                self._changed = time.monotonic()
            elif now - self._began > _SETTLE_S:
                self.error = f"the radio gave no sample in {_SETTLE_S:g} s"
            done = False
        else:
            last = receiver.sinr.last_index
            all_through = last is not None and last >= self._n_slots - 1
            quiet = not self._sending.is_alive() and now - self._changed > _QUIET_S
            done = quiet or (all_through and receiver.slots >= receiver.sinr.slots)
        if done or self.error or self.failure:
            receiver.stop()

    def end(self) -> None:
        """Stop sending."""
        if self._transmitter is not None and self._sending.ident is not None:
            self._transmitter.stop()
            self._sending.join()


def heard_and_lost(
    radio: Radio, receiver: Receiver, transmitter: Transmitter | None, marks: Counter
) -> dict:
    """The report's "radio"."""
    events = marks + (transmitter.burst.events if transmitter and transmitter.burst else Counter())
    monitor, sinr_db = receiver.monitor, receiver.sinr.sinr_db()
    return {
        "name": radio.name,
        "samples": monitor.samples,
        "level_dbfs": monitor.level_dbfs(),
        "clipped_share": monitor.clipped_share(),
        "sinr_db": sinr_db,
        "overflows": monitor.overflows + events.pop("overflow", 0),
        "lost_samples": monitor.lost_samples,
        "underflows": events.pop("underflow", 0),
        "other_events": dict(events),
    }
