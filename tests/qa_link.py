# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes in, bytes out: framing and HARQ, without radio first."""

import itertools
import json
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pmt
import pytest
from companion import environment, generate
from gnuradio import blocks, deeprx, gr, network
from gnuradio.deeprx.blocks import link_transmitter
from gnuradio.deeprx.blocks.framing import FEWEST_BYTES, MOST_BYTES, Frame, Reassembler, Segmenter
from gnuradio.deeprx.blocks.guarded import SelfKeeping
from gnuradio.deeprx.blocks.harq import RV_ORDER, HarqSender
from gnuradio.deeprx.cli import main
from qa_messages import MESSAGES

from deeprx_common.slot import SlotConfig, User

HEADER = FEWEST_BYTES - 1  # bytes of a block


def messages_of(sizes, seed=1) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [rng.bytes(size) for size in sizes]


def blocks_of(messages, block_bytes, session=None) -> list[bytes]:
    segmenter = Segmenter(block_bytes, session)
    for message in messages:
        segmenter.push(message)
    blocks = []
    while segmenter.queued_bytes:
        blocks.append(segmenter.block(len(blocks), max(0, len(blocks) - 7)))
    return blocks


class TestFraming:
    @pytest.mark.parametrize("block_bytes", [FEWEST_BYTES, FEWEST_BYTES + 4, 100, 1057])
    @pytest.mark.parametrize(
        "sizes", [[], [0], [1], [0, 0, 0], [5000], [2000, 0, 1, 3, 1039, 1045, 0], range(200)]
    )
    def test_messages_of_any_size_come_back(self, block_bytes, sizes):
        messages = messages_of(sizes)
        blocks = blocks_of(messages, block_bytes)
        assert all(len(block) == block_bytes for block in blocks)
        assert (len(blocks) > 100) == (sum(sizes) + 4 * len(sizes) > 100 * (block_bytes - HEADER))
        reassembler = Reassembler()
        assert [m for b in blocks for m in reassembler.add(Frame.read(b))] == messages
        assert reassembler.messages == len(messages)
        assert reassembler.bytes == sum(sizes)
        assert reassembler.lost_blocks == reassembler.lost_messages == 0

    @pytest.mark.parametrize("seed", range(20))
    def test_any_order_and_repetition_changes_nothing(self, seed):
        rng = np.random.default_rng(seed)
        messages = messages_of(rng.integers(0, 300, 200), seed)
        frames = [Frame.read(b) for b in blocks_of(messages, 64)]
        order = np.argsort(np.arange(len(frames)) + rng.uniform(0, 7, len(frames)))
        order[0], order[np.argmin(order)] = 0, order[0]  # where it begins
        reassembler, got, repeated = Reassembler(), [], 0
        for k in order:
            for _ in range(rng.integers(1, 3)):
                got += reassembler.add(frames[k])
                repeated += 1
        assert got == messages
        assert reassembler.duplicates == repeated - len(frames)
        assert reassembler.lost_blocks == 0

    @pytest.mark.parametrize("seed", range(20))
    def test_lost_blocks_are_counted_and_what_follows_is_in_order(self, seed):
        rng = np.random.default_rng(seed)
        messages = messages_of(rng.integers(0, 300, 300), seed)
        blocks = blocks_of([*messages, b"end" * 400], 64)
        lost = set(rng.choice(np.arange(len(blocks) - 40), 20, replace=False).tolist())
        reassembler, got = Reassembler(), []
        for k, block in enumerate(blocks):
            if k not in lost:
                got += reassembler.add(Frame.read(block))
        assert got[-1] == b"end" * 400
        rest = iter(messages)
        assert all(message in rest for message in got[:-1])  # a part of them, in order
        assert len(got) + reassembler.lost_messages == len(messages) + 1
        assert reassembler.lost_blocks == len(lost)
        assert 0 < reassembler.lost_messages < 200

    def test_long_outages_and_more_than_2_to_16_blocks_are_counted(self):
        segmenter, reassembler = Segmenter(32), Reassembler()
        for k in range(100_000):
            segmenter.push(bytes(4))
            frame = Frame.read(segmenter.block(k, k))
            if not 5 <= k < 90_000:
                assert reassembler.add(frame) == [bytes(4)]
        assert (reassembler.blocks, reassembler.messages) == (10_005, 10_005)
        assert reassembler.lost_blocks == reassembler.lost_messages == 89_995
        assert reassembler.duplicates == 0

    def test_a_block_is_lost_across_the_wrap(self):
        segmenter, reassembler, got = Segmenter(32), Reassembler(), []
        first = 2**32 - 6
        for k in range(first, first + 15):
            segmenter.push(bytes([k % 256]))
            block = segmenter.block(k, max(first, k - 3))
            if k not in (2**32 - 1, 2**32):
                got += reassembler.add(Frame.read(block))
        assert b"".join(got) == bytes(
            k % 256 for k in range(first, first + 15) if k not in (2**32 - 1, 2**32)
        )
        assert (reassembler.lost_blocks - first, reassembler.lost_messages) == (2, 2)

    def test_padding_says_what_is_lost_and_holds_nothing(self):
        segmenter, reassembler = Segmenter(32), Reassembler()
        for k in range(3):
            segmenter.push(bytes([k]))
            block = segmenter.block(k, 0)
            if k != 1:
                last = reassembler.add(Frame.read(block))
        assert last == []  # waits for the second one
        assert segmenter.queued_bytes == 0
        assert reassembler.add(Frame.read(segmenter.block(3, 3))) == [b"\2"]
        assert (reassembler.lost_blocks, reassembler.blocks, reassembler.duplicates) == (1, 2, 0)
        assert reassembler.lost_messages == 1

    def test_what_came_before_the_receiver_is_lost_to_it(self):
        segmenter, reassembler, got = Segmenter(64), Reassembler(), []
        for message in messages_of([500, 10, 20]):
            segmenter.push(message)
        for k in range(13):
            block = segmenter.block(k, k)
            if k >= 5:
                got += reassembler.add(Frame.read(block))
        assert [len(m) for m in got] == [10, 20]
        assert (reassembler.blocks, reassembler.lost_blocks, reassembler.lost_messages) == (8, 5, 1)

    def test_of_another_session_a_new_stream_is_read_and_the_rest_of_this_one_is_counted(self):
        reassembler = Reassembler()
        blocks = blocks_of([b"a" * 50, b"b" * 20, b"c" * 30, b"d" * 70], 64)
        assert [m for k in (0, 3) for m in reassembler.add(Frame.read(blocks[k]))] == []
        assert reassembler.blocks == 1
        after = blocks_of([b"e"], 64)[0]
        assert reassembler.add(Frame.read(after)) == [b"e"]
        assert (reassembler.blocks, reassembler.lost_blocks) == (3, 2)
        assert reassembler.lost_messages == 4  # of which the last had begun to come

    def test_sessions_differ_unless_they_are_told(self):
        assert len({Segmenter(64).block(0, 0) for _ in range(20)}) == 20
        assert Frame.read(Segmenter(64, 7).block(0, 0)).session == 7
        with pytest.raises(ValueError, match="session must be 0 to 4294967295, got -1"):
            Segmenter(64, -1)

    @pytest.mark.parametrize("seed", range(50))
    def test_any_bytes_are_read_or_refused(self, seed):
        rng = np.random.default_rng(seed)
        reassembler, refused = Reassembler(), 0
        for _ in range(200):
            block = bytearray(rng.bytes(rng.integers(0, 80)))
            block[: rng.integers(0, 22)] = bytes(22)[: rng.integers(0, 22)]
            try:
                frame = Frame.read(bytes(block))
            except ValueError as error:
                assert "\n" not in str(error)
                refused += 1
                continue
            for message in reassembler.add(frame):
                assert isinstance(message, bytes)
        assert refused

    def test_too_much_is_refused_in_one_line(self):
        with pytest.raises(ValueError, match=f"of {FEWEST_BYTES} bytes or more, got 12: more PRBs"):
            Segmenter(12)
        with pytest.raises(ValueError, match=f"at most {MOST_BYTES} bytes, got {MOST_BYTES + 1}"):
            Segmenter(FEWEST_BYTES).push(bytes(MOST_BYTES + 1))


