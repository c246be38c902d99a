# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver's port estimates: channel and noise of known slots, by the model or beside it."""

import threading
import time

import numpy as np
import pmt
import pytest
import receiver_models as models
import torch
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx import deeprx_python
from slots import slot_of

from deeprx_common.slot import SlotConfig, User

N_RX, SLOTS = 2, 12
NOISE = np.array([0.01, 0.02])  # variance in a RE, of each antenna, beside channels of unit power
ONE_USER = slot_of("QPSK")
CONFIGS = {
    "one user": ONE_USER,
    "a gNB's": slot_of("16QAM", first_prb=3, carrier_prb=30, cdm_groups=2, n_symbols=13),
    "two users, one group": SlotConfig(users=(User("QPSK"), User("16QAM", port=1))),
    "two users, two groups": SlotConfig(
        users=(User("16QAM"), User("QPSK", port=2)), cdm_groups=2, dmrs=(2, 7, 11)
    ),
}


class Sink(gr.sync_block):
    """Keeps LLRs and messages; those that came before its samples are handed to it first."""

    def __init__(self):
        gr.sync_block.__init__(self, "sink", [np.float32], None)
        self.llrs, self.stats, self.estimates = [], [], []
        for port, handler in (("stats", self.keep_stats), ("estimates", self.keep_estimates)):
            self.message_port_register_in(pmt.intern(port))
            self.set_msg_handler(pmt.intern(port), handler)

    def keep_stats(self, message):
        self.stats.append(pmt.to_python(message))

    def keep_estimates(self, message):
        self.estimates.append(pmt.to_python(message))

    def work(self, input_items, output_items):
        self.llrs.append(input_items[0].copy())
        return len(input_items[0])


def flat_slots(config, scale=1.0, n=SLOTS):
    """Slots over a channel that is the same in a slot's every RE.

    Returns the channels [n, n_layers, n_rx] at this scale, and the symbols of each antenna as a
    front end gives them, [n_rx, 14 n, fft_size].
    """
    rng = np.random.default_rng(5)

    def normal(*shape):
        return rng.normal(0, 0.5**0.5, (*shape, 2)) @ [1, 1j]

    layers = range(config.n_layers)
    sent = np.stack([[config.grid(config.bits(1, i, k), i, k) for k in layers] for i in range(n)])
    h = np.exp(2j * np.pi * rng.random((n, config.n_layers, N_RX)))
    y = np.einsum("nlr,nlsk->rnsk", h, sent)
    y += np.sqrt(NOISE)[:, None, None, None] * normal(*y.shape)
    symbols = np.zeros((N_RX, n, 14, config.fft_size), np.complex64)
    first = config.fft_size // 2 - 6 * config.carrier_prb + 12 * config.first_prb
    symbols[:, :, : config.n_symbols, first : first + config.n_sc] = scale * y
    return scale * h, symbols.reshape(N_RX, 14 * n, -1)


def run(config, model, symbols, ports=("stats", "estimates"), **parameters):
    flowgraph, sink = gr.top_block(), Sink()
    receiver = deeprx.receiver(model=model, slot=config, n_rx=N_RX, **parameters)
    length = pmt.intern("packet_len")
    tags = [
        gr.tag_utils.python_to_tag((offset, length, pmt.from_long(14)))
        for offset in range(0, symbols.shape[1], 14)
    ]
    for port, stream in enumerate(symbols):
        source = blocks.vector_source_c(stream.ravel().tolist(), False, config.fft_size, tags)
        flowgraph.connect(source, (receiver, port))
    flowgraph.connect(receiver, sink)
    if config.n_layers == 2:
        flowgraph.connect((receiver, 1), blocks.null_sink(gr.sizeof_float))
    for port in ports:
        flowgraph.msg_connect((receiver, port), (sink, port))
    flowgraph.run()
    assert receiver.error() == ""
    return sink


def save(module, path, **metadata):
    return models.save(module, path, layers=[1, 2], cdm_groups=[1, 2], n_sym=[13, 14], **metadata)


@pytest.fixture
def estimating(tmp_path):
    return save(models.Estimating(), tmp_path / "estimating.pt", name="estimating", n_dmrs=[2, 3])


def channels(sink, config):
    shape = (len(sink.estimates), config.n_layers, N_RX, config.n_symbols, config.n_sc)
    return np.reshape([e["channel"] for e in sink.estimates], shape)


