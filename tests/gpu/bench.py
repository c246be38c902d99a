# SPDX-License-Identifier: GPL-3.0-or-later
"""Receivers on a GPU: slots/s, latency, energy, and LLRs against the CPU's, without GNU Radio.

    python3 tests/gpu/bench.py --out build/gpu

Builds the engine that runs inside deeprx.receiver (C++, LibTorch of the running Python; cmake, a
compiler, nlohmann-json, OpenSSL and Boost's headers are needed) and measures every model file in a
process of its own, at 26 PRB, two antennas and 16QAM, with and without CUDA graphs.
Writes gpu.json and gpu.log into the folder; what one part of it cannot do does not stop the others.
"""

import argparse
import ctypes
import json
import os
import platform
import re
import subprocess
import sys
import time
import traceback
import zipfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python" / "common"))

from deeprx_common.energy import find_meter, measure, measure_idle  # noqa: E402
from deeprx_common.slot import SlotConfig, User  # noqa: E402

BATCHES = (1, 2, 4, 8, 16, 32, 64)
ENERGY_BATCHES = (1, 8, 64)
N_RX = 2
CHECKED_SLOTS = 64
SINR_DB = 12.0


def build(folder: Path) -> Path:
    """The engine as a library of C functions, against the torch of this Python."""
    import torch

    root = Path(torch.__file__).parent
    options = [f"-DTORCH_ROOT={root}", "-DCMAKE_BUILD_TYPE=Release"]
    for include in root.parent.glob("nvidia/cu*/include"):  # of CUDA's wheels
        if (include / "crt" / "host_config.h").exists():
            options.append(f"-DCUDA_INCLUDE_DIR={include}")
    source = str(Path(__file__).parent)
    subprocess.run(["cmake", "-S", source, "-B", str(folder), *options], check=True)
    subprocess.run(["cmake", "--build", str(folder), "--parallel"], check=True)
    return folder / "engine_c.so"


class Engine:
    """One loaded model; raises RuntimeError with the engine's line."""

    def __init__(self, library: Path, path, device, max_batch, threads=1, tf32=True):
        import torch  # noqa: F401  the library's own dependencies come with it

        self.c = ctypes.CDLL(str(library.resolve()))
        self.c.engine_error.restype = ctypes.c_char_p
        self.c.engine_load.restype = ctypes.c_void_p
        self.c.engine_description.restype = ctypes.c_char_p
        for name in ("engine_grid", "engine_pilots", "engine_infer"):
            getattr(self.c, name).restype = ctypes.POINTER(ctypes.c_float)
        self.c.engine_stream.restype = ctypes.c_double
        self.config = SlotConfig(n_prb=26, users=(User("16QAM"),))
        n_prb, modulation = self.config.n_prb, self.config.modulation.encode()
        handle = self.c.engine_load(
            str(path).encode(),
            *(n_prb, N_RX, modulation, device.encode(), threads, max_batch, int(tf32)),
        )
        self.engine = ctypes.c_void_p(self._checked(handle))
        self.stride = self.c.engine_llr_stride(self.engine)

    def _checked(self, answer):
        if not answer:
            raise RuntimeError(self.c.engine_error().decode())
        return answer

    def close(self):
        self.c.engine_free(self.engine)

    def description(self) -> str:
        return self.c.engine_description(self.engine).decode()

    def prepare(self, batch: int):
        self._checked(not self.c.engine_prepare(self.engine, batch))

    def llrs(self, y: np.ndarray, p: np.ndarray, batch: int) -> np.ndarray:
        """LLRs of all slots, float32 [slots, 14, n_sc, stride], in batches."""
        batches = []
        for first in range(0, len(y), batch):
            for slot in range(batch):
                grid = self.c.engine_grid(self.engine, slot)
                pilots = self.c.engine_pilots(self.engine, slot)
                ctypes.memmove(grid, y[first + slot].ctypes.data, y[0].nbytes)
                ctypes.memmove(pilots, p.ctypes.data, p.nbytes)
            llr = self._checked(self.c.engine_infer(self.engine, batch))
            shape = (batch, 14, self.config.n_sc, self.stride)
            batches.append(np.ctypeslib.as_array(llr, shape).copy())
        return np.concatenate(batches)

    def time(self, batch: int, calls: int) -> np.ndarray:
        """Seconds of each call, one after another."""
        took = np.empty(calls)
        pointer = took.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
        self._checked(not self.c.engine_time(self.engine, batch, calls, pointer))
        return took

    def stream(self, batch: int, batches: int) -> float:
        """Seconds of so many batches with as many under way as the engine takes."""
        grid, llr = N_RX * 14 * self.config.n_sc * 2, 14 * self.config.n_sc * self.stride
        seconds = self.c.engine_stream(self.engine, batch, batches, grid, llr)
        self._checked(seconds >= 0)
        return seconds


