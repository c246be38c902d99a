# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx energy: what a slot costs receivers on this machine, measured in turns, and what error
rate that buys.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from deeprx_common import energy, report, report_view
from deeprx_common.checks import check_above, check_range
from deeprx_common.energy.machine import MachineProfile
from deeprx_common.files import write_json
from deeprx_common.options import list_of
from deeprx_common.shipped import shipped_models
from deeprx_common.slot import N_SYMBOLS, SlotConfig
from deeprx_common.stats import mean_ci95
from deeprx_common.terminal import interval, make_console, number, steps, table

from ..measure.points import new_report
from ..models.file import labels
from ..models.runner import EngineRunner
from .estimates import ModelCost, count, show, show_machine
from .options import (
    METERING,
    SLOT,
    TRUST,
    Unset,
    add_options,
    open_meter,
    out_folder,
    read_models,
    single,
    slot_config,
)

_RATE = (
    "channel", "delay_spread_s", "doppler_hz", "domain", "sinr_db", "snr_db", "sir_db", "seed",
    "slots", "clusters", "missed_slots", "bits", "bit_errors", "ber", "ber_ci95",
)  # fmt: skip
_NO_RATE = {"domain": "none", "slots": 0, "missed_slots": 0}


def configure(parser) -> None:
    parser.description = (
        "Runs receivers in turns (A B B A), so that a drift of clock or temperature is "
        "the same for all. Error rates come from --report, else from the model files' own tables."
    )
    add = parser.add_argument
    add_options(parser, receiver=Unset("the shipped ones"))
    add_options(parser, *TRUST, "engine", "device", "threads", *SLOT, "n_rx", *METERING)
    add("--batch", type=list_of(int), default=[1], metavar="SLOTS,..", help="of an inference (1)")
    add("--rounds", type=int, default=5, help="(5)")
    add(
        "--window",
        type=float,
        default=1.0,
        metavar="S",
        help="seconds of one, two a receiver and round (1)",
    )
    add(
        "--calibrate",
        type=float,
        nargs="?",
        const=20.0,
        metavar="S",
        help="measure this machine's rates, clock and power first (20 s), write machine.json, and "
        "set the study's estimates of time and energy beside what is measured",
    )
    add("--report", type=Path, metavar="FILE", help="report.json that holds error rates")
    add_options(parser, sinr=[12.0])
    add("--ber-channel", metavar="NAME", help="of the error rates, where a report holds several")
    add_options(parser, "out")


def run(arguments) -> int:
    a = arguments
    _check(a)
    known = report.read(a.report)["points"] if a.report else None
    runners = _runners(a)
    rates = [error_rate(runner, known, a) for runner in runners]
    meter, idle = open_meter(a)
    folder = out_folder(a)
    console = make_console()
    machine = _benchmarks(a, meter, idle) if a.calibrate else None
    comparison = energy.Comparison(
        meter,
        {runner.name: runner for runner in runners},
        a.window,
        idle,
        bits_per_slot=runners[0].config.n_bits,
        attribute=a.device == "cpu",
    )

    def measured() -> list[dict]:
        both = zip(runners, rates, strict=True) if comparison.rounds else ()
        return [_point(runner, a, meter, comparison, rate) for runner, rate in both]

    def keep(points: list[dict], costs: Sequence[ModelCost] = ()) -> list[Path]:
        """The files of what was measured so far."""
        files = []
        if points:
            files.append(folder / "report.json")
            report.write(new_report() | {"points": points}, files[0])
        if machine and machine.begun:
            models = {"models": [cost.as_dict() for cost in costs]}
            files.append(write_json(machine.profile().as_dict() | models, folder / "machine.json"))
        return files

    stopped = _measure(machine, comparison, a.rounds, console, lambda: keep(measured()))
    profile = machine.profile() if machine and machine.rounds else None
    points, costs = measured(), []
    kind = report_view.strongest_kind(points)
    if profile:
        show_machine(profile, console)
    if profile and points:
        both = zip(runners, points, strict=True)
        costs = [_estimated(runner, point, profile, kind) for runner, point in both]
    files = keep(points, costs)
    if points:
        _show(points, runners, comparison, meter, console)
        if profile:
            show(costs, profile, kind, console)
        if report_view.frontier(points, folder / "frontier.png"):
            files.append(folder / "frontier.png")
    where = ", ".join(map(str, files))
    if stopped:
        kept = f"what was measured: {where}" if files else "nothing was measured"
        print(f"deeprx: stopped; {kept}", file=sys.stderr)
        return 130
    unknown = [runner.name for runner, rate in zip(runners, rates, strict=True) if not rate]
    if unknown:
        console.print(
            f"no error rate at {a.sinr:g} dB of {', '.join(unknown)}: a --report that holds it "
            "puts it on the frontier",
        )
    console.print(f"{a.rounds} rounds: {where}", soft_wrap=True)
    return 0


