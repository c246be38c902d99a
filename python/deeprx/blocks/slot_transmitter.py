# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pmt
from gnuradio import blocks, digital, gr

from deeprx_common.modulation import constellation
from deeprx_common.slot import N_SYMBOLS, SlotConfig

from ..deeprx_python import slot_gate, symbol_ifft
from .guarded import SelfKeeping
from .preamble import N_SYMBOLS as PREAMBLE_SYMBOLS
from .preamble import Preamble
from .slot_stream import (
    LENGTH_KEY,
    add_slot_tags,
    reserve_output,
    slot_config,
    slot_starts,
)

_DATA, _SYMBOLS = "n_data_re", "n_symbols"  # length tags of the blocks that need one


class _slot_stamp(SelfKeeping, gr.sync_block):
    """Writes what differs from slot to slot over a slot's symbols: header, counted slot's pilots.

    ofdm_carrier_allocator_cvc repeats the same sync words and pilots in every packet.
    """

    def __init__(self, config: SlotConfig, preamble: Preamble | None):
        vector = (np.complex64, config.fft_size)
        super().__init__("Slot stamp", [vector], [vector])
        self._config = config
        self._preamble = preamble
        self._lead = PREAMBLE_SYMBOLS if preamble else 0
        self._slot_index = 0

    def work(self, input_items, output_items):
        config = self._config
        out = output_items[0]
        out[:] = input_items[0]
        first = self.nitems_read(0)
        starts = slot_starts(self.get_tags_in_window(0, 0, len(out)))
        for i, symbol in enumerate(out):
            self._slot_index = starts.get(first + i, self._slot_index)
            place = (first + i) % (self._lead + N_SYMBOLS) - self._lead
            if place == -1:
                symbol[config.bins] = self._preamble.header(self._slot_index)
            elif place >= 0:
                if place in config.dmrs and config.slot_number is None:
                    mask = config.pilot_mask()[place]
                    symbol[config.bins][mask] = config.pilots(self._slot_index)[0, place, mask]
                if config.phase_compensation_hz is not None:
                    symbol *= config.phase_compensation(self._slot_index)[place]
        return len(out)


