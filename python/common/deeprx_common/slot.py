# SPDX-License-Identifier: GPL-3.0-or-later
"""The slot: a PUSCH of TS 38.211 with mapping type A and DMRS type 1, and its truth.

One layer, or two of two users on the same PRBs. Every slot is known from ``(SlotConfig, seed,
slot_index)`` alone, so any slot can be checked without the others.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property

import numpy as np

from .checks import check_one_of, check_range, check_whole
from .gold import gold
from .mcs import mcs, transport_block_size
from .modulation import MODULATIONS, modulate
from .schema import (
    COUNT,
    FLAG,
    INDICES,
    NUMBER,
    RATE,
    TEXT,
    Field,
    check,
    check_value,
    partial,
    several,
    table,
)

N_SYMBOLS = 14  # of a slot, of which an allocation may leave the last ones empty
_MASK64 = (1 << 64) - 1


def dmrs_symbols(
    n_symbols: int = N_SYMBOLS, additional_position: int = 1, l0: int = 2
) -> tuple[int, ...]:
    """The OFDM symbols of single-symbol DMRS with mapping type A (TS 38.211 table 6.4.1.1.3-3).

    n_symbols: of the allocation, 4 to 14. additional_position: dmrs-AdditionalPosition, 0 to 3. l0:
    dmrs-TypeA-Position, 2 or 3. Raises ValueError where there are none.
    """
    check_whole("n_symbols", n_symbols, 4, N_SYMBOLS)
    check_whole("additional position", additional_position, 0, 3)
    check_one_of("l0", l0, (2, 3))
    if additional_position == 3 and l0 == 3:
        raise ValueError("additional position 3 needs l0 = 2, got l0 = 3")
    if n_symbols < 8 or additional_position == 0:
        return (l0,)
    if n_symbols < 10:
        return (l0, 7)
    if additional_position == 3 and n_symbols >= 12:
        return (l0, 5, 8, 11)
    last = 9 if n_symbols < 13 else 11
    if additional_position == 1:
        return (l0, last)
    return (l0, 6 if last == 9 else 7, last)


def legal_dmrs(n_symbols: int) -> list[tuple[int, ...]]:
    """Every list of DMRS symbols that an allocation of so many symbols may have."""
    positions = [(l0, position) for l0 in (2, 3) for position in range(4 if l0 == 2 else 3)]
    return list(dict.fromkeys(dmrs_symbols(n_symbols, position, l0) for l0, position in positions))


def _splitmix64(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)


USER = {
    "modulation": TEXT.or_null(
        "QPSK, 16QAM, 64QAM or 256QAM, mapped as TS 38.211 clause 5.1; null: the MCS's, or 16QAM."
    ),
    "mcs": COUNT.or_null("MCS index; null: modulation and code_rate say all."),
    "mcs_table": COUNT.of("1 to 3: of TS 38.214 tables 5.1.3.1-1 to -3."),
    "code_rate": RATE.or_null("Target code rate; null: the MCS's, or bits, no transport block."),
    "tbs": COUNT.or_null("Bits of the transport block; null: of TS 38.214 clause 6.1.4.2."),
    "rnti": COUNT.of("RNTI of the data's scrambling, 0 to 65535."),
    "n_id": COUNT.of("Identity of the data's scrambling, 0 to 1023."),
    "port": COUNT.of("DMRS port, 0 to 3."),
}
SLOT = partial(
    {
        "n_prb": COUNT.of("Resource blocks of the allocation, 1 to 273."),
        "first_prb": COUNT.of("Its first one, within the carrier."),
        "mapping_type": TEXT.of("A, of TS 38.211 clause 6.4.1.1.3; B is not received."),
        "n_symbols": COUNT.of("Its symbols from the slot's first on, 4 to 14."),
        "dmrs": INDICES.of("Symbols with DMRS, of TS 38.211 table 6.4.1.1.3-3."),
        "cdm_groups": COUNT.of("CDM groups without data, 1 or 2."),
        "dmrs_n_id": COUNT.of("Identity of the DMRS' scrambling, 0 to 65535."),
        "n_scid": COUNT.of("n_SCID of the DMRS' scrambling, 0 or 1."),
        "users": several(table(partial(USER)), "a list of one or two users", 1).of(
            "One, or two on the same resource blocks, each with a layer."
        ),
        "limited_buffer": COUNT.of("TBS_LBRM of TS 38.212 clause 5.4.2.1 in bits; 0: none."),
        "carrier_prb": COUNT.or_null("Resource blocks of the carrier; null: to the allocation."),
        "scs_khz": COUNT.of("Subcarrier spacing, 15, 30 or 60 kHz."),
        "fft_size": COUNT.or_null(
            "Samples of a symbol; null: the smallest power of two with 15 % of guard band."
        ),
        "equal_prefixes": FLAG.of("Without the longer prefixes of TS 38.211 clause 5.3.1."),
        "phase_compensation_hz": NUMBER.or_null("f0 of TS 38.211 clause 5.4; null: none."),
        "slot_number": COUNT.or_null("Slot in the frame; null: slot index counts through it."),
    }
)


def _plain(value):
    """NumPy's numbers and arrays, and tuples, as JSON has them."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _check_fields(described, fields: Mapping[str, Field]) -> None:
    for key, field in fields.items():
        value = _plain(getattr(described, key))
        check_value(value, field, key)
        object.__setattr__(described, key, value)


