# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pmt
from gnuradio import gr

from deeprx_common.checks import check_whole
from deeprx_common.slot import N_SYMBOLS, SlotConfig

from ..deeprx_python import message_port_out, slot_cutter, unitary_fft
from .guarded import SelfKeeping
from .slot_stream import add_slot_tags, check_first_slot, slot_config
from .synchroniser import Synchroniser

_BREAKS = pmt.intern("rx_time"), pmt.intern("rx_rate")


class _front_end(gr.hier_block2):
    """The antennas' samples in, as many streams of OFDM symbols out, by a block that cuts them."""

    def __init__(self, name: str, n_rx: int, first_slot: int, slot: SlotConfig | None):
        check_whole("n_rx", n_rx, 1, 4, "antennas")
        check_first_slot(first_slot)
        self.config = slot_config(slot)
        gr.hier_block2.__init__(
            self,
            name,
            gr.io_signature(n_rx, n_rx, gr.sizeof_gr_complex),
            gr.io_signature(n_rx, n_rx, gr.sizeof_gr_complex * self.config.fft_size),
        )

    def _cut_by(self, cutter: gr.basic_block) -> None:
        self._cutter = cutter
        for antenna in range(self.input_signature().min_streams()):
            self.connect((self, antenna), (cutter, antenna), (self, antenna))


class aligned_front_end(_front_end):
    """From samples to OFDM symbols where the slot timing is known: simulations.

    Inputs: n_rx antennas, complex samples at ``config.sample_rate``, without preamble; the first
    sample is the first one of a slot. Where input 0 has slot_index tags, they number the slots and
    say where one starts (a slot cut short by the next tag is dropped); otherwise slots follow one
    another, counted from first_slot. Outputs: n_rx streams, one OFDM symbol per item: complex
    vectors of fft_size, DC in the middle, E|x|^2 = 1 per resource element as transmitted; tags
    packet_len = 14 and slot_index on each slot's first symbol of output 0.

    offset_samples: FFT windows start so many samples after their cyclic prefix ends, negative for
    inside it. Whatever delay remains is left as a linear phase over frequency, as in a real
    receiver: behind tdl_channel, windows lie 5 samples inside the prefix at offset 0.
    slot: a SlotConfig.

    Raises ValueError where a value is out of range.
    """

    def __init__(self, n_rx: int = 2, offset_samples: int = 0, first_slot: int = 0, slot=None):
        check_whole("offset_samples", offset_samples)
        super().__init__("Aligned front end", n_rx, first_slot, slot)
        c = self.config
        turns = []
        if c.phase_compensation_hz is not None:
            slots = range(c.slots_per_frame)
            turns = np.concatenate([c.phase_compensation(i).conj() for i in slots]).tolist()
        self._cut_by(slot_cutter(c.fft_size, c.cp_pattern, n_rx, offset_samples, first_slot, turns))

    def dropped_samples(self) -> int:
        """Samples of slots that were cut short, so far."""
        return self._cutter.dropped_samples()


