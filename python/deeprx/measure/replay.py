# SPDX-License-Identifier: GPL-3.0-or-later
"""A flowgraph of a recording's slots."""

from dataclasses import dataclass

from gnuradio import blocks

from ..blocks.llr_quality import llr_quality
from ..models.file import ModelFile
from ..recording.recording import Recording, SentSlots
from ..recording.resampling import PASSBAND, resampling
from ..recording.source import recording_source
from .flowgraph import CLUSTER_SLOTS, Flowgraph


@dataclass(frozen=True)
class ExpectedSlots:
    """What there is to receive of a recording.

    slots: how many, None where unknown; first, end: index of the first, and of the last + 1.
    """

    sent: SentSlots
    slots: int | None
    first: int
    end: int


class Replay(Flowgraph):
    """A recording's source, front end and receivers.

    qualities: an llr_quality of each receiver and user. Raises ValueError where recording and slots
    do not fit.
    """

    def __init__(
        self,
        recording: Recording,
        slots: ExpectedSlots,
        models: list[ModelFile],
        sync: bool,
        device: str,
        engine: str,
    ):
        sent = slots.sent
        super().__init__("deeprx replay", models, sent.config, recording.n_rx, sync, slots.first)
        self.source = recording_source(recording.path, recording.n_rx, aligned=not sync)
        for antenna in range(recording.n_rx):
            bridge = _resampling(recording, sent, sync)
            self.connect((self.source, antenna), *bridge, (self.front_end, antenna))
        known = sent.bit_seed is not None
        self.connect_receivers(
            device,
            engine,
            seed=sent.bit_seed,
            reference_input=not known,
            cluster_slots=sent.burst_slots or CLUSTER_SLOTS,
            n_slots=slots.end,
        )
        self.qualities = []
        for block in self.receivers:
            for layer in range(sent.config.n_layers):
                self.qualities.append(llr_quality())
                self.connect((block, layer), self.qualities[-1])
        if not known:  # nothing to compare with
            for probe in self.probes:
                self.connect(blocks.vector_source_b([]), (probe, 1))


def _resampling(recording: Recording, sent: SentSlots, sync: bool) -> list:
    """The blocks of one antenna that bring a recording to the slots' sample rate, if any."""
    have, need = recording.sample_rate, sent.config.sample_rate
    if have == need:
        return []
    if not sync:
        raise ValueError(
            f"{recording.path}: expected {need:g} samples/s, found {have:g}: resampling moves the "
            "annotated slots: leave out --aligned"
        )
    occupied = sent.config.n_sc * 1e3 * sent.config.scs_khz
    if occupied > 2 * PASSBAND * have:
        raise ValueError(
            f"{recording.path}: slots of {sent.config.n_prb} PRB occupy {occupied / 1e6:g} MHz: "
            f"expected at least {occupied / (2 * PASSBAND) / 1e6:g} million samples/s, of which "
            f"the resampler keeps {2 * PASSBAND:.0%}, found {have / 1e6:g}"
        )
    try:
        return resampling(have, need)
    except ValueError as error:
        raise ValueError(f"{recording.path}: {error}") from None
