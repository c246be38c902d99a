# SPDX-License-Identifier: GPL-3.0-or-later
"""SigMF recordings of antenna streams and the truth that they carry; plain classes, no flowgraph.

The annotations of the namespace ``deeprx`` are described in docs/reference/sigmf-extension.md.
"""

import json
import math
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from itertools import accumulate
from pathlib import Path

import numpy as np
import sigmf
from jsonschema.exceptions import ValidationError
from sigmf.hashing import calculate_sha512
from sigmf.sigmffile import dtype_info

from deeprx_common.checks import check_one_of, check_range
from deeprx_common.limits import DELAY_SPREAD_S, DOPPLER_HZ, SNR_DB
from deeprx_common.slot import SlotConfig

from ..blocks.preamble import preamble_samples

_EXACT = 1 << 53  # floats below hold every whole number
NAMESPACE, VERSION = "deeprx", "1.0.0"
RESTART = f"{NAMESPACE}:restart"  # of a capture: the recorder was stopped before it
CONDITIONS = {  # keys of a report's point that an annotation may carry: type
    "channel": str,
    "delay_spread_s": float,
    "doppler_hz": float,
    "snr_db": float,
    "sir_db": float,
}
_CONDITION_LIMITS = {
    "delay_spread_s": DELAY_SPREAD_S,
    "doppler_hz": DOPPLER_HZ,
    "snr_db": SNR_DB,
    "sir_db": SNR_DB,
}


@dataclass(frozen=True)
class SentSlots:
    """How slots were sent.

    bit_seed: SlotConfig.bits(bit_seed, slot_index) are a slot's bits; None: unknown. conditions:
    of CONDITIONS, what is known. burst_slots: slots of one fading draw, the cluster of error rates;
    None: unknown.
    """

    config: SlotConfig
    preamble: bool
    bit_seed: int | None = None
    conditions: Mapping = field(default_factory=dict)
    burst_slots: int | None = None

    @property
    def period(self) -> int:
        """Samples from one slot to the next, at config.sample_rate."""
        return self.config.n_samples + (preamble_samples(self.config) if self.preamble else 0)

    def annotation(self, start: int, first_slot: int, n_slots: int) -> dict:
        """The SigMF annotation of consecutive slots; start: sample where the first one begins."""
        known = self.conditions | {"bit_seed": self.bit_seed, "burst_slots": self.burst_slots}
        return {
            "core:sample_start": start,
            "core:sample_count": n_slots * self.period,
            "core:label": f"{n_slots} NR slots",
            f"{NAMESPACE}:first_slot": first_slot,
            f"{NAMESPACE}:slot": asdict(self.config),
            f"{NAMESPACE}:preamble": self.preamble,
        } | {f"{NAMESPACE}:{key}": value for key, value in known.items() if value is not None}


@dataclass(frozen=True)
class SlotRun:
    """Consecutive slots of a recording; start: where the first one, or its preamble, begins."""

    start: int
    n_samples: int
    first_slot: int
    n_slots: int
    sent: SentSlots


@dataclass(frozen=True)
class Capture:
    """A stretch of samples recorded at one setting.

    start: its first sample. follows: whether that one came right after the last one of the capture
    before, at the same frequency.
    """

    start: int
    n_samples: int
    frequency_hz: float | None
    follows: bool = False


@dataclass(frozen=True)
class _Stream:
    """One SigMF recording: its metadata and where in which file its data lie, in bytes."""

    where: Path
    metadata: dict
    data: Path
    first_byte: int
    n_bytes: int


