# SPDX-License-Identifier: GPL-3.0-or-later
"""SigMF recordings of antenna streams and the truth that they carry; plain classes, no flowgraph.

The annotations of the namespace ``deeprx`` are described in docs/reference/sigmf-extension.md.
"""

import math
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

import numpy as np
from jsonschema.exceptions import ValidationError

from deeprx_common.checks import check_one_of
from deeprx_common.files import MOST_BYTES, kind_of, open_regular, read_regular
from deeprx_common.limits import DELAY_SPREAD_S, DOPPLER_HZ, SNR_DB
from deeprx_common.printable import printable
from deeprx_common.schema import (
    COUNT,
    DICT,
    FLAG,
    INDEX,
    INDICES,
    POSITIVE,
    TEXT,
    WHOLE,
    check,
    check_value,
    number,
    parse_json,
    partial,
    several,
    table,
)
from deeprx_common.slot import SlotConfig, User

from ..blocks.preamble import preamble_samples
from .pusch import NAMESPACE, PUSCH, RecordedPusch, pusch_of
from .sigmf import sample_type, sha512, validate

_EXACT = 1 << 53  # floats below hold every whole number
VERSION = "2.0.0"
RESTART = f"{NAMESPACE}:restart"  # of a capture: the recorder was stopped before it
_SLOT_1 = partial(  # of version 1, whose prefixes were equal unless it said otherwise
    {
        "n_prb": POSITIVE,
        "modulation": TEXT,
        "dmrs": INDICES,
        "cell_id": COUNT,
        "slot_number": COUNT.or_null(),
        "cp_extension": FLAG,
    }
)
_STREAMS = several(table({"name": TEXT, "hash": TEXT}), "a list of one stream or more", least=1)
CONDITIONS = {  # keys of a report's point that an annotation may carry
    "channel": TEXT.or_null("Name of the channel, such as TDL-A (TR 38.901).", True),
    "delay_spread_s": number(*DELAY_SPREAD_S, "s").or_null("Rms delay spread.", True),
    "doppler_hz": number(*DOPPLER_HZ, "Hz").or_null("Maximum Doppler shift.", True),
    "snr_db": number(*SNR_DB, "dB").or_null(
        "Per data resource element and antenna, over thermal noise, E|h|² = 1 over fading.", True
    ),
    "sir_db": number(*SNR_DB, "dB").or_null("The same over a co-scheduled slot.", True),
}
ANNOTATION = {
    f"{NAMESPACE}:{key}": field
    for key, field in {
        "slot": DICT.of("How the slots are built, below."),
        "first_slot": INDEX.or_null("Index of the first slot (0); later ones follow.", True),
        "preamble": FLAG.or_null(
            "Each slot follows two OFDM symbols of preamble, training and header, that carry the "
            "low 32 bits of its index (python/deeprx/blocks/preamble.py); false if missing.",
            True,
        ),
        "bit_seed": WHOLE.or_null(
            "The data bits of slot k are the Gold sequence of TS 38.211 clause 5.2.1 whose c_init "
            "is a hash of (bit_seed, k): SlotConfig.bits(bit_seed, k) in deeprx_common/slot.py; of "
            "a user with a code rate its transport block is, at redundancy version 0. "
            "Without it nobody knows the bits.",
            True,
        ),
        "burst_slots": POSITIVE.or_null(
            "Slots with the same index // burst_slots saw one fading draw: the clusters that "
            "intervals are taken over.",
            True,
        ),
        **CONDITIONS,
        **PUSCH,
    }.items()
}


