# SPDX-License-Identifier: GPL-3.0-or-later
"""Contenders that run in a flowgraph: the receiver block, the same model in a Python block, and GNU
Radio's own equaliser.
"""

import time

import numpy as np
import pmt
from gnuradio import blocks, digital, gr

from deeprx_common.modulation import constellation
from deeprx_common.slot import N_SYMBOLS, SlotConfig
from deeprx_common.timing import compute_clock

from ..blocks.guarded import Guarded
from ..blocks.transport import seeded_bits, tb_decoder
from ..deeprx_python import receiver
from .job import WARM_UP, Job, Turn, load_model
from .threads import thread_clocks, thread_name

SAMPLING_S = 2e-3  # between calls of work() that are looked at


def sources(job: Job, bits=None) -> list[gr.basic_block]:
    """A slot as a front end gives it, one source an antenna, again and again: more slots would
    take the caches from the receiver. bits: as of received_slots().
    """
    config = job.config
    y, *_ = job.slots(1, bits)
    symbols = np.zeros((job.n_rx, N_SYMBOLS, config.fft_size), np.complex64)
    symbols[:, : config.n_symbols, config.bins] = y[0].view(np.complex64)[..., 0]
    length = gr.tag_utils.python_to_tag((0, pmt.intern("packet_len"), pmt.from_long(N_SYMBOLS)))
    antennas = [
        blocks.vector_source_c(
            antenna.ravel().tolist(), True, config.fft_size, [] if k else [length]
        )
        for k, antenna in enumerate(symbols)
    ]
    for source in antennas:
        if job.queued:
            source.set_min_output_buffer(N_SYMBOLS * job.queued)
    return antennas


class Flowgraph:
    """Sources, what receives, and a null sink; started for each turn.

    chain: blocks of which the first takes an input of each antenna. per_slot: items of a slot that
    the last one gives. bits: as of received_slots().
    """

    def __init__(
        self, job: Job, chain: list[gr.basic_block], itemsize: int, per_slot: int, bits=None
    ):
        self.top, self.last, self._per_slot = gr.top_block(), chain[-1], per_slot
        self._antennas = sources(job, bits)
        for port, source in enumerate(self._antennas):
            self.top.connect(source, (chain[0], port))
        self.sink = blocks.null_sink(itemsize)
        self.top.connect(*chain, self.sink)
        self._others = [*self._antennas, self.sink]
        self._buffered = [*self._antennas, *chain]

    def slots(self) -> int:
        return self.last.nitems_written(0) // self._per_slot

    def begin(self) -> None:
        """What calls() tells of begins now."""

    def calls(self) -> dict:
        """Fields calls_s, work_overhead_s, queued and batch of a Turn."""
        return {"calls_s": []}

    def turn(self, seconds: float) -> Turn:
        for block in self._buffered:  # GNU Radio 3.10 would keep to what it once allocated
            block.set_max_output_buffer(-1)
        for source in self._antennas:  # a stop left each at a symbol of its own
            source.rewind()
        self.top.start()
        try:
            self._wait(time.perf_counter() + WARM_UP * seconds)
            return self.measure(seconds)
        finally:
            self.top.stop()
            self.top.wait()

    def measure(self, seconds: float) -> Turn:
        """While it runs."""
        before, receiver, slots = time.process_time(), self._receiver_s(), self.slots()
        start = time.perf_counter()
        self.begin()
        self._wait(start + seconds)
        elapsed, slots = time.perf_counter() - start, self.slots() - slots
        busy, receiver = time.process_time() - before, self._receiver_s() - receiver
        return Turn(slots, elapsed, busy, receiver, **self.calls())

    def _wait(self, until: float) -> None:
        """Until then, and on to the end of the next slot: turns begin and end with one."""
        time.sleep(max(0.0, until - time.perf_counter()))
        slots, patience = self.slots(), time.perf_counter() + 30
        while self.slots() == slots:
            if time.perf_counter() > patience:
                raise RuntimeError("the flowgraph receives nothing")
            time.sleep(0.5e-3)

    def _receiver_s(self) -> float:
        """CPU time of the process without that of sources, sink and this thread: worker threads of
        the receiver count.
        """
        others = {thread_name(block) for block in self._others}
        spent = sum(cpu_s for name, cpu_s in thread_clocks().values() if name in others)
        return time.process_time() - time.thread_time() - spent