class Recording:
    """The antenna streams of a SigMF recording, read in pieces.

    path: a .sigmf-meta or .sigmf-data file, an uncompressed .sigmf archive, or a .sigmf-collection,
    whose streams become antennas in their order. Every complex sample type of SigMF 1.2, captures
    with header bytes, core:offset and core:dataset are understood. Sample positions are counted
    from 0 at the first sample, over all captures.

    n_rx: antennas. sample_rate: samples/s. n_samples: of each antenna. captures, runs: lists of
    Capture and SlotRun in ascending order; runs is empty where nothing is known of the slots.

    Integers are scaled to +-1, as the sigmf package does, times deeprx:full_scale where given.

    Raises ValueError with one line where a file is missing, damaged or not understood.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._streams = _open(self.path)
        first = self._streams[0].metadata["global"]
        self.datatype: str = first["core:datatype"]
        self.sample_rate = float(first.get("core:sample_rate", math.nan))
        if not 0 < self.sample_rate < math.inf:
            raise ValueError(f"{self._streams[0].where}: expected core:sample_rate, found none")
        self.sha512: list[str | None] = []
        self._layouts = [_Layout(stream) for stream in self._streams]
        for stream, layout in zip(self._streams, self._layouts, strict=True):
            rate = stream.metadata["global"].get("core:sample_rate")
            if rate != self.sample_rate:
                raise ValueError(
                    f"{stream.where}: expected {self.sample_rate:g} samples/s as in the "
                    f"collection's first stream, found {rate}"
                )
            self.sha512.append(stream.metadata["global"].get("core:sha512"))
            if layout.n_samples == 0:
                raise ValueError(f"{stream.data}: expected samples, found none")
        self.n_rx = sum(layout.n_channels for layout in self._layouts)
        self.n_samples = min(layout.n_samples for layout in self._layouts)
        self.captures = [
            replace(c, n_samples=min(c.n_samples, self.n_samples - c.start))
            for c in self._layouts[0].captures
            if c.start < self.n_samples
        ]
        self.runs = _runs(self._streams[0], self._layouts[0].origin, self.sample_rate)

    def verify(self) -> None:
        """Compare the data with core:sha512, if given. Raises ValueError where they differ."""
        for stream, wanted in zip(self._streams, self.sha512, strict=True):
            if wanted is None:
                continue
            digest = calculate_sha512(stream.data, offset=stream.first_byte, size=stream.n_bytes)
            if digest != wanted.lower():
                raise ValueError(
                    f"{stream.data}: expected sha512 {wanted[:12]}..., found {digest[:12]}...: "
                    "the samples are not those that were recorded"
                )

    def read(self, start: int, count: int) -> np.ndarray:
        """Samples [start, start + count), complex64 [n_rx, count]; not NaN-free where the file is
        not. Raises ValueError where the file ends before.
        """
        return np.concatenate([layout.read(start, count) for layout in self._layouts])


class _Layout:
    """Where the samples of a stream lie in its file, and their type."""

    def __init__(self, stream: _Stream):
        fields = stream.metadata["global"]
        name = fields["core:datatype"]
        kind = dtype_info(name)
        if not kind["is_complex"]:
            raise ValueError(f"{stream.where}: expected complex (IQ) samples, found {name!r}")
        self._type = kind["component_dtype"]
        self._zero = 2 ** (8 * kind["component_size"] - 1) if kind["is_unsigned"] else 0
        self._scale = 1.0
        if kind["is_fixedpoint"]:
            full_scale = fields.get(f"{NAMESPACE}:full_scale", 1.0)
            if not isinstance(full_scale, (int, float)) or not 0 < full_scale < math.inf:
                raise ValueError(
                    f"{stream.where}: expected {NAMESPACE}:full_scale above 0, found {full_scale!r}"
                )
            self._scale = full_scale / 2 ** (8 * kind["component_size"] - 1)
        self.n_channels = fields.get("core:num_channels", 1)
        self._frame = 2 * kind["component_size"] * self.n_channels

        offset = fields.get("core:offset", 0)
        captures = stream.metadata["captures"] or [{"core:sample_start": offset}]
        starts = [c["core:sample_start"] - offset for c in captures]
        if starts[0] < 0:
            raise ValueError(f"{stream.where}: a capture starts before core:offset {offset}")
        end = stream.n_bytes - fields.get("core:trailing_bytes", 0)
        headers = list(accumulate(c.get("core:header_bytes", 0) for c in captures))
        total = max(0, end - headers[-1]) // self._frame  # a crash may leave part of a sample
        reach = max([starts[-1], *(_end(a) - offset for a in stream.metadata["annotations"])])
        if total and reach > total:
            raise ValueError(
                f"{stream.data}: truncated: expected at least {reach} samples, found {total}"
            )
        first = starts[0]  # samples ahead of the first capture belong to none
        self.origin = first + offset
        self.n_samples = max(0, total - first)
        self._file = open(stream.data, "rb")  # noqa: SIM115
        self.captures, self._places = [], []
        before = None
        for capture, start, header, stop in zip(
            captures, starts, headers, [*starts[1:], total], strict=True
        ):
            frequency = capture.get("core:frequency")
            if stop > start:
                follows = before is not None and _follows(before, capture, fields)
                self.captures.append(Capture(start - first, stop - start, frequency, follows))
                self._places.append(stream.first_byte + header + start * self._frame)
                before = capture

    def read(self, start: int, count: int) -> np.ndarray:
        samples = np.empty((self.n_channels, count), np.complex64)
        done = 0
        for capture, place in zip(self.captures, self._places, strict=True):
            inside = start + done - capture.start
            n = min(count - done, capture.n_samples - inside)
            if inside >= 0 and n > 0:
                self._file.seek(place + inside * self._frame)
                raw = np.fromfile(self._file, self._type, 2 * self.n_channels * n)
                if len(raw) < 2 * self.n_channels * n:
                    break
                self._convert(raw, samples[:, done : done + n])
                done += n
        if done < count:
            raise ValueError(f"{self._file.name}: expected {start + count} samples, found fewer")
        return samples

    def _convert(self, raw: np.ndarray, samples: np.ndarray) -> None:
        pairs = raw.reshape(-1, self.n_channels, 2)
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is not finite
            values = pairs.astype(np.float32)
        values -= np.float32(self._zero)
        values *= np.float32(self._scale)
        samples[:] = values.view(np.complex64)[..., 0].T


def _follows(before: Mapping, capture: Mapping, fields: Mapping) -> bool:
    """Whether nothing was lost between two captures, as far as their metadata say.

    A global index says it to the sample, where there is none times do within their last digit. A
    capture without either follows: SigMF takes the index for the sample's.
    """
    start, key = "core:sample_start", "core:global_index"
    if capture.get(RESTART) or before.get("core:frequency") != capture.get("core:frequency"):
        return False
    n_samples = capture[start] - before[start]
    if key in before or key in capture:
        return capture.get(key, capture[start]) - before.get(key, before[start]) == n_samples
    times = [_time(c.get("core:datetime")) for c in (before, capture)]
    if None in times:
        return True
    (first, digit), (second, other) = times
    passed = (second - first).total_seconds()
    return abs(passed - n_samples / fields["core:sample_rate"]) <= max(digit, other)


def _time(text: str | None) -> tuple[datetime, float] | None:
    """A core:datetime and the value of its last digit in seconds, None where it is none."""
    try:
        digits = text.rstrip("Z").partition(".")[2][:6]
        return datetime.fromisoformat(text), max(10.0 ** -len(digits), 1e-6)
    except (AttributeError, ValueError):
        return None


def _end(annotation: Mapping) -> int:
    return annotation["core:sample_start"] + annotation.get("core:sample_count", 0)


def _open(path: Path) -> list[_Stream]:
    names = sigmf.sigmffile.get_sigmf_filenames(path)
    if path.name.endswith((".sigmf.gz", ".sigmf.xz", ".sigmf.zip")):
        raise ValueError(f"{path}: expected an uncompressed recording: unpack the archive first")
    if path.suffix == ".sigmf-collection":
        return _open_collection(path)
    if path.suffix == ".sigmf":
        return [_open_archive(path)]
    meta = names["meta_fn"]
    metadata = _metadata(_text(meta), meta)
    if metadata["global"].get("core:metadata_only"):
        raise ValueError(f"{meta}: expected a recording, found metadata only")
    data = path.with_name(names["data_fn"].name)
    if "core:dataset" in metadata["global"]:
        data = path.with_name(Path(metadata["global"]["core:dataset"]).name)  # never elsewhere
    if not data.is_file():
        raise ValueError(f"{meta}: expected its samples in {data}, found no such file")
    return [_Stream(meta, metadata, data, 0, data.stat().st_size)]


def _open_archive(path: Path) -> _Stream:
    """Metadata of an archive, and the place of the data within it."""
    try:
        with tarfile.open(path, "r:") as archive:
            files = [m for m in archive if m.isfile() and not _is_apple_double(m.name)]
            metas = [f for f in files if f.name.endswith(".sigmf-meta")]
            datas = [f for f in files if f.name.endswith(".sigmf-data")]
            if len(metas) != 1 or len(datas) != 1:
                raise ValueError(
                    f"{path}: expected one recording in the archive, found {len(metas)} "
                    f".sigmf-meta and {len(datas)} .sigmf-data files"
                )
            text = archive.extractfile(metas[0]).read().decode(errors="replace")
    except OSError as error:
        raise ValueError(f"{path}: cannot read the archive: {error.strerror}") from None
    except tarfile.TarError as error:
        raise ValueError(f"{path}: expected a SigMF archive (tar): {error}") from None
    (data,) = datas
    return _Stream(path, _metadata(text, path), path, data.offset_data, data.size)


def _is_apple_double(name: str) -> bool:
    """Whether a file is what a Mac's archives keep beside another, its attributes."""
    return Path(name).name.startswith("._")


