# SPDX-License-Identifier: GPL-3.0-or-later
"""tb_source, tb_encoder and tb_decoder in flowgraphs, over the air and against another
implementation's slots.
"""

import time

import numpy as np
import pmt
import pytest
from gnuradio import analog, blocks, deeprx, gr
from gnuradio.deeprx.deeprx_python import TransportBlock, data_scrambling
from qa_messages import MESSAGES
from qa_slots import slot_of
from qa_transport_blocks import CODED, SLOTS, VECTORS

from deeprx_common.slot import SlotConfig, User

SLOT = SlotConfig(users=(User(mcs=13, rnti=17, n_id=5),))
BYTES = SLOT.transport_block_size() // 8


def coded(slot: SlotConfig, block: bytes, rv: int = 0, layer: int = 0) -> np.ndarray:
    """Coded and scrambled bits, by the plain classes."""
    user = slot.users[layer]
    n_bits = slot.n_data_re * user.bits_per_symbol
    plain = TransportBlock(8 * len(block), n_bits, user.bits_per_symbol, user.code_rate)
    return plain.encode(block, rv) ^ data_scrambling(user.rnti, user.n_id, n_bits)


def pdu(block: bytes, **about):
    return pmt.cons(pmt.to_pmt(about), pmt.init_u8vector(len(block), list(block)))


def post(block, port: str, *messages):
    for message in messages:
        block.to_basic_block()._post(pmt.intern(port), message)


def tag(offset: int, key: str, value) -> gr.tag_t:
    return gr.tag_utils.python_to_tag((offset, pmt.intern(key), pmt.to_pmt(value)))


class Decoded:
    """A tb_decoder, and what it publishes: dictionaries with the block's bytes under "block"."""

    def __init__(self, flowgraph, slot=SLOT, **parameters):
        self.block = deeprx.tb_decoder(slot, **parameters)
        self._messages = blocks.message_debug()
        flowgraph.msg_connect(self.block, "blocks", self._messages, "store")

    @property
    def all(self) -> list[dict]:
        blocks_ = []
        for k in range(self._messages.num_messages()):
            message = self._messages.get_message(k)
            block = bytes(pmt.u8vector_elements(pmt.cdr(message)))
            blocks_.append(pmt.to_python(pmt.car(message)) | {"block": block})
        return blocks_

    def wait(self, count: int) -> list[dict]:
        """Those of slots that came, once there are so many."""
        deadline = time.monotonic() + 30
        while len(came := [r for r in self.all if "dropped" not in r]) < count:
            assert time.monotonic() < deadline, f"expected {count}, found {self.all}"
            time.sleep(0.01)
        return came


def over_the_air(source, snr_db: float, slot=SLOT, grants=True, receiver="baseline-lmmse"):
    """A flowgraph: source to decoder through noise, and what the decoder publishes."""
    top = gr.top_block()
    encoder = deeprx.tb_encoder(slot)
    transmitter = deeprx.slot_transmitter(slot=slot)
    noise = analog.noise_source_c(analog.GR_GAUSSIAN, 10 ** (-snr_db / 20), 3)
    channel = blocks.add_cc()
    front_end = deeprx.aligned_front_end(n_rx=1, slot=slot)
    receiver = deeprx.receiver(receiver, slot=slot, n_rx=1)
    decoded = Decoded(top, slot)
    top.connect(source, encoder, transmitter, channel, front_end, receiver, decoded.block)
    top.connect(noise, (channel, 1))
    if grants:
        top.msg_connect(encoder, "grants", decoded.block, "grants")
    top.parts = [transmitter, channel, front_end, receiver, encoder]  # Python's halves
    return top, decoded


def test_seeded_blocks_are_known_from_seed_and_slot():
    top = gr.top_block()
    source, encoder = deeprx.tb_source(SLOT, seed=-5, first_slot=7, n_slots=3), None
    encoder = deeprx.tb_encoder(SLOT)
    sent, bits = blocks.vector_sink_b(), blocks.vector_sink_b()
    top.connect(source, sent)
    top.connect(source, encoder, bits)
    top.run()
    expected = [SLOT.block(-5, k) for k in (7, 8, 9)]
    assert bytes(sent.data()) == b"".join(expected)
    np.testing.assert_array_equal(bits.data(), np.concatenate([coded(SLOT, b) for b in expected]))
    for sink, length in ((sent, BYTES), (bits, SLOT.n_bits)):
        tags = {(t.offset, t.key): t.value for t in map(gr.tag_to_python, sink.tags())}
        for k in range(3):
            about = {
                "packet_len": length, "slot_index": 7 + k, "rnti": 17, "process": 0, "rv": 0,
                "new_data": True,
            }  # fmt: skip
            assert {key: tags[k * length, key] for key in about} == about
        assert len(tags) == 18


