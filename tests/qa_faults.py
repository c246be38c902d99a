# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocks written in Python whose code raises, and messages that no receiver sends."""

import threading

import numpy as np
import pmt
import pytest
import receiver_models as models
from gnuradio import blocks, deeprx, digital, gr, pdu
from gnuradio.deeprx.blocks.guarded import SelfKeeping, raise_failure
from gnuradio.deeprx.blocks.slot_statistics import SlotStatistics
from gnuradio.deeprx.cli import main
from slots import slot_of

from deeprx_common.commands import Failure

SLOT = {"n_prb": 6, "modulation": "QPSK"}


class Late(SelfKeeping, gr.sync_block):
    """Raises after some items."""

    def __init__(self):
        super().__init__("Late", [np.float32], [np.float32])

    def work(self, input_items, output_items):
        if self.nitems_read(0) > 10_000:
            raise IndexError("behind\nthe end")
        output_items[0][:] = input_items[0]
        return len(output_items[0])


class Wrapped(gr.hier_block2):
    def __init__(self):
        signature = gr.io_signature(1, 1, gr.sizeof_float)
        gr.hier_block2.__init__(self, "Wrapped", signature, signature)
        self.connect(self, Late(), self)


class Listener(SelfKeeping, gr.basic_block):
    def __init__(self):
        super().__init__("Listener", None, None)
        self.message_port_register_in(pmt.intern("in"))
        self.set_msg_handler(pmt.intern("in"), self._handle)

    def _handle(self, message):
        raise KeyError("nowhere")


class Quiet(Listener):
    def _handle(self, message):
        self.heard = message


class Unstartable(Late):
    def start(self):
        raise OSError("no such device")


def endless(top, *chain):
    """A chain without an end, beside another one that nothing of it ends."""
    top.connect(blocks.null_source(4), *chain, blocks.null_sink(4))
    top.connect(blocks.null_source(4), blocks.throttle(4, 1e5), blocks.null_sink(4))
    return top


def ends(top, says):
    """The flowgraph ends by itself, and says why."""
    waiter = threading.Thread(target=top.wait, daemon=True)
    waiter.start()
    waiter.join(20)
    assert not waiter.is_alive()
    with pytest.raises(RuntimeError, match=says) as caught:
        raise_failure(top)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("block", [Late, Wrapped], ids=["alone", "in a hierarchical block"])
def test_an_exception_in_work_ends_the_flowgraph(block, capfd):
    other = endless(gr.top_block(), blocks.copy(4))
    other.start()
    top = endless(gr.top_block(), block())
    top.start()
    ends(top, r"Late: IndexError: behind the end \(qa_faults.py, line \d+\)")
    assert "".join(capfd.readouterr()).count("behind the end") == 1
    raise_failure(other)  # another flowgraph of the process goes on
    other.stop()
    other.wait()


def test_an_exception_in_a_handler_ends_the_flowgraph(capfd):
    """However many messages wait by then: they are not handled."""
    strobe, listener = blocks.message_strobe(pmt.PMT_T, 1), Listener()
    top = endless(gr.top_block())
    top.msg_connect(strobe, "strobe", listener, "in")
    top.start()
    ends(top, "Listener: KeyError: 'nowhere'")
    assert "".join(capfd.readouterr()).count("nowhere") == 1


@pytest.mark.parametrize("alone", [True, False])
def test_an_exception_in_a_stock_block_ends_the_flowgraph(alone):
    """The flowgraph that GNU Radio leaves waits for ever."""
    serialiser = digital.ofdm_serializer_vcc(8, [[1, 2]], "nowhere", "", 0, "", True)
    top = gr.top_block(catch_exceptions=True)
    top.connect(blocks.null_source(64), serialiser, blocks.null_sink(8))
    if not alone:
        endless(top, blocks.copy(4))
    with pytest.raises(Failure, match="ofdm_serializer_vcc: Missing length tag") as caught:
        deeprx.run_flowgraph(top)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fails", ["stock", "receiver"])
def test_a_block_in_cpp_that_fails_ends_a_flowgraph_that_nobody_watches(fails, tmp_path):
    """As of Companion, whose start() and wait() are GNU Radio's."""
    top = endless(gr.top_block(catch_exceptions=True))
    if fails == "stock":
        serialiser = digital.ofdm_serializer_vcc(8, [[1, 2]], "nowhere", "", 0, "", True)
        top.connect(blocks.null_source(64), serialiser, blocks.null_sink(8))
        says = "ofdm_serializer_vcc: Missing length tag"
    else:
        model = models.save(models.OneSlot(), tmp_path / "m.pt")
        slot = slot_of(**SLOT)
        receiver = deeprx.receiver(model, n_rx=1, max_batch=4, trust=[model], slot=slot)
        top.connect(blocks.null_source(8 * slot.fft_size), receiver, blocks.null_sink(4))
        says = "test: one slot only"
    top.start()
    ends(top, says)


