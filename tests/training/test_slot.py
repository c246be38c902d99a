# SPDX-License-Identifier: GPL-3.0-or-later
"""The slot equals Sionna's PUSCHTransmitter element for element."""

import numpy as np
import pytest
from sionna.phy.mapping import Constellation
from sionna.phy.nr import PUSCHConfig, PUSCHTransmitter

from deeprx_common.slot import MODULATIONS, SlotConfig, constellation, gold, modulate

MCS = {"QPSK": (1, 5), "16QAM": (1, 12), "64QAM": (1, 20), "256QAM": (2, 22)}  # table, index


def sionna_grid(slot: SlotConfig) -> np.ndarray:
    """A slot of Sionna's with random bits, complex64 [14, n_sc]."""
    c = PUSCHConfig()
    c.carrier.n_size_grid = slot.n_prb
    c.carrier.subcarrier_spacing = 15
    c.carrier.slot_number = slot.slot_number
    c.dmrs.additional_position = len(slot.dmrs) - 1
    c.dmrs.num_cdm_groups_without_data = 1
    c.dmrs.n_id = [slot.cell_id, slot.cell_id]
    c.tb.mcs_table, c.tb.mcs_index = MCS[slot.modulation]
    return PUSCHTransmitter(c, output_domain="freq")(1)[0].cpu().numpy()[0, 0, 0]


@pytest.mark.parametrize(
    "slot",
    [
        SlotConfig(),
        SlotConfig(n_prb=6, modulation="QPSK", dmrs=(2,), cell_id=0),
        SlotConfig(n_prb=52, modulation="64QAM", cell_id=500, slot_number=7),
        SlotConfig(n_prb=106, modulation="256QAM", cell_id=1007, slot_number=3),
        SlotConfig(n_prb=13, modulation="16QAM", dmrs=(2,), cell_id=42, slot_number=9),
        SlotConfig(n_prb=273, modulation="256QAM", cell_id=65535, slot_number=1),
        SlotConfig(n_prb=25, modulation="QPSK", cell_id=3, slot_number=5),
    ],
    ids=str,
)
def test_grid_equals_sionna(slot):
    sionna = sionna_grid(slot)
    assert sionna.shape == (14, slot.n_sc)
    np.testing.assert_allclose(sionna[slot.pilot_mask], slot.pilots()[slot.pilot_mask], atol=1e-6)
    # the bits that their data symbols carry, sliced against our constellation, make our grid theirs
    points = constellation(slot.modulation)
    data = sionna[~slot.pilot_mask]
    label = np.abs(data[:, None] - points).argmin(1)
    bits = label[:, None] >> np.arange(slot.bits_per_symbol - 1, -1, -1) & 1
    np.testing.assert_allclose(slot.grid(bits.astype(np.uint8).ravel()), sionna, atol=2e-6)


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
    assert (slot.n_sc, slot.fft_size, slot.sample_rate, slot.n_samples) == (
        312,
        512,
        7.68e6,
        14 * 548,
    )
    assert slot.n_bits == (14 * 312 - 2 * 156) * 4 == modulate(slot.bits(0, 0), "16QAM").size * 4
    assert SlotConfig(n_prb=6).fft_size == 128 and SlotConfig(n_prb=273).fft_size == 4096
    long = SlotConfig(cp_extension=True)
    assert (
        long.n_samples * 2 == long.sample_rate * 2e-3
    )  # two slots of the normal prefix last 2 ms exactly


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_prb": 5},
        {"n_prb": 274},
        {"modulation": "8PSK"},
        {"dmrs": ()},
        {"dmrs": (2, 2)},
        {"dmrs": (14,)},
        {"cell_id": -1},
        {"slot_number": 10},
    ],
    ids=str,
)
def test_impossible_slots_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SlotConfig(**wrong)
