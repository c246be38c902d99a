# SPDX-License-Identifier: GPL-3.0-or-later
"""The training command line: train receivers from recipes, evaluate them, export them as model
files.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from deeprx_common.slot import MODULATIONS

from . import recipe as recipes
from .data import EVALUATION_CHANNELS
from .export import ExportError
from .files import TrainingError
from .train import Trainer, load_receiver

RECIPES = Path(__file__).parents[1] / "recipes"


def _device_option(parser):
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="default: a GPU if there is one",
    )


def _threads_option(parser):
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all cores)")


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
        "--compile", action="store_true", help="torch.compile the nets (pays on GPUs for long runs)"
    )
    _device_option(p)
    _threads_option(p)
    p.set_defaults(run=_train)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./dev train",
        description=__doc__,
        epilog="A receiver is named CHECKPOINT[:MEMBER] (a training run's last.ckpt) or FILE.pt "
        "(an exported model file, which is a program: name only those you trust here; the GNU "
        "Radio block vets what it loads).",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _training_parser(commands, "teacher", "train a teacher", "teacher.toml")
    _training_parser(commands, "student", "train students from scratch", "student_cpu.toml")
    _training_parser(commands, "distill", "distil students from a teacher", "distill.toml")

    p = commands.add_parser(
        "evaluate",
        help="BER of receivers on the evaluation channels, on the same slots, with intervals",
        description="Bit error rates over TDL-A/E and CDL-A/E, which no recipe trains on, beside "
        "LS-LMMSE, the SURE-smoothed LMMSE and perfect CSI on the same slots. Every slot is an "
        "independent channel draw and a cluster of the intervals. Writes report.json and ber.png.",
    )
    p.add_argument("receivers", nargs="+", metavar="RECEIVER")
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument(
        "--sinr", default="0,3,6,9,12,15,18,21", help="SINR points in dB (default: %(default)s)"
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
    p.add_argument("--out", required=True, metavar="FILE.pt")
    p.add_argument("--name", help="default: the file's name")
    p.add_argument("--kind", choices=["teacher", "student", "baseline"], default="student")
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
        "--report",
        action="append",
        default=[],
        metavar="report.json",
        help="evaluation whose BER table goes into the file; may be given more than once",
    )
    p.set_defaults(run=_export)
    return parser


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

    from deeprx_common import report

    from .evaluate import EVALUATION_SEED, evaluate, evaluation_conditions, markdown

    nets = {}
    for reference in args.receivers:
        name, net = load_receiver(reference)
        if name in nets:
            raise TrainingError(f"{reference}: a receiver named {name} was given already")
        nets[name] = net
    device = "cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu"
    found, counted = evaluate(
        nets,
        sinr_db=_numbers("--sinr", args.sinr),
        slots=args.slots,
        conditions=evaluation_conditions(
            args.domain,
            channels=tuple(args.channel.split(",")),
            modulations={args.modulation: 1.0},
            dmrs={tuple(int(s) for s in _numbers("--dmrs", args.dmrs)): 1.0},
            delay_spread_s=_range("--delay-spread", args.delay_spread),
            doppler_hz=_range("--doppler", args.doppler),
        ),
        seed=EVALUATION_SEED if args.seed is None else args.seed,
        device=device,
        shas={n: _sha256(r) for n, r in zip(nets, args.receivers, strict=True)},
    )
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    report.write(found, out / "report.json")
    np.savez_compressed(out / "errors.npz", **counted)
    report.plot(found["points"], out / "ber.png")
    table = markdown(counted)
    with report.replacing(out / "table.md") as temporary:
        Path(temporary).write_text(table + "\n")
    print(table)
    print(f"{out}: report.json, table.md, errors.npz, ber.png")
    return 0


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(s) for s in text.split(",")]
    except ValueError:
        raise TrainingError(
            f"{option}: expected numbers separated by commas, got {text!r}"
        ) from None


def _range(option: str, text: str) -> tuple[float, float]:
    numbers = _numbers(option, text)
    return min(numbers), max(numbers)


def _sha256(reference: str) -> str | None:
    import hashlib

    path = Path(reference.partition(":")[0])
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.suffix == ".pt" else None


def _export(args) -> int:
    from .classical import Baseline
    from .export import ber_table, export

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
        kind, n_rx = args.kind, [net.n_rx]
        if args.recipe:
            r = recipes.load(args.recipe)
            training = {
                "recipe": r.text,
                "recipe_sha256": r.sha256,
                "steps": r.steps,
                "batch": r.batch,
                "seed": r.seed,
                "dataset": "Sionna " + ", ".join(r.data.channels),
                "member": member,
                "net": next(m.net for m in r.members if m.name == member),
            }
    metadata = export(
        net,
        args.out,
        name,
        kind,
        n_rx,
        precision=args.precision,
        training=training,
        ber=ber_table(args.report, name),
    )
    flop = metadata["flop_per_slot"]
    print(
        f"{args.out}: {name}, {metadata['params']} parameters, "
        f"{(flop['matmul'] + flop['other']) / 1e9:.3f} GFLOP per {flop['n_prb']}-PRB slot, "
        f"{Path(args.out).stat().st_size / 1e3:.0f} kB, LLRs checked against eager PyTorch"
    )
    return 0


def main(argv: list[str] | None = None) -> int:
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


if __name__ == "__main__":
    sys.exit(main())