def _check(a) -> None:
    if a.rounds < 1 or min(a.batch) < 1:
        raise ValueError(
            f"--rounds and --batch must be at least 1, got {a.rounds} and {min(a.batch)}"
        )
    a.sinr = single(a.sinr, "--sinr")
    check_above("--window", a.window, 0, "s")
    if a.calibrate is not None and not 0 < a.calibrate <= 600:
        raise ValueError(f"--calibrate must be above 0 s and at most 600, got {a.calibrate:g}")
    check_range("--threads", a.threads, 1)


def _measure(
    machine, comparison: energy.Comparison, rounds: int, console: Console, keep: Callable[[], None]
) -> bool:
    """The machine first, where there are benchmarks of it; keep() after each of them and after each
    round. Returns whether Ctrl-C ended it.
    """
    try:
        with steps(console, rounds + (machine.steps if machine else 0)) as advance:
            for what in machine.run() if machine else ():
                advance(what)
                keep()
            for k in range(rounds):
                advance(f"round {k + 1} of {rounds}")
                comparison.run_round()
                keep()
    except KeyboardInterrupt:
        return True
    return False


def _runners(arguments) -> list[EngineRunner]:
    """Of each receiver that was asked for, at each batch size."""
    a = arguments
    config = slot_config(a)
    models = read_models(dict.fromkeys(a.receiver or shipped_models()), a)
    if a.calibrate:  # which runs their operators here
        for model in models:
            model.expect_trusted()
    runners = []
    for model, name in zip(models, labels(models), strict=True):
        for batch in dict.fromkeys(a.batch):
            runners.append(
                EngineRunner(model, config, a.n_rx, a.device, batch, a.engine, a.threads)
            )
            runners[-1].name = f"{name}, batch {batch}" if batch > 1 else name
    return runners


def _benchmarks(arguments, meter: energy.Meter, idle: energy.Idle | None):
    # PyTorch: it takes seconds
    from deeprx_common.energy.benchmarks import MachineBenchmarks, find_power

    from ..deeprx_python import core_clock_hz

    a = arguments
    power = find_power(a.device, a.threads, meter, idle)
    return MachineBenchmarks(a.device, a.threads, meter, power, a.calibrate, core_clock_hz)


def _estimated(runner: EngineRunner, point: dict, profile: MachineProfile, kind: str):
    """A receiver's ModelCost, its estimates of energy put into the point as well."""
    joules = point["energy_per_slot_j"]
    model = count(runner, profile, joules.get(kind))
    joules["estimates"] = {
        "flop": model.predicted.flop_j,
        "flop_per_clock": model.predicted.clock_j,
        "traffic": model.predicted.traffic_j,
    }
    return model


def error_rate(runner: EngineRunner, known: Sequence[dict] | None, arguments) -> dict:
    """What is known of a receiver's errors: keys of a report's point; empty: nothing.

    known: a report's points, or None for the model file's own table. Raises ValueError where it is
    not unique.
    """
    a, model = arguments, runner.model
    if known is None:
        of_receiver = [
            _of_table(p, runner.config, a.n_rx)
            for p in model.metadata.get("ber", [])
            if p["domain"] == "frequency"
        ]
    else:
        of_receiver = [
            p
            for p in known
            if p["receiver"] == model.name and p["model_sha256"] in (None, model.sha256)
        ]
    rates = [
        p
        for p in of_receiver
        if p["ber"] is not None
        and _received(p) == _received({"slot": runner.config.as_dict(), "n_rx": a.n_rx})
        and p["sinr_db"] is not None
        and abs(p["sinr_db"] - a.sinr) < 1e-6
        and a.ber_channel in (None, p["channel"])
    ]
    if len(rates) > 1:
        where = ", ".join(str(p["channel"]) for p in rates)
        raise ValueError(
            f"expected one error rate of {model.name} at {a.sinr:g} dB, found {len(rates)} "
            f"({where}): name a --ber-channel"
        )
    return {key: rates[0].get(key) for key in _RATE} if rates else {}


def _received(point: dict) -> tuple:
    """What makes a difference to a receiver: antennas, and the slot without identities, carrier and
    code. A report of schema 1 knows one kind of slot.
    """
    if not point.get("slot"):
        user = [(point["modulation"], 0)]
        return point["n_rx"], point["n_prb"], 15, N_SYMBOLS, tuple(point["dmrs"]), 1, user
    s = SlotConfig.from_dict(point["slot"])
    users = [(user.modulation, user.port) for user in s.users]
    return point["n_rx"], s.n_prb, s.scs_khz, s.n_symbols, s.dmrs, s.cdm_groups, users


