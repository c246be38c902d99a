# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine's rates say of receivers, beside what is measured of them: estimates of time and
energy, and what they miss.
"""

import statistics
from dataclasses import asdict, dataclass

from rich.console import Console

from deeprx_common.energy.machine import (
    KINDS,
    Benchmark,
    MachineProfile,
    Operator,
    Prediction,
)
from deeprx_common.terminal import number, table


@dataclass(frozen=True)
class ModelCost:
    """What a receiver takes of a machine: counted, predicted from its profile, measured.

    engine: what was measured. operators, predicted: always TorchScript's. seconds: of a slot, CPU
    time where it has one thread. joules: of a slot, of the strongest kind there is.
    """

    name: str
    sha256: str
    engine: str
    operators: list[Operator]
    predicted: Prediction
    seconds: float
    joules: float | None

    @property
    def fused(self) -> bool:
        """Whether the engine runs other operators than those counted."""
        return not self.engine.startswith("TorchScript")

    @property
    def share_of_time(self) -> dict[str, float | None]:
        """As Prediction.parts(); of a fused engine's time only FLOP's share is known."""
        parts = self.predicted.parts(self.seconds)
        if self.fused:
            parts |= {"memory": None, "kernels": None, "calls": None, "rest": 1 - parts["flop"]}
        return parts

    def as_dict(self) -> dict:
        measured = {"seconds": self.seconds, "joules": self.joules}
        return {
            "receiver": self.name,
            "model_sha256": self.sha256,
            "engine": self.engine,
            "predicted": asdict(self.predicted),
            "measured": measured,
            "share_of_time": self.share_of_time,
            "operators": [asdict(o) for o in self.operators],
        }


def count(runner, profile: MachineProfile, joules: float | None) -> ModelCost:
    """Of an EngineRunner: its operators on a CPU, where they are not fused and their time is
    theirs.
    """
    from deeprx_common.energy.operators import count_operators

    from ..models.runner import torchscript_call

    operators = count_operators(torchscript_call(runner.model, runner.config, runner.n_rx))
    lone = profile.device == "cpu" and profile.threads == 1
    return ModelCost(
        runner.name,
        runner.model.sha256,
        runner.description,
        operators,
        profile.predict(operators),
        statistics.median(runner.cpu_seconds if lone else runner.seconds) / runner.batch,
        joules,
    )


def show_machine(profile: MachineProfile, console: Console) -> None:
    p = profile

    def rate(b) -> float | None:
        return p.flop_per_s(b.kind, b.dtype) if b.flop else None

    where = f"{p.machine}, {p.device}, {p.threads} {'thread' if p.threads == 1 else 'threads'}"
    rows = table(
        where,
        p.benchmarks,
        [
            ("\nbenchmark", lambda b: b.kind if b.flop else _copied(b)),
            ("\nprecision", lambda b: b.dtype if b.flop else ""),
            ("\nGFLOP/s", lambda b: number(rate(b), 1e-9)),
            ("FLOP/\nclock", lambda b: number(p.clock_hz and rate(b) and rate(b) / p.clock_hz)),
            ("\nGB/s", lambda b: number(b.bytes / b.seconds, 1e-9) if b.bytes else "-"),
            ("\ntime, µs", lambda b: number(b.seconds, 1e6)),
            ("\nspread", lambda b: f"{100 * (b.spread[1] - b.spread[0]) / b.seconds:.0f} %"),
            (
                f"pJ/FLOP\n{p.power_kind}",
                lambda b: number(p.j_per_flop(b.kind, b.dtype), 1e12) if b.flop else "-",
            ),
            (
                f"pJ/byte\n{p.power_kind}",
                lambda b: number(p.j_per_byte(b.bytes), 1e12) if b.kind == "copy" else "-",
            ),
        ],
        left=2,
    )
    console.print(rows)
    clock = f"{p.clock_hz / 1e9:.2f} GHz" if p.clock_hz else "unknown"
    console.print(f"clock under load: {clock} ({p.clock_source})")
    watts = f"{p.idle_w:.3g} W at rest, {p.busy_w():.3g} W in a matrix product"
    console.print(f"power, {p.power_kind}: {watts}: {p.power_source}")
    rate_per_w = p.flop_per_s_per_w() / 1e9
    console.print(f"{rate_per_w:.3g} GFLOP/s/W {p.power_kind}, float32\n")


def _copied(benchmark: Benchmark) -> str:
    """The name of a benchmark without FLOP."""
    if benchmark.kind != "copy":
        return benchmark.kind
    size = benchmark.bytes / 2
    return f"copy, {size / 2**10:.0f} KiB" if size < 2**20 else f"copy, {size / 2**20:.0f} MiB"


def _against(estimate: float, measured: float | None) -> str:
    error = "" if measured is None else f" {100 * (estimate / measured - 1):+5.0f} %"
    return f"{number(estimate, 1e3)}{error}"


def show(models: list[ModelCost], profile: MachineProfile, kind: str, console: Console) -> None:
    """kind: of the models' joules."""

    def show_table(title: str, *columns) -> None:
        console.print(table(title, models, [("receiver", lambda m: m.name), *columns]))

    def error(estimate: str, measured: str):
        return lambda m: _against(getattr(m.predicted, estimate), getattr(m, measured))

    def share(part: str):
        return lambda m: _percent(m.share_of_time[part])

    show_table(
        "Roofline of one slot",
        ("MFLOP", lambda m: number(m.predicted.flop, 1e-6)),
        ("MB moved", lambda m: number(m.predicted.bytes, 1e-6)),
        ("FLOP/\nbyte", lambda m: number(m.predicted.intensity)),
        ("bound\nby", lambda m: m.predicted.bound),
        ("attainable\nGFLOP/s", lambda m: number(m.predicted.attainable, 1e-9)),
        ("reached\nGFLOP/s", lambda m: number(m.predicted.flop / m.seconds, 1e-9)),
    )
    show_table(
        "Time of one slot in ms, and each estimate's error",
        ("measured", lambda m: number(m.seconds, 1e3)),
        ("FLOP only", error("flop_s", "seconds")),
        ("FLOP/clock", error("clock_s", "seconds")),
        ("with traffic and calls", error("traffic_s", "seconds")),
    )
    show_table(
        "What explains the measured time",
        ("FLOP", share("flop")),
        ("memory traffic", share("memory")),
        ("slower kernels", share("kernels")),
        ("calls", share("calls")),
        ("unexplained", share("rest")),
    )
    show_table(
        "TorchScript's time in ms by kind of operator, measured one by one (predicted with "
        "traffic, calls)",
        *((o, lambda m, o=o: _of_kind(m, profile, o)) for o in KINDS),
    )
    show_table(
        f"Estimates of the energy of one slot in mJ beside what is {kind}, and each one's error",
        (kind, lambda m: number(m.joules, 1e3)),
        ("FLOP/W", error("flop_j", "joules")),
        ("FLOP/clock", error("clock_j", "joules")),
        ("with traffic, calls, idle", error("traffic_j", "joules")),
    )
    for m in models:
        console.print(_verdict(m), soft_wrap=True)


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{100 * part:.0f} %"


