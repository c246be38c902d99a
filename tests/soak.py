# SPDX-License-Identifier: GPL-3.0-or-later
"""./dev soak: very many slots, with model swaps, starts and stops, lost samples and a telemetry
subscriber that reads slowly. One of the models is a stranger's, and runs in the jail.

Every slot that was sent is delivered, dropped, or was under way when the flowgraph was stopped; no
jail, descriptor or thread is left behind; and memory does not grow: the median of the last quarter
lies within 1 % of the second quarter's. It is measured always in one state, as chance would move it
by more than that: the flowgraph stands still with the first model and no other, loaded after the
second, as the holes that it fills are those of the one before it; what is free was given back; one
arena, as glibc spreads the threads of each start over many; large blocks outside the heap, where
what lies above one would keep its pages; pages of files, which the kernel takes and brings, do not
count.
"""

import argparse
import ctypes
import gc
import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pmt
import zmq
from gnuradio import deeprx, gr
from gnuradio.deeprx.blocks.guarded import SelfKeeping, raise_failure
from gnuradio.deeprx.blocks.slot_stream import add_slot_tags
from gnuradio.deeprx.models.file import read_model_file
from qa_jail import jails
from slots import slot_of

from deeprx_common.commands import Failure
from deeprx_common.revision import git_revision

SLOT = {"n_prb": 6, "modulation": "QPSK"}
MODELS = ("deeprx-pusch-small", "baseline-lmmse", "deeprx-pusch-small", "baseline-sure")
STRANGERS = "baseline-lmmse"  # among them, a program, in a file that nobody has trusted
SYMBOLS = 14
RESTART_SLOTS, SWAP_S, READ_S, TELL_S = 10_000, 0.25, 2.0, 10.0
MISSING = "missing.pt"
LOSS = 0.002  # of slots lose some of their symbols
GROWTH = 0.01
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}


class Source(SelfKeeping, gr.sync_block):
    """Slots of noise on two antennas; some lose their last symbols. A start goes on from there.

    While `waits` is set they come one by one: what is waited for takes longer on a busy machine.
    """

    def __init__(self, n_slots: int):
        config = slot_of(**SLOT)
        super().__init__("Source", None, [(np.complex64, config.fft_size)] * 2)
        rng = np.random.default_rng(1)
        shape = 2, SYMBOLS, config.fft_size, 2
        self._symbols = rng.standard_normal(shape, np.float32).view(np.complex64)[..., 0]
        self._lost = rng.random(n_slots) < LOSS
        self._left = 0  # symbols of the slot that is being sent
        self.sent = 0  # slots, whole or torn
        self.n_slots = n_slots
        self.waits = False

    def work(self, input_items, output_items):
        room, written = len(output_items[0]), 0
        if self.waits:
            time.sleep(0.05)
            room = min(room, SYMBOLS)
        while written < room:
            if not self._left:
                if self.sent == self.n_slots:
                    break
                self._left = 9 if self._lost[self.sent] else SYMBOLS
                add_slot_tags(self, self.nitems_written(0) + written, SYMBOLS, self.sent)
                self.sent += 1
            taken = min(self._left, room - written)
            for out, symbols in zip(output_items, self._symbols, strict=True):
                out[written : written + taken] = symbols[:taken]
            written += taken
            self._left -= taken
        return written or -1

    def start(self):
        self._left = 0  # what a stop tore is not resumed
        return super().start()


