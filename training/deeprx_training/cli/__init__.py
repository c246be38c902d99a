# SPDX-License-Identifier: GPL-3.0-or-later
"""The training command line: train receivers from recipes, evaluate them, export them as model
files.
"""

import argparse
import sys
from fractions import Fraction
from pathlib import Path

import torch

from deeprx_common import limits
from deeprx_common.slot import MODULATIONS
from deeprx_common.stopping import stop_on_sigterm

from ..data.channels import EVALUATION_CHANNELS
from ..export.export import ExportError
from ..files import TrainingError, writable_folder
from ..teaching import recipe as recipes
from ..teaching.train import Trainer, load_receiver, recipe_of

RECIPES = Path(__file__).parents[2] / "recipes"
FLOOR_DB = [18.0, 21.0, 24.0, 27.0, 30.0]


def _device_option(parser):
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="default: a GPU if there is one",
    )


def _threads(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 1024):
        raise argparse.ArgumentTypeError(f"expected 1 to 1024, got {text!r}")
    return int(text)


def _threads_option(parser):
    parser.add_argument(
        "--threads", type=_threads, default=0, help="CPU threads (default: all cores)"
    )


def _training_parser(commands, name: str, what: str, default: str):
    p = commands.add_parser(
        name,
        help=what,
        description=f"{what}. Every member of the recipe is trained on the same batches with the "
        "same optimiser. A run that was stopped (Ctrl-C, power) goes on where it was when the same "
        "command is given again.",
    )
    p.add_argument(
        "recipe", nargs="?", default=str(RECIPES / default), help=f"recipe (default: {default})"
    )
    p.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="folder for last.ckpt, log.jsonl, run.json (time and FLOP by phase) and tensorboard/",
    )
    p.add_argument(
        "--cache",
        metavar="DIR",
        help="keep drawn slots and the teacher's LLRs here, for this run and others on the same "
        "data (about 120 kB a slot); pays where recipes repeat their batches ('distinct')",
    )
    p.add_argument("--minutes", type=float, help="stop after so many minutes, to be continued")
    p.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile the demapper of hybrid nets, where small ones spend most of a step: "
        "half a minute more to start, less for each step",
    )
    _device_option(p)
    _threads_option(p)
    p.set_defaults(run=_train)


