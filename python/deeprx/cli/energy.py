# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx energy: what a slot costs receivers on this machine, measured in turns, and what error
rate that buys.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from deeprx_common import energy, report, report_view
from deeprx_common.energy.machine import read_profile, write_profile
from deeprx_common.options import list_of, one_of
from deeprx_common.slot import SlotConfig
from deeprx_common.stats import mean_ci95
from deeprx_common.terminal import make_console, number, steps, table

from ..measure.points import new_report
from .estimates import count, show, show_machine
from .options import add_options, open_meter, out_folder, single
from .runners import (
    add_receivers,
    compare,
    make_runners,
    set_threads,
    show_engines,
)

if TYPE_CHECKING:
    from ..measure.machine import MachineBenchmarks
    from ..models.runner import ModelRunner

PRECISIONS = ("float32", "bfloat16", "float16")
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
    add_receivers(parser)
    add("--batch", type=list_of(int), default=[1], metavar="SLOTS,..", help="of an inference (1)")
    add(
        "--precision",
        type=list_of(one_of(PRECISIONS)),
        default=[None],
        metavar="NAME,..",
        help=f"of the convolutions: {', '.join(PRECISIONS)}; TorchScript only (as each file has "
        "them)",
    )
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
    add("--machine", type=Path, metavar="FILE", help="the same with a machine.json made before")
    add("--report", type=Path, metavar="FILE", help="report.json that holds error rates")
    add_options(parser, sinr=[12.0])
    add("--ber-channel", metavar="NAME", help="of the error rates, where a report holds several")
    add("--domain", default="frequency", help="of the model files' tables (frequency)")
    add_options(parser, "out")


def run(arguments) -> int:
    a = arguments
    if a.rounds < 1 or min(a.batch) < 1:
        raise ValueError(
            f"--rounds and --batch must be at least 1, got {a.rounds} and {min(a.batch)}"
        )
    a.sinr = single(a.sinr, "--sinr")
    if not a.window > 0:
        raise ValueError(f"--window must be above 0 s, got {a.window:g}")
    if a.calibrate is not None and not 0 < a.calibrate <= 600:
        raise ValueError(f"--calibrate must be above 0 s and at most 600, got {a.calibrate:g}")
    profile = read_profile(a.machine) if a.machine else None
    if profile:
        from ..measure.machine import machine_name

        profile.require(machine_name(a.device), a.device, a.threads)
    counted = report.read(a.report)["points"] if a.report else None
    set_threads(a.threads)
    runners = make_runners(a, a.batch, a.precision)
    rates = [error_rate(runner, counted, a) for runner in runners]
    meter, idle = open_meter(a)
    folder = out_folder(a)
    console = make_console()
    machine = _benchmarks(a, meter, idle) if a.calibrate else None
    comparison = compare(runners, meter, idle, a.window)
    stopped = False
    try:
        with steps(console, a.rounds + (machine.steps if machine else 0)) as advance:
            for what in machine.run() if machine else ():
                advance(what)
            for k in range(a.rounds):
                advance(f"round {k + 1} of {a.rounds}")
                comparison.run_round()
    except KeyboardInterrupt:
        stopped = True
    if machine and machine.rounds:
        profile = machine.profile()
        show_machine(profile, console)
    if not comparison.rounds:
        kept = "nothing was measured"
        if profile and machine:
            kept = f"what was measured: {write_profile(profile, folder / 'machine.json')}"
        print(f"deeprx: stopped; {kept}", file=sys.stderr)
        return 130
    made = new_report()
    made["points"] = [
        _point(runner, a, meter, comparison, rate)
        for runner, rate in zip(runners, rates, strict=True)
    ]
    kind = report_view.strongest_kind(made["points"])
    models = []
    for runner, point in zip(runners, made["points"] if profile else (), strict=False):
        joules = point["energy_per_slot_j"]
        models.append(count(runner, profile, joules.get(kind)))
        predicted = models[-1].predicted
        joules["estimates"] = {
            "flop": predicted.flop_j,
            "flop_per_clock": predicted.clock_j,
            "traffic": predicted.traffic_j,
        }
    report.write(made, folder / "report.json")
    _show(made["points"], runners, comparison, meter, console)
    where = [str(folder / "report.json")]
    if profile:
        show(models, profile, kind, console)
        more = [model.as_dict() for model in models]
        where.append(str(write_profile(profile, folder / "machine.json", models=more)))
    if report_view.frontier(made["points"], folder / "frontier.png"):
        where.append(str(folder / "frontier.png"))
    unknown = [runner.name for runner, rate in zip(runners, rates, strict=True) if not rate]
    if unknown:
        console.print(
            f"no error rate at {a.sinr:g} dB of {', '.join(unknown)}: a --report that holds it "
            "puts it on the frontier",
            markup=False,
        )
    if stopped:
        print(f"deeprx: stopped; what was measured: {where[0]}", file=sys.stderr)
        return 130
    console.print(f"{len(comparison.rounds)} rounds: {', '.join(where)}", soft_wrap=True)
    return 0