def make_slots(config: SlotConfig, n: int):
    """Grids float32 [n, N_RX, 14, n_sc, 2] over channels of three taps at SINR_DB, pilots, bits."""
    rng = np.random.default_rng(7)

    def normal(*shape):
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)) * np.sqrt(0.5)

    k = np.arange(config.n_sc)
    bits = np.stack([config.bits(7, i) for i in range(n)])
    sent = np.stack([config.grid(b) for b in bits])
    delays = np.exp(-2j * np.pi * k * np.array([0, 2, 5])[:, None] / config.fft_size)
    h = normal(n, N_RX, 3) * np.sqrt([0.6, 0.3, 0.1]) @ delays
    y = h[:, :, None] * sent[:, None] + normal(n, N_RX, 14, config.n_sc) * 10 ** (-SINR_DB / 20)
    y = np.ascontiguousarray(y.astype(np.complex64)).view(np.float32)
    p = np.ascontiguousarray(config.pilots().astype(np.complex64)).view(np.float32)
    return y.reshape(n, N_RX, 14, config.n_sc, 2), p.reshape(14, config.n_sc, 2), bits


def calls_for(engine: Engine, batch: int, seconds: float) -> int:
    once = float(np.median(engine.time(batch, 5)))
    return int(np.clip(seconds / once, 50, 5000))


def timing(engine: Engine, batch: int, seconds: float) -> dict:
    """Latency of single calls, and slots/s with batches under way one behind the other."""
    calls = calls_for(engine, batch, seconds)
    took = engine.time(batch, calls)
    engine.stream(batch, 4)
    streamed = engine.stream(batch, calls)
    return {
        "calls": calls,
        "p50_s": float(np.quantile(took, 0.5)),
        "p99_s": float(np.quantile(took, 0.99)),
        "slots_per_s": batch / float(np.mean(took)),
        "slots_per_s_streamed": batch * calls / streamed,
    }


def compare(llr: np.ndarray, reference: np.ndarray, config: SlotConfig, bits: np.ndarray) -> dict:
    """LLRs of data elements against the CPU's, and the bits that they decide."""
    data, m = config.data_mask, config.bits_per_symbol
    llr, reference = (x[:, data, :m].reshape(len(x), -1) for x in (llr, reference))
    rms = float(np.sqrt(np.mean(reference.astype(np.float64) ** 2)))
    return {
        "max_difference": float(np.abs(llr - reference).max()),
        "rms_difference": float(np.sqrt(np.mean((llr - reference).astype(np.float64) ** 2))),
        "rms_llr": rms,
        "bits": int(llr.size),
        "bits_decided_otherwise": int(((llr > 0) != (reference > 0)).sum()),
        "bit_errors": int(((llr > 0) != bits).sum()),
        "bit_errors_cpu": int(((reference > 0) != bits).sum()),
    }


def python_reference(path: str, seconds: float) -> dict:
    """The bare TorchScript call from Python, and its CUDA graph, on tensors on the GPU."""
    import torch

    rows = {}
    module = torch.jit.freeze(torch.jit.load(path).eval().to("cuda"))
    for batch in ENERGY_BATCHES:
        y, p, _ = make_slots(SlotConfig(n_prb=26, users=(User("16QAM"),)), batch)
        y = torch.from_numpy(y).cuda()
        p = torch.from_numpy(p).cuda().expand(batch, -1, -1, -1)[:, None].contiguous()
        d = (p[0, 0] == 0).all(-1)

        def per_call(call):
            torch.cuda.synchronize()
            took = []
            start = time.perf_counter()
            while not took or took[-1] - start < seconds:
                call()
                torch.cuda.synchronize()
                took.append(time.perf_counter())
            return float(np.median(np.diff(took[-5000:])))

        with torch.inference_mode():
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                for _ in range(5):
                    module(y, p, d, [4])
                row = {"call_s": per_call(lambda y=y, p=p, d=d: module(y, p, d, [4]))}
            rows[str(batch)] = row
            try:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, stream=stream):
                    module(y, p, d, [4])
                row["graph_s"] = per_call(graph.replay)
            except RuntimeError as error:
                # TorchScript puts its stack before the cause
                cause = re.search(r"^\w+: (.*)", str(error), re.MULTILINE)
                row["graph_error"] = cause[1] if cause else str(error).partition("\n")[0]
                break  # a failed capture may spoil what follows
    return rows


