# SPDX-License-Identifier: GPL-3.0-or-later
"""What receivers take on this machine: the last steps of an experiment.

DIR/STEP/energy.json holds what was measured so far, and the same step goes on from there, on the
same device: the machine's rates under the step's precision, then each receiver at each batch size,
what its operators are, and its windows, in turns. Receivers run in PyTorch, one operator after
another; a published DeepRx or a narrower one runs twice, with its separable convolutions and with
the dense ones that they come to.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from deeprx_common.documents import read_document
from deeprx_common.energy import Idle, Meter, find_meter, measure, measure_idle
from deeprx_common.energy.benchmarks import (
    MachineBenchmarks,
    Timed,
    Work,
    find_power,
    machine_name,
    sm_clock_hz,
)
from deeprx_common.energy.machine import Benchmark, MachineProfile, Operator
from deeprx_common.energy.operators import count_operators
from deeprx_common.files import write_json
from deeprx_common.host import host, versions
from deeprx_common.schema import (
    COUNT,
    DICT,
    NUMBER,
    POSITIVE,
    TEXT,
    by_name,
    check,
    named,
    number,
    partial,
    several,
    table,
)
from deeprx_common.timing import in_turns

from ..export.export import to_precision
from ..receivers.contract import of_one_layer
from ..receivers.flop import example
from ..receivers.nets import DeepRx, count_parameters, dense_form
from ..reference import Reference
from ..teaching.checkpoint import load_receiver
from ..teaching.precision import channels_last
from .file import Energy, Experiment
from .group import explained

SCHEMA = "deeprx.energy/1"
FILE = "energy.json"
BITS = 4  # of a symbol: 16QAM
LAYERS = 3  # parts of a layer's name that tell blocks apart: net.blocks.4
_AMOUNT = number(0, 1e30)
_TOLD = ("flop", "clock", "traffic")
POINT = {
    "receiver": TEXT,
    "form": TEXT,
    "batch": POSITIVE,
    "params": COUNT,
    "windows": several(
        table(
            {
                "seconds": number(1e-12),
                "joules": NUMBER.or_null(),
                "net": NUMBER.or_null(),
                "bound": NUMBER.or_null(),
                "invalid": TEXT.or_null(),
                "clock_hz": _AMOUNT.or_null(),
            }
        )
    ),
}
COUNTED = {  # of a point before its first window
    "flop": _AMOUNT,
    "bytes": _AMOUNT,
    "predicted": table(
        dict.fromkeys([f"{name}_{unit}" for name in _TOLD for unit in "sj"], _AMOUNT)
        | {"roofline_s": _AMOUNT, "calls_s": _AMOUNT}
    ),
    "kinds": by_name(DICT),
    "layers": by_name(DICT),
}
RECORD = {
    "schema": named(SCHEMA),
    "step": DICT,
    "host": DICT,
    "versions": DICT,
    "device": TEXT,
    "threads": COUNT,
    "source": TEXT,
    "scope": TEXT,
    "kind": TEXT,
    "price": TEXT,
    "idle_w": NUMBER.or_null(),
    "machine": DICT.or_null(),
    "points": several(table(POINT | partial(COUNTED))),
}


@dataclass
class _Point:
    """A receiver in one form at one batch size; record: what the file says of it."""

    net: nn.Module
    batch: int
    record: dict
    timed: Timed | None = None
    inputs: tuple = field(default=())


def is_measured(energy: Energy, out: Path) -> bool:
    return measured_rounds(energy, out) >= energy.step.rounds


def measured_rounds(energy: Energy, out: Path) -> int:
    """How often each point of the step was measured at least."""
    known = read(out / energy.step.name / FILE)
    if known.get("step") != json.loads(json.dumps(asdict(energy.step))):
        return 0
    return min((len(point["windows"]) for point in known["points"]), default=0)


def measure_step(
    energy: Energy, experiment: Experiment, out: Path, device: str, threads: int, end: float
) -> None:
    """Measure what is missing. end: of its time, by time.monotonic(); then KeyboardInterrupt is
    raised, else what find_meter() and load_receiver() raise.
    """
    torch.set_num_threads(threads)
    file = out / energy.step.name / FILE
    with _products(short=energy.step.precision == "tf32"):
        _Step(energy, experiment, file, device, threads, end).run()


@contextmanager
def _products(short: bool) -> Iterator[None]:
    """float32 products as they are, or as TF32; cuDNN picks its fastest algorithms."""
    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    flags = cudnn.allow_tf32, cudnn.benchmark
    torch.set_float32_matmul_precision("high" if short else "highest")
    cudnn.allow_tf32, cudnn.benchmark = short, True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        cudnn.allow_tf32, cudnn.benchmark = flags


def measure_all(
    experiment: Experiment, out: Path, device: str, threads: int, end: float = math.inf
) -> dict[str, str]:
    """The steps that are not finished, one after another; returns {name: one line why} of those
    that failed. Raises KeyboardInterrupt when their time is over.
    """
    failed = {}
    for energy in experiment.energy:
        name = energy.step.name
        if is_measured(energy, out):
            continue
        try:
            measure_step(energy, experiment, out, device, threads, end)
        except Exception as error:
            failed[name] = explained(error)
            print(f"failed {name}: {failed[name]}", file=sys.stderr)
        else:
            print(f"finished {name}: {_said(out / name / FILE)}")
    return failed


def _said(file: Path) -> str:
    """Where a step's joules come from."""
    record = read(file)
    windows = [window for point in record["points"] for window in point["windows"]]
    lines = [record["source"], *(w["invalid"] for w in windows if w["invalid"])]
    return "; ".join(dict.fromkeys(lines))


