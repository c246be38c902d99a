# SPDX-License-Identifier: GPL-3.0-or-later
"""PUSCH of a recording, one annotation each: grids that a gNB dumped, or samples whose slots
somebody else found.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deeprx_common.schema import FLAG, Field, table, whole
from deeprx_common.slot import N_SYMBOLS, SlotConfig

from ..deeprx_python import TransportBlock

NAMESPACE = "deeprx"
_LONGEST = 400_000  # characters: 2^21 bits are 349,528


def _is_base64(value) -> bool:
    try:
        return len(value) <= _LONGEST and bool(base64.b64decode(value, validate=True))
    except (TypeError, ValueError, binascii.Error):
        return False


BASE64 = Field("bytes in base64", _is_base64)
PUSCH = {
    "harq": table(
        {
            "process": whole(31).of("HARQ process of the RNTI."),
            "rv": whole(3).of("Redundancy version."),
            "new_data": FLAG.of("False: another transmission of the process's last block."),
            "earlier_missing": FLAG.of(
                "True: of this block's earlier transmissions none is in the recording; what is of "
                "its process before is another block's.",
                True,
            ),
        }
    ).of(
        "The annotation is one PUSCH that carries a transport block: n_prb to users of its slot "
        "say where, and limited_buffer how its coded bits were chosen.",
        True,
    ),
    "block": BASE64.or_null("Bytes of the transport block that was sent, where known.", True),
    "crc_ok": FLAG.or_null("What the receiver that was there found of its CRC.", True),
}


@dataclass(frozen=True)
class RecordedPusch:
    """A PUSCH in a recording.

    start: sample where its slot begins; of grids its first resource element. config: of one user.
    slot_index: counted over frames. process, rv, new_data: of HARQ. block: that was sent, where it
    is known. crc_ok: what the receiver that was there found, where known. earlier_missing: it is a
    retransmission of a block of which the recording has nothing before.
    """

    start: int
    config: SlotConfig
    slot_index: int
    process: int
    rv: int
    new_data: bool
    block: bytes | None = None
    crc_ok: bool | None = None
    earlier_missing: bool = False

    @property
    def transport_block(self) -> TransportBlock:
        """Raises ValueError where the slot does not hold such a block."""
        user = self.config.users[0]
        return TransportBlock(
            self.config.transport_block_size(),
            self.config.n_bits,
            user.bits_per_symbol,
            user.code_rate,
            limited_buffer=self.config.limited_buffer,
        )

    def annotation(self, n_samples: int) -> dict:
        """Its SigMF annotation; n_samples: of the slot."""
        user = self.config.users[0]
        harq = {"process": self.process, "rv": self.rv, "new_data": self.new_data}
        if self.earlier_missing:
            harq["earlier_missing"] = True
        known = {
            "block": self.block and base64.b64encode(self.block).decode(),
            "crc_ok": self.crc_ok,
        }
        return {
            "core:sample_start": self.start,
            "core:sample_count": n_samples,
            "core:label": f"PUSCH 0x{user.rnti:04x} process {self.process} rv {self.rv}",
            f"{NAMESPACE}:first_slot": self.slot_index,
            f"{NAMESPACE}:slot": self.config.as_dict(),
            f"{NAMESPACE}:harq": harq,
        } | {f"{NAMESPACE}:{key}": value for key, value in known.items() if value is not None}


def carrier_re(carrier_prb: int) -> int:
    """Resource elements of a slot of the whole carrier."""
    return N_SYMBOLS * 12 * carrier_prb


def pusch_of(annotation: Mapping, origin: int, sample_rate: float | None) -> RecordedPusch:
    """Of an annotation that was checked; origin: sample that positions count from. sample_rate:
    None where samples are resource elements.

    Raises ValueError with one line where it does not fit.
    """

    def value(key, default=None):
        known = annotation.get(f"{NAMESPACE}:{key}")
        return default if known is None else known

    config = SlotConfig.from_dict(annotation[f"{NAMESPACE}:slot"], f"{NAMESPACE}:slot")
    slot_index = value("first_slot", 0)
    start = annotation["core:sample_start"] - origin
    if sample_rate is None:
        expected = carrier_re(config.carrier_prb)
        if start % expected:
            raise ValueError(
                f"expected core:sample_start where a grid of {expected} values begins, "
                f"found {start % expected} behind one"
            )
    else:
        expected = config.n_samples(slot_index)
        if sample_rate != config.sample_rate:
            raise ValueError(
                f"expected its slot's {config.sample_rate:g} samples/s, found {sample_rate:g}"
            )
    if annotation.get("core:sample_count") != expected:
        raise ValueError(
            f"expected core:sample_count {expected}, of its slot, "
            f"found {annotation.get('core:sample_count')}"
        )
    if config.n_layers != 1 or config.users[0].code_rate is None:
        raise ValueError("expected a slot of one user with a code_rate")
    block, harq = value("block"), value("harq")
    pusch = RecordedPusch(
        start=start,
        config=config,
        slot_index=slot_index,
        block=None if block is None else base64.b64decode(block),
        crc_ok=value("crc_ok"),
        **{key: harq[key] for key in PUSCH["harq"].inside if key in harq},
    )
    if pusch.start < 0:
        raise ValueError("starts before the first capture")
    size = pusch.transport_block.size
    if pusch.block is not None and len(pusch.block) * 8 != size:
        raise ValueError(f"expected a block of {size // 8} bytes, found {len(pusch.block)}")
    return pusch


def allocation(grid: np.ndarray, config: SlotConfig) -> np.ndarray:
    """Of a carrier's grid [..., 14, 12 carrier_prb] the allocation's part."""
    first = 12 * config.first_prb
    return grid[..., : config.n_symbols, first : first + config.n_sc]


def grid_of_samples(samples: np.ndarray, config: SlotConfig, slot_index: int) -> np.ndarray:
    """The allocation's grid, complex64 [n_rx, n_symbols, n_sc], of one slot's samples, complex64
    [n_rx, n]; E|x|^2 = 1 as transmitted where samples are scaled as ours.

    FFT windows start half a cyclic prefix early, which is taken out again: what is left of the
    delay turns the grid over frequency.
    """
    prefixes = np.array(config.cp_lengths(slot_index))
    early = int(prefixes.min()) // 2
    starts = np.cumsum(prefixes) + config.fft_size * np.arange(N_SYMBOLS) - early
    windows = samples[:, starts[: config.n_symbols, None] + np.arange(config.fft_size)]
    spectra = np.fft.fftshift(np.fft.fft(windows), axes=-1)[..., config.bins]
    turns = np.exp(2j * np.pi * early * config.carriers / config.fft_size)
    compensation = config.phase_compensation(slot_index)[: config.n_symbols, None].conj()
    return (spectra * turns * compensation / np.sqrt(config.fft_size)).astype(np.complex64)


def received_grid(recording, pusch: RecordedPusch) -> np.ndarray:
    """The allocation's grid in a Recording, complex64 [n_rx, n_symbols, n_sc].

    Raises ValueError where the file ends before.
    """
    config = pusch.config
    if not recording.grids:
        samples = recording.read(pusch.start, config.n_samples(pusch.slot_index))
        return grid_of_samples(samples, config, pusch.slot_index)
    grid = recording.read(pusch.start, carrier_re(config.carrier_prb))
    return allocation(grid.reshape(recording.n_rx, N_SYMBOLS, -1), config)