class _slot_mapper(SelfKeeping, gr.basic_block):
    """Puts a slot's data symbols where the allocation has them.

    Input: packets of n_data_re complex symbols. Output: a slot's 14 symbols, as
    ofdm_carrier_allocator_cvc gives them. That block does it where every symbol carries data: it
    waits for ever for data to put into a symbol that has none.
    """

    def __init__(self, config: SlotConfig, sync_words: np.ndarray):
        super().__init__("Slot mapper", [np.complex64], [(np.complex64, config.fft_size)])
        self._config, self._sync_words = config, sync_words
        self._symbols = len(sync_words) + N_SYMBOLS
        self._pilots = config.pilots()[0]
        self.set_tag_propagation_policy(gr.TPP_DONT)
        self.set_output_multiple(self._symbols)
        self.set_relative_rate(self._symbols, config.n_data_re)

    def forecast(self, noutput_items, ninputs):
        return [self._config.n_data_re] * ninputs

    def general_work(self, input_items, output_items):
        config, out = self._config, output_items[0]
        slots = min(len(input_items[0]) // config.n_data_re, len(out) // self._symbols)
        for slot in range(slots):
            symbols = out[slot * self._symbols : (slot + 1) * self._symbols]
            symbols[:] = 0
            symbols[: len(self._sync_words)] = self._sync_words
            grid = self._pilots.copy()
            first = slot * config.n_data_re
            grid[config.data_mask] = input_items[0][first : first + config.n_data_re]
            begin = len(self._sync_words)
            symbols[begin : begin + config.n_symbols, config.bins] = grid
            for tag in self.get_tags_in_window(0, first, first + 1):
                at = self.nitems_written(0) + slot * self._symbols
                if not pmt.eq(tag.key, pmt.intern(_DATA)):
                    self.add_item_tag(0, at, tag.key, tag.value)
        self.consume(0, slots * config.n_data_re)
        return slots * self._symbols


class _slot_prefixer(SelfKeeping, gr.basic_block):
    """Puts ahead of each symbol the cyclic prefix that it has in its slot.

    Input: a slot's symbols, as many as each list of prefixes, the first tagged slot_index. Output:
    their samples, tagged slot_index and packet_len. lists: of slots 0, 1, .., over and over.

    ofdm_cyclic_prefixer begins every packet with the same prefix, or knows no packets: it cannot
    tell slots that begin half a subframe from those that do not.
    """

    def __init__(self, fft_size: int, lists: list[list[int]]):
        super().__init__("Slot prefixer", [(np.complex64, fft_size)], [np.complex64])
        self._symbols = len(lists[0])
        self._samples = [  # of each list, where a slot's samples lie among those of its symbols
            np.concatenate(
                [
                    symbol * fft_size + np.arange(-prefix, fft_size) % fft_size
                    for symbol, prefix in enumerate(prefixes)
                ]
            )
            for prefixes in lists
        ]
        self._longest = max(map(len, self._samples))
        self.set_tag_propagation_policy(gr.TPP_DONT)
        self.set_output_multiple(self._longest)
        self.set_relative_rate(self._longest, self._symbols)

    def forecast(self, noutput_items, ninputs):
        return [self._symbols] * ninputs

    def general_work(self, input_items, output_items):
        out, first, written = output_items[0], self.nitems_read(0), 0
        slots = min(len(input_items[0]) // self._symbols, len(out) // self._longest)
        starts = slot_starts(self.get_tags_in_window(0, 0, slots * self._symbols))
        for slot in range(slots):
            begin = slot * self._symbols
            slot_index = starts[first + begin]
            places = self._samples[slot_index % len(self._samples)]
            symbols = input_items[0][begin : begin + self._symbols].reshape(-1)
            symbols.take(places, out=out[written : written + len(places)])
            add_slot_tags(self, self.nitems_written(0) + written, len(places), slot_index)
            written += len(places)
        self.consume(0, slots * self._symbols)
        return written


class slot_transmitter(gr.hier_block2):
    """Turns packets of data bits into the samples of their slots.

    Input: uint8, one bit per item, packets of ``config.n_bits`` tagged packet_len, and slot_index
    if they have one (else they are counted from 0). Packets of another length are dropped, with a
    line in the log. Output: complex samples at ``config.sample_rate``; packet_len (samples of the
    burst) and slot_index on each slot's first sample.

    Scale: the inverse FFT has factor 1/sqrt(fft_size), and so has the front ends' FFT: a resource
    element has E|x|^2 = 1 at both ends, a sample n_sc / fft_size.

    preamble: put the two symbols of Preamble ahead of each slot, for sync_front_end. slot: a
    SlotConfig; layer: of the user that this is.

    Raises ValueError where a value is out of range.
    """

    def __init__(self, preamble: bool = False, slot: SlotConfig | None = None, layer: int = 0):
        gr.hier_block2.__init__(
            self,
            "Slot transmitter",
            gr.io_signature(1, 1, gr.sizeof_char),
            gr.io_signature(1, 1, gr.sizeof_gr_complex),
        )
        config = self.config = slot_config(slot).alone(layer)
        fft_size, n_bits = config.fft_size, config.n_bits
        training = Preamble(config) if preamble else None
        lists = [list(prefixes) for prefixes in config.cp_pattern]
        sync_words = np.zeros((0, fft_size), np.complex64)
        if preamble:
            lists = [[min(prefixes)] * PREAMBLE_SYMBOLS + prefixes for prefixes in lists]
            sync_words = np.zeros((PREAMBLE_SYMBOLS, fft_size), np.complex64)
            sync_words[0, config.bins] = training.training
        n_symbols = len(lists[0])
        n_samples = sum(lists[0]) + n_symbols * fft_size
        lengths = {LENGTH_KEY: n_samples, _DATA: config.n_data_re, _SYMBOLS: n_symbols}
        self._gate = slot_gate(n_bits, lengths)
        everywhere = config.n_symbols == N_SYMBOLS and config.data_mask.any(1).all()
        allocator = _stock_allocator if everywhere else _slot_mapper
        self._allocator = allocator(config, sync_words)  # a Python block lives as its owner does
        chain = [
            self._gate,
            blocks.repack_bits_bb(1, config.bits_per_symbol, "", False, gr.GR_MSB_FIRST),
            digital.chunks_to_symbols_bc(constellation(config.modulation)),
            self._allocator,
        ]
        if preamble or config.slot_number is None or config.phase_compensation_hz is not None:
            self._stamp = _slot_stamp(config, training)
            chain.append(self._stamp)
        if len(lists) == 1:
            self._prefixer = digital.ofdm_cyclic_prefixer(fft_size, lists[0], 0, _SYMBOLS)
        else:
            self._prefixer = _slot_prefixer(fft_size, lists)
        chain += [symbol_ifft(fft_size), self._prefixer]
        # A tagged stream block waits for ever for a packet longer than half of its buffer
        packets = [n_bits, config.n_data_re, config.n_data_re]
        packets += [n_symbols] * (len(chain) - 4)
        packets += [n_symbols * (max(map(max, lists)) + fft_size)]  # it counts the longest for all
        for block, packet in zip(chain, packets, strict=True):
            reserve_output(block, 2 * packet)
        for block in chain[1:]:
            self._gate.keep_buffers(getattr(block, "gateway", block))  # that of a Python block
        for key in (_DATA, _SYMBOLS):
            chain.append(blocks.tag_gate(gr.sizeof_gr_complex, False))
            chain[-1].set_single_key(key)
        self.connect(self, *chain, self)

    def dropped_packets(self) -> int:
        """Packets of a wrong length, so far."""
        return self._gate.dropped_packets()


def _stock_allocator(config: SlotConfig, sync_words: np.ndarray) -> gr.basic_block:
    pilots, data = config.pilot_mask(), config.data_mask
    return digital.ofdm_carrier_allocator_cvc(
        config.fft_size,
        [config.carriers[row].tolist() for row in data],
        [config.carriers[row].tolist() for row in pilots],
        [row[mask] for row, mask in zip(config.pilots()[0], pilots, strict=True)],
        sync_words if len(sync_words) else [],
        _DATA,
    )
