# SPDX-License-Identifier: GPL-3.0-or-later
"""./dev train study"""

import shlex
import sys

from .options import add_out, add_scale


def configure(parser) -> None:
    parser.description = (
        "Writes what the case study's experiment has found so far into "
        "results/case_study/SCALE.json: error rates and gains with their intervals, training by "
        "phase, energy steps, payback. What is not finished is named in it. Energy steps that it "
        "has of another machine and DIR has not measured stay, with their date. Then `./dev "
        "results --write` puts it into the documentation's page."
    )
    add_scale(parser, required=True)
    add_out(parser)


def run(arguments) -> int:
    from deeprx_common.documents import read_document
    from deeprx_common.files import write_json

    from ..experiments.file import load
    from ..experiments.results import ROOT
    from ..experiments.study import STORED, summarise

    a = arguments
    experiment = load(ROOT / "training/experiments/deeprx.toml", a.out, a.scale)
    command = ["./dev", "train", "study", "--scale", a.scale, "--out", str(a.out)]
    file = ROOT / "results/case_study" / f"{a.scale}.json"
    writer = shlex.join(command[:5])
    stored = read_document(file, STORED, "a study", writer) if file.exists() else None
    study = summarise(experiment, a.out, a.scale, command, stored)
    file.parent.mkdir(parents=True, exist_ok=True)
    print(f"{write_json(study, file)}: written")
    if missing := study["missing"] + study["missing_energy"]:
        print(f"not there yet: {', '.join(missing)}", file=sys.stderr)
    return 0
