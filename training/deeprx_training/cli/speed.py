# SPDX-License-Identifier: GPL-3.0-or-later
"""./dev train speed"""

import sys

from ..values import whole
from .options import add_out, add_threads, set_threads, value


def configure(parser) -> None:
    parser.description = (
        "Times a training step of DeepRx at 1/8 of its width on this machine's processor, in every "
        "form that computes the same: whole slots or crops of 8 PRB, channels last or first, dense "
        "or separable convolutions, float32 or bfloat16. In turns, by CPU time; and says how far "
        "each one's gradient is from that of the published form in float32. Writes speed.json, "
        "which grows by each round: Ctrl-C or a kill keeps what was measured."
    )
    parser.add_argument("--rounds", type=value(whole(1)), default=7, help="steps of each (7)")
    add_out(parser)
    add_threads(parser)


def run(arguments) -> int:
    from rich.console import Console

    from deeprx_common.files import writable_folder, write_json
    from deeprx_common.terminal import number, table

    from ..experiments.speed import measure, off

    set_threads(arguments)
    writable_folder(arguments.out)
    file, measured, stopped = arguments.out / "speed.json", None, False
    try:
        for measured in measure(arguments.rounds):
            write_json(measured, file)
    except KeyboardInterrupt:
        stopped = True
    if not measured:
        print("stopped; nothing was measured", file=sys.stderr)
        return 130
    rows = sorted(measured["rows"], key=lambda r: -r["resource_elements_per_s"])
    columns = [
        (name, lambda r, name=name: r[name]) for name in ("size", "layout", "form", "precision")
    ]
    columns += [
        ("slots/s", lambda r: number(r["slots_per_s"])),
        ("M resource elements/s", lambda r: number(r["resource_elements_per_s"], 1e-6)),
        ("gradient off by", lambda r: off(r["gradient_error"])),
    ]
    threads = measured["threads"]
    Console(width=120).print(table(f"A step of 1/8 DeepRx, {threads} threads", rows, columns))
    if stopped:
        print(f"stopped; what was measured: {file}", file=sys.stderr)
        return 130
    print(f"{file}: written")
    return 0
