# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx.receiver: LLRs, tags, statistics, batches, hot swap, and everything that can be wrong."""

import contextlib
import ctypes
import gc
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pmt
import pytest
import receiver_models as models
import torch
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx.blocks.guarded import run_flowgraph
from slots import slot_of

from deeprx_common.shipped import CLASSICAL

FLOP = {"n_prb": 26, "n_rx": 2, "matmul": 100, "other": 10}

torch.set_num_threads(1)


def tag(offset, key, value):
    return gr.tag_utils.python_to_tag((offset, pmt.intern(key), pmt.to_pmt(value)))


def slot_tags(n_slots, key="packet_len", first_index=None):
    tags = [tag(14 * i, key, 14) for i in range(n_slots)]
    if first_index is not None:
        for i in range(n_slots):
            index = pmt.from_uint64(first_index + i)
            tags.append(gr.tag_utils.python_to_tag((14 * i, pmt.intern("slot_index"), index)))
    return tags


def random_symbols(config, n_rx, n_slots, seed=1):
    """OFDM symbols as a front end gives them, complex64 [n_rx, 14 n_slots, fft_size]."""
    rng = np.random.default_rng(seed)
    shape = (n_rx, 14 * n_slots, config.fft_size, 2)
    return rng.normal(size=shape).astype(np.float32).view(np.complex64)[..., 0]


class Sink(gr.sync_block):
    """Keeps LLRs, tags and messages.

    One block for all: message_debug may end with messages unread, but the scheduler hands a block
    the messages that came before its samples first.
    """

    def __init__(self):
        gr.sync_block.__init__(self, "sink", [np.float32], None)
        self.llrs, self.tags, self.stats = [], [], []
        self.message_port_register_in(pmt.intern("stats"))
        self.set_msg_handler(pmt.intern("stats"), self.keep)

    def keep(self, message):
        self.stats.append(pmt.to_python(message))

    def work(self, input_items, output_items):
        self.llrs.append(input_items[0].copy())
        self.tags += self.get_tags_in_window(0, 0, len(input_items[0]))
        return len(input_items[0])


class Flowgraph(gr.top_block):
    """Symbols -> receiver -> LLRs. Keyword arguments go to the receiver; it trusts its model, and
    runs others that it changes to in jails.
    """

    def __init__(self, model, symbols, tags, other_tags=(), repeat=False, **parameters):
        super().__init__()
        parameters = {"trust": [model], **parameters}
        self.receiver = deeprx.receiver(model=model, n_rx=len(symbols), **parameters)
        for port, stream in enumerate(symbols):
            source = blocks.vector_source_c(
                stream.ravel().tolist(), repeat, stream.shape[1], other_tags if port else tags
            )
            self.connect(source, (self.receiver, port))
        self.sink = Sink()
        self.connect(self.receiver, self.sink)
        self.msg_connect((self.receiver, "stats"), (self.sink, "stats"))

    def stats(self):
        """All messages so far, as Python dictionaries."""
        return list(self.sink.stats)

    def wait_for(self, key, seconds=20):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for message in self.stats():
                if key in message:
                    return message
            time.sleep(0.01)
        raise AssertionError(f"no message with {key} in {seconds} s")

    def slots(self, config):
        """LLRs, float32 [slots received, n_bits]."""
        llrs = np.concatenate([*self.sink.llrs, np.empty(0, np.float32)])
        return llrs[: len(llrs) // config.n_bits * config.n_bits].reshape(-1, config.n_bits)


def run(config, model, symbols, tags=None, **parameters):
    n_slots = symbols.shape[1] // 14
    flowgraph = Flowgraph(
        model,
        symbols,
        slot_tags(n_slots) if tags is None else tags,
        slot=config,
        **parameters,
    )
    flowgraph.run()
    return flowgraph


def eager_llrs(config, module, symbols):
    """What the module gives in eager PyTorch, float32 [n_slots, n_bits]."""
    n_slots = symbols.shape[1] // 14
    first = config.fft_size // 2 - 6 * config.n_prb
    grid = symbols.reshape(len(symbols), n_slots, 14, -1)[..., first : first + config.n_sc]
    y = torch.view_as_real(torch.from_numpy(grid.swapaxes(0, 1).copy()))
    pilots = np.stack([config.pilots(i)[0] for i in range(n_slots)])
    p = torch.view_as_real(torch.from_numpy(pilots))
    with torch.inference_mode():
        llrs = module.eval()(y, p, config.bits_per_symbol)[..., : config.bits_per_symbol].numpy()
    return llrs[:, config.data_mask].reshape(n_slots, -1)


@pytest.fixture
def model(tmp_path):
    """A model file for the default slot, and its module."""
    module = models.ConvNet()
    return models.save(module, tmp_path / "model.pt", name="small", bits=4), module


def test_models_that_ship_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    receiver = deeprx.receiver()
    receiver.set_model("baseline-lmmse")
    assert deeprx.Engine("deeprx-pusch.pt").name == "deeprx-pusch"
    for make in (deeprx.receiver, deeprx.Engine):
        with pytest.raises(RuntimeError) as error:
            make(Path("no-such-model"))
        assert_one_line(error, "'no-such-model'", "those that ship: baseline-lmmse, ")


def assert_one_line(error, *words):
    text = str(error.value)
    assert "\n" not in text, text
    for word in words:
        assert word in text, text


# LLRs


@pytest.mark.parametrize(
    "config, n_rx",
    [
        (deeprx.SlotConfig(), 2),
        (slot_of(n_prb=6, modulation="QPSK", dmrs=[2], dmrs_n_id=77), 1),
        (slot_of(n_prb=51, modulation="64QAM", dmrs=[3, 11], slot_number=None), 4),
        (slot_of(n_prb=273, modulation="256QAM", slot_number=9), 1),
        (slot_of(modulation="QPSK", slot_number=3), 3),
    ],
)
def test_llrs_equal_eager_pytorch(tmp_path, config, n_rx):
    """Float32 within 1e-4 relative, in transmit bit order, whatever the slot."""
    module = models.ConvNet(n_rx, bits=8)
    path = models.save(module, tmp_path / "model.pt")
    symbols = random_symbols(config, n_rx, 3)
    got = run(config, path, symbols).slots(config)
    expected = eager_llrs(config, module, symbols)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    "config",
    [
        slot_of(modulation="QPSK"),
        slot_of(modulation="QPSK", dmrs_n_id=65535, slot_number=9, n_prb=273, dmrs=[3]),
        slot_of(modulation="QPSK", dmrs_n_id=500, slot_number=None, n_prb=6, dmrs=[2]),
    ],
)
def test_pilots_are_those_of_the_slot(tmp_path, config):
    """The model receives SlotConfig.pilots of each slot, counted by its slot_index."""
    path = models.save(models.Echo(), tmp_path / "echo.pt")
    symbols = random_symbols(config, 1, 4)
    flowgraph = run(config, path, symbols, tags=slot_tags(4, first_index=8))
    for i, llrs in enumerate(flowgraph.slots(config)):
        shifted = np.roll(config.pilots(8 + i)[0], 1, axis=1)[config.data_mask]
        np.testing.assert_allclose(llrs.view(np.complex64), shifted, atol=1e-6)