def make_receiver(job: Job) -> receiver:
    return receiver(
        model=job.model,
        **job.received,
        device=job.device,
        threads=job.threads,
        max_batch=job.batch,
        max_latency_ms=0.0,
        trust=job.trust,
    )


class BlockFlowgraph(Flowgraph):
    """deeprx.receiver. Nobody listens to its statistics once they have said what computes: GNU
    Radio's performance counters say what calls of work() take, as often as they are asked.
    """

    watched = False

    def __init__(self, job: Job):
        self.receiver, self._batch = make_receiver(job), job.batch
        super().__init__(job, [self.receiver], gr.sizeof_float, job.config.n_bits)
        self._stats, self._sampled = blocks.message_debug(), []
        link = (self.receiver, "stats"), (self._stats, "store")
        self._others.append(self._stats)
        self.top.msg_connect(*link)
        self.turn(0.0)
        self.description = ""
        if self._stats.num_messages():
            self.description = pmt.to_python(self._stats.get_message(0)).get("engine", "")
        if not self.watched:
            self.top.msg_disconnect(*link)

    def slots(self) -> int:
        return self.receiver.slots()

    def begin(self):
        self._sampled.clear()

    def calls(self):
        return {"calls_s": list(self._sampled)}

    def _wait(self, until):
        while not self.watched and time.perf_counter() < until:
            time.sleep(SAMPLING_S)
            self._sampled.append(1e-9 * self.receiver.pc_work_time() / self._batch)
        super()._wait(until)


class WatchedFlowgraph(BlockFlowgraph):
    """deeprx.receiver, whose statistics are stored and tell of every call."""

    watched = True

    def __init__(self, job: Job):
        self._call = "cpu_ns" if job.device == "cpu" else "inference_ns"
        super().__init__(job)

    def begin(self):
        self._first = self._stats.num_messages()

    def calls(self):
        messages = range(self._first, self._stats.num_messages())
        stats = [pmt.to_python(self._stats.get_message(k)) for k in messages]

        def seconds(key):
            return [1e-9 * message[key] for message in stats]

        return {
            "calls_s": seconds(self._call),
            "work_overhead_s": np.subtract(seconds("cpu_ns"), seconds("engine_cpu_ns")).tolist(),
            "queued": float(np.mean([message["queue_depth"] for message in stats] or [0])),
            "batch": float(np.mean([message["batch"] for message in stats] or [0])),
        }


class DecodedFlowgraph(Flowgraph):
    """deeprx.receiver, and a tb_decoder behind it, of transport blocks of the slot's MCS, or at a
    rate of 1/2.
    """

    description = ""

    def __init__(self, job: Job):
        slot = job.config
        if slot.users[0].code_rate is None:
            slot = slot.with_user(code_rate=0.5)
        bits = seeded_bits(slot, 1)
        self.decoder = tb_decoder(slot)
        chain = [make_receiver(job), self.decoder]
        super().__init__(job, chain, gr.sizeof_float, slot.n_bits, lambda index, layer: bits(index))
        self.turn(0.0)
        if self.decoder.block_errors():
            raise RuntimeError("it does not decode a block at 12 dB")


class SteadyFlowgraph(Flowgraph):
    """deeprx.receiver, which nothing stops between turns; nobody keeps its statistics."""

    description = ""

    def __init__(self, job: Job):
        super().__init__(job, [make_receiver(job)], gr.sizeof_float, job.config.n_bits)
        self.top.start()

    def turn(self, seconds: float) -> Turn:
        return self.measure(seconds)


