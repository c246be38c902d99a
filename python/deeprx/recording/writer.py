# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes SigMF recordings so that whatever ends the writing leaves a valid one; no flowgraph."""

import errno
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from deeprx_common.checks import check_above, check_one_of
from deeprx_common.files import replacing

from .recording import NAMESPACE, RESTART, VERSION, SentSlots
from .sigmf import SPECIFICATION, validate

DATATYPES = ("ci16_le", "cf32_le")
_RESERVE_BYTES = 1 << 20  # disk space kept back, so that a full disk still takes the metadata


def new_recording(path: str | Path) -> Path:
    """Where a recording's files begin, whichever of them path names.

    Raises FileExistsError where there is one already, ValueError where path is a folder.
    """
    if os.fspath(path).endswith(os.sep) or Path(path).name in ("", ".."):
        raise ValueError(f"expected the name of a recording, as folder/name, found '{path}'")
    path = Path(path)
    if path.suffix in (".sigmf-meta", ".sigmf-data", ".sigmf", ".sigmf-collection"):
        path = path.with_suffix("")
    for suffix in (".sigmf", ".sigmf-collection", ".sigmf-meta", "-rx0.sigmf-meta"):
        there = path.with_name(path.name + suffix)
        if there.exists():
            why = "is there already: choose another name"
            raise FileExistsError(errno.EEXIST, why, str(there))
    return path


class _File:
    """The data file of one SigMF recording, its hash and how much of it is whole."""

    def __init__(self, base: Path, n_channels: int, datatype: str):
        self.base = base
        self.n_channels = n_channels
        self.frame = n_channels * (4 if datatype == "ci16_le" else 8)
        self.raw = open(base.with_name(f"{base.name}.sigmf-data"), "xb", buffering=0)  # noqa: SIM115
        self.sha512 = hashlib.sha512()

    @property
    def meta(self) -> Path:
        return self.base.with_name(f"{self.base.name}.sigmf-meta")


