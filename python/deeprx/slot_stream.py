# SPDX-License-Identifier: GPL-3.0-or-later
"""How slots travel through a flowgraph: their parameters and their tags."""

from typing import ClassVar

import numpy as np
import pmt
from gnuradio import fft, gr

from deeprx_common.slot import SlotConfig

LENGTH_KEY = "packet_len"
INDEX_KEY = "slot_index"


class SelfKeeping:
    """Mixin, first base of a Python block: keeps it from construction to the end of the flowgraph.

    A flowgraph owns only the C++ half of a block written in Python. Where nobody names the other
    half, as in ``top.connect(slot_source(), ...)``, the first call into it ends the process.
    """

    _kept: ClassVar[set] = set()

    def __init__(self, *args):
        super().__init__(*args)
        self._kept.add(self)

    def start(self):
        self._kept.add(self)
        return True

    def stop(self):
        self._kept.discard(self)
        return True


def slot_config(slot_number: int | None = 0, **slot) -> SlotConfig:
    """SlotConfig of a block's slot parameters; slot_number -1, as in C++ and GRC, counts."""
    return SlotConfig(slot_number=None if slot_number == -1 else slot_number, **slot)


def add_slot_tags(block: gr.basic_block, offset: int, length: int, slot_index: int) -> None:
    """Mark the first of a slot's items on output 0; offset counts from the start of the stream."""
    block.add_item_tag(0, offset, pmt.intern(LENGTH_KEY), pmt.from_long(length))
    block.add_item_tag(0, offset, pmt.intern(INDEX_KEY), pmt.from_uint64(slot_index))


def slot_starts(tags) -> dict[int, int]:
    """Slot index by stream offset, of the slot_index tags among these."""
    key = pmt.intern(INDEX_KEY)
    return {tag.offset: pmt.to_uint64(tag.value) for tag in tags if pmt.eq(tag.key, key)}


def reserve_output(block: gr.block, n_items: int, n_outputs: int = 1) -> None:
    """set_min_output_buffer, without the line that it logs."""
    block.set_log_level("warn")
    for port in range(n_outputs):  # for all at once it has no effect before they are connected
        block.set_min_output_buffer(port, n_items)


def unitary_ifft(size: int) -> fft.fft_vcc:
    """Inverse FFT with DC in the middle and factor 1/sqrt(size): a carrier's power is kept."""
    return fft.fft_vcc(size, False, np.full(size, size**-0.5), True)
