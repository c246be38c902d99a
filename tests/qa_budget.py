# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx loopback --budget: what every block of the flowgraph takes of the CPU."""

import json
import re
import time

import pytest
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.cli.budget import Budget
from receiver_models import Constant, save


def test_every_block_has_a_row_and_the_rows_add_up(tmp_path, capsys):
    model = save(Constant(1.0), tmp_path / "constant.pt", name="constant")
    command = ["loopback", "--receiver", model, "--slots", "500", "--sinr", "6,12", "--budget"]
    assert main([*command, "--meter", "none", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    rows = dict(re.findall(r"^ ?(\S.*?) +([\d.]+) +\d+%", printed, re.MULTILINE))
    blocks = ("Slot source", "Slot gate", "TDL fader", "noise_source", "Slot cutter", "slot_probe")
    assert set(blocks) < set(rows)
    total = float(re.search(r"^ ?all +([\d.]+)", printed, re.MULTILINE)[1])
    assert sum(map(float, rows.values())) == pytest.approx(total, rel=0.02)
    assert all(float(rows[block]) > 0 for block in blocks)
    points = json.loads((tmp_path / "report.json").read_text())["points"]
    assert [p["slots"] for p in points] == [500, 500]


def test_cpu_time_between_the_first_slot_and_the_last_is_shared_among_them():
    budget = Budget()
    _work(0.05)  # before the first slot: not counted
    budget.sample(0)
    budget.sample(10)
    spent = _work(0.1)
    budget.sample(30)
    assert budget.per_slot().most_common(1)[0][1] * 20 >= spent
    assert budget.per_slot().most_common(1)[0][1] * 20 < spent + 0.04


def _work(seconds):
    start = time.thread_time()
    while time.thread_time() - start < seconds:
        pass
    return time.thread_time() - start