def error_rate(runner: ModelRunner, counted: Sequence[dict] | None, arguments) -> dict:
    """What is known of a receiver's errors: keys of a report's point; empty: nothing.

    counted: a report's points, or None for the model file's own table. Convolutions in another
    precision than the file's make another receiver, of which nothing is known.

    Raises ValueError where it is not unique.
    """
    a, model = arguments, runner.model
    if runner.converted_to:
        return {}
    if counted is None:
        found = [
            _of_table(p, runner.config)
            for p in model.metadata.get("ber", [])
            if p["domain"] == a.domain
        ]
    else:
        found = [
            p
            for p in counted
            if p["receiver"] == model.name and p["model_sha256"] in (None, model.sha256)
        ]
    found = [
        p
        for p in found
        if p["ber"] is not None
        and p["modulation"] == a.modulation
        and list(p["dmrs"]) == list(runner.config.dmrs)
        and p["sinr_db"] is not None
        and abs(p["sinr_db"] - a.sinr) < 1e-6
        and a.ber_channel in (None, p["channel"])
    ]
    if len(found) > 1:
        where = ", ".join(str(p["channel"]) for p in found)
        raise ValueError(
            f"expected one error rate of {model.name} at {a.sinr:g} dB, found {len(found)} "
            f"({where}): name a --ber-channel"
        )
    return {key: found[0].get(key) for key in _RATE} if found else {}


def _of_table(measured: dict, config: SlotConfig) -> dict:
    """A row of a model file's table as a report has it."""
    bits = measured["slots"] * config.n_bits
    return measured | {
        "bits": bits,
        "bit_errors": round(measured["ber"] * bits),
        "snr_db": measured["sinr_db"],
        "missed_slots": 0,
    }


def _benchmarks(arguments, meter: energy.Meter, idle: energy.Idle | None) -> MachineBenchmarks:
    from ..measure.machine import MachineBenchmarks, find_power

    a = arguments
    power = find_power(a.device, a.threads, meter, idle)
    return MachineBenchmarks(a.device, a.threads, meter, power, a.calibrate)


def _point(runner, a, meter, comparison, rate) -> dict:
    name, config = runner.name, runner.config
    windows = [window for found in comparison.rounds for window in found[name]]
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
        cpu_s_per_slot=cpu_s,
        flop_per_slot=runner.model.flop_per_slot(config.n_prb, a.n_rx),
        energy_per_slot_j=_energy(name, busy_s, a.device, meter, comparison),
        **_NO_RATE,
    )
    seconds, ci95 = mean_ci95(_seconds_per_slot(comparison, name))
    return (
        point
        | rate
        | {
            "batch": runner.batch,
            "precision": runner.precision,
            "engine": runner.description,
            "threads": a.threads,
            "energy_slots": served,
            "seconds_per_slot": seconds,
            "seconds_per_slot_ci95": ci95 and [max(0.0, ci95[0]), ci95[1]],
        }
    )


def _seconds_per_slot(comparison, name: str) -> list[float]:
    """By round."""
    return [
        sum(w.seconds for w in found[name]) / sum(w.slots for w in found[name])
        for found in comparison.rounds
    ]


def _energy(name, busy_s, device, meter, comparison) -> dict:
    """energy_per_slot_j, with the interval over rounds where a meter counted. busy_s: of a slot."""
    made = energy.energy_per_slot(source=meter.source) | {
        "modelled": meter.price.joules(busy_s),
        "model": str(meter.price),
    }
    if meter.kind == "none":
        return made
    gross, net = comparison.energy(name), comparison.energy(name, net=True)
    return made | {
        "attributed" if device == "cpu" else "measured": gross.mean,
        "net": net.mean,
        "bound": gross.bound,
        "scope": meter.scope,
        "invalid": gross.invalid[0] if gross.mean is None and gross.invalid else None,
        "ci95": gross.ci95 and list(gross.ci95),
    }


def _range(ci95: Sequence[float] | None, scale: float) -> str:
    return "-" if ci95 is None else "{} {}".format(*(number(end, scale) for end in ci95))


def _show(points: list[dict], runners, comparison, meter, console: Console) -> None:
    kind = report_view.strongest_kind(points)
    rows = table(
        f"Time and energy of one slot, receivers in turns, {len(comparison.rounds)} rounds",
        "\nreceiver", "ms a\nslot", "\n95 % interval", "slots\n/s", "CPU\nms",
        f"mJ a slot\n{kind}", "\n95 % interval", "net of\nidle", "\nBER", "\n95 % interval",
    )  # fmt: skip
    for p in points:
        joules = p["energy_per_slot_j"]
        counted = "ci95" in joules
        rows.add_row(
            p["receiver"],
            number(p["seconds_per_slot"], 1e3),
            _range(p["seconds_per_slot_ci95"], 1e3),
            number(1 / p["seconds_per_slot"]),
            number(p["cpu_s_per_slot"], 1e3),
            number(joules.get(kind), 1e3),
            _range(joules["ci95"], 1e3) if counted else "-",
            number(joules["net"], 1e3),
            "-" if p["ber"] is None else f"{p['ber']:.2e}",
            "-" if p["ber"] is None else "{:.1e} {:.1e}".format(*p["ber_ci95"]),
        )
    console.print(rows)
    first, *others = (p["receiver"] for p in points)
    for name in others if meter.kind != "none" else []:
        found = comparison.difference(name, first)
        if found.ci95:
            low, high = found.ci95
            console.print(
                f"{name} - {first}: {found.mean * 1e3:+.3g} mJ [{low * 1e3:+.3g}, "
                f"{high * 1e3:+.3g}] a slot, {kind}, ±{found.bound * 1e3:.2g} mJ by ticks",
                markup=False,
            )
    show_engines(runners, console)
    for line in report_view.energy_sources(points):
        console.print(f"energy: {line}", markup=False)
