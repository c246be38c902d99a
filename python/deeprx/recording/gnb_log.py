# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of an open gNB (srsRAN Project, OCUDU): its PHY's lines on uplink grids and on PUSCH.

A log is a stranger's text: lines are read one by one, and of a line no more than LONGEST bytes.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from deeprx_common.files import open_regular
from deeprx_common.printable import printable
from deeprx_common.slot import SlotConfig, User

LONGEST = 1 << 16  # bytes of a line
FRAMES = 1024  # that the system frame number counts
_MOST_FIELDS = 100  # of a record
_LARGEST_BLOCK = 1 << 18  # bytes

_RECORD = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+)\b.*?\[ *(\d{1,4})\.(\d{1,2})\] (RX_SYMBOL|PUSCH): (.*)"
)
_OF_THESE = re.compile(r"PHY\d* *\].*\b(RX_SYMBOL|PUSCH): ")  # whatever is wrong with it
_EPOCH = datetime(1970, 1, 1)
_FIELD = re.compile(r"(\w+)=(\[[^])]*[])]|\{[^}]*\}|\S*)")
_PARAMETER = re.compile(r"\s+(\w+)=(.*)")
_BYTES = re.compile(r"\s+([0-9a-fA-F]{4,8}): ((?:[0-9a-fA-F]{2} ?)+)")
_RANGE = re.compile(r"\[(\d+), ?(\d+)\)")


class PassedOver(Counter):
    """How many lines were passed over, by reason. first: of each reason the first line's number."""

    def __init__(self):
        super().__init__()
        self.first: dict[str, int] = {}

    def add(self, reason: str, line: int) -> None:
        self[reason] += 1
        self.first.setdefault(reason, line)

    def text(self, most: int = 8) -> str:
        """In one line, the most frequent first."""
        named = [
            f"{count} {reason} ({'line' if count == 1 else 'first: line'} {self.first[reason]})"
            for reason, count in self.most_common(most)
        ]
        rest = sum(self.values()) - sum(count for _, count in self.most_common(most))
        return "; ".join([*named, f"{rest} for other reasons"] if rest else named)


class Unsupported(ValueError):
    """Why a PUSCH is passed over, in words that several may share."""


@dataclass(frozen=True)
class DumpedGrid:
    """An RX_SYMBOL line: where the grid of a slot lies in the dump, in complex floats.

    line: its number, from 1. time: when it was logged, in seconds of the gNB's clock.
    """

    line: int
    time: float
    frame: int
    slot: int
    sector: int
    offset: int
    size: int


