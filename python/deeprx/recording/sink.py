# SPDX-License-Identifier: GPL-3.0-or-later
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pmt
from gnuradio import gr

from ..blocks.slot_stream import SelfKeeping, slot_config, slot_starts
from .writer import RecordingWriter, SentSlots


class recording_sink(SelfKeeping, gr.sync_block):
    """Writes antenna streams as a SigMF recording that carries its truth.

    Inputs: n_rx antennas, complex samples. Tags on input 0: slot_index, as slot_transmitter and
    tdl_channel give it, marks where a slot (with preamble, where there is one, its preamble)
    begins and becomes an annotation of the run of slots it belongs to; rx_freq and rx_time, as
    radio sources give them, begin a new capture.

    path, sample_rate, datatype, full_scale, frequency_hz (0: unknown), hw, author, description,
    collection, archive: see RecordingWriter. preamble, bit_seed (None: unknown), conditions (of
    recording.CONDITIONS), burst_slots and SlotConfig's keywords: how the slots were sent.

    A disk that is full, and any other OSError, ends the block; error() says what it was and what
    came before is kept. Raises ValueError for parameters that do not fit, FileExistsError where a
    recording is there already. Own block: the stock sigmf blocks are not in GNU Radio 3.10, and a
    file_meta_sink knows nothing of slots.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: float,
        n_rx: int = 2,
        datatype: str = "ci16_le",
        full_scale: float = 1.0,
        preamble: bool = True,
        bit_seed: int | None = None,
        conditions: dict | None = None,
        burst_slots: int | None = None,
        frequency_hz: float = 0.0,
        hw: str = "",
        author: str = "",
        description: str = "",
        collection: bool = False,
        archive: bool = False,
        **slot,
    ):
        config = slot_config(**slot)
        super().__init__("Recording sink", [np.complex64] * n_rx, None)
        self._writer = RecordingWriter(
            path,
            n_rx,
            sample_rate,
            datatype,
            full_scale,
            SentSlots(config, preamble, bit_seed, conditions or {}, burst_slots),
            frequency_hz or None,
            hw,
            author,
            description,
            collection,
            archive,
        )
        self._error: OSError | None = None

    def work(self, input_items, output_items):
        n = len(input_items[0])
        tags = self.get_tags_in_window(0, 0, n)
        for at in sorted({tag.offset for tag in tags}):
            here = {pmt.symbol_to_string(t.key): t.value for t in tags if t.offset == at}
            if "rx_freq" in here or "rx_time" in here:
                frequency = here.get("rx_freq")
                self._writer.capture(
                    at,
                    None if frequency is None else pmt.to_double(frequency),
                    _iso(here.get("rx_time")),
                )
        try:
            self._writer.write(input_items)
        except OSError as error:
            self._error = error
            self.logger.error(f"{error.strerror}: the recording ends here")
        for at, index in sorted(slot_starts(tags).items()):
            self._writer.slot(at, index)
        return -1 if self._error else n

    def stop(self):
        try:
            self._writer.close()
        except OSError as error:
            self._error = self._error or error
        return super().stop()

    def error(self) -> OSError | None:
        """What ended the recording early, or None."""
        return self._error

    def paths(self) -> list[Path]:
        """The files of the recording, once the flowgraph has stopped; the first is to be opened."""
        return self._writer.paths

    def slots(self) -> int:
        """Whole slots recorded so far."""
        return self._writer.n_slots

    def samples(self) -> int:
        """Samples of each antenna recorded so far."""
        return self._writer.n_samples

    def clipped(self) -> int:
        """Real and imaginary parts beyond full_scale so far."""
        return self._writer.clipped


def _iso(rx_time) -> str | None:
    """A rx_time tag, whole and fractional seconds since 1970, as SigMF's core:datetime."""
    if rx_time is None:
        return None
    whole, fraction = pmt.to_python(rx_time)
    when = datetime.fromtimestamp(whole, UTC).isoformat()
    return f"{when.removesuffix('+00:00')}.{int(fraction * 1e9):09d}Z"