def worker(arguments) -> None:
    """Everything about one model, each part on its own; what there is is written after each."""
    path, result = arguments.models[0], {"model": Path(arguments.models[0]).stem, "errors": {}}
    seconds, device = arguments.seconds, arguments.device
    result["tf32"] = arguments.tf32
    started = time.perf_counter()

    def save():
        temporary = arguments.result.with_suffix(".part")
        temporary.write_text(json.dumps(result))
        temporary.replace(arguments.result)

    def part(function, *names):
        try:
            function(*names)
        except Exception as error:
            name = " ".join([function.__name__, *names])
            result["errors"][name] = str(error).strip() or repr(error)
            traceback.print_exc()
        save()
        print(f"  {time.perf_counter() - started:6.1f} s  {function.__name__} {names}", flush=True)

    def each(name, sizes, function):
        """Fills result[name] by batch size; what there is stays if a later size fails."""
        rows = result.setdefault(name, {})
        for batch in sizes:
            rows[str(batch)] = function(batch)
            save()

    def load():
        start = time.perf_counter()
        engines["gpu"] = Engine(arguments.library, path, device, max(batches), tf32=arguments.tf32)
        result["load_s"] = time.perf_counter() - start

    def cpu_llrs():
        cpu = Engine(arguments.library, path, "cpu", 8, threads=arguments.cpu_threads)
        references["cpu"] = cpu.llrs(y, p, 8)
        cpu.close()

    def timings(how):
        def one(batch):
            engines["gpu"].time(batch, 6)
            return timing(engines["gpu"], batch, seconds)

        each(how, batches, one)

    def prepare():
        start = time.perf_counter()
        for batch in batches:
            engines["gpu"].prepare(batch)
        result["prepare_s"] = time.perf_counter() - start
        result["engine"] = engines["gpu"].description()

    def check(how):
        def one(batch):
            return compare(engines["gpu"].llrs(y, p, batch), references["cpu"], config, bits)

        each(f"against_cpu_{how}", (1, CHECKED_SLOTS), one)

    def energy(how):
        meter = find_meter(device)
        idle = measure_idle(meter, 1.5)
        result["meter"] = {"is": meter.describe(), "idle_w": idle.watts if idle else None}

        def one(batch):
            calls = calls_for(engines["gpu"], batch, 0.01)

            def work():
                engines["gpu"].stream(batch, calls)
                return batch * calls

            window = measure(meter, work, arguments.energy_seconds, idle)
            return {
                "joules_per_slot": window.per_slot(window.joules),
                "bound": window.per_slot(window.bound_j),
                "net_joules_per_slot": window.per_slot(window.net_j),
                "watts": window.watts,
                "slots": window.slots,
                "seconds": window.seconds,
                "reason": window.reason,
            }

        each(f"energy_{how}", ENERGY_BATCHES, one)

    def python():
        result["python"] = python_reference(path, seconds)

    config = SlotConfig(n_prb=26, users=(User("16QAM"),))
    y, p, bits = make_slots(config, CHECKED_SLOTS)
    batches = ENERGY_BATCHES if arguments.brief else BATCHES
    engines, references = {}, {}
    part(load)
    if "gpu" not in engines:
        return
    part(cpu_llrs)
    for how in ("eager", "graphs"):
        if how == "graphs":
            part(prepare)
            if "no CUDA graphs" in result.get("engine", "no CUDA graphs"):
                break
        part(timings, how)
        part(check, how)
        if not arguments.brief:
            part(energy, how)
    if not arguments.brief:
        part(python)
    engines["gpu"].close()


def host() -> dict:
    """What runs; nothing here opens the GPU, which would disturb the energy of those who do."""
    import torch

    def answer(*command):
        try:
            return subprocess.run(command, capture_output=True, text=True).stdout.strip()
        except OSError as error:
            return str(error)

    cpuinfo = Path("/proc/cpuinfo").read_text()
    query = "name,driver_version,power.limit,clocks.max.sm,clocks.sm,temperature.gpu"
    return {
        "gpu": answer("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"),
        "cpu": cpuinfo.partition("model name")[2].partition(":")[2].partition("\n")[0].strip(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "git": answer("git", "-C", str(ROOT), "describe", "--always", "--dirty=+"),
    }


def precision(model: str) -> str:
    with zipfile.ZipFile(model) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("extra/deeprx.json"))
        return json.loads(archive.read(name))["precision"]