class PythonReceiver(Guarded, gr.basic_block):
    """The frozen model in a block as one writes it in Python: a slot a call."""

    def __init__(self, job: Job):
        import torch

        config = self._config = job.config
        super().__init__(
            "Python receiver", [(np.complex64, config.fft_size)] * job.n_rx, [np.float32]
        )
        self.set_output_multiple(config.n_bits)
        self.set_relative_rate(config.n_bits, N_SYMBOLS)
        self._device = job.device
        self._module = torch.jit.freeze(load_model(job))
        pilots = torch.view_as_real(torch.from_numpy(config.pilots()))
        self._pilots = pilots[None].to(job.device)
        self._data = torch.from_numpy(config.data_mask)
        self._arguments = self._data.to(job.device), [config.bits_per_symbol]
        self.description = f"PyTorch {torch.__version__}, {job.precision}"
        self._clock = compute_clock(job.device)
        self.calls_s: list[float] = []

    def forecast(self, noutput_items, ninputs):
        return [N_SYMBOLS] * ninputs

    def general_work(self, input_items, output_items):
        import torch

        if min(map(len, input_items)) < N_SYMBOLS:
            return 0
        start = self._clock()
        config = self._config
        symbols = np.stack([x[: config.n_symbols, config.bins] for x in input_items])
        with torch.inference_mode():
            grid = torch.view_as_real(torch.from_numpy(symbols))[None].to(self._device)
            llr = self._module(grid, self._pilots, *self._arguments)[0, 0].cpu()
            llr = llr[self._data][:, : config.bits_per_symbol]
        output_items[0][: config.n_bits] = llr.numpy().ravel()
        self.consume_each(N_SYMBOLS)
        self.calls_s.append(self._clock() - start)
        return config.n_bits


class PythonFlowgraph(Flowgraph):
    """PythonReceiver."""

    def __init__(self, job: Job):
        self.block = PythonReceiver(job)
        self.description = self.block.description
        super().__init__(job, [self.block], gr.sizeof_float, job.config.n_bits)

    def begin(self):
        self.block.calls_s.clear()

    def calls(self):
        return {"calls_s": list(self.block.calls_s)}


def equaliser_chain(config: SlotConfig) -> list[gr.basic_block]:
    """One antenna, channel updated by pilots and decisions: ofdm_equalizer_simpledfe in
    ofdm_frame_equalizer_vcvc, ofdm_serializer_vcc and constellation_soft_decoder_cf.
    """
    pilots, pilot_mask = config.pilots()[0], config.pilot_mask()
    carriers = [config.carriers[row].tolist() for row in config.data_mask]
    known = [config.carriers[row].tolist() for row in pilot_mask]
    values = [pilots[k, row].tolist() for k, row in enumerate(pilot_mask)]
    points = digital.constellation_calcdist(
        constellation(config.modulation).tolist(), [], 1, 1, digital.constellation.NO_NORMALIZATION
    ).base()
    equaliser = digital.ofdm_equalizer_simpledfe(
        config.fft_size, points, carriers, known, values, 0, 0.1, True, True
    )
    chain = [
        digital.ofdm_frame_equalizer_vcvc(equaliser.base(), 0, "packet_len"),
        digital.ofdm_serializer_vcc(config.fft_size, carriers, "packet_len", "", 0, "", True),
        digital.constellation_soft_decoder_cf(points),
    ]
    chain[0].set_min_output_buffer(4 * N_SYMBOLS)  # a tagged packet must fit into half of it
    chain[1].set_min_output_buffer(4 * config.n_data_re)
    return chain


class EqualiserFlowgraph(Flowgraph):
    """equaliser_chain()."""

    def __init__(self, job: Job):
        chain = equaliser_chain(job.config)
        super().__init__(job, chain, gr.sizeof_float, job.config.n_bits)
        self.description = f"GNU Radio {gr.version()}, float32"


FLOWGRAPHS = {
    "block": BlockFlowgraph,
    "watched-block": WatchedFlowgraph,
    "decoded": DecodedFlowgraph,
    "steady": SteadyFlowgraph,
    "python-block": PythonFlowgraph,
    "equaliser": EqualiserFlowgraph,
}
