# SPDX-License-Identifier: GPL-3.0-or-later
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pmt
from gnuradio import gr

from ..blocks.guarded import SelfKeeping
from ..blocks.slot_stream import INDEX_KEY
from .recording import Recording


class recording_source(SelfKeeping, gr.sync_block):
    """The antenna streams of a SigMF recording, read piece by piece.

    Outputs: n_rx antennas, complex samples at recording().sample_rate. Tags on output 0: rx_rate
    and, where known, rx_freq at the start of each capture that does not follow the one before
    without a loss.

    aligned: put out nothing but the slots that the annotations place, without their preambles,
    each with its slot_index on the first sample, for aligned_front_end; the default is every
    sample, for sync_front_end.

    path: see Recording. n_rx: antennas that the recording must have.

    Raises ValueError with one line where the recording is damaged or does not fit. Own block:
    file_source knows neither SigMF nor big-endian, unsigned and 64-bit samples.
    """

    def __init__(self, path: str | Path, n_rx: int = 2, aligned: bool = False):
        self._recording = Recording(path)
        if self._recording.n_rx != n_rx:
            raise ValueError(f"{path}: expected {n_rx} antennas, found {self._recording.n_rx}")
        if aligned and not self._recording.runs:
            raise ValueError(f"{path}: expected annotations that place the slots, found none")
        super().__init__("Recording source", None, [np.complex64] * n_rx)
        self._aligned = aligned
        self._pieces = self._slots() if aligned else self._captures()
        self._at = self._left = 0
        self._error: ValueError | None = None
        self.position = 0  # samples of the recording that were passed

    def recording(self) -> Recording:
        return self._recording

    def error(self) -> ValueError | None:
        """Why the samples ended early, or None."""
        return self._error

    def start(self):
        if self._aligned:
            self._left = 0  # a slot whose first samples went with a stop is gone
        return super().start()

    def work(self, input_items, output_items):
        room = len(output_items[0])
        done = 0
        while done < room:
            if not self._left:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._at, self._left, tags = piece
                for key, value in tags.items():
                    self.add_item_tag(0, self.nitems_written(0) + done, pmt.intern(key), value)
            n = min(room - done, self._left)
            try:
                samples = self._recording.read(self._at, n)
            except ValueError as error:  # the file became shorter since it was opened
                self._error = error
                break
            for out, antenna in zip(output_items, samples, strict=True):
                out[done : done + n] = antenna
            self._at += n
            self._left -= n
            done += n
        self.position = self._at
        return done or -1

    def _captures(self) -> Iterator[tuple[int, int, dict]]:
        """First sample, number of samples and tags of what is put out."""
        rate = {"rx_rate": pmt.from_double(self._recording.sample_rate)}
        for capture in self._recording.captures:
            tags = {} if capture.follows else dict(rate)
            if tags and capture.frequency_hz is not None:
                tags["rx_freq"] = pmt.from_double(capture.frequency_hz)
            yield capture.start, capture.n_samples, tags

    def _slots(self) -> Iterator[tuple[int, int, dict]]:
        for run in self._recording.runs:
            end = run.start
            for index in range(run.first_slot, run.first_slot + run.n_slots):
                end += run.sent.n_samples(index)
                length = run.sent.config.n_samples(index)
                yield end - length, length, {INDEX_KEY: pmt.from_uint64(index)}
