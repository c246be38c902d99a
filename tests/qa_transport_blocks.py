# SPDX-License-Identifier: GPL-3.0-or-later
"""Transport blocks against slots of an independent implementation.

golden/pusch_vectors.npz, of an open-source UE implementation in C: index (JSON, parameters of each
slot), grid<i> complex64 [14, 12 n_prb], the allocation's subcarriers, tb<i> the block's bytes.
"""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from gnuradio.deeprx.deeprx_python import (
    TransportBlock,
    TransportBlockDecoder,
    data_scrambling,
    mcs,
    transport_block_size,
)

from deeprx_common.slot import dmrs_symbols

VECTORS = np.load(Path(__file__).parent / "golden/pusch_vectors.npz")
SLOTS = {slot["name"]: (i, slot) for i, slot in enumerate(json.loads(str(VECTORS["index"])))}
CODED = [name for name, (_, slot) in SLOTS.items() if not slot["harq_ack_bits"]]


def data_symbols(name: str) -> np.ndarray:
    i, slot = SLOTS[name]
    grid = VECTORS[f"grid{i}"]
    symbols = []
    dmrs = dmrs_symbols(slot["n_symbols"], slot["dmrs_additional_position"])
    for symbol in range(slot["n_symbols"]):
        if symbol not in dmrs:
            symbols.append(grid[symbol])
        elif slot["cdm_groups_without_data"] == 1:
            symbols.append(grid[symbol, 1::2])
    return np.concatenate(symbols)