class Air:
    """Sender, chain and receiver without radio: the chain holds `depth` slots back; channel(slot,
    attempt) says what becomes of a transmission: "ack", "nack" or None, where it is dropped.
    """

    def __init__(self, channel, depth=2, block_bytes=64, **harq):
        self.segmenter = Segmenter(block_bytes, session=1)
        self.sender = HarqSender(self.segmenter, **harq)
        self.reassembler = Reassembler()
        self.channel, self.depth = channel, depth
        self.chain, self.sent, self.got = [], [], []
        self.verdicts = lambda verdicts: verdicts  # what the way back makes of them
        self.stalls = 0

    def run(self, limit=10_000):
        """Until nothing is left to be done; the chain stands still where nothing pushes it."""
        for _ in range(limit):
            transmission = self.sender.next()
            if transmission is not None:
                self.sent.append(transmission)
                self.chain.append(transmission)
            if len(self.chain) > self.depth:
                self.receive(self.chain.pop(0))
            elif transmission is None:
                if self.sender.idle and not self.segmenter.queued_bytes:
                    return self.got
                self.stalls += 1
                if not self.sender.grow():
                    self.sender.expire()
        raise AssertionError("it did not end")

    def receive(self, sent):
        fate = self.channel(sent)
        verdicts = []
        if fate is not None:
            if fate == "ack":
                self.got += self.reassembler.add(Frame.read(sent.block))
            verdicts = [(sent.slot_index, fate == "ack")]
        for slot_index, ack in self.verdicts(verdicts):
            self.sender.verdict(slot_index, ack)


def perfect(sent):
    return "ack"


