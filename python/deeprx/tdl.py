# SPDX-License-Identifier: GPL-3.0-or-later
"""Tapped delay line fading of TR 38.901 clause 7.7.2, in the time domain."""

import numpy as np

# (delay in units of the rms delay spread, power in dB), tables 7.7.2-1 to 7.7.2-5.
# The first tap of TDL-D and TDL-E is the line of sight; all others are Rayleigh.
PROFILES = {
    "TDL-A": (
        (0.0, -13.4), (0.3819, 0.0), (0.4025, -2.2), (0.5868, -4.0), (0.461, -6.0),
        (0.5375, -8.2), (0.6708, -9.9), (0.575, -10.5), (0.7618, -7.5), (1.5375, -15.9),
        (1.8978, -6.6), (2.2242, -16.7), (2.1718, -12.4), (2.4942, -15.2), (2.5119, -10.8),
        (3.0582, -11.3), (4.081, -12.7), (4.4579, -16.2), (4.5695, -18.3), (4.7966, -18.9),
        (5.0066, -16.6), (5.3043, -19.9), (9.6586, -29.7),
    ),
    "TDL-B": (
        (0.0, 0.0), (0.1072, -2.2), (0.2155, -4.0), (0.2095, -3.2), (0.287, -9.8),
        (0.2986, -1.2), (0.3752, -3.4), (0.5055, -5.2), (0.3681, -7.6), (0.3697, -3.0),
        (0.57, -8.9), (0.5283, -9.0), (1.1021, -4.8), (1.2756, -5.7), (1.5474, -7.5),
        (1.7842, -1.9), (2.0169, -7.6), (2.8294, -12.2), (3.0219, -9.8), (3.6187, -11.4),
        (4.1067, -14.9), (4.279, -9.2), (4.7834, -11.3),
    ),
    "TDL-C": (
        (0.0, -4.4), (0.2099, -1.2), (0.2219, -3.5), (0.2329, -5.2), (0.2176, -2.5),
        (0.6366, 0.0), (0.6448, -2.2), (0.656, -3.9), (0.6584, -7.4), (0.7935, -7.1),
        (0.8213, -10.7), (0.9336, -11.1), (1.2285, -5.1), (1.3083, -6.8), (2.1704, -8.7),
        (2.7105, -13.2), (4.2589, -13.9), (4.6003, -13.9), (5.4902, -15.8), (5.6077, -17.1),
        (6.3065, -16.0), (6.6374, -15.7), (7.0427, -21.6), (8.6523, -22.8),
    ),
    "TDL-D": (
        (0.0, -0.2), (0.0, -13.5), (0.035, -18.8), (0.612, -21.0), (1.363, -22.8),
        (1.405, -17.9), (1.804, -20.1), (2.596, -21.9), (1.775, -22.9), (4.042, -27.8),
        (7.937, -23.6), (9.424, -24.8), (9.708, -30.0), (12.525, -27.7),
    ),
    "TDL-E": (
        (0.0, -0.03), (0.0, -22.03), (0.5133, -15.8), (0.544, -18.1), (0.563, -19.8),
        (0.544, -22.9), (0.7112, -22.4), (1.9092, -18.6), (1.9293, -20.8), (1.9589, -22.6),
        (2.6426, -22.3), (3.7136, -25.6), (5.4524, -20.2), (12.0034, -29.8), (20.6519, -29.2),
    ),
}  # fmt: skip
LINE_OF_SIGHT = ("TDL-D", "TDL-E")
LOS_DOPPLER = 0.7  # of the maximum Doppler shift, clause 7.7.2

INTERPOLATOR_DELAY = 5  # samples, see fractional_delays
_BAND = 0.4  # half of the band, in units of the sample rate, in which the delays are accurate


