# SPDX-License-Identifier: GPL-3.0-or-later
"""From nothing to LLRs: train a teacher, distil, evaluate, export, run in the receiver block.

The commands of the smoke recipes, in both environments, on a copy of the recipes.
"""

import json
import shutil
import subprocess

from training_commands import NEEDED, PYTHON, ROOT, train

STUDENT = "training/recipes/smoke_distill.toml"


def said(folder, *command):
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stdout[-1000:] + ran.stderr[-2000:]
    return ran.stdout


@NEEDED
def test_chain(tmp_path):
    shutil.copytree(ROOT / "training/recipes", tmp_path / "training/recipes")
    said(tmp_path, PYTHON.with_name("deeprx-train"), "--version")
    train(
        tmp_path,
        "training/recipes/smoke.toml --out runs/smoke",
        f"{STUDENT} --out runs/student",
        "evaluate runs/student/last.ckpt --sinr 9,15 --slots 8 --channel TDL-A"
        " --delay-spread 1e-7 --doppler 50 --out runs/eval",
        f"export runs/student/last.ckpt smoke-student.pt --recipe {STUDENT}"
        " --report runs/eval/report.json --parity slots.npz",
    )
    parity = said(tmp_path, "deeprx", "parity", "smoke-student.pt", "slots.npz")
    assert "the same receiver" in parity and "NOT" not in parity
    arguments = "--receiver smoke-student.pt --sinr 12 --slots 4 --out out"
    said(tmp_path, "deeprx", "loopback", *arguments.split())
    (point,) = json.loads((tmp_path / "out/report.json").read_text())["points"]
    assert (point["receiver"], point["slots"]) == ("smoke-student", 4)
    # it starts from the classical receiver, so even this one receives
    assert point["ber"] < 0.1
