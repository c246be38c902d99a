# SPDX-License-Identifier: GPL-3.0-or-later
"""One contender of the benchmark, in a process of its own: a script that contenders.Worker starts.

Its argument is a Job as JSON. On its standard output a JSON line says that it is ready, or
{"error": why}; then for every line on its standard input, the seconds of a turn, it answers with a
Turn. It ends with its standard input.

It imports nothing of the package, see job.
"""

import json
import os
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
from job import WARM_UP, Job, Turn, load_model, traced

from deeprx_common.timing import cost_clock

LDPC_ITERATIONS = 6


class Calls:
    """A receiver called on a batch again and again. receive(y, p): float32 arrays of the model
    contract, to LLRs [batch, 1, 14, n_sc, >= bits].
    """

    def __init__(self, job: Job):
        *received, self.data = job.slots(job.batch)
        self.batch, self.bits = job.batch, job.config.bits_per_symbol
        self._clock = cost_clock(job.device)
        self.load(job)
        self._batch = tuple(map(self.prepare, received))
        llr = np.asarray(self.receive(*self._batch))
        if job.llr:
            np.save(job.llr, llr[..., : self.bits])

    def prepare(self, slots: np.ndarray):
        return slots

    def turn(self, seconds: float) -> Turn:
        self._calls(WARM_UP * seconds)
        start, busy = time.perf_counter(), time.process_time()
        calls = self._calls(seconds)
        busy, elapsed = time.process_time() - busy, time.perf_counter() - start
        latencies_s, calls_s = zip(*calls, strict=True)
        calls_s = [call / self.batch for call in calls_s]
        slots = self.batch * len(calls)
        return Turn(slots, elapsed, busy, busy, calls_s, latencies_s, batch=self.batch)

    def _calls(self, seconds: float) -> list[tuple[float, float]]:
        """As timed(), for so long."""
        calls, end = [], time.perf_counter() + seconds
        while not calls or time.perf_counter() < end:
            calls += self.timed()
        return calls

    def timed(self) -> list[tuple[float, float]]:
        """Of a call or a few, wall time and what it costs: CPU time, on a GPU wall time, too."""
        start, cost = time.perf_counter(), self._clock()
        self.receive(*self._batch)
        cost = self._clock() - cost
        return [(time.perf_counter() - start, cost)]


class TorchScript(Calls):
    """torch.jit: the frozen model file."""

    def load(self, job: Job) -> None:
        import torch

        self._mode = torch.inference_mode()
        self._mode.__enter__()  # to the end of the process
        self.device = job.device
        self.module = self.make(job)
        self.data = torch.from_numpy(self.data).to(job.device)
        self.description = f"PyTorch {torch.__version__}, {job.precision}"

    def make(self, job: Job):
        import torch

        return torch.jit.freeze(load_model(job))

    def prepare(self, slots):
        import torch

        slots = torch.from_numpy(slots)
        return slots if self.device == "cpu" else slots.pin_memory()

    def receive(self, y, p):
        y, p = y.to(self.device, non_blocking=True), p.to(self.device, non_blocking=True)
        return self.module(y, p, self.data, [self.bits]).cpu()


class TorchCompile(TorchScript):
    """torch.compile of what the file does with a slot: it takes no TorchScript."""

    def make(self, job: Job):
        import torch
        from torch._inductor import config

        config.freezing = job.device == "cpu"  # weights are constants, as in the frozen file
        operators = torch.compile(traced(job))
        return lambda y, p, d, bits: operators(y, p)


class Engine(Calls):
    """The receiver block's engine, without the block."""

    def load(self, job: Job) -> None:
        from gnuradio.deeprx import Engine, JailLimits

        self.job = job
        os.sched_setaffinity(0, job.jail_cores or job.cores)  # a jail stays where it starts
        self.engine = Engine(
            job.model,
            **job.received,
            threads=job.threads,
            device=job.device,
            max_batch=job.batch,
            trust=job.trust,
            jail=JailLimits(**job.jail),
        )
        os.sched_setaffinity(0, job.cores)
        self.description = self.engine.description

    def receive(self, y, p):
        return self.engine.infer(y, p)

    def turn(self, seconds: float) -> Turn:
        """A jail's CPU time is another process's, and counts in its calls only."""
        if self.job.anew:
            self.load(self.job)
            self.receive(*self._batch)
        turn = super().turn(seconds)
        if not self.job.jail_cores:
            return turn
        used = self.batch * sum(turn.calls_s)
        return replace(turn, busy_s=used, receiver_s=used)

    def timed(self) -> list[tuple[float, float]]:
        """The engine times itself: no Python between calls."""
        calls = self.engine.time(4, self.batch)
        if self._clock is time.perf_counter:
            calls[:, 1] = calls[:, 0]
        return calls.tolist()


class Stages(Engine):
    """The same, its stages timed: what timing takes is not in their times, but in the turn's."""

    def load(self, job: Job) -> None:
        super().load(job)
        if not self.engine.time_stages(1):
            raise RuntimeError(f"it runs as {self.description}, and only native has stages")

    def turn(self, seconds: float) -> Turn:
        start, end, rounds = time.perf_counter(), time.perf_counter() + seconds, []
        while not rounds or time.perf_counter() < end:
            rounds.append(self.engine.time_stages(4))
        rounds = rounds[int(WARM_UP * len(rounds)) :]
        medians = [
            {**of[0], "seconds": float(np.median([stage["seconds"] for stage in of]))}
            for of in zip(*rounds, strict=True)
        ]
        elapsed = time.perf_counter() - start
        return Turn(4 * len(rounds), elapsed, elapsed, elapsed, [], stages=medians)