class RecordingWriter:
    """A SigMF recording that grows, journalled.

    Data are appended at once; the metadata are rewritten every journal_s seconds, whole or not at
    all, so that a process that is killed leaves a valid, shorter recording (without core:sha512).

    path: of the recording, with or without .sigmf-meta. Writes PATH.sigmf-meta and
    PATH.sigmf-data, the antennas interleaved; with collection PATH.sigmf-collection and one
    recording PATH-rx0, PATH-rx1, ... for each antenna; with archive PATH.sigmf alone, at the end.
    datatype: of DATATYPES; ci16_le is scaled so that full_scale becomes 32768, and clips beyond.
    sent: how slots that slot() places were sent. frequency_hz: None: unknown. hw, author,
    description: SigMF's; empty: left out.

    Raises ValueError for parameters that do not fit, FileExistsError where there is a recording.
    After an OSError in write(), such as a full disk, what came before is kept and close() works.
    """

    def __init__(
        self,
        path: str | Path,
        n_rx: int,
        sample_rate: float,
        datatype: str = "ci16_le",
        full_scale: float = 1.0,
        sent: SentSlots | None = None,
        frequency_hz: float | None = None,
        hw: str = "",
        author: str = "",
        description: str = "",
        collection: bool = False,
        archive: bool = False,
        journal_s: float = 1.0,
    ):
        check_one_of("datatype", datatype, DATATYPES)
        check_above("full_scale", full_scale, 0)
        if collection and archive:
            raise ValueError("an archive holds one recording: leave out archive or collection")
        path = new_recording(path)
        self._base, self._datatype, self._full_scale = path, datatype, full_scale
        self._archive, self._collection = archive, collection
        self._sent = sent
        self.n_samples = 0  # of each antenna
        self.clipped = 0  # real and imaginary parts beyond full_scale
        self._captures: list[dict] = []
        self._frequency_hz = frequency_hz
        self._runs: list[list[int]] = []  # start, first slot, slots
        self._begun: tuple[int, int] | None = None  # start and index of a slot not yet complete
        self._global = {
            "core:datatype": datatype,
            "core:sample_rate": sample_rate,
            "core:version": SPECIFICATION,
            "core:recorder": "gr-deeprx",
            "core:extensions": [{"name": NAMESPACE, "version": VERSION, "optional": True}],
        }
        known = {"hw": hw, "author": author, "description": description}
        self._global |= {f"core:{key}": text for key, text in known.items() if text}
        if datatype == "ci16_le":
            self._global[f"{NAMESPACE}:full_scale"] = full_scale

        path.parent.mkdir(parents=True, exist_ok=True)
        streams = [(f"{path.name}-rx{k}", 1) for k in range(n_rx)]
        with ExitStack() as undo:
            self._files = []
            for name, channels in streams if collection else [(path.name, n_rx)]:
                self._files.append(_File(path.with_name(name), channels, datatype))
                undo.callback(os.unlink, self._files[-1].raw.name)
                undo.callback(self._files[-1].raw.close)
            self._reserve = self._reserved()
            self._lock = threading.Lock()
            self._journal()
            undo.pop_all()
        self._journal_s = journal_s
        self._keep_journals()

    def _keep_journals(self) -> None:
        self._ended = threading.Event()
        self._journalist = threading.Thread(target=self._keep_journal, args=(self._journal_s,))
        self._journalist.daemon = True
        self._journalist.start()

    def reopen(self) -> None:
        """Go on behind the end, after close(), in a capture of its own."""
        if not self._files[0].raw.closed:
            return
        if self._archive:
            self._unpack()
        for file in self._files:
            file.raw = open(file.raw.name, "ab", buffering=0)  # noqa: SIM115
        self._reserve = self._reserved()
        self._begun = None
        self.capture(self.n_samples, time=self.utc())
        self._captures[-1][RESTART] = True
        self._keep_journals()

    def _reserved(self):
        try:
            reserve = tempfile.TemporaryFile(dir=self._base.parent)  # noqa: SIM115
            os.posix_fallocate(reserve.fileno(), 0, _RESERVE_BYTES)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._base)) from None
        return reserve

    @property
    def paths(self) -> list[Path]:
        """What is there after close(), the file to open first."""
        if self._archive:
            return [self._base.with_name(f"{self._base.name}.sigmf")]
        first = [self._base.with_name(f"{self._base.name}.sigmf-collection")]
        files = [p for f in self._files for p in (f.meta, Path(f.raw.name))]
        return first * self._collection + files

    @property
    def n_slots(self) -> int:
        """Whole slots so far, as slot() placed them."""
        with self._lock:
            self._end_slot(self.n_samples)
            return sum(n_slots for _, _, n_slots in self._runs)

    def slot(self, at: int, slot_index: int) -> None:
        """A slot, or its preamble, begins at sample at; ignored where that was not written yet."""
        with self._lock:
            if at < self.n_samples:
                self._end_slot(at)
                self._begun = (at, slot_index)

    def capture(
        self,
        at: int,
        frequency_hz: float | None = None,
        time: str | None = None,
        global_index: int | None = None,
    ) -> None:
        """From sample at on the radio has another frequency in Hz, or time (ISO 8601, UTC).

        global_index: of the sample, those that were lost counted. A capture at 0 always begins a
        recording, with this computer's time where none is given.
        """
        if at > 0 and not self._captures:
            self.capture(0)
        if at == 0:
            time = time or self.utc()
        capture = {"core:sample_start": at}
        capture |= {} if time is None else {"core:datetime": time}
        capture |= {} if global_index is None else {"core:global_index": global_index}
        with self._lock:
            if frequency_hz is not None:
                self._frequency_hz = frequency_hz
            if self._frequency_hz is not None:
                capture["core:frequency"] = self._frequency_hz
            self._captures.append(capture)

    @staticmethod
    def utc() -> str:
        """This computer's time, ISO 8601."""
        return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def write(self, samples: list[np.ndarray]) -> None:
        """Append samples: for each antenna an array, complex64 [n]. Raises OSError when full."""
        if not self._captures:
            self.capture(0)
        chunks = []
        for file in self._files:
            mine, samples = samples[: file.n_channels], samples[file.n_channels :]
            chunks.append(memoryview(self._encode(np.stack(mine, axis=1))).cast("B"))
        taken = []
        failure = None
        for file, chunk in zip(self._files, chunks, strict=True):
            done = 0
            try:
                while done < len(chunk):
                    done += file.raw.write(chunk[done:])
            except OSError as error:
                failure = error
            taken.append(done // file.frame)
        whole = min(taken)
        if failure:
            for file in self._files:
                file.raw.truncate((self.n_samples + whole) * file.frame)
        for file, chunk in zip(self._files, chunks, strict=True):
            file.sha512.update(chunk[: whole * file.frame])
        with self._lock:
            self.n_samples += whole
        if failure:
            raise failure

    def close(self) -> None:
        """End the recording: hash, metadata, and the archive where one was asked for."""
        self._ended.set()
        self._journalist.join()
        if self._files[0].raw.closed:
            return
        self._reserve.close()
        self._journal(hashes=True)
        for file in self._files:
            file.raw.close()
        if self._archive:
            self._pack()

    def _encode(self, frames: np.ndarray) -> np.ndarray:
        if self._datatype == "cf32_le":
            return frames.astype("<c8", copy=False)
        with np.errstate(invalid="ignore"):
            values = np.nan_to_num(frames.view(np.float32) * np.float32(32768 / self._full_scale))
        values = np.rint(values, out=values)
        self.clipped += int(np.count_nonzero((values > 32767) | (values < -32768)))
        return np.clip(values, -32768, 32767).astype("<i2")

    def _end_slot(self, at: int) -> None:
        """Count the slot that had begun, if it is complete at sample at."""
        if self._begun is None or at < self._begun[0] + self._sent.n_samples(self._begun[1]):
            return
        start, index = self._begun
        self._begun = None
        if self._runs:
            first, first_slot, n_slots = self._runs[-1]
            end = first + self._sent.n_samples(first_slot, n_slots)
            if (start, index) == (end, first_slot + n_slots):
                self._runs[-1][2] += 1
                return
        self._runs.append([start, index, 1])

    def _keep_journal(self, interval_s: float) -> None:
        while not self._ended.wait(interval_s):
            try:
                for file in self._files:  # on disk before the metadata speak of them
                    os.fdatasync(file.raw.fileno())
                self._journal()
            except OSError:  # a full disk: write() says so, and close() has the reserve
                return

    def _journal(self, hashes: bool = False) -> None:
        """Put the metadata of what was written so far in the place of the last ones."""
        with self._lock:
            self._end_slot(self.n_samples)
            captures = [dict(c) for c in self._captures if c["core:sample_start"] < self.n_samples]
            annotations = [self._sent.annotation(*run) for run in self._runs]
        with ExitStack() as renames:
            streams = []
            for file in self._files:
                fields = self._global | {"core:num_channels": file.n_channels}
                if hashes:
                    fields["core:sha512"] = file.sha512.hexdigest()
                if self._collection:
                    fields["core:collection"] = self._base.name
                metadata = {"global": fields, "captures": captures, "annotations": annotations}
                if not annotations:  # ours are valid, and a thousand take a second
                    validate(metadata)
                text = json.dumps(metadata, indent=4) + "\n"
                Path(renames.enter_context(replacing(file.meta))).write_text(text)
                digest = hashlib.sha512(text.encode()).hexdigest()
                streams.append({"name": file.base.name, "hash": digest})
            if self._collection:
                collection = {"core:version": SPECIFICATION, "core:streams": streams}
                text = json.dumps({"collection": collection}, indent=4) + "\n"
                Path(renames.enter_context(replacing(self.paths[0]))).write_text(text)

    def _pack(self) -> None:
        """The pair into an archive; sigmf's own way copies the data to /tmp first."""
        (file,) = self._files
        with replacing(self.paths[0]) as temporary, tarfile.open(temporary, "w") as archive:
            for member in (file.meta, Path(file.raw.name)):
                archive.add(member, f"{self._base.name}/{member.name}")
        file.meta.unlink()
        Path(file.raw.name).unlink()

    def _unpack(self) -> None:
        """The archive's data in a file of their own again, to be continued."""
        (file,) = self._files
        with tarfile.open(self.paths[0]) as archive, replacing(file.raw.name) as temporary:
            member = archive.getmember(f"{self._base.name}/{Path(file.raw.name).name}")
            with open(temporary, "wb") as data:
                shutil.copyfileobj(archive.extractfile(member), data)
        self.paths[0].unlink()
