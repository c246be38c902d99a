# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that loads model files as a user's does."""

import time
from functools import cache

import numpy as np
import pmt
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx.cli import main
from serve import Refused, run_command, serve

N_PRB = 6
SECRET = b"TOP-SECRET"
# As a program keeps things: long freed, and still there
memory = [b"%b-%06d " % (SECRET, i) * 8 for i in range(2000)]
HARMLESS = str(deeprx.model_path("baseline-lmmse.pt"))


def grids():
    """Two slots of noise; the first symbol of the second is loud."""
    config = deeprx.SlotConfig(n_prb=N_PRB)
    rng = np.random.default_rng(1)
    y = rng.standard_normal((2, 2, 14, 12 * N_PRB, 2), np.float32)
    y[1, :, 0] *= 100
    p = np.zeros((2, 14, 12 * N_PRB, 2), np.float32)
    p[:, config.dmrs] = 1
    return y, p


def engine(path):
    """Loaded, and one and two slots received."""
    y, p = grids()
    try:
        loaded = deeprx.Engine(model=path, n_prb=N_PRB, max_batch=2)
        llrs = [loaded.infer(y[:1], p[:1]), loaded.infer(y, p), loaded.infer(y[1:], p[1:])]
    except (RuntimeError, ValueError) as error:
        raise Refused(str(error)) from None
    for found in llrs:
        text = found.astype(np.uint8).tobytes() + found.tobytes()
        assert SECRET not in text, "LLRs show this process's memory"
    return loaded.description


def info(path):
    run_command(main, ["info", path])


class Listener(gr.basic_block):
    def __init__(self):
        gr.basic_block.__init__(self, "listener", None, None)
        self.message_port_register_in(pmt.intern("in"))
        self.set_msg_handler(pmt.intern("in"), self._hear)
        self.slots, self.answers = 0, []

    def _hear(self, message):
        said = pmt.to_python(message)
        if "model_loaded" in said or "model_error" in said:
            self.answers.append(said.get("model_error"))
        elif "slot_index" in said and "dropped" not in said:
            self.slots += 1


class Receiver:
    """A receiver that runs for good, with a harmless model until a message names another."""

    def __init__(self):
        self.top = gr.top_block()
        self.receiver = deeprx.receiver(model=HARMLESS, n_prb=N_PRB, max_batch=2)
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


WAYS = {"engine": engine, "info": info, "message": lambda path: receiver().swap(path)}

if __name__ == "__main__":
    gr.logging().set_default_level(gr.log_levels.off)
    serve(WAYS, HARMLESS)
