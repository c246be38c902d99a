# SPDX-License-Identifier: GPL-3.0-or-later
"""The slot equals Sionna's PUSCHTransmitter element for element."""

import numpy as np
import pytest
from sionna.phy.mapping import Constellation
from sionna.phy.nr import PUSCHConfig, PUSCHTransmitter

from deeprx_common.gold import gold
from deeprx_common.modulation import MODULATIONS, constellation, modulate
from deeprx_common.slot import SlotConfig, User, dmrs_symbols

MCS = {"QPSK": (1, 5), "16QAM": (1, 12), "64QAM": (1, 20), "256QAM": (2, 22)}  # table, index


def sionna_grids(slot: SlotConfig) -> np.ndarray:
    """A slot of Sionna's with random bits, complex64 [n_layers, n_symbols, n_sc]."""
    each = []
    for user in slot.users:
        c = PUSCHConfig()
        c.carrier.n_size_grid = slot.n_prb
        c.carrier.subcarrier_spacing = slot.scs_khz
        c.carrier.slot_number = slot.slot_number
        c.symbol_allocation = [0, slot.n_symbols]
        c.dmrs.additional_position = len(slot.dmrs) - 1
        c.dmrs.type_a_position = slot.dmrs[0]
        c.dmrs.num_cdm_groups_without_data = slot.cdm_groups
        c.dmrs.dmrs_port_set = [user.port]
        c.dmrs.n_id = [slot.dmrs_n_id, slot.dmrs_n_id]
        c.dmrs.n_scid = slot.n_scid
        c.tb.mcs_table, c.tb.mcs_index = MCS[user.modulation]
        each.append(c)
    grids = PUSCHTransmitter(each, output_domain="freq")(1)[0].cpu().numpy()
    return grids[0, :, 0, : slot.n_symbols]


@pytest.mark.parametrize(
    "slot",
    [
        SlotConfig(),
        SlotConfig(n_prb=6, dmrs=(2,), dmrs_n_id=0, users=(User("QPSK"),)),
        SlotConfig(n_prb=52, dmrs_n_id=500, slot_number=7, users=(User("64QAM"),)),
        SlotConfig(n_prb=106, dmrs_n_id=1007, slot_number=3, users=(User("256QAM"),)),
        SlotConfig(n_prb=13, dmrs=(3,), dmrs_n_id=42, slot_number=9),
        SlotConfig(n_prb=273, dmrs_n_id=65535, slot_number=1, users=(User("256QAM"),)),
        SlotConfig(n_prb=25, dmrs=(2, 5, 8, 11), n_scid=1, users=(User("QPSK"),)),
        SlotConfig(n_prb=51, dmrs=(2, 7, 11), cdm_groups=2, scs_khz=30, slot_number=17),
        SlotConfig(n_prb=1, n_symbols=10, dmrs=dmrs_symbols(10), dmrs_n_id=3),
        SlotConfig(n_prb=24, users=(User("64QAM"), User("64QAM", port=1))),
        SlotConfig(n_prb=24, cdm_groups=2, users=(User("QPSK"), User("QPSK", port=2))),
    ],
    ids=str,
)
def test_grid_equals_sionna(slot):
    sionna = sionna_grids(slot)
    assert sionna.shape == (slot.n_layers, slot.n_symbols, slot.n_sc)
    for layer, user in enumerate(slot.users):
        on = slot.pilot_mask(layer)
        np.testing.assert_allclose(sionna[layer][on], slot.pilots()[layer][on], atol=1e-6)
        # the bits that their data symbols carry, sliced against our constellation, make our grid
        points = constellation(user.modulation)
        label = np.abs(sionna[layer][slot.data_mask][:, None] - points).argmin(1)
        bits = label[:, None] >> np.arange(user.bits_per_symbol - 1, -1, -1) & 1
        grid = slot.grid(bits.astype(np.uint8).ravel(), layer=layer)
        np.testing.assert_allclose(grid, sionna[layer], atol=2e-6)


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
