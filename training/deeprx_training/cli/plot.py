# SPDX-License-Identifier: GPL-3.0-or-later
"""./dev train plot"""

from pathlib import Path


def configure(parser) -> None:
    parser.description = (
        "Of an experiment: BER over SINR of distilled and scratch students, teachers and "
        "baselines; the SINR that a BER takes over FLOP; what each way of teaching does at each "
        "SINR; the best teacher for a student; and how many dB distilling gains at BER 1e-2 and "
        "1e-3 over the same student from scratch, on the same slots. Writes PNG files and "
        "tables.md beside the table. With --bench, of what `./dev train evaluate` counted and "
        "`./dev bench` timed, the same model files: the SINR that each needs more than perfect "
        "CSI on the same slots, over its time and its FLOP per slot, and which of them form the "
        "Pareto front. Writes front.md and front.png."
    )
    add = parser.add_argument
    add(
        "results",
        metavar="DIR|FILE.parquet",
        help="--out of an experiment, or its table; with --bench, --out of an evaluation",
    )
    add("--bench", metavar="bench.json", help="of ./dev bench")
    add(
        "--contender",
        metavar="NAME",
        default="block",
        help="whose times: block, engine, ... (%(default)s)",
    )


def run(arguments) -> int:
    if not arguments.bench:
        from ..evaluation import figures

        for path in figures.draw(arguments.results):
            print(path)
        return 0
    from ..evaluation.pareto import markdown, read, write

    candidates = read(arguments.results, arguments.bench, arguments.contender)
    files = write(candidates, Path(arguments.results))
    print(markdown(candidates))
    print(f"{arguments.results}: {', '.join(files)}")
    return 0