def test_two_users_send_blocks_of_their_own():
    two = SlotConfig(users=(User(mcs=13), User(mcs=5, rnti=2, n_id=9, port=1)))
    for layer in (0, 1):
        top = gr.top_block()
        bits = blocks.vector_sink_b()
        top.connect(
            deeprx.tb_source(two, n_slots=1, layer=layer), deeprx.tb_encoder(two, layer), bits
        )
        top.run()
        np.testing.assert_array_equal(bits.data(), coded(two, two.block(1, 0, layer), 0, layer))
    assert two.block(1, 0, 0)[:8] != two.block(1, 0, 1)[:8]


TWO_USERS = {
    "one group": SlotConfig(
        users=(User(mcs=13, rnti=17, n_id=5), User(mcs=5, rnti=2, n_id=9, port=1))
    ),
    "two groups": SlotConfig(
        cdm_groups=2, dmrs=(2, 7, 11), first_prb=4, carrier_prb=51, scs_khz=30, slot_number=None,
        n_scid=1,
        users=(User(mcs=3, rnti=17, n_id=5), User(mcs=12, mcs_table=2, rnti=2, n_id=9, port=2)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["sure-lmmse", "gnb"])
@pytest.mark.parametrize("slot", TWO_USERS.values(), ids=TWO_USERS)
def test_two_users_of_their_own_mcs_and_scrambling_are_received(slot, kind):
    top, n_rx = gr.top_block(), 4
    channel = deeprx.tdl_channel(
        profile="TDL-A", n_rx=n_rx, delay_spread_s=1e-8, doppler_hz=5, snr_db=35,
        slot=slot, seed=3, burst_slots=1, users=2,
    )  # fmt: skip
    front_end = deeprx.aligned_front_end(n_rx=n_rx, slot=slot)
    receiver = deeprx.receiver(kind, slot=slot, n_rx=n_rx)
    for antenna in range(n_rx):
        top.connect((channel, antenna), (front_end, antenna), (receiver, antenna))
    top.parts, decoded = [channel, front_end], []  # Python's halves
    for layer in (0, 1):
        source = deeprx.tb_source(slot, seed=5, n_slots=3, layer=layer)
        encoder = deeprx.tb_encoder(slot, layer)
        transmitter = deeprx.slot_transmitter(slot=slot, layer=layer)
        decoded.append(Decoded(top, slot, layer=layer))
        top.connect(source, encoder, transmitter, (channel, layer))
        top.connect((receiver, layer), decoded[layer].block)
        top.msg_connect(encoder, "grants", decoded[layer].block, "grants")
        top.parts += [transmitter]
    top.run()
    for layer, user in enumerate(slot.users):
        assert [(r["slot_index"], r["rnti"], r["crc_ok"]) for r in decoded[layer].all] == [
            (k, user.rnti, True) for k in range(3)
        ]
        assert [r["block"] for r in decoded[layer].all] == [
            slot.block(5, k, layer) for k in range(3)
        ]


def test_blocks_of_a_good_channel_are_decoded_and_of_a_bad_one_are_not():
    for snr_db, good in ((14, True), (2, False)):
        top, decoded = over_the_air(deeprx.tb_source(SLOT, seed=3, n_slots=12), snr_db)
        top.run()
        results = decoded.all
        assert [r["slot_index"] for r in results] == list(range(12))
        assert [r["crc_ok"] for r in results] == [good] * 12
        assert [r["block"] == SLOT.block(3, k) for k, r in enumerate(results)] == [good] * 12
        assert decoded.block.blocks() == 12
        assert decoded.block.block_errors() == (0 if good else 12)
        assert decoded.block.dropped() == 0
        for r in results:
            assert (r["rnti"], r["process"], r["rv"], r["new_data"]) == (17, 0, 0, True)
            assert r["transmissions"] == 1
            assert 1 <= r["iterations"] <= 8
            assert 0 < r["cpu_ns"] < 10**9


@pytest.mark.parametrize("rvs", [[0, 0, 0, 0], [0, 2, 3, 1]], ids=["chase", "incremental"])
def test_retransmissions_are_combined(rvs):
    """Two processes in turn: one sends a block again and again, the other new ones."""
    again, others = SLOT.block(1, 0), [SLOT.block(2, k) for k in range(4)]
    source = deeprx.tb_source(SLOT, seed=None, n_slots=8)
    top, decoded = over_the_air(source, 5.5)
    for k, rv in enumerate(rvs):
        post(source, "pdus", pdu(again, process=3, rv=rv, new_data=k == 0, rnti=99))
        post(source, "pdus", pdu(others[k], process=4))
    top.run()
    results = decoded.all
    assert [r["process"] for r in results] == [3, 4] * 4
    assert [r["rnti"] for r in results] == [99, 17] * 4
    assert [r["rv"] for r in results[::2]] == rvs
    assert [r["transmissions"] for r in results[::2]] == [1, 2, 3, 4]
    assert [r["transmissions"] for r in results[1::2]] == [1] * 4
    assert not any(r["crc_ok"] for r in results[1::2])  # what one transmission comes to
    assert not results[0]["crc_ok"]
    assert results[6]["crc_ok"]
    assert results[6]["block"] == again


def through_decoder(decoder_slot, packets, **parameters):
    """What a decoder publishes of packets (LLRs, tags), and the decoder."""
    top = gr.top_block()
    tags, offset = [], 0
    for k, (llr, about) in enumerate(packets):
        about = {"packet_len": len(llr), "slot_index": k} | about
        tags += [tag(offset, key, value) for key, value in about.items()]
        offset += len(llr)
    llrs = np.concatenate([llr for llr, _ in packets]).astype(np.float32)
    source = blocks.vector_source_f(llrs.tolist(), False, 1, tags)
    decoded = Decoded(top, decoder_slot, **parameters)
    top.connect(source, decoded.block)
    top.run()
    return decoded.all, decoded.block


@pytest.mark.parametrize("name", CODED)
def test_another_implementations_grid_is_on_the_air_and_its_block_is_received(name):
    i, about = SLOTS[name]
    slot, block = slot_of(about), VECTORS[f"tb{i}"].tobytes()
    sent = [pdu(block, rv=about["rv"])]
    if name in ("again", "rv1"):  # which need the first transmission, even without noise
        sent = [pdu(block), pdu(block, rv=about["rv"], new_data=False)]
    source = deeprx.tb_source(slot, seed=None, n_slots=len(sent))
    post(source, "pdus", *sent)
    top, decoded = over_the_air(source, 45, slot, receiver="sure-lmmse")
    transmitter, front_end = top.parts[0], deeprx.aligned_front_end(n_rx=1, slot=slot)
    sink = blocks.vector_sink_c(slot.fft_size)
    top.connect(transmitter, front_end, sink)
    top.run()
    symbols = np.array(sink.data(), np.complex64).reshape(-1, 14, slot.fft_size)[-1]
    grid = symbols[: slot.n_symbols, slot.bins]
    np.testing.assert_allclose(grid, VECTORS[f"grid{i}"][: slot.n_symbols], atol=1e-5)
    assert [r["crc_ok"] for r in decoded.all] == [True] * len(sent)
    assert all(r["block"] == block for r in decoded.all)


def test_slots_of_another_implementation_that_fail_are_received_together():
    i, about = SLOTS["first"]
    slot, block = slot_of(about), VECTORS[f"tb{i}"].tobytes()
    source = deeprx.tb_source(slot, seed=None, n_slots=3)
    top, decoded = over_the_air(source, 11, slot, receiver="sure-lmmse")
    alone, again = {"process": 1, "rv": 2}, {"rv": 2, "new_data": False}
    post(source, "pdus", pdu(block), pdu(block, **alone), pdu(block, **again))
    top.run()
    results, decoder = decoded.all, decoded.block
    assert [r["crc_ok"] for r in results] == [False, False, True]
    assert [r["transmissions"] for r in results] == [1, 1, 2]
    assert results[2]["block"] == block
    assert (decoder.blocks(), decoder.block_errors(), decoder.dropped()) == (3, 2, 0)


def llrs_of(block: bytes, rv: int = 0) -> np.ndarray:
    return 8.0 * coded(SLOT, block, rv) - 4


BLOCK = SLOT.block(1, 0)
NAN = np.where(np.arange(SLOT.n_bits) == 77, np.nan, llrs_of(BLOCK))


@pytest.mark.parametrize(
    ("llr", "about", "words"),
    [
        (NAN, {}, "expected LLRs, got NaN at bit 77"),
        (llrs_of(BLOCK), {"rv": 4}, "rv must be 0 to 3, got 4"),
        (llrs_of(BLOCK), {"process": "\x1b[31m"}, "process must be 0 to 15, got"),
        (
            llrs_of(BLOCK),
            {"rv": 2, "new_data": False, "process": 6},
            "a retransmission of RNTI 17, process 6, of which there is no first transmission",
        ),
    ],
)
def test_what_cannot_be_decoded_costs_no_other_slot(llr, about, words, capfd):
    good = (llrs_of(BLOCK), {})
    results, decoder = through_decoder(SLOT, [good, (llr, about), good])
    assert [r["crc_ok"] for r in results] == [True, False, True]
    assert words in results[1]["dropped"]
    assert results[1]["block"] == b""
    assert results[1]["slot_index"] == 1
    assert (decoder.blocks(), decoder.dropped()) == (2, 1)
    time.sleep(0.2)  # the logger has a thread of its own
    text = "".join(capfd.readouterr())
    assert words in text
    assert "\x1b[31m" not in text


def test_of_new_data_that_is_dropped_nothing_is_combined_with_what_was_there():
    """A retransmission says nothing of the block that its process had before."""
    weak = 0.25 * llrs_of(SLOT.block(1, 1), 2)
    again = (weak, {"rv": 2, "new_data": False})
    results, _ = through_decoder(SLOT, [(llrs_of(BLOCK), {}), (NAN, {}), again])
    assert [r["crc_ok"] for r in results] == [True, False, False]
    assert "no first transmission" in results[2]["dropped"]
    results, _ = through_decoder(SLOT, [(llrs_of(BLOCK), {}), (NAN, again[1]), again])
    assert results[2]["transmissions"] == 2  # what was dropped is no new data


def test_new_data_that_never_comes_leaves_its_process_with_nothing():
    top = gr.top_block()
    llr = np.concatenate([llrs_of(BLOCK), llrs_of(SLOT.block(1, 1), 2)])
    tags = [tag(k * SLOT.n_bits, "packet_len", SLOT.n_bits) for k in (0, 1)]
    tags += [tag(k * SLOT.n_bits, "slot_index", 2 * k) for k in (0, 1)]
    decoded = Decoded(top)
    top.connect(blocks.vector_source_f(llr.tolist(), False, 1, tags), decoded.block)
    post(decoded.block, "grants", grant(0), grant(1), grant(2, rv=2, new_data=False))
    top.run()
    assert [r["crc_ok"] for r in decoded.all] == [True, False, False]
    assert [r.get("dropped", "")[:24] for r in decoded.all[:2]] == ["", "no LLRs came"]
    assert "no first transmission" in decoded.all[2]["dropped"]


def test_packets_of_another_length_cost_no_other_slot(capfd):
    good = (llrs_of(BLOCK), {})
    results, decoder = through_decoder(SLOT, [good, (np.ones(100), {}), good])
    assert [(r["slot_index"], r["crc_ok"]) for r in results] == [(0, True), (2, True)]
    assert decoder.dropped() == 1
    time.sleep(0.2)
    assert f"a packet of 100 LLRs: expected packets of {SLOT.n_bits}" in capfd.readouterr().out


def test_llrs_pass_after_the_message_about_their_block():
    """Behind a decoder, a probe that ends with its stream has heard of every block."""
    top = gr.top_block()
    llr = np.tile(llrs_of(BLOCK), 3).astype(np.float32)
    llr[SLOT.n_bits] = np.nan
    starts = [(0, SLOT.n_bits), (SLOT.n_bits, SLOT.n_bits), (2 * SLOT.n_bits, 7)]
    tags = [tag(at, "packet_len", n) for at, n in starts]
    tags.append(tag(0, "slot_index", 4))
    source, sink = blocks.vector_source_f(llr.tolist(), False, 1, tags), blocks.vector_sink_f()
    decoded = Decoded(top)
    top.connect(source, decoded.block, sink)
    top.run()
    np.testing.assert_array_equal(sink.data(), llr[: 2 * SLOT.n_bits])
    passed = [(t.offset, t.key, t.value) for t in map(gr.tag_to_python, sink.tags())]
    assert sorted(passed) == [
        (0, "packet_len", SLOT.n_bits), (0, "slot_index", 4),
        (SLOT.n_bits, "packet_len", SLOT.n_bits), (SLOT.n_bits, "slot_index", 5),
    ]  # fmt: skip
    assert [r["slot_index"] for r in decoded.all] == [4, 5]


def test_a_flipped_sign_is_told():
    (result,), _ = through_decoder(SLOT, [(-llrs_of(BLOCK), {})], llr_sign=-1)
    assert result["crc_ok"]


def test_the_process_longest_not_heard_of_is_forgotten():
    packets = [(llrs_of(BLOCK), {"process": k}) for k in range(3)]
    packets.append((llrs_of(BLOCK), {"process": 0, "new_data": False}))
    results, decoder = through_decoder(SLOT, packets, buffers=2)
    assert [r["crc_ok"] for r in results] == [True] * 3 + [False]
    assert "no first transmission" in results[3]["dropped"]
    assert decoder.forgotten() == 1


def grant(slot_index, **about):
    return pmt.dict_add(pmt.to_pmt(about), pmt.intern("slot_index"), pmt.from_uint64(slot_index))


def test_granted_slots_that_never_come_are_told():
    top = gr.top_block()
    llr = np.tile(llrs_of(BLOCK), 2).astype(np.float32).tolist()
    tags = [tag(k * SLOT.n_bits, "packet_len", SLOT.n_bits) for k in (0, 1)]
    tags += [tag(0, "slot_index", 5), tag(SLOT.n_bits, "slot_index", 3)]  # begins anew
    decoded = Decoded(top)
    top.connect(blocks.vector_source_f(llr, False, 1, tags), decoded.block)
    post(decoded.block, "grants", *(grant(k, process=k, rv=0) for k in (3, 4, 5, 6, 3)))
    top.run()
    results = decoded.all
    assert [(r["slot_index"], r["process"]) for r in results] == [
        (3, 3), (4, 4), (5, 5), (6, 6), (3, 3)
    ]  # fmt: skip
    assert [r.get("dropped") for r in results] == [
        "no LLRs came", "no LLRs came", None, "no LLRs came", None
    ]  # fmt: skip
    assert decoded.block.dropped() == 3


def decoder_of(n_slots, *grants):
    """A flowgraph with the LLRs of so many slots of BLOCK, and its decoder."""
    top = gr.top_block()
    llr = np.tile(llrs_of(BLOCK), n_slots).astype(np.float32).tolist()
    tags = [tag(k * SLOT.n_bits, "packet_len", SLOT.n_bits) for k in range(n_slots)]
    decoded = Decoded(top)
    top.connect(blocks.vector_source_f(llr, False, 1, tags), decoded.block)
    post(decoded.block, "grants", *grants)
    return top, decoded


def test_llrs_wait_for_their_grants():
    top, decoded = decoder_of(3, grant(0))
    top.start()
    decoded.wait(1)
    time.sleep(0.3)
    assert len(decoded.all) == 1
    post(decoded.block, "grants", grant(1, process=3), grant(2, process=4))
    top.wait()
    assert [r["process"] for r in decoded.all] == [0, 3, 4]
    assert all(r["crc_ok"] for r in decoded.all)
    assert (decoded.block.without_grant(), decoded.block.dropped()) == (0, 0)


@pytest.mark.parametrize("last", [[], [grant(4, process=2, new_data=False, rv=2)]])
def test_a_grant_that_never_comes_is_counted_and_leaves_no_soft_bits(last, capfd):
    """It may have been new data of any process."""
    top, decoded = decoder_of(5, grant(0, process=2), grant(2, process=3, new_data=False), *last)
    top.run()
    assert [r["slot_index"] for r in decoded.all] == [0, 1, 2, 3, 4]
    assert [r["process"] for r in decoded.all] == [2, 0, 3, 0, 2 if last else 0]
    assert [r["crc_ok"] for r in decoded.all] == [True, True, False, True, not last]
    assert "no first transmission" in decoded.all[2]["dropped"]
    assert decoded.block.without_grant() == (2 if last else 3)
    time.sleep(0.2)  # the logger has a thread of its own
    assert "slot 1 was taken for new data: its grant did not come in time" in capfd.readouterr().out


def test_the_first_grants_come_late_and_slots_are_told_once():
    """Slot 0 was none of process 0, whose next transmission is not added to it."""
    top, decoded = decoder_of(1)
    top.run()
    again = gr.top_block()
    tags = [tag(0, "packet_len", SLOT.n_bits), tag(0, "slot_index", 1)]
    llr = 0.1 * llrs_of(SLOT.block(1, 1), 2)
    again.connect(blocks.vector_source_f(llr.tolist(), False, 1, tags), decoded.block)
    again.msg_connect(decoded.block, "blocks", decoded._messages, "store")
    post(decoded.block, "grants", grant(0, process=5), grant(1, rv=2, new_data=False))
    again.run()
    assert [(r["slot_index"], r["crc_ok"]) for r in decoded.all] == [(0, True), (1, False)]
    assert "no first transmission" in decoded.all[1]["dropped"]
    assert (decoded.block.without_grant(), decoded.block.dropped()) == (1, 1)


def test_anything_may_be_posted(capfd):
    source = deeprx.tb_source(SLOT, seed=None)
    top, decoded = over_the_air(source, 20)
    top.start()
    try:
        wrong = [pdu(BLOCK[:-1]), pdu(BLOCK, rv=4), pdu(BLOCK, new_data="yes"), pdu(BLOCK, rnti=-1)]
        for port, block in (("pdus", source), ("grants", decoded.block), ("system", decoded.block)):
            post(block, port, *MESSAGES)
        post(source, "pdus", *wrong)
        post(decoded.block, "grants", grant(0, rv="\x1b[31m"), pmt.to_pmt({"rv": 1}))
        post(source, "pdus", *[pdu(BLOCK)] * 8)
        results = decoded.wait(5)  # the last ones stay in the chain until others follow
        assert all(r["crc_ok"] and r["block"] == BLOCK for r in results)
        assert source.refused() == len(MESSAGES) + len(wrong)
    finally:
        top.stop()
        top.wait()
    time.sleep(0.2)
    text = "".join(capfd.readouterr())
    assert "a block is refused: " in text
    assert "a grant is refused: " in text
    assert "\x1b[31m" not in text
    assert max(map(len, text.splitlines())) < 1300


def test_encoder_drops_what_is_no_block_and_goes_on(capfd):
    top = gr.top_block()
    lengths = [BYTES, 10, BYTES, BYTES]
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    tags = [tag(at, "packet_len", n) for at, n in zip(starts, lengths, strict=True)]
    tags.append(tag(starts[2], "rv", 9))
    source = blocks.vector_source_b(list(BLOCK + bytes(10) + BLOCK + BLOCK), False, 1, tags)
    encoder, bits = deeprx.tb_encoder(SLOT), blocks.vector_sink_b()
    top.connect(source, encoder, bits)
    top.run()
    np.testing.assert_array_equal(bits.data(), np.tile(coded(SLOT, BLOCK), 2))
    assert encoder.dropped() == 2
    indices = [t.value for t in map(gr.tag_to_python, bits.tags()) if t.key == "slot_index"]
    assert indices == [0, 2]
    time.sleep(0.2)
    assert "dropped a packet of 10 bytes: expected packets of " in capfd.readouterr().out


def test_a_source_that_waits_takes_no_processor_and_a_flowgraph_may_start_again():
    source = deeprx.tb_source(SLOT, seed=None)
    top, decoded = over_the_air(source, 20)
    for attempt in (1, 2):
        top.start()
        start = time.process_time()
        time.sleep(1)
        assert time.process_time() - start < 0.3
        post(source, "pdus", *[pdu(BLOCK)] * 8)
        assert all(r["crc_ok"] for r in decoded.wait(5 * attempt))
        top.stop()
        top.wait()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: deeprx.tb_encoder(SlotConfig()), "needs an MCS or a code rate"),
        (lambda: deeprx.tb_source(SlotConfig()), "needs an MCS or a code rate"),
        (lambda: deeprx.tb_source(SLOT, layer=1), "layer must be 0 to 0, got 1"),
        (lambda: deeprx.tb_decoder(SLOT, layer=-1), "layer must be 0 to 0, got -1"),
        (lambda: deeprx.tb_source(SLOT, n_slots=-1), "n_slots must be at least 0, got -1"),
        (lambda: deeprx.tb_source(SLOT, first_slot=2**64 - 1, n_slots=2), "stay below 2^64"),
        (lambda: deeprx.tb_decoder(SLOT, llr_sign=0), "llr_sign must be 1 or -1, got 0"),
        (lambda: deeprx.tb_decoder(SLOT, buffers=0), "buffers must be 1 to 1048576, got 0"),
        (lambda: deeprx.tb_decoder(SLOT, len_tag_key=""), "len_tag_key must name a tag"),
        (
            lambda: deeprx.tb_encoder(SLOT.with_user(mcs=None, code_rate=0.9, tbs=16392)),
            "does not fit",
        ),
    ],
)
def test_parameters_out_of_range_are_refused_in_one_line(make, words):
    with pytest.raises(ValueError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