@dataclass(frozen=True)
class User:
    """Who sends a layer, and what it carries.

    modulation: a key of MODULATIONS; None: the MCS's, or 16QAM. mcs: index into mcs_table (TS
    38.214 tables 5.1.3.1-1 to -3), from which modulation and code_rate follow; None: they say it
    themselves. code_rate: the target; None: the MCS's, or the slot carries bits, no transport
    block. tbs: bits of the transport block; None: those of TS 38.214 clause 6.1.4.2. rnti and n_id:
    of the data's scrambling. port: of the DMRS.

    Raises ValueError where a value is out of range, of another type, or not the MCS's.
    """

    modulation: str | None = None
    mcs: int | None = None
    mcs_table: int = 1
    code_rate: float | None = None
    tbs: int | None = None
    rnti: int = 1
    n_id: int = 1
    port: int = 0

    def __post_init__(self):
        _check_fields(self, USER)
        if self.mcs is not None:
            self._follow_mcs()
        elif self.modulation is None:
            object.__setattr__(self, "modulation", "16QAM")
        check_one_of("modulation", self.modulation, MODULATIONS)
        if self.code_rate is not None and not 0 < self.code_rate < 1:
            raise ValueError(f"code_rate must be above 0 and below 1, got {self.code_rate}")
        if self.tbs is not None:
            check_range("tbs", self.tbs, 24, 1 << 21, "bits")
            if self.tbs % 8:
                raise ValueError(f"tbs must be whole bytes of 8 bits, got {self.tbs}")
        check_range("rnti", self.rnti, 0, 65535)
        check_range("n_id", self.n_id, 0, 1023)
        check_range("port", self.port, 0, 3)

    def _follow_mcs(self):
        of_mcs = zip(("modulation", "code_rate"), mcs(self.mcs_table, self.mcs), strict=True)
        for key, value in of_mcs:
            given = getattr(self, key)
            if given not in (None, value):
                raise ValueError(
                    f"{key} must be {value}, of MCS {self.mcs} of table {self.mcs_table}, or left "
                    f"out, got {given}"
                )
            object.__setattr__(self, key, value)

    @property
    def bits_per_symbol(self) -> int:
        return MODULATIONS[self.modulation]


