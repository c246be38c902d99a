# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver of one's own, examples/my_receiver.py: from a module to a table."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from training_commands import NEEDED, train

ROOT = Path(__file__).resolve().parents[1]


def run(folder, *command, **environment):
    ran = subprocess.run(
        [str(word) for word in command],
        cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With my_receiver.pt, written as the page says."""
    folder = tmp_path_factory.mktemp("mine")
    paths = [str(ROOT / "training"), os.environ["PYTHONPATH"]]
    said = run(
        folder, sys.executable, ROOT / "examples/my_receiver.py", PYTHONPATH=os.pathsep.join(paths)
    )
    assert said == "my_receiver.pt: 221 parameters\n"
    return folder


def test_is_short():
    assert len((ROOT / "examples/my_receiver.py").read_text().splitlines()) <= 40


def test_is_exported_as_ir_too(folder):
    about = run(folder, sys.executable, "-m", "gnuradio.deeprx", "info", "my_receiver.pt")
    assert '["torchscript", "openvino"]' in about


@pytest.mark.slow
def test_receives_in_a_flowgraph_better_than_least_squares(folder):
    run(
        folder, sys.executable, "-m", "gnuradio.deeprx", "loopback", "--receiver", "my_receiver.pt",
        "--receiver", "baseline-lmmse", "--sinr", "12", "--slots", "100", "--out", "out",
    )  # fmt: skip
    mine, classical = json.loads((folder / "out/report.json").read_text())["points"]
    assert (mine["receiver"], mine["slots"], mine["missed_slots"]) == ("my_receiver", 100, 0)
    assert 0.01 < mine["ber"] < 0.9 * classical["ber"]
    assert mine["engine"].endswith(", jailed") and "jailed" not in classical["engine"]


@pytest.mark.slow
@NEEDED
def test_is_evaluated_by_the_training_command_line(folder):
    train(
        folder,
        "evaluate my_receiver.pt --slots 16 --sinr 6,12 --out evaluation --trust my_receiver.pt",
    )
    with open(folder / "evaluation/results.csv") as file:
        rows = [r for r in csv.DictReader(file) if r["metric"] == "ber" and r["by"] in ("", "all")]
    values = {(r["receiver"], float(r["sinr_db"])): float(r["value"]) for r in rows}
    assert values["my_receiver", 12.0] < values["my_receiver", 6.0] < 0.2
    assert values["perfect CSI", 12.0] < values["my_receiver", 12.0]


@NEEDED
def test_is_trained_by_the_recipe_of_the_page(tmp_path):
    page = (ROOT / "docs/how-to/own-receiver.md").read_text()
    (recipe,) = re.findall("^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.toml").write_text(re.sub("steps = .*", "steps = 8\nbatch = 8", recipe))
    shutil.copy(ROOT / "examples/my_receiver.py", tmp_path)
    said = train(
        tmp_path,
        "mine.toml --out run",
        "export run/last.ckpt mine.pt --recipe mine.toml",
        path=tmp_path,
    )
    assert "mine.pt: mine, 221 parameters" in said
    info = run(tmp_path, sys.executable, "-m", "gnuradio.deeprx", "info", "mine.pt")
    assert "trained for" in info and "16QAM" in info