def check_truth(sink, config, h, scale, estimator, of_one_pilot=0.5):
    """of_one_pilot: bound of the channel's RMS error over what one pilot gives."""
    assert [e["slot_index"] for e in sink.estimates] == list(range(len(h)))
    assert {e["estimator"] for e in sink.estimates} == {estimator}
    assert {s["estimator"] for s in sink.stats} == {estimator}
    error = channels(sink, config) - h[..., None, None]
    rms = np.sqrt(np.mean(np.abs(error) ** 2, axis=(0, 1, 3, 4)))
    assert np.all(rms < of_one_pilot * scale * np.sqrt(NOISE))
    noise = np.mean([e["noise"] for e in sink.estimates], axis=0)
    np.testing.assert_allclose(noise, scale**2 * NOISE, rtol=0.1)


@pytest.mark.parametrize("jailed", [False, True])
@pytest.mark.parametrize(
    "name, scale", [*((name, 1.0) for name in CONFIGS), ("one user", 3e-4), ("one user", 2e5)]
)
def test_a_models_estimates_are_the_truth(name, jailed, scale, estimating):
    config = CONFIGS[name]
    h, symbols = flat_slots(config, scale)
    trust = [] if jailed else [estimating]
    sink = run(config, estimating, symbols, trust=trust, max_batch=4)
    assert all(s["engine"].endswith("jailed") == jailed for s in sink.stats)
    check_truth(sink, config, h, scale, "estimating")