class _slot_synchroniser(SelfKeeping, gr.basic_block):
    """Synchroniser as a block.

    Not ofdm_sync_sc_cfb: it sees one antenna, and no fixed threshold of its serves 6 and 12 dB
    alike; it neither follows the slots' period through a fade nor numbers them.
    """

    def __init__(self, config: SlotConfig, n_rx: int, first_slot: int):
        super().__init__(
            "Slot synchroniser", [np.complex64] * n_rx, [(np.complex64, config.fft_size)] * n_rx
        )
        self.synchroniser = Synchroniser(config, n_rx, first_slot)
        self._spectra = unitary_fft(config.fft_size)
        self._reported = (0,) * 6
        self._begun: int | None = None  # where the stream was first tagged
        self.message_port_register_out(pmt.intern("sync"))
        self.set_tag_propagation_policy(gr.TPP_DONT)
        self.set_output_multiple(N_SYMBOLS)
        self.set_relative_rate(N_SYMBOLS, self.synchroniser.period)

    def forecast(self, noutput_items, ninputs):
        return [1] * ninputs

    def general_work(self, input_items, output_items):
        available = min(len(samples) for samples in input_items)
        read = written = 0
        breaks = self._breaks(available)
        # Samples are taken only while there is room for the slot that they may complete
        while len(output_items[0]) - written >= N_SYMBOLS:
            if slot := self.synchroniser.next():
                for out, symbols in zip(output_items, slot.symbols, strict=True):
                    spectra = self._spectra(symbols)
                    turns = self.synchroniser.config.phase_compensation(slot.slot_index)
                    out[written : written + N_SYMBOLS] = spectra * turns.conj()[:, None]
                add_slot_tags(self, self.nitems_written(0) + written, N_SYMBOLS, slot.slot_index)
                written += N_SYMBOLS
            elif read == available:
                break
            elif breaks and breaks[0] == read:
                self.synchroniser.restart()
                breaks.pop(0)
            else:
                n = min((breaks or [available])[0] - read, self.synchroniser.needed)
                self.synchroniser.push(np.stack([s[read : read + n] for s in input_items]))
                read += n
        self._report()
        self.consume_each(read)
        return written

    def _breaks(self, available: int) -> list[int]:
        """Where among the next samples some are missing, as sources and recordings tag it; their
        first tag says when the stream began.
        """
        first = self.nitems_read(0)
        offsets = {
            tag.offset
            for tag in self.get_tags_in_window(0, 0, available)
            if any(pmt.eq(tag.key, key) for key in _BREAKS)
        }
        if offsets and self._begun is None:
            self._begun = min(offsets)
        return sorted(offset - first for offset in offsets if offset != self._begun)

    def _report(self) -> None:
        s = self.synchroniser
        state = (s.slots // 100, s.missed, s.locks, s.false_locks, s.slips, s.bad_samples)
        if state != self._reported:
            self._reported = state
            self.message_port_pub(pmt.intern("sync"), pmt.to_pmt(s.statistics()))


class sync_front_end(_front_end):
    """From samples to OFDM symbols, finding the slots by their preamble: recordings and radios.

    Inputs: n_rx antennas of one receiver (common clock and oscillator), complex samples at
    ``config.sample_rate``; slots carry the preamble of slot_transmitter(preamble=True). Outputs as
    those of aligned_front_end; slot_index comes from the preamble's header, so a gap in it is what
    was missed. All antennas share one timing and one frequency correction. See Synchroniser for
    how it works and what it leaves: FFT windows start max(2, CP/8) samples ahead of the mean delay.

    A tag rx_time or rx_rate on input 0, after the first, says that samples are missing ahead of it,
    as behind an overflow of a USRP or between a recording's captures: the slot they fall into is
    dropped. Samples lost or repeated without a tag (a slip) spoil the slot they fall into, seldom
    the next one; later ones are found where they then lie.
    NaN and Inf samples are set to zero and counted. Message port ``sync``: a dictionary of
    statistics(), every 100 slots and whenever something was missed, lost or locked to.

    first_slot: about the index of the first slot, whose lower 32 bits the header carries. slot: a
    SlotConfig.

    Raises ValueError where a value is out of range.
    """

    def __init__(self, n_rx: int = 2, first_slot: int = 0, slot=None):
        super().__init__("Synchronised front end", n_rx, first_slot, slot)
        self._cut_by(_slot_synchroniser(self.config, n_rx, first_slot))
        message_port_out(self, "sync", self._cutter)

    def statistics(self) -> dict:
        """Counters of the Synchroniser so far, and its present cfo_hz."""
        return self._cutter.synchroniser.statistics()

    def window_lead(self) -> int:
        """Samples that FFT windows start ahead of the mean delay."""
        return self._cutter.synchroniser.backoff
