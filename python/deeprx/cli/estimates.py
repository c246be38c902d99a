# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine's rates say of receivers, beside what is measured of them: estimates of time and
energy, and what they miss.
"""

import statistics
from dataclasses import asdict, dataclass

from rich.console import Console

from deeprx_common.energy.machine import KINDS, MachineProfile, Operator, Prediction
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
    """Of a runner: its operators on a CPU, where they are not fused and their time is theirs."""
    from ..models.cost import count_operators
    from ..models.runner import TorchScriptRunner

    alone = TorchScriptRunner(
        runner.model, runner.config, runner.n_rx, precision=runner.converted_to
    )
    operators = count_operators(alone.infer)
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
    joules = p.power_kind
    where = f"{p.machine}, {p.device}, {p.threads} {'thread' if p.threads == 1 else 'threads'}"
    rows = table(
        where,
        "\nbenchmark", "\nprecision", "\nGFLOP/s", "FLOP/\nclock", "\nGB/s", "\ntime, µs",
        "\nspread", f"pJ/FLOP\n{joules}", f"pJ/byte\n{joules}",
        left=2,
    )  # fmt: skip
    for b in p.benchmarks:
        spread = f"{100 * (b.spread[1] - b.spread[0]) / b.seconds:.0f} %"
        rate = p.flop_per_s(b.kind, b.dtype) if b.flop else None
        clocks = rate / p.clock_hz if rate and p.clock_hz else None
        copy = b.kind == "copy"
        rows.add_row(
            f"copy, {_size(b.bytes / 2)}" if copy else b.kind,
            "" if copy or not b.flop else b.dtype,
            number(rate, 1e-9),
            number(clocks),
            number(b.bytes / b.seconds, 1e-9) if b.bytes else "-",
            number(b.seconds, 1e6),
            spread,
            number(p.j_per_flop(b.kind, b.dtype), 1e12) if b.flop else "-",
            number(p.j_per_byte(b.bytes), 1e12) if copy else "-",
        )
    console.print(rows)
    clock = f"{p.clock_hz / 1e9:.2f} GHz" if p.clock_hz else "unknown"
    console.print(f"clock under load: {clock} ({p.clock_source})", markup=False)
    watts = f"{p.idle_w:.3g} W at rest, {p.busy_w():.3g} W in a matrix product"
    console.print(f"power, {p.power_kind}: {watts}: {p.power_source}", markup=False)
    console.print(f"{p.flop_per_s_per_w() / 1e9:.3g} GFLOP/s/W {joules}, float32\n", markup=False)


def _size(count: float) -> str:
    return f"{count / 2**10:.0f} KiB" if count < 2**20 else f"{count / 2**20:.0f} MiB"


def _against(estimate: float, measured: float | None) -> str:
    error = "" if measured is None else f" {100 * (estimate / measured - 1):+5.0f} %"
    return f"{number(estimate, 1e3)}{error}"


def show(models: list[ModelCost], profile: MachineProfile, kind: str, console: Console) -> None:
    """kind: of the models' joules."""
    roofline = table(
        "Roofline of one slot",
        "\nreceiver", "\nMFLOP", "\nMB moved", "FLOP/\nbyte", "bound\nby",
        "attainable\nGFLOP/s", "reached\nGFLOP/s",
    )  # fmt: skip
    times = table(
        "Time of one slot in ms, and each estimate's error",
        "receiver", "measured", "FLOP only", "FLOP/clock", "with traffic and calls",
    )  # fmt: skip
    joules = table(
        f"Estimates of the energy of one slot in mJ beside what is {kind}, and each one's error",
        "receiver", kind, "FLOP/W", "FLOP/clock", "with traffic, calls, idle",
    )  # fmt: skip
    parts = table(
        "What explains the measured time",
        "receiver", "FLOP", "memory traffic", "slower kernels", "calls", "unexplained",
    )  # fmt: skip
    kinds = table(
        "TorchScript's time in ms by kind of operator, measured one by one (predicted with "
        "traffic, calls)",
        "receiver", *KINDS,
    )  # fmt: skip
    for m in models:
        p = m.predicted
        roofline.add_row(
            m.name, number(p.flop, 1e-6), number(p.bytes, 1e-6), number(p.intensity), p.bound,
            number(p.attainable, 1e-9), number(p.flop / m.seconds, 1e-9),
        )  # fmt: skip
        times.add_row(
            m.name,
            number(m.seconds, 1e3),
            *(_against(s, m.seconds) for s in (p.flop_s, p.clock_s, p.traffic_s)),
        )
        joules.add_row(
            m.name,
            number(m.joules, 1e3),
            *(_against(j, m.joules) for j in (p.flop_j, p.clock_j, p.traffic_j)),
        )
        parts.add_row(m.name, *map(_percent, m.share_of_time.values()))
        kinds.add_row(m.name, *(_of_kind(m, profile, kind) for kind in KINDS))
    for rows in (roofline, times, parts, kinds, joules):
        console.print(rows)
    for m in models:
        console.print(_verdict(m), markup=False, soft_wrap=True)


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{100 * part:.0f} %"


def _of_kind(model: ModelCost, profile: MachineProfile, kind: str) -> str:
    found = [o for o in model.operators if o.kind == kind]
    measured, predicted = sum(o.seconds for o in found), profile.predict(found).traffic_s
    return f"{number(measured, 1e3)} ({number(predicted, 1e3)})" if found else "-"


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
