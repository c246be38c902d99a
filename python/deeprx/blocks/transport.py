# SPDX-License-Identifier: GPL-3.0-or-later
"""Transport blocks in a flowgraph, by a slot's parameters."""

from collections.abc import Callable

import numpy as np

from deeprx_common.checks import check_whole
from deeprx_common.slot import SlotConfig, User

from .. import deeprx_python
from .slot_stream import check_first_slot, slot_config


def _block(slot: SlotConfig, user: User, layer: int) -> dict:
    """Keywords of a TransportBlock."""
    if user.code_rate is None:
        raise ValueError("a transport block needs an MCS or a code rate, got neither")
    block = {
        "size": slot.transport_block_size(layer),
        "coded_bits": slot.n_data_re * user.bits_per_symbol,
        "bits_per_symbol": user.bits_per_symbol,
        "code_rate": user.code_rate,
        "limited_buffer": slot.limited_buffer,
    }
    try:
        deeprx_python.TransportBlock(**block)
    except ValueError as error:
        raise ValueError(str(error)) from None  # the user's mistake, where commands look for bugs
    return block


def block_format(slot: SlotConfig, layer: int = 0) -> deeprx_python.BlockFormat:
    """What a user's blocks are. Raises ValueError where there is no such layer, its user has no
    code rate, or the block does not fit.
    """
    slot = slot_config(slot)
    user = slot.user(layer)
    return deeprx_python.BlockFormat(**_block(slot, user, layer), rnti=user.rnti, n_id=user.n_id)


def seeded_bits(slot: SlotConfig, seed: int, layer: int = 0) -> Callable[[int], np.ndarray]:
    """A function that gives a user's bits of a slot, by its index, uint8: those of slot_source, or
    where the user has a code rate those that tb_encoder makes of tb_source's block.
    """
    user = slot.user(layer)
    if user.code_rate is None:
        return lambda slot_index: slot.bits(seed, slot_index, layer)
    block = deeprx_python.TransportBlock(**_block(slot, user, layer))
    scrambling = deeprx_python.data_scrambling(user.rnti, user.n_id, block.coded_bits)
    return lambda slot_index: block.encode(slot.block(seed, slot_index, layer)) ^ scrambling


def tb_source(
    slot: SlotConfig,
    seed: int | None = 1,
    first_slot: int = 0,
    n_slots: int = 0,
    layer: int = 0,
) -> deeprx_python.tb_source:
    """Transport blocks of consecutive slots, each known from (seed, slot index) alone or from a
    message.

    Output: uint8, bytes of a block, most significant bit first; packets with tags packet_len,
    slot_index, rnti, process, rv and new_data.

    Message port in `pdus`, where seed is None: pairs of a dictionary and the block's bytes
    (u8vector). Each goes into the next slot; no slot is sent while none waits. The dictionary's
    keys, all optional: rnti (0 to 65535; else the user's), process (of HARQ, 0 to 15; else 0), rv
    (0 to 3; else 0), new_data (bool; else true). What is no such pair, or has another number of
    bytes, is refused, counted (refused()) and reported.

    seed: any integer; SlotConfig.block(seed, slot_index, layer) gives a block back. first_slot:
    index of the first slot. n_slots: how many, 0 for no end; a flowgraph that starts again goes on
    counting. layer: of the slot's users.

    Raises ValueError where a value is out of range or the user has no code rate. Own block: stock
    pdu_to_tagged_stream ends where a message is no PDU, and lets a block of any length pass.
    """
    slot = slot_config(slot)
    user = slot.user(layer)
    if seed is not None:
        check_whole("seed", seed)
    check_first_slot(first_slot, n_slots)
    return deeprx_python.tb_source(
        size=slot.transport_block_size(layer),
        rnti=user.rnti,
        seeded=seed is not None,
        seed=(seed or 0) % 2**64,
        port=user.port,
        first_slot=first_slot,
        n_slots=n_slots,
    )


def tb_encoder(slot: SlotConfig, layer: int = 0) -> deeprx_python.tb_encoder:
    """Encodes transport blocks and scrambles them (TS 38.212 clause 6.2, TS 38.211 clause 6.3.1.1):
    ahead of a slot_transmitter.

    Input: as tb_source's output; without its tags a block is new data at rv 0. Output: bits, one a
    byte; the same tags, slot_index counted where the input has none.

    Message port out `grants`: of each slot a dictionary of slot_index, rnti, process, rv and
    new_data, for the tb_decoder at the other end, which no tag reaches through the air.

    layer: of the slot's users. A packet of another length, or with a tag out of range, is dropped,
    counted (dropped()) and reported.

    Raises ValueError where the user has no code rate, or the block does not fit. Own block: gr-fec
    has no LDPC code of 5G, and no rate matching.
    """
    return deeprx_python.tb_encoder(block_format(slot, layer))


def tb_decoder(
    slot: SlotConfig,
    layer: int = 0,
    llr_sign: int = 1,
    buffers: int = 256,
    len_tag_key: str = "packet_len",
) -> deeprx_python.tb_decoder:
    """Descrambles and decodes transport blocks, and combines retransmissions (HARQ).

    Input: float LLRs, one tagged packet a slot, as the receiver gives them. Tags rnti, process, rv
    and new_data say how it was sent where there are any; else its grant does; without one it is new
    data of process 0 at rv 0. Output, optional: the same packets, tagged packet_len and slot_index,
    each after the message about its block: for a slot_probe, which then has both.

    Message port in `grants`: of each slot, in the order in which they are sent, the dictionary that
    tb_encoder publishes. Once there was one, LLRs without tags wait for theirs, until that of a
    later slot comes, or none for 1 s. A slot whose grant came late or never is taken for new data,
    counted (without_grant()) and reported; then all soft bits go, as nobody knows to which process
    it belonged. Message port out `blocks`: of each slot a pair of a dictionary and the
    block's bytes (u8vector): slot_index (uint64), rnti, process, rv (long), new_data, crc_ok
    (bool), iterations (double, mean over code blocks), transmissions (long, that were combined) and
    cpu_ns (uint64). Where the CRC fails the bytes are the best guess.

    LLRs that cannot be decoded (NaN, another number of them, a tag out of range, a retransmission
    of a process of which there is nothing) are dropped, counted (dropped()) and reported: on
    `blocks` with the grant's keys, crc_ok false, dropped (symbol, the reason) and no bytes. So are
    granted slots of which no LLRs came, once those of a later one do. Dropped new data leaves its
    process with nothing; a dropped retransmission leaves what was received before.

    layer: of the slot's users. llr_sign: -1 where the receiver was told to flip. buffers: HARQ
    processes at most, of all users; where all are in use, the one longest not heard of is forgotten
    (forgotten()). len_tag_key: of the length tag.

    Raises ValueError where a value is out of range, the user has no code rate, or the block does
    not fit. Own block: gr-fec has no LDPC code of 5G, no rate recovery and no HARQ.
    """
    check_whole("llr_sign", llr_sign)
    check_whole("buffers", buffers, 1, 2**20)  # 16 processes of every RNTI
    return deeprx_python.tb_decoder(block_format(slot, layer), llr_sign, buffers, len_tag_key)
