# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx radio: slots through a radio, or between two, and what receivers make of them."""

import math
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from gnuradio import blocks, filter, gr

from deeprx_common import energy
from deeprx_common.options import list_of
from deeprx_common.slot import SlotConfig
from deeprx_common.terminal import make_console, progress_bar

from ..blocks.slot_sinr import slot_sinr
from ..blocks.slot_source import slot_source
from ..blocks.slot_stream import raise_failure, slot_keywords
from ..blocks.slot_transmitter import slot_transmitter
from ..measure.flowgraph import Flowgraph, run_watched, stop_on_ctrl_c
from ..measure.link import TAIL_SLOTS
from ..measure.points import add_points, new_report
from ..models.file import read_model_file
from ..radio.devices import open_radio
from ..radio.monitor import radio_monitor
from ..radio.radio import Radio, Tuning, transmit_scale
from ..radio.soapy import counting_marks
from ..radio.software import SoftwareRadio
from ..radio.uhd import UhdRadio, timed_burst
from ..recording.recording import SentSlots
from ..recording.sink import recording_sink
from .options import METERING, SLOT, add_options, open_meter, out_folder, slot_config
from .replay import CLUSTER_SLOTS
from .results import conclude, seed_hint

_SETTLE_S = 5.0  # for a device's first samples
_QUIET_S = 5.0  # without any progress: nothing more will come
_MEAN_SHARE = 2.0**-15  # of a sample in the mean that is taken off: 37 Hz at 7.68 MS/s


def configure(parser) -> None:
    parser.description = (
        "Transmits slots, receives them, or both, and measures receivers on them. "
        "Without hardware: --args driver=software"
    )
    add = parser.add_argument
    add("--args", metavar="ARGS", help="a radio that does both, e.g. driver=lime (SoapySDR's)")
    add("--tx-args", metavar="ARGS", help="a radio that transmits")
    add("--rx-args", metavar="ARGS", help="a radio that receives")
    add("--uhd", action="store_true", help="ARGS are UHD's, e.g. type=b200")
    add("--freq", type=float, default=915e6, metavar="HZ", help="carrier (915e6)")
    add("--rate", type=float, metavar="HZ", help="samples/s (15 kHz times the slot's FFT size)")
    add("--tx-gain", type=float, default=0.0, metavar="DB", help="(0)")
    add("--rx-gain", type=float, default=0.0, metavar="DB", help="(0)")
    add("--tx-antenna", metavar="NAME", help="connector, as the device calls it")
    add("--rx-antennas", type=list_of(str), metavar="NAME,..", help="one for each antenna")
    add("--record", type=Path, metavar="FILE", help="keep what was received, as SigMF")
    add_options(parser, "receiver", "slots", *SLOT, "n_rx", "seed")
    add_options(parser, "device", "engine", *METERING, "out")


class Transmitter(gr.top_block):
    """Numbered slots with preamble into a radio's sink. n_slots: 0 for no end."""

    def __init__(self, radio: Radio, tuning: Tuning, config: SlotConfig, n_slots: int, seed: int):
        super().__init__("deeprx radio, transmitter", catch_exceptions=True)
        period = SentSlots(config, preamble=True).period
        if n_slots:
            n_slots += TAIL_SLOTS + math.ceil(radio.tail_s * tuning.sample_rate / period)
        slot = slot_keywords(config)
        sink = radio.sink(tuning)
        chain = [
            slot_source(seed=seed, n_slots=n_slots, **slot),
            slot_transmitter(preamble=True, **slot),
            blocks.multiply_const_cc(transmit_scale(config)),
        ]
        self.burst = None
        if isinstance(radio, UhdRadio):
            self.burst = timed_burst(n_slots * period, sink)
            chain.append(self.burst)
            self.msg_connect(sink, "async_msgs", self.burst, "async_msgs")
        self.connect(*chain, sink)


