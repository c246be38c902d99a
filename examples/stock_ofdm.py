#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""GNU Radio's own OFDM chain with Slot Receiver in the place of its equaliser.

Allocator, Schmidl and Cox synchroniser and header/payload demultiplexer are stock blocks; a packet
is two sync words, a header symbol and the 14 symbols of a slot. Run it with
./dev run python3 examples/stock_ofdm.py; the flowgraph is that of stock_ofdm.grc.
"""

import argparse

import numpy as np
from gnuradio import analog, blocks, deeprx, digital, fft, gr

import deeprx_common.one_line_errors  # noqa: F401  (of packages that this Python lacks)
from deeprx_common import report_view
from deeprx_common.gold import gold
from deeprx_common.modulation import constellation
from deeprx_common.terminal import make_console

MODEL = "deeprx-pusch.pt"
# The demultiplexer takes one guard interval for all symbols
SLOT = deeprx.SlotConfig(n_prb=26, users=[deeprx.User("16QAM")], equal_prefixes=True)
N_RX = 2
THRESHOLD = 0.8  # of the synchroniser; at GNU Radio's 0.9 it finds fewer packets below 20 dB
BURST_SLOTS = 5  # each burst fades on its own: the clusters that intervals are taken over
GAP = 100  # samples between packets: the demultiplexer looks for a trigger behind a packet's end
LEAD = 14  # samples: triggers jitter by about as much, and FFT windows must begin inside the prefix


class Packet:
    """What both ends know: carriers, pilots, sync words and header of a packet around a slot."""

    def __init__(self, slot: deeprx.SlotConfig):
        self.slot = slot
        self.prefix = slot.cp_lengths()[0]
        self.header_carriers = [slot.carriers.tolist()]
        self.carriers = [slot.carriers[row].tolist() for row in slot.data_mask]
        self.pilot_carriers = [slot.carriers[row].tolist() for row in slot.pilot_mask()]
        pilots = zip(slot.pilots()[0], slot.pilot_mask(), strict=True)
        self.pilots = [row[mask].tolist() for row, mask in pilots]
        signs = 1.0 - 2.0 * gold(1, 2 * slot.n_sc).reshape(2, -1)
        signs[0] *= 2**0.5 * (slot.carriers % 2)  # odd carriers: the synchroniser's two halves
        guard = (slot.fft_size - slot.n_sc) // 2
        self.sync_words = np.pad(signs, ((0, 0), (guard, guard))).tolist()
        self.header_mod = digital.constellation_bpsk()
        self.header = digital.packet_header_ofdm(
            self.carriers, 1, "packet_len", "frame_len", "slot_index", 1, slot.bits_per_symbol, True
        )


class Transmitter(gr.hier_block2):
    """Packets of a slot's bits, one a byte, to samples."""

    def __init__(self, packet: Packet):
        super().__init__(
            "stock OFDM transmitter",
            gr.io_signature(1, 1, gr.sizeof_char),
            gr.io_signature(1, 1, gr.sizeof_gr_complex),
        )
        slot = packet.slot
        pack = blocks.repack_bits_bb(1, 8, "packet_len", False, gr.GR_MSB_FIRST)
        header = digital.packet_headergenerator_bb(packet.header.formatter(), "packet_len")
        header_mod = digital.chunks_to_symbols_bc(packet.header_mod.points())
        unpack = blocks.repack_bits_bb(
            8, slot.bits_per_symbol, "packet_len", False, gr.GR_MSB_FIRST
        )
        modulator = digital.chunks_to_symbols_bc(constellation(slot.modulation))
        mux = blocks.tagged_stream_mux(gr.sizeof_gr_complex, "packet_len", 1)
        allocator = digital.ofdm_carrier_allocator_cvc(
            slot.fft_size,
            packet.header_carriers + packet.carriers,
            [[], *packet.pilot_carriers],
            [[], *packet.pilots],
            packet.sync_words,
            "packet_len",
        )
        ifft = fft.fft_vcc(slot.fft_size, False, [slot.fft_size**-0.5] * slot.fft_size, True)
        prefixer = digital.ofdm_cyclic_prefixer(
            slot.fft_size, slot.fft_size + packet.prefix, 0, "packet_len"
        )
        gap = digital.burst_shaper_cc([], 0, GAP, False, "packet_len")
        # A tagged stream block waits for ever for a packet longer than half of its buffer
        for block in (pack, unpack, modulator, mux):
            block.set_min_output_buffer(1 << 15)
        for block in (allocator, ifft):
            block.set_min_output_buffer(64)
        for block in (prefixer, gap):
            block.set_min_output_buffer(1 << 16)
        self.connect(self, pack, header, header_mod, (mux, 0))
        self.connect(pack, unpack, modulator, (mux, 1))
        self.connect(mux, allocator, ifft, prefixer, gap, self)


