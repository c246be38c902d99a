# SPDX-License-Identifier: GPL-3.0-or-later
"""./dev train evaluate"""

import math
import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from deeprx_common import limits
from deeprx_common.modulation import MODULATIONS
from deeprx_common.options import list_of, one_of
from deeprx_common.shipped import CLASSICAL, model_path
from deeprx_common.slot import SLOTS, SlotConfig
from deeprx_common.slot_file import changed_slot, given_slot, slot_of

from ..data import seeds
from ..values import whole
from .options import (
    add_address,
    add_device,
    add_out,
    add_trust,
    device_of,
    set_threads,
    value,
)

WORTH_A_WORKER = 1024  # slots, of one that has to import all libraries first
FEWEST = 400  # slots of a condition
FLOOR_DB = [18.0, 21.0, 24.0, 27.0, 30.0]


def _sinr(text: str) -> list[float]:
    return FLOOR_DB if text == "floor" else list_of(float)(text)


def configure(parser) -> None:
    parser.description = (
        "Over TDL-A/E and CDL-A/E, which no recipe trains on, beside the classical receivers, an "
        "LMMSE that knows the channel's true statistics, and perfect CSI, all on the same slots: "
        "bit error rates, paired differences, breakdowns by channel, delay spread and Doppler, the "
        "LLRs' calibration and information, and with --mcs errors of transport blocks. Every slot "
        "is an independent channel draw and a cluster of the intervals. Writes report.json, "
        "results.csv, errors.npz, tables.md and pictures; Ctrl-C writes what was counted so far, "
        "and the same command goes on from there. Slots are counted side by side on Ray; how many "
        "workers there are changes no number."
    )
    add = parser.add_argument
    add(
        "receivers",
        nargs="+",
        type=model_path,
        metavar="RECEIVER",
        help="CHECKPOINT[:MEMBER[@ROUNDS]], a model file, or the name of one that ships; "
        f"{', '.join(CLASSICAL)} are always there, and may be named",
    )
    add_out(parser)
    add(
        "--conditions",
        type=Path,
        metavar="FILE.toml",
        help="named conditions, of training/experiments/conditions.toml for one, in place of one "
        "evaluation: whether receivers are anywhere worse than SURE-LMMSE or an open gNB's default "
        "receiver, and whether LLRs keep what they promise. Writes conditions.md, conditions.csv "
        "and llrs.csv, failures first; exit status 1 where there are any",
    )
    add("--names", type=list_of(str), metavar="NAME,..", help="some of the file's conditions")
    of_one = []  # what a file of conditions says instead

    def one(*names, **how) -> None:
        of_one.append(add(*names, **how))

    one(
        "--sinr",
        type=_sinr,
        default=[0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0],
        metavar="DB,..",
        help="of a data RE and antenna: a list, or a range (0:21:3), or floor: 18 to 30 dB",
    )
    one(
        "--slots",
        type=value(whole(2)),
        default=512,
        metavar="N",
        help="slots of an operating point (default: %(default)s)",
    )
    one(
        "--sir",
        type=float,
        metavar="DB",
        help="adds an interfering slot of another cell, in half of the batches with modulation, "
        "DMRS symbols, CDM groups and channel of its own; noise makes up the rest of --sinr",
    )
    one(
        "--domain",
        choices=["frequency", "time"],
        default="frequency",
        help="time adds inter-carrier interference, residual timing and CFO (default: %(default)s)",
    )
    one(
        "--slot",
        type=slot_of,
        default=SLOTS["default"],
        metavar="NAME|FILE",
        help=f"{', '.join(SLOTS)}, or a JSON file of a slot: PRBs, spacing, symbols, DMRS, users, "
        "and their modulation or MCS, of slots that fill their carrier (default: default)",
    )
    one(
        "--modulation",
        type=one_of(MODULATIONS),
        metavar="NAME",
        help=f"{', '.join(MODULATIONS)}, of all users (default: the slot's: 16QAM)",
    )
    one(
        "--mcs",
        type=value(whole(0)),
        metavar="N",
        help="index, in place of --modulation: each user has a transport block of this MCS in each "
        "slot, and its errors are counted, too (default: none: bits)",
    )
    one(
        "--mcs-table",
        type=value(whole(1, 3)),
        metavar="N",
        help="1 (64QAM), 2 (256QAM) or 3 (low rates) (default: 1)",
    )
    one(
        "--dmrs",
        type=list_of(int),
        metavar="SYMBOL,..",
        help="DMRS symbols of TS 38.211 table 6.4.1.1.3-3 (default: the slot's: 2,11)",
    )
    one(
        "--n-prb",
        type=value(whole(1, 273)),
        metavar="N",
        help="PRBs of a slot, 1 to 273 (default: the slot's: 26)",
    )
    one(
        "--scs-khz",
        type=int,
        choices=[15, 30, 60],
        metavar="KHZ",
        help="subcarrier spacing: 15, 30 or 60 kHz (default: the slot's: 15)",
    )
    one(
        "--users",
        type=value(whole(1, 2)),
        metavar="N",
        help="1, or 2 on the same PRBs, with a layer, a channel and bits or blocks each, alike "
        "where the slot does not say otherwise (default: the slot's: 1)",
    )
    one(
        "--channel",
        type=list_of(one_of(seeds.EVALUATION_CHANNELS + seeds.TRAINING_CHANNELS)),
        default=list(seeds.EVALUATION_CHANNELS),
        metavar="NAME,..",
        help=f"TDL-A to E, CDL-A to E (default: {','.join(seeds.EVALUATION_CHANNELS)})",
    )
    one(
        "--delay-spread",
        type=list_of(float),
        default=[10e-9, 300e-9],
        metavar="S[,S]",
        help="rms, seconds, or a range to draw from (default: 10e-9,300e-9)",
    )
    one(
        "--doppler",
        type=list_of(float),
        default=[0.0, 500.0],
        metavar="HZ[,HZ]",
        help="maximum Doppler shift, or a range to draw from (default: 0,500)",
    )
    one(
        "--n-rx",
        type=int,
        choices=[1, 2, 3, 4],
        default=2,
        metavar="N",
        help="receive antennas, 1 to 4 (default: %(default)s)",
    )
    one(
        "--reference",
        metavar="NAME",
        help="whom the others are compared with, slot by slot, in any case (default: the best "
        "classical receiver)",
    )
    one(
        "--seed",
        type=int,
        default=seeds.EVALUATION,
        metavar="N",
        help="of all that is drawn (default: the published %(default)s)",
    )
    parser.set_defaults(of_one=of_one)
    add_trust(parser)
    add_device(parser)
    add(
        "--workers",
        type=value(whole(1)),
        metavar="N",
        help="processes that count (default: one for each core, or GPU, at most)",
    )
    add(
        "--threads",
        type=value(whole(1, 1024)),
        default=1,
        metavar="N",
        help="CPU threads (default: %(default)s, of each worker)",
    )
    add_address(parser)


