# SPDX-License-Identifier: GPL-3.0-or-later
"""How slots travel through a flowgraph: their parameters and their tags."""

from collections.abc import Iterator

import numpy as np
import pmt
from gnuradio import gr

from deeprx_common.checks import check_whole
from deeprx_common.slot import SlotConfig

LENGTH_KEY = "packet_len"
INDEX_KEY = "slot_index"


def slot_config(slot: SlotConfig | None) -> SlotConfig:
    """A block's parameter slot; None: the slot with its defaults. Raises TypeError for others."""
    if slot is None:
        return SlotConfig()
    if not isinstance(slot, SlotConfig):
        raise TypeError(f"slot must be a SlotConfig, got {slot!r:.80}")
    return slot


def check_first_slot(first_slot: int, n_slots: int = 1) -> None:
    """ValueError unless so many slots from this one on (0: any number) have indices of 64 bits."""
    check_whole("n_slots", n_slots, 0)
    check_whole("first_slot", first_slot)
    if not 0 <= first_slot <= (1 << 64) - max(1, n_slots):
        raise ValueError(
            f"first_slot must be a whole number, from which slots stay below 2^64, got {first_slot}"
        )


def add_slot_tags(
    block: gr.basic_block, offset: int, length: int, slot_index: int, output: int = 0
) -> None:
    """Mark the first of a slot's items; offset counts from the start of the stream."""
    block.add_item_tag(output, offset, pmt.intern(LENGTH_KEY), pmt.from_long(length))
    block.add_item_tag(output, offset, pmt.intern(INDEX_KEY), pmt.from_uint64(slot_index))


def unsigned_tags(tags, name: str) -> dict[int, int]:
    """Value by stream offset of the tags of this name that are integers of 0 or more: anybody may
    tag a stream with anything.
    """
    key = pmt.intern(name)
    values = {}
    for tag in tags:
        if pmt.eq(tag.key, key) and (pmt.is_uint64(tag.value) or pmt.is_integer(tag.value)):
            value = pmt.to_python(tag.value)
            if value >= 0:
                values[tag.offset] = value
    return values


def slot_starts(tags) -> dict[int, int]:
    """Slot index by stream offset, of the slot_index tags among these."""
    return unsigned_tags(tags, INDEX_KEY)


class PacketReader:
    """Puts the packets of a block's input 0 together, from what its calls of work() are given.

    key: of their length tags. most: items of a packet that is kept.
    """

    def __init__(self, key: str, most: int):
        self._key, self._most = key, most
        self._index, self._length, self._left = -1, 0, 0
        self._parts: list[np.ndarray] = []

    def read(
        self, block: gr.basic_block, items: np.ndarray
    ) -> Iterator[tuple[int, int, np.ndarray | None]]:
        """Slot index, length and items of each packet that ends among these items; of one that is
        too long no items, where it begins.
        """
        first = block.nitems_read(0)
        tags = block.get_tags_in_window(0, 0, len(items))
        indices, lengths = slot_starts(tags), unsigned_tags(tags, self._key)
        position = 0
        for offset in [*sorted(lengths), first + len(items)]:
            part = items[position : offset - first][: self._left]
            position = offset - first
            if len(part):
                self._parts.append(part.copy())
                self._left -= len(part)
                if not self._left:
                    yield self._index, self._length, np.concatenate(self._parts)
            if offset in lengths:
                self._index = indices.get(offset, self._index + 1)
                self._length, self._parts = lengths[offset], []
                self._left = self._length if self._length <= self._most else 0
                if not self._left:
                    yield self._index, self._length, None


def device_time(value) -> tuple[int, float] | None:
    """Whole and further seconds of an rx_time tag's value, None where it is no time."""
    if not pmt.is_tuple(value) or pmt.length(value) != 2:
        return None
    whole, fraction = pmt.tuple_ref(value, 0), pmt.tuple_ref(value, 1)
    if not pmt.is_uint64(whole) or not pmt.is_real(fraction):
        return None
    seconds = pmt.to_double(fraction)
    return (pmt.to_uint64(whole), seconds) if 0 <= seconds < 1 else None


def reserve_output(block: gr.block, n_items: int, n_outputs: int = 1) -> None:
    """set_min_output_buffer, without the line that it logs."""
    block.set_log_level("warn")
    for port in range(n_outputs):  # for all at once it has no effect before they are connected
        block.set_min_output_buffer(port, n_items)
