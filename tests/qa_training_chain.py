#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""From nothing to LLRs: train a teacher, distil, evaluate, export, run in the receiver block.

The commands of the smoke recipes, in both environments, on a copy of the recipes.
"""

import json
import os
import shutil
import subprocess
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
TRAIN = ROOT / ".venv-training" / "bin" / "deeprx-train"


@unittest.skipUnless(TRAIN.exists(), "no training environment: ./dev train --help makes it")
class TestChain(unittest.TestCase):
    def run_in(self, folder, *command):
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        if command[0] == "deeprx":
            environment = os.environ
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280
        )
        self.assertEqual(done.returncode, 0, done.stdout[-1000:] + done.stderr[-2000:])
        return done.stdout

    def test_chain(self):
        with TemporaryDirectory() as folder:
            shutil.copytree(ROOT / "training" / "recipes", Path(folder) / "training" / "recipes")
            recipes = "training/recipes"
            self.run_in(folder, TRAIN, f"{recipes}/smoke.toml", "--out", "runs/smoke")
            student = f"{recipes}/smoke_distill.toml"
            self.run_in(folder, TRAIN, student, "--out", "runs/student")
            self.run_in(
                folder, TRAIN, "evaluate", "runs/student/last.ckpt",
                "--sinr", "9,15", "--slots", "8", "--out", "runs/eval",
            )  # fmt: skip
            self.run_in(
                folder, TRAIN, "export", "runs/student/last.ckpt", "smoke-student.pt",
                "--recipe", student, "--report", "runs/eval/report.json", "--parity", "slots.npz",
            )  # fmt: skip
            said = self.run_in(folder, "deeprx", "parity", "smoke-student.pt", "slots.npz")
            self.assertIn("the same receiver", said)
            self.assertNotIn("NOT", said)
            self.run_in(
                folder, "deeprx", "loopback", "--receiver", "smoke-student.pt", "--sinr", "12",
                "--slots", "4", "--out", "out",
            )  # fmt: skip
            point = json.loads((Path(folder) / "out" / "report.json").read_text())["points"][0]
            self.assertEqual((point["receiver"], point["slots"]), ("smoke-student", 4))
            # it starts from the classical receiver, so even this one receives
            self.assertLess(point["ber"], 0.1)


if __name__ == "__main__":
    unittest.main()
