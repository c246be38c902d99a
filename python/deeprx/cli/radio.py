# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx radio: slots through a radio, or between two, and what receivers make of them."""

import sys
from pathlib import Path

from deeprx_common.checks import check_above, check_range
from deeprx_common.options import list_of

from ..blocks.guarded import run_flowgraph
from ..measure.flowgraph import stop_on_ctrl_c
from ..measure.radio_link import Exchange, Receiver, Transmitter, heard_and_lost
from ..radio.devices import open_radio
from ..radio.radio import Tuning, transmit_scale
from ..radio.soapy import counting_marks
from ..radio.software import SoftwareRadio
from .options import BLOCKS, METERING, SLOT, TRUST, add_options, slot_config
from .results import Session, read_receivers, seed_hint


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
    add("--rate", type=float, metavar="HZ", help="samples/s (spacing times the slot's FFT size)")
    add("--tx-gain", type=float, default=0.0, metavar="DB", help="(0)")
    add("--rx-gain", type=float, default=0.0, metavar="DB", help="(0)")
    add("--tx-antenna", metavar="NAME", help="connector, as the device calls it")
    add("--rx-antennas", type=list_of(str), metavar="NAME,..", help="one for each antenna")
    add("--record", type=Path, metavar="FILE", help="keep what was received, as SigMF")
    add_options(parser, "receiver", "reference", "slots", *SLOT, *BLOCKS, "n_rx", "seed")
    add_options(parser, *TRUST, "device", "engine", *METERING, "out")


def run(arguments) -> int:
    """Send, receive, show the table, write report.json, which grows meanwhile; Ctrl-C keeps what
    was measured.
    """
    a = arguments
    tx_args, rx_args = a.tx_args or a.args, a.rx_args or a.args
    _check(a, tx_args, rx_args)
    config = slot_config(a)
    if config.n_layers > 1:
        raise ValueError(
            f"a radio sends one user's layer, found a slot of {config.n_layers}: give --users 1; "
            "deeprx loopback and record simulate two"
        )
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
    models = read_receivers(a)
    session = Session(a, "{task.completed:.0f}/{task.total:.0f} slots")
    radio = radios[rx_args]
    with counting_marks() as marks:
        receiver = Receiver(
            radio,
            receiving,
            config,
            models,
            n_rx=a.n_rx,
            seed=a.seed,
            n_slots=a.slots if tx_args else 0,
            device=a.device,
            engine=a.engine,
            record=a.record,
        )
        transmitter = None
        if tx_args:
            transmitter = Transmitter(radios[tx_args], sending, config, a.slots, a.seed)
        exchange = Exchange(transmitter, receiver, a.slots, not radio.free_running)
        with session:
            task = session.progress.add_task(radio.args, total=a.slots)

            def advance():
                session.progress.update(task, completed=receiver.slots)
                exchange.advance()

            def fields():
                heard = heard_and_lost(radio, receiver, transmitter, marks.events)
                heard |= {"frequency_hz": a.freq, "sample_rate": rate}
                heard |= {"tx_gain_db": a.tx_gain, "rx_gain_db": a.rx_gain}
                session.report["radio"] = heard
                known = radio.conditions | receiver.synchronisation | {"seed": a.seed}
                return [known] * len(receiver.probes)

            window = session.run(receiver, advance, fields=fields)
            exchange.end()
    if exchange.failure:
        raise exchange.failure
    if exchange.error and not session.stop.is_set():
        raise ValueError(f"{radio.args}: {exchange.error}")
    broken = receiver.recording and receiver.recording.error()
    sent = a.slots if tx_args and not broken else None
    points = session.add_points(receiver, window, fields(), sent)
    heard = session.report["radio"]
    notes = [f"radio: {_heard(heard)}", *seed_hint(points, f"--seed {a.seed}")]
    if receiver.recording and not broken:
        notes.append(f"recorded: {receiver.recording.paths()[0]} (replay it with --seed {a.seed})")
    status = session.conclude(radio.name, notes)
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
        raise ValueError("which receiver? --receiver models/deeprx-pusch.pt")
    check_range("--slots", a.slots, 1 if rx_args else 0)
    check_range("--n-rx", a.n_rx, 1, 4, "antennas")
    for name in ("freq", "rate"):
        if (value := getattr(a, name)) is not None:
            check_above(f"--{name}", value, 0)


def _transmit(transmitter: Transmitter) -> int:
    with stop_on_ctrl_c() as stop:
        print("sending; Ctrl-C ends it", flush=True)
        run_flowgraph(transmitter, stop.is_set)
    return 130 if stop.is_set() else 0


def _heard(radio: dict) -> str:
    """A line of heard_and_lost()."""
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
