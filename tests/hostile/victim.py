# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that takes what strangers send, each way that there is."""

import hashlib
import json
import random
import subprocess
import tempfile
import time
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pmt
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx import deeprx_python
from gnuradio.deeprx.cli import main
from hostile.serve import Refused, run_command, serve

from deeprx_common import report_view
from deeprx_common.model_archive import ModelFileError, read_model_file

N_PRB = 6
SECRET = b"TOP-SECRET"
# As a program keeps things: long freed, and still there
memory = [b"%b-%06d " % (SECRET, i) * 8 for i in range(2000)]
GNB_DUMP = Path(__file__).parents[1] / "golden" / "gnb_capture.bin"
HARMLESS = str(deeprx.model_path("baseline-lmmse.pt"))


def grids():
    """Two slots of noise; the first symbol of the second is loud."""
    config = deeprx.SlotConfig(n_prb=N_PRB)
    rng = np.random.default_rng(1)
    y = rng.standard_normal((2, 2, 14, 12 * N_PRB, 2), np.float32)
    y[1, :, 0] *= 100
    p = np.zeros((2, 1, 14, 12 * N_PRB, 2), np.float32)
    p[:, :, config.dmrs] = 1
    return y, p


@cache
def judge(name):
    """A program beside the module: paths in, a verdict a line out."""
    build = Path(deeprx_python.__file__).parents[3]
    program = next(build.glob(f"*/{name}"), None) or next(build.glob(f"*/*/{name}"))
    return subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace"
    )


def judged(name, path):
    """The verdict, and what comes with it."""
    print(path, file=judge(name).stdin, flush=True)
    verdict, _, said = judge(name).stdout.readline().rstrip("\n").partition(" ")
    return verdict, said


def one_in(n, path):
    """Always the same files."""
    return zlib.crc32(Path(path).read_bytes()) % n == 0


def many_engines(path):
    """As engine(), but that most of the files that their jail refuses share one with others."""
    verdict, said = judged("judge_models", path)
    assert verdict in ("refused", "unknown"), f"what judges is gone: {said}"
    if verdict == "unknown":
        return engine(path)
    if one_in(10, path):
        engine(path)
        raise AssertionError(f"a jail of its own accepts it, that of others: {said}")
    raise Refused(said)


def engine(path):
    """Loaded, and one and two slots received."""
    y, p = grids()
    try:
        loaded = deeprx.Engine(model=path, max_batch=2, slot=deeprx.SlotConfig(n_prb=N_PRB))
        llrs = [loaded.infer(y[:1], p[:1]), loaded.infer(y, p), loaded.infer(y[1:], p[1:])]
    except (RuntimeError, ValueError) as error:
        raise Refused(str(error)) from None
    for of_slot in llrs:
        text = of_slot.astype(np.uint8).tobytes() + of_slot.tobytes()
        assert SECRET not in text, "LLRs show this process's memory"
    return loaded.description


def info(path):
    run_command(main, ["info", path])


def parity(path):
    """Status 1 where its LLRs are others."""
    y, _ = grids()
    config = deeprx.SlotConfig(n_prb=N_PRB)
    reference = Path(OUT, "parity.npz")
    llr, slot = np.ones((2, config.n_bits), np.float32), json.dumps(config.as_dict())
    np.savez(reference, y=y, llr=llr, slot=slot, allowed=1e-3)
    run_command(main, ["parity", path, str(reference)], (0, 1))


def bench(*what):
    def measure(path):
        if path != HARMLESS:  # that would be measured, which takes its time
            run_command(main, ["bench", *what, "--receiver", path, "--out", OUT])

    return measure


class Listener(gr.basic_block):
    def __init__(self):
        gr.basic_block.__init__(self, "listener", None, None)
        self.message_port_register_in(pmt.intern("in"))
        self.set_msg_handler(pmt.intern("in"), self._hear)
        self.slots, self.answers = 0, []

    def _hear(self, message):
        said = pmt.to_python(message)
        if said.keys() & {"model_loaded", "model_error", "model_lost"}:
            self.answers.append(said.get("model_error") or said.get("model_lost"))
        elif "slot_index" in said and "dropped" not in said:
            self.slots += 1


