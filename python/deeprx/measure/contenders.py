# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is measured, each in a process of its own, in turns on the same cores."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path

from deeprx_common.slot import SlotConfig
from deeprx_common.timing import in_turns

from ..deeprx_python import Engine
from ..models.file import ModelFile
from .avx2 import staying_with_avx2
from .job import Job, Turn

HERE = Path(__file__).resolve().parent
START_S = 300.0  # at most, until a contender is ready: torch.compile takes a minute or two
ANSWER_S = 60.0  # at most, above the seconds of a turn

CONTENDERS = {
    "block": "deeprx.receiver in a running flowgraph",
    "watched-block": "the same, with a listener to its statistics, as the probe is one",
    "decoded": "block, and a tb_decoder behind it: transport blocks at a rate of 1/2",
    "engine": "the block's engine, called without a flowgraph",
    "jailed-engine": "the same in a jail on the same core, as a file that is not trusted",
    "jailed-apart": "the same with the jail on another core",
    "torchscript": "the frozen model file, called from Python",
    "python-block": "the frozen model file in a gr.basic_block written in Python",
    "torch-compile": "the model file's operators, compiled by torch.compile",
    "onnxruntime": "the model file's operators as ONNX, in float32",
    "openvino": "the OpenVINO IR that the file carries, or else the ONNX, through its Python API",
}
JAILED = ("jailed-engine", "jailed-apart")
OURS = ("block", "watched-block", "decoded", "engine", *JAILED)  # take every model file
NO_FILE = ("block", "watched-block", "decoded", "engine", "stages")  # take a receiver without one
CPU_ONLY = ("onnxruntime", "openvino")
UNBOUND = ("torch-compile", "onnxruntime")  # take every instruction that they find
AS_DATA = "its weights run as data, and no jail is needed"
NO_JAIL = "there is no jail on a GPU"
ONE_CORE = "there is no other core for the jail"
LEFT_OUT = (AS_DATA, NO_JAIL, ONE_CORE)  # why a contender is missing, and nothing has failed


class ContenderError(RuntimeError):
    """A contender cannot be measured; the message is one line."""