@dataclass(frozen=True)
class SlotConfig:
    """The parameters that both ends of a link must agree on.

    Allocation: n_prb resource blocks from first_prb on, in the first n_symbols of the slot's 14
    symbols. mapping_type: A, the one that is received. dmrs: the symbols with pilots, one to four,
    as dmrs_symbols() gives them. cdm_groups: without data, 1 (data between the pilots) or 2 (none,
    and pilots of twice the power). dmrs_n_id, n_scid: of the pilots' scrambling. users: one, or two
    on DMRS ports 0 and 1 (one CDM group) or 0 and 2 (two). limited_buffer: bits of the largest
    transport block that receivers have buffers for (TBS_LBRM of TS 38.212 clause 5.4.2.1), no less
    than a user's; 0: not limited.

    Carrier: carrier_prb resource blocks, None where the allocation ends the carrier; scs_khz of 15,
    30 or 60; fft_size, None for the smallest power of two that leaves 15 % of its bins as guard
    band. equal_prefixes: without the longer cyclic prefixes that begin each half of a subframe (TS
    38.211 clause 5.3.1). phase_compensation_hz: f0 of TS 38.211 clause 5.4; None: not compensated.
    slot_number: in the frame, or None to count slot_index through it.

    Raises ValueError where a value is out of range, of another type, or does not fit the others.
    """

    n_prb: int = 26
    first_prb: int = 0
    mapping_type: str = "A"
    n_symbols: int = N_SYMBOLS
    dmrs: tuple[int, ...] = (2, 11)
    cdm_groups: int = 1
    dmrs_n_id: int = 1
    n_scid: int = 0
    users: tuple[User, ...] = (User(),)
    limited_buffer: int = 0
    carrier_prb: int | None = None
    scs_khz: int = 15
    fft_size: int | None = None
    equal_prefixes: bool = False
    phase_compensation_hz: float | None = None
    slot_number: int | None = 0

    def __post_init__(self):
        _check_fields(self, {key: field for key, field in SLOT.items() if key != "users"})
        object.__setattr__(self, "dmrs", tuple(sorted(self.dmrs)))
        if not isinstance(self.users, list | tuple) or not all(
            isinstance(user, User) for user in self.users
        ):
            raise ValueError(f"users must be a list of Users, got {self.users!r:.80}")
        object.__setattr__(self, "users", tuple(self.users))
        check_range("n_prb", self.n_prb, 1, 273, "PRB")
        check_range("first_prb", self.first_prb, 0, 274)
        end = self.first_prb + self.n_prb
        if self.carrier_prb is None:
            object.__setattr__(self, "carrier_prb", end)
        check_range("carrier_prb", self.carrier_prb, 1, 275, "PRB")
        if end > self.carrier_prb:
            raise ValueError(
                f"an allocation must end inside its carrier of {self.carrier_prb} PRB, got PRB "
                f"{self.first_prb} to {end - 1}"
            )
        if self.mapping_type != "A":
            raise ValueError(
                "mapping_type must be A, the one that is received (TS 38.211 clause 6.4.1.1.3), "
                f"got {self.mapping_type!r:.80}"
            )
        check_range("n_symbols", self.n_symbols, 4, N_SYMBOLS)
        self._check_dmrs()
        self._check_users()
        check_range("dmrs_n_id", self.dmrs_n_id, 0, 65535)
        check_one_of("n_scid", self.n_scid, (0, 1))
        self._check_limited_buffer()
        check_one_of("scs_khz", self.scs_khz, (15, 30, 60))
        if self.fft_size is None:
            size = 1 << int(np.ceil(np.log2(max(12 * self.carrier_prb / 0.85, 128))))
            object.__setattr__(self, "fft_size", size)
        if self.fft_size % 128 or not 12 * self.carrier_prb <= self.fft_size <= 8192:
            raise ValueError(
                f"fft_size must be a multiple of 128 that holds {12 * self.carrier_prb} "
                f"subcarriers, up to 8192, got {self.fft_size}"
            )
        if self.phase_compensation_hz is not None:
            check_range("phase_compensation_hz", self.phase_compensation_hz, 0, 1e11, "Hz")
        if self.slot_number is not None:
            check_range("slot_number", self.slot_number, 0, self.slots_per_frame - 1)

    def _check_dmrs(self):
        legal = legal_dmrs(self.n_symbols)
        if self.dmrs not in legal:
            raise ValueError(
                f"dmrs of {self.n_symbols} symbols must be one of "
                f"{', '.join(map(str, map(list, legal)))}, got {list(self.dmrs)!r:.80}"
            )
        check_one_of("cdm_groups", self.cdm_groups, (1, 2))

    def _check_users(self):
        ports = tuple(user.port for user in self.users)
        known = {1: [(0,), (1,), (0, 1)], 2: [(0,), (1,), (2,), (3,), (0, 1), (0, 2)]}
        if ports not in known[self.cdm_groups]:
            raise ValueError(
                f"DMRS ports of one or two users with {self.cdm_groups} CDM group"
                f"{'s' if self.cdm_groups > 1 else ''} without data must be one of "
                f"{', '.join(map(str, map(list, known[self.cdm_groups])))}, got {list(ports)}"
            )

    def _check_limited_buffer(self):
        check_range("limited_buffer", self.limited_buffer, 0, 1 << 21, "bits")
        for layer, user in enumerate(self.users):
            if not self.limited_buffer or user.code_rate is None:
                continue
            size = self.transport_block_size(layer)
            if size > self.limited_buffer:
                raise ValueError(
                    "limited_buffer must be 0 (not limited) or hold the user's block of "
                    f"{size} bits, got {self.limited_buffer}"
                )

    # The allocation

    @property
    def n_layers(self) -> int:
        return len(self.users)

    @property
    def n_sc(self) -> int:
        """Subcarriers of the allocation."""
        return 12 * self.n_prb

    @property
    def modulation(self) -> str:
        """The first user's."""
        return self.users[0].modulation

    @property
    def bits_per_symbol(self) -> int:
        """The first user's."""
        return self.users[0].bits_per_symbol

    @cached_property
    def data_mask(self) -> np.ndarray:
        """bool [n_symbols, n_sc], true where data sits."""
        mask = np.ones((self.n_symbols, self.n_sc), bool)
        mask[list(self.dmrs)] = False
        if self.cdm_groups == 1:
            mask[list(self.dmrs), 1::2] = True
        return mask

    def pilot_mask(self, layer: int = 0) -> np.ndarray:
        """bool [n_symbols, n_sc], true where a layer's pilots sit."""
        mask = np.zeros((self.n_symbols, self.n_sc), bool)
        mask[list(self.dmrs), self.user(layer).port // 2 :: 2] = True
        return mask

    @property
    def n_data_re(self) -> int:
        """Of a layer."""
        return self.n_sc * self.n_symbols - 6 * self.cdm_groups * len(self.dmrs) * self.n_prb

    @property
    def n_bits(self) -> int:
        """Data bits of one slot, of the first user."""
        return self.n_data_re * self.bits_per_symbol

    def transport_block_size(self, layer: int = 0) -> int:
        """Bits. Raises ValueError where the user's code rate is not known."""
        user = self.user(layer)
        if user.tbs is not None:
            return user.tbs
        if user.code_rate is None:
            raise ValueError("a transport block needs an MCS or a code rate, got neither")
        data_re = self.n_data_re // self.n_prb
        return transport_block_size(self.n_prb, data_re, user.modulation, user.code_rate)

    def user(self, layer: int) -> User:
        """Who sends a layer. Raises ValueError where there is no such layer."""
        check_whole("layer", layer, 0, self.n_layers - 1)
        return self.users[layer]

    def alone(self, layer: int) -> "SlotConfig":
        """What one of the users sends."""
        return replace(self, users=(self.user(layer),))

    def with_user(self, **changes) -> "SlotConfig":
        """The same with changed parameters of its first user; an MCS says modulation and code rate
        anew.
        """
        if changes.get("mcs") is not None:
            changes = {"modulation": None, "code_rate": None} | changes
        return replace(self, users=(replace(self.users[0], **changes), *self.users[1:]))

    def with_n_prb(self, n_prb: int) -> "SlotConfig":
        """The same with an allocation of other size. A carrier that is as SlotConfig makes it of
        the allocation, or too small, is made anew; another one stays.
        """
        anew = {"carrier_prb": None, "fft_size": None}
        fits = self.first_prb + n_prb <= self.carrier_prb
        keeps = fits and self != replace(self, **anew)
        return replace(self, n_prb=n_prb, **{} if keeps else anew)

    # The carrier

    @property
    def slots_per_frame(self) -> int:
        return self.scs_khz * 10 // 15

    @property
    def slot_s(self) -> float:
        """Seconds (TS 38.211 clause 4.3.2)."""
        return 15e-3 / self.scs_khz

    @property
    def sample_rate(self) -> float:
        """Samples per second."""
        return self.scs_khz * 1e3 * self.fft_size

    @property
    def carriers(self) -> np.ndarray:
        """FFT bin of each of the allocation's subcarriers relative to DC, int [n_sc]."""
        return np.arange(self.n_sc) + 12 * self.first_prb - 6 * self.carrier_prb

    @property
    def bins(self) -> slice:
        """Where they are among the bins of an FFT with DC in the middle."""
        first = self.fft_size // 2 + 12 * self.first_prb - 6 * self.carrier_prb
        return slice(first, first + self.n_sc)

    def slot_in_frame(self, slot_index: int) -> int:
        return slot_index % self.slots_per_frame if self.slot_number is None else self.slot_number

    @cached_property
    def cp_pattern(self) -> tuple[tuple[int, ...], ...]:
        """cp_lengths of slots 0, 1, .., over and over: of one slot, or of two where the slots of 60
        kHz are counted through the frame, every second of which begins half a subframe.
        """
        slots = range(max(1, self.scs_khz // 30))
        return tuple(dict.fromkeys(self._cp_lengths(self.slot_in_frame(i)) for i in slots))

    def _cp_lengths(self, slot_in_frame: int) -> tuple[int, ...]:
        short = 9 * self.fft_size // 128
        half_subframe = 7 * self.scs_khz // 15  # symbols
        first = N_SYMBOLS * slot_in_frame
        long = short + self.fft_size * self.scs_khz // (128 * 15)
        return tuple(
            short if self.equal_prefixes or (first + symbol) % half_subframe else long
            for symbol in range(N_SYMBOLS)
        )

    def cp_lengths(self, slot_index: int = 0) -> tuple[int, ...]:
        """Cyclic prefix of each of a slot's 14 symbols, in samples."""
        return self.cp_pattern[slot_index % len(self.cp_pattern)]

    def n_samples(self, slot_index: int = 0, n_slots: int = 1) -> int:
        """Samples of slots from this one on, cyclic prefixes included."""
        pattern = self.cp_pattern
        times, rest = divmod(n_slots, len(pattern))
        some = sum(sum(pattern[(slot_index + i) % len(pattern)]) for i in range(rest))
        return n_slots * N_SYMBOLS * self.fft_size + times * sum(map(sum, pattern)) + some

    def phase_compensation(self, slot_index: int = 0) -> np.ndarray:
        """Factor of each of a slot's 14 symbols at the transmitter, complex64 [14], ones where
        there is none; the receiver's is its conjugate (TS 38.211 clause 5.4).
        """
        if self.phase_compensation_hz is None:
            return np.ones(N_SYMBOLS, np.complex64)
        in_subframe = self.slot_in_frame(slot_index) % (self.scs_khz // 15)
        start = sum(
            N_SYMBOLS * self.fft_size + sum(self._cp_lengths(slot)) for slot in range(in_subframe)
        )
        prefixes = np.array(self.cp_lengths(slot_index))
        useful = start + np.cumsum(prefixes) + self.fft_size * np.arange(N_SYMBOLS)
        turns = self.phase_compensation_hz * useful / self.sample_rate
        return np.exp(-2j * np.pi * (turns % 1)).astype(np.complex64)

    # What is sent

    def pilots(self, slot_index: int = 0) -> np.ndarray:
        """DMRS of a slot, complex64 [n_layers, n_symbols, n_sc], zero elsewhere (TS 38.211 clause
        6.4.1.1). The sequence is counted from the carrier's first PRB.
        """
        grid = np.zeros((self.n_layers, self.n_symbols, self.n_sc), np.complex64)
        n_slot = self.slot_in_frame(slot_index)
        first, end = (12 * prb for prb in (self.first_prb, self.first_prb + self.n_prb))
        amplitude = np.float32(np.sqrt(self.cdm_groups))
        for symbol in self.dmrs:
            c_init = (
                ((N_SYMBOLS * n_slot + symbol + 1) * (2 * self.dmrs_n_id + 1) << 17)
                + 2 * self.dmrs_n_id
                + self.n_scid
            )
            sequence = amplitude * modulate(gold(c_init % (1 << 31), end)[first:], "QPSK")
            for layer, user in enumerate(self.users):
                row = grid[layer, symbol, user.port // 2 :: 2]
                row[:] = sequence
                if user.port % 2:
                    row[1::2] *= -1
        return grid

    def bits(self, seed: int, slot_index: int, layer: int = 0) -> np.ndarray:
        """A user's data bits of a slot, uint8: a Gold sequence whose 31-bit c_init hashes (seed,
        slot_index, port).
        """
        length = self.n_data_re * self.user(layer).bits_per_symbol
        return gold(self._c_init(seed, slot_index, layer), length)

    def block(self, seed: int, slot_index: int, layer: int = 0) -> bytes:
        """A user's transport block of a slot, where it is not bits(): as many bits of the same
        sequence. Raises ValueError where the user has none.
        """
        sequence = gold(self._c_init(seed, slot_index, layer), self.transport_block_size(layer))
        return np.packbits(sequence).tobytes()

    def _c_init(self, seed: int, slot_index: int, layer: int) -> int:
        key = _splitmix64(_splitmix64(seed & _MASK64) ^ slot_index)
        if port := self.user(layer).port:
            key = _splitmix64(key ^ port)
        return key & 0x7FFFFFFF

    def grid(self, bits: np.ndarray, slot_index: int = 0, layer: int = 0) -> np.ndarray:
        """A user's resource grid, complex64 [n_symbols, n_sc]: data fills REs symbol by symbol,
        subcarriers ascending.
        """
        user = self.user(layer)
        n_bits = self.n_data_re * user.bits_per_symbol
        if np.shape(bits) != (n_bits,):
            raise ValueError(
                f"a slot carries {n_bits} bits, got an array of shape {np.shape(bits)}"
            )
        grid = self.pilots(slot_index)[layer]
        grid[self.data_mask] = modulate(bits, user.modulation)
        return grid

    # As JSON

    def as_dict(self) -> dict:
        """Of what JSON has; from_dict() reads it."""
        return asdict(self) | {"dmrs": list(self.dmrs), "users": [asdict(u) for u in self.users]}

    @classmethod
    def from_dict(cls, values: dict, where: str = "slot") -> "SlotConfig":
        """What is missing is as SlotConfig() has it. Raises ValueError with one line where anything
        else is there than a slot's parameters.
        """
        check(values, SLOT, where)
        for given, known in ((values, cls), *((u, User) for u in values.get("users", ()))):
            if unknown := set(given) - {f.name for f in fields(known)}:
                raise ValueError(f"{where}: no parameter of a slot is called {min(unknown)!r:.80}")
        try:
            users = tuple(User(**user) for user in values.get("users", [{}]))
            return cls(**values | {"users": users})
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


SLOTS = {
    "default": SlotConfig(),
    "gnb": SlotConfig(
        n_prb=51,
        dmrs=(2, 7, 11),
        cdm_groups=2,
        users=(User(rnti=0x4601),),
        limited_buffer=8 * 159_749,
        scs_khz=30,
        fft_size=768,
        slot_number=None,
    ),
}  # the loopback's, and what an open gNB schedules by default on 20 MHz