def test_llr_sign_flips(model):
    path, module = model
    config = deeprx.SlotConfig()
    symbols = random_symbols(config, 2, 2)
    got = run(config, path, symbols, llr_sign=-1).slots(config)
    expected = -eager_llrs(config, module, symbols)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


# Tags and statistics


def test_tags_move_to_the_first_llr_of_their_slot(model):
    config = deeprx.SlotConfig()
    tags = [
        *slot_tags(3, "length", first_index=2**40),
        tag(14 + 5, "freq_offset", 0.25),
        tag(14 + 5, "length_of_something_else", 3),
    ]
    flowgraph = run(config, model[0], random_symbols(config, 2, 3), tags, len_tag_key="length")
    values = {(t.offset, str(t.key)): pmt.to_python(t.value) for t in flowgraph.sink.tags}
    n = config.n_bits
    expected = {(i * n, "length"): n for i in range(3)}
    expected |= {(i * n, "slot_index"): 2**40 + i for i in range(3)}
    expected |= {(n, "freq_offset"): 0.25, (n, "length_of_something_else"): 3}
    assert values == expected


def test_slots_without_index_are_counted(model):
    config = deeprx.SlotConfig()
    flowgraph = run(config, model[0], random_symbols(config, 2, 3))
    indices = [pmt.to_uint64(t.value) for t in flowgraph.sink.tags if str(t.key) == "slot_index"]
    assert indices == [0, 1, 2]


def test_equal_tags_of_several_inputs_become_one(model):
    config = deeprx.SlotConfig()
    tags = slot_tags(2, first_index=5)
    flowgraph = run(config, model[0], random_symbols(config, 2, 2), tags, other_tags=tags)
    assert len(flowgraph.sink.tags) == 4


@pytest.mark.parametrize(("n_rx", "says"), [(2, 2 * 110), (1, 0)])
def test_stats_say_the_models_flop_at_these_parameters(tmp_path, n_rx, says):
    path = models.save(models.Constant(1.0), tmp_path / "model.pt", flop_per_slot=FLOP)
    config = deeprx.SlotConfig(n_prb=52)
    flowgraph = run(config, path, random_symbols(config, n_rx, 1))
    assert [s["flop_per_slot"] for s in flowgraph.stats()] == [says]


def test_stats_of_each_slot(model):
    path, _ = model
    config = deeprx.SlotConfig()
    flowgraph = run(config, path, random_symbols(config, 2, 5), slot_tags(5, first_index=100))
    stats = flowgraph.stats()
    assert [s["slot_index"] for s in stats] == [100, 101, 102, 103, 104]
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    for s in stats:
        assert s["model"] == "small" and s["model_sha256"] == digest and s["batch"] == 1
        assert s["engine"].startswith("TorchScript ") and "float32" in s["engine"]
        assert s["flop_per_slot"] == 0  # the file does not say
        assert 0 < s["inference_ns"] < 10**9
        assert 0 < s["engine_cpu_ns"] < s["cpu_ns"] < 10**9
        assert s["queue_depth"] >= 0
    assert flowgraph.receiver.slots() == 5 and flowgraph.receiver.dropped() == 0


# Batches


def test_batches_are_greedy_and_bounded(model):
    """Batches form from what waits, at most max_batch; LLRs and order are those of single slots."""
    path, module = model
    config = deeprx.SlotConfig()
    symbols = random_symbols(config, 2, 40)
    flowgraph = run(config, path, symbols, max_batch=6, max_latency_ms=0)
    sizes = [s["batch"] for s in flowgraph.stats()]
    assert 1 < max(sizes) <= 6
    expected = eager_llrs(config, module, symbols)
    np.testing.assert_allclose(
        flowgraph.slots(config), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )


def test_latency_bound_forbids_slow_batches(model):
    config = deeprx.SlotConfig()
    flowgraph = run(
        config, model[0], random_symbols(config, 2, 20), max_batch=8, max_latency_ms=1e-3
    )
    assert {s["batch"] for s in flowgraph.stats()} == {1}


@pytest.mark.timing  # the bound is seven tenths of what a batch took a moment ago
def test_batches_end_where_the_latency_bound_does(tmp_path):
    config = deeprx.SlotConfig(n_prb=51)
    path = models.save(models.ConvNet(), tmp_path / "m.pt")
    engine = deeprx.Engine(path, max_batch=8, slot=slot_of(n_prb=51))
    bound_ms = 0.7e3 * engine.time(8, batch=8)[:, 0].min()
    symbols = random_symbols(config, 2, 40)
    flowgraph = run(config, path, symbols, max_batch=8, max_latency_ms=bound_ms)
    assert max(s["batch"] for s in flowgraph.stats()) < 8


def test_dropped_slot_inside_a_batch(model):
    path, module = model
    config = deeprx.SlotConfig()
    symbols = random_symbols(config, 2, 20)
    symbols[1, 14 * 9 + 4, 256] = np.inf
    flowgraph = run(config, path, symbols, max_batch=4, max_latency_ms=0)
    symbols[1, 14 * 9 + 4, 256] = 0
    expected = np.delete(eager_llrs(config, module, symbols), 9, 0)
    np.testing.assert_allclose(
        flowgraph.slots(config), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )


# Bad samples and tags: counted, reported, and no harm to other slots


