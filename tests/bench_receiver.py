# SPDX-License-Identifier: GPL-3.0-or-later
"""What the receiver block costs beside the bare TorchScript call, on the same slots in one run.

    ./dev run python3 tests/bench_receiver.py [MODEL.pt]

Rounds of the block in a running flowgraph (source, receiver, sink; batch 1, one thread) alternate
with rounds of the frozen model called directly, so that both meet the same machine. Without a
model file: the shipped student.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pmt
import torch
from gnuradio import blocks, deeprx, gr

STUDENT = Path(__file__).parents[1] / "models" / "deeprx-student.pt"
SLOTS = 20  # different ones, repeated


def make_symbols(config, n_rx):
    """complex64 [n_rx, SLOTS, 14, fft_size] of noise: the time does not depend on what it is."""
    rng = np.random.default_rng(1)
    shape = (n_rx, SLOTS, 14, config.fft_size, 2)
    return rng.normal(size=shape).astype(np.float32).view(np.complex64)[..., 0]


class Block:
    """Seconds per slot of a running flowgraph, and the part of it that is inference."""

    def __init__(self, model, config, symbols):
        tags = [
            gr.tag_utils.python_to_tag((14 * i, pmt.intern("packet_len"), pmt.from_long(14)))
            for i in range(SLOTS)
        ]
        self.flowgraph = gr.top_block()
        self.receiver = deeprx.receiver(model=model, n_prb=config.n_prb, n_rx=len(symbols))
        for port, stream in enumerate(symbols):
            source = blocks.vector_source_c(
                stream.ravel().tolist(), True, config.fft_size, [] if port else tags
            )
            self.flowgraph.connect(source, (self.receiver, port))
        self.messages = blocks.message_debug()
        self.flowgraph.connect(self.receiver, blocks.null_sink(gr.sizeof_float))
        self.flowgraph.msg_connect((self.receiver, "stats"), (self.messages, "store"))

    def measure(self, seconds):
        first = self.receiver.slots()
        self.flowgraph.start()
        while self.receiver.slots() < first + 3:  # warmed up
            time.sleep(0.001)
        slots, start = self.receiver.slots(), time.perf_counter()
        time.sleep(seconds)
        slots, elapsed = self.receiver.slots() - slots, time.perf_counter() - start
        self.flowgraph.stop()
        self.flowgraph.wait()
        n = self.messages.num_messages()
        stats = [pmt.to_python(self.messages.get_message(i)) for i in range(n - slots, n)]
        return elapsed / slots, np.mean([s["inference_ns"] for s in stats]) * 1e-9


class Bare:
    """Seconds per slot of the frozen TorchScript model alone."""

    def __init__(self, model, config, symbols):
        first = config.fft_size // 2 - 6 * config.n_prb
        grid = symbols[..., first : first + config.n_sc].swapaxes(0, 1).copy()
        self.y = torch.view_as_real(torch.from_numpy(grid)).split(1)
        self.p = torch.view_as_real(torch.from_numpy(config.pilots()))[None]
        self.bits = config.bits_per_symbol
        self.module = torch.jit.freeze(torch.jit.load(model).eval())

    @torch.inference_mode()
    def measure(self, seconds):
        for y in self.y[:3]:
            self.module(y, self.p, self.bits)
        slots, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            self.module(self.y[slots % SLOTS], self.p, self.bits)
            slots += 1
        return (time.perf_counter() - start) / slots


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", default=str(STUDENT), help="model file (the student)")
    parser.add_argument("--n-rx", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each half round")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    config = deeprx.SlotConfig()
    symbols = make_symbols(config, arguments.n_rx)
    try:
        block = Block(arguments.model, config, symbols)
    except RuntimeError as error:
        raise SystemExit(f"bench: {error}") from None
    bare = Bare(arguments.model, config, symbols)
    rounds = []
    for _ in range(arguments.rounds):
        before = bare.measure(arguments.seconds / 2)
        total, inference = block.measure(arguments.seconds)
        after = bare.measure(arguments.seconds / 2)
        rounds.append((total, inference, (before + after) / 2))

    total, inference, alone = np.array(rounds).T
    low, ratio, high = np.quantile(total / alone, [0.25, 0.5, 0.75])
    print(f"bare TorchScript call     {np.median(alone) * 1e3:8.3f} ms a slot")
    print(f"inference in the block    {np.median(inference) * 1e3:8.3f} ms a slot")
    print(f"flowgraph, per slot       {np.median(total) * 1e3:8.3f} ms")
    print(f"block / bare              {ratio:8.3f}     (quartiles {low:.3f}, {high:.3f})")
    print(f"time outside inference    {np.median(1 - inference / total):8.1%}")


if __name__ == "__main__":
    main()