class Listener(SelfKeeping, gr.basic_block):
    """What the receiver says of each slot. missed: they were under way when a run ended."""

    def __init__(self):
        super().__init__("Listener", None, None)
        self.message_port_register_in(pmt.intern("in"))
        self.set_msg_handler(pmt.intern("in"), self._hear)
        self.received = self.dropped = self.missed = self.swaps = self.jailed = self.answers = 0
        self.last = self._highest = -1
        self._runs = []  # their first slots

    def run_starts(self, at: int) -> None:
        self._runs.append(at)

    def _hear(self, message):
        said = pmt.to_python(message)
        error = said.get("model_error", "")
        if error and MISSING not in error and "replaced by a newer" not in error:
            raise RuntimeError(error)
        if "slot_index" not in said:
            self.swaps += "model_loaded" in said
            self.answers += 1
            return
        index = said["slot_index"]
        self._end_runs(index)
        self._highest = max(self._highest, index)
        if "dropped" in said:
            self.dropped += 1
            return
        if index <= self.last:
            raise RuntimeError(f"slot {index} after slot {self.last}")
        self.last = index
        self.received += 1
        self.jailed += said["engine"].endswith(", jailed")

    def _end_runs(self, index):
        while self._runs and index >= self._runs[0]:
            self.missed += self._runs[0] - 1 - self._highest
            self._highest = self._runs.pop(0) - 1

    def end(self, sent: int) -> None:
        self.run_starts(sent)
        self._end_runs(sent)


def resident() -> int:
    """Bytes of this process in memory that are no file's, once what is free was given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    fields = Path("/proc/self/status").read_text().split()
    return 1024 * int(fields[fields.index("RssAnon:") + 1])


class _Mallinfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
                     "uordblks", "fordblks", "keepcost")
    ]  # fmt: skip


def allocated() -> int:
    """Bytes that malloc() has given out: without the pages that are kept for what lies beside."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _Mallinfo
    info = libc.mallinfo2()
    return info.uordblks + info.hblkhd


def read_slowly(address: str, ended: threading.Event, counted: list) -> None:
    """A subscriber that takes one message every READ_S seconds."""
    with zmq.Context() as context, context.socket(zmq.SUB) as messages:
        messages.rcvhwm = 2
        messages.subscribe(b"")
        messages.connect(address)
        while not ended.wait(READ_S):
            if messages.poll(0):
                counted.append(len(messages.recv()))


def left_behind() -> np.ndarray:
    """How many descriptors, threads and jails this process has."""
    tasks = [len(os.listdir(f"/proc/self/{kind}")) for kind in ("fd", "task")]
    return np.array([*tasks, len(jails())])


def soak(n_slots: int) -> dict:
    """Runs it; returns the counts. Failure where a block ended."""
    with tempfile.TemporaryDirectory() as folder:
        strangers = Path(folder) / "strangers.pt"
        strangers.write_bytes(read_model_file(f"{STRANGERS}.pt").archive.rewritten())
        return _soak(
            n_slots, [*(str(deeprx.model_path(f"{m}.pt")) for m in MODELS), str(strangers)]
        )