@dataclass(frozen=True)
class LoggedPusch:
    """A PUSCH line: fields as the summary has them, parameters as the indented lines do.

    line, time: see DumpedGrid. block: the bytes of the hex dump below, as far as there are any.
    """

    line: int
    time: float
    frame: int
    slot: int
    fields: dict[str, str]
    parameters: dict[str, str] = field(default_factory=dict)
    block: bytearray = field(default_factory=bytearray)

    @property
    def sender(self) -> str | None:
        """Its RNTI as the log says it: a user sends one PUSCH a slot."""
        return self.fields.get("rnti")

    @property
    def crc_ok(self) -> bool:
        """The gNB's verdict. Raises Unsupported where it is not there."""
        return self._one_of("crc", {"OK": True, "KO": False})

    @property
    def rnti(self) -> int:
        return self._number("rnti", 0xFFFF)

    @property
    def process(self) -> int:
        return self._number("h_id", 31)

    @property
    def rv(self) -> int:
        return self._number("rv", 3)

    @property
    def base_graph(self) -> int:
        return self._one_of("bg", {"1": 1, "2": 2, "BG1": 1, "BG2": 2})

    @property
    def new_data(self) -> bool:
        return self._one_of("new_data", {"true": True, "false": False})

    @property
    def has_block(self) -> bool:
        """Whether it carries a transport block, rather than control information alone."""
        return "rv" in self.fields or "rv" in self.parameters

    @property
    def transport_block(self) -> bytes | None:
        """What was received, where the gNB found its CRC right and logged all of it."""
        size = self._number("tbs", _LARGEST_BLOCK)
        return bytes(self.block) if self.crc_ok and len(self.block) == size else None

    @property
    def carrier_prb(self) -> int:
        """Resource blocks of the carrier, as far as the bandwidth part reaches."""
        return self._range("bwp", 275)[1]

    def slot_config(self, carrier_prb: int, scs_khz: int) -> SlotConfig:
        """How the slot was sent, in a carrier that the log does not describe.

        Raises Unsupported where the receiver cannot take it, or the lines do not say it.
        """
        self._check_kind()
        first, end = self._range("symb", 14)
        dmrs = self._symbols("dmrs_mask")
        if first or min(dmrs, default=2) not in (2, 3):
            raise Unsupported("of mapping type B")
        bwp, bwp_end = self._range("bwp", 275)
        if bwp_end > carrier_prb:
            raise Unsupported("of a bandwidth part beyond the carrier")
        prb = self._range("prb", 275)
        user = self._checked(
            User,
            modulation=self._text("mod"),
            code_rate=self._rate("tcr"),
            tbs=8 * self._number("tbs", _LARGEST_BLOCK),
            rnti=self.rnti,
            n_id=self._number("n_id", 1023),
        )
        return self._checked(
            SlotConfig,
            n_prb=prb[1] - prb[0],
            first_prb=bwp + prb[0],
            n_symbols=end,
            dmrs=dmrs,
            cdm_groups=self._number("n_cdm_g_wd", 3),
            dmrs_n_id=self._number("n_scr_id", 0xFFFF),
            n_scid=self._one_of("n_scid", {"false": 0, "true": 1, "0": 0, "1": 1}),
            users=(user,),
            limited_buffer=self._limited_buffer(),
            carrier_prb=carrier_prb,
            scs_khz=scs_khz,
            slot_number=self.slot,
        )

    def _check_kind(self) -> None:
        if not self.has_block:
            raise Unsupported("without a transport block")
        bits = [self.parameters.get(key, "0") for key in ("oack", "ocsi1", "ocsi2")]
        if set(bits) != {"0"} or self.parameters.get("part2", "entries=[]") != "entries=[]":
            raise Unsupported("with UCI")
        if "n_rs_id" in self.parameters:
            raise Unsupported("with transform precoding")
        if self._number("dmrs_type", 2) != 1:
            raise Unsupported("with DMRS type 2")
        if self._number("nof_layers", 8) != 1:
            raise Unsupported("of several layers")
        if self.parameters.get("cp", "normal") != "normal":
            raise Unsupported("with an extended cyclic prefix")
        if not self._text("prb").startswith("["):
            raise Unsupported("on PRBs that are not contiguous")

    @staticmethod
    def _checked(kind, **values):
        try:
            return kind(**values)
        except ValueError as error:
            raise Unsupported(f"that do not fit ({printable(error, 160)})") from None

    def _text(self, key: str) -> str:
        if not self.parameters:
            raise Unsupported("without parameters (let the PHY log at level debug)")
        value = self.parameters.get(key, self.fields.get(key))
        if value is None:
            raise Unsupported(f"without {key}= (a log of another version?)")
        return value

    def _fault(self, key: str) -> Unsupported:
        return Unsupported(
            f"with {key}={printable(self._text(key), 40)} (a log of another version?)"
        )

    def _number(self, key: str, most: int) -> int:
        try:
            value = int(self._text(key), 0)
        except ValueError:
            raise self._fault(key) from None
        if not 0 <= value <= most:
            raise self._fault(key)
        return value

    def _rate(self, key: str) -> float:
        try:
            return float(self._text(key))
        except ValueError:
            raise self._fault(key) from None

    def _one_of(self, key: str, values: dict):
        if self._text(key) not in values:
            raise self._fault(key)
        return values[self._text(key)]

    def _range(self, key: str, most: int) -> tuple[int, int]:
        given = _RANGE.fullmatch(self._text(key))
        if not given or not int(given[1]) < int(given[2]) <= most:
            raise self._fault(key)
        return int(given[1]), int(given[2])

    def _symbols(self, key: str) -> tuple[int, ...]:
        """Of {2, 7, 11}, or of 00100001000100 as older gNBs write it."""
        text = self._text(key)
        if re.fullmatch(r"[01]{14}", text):
            return tuple(symbol for symbol in range(14) if text[symbol] == "1")
        if re.fullmatch(r"\{\d{1,2}(, \d{1,2})*\}", text):
            return tuple(int(symbol) for symbol in re.findall(r"\d+", text))
        raise self._fault(key)

    def _limited_buffer(self) -> int:
        """Bits. What older gNBs call lbrm= is a code block's, and none is longer: no limit."""
        if "tbs_lbrm" not in self.parameters and "lbrm" in self.parameters:
            return 0
        given = re.fullmatch(r"(\d{1,6})bytes", self._text("tbs_lbrm"))
        if not given:
            raise self._fault("tbs_lbrm")
        return 8 * int(given[1])


