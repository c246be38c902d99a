# SPDX-License-Identifier: GPL-3.0-or-later
"""A flowgraph whose slots are measured, and how Ctrl-C ends it."""

import signal
import threading
from contextlib import contextmanager

from gnuradio import gr

from deeprx_common.slot import SlotConfig

from ..blocks.front_end import aligned_front_end, sync_front_end
from ..blocks.link_receiver import link_receiver
from ..blocks.slot_probe import slot_probe
from ..blocks.transport import tb_decoder
from ..deeprx_python import receiver
from ..models.file import ModelFile

CLUSTER_SLOTS = 100  # where nothing says how the channel changes


class Flowgraph(gr.top_block):
    """A flowgraph of one operating point: a front end, and a receiver of its slots for each model.

    sync: whether the front end finds slots by their preamble. sender, encoder: of a link that waits
    for ACKs; it has one receiver, and no end.
    """

    sender = encoder = None

    def __init__(
        self,
        name: str,
        models: list[ModelFile],
        config: SlotConfig,
        n_rx: int,
        sync: bool,
        first_slot: int = 0,
    ):
        super().__init__(name, catch_exceptions=True)
        self.models, self.config, self.n_rx, self.sync = models, config, n_rx, sync
        kind = sync_front_end if sync else aligned_front_end
        self.front_end = kind(n_rx=n_rx, first_slot=first_slot, slot=config)
        self.receivers, self.probes = [], []

    @property
    def slots(self) -> int:
        """Slots that every receiver has received."""
        return min(probe.slots() for probe in self.probes)

    @property
    def complete(self) -> bool:
        """Whether a flowgraph without an end has measured what was asked for."""
        return self.sender is not None and all(probe.complete() for probe in self.probes)

    @property
    def synchronisation(self) -> dict:
        """Keys of a report's point: how slots were found."""
        if not self.sync:
            return {"sync": False}
        return {"sync": True, "synchronisation": self.front_end.statistics()}

    def connect_receivers(self, device: str, engine: str, **probe) -> None:
        """A receiver and a slot_probe(**probe) for each model, all behind the front end."""
        for model in self.models:
            block = receiver(
                model=str(model.path),
                n_rx=self.n_rx,
                device=device,
                engine=engine,
                threads=1,
                slot=self.config,
                trust=model.trust,
            )
            usual = {"every_slots": 0, "meter": "none", "reference_input": self.sender is not None}
            counter = slot_probe(**usual | probe, slot=self.config)
            for antenna in range(self.n_rx):
                self.connect((self.front_end, antenna), (block, antenna))
            if self.config.users[0].code_rate is None:
                self.connect(block, counter)
            else:
                decoder = tb_decoder(self.config)
                self.connect(block, decoder, counter)
                self.msg_connect(decoder, "blocks", counter, "blocks")
                if self.sender is not None:
                    self._close_loop(decoder, counter)
            self.msg_connect(block, "stats", counter, "stats")
            self.receivers.append(block)
            self.probes.append(counter)

    def _close_loop(self, decoder: gr.basic_block, counter: slot_probe) -> None:
        acks = link_receiver(self.config)
        self.connect(self.encoder, (counter, 1))
        self.msg_connect(self.encoder, "grants", decoder, "grants")
        self.msg_connect(decoder, "blocks", acks, "blocks")
        self.msg_connect(acks, "acks", self.sender, "acks")


@contextmanager
def stop_on_ctrl_c():
    """An event that Ctrl-C sets, wherever it strikes; a second Ctrl-C ends the program."""
    stop = threading.Event()

    def handle(number, frame):
        stop.set()
        signal.signal(number, before)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
