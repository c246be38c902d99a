# SPDX-License-Identifier: GPL-3.0-or-later
"""The one line that a parameter out of its range gives."""

import inspect
import math
import re

import numpy as np
import pytest
from gnuradio import deeprx

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
        (check_range, (math.nan, -math.inf), "x must be a finite number, got nan"),
        (check_range, (True, 0, 4), "x must be 0 to 4, got True"),
        (check_whole, (1.5, 0, 4), "x must be a whole number, got 1.5"),
        (check_whole, (np.float32(2), 0, 4), "x must be a whole number, got 2.0"),
        (check_whole, ("3", 0, 4), "x must be a whole number, got '3'"),
        (check_whole, (True, 0, 4), "x must be a whole number, got True"),
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
    check_whole("x", -(10**400))
    check_above("x", 1e-9, 0)
    check_one_of("x", "a", ("a", "b"))


CODED = deeprx.SlotConfig(users=(deeprx.User(mcs=10),))
BLOCKS = {  # with what else they need
    "Engine": {"model": "baseline-lmmse"},
    "aligned_front_end": {},
    "link_transmitter": {"slot": CODED},
    "radio_impairments": {},
    "receiver": {"model": "baseline-lmmse"},
    "receiver_controller": {"models": ["baseline-lmmse", "deeprx-pusch-small"]},
    "recording_sink": {"path": "never/written"},
    "slot_equaliser": {},
    "slot_probe": {},
    "slot_source": {},
    "slot_transmitter": {},
    "sync_front_end": {},
    "tb_decoder": {"slot": CODED},
    "tb_encoder": {"slot": CODED},
    "tb_source": {"slot": CODED},
    "tdl_channel": {},
}


def whole_numbers(block):
    """Names of its parameters that are."""
    block = getattr(deeprx, block)
    if block in (deeprx.Engine, deeprx.receiver):  # C++
        return re.findall(r"(\w+): object = -?\d+", block.__init__.__doc__)
    return [
        name
        for name, parameter in inspect.signature(block).parameters.items()
        if "int" in str(parameter.annotation) or type(parameter.default) is int
    ]


@pytest.mark.parametrize(
    ("block", "name"),
    [(block, name) for block in BLOCKS for name in whole_numbers(block)]
    + [("radio_impairments", "adc_bits"), ("radio_impairments", "drop_samples")],
)
@pytest.mark.parametrize("value", [2.5, True, "2"])
def test_no_block_takes_what_is_no_whole_number(block, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be a whole number, got {value!r}$"):
        getattr(deeprx, block)(**BLOCKS[block] | {name: value})