class OnnxRuntime(Calls):
    def load(self, job: Job) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.threads
        self.session = onnxruntime.InferenceSession(
            job.model, options, providers=["CPUExecutionProvider"]
        )
        self.description = f"ONNX Runtime {onnxruntime.__version__}, {job.precision}"

    def receive(self, y, p):
        return self.session.run(None, {"y": y, "p": p})[0]


class OpenVino(Calls):
    HINTS = {"float32": "f32", "bfloat16": "bf16"}  # noqa: RUF012

    def load(self, job: Job) -> None:
        sys.modules["openvino_telemetry"] = None  # it would report this run to OpenVINO's maker
        import openvino

        core, n_sc = openvino.Core(), job.config.n_sc
        model = core.read_model(job.model)
        y = [job.batch, job.n_rx, job.config.n_symbols, n_sc, 2]
        # an IR of one layer has no axis for it, and its precision in it
        is_ir = self._is_ir = job.model.endswith(".xml")
        model.reshape({"y": y, "p": [job.batch, *([] if is_ir else [1]), *y[2:]]})
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "ENABLE_CPU_PINNING": False,
                "INFERENCE_NUM_THREADS": job.threads,
                "INFERENCE_PRECISION_HINT": "f32" if is_ir else self.HINTS[job.precision],
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
        self.request = compiled.create_infer_request()
        version = openvino.__version__.partition("-")[0]
        self.description = f"OpenVINO {version}, {multiplied_in(compiled)}"

    def receive(self, y, p):
        if not self._is_ir:
            return self.request.infer({"y": y, "p": p}, share_inputs=True)[0]
        return self.request.infer({"y": y, "p": p[:, 0]}, share_inputs=True)[0][:, None]


def multiplied_in(compiled) -> str:
    """Precision of most convolutions as OpenVINO compiled them; it takes hints as such."""
    names = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "u8": "int8", "i8": "int8"}
    precisions = Counter()
    for operator in compiled.get_runtime_model().get_ordered_ops():
        about = operator.get_rt_info()
        if about["layerType"].astype(str) in ("Convolution", "FullyConnected", "Deconvolution"):
            precisions[about["runtimePrecision"].astype(str)] += 1
    most = precisions.most_common(1)[0][0] if precisions else "f32"
    return names.get(most, most)


class Gemm(Calls):
    """Matrix products, for what this core can do at most."""

    def __init__(self, job: Job):
        import torch

        from deeprx_common.energy.benchmarks import matrix_product

        torch.set_num_threads(job.threads)
        work = matrix_product(job.device, job.precision)
        wait = torch.cuda.synchronize if job.device != "cpu" else lambda: None
        self.batch, self._batch = 1, ()
        self._clock = cost_clock(job.device)
        self.receive = lambda: (work.run(), wait())
        self.flop = work.flop
        self.description = f"PyTorch {torch.__version__}, {job.precision}"
        self.receive()


class Copy(Calls):
    """A copy of so many bytes, within caches or memory. job.precision: how many."""

    def __init__(self, job: Job):
        import torch

        from deeprx_common.energy.benchmarks import memory_copy

        torch.set_num_threads(1)
        work = memory_copy(job.device, int(job.precision))
        self.batch, self._batch = 1, ()
        self._clock = cost_clock(job.device)
        self.receive = work.run
        self.flop = work.bytes
        self.description = f"PyTorch {torch.__version__}"
        self.receive()


class Ldpc(Calls):
    """Decoding of one code block, LDPC_ITERATIONS of it: K = 8448 at rate 1/2. job.precision: the
    instructions.
    """

    def __init__(self, job: Job):
        from gnuradio.deeprx.deeprx_python import TransportBlockDecoder, core_clock_hz

        decoder = TransportBlockDecoder(instructions=job.precision)
        self.batch, self._batch = LDPC_ITERATIONS, ()
        self._clock = cost_clock(job.device)
        self.receive = lambda: decoder.time(1, 384, 16896, LDPC_ITERATIONS, calls=1)
        self.receive()
        clock = core_clock_hz()
        self.description = f"{clock / 1e9:.2f} GHz" if clock else ""


def contender(job: Job):
    """What the job is about, loaded, and run once."""
    direct = {
        "torchscript": TorchScript,
        "torch-compile": TorchCompile,
        "engine": Engine,
        "jailed-engine": Engine,
        "jailed-apart": Engine,
        "onnxruntime": OnnxRuntime,
        "openvino": OpenVino,
        "stages": Stages,
        "gemm": Gemm,
        "copy": Copy,
        "ldpc": Ldpc,
    }
    if job.contender in direct:
        return direct[job.contender](job)
    from gnuradio.deeprx.measure.bench_flowgraphs import FLOWGRAPHS

    flowgraph = FLOWGRAPHS[job.contender](job)
    flowgraph.turn(0.0)
    return flowgraph


def _status(key: str) -> int:
    """Bytes of VmHWM or VmRSS."""
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(**values):
        print(json.dumps(values), file=answers, flush=True)

    try:
        if job.contender != "torch-compile":  # that may compile on all of them
            os.sched_setaffinity(0, job.cores)
        runs = contender(job)
        os.sched_setaffinity(0, job.cores)
        answer(description=runs.description, flop=getattr(runs, "flop", None))
        for line in sys.stdin:
            turn = runs.turn(float(line))
            answer(**vars(turn), peak_bytes=_status("VmHWM"), bytes=_status("VmRSS"))
    except KeyboardInterrupt:
        pass
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = [line for line in lines[::-1] if not line.endswith(":")] or ["no reason given"]
        kind = "" if isinstance(error, RuntimeError | ValueError) else f"{type(error).__name__}: "
        answer(error=kind + told[0].replace(job.model, os.path.basename(job.model)))


if __name__ == "__main__":
    main()
