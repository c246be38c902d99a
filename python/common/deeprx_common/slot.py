# SPDX-License-Identifier: GPL-3.0-or-later
"""The slot: an NR PUSCH resource grid with DMRS type 1 (TS 38.211), and its truth.

One transmit layer, 15 kHz subcarrier spacing, 14 symbols. Pilots of magnitude 1 sit on the even
subcarriers of the DMRS symbols (one CDM group without data), data everywhere else. Every slot is
known from ``(SlotConfig, seed, slot_index)`` alone, so any slot can be checked without the others.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .checks import check_one_of, check_range
from .gold import gold
from .modulation import MODULATIONS, constellation, modulate  # noqa: F401

N_SYMBOLS = 14
SUBCARRIER_SPACING_HZ = 15_000
SLOT_S = 1e-3  # TS 38.211 clause 4.3.1
SLOTS_PER_FRAME = 10
_MASK64 = (1 << 64) - 1


def _splitmix64(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)


@dataclass(frozen=True)
class SlotConfig:
    """The parameters that both ends of a link must agree on.

    n_prb: 6..273 physical resource blocks. modulation: a key of MODULATIONS. dmrs: the one or two
    OFDM symbols that carry pilots. cell_id: DMRS scrambling identity n_id, 0..65535. slot_number:
    0..9, or None to count slot_index through the frame. cp_extension: the normal cyclic prefix's
    longer symbols 0 and 7 (TS 38.211 clause 5.3.1).

    Raises ValueError where a value is out of range.
    """

    n_prb: int = 26
    modulation: str = "16QAM"
    dmrs: tuple[int, ...] = (2, 11)
    cell_id: int = 1
    slot_number: int | None = 0
    cp_extension: bool = False

    def __post_init__(self):
        object.__setattr__(self, "dmrs", tuple(sorted(int(s) for s in self.dmrs)))
        check_range("n_prb", self.n_prb, 6, 273, "PRB")
        check_one_of("modulation", self.modulation, MODULATIONS)
        if (
            len(set(self.dmrs)) not in (1, 2)
            or len(set(self.dmrs)) != len(self.dmrs)
            or not all(0 <= s < N_SYMBOLS for s in self.dmrs)
        ):
            raise ValueError(f"dmrs must name 1 or 2 different symbols of 0 to 13, got {self.dmrs}")
        check_range("cell_id", self.cell_id, 0, 65535)
        if self.slot_number is not None and not 0 <= self.slot_number < SLOTS_PER_FRAME:
            raise ValueError(
                f"slot_number must be 0 to 9, or None to count, got {self.slot_number}"
            )

    @property
    def n_sc(self) -> int:
        """Occupied subcarriers."""
        return 12 * self.n_prb

    @property
    def bits_per_symbol(self) -> int:
        return MODULATIONS[self.modulation]

    @property
    def fft_size(self) -> int:
        """Smallest power of two that leaves 15 % of its bins as guard band."""
        return 1 << int(np.ceil(np.log2(self.n_sc / 0.85)))

    @property
    def sample_rate(self) -> float:
        """Samples per second."""
        return float(SUBCARRIER_SPACING_HZ * self.fft_size)

    @property
    def cp_lengths(self) -> tuple[int, ...]:
        """Cyclic prefix of each of the 14 symbols, in samples."""
        cp = 9 * self.fft_size // 128
        long = cp + (self.fft_size // 128 if self.cp_extension else 0)
        return tuple(long if s in (0, 7) else cp for s in range(N_SYMBOLS))

    @property
    def n_samples(self) -> int:
        """Samples of one slot, cyclic prefixes included."""
        return N_SYMBOLS * self.fft_size + sum(self.cp_lengths)

    @property
    def carriers(self) -> np.ndarray:
        """FFT bin of each subcarrier relative to DC, int [n_sc]: -6 n_prb .. 6 n_prb - 1."""
        return np.arange(self.n_sc) - 6 * self.n_prb

    @property
    def bins(self) -> slice:
        """Where they are among the bins of an FFT with DC in the middle."""
        return slice(self.fft_size // 2 - 6 * self.n_prb, self.fft_size // 2 + 6 * self.n_prb)

    @cached_property
    def pilot_mask(self) -> np.ndarray:
        """bool [14, n_sc], true where a pilot sits."""
        mask = np.zeros((N_SYMBOLS, self.n_sc), bool)
        mask[list(self.dmrs), ::2] = True
        return mask

    @property
    def n_data_re(self) -> int:
        return N_SYMBOLS * self.n_sc - len(self.dmrs) * self.n_sc // 2

    @property
    def n_bits(self) -> int:
        """Data bits of one slot."""
        return self.n_data_re * self.bits_per_symbol

    def slot_in_frame(self, slot_index: int) -> int:
        return slot_index % SLOTS_PER_FRAME if self.slot_number is None else self.slot_number

    def pilots(self, slot_index: int = 0) -> np.ndarray:
        """DMRS of a slot, complex64 [14, n_sc], zero elsewhere (TS 38.211 clause 6.4.1.1, port 0,
        n_SCID 0).
        """
        grid = np.zeros((N_SYMBOLS, self.n_sc), np.complex64)
        n_slot = self.slot_in_frame(slot_index)
        for symbol in self.dmrs:
            c_init = (
                (N_SYMBOLS * n_slot + symbol + 1) * (2 * self.cell_id + 1) << 17
            ) + 2 * self.cell_id
            grid[symbol, ::2] = modulate(gold(c_init % (1 << 31), self.n_sc), "QPSK")
        return grid

    def bits(self, seed: int, slot_index: int) -> np.ndarray:
        """Data bits of a slot, uint8 [n_bits]: a Gold sequence whose 31-bit c_init hashes (seed,
        slot_index).
        """
        return gold(_splitmix64(_splitmix64(seed & _MASK64) ^ slot_index) & 0x7FFFFFFF, self.n_bits)

    def grid(self, bits: np.ndarray, slot_index: int = 0) -> np.ndarray:
        """Resource grid, complex64 [14, n_sc]: data fills REs symbol by symbol, subcarriers
        ascending.
        """
        if np.shape(bits) != (self.n_bits,):
            raise ValueError(
                f"a slot carries {self.n_bits} bits, got an array of shape {np.shape(bits)}"
            )
        grid = self.pilots(slot_index)
        grid[~self.pilot_mask] = modulate(bits, self.modulation)
        return grid