def _range(
    option: str, numbers: list[float], low: float, high: float, unit: str
) -> tuple[float, float]:
    if len(numbers) > 2 or not all(low <= n <= high for n in numbers):
        given = ",".join(f"{n:g}" for n in numbers)
        raise ValueError(
            f"{option}: expected one or two numbers from {low:g} to {high:g} {unit}, found {given}"
        )
    return min(numbers), max(numbers)


def _slot(arguments) -> SlotConfig:
    """Of --slot, with what the other options say of it. Raises ValueError where there is none
    such.
    """
    slot = changed_slot(arguments.slot, given_slot(arguments))
    for user in slot.users:
        if user.tbs is not None or (user.code_rate is not None and user.mcs is None):
            raise ValueError(
                "--slot: expected an MCS, or no block, found a block's size or code rate"
            )
    return slot


def _snr(sinr_db: float, sir_db: float | None) -> float:
    """What noise makes up the rest of an SINR. Raises ValueError where there is no rest."""
    if sir_db is None:
        return sinr_db
    if sinr_db >= sir_db:
        raise ValueError(
            f"an SIR of {sir_db:g} dB rules out an SINR of {sinr_db:g} dB: give --sinr values "
            "below --sir"
        )
    return -10 * math.log10(10 ** (-sinr_db / 10) - 10 ** (-sir_db / 10))


def _pool(arguments, device: str, slots: int):
    """A context of the Pool for so many slots: None where this process does as well."""
    from ..experiments.campaign import ray_pool

    a = arguments
    most = slots // WORTH_A_WORKER if a.workers is None else a.workers
    if not a.address and (most < 2 or (device == "cpu" and len(os.sched_getaffinity(0)) < 2)):
        return nullcontext()
    return ray_pool(a.address, a.workers, a.threads, device == "cuda")


def _nets(receivers: list[str]) -> list[str]:
    """Without the classical receivers, which join every evaluation."""
    return [r for r in receivers if Path(r).exists() or r.lower() not in CLASSICAL]


def _load(receivers: list[str], trust: list[str]) -> dict:
    """ReceiverFiles by name."""
    from ..teaching.checkpoint import read_receiver

    files = {}
    for reference in receivers:
        file = read_receiver(reference, trust=trust)
        if file.name in files:
            raise ValueError(f"{reference}: a receiver named {file.name} was given already")
        files[file.name] = file
    return files


def _check_fit(files: dict, slot: SlotConfig, n_rx: int) -> None:
    """ValueError where a model file says that it does not take such slots."""
    from ..receivers.contract import misfit

    for name, file in files.items():
        if why := misfit(file.metadata, slot, n_rx):
            raise ValueError(f"{name}: {why}")