def check_drops(model, symbols, tags, received, drops, other_tags=()):
    """received: first symbol of each slot that must come out. drops: (slot_index, word) each."""
    path, module = model
    config = deeprx.SlotConfig()
    flowgraph = run(config, path, symbols, tags, other_tags=other_tags)
    good = np.concatenate([symbols[:, i : i + 14] for i in received], axis=1)
    expected = eager_llrs(config, module, good)
    got = flowgraph.slots(config)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    dropped = [s for s in flowgraph.stats() if "dropped" in s]
    assert len(dropped) == flowgraph.receiver.dropped() == len(drops), dropped
    for message, (slot_index, word) in zip(dropped, drops, strict=True):
        assert message["slot_index"] == slot_index and word in message["dropped"], message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1j * np.nan])
def test_non_finite_sample_drops_its_slot(model, value):
    symbols = random_symbols(deeprx.SlotConfig(), 2, 4)
    symbols[1, 14 + 13, 256 + 155] = value
    tags = slot_tags(4, first_index=50)
    check_drops(model, symbols, tags, [0, 28, 42], [(51, "NaN")])


def test_non_finite_sample_in_the_guard_band_does_not_matter(model):
    symbols = random_symbols(deeprx.SlotConfig(), 2, 2)
    symbols[0, 3, 256 + 156] = np.nan
    check_drops(model, symbols, slot_tags(2), [0, 14], [])


def test_short_packet_is_dropped(model):
    symbols = random_symbols(deeprx.SlotConfig(), 2, 4)
    tags = [tag(0, "packet_len", 14), tag(14, "packet_len", 10)]
    tags += [tag(24, "packet_len", 14), tag(38, "packet_len", 14)]
    check_drops(model, symbols, tags, [0, 24, 38], [(1, "packet of 10")])


def test_long_packet_is_dropped(model):
    symbols = random_symbols(deeprx.SlotConfig(), 2, 5)
    tags = [tag(0, "packet_len", 28), tag(28, "packet_len", 14), tag(42, "packet_len", 14)]
    check_drops(model, symbols, tags, [28, 42], [(0, "packet of 28"), (3, "no length tag")])


def test_length_that_is_no_number_is_dropped(model):
    symbols = random_symbols(deeprx.SlotConfig(), 2, 2)
    tags = [tag(0, "packet_len", "many"), tag(14, "packet_len", 14)]
    check_drops(model, symbols, tags, [14], [(0, "packet of many")])


def test_tag_inside_a_slot_starts_a_new_one(model):
    symbols = random_symbols(deeprx.SlotConfig(), 2, 4)
    tags = [tag(0, "packet_len", 14), tag(5, "packet_len", 14), tag(19, "packet_len", 14)]
    tags += [tag(33, "packet_len", 14)]
    check_drops(model, symbols, tags, [5, 19, 33], [(0, "after 5 symbols")])


def test_symbols_without_tag_are_one_drop(model):
    symbols = random_symbols(deeprx.SlotConfig(), 2, 10)
    tags = [tag(0, "packet_len", 14), tag(100, "packet_len", 14), tag(114, "packet_len", 14)]
    check_drops(model, symbols, tags, [0, 100, 114], [(1, "no length tag")])


def test_inputs_out_of_step_are_dropped(model):
    symbols = random_symbols(deeprx.SlotConfig(), 2, 3)
    other = [tag(0, "packet_len", 14), tag(15, "packet_len", 14), tag(28, "packet_len", 14)]
    check_drops(model, symbols, slot_tags(3), [0, 28], [(1, "input 1 is not aligned")], other)


def test_non_finite_llrs_are_dropped(tmp_path):
    config = deeprx.SlotConfig()
    path = models.save(models.Division(), tmp_path / "model.pt")
    symbols = random_symbols(config, 1, 3)
    symbols[:, 14:28] = 0
    flowgraph = run(config, path, symbols)
    assert flowgraph.receiver.dropped() == 1
    np.testing.assert_array_equal(flowgraph.slots(config), np.ones((2, config.n_bits)))


def test_failed_inference_drops_its_slot_and_says_why(tmp_path):
    config = deeprx.SlotConfig()
    path = models.save(models.Failing("out of range\nand more about it"), tmp_path / "model.pt")
    symbols = random_symbols(config, 1, 4)
    symbols[:, 14] *= 1e6
    flowgraph = run(config, path, symbols)
    reasons = [s["dropped"] for s in flowgraph.stats() if "dropped" in s]
    assert reasons == ["inference failed: out of range"]
    received = [s["slot_index"] for s in flowgraph.stats() if "batch" in s]
    assert received == [0, 2, 3]


def test_a_receiver_that_cannot_start_ends_the_flowgraph(tmp_path):
    path = models.save(models.OneSlot(), tmp_path / "model.pt")
    symbols = random_symbols(deeprx.SlotConfig(), 1, 4)
    flowgraph = Flowgraph(path, symbols, slot_tags(4), repeat=True, max_batch=4)
    flowgraph.start()
    flowgraph.wait()
    assert flowgraph.receiver.slots() == 0
    assert flowgraph.receiver.error() == "test: one slot only"


def test_a_receiver_that_ends_early_ends_its_command(tmp_path):
    path = models.save(models.OneSlot(), tmp_path / "model.pt")
    symbols = random_symbols(deeprx.SlotConfig(), 1, 4)
    flowgraph = Flowgraph(path, symbols, slot_tags(4), repeat=True, max_batch=4)
    with pytest.raises(RuntimeError, match="test: one slot only"):
        run_flowgraph(flowgraph)


# Model files


