# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots against Sionna's PUSCHTransmitter and PUSCHReceiver: the same grid, and each end receives
the other's.

The link's end is that of the built blocks, in C++ but for the slot. Sionna can express every slot
here; where an allocation does not begin at PRB 0, its DMRS are taken from the text of TS 38.211
(CountedFromCrb0). Two things of Sionna's leave something out: its waveform has one cyclic prefix
for the whole slot, so grids are compared; its transport blocks have rv 0 only, a base graph that
follows from the effective code rate, and no such rate below 1/5 (base graph 1: 1/3), so no MCS
here is near the border of the base graphs or needs repetition.
"""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from runtime import in_runtime, needs_the_blocks
from sionna.phy.nr import PUSCHConfig, PUSCHReceiver, PUSCHTransmitter
from sionna.phy.nr.utils import generate_prng_seq

from deeprx_common.slot import SLOTS, SlotConfig, User, dmrs_symbols

pytestmark = needs_the_blocks

SEED = 1
NOISE = 1e-3  # variance, at antennas with these gains of one user or two
GAINS = np.array([[1, 0.4 - 0.5j], [0.3 + 0.6j, -0.9]])


def user(mcs: int, table: int = 1, rnti: int = 0x4601, n_id: int = 77, port: int = 0) -> User:
    return User(mcs=mcs, mcs_table=table, rnti=rnti, n_id=n_id, port=port)


def two_users(mcs: int, port: int) -> tuple[User, User]:
    """Both of the same MCS, as Sionna has them."""
    return user(mcs, rnti=1), user(mcs, rnti=65519, n_id=1007, port=port)


CASES = {
    "default, one group": SlotConfig(users=(user(12),)),
    "gnb, two groups": replace(SLOTS["gnb"], users=(user(19),), slot_number=17),
    "60 kHz": SlotConfig(n_prb=24, scs_khz=60, slot_number=39, dmrs_n_id=500, users=(user(14),)),
    "273 PRB": SlotConfig(n_prb=273, scs_khz=30, slot_number=3, dmrs_n_id=65535, users=(user(7),)),
    "1 PRB, 10 symbols": SlotConfig(
        n_prb=1, n_symbols=10, dmrs=dmrs_symbols(10), users=(user(12, 3),)
    ),
    "13 symbols": SlotConfig(
        n_symbols=13, dmrs=dmrs_symbols(13, 2), cdm_groups=2, users=(user(18),)
    ),
    "4 symbols": SlotConfig(n_prb=40, n_symbols=4, dmrs=dmrs_symbols(4, 0), users=(user(11),)),
    "n_SCID 1": SlotConfig(n_scid=1, dmrs_n_id=1006, users=(user(4, 2),)),
    "additional position 0": SlotConfig(n_prb=6, dmrs=(2,), dmrs_n_id=0, users=(user(6),)),
    "additional position 0, l0 = 3": SlotConfig(n_prb=13, dmrs=(3,), users=(user(20, 2),)),
    "additional position 3": SlotConfig(n_prb=25, dmrs=(2, 5, 8, 11), users=(user(9),)),
    "two users, one group": SlotConfig(n_prb=24, users=two_users(15, port=1)),
    "two users, two groups": SlotConfig(n_prb=24, cdm_groups=2, users=two_users(18, port=2)),
    "offset": SlotConfig(n_prb=20, first_prb=7, carrier_prb=52, users=(user(16),)),
    "several code blocks": SlotConfig(n_prb=52, slot_number=7, users=(user(25, 2),)),
}


class CountedFromCrb0(PUSCHConfig):
    """With DMRS from the text of TS 38.211 clause 6.4.1.1: Sionna restarts their sequence at the
    allocation's first PRB, which is right only where that is CRB 0.
    """

    @property
    def dmrs_grid(self) -> np.ndarray:
        start, (port,) = 12 * self.n_start_bwp, self.dmrs.dmrs_port_set
        grid = np.zeros((1, start + self.num_subcarriers, 14), complex)
        beta = np.sqrt(self.dmrs.num_cdm_groups_without_data)  # 38.214 table 6.2.2-1: 0 or 3 dB
        for symbol in self.dmrs_symbol_indices:
            c = generate_prng_seq(grid.shape[1], c_init=self.c_init(symbol))
            r = ((1 - 2 * c[::2]) + 1j * (1 - 2 * c[1::2])) / np.sqrt(2)
            for n in range(grid.shape[1] // 4):
                for k_prime in (0, 1):
                    w_f = -1 if port % 2 and k_prime else 1
                    grid[0, 4 * n + 2 * k_prime + port // 2, symbol] = (
                        beta * w_f * r[2 * n + k_prime]
                    )
        return grid[:, start:]


def sionna_config(slot: SlotConfig, layer: int, kind: type = PUSCHConfig) -> PUSCHConfig:
    sender = slot.users[layer]
    c = kind(n_start_bwp=slot.first_prb, n_size_bwp=slot.n_prb, n_rnti=sender.rnti)
    c.carrier.n_size_grid = slot.carrier_prb
    c.carrier.subcarrier_spacing = slot.scs_khz
    c.carrier.slot_number = slot.slot_number
    c.symbol_allocation = [0, slot.n_symbols]
    c.dmrs.additional_position = len(slot.dmrs) - 1
    c.dmrs.type_a_position = slot.dmrs[0]
    c.dmrs.num_cdm_groups_without_data = slot.cdm_groups
    c.dmrs.dmrs_port_set = [sender.port]
    c.dmrs.n_id = [slot.dmrs_n_id if n == slot.n_scid else 12345 for n in (0, 1)]
    c.dmrs.n_scid = slot.n_scid
    c.tb.mcs_table, c.tb.mcs_index = sender.mcs_table, sender.mcs
    c.tb.n_id = sender.n_id
    return c


# grid: what the link sends; blocks: what it decodes of y; right: their CRCs
LINK = """
import json, sys
import numpy as np
from deeprx_common.slot import SlotConfig
from gnuradio.deeprx.deeprx_python import (
    ClassicalReceiver, TransportBlock, TransportBlockDecoder, data_scrambling
)
folder, seed = sys.argv[1], int(sys.argv[2])
for i, values in enumerate(json.load(sys.stdin)):
    slot = SlotConfig.from_dict(values)
    llrs = ClassicalReceiver(slot, 2, "ls-lmmse").receive(np.load(f"{folder}/y{i}.npy"))
    grids, blocks, right = [], [], []
    for layer, user in enumerate(slot.users):
        size, n_bits = slot.transport_block_size(layer), len(llrs[layer])
        coding = TransportBlock(size, n_bits, user.bits_per_symbol, user.code_rate,
                                limited_buffer=slot.limited_buffer)
        scrambling = data_scrambling(user.rnti, user.n_id, n_bits)
        coded = coding.encode(slot.block(seed, 0, layer)) ^ scrambling
        grids.append(slot.grid(coded, layer=layer))
        block, crc, _ = TransportBlockDecoder().decode(coding, llrs[layer] * (1 - 2.0 * scrambling))
        blocks.append(np.frombuffer(block, np.uint8))
        right.append(crc)
    np.savez(f"{folder}/link{i}.npz", grid=grids, blocks=blocks, right=right,
             code_blocks=coding.code_blocks)
