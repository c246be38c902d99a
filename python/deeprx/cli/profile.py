# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx profile: this machine's rates and power, and what they predict of receivers beside what is
measured of them.
"""

import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from deeprx_common import energy
from deeprx_common.energy.machine import KINDS, MachineProfile, Operator, Prediction, write_profile
from deeprx_common.terminal import make_console, number, steps, table

from .runners import (
    add_receivers,
    compare,
    make_runners,
    set_threads,
    show_engines,
)

MODEL_ROUNDS, MODEL_WINDOW_S = 3, 0.5


def configure(parser) -> None:
    parser.description = (
        "Measures matrix products, convolutions, copies and calls, the clock and the "
        "power (modelled where there is no counter). Then counts FLOP and bytes of receivers, "
        "TorchScript operator by operator, and compares three estimates with what is measured of "
        "the engine that the receiver block runs."
    )
    add = parser.add_argument
    add_receivers(parser)
    add("--out", type=Path, default=Path("machine.json"), metavar="FILE", help="(machine.json)")
    add("--seconds", type=float, default=20.0, help="of measuring the machine (20)")


@dataclass(frozen=True)
class ModelCost:
    """What a receiver takes of a machine: counted, predicted from its profile, measured.

    engine: what was measured. operators, predicted: always TorchScript's. seconds: of an inference,
    CPU time where it has one thread. joules: of a slot, where there is a counter.
    """

    name: str
    sha256: str
    engine: str
    operators: list[Operator]
    predicted: Prediction
    seconds: float
    joules: energy.Estimate | None

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
        measured = {"seconds": self.seconds, "joules": self.joules and asdict(self.joules)}
        return {
            "receiver": self.name,
            "model_sha256": self.sha256,
            "engine": self.engine,
            "predicted": asdict(self.predicted),
            "measured": measured,
            "share_of_time": self.share_of_time,
            "operators": [asdict(o) for o in self.operators],
        }


def run(arguments) -> int:
    from ..measure.machine import ROUNDS, MachineBenchmarks, find_power

    a = arguments
    if not 0 < a.seconds <= 600:
        raise ValueError(f"--seconds must be above 0 and at most 600, got {a.seconds:g}")
    console = make_console()
    set_threads(a.threads)
    runners = make_runners(a)
    meter = energy.find_meter(a.device, a.meter, a.core_power)
    power = find_power(a.device, a.threads, meter, a.idle_power)
    a.out.parent.mkdir(parents=True, exist_ok=True)
    benchmarks = MachineBenchmarks(a.device, a.threads, meter, power, a.seconds)
    comparison = compare(runners, meter, power.idle, MODEL_WINDOW_S)
    stopped = False
    try:
        with steps(console, ROUNDS * len(benchmarks) + MODEL_ROUNDS) as advance:
            for _ in range(ROUNDS):
                for what in benchmarks.run_round():
                    advance(what)
            for _ in range(MODEL_ROUNDS):
                advance("receivers in turns")
                comparison.run_round()
    except KeyboardInterrupt:
        stopped = True
    if benchmarks.rounds == 0:
        print("deeprx: stopped; nothing was measured", file=sys.stderr)
        return 130
    profile = benchmarks.profile()
    models = [_cost(r, a, profile, comparison) for r in runners if comparison.rounds]
    write_profile(profile, a.out, models=[m.as_dict() for m in models])
    _show_machine(profile, console)
    if models:
        _show_models(models, profile, console)
        show_engines(runners, console)
    if stopped:
        print(f"deeprx: stopped; what was measured: {a.out}", file=sys.stderr)
        return 130
    console.print(f"profile: {a.out}", soft_wrap=True)
    return 0


def _cost(runner, arguments, profile: MachineProfile, comparison) -> ModelCost:
    from ..models.cost import count_operators
    from ..models.runner import TorchScriptRunner

    a = arguments
    # on a CPU, where operators are not fused, and their time is their own
    operators = count_operators(TorchScriptRunner(runner.model, runner.config, a.n_rx).infer)
    alone = a.device == "cpu" and a.threads == 1
    joules = comparison.energy(runner.name) if profile.power_kind != "modelled" else None
    return ModelCost(
        runner.name,
        runner.model.sha256,
        runner.description,
        operators,
        profile.predict(operators),
        statistics.median(runner.cpu_seconds if alone else runner.seconds),
        joules,
    )


def _show_machine(profile: MachineProfile, console: Console) -> None:
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


def _show_models(models: list[ModelCost], profile: MachineProfile, console: Console) -> None:
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
        f"Energy of one slot in mJ, {profile.power_kind}",
        "receiver", "measured", "FLOP only", "FLOP/clock", "with traffic, calls, idle",
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
        counted = m.joules and m.joules.mean
        joules.add_row(
            m.name,
            number(counted, 1e3),
            *(_against(j, counted) for j in (p.flop_j, p.clock_j, p.traffic_j)),
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
