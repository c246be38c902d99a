# SPDX-License-Identifier: GPL-3.0-or-later
"""The one line that a parameter out of its range gives."""

import math

import numpy as np
import pytest

from deeprx_common.checks import check_above, check_one_of, check_range, check_whole


@pytest.mark.parametrize(
    ("check", "arguments", "line"),
    [
        (check_range, (5, 1, 4, "antennas"), "x must be 1 to 4 antennas, got 5"),
        (check_range, (0, 1), "x must be at least 1, got 0"),
        (check_range, (math.nan, 0, 1), "x must be 0 to 1, got nan"),
        (check_range, (math.inf, 0), "x must be at least 0, got inf"),
        (check_range, ("3", 0, 4), "x must be 0 to 4, got '3'"),
        (check_range, (None, 0), "x must be at least 0, got None"),
        (check_range, (True, 0, 4), "x must be 0 to 4, got True"),
        (check_whole, (1.5, 0, 4), "x must be a whole number, got 1.5"),
        (check_whole, (np.float32(2), 0, 4), "x must be a whole number, got 2.0"),
        (check_whole, ("3", 0, 4), "x must be 0 to 4, got '3'"),
        (check_whole, (5, 0, 4), "x must be 0 to 4, got 5"),
        (check_above, ("3", 0), "x must be above 0, got '3'"),
        (check_above, (0, 0, "s"), "x must be above 0 s, got 0"),
        (check_above, (math.nan, 0), "x must be above 0, got nan"),
        (check_one_of, ("c", ("a", "b")), "x must be one of a, b, got 'c'"),
    ],
)
def test_one_line(check, arguments, line):
    with pytest.raises(ValueError) as error:
        check("x", *arguments)
    assert str(error.value) == line


def test_what_is_within_passes():
    check_range("x", 1, 1, 4)
    check_range("x", 4, 1, 4)
    check_range("x", 1e9, 0)
    check_range("x", np.float32(1), 0)
    check_whole("x", np.int64(4), 1, 4)
    check_above("x", 1e-9, 0)
    check_one_of("x", "a", ("a", "b"))
