# SPDX-License-Identifier: GPL-3.0-or-later
"""Tapped delay line fading of TR 38.901 clause 7.7.2, in the time domain."""

import numpy as np

from deeprx_common.checks import check_above, check_one_of, check_range, check_whole

from ..deeprx_python import tdl_fading

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

INTERPOLATOR_DELAY = 5  # samples, see fractional_delays
_BAND = 0.4  # half of the band, in units of the sample rate, in which the delays are accurate


def profile_taps(profile: str) -> tuple[np.ndarray, np.ndarray]:
    """Delays in units of the delay spread, and linear powers that sum to 1, float64 [n_taps] each.

    Raises ValueError for an unknown profile.
    """
    check_one_of("profile", profile, PROFILES)
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


class TdlFading(tdl_fading):
    """One transmitter's fading channels to n_rx uncorrelated antennas; a plain class, no flowgraph.

    Each Rayleigh tap is a sum of sinusoids at angles spread evenly around the circle from a random
    start, with random phases: its autocorrelation is J0(2 pi doppler_hz t) and it is stationary
    from the first sample. Draws differ for every (seed, link, draw), antenna and tap. E|h|^2 = 1
    over draws, on every subcarrier.

    Delays the signal by ``INTERPOLATOR_DELAY`` samples plus the profile's own delays. filters: of
    each tap, float64 [length, n_taps]. Raises ValueError where a value is out of range.
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
        check_range("delay_spread_s", delay_spread_s, 0, unit="s")
        check_range("doppler_hz", doppler_hz, 0, unit="Hz")
        check_whole("n_rx", n_rx, 1)
        check_whole("n_sinusoids", n_sinusoids, 4)
        check_whole("seed", seed, 0)
        check_above("sample_rate", sample_rate, 0, "samples/s")
        if doppler_hz > sample_rate / 64:
            raise ValueError(
                f"doppler_hz must be at most sample_rate / 64 = {sample_rate / 64:g}, "
                f"got {doppler_hz:g}"
            )
        delays, powers = profile_taps(profile)
        self.filters = fractional_delays(delays * delay_spread_s * sample_rate)
        super().__init__(
            filters=self.filters.T,
            amplitudes=np.sqrt(powers),
            line_of_sight=profile in LINE_OF_SIGHT,
            n_rx=n_rx,
            doppler=doppler_hz / sample_rate,
            seed=seed,
            link=link,
            n_sinusoids=n_sinusoids,
        )
