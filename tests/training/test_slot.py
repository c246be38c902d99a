# SPDX-License-Identifier: GPL-3.0-or-later
"""What a slot is made of: bits, their mapping, pilots, samples."""

import numpy as np
import pytest
from sionna.phy.mapping import Constellation

from deeprx_common.gold import gold
from deeprx_common.modulation import MODULATIONS, constellation, modulate
from deeprx_common.slot import SlotConfig


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_bit_mapping_equals_sionna(modulation):
    sionna = Constellation("qam", MODULATIONS[modulation]).points.cpu().numpy()
    np.testing.assert_allclose(constellation(modulation), sionna, atol=1e-6)


def test_gold_sequence_against_the_recursion_of_the_standard():
    for c_init in (0, 1, 0x12345678, 2**31 - 1):
        x1, x2 = [1] + [0] * 30, [c_init >> i & 1 for i in range(31)]
        for i in range(1600 + 500):
            x1.append(x1[i + 3] ^ x1[i])
            x2.append(x2[i + 3] ^ x2[i + 2] ^ x2[i + 1] ^ x2[i])
        expected = [a ^ b for a, b in zip(x1[1600:2100], x2[1600:2100], strict=True)]
        assert gold(c_init, 500).tolist() == expected


def test_slots_differ_and_repeat():
    slot = SlotConfig(slot_number=None)
    assert np.array_equal(slot.bits(1, 5), slot.bits(1, 5))
    for other in (slot.bits(1, 6), slot.bits(2, 5)):
        assert 0.45 < np.mean(slot.bits(1, 5) != other) < 0.55
    assert np.array_equal(slot.pilots(3), slot.pilots(13))
    assert not np.array_equal(slot.pilots(3), slot.pilots(4))


def test_geometry():
    slot = SlotConfig()
    assert (slot.n_sc, slot.fft_size, slot.sample_rate) == (312, 512, 7.68e6)
    assert slot.n_samples() == slot.sample_rate * 1e-3
    assert slot.n_bits == (14 * 312 - 2 * 156) * 4 == modulate(slot.bits(0, 0), "16QAM").size * 4
    assert SlotConfig(n_prb=6).fft_size == 128 and SlotConfig(n_prb=273).fft_size == 4096
    assert SlotConfig(equal_prefixes=True).n_samples() == 14 * 548