def bench_cores(threads: int) -> list[int]:
    """The cores that all contenders share: the last ones, the first serves most interrupts.

    Raises ValueError where there are not so many.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores):
        raise ValueError(
            f"--threads must be 1 to {len(cores)}, this machine's cores; got {threads}"
        )
    return cores[-threads:]


class Worker:
    """A contender's process.

    startup_s: from its start until it has received a first batch. flop: of a matrix product.

    Raises ContenderError where it does not come up.
    """

    def __init__(self, job: Job):
        self._folder = tempfile.TemporaryDirectory(prefix="deeprx-bench-")
        environment = os.environ | {
            "OMP_NUM_THREADS": str(job.threads),
            "TORCHINDUCTOR_CACHE_DIR": self._folder.name,  # nothing compiled before helps a start
            "GR_CONF_PERFCOUNTERS_ON": "True",
            "GR_CONF_PERFCOUNTERS_CLOCK": "thread" if job.device == "cpu" else "monotonic",
        }
        self.job, self._log = job, Path(self._folder.name, "log")
        start = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "worker.py"), json.dumps(asdict(job))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the parent, which closes its workers
            )
        self.peak_bytes = self.bytes = 0
        try:
            ready = self._answer(START_S)
        except BaseException:
            self.close()
            raise
        self.startup_s = time.perf_counter() - start
        self.description, self.flop = ready["description"], ready["flop"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def turn(self, seconds: float) -> Turn:
        """Raises ContenderError where it fails."""
        with suppress(BrokenPipeError):  # then there is no answer
            self._process.stdin.write(f"{seconds}\n".encode())
            self._process.stdin.flush()
        answer = self._answer(seconds + ANSWER_S)
        self.peak_bytes, self.bytes = answer["peak_bytes"], answer["bytes"]
        return Turn(**{field.name: answer[field.name] for field in fields(Turn)})

    def _answer(self, seconds: float) -> dict:
        pipe, text, end = self._process.stdout.fileno(), b"", time.monotonic() + seconds
        while not text.endswith(b"\n"):
            if not select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
                raise ContenderError(f"no answer within {seconds:.0f} s")
            part = os.read(pipe, 1 << 16)
            if not part:
                raise ContenderError(self._end())
            text += part
        answer = json.loads(text)
        if "error" in answer:
            raise ContenderError(answer["error"])
        return answer

    def _end(self) -> str:
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        said = self._log.read_text(errors="replace").strip().splitlines()
        return f"ended with {how}" + (f": {said[-1].strip()}" if said else "")

    def close(self) -> None:
        with suppress(ProcessLookupError):  # with what it started
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()
        self._folder.cleanup()


class Group:
    """Workers that take turns. failures: why one did not come up, or ended."""

    def __init__(self):
        self.workers: dict[str, Worker] = {}
        self.turns: dict[str, list[Turn]] = {}
        self.failures: dict[str, str] = {}
        self._rounds = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self.workers.values():
            worker.close()

    def start(self, name: str, job: Callable[[], Job]) -> None:
        """A worker for what job() gives joins, or else its ContenderError."""
        try:
            self.workers[name] = worker = Worker(job())
            self.turns[name] = []
            worker.turn(0.0)  # LibTorch's executor profiles, then compiles
        except ContenderError as error:
            self.failures[name] = str(error)

    def round(self, seconds: float) -> Iterator[str]:
        """A turn of each, every other time backwards; names who has had it. A round left unfinished
        does not count.
        """
        turns = {}
        for name in in_turns([n for n in self.workers if n not in self.failures], self._rounds):
            try:
                turns[name] = self.workers[name].turn(seconds)
            except ContenderError as error:
                self.failures[name] = str(error)
            yield name
        for name, turn in turns.items():
            self.turns[name].append(turn)
        self._rounds += 1


class Measurement:
    """Steps that measure model files, whose Kits lie in a folder that closes with it.

    steps: about how many run() takes; step: how many the last one took. measured: whether there is
    anything to tell of.
    """

    steps: int
    step = 1

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="deeprx-bench-")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._folder.cleanup()

    def _kit(self, model: ModelFile, base: Job, device: str, jailed: bool = False) -> "Kit":
        folder = tempfile.mkdtemp(dir=self._folder.name)
        return make_kit(model, base.config, base.n_rx, device, Path(folder, "kit"), jailed)


@dataclass(frozen=True)
class Kit:
    """What contenders need of a model file, in a folder of its own.

    The file, where there is one, is a copy of the bytes that were checked as the receiver block
    checks them.
    """

    folder: Path
    model: ModelFile

    def job(self, contender: str, base: Job) -> Job:
        """What a contender does. Raises ContenderError where it cannot take this model."""
        precision = self.model.metadata.get("precision", "float32")
        job = replace(
            base,
            contender=contender,
            model=str(self.folder / "model.pt" if self.model.archive else self.model.path),
            precision=precision,
            llr=str(self.folder / f"{contender}.npy"),
            quantized_engine=self.model.metadata.get("quantized_engine") or "",
        )
        if not self.model.archive and contender not in NO_FILE:
            raise ContenderError("there is no model file")
        if contender in UNBOUND and staying_with_avx2():
            raise ContenderError("it cannot be kept to AVX2")
        if contender == "torch-compile":
            _require_traceable(job)
        if contender in JAILED:
            if job.device != "cpu":
                raise ContenderError(NO_JAIL)
            jail_cores = _other_cores(job) if contender == "jailed-apart" else job.cores
            return replace(job, model=str(self._jailed(job)), jail_cores=jail_cores)
        if contender in CPU_ONLY:
            if job.device != "cpu":
                raise ContenderError(f"measured on a CPU only, not on {job.device}")
            if not find_spec(contender):
                raise ContenderError("not installed: ./dev bench installs it")
            if contender == "onnxruntime":
                return replace(job, model=str(self._onnx(job)), precision="float32")
            return replace(job, model=str(self._openvino(job)))
        return job

    def _jailed(self, job: Job) -> Path:
        """The same model in a file that nobody has trusted."""
        path = self.folder / "untrusted.pt"
        path.write_bytes(self.model.archive.rewritten())
        try:
            if not Engine(path, **job.received).description.endswith(", jailed"):
                raise ContenderError(AS_DATA)
        except RuntimeError as error:
            raise ContenderError(str(error)) from None
        return path

    def _openvino(self, job: Job) -> Path:
        """The IR that the file carries, once the block's engine has checked it, or else ONNX."""
        name = f"extra/openvino/bits{job.config.bits_per_symbol}"
        records = self.model.archive.records
        if name + ".xml" not in records:
            return self._onnx(job)
        try:
            Engine(job.model, **job.received, engine="openvino", trust=[job.model])
        except RuntimeError as error:
            raise ContenderError(str(error)) from None
        for suffix in (".xml", ".bin"):
            (self.folder / f"ir{suffix}").write_bytes(records[name + suffix])
        return self.folder / "ir.xml"

    def _onnx(self, job: Job) -> Path:
        _require_traceable(job)
        out, log = self.folder / "model.onnx", self.folder / "onnx.log"
        if not log.exists():
            command = [sys.executable, str(HERE / "to_onnx.py"), json.dumps(asdict(job)), str(out)]
            with log.open("w") as text:
                code = subprocess.run(command, stdout=text, stderr=text).returncode
                if code < 0:
                    print(f"the exporter ended with {signal.Signals(-code).name}", file=text)
        if not out.exists():
            raise ContenderError(f"ONNX: {_cause(log.read_text())}")
        return out


def _other_cores(job: Job) -> list[int]:
    """As many as the process has, and none of these. Raises ContenderError where there are not."""
    others = sorted(os.sched_getaffinity(0) - set(job.cores))
    if len(others) < len(job.cores):
        raise ContenderError(ONE_CORE)
    return others[-len(job.cores) :]


def _require_traceable(job: Job) -> None:
    if job.precision not in ("float32", "bfloat16"):
        raise ContenderError(f"PyTorch does not trace a model in {job.precision}")


def _cause(log: str) -> str:
    """The exception that ends a traceback, in one line."""
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith(" ")]
    return lines[-1].rpartition("torch.onnx.errors.")[2] if lines else "the exporter said nothing"


def make_kit(
    model: ModelFile, config: SlotConfig, n_rx: int, device: str, folder: Path, jailed: bool = False
) -> Kit:
    """Checks a model file and copies it. jailed: for JAILED alone, which need no trust.

    Raises RuntimeError with one line that names the file.
    """
    folder.mkdir(parents=True)
    if model.archive:
        check = model.checked if jailed else model.program
        check(config, n_rx, device)
        (folder / "model.pt").write_bytes(model.archive.data)
    return Kit(folder, model)
