# SPDX-License-Identifier: GPL-3.0-or-later
"""./dev train cost"""


def configure(parser) -> None:
    parser.description = (
        "Prints slots, seconds, FLOP and joules of a run by phase (data, teacher, forward, "
        "backward) and, with --teacher, after how many slots served each student has paid back "
        "its own training, the teacher's passes and the teacher's training. Joules are counted "
        "where the machine has a counter, and modelled from its time beside it."
    )
    parser.add_argument("folder", metavar="DIR", help="--out of a training run")
    parser.add_argument(
        "--teacher",
        metavar="DIR|RECIPE",
        help="the teacher's run, or its recipe (then by rule: three forward passes a slot)",
    )


def run(arguments) -> int:
    from rich.console import Console

    from ..teaching.cost import payback, payback_table, phase_table, read_run, teacher_cost

    record = read_run(arguments.folder)
    console = Console(width=160)
    console.print(phase_table(record))
    energy = record["energy_j"]
    if energy["joules"] is None:
        print(f"joules: {energy['invalid']}")
    else:
        print(f"joules: {energy['joules']:.0f}, {energy['kind']}, {energy['source']}")
    print(f"modelled: {energy['modelled']:.0f} J, {energy['model']}")
    print(f"{record['slots']} slots in {record['wall_s']:.0f} s on {record['device']}")
    if arguments.teacher:
        print()
        console.print(payback_table(payback(record, teacher_cost(arguments.teacher))))
    return 0