class TestHarq:
    @pytest.mark.parametrize("processes", [3, 4, 8, 16])
    def test_without_errors_each_block_is_sent_once(self, processes):
        air = Air(perfect, processes=processes)
        messages = messages_of([3000, 0, 2000])
        for message in messages:
            air.segmenter.push(message)
        assert air.run() == messages
        assert air.sender.blocks == -(-5018 // (64 - HEADER))
        assert air.sender.acknowledged == air.reassembler.blocks == air.sender.blocks
        assert [t.slot_index for t in air.sent] == list(range(len(air.sent)))
        assert all(t.new_data and t.rv == 0 for t in air.sent)
        assert all(t.process == t.slot_index % processes for t in air.sent)
        assert air.sender.padding == processes - 1  # which pushes the last ones out
        assert air.sender.retransmissions == air.stalls == air.sender.unreported == 0

    def test_what_fails_is_sent_again_with_other_redundancy(self):
        air = Air(lambda sent: "ack" if sent.rv == RV_ORDER[3] else "nack", processes=4)
        air.segmenter.push(bytes(1000))
        assert air.run() == [bytes(1000)]
        data = [t for t in air.sent if Frame.read(t.block).content]
        for process in range(4):
            mine = [t for t in data if t.process == process]
            assert [t.rv for t in mine] == [0, 2, 3, 1] * (len(mine) // 4)
            assert [t.new_data for t in mine] == [True, False, False, False] * (len(mine) // 4)
            assert [t.slot_index for t in mine] == list(range(process, 4 * len(mine), 4))
            for attempt in range(len(mine)):
                assert mine[attempt].block == mine[attempt // 4 * 4].block
        assert air.sender.first_failures == air.sender.blocks
        assert air.sender.retransmissions == 3 * air.sender.blocks
        assert air.sender.lost == 0

    @pytest.mark.parametrize("transmissions", [1, 2, 4])
    def test_a_block_that_never_arrives_is_given_up_and_counted(self, transmissions):
        attempts = []

        def channel(sent):
            if Frame.read(sent.block).sequence == 5 and Frame.read(sent.block).content:
                attempts.append(sent)
                return "nack"
            return "ack"

        air = Air(channel, processes=4, transmissions=transmissions)
        messages = [bytes([k]) * 40 for k in range(30)]
        for message in messages:
            air.segmenter.push(message)
        got = air.run()
        assert len(attempts) == transmissions
        assert air.sender.lost == air.reassembler.lost_blocks == 1
        assert air.sender.acknowledged == air.sender.blocks - 1
        assert len(got) + air.reassembler.lost_messages == 30
        assert got == [m for m in messages if m in got] and got[-1] == messages[-1]
        assert 1 <= air.reassembler.lost_messages <= 3

    def test_the_last_block_that_is_lost_is_counted_at_the_receiver(self):
        air = Air(lambda sent: "nack" if Frame.read(sent.block).content else "ack", processes=4)
        air.segmenter.push(b"x")
        assert air.run() == []
        assert air.sender.lost == air.reassembler.lost_blocks == 1
        assert air.sender.idle

    def test_padding_that_tells_of_a_loss_is_combined_like_a_block(self):
        """Where no first transmission gets through, and no block at all."""

        def channel(sent):
            told = not Frame.read(sent.block).content and sent.rv == RV_ORDER[3]
            return "ack" if told else "nack"

        air = Air(channel, processes=8)
        air.segmenter.push(bytes(1000))
        assert air.run() == []
        assert air.sender.lost == air.reassembler.lost_blocks == air.sender.blocks > 8
        assert air.sender.unheard_ends == 0
        assert air.sender.padding < 40
        slots = air.sender.blocks + air.sender.retransmissions + air.sender.padding
        assert slots == air.sender.slots == len(air.sent)

    @pytest.mark.parametrize("fate", ["nack", None])
    @pytest.mark.parametrize("transmissions", [1, 4])
    def test_the_end_is_bounded_where_nothing_gets_through(self, transmissions, fate):
        fates = [fate]
        air = Air(lambda sent: fates[0], processes=8, transmissions=transmissions)
        air.segmenter.push(bytes(1000))
        assert air.run() == []
        blocks, processes = air.sender.blocks, air.sender.processes
        assert air.sender.lost == blocks and air.sender.unheard_ends == 1
        padding = air.sender.padding - processes * transmissions  # that told of the end
        assert 0 <= padding <= processes * (transmissions + 1)
        fates[0] = "ack"  # what comes next tells of it
        air.segmenter.push(b"next")
        assert air.run() == [b"next"]
        assert air.sender.lost == air.reassembler.lost_blocks == blocks
        assert air.reassembler.lost_messages == 1

    @pytest.mark.parametrize("processes", [3, 8])
    @pytest.mark.parametrize("lost", [range(20), range(70, 98), [*range(9), 50, *range(90, 98)]])
    def test_what_is_lost_at_the_start_and_at_the_end_is_counted(self, processes, lost):
        def channel(sent):
            frame = Frame.read(sent.block)
            return "nack" if frame.content and frame.sequence in lost else "ack"

        air = Air(channel, processes=processes)
        messages = messages_of([20] * 170)
        for message in messages:
            air.segmenter.push(message)
        got = air.run()
        assert air.sender.blocks == 98
        assert air.sender.lost == air.reassembler.lost_blocks == len(lost)
        assert len(got) + air.reassembler.lost_messages == len(messages)
        assert got == [m for m in messages if m in got]

    @pytest.mark.parametrize("seed", range(30))
    def test_whatever_the_channel_does_nothing_is_out_of_order_or_uncounted(self, seed):
        rng = np.random.default_rng(seed)
        p = rng.dirichlet([3, 2, 0.5])
        air = Air(
            lambda sent: rng.choice(np.array(["ack", "nack", None], object), p=p),
            depth=int(rng.integers(0, 4)),
            block_bytes=int(rng.integers(FEWEST_BYTES, 120)),
            processes=int(rng.integers(5, 17)),
            transmissions=int(rng.integers(1, 7)),
        )
        messages = messages_of(rng.integers(0, 200, 60), seed)
        for message in messages:
            air.segmenter.push(message)
        got = air.run(100_000)
        assert air.sender.lost == air.reassembler.lost_blocks
        assert air.sender.acknowledged == air.reassembler.blocks
        assert len(got) + air.reassembler.lost_messages == len(messages)
        if air.sender.lost == 0:
            assert got == messages
        rest = iter(messages)
        assert all(message in rest for message in got)

    @pytest.mark.parametrize("seed", range(30))
    def test_whatever_happens_to_verdicts_nothing_is_out_of_order_or_twice(self, seed):
        rng = np.random.default_rng(seed)
        air = Air(lambda sent: "ack" if rng.random() < 0.7 else "nack", processes=8)
        late = []

        def way_back(verdicts):
            """Some are lost, some come late, some come twice, and some are of no slot."""
            for verdict in verdicts:
                fate = rng.choice(
                    ["arrives", "is lost", "is late", "twice"], p=[0.7, 0.1, 0.1, 0.1]
                )
                if fate == "arrives" or fate == "twice":
                    yield verdict
                if fate == "is late" or fate == "twice":
                    late.append(verdict)
            while late and rng.random() < 0.3:
                yield late.pop(int(rng.integers(len(late))))
            if rng.random() < 0.1:
                yield int(rng.integers(10**6, 2**63)), bool(rng.integers(2))

        air.verdicts = way_back
        messages = messages_of(rng.integers(0, 200, 60), seed)
        for message in messages:
            air.segmenter.push(message)
        got = air.run(100_000)
        assert air.sender.lost >= air.reassembler.lost_blocks  # a lost ACK's block did arrive
        assert air.reassembler.blocks + air.reassembler.lost_blocks == air.sender.blocks
        assert len(got) + air.reassembler.lost_messages == len(messages)
        rest = iter(messages)
        assert all(message in rest for message in got)
        if not air.reassembler.lost_blocks:
            assert got == messages

    def test_a_verdict_of_a_later_slot_says_that_earlier_ones_are_lost(self):
        segmenter = Segmenter(64)
        sender = HarqSender(segmenter, processes=4)
        segmenter.push(bytes(1000))
        first = [sender.next() for _ in range(4)]
        assert sender.next() is None and sender.waiting == 0
        sender.verdict(2, True)
        again = [sender.next(), sender.next()]
        assert [t.block for t in again] == [t.block for t in first[:2]]
        assert all(t.new_data and t.rv == 0 for t in again)  # the decoder knows nothing of them
        assert sender.unreported == 2
        sender.verdict(0, True)  # and yet it comes, late: the block is not sent a third time
        sender.verdict(4, False)
        sender.verdict(5, False)
        sender.verdict(3, True)
        sent = [sender.next() for _ in range(4)]
        assert not {t.block for t in sent[:3]} & {t.block for t in first}
        assert (sent[3].block, sent[3].rv, sent[3].new_data) == (first[1].block, 2, False)
        assert sender.acknowledged == 3

    def test_what_the_decoder_did_not_keep_is_new_data_again(self):
        segmenter = Segmenter(64)
        sender = HarqSender(segmenter, processes=1)
        segmenter.push(b"x")
        sent = []
        for received in (True, False, True, True):
            sent.append(sender.next())
            sender.verdict(len(sent) - 1, False, received)
        assert [(t.rv, t.new_data) for t in sent] == [(0, True), (2, False), (0, True), (2, False)]

    def test_where_no_verdict_comes_the_oldest_slot_expires(self):
        segmenter = Segmenter(64)
        sender = HarqSender(segmenter, processes=2, transmissions=2)
        segmenter.push(b"x")
        first, padding = sender.next(), sender.next()
        assert not Frame.read(padding.block).content
        assert sender.next() is None
        assert sender.expire() == 0
        assert sender.next().block == first.block
        assert sender.next() is None
        assert sender.expire() == 1
        assert not Frame.read(sender.next().block).content
        assert sender.expire() == 2
        assert Frame.read(sender.next().block).base == 1  # which says that it comes no more
        assert sender.lost == 1 and not sender.idle

    @pytest.mark.parametrize("share", [0, 0.3])
    @pytest.mark.parametrize("depth", range(2, 16, 3))
    def test_processes_grow_to_what_the_chain_holds_back(self, depth, share):
        rng = np.random.default_rng(depth)
        failing = rng.random(10_000) < share
        air = Air(
            lambda sent: "nack" if failing[sent.slot_index] else "ack",
            depth,
            processes=2,
            transmissions=16,
        )
        messages = messages_of([40] * 300)
        for message in messages:
            air.segmenter.push(message)
        assert air.run() == messages
        assert air.sender.processes == 1 << depth.bit_length()
        assert air.stalls == depth.bit_length() - 1
        assert air.sender.unreported == air.sender.lost == air.reassembler.duplicates == 0
        of = {}  # slots by process
        for sent in air.sent:
            of.setdefault(sent.process, []).append(sent.slot_index)
        assert sorted(of) == list(range(air.sender.processes))
        assert all(b - a > depth for slots in of.values() for a, b in itertools.pairwise(slots))

    def test_verdicts_of_slots_that_were_not_sent_change_nothing(self):
        segmenter = Segmenter(64)
        sender = HarqSender(segmenter, processes=1)
        segmenter.push(b"x")
        for slot_index in (0, 5, 2**64 - 1):
            sender.verdict(slot_index, True)
        assert sender.next().slot_index == 0
        assert sender.next() is None and not sender.idle
        for ack in (True, False, True):
            sender.verdict(0, ack)
        assert sender.next() is None
        assert sender.idle and sender.acknowledged == 1

    def test_nothing_is_sent_where_there_is_nothing(self):
        segmenter = Segmenter(64)
        sender = HarqSender(segmenter)
        assert sender.next() is None and sender.idle and sender.waiting is None
        segmenter.push(b"")
        assert sender.next() is not None

    def test_what_is_sent_depends_on_verdicts_alone(self):
        sequences = []
        for depth in (0, 2, 5):
            air = Air(
                lambda sent: "nack" if sent.slot_index % 5 == 0 else "ack", depth, processes=8
            )
            air.segmenter.push(bytes(5000))
            air.run()
            sequences.append(air.sent)
        assert sequences[0] == sequences[1] == sequences[2]

    @pytest.mark.parametrize(
        ("parameters", "says"),
        [
            ({"processes": 0}, "processes must be 1 to 16, got 0"),
            ({"processes": 17}, "processes must be 1 to 16, got 17"),
            ({"transmissions": 0}, "transmissions must be 1 to 16, got 0"),
        ],
    )
    def test_bad_parameters_say_what_is_wrong(self, parameters, says):
        with pytest.raises(ValueError, match=says):
            HarqSender(Segmenter(64), **parameters)


@contextmanager
def running(top):
    top.start()
    try:
        yield
    finally:
        top.stop()
        top.wait()


class Chain(SelfKeeping, gr.basic_block):
    """From a link_transmitter's blocks to a link_receiver's: tb_source to tb_decoder without radio.

    fate: of a PDU's metadata and block, "ack", "nack" or None, where the slot is dropped. It holds
    `depth` slots back.
    """

    def __init__(self, fate=lambda given, block: "ack", depth=2):
        super().__init__("Chain", None, None)
        self.fate, self.depth = fate, depth
        self.slots, self.held = [], []
        self.message_port_register_in(pmt.intern("pdus"))
        self.message_port_register_out(pmt.intern("blocks"))
        self.set_msg_handler(pmt.intern("pdus"), self._on_pdu)

    def _on_pdu(self, message):
        given = pmt.to_python(pmt.car(message))
        assert given["slot_index"] == len(self.slots)
        self.slots.append(given)
        self.held.append((given, bytes(pmt.u8vector_elements(pmt.cdr(message)))))
        if len(self.held) > self.depth:
            given, block = self.held.pop(0)
            fate = self.fate(given, block)
            if fate:
                given |= {"crc_ok": fate == "ack"}
                meta = pmt.dict_add(
                    pmt.to_pmt(given),
                    pmt.intern("slot_index"),
                    pmt.from_uint64(given["slot_index"]),
                )
                vector = pmt.init_u8vector(len(block), list(block))
                self.message_port_pub(pmt.intern("blocks"), pmt.cons(meta, vector))


class Collector(SelfKeeping, gr.basic_block):
    """Keeps messages: the bytes of PDUs, other ones as Python has them."""

    def __init__(self):
        super().__init__("Collector", None, None)
        self.messages = []
        self.message_port_register_in(pmt.intern("in"))
        self.set_msg_handler(pmt.intern("in"), self._on_message)

    def _on_message(self, message):
        is_pdu = pmt.is_pair(message) and pmt.is_u8vector(pmt.cdr(message))
        content = pmt.u8vector_elements(pmt.cdr(message)) if is_pdu else pmt.to_python(message)
        self.messages.append(bytes(content) if is_pdu else content)


def receiver_alone():
    """Its flowgraph, the receiver, and what it says on pdus and acks."""
    top, receiver = gr.top_block(), deeprx.link_receiver(SLOT)
    pdus, acks = Collector(), Collector()
    top.msg_connect(receiver, "pdus", pdus, "in")
    top.msg_connect(receiver, "acks", acks, "in")
    return top, receiver, pdus, acks


def post_block(receiver, meta: dict, block: bytes) -> None:
    pdu = pmt.cons(pmt.to_pmt(meta), pmt.init_u8vector(len(block), list(block)))
    receiver.to_basic_block()._post(pmt.intern("blocks"), pdu)


class Later(SelfKeeping, gr.basic_block):
    """Gives messages on, each after a while."""

    def __init__(self, delay_s):
        super().__init__("Later", None, None)
        self._delay_s = delay_s
        self.message_port_register_in(pmt.intern("in"))
        self.message_port_register_out(pmt.intern("out"))
        self.set_msg_handler(pmt.intern("in"), self._on_message)

    def _on_message(self, message):
        time.sleep(self._delay_s)
        self.message_port_pub(pmt.intern("out"), message)


SLOT = SlotConfig(n_prb=6, users=(User(tbs=8 * 200),))
CODED = SlotConfig(n_prb=20, users=(User(mcs=10),))


class Link(gr.top_block):
    def __init__(self, chain, **options):
        super().__init__("link", catch_exceptions=True)
        self.transmitter = deeprx.link_transmitter(SLOT, **options)
        self.receiver = deeprx.link_receiver(SLOT)
        self.chain, self.pdus, self.status = chain, Collector(), Collector()
        self.msg_connect(self.transmitter, "blocks", chain, "pdus")
        self.msg_connect(chain, "blocks", self.receiver, "blocks")
        self.msg_connect(self.receiver, "acks", self.transmitter, "acks")
        self.msg_connect(self.receiver, "pdus", self.pdus, "in")
        for block in (self.transmitter, self.receiver):
            self.msg_connect(block, "status", self.status, "in")

    def post(self, payload):
        vector = pmt.init_u8vector(len(payload), list(payload))
        pdu = pmt.cons(pmt.make_dict(), vector)
        self.transmitter._sender.to_basic_block()._post(pmt.intern("pdus"), pdu)

    def run_until(self, done, seconds=30):
        deadline = time.monotonic() + seconds

        def enough():
            assert time.monotonic() < deadline, "it does not end"
            return done()

        deeprx.run_flowgraph(self, enough, every_s=0.02)


class Source(SelfKeeping, gr.basic_block):
    """Posts PDUs when the flowgraph starts."""

    def __init__(self, messages):
        super().__init__("Source", None, None)
        self._messages = messages
        self.message_port_register_out(pmt.intern("pdus"))

    def start(self):
        for text in self._messages:
            pdu = pmt.cons(pmt.make_dict(), pmt.init_u8vector(len(text), list(text)))
            self.message_port_pub(pmt.intern("pdus"), pdu)
        return super().start()


def scattered(share, seed=1):
    """A fate: this share of the transmissions fails."""
    rng = np.random.default_rng(seed)
    return lambda given, block: "nack" if rng.random() < share else "ack"


class TestBlocks:
    def test_messages_arrive_in_order_though_a_third_of_the_transmissions_fail(self):
        messages = messages_of(np.random.default_rng(1).integers(0, 1500, 100))
        top = Link(Chain(scattered(0.3)), transmissions=16)
        top.msg_connect(Source(messages), "pdus", top.transmitter, "pdus")

        def said():  # by the transmitter, once all has arrived
            blocks = top.transmitter.statistics()["blocks"]
            return [m for m in top.status.messages if m.get("acknowledged") == blocks]

        top.run_until(lambda: len(top.pdus.messages) == 100 and top.transmitter.idle() and said())
        assert top.pdus.messages == messages
        sent, got = top.transmitter.statistics(), top.receiver.statistics()
        assert sent["blocks"] == sent["acknowledged"] == got["blocks"] > 300
        assert 0.2 < sent["first_failures"] / sent["blocks"] < 0.4
        assert sent["lost_blocks"] == got["lost_blocks"] == sent["queued_bytes"] == 0
        assert got["bytes"] == sum(map(len, messages))
        air_s = got["slots"] * SLOT.slot_s
        assert got["goodput_bit_per_s"] == pytest.approx(8 * got["bytes"] / air_s)
        assert [m for m in top.status.messages if "goodput_bit_per_s" in m]
        assert said()[-1]["queued_bytes"] == 0

    def test_a_loss_is_counted_and_what_follows_arrives_in_order(self):
        messages = messages_of([250] * 60)

        def fate(given, block):
            frame = Frame.read(block)
            return "nack" if frame.content and frame.sequence == 5 else "ack"

        top = Link(Chain(fate))
        top.msg_connect(Source(messages), "pdus", top.transmitter, "pdus")
        top.run_until(lambda: top.transmitter.idle() and messages[-1] in top.pdus.messages)
        sent, got = top.transmitter.statistics(), top.receiver.statistics()
        assert sent["lost_blocks"] == got["lost_blocks"] == 1
        assert 1 <= got["lost_messages"] <= 2
        assert got["lost_messages"] + len(top.pdus.messages) == 60
        assert top.pdus.messages == [m for m in messages if m in top.pdus.messages]

    def test_what_is_queued_before_the_flowgraph_runs_is_sent_in_full_blocks(self):
        messages = messages_of([100] * 40)
        top = Link(Chain())
        for message in messages:
            top.transmitter.send(message)
        assert top.transmitter.statistics()["slots"] == 0
        top.run_until(lambda: top.transmitter.idle() and top.pdus.messages)
        assert top.pdus.messages == messages
        sent = top.transmitter.statistics()
        assert sent["blocks"] == -(-40 * 106 // (200 - HEADER)) and sent["padding_slots"] == 7

    def test_a_stream_of_bytes_is_sent_to_its_last_one_and_waits_for_the_link(self):
        content = np.random.default_rng(2).bytes(700_001)
        top = Link(Chain(scattered(0.1)), bytes_input=True, transmissions=16)
        top.connect(blocks.vector_source_b(list(content)), top.transmitter)
        top.run_until(
            lambda: top.receiver.statistics()["bytes"] == len(content) and top.transmitter.idle()
        )
        assert b"".join(top.pdus.messages) == content
        assert max(map(len, top.pdus.messages)) == 1024
        queued = len(content) + 6 * len(top.pdus.messages)
        assert top.transmitter.statistics()["blocks"] < 1.02 * queued / (200 - HEADER)  # full ones

    @pytest.mark.parametrize("pieces", [[1] * 3000, [7, 2993], [1024, 1976], [3000]])
    def test_a_stream_is_cut_at_the_same_places_however_it_comes(self, pieces):
        """As long as enough waits to fill blocks: else runs of one seed would differ."""
        content = np.random.default_rng(3).bytes(3000)
        top = Link(Chain(), bytes_input=True)
        top.transmitter.send(bytes(5000))
        for end, size in zip(itertools.accumulate(pieces), pieces, strict=True):
            top.transmitter._sender.push_stream(content[end - size : end])
        top.connect(blocks.vector_source_b([]), top.transmitter)
        top.run_until(top.transmitter.idle)
        cut = [content[k : k + 1024] for k in range(0, 3000, 1024)]
        assert top.pdus.messages == [bytes(5000), *cut]

    def test_through_udp(self):
        sent, received = udp(), udp()
        messages = messages_of([1, 1400, 60, 5000] * 4)
        top = Link(Chain(scattered(0.2)), transmissions=16)
        port = sent.getsockname()[1]
        sent.close()
        source = network.socket_pdu("UDP_SERVER", "127.0.0.1", str(port), 10000, False)
        sink = network.socket_pdu(
            "UDP_CLIENT", "127.0.0.1", str(received.getsockname()[1]), 10000, False
        )
        top.msg_connect(source, "pdus", top.transmitter, "pdus")
        top.msg_connect(top.receiver, "pdus", sink, "pdus")
        with running(top), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for message in messages:
                out.sendto(message, ("127.0.0.1", port))
            assert [received.recv(10000) for _ in messages] == messages

    def test_a_slot_whose_verdict_never_comes_is_sent_again_after_a_while(self, capfd):
        silent = [True]
        top = Link(Chain(lambda *_: None if silent[0] else "ack"), timeout_s=0.2)
        top.msg_connect(Source([b"x" * 150]), "pdus", top.transmitter, "pdus")

        def done():
            if len(top.chain.slots) == 17:
                silent[0] = False
            return top.transmitter.idle() and top.pdus.messages

        top.run_until(done)
        assert top.pdus.messages == [b"x" * 150]
        assert top.transmitter.statistics()["unreported_slots"] >= 1
        time.sleep(0.2)  # the logger has a thread of its own
        assert "slot 0 counts as lost: no ACK for 0.2 s" in "".join(capfd.readouterr())

    @pytest.mark.parametrize("depth", [7, 8, 15])
    def test_there_are_as_many_processes_as_the_chain_needs(self, depth, capfd):
        messages = messages_of([150] * 300)
        top = Link(Chain(scattered(0.1), depth), timeout_s=1, transmissions=16)
        for message in messages:
            top.transmitter.send(message)
        top.run_until(lambda: len(top.pdus.messages) == 300 and top.transmitter.idle())
        assert top.pdus.messages == messages
        sent, more = top.transmitter.statistics(), depth >= 8
        assert sent["processes"] == (16 if more else 8)
        assert sent["unreported_slots"] == sent["lost_blocks"] == 0
        time.sleep(0.2)  # the logger has a thread of its own
        says = "no ACK for 1 s: 16 HARQ processes from here on"
        assert "".join(capfd.readouterr()).count(says) == more  # one wait, and none after it

    def test_where_even_16_processes_are_too_few_the_log_says_so_and_all_arrives(self, capfd):
        messages = messages_of([150] * 3)
        top = Link(Chain(depth=17), timeout_s=0.2)
        for message in messages:
            top.transmitter.send(message)
        top.run_until(lambda: len(top.pdus.messages) == 3)
        assert top.pdus.messages == messages
        time.sleep(0.2)  # the logger has a thread of its own
        assert "the chain holds back 16 slots or more" in "".join(capfd.readouterr())

    def test_what_does_not_fit_is_dropped_and_counted(self, monkeypatch, capfd):
        top = Link(Chain())
        with pytest.raises(ValueError, match="a message has at most 16777216 bytes"):
            top.transmitter.send(bytes(MOST_BYTES + 1))
        monkeypatch.setattr(link_transmitter, "MOST_QUEUED", 1000)
        top.transmitter.send(bytes(900))
        with running(top):
            top.post(bytes(1001))
            wait_for(lambda: len(top.pdus.messages) == 1 and top.transmitter.idle())
            wait_for(lambda: top.transmitter.statistics()["dropped_pdus"] == 2)
        time.sleep(0.2)
        assert "1000 bytes wait to be sent: a PDU is dropped" in "".join(capfd.readouterr())
        assert top.transmitter.statistics()["bytes"] == 900

    def test_a_transmitter_that_starts_again_is_read_from_its_beginning(self):
        top, receiver, pdus, acks = receiver_alone()
        with running(top):
            for session in (1, 2):
                for k, block in enumerate(blocks_of([b"a" * 300, b"b"], 200, session)[:2] * 2):
                    post_block(receiver, {"slot_index": k, "crc_ok": True}, block)
            wait_for(lambda: len(acks.messages) == 8 and len(pdus.messages) == 4)
        assert pdus.messages == [b"a" * 300, b"b"] * 2
        assert all(ack["ack"] and ack["received"] for ack in acks.messages)
        statistics = receiver.statistics()
        assert statistics["duplicate_blocks"] == 4 and statistics["lost_messages"] == 0
        assert statistics["air_s"] == pytest.approx(8e-3)

    @pytest.mark.parametrize("at", [0, 2, 4])
    def test_slots_found_in_noise_last_no_time_on_air(self, at):
        """Before, between and behind those of the link, of which one is not decoded."""
        top, receiver, _, acks = receiver_alone()
        blocks = [({"slot_index": 9, "crc_ok": False}, bytes(200))]
        for k, block in enumerate(blocks_of([b"a" * 500], 200)):
            blocks.append(({"slot_index": 10 + k, "crc_ok": True}, block))
        count = len(blocks)
        blocks.insert(at, ({"slot_index": 1 << 40, "crc_ok": False}, bytes(200)))
        with running(top):
            for meta, block in blocks:
                post_block(receiver, meta, block)
            wait_for(lambda: len(acks.messages) == len(blocks))
        statistics = receiver.statistics()
        assert statistics["slots"] == count + 1 and statistics["block_errors"] == 2
        counted = count - (at == 0)  # nobody knew then that slot 9 was none, too
        assert statistics["air_s"] == pytest.approx(counted * SLOT.slot_s)

    def test_slots_of_a_long_outage_last_their_time_on_air(self):
        top, receiver, _, acks = receiver_alone()
        first, *_, last = blocks_of([b"a" * 500], 200)
        with running(top):
            post_block(receiver, {"slot_index": 3, "crc_ok": True}, first)
            post_block(receiver, {"slot_index": 10_002, "crc_ok": True}, last)
            wait_for(lambda: len(acks.messages) == 2)
        assert receiver.statistics()["air_s"] == pytest.approx(10_000 * SLOT.slot_s)

    def test_a_slot_that_is_reported_late_begins_nothing_anew(self):
        """A slot_index that goes back says nothing of the transmitter."""
        top, receiver, pdus, acks = receiver_alone()
        late = {"slot_index": 1, "crc_ok": False, "dropped": "no LLRs came"}, bytes(0)
        with running(top):
            blocks = blocks_of([b"a" * 500, b"b"], 200)
            there = [({"slot_index": k + 1, "crc_ok": True}, b) for k, b in enumerate(blocks)]
            for meta, block in (*there[:2], late, *there[2:]):
                post_block(receiver, meta, block)
            wait_for(lambda: len(acks.messages) == len(there) + 1)
        assert pdus.messages == [b"a" * 500, b"b"]
        assert receiver.statistics()["air_s"] == pytest.approx(len(there) * SLOT.slot_s)

    @pytest.mark.parametrize("hidden", [(), ("rnti", "process", "rv", "new_data")])
    @pytest.mark.parametrize("delay_s", [0.0, 0.003])
    def test_grants_that_come_after_their_llrs_cost_nothing(self, delay_s, hidden):
        """Behind a block of Python, as over a network. hidden: tags that no LLRs have."""
        messages = messages_of(np.random.default_rng(2).integers(0, 3000, 60))
        top = gr.top_block()
        transmitter = deeprx.link_transmitter(CODED, timeout_s=2)
        source, encoder = deeprx.tb_source(CODED, seed=None), deeprx.tb_encoder(CODED)
        decoder, receiver = deeprx.tb_decoder(CODED), deeprx.link_receiver(CODED)
        later, pdus = Later(delay_s), Collector()
        llr = [blocks.char_to_float(1, 0.125), blocks.add_const_ff(-4)]
        for key in hidden:
            llr.append(blocks.tag_gate(gr.sizeof_float, False))
            llr[-1].set_single_key(key)
        top.connect(source, encoder, *llr, decoder)
        for one, out, other, into in (
            (transmitter, "blocks", source, "pdus"),
            (encoder, "grants", later, "in"),
            (later, "out", decoder, "grants"),
            (decoder, "blocks", receiver, "blocks"),
            (receiver, "acks", transmitter, "acks"),
            (receiver, "pdus", pdus, "in"),
        ):
            top.msg_connect(one, out, other, into)
        for message in messages:
            transmitter.send(message)
        with running(top):
            wait_for(lambda: transmitter.idle() and len(pdus.messages) == len(messages), 60)
        assert pdus.messages == messages
        sent, got = transmitter.statistics(), receiver.statistics()
        assert sent["lost_blocks"] == sent["unreported_slots"] == got["lost_blocks"] == 0
        assert got["duplicate_blocks"] == decoder.dropped() == 0

    def test_a_block_of_another_transmitter_is_a_line(self, capfd):
        receiver = deeprx.link_receiver(SLOT)
        top, acks = gr.top_block(), Collector()
        top.msg_connect(receiver, "acks", acks, "in")
        with running(top):
            post_block(receiver, {"slot_index": 0, "crc_ok": True}, b"\xff" * 200)
            wait_for(lambda: acks.messages)
            wait_for(lambda: receiver.statistics()["foreign_blocks"] == 1)
        time.sleep(0.2)  # the logger has a thread of its own
        says = "slot 0: the block holds no frame of a link transmitter"
        assert says in "".join(capfd.readouterr())

    def test_anything_on_the_ports_is_a_line_and_the_link_goes_on(self, capfd):
        top = Link(Chain())
        ports = (top.transmitter._sender, "pdus"), (top.transmitter._sender, "acks")
        with running(top):
            for block, port in (*ports, (top.receiver, "blocks")):
                for message in MESSAGES:
                    block.to_basic_block()._post(pmt.intern(port), message)
            top.post(b"still here")
            wait_for(lambda: b"still here" in top.pdus.messages)
        time.sleep(0.2)
        text = "".join(capfd.readouterr())
        assert "message ignored: expected a" in text
        assert "Traceback" not in text and "\x1b[31m/" not in text

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"transmissions": 0}, "transmissions must be 1 to 16, got 0"),
            ({"layer": 1}, "layer must be 0 to 0, got 1"),
            ({"layer": -1}, "layer must be 0 to 0, got -1"),
            ({"timeout_s": 0}, "timeout_s must be above 0 s, got 0"),
            (
                {"slot": SlotConfig(users=(User(tbs=96),))},
                f"a link needs transport blocks of {FEWEST_BYTES} bytes or more, got 12: more PRBs "
                "or a higher MCS make them larger",
            ),
            ({"slot": SlotConfig()}, "a transport block needs an MCS or a code rate, got neither"),
        ],
    )
    def test_bad_parameters_say_what_is_wrong(self, options, says):
        with pytest.raises(ValueError, match=says):
            deeprx.link_transmitter(**{"slot": SLOT} | options)

    @pytest.mark.parametrize("message", ["abc", 5, None, np.zeros(3)])
    def test_a_message_that_is_not_of_bytes_is_refused(self, message):
        transmitter = deeprx.link_transmitter(SLOT)
        with pytest.raises(ValueError, match=r"a message must be bytes, got [a-zA-Z]+$"):
            transmitter.send(message)
        transmitter.send(bytearray(b"abc"))
        assert transmitter.statistics()["bytes"] == 3


SEND_FILE = Path(__file__).resolve().parents[1] / "examples/send_file.py"


def send_file(folder, *options, size=200_000) -> subprocess.Popen:
    (folder / "file").write_bytes(np.random.default_rng(3).bytes(size))
    return subprocess.Popen(
        [sys.executable, str(SEND_FILE), "file", "copy", *options],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def counted(said: str) -> list[int]:
    """blocks, slots, failed first transmissions, retransmissions, lost blocks."""
    return [
        int(n)
        for line in said.splitlines()
        if " at first; " in line
        for n in re.findall(r"\d+", line)
    ]


class TestSendFile:
    def test_a_file_arrives_though_a_fifth_of_its_first_transmissions_fail(self, tmp_path):
        out, err = send_file(tmp_path).communicate(timeout=120)
        assert (tmp_path / "copy").read_bytes() == (tmp_path / "file").read_bytes(), out + err
        blocks, _, failed, retransmissions, lost = counted(out)
        assert failed >= 0.2 * blocks and retransmissions >= failed and lost == 0
        assert [p.name for p in tmp_path.iterdir() if p.suffix == ".part"] == []
        digests = re.findall(r"sha256 (\w{64}) (?:sent|received)", out)
        assert len(digests) == 2 and len(set(digests)) == 1

    def test_where_blocks_are_lost_they_are_counted_and_the_rest_is_in_order(self, tmp_path):
        sending = send_file(tmp_path, "--transmissions", "1", size=60_000)
        out, err = sending.communicate(timeout=120)
        assert sending.returncode == 1 and "the copy differs" in err
        _, _, failed, retransmissions, lost = counted(out)
        assert lost == failed > 0 and retransmissions == 0
        file, copy = ((tmp_path / name).read_bytes() for name in ("file", "copy"))
        delivered, missing = map(
            int, re.search(r"(\d+) of \d+ bytes delivered, (\d+) m", out).groups()
        )
        assert len(copy) == delivered < len(file) and missing > 0
        at = 0
        for k in range(0, len(copy), 64):  # what arrived are pieces of the file, in order
            at = file.find(copy[k : k + 64], at)
            assert at >= 0

    def test_where_the_sinr_is_too_low_it_ends_soon(self, tmp_path):
        """Where nearly all first transmissions fail, padding's too."""
        sending = send_file(tmp_path, "--sinr", "-3", size=200_000)
        out, err = sending.communicate(timeout=120)
        assert sending.returncode == 1 and "the copy differs" in err
        blocks, slots, failed, retransmissions, lost = counted(out)
        assert failed > 0.9 * blocks and lost > 0
        assert slots - blocks - retransmissions <= 8 * (4 + 4)
        shown = re.findall(r"(\d+) of (\d+) blocks failed", out)
        assert shown and all(int(f) <= int(b) <= blocks for f, b in shown)

    def test_ctrl_c_keeps_what_was_delivered(self, tmp_path):
        sending = send_file(tmp_path, size=20_000_000)
        shown = (line for line in sending.stdout if " of air time, " in line)
        written = next(n for n in (int(line.split()[0]) for line in shown) if n)
        sending.send_signal(signal.SIGINT)
        _, err = sending.communicate(timeout=60)
        assert sending.returncode == 1 and "Traceback" not in err
        copy = (tmp_path / "copy").read_bytes()
        assert len(copy) >= written
        assert (tmp_path / "file").read_bytes().startswith(copy)

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (["--sinr", "nan"], "--sinr must be -50 to 100 dB, got nan"),
            (["--transmissions", "17"], "transmissions must be 1 to 16, got 17"),
            (["--port", "-1"], "--port must be 0 to 65535, got -1"),
        ],
    )
    def test_mistakes_are_one_line(self, tmp_path, options, says):
        sending = send_file(tmp_path, *options)
        _, err = sending.communicate(timeout=60)
        assert sending.returncode == 2
        assert err.splitlines()[-1] == f"send_file.py: error: {says}"

    @pytest.mark.parametrize("names", [("none", "copy"), ("file", "none/copy"), ("file", "file")])
    def test_files_that_will_not_do_are_one_line(self, tmp_path, names):
        (tmp_path / "file").write_bytes(b"x")
        ran = subprocess.run(
            [sys.executable, str(SEND_FILE), *names],
            cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ran.returncode == 2
        assert ran.stderr.splitlines()[-1].startswith("send_file.py: error: expected a")
        assert (tmp_path / "file").read_bytes() == b"x"


# Runs the generated flowgraph without a screen until the whole file has arrived, or has not.
WATCH = """
from pathlib import Path
from companion import watch
from gnuradio import deeprx

size = Path(deeprx.model_path("deeprx-student.pt")).stat().st_size

def enough(top):
    shown = top.sent.get("bytes"), top.received.get("bytes")
    return (
        shown == (size, size)
        and Path("copy").stat().st_size == size
        and top.delivered.endswith("complete")
    )

def labels(top):
    return [top.delivered, top.goodput, top.first_failures, top.lost]

watch("send_file_gui", enough, labels, seconds=100)
"""


@pytest.mark.slow
def test_the_flowgraph_of_companion_sends_a_file(tmp_path):
    generate("send_file", tmp_path)
    ran = subprocess.run(
        [sys.executable, "-c", WATCH],
        env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    file = Path(deeprx.model_path("deeprx-student.pt")).read_bytes()
    assert (tmp_path / "copy").read_bytes() == file, ran.stderr
    delivered, goodput, failures, lost = json.loads(ran.stdout.splitlines()[-1])
    assert delivered == f"{len(file)} of {len(file)} bytes, complete"
    assert 1 < float(goodput.split()[0]) < 9
    failed, blocks = map(int, re.findall(r"\d+", failures))
    assert failed >= 0.2 * blocks > 0
    assert lost == "0 blocks, 0 messages"


class TestLoopback:
    SLOTS = 60

    def point(self, folder, *options):
        command = [
            "loopback",
            "--receiver",
            "deeprx-pusch-small",
            "--mcs",
            "14",
            "--out",
            str(folder),
        ]
        assert main([*command, "--slots", str(self.SLOTS), *options]) == 0
        return json.loads((folder / "report.json").read_text())["points"]

    def test_what_failed_is_sent_again_and_goodput_grows(self, tmp_path):
        once, again = (
            self.point(tmp_path, "--sinr", "7", "--harq", harq)[0] for harq in ("1", "4")
        )
        assert once["harq"] is None and once["blocks"] == self.SLOTS
        harq = again["harq"]
        assert harq["transmissions"] == 4 and harq["failed"] == 0
        assert again["blocks"] + harq["retransmissions"] == self.SLOTS
        assert 0.1 < again["bler"] < 0.5
        assert again["bler_ci95"][0] <= again["bler"] <= again["bler_ci95"][1]
        bits = SlotConfig(users=(User(mcs=14),)).transport_block_size()
        assert again["goodput_bit_per_s"] == pytest.approx(harq["delivered"] * bits / 60e-3)
        assert again["goodput_bit_per_s"] > once["goodput_bit_per_s"]
        assert 0.05 < again["ber"] < 0.15  # against the bits that were sent
        assert again["missed_slots"] == 0 and again["slots"] == self.SLOTS

    def test_each_receiver_has_its_own_retransmissions_and_runs_repeat(self, tmp_path, capsys):
        options = "--sinr", "5", "--harq", "4", "--receiver", "baseline-lmmse"
        first, second = (self.point(tmp_path, *options) for _ in range(2))
        assert [p["receiver"] for p in first] == ["deeprx-pusch-small", "baseline-lmmse"]
        net, classical = (p["harq"] for p in first)
        assert net["retransmissions"] < classical["retransmissions"]
        for one, other in zip(first, second, strict=True):
            assert all(one[k] == other[k] for k in ("blocks", "block_errors", "harq", "bit_errors"))
        said = capsys.readouterr().out
        assert "4 transmissions" in said and "residual" in said

    def test_a_synchronised_link_with_an_interferer_waits_for_acks_too(self, tmp_path):
        options = "--sinr", "6", "--sir", "15", "--sync", "--harq", "4"
        (point,) = self.point(tmp_path, *options)
        assert point["harq"]["delivered"] > 0 and point["harq"]["failed"] == 0

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (["--harq", "4"], "--harq sends transport blocks again: give --mcs, too"),
            (["--mcs", "14", "--harq", "0"], "--harq must be 1 to 16, got 0"),
            (["--mcs", "14", "--harq", "17"], "--harq must be 1 to 16, got 17"),
            (
                ["--mcs", "0", "--n-prb", "1", "--harq", "2"],
                f"a link needs transport blocks of {FEWEST_BYTES} bytes or more, got 4: more PRBs "
                "or a higher MCS make them larger",
            ),
        ],
    )
    def test_mistakes_are_one_line(self, options, says, capsys):
        assert main(["loopback", "--receiver", "deeprx-pusch-small", *options]) != 0
        assert capsys.readouterr().err.splitlines()[-1] == f"deeprx: error: {says}"


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def udp() -> socket.socket:
    """A socket on a free port of this machine."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    bound.settimeout(20)
    return bound