def _of_kind(model: ModelCost, profile: MachineProfile, kind: str) -> str:
    operators = [o for o in model.operators if o.kind == kind]
    if not operators:
        return "-"
    seconds, predicted = sum(o.seconds for o in operators), profile.predict(operators)
    return f"{number(seconds, 1e3)} ({number(predicted.traffic_s, 1e3)})"


def _verdict(model: ModelCost) -> str:
    """Whether FLOP alone predict a receiver's time, and whether memory traffic is why not."""
    parts = model.share_of_time
    flop, memory = parts.pop("flop"), parts["memory"]
    if model.fused:
        return (
            f"{model.name}: FLOP alone explain {100 * flop:.0f} % of its time. Traffic and calls "
            "are those of TorchScript's operators, which this engine fuses: an estimate of "
            f"{number(model.predicted.traffic_s / model.seconds)} times its time"
        )
    names = {
        "memory": "memory traffic", "kernels": "kernels slower than a matrix product",
        "calls": "calls of operators", "rest": "what none of the rates explains",
    }  # fmt: skip
    largest = max(parts, key=parts.get)
    return (
        f"{model.name}: FLOP alone explain {100 * flop:.0f} % of its time, memory traffic "
        f"{100 * memory:.0f} % more; the largest other part is {names[largest]}, "
        f"{100 * parts[largest]:.0f} %"
    )
