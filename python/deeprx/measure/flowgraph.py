# SPDX-License-Identifier: GPL-3.0-or-later
"""A flowgraph whose slots are measured, and how Ctrl-C ends it."""

import signal
import threading
from contextlib import contextmanager

from gnuradio import gr

from deeprx_common.slot import SlotConfig
from deeprx_common.stopping import was_interrupted

from ..blocks.front_end import aligned_front_end, sync_front_end
from ..blocks.link_receiver import link_receiver
from ..blocks.slot_probe import slot_probe
from ..blocks.transport import tb_decoder
from ..models.file import ModelFile, PerfectReceiver

CLUSTER_SLOTS = 100  # where nothing says how the channel changes


class Flowgraph(gr.top_block):
    """A flowgraph of one operating point: a front end, and a receiver of its slots for each model.

    sync: whether the front end finds slots by their preamble. probes: of one receiver after
    another, of each user one. senders, encoders: of each user of a link that waits for ACKs; it has
    one receiver, and no end.
    """

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
        self._decoded: list[slot_probe] = []  # the probes behind a tb_decoder
        self.senders, self.encoders = [], []

    @property
    def slots(self) -> int:
        """Slots that every receiver has received, and every decoder decoded."""
        received = [probe.slots() for probe in self.probes]
        return min(received + [probe.transmissions() for probe in self._decoded])

    @property
    def complete(self) -> bool:
        """Whether a flowgraph without an end has measured what was asked for."""
        return bool(self.senders) and all(probe.complete() for probe in self.probes)

    @property
    def synchronisation(self) -> dict:
        """Keys of a report's point: how slots were found."""
        if not self.sync:
            return {"sync": False}
        return {"sync": True, "synchronisation": self.front_end.statistics()}

    def connect_receivers(
        self, device: str, engine: str, perfect: gr.basic_block | None = None, **probe
    ) -> None:
        """A receiver for each model, all behind the front end, and a slot_probe(**probe) for each
        of its users. perfect: what a PerfectReceiver stands for.
        """
        for model in self.models:
            if isinstance(model, PerfectReceiver):
                block = perfect
            else:
                block = model.receiver(self.config, self.n_rx, device=device, engine=engine)
            for antenna in range(self.n_rx):
                self.connect((self.front_end, antenna), (block, antenna))
            self.receivers.append(block)
            for layer in range(self.config.n_layers):
                self.probes.append(self._probe(block, layer, **probe))

    def _probe(self, block: gr.basic_block, layer: int, **probe) -> slot_probe:
        usual = {"every_slots": 0, "meter": "none", "reference_input": bool(self.senders)}
        counter = slot_probe(**usual | probe, slot=self.config, layer=layer)
        self.msg_connect(block, "stats", counter, "stats")
        if self.config.user(layer).code_rate is None:
            self.connect((block, layer), counter)
            return counter
        decoder = tb_decoder(self.config, layer)
        self.connect((block, layer), decoder, counter)
        self.msg_connect(decoder, "blocks", counter, "blocks")
        self._decoded.append(counter)
        if self.senders:
            self._close_loop(layer, decoder, counter)
        return counter

    def _close_loop(self, layer: int, decoder: gr.basic_block, counter: slot_probe) -> None:
        acks = link_receiver(self.config)
        self.connect(self.encoders[layer], (counter, 1))
        self.msg_connect(self.encoders[layer], "grants", decoder, "grants")
        self.msg_connect(decoder, "blocks", acks, "blocks")
        self.msg_connect(acks, "acks", self.senders[layer], "acks")


@contextmanager
def stop_on_ctrl_c():
    """An event that Ctrl-C sets, wherever it strikes, or struck before; a second Ctrl-C ends the
    program.
    """
    stop = threading.Event()

    def handle(number, frame):
        stop.set()
        signal.signal(number, before)

    before = signal.signal(signal.SIGINT, handle)
    if was_interrupted():
        stop.set()
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
