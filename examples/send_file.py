#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends a file over a fading channel, in transport blocks with HARQ, and then through UDP.

Run it with ./dev run python3 examples/send_file.py FILE COPY; the flowgraph is that of
send_file.grc. At the default SINR three in ten first transmissions fail, and retransmissions bring
every block across. Ctrl-C keeps what was delivered so far.
"""

import argparse
import hashlib
import math
import os
import socket
import sys
import time
from pathlib import Path

from gnuradio import blocks, deeprx, gr, network, pdu

import deeprx_common.one_line_errors  # noqa: F401  (of packages that this Python lacks)
from deeprx_common import limits
from deeprx_common.checks import check_range
from deeprx_common.slot import SlotConfig, User

MODEL = "deeprx-pusch.pt"
N_RX = 2
BURST_SLOTS = 5  # each burst fades on its own
SLOT = SlotConfig(users=(User(mcs=14),))
SESSION = 1  # one transmitter alone: runs repeat
LOCAL = "127.0.0.1"
UDP_WAIT_S = 2.0  # for datagrams under way


class SendFile(gr.top_block):
    """File, link transmitter, blocks, slots, TDL-A, receiver, blocks, link receiver, UDP, file."""

    def __init__(self, source: Path, copy: Path, arguments):
        super().__init__("send file", catch_exceptions=True)
        self.link_transmitter = deeprx.link_transmitter(
            SLOT, transmissions=arguments.transmissions, bytes_input=True, session=SESSION
        )
        self.link_receiver = deeprx.link_receiver(SLOT)
        self.connect(blocks.file_source(gr.sizeof_char, str(source), False), self.link_transmitter)

        self.source = deeprx.tb_source(SLOT, seed=None)
        self.encoder = deeprx.tb_encoder(SLOT)
        self.transmitter = deeprx.slot_transmitter(slot=SLOT)
        self.channel = deeprx.tdl_channel(
            n_rx=N_RX,
            snr_db=arguments.sinr,
            slot=SLOT,
            seed=arguments.seed,
            burst_slots=BURST_SLOTS,
        )
        self.front_end = deeprx.aligned_front_end(n_rx=N_RX, slot=SLOT)
        self.receiver = deeprx.receiver(MODEL, SLOT, n_rx=N_RX)
        self.decoder = deeprx.tb_decoder(SLOT)
        self.connect(self.source, self.encoder, self.transmitter, self.channel)
        for antenna in range(N_RX):
            self.connect((self.channel, antenna), (self.front_end, antenna))
            self.connect((self.front_end, antenna), (self.receiver, antenna))
        self.connect(self.receiver, self.decoder)
        self.msg_connect(self.link_transmitter, "blocks", self.source, "pdus")
        self.msg_connect(self.encoder, "grants", self.decoder, "grants")
        self.msg_connect(self.decoder, "blocks", self.link_receiver, "blocks")
        self.msg_connect(self.link_receiver, "acks", self.link_transmitter, "acks")

        port = str(arguments.port or free_port())
        self.udp_in = network.socket_pdu("UDP_SERVER", LOCAL, port)
        self.udp_out = network.socket_pdu("UDP_CLIENT", LOCAL, port)
        to_bytes = pdu.pdu_to_tagged_stream(gr.types.byte_t)
        sink = blocks.file_sink(gr.sizeof_char, str(copy))
        sink.set_unbuffered(True)
        self.msg_connect(self.link_receiver, "pdus", self.udp_out, "pdus")
        self.msg_connect(self.udp_in, "pdus", to_bytes, "pdus")
        self.connect(to_bytes, sink)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as chosen:
        chosen.bind((LOCAL, 0))
        return chosen.getsockname()[1]


def send(arguments) -> bool:
    """Whether the copy is equal."""
    size = arguments.file.stat().st_size
    part = arguments.copy.with_name(f"{arguments.copy.name}.part")
    flowgraph = SendFile(arguments.file, part, arguments)
    sent, received = flowgraph.link_transmitter.statistics, flowgraph.link_receiver.statistics
    idle_since, shown = None, -math.inf

    def done() -> bool:
        nonlocal idle_since
        if sent()["bytes"] < size or not flowgraph.link_transmitter.idle():
            return False
        idle_since = idle_since or time.monotonic()
        written = part.stat().st_size >= received()["bytes"]
        return written or time.monotonic() - idle_since > UDP_WAIT_S

    def show() -> None:
        nonlocal shown
        if time.monotonic() - shown > 1:
            shown = time.monotonic()
            print(
                f"{part.stat().st_size} of {size} bytes, "
                f"{received()['goodput_bit_per_s'] / 1e6:.2f} Mbit/s of air time, "
                f"{sent()['first_failures']} of {sent()['blocks']} blocks failed at first",
                flush=True,
            )

    try:
        deeprx.run_flowgraph(flowgraph, done, show, every_s=0.05)
    finally:
        os.replace(part, arguments.copy)
    s, r = sent(), received()
    print(
        f"{s['blocks']} blocks in {s['slots']} slots, {s['first_failures']} failed at first; "
        f"{s['retransmissions']} retransmissions; {s['lost_blocks']} lost"
    )
    print(
        f"{r['bytes']} of {size} bytes delivered, {r['lost_messages']} messages lost; "
        f"{r['goodput_bit_per_s'] / 1e6:.2f} Mbit/s of air time"
    )
    digests = [hashlib.sha256(p.read_bytes()).hexdigest() for p in (arguments.file, arguments.copy)]
    print(f"sha256 {digests[0]} sent\nsha256 {digests[1]} received")
    return digests[0] == digests[1]


def check_files(file: Path, copy: Path) -> None:
    if not file.is_file() or not file.stat().st_size:
        raise ValueError(f"expected a file that is not empty, got {file}")
    if not copy.absolute().parent.is_dir():
        raise ValueError(f"expected a copy in a folder that is there, got {copy}")
    if copy.exists() and copy.samefile(file):
        raise ValueError(f"expected another file for the copy, got {copy} itself")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("copy", type=Path, help="what arrives")
    parser.add_argument("--sinr", type=float, default=7.0, metavar="DB", help="(7)")
    parser.add_argument("--seed", type=int, default=1, help="of the channel (1)")
    parser.add_argument(
        "--transmissions", type=int, default=4, metavar="N", help="of a block at most (4)"
    )
    parser.add_argument("--port", type=int, default=0, help="of UDP (any that is free)")
    arguments = parser.parse_args()
    try:
        check_files(arguments.file, arguments.copy)
        check_range("--sinr", arguments.sinr, *limits.SNR_DB, "dB")
        check_range("--port", arguments.port, 0, 65535)
        equal = send(arguments)
    except (OSError, RuntimeError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        sys.exit("stopped before anything was sent")
    if not equal:
        sys.exit("the copy differs")


if __name__ == "__main__":
    main()
