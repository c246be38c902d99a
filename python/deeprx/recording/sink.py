# SPDX-License-Identifier: GPL-3.0-or-later
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pmt
from gnuradio import gr

from deeprx_common.checks import check_whole

from ..blocks.guarded import SelfKeeping
from ..blocks.slot_stream import device_time, slot_config, slot_starts
from .writer import RecordingWriter, SentSlots

_FREQUENCY, _TIME = pmt.intern("rx_freq"), pmt.intern("rx_time")
_CLOCK_SET = 946684800  # 2000-01-01: a device's clock that shows less was never set


class recording_sink(SelfKeeping, gr.sync_block):
    """Writes antenna streams as a SigMF recording that carries its truth.

    Inputs: n_rx antennas, complex samples. Tags on input 0: slot_index, as slot_transmitter and
    tdl_channel give it, marks where a slot (with preamble, where there is one, its preamble)
    begins and becomes an annotation of the run of slots it belongs to; rx_freq and rx_time, as
    radio sources give them, begin a new capture. rx_time gives its core:global_index, which says
    what was lost, and, where the device's clock was ever set, its core:datetime. Tags of other
    values are passed over.

    A flowgraph that starts again, as lock() and unlock() make it, goes on with the recording in a
    capture of its own.

    path, datatype, full_scale, frequency_hz (0: unknown), hw, author, description, collection,
    archive: see RecordingWriter. sample_rate: None: the slot's. preamble, bit_seed (None: unknown),
    conditions (of recording.CONDITIONS), burst_slots and slot (a SlotConfig): how the slots were
    sent.

    A disk that is full, and any other OSError, ends the block; error() says what it was and what
    came before is kept. Raises ValueError for parameters that do not fit, FileExistsError where a
    recording is there already. Own block: the stock sigmf blocks are not in GNU Radio 3.10, and a
    file_meta_sink knows nothing of slots.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: float | None = None,
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
        slot=None,
    ):
        check_whole("n_rx", n_rx, 1)
        if bit_seed is not None:
            check_whole("bit_seed", bit_seed)
        if burst_slots is not None:
            check_whole("burst_slots", burst_slots, 1)
        config = slot_config(slot)
        if sample_rate is None:
            sample_rate = config.sample_rate
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
        self._sample_rate = sample_rate
        self._clock: tuple[int, int, float] | None = None  # sample and time of the first rx_time
        self._lost = 0  # samples so far, by the rx_time tags
        self._error: OSError | None = None

    def start(self):
        self._writer.reopen()
        self._clock = None
        return super().start()

    def work(self, input_items, output_items):
        n = len(input_items[0])
        tags = self.get_tags_in_window(0, 0, n)
        ahead = self._writer.n_samples - self.nitems_read(0)  # recorded before this start
        for offset in sorted({tag.offset for tag in tags}):
            here = [tag for tag in tags if tag.offset == offset]
            frequency = _frequency(_value(here, _FREQUENCY))
            time = device_time(_value(here, _TIME))
            if frequency is not None or time is not None:
                at = offset + ahead
                self._writer.capture(at, frequency, *(self._placed(at, *time) if time else ()))
        try:
            self._writer.write(input_items)
        except OSError as error:
            self._error = error
            self.logger.error(f"{error.strerror}: the recording ends here")
        for at, index in sorted(slot_starts(tags).items()):
            self._writer.slot(at + ahead, index)
        return -1 if self._error else n

    def _placed(self, at: int, whole: int, fraction: float) -> tuple[str | None, int]:
        """Date and global index of a sample, from an rx_time tag's seconds."""
        if self._clock is None:
            self._clock = at, whole, fraction
        first, begun, parts = self._clock
        passed = round((whole - begun + fraction - parts) * self._sample_rate)
        self._lost = max(self._lost, passed - (at - first))
        if whole < _CLOCK_SET:
            return None, at + self._lost
        when = datetime.fromtimestamp(whole, UTC).isoformat()
        return f"{when.removesuffix('+00:00')}.{int(fraction * 1e9):09d}Z", at + self._lost

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


def _value(tags, key):
    """Of the last tag of this key; nil where there is none."""
    return next((tag.value for tag in reversed(tags) if pmt.eq(tag.key, key)), pmt.PMT_NIL)


def _frequency(value) -> float | None:
    """Of an rx_freq tag, in Hz; None where it is none."""
    hz = pmt.to_double(value) if pmt.is_number(value) and not pmt.is_complex(value) else math.nan
    return hz if math.isfinite(hz) else None
