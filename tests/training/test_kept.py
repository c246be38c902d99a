# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kill leaves of an evaluation and of a benchmark of training."""

import sys

import numpy as np
from killed import kill_when_there, killed_with

from deeprx_common import report
from deeprx_training.cli import main
from deeprx_training.evaluation.evaluate import BATCH

SLOT = '{"n_prb": 2}'
SPEED = """
import sys
from deeprx_training.cli import main
from deeprx_training.experiments import speed
speed.PRB = {"crop": (2, 3)}
speed.PATHS = [speed.Path("crop", "first", "separable", "float32")]
sys.exit(main(sys.argv[1:]))
"""


def test_evaluate_killed_leaves_its_finished_points_and_goes_on(tmp_path):
    (tmp_path / "slot.json").write_text(SLOT)
    out = tmp_path / "out"
    command = (
        f"evaluate ls-lmmse --slot {tmp_path}/slot.json --sinr 3,6 --channel TDL-A --device cpu "
        f"--workers 1 --out {out} --slots"
    ).split()
    kill_when_there(
        out / "report.json", [sys.executable, "-m", "deeprx_training.cli", *command, "100000"]
    )
    kept = report.read(out / "report.json")["points"]
    slots = {point["slots"] for point in kept}
    assert {point["sinr_db"] for point in kept} == {3.0, 6.0} and slots.pop() % BATCH == 0
    counted = {path: path.stat().st_mtime_ns for path in out.glob("counted/*/*.npz")}
    assert main([*command, str(2 * BATCH)]) == 0
    again = {path: path.stat().st_mtime_ns for path in out.glob("counted/*/*.npz")}
    assert again.items() >= counted.items()  # nothing was counted again
    assert np.load(out / "errors.npz")["ls-lmmse"].shape == (2, 2 * BATCH)


def test_speed_killed_leaves_its_finished_rounds(tmp_path):
    command = [sys.executable, "-c", SPEED, "speed", "--threads", "1", "--rounds", "10000"]
    kept = killed_with(tmp_path / "speed.json", [*command, "--out", str(tmp_path)])
    assert 1 <= kept["rounds"] < 10000
    assert [row["size"] for row in kept["rows"]] == ["crop"]