@dataclass(frozen=True)
class SentSlots:
    """How slots were sent.

    bit_seed: of a slot's bits or transport blocks, as slot_source and tb_source have it; None:
    unknown. conditions: of CONDITIONS, what is known. burst_slots: slots of one fading draw, the
    cluster of error rates; None: unknown.
    """

    config: SlotConfig
    preamble: bool
    bit_seed: int | None = None
    conditions: Mapping = field(default_factory=dict)
    burst_slots: int | None = None

    def n_samples(self, first_slot: int = 0, n_slots: int = 1) -> int:
        """Samples of slots that follow each other, at config.sample_rate."""
        preambles = n_slots * preamble_samples(self.config) if self.preamble else 0
        return self.config.n_samples(first_slot, n_slots) + preambles

    def annotation(self, start: int, first_slot: int, n_slots: int) -> dict:
        """The SigMF annotation of consecutive slots; start: sample where the first one begins."""
        known = self.conditions | {"bit_seed": self.bit_seed, "burst_slots": self.burst_slots}
        return {
            "core:sample_start": start,
            "core:sample_count": self.n_samples(first_slot, n_slots),
            "core:label": f"{n_slots} NR slots",
            f"{NAMESPACE}:first_slot": first_slot,
            f"{NAMESPACE}:slot": self.config.as_dict(),
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

    n_rx: antennas. sample_rate: samples/s. n_samples: of each antenna. captures, runs, pusch: lists
    of Capture, SlotRun and RecordedPusch in ascending order; runs and pusch are empty where nothing
    is known of the slots. grids: whether samples are resource elements, slot after slot, each 14
    symbols of the whole carrier, subcarriers ascending.

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
        for stream in self._streams:
            rate = stream.metadata["global"].get("core:sample_rate")
            if rate != self.sample_rate:
                raise ValueError(
                    f"{stream.where}: expected {self.sample_rate:g} samples/s as in the "
                    f"collection's first stream, found {rate}"
                )
            self.sha512.append(stream.metadata["global"].get("core:sha512"))
        self._layouts = [_Layout(stream) for stream in self._streams]
        for stream, layout in zip(self._streams, self._layouts, strict=True):
            if layout.n_samples == 0:
                raise ValueError(f"{stream.data}: expected samples, found none")
        self.n_rx = sum(layout.n_channels for layout in self._layouts)
        self.n_samples = min(layout.n_samples for layout in self._layouts)
        self.captures = [
            replace(c, n_samples=min(c.n_samples, self.n_samples - c.start))
            for c in self._layouts[0].captures
            if c.start < self.n_samples
        ]
        self.grids: bool = first.get(f"{NAMESPACE}:grids", False) is True
        origin = self._layouts[0].origin
        self.runs = _runs(self._streams[0], origin, self.sample_rate)
        self.pusch = _pusch(self._streams[0], origin, None if self.grids else self.sample_rate)

    def verify(self) -> None:
        """Compare the data with core:sha512, if given. Raises ValueError where they differ."""
        for stream, wanted in zip(self._streams, self.sha512, strict=True):
            if wanted is None:
                continue
            digest = sha512(stream.data, stream.first_byte, stream.n_bytes)
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
        try:
            is_complex, self._type = sample_type(name)
        except ValueError as error:
            raise ValueError(f"{stream.where}: {error}") from None
        if not is_complex:
            raise ValueError(f"{stream.where}: expected complex (IQ) samples, found {name!r:.40}")
        full = 2 ** (8 * self._type.itemsize - 1)
        self._zero = full if self._type.kind == "u" else 0
        self._scale = 1.0
        if self._type.kind != "f":
            full_scale = fields.get(f"{NAMESPACE}:full_scale", 1.0)
            if not isinstance(full_scale, (int, float)) or not 0 < full_scale < math.inf:
                raise ValueError(
                    f"{stream.where}: expected {NAMESPACE}:full_scale above 0, "
                    f"found {full_scale!r:.40}"
                )
            self._scale = full_scale / full
        self.n_channels = fields.get("core:num_channels", 1)
        self._frame = 2 * self._type.itemsize * self.n_channels

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
        time = datetime.fromisoformat(text)
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
        return time, max(10.0 ** -len(digits), 1e-6)
    except (AttributeError, ValueError):
        return None


def _end(annotation: Mapping) -> int:
    return annotation["core:sample_start"] + annotation.get("core:sample_count", 0)


def _open(path: Path) -> list[_Stream]:
    if path.name.endswith((".sigmf.gz", ".sigmf.xz", ".sigmf.zip")):
        raise ValueError(f"{path}: expected an uncompressed recording: unpack the archive first")
    if path.suffix == ".sigmf-collection":
        return _open_collection(path)
    if path.suffix == ".sigmf":
        return [_open_archive(path)]
    base = path.name.removesuffix(".sigmf-meta").removesuffix(".sigmf-data")
    meta, data = (path.with_name(f"{base}.sigmf-{kind}") for kind in ("meta", "data"))
    if path.exists() and not path.is_file() and not meta.exists():
        raise ValueError(f"{path}: expected a SigMF recording, found {kind_of(path)}")
    metadata = _metadata(_text(meta), meta)
    if metadata["global"].get("core:metadata_only"):
        raise ValueError(f"{meta}: expected a recording, found metadata only")
    if "core:dataset" in metadata["global"]:
        data = path.parent / Path(metadata["global"]["core:dataset"]).name  # never elsewhere
    if not data.is_file():
        raise ValueError(f"{meta}: expected its samples in {data}, found {kind_of(data)}")
    return [_Stream(meta, metadata, data, 0, data.stat().st_size)]


def _open_archive(path: Path) -> _Stream:
    """Metadata of an archive, and the place of the data within it."""
    try:
        with open_regular(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            files = [m for m in archive if m.isfile() and not _is_apple_double(m.name)]
            metas = [f for f in files if f.name.endswith(".sigmf-meta")]
            datas = [f for f in files if f.name.endswith(".sigmf-data")]
            texts = [archive.extractfile(m).read(MOST_BYTES) for m in metas[:1] if not m.issparse()]
    except OSError as error:
        raise ValueError(f"{path}: cannot read the archive: {error.strerror}") from None
    # tarfile has more to say of headers that make no sense
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        why = printable(error, 160)
        raise ValueError(f"{path}: expected a SigMF archive (tar): {why}") from None
    if len(metas) != 1 or len(datas) != 1:
        raise ValueError(
            f"{path}: expected one recording in the archive, found {len(metas)} .sigmf-meta and "
            f"{len(datas)} .sigmf-data files"
        )
    if metas[0].issparse() or datas[0].issparse():
        raise ValueError(f"{path}: expected files without holes in the archive: unpack it first")
    text = texts[0].decode(errors="replace")
    (data,) = datas
    return _Stream(path, _metadata(text, path), path, data.offset_data, data.size)


def _is_apple_double(name: str) -> bool:
    """Whether a file is what a Mac's archives keep beside another, its attributes."""
    return Path(name).name.startswith("._")


def _open_collection(path: Path) -> list[_Stream]:
    text = _text(path)
    try:
        declared = parse_json(text, _number)["collection"]["core:streams"]
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path}: expected a SigMF collection with core:streams") from None
    check_value(declared, _STREAMS, f"{path}: core:streams")
    streams = []
    for name, wanted in ((s["name"], s["hash"].lower()) for s in declared):
        meta = path.parent / f"{name}.sigmf-meta"
        if Path(name).name != name:
            raise ValueError(f"{path}: expected streams in the same folder, found {name!r:.80}")
        streams += _open(meta)
        if sha512(meta) != wanted:
            raise ValueError(f"{meta}: is not the stream that {path.name} means: its hash differs")
    return streams


def _text(path: Path) -> str:
    try:
        return read_regular(path).decode()
    except OSError as error:
        raise ValueError(f"{path}: cannot read the metadata: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected JSON in UTF-8, found something else") from None


def _number(text: str) -> int | float:
    """A number with a fraction or exponent: JSON Schema takes 526080.0 for an integer."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def _metadata(text: str, where: Path) -> dict:
    try:
        metadata = parse_json(text, _number)
        validate(metadata)
    except ValidationError as error:
        reason, place = printable(error.message, 160), printable(error.json_path, 80)
        raise ValueError(f"{where}: not valid SigMF: {reason} ({place})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: not SigMF metadata: {printable(error, 160)}") from None
    except RecursionError:
        raise ValueError(f"{where}: not SigMF metadata: nested too deeply") from None
    for extension in metadata["global"].get("core:extensions", []):
        name, version = extension["name"], extension["version"]
        if name == NAMESPACE and version.partition(".")[0] not in ("1", "2"):
            raise ValueError(
                f"{where}: expected version {VERSION} of the extension {NAMESPACE!r}, "
                f"found {printable(version, 40)}"
            )
        if name != NAMESPACE and not extension["optional"]:
            raise ValueError(f"{where}: needs the extension {name!r:.80}, which is not known here")
    return metadata


def _version(metadata: Mapping) -> int:
    """Of the extension's description of slots."""
    declared = {e["name"]: e["version"] for e in metadata["global"].get("core:extensions", [])}
    return int(declared.get(NAMESPACE, VERSION).partition(".")[0])


def _runs(stream: _Stream, origin: int, sample_rate: float) -> list[SlotRun]:
    """The slots that a stream's annotations speak of; origin: sample that positions count from."""
    runs: list[SlotRun] = []
    version = _version(stream.metadata)
    for annotation in stream.metadata["annotations"]:
        if f"{NAMESPACE}:slot" not in annotation or f"{NAMESPACE}:harq" in annotation:
            continue
        where = _checked(stream, annotation)
        try:
            run = _run(annotation, origin, sample_rate, version)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if runs and run.start < runs[-1].start + runs[-1].n_samples:
            raise ValueError(
                f"{where}: overlaps the one before, which ends at sample "
                f"{runs[-1].start + runs[-1].n_samples + origin}"
            )
        runs.append(run)
    return runs


def _pusch(stream: _Stream, origin: int, sample_rate: float | None) -> list[RecordedPusch]:
    """The PUSCH that a stream's annotations speak of; sample_rate: None where it holds grids."""
    pusch = []
    for annotation in stream.metadata["annotations"]:
        if f"{NAMESPACE}:harq" not in annotation:
            continue
        where = _checked(stream, annotation)
        try:
            pusch.append(pusch_of(annotation, origin, sample_rate))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    return pusch


def _checked(stream: _Stream, annotation: Mapping) -> str:
    """Where an annotation is, in words, once its keys of ours were checked."""
    where = f"{stream.where}: annotation at sample {annotation['core:sample_start']}"
    ours = {k: v for k, v in annotation.items() if k.startswith(f"{NAMESPACE}:")}
    check(ours, ANNOTATION, where)
    return where


def _slot_1(values: Mapping, where: str) -> SlotConfig:
    check(values, _SLOT_1, where)
    for name in values:
        check_one_of(f"a key of {where}", name, _SLOT_1)
    others = {key: values[key] for key in ("n_prb", "dmrs", "slot_number") if key in values}
    return SlotConfig(
        dmrs_n_id=values.get("cell_id", 1),
        users=(User(values.get("modulation", "16QAM")),),
        equal_prefixes=not values.get("cp_extension", False),
        **others,
    )


def _run(annotation: Mapping, origin: int, sample_rate: float, version: int) -> SlotRun:
    def value(key, default=None):
        known = annotation.get(f"{NAMESPACE}:{key}")
        return default if known is None else known

    where = f"{NAMESPACE}:slot"
    slot = annotation[where]
    config = _slot_1(slot, where) if version == 1 else SlotConfig.from_dict(slot, where)
    conditions = {key: value(key) for key in CONDITIONS}
    sent = SentSlots(
        config=config,
        preamble=value("preamble", False),
        bit_seed=value("bit_seed"),
        conditions={k: float(v) if isinstance(v, int) else v for k, v in conditions.items()},
        burst_slots=value("burst_slots"),
    )
    first_slot = value("first_slot", 0)
    if "core:sample_count" not in annotation:
        raise ValueError("lacks core:sample_count")
    count = annotation["core:sample_count"]
    scale, frame = sample_rate / config.sample_rate, config.slots_per_frame
    period = scale * sent.n_samples(0, frame) / frame
    n_slots = round(min(count / period, 1 << 64)) if period else 0  # of a rate that is next to 0
    whole = 1 <= n_slots < 1 << 64
    if not whole or abs(count - scale * sent.n_samples(first_slot, n_slots)) > 1:
        raise ValueError(f"{count} samples are not a whole number of slots of {period:g} samples")
    start = annotation["core:sample_start"] - origin
    if start < 0:
        raise ValueError("starts before the first capture")
    if first_slot + n_slots > 1 << 64:
        raise ValueError(f"slot indices end at 2^64, found {n_slots} slots from {first_slot} on")
    return SlotRun(start, count, first_slot, n_slots, sent)