@pytest.mark.parametrize(
    "metadata, parameters, words",
    [
        ({"contract": "deeprx.model/9"}, {}, ["deeprx.model/9", "reads", "deeprx.model/2"]),
        ({"contract": "deeprx.model/1"}, {}, ["deeprx.model/1", "`./dev train convert FILE.pt`"]),
        ({"layers": [2]}, {}, ["layers of [2]", "layers=1"]),
        ({"cdm_groups": [2]}, {}, ["cdm_groups of [2]", "cdm_groups=1"]),
        ({"n_dmrs": [4]}, {}, ["takes [4] DMRS symbols", "dmrs=[2, 11]"]),
        ({"n_prb": [30, 60]}, {}, ["30 to 60 PRB", "n_prb=26; ls-lmmse, sure-lmmse and gnb"]),
        ({"n_rx": [1, 4]}, {}, ["n_rx of [1, 4]", "n_rx=2"]),
        ({"prb_multiple_of": 4}, {}, ["multiples of 4 PRB", "n_prb=26"]),
        ({"prb_multiple_of": 0}, {}, ["prb_multiple_of"]),
        ({"flop_per_slot": FLOP | {"n_prb": 0}}, {}, ["flop_per_slot", "0 PRB"]),
        ({"flop_per_slot": FLOP | {"matmul": "much"}}, {}, ["matmul"]),
        ({"modulations": ["QPSK"]}, {}, ["[QPSK]", "modulation=16QAM"]),
        ({"bits": 4}, {"slot": slot_of("64QAM")}, ["4 bits", "64QAM needs 6"]),
        ({"dmrs": [[2], [2, 11]]}, {"slot": slot_of(dmrs=[3])}, ["[[2], [2, 11]]", "dmrs=[3]"]),
        ({"n_sym": [12, 13]}, {}, ["symbols of [12, 13]", "symbols=14"]),
        ({"requires": ["cuda"]}, {}, ['device="cuda"']),
        ({"requires": ["warp_drive"]}, {}, ["processor with warp_drive"]),
        ({"quantized_engine": "abacus"}, {}, ["abacus", "LibTorch has"]),
        ({"n_rx": {"two": [2]}}, {}, ["n_rx"]),
        ({"bits": "four"}, {}, ["bits"]),
        ({"bits": 2**40}, {}, ["bits"]),
        ({"trained": "widely"}, {}, ["trained"]),
        ({"trained": {"snr_db": [4]}}, {}, ["snr_db"]),
        ({"trained": {"doppler_hz": [500, 0]}}, {}, ["doppler_hz"]),
        ({"trained": {"delay_spread_s": ["short", "long"]}}, {}, ["delay_spread_s"]),
    ],
)
def test_model_for_other_parameters_is_refused(tmp_path, metadata, parameters, words):
    path = models.save(models.Constant(1.0), tmp_path / "model.pt", **metadata)
    with pytest.raises(RuntimeError) as error:
        deeprx.receiver(model=path, **parameters)
    assert_one_line(error, path, *words)


@pytest.mark.parametrize(
    "trained, says",
    [
        ({}, ""),
        ({"sir_db": None, "channels": ["TDL-B"]}, ""),
        (
            {"delay_spread_s": [1e-8, 3e-7], "doppler_hz": [0, 500.0], "snr_db": [-4, 32]},
            "; trained for delay spread 10 to 300 ns, Doppler 0 to 500 Hz, SNR -4 to 32 dB: "
            "beyond, a classical receiver can be better",
        ),
    ],
)
@pytest.mark.usefixtures("logged_from_info")
def test_load_message_says_what_the_model_was_trained_for(tmp_path, capfd, trained, says):
    name = f"net {len(trained)}"
    path = models.save(models.Constant(1.0), tmp_path / "m.pt", name=name, trained=trained)
    deeprx.receiver(model=path)
    for _ in range(100):  # the logger has a thread of its own
        if name in (text := "".join(capfd.readouterr())):
            break
        time.sleep(0.02)
    (line,) = [line for line in text.splitlines() if name in line]
    message = line.split(f"{name}: ")[1]
    assert message.startswith("TorchScript") and (
        message.endswith(says) if says else "trained" not in message
    )


@pytest.mark.parametrize("missing", sorted(set(models.METADATA) - {"kind", "precision", "params"}))
def test_missing_metadata_is_refused(tmp_path, missing):
    metadata = {key: value for key, value in models.METADATA.items() if key != missing}
    path = tmp_path / "model.pt"
    extra = {"deeprx.json": json.dumps(metadata)}
    torch.jit.save(torch.jit.script(models.Constant(1.0)), path, _extra_files=extra)
    with pytest.raises(RuntimeError) as error:
        deeprx.receiver(model=str(path))
    assert_one_line(error, str(path), missing)


