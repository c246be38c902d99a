# SPDX-License-Identifier: GPL-3.0-or-later
"""./dev results"""


def configure(parser) -> None:
    parser.description = (
        "Error rates on the evaluation channels (ber.json) and where nets are behind the best "
        "classical receiver (limits.json), about an hour of one core; time and energy a slot "
        "(time.json, energy.json), which need a quiet machine. The same command goes on where it "
        "was stopped. Tables of README.md and docs/ stand between <!-- results: ... --> marks."
    )
    add = parser.add_argument
    add("--only", action="append", choices=["ber", "limits", "time", "energy"], help="repeat")
    add(
        "--quick",
        action="store_true",
        help="a few slots, into build/results-quick: does it run?",
    )
    add(
        "--write",
        action="store_true",
        help="measure nothing: only write the documents' tables",
    )


def run(arguments) -> int:
    import torch

    from ..experiments import quote, results

    if arguments.write:
        for path in quote.write_all():
            print(f"{path}: written")
        for part in results.PARTS:
            if not (file := results.ROOT / "results" / f"{part}.json").exists():
                print(f"{file}: not measured yet; its tables stay as they are")
        return 0
    torch.set_num_threads(1)
    out = results.ROOT / ("build/results-quick" if arguments.quick else "results")
    kept = results.ROOT / "build/results-kept"
    parts = arguments.only or list(results.PARTS)

    def say(line: str) -> None:
        print(line, flush=True)

    results.measure(parts, out, kept, 16 if arguments.quick else None, say)
    return 0
