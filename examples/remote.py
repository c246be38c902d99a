#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loopback as three processes: transmitter, channel and receiver, samples over gr-zeromq.

Without a role all three run on this machine, and the table is that of examples/loopback.py, to the
bit. In three terminals, the last one beside `deeprx monitor`:

    ./dev run python3 examples/remote.py transmitter
    ./dev run python3 examples/remote.py channel --snr 12
    ./dev run python3 examples/remote.py receiver --slots 0 --telemetry 5599

remote_transmitter.grc, remote_channel.grc and remote_receiver.grc are the same in Companion.
Between machines, carry the ports through ssh (-L 5601:127.0.0.1:5601): gr-zeromq knows no keys.
"""

import argparse
import subprocess
import sys
import tempfile

from gnuradio import blocks, deeprx, gr, zeromq

import deeprx_common.one_line_errors  # noqa: F401  (of packages that this Python lacks)
from deeprx_common import report_view
from deeprx_common.terminal import make_console

MODELS = ("ls-lmmse", "deeprx-pusch.pt")
SEED = 1
SLOT = deeprx.SlotConfig(n_prb=26, users=[deeprx.User("16QAM")])
N_RX = 2
BURST_SLOTS = 5  # each burst fades on its own: the clusters that intervals are taken over
FADING = {"delay_spread_s": 100e-9, "doppler_hz": 50.0}
WAIT_MS = 100
QUEUE = 16  # messages on a link: what waits there is latency


# PUSH and PULL keep every sample and wait for each other. All antennas share one socket: two would
# get out of step when a process starts again.


class Transmitter(gr.top_block):
    def __init__(self, arguments):
        super().__init__("transmitter", catch_exceptions=True)
        self.source = deeprx.slot_source(seed=SEED, slot=SLOT)
        self.transmitter = deeprx.slot_transmitter(slot=SLOT)
        self.sink = zeromq.push_sink(
            gr.sizeof_gr_complex, 1, arguments.transmitted, WAIT_MS, True, QUEUE
        )
        self.connect(self.source, self.transmitter, self.sink)


class Channel(gr.top_block):
    def __init__(self, arguments):
        super().__init__("channel", catch_exceptions=True)
        self.source = zeromq.pull_source(
            gr.sizeof_gr_complex, 1, arguments.transmitted, WAIT_MS, True
        )
        self.channel = deeprx.tdl_channel(
            n_rx=N_RX,
            snr_db=arguments.snr,
            slot=SLOT,
            burst_slots=BURST_SLOTS,
            **FADING,
        )
        self.antennas = blocks.streams_to_vector(gr.sizeof_gr_complex, N_RX)
        self.sink = zeromq.push_sink(
            gr.sizeof_gr_complex, N_RX, arguments.received, WAIT_MS, True, QUEUE
        )
        self.connect(self.source, self.channel)
        for antenna in range(N_RX):
            self.connect((self.channel, antenna), (self.antennas, antenna))
        self.connect(self.antennas, self.sink)


class Receiver(gr.top_block):
    def __init__(self, arguments):
        super().__init__("receiver", catch_exceptions=True)
        self.source = zeromq.pull_source(
            gr.sizeof_gr_complex, N_RX, arguments.received, WAIT_MS, True
        )
        self.antennas = blocks.vector_to_streams(gr.sizeof_gr_complex, N_RX)
        self.front_end = deeprx.aligned_front_end(n_rx=N_RX, slot=SLOT)
        self.connect(self.source, self.antennas)
        for antenna in range(N_RX):
            self.connect((self.antennas, antenna), (self.front_end, antenna))
        self.probes = []
        for k, model in enumerate(MODELS):
            receiver = deeprx.receiver(model, slot=SLOT, n_rx=N_RX)
            probe = deeprx.slot_probe(
                seed=SEED,
                slot=SLOT,
                n_slots=arguments.slots,
                cluster_slots=BURST_SLOTS,
                every_slots=20,
                zmq_address=str(arguments.telemetry + k) if arguments.telemetry else "",
                conditions=FADING
                | {"channel": "TDL-A", "snr_db": arguments.snr, "n_rx": N_RX, "sync": False},
            )
            for antenna in range(N_RX):
                self.connect((self.front_end, antenna), (receiver, antenna))
            self.connect(receiver, probe)
            self.msg_connect(receiver, "stats", probe, "stats")
            self.probes.append(probe)


def receive(arguments, others=()) -> None:
    """Run the receiver until its last slot has come, or Ctrl-C, and print the table."""
    flowgraph = Receiver(arguments)

    def done() -> bool:
        if any(process.poll() is not None for process in others):
            raise RuntimeError("the transmitter or the channel ended")
        return all(probe.complete() for probe in flowgraph.probes)

    deeprx.run_flowgraph(flowgraph, done)
    points = [probe.report()["points"][0] for probe in flowgraph.probes]
    for table in report_view.tables(points):
        make_console().print(table)


def together(arguments) -> None:
    """The other two as processes beside the receiver, over sockets that no port is needed for."""
    with tempfile.TemporaryDirectory() as folder:
        arguments.transmitted, arguments.received = f"ipc://{folder}/sent", f"ipc://{folder}/faded"
        links = [f"--transmitted={arguments.transmitted}", f"--received={arguments.received}"]
        others = [
            subprocess.Popen([sys.executable, __file__, role, f"--snr={arguments.snr}", *links])
            for role in ("transmitter", "channel")
        ]
        try:
            receive(arguments, others)
        finally:
            for process in others:
                process.terminate()
                process.wait()


ROLES = {
    "transmitter": lambda arguments: deeprx.run_flowgraph(Transmitter(arguments)),
    "channel": lambda arguments: deeprx.run_flowgraph(Channel(arguments)),
    "receiver": receive,
    None: together,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("role", nargs="?", choices=[role for role in ROLES if role])
    parser.add_argument("--snr", type=float, default=12.0, metavar="DB", help="(12)")
    parser.add_argument("--slots", type=int, default=200, help="to receive; 0: no end (200)")
    parser.add_argument("--telemetry", type=int, metavar="PORT", help="of the first receiver")
    links = {"transmitted": "tcp://127.0.0.1:5601", "received": "tcp://127.0.0.1:5602"}
    for name, address in links.items():
        parser.add_argument(f"--{name}", default=address, metavar="ADDRESS", help=f"({address})")
    arguments = parser.parse_args()
    if arguments.slots < 0:
        parser.error(f"--slots must be at least 0, got {arguments.slots}")
    try:
        ROLES[arguments.role](arguments)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