class Layers(torch.nn.Module):
    """One of each kind of layer that a receiver may be made of."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Conv2d(4, 8, 3, padding=1)
        self.layers = torch.nn.Sequential(
            torch.nn.GroupNorm(2, 8),
            torch.nn.PReLU(),
            torch.nn.Dropout2d(),
            torch.nn.MaxPool2d(2),
            torch.nn.Upsample(scale_factor=2.0),
            torch.nn.ConvTranspose2d(8, 8, 3, padding=1),
            torch.nn.SiLU(inplace=True),
        )
        self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        self.recurrent = torch.nn.GRU(8, 8, batch_first=True)
        self.norm = torch.nn.LayerNorm(8)
        self.tail = torch.nn.Linear(8, 4)

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        batch, _, n_sym, n_sc, _ = y.shape
        with torch.no_grad():
            spectrum = torch.fft.fft(torch.view_as_complex(y)) / n_sc
            covariance = torch.einsum("brsk,bqsk->brq", spectrum, spectrum.conj())
            inverse = torch.linalg.inv(covariance + torch.eye(2, device=y.device))
        x = y.permute(0, 1, 4, 2, 3).reshape(batch, 4, n_sym, n_sc)
        x = self.layers(self.head(x) * inverse.abs().mean((1, 2))[:, None, None, None])
        x = x.permute(0, 2, 3, 1).reshape(batch * n_sym, n_sc, 8)
        x = x + self.attention(x, x, x, need_weights=False)[0] + self.recurrent(x)[0]
        return self.tail(self.norm(x)).reshape(batch, n_sym, n_sc, 4)


def test_honest_layers_are_allowed(tmp_path):
    config = deeprx.SlotConfig(n_prb=6)
    module = Layers().eval()
    path = models.save(module, tmp_path / "model.pt", bits=4)
    symbols = random_symbols(config, 2, 2)
    expected = eager_llrs(config, module, symbols)
    got = run(config, path, symbols).slots(config)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def write_nothing(path):
    pass


def write_text(path):
    path.write_text("not a model\n" * 100)


def write_empty(path):
    path.write_bytes(b"")


def write_directory(path):
    path.mkdir()


def write_state_dict(path):
    torch.save(models.ConvNet().state_dict(), path)


def write_without_metadata(path):
    torch.jit.save(torch.jit.script(models.Constant(1.0)), path)


def write_broken_metadata(path):
    module = torch.jit.script(models.Constant(1.0))
    torch.jit.save(module, path, _extra_files={"deeprx.json": '{"contract": '})


def write_deep_metadata(path):
    module = torch.jit.script(models.Constant(1.0))
    torch.jit.save(module, path, _extra_files={"deeprx.json": "[" * 10**5})


def write_truncated(path):
    models.save(models.ConvNet(), path)
    path.write_bytes(path.read_bytes()[:-2000])


def write_flipped_bit(path):
    models.save(models.ConvNet(), path)
    with zipfile.ZipFile(path) as archive:
        tensors = [record for record in archive.infolist() if "/data/" in record.filename]
    weights = max(tensors, key=lambda record: record.file_size)
    data = bytearray(path.read_bytes())
    name, extra = struct.unpack_from("<HH", data, weights.header_offset + 26)
    data[weights.header_offset + 30 + name + extra + weights.file_size // 2] ^= 0x80
    path.write_bytes(data)


def write_other_directory(path):
    """Its list of records is said to be behind the end of the file."""
    models.save(models.ConvNet(), path)
    data = bytearray(path.read_bytes())
    data[data.rfind(b"PK\x06\x06") + 51] = 0x7F  # of ZIP64
    data[-3] = 0x7F  # of ZIP
    path.write_bytes(data)


def write_other_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b.txt", "text")


def write_wrong_shape(path):
    models.save(models.WrongShape(), path)


def write_other_forward(path):
    models.save(torch.nn.ReLU(), path)


@pytest.mark.parametrize(
    "write, word",
    [
        (write_nothing, "no such model file; those that ship: baseline-lmmse, "),
        (write_text, "not a TorchScript archive"),
        (write_empty, "not a TorchScript archive"),
        (write_directory, "directory"),
        (write_state_dict, "not a TorchScript archive"),
        (write_without_metadata, "no deeprx.json"),
        (write_broken_metadata, "not JSON"),
        (write_deep_metadata, "nested"),
        (write_truncated, "not a TorchScript archive"),
        (write_flipped_bit, "checksum"),
        (write_other_directory, "not a TorchScript archive"),
        (write_other_zip, "not a TorchScript archive"),
        (write_wrong_shape, "forward must give"),
        (write_other_forward, "forward"),
    ],
)
def test_file_that_is_no_model_is_refused(tmp_path, write, word):
    path = tmp_path / "model.pt"
    write(path)
    with pytest.raises(RuntimeError) as error:
        deeprx.receiver(model=str(path))
    assert_one_line(error, str(path), word)


def hostile_forward(path, target):
    models.save(models.ReadsFile(), path)
    return "aten::from_file"


def hostile_method(path, target):
    models.save(models.WritesFileInAnotherMethod(target), path)
    return "aten::save"


def hostile_setstate(path, target):
    models.save(models.WritesFileOnLoading(target), path)
    return "aten::save"


def hostile_submodule(path, target):
    models.save(models.WritesFileInSubmodule(target), path)
    return "aten::save"


def hostile_constants(path, target):
    """The compiler may fold a call whose arguments are constants."""
    models.save(models.WritesFileInAnotherMethod(target), path)
    models.edit_code(str(path), "torch.save(y, target)", f'torch.save(1, "{target}")')
    return "aten::save"


def hostile_default_argument(path, target):
    models.save(models.CallsFunction(), path)
    models.edit_code(str(path), 'str="fine"', f'NoneType=torch.save(1, "{target}")')
    return "constant or default argument"


def hostile_class_constant(path, target):
    models.save(models.CallsFunction(), path)
    models.edit_code(str(path), "Final[int] = 7", f'Final[NoneType] = torch.save(1, "{target}")')
    return "constant or default argument"


def hostile_function(path, target):
    models.save(models.CallsFunction(), path)
    models.edit_code(str(path), "  return state", f'  torch.save(1, "{target}")\n  return state')
    return "aten::save"


def hostile_other_namespace(path, target):
    models.save(models.CallsFunction(), path)
    models.edit_code(str(path), "torch.mul(y, 7)", 'ops.aten.from_file("/etc/passwd", False, 9)')
    return "aten::from_file"


def hostile_second_record(path, target):
    """The loader finds records without regard to case: a decoy must not be vetted in its place."""
    models.save(models.CallsFunction(), path)
    with zipfile.ZipFile(path, "a") as archive:
        name = next(n for n in archive.namelist() if n.endswith("receiver_models.py"))
        archive.writestr(name.replace("receiver", "Receiver"), archive.read(name))
    return "a second record"


HOSTILE = [
    hostile_forward,
    hostile_method,
    hostile_setstate,
    hostile_submodule,
    hostile_constants,
    hostile_default_argument,
    hostile_class_constant,
    hostile_function,
    hostile_other_namespace,
    hostile_second_record,
]


@pytest.mark.parametrize("write", HOSTILE)
def test_hostile_model_is_refused_before_it_runs(tmp_path, write):
    target = tmp_path / "written_by_the_model"
    path = tmp_path / "model.pt"
    word = write(path, str(target))
    with pytest.raises(RuntimeError) as error:
        deeprx.receiver(model=str(path))
    assert_one_line(error, str(path), "not allowed", word)
    assert not target.exists()


# Parameters


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"n_rx": 5}, ["n_rx must be 1 to 4", "5"]),
        ({"device": "tpu"}, ["device", "tpu"]),
        ({"device": "cuda:x"}, ["device", "cuda:x"]),
        ({"threads": 0}, ["threads", "0"]),
        ({"max_batch": 0}, ["max_batch", "0"]),
        ({"max_latency_ms": -1.0}, ["max_latency_ms", "-1"]),
        ({"len_tag_key": ""}, ["len_tag_key"]),
        ({"llr_sign": 0}, ["llr_sign must be 1 or -1", "0"]),
    ],
)
def test_parameter_out_of_range_is_refused(model, parameters, words):
    with pytest.raises(ValueError) as error:
        deeprx.receiver(model=model[0], **parameters)
    assert_one_line(error, *words)


def test_a_slot_must_be_one(model):
    with pytest.raises(TypeError) as error:
        deeprx.receiver(model=model[0], slot=26)
    assert_one_line(error, "slot must be a SlotConfig, got 26")


@pytest.mark.parametrize("make", [deeprx.Engine, deeprx.receiver])
@pytest.mark.parametrize("trust", ["model.pt", None, 3])
def test_what_is_trusted_must_be_a_list(make, trust, model):
    with pytest.raises(TypeError) as error:
        make(model=model[0], trust=trust)
    assert_one_line(error, f"trust must be a list of files or of their SHA-256, got {trust!r}")


def test_receivers_of_a_process_agree_on_threads(model):
    first = deeprx.receiver(model=model[0], threads=1)
    with pytest.raises(ValueError) as error:
        deeprx.receiver(model=model[0], threads=2)
    assert_one_line(error, "threads=1", "2")
    second = deeprx.receiver(model=model[0], threads=1)
    del first, second
    deeprx.receiver(model=model[0], threads=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_missing_gpu_is_an_error(model):
    with pytest.raises(RuntimeError) as error:
        deeprx.receiver(model=model[0], device="cuda")
    assert_one_line(error, "cuda", "0 CUDA devices")


def use_a_model_in_a_fork(path):
    """Run in a process of its own: prints what a child process makes of models."""
    config = deeprx.SlotConfig()
    flowgraph = run(config, path, random_symbols(config, 2, 1), threads=2)
    engine = deeprx.Engine(path, threads=2)
    y, p = np.zeros((1, 2, 14, 312, 2), np.float32), np.zeros((1, 1, 14, 312, 2), np.float32)
    if child := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    for use in (
        lambda: deeprx.receiver(path, threads=2),
        lambda: deeprx.Engine(path, threads=2),
        lambda: engine.infer(y, p),
        lambda: engine.time(1),
    ):
        try:
            use()
            print("no error")
        except RuntimeError as error:
            print(error)
    flowgraph.run()
    print("through", flush=True)
    os._exit(0)


def test_a_forked_process_gets_an_error_and_does_not_hang(model):
    done = subprocess.run(
        [sys.executable, "-c", f"import qa_receiver as q; q.use_a_model_in_a_fork({model[0]!r})"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    *errors, last = done.stdout.splitlines()[-5:]
    assert (done.returncode, last) == (0, "through"), done.stdout + done.stderr
    assert all("was forked from process" in e and "spawn" in e for e in errors), errors


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_gpu_gives_the_llrs_of_the_cpu(model):
    path, module = model
    config = deeprx.SlotConfig()
    symbols = random_symbols(config, 2, 20)
    flowgraph = run(config, path, symbols, device="cuda", max_batch=4, max_latency_ms=0)
    expected = eager_llrs(config, module, symbols)
    np.testing.assert_allclose(
        flowgraph.slots(config), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max()
    )


@pytest.mark.timing
def test_worker_threads_count_as_cpu_time(model):
    """The same work on two threads costs about the same CPU time, not half of it."""
    config = deeprx.SlotConfig(n_prb=106)
    symbols = random_symbols(config, 2, 20)
    least = {1: [], 2: []}  # of a run: what other load on the machine adds is left out
    for threads in (1, 2, 1, 2, 1, 2):
        stats = run(config, model[0], symbols, threads=threads).stats()
        assert len(stats) == 20
        least[threads].append(min(s["cpu_ns"] for s in stats))
    assert min(least[2]) > 0.7 * min(least[1])


def cores_of_threads():
    """Cores that each thread of this process may run on."""
    cores = []
    for path in Path("/proc/self/task").glob("*/status"):
        with contextlib.suppress(FileNotFoundError):  # it may have ended
            lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
            cores.append(lines["Cpus_allowed_list"].strip())
    return cores


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_worker_threads_are_bound_with_the_block(model):
    config = deeprx.SlotConfig()
    core = max(os.sched_getaffinity(0))
    flowgraph = Flowgraph(
        model[0], random_symbols(config, 2, 4), slot_tags(4), repeat=True, threads=2
    )
    flowgraph.receiver.set_processor_affinity([core])
    flowgraph.start()
    wait_for_slots(flowgraph, 5)
    bound = cores_of_threads().count(str(core))
    flowgraph.stop()
    flowgraph.wait()
    assert bound == 2


needs_openvino = pytest.mark.skipif(
    not models.has_openvino(), reason="gr-deeprx was built without OpenVINO"
)


@needs_openvino
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_openvino_stays_on_the_cores_of_the_block(tmp_path):
    config = deeprx.SlotConfig()
    core = max(os.sched_getaffinity(0))
    module = models.ConvNet()
    path = models.save(module, tmp_path / "m.pt", models.ir_of(module))
    flowgraph = Flowgraph(path, random_symbols(config, 2, 4), slot_tags(4), repeat=True)
    flowgraph.receiver.set_processor_affinity([core])
    before, seen = set(os.listdir("/proc/self/task")), set()
    flowgraph.start()
    try:
        wait_for_slots(flowgraph, 5)
        for thread in set(os.listdir("/proc/self/task")) - before:
            status = Path("/proc/self/task", thread, "status")
            if "Name:\tdeeprx_r" not in status.read_text():  # and some of its number
                continue
            for _ in range(200):  # about half of them while it computes
                seen |= set(re.findall(r"Cpus_allowed_list:\s*(.*)", status.read_text()))
                time.sleep(0.7e-3)
    finally:
        flowgraph.stop()
        flowgraph.wait()
    assert seen == {str(core)}


@needs_openvino
def test_openvino_receives_what_the_file_carries_for_it(tmp_path):
    config = deeprx.SlotConfig()
    module = models.ConvNet()
    path = models.save(module, tmp_path / "m.pt", models.ir_of(module))
    symbols = random_symbols(config, 2, 20)
    flowgraph = run(config, path, symbols, max_batch=4, max_latency_ms=0)
    expected = eager_llrs(config, module, symbols)
    np.testing.assert_allclose(
        flowgraph.slots(config), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )
    for s in flowgraph.stats():
        assert s["engine"].startswith("OpenVINO ")
        assert 0 < s["cpu_ns"] < 10**9


@needs_openvino
def test_hot_swap_changes_the_engine(tmp_path):
    config = deeprx.SlotConfig()
    module = models.ConvNet()
    one = models.save(module, tmp_path / "one.pt")
    two = models.save(module, tmp_path / "two.pt", models.ir_of(module))
    symbols = random_symbols(config, 2, 4)
    flowgraph = Flowgraph(one, symbols, slot_tags(4), repeat=True)
    flowgraph.start()
    flowgraph.receiver.set_model(two)
    assert flowgraph.wait_for("model_loaded")["engine"].startswith("OpenVINO ")
    wait_for_slots(flowgraph, 20)
    flowgraph.stop()
    flowgraph.wait()
    expected = np.resize(eager_llrs(config, module, symbols), flowgraph.slots(config).shape)
    np.testing.assert_allclose(
        flowgraph.slots(config), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )
    engines = [s["engine"].partition(" ")[0] for s in flowgraph.stats() if "batch" in s]
    assert engines == sorted(engines, reverse=True) and set(engines) == {"TorchScript", "OpenVINO"}


def work_over_engine(model):
    """Microseconds of CPU time of a slot's work(), then of the engine alone.

    In a process of its own, whose GNU Radio counts. The fastest twentieth: what else runs on the
    machine makes calls longer, never shorter.
    """
    config = deeprx.SlotConfig()
    flowgraph = gr.top_block()
    receiver = deeprx.receiver(model=model)
    for port, symbols in enumerate(random_symbols(config, 2, 4)):
        tags = [] if port else slot_tags(4)
        source = blocks.vector_source_c(symbols.ravel().tolist(), True, config.fft_size, tags)
        flowgraph.connect(source, (receiver, port))
    flowgraph.connect(receiver, blocks.null_sink(gr.sizeof_float))
    engine = deeprx.Engine(model)
    flowgraph.start()
    work, bare = [], []
    for _ in range(10):
        for _ in range(100):
            time.sleep(0.001)
            work.append(receiver.pc_work_time() * 1e-3)
        bare += list(1e6 * engine.time(50)[:, 1])
    flowgraph.stop()
    flowgraph.wait()
    print("work", np.quantile(work, 0.05), "engine", np.quantile(bare, 0.05))


@pytest.mark.timing
def test_work_costs_at_most_20_microseconds_over_the_engine(tmp_path):
    path = models.save(models.Constant(1.0), tmp_path / "m.pt")
    counting = {"GR_CONF_PERFCOUNTERS_ON": "1", "GR_CONF_PERFCOUNTERS_CLOCK": "thread"}
    runs = []  # the fastest of each counts: a slow minute may pass
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", f"import qa_receiver as q; q.work_over_engine({path!r})"],
            cwd=Path(__file__).parent,
            env=os.environ | counting,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        _, work, _, engine = done.stdout.splitlines()[-1].split()
        runs.append((float(work), float(engine)))
    work, engine = map(min, zip(*runs, strict=True))
    assert 0 < work < engine + 20, runs


def steady_allocations(model, **parameters):
    """Run in a process of its own that counts: prints the slots, then who asked for memory."""
    config = deeprx.SlotConfig()
    counter = ctypes.CDLL(None)
    tags = slot_tags(4, first_index=0)
    symbols = random_symbols(config, 2, 4)
    flowgraph = Flowgraph(model, symbols, tags, repeat=True, **parameters)
    flowgraph.start()
    wait_for_slots(flowgraph, 100)
    counter.count_allocations(b"deeprx_receive")  # newer GNU Radio ends the name with a number
    before = flowgraph.receiver.slots()
    wait_for_slots(flowgraph, 200)
    counter.print_allocations()
    print("slots", flowgraph.receiver.slots() - before, flush=True)
    flowgraph.stop()
    flowgraph.wait()


def who_allocates(tmp_path, arguments):
    """Allocations by library, in some 200 slots of steady_allocations(arguments)."""
    tests = Path(__file__).parent
    counter = tmp_path / "libcount_allocations.so"
    source = tests / "count_allocations.cc"
    command = ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-o", counter, source]
    subprocess.run(command, check=True)
    done = subprocess.run(
        [sys.executable, "-c", f"import qa_receiver as q; q.steady_allocations({arguments})"],
        cwd=tests,
        env=os.environ | {"LD_PRELOAD": str(counter)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines() if line.count(" ") == 1]
    counted = {name: int(count) for name, count in lines}
    assert counted["slots"] >= 200
    return counted


@pytest.mark.parametrize("library", ["libtorch", pytest.param("libopenvino", marks=needs_openvino)])
def test_steady_state_allocates_nothing_of_its_own(tmp_path, library):
    """Only GNU Radio's tags and messages and the inference library ask for memory."""
    module = models.ConvNet()
    carried = models.ir_of(module) if library == "libopenvino" else {}
    path = models.save(module, tmp_path / "m.pt", carried)
    counted = who_allocates(tmp_path, repr(path))
    assert any(library in name for name in counted), counted  # it does count
    assert not [name for name in counted if "deeprx" in name], counted