def _of_table(measured: dict, config: SlotConfig, n_rx: int) -> dict:
    """A row of a model file's table, which says of the slot DMRS and modulation, as a report has
    it.
    """
    bits = measured["slots"] * config.n_bits
    return measured | {
        "n_rx": n_rx,
        "n_prb": config.n_prb,
        "bits": bits,
        "bit_errors": round(measured["ber"] * bits),
        "snr_db": measured["sinr_db"],
        "missed_slots": 0,
    }


def _point(runner, a, meter, comparison, rate) -> dict:
    name, config = runner.name, runner.config
    windows = [window for windows in comparison.rounds for window in windows[name]]
    served = sum(window.slots for window in windows)
    inference_s = np.divide(runner.seconds, runner.batch)
    cpu_s = sum(window.cpu_s for window in windows) / served
    busy_s = cpu_s if a.device == "cpu" else float(np.mean(inference_s))
    point = report.point(
        cluster_errors=[],
        cluster_bits=[],
        inference_s=inference_s,
        receiver=name,
        model_sha256=runner.model.sha256,
        modulation=config.modulation,
        n_prb=config.n_prb,
        n_rx=a.n_rx,
        dmrs=list(config.dmrs),
        layers=config.n_layers,
        slot=config.as_dict(),
        cpu_s_per_slot=cpu_s,
        flop_per_slot=runner.model.flop_per_slot(config.n_prb, a.n_rx),
        energy_per_slot_j=_energy(name, busy_s, a.device, meter, comparison),
        **_NO_RATE,
    )
    seconds, ci95 = mean_ci95(
        [
            sum(w.seconds for w in windows[name]) / sum(w.slots for w in windows[name])
            for windows in comparison.rounds
        ]
    )
    return (
        point
        | rate
        | {
            "batch": runner.batch,
            "precision": runner.model.metadata.get("precision", "float32"),
            "engine": runner.description,
            "threads": a.threads,
            "energy_slots": served,
            "seconds_per_slot": seconds,
            "seconds_per_slot_ci95": ci95 and [max(0.0, ci95[0]), ci95[1]],
        }
    )


def _energy(name, busy_s, device, meter, comparison) -> dict:
    """energy_per_slot_j, with the interval over rounds where a meter counted. busy_s: of a slot."""
    modelled = energy.energy_per_slot(source=meter.source) | {
        "modelled": meter.price.joules(busy_s),
        "model": str(meter.price),
    }
    if meter.kind == "none":
        return modelled
    gross, net = comparison.energy(name), comparison.energy(name, net=True)
    return modelled | {
        "attributed" if device == "cpu" else "measured": gross.mean,
        "net": net.mean,
        "bound": gross.bound,
        "scope": meter.scope,
        "invalid": gross.invalid[0] if gross.mean is None and gross.invalid else None,
        "ci95": gross.ci95 and list(gross.ci95),
    }


def _show(points: list[dict], runners, comparison, meter, console: Console) -> None:
    kind = report_view.strongest_kind(points)
    rows = table(
        f"Time and energy of one slot, receivers in turns, {len(comparison.rounds)} rounds",
        [(p, p["energy_per_slot_j"]) for p in points],
        [
            ("\nreceiver", lambda row: row[0]["receiver"]),
            ("ms a\nslot", lambda row: number(row[0]["seconds_per_slot"], 1e3)),
            ("\n95 % interval", lambda row: interval(row[0]["seconds_per_slot_ci95"], 1e3)),
            ("slots\n/s", lambda row: number(1 / row[0]["seconds_per_slot"])),
            ("CPU\nms", lambda row: number(row[0]["cpu_s_per_slot"], 1e3)),
            (f"mJ a slot\n{kind}", lambda row: number(row[1].get(kind), 1e3)),
            ("\n95 % interval", lambda row: interval(row[1].get("ci95"), 1e3)),
            ("net of\nidle", lambda row: number(row[1]["net"], 1e3)),
            ("\nBER", lambda row: "-" if row[0]["ber"] is None else f"{row[0]['ber']:.2e}"),
            ("\n95 % interval", lambda row: _rate_interval(row[0]["ber_ci95"])),
        ],
    )
    console.print(rows)
    first, *others = (p["receiver"] for p in points)
    for name in others if meter.kind != "none" else []:
        difference = comparison.difference(name, first)
        if difference.ci95:
            low, high = difference.ci95
            console.print(
                f"{name} - {first}: {difference.mean * 1e3:+.3g} mJ [{low * 1e3:+.3g}, "
                f"{high * 1e3:+.3g}] a slot, {kind}, ±{difference.bound * 1e3:.2g} mJ by ticks",
            )
    for runner in runners:
        console.print(f"{runner.name}: {runner.description}")
    for line in report_view.energy_sources(points):
        console.print(f"energy: {line}")


def _rate_interval(ci95: Sequence[float] | None) -> str:
    return "-" if ci95 is None else "{:.1e} {:.1e}".format(*ci95)
