# SPDX-License-Identifier: GPL-3.0-or-later
"""From a recording's sample rate to that of its slots."""

from fractions import Fraction

from gnuradio import blocks, filter, gr
from gnuradio.filter import firdes

PASSBAND = 0.45  # of the lower sample rate, that is kept; slots occupy up to 0.425
_MOST = 1000  # times as fast as the slots
_LARGEST_TERM = 5000  # of a ratio whose filter is still made quickly
_PHASES, _ATTENUATION_DB = 32, 80.0


def resampling(have: float, need: float) -> list[gr.basic_block]:
    """The blocks that turn have into need samples/s, complex; none where they are the same.

    Exact where the rates have a ratio of small numbers, else within 0.1 ppm. Raises ValueError
    where there are far more samples than slots need.
    """
    if have == need:
        return []
    if have > _MOST * need:
        raise ValueError(f"expected at most {_MOST * need:g} samples/s, found {have:g}")
    ratio = Fraction(need) / Fraction(have)
    if max(ratio.numerator, ratio.denominator) <= _LARGEST_TERM:
        resampler = filter.rational_resampler_ccc(ratio.numerator, ratio.denominator, [], PASSBAND)
        length = len(resampler.taps()) // ratio.numerator
    else:
        band = min(1.0, need / have)
        taps = firdes.low_pass_2(
            _PHASES, _PHASES, band / 2, band * (1 - 2 * PASSBAND), _ATTENUATION_DB
        )
        resampler = filter.pfb_arb_resampler_ccf(need / have, taps, _PHASES)
        length = len(taps) // _PHASES
    # its first output is in the midst of its taps: without zeros ahead the first slot is cut short
    return [blocks.delay(gr.sizeof_gr_complex, length), resampler]
