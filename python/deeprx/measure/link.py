# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated link, as loopback measures and record writes it: what it is and its blocks."""

import math
from dataclasses import dataclass, replace

import numpy as np
from gnuradio import blocks, gr

from deeprx_common import limits
from deeprx_common.checks import check_range
from deeprx_common.slot import SlotConfig

from ..blocks.framing import SESSIONS
from ..blocks.harq import MOST_PROCESSES, MOST_TRANSMISSIONS
from ..blocks.link_transmitter import link_transmitter
from ..blocks.perfect_receiver import PerfectCsi, perfect_receiver
from ..blocks.slot_source import slot_source
from ..blocks.slot_transmitter import slot_transmitter
from ..blocks.tdl import TdlFading
from ..blocks.tdl_channel import tdl_channel
from ..blocks.transport import tb_encoder, tb_source
from ..models.file import PERFECT

TAIL_SLOTS = 3  # after the last one of interest: what follows a slot carries it through the chain


@dataclass(frozen=True)
class Link:
    """Slots over a TDL channel at one SINR, of each user with fading of its own.

    transmissions: of a transport block at most; more than one: a link_transmitter fills the slots
    without end, and waits for the receiver's ACKs.

    Raises ValueError where a value is out of range.
    """

    config: SlotConfig
    n_rx: int
    channel: str
    delay_spread_s: float
    doppler_hz: float
    sinr_db: float
    sir_db: float | None
    cfo_hz: float
    slots: int
    burst: int
    preamble: bool
    seed: int
    transmissions: int = 1

    def __post_init__(self):
        for option, value, *limits_of in (
            ("--slots", self.slots, 1),
            ("--burst", self.burst, 1),
            ("--n-rx", self.n_rx, 1, 4, "antennas"),
            ("--sinr", self.sinr_db, *limits.SNR_DB, "dB"),
            ("--sir", 0.0 if self.sir_db is None else self.sir_db, *limits.SNR_DB, "dB"),
            ("--delay-spread", self.delay_spread_s, *limits.DELAY_SPREAD_S, "s"),
            ("--doppler", self.doppler_hz, *limits.DOPPLER_HZ, "Hz"),
            ("--cfo", self.cfo_hz, -1_000_000, 1_000_000, "Hz"),
            ("--harq", self.transmissions, 1, MOST_TRANSMISSIONS),
        ):
            check_range(option, value, *limits_of)
        if self.transmissions > 1 and any(user.code_rate is None for user in self.config.users):
            raise ValueError("--harq sends transport blocks again: give --mcs, too")
        if self.sir_db is not None and self.sinr_db >= self.sir_db:
            raise ValueError(
                f"an SIR of {self.sir_db:g} dB rules out an SINR of {self.sinr_db:g} dB: "
                "give --sinr values below --sir"
            )

    @property
    def snr_db(self) -> float:
        """The thermal noise that makes up the SINR beside the interferer."""
        if self.sir_db is None:
            return self.sinr_db
        return -10 * math.log10(10 ** (-self.sinr_db / 10) - 10 ** (-self.sir_db / 10))

    @property
    def conditions(self) -> dict:
        """Keys of a report's point that the link decides."""
        return {
            "channel": self.channel,
            "delay_spread_s": self.delay_spread_s,
            "doppler_hz": self.doppler_hz,
            "snr_db": self.snr_db,
            "sir_db": self.sir_db,
        }

    def connect(self, flowgraph) -> tdl_channel:
        """Put transmitter and channel into a Flowgraph; returns the channel, n_rx outputs."""
        channel = tdl_channel(
            profile=self.channel,
            n_rx=self.n_rx,
            delay_spread_s=self.delay_spread_s,
            doppler_hz=self.doppler_hz,
            snr_db=self.snr_db,
            sir_db=self.sir_db,
            cfo_hz=self.cfo_hz,
            slot=self.config,
            seed=self.seed,
            burst_slots=self.burst,
            users=self.config.n_layers,
        )
        n_slots = 0 if self.transmissions > 1 else self.slots + TAIL_SLOTS
        for layer in range(self.config.n_layers):
            if self.transmissions > 1:
                bits = self._sender(flowgraph, layer)
            else:
                bits = sent_bits(self.config, self.seed, n_slots, layer)
            transmitter = slot_transmitter(preamble=self.preamble, slot=self.config, layer=layer)
            flowgraph.connect(*bits, transmitter, (channel, layer))
        if self.sir_db is not None:  # of another cell: its own bits and pilots
            other = replace(self.config.alone(0), dmrs_n_id=(self.config.dmrs_n_id + 1) % 65536)
            transmitter = slot_transmitter(preamble=self.preamble, slot=other)
            bits = sent_bits(other, self.seed + 1, n_slots)
            flowgraph.connect(*bits, transmitter, (channel, self.config.n_layers))
        return channel

    def perfect_receiver(self) -> perfect_receiver:
        """Who knows the channel that connect() makes. Raises ValueError where it would have to know
        more.
        """
        beyond = {
            "--sir": self.sir_db is not None,
            "--cfo": self.cfo_hz,
            "--sync": self.preamble,
            "--harq": self.transmissions > 1,
        }
        for option, value in beyond.items():
            if value:
                raise ValueError(f"{PERFECT} knows channel and noise, and nothing of {option}")
        fadings = [
            TdlFading(
                self.channel, self.n_rx, self.delay_spread_s, self.doppler_hz,
                self.config.sample_rate, self.seed, layer,
            )
            for layer in range(self.config.n_layers)
        ]  # fmt: skip
        noise = 10 ** (-self.snr_db / 10)
        return perfect_receiver(PerfectCsi(self.config, fadings, noise, self.burst), self.n_rx)

    def _sender(self, flowgraph, layer: int) -> list[gr.basic_block]:
        """What sends a user's blocks until they are acknowledged. Flowgraph.connect_receivers()
        closes the loop.
        """
        config = self.config
        sender = link_transmitter(
            config,
            layer,
            transmissions=self.transmissions,
            bytes_input=True,
            session=self.seed % SESSIONS,
        )
        source, encoder = tb_source(config, seed=None, layer=layer), tb_encoder(config, layer)
        rng = np.random.default_rng((self.seed, layer))
        sender.send(rng.bytes(MOST_PROCESSES * config.transport_block_size(layer) // 8))  # at once
        content = rng.integers(0, 256, 1 << 16, np.uint8)
        flowgraph.connect(blocks.vector_source_b(content.tolist(), True), sender)
        flowgraph.msg_connect(sender, "blocks", source, "pdus")
        flowgraph.senders.append(sender)
        flowgraph.encoders.append(encoder)
        return [source, encoder]


def sent_bits(slot: SlotConfig, seed: int, n_slots: int, layer: int = 0) -> list[gr.basic_block]:
    """What makes a user's bits, or its transport blocks."""
    if slot.user(layer).code_rate is None:
        return [slot_source(seed=seed, n_slots=n_slots, slot=slot, layer=layer)]
    return [tb_source(slot, seed, n_slots=n_slots, layer=layer), tb_encoder(slot, layer)]
