# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds slots in received samples by their preamble; a plain class, no flowgraph."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deeprx_common.slot import SlotConfig

from .preamble import N_SYMBOLS as PREAMBLE_SYMBOLS
from .preamble import Preamble, preamble_samples

_CARRY_SLOTS = 50  # a lock survives so many slots without a visible preamble
_CFO_DECAY = 1 - 1 / 32  # per slot, of the sums behind the frequency estimate
_PROFILE_DECAY = 1 - 1 / 16  # and of the average delay profile
# The squared correlation of independent noise exceeds x / n with probability exp(-x), n being the
# number of products in it
_SEEN, _CANDIDATE = 12.5, 20.0
_CLEAR = 16.0  # a peak of the matched filter that noise does not reach, over the filter's mean
_MAX_AMPLITUDE = 1e12  # samples beyond are set to zero, as NaN and Inf are
_TINY = np.finfo(float).tiny  # divides zero by something
_CFO_STEPS = 3  # each way, of two subcarrier spacings, which equal halves cannot tell
MAX_CFO_SPACINGS = 2 * _CFO_STEPS + 1


@dataclass(frozen=True)
class Slot:
    """One slot, cut out of the stream.

    symbols: complex64 [n_rx, 14, fft_size], time samples without cyclic prefix, CFO corrected.
    start: stream position of its training symbol's FFT window. cfo_hz: what was corrected.
    seen: whether its own preamble was visible; otherwise the lock carried it.
    """

    slot_index: int
    symbols: np.ndarray
    start: int
    cfo_hz: float
    seen: bool


