#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A classical and a learned receiver on the same slots over a fading channel, without a screen.

Run it with ./dev run python3 examples/loopback.py; the flowgraph is that of loopback.grc. The
command `deeprx loopback` does the same for many channels and SINRs.
"""

import argparse

from gnuradio import deeprx, gr

import deeprx_common.one_line_errors  # noqa: F401  (of packages that this Python lacks)
from deeprx_common import report_view
from deeprx_common.terminal import make_console

MODELS = ("ls-lmmse", "deeprx-pusch.pt")
SLOT = deeprx.SlotConfig(n_prb=26, users=[deeprx.User("16QAM")])
N_RX = 2
BURST_SLOTS = 5  # each burst fades on its own: the clusters that intervals are taken over


class Loopback(gr.top_block):
    """slot source, transmitter, TDL-A channel, front end, and for each model receiver and probe."""

    def __init__(self, snr_db: float, n_slots: int):
        super().__init__("loopback", catch_exceptions=True)
        fading = {"channel": "TDL-A", "delay_spread_s": 100e-9, "doppler_hz": 50.0}
        self.source = deeprx.slot_source(seed=1, n_slots=n_slots, slot=SLOT)
        self.transmitter = deeprx.slot_transmitter(slot=SLOT)
        self.channel = deeprx.tdl_channel(
            profile=fading["channel"],
            n_rx=N_RX,
            delay_spread_s=fading["delay_spread_s"],
            doppler_hz=fading["doppler_hz"],
            snr_db=snr_db,
            slot=SLOT,
            burst_slots=BURST_SLOTS,
        )
        self.front_end = deeprx.aligned_front_end(n_rx=N_RX, slot=SLOT)
        self.connect(self.source, self.transmitter, self.channel)
        for antenna in range(N_RX):
            self.connect((self.channel, antenna), (self.front_end, antenna))
        self.probes = []
        for model in MODELS:
            receiver = deeprx.receiver(model, slot=SLOT, n_rx=N_RX)
            probe = deeprx.slot_probe(
                seed=1,
                slot=SLOT,
                cluster_slots=BURST_SLOTS,
                conditions=fading | {"snr_db": snr_db, "n_rx": N_RX, "sync": False},
            )
            for antenna in range(N_RX):
                self.connect((self.front_end, antenna), (receiver, antenna))
            self.connect(receiver, probe)
            self.msg_connect(receiver, "stats", probe, "stats")
            self.probes.append(probe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--snr", type=float, default=12.0, metavar="DB", help="(12)")
    parser.add_argument("--slots", type=int, default=200, help="(200)")
    arguments = parser.parse_args()
    try:
        flowgraph = Loopback(arguments.snr, arguments.slots)
        deeprx.run_flowgraph(flowgraph)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    points = [probe.report()["points"][0] for probe in flowgraph.probes]
    for table in report_view.tables(points):
        make_console().print(table)


if __name__ == "__main__":
    main()