def _open_collection(path: Path) -> list[_Stream]:
    text = _text(path)
    try:
        collection = _json(text)["collection"]
        names = [(s["name"], s["hash"].lower()) for s in collection["core:streams"]]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{path}: expected a SigMF collection with core:streams") from None
    streams = []
    for name, wanted in names:
        meta = path.parent / f"{name}.sigmf-meta"
        if Path(name).name != name:
            raise ValueError(f"{path}: expected streams in the same folder, found {name!r}")
        streams += _open(meta)
        if calculate_sha512(meta) != wanted:
            raise ValueError(f"{meta}: is not the stream that {path.name} means: its hash differs")
    if not streams:
        raise ValueError(f"{path}: expected streams, found none")
    return streams


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ValueError(f"{path}: cannot read the metadata: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected JSON in UTF-8, found something else") from None


def _number(text: str) -> int | float:
    """A JSON number with a fraction or exponent: JSON Schema takes 526080.0 for an integer."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"expected finite numbers, found {text}")
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def _integer(text: str) -> int:
    if abs(value := int(text)) >= 1 << 64:
        raise ValueError(f"expected numbers below 2^64, found {text}")
    return value


def _json(text: str):
    return json.loads(text, parse_float=_number, parse_int=_integer, parse_constant=_number)


def _metadata(text: str, where: Path) -> dict:
    try:
        metadata = _json(text)
        sigmf.validate.validate(metadata)
    except ValidationError as error:
        reason = error.message if len(error.message) < 160 else error.message[:160] + "..."
        raise ValueError(f"{where}: not valid SigMF: {reason} ({error.json_path})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: not SigMF metadata: {error}") from None
    except RecursionError:
        raise ValueError(f"{where}: not SigMF metadata: nested too deeply") from None
    for extension in metadata["global"].get("core:extensions", []):
        name, version = extension["name"], extension["version"]
        if name == NAMESPACE and version.partition(".")[0] != VERSION.partition(".")[0]:
            raise ValueError(
                f"{where}: expected version {VERSION} of the extension {NAMESPACE!r}, "
                f"found {version}"
            )
        if name != NAMESPACE and not extension["optional"]:
            raise ValueError(f"{where}: needs the extension {name!r}, which is not known here")
    return metadata


def _runs(stream: _Stream, origin: int, sample_rate: float) -> list[SlotRun]:
    """The slots that a stream's annotations speak of; origin: sample that positions count from."""
    runs: list[SlotRun] = []
    for annotation in stream.metadata["annotations"]:
        if f"{NAMESPACE}:slot" not in annotation:
            continue
        where = f"{stream.where}: annotation at sample {annotation['core:sample_start']}"
        try:
            run = _run(annotation, origin, sample_rate)
        except (KeyError, TypeError, ValueError) as error:
            lacking = f"lacks {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{where}: {lacking}") from None
        if runs and run.start < runs[-1].start + runs[-1].n_samples:
            raise ValueError(
                f"{where}: overlaps the one before, which ends at sample "
                f"{runs[-1].start + runs[-1].n_samples + origin}"
            )
        runs.append(run)
    return runs