class Receiver:
    """A receiver that runs for good, with a harmless model until a message names another."""

    def __init__(self):
        self.top = gr.top_block()
        self.receiver = deeprx.receiver(
            model=HARMLESS, max_batch=2, slot=deeprx.SlotConfig(n_prb=N_PRB)
        )
        self.listener = Listener()
        y, _ = grids()
        fft = self.receiver.input_signature().sizeof_stream_item(0) // 8
        symbols = np.zeros((2, 28, fft), np.complex64)
        used = slice(fft // 2 - 6 * N_PRB, fft // 2 + 6 * N_PRB)
        symbols[:, :, used] = y.view(np.complex64)[..., 0].swapaxes(0, 1).reshape(2, 28, -1)
        tags = [
            gr.tag_utils.python_to_tag((at, pmt.intern("packet_len"), pmt.from_long(14)))
            for at in (0, 14)
        ]
        for antenna, data in enumerate(symbols):
            source = blocks.vector_source_c(data.ravel().tolist(), True, fft, tags)
            throttle = blocks.throttle(8 * fft, 14 * 200)
            self.top.connect(source, throttle, (self.receiver, antenna))
        self.top.connect(self.receiver, blocks.null_sink(4))
        self.top.msg_connect(self.receiver, "stats", self.listener, "in")
        self.top.start()

    def swap(self, path):
        """The answer, and what came of it within some slots."""
        self.listener.answers.clear()
        self.receiver.set_model(path)
        while not self.listener.answers:
            self._alive()
        self._goes_on(20)
        said = [answer for answer in self.listener.answers if answer]
        self.listener.answers.clear()
        self.receiver.set_model(HARMLESS)
        while None not in self.listener.answers:
            self._alive()
        self._goes_on(5)
        if said:
            raise Refused(said[0])

    def _alive(self):
        if self.receiver.error():
            raise AssertionError(f"the receiver ended: {self.receiver.error()}")
        time.sleep(0.005)

    def _goes_on(self, slots):
        end = self.listener.slots + slots
        while self.listener.slots < end:
            self._alive()


@cache
def receiver():
    return Receiver()


OUT = tempfile.mkdtemp()
plot = report_view.plot


def replay(path):
    """A SigMF recording; status 1 where no slot is received."""
    # A picture takes three times as long as all the rest
    report_view.plot = plot if one_in(4, path) else lambda *_: None
    given = ["--receiver", "baseline-lmmse.pt", "--meter", "none", "--out", OUT]
    run_command(main, ["replay", path, *given], (0, 1))


def pusch(path):
    """A recording of a gNB's PUSCH; status 1 where no block is received."""
    run_command(main, ["replay", path, "--receiver", "gnb", "--out", OUT], (0, 1))


def gnb(path):
    """A gNB's log beside a golden dump; status 1 where that is shorter."""
    with tempfile.TemporaryDirectory() as folder:
        run_command(main, ["import-gnb", str(GNB_DUMP), path, f"{folder}/a"], (0, 1))
        pusch(f"{folder}/a.sigmf-meta")


def monitor(text):
    """A message of telemetry, and what the monitor shows of it."""
    from gnuradio.deeprx.cli import monitor
    from gnuradio.deeprx.telemetry.prometheus import Metrics
    from gnuradio.deeprx.telemetry.pubsub import parse
    from gnuradio.deeprx.telemetry.source import Source

    try:
        message = parse(text.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise Refused(str(error)) from None
    source = Source("tcp://127.0.0.1:5599")
    for now in (1.0, 2.0):
        source.take(message, now)
        assert monitor._line(source).isprintable()
        monitor._panel(source, 80)
        monitor._as_json(source)
        list(Metrics([source]).collect())


class Tagger(gr.sync_block):
    """Hands on its items, and tags one with each value that it is given."""

    def __init__(self, dtype):
        gr.sync_block.__init__(self, "tagger", [dtype], [dtype])
        self.waiting = []

    def work(self, input_items, output_items):
        output_items[0][:] = input_items[0]
        if self.waiting:
            for key in ("packet_len", "slot_index", "other"):
                self.add_item_tag(0, self.nitems_written(0), pmt.intern(key), self.waiting[0])
            del self.waiting[0]
        return len(output_items[0])


class Ports:
    """Flowgraphs with every block that has a message port, and with some that read tags."""

    def __init__(self):
        from message_ports import PORTS, connect

        self.running = Receiver()
        config = deeprx.SlotConfig(n_prb=N_PRB, users=(deeprx.User("QPSK"),))
        top = self.top = gr.top_block()
        self.listeners = []
        self.ports = [(self.running.receiver, "model")]
        for name, make in PORTS.items():
            if name != "receiver.model":
                block, handler = make()
                connect(top, name, block)
                if name.startswith("link_"):
                    self.listeners.append(Listener())
                    top.msg_connect(block, "status", self.listeners[-1], "in")
                self.ports.append((handler, name.partition(".")[2]))
        self.taggers = [Tagger(np.float32), Tagger(np.float32), Tagger(np.complex64)]
        llrs = blocks.vector_source_f([1.0] * config.n_bits, True, 1, [])
        throttle = blocks.throttle(4, 50 * config.n_bits)
        probe = deeprx.slot_probe(meter="none", every_slots=0, slot=config)
        controller = deeprx.receiver_controller([HARMLESS, "baseline-sure.pt"])
        top.connect(llrs, throttle, self.taggers[0], probe)
        top.connect(throttle, self.taggers[1], controller)
        samples = blocks.throttle(8, 1e5)
        cutter = deeprx.aligned_front_end(n_rx=1, slot=config)
        top.connect(blocks.null_source(8), samples, self.taggers[2], cutter)
        for port in range(cutter.output_signature().max_streams()):
            size = cutter.output_signature().sizeof_stream_item(port)
            top.connect((cutter, port), blocks.null_sink(size))
        top.start()

    def post(self, text):
        """The message that the text stands for, to each port, and as a tag on each input."""
        from fuzz import mutate
        from gnuradio.deeprx.blocks.guarded import raise_failure
        from PyQt5 import QtWidgets

        message = mutate.message(random.Random(text))
        for block, port in self.ports:
            block._post(pmt.intern(port), message)
        for tagger in self.taggers:
            if len(tagger.waiting) < 100:
                tagger.waiting.append(message)
        for top in (self.top, self.running.top):
            raise_failure(top)
        self.running._alive()
        QtWidgets.QApplication.processEvents()

    def wait(self):
        """Until all of it has been handled; the flowgraphs go on after that."""
        for block, port in self.ports:
            while block.nmsgs(pmt.intern(port)):
                self.running._alive()
        self.running.swap(HARMLESS)
        time.sleep(0.2)
        self.post("")


@cache
def ports():
    return Ports()


def readers(path):
    """Both readers of the archive: one verdict, and the same file for LibTorch."""
    there, said = judged("judge_archives", path)
    try:
        anew = read_model_file(path).rewritten()
    except ModelFileError as error:
        assert there == "refused", f"only Python refuses: {error}"
        raise Refused(f"{said:.400}; {error}") from None
    assert there == "accepted", f"only C++ refuses, if it lives: {said}"
    assert said == hashlib.sha256(anew).hexdigest(), "the two write out different files"


WAYS = {
    "readers": readers,
    "engine": engine,
    "many_engines": many_engines,
    "info": info,
    "parity": parity,
    "bench": bench(),
    "bench scale": bench("scale"),
    "bench memory": bench("memory"),
    "bench roofline": bench("roofline"),
    "message": lambda path: receiver().swap(path),
    "replay": replay,
    "pusch": pusch,
    "gnb": gnb,
    "monitor": monitor,
    "ports": lambda text: ports().wait() if text in ("wait", HARMLESS) else ports().post(text),
}

if __name__ == "__main__":
    gr.logging().set_default_level(gr.log_levels.off)
    deeprx_python.set_jail_limits(load_s=3, batch_s=1, most_batch_s=2)
    serve(WAYS, HARMLESS)