def _under_conditions(arguments) -> int:
    """--conditions"""
    from ..evaluation.named import load
    from ..evaluation.outcomes import failures, summary, write
    from ..experiments.campaign import here
    from ..experiments.stress import Receivers
    from ..experiments.stress import run as run_conditions
    from ..files import writable_folder

    a = arguments
    for option in a.of_one:
        if getattr(a, option.dest) != option.default:
            raise ValueError(f"{option.option_strings[0]}: the file of --conditions says it")
    conditions = load(a.conditions, a.names)
    device = device_of(a)
    receivers = _nets(a.receivers)
    if not receivers:
        raise ValueError("RECEIVER: expected one that is held against sure-lmmse and gnb")
    writable_folder(a.out)
    files = _load(receivers, a.trust)
    names, judged = list(files), Receivers(files, tuple(a.trust), device)
    with _pool(a, device, FEWEST * len(conditions)) as pool:
        pool = pool or here(files.values())
        outcomes, stopped = run_conditions(conditions, judged, a.out / "counted", pool)
    if not outcomes:
        print("stopped before the first slots were counted; nothing is written", file=sys.stderr)
        return 130
    written = write(outcomes, names, a.out)
    for name in names:
        print(summary(outcomes, name))
    print(f"{a.out}: {', '.join(written)}")
    if stopped:
        print(f"{a.out}: stopped; the same command goes on from there", file=sys.stderr)
        return 130
    return int(any(any(failures(outcomes, name)) for name in names))


def run(arguments) -> int:
    if arguments.names and not arguments.conditions:
        raise ValueError("--names: expected --conditions, too")
    set_threads(arguments)
    return (_under_conditions if arguments.conditions else _under_one)(arguments)


def _under_one(arguments) -> int:
    from deeprx_common.report import write as write_report

    from ..evaluation.evaluate import (
        PERFECT,
        TRUE,
        EvaluationError,
        NothingCounted,
        check_ideals,
        evaluation_conditions,
        interferers,
        of_slot,
    )
    from ..evaluation.report import evaluate
    from ..evaluation.tables import ber_tables, block_tables, warnings, write
    from ..experiments.campaign import Plan, counting, files_of, fingerprint
    from ..files import writable_folder

    a = arguments
    low, high = limits.SNR_DB
    if not all(low <= s <= high for s in a.sinr):
        raise ValueError(f"--sinr: expected {low} to {high} dB, found {max(a.sinr, key=abs):g}")
    slot = _slot(a)
    device = device_of(a)
    conditions = evaluation_conditions(
        a.domain,
        channels=tuple(a.channel),
        n_rx=a.n_rx,
        **of_slot(slot),
        delay_spread_s=_range("--delay-spread", a.delay_spread, *limits.DELAY_SPREAD_S, "s"),
        doppler_hz=_range("--doppler", a.doppler, *limits.DOPPLER_HZ, "Hz"),
    )
    if a.sir is not None:
        conditions = replace(conditions, **interferers(slot, a.sir))
    receivers = _nets(a.receivers)
    writable_folder(a.out)
    receivers = _load(receivers, a.trust)
    _check_fit(receivers, slot, a.n_rx)
    sinr_db = sorted(set(a.sinr))
    arguments = {
        "sinr_db": [_snr(sinr, a.sir) for sinr in sinr_db],
        "slots": a.slots,
        "conditions": conditions,
        "seed": a.seed,
        "device": device,
        "slot": slot,
        "joining": CLASSICAL,
        "ideals": (TRUE, PERFECT),
    }
    try:
        check_ideals([TRUE], conditions, slot)
    except EvaluationError as beyond:
        print(f"left out: {beyond}", file=sys.stderr)
        arguments["ideals"] = (PERFECT,)
    files = receivers.values()
    kept = a.out / "counted" / fingerprint(files, **arguments | {"slots": None})
    plan = Plan(kept, files_of(files), tuple(a.trust), arguments)
    try:
        with _pool(a, device, a.slots * len(sinr_db)) as pool:
            report, counted, stopped = evaluate(
                {name: file.net for name, file in receivers.items()},
                **arguments,
                kept=kept,
                shas={f.name: f.sha256 for f in files if f.reference.is_model_file},
                reference=a.reference,
                keep=lambda points: write_report(points, a.out / "report.json"),
                each=pool and counting(pool, plan),
            )
    except NothingCounted as stop:
        print(stop, file=sys.stderr)
        return 130
    written = write(report, counted, a.out)
    print(ber_tables(report))
    if blocks := block_tables(report):
        print(f"\n{blocks}")
    for line in warnings(report):
        print(f"warning: {line}")
    print(f"{a.out}: {', '.join(written)}")
    if stopped:
        print(
            f"stopped: {counted.slots} of {a.slots} slots at {len(counted.sinr_db)} of "
            f"{len(sinr_db)} SINR points",
            file=sys.stderr,
        )
    return 130 if stopped else 0