def llrs(symbols: np.ndarray, bits_per_symbol: int, noise: float) -> np.ndarray:
    """Max-log LLRs log P(1)/P(0) of TS 38.211 clause 5.1, noise: the variance."""
    levels = 2 ** (bits_per_symbol // 2)
    words = np.arange(levels)[:, None] >> np.arange(bits_per_symbol // 2)[::-1] & 1
    points = np.zeros(levels)
    for bit in reversed(range(bits_per_symbol // 2)):
        points = (1 - 2 * words[:, bit]) * (2 ** (bits_per_symbol // 2 - 1 - bit) - points)
    points = points / np.sqrt(2 * np.mean(points**2))
    result = np.empty((len(symbols), bits_per_symbol), dtype=np.float32)
    for half, values in enumerate((symbols.real, symbols.imag)):
        distance = (values[:, None] - points) ** 2 / noise
        for bit in range(bits_per_symbol // 2):
            one = words[:, bit] == 1
            result[:, 2 * bit + half] = distance[:, ~one].min(1) - distance[:, one].min(1)
    return result.ravel()


def block_of(name: str) -> tuple[TransportBlock, dict, bytes, np.ndarray]:
    i, slot = SLOTS[name]
    block = TransportBlock(
        slot["tbs"], slot["coded_bits"], slot["bits_per_symbol"], slot["code_rate"]
    )
    scrambling = data_scrambling(slot["rnti"], slot["n_id"], slot["coded_bits"])
    return block, slot, VECTORS[f"tb{i}"].tobytes(), scrambling


def received(name: str, noise: float = 0.0) -> np.ndarray:
    _, slot, _, scrambling = block_of(name)
    symbols = data_symbols(name)
    rng = np.random.default_rng(slot["rv"])
    wrong = rng.normal(0, np.sqrt(noise / 2), (2, len(symbols)))
    symbols = symbols + wrong[0] + 1j * wrong[1]
    return llrs(symbols, slot["bits_per_symbol"], noise or 0.01) * (1 - 2.0 * scrambling)


@pytest.mark.parametrize("name", CODED)
def test_coded_bits_are_those_of_another_implementation(name: str):
    block, slot, bytes_, _ = block_of(name)
    assert np.array_equal(block.encode(bytes_, slot["rv"]), received(name) > 0)


# Of again and rv1, belief propagation finds nothing alone, even without noise.
@pytest.mark.parametrize("name", [name for name in CODED if name not in ("again", "rv1")])
def test_blocks_of_another_implementation_are_decoded(name: str):
    block, slot, bytes_, _ = block_of(name)
    assert TransportBlockDecoder().decode(block, received(name), slot["rv"])[:2] == (bytes_, True)


@pytest.mark.parametrize("name", list(SLOTS))
def test_block_sizes_are_those_of_another_implementation(name: str):
    _, slot = SLOTS[name]
    bits, rate = mcs(2 if "qam256" in slot["mcs_table"] else 1, slot["mcs_index"])
    assert bits == slot["bits_per_symbol"]
    assert rate == pytest.approx(slot["code_rate"], abs=1e-6)
    data_re = slot["data_re"] // slot["n_prb"]
    assert transport_block_size(slot["n_prb"], data_re, bits, rate) == slot["tbs"]


@pytest.mark.parametrize("name", ["again", "rv1"])
def test_other_redundancy_is_decoded_with_the_first_transmission(name: str):
    block, slot, bytes_, _ = block_of(name)
    decoder = TransportBlockDecoder()
    assert not decoder.decode(block, received(name), slot["rv"])[1]
    noise = 10 ** (-11.0 / 10)
    assert not decoder.decode(block, received("first", noise), 0)[1]
    again = received(name, noise)
    assert decoder.decode(block, again, slot["rv"], new_data=False)[:2] == (bytes_, True)


def test_the_same_again_decodes_what_one_transmission_does_not():
    noise = 10 ** (-10.5 / 10)
    block, _, bytes_, scrambling = block_of("first")
    sent = data_symbols("first")
    rng = np.random.default_rng(5)
    decoder = TransportBlockDecoder()
    results = []
    for attempt in range(4):
        wrong = rng.normal(0, np.sqrt(noise / 2), (2, len(sent)))
        llr = llrs(sent + wrong[0] + 1j * wrong[1], 6, noise) * (1 - 2.0 * scrambling)
        results.append(decoder.decode(block, llr, 0, new_data=attempt == 0)[:2] == (bytes_, True))
    assert results[0] is False
    assert results[-1] is True


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mcs(2, 28), "must be 0 to 27, got 28"),
        (lambda: mcs(4, 0), "must be 1, 2 or 3, got 4"),
        (lambda: TransportBlock(25, 528, 2, 0.3), "got 25"),
        (lambda: TransportBlock(224, 225, 2, 0.3), "multiple of 2"),
        (lambda: TransportBlock(2147483640, 8, 8, 0.5), "24 to 2097152 bits, in whole bytes"),
        (lambda: TransportBlock(224, 2147483640, 8, 0.5), "must be 2097152 at most"),
        (lambda: TransportBlock(224, 528, 2, np.nan), "must be above 0 and below 1, got nan"),
        (lambda: TransportBlock(224, 528, 2, 5), "must be above 0 and below 1, got 5"),
        (lambda: TransportBlock(224, 528, 2, -1), "must be above 0 and below 1, got -1"),
        (lambda: transport_block_size(20, 138, 2, np.nan), "below 1, got nan"),
        (lambda: transport_block_size(2**31 - 1, 138, 2, 0.5), "must be 1 to 275, got 2147"),
        (lambda: transport_block_size(20, 138, 0, 0.5), "bits per symbol must be 1 to 8, got 0"),
        (lambda: TransportBlockDecoder().time(iterations=0), "iterations must be at least 1"),
        (lambda: TransportBlockDecoder().time(iterations=-1), "must be at least 1, got -1"),
        (lambda: TransportBlockDecoder().time(calls=0), "calls must be at least 1, got 0"),
        (lambda: TransportBlockDecoder().time(coded_bits=-1), "coded_bits must be at least 1"),
        (
            lambda: TransportBlockDecoder().decode(block_of("small")[0], np.zeros((2, 264))),
            "expected LLRs in one dimension, got 2",
        ),
        (lambda: data_scrambling(1, 1, -1), "a sequence has 0 to 1073741824 bits, got -1"),
        (lambda: TransportBlock(8424, 8448, 2, 0.9), "does not fit"),
        (lambda: TransportBlock(24, 264, 2, 0.1, limited_buffer=1), "hold the block of 24 bits"),
        (lambda: block_of("small")[0].encode(b"1"), "expected a block of 28 bytes, got 1"),
        (lambda: block_of("small")[0].encode(bytes(28), 4), "rv must be 0 to 3, got 4"),
        (lambda: data_scrambling(65536, 0, 1), "must be 0 to 65535, got 65536"),
        (lambda: TransportBlockDecoder(instructions="MMX"), "no vectors, got 'MMX'"),
        (lambda: TransportBlockDecoder(0), "1 soft buffer or more, got 0"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(call, words: str):
    with pytest.raises(ValueError) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refused_retransmission_leaves_the_process_as_it_was():
    block, _, bytes_, _ = block_of("first")
    noise = 10 ** (-11.0 / 10)
    decoder = TransportBlockDecoder()
    llr = received("again", noise)
    decoder.decode(block, received("first", noise), 0)
    with pytest.raises(ValueError, match="NaN at bit 7"):
        broken = llr.copy()
        broken[7] = np.nan
        decoder.decode(block, broken, 2, new_data=False)
    with pytest.raises(ValueError, match="expected 19008 LLRs, got 1"):
        decoder.decode(block, llr[:1], 2, new_data=False)
    with pytest.raises(ValueError, match="rv must be"):
        decoder.decode(block, llr, 4, new_data=False)
    with pytest.raises(ValueError, match="no first transmission"):
        decoder.decode(block, llr, 2, process=1, new_data=False)
    with pytest.raises(ValueError, match="soft buffer"):
        small = block_of("small")[0]
        decoder.decode(small, np.ones(528), 2, new_data=False)
    assert decoder.decode(block, llr, 2, new_data=False)[:2] == (bytes_, True)


def test_blocks_of_another_size_are_not_combined_though_their_buffers_are_alike():
    """1000 and 1024 bits have one lifting size."""
    decoder = TransportBlockDecoder()
    first, second = (TransportBlock(size, 3000, 2, 0.33) for size in (1000, 1024))
    assert first.lifting_size == second.lifting_size
    decoder.decode(first, 8.0 * first.encode(bytes(range(125))) - 4)
    with pytest.raises(ValueError, match=r"of another block: expected 1000 bits .*, got 1024 bits"):
        decoder.decode(second, 8.0 * second.encode(bytes(128), 2) - 4, 2, new_data=False)


@pytest.mark.parametrize(
    ("llr", "rv"),
    [(np.full(19008, np.nan), 0), (np.ones(1), 0), (np.ones(19008), 4)],
    ids=["NaN", "too few", "rv"],
)
def test_refused_new_data_leaves_the_process_with_nothing(llr, rv):
    block = block_of("first")[0]
    decoder = TransportBlockDecoder()
    decoder.decode(block, received("first"), 0)
    with pytest.raises(ValueError, match=r"NaN|got 1|rv must be"):
        decoder.decode(block, llr, rv)
    with pytest.raises(ValueError, match="no first transmission"):
        decoder.decode(block, received("again"), 2, new_data=False)


def test_the_process_longest_not_heard_of_is_dropped_and_counted():
    decoder = TransportBlockDecoder(buffers=2)
    block, *_ = block_of("small")
    llr = np.zeros(528)
    decoder.decode(block, llr, process=0)
    decoder.decode(block, llr, process=1)
    decoder.decode(block, llr, process=0, new_data=False)
    decoder.decode(block, llr, rnti=2, process=0)
    assert decoder.dropped == 1
    decoder.decode(block, llr, process=0, new_data=False)
    with pytest.raises(ValueError, match="RNTI 1, process 1"):
        decoder.decode(block, llr, process=1, new_data=False)


def test_other_threads_run_while_a_block_is_decoded():
    block = TransportBlock(83976, 8 * 24000, 8, 0.437)
    llr = np.random.default_rng(1).normal(0, 1, block.coded_bits)
    decoder = TransportBlockDecoder()
    times, done = [], threading.Event()

    def run():
        while not done.is_set():
            times.append(time.monotonic())
            time.sleep(0)

    other = threading.Thread(target=run)
    other.start()
    during = 0
    for _ in range(20):
        start = time.monotonic()
        decoder.decode(block, llr)
        quarter = (time.monotonic() - start) / 4
        during += sum(start + quarter < t < start + 3 * quarter for t in times)
    done.set()
    other.join()
    assert during > 0