"""


@dataclass
class Exchange:
    """What both sent, complex64 [n_layers, n_symbols, n_sc], of the same blocks, uint8 [n_layers,
    bytes] of so many code blocks each; and what each received of the other's, and the CRCs.
    """

    blocks: np.ndarray
    sionna_grid: np.ndarray
    link_grid: np.ndarray
    link_blocks: np.ndarray
    link_right: np.ndarray
    code_blocks: int
    sionna_blocks: np.ndarray
    sionna_right: np.ndarray


def channel(grid: np.ndarray) -> np.ndarray:
    """Both antennas' grid, complex64 [2, n_symbols, n_sc], of what the users send."""
    rng = np.random.default_rng(SEED)
    y = np.einsum("rl,lsk->rsk", GAINS[:, : len(grid)], grid)
    noise = rng.normal(0, np.sqrt(NOISE / 2), (2, *y.shape))
    return (y + noise[0] + 1j * noise[1]).astype(np.complex64)


def bits_of(blocks: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.unpackbits(blocks, axis=-1)).float()[None]


@pytest.fixture(scope="module")
def exchanges(tmp_path_factory) -> dict[str, Exchange]:
    folder = tmp_path_factory.mktemp("pusch")
    senders, blocks, grids = [], [], []
    for i, slot in enumerate(CASES.values()):
        kind = CountedFromCrb0 if slot.first_prb else PUSCHConfig
        layers = range(slot.n_layers)
        configs = [sionna_config(slot, layer, kind) for layer in layers]
        senders.append(PUSCHTransmitter(configs, return_bits=False))
        sent = [np.frombuffer(slot.block(SEED, 0, layer), np.uint8) for layer in layers]
        blocks.append(np.stack(sent))
        grids.append(senders[-1](bits_of(blocks[-1]))[0, :, 0].numpy())
        np.save(folder / f"y{i}.npy", channel(grids[-1]))
    slots = json.dumps([slot.as_dict() for slot in CASES.values()])
    link = in_runtime("-c", LINK, str(folder), str(SEED), input=slots, text=True)
    assert link.returncode == 0, link.stderr

    exchanged = {}
    for i, name in enumerate(CASES):
        link = np.load(folder / f"link{i}.npz")
        receiver = PUSCHReceiver(senders[i], return_tb_crc_status=True)
        y = torch.from_numpy(channel(link["grid"]))[None, None]
        with torch.inference_mode():
            bits, right = receiver(y, torch.tensor(NOISE))
        exchanged[name] = Exchange(
            blocks[i],
            grids[i],
            link["grid"],
            link["blocks"],
            link["right"],
            int(link["code_blocks"]),
            np.packbits(bits[0].numpy().astype(np.uint8), axis=-1),
            right.numpy(),
        )
    return exchanged