def test_a_flowgraph_that_nothing_fails_in_runs_to_its_end():
    top = gr.top_block()
    head = blocks.head(4, 100_000)
    top.connect(blocks.null_source(4), head, blocks.null_sink(4))
    deeprx.run_flowgraph(top)
    assert head.nitems_written(0) == 100_000


def test_a_block_of_messages_alone_ends_with_what_feeds_it():
    tags = [gr.tag_utils.python_to_tag((0, pmt.intern("packet_len"), pmt.from_long(4)))]
    source, quiet = blocks.vector_source_b([1, 2, 3, 4], False, 1, tags), Quiet()
    packets = pdu.tagged_stream_to_pdu(gr.types.byte_t, "packet_len")
    top = gr.top_block()
    top.connect(source, packets)
    top.msg_connect(packets, "pdus", quiet, "in")
    deeprx.run_flowgraph(top)
    assert pmt.to_python(pmt.cdr(quiet.heard)).tolist() == [1, 2, 3, 4]


def test_an_exception_in_start_ends_the_flowgraph():
    top = endless(gr.top_block(), Unstartable())
    top.start()
    ends(top, "Late: OSError: no such device")


@pytest.mark.parametrize("method", ["add_slot", "add_stats"], ids=["work", "handler"])
def test_a_command_ends_with_the_line_and_a_status(method, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(SlotStatistics, method, lambda *_: 1 / 0)
    given = ["--receiver", "baseline-lmmse.pt", "--n-prb", "6", "--sinr", "9", "--slots", "100000"]
    assert main(["loopback", *given, "--out", str(tmp_path)]) == 3
    err = capsys.readouterr().err
    assert "slot_probe: ZeroDivisionError: division by zero (qa_faults.py" in err
    assert err.count("\n") == 1 and err.endswith(" (--debug shows where)\n")
    assert main(["loopback", *given, "--out", str(tmp_path), "--debug"]) == 3
    *trace, line = capsys.readouterr().err.splitlines()
    assert line.startswith("deeprx: error: slot_probe: ZeroDivisionError")
    assert any("<lambda>" in part for part in trace)


def stats(**fields):
    entries = pmt.make_dict()
    for key, value in ({"slot_index": 1, "inference_ns": 1000} | fields).items():
        value = value if isinstance(value, pmt.pmt_base) else pmt.to_pmt(value)
        entries = pmt.dict_add(entries, pmt.intern(key), value)
    return entries


BAD = {
    "no dictionary": (pmt.intern("text"), "expected a dictionary of a receiver's port stats"),
    "nil": (pmt.PMT_NIL, "expected a dictionary of a receiver's port stats"),
    "empty": (pmt.make_dict(), "expected a dictionary of a receiver's port stats"),
    "vector": (pmt.init_u8vector(3, [1, 2, 3]), "expected a dictionary of a receiver's port"),
    "text": (
        stats(inference_ns="soon"),
        "'inference_ns' must be a whole number from 0 to 1e+17, got 'soon",
    ),
    "nan": (stats(inference_ns=float("nan")), "'inference_ns' must be a whole number"),
    "negative": (stats(cpu_ns=-1), "'cpu_ns' must be a whole number from 0 to 1e+17, got -1"),
    "index": (
        stats(slot_index=pmt.PMT_NIL),
        "'slot_index' must be a whole number from 0",
    ),
    "model": (stats(model=3), "'model' must be a printable text, got 3"),
    "no index": (
        pmt.dict_delete(stats(), pmt.intern("slot_index")),
        "expected a slot_index, model_loaded or model_error",
    ),
}


@pytest.mark.parametrize(("message", "says"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("kind", ["probe", "controller"])
def test_a_message_that_no_receiver_sends_is_one_line_and_counting_goes_on(
    kind, message, says, capfd
):
    config = slot_of(**SLOT)
    if kind == "probe":
        block = deeprx.slot_probe(meter="none", every_slots=0, slot=slot_of(**SLOT))
        handler, counted = block._llrs, lambda: block.report()["points"][0]
    else:
        block = handler = deeprx.receiver_controller(["baseline-lmmse.pt", "baseline-sure.pt"])
        heard = []
        handler._pair = heard.append
    tags = [
        gr.tag_utils.python_to_tag((0, pmt.intern(key), value))
        for key, value in (
            ("packet_len", pmt.from_long(config.n_bits)),
            ("slot_index", pmt.from_uint64(0)),
        )
    ]
    top = gr.top_block()
    source = blocks.vector_source_f([1.0] * config.n_bits, True, 1, tags)
    top.connect(source, blocks.throttle(4, 1e5), block)
    top.start()
    for sent in (message, message, stats(model_sha256="ab" * 32)):
        handler._post(pmt.intern("stats"), sent)
    deadline = threading.Event()
    for _ in range(200):
        if counted()["inference_s_per_slot"]["mean"] if kind == "probe" else 1 in heard:
            break
        deadline.wait(0.05)
    else:
        pytest.fail("the good message after the bad ones was not counted")
    top.stop()
    top.wait()
    raise_failure(top)
    text = "".join(capfd.readouterr())
    assert text.count("message ignored") == 1 and says in text