def table(report: dict) -> str:
    lines = [
        f"{'model':26}{'batch':>6}{'graphs':>8}{'p50 ms':>9}{'p99 ms':>9}{'slots/s':>10}"
        f"{'streamed':>10}{'mJ/slot':>9}{'net':>8}"
    ]
    for model in report["models"]:
        name = model["model"] + ("" if model["tf32"] else " fp32")
        for how in ("eager", "graphs"):
            for batch, t in model.get(how, {}).items():
                energy = model.get(f"energy_{how}", {}).get(batch, {})
                joules = [energy.get("joules_per_slot"), energy.get("net_joules_per_slot")]
                joules = ["" if j is None else f"{j * 1e3:.3g}" for j in joules]
                lines.append(
                    f"{name:26}{batch:>6}{'yes' if how == 'graphs' else 'no':>8}"
                    f"{t['p50_s'] * 1e3:9.3f}{t['p99_s'] * 1e3:9.3f}{t['slots_per_s']:10.0f}"
                    f"{t['slots_per_s_streamed']:10.0f}{joules[0]:>9}{joules[1]:>8}"
                    f"  {energy.get('reason', '')}"
                )
        lines.append(f"  {name}: {model.get('engine', 'not loaded')}")
        for how in ("eager", "graphs"):
            for batch, c in model.get(f"against_cpu_{how}", {}).items():
                lines.append(
                    f"  {how}, batch {batch}, against the CPU: LLRs of {c['rms_llr']:.3g} RMS "
                    f"differ by {c['rms_difference']:.2g} RMS, {c['max_difference']:.2g} at most; "
                    f"{c['bits_decided_otherwise']} of {c['bits']} bits decided otherwise"
                )
        lines += [f"  {part}: {error}" for part, error in model["errors"].items()]
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", help="model files (all of models/)")
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.log")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=0.15, help="of each timing")
    parser.add_argument("--energy-seconds", type=float, default=3.0, help="of each energy window")
    parser.add_argument("--budget", type=float, default=190.0, help="seconds for all models")
    parser.add_argument("--cpu-threads", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--library", type=Path, help="engine_c.so, if it is built already")
    hidden = argparse.SUPPRESS
    parser.add_argument("--worker", action="store_true", help=hidden)
    parser.add_argument("--result", type=Path, help=hidden)
    parser.add_argument("--brief", action="store_true", help=hidden)
    parser.add_argument("--no-tf32", dest="tf32", action="store_false", help=hidden)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    if arguments.worker:
        return worker(arguments)
    started = time.monotonic()
    arguments.out.mkdir(parents=True, exist_ok=True)
    models = arguments.models or [str(path) for path in sorted((ROOT / "models").glob("*.pt"))]
    with (arguments.out / "gpu.log").open("w") as log:

        def say(text):
            print(text, flush=True)
            log.write(text + "\n")
            log.flush()

        report = {"schema": "deeprx.gpu/1", "host": host(), "models": [], "errors": []}
        say(json.dumps(report["host"]))
        try:
            library = arguments.library or build(ROOT / "build" / "gpu")
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"bench: the engine was not built: {error}") from None
        nets = [(model, []) for model in models if "baseline" not in model]
        baselines = [(model, []) for model in models if "baseline" in model]
        variants = [(m, ["--brief", "--no-tf32"]) for m, _ in nets if precision(m) == "float32"]
        for model, options in nets + variants + baselines:
            left = arguments.budget - (time.monotonic() - started)
            if left < 8:
                report["errors"].append(f"{model} {' '.join(options)}: no time left")
                continue
            say(f"{model} {' '.join(options)}: {left:.0f} s left")
            result = arguments.out / "worker.json"
            result.unlink(missing_ok=True)
            command = [sys.executable, __file__, model, "--worker", "--result", str(result)]
            command += ["--out", str(arguments.out), "--library", str(library), *options]
            for name in ("device", "seconds", "energy_seconds", "cpu_threads"):
                command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
            try:
                done = subprocess.run(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=left,
                )
                say(done.stdout.rstrip()[-4000:])
                if done.returncode:
                    report["errors"].append(f"{model}: the process ended with {done.returncode}")
            except subprocess.TimeoutExpired as error:
                say((error.stdout or b"").decode(errors="replace")[-4000:])
                report["errors"].append(f"{model}: cut off after {left:.0f} s")
            if result.exists():
                report["models"].append(json.loads(result.read_text()))
                result.unlink()
            temporary = arguments.out / "gpu.json.part"
            temporary.write_text(json.dumps(report, indent=1))
            temporary.replace(arguments.out / "gpu.json")
        say(table(report))
        for line in report["errors"]:
            say(line)
        say(f"{time.monotonic() - started:.0f} s: {arguments.out / 'gpu.json'}")


if __name__ == "__main__":
    main()