@pytest.mark.parametrize("model", CLASSICAL)
def test_classical_receivers_allocate_nothing(tmp_path, model):
    counted = who_allocates(tmp_path, f"{model!r}, trust=[]")
    assert any("pmt" in name for name in counted), counted  # it does count
    assert not [name for name in counted if "deeprx" in name], counted


# Hot swap


def swap_flowgraph(tmp_path, n_slots=4):
    config = deeprx.SlotConfig()
    one = models.save(models.Constant(1.0), tmp_path / "one.pt", name="one")
    symbols = random_symbols(config, 2, n_slots)
    return config, Flowgraph(one, symbols, slot_tags(n_slots), repeat=True)


def wait_for_slots(flowgraph, more):
    target = flowgraph.receiver.slots() + more
    deadline = time.monotonic() + 20
    while flowgraph.receiver.slots() < target:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_hot_swap_loses_no_slot(tmp_path):
    config, flowgraph = swap_flowgraph(tmp_path)
    two = models.save(models.Constant(2.0), tmp_path / "two.pt", name="two")
    flowgraph.start()
    wait_for_slots(flowgraph, 5)
    flowgraph.receiver.set_model(two)
    assert flowgraph.wait_for("model_loaded")["model_loaded"] == "two"
    while not any(s.get("model") == "two" for s in flowgraph.stats()):
        wait_for_slots(flowgraph, 5)
    wait_for_slots(flowgraph, 100)
    flowgraph.stop()
    flowgraph.wait()
    levels = flowgraph.slots(config)
    assert (levels == levels[:, :1]).all(), "a slot was received by two models"
    n_one = int((levels[:, 0] == 1).sum())
    assert 0 < n_one < len(levels) and (levels[n_one:, 0] == 2).all()
    # stop() leaves the last LLRs and messages on their way, more of the ones or of the others
    stats = [s for s in flowgraph.stats() if "model" in s]
    assert abs(len(stats) - len(levels)) < 20
    assert [s["slot_index"] for s in stats] == list(range(len(stats)))
    assert [s["model"] for s in stats] == ["one"] * n_one + ["two"] * (len(stats) - n_one)