_SWEEP = """\
Trains every point of a sweep file's grids and compares the receivers. Run again, the
sweep changed or not, it repeats no finished trial and resumes half-trained ones. A failed
trial stops no other; the next run tries it again. Ctrl-C lets running trials save their
state. Writes results.csv and results.parquet: one row for each trial, receiver, set of
channels, domain and SINR.
"""
_SWEEP_FILE = """\
a sweep file:
  recipe = "../recipes/student.toml"           what all trials start from, relative to the file
  [teachers.large]                             optional: teachers to train first, once each
  recipe = "../recipes/teacher.toml"
  "members.teacher.net.channels" = 128         whatever differs from that recipe
  [[grid]]                                     every combination of the lists is a trial; more
  seed = [1, 2, 3]                             [[grid]] add theirs
  teacher = ["large"]                          of [teachers], or CHECKPOINT[:MEMBER], or FILE.pt
  "members.student.temperature" = [1.0, 2.0]   any key of the recipe; members.* means all members
  "members.student.loss" = [{ bce = 0.3, kl = 0.7 }, { kl = 1.0 }]
  [validation]                                 training channels, a seed of its own: choose on it
  sinr_db = [6, 12, 18]
  slots = 256                                  per SINR, each an independent channel
  domains = ["frequency", "time"]
  [evaluation]                                 optional, same keys; evaluation channels: to report
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./dev train",
        description=__doc__,
        epilog="A receiver is named CHECKPOINT[:MEMBER[@ROUNDS]] (a training run's last.ckpt; "
        "ROUNDS cuts a RealtimeRx short) or FILE.pt (an exported model file, which is a program: "
        "name only those you trust here; the GNU Radio block vets what it loads).",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _training_parser(commands, "teacher", "train a teacher", "teacher.toml")
    _training_parser(commands, "student", "train students from scratch", "student_cpu.toml")
    _training_parser(commands, "distill", "distil students from a teacher", "distill.toml")
    _add_cost(commands)
    _add_front(commands)

    p = commands.add_parser(
        "evaluate",
        help="BER of receivers on the evaluation channels, on the same slots, with intervals",
        description="Over TDL-A/E and CDL-A/E, which no recipe trains on, beside LS-LMMSE, the "
        "SURE-smoothed LMMSE, an LMMSE that knows the channel's true statistics, and perfect CSI, "
        "all on the same slots: bit error rates, paired differences, breakdowns by channel, delay "
        "spread and Doppler, the LLRs' calibration and information, and block error rates behind "
        "the 5G LDPC code. Every slot is an independent channel draw and a cluster of the "
        "intervals. Writes report.json, results.csv, errors.npz, tables.md and pictures; Ctrl-C "
        "writes what was counted so far.",
    )
    p.add_argument("receivers", nargs="+", metavar="RECEIVER")
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument(
        "--sinr",
        default="0,3,6,9,12,15,18,21",
        help="SINR points in dB, or floor: 18 to 30 dB (default: %(default)s)",
    )
    p.add_argument("--slots", type=int, default=512, help="slots per point (default: %(default)s)")
    p.add_argument(
        "--domain",
        choices=["frequency", "time"],
        default="frequency",
        help="time adds inter-carrier interference, residual timing and CFO (default: %(default)s)",
    )
    p.add_argument("--modulation", choices=list(MODULATIONS), default="16QAM")
    p.add_argument("--dmrs", default="2,11", help="DMRS symbols (default: %(default)s)")
    p.add_argument(
        "--channel",
        default=",".join(EVALUATION_CHANNELS),
        help="TDL-A to E, CDL-A to E, comma-separated (default: %(default)s)",
    )
    p.add_argument(
        "--delay-spread",
        default="10e-9,300e-9",
        metavar="S[,S]",
        help="seconds, or a range to draw from",
    )
    p.add_argument("--doppler", default="0,500", metavar="HZ[,HZ]", help="or a range to draw from")
    p.add_argument("--rx", type=int, choices=[1, 2, 3, 4], default=2, help="default: %(default)s")
    p.add_argument(
        "--code-rate",
        default="",
        metavar="R[,R]",
        help="1/2, 3/4, ...: also count block errors behind 5G LDPC codes of these rates",
    )
    p.add_argument(
        "--reference",
        default="LS-LMMSE",
        metavar="RECEIVER",
        help="whom the others are compared with, slot by slot (default: %(default)s)",
    )
    p.add_argument("--seed", type=int, help="default: the published evaluation seed")
    _device_option(p)
    _threads_option(p)
    p.set_defaults(run=_evaluate)

    p = commands.add_parser(
        "export",
        help="write a receiver as a model file for the GNU Radio block",
        description="Writes TorchScript with its metadata (contract, FLOP, recipe, measured BER), "
        "then loads the file again and compares its LLRs with eager PyTorch's. 'baseline' and "
        "'baseline-sure' name the classical receivers.",
    )
    p.add_argument("receiver", help="CHECKPOINT[:MEMBER], baseline or baseline-sure")
    p.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="of the convolutions",
    )
    p.add_argument(
        "--max-log", action="store_true", help="baselines: max-log instead of log-MAP LLRs"
    )
    p.add_argument("--recipe", help="the recipe that trained it; goes into the file with its hash")
    p.add_argument(
        "--settle",
        type=int,
        default=0,
        metavar="SLOTS",
        help="hybrid nets: average the batch norms' statistics anew over so many of the recipe's "
        "slots of each modulation and DMRS pattern, e.g. 512 (default: keep those of the last "
        "training batches)",
    )
    _threads_option(p)
    _model_file_options(p)
    p.set_defaults(run=_export)
    _add_quantise(commands)
    _add_describe(commands)
    _add_results(commands)

    p = commands.add_parser(
        "sweep",
        help="many recipes made from one, trained and compared side by side",
        description=_SWEEP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_SWEEP_FILE,
    )
    p.add_argument("sweep", metavar="SWEEP.toml", help="training/sweeps/ has some")
    p.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the tables and the trials"
    )
    p.add_argument(
        "--cpus",
        type=int,
        default=1,
        metavar="N",
        help="cores, and threads, of each trial; as many trials run at once as there are cores "
        "for (default: %(default)s)",
    )
    p.add_argument(
        "--gpus",
        type=float,
        metavar="SHARE",
        help="of a GPU for each trial, 0 to 1 (default: 1 where there are any, else 0)",
    )
    p.add_argument("--cache", metavar="DIR", help="as in training; shared by all trials")
    p.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="of a Ray cluster's head, whose machines share this folder and --out on one disk "
        "(default: this machine alone, on loopback)",
    )
    p.set_defaults(run=_sweep)

    p = commands.add_parser(
        "study",
        help="many nets trained side by side on one machine in a given time, and compared",
        description="Every [[run]] of the file is a process; all learn from the same slots, drawn "
        "into --cache once, for as many steps as fit. Writes each run's folder, the errors of "
        "every slot (NAME.npz), and results.csv and results.parquet, which `plot` reads. A run "
        "that fails stops no other. The same command again goes on where a study was stopped.",
    )
    p.add_argument("study", metavar="STUDY.toml", help="training/studies/ has some")
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument(
        "--cache", required=True, metavar="DIR", help="0.2 MB a slot: memory (/dev/shm) or a disk"
    )
    p.add_argument("--minutes", type=float, default=60.0, help="default: %(default)s")
    p.add_argument("--compile", action="store_true", help="as in training")
    p.add_argument("--tables", action="store_true", help="only write the tables anew")
    _device_option(p)
    p.set_defaults(run=_study)

    p = commands.add_parser(
        "plot",
        help="pictures and tables of what a sweep or a study found",
        description="BER over SINR of distilled and scratch students, teachers and baselines; the "
        "SINR that a BER takes over FLOP; what each way of teaching does at each SINR; the best "
        "teacher for a student; and how many dB distilling gains at BER 1e-2 and 1e-3 over the "
        "same student from scratch, on the same slots. Writes PNG files and tables.md beside the "
        "table.",
    )
    p.add_argument(
        "table", metavar="DIR|FILE.parquet", help="the --out of a sweep or study, or its table"
    )
    p.set_defaults(run=_plot)
    return parser


def _add_front(commands) -> None:
    p = commands.add_parser(
        "front",
        help="which model files no other beats in time and error rate",
        description="Takes receivers that `./dev train evaluate` counted and `./dev bench` timed, "
        "the same model files, and writes front.md and front.png: the SINR that each needs more "
        "than perfect CSI on the same slots, over its CPU time and its FLOP per slot, and which of "
        "them form the Pareto front.",
    )
    p.add_argument("evaluation", metavar="DIR", help="--out of ./dev train evaluate")
    p.add_argument("bench", metavar="bench.json", help="of ./dev bench")
    p.add_argument(
        "--contender", default="block", help="whose times: block, engine, ... (%(default)s)"
    )
    p.add_argument("--out", metavar="DIR", help="default: the evaluation's folder")
    p.set_defaults(run=_front)


def _front(args) -> int:
    from ..evaluation.pareto import markdown, read, write

    found = read(args.evaluation, args.bench, args.contender)
    out = Path(args.out or args.evaluation)
    files = write(found, out)
    print(markdown(found))
    print(f"{out}: {', '.join(files)}")
    return 0


def _model_file_options(p) -> None:
    p.add_argument("--out", required=True, metavar="FILE.pt")
    p.add_argument("--name", help="default: the file's name")
    p.add_argument("--kind", choices=["teacher", "student", "baseline"], default="student")
    p.add_argument(
        "--openvino",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="carry the net as OpenVINO IR, too, for the block's faster engine (where OpenVINO can "
        "express it: no complex numbers)",
    )
    p.add_argument(
        "--report",
        action="append",
        default=[],
        metavar="report.json",
        help="evaluation whose BER table goes into the file; may be given more than once",
    )
    p.add_argument(
        "--parity",
        metavar="FILE.npz",
        help="also write slots and this net's LLRs, for `./dev run deeprx parity` to check the "
        "model file in the receiver block",
    )


def _add_quantise(commands) -> None:
    p = commands.add_parser(
        "quantise",
        help="write a real-time receiver as a model file whose convolutions are int8",
        description="Chooses the int8 scales on slots of the recipe's channels, and compares with "
        "float32 on others: where int8 needs over 0.1 dB more SINR for a BER of 1e-2 (16QAM), it "
        "is fine-tuned with the rounding in place, on the float32 receiver's LLRs. Then as export. "
        "The file needs a CPU with int8 instructions (VNNI or AMX).",
    )
    p.add_argument("receiver", help="CHECKPOINT[:MEMBER[@ROUNDS]] of a RealtimeRx")
    p.add_argument("--recipe", required=True, help="the recipe that trained it")
    p.add_argument(
        "--slots",
        type=int,
        default=256,
        help="to choose scales on, and to compare on at each of three SINRs (default: %(default)s)",
    )
    p.add_argument("--steps", type=int, default=300, help="of fine-tuning (default: %(default)s)")
    _model_file_options(p)
    _threads_option(p)
    p.set_defaults(run=_quantise)


def _add_describe(commands) -> None:
    p = commands.add_parser(
        "describe",
        help="rewrite what model files say of themselves, and nothing else of them",
        description="Writes into deeprx.json what a receiver was trained on, as its recipe in the "
        "file says, and with --results its bit error rates and limits as measured. Program, "
        "weights and OpenVINO IR stay byte for byte as they are; the file's SHA-256 changes.",
    )
    p.add_argument("files", nargs="+", metavar="FILE.pt")
    p.add_argument(
        "--results", metavar="DIR", help="with the ber.json and limits.json of ./dev results"
    )
    p.set_defaults(run=_describe)


def _describe(args) -> int:
    from ..export.describe import describe

    for path in args.files:
        found = describe(path, args.results)
        ranges = found["trained"]
        print(
            f"{path}: {found['name']}, trained on {', '.join(ranges['channels'])}"
            if ranges
            else f"{path}: {found['name']}, nothing known of its training"
        )
    return 0


def _add_results(commands) -> None:
    p = commands.add_parser(
        "results",
        help="measure what ships into results/*.json, and write its tables into the documents",
        description="Error rates on the evaluation channels (ber.json) and where nets are behind "
        "the best classical receiver (limits.json), about an hour of one core; time and energy a "
        "slot (time.json, energy.json), which need a quiet machine. The same command goes on where "
        "it was stopped. Tables of README.md and docs/ stand between <!-- results: ... --> marks.",
    )
    p.add_argument(
        "--only", action="append", choices=["ber", "limits", "time", "energy"], help="repeat"
    )
    p.add_argument(
        "--quick", action="store_true", help="a few slots, into build/results-quick: does it run?"
    )
    p.add_argument(
        "--write", action="store_true", help="measure nothing: only write the documents' tables"
    )
    p.set_defaults(run=_results)


def _results(args) -> int:
    from ..experiments import quote, results

    if args.write:
        for path in quote.write_all():
            print(f"{path}: written")
        return 0
    torch.set_num_threads(1)
    out = results.ROOT / ("build/results-quick" if args.quick else "results")
    kept = results.ROOT / "build/results-kept"
    parts = args.only or list(results.PARTS)

    def say(line: str) -> None:
        print(line, flush=True)

    results.measure(parts, out, kept, 16 if args.quick else None, say)
    return 0


def _add_cost(commands) -> None:
    p = commands.add_parser(
        "cost",
        help="what a training run cost, by phase, and when a student has paid it back",
        description="Prints slots, seconds, FLOP and joules of a run by phase (data, teacher, "
        "forward, backward) and, with --teacher, after how many slots served each student has "
        "paid back its own training, the teacher's passes and the teacher's training. Joules are "
        "counted where the machine has a counter, and modelled from its time beside it.",
    )
    p.add_argument("folder", metavar="DIR", help="--out of a training run")
    p.add_argument(
        "--teacher",
        metavar="DIR|RECIPE",
        help="the teacher's run, or its recipe (then by rule: three forward passes a slot)",
    )
    p.set_defaults(run=_cost)


def _cost(args) -> int:
    from rich.console import Console

    from ..teaching.cost import payback, payback_table, phase_table, read_run, teacher_cost

    run = read_run(args.folder)
    console = Console(width=160)
    console.print(phase_table(run))
    energy = run["energy_j"]
    if energy["joules"] is None:
        print(f"joules: {energy['invalid']}")
    else:
        print(f"joules: {energy['joules']:.0f}, {energy['kind']}, {energy['source']}")
    print(f"modelled: {energy['modelled']:.0f} J, {energy['model']}")
    print(f"{run['slots']} slots in {run['wall_s']:.0f} s on {run['device']}")
    if args.teacher:
        print()
        console.print(payback_table(payback(run, teacher_cost(args.teacher))))
    return 0


def _train(args) -> int:
    recipe = recipes.load(args.recipe)
    trainer = Trainer(recipe, args.out, args.device, compile_nets=args.compile, cache=args.cache)
    trainer.resume()
    done = trainer.fit(max_seconds=args.minutes and args.minutes * 60)
    names = ", ".join(m.name for m in recipe.members)
    if done:
        print(
            f"{trainer.checkpoint}: {names} trained, {trainer.step} steps of {recipe.batch} slots"
        )
        return 0
    print(
        f"{trainer.checkpoint}: stopped at step {trainer.step} of {recipe.steps}; "
        "the same command goes on from there"
    )
    return 0 if args.minutes else 130


def _evaluate(args) -> int:
    from ..data import seeds
    from ..evaluation.evaluate import evaluate, evaluation_conditions
    from ..evaluation.tables import ber_table, warnings, write

    if args.slots < 2:
        raise TrainingError(f"--slots: expected 2 or more, got {args.slots}")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("--device: a GPU was asked for, but torch finds none; use cpu")
    sinr_db = FLOOR_DB if args.sinr == "floor" else _numbers("--sinr", args.sinr)
    low, high = limits.SNR_DB
    if not all(low <= s <= high for s in sinr_db):
        raise TrainingError(f"--sinr: expected {low} to {high} dB, got {args.sinr}")
    dmrs = _numbers("--dmrs", args.dmrs)
    if not all(s.is_integer() for s in dmrs):
        raise TrainingError(f"--dmrs: expected symbols 0 to 13, got {args.dmrs}")
    conditions = evaluation_conditions(
        args.domain,
        channels=tuple(args.channel.split(",")),
        n_rx=args.rx,
        modulations={args.modulation: 1.0},
        dmrs={tuple(int(s) for s in dmrs): 1.0},
        delay_spread_s=_range("--delay-spread", args.delay_spread, *limits.DELAY_SPREAD_S),
        doppler_hz=_range("--doppler", args.doppler, *limits.DOPPLER_HZ),
    )
    writable_folder(args.out)
    nets = {}
    for reference in args.receivers:
        name, net = load_receiver(reference)
        if name in nets:
            raise TrainingError(f"{reference}: a receiver named {name} was given already")
        nets[name] = net
    found, counted, stopped = evaluate(
        nets,
        sinr_db=sorted(set(sinr_db)),
        slots=args.slots,
        conditions=conditions,
        seed=seeds.EVALUATION if args.seed is None else args.seed,
        device="cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu",
        shas={n: _sha256(r) for n, r in zip(nets, args.receivers, strict=True)},
        rates=_rates(args.code_rate),
        reference=args.reference,
    )
    files = write(found, counted, Path(args.out))
    print(ber_table(found))
    for line in warnings(found):
        print(f"warning: {line}")
    print(f"{args.out}: {', '.join(files)}")
    if stopped:
        print(
            f"stopped: {counted.slots} of {args.slots} slots at {len(counted.sinr_db)} of "
            f"{len(set(sinr_db))} SINR points",
            file=sys.stderr,
        )
    return 130 if stopped else 0


def _sweep(args) -> int:
    from ..experiments import sweep, sweep_file

    loaded = sweep_file.load(args.sweep, args.out)
    try:
        failed = sweep.run(loaded, args.out, args.address, args.cpus, args.gpus, args.cache)
    except KeyboardInterrupt:
        print(f"{args.out}: stopped; the same command goes on from there", file=sys.stderr)
        return 130
    trials = len(loaded.trials)
    print(f"{args.out}: results.csv, results.parquet of {trials - len(failed)} of {trials} trials")
    if failed:
        print(
            f"error: {len(failed)} of {trials} trials failed (failed.txt in {args.out}/trials/NAME "
            "says more); the same command tries them again",
            file=sys.stderr,
        )
        return 1
    print(f"next: ./dev train plot {args.out}")
    return 0


def _plot(args) -> int:
    from ..evaluation import figures as plots

    for path in plots.draw(args.table):
        print(path)
    return 0


def _study(args) -> int:
    from ..experiments import study

    loaded, out = study.load(args.study), Path(args.out)
    if args.tables:
        study.tabulate(loaded, out)
        return 0
    gpu = args.device != "cpu" and torch.cuda.is_available()
    if args.device == "cuda" and not gpu:
        raise TrainingError("--device: a GPU was asked for, but torch finds none; use cpu")
    device = "cuda" if gpu else "cpu"
    try:
        study.run(loaded, out, Path(args.cache), 60 * args.minutes, device, args.compile)
    except KeyboardInterrupt:
        print(f"{out}: stopped; the same command goes on from there", file=sys.stderr)
        return 130
    return 0


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(s) for s in text.split(",")]
    except ValueError:
        raise TrainingError(
            f"{option}: expected numbers separated by commas, got {text!r}"
        ) from None


def _range(option: str, text: str, low: float, high: float) -> tuple[float, float]:
    numbers = _numbers(option, text)
    if len(numbers) > 2 or not all(low <= n <= high for n in numbers):
        raise TrainingError(
            f"{option}: expected one or two numbers from {low:g} to {high:g}, got {text!r}"
        )
    return min(numbers), max(numbers)


def _rates(text: str) -> tuple[Fraction, ...]:
    try:
        return tuple(Fraction(r) for r in text.split(",") if r)
    except (ValueError, ZeroDivisionError):
        raise TrainingError(f"--code-rate: expected 1/2, 3/4 or the like, got {text!r}") from None


def _sha256(reference: str) -> str | None:
    import hashlib

    path = Path(reference.partition(":")[0])
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.suffix == ".pt" else None


def _export(args) -> int:
    from itertools import chain

    from rich.progress import track

    from ..data.channels import slots_of_every_kind
    from ..receivers.classical import Baseline
    from ..receivers.norms import settle

    name = args.name or Path(args.out).stem
    training = {}
    if args.receiver in ("baseline", "baseline-sure"):
        net, kind, n_rx = (
            Baseline(args.max_log, sure=args.receiver == "baseline-sure"),
            "baseline",
            [1, 2, 3, 4],
        )
    else:
        member, net = load_receiver(args.receiver)
        kind, n_rx = args.kind, [getattr(net, "n_rx", 2)]
        if args.recipe:
            recipe = recipes.load(args.recipe)
            training = _training(recipe, member, args)
    if args.settle:
        if args.settle < 2:
            raise TrainingError(f"--settle: expected 2 slots or more, got {args.settle}")
        if not training:
            raise TrainingError("--settle draws a recipe's slots: give a checkpoint's --recipe")
        kinds = slots_of_every_kind(recipe.data, args.settle)
        kinds = track(kinds, "settling batch norms", transient=True)
        settle(net, chain.from_iterable(kinds))
        training["settled_slots"] = args.settle
    return _write_model_file(args, net, name, kind, n_rx, args.precision, training)


def _quantise(args) -> int:
    from ..export.quantise import SINR_DB, quantise

    if min(args.slots, args.steps) < 2:
        raise TrainingError("--slots and --steps: expected 2 or more")
    recipe = recipes.load(args.recipe)
    member, net = load_receiver(args.receiver)
    training = _training(recipe, member, args)
    net, done = quantise(net, recipe.data, args.slots, args.steps)
    at = done["sinr_db_at_ber_1e-2"]
    print(
        f"BER 1e-2 at {at['float32']:.2f} dB in float32, {at['int8']:.2f} dB in int8 "
        f"({', '.join(done['channels'])}; {args.slots} slots each at {len(SINR_DB)} SINRs)"
    )
    name = args.name or Path(args.out).stem
    training["quantisation"] = done
    return _write_model_file(args, net, name, args.kind, [net.n_rx], "int8", training)


def _training(recipe: recipes.Recipe, member: str, args) -> dict:
    """What a model file says about its training."""
    nets = {m.name: m.net for m in recipe.members}
    name, _, rounds = member.partition("@")
    if name not in nets:
        raise TrainingError(f"{args.recipe}: trains {', '.join(nets)}, not {name}")
    trained_by = recipe_of(args.receiver)
    if trained_by not in (None, recipe.sha256):
        print(
            f"{args.receiver}: trained by a recipe with SHA-256 {trained_by[:12]}, not by "
            f"{args.recipe} ({recipe.sha256[:12]}), which the model file will name",
            file=sys.stderr,
        )
    return {
        "recipe": recipe.text,
        "recipe_sha256": recipe.sha256,
        "steps": recipe.steps,
        "batch": recipe.batch,
        "seed": recipe.seed,
        "dataset": "Sionna " + ", ".join(recipe.data.channels),
        "member": member,
        "net": nets[name] | ({"rounds": int(rounds)} if rounds else {}),
    }


def _write_model_file(args, net, name, kind, n_rx, precision, training) -> int:
    from ..export.describe import trained_on
    from ..export.export import ber_table, export

    metadata = export(
        net,
        args.out,
        name,
        kind,
        n_rx,
        precision=precision,
        training=training,
        ber=ber_table(args.report, name),
        parity=args.parity,
        openvino=args.openvino,
        trained=trained_on(recipes.conditions_of(training["recipe"])) if training else None,
    )
    flop = metadata["flop_per_slot"]
    print(
        f"{args.out}: {name}, {metadata['params']} parameters, "
        f"{(flop['matmul'] + flop['other']) / 1e9:.3f} GFLOP per {flop['n_prb']}-PRB slot, "
        f"{Path(args.out).stat().st_size / 1e3:.0f} kB, LLRs checked against eager PyTorch"
    )
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for a user's mistake, 130 for Ctrl-C and for
    SIGTERM, which schedulers send.
    """
    stop_on_sigterm()
    args = _parser().parse_args(argv)
    if getattr(args, "threads", 0):
        torch.set_num_threads(args.threads)
    try:
        return args.run(args)
    except (recipes.RecipeError, TrainingError, ExportError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 2