def read_gnb_log(
    path: str | Path, lines: PassedOver | None = None
) -> Iterator[DumpedGrid | LoggedPusch]:
    """The records of a log that are about uplink grids and PUSCH, in its order.

    Other lines, of this layer or of others, are passed over. lines: of these two that are damaged
    are added. Raises ValueError with one line where the file cannot be read.
    """
    try:
        with open_regular(path) as log:
            yield from _records(_lines(log), PassedOver() if lines is None else lines)
    except OSError as error:
        raise ValueError(f"{path}: cannot read the log: {error.strerror}") from None


def _lines(log) -> Iterator[str]:
    whole = True
    while line := log.readline(LONGEST):
        if whole:
            yield line.decode(errors="replace").rstrip("\r\n")
        whole = line.endswith(b"\n")


def _records(lines: Iterator[str], damaged: PassedOver) -> Iterator[DumpedGrid | LoggedPusch]:
    pusch = None
    for number, line in enumerate(lines, 1):
        if line[:1].isspace():
            if pusch:
                _add(pusch, line)
            continue
        if pusch:
            yield pusch
        pusch = None
        record = _RECORD.search(line)
        if not record:
            if _OF_THESE.search(line):
                damaged.add("without time, frame and slot", number)
            continue
        when, frame, slot, kind, rest = record.groups()
        time = _seconds(when)
        if time is None or int(frame) >= FRAMES:
            damaged.add("of a time or frame that there is not", number)
            continue
        place = number, time, int(frame), int(slot)
        fields = dict(_FIELD.findall(rest)[:_MOST_FIELDS])
        if kind == "PUSCH":
            pusch = LoggedPusch(*place, fields)
            continue
        grid = re.fullmatch(r"sector=(\d{1,9}) offset=(\d{1,17}) size=(\d{1,9})", rest)
        if not grid:
            damaged.add("without sector, offset and size of a grid", number)
            continue
        yield DumpedGrid(*place, *map(int, grid.groups()))
    if pusch:
        yield pusch


def _seconds(when: str) -> float | None:
    try:
        return (datetime.fromisoformat(when) - _EPOCH).total_seconds()
    except ValueError:
        return None


def _add(pusch: LoggedPusch, line: str) -> None:
    if parameter := _PARAMETER.fullmatch(line):
        if len(pusch.parameters) < _MOST_FIELDS:
            pusch.parameters.setdefault(parameter[1], parameter[2])
    elif dump := _BYTES.fullmatch(line):
        follows = int(dump[1], 16) == len(pusch.block)  # else a line is missing before it
        if follows and len(pusch.block) < _LARGEST_BLOCK:
            pusch.block.extend(bytes.fromhex(dump[2]))
