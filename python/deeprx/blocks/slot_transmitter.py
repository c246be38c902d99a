# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
from gnuradio import blocks, digital, gr

from deeprx_common.slot import N_SYMBOLS, SlotConfig, constellation

from ..deeprx_python import slot_gate
from .guarded import SelfKeeping
from .preamble import N_SYMBOLS as PREAMBLE_SYMBOLS
from .preamble import Preamble
from .slot_stream import LENGTH_KEY, reserve_output, slot_config, slot_starts, unitary_ifft

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
        self._bins = config.bins
        self._slot_index = 0

    def work(self, input_items, output_items):
        out = output_items[0]
        out[:] = input_items[0]
        first = self.nitems_read(0)
        starts = slot_starts(self.get_tags_in_window(0, 0, len(out)))
        for i, symbol in enumerate(out):
            self._slot_index = starts.get(first + i, self._slot_index)
            place = (first + i) % (self._lead + N_SYMBOLS) - self._lead
            if place == -1:
                symbol[self._bins] = self._preamble.header(self._slot_index)
            elif place in self._config.dmrs and self._config.slot_number is None:
                pilots = self._config.pilots(self._slot_index)[place]
                symbol[self._bins][::2] = pilots[::2]
        return len(out)


class slot_transmitter(gr.hier_block2):
    """Turns packets of data bits into the samples of their slots.

    Input: uint8, one bit per item, packets of ``config.n_bits`` tagged packet_len, and slot_index
    if they have one (else they are counted from 0). Packets of another length are dropped, with a
    line in the log. Output: complex samples at ``config.sample_rate``; packet_len (samples of the
    burst) and slot_index on each slot's first sample.

    Scale: the inverse FFT has factor 1/sqrt(fft_size), and so has the front ends' FFT: a resource
    element has E|x|^2 = 1 at both ends, a sample n_sc / fft_size.

    preamble: put the two symbols of Preamble ahead of each slot, for sync_front_end. Other
    keywords: see SlotConfig; slot_number -1 counts the slots through the frame.

    Raises ValueError where a value is out of range.
    """

    def __init__(self, preamble: bool = False, **slot):
        gr.hier_block2.__init__(
            self,
            "Slot transmitter",
            gr.io_signature(1, 1, gr.sizeof_char),
            gr.io_signature(1, 1, gr.sizeof_gr_complex),
        )
        config = self.config = slot_config(**slot)
        fft_size, n_bits = config.fft_size, config.n_bits
        training = Preamble(config) if preamble else None
        prefixes = list(config.cp_lengths)
        sync_words = []
        if preamble:
            prefixes = [min(prefixes)] * PREAMBLE_SYMBOLS + prefixes
            sync_words = np.zeros((PREAMBLE_SYMBOLS, fft_size), np.complex64)
            sync_words[0, config.bins] = training.training
        pilots = config.pilots()
        n_samples = sum(prefixes) + len(prefixes) * fft_size
        lengths = {LENGTH_KEY: n_samples, _DATA: config.n_data_re, _SYMBOLS: len(prefixes)}
        self._gate = slot_gate(n_bits, lengths)
        chain = [
            self._gate,
            blocks.repack_bits_bb(1, config.bits_per_symbol, "", False, gr.GR_MSB_FIRST),
            digital.chunks_to_symbols_bc(constellation(config.modulation)),
            digital.ofdm_carrier_allocator_cvc(
                fft_size,
                [config.carriers[~mask].tolist() for mask in config.pilot_mask],
                [config.carriers[mask].tolist() for mask in config.pilot_mask],
                [row[mask] for row, mask in zip(pilots, config.pilot_mask, strict=True)],
                sync_words,
                _DATA,
            ),
        ]
        if preamble or config.slot_number is None:
            self._stamp = _slot_stamp(config, training)  # a Python block lives as long as its owner
            chain.append(self._stamp)
        chain += [
            unitary_ifft(fft_size),
            digital.ofdm_cyclic_prefixer(fft_size, prefixes, 0, _SYMBOLS),
        ]
        # A tagged stream block waits for ever for a packet longer than half of its buffer
        packets = [n_bits, config.n_data_re, config.n_data_re]
        packets += [len(prefixes)] * (len(chain) - 4)
        packets += [len(prefixes) * (max(prefixes) + fft_size)]  # it counts the longest for all
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
