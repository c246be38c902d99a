#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SINR goes from 3 to 24 dB and back, and a controller swaps the receiver's model.

It picks the cheapest model that holds a target error rate, from the LLRs alone. Beside it, on the
same samples, receivers that stay with the cheapest and with the most capable model.

    ./dev run python3 examples/switching.py
"""

import argparse
from pathlib import Path

import numpy as np
from gnuradio import blocks, deeprx, gr

import deeprx_common.one_line_errors  # noqa: F401  (of packages that this Python lacks)
from deeprx_common import report_view
from deeprx_common.terminal import make_console

LADDER = ["baseline-sure.pt", "deeprx-student.pt", "deeprx-teacher.pt"]
SLOT = deeprx.SlotConfig(n_prb=26, users=[deeprx.User("16QAM")])
N_RX = 2
BURST_SLOTS = 5  # each burst fades on its own: the clusters that intervals are taken over
FADING = {"delay_spread_s": 100e-9, "doppler_hz": 300.0}
SINR_DB = (3.0, 24.0)
TAIL_SLOTS = 3  # after the last counted one: what follows a slot carries it through the chain


def _name(model: str) -> str:
    return Path(model).stem


class Switching(gr.top_block):
    """One link with a moving SINR; receivers "switched", and "always" each end of the ladder."""

    def __init__(self, ladder: list[str], n_slots: int, target: float):
        super().__init__("switching", catch_exceptions=True)
        sent = n_slots + TAIL_SLOTS
        # The noise stays and the signal moves, so that each slot's SINR is known from its index
        there = np.linspace(*SINR_DB, n_slots // 2)
        sinr_db = np.resize(np.concatenate([there, there[::-1]]), sent)
        self.source = deeprx.slot_source(seed=1, n_slots=sent, slot=SLOT)
        self.transmitter = deeprx.slot_transmitter(slot=SLOT)
        self.levels = blocks.vector_source_c((10 ** (sinr_db / 20)).tolist())
        self.hold = blocks.repeat(gr.sizeof_gr_complex, SLOT.n_samples())
        self.level = blocks.multiply_cc()
        self.channel = deeprx.tdl_channel(
            n_rx=N_RX,
            snr_db=0.0,
            slot=SLOT,
            burst_slots=BURST_SLOTS,
            **FADING,
        )
        self.front_end = deeprx.aligned_front_end(n_rx=N_RX, slot=SLOT)
        self.connect(self.source, self.transmitter, self.level, self.channel)
        self.connect(self.levels, self.hold, (self.level, 1))
        for antenna in range(N_RX):
            self.connect((self.channel, antenna), (self.front_end, antenna))
        self.controller = deeprx.receiver_controller(ladder, target_error_rate=target)
        self.receivers, self.probes = [], []
        for name, model in (
            (f"always {_name(ladder[0])}", ladder[0]),
            ("switched", ladder[-1]),
            (f"always {_name(ladder[-1])}", ladder[-1]),
        ):
            receiver = deeprx.receiver(model, slot=SLOT, n_rx=N_RX)
            if name == "switched":
                self.connect(receiver, self.controller)
                self.msg_connect(receiver, "stats", self.controller, "stats")
                self.msg_connect(self.controller, "model", receiver, "model")
            probe = deeprx.slot_probe(
                seed=1,
                slot=SLOT,
                n_slots=n_slots,
                cluster_slots=BURST_SLOTS,
                conditions=FADING
                | {"receiver": name, "channel": "TDL-A", "n_rx": N_RX, "sync": False},
            )
            for antenna in range(N_RX):
                self.connect((self.front_end, antenna), (receiver, antenna))
            self.connect(receiver, probe)
            self.msg_connect(receiver, "stats", probe, "stats")
            self.receivers.append(receiver)
            self.probes.append(probe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slots", type=int, default=400, help="there and back (400)")
    parser.add_argument("--target", type=float, default=1e-2, help="bit error rate (0.01)")
    parser.add_argument(
        "--ladder", nargs="+", default=LADDER, metavar="MODEL.pt", help="cheapest first"
    )
    arguments = parser.parse_args()
    if arguments.slots < 2:
        parser.error(f"--slots must be at least 2, got {arguments.slots}")
    try:
        flowgraph = Switching(arguments.ladder, arguments.slots, arguments.target)
        deeprx.run_flowgraph(flowgraph)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    points = [probe.report()["points"][0] for probe in flowgraph.probes]
    for table in report_view.tables(points):
        make_console().print(table)
    _, switched, always = points
    if not (switched["ber"] and always["ber"]):
        return
    counted = ", ".join(f"{k} {n}" for k, n in switched.get("slots_by_model", {}).items())
    joules = [point["energy_per_slot_j"]["modelled"] for point in (switched, always)]
    print(
        f"slots of the switched receiver: {counted}\n"
        f"against {always['receiver']}: {joules[0] / joules[1]:.1%} of its energy (modelled), "
        f"{switched['ber'] / always['ber']:.1%} of its bit error rate"
    )


if __name__ == "__main__":
    main()