def profile_taps(profile: str) -> tuple[np.ndarray, np.ndarray]:
    """Delays in units of the delay spread, and linear powers that sum to 1, float64 [n_taps] each.

    Raises ValueError for an unknown profile.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    delays, powers_db = np.array(PROFILES[profile]).T
    powers = 10 ** (powers_db / 10)
    return delays, powers / powers.sum()


def fractional_delays(delays: np.ndarray) -> np.ndarray:
    """FIR filters that delay by ``INTERPOLATOR_DELAY + delays[i]`` samples, float64 [length, n].

    Least squares over +-0.4 of the sample rate: mean error -42 dB at worst, -70 dB within the
    +-0.305 that 26 PRB occupy of FFT 512.
    """
    n = np.arange(int(np.ceil(delays.max())) + 2 * INTERPOLATOR_DELAY + 1)[:, None]
    gram = 2 * _BAND * np.sinc(2 * _BAND * (n - n.T))
    taps = np.zeros((len(n), len(delays)))
    for i, delay in enumerate(delays):
        support = slice(int(delay), int(delay) + 2 * INTERPOLATOR_DELAY + 1)
        wanted = 2 * _BAND * np.sinc(2 * _BAND * (n[support, 0] - INTERPOLATOR_DELAY - delay))
        ridge = 1e-6 * np.eye(2 * INTERPOLATOR_DELAY + 1)  # keeps the gain outside the band near 1
        taps[support, i] = np.linalg.solve(gram[support, support] + ridge, wanted)
    return taps


def _radians(cycles: np.ndarray) -> np.ndarray:
    return (2 * np.pi * (cycles - np.floor(cycles))).astype(np.float32)


class TdlFading:
    """One transmitter's fading channels to n_rx uncorrelated antennas; a plain class, no flowgraph.

    Each Rayleigh tap is a sum of sinusoids at angles spread evenly around the circle from a random
    start, with random phases: its autocorrelation is J0(2 pi doppler_hz t) and it is stationary
    from the first sample. Draws differ for every (seed, link, draw), antenna and tap. E|h|^2 = 1
    over draws, on every subcarrier.

    Delays the signal by ``INTERPOLATOR_DELAY`` samples plus the profile's own delays.
    """

    def __init__(
        self,
        profile: str,
        n_rx: int,
        delay_spread_s: float,
        doppler_hz: float,
        sample_rate: float,
        seed: int,
        link: int = 0,
        n_sinusoids: int = 20,
    ):
        for name, value, low in (
            ("delay_spread_s", delay_spread_s, 0),
            ("doppler_hz", doppler_hz, 0),
            ("n_rx", n_rx, 1),
            ("n_sinusoids", n_sinusoids, 4),
            ("seed", seed, 0),
        ):
            if not low <= value < np.inf:
                raise ValueError(f"{name} must be at least {low}, got {value}")
        if not 0 < sample_rate < np.inf:
            raise ValueError(f"sample_rate must be above 0 samples/s, got {sample_rate}")
        if doppler_hz > sample_rate / 64:
            raise ValueError(
                f"doppler_hz must be at most sample_rate / 64 = {sample_rate / 64:g}, "
                f"got {doppler_hz:g}"
            )
        delays, powers = profile_taps(profile)
        self._amplitudes = np.sqrt(powers)
        self._los = profile in LINE_OF_SIGHT
        self._filters = fractional_delays(delays * delay_spread_s * sample_rate)
        self._n_rx = n_rx
        self._n_sinusoids = n_sinusoids
        self._doppler = doppler_hz / sample_rate  # cycles per sample
        # Taps are computed at knots and interpolated linearly: error (2 pi fd step)^2 / 8 < -80 dB
        step = np.sqrt(8e-4) / (2 * np.pi * self._doppler) if doppler_hz else np.inf
        self._step = int(np.clip(step, 1, 512))
        self._seed, self._link = seed, link
        self._history = np.zeros(len(self._filters) - 1, np.complex64)
        self.redraw(0)

    @property
    def length(self) -> int:
        """Taps of the sample-spaced impulse response."""
        return len(self._filters)

    def redraw(self, draw: int) -> None:
        """Take new, independent fading; the signal's last samples still ring through."""
        rng = np.random.default_rng((self._seed, self._link, draw))
        n_taps = len(self._amplitudes)
        shape = (self._n_rx, n_taps, self._n_sinusoids)
        angles = 2 * np.pi * (np.arange(self._n_sinusoids) + rng.random((self._n_rx, n_taps, 1)))
        self._shifts = self._doppler * np.cos(angles / self._n_sinusoids)
        self._phases = rng.random(shape)
        self._time = 0

    def taps(self, times: np.ndarray) -> np.ndarray:
        """Gains of the profile's taps at sample times since the draw, [time, n_rx, n_taps]."""
        radians = _radians(self._shifts * times[:, None, None, None] + self._phases)
        gains = np.empty(radians.shape[:3], np.complex64)
        scale = (self._amplitudes * self._n_sinusoids**-0.5).astype(np.float32)
        gains.real = np.cos(radians).sum(-1) * scale
        gains.imag = np.sin(radians).sum(-1) * scale
        if self._los:
            shift = LOS_DOPPLER * self._doppler
            radians = _radians(shift * times[:, None] + self._phases[:, 0, 0])
            gains[..., 0] = self._amplitudes[0] * (np.cos(radians) + 1j * np.sin(radians))
        return gains

    def process(self, samples: np.ndarray) -> np.ndarray:
        """Fade the next samples: complex64 [n] to complex64 [n_rx, n], whatever the block sizes."""
        n, step, length = len(samples), self._step, self.length
        before = self._time % step
        knots = np.arange(self._time - before, self._time + n + step, step)
        response = self.taps(knots.astype(float)) @ self._filters.T.astype(np.float32)
        slopes = np.diff(response, axis=0) / step
        kernels = np.concatenate((response[:-1], slopes), 1)[..., ::-1]  # [block, 2 n_rx, length]

        signal = np.concatenate((self._history, samples))
        padded = np.zeros(len(kernels) * step + length - 1, np.complex64)
        padded[before : before + len(signal)] = signal
        windows = np.lib.stride_tricks.sliding_window_view(padded, length)
        out = windows.reshape(-1, step, length) @ kernels.transpose(0, 2, 1)
        ramp = np.arange(step, dtype=np.float32)[:, None]
        faded = out[..., : self._n_rx] + ramp * out[..., self._n_rx :]

        self._history = signal[n:]
        self._time += n
        return faded.reshape(-1, self._n_rx)[before : before + n].T