class Synchroniser:
    """Recovers slot timing, carrier frequency offset and slot index, for all antennas together.

    Search: Schmidl and Cox correlation of the band-filtered antennas, summed over them; its
    highest point within one slot period is a candidate, and becomes the lock where the header's
    CRC holds; with two CDM groups without data, whose DMRS have equal halves too, the next highest
    ones are tried as well. Tracking: slots are periodic, so the next one is expected one period on
    and is cut out even when a fade hides its preamble. Timing follows the average delay profile,
    the CFO an average over training symbols and cyclic prefixes. A preamble that is not where it is
    expected starts a search over what came since the last one, and one whose delays lie beyond half
    a cyclic prefix a look at where a matched filter sees it: lost or repeated samples cost the slot
    they fall into, not the lock. A lock without a visible preamble for 50 slots is given up.

    FFT windows start max(2, CP/8) samples ahead of the mean delay, which leaves a linear phase
    over frequency; each slot keeps a constant phase of its own. The CFO must be within seven
    subcarrier spacings, +-105 kHz of 15 kHz slots. The header carries 32 bits of the slot index:
    first_slot is about the first one, and later ones continue it.

    Counters: slots (returned), carried (of these, without a visible preamble), missed (gaps
    in the slot index), false_locks (searches with candidates, none of whose headers held), locks,
    slips (times that the slots moved without a word from the source), bad_samples (NaN, Inf or
    beyond 1e12, set to zero).
    """

    def __init__(self, config: SlotConfig, n_rx: int, first_slot: int = 0):
        self.config = config
        self.n_rx = n_rx
        self._preamble = Preamble(config)
        n, cp = config.fft_size, min(config.cp_lengths())
        self._n, self._cp = n, cp
        self.backoff = max(2, cp // 8)
        # FFT windows of preamble and slot, relative to the first: each symbol's prefix precedes it
        self._windows = [
            np.cumsum([0, n + cp, *(n + np.array(prefixes))]) for prefixes in config.cp_pattern
        ]
        self._header = n + cp  # the header's window
        self.period = max(self._period(i) for i in range(len(self._windows)))
        self._bins = config.carriers % n
        training = np.zeros(n, np.complex64)
        training[self._bins] = self._preamble.training
        self._training = np.fft.ifft(training)
        self._half_bins = config.carriers[::2] // 2 % (n // 2)
        # With nothing on every second subcarrier they look like the training symbol
        self._likenesses = len(config.dmrs) if config.cdm_groups == 2 else 0
        self._products = config.n_sc // 2 * n_rx  # independent ones in half a training symbol

        self._samples = np.zeros((n_rx, 0), np.complex64)
        self._base = 0  # stream position of _samples[:, 0]
        self._search_from = 0
        self._expected: int | None = None  # stream position of the next training symbol's window
        self._next_index = first_slot
        self._last_index: int | None = None
        self._fresh = False  # locked, not yet tracked
        self._jump: int | None = None  # from the expected to the received index, once
        self._unseen = 0
        self.cfo_hz = 0.0
        self._half_sum = self._prefix_sum = 0j
        self._profile = np.zeros(n // 2)
        self.slots = self.carried = self.missed = self.false_locks = self.locks = 0
        self.slips = self.bad_samples = 0

    @property
    def needed(self) -> int:
        """Samples still to push before next() can do anything."""
        if self._expected is None:
            end = self._search_from + self.period
        else:
            end = self._expected + self._length(self._coming)
        return max(0, int(end) - self._end)

    def push(self, samples: np.ndarray) -> None:
        """Append received samples, complex64 [n_rx, n]."""
        good = np.abs(samples) < _MAX_AMPLITUDE
        if not good.all():
            self.bad_samples += int(good.size - np.count_nonzero(good))
            samples = np.where(good, samples, 0)
        # One period behind the present point is kept: a search may have to look back
        point = self._search_from if self._expected is None else self._expected
        keep = max(self._base, point - self.period - self._n)
        self._samples = np.concatenate((self._samples[:, keep - self._base :], samples), axis=1)
        self._base = keep

    def next(self) -> Slot | None:
        """The next slot, or None where it takes more samples."""
        while not self.needed:
            if self._expected is None:
                start, stop = self._search_from, self._search_from + self.period
                self._search_from = stop - self._header - self._n
                if candidate := self._search(start, stop):
                    self._lock(*candidate)
            elif slot := self._track():
                return slot
        return None

    def restart(self) -> None:
        """Samples are missing between those pushed so far and the next: nothing spans them."""
        self._base = self._search_from = self._end
        self._samples = self._samples[:, :0]
        self._expected = None

    def statistics(self) -> dict:
        """The counters and the present frequency estimate in Hz."""
        names = ("slots", "carried", "missed", "locks", "false_locks", "slips", "bad_samples")
        return {name: getattr(self, name) for name in (*names, "cfo_hz")}

    @property
    def _coming(self) -> int:
        """Index of the next slot, as the last header had it."""
        return self._next_index + (self._jump or 0)

    def _windows_of(self, slot_index: int) -> np.ndarray:
        return self._windows[slot_index % len(self._windows)]

    def _length(self, slot_index: int) -> int:
        """Samples that a slot's windows, its preamble's first, reach over. The last ones come from
        their symbol's prefix: a delayed stream may end without them.
        """
        return self._windows_of(slot_index)[-1] + self._n - self.backoff

    def _period(self, slot_index: int) -> int:
        """Samples from a slot to the next."""
        return preamble_samples(self.config) + self.config.n_samples(slot_index)

    @property
    def _end(self) -> int:
        return self._base + self._samples.shape[1]

    def _cut(self, start: int, stop: int) -> np.ndarray:
        return self._samples[:, max(0, start - self._base) : stop - self._base]

    def _search(self, start: int, stop: int) -> tuple[int, float, int] | None:
        """Position, CFO and header of the best preamble in [start, stop), None without any."""
        start = max(start, self._base)
        last = stop - self._header - self._n  # training and header must be complete
        tried = False
        for position, cfo_hz, correlation in self._correlate(start, stop, last - start + 1):
            if correlation**2 * self._products < _CANDIDATE:
                break
            tried = True
            if preamble := self._decoded(position, cfo_hz, start, last):
                return preamble
        self.false_locks += tried
        return None

    def _decoded(
        self, position: int, cfo_hz: float, start: int, last: int
    ) -> tuple[int, float, int] | None:
        """What _search() returns, of the preamble at about this position, in [start, last]."""
        cfo_hz += self._whole_cfo(position, cfo_hz)
        training = self._spectrum(position, cfo_hz)
        position += self._mean_delay(self._delay_profile(training)) - self.backoff
        position = min(max(position, start), last)
        training = self._spectrum(position, cfo_hz)
        header = self._spectrum(position + self._header, cfo_hz)
        between = cfo_hz * self._header / self.config.sample_rate  # turns, training to header
        index = self._preamble.decode(training, header * np.exp(-2j * np.pi * between))
        return None if index is None else (position, cfo_hz, index)

    def _lock(self, position: int, cfo_hz: float, index: int) -> None:
        self._expected = position
        self._next_index = self._unwrap(index)
        self.cfo_hz = cfo_hz
        self._half_sum = self._prefix_sum = 0j
        self._profile[:] = 0
        self._fresh, self._jump, self._unseen = True, None, 0
        self.locks += 1

    def _unwrap(self, index: int) -> int:
        """The number nearest to the expected one that ends in these 32 bits."""
        wraps = round((self._next_index - index) / (1 << 32))
        return index + (max(0, wraps) << 32)

    def _correlate(self, start: int, stop: int, count: int) -> Iterator[tuple[int, float, float]]:
        """Schmidl and Cox over count positions: middle of a plateau, CFO, correlation, of the
        highest plateau, and then of as many as there are DMRS symbols of equal halves.
        """
        spectrum = np.fft.fft(self._cut(start, stop))
        x = np.fft.ifft(spectrum * self._in_band(spectrum.shape[1]))
        half = self._n // 2
        products = (x[:, :-half].conj() * x[:, half:]).sum(0)
        energy = (x.real**2 + x.imag**2).sum(0)
        products, energy = (np.concatenate(([0], np.cumsum(v))) for v in (products, energy))
        p = products[half : half + count] - products[:count]
        e1 = energy[half : half + count] - energy[:count]
        e2 = energy[2 * half : 2 * half + count] - energy[half : half + count]
        # The filter's ringing into silence correlates well
        floor = 1e-3 * (energy[-1] / len(x[0])) * half or 1.0
        metric = np.abs(p) ** 2 / ((e1 + floor) * (e2 + floor))
        plateau = min(self._cp, count)
        smooth = np.convolve(metric, np.ones(plateau) / plateau, "same")
        for _ in range(1 + self._likenesses):
            peak = int(np.argmax(smooth))
            cfo_hz = np.angle(p[peak]) / np.pi * 1e3 * self.config.scs_khz
            yield start + peak, float(cfo_hz), float(np.sqrt(metric[peak]))
            smooth[max(0, peak - self._n) : peak + self._n] = 0

    def _in_band(self, bins: int) -> np.ndarray:
        """Which bins of a spectrum the allocation lies in, bool [bins]."""
        first, *_, last = self.config.carriers
        scale = bins / self._n
        band = np.zeros(bins, bool)
        band[np.arange(np.floor(first * scale), np.ceil((last + 1) * scale) + 1, dtype=int)] = True
        return band

    def _whole_cfo(self, position: int, cfo_hz: float) -> float:
        """The multiple of two subcarrier spacings that fits the training symbol's pilots best."""
        window = self._derotate(self._cut(position, position + self._n), cfo_hz)
        spectrum = np.fft.fft(window)
        pilots = self._preamble.pilots.conj()

        def fit(step):  # neighbouring pilots agree, whatever the delay
            channel = spectrum[:, (self._bins[::2] + 2 * step) % self._n] * pilots
            return abs(np.vdot(channel[:, :-1], channel[:, 1:]))

        steps = range(-_CFO_STEPS, _CFO_STEPS + 1)
        return 2e3 * self.config.scs_khz * max(steps, key=fit)

    def _derotate(self, samples: np.ndarray, cfo_hz: float) -> np.ndarray:
        cycles = np.arange(samples.shape[1]) * (cfo_hz / self.config.sample_rate)
        radians = (2 * np.pi * (cycles - np.floor(cycles))).astype(np.float32)
        return samples * (np.cos(radians) - 1j * np.sin(radians))

    def _spectrum(self, position: int, cfo_hz: float) -> np.ndarray:
        """Subcarriers of the symbol whose FFT window starts at position, complex [n_rx, n_sc]."""
        window = self._derotate(self._cut(position, position + self._n), cfo_hz)
        return np.fft.fft(window)[:, self._bins]

    def _delay_profile(self, training: np.ndarray) -> np.ndarray:
        """Power over delay 0..fft_size/2-1 (circular), from the training symbol, float [n / 2]."""
        channel = np.zeros((len(training), self._n // 2), np.complex64)
        taper = np.hanning(training.shape[1] // 2 + 2)[1:-1]
        channel[:, self._half_bins] = training[:, ::2] * self._preamble.pilots.conj() * taper
        return (np.abs(np.fft.ifft(channel)) ** 2).sum(0)

    def _mean_delay(self, profile: np.ndarray) -> int:
        """Mean delay of the power around the strongest path, samples, within +-fft_size / 4."""
        peak = int(np.argmax(profile))
        around = np.arange(-self._cp, self._cp + 1)
        power = profile[(peak + around) % len(profile)]
        power = np.maximum(power - 0.1 * power.max(), 0)
        mean = peak + round(float(around @ power / max(power.sum(), _TINY)))
        quarter = len(profile) // 2
        return (mean + quarter) % len(profile) - quarter

    def _track(self) -> Slot | None:
        """The slot at the expected place; None where the stream shows that it is not there."""
        start, n = self._expected, self._n
        windows, length = self._windows_of(self._coming), self._length(self._coming)
        raw = self._cut(start, start + length)
        samples = self._derotate(raw, self.cfo_hz)
        halves = np.fft.fft(samples[:, :n].reshape(self.n_rx, 2, n // 2))[..., self._half_bins]
        product = np.vdot(halves[:, 0], halves[:, 1])
        energies = np.prod((halves.real**2 + halves.imag**2).sum((0, 2)))
        seen = np.abs(product) ** 2 * self._products > _SEEN * energies

        if not seen and not self._fresh:
            elsewhere = self._search(start - self.period + n, start + length)
            if elsewhere and abs(elsewhere[0] - start) > self._cp:
                self._lock(*elsewhere)
                self.slips += 1
                return None

        shift, holds = 0, True
        if seen:
            self._unseen = 0
            training, header = (
                np.fft.fft(samples[:, w : w + n])[:, self._bins] for w in (0, self._header)
            )
            profile = self._delay_profile(training)
            index = self._preamble.decode(training, header)
            displaced = abs(self._mean_delay(profile) - self.backoff) > self._cp // 2
            if (index is None or displaced) and (displacement := self._displacement(start)):
                self._expected += displacement
                self._profile[:] = 0
                self.slips += 1
                return None
            self._follow_cfo(samples, windows[1:], product / (n // 2))
            shift = self._follow_timing(profile)
            holds = self._check_index(index)
        else:
            self._unseen += 1
        if self._fresh:
            samples = self._derotate(raw, self.cfo_hz)
            self._fresh = False

        self._expected = start + self._period(self._coming) + shift
        index = self._next_index
        self._next_index += 1
        if self._unseen == _CARRY_SLOTS:
            self._expected, self._search_from = None, start + windows[-1]
        if not holds:
            return None
        self.slots += 1
        self.carried += not seen
        if self._last_index is not None:
            self.missed += max(0, index - self._last_index - 1)
        self._last_index = index
        windows = windows[PREAMBLE_SYMBOLS:, None] + np.arange(n)
        windows[-1, -self.backoff :] -= n
        return Slot(index, samples[:, windows].astype(np.complex64), start, self.cfo_hz, seen)

    def _follow_cfo(self, samples: np.ndarray, windows: np.ndarray, half_product: complex) -> None:
        """Add a slot, corrected by cfo_hz, to the sums, and move cfo_hz to where they point.

        windows: of the symbols whose prefixes are looked at.
        """
        n, m = self._n, self._cp // 2  # the later half of a prefix is free of the symbol before
        before = windows[:, None] - self.backoff - np.arange(m, 0, -1)
        self._half_sum = _CFO_DECAY * self._half_sum + half_product
        self._prefix_sum *= _CFO_DECAY
        self._prefix_sum += np.vdot(samples[:, before], samples[:, before + n])
        # least squares over both angles, each with a variance as 1 / |sum|
        half, prefix = self._half_sum, self._prefix_sum
        weight = np.abs(half) * (n / 2) ** 2 + np.abs(prefix) * n**2
        angles = np.abs(half) * np.angle(half) * n / 2 + np.abs(prefix) * np.angle(prefix) * n
        error = angles / max(weight, _TINY)  # radians per sample
        self.cfo_hz += float(error * self.config.sample_rate / (2 * np.pi))
        self._half_sum *= np.exp(-1j * error * n / 2)
        self._prefix_sum *= np.exp(-1j * error * n)

    def _displacement(self, start: int) -> int:
        """Samples from start to where a matched filter clearly sees the training symbol; 0 if here.

        A delay profile repeats itself every half symbol; the filter tells the two apart.
        """
        first = max(start - self._n // 2, self._base)
        samples = self._derotate(self._cut(first, start + self._n // 2 + self._n), self.cfo_hz)
        size = samples.shape[1]
        filtered = np.fft.ifft(np.fft.fft(samples) * np.fft.fft(self._training, size).conj())
        power = (np.abs(filtered[:, : size - self._n + 1]) ** 2).sum(0)
        displacement = first - start - self.backoff + np.arange(len(power))
        here = power[np.abs(displacement) <= self._cp // 2].max()
        peak = int(np.argmax(power))
        if power[peak] < max(2 * here, _CLEAR * power.mean()):
            return 0
        return int(displacement[peak])

    def _follow_timing(self, profile: np.ndarray) -> int:
        """Samples by which the next window moves; none for less than two."""
        self._profile = _PROFILE_DECAY * self._profile + profile
        shift = self._mean_delay(self._profile) - self.backoff
        if abs(shift) < 2:
            return 0
        self._profile = np.roll(self._profile, -shift)
        return shift

    def _check_index(self, index: int | None) -> bool:
        """False where a header contradicts the count; two that agree set the count right."""
        if index is None or index == self._next_index % (1 << 32):
            self._jump = None
        else:
            jump = (index - self._next_index) % (1 << 32)
            if jump != self._jump:
                self._jump = jump
                return False
            self._next_index, self._jump = self._unwrap(index), None
        return True
