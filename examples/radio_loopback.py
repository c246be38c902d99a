#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots through a radio and back, without hardware: a channel and a cheap receiver's faults.

Run it with ./dev run python3 examples/radio_loopback.py; with a SoapySDR device:

    ./dev run python3 examples/radio_loopback.py --args driver=lime --tx-gain 30 --rx-gain 30

radio_software.grc, radio_loopback_soapy.grc and radio_loopback_uhd.grc are the same in Companion.
The command `deeprx radio` does the same with more choices and counts what was lost.
"""

import argparse
from dataclasses import asdict

from gnuradio import blocks, deeprx, filter, gr, soapy
from gnuradio.deeprx.radio.impairments import CHEAP_SDR
from gnuradio.deeprx.radio.radio import transmit_scale

import deeprx_common.one_line_errors  # noqa: F401  (of packages that this Python lacks)
from deeprx_common import report_view
from deeprx_common.terminal import make_console

MODELS = ("ls-lmmse", "deeprx-pusch.pt")
SLOT = deeprx.SlotConfig(n_prb=26, users=[deeprx.User("16QAM")])
N_RX = 2


def device(kind, arguments, n_channels, gain_db):
    """A soapy.sink or soapy.source, tuned."""
    block = kind(arguments.args, "fc32", n_channels, "", "", [""], [""])
    for channel in range(n_channels):
        block.set_sample_rate(channel, SLOT.sample_rate)
        block.set_frequency(channel, arguments.freq)
        block.set_gain(channel, gain_db)
    return block


class Loopback(gr.top_block):
    def __init__(self, arguments):
        super().__init__("radio loopback", catch_exceptions=True)
        self.source = deeprx.slot_source(seed=1, slot=SLOT)
        self.transmitter = deeprx.slot_transmitter(preamble=True, slot=SLOT)
        level = transmit_scale(SLOT)
        if arguments.args:
            sink = device(soapy.sink, arguments, 1, arguments.tx_gain)
            self.connect(self.source, self.transmitter, blocks.multiply_const_cc(level), sink)
            self.radio = device(soapy.source, arguments, N_RX, arguments.rx_gain)
        else:
            channel = deeprx.tdl_channel(
                "TDL-E",
                N_RX,
                delay_spread_s=30e-9,
                doppler_hz=5.0,
                snr_db=30.0,
                slot=SLOT,
                burst_slots=20,
            )
            self.radio = deeprx.radio_impairments(
                N_RX, arguments.freq, slot=SLOT, **asdict(CHEAP_SDR)
            )
            self.connect(self.source, self.transmitter, channel)
            for antenna in range(N_RX):
                scaled = blocks.multiply_const_cc(level)
                self.connect((channel, antenna), scaled, (self.radio, antenna))
        self.front_end = deeprx.sync_front_end(N_RX, slot=SLOT)
        for antenna in range(N_RX):  # a direct-conversion receiver's own oscillator comes off
            mean, clean = filter.single_pole_iir_filter_cc(2**-15), blocks.sub_cc()
            self.connect((self.radio, antenna), (clean, 0))
            self.connect((self.radio, antenna), mean, (clean, 1))
            self.connect(clean, (self.front_end, antenna))
        self.probes = []
        for model in MODELS:
            receiver = deeprx.receiver(model, slot=SLOT, n_rx=N_RX)
            probe = deeprx.slot_probe(
                slot=SLOT, cluster_slots=20, conditions={"n_rx": N_RX, "sync": True}
            )
            for antenna in range(N_RX):
                self.connect((self.front_end, antenna), (receiver, antenna))
            self.connect(receiver, probe)
            self.msg_connect(receiver, "stats", probe, "stats")
            self.probes.append(probe)

    def passed(self) -> int:
        """Slots, received or missed, that every probe has seen go by."""
        return min(p.slots() + p.statistics.missed_slots for p in self.probes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--args", help="SoapySDR device, e.g. driver=lime (default: none)")
    parser.add_argument("--freq", type=float, default=915e6, metavar="HZ", help="(915e6)")
    parser.add_argument("--tx-gain", type=float, default=0.0, metavar="DB", help="(0)")
    parser.add_argument("--rx-gain", type=float, default=0.0, metavar="DB", help="(0)")
    parser.add_argument("--slots", type=int, default=200, help="(200)")
    arguments = parser.parse_args()
    if arguments.slots < 1:
        parser.error(f"--slots must be at least 1, got {arguments.slots}")
    try:
        flowgraph = Loopback(arguments)
        deeprx.run_flowgraph(flowgraph, lambda: flowgraph.passed() >= arguments.slots)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    points = [probe.report()["points"][0] for probe in flowgraph.probes]
    for table in report_view.tables(points):
        make_console().print(table)
    print(flowgraph.front_end.statistics())


if __name__ == "__main__":
    main()