class Receiver(Flowgraph):
    """A radio's source, synchronised front end and receivers, and what is watched and recorded.

    The mean is taken off the samples first: a direct-conversion receiver's own oscillator would
    drown a subcarrier. n_slots: as of slot_probe.
    """

    def __init__(self, radio: Radio, tuning: Tuning, config: SlotConfig, models, options, n_slots):
        super().__init__("deeprx radio, receiver", models, config, options.n_rx, sync=True)
        source = radio.source(tuning, self.n_rx)
        self.monitor = radio_monitor(tuning.sample_rate)
        self.connect(source, self.monitor)
        lead = self.front_end.window_lead()
        self.sinr = slot_sinr(config, options.seed, self.n_rx, lead, n_slots)
        samples = []
        for antenna in range(self.n_rx):
            samples.append(blocks.sub_cc())
            mean = filter.single_pole_iir_filter_cc(_MEAN_SHARE)
            self.connect((source, antenna), (samples[-1], 0))
            self.connect((source, antenna), mean, (samples[-1], 1))
            self.connect(samples[-1], (self.front_end, antenna), (self.sinr, antenna))
        self.connect_receivers(
            options.device,
            options.engine,
            seed=options.seed,
            cluster_slots=radio.burst_slots or CLUSTER_SLOTS,
            n_slots=n_slots,
        )
        self.recording = None
        if options.record:  # after all that may fail: it makes files
            self.recording = recording_sink(
                options.record,
                tuning.sample_rate,
                self.n_rx,
                bit_seed=options.seed,
                frequency_hz=tuning.frequency_hz,
                hw=radio.name,
                **slot_keywords(config),
            )
            for antenna in range(self.n_rx):
                self.connect(samples[antenna], (self.recording, antenna))


class _Exchange:
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

    def _send(self) -> None:
        self._transmitter.start()
        self._transmitter.wait()
        try:
            raise_failure(self._transmitter)
        except RuntimeError as error:
            self.error = str(error)

    def advance(self) -> None:
        """Start to send once samples come in; stop the receiver when it has all there is."""
        receiver, now = self._receiver, time.monotonic()
        state = receiver.sinr.slots, *(probe.slots() for probe in receiver.probes)
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
        if done or self.error:
            receiver.stop()

    def end(self) -> None:
        """Stop sending."""
        if self._transmitter is not None and self._sending.ident is not None:
            self._transmitter.stop()
            self._sending.join()