@pytest.mark.parametrize("name", CASES)
def test_both_send_the_same_grid(name, exchanges):
    e, slot = exchanges[name], CASES[name]
    assert e.sionna_grid.shape == (slot.n_layers, slot.n_symbols, slot.n_sc)
    np.testing.assert_allclose(e.link_grid, e.sionna_grid, atol=2e-6)


@pytest.mark.parametrize("name", CASES)
def test_the_link_decodes_what_sionna_sends(name, exchanges):
    e = exchanges[name]
    assert e.link_right.all()
    assert np.array_equal(e.link_blocks, e.blocks)


@pytest.mark.parametrize("name", CASES)
def test_sionna_decodes_what_the_link_sends(name, exchanges):
    e = exchanges[name]
    assert e.sionna_right.all()
    assert np.array_equal(e.sionna_blocks, e.blocks)


def test_code_blocks_are_of_two_lengths(exchanges):
    name = "several code blocks"
    count = exchanges[name].code_blocks
    assert count > 4 and CASES[name].n_data_re % count


@pytest.mark.parametrize("name", CASES)
def test_dmrs_of_the_text_are_sionnas_from_crb_0(name):
    slot = replace(CASES[name], first_prb=0, carrier_prb=None)
    for layer in range(slot.n_layers):
        text, sionna = (
            sionna_config(slot, layer, kind).dmrs_grid for kind in (CountedFromCrb0, PUSCHConfig)
        )
        np.testing.assert_allclose(text, sionna, atol=1e-12)