@pytest.mark.usefixtures("logged_from_info")
@pytest.mark.parametrize("jailed", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_of_a_model_that_has_none_they_are_sure_lmmses(name, jailed, tmp_path, capfd):
    config = CONFIGS[name]
    model = save(models.Layers(), tmp_path / "layers.pt", name="layers", n_dmrs=[2, 3])
    h, symbols = flat_slots(config, 1e-3)
    sink = run(config, model, symbols, trust=[] if jailed else [model], max_batch=4)
    check_truth(sink, config, h, 1e-3, "sure-lmmse")
    said = [line for line in "".join(capfd.readouterr()).splitlines() if "estimates of" in line]
    assert len(said) == 1 and "are sure-lmmse's: layers has none of its own as " in said[0]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("receiver", ["ls-lmmse", "sure-lmmse"])
def test_classical_receivers_give_their_own(receiver, name):
    config = CONFIGS[name]
    h, symbols = flat_slots(config, 2.0)
    bound = 0.5**0.5 if receiver == "ls-lmmse" else 0.5  # LS averages two pilots
    check_truth(run(config, receiver, symbols), config, h, 2.0, receiver, bound)


def test_beside_a_model_they_are_those_of_the_classical_receiver(tmp_path):
    model = save(models.Layers(), tmp_path / "layers.pt")
    _, symbols = flat_slots(ONE_USER, 1e-3)
    beside, alone = (run(ONE_USER, receiver, symbols) for receiver in (model, "sure-lmmse"))
    np.testing.assert_array_equal(channels(beside, ONE_USER), channels(alone, ONE_USER))


def test_in_the_jail_they_are_the_same_to_the_bit(estimating):
    _, symbols = flat_slots(ONE_USER)
    here = run(ONE_USER, estimating, symbols, trust=[estimating])
    there = run(ONE_USER, estimating, symbols)
    np.testing.assert_array_equal(channels(here, ONE_USER), channels(there, ONE_USER))
    for a, b in zip(here.estimates, there.estimates, strict=True):
        np.testing.assert_array_equal(a["noise"], b["noise"])


@pytest.mark.parametrize("jailed", [False, True])
@pytest.mark.parametrize("text", ["", "no pilots here"])
def test_an_estimate_that_fails_disturbs_no_llr(text, jailed, tmp_path):
    """And where nobody listens it is not asked for."""
    model = save(models.Estimating(text), tmp_path / "fails.pt", name="fails")
    _, symbols = flat_slots(ONE_USER)
    symbols[:, 14 * 5] *= 1000
    trust = [] if jailed else [model]
    sink = run(ONE_USER, model, symbols, trust=trust)
    assert [e["slot_index"] for e in sink.estimates] == [i for i in range(SLOTS) if i != 5]
    (error,) = [s for s in sink.stats if "estimate_error" in s]
    why = error["estimate_error"]
    assert "\n" not in why
    assert (
        ("fails: estimate failed: " in why and text in why)
        if text
        else (why == "fails gave NaN or infinite estimates" and error["slot_index"] == 5)
    )

    alone = run(ONE_USER, model, symbols, ports=["stats"], trust=trust)
    assert not [s for s in alone.stats if {"estimate_error", "estimator"} & set(s)]
    assert [s["slot_index"] for s in alone.stats] == list(range(SLOTS))
    np.testing.assert_array_equal(np.concatenate(alone.llrs), np.concatenate(sink.llrs))


class Busy(gr.basic_block):
    """Reads estimates when it may."""

    def __init__(self):
        gr.basic_block.__init__(self, "busy", None, None)
        self.may_read, self.slots = threading.Event(), []
        self.message_port_register_in(pmt.intern("in"))
        self.set_msg_handler(pmt.intern("in"), self.read)

    def read(self, message):
        assert self.may_read.wait(60)
        self.slots.append(pmt.to_python(message)["slot_index"])


def test_of_estimates_that_nobody_reads_64_mib_wait(capfd):
    """The others are dropped and told; LLRs and stats are all there."""
    config = SlotConfig(n_prb=273, users=(User("QPSK"),))
    slot_bytes = 8 * 4 * config.n_symbols * config.n_sc
    wait, n = -(-(64 << 20) // slot_bytes), 70
    assert wait + 10 < n
    _, symbols = flat_slots(config, n=1)
    top, sink, busy = gr.top_block(), Sink(), Busy()
    receiver = deeprx.receiver("ls-lmmse", slot=config, n_rx=4)
    for port in range(4):
        one = symbols[port % N_RX].ravel().tolist()
        tag = gr.tag_utils.python_to_tag((0, pmt.intern("packet_len"), pmt.from_long(14)))
        source = blocks.vector_source_c(one, True, config.fft_size, [tag])
        head = blocks.head(gr.sizeof_gr_complex * config.fft_size, 14 * n)
        top.connect(source, head, (receiver, port))
    top.connect(receiver, sink)
    top.msg_connect((receiver, "stats"), (sink, "stats"))
    top.msg_connect((receiver, "estimates"), (busy, "in"))
    top.start()
    received = n * config.n_bits
    deadline = time.monotonic() + 60
    while sum(map(len, sink.llrs)) < received:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    busy.may_read.set()
    top.wait()
    errors = [s for s in sink.stats if "estimate_error" in s]
    assert [s["slot_index"] for s in errors] == list(range(len(busy.slots), n))
    assert busy.slots == list(range(len(busy.slots)))
    assert len(busy.slots) == wait
    why = errors[0]["estimate_error"]
    assert why.startswith("its estimates are dropped, as 64 MiB of ")
    time.sleep(0.2)  # the logger has a thread of its own
    assert f"slot {len(busy.slots)}: {why}" in "".join(capfd.readouterr())


class Hanging(models.Layers):
    """Its estimate of a slot that is louder in the first symbol than in others is never done."""

    @torch.jit.export
    def estimate(
        self, y: torch.Tensor, p: torch.Tensor, d: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n = int(y[:, :, 0].abs().max() > 10 * y[:, :, 1:].abs().max())
        while n != 0:
            n = n % 7 + 1
        h = torch.ones(y.size(0), p.size(1), y.size(1), y.size(2), y.size(3), 2)
        return h, torch.ones(y.size(0), y.size(1))


def test_a_jail_that_hangs_in_an_estimate_is_ended_and_its_llrs_are_out(tmp_path):
    model = save(Hanging(), tmp_path / "hanging.pt", name="hanging")
    _, symbols = flat_slots(ONE_USER)
    symbols[:, 14 * 5] *= 1000
    deeprx_python.set_jail_limits(batch_s=0.5, most_batch_s=0.5)
    try:
        sink = run(ONE_USER, model, symbols)
    finally:
        deeprx_python.set_jail_limits()
    (lost,) = [s["model_lost"] for s in sink.stats if "model_lost" in s]
    assert lost.startswith("hanging: its jail was ended after 0.5 s without an answer")
    received = [s["slot_index"] for s in sink.stats if "inference_ns" in s]
    assert received[:6] == list(range(6))
    assert [e["slot_index"] for e in sink.estimates] == [i for i in received if i != 5]
    assert sum(map(len, sink.llrs)) == len(received) * ONE_USER.n_bits


@pytest.mark.parametrize("jailed", [False, True])
def test_estimates_of_another_shape_are_refused_when_loaded(jailed, tmp_path):
    model = save(models.WrongEstimate(), tmp_path / "wrong.pt")
    with pytest.raises(RuntimeError) as error:
        deeprx.receiver(model=model, n_rx=N_RX, trust=[] if jailed else [model])
    text = str(error.value)
    assert "\n" not in text
    assert "estimate must give channel and noise, float32 [1, 1, 2, 14, 312, 2] and [1, 2]" in text
    assert text.endswith("gave Float [1, 2, 14, 312, 2]")