def run(arguments) -> int:
    """Send, receive, show the table, write report.json; Ctrl-C keeps what was measured."""
    a = arguments
    tx_args, rx_args = a.tx_args or a.args, a.rx_args or a.args
    _check(a, tx_args, rx_args)
    config = slot_config(a)
    rate = a.rate or config.sample_rate
    if a.record and rate != config.sample_rate:
        raise ValueError(
            f"--record: expected the slots' own {config.sample_rate:g} samples/s, found {rate:g}: "
            "leave out --rate"
        )
    scale = transmit_scale(config)
    radios = {args: open_radio(args, scale, a.uhd) for args in (tx_args, rx_args) if args}
    if len({tx_args, rx_args}) > 1:
        for radio in radios.values():
            if isinstance(radio, SoftwareRadio) and not radio.air.address:
                raise ValueError(
                    f"{radio.args}: two ends meet at an address: add the same "
                    "address=tcp://127.0.0.1:5610 to both"
                )
    sending = Tuning(rate, a.freq, a.tx_gain, (a.tx_antenna,) if a.tx_antenna else ())
    receiving = Tuning(rate, a.freq, a.rx_gain, tuple(a.rx_antennas or ()))
    if not rx_args:
        return _transmit(Transmitter(radios[tx_args], sending, config, a.slots, a.seed))
    models = [read_model_file(name) for name in a.receiver]
    meter, idle = open_meter(a)
    n_slots = a.slots if tx_args else 0
    radio = radios[rx_args]
    with counting_marks() as marks:
        receiver = Receiver(radio, receiving, config, models, a, n_slots)
        transmitter = None
        if tx_args:
            transmitter = Transmitter(radios[tx_args], sending, config, a.slots, a.seed)
        exchange = _Exchange(transmitter, receiver, a.slots, not radio.free_running)
        folder = out_folder(a)
        console = make_console()
        started = time.monotonic()
        bar = progress_bar(console, "{task.completed:.0f}/{task.total:.0f} slots")
        with stop_on_ctrl_c() as stop, bar as progress:
            task = progress.add_task(radio.args, total=a.slots)

            def advance():
                progress.update(task, completed=receiver.slots)
                exchange.advance()

            window = energy.EnergyWindow(meter, idle)
            run_watched(receiver, stop, advance)
            counted = window.read()
            exchange.end()
    if exchange.error and not stop.is_set():
        raise ValueError(f"{radio.args}: {exchange.error}")
    measured = new_report()
    heard = measured["radio"] = _radio(radio, receiver, transmitter, marks.events)
    heard |= {"frequency_hz": a.freq, "sample_rate": rate}
    heard |= {"tx_gain_db": a.tx_gain, "rx_gain_db": a.rx_gain}
    broken = receiver.recording and receiver.recording.error()
    known = radio.conditions | receiver.synchronisation | {"seed": a.seed}
    points = add_points(
        measured,
        receiver,
        counted,
        [known] * len(models),
        a.slots if tx_args else None,
        bool(stop.is_set() or broken),
    )
    notes = [f"radio: {_heard(heard)}", *seed_hint(points, a.seed, a.cell_id)]
    if receiver.recording and not broken:
        notes.append(f"recorded: {receiver.recording.paths()[0]} (replay it with --seed {a.seed})")
    status = conclude(measured, folder, console, started, radio.name, stop.is_set(), notes)
    if broken:
        kept = receiver.recording.paths()[0]
        print(f"deeprx: error: {broken.strerror}: it all ends here; kept: {kept}", file=sys.stderr)
        return 2
    return status


def _check(a, tx_args: str | None, rx_args: str | None) -> None:
    if not tx_args and not rx_args:
        raise ValueError(
            "which radio? --args driver=lime for one that does both, --tx-args or --rx-args for "
            "one end, --args driver=software for none"
        )
    if rx_args and not a.receiver:
        raise ValueError("which receiver? --receiver models/deeprx-realtime-1.pt")
    if a.slots < (1 if rx_args else 0):
        raise ValueError(f"--slots must be at least 1, got {a.slots}")
    if not 1 <= a.n_rx <= 4:
        raise ValueError(f"--n-rx must be 1 to 4 antennas, got {a.n_rx}")
    for name in ("freq", "rate"):
        value = getattr(a, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"--{name} must be above 0, got {value:g}")


def _transmit(transmitter: Transmitter) -> int:
    with stop_on_ctrl_c() as stop:
        print("sending; Ctrl-C ends it", flush=True)
        run_watched(transmitter, stop)
    return 130 if stop.is_set() else 0


def _radio(radio, receiver: Receiver, transmitter: Transmitter | None, marks: Counter) -> dict:
    """The report's "radio": what was heard and what was lost."""
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


def _heard(radio: dict) -> str:
    """A line of what _radio() found."""
    if radio["level_dbfs"] is None:
        return "nothing but zeros came in"
    line = f"{radio['level_dbfs']:.1f} dBFS, {100 * radio['clipped_share']:.2g} % at full scale"
    if radio["sinr_db"] is not None:
        line += f", SINR {radio['sinr_db']:.1f} dB in known slots"
    line += (
        f"; {radio['overflows']} overflows, {radio['lost_samples']} samples lost, "
        f"{radio['underflows']} underflows"
    )
    return line + "".join(f", {n} {event}" for event, n in radio["other_events"].items())
