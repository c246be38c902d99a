#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots over a fading channel into a SigMF recording, and out of it into two receivers.

Run it with ./dev run python3 examples/record_replay.py; the flowgraphs are those of record.grc and
replay.grc. The commands `deeprx record` and `deeprx replay` do the same with more choices.
"""

import argparse
import tempfile
from pathlib import Path

from gnuradio import deeprx, gr

import deeprx_common.one_line_errors  # noqa: F401  (of packages that this Python lacks)
from deeprx_common import report_view
from deeprx_common.terminal import make_console

MODELS = ("ls-lmmse", "deeprx-pusch.pt")
SLOT = deeprx.SlotConfig(n_prb=26, users=[deeprx.User("16QAM")])
N_RX = 2
BURST_SLOTS = 5  # each burst fades on its own: the clusters that intervals are taken over
FADING = {"channel": "TDL-A", "delay_spread_s": 100e-9, "doppler_hz": 50.0, "snr_db": 12.0}


class Record(gr.top_block):
    """Slot source, transmitter with preamble, TDL-A channel, recording sink."""

    def __init__(self, path: Path, n_slots: int):
        super().__init__("record", catch_exceptions=True)
        source = deeprx.slot_source(seed=1, n_slots=n_slots, slot=SLOT)
        transmitter = deeprx.slot_transmitter(preamble=True, slot=SLOT)
        channel = deeprx.tdl_channel(
            profile=FADING["channel"],
            n_rx=N_RX,
            delay_spread_s=FADING["delay_spread_s"],
            doppler_hz=FADING["doppler_hz"],
            snr_db=FADING["snr_db"],
            slot=SLOT,
            burst_slots=BURST_SLOTS,
        )
        self.sink = deeprx.recording_sink(
            path,
            slot=SLOT,
            n_rx=N_RX,
            full_scale=8.0,
            bit_seed=1,
            conditions=FADING,
            burst_slots=BURST_SLOTS,
            hw="simulation",
        )
        self.connect(source, transmitter, channel)
        for antenna in range(N_RX):
            self.connect((channel, antenna), (self.sink, antenna))


class Replay(gr.top_block):
    """Recording source, synchronised front end, and for each model receiver and probe."""

    def __init__(self, path: Path):
        super().__init__("replay", catch_exceptions=True)
        source = deeprx.recording_source(path, n_rx=N_RX)
        sent = source.recording().runs[0].sent
        self.front_end = deeprx.sync_front_end(n_rx=N_RX, slot=SLOT)
        for antenna in range(N_RX):
            self.connect((source, antenna), (self.front_end, antenna))
        self.probes = []
        for model in MODELS:
            receiver = deeprx.receiver(model, slot=SLOT, n_rx=N_RX)
            probe = deeprx.slot_probe(
                seed=sent.bit_seed,
                slot=SLOT,
                cluster_slots=sent.burst_slots,
                conditions={**sent.conditions, "n_rx": N_RX, "sync": True},
            )
            for antenna in range(N_RX):
                self.connect((self.front_end, antenna), (receiver, antenna))
            self.connect(receiver, probe)
            self.msg_connect(receiver, "stats", probe, "stats")
            self.probes.append(probe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slots", type=int, default=200, help="(200)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            recording = Record(Path(folder) / "slots", arguments.slots)
            deeprx.run_flowgraph(recording)
            print(f"recorded {recording.sink.slots()} slots")
            replay = Replay(recording.sink.paths()[0])
            deeprx.run_flowgraph(replay)
        except (RuntimeError, ValueError) as error:
            parser.error(str(error))
    points = [probe.report()["points"][0] for probe in replay.probes]
    for table in report_view.tables(points):
        make_console().print(table)


if __name__ == "__main__":
    main()