class StockOfdm(gr.top_block):
    """slot source, stock transmitter, TDL channel, stock synchroniser, receiver and probe."""

    def __init__(self, snr_db: float, n_slots: int, cfo_hz: float = 1000.0, seed: int = 1):
        super().__init__("stock OFDM", catch_exceptions=True)
        slot = SLOT
        packet = Packet(slot)
        self.source = deeprx.slot_source(seed=seed, n_slots=n_slots, slot=slot)
        self.channel = deeprx.tdl_channel(
            n_rx=N_RX,
            snr_db=snr_db,
            cfo_hz=cfo_hz,
            slot=slot,
            burst_slots=BURST_SLOTS,
            seed=seed,
        )
        self.connect(self.source, Transmitter(packet), self.channel)

        antennas = [blocks.tag_gate(gr.sizeof_gr_complex, False) for _ in range(N_RX)]
        for k, antenna in enumerate(antennas):  # a radio passes no tags
            self.connect((self.channel, k), antenna)

        # One antenna decides when a packet begins and how far the oscillator is off
        sync = digital.ofdm_sync_sc_cfb(slot.fft_size, packet.prefix, threshold=THRESHOLD)
        oscillator = analog.frequency_modulator_fc(-2.0 / slot.fft_size)
        self.connect(antennas[0], sync, oscillator)

        # Header/payload demux has one input: the antennas take turns, sample by sample
        samples = blocks.interleave(gr.sizeof_gr_complex)
        triggers = blocks.interleave(gr.sizeof_char)
        for block in (samples, triggers):  # the demultiplexer takes a payload in one piece
            block.set_min_output_buffer(1 << 16)
        self.connect((sync, 1), (triggers, 0))
        for k, antenna in enumerate(antennas):
            delay = blocks.delay(gr.sizeof_gr_complex, slot.fft_size + packet.prefix - LEAD)
            mixer = blocks.multiply_cc()
            self.connect(antenna, delay, mixer, (samples, k))
            self.connect(oscillator, (mixer, 1))
            if k:
                self.connect(blocks.null_source(gr.sizeof_char), (triggers, k))
        demux = digital.header_payload_demux(
            3, N_RX * slot.fft_size, N_RX * packet.prefix, "frame_len", "", True
        )
        demux.set_min_output_buffer(64)
        self.connect(samples, demux)
        self.connect(triggers, (demux, 1))

        header = self.antennas_of((demux, 0), slot.fft_size)
        parser = digital.packet_headerparser_b(packet.header.formatter())
        self.connect(header[0], *self.header_chain(packet), parser)
        self.connect(header[1], blocks.null_sink(gr.sizeof_gr_complex * slot.fft_size))
        self.msg_connect(parser, "header_data", demux, "header_data")

        self.receiver = deeprx.receiver(
            model=deeprx.model_path(MODEL), slot=slot, n_rx=N_RX, len_tag_key="frame_len"
        )
        for k, symbols in enumerate(self.antennas_of((demux, 1), slot.fft_size)):
            spectrum = fft.fft_vcc(slot.fft_size, True, [slot.fft_size**-0.5] * slot.fft_size, True)
            self.connect(symbols, spectrum, (self.receiver, k))

        self.probe = deeprx.slot_probe(
            seed=seed,
            slot=slot,
            cluster_slots=BURST_SLOTS,
            len_tag_key="frame_len",
            conditions={
                "channel": "TDL-A", "delay_spread_s": 100e-9, "doppler_hz": 50.0,
                "snr_db": snr_db, "n_rx": N_RX, "sync": True,
            },
        )  # fmt: skip
        self.connect(self.receiver, self.probe)
        self.msg_connect(self.receiver, "stats", self.probe, "stats")

    def antennas_of(self, symbols, fft_size: int) -> list[gr.basic_block]:
        """Each antenna's OFDM symbols out of vectors in which the antennas take turns."""
        serial = blocks.vector_to_stream(gr.sizeof_gr_complex, N_RX * fft_size)
        apart = blocks.deinterleave(gr.sizeof_gr_complex)
        self.connect(symbols, serial, apart)
        vectors = [blocks.stream_to_vector(gr.sizeof_gr_complex, fft_size) for _ in range(N_RX)]
        for k, vector in enumerate(vectors):
            self.connect((apart, k), vector)
        return vectors

    @staticmethod
    def header_chain(packet: Packet) -> list[gr.basic_block]:
        """From a packet's first three symbols to its header bits, as in GNU Radio's ofdm_rx."""
        slot, carriers = packet.slot, packet.header_carriers
        equaliser = digital.ofdm_equalizer_simpledfe(
            slot.fft_size, packet.header_mod.base(), carriers, [[]], [[]]
        )
        return [
            fft.fft_vcc(slot.fft_size, True, [], True),
            digital.ofdm_chanest_vcvc(*packet.sync_words, 1),
            digital.ofdm_frame_equalizer_vcvc(
                equaliser.base(), packet.prefix, "frame_len", True, 1
            ),
            digital.ofdm_serializer_vcc(slot.fft_size, carriers, "frame_len"),
            digital.constellation_decoder_cb(packet.header_mod.base()),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--snr", type=float, default=18.0, metavar="DB", help="(18)")
    parser.add_argument("--slots", type=int, default=200, help="(200)")
    parser.add_argument("--cfo", type=float, default=1000.0, metavar="HZ", help="(1000)")
    arguments = parser.parse_args()
    try:
        flowgraph = StockOfdm(arguments.snr, arguments.slots, arguments.cfo)
        deeprx.run_flowgraph(flowgraph)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    points = flowgraph.probe.report()["points"]
    for table in report_view.tables(points):
        make_console().print(table)


if __name__ == "__main__":
    main()
