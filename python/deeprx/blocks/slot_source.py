# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
from gnuradio import gr

from deeprx_common.checks import check_whole

from .guarded import SelfKeeping
from .slot_stream import add_slot_tags, check_first_slot, reserve_output, slot_config


class slot_source(SelfKeeping, gr.sync_block):
    """Data bits of consecutive slots, each known from (seed, slot index) alone.

    Output: uint8, one bit per item, packets of ``config.n_bits`` with tags packet_len and
    slot_index on their first item.

    seed: any integer; SlotConfig.bits(seed, slot_index) gives a slot's bits back. first_slot:
    index of the first slot. n_slots: how many, 0 for no end; a flowgraph that starts again goes on
    counting. slot: a SlotConfig; layer: of its user whose bits they are.

    Raises ValueError where a value is out of range. Own block: no stock source makes a slot's
    bits from its index.
    """

    def __init__(
        self, seed: int = 1, first_slot: int = 0, n_slots: int = 0, slot=None, layer: int = 0
    ):
        self.config = slot_config(slot).alone(layer)
        check_whole("seed", seed)
        check_first_slot(first_slot, n_slots)
        super().__init__("Slot source", None, [np.uint8])
        self._seed = seed
        self._next = first_slot
        self._end = first_slot + n_slots if n_slots else None
        self._bits = np.zeros(0, np.uint8)  # of the present slot, not yet put out
        reserve_output(self, 2 * self.config.n_bits)

    def start(self):
        self._bits = np.zeros(0, np.uint8)  # a slot whose first bits went with a stop is gone
        self.set_max_output_buffer(-1)  # see slot_gate.keep_buffers()
        return super().start()

    def work(self, input_items, output_items):
        out = output_items[0]
        done = 0
        while done < len(out):
            if not len(self._bits):
                if self._next == self._end:
                    break
                self._bits = self.config.bits(self._seed, self._next)
                offset = self.nitems_written(0) + done
                add_slot_tags(self, offset, self.config.n_bits, self._next)
                self._next += 1
            n = min(len(out) - done, len(self._bits))
            out[done : done + n] = self._bits[:n]
            self._bits = self._bits[n:]
            done += n
        return done or -1