def _run(annotation: Mapping, origin: int, sample_rate: float) -> SlotRun:
    def value(key, kind, default):
        found = annotation.get(f"{NAMESPACE}:{key}", default)
        allowed = (int, float) if kind is float else kind
        if found is not None and (
            not isinstance(found, allowed) or isinstance(found, bool) != (kind is bool)
        ):
            raise ValueError(f"{NAMESPACE}:{key} must be {kind.__name__}, found {found!r}")
        return float(found) if kind is float and found is not None else found

    conditions = {key: value(key, kind, None) for key, kind in CONDITIONS.items()}
    for key, limits in _CONDITION_LIMITS.items():
        if conditions[key] is not None:
            check_range(f"{NAMESPACE}:{key}", conditions[key], *limits)
    if not (conditions["channel"] or "").isprintable():  # terminals obey control characters
        raise ValueError(f"{NAMESPACE}:channel must be printable, found {conditions['channel']!r}")
    sent = SentSlots(
        config=_slot_config(annotation[f"{NAMESPACE}:slot"]),
        preamble=bool(value("preamble", bool, False)),
        bit_seed=value("bit_seed", int, None),
        conditions=conditions,
        burst_slots=value("burst_slots", int, None),
    )
    first_slot = value("first_slot", int, 0)
    count = annotation["core:sample_count"]
    period = sent.period * sample_rate / sent.config.sample_rate
    n_slots = round(count / period)
    if n_slots < 1 or abs(count - n_slots * period) > 1:
        raise ValueError(f"{count} samples are not a whole number of slots of {period:g} samples")
    start = annotation["core:sample_start"] - origin
    if start < 0:
        raise ValueError("starts before the first capture")
    check_range(f"{NAMESPACE}:first_slot", first_slot, 0)
    if sent.burst_slots is not None:
        check_range(f"{NAMESPACE}:burst_slots", sent.burst_slots, 1)
    if first_slot + n_slots > 1 << 64:
        raise ValueError(f"slot indices end at 2^64, found {n_slots} slots from {first_slot} on")
    return SlotRun(start, count, first_slot, n_slots, sent)


def _slot_config(slot) -> SlotConfig:
    """Of an annotation's dictionary, whose values may be of any type."""
    if not isinstance(slot, Mapping):
        raise ValueError(f"{NAMESPACE}:slot must be an object, found {slot!r}")
    names = [f.name for f in fields(SlotConfig)]
    for name in slot:
        check_one_of(f"a key of {NAMESPACE}:slot", name, names)
    try:
        return SlotConfig(**slot)
    except TypeError:
        raise ValueError(f"{NAMESPACE}:slot has values of a wrong type: {dict(slot)}") from None