def _soak(n_slots: int, paths: list[str]) -> dict:
    top = gr.top_block()
    source, listener = Source(n_slots), Listener()
    receiver = deeprx.receiver(model=paths[0], max_batch=4, slot=slot_of(**SLOT))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    probe = deeprx.slot_probe(
        meter="none", every_slots=500, zmq_address=address, slot=slot_of(**SLOT)
    )
    for antenna in range(2):
        top.connect((source, antenna), (receiver, antenna))
    top.connect(receiver, probe)
    top.msg_connect(receiver, "stats", probe, "stats")
    top.msg_connect(receiver, "stats", listener, "in")
    ended, read = threading.Event(), []
    subscriber = threading.Thread(target=read_slowly, args=(address, ended, read))
    subscriber.start()
    memory, in_use = [], []  # (slots sent, bytes)
    left = []  # (slots sent, left_behind())
    restarts = requests = 0
    next_swap = told = time.monotonic()

    def wait_until(so) -> None:
        while not so() and source.sent < n_slots:
            time.sleep(0.02)
            raise_failure(top)

    def swap(path: str) -> None:
        nonlocal requests
        receiver.set_model(path)
        requests += 1

    try:
        top.start()
        while source.sent < n_slots:
            time.sleep(0.02)
            raise_failure(top)
            now = time.monotonic()
            if now > next_swap:
                swap(paths[requests % len(paths)])
                next_swap = now + SWAP_S
            if source.sent // RESTART_SLOTS > restarts:
                source.waits = True
                # The stranger's, as a busy machine may have replaced it before its jail stood; the
                # file that is missing stands behind the end of the model that was replaced
                for path in (paths[-1], paths[1], paths[0], MISSING):
                    swap(path)
                    wait_until(lambda: listener.answers == requests)
                    wait_until(lambda answered=source.sent: listener.last > answered)
                if source.sent == n_slots:
                    break
                top.stop()
                top.wait()
                memory.append((source.sent, resident()))
                in_use.append((source.sent, allocated()))
                left.append((source.sent, left_behind()))
                restarts += 1
                listener.run_starts(source.sent)
                source.waits = False
                top.start()
            if now > told + TELL_S:
                told = now
                size = f", {memory[-1][1] / 2**20:.1f} MiB" if memory else ""
                print(f"{source.sent:,} of {n_slots:,} slots{size}", flush=True)
        top.wait()
    except BaseException:
        top.stop()
        top.wait()
        raise
    finally:
        ended.set()
        subscriber.join()
    listener.end(source.sent)
    point = probe.report()["points"][0]

    def quarter(sizes, number):
        low, high = (number - 1) * n_slots / 4, number * n_slots / 4
        return np.median([size for sent, size in sizes if low <= sent < high] or [0], axis=0)

    return {
        "sent": source.sent,
        "delivered": listener.received,
        "of these by a jailed model": listener.jailed,
        "dropped": listener.dropped,
        "missed": listener.missed,
        "counted by the probe": point["slots"],
        "missed by the probe": point["missed_slots"],
        "swaps": listener.swaps,
        "restarts": restarts,
        "messages read by the subscriber": len(read),
        "left_behind": [quarter(left, number).astype(int).tolist() for number in (1, 2, 3, 4)],
        "memory_bytes": [quarter(memory, number) for number in (1, 2, 3, 4)],
        "allocated_bytes": [quarter(in_use, number) for number in (1, 2, 3, 4)],
    }


def faults(counts: dict) -> list[str]:
    """What was promised and is not so."""
    said = []
    if counts["sent"] != counts["delivered"] + counts["dropped"] + counts["missed"]:
        said.append("sent is not delivered + dropped + missed")
    if counts["sent"] != counts["counted by the probe"] + counts["missed by the probe"]:
        said.append("sent is not what the probe counted + what it missed")
    if not counts["of these by a jailed model"]:
        said.append("no slot was received by a jailed model")
    _, second, _, last = counts["left_behind"]
    if second != last or last[-1:] != [0]:
        said.append(
            f"descriptors, threads and jails became {last} from {second} in the second quarter"
        )
    _, second, _, last = counts["memory_bytes"]
    if not second or not last:
        said.append("memory was not measured: too few slots for that")
    elif abs(last / second - 1) > GROWTH:
        said.append(f"memory of the last quarter is {last / second:.3f} times the second's")
    return said


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__)
    parser.add_argument("--slots", type=int, default=1_000_000, help="default: %(default)s")
    n_slots = parser.parse_args().slots
    if not os.environ.keys() >= MALLOC.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MALLOC)
    print(f"revision {git_revision()}", flush=True)
    began = time.monotonic()
    try:
        counts = soak(n_slots)
    except KeyboardInterrupt:
        print("stopped: nothing is promised of a part")
        return 130
    except Failure as failure:
        print(f"./dev soak: error: {failure}", file=sys.stderr)
        return 3
    for name, count in counts.items():
        if isinstance(count, int):
            print(f"{name:32} {count:>10,}")
    first, *_, last = counts["left_behind"]
    print(f"{'descriptors, threads, jails':32} {first} in the first quarter, {last} in the last")
    for what in ("memory", "allocated"):
        quarters = ", ".join(f"{size / 2**20:.1f}" for size in counts[f"{what}_bytes"])
        print(f"{f'median {what} of each quarter':32} {quarters} MiB")
    print(f"seconds                          {time.monotonic() - began:,.0f}")
    wrong = faults(counts)
    for line in wrong:
        print(f"./dev soak: error: {line}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