def test_hot_swap_at_a_slot(tmp_path):
    """The message form, at a slot_index in the future and inside what would be a batch."""
    config = deeprx.SlotConfig()
    one = models.save(models.Constant(1.0), tmp_path / "one.pt")
    two = models.save(models.Constant(2.0), tmp_path / "two.pt")
    flowgraph = Flowgraph(
        one, random_symbols(config, 2, 4), slot_tags(4), repeat=True, max_batch=4, max_latency_ms=0,
        trust=[one, two],  # in time for its slot
    )  # fmt: skip
    strobe = pmt.dict_add(pmt.make_dict(), pmt.intern("path"), pmt.intern(two))
    flowgraph.start()
    at_slot = flowgraph.receiver.slots() + 3001
    strobe = pmt.dict_add(strobe, pmt.intern("at_slot"), pmt.from_uint64(at_slot))
    flowgraph.receiver.to_basic_block()._post(pmt.intern("model"), strobe)
    deadline = time.monotonic() + 30
    while flowgraph.receiver.slots() < at_slot + 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    flowgraph.stop()
    flowgraph.wait()
    levels = flowgraph.slots(config)[:, 0]
    assert len(levels) > at_slot
    assert (levels[:at_slot] == 1).all() and (levels[at_slot:] == 2).all()