class _Step:
    def __init__(self, energy, experiment, file, device, threads, end):
        self.step, self.file, self.device, self.threads = energy.step, file, device, threads
        self.end = end
        file.parent.mkdir(parents=True, exist_ok=True)
        self.meter: Meter = find_meter(device)
        counted = self.meter.kind == "measured"
        self.idle: Idle | None = measure_idle(self.meter) if counted else None
        new, known = self._begin(), read(file)
        begun = all(known.get(key) == new[key] for key in ("step", "device", "threads", "source"))
        self.record = known if begun else new
        self.points = list(self._points(energy.references, experiment))
        self.record["points"] = [point.record for point in self.points]

    def run(self) -> None:
        if not self.record["machine"]:
            power = find_power(self.device, self.threads, self.meter, self.idle)
            benchmarks = MachineBenchmarks(
                self.device, self.threads, self.meter, power, self.step.calibrate_s
            )
            for _ in benchmarks.run():
                self._in_time()
            self.record["machine"] = benchmarks.profile().as_dict()
            self._keep()
        profile = profile_of(self.record["machine"])
        for point in self.points:
            if "predicted" not in point.record:
                self._in_time()
                self._count(point, profile)
        for k in range(self.step.rounds):
            for point in in_turns(self.points, k):
                if len(point.record["windows"]) <= k:
                    self._in_time()
                    self._measure(point)

    @property
    def _on_cpu(self) -> bool:
        """Whether the meter counts everything that runs on the machine's processors."""
        return self.meter.price.device == "cpu"

    def _in_time(self) -> None:
        if time.monotonic() > self.end:
            raise KeyboardInterrupt

    def _keep(self) -> None:
        write_json(self.record, self.file)

    def _begin(self) -> dict:
        meter = self.meter
        return {
            "schema": SCHEMA,
            "step": json.loads(json.dumps(asdict(self.step))),
            "host": host(),
            "versions": versions("torch"),
            "device": machine_name(self.device),
            "threads": self.threads,
            "source": meter.source,
            "scope": meter.scope,
            "kind": "attributed" if self._on_cpu and meter.kind == "measured" else meter.kind,
            "price": str(meter.price),
            "idle_w": self.idle and self.idle.watts,
            "machine": None,
            "points": [],
        }

    def _points(self, references, experiment):
        known = {(p["receiver"], p["form"], p["batch"]): p for p in self.record["points"]}
        for reference in references:
            net = load_receiver(reference, rebuild=True)[1]
            named = Reference.parse(reference)
            name = named.file.stem if named.is_model_file else named.member
            forms: dict[str, Callable[[], nn.Module]] = {"": lambda net=net: net}
            if isinstance(net, DeepRx):
                forms = {"separable": forms[""], "dense": lambda net=net: dense_form(net)}
            for form, make_form in forms.items():
                formed = to_precision(make_form().eval(), self.step.precision).to(self.device)
                formed = of_one_layer(channels_last(formed))
                for batch in self.step.batches:
                    new = {
                        "receiver": name,
                        "form": form,
                        "batch": batch,
                        "params": count_parameters(net),
                        "windows": [],
                    }
                    point = _Point(formed, batch, known.get((name, form, batch), new))
                    y, p = example(experiment.n_rx, experiment.n_prb, batch)
                    point.inputs = y.to(self.device), p.to(self.device)
                    yield point

    def _timed(self, point: _Point) -> Timed:
        if point.timed is None:
            work = Work(
                "receiver", self.step.precision, 0.0, 0.0, lambda: point.net(*point.inputs, BITS)
            )
            point.timed = Timed(work, self.device, self.threads)
        return point.timed

    def _count(self, point: _Point, profile: MachineProfile) -> None:
        """What its operators are, and what the machine's rates say of them."""
        timed = self._timed(point)
        operators = count_operators(timed.work.run, self.device, point.net)
        kinds, layers = {}, {}
        for o in operators:
            _add(kinds.setdefault(o.kind, {}), o)
            if point.batch == max(self.step.batches):
                block = ".".join(o.layer.split(".")[:LAYERS])
                _add(layers.setdefault(block, {}), o)
        predicted = profile.predict(operators)
        point.record |= {
            "flop": predicted.flop,
            "bytes": predicted.bytes,
            "predicted": asdict(predicted),
            "kinds": kinds,
            "layers": layers,
        }
        self._keep()

    def _measure(self, point: _Point) -> None:
        timed = self._timed(point)
        timed.seconds.clear()
        window = measure(self.meter, timed, self.step.window_s, self.idle)
        if self._on_cpu:
            window = window.attributed()
        slots = window.slots * point.batch
        point.record["windows"].append(
            {
                "slots": slots,
                "seconds": sum(timed.seconds) / len(timed.seconds) / point.batch,
                "cpu_s": window.cpu_s / slots,
                "joules": _of(window.joules, slots),
                "net": _of(window.net_j, slots),
                "bound": _of(window.bound_j, slots),
                "invalid": window.reason or None,
                "clock_hz": None if self.device == "cpu" else sm_clock_hz(self.device),
            }
        )
        self._keep()


def _of(joules: float | None, slots: int) -> float | None:
    return None if joules is None else joules / slots


def _add(total: dict, o: Operator) -> None:
    for key, value in (("flop", o.flop), ("bytes", o.bytes), ("seconds", o.seconds), ("calls", 1)):
        total[key] = total.get(key, 0) + value


def profile_of(machine: dict) -> MachineProfile:
    """A machine's profile out of its JSON."""
    about = {k: v for k, v in machine.items() if k != "schema"}
    benchmarks = (Benchmark(**b | {"spread": tuple(b["spread"])}) for b in about.pop("benchmarks"))
    return MachineProfile(**about, benchmarks=tuple(benchmarks))


def read(file: Path) -> dict:
    """What was measured so far; of a file that is none, nothing."""
    try:
        record = read_document(file, RECORD, "an energy step", "./dev train experiment")
        for point in record["points"]:
            check(point, COUNTED if point["windows"] else {}, "a point")
        if record["machine"]:
            profile_of(record["machine"])
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return record