NO_MESSAGES = [
    pmt.from_long(7),
    pmt.PMT_NIL,
    pmt.PMT_T,
    pmt.make_dict(),
    pmt.cons(pmt.intern("path"), pmt.intern("m.pt")),
    pmt.to_pmt({"path": 7}),
    pmt.to_pmt({"path": "m.pt", "at_slot": "soon"}),
    pmt.to_pmt({"path": "m.pt", "at_slot": float("nan")}),
    pmt.to_pmt({"path": "m.pt", "at_slot": -1}),
    pmt.init_f32vector(2, [1.0, 2.0]),
]


def test_messages_that_are_none_are_answered_one_by_one(tmp_path):
    """And the block goes on: with slots, and with the next good message."""
    _, flowgraph = swap_flowgraph(tmp_path)
    flowgraph.start()
    wait_for_slots(flowgraph, 3)
    for message in NO_MESSAGES:
        flowgraph.receiver.to_basic_block()._post(pmt.intern("model"), message)
    flowgraph.receiver.set_model(models.save(models.Constant(2.0), tmp_path / "next.pt"))
    flowgraph.wait_for("model_loaded")
    errors = [m["model_error"] for m in flowgraph.stats() if "model_error" in m]
    wait_for_slots(flowgraph, flowgraph.receiver.slots() + 5)
    flowgraph.stop()
    flowgraph.wait()
    assert len(errors) == len(NO_MESSAGES)
    assert all("path of a model file" in e and "\n" not in e for e in errors), errors
    assert flowgraph.receiver.error() == ""


def test_a_storm_of_swaps_loads_only_the_newest(tmp_path):
    """Every request has its answer, the last one is what receives, and no slot is lost."""
    _, flowgraph = swap_flowgraph(tmp_path)
    paths = [models.save(models.Constant(2.0), tmp_path / f"{i}.pt", name=f"{i}") for i in range(9)]
    flowgraph.start()
    wait_for_slots(flowgraph, 5)
    for i in range(100):
        flowgraph.receiver.set_model(paths[i % 9])
        time.sleep(0.012)
    answers, deadline = [], time.monotonic() + 40
    while len(answers) < 100 and time.monotonic() < deadline:
        time.sleep(0.05)
        answers = [s for s in flowgraph.stats() if {"model_loaded", "model_replaced"} & set(s)]
    while flowgraph.stats()[-1].get("model") != "0":
        wait_for_slots(flowgraph, 5)
    flowgraph.stop()
    flowgraph.wait()
    assert answers[-1]["model_loaded"] == "0" and len(answers) == 100
    replaced = [s["model_replaced"] for s in answers if "model_replaced" in s]
    assert all(line.endswith(".pt': replaced by a newer request") for line in replaced)
    assert 0 < len(replaced) < 99
    assert flowgraph.receiver.dropped() == 0


def leave_while_a_model_loads(path):
    """Run in a process of its own: prints how long the receiver's end took."""
    config = deeprx.SlotConfig()
    flowgraph = Flowgraph(path, random_symbols(config, 2, 4), slot_tags(4), repeat=True)
    flowgraph.start()
    wait_for_slots(flowgraph, 5)
    flowgraph.receiver.set_model("deeprx-teacher")
    time.sleep(0.05)
    flowgraph.stop()
    flowgraph.wait()
    start = time.monotonic()
    del flowgraph
    gc.collect()
    print("seconds:", time.monotonic() - start, flush=True)


def test_destruction_waits_for_no_load(tmp_path):
    path = models.save(models.Constant(1.0), tmp_path / "m.pt")
    done = subprocess.run(
        [sys.executable, "-c", f"import qa_receiver as q; q.leave_while_a_model_loads({path!r})"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr  # the process has waited for it
    (seconds,) = re.findall(r"^seconds: (.*)", done.stdout, re.MULTILINE)
    assert float(seconds) < 0.5


@pytest.mark.parametrize("bad", ["missing", "hostile", "antennas"])
def test_bad_hot_swap_keeps_the_running_model(tmp_path, bad):
    config, flowgraph = swap_flowgraph(tmp_path)
    path = str(tmp_path / "bad.pt")
    words = [path]
    if bad == "hostile":
        models.save(models.WritesFileOnLoading(str(tmp_path / "target")), path)
        words.append("aten::save")
    elif bad == "antennas":
        models.save(models.Constant(2.0), path, n_rx=[4])
        words += ["n_rx=2", "ls-lmmse, sure-lmmse and gnb take this slot"]
    flowgraph.start()
    wait_for_slots(flowgraph, 3)
    flowgraph.receiver.to_basic_block()._post(pmt.intern("model"), pmt.intern(path))
    error = flowgraph.wait_for("model_error")["model_error"]
    assert "\n" not in error
    for word in words:
        assert word in error
    wait_for_slots(flowgraph, 5)
    flowgraph.stop()
    flowgraph.wait()
    assert (flowgraph.slots(config) == 1).all()
    assert flowgraph.receiver.dropped() == 0
    assert not (tmp_path / "target").exists()


# The process


@pytest.mark.parametrize(
    "first, second", [("torch", "gnuradio.deeprx"), ("gnuradio.deeprx", "torch")]
)
def test_torch_and_gnuradio_share_a_process(first, second):
    code = f"import {first}, {second}, torch; print(torch.ones(2).sum().item())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2.0"


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
