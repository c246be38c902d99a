# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped students in the whole flowgraph: what finding slots by their preamble costs, time."""

from pathlib import Path

import pytest
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.deeprx_python import instructions

from deeprx_common import report
from deeprx_common.slot import SlotConfig

STUDENT = Path(__file__).parents[1] / "models" / "deeprx-student.pt"


def errors(out, sinr_db, *arguments):
    """Bit errors at each SINR, over 60 channel draws that depend on nothing but the seed."""
    levels = ",".join(map(str, sinr_db))
    command = ["loopback", "--receiver", str(STUDENT), "--slots", "120", "--burst", "2"]
    assert main([*command, "--sinr", levels, "--out", str(out), *arguments]) == 0
    points = report.read(out / "report.json")["points"]
    assert [p["missed_slots"] for p in points] == [0] * len(sinr_db)
    return [p["bit_errors"] for p in points]


def test_synchronised_within_half_a_db_of_aligned(tmp_path):
    """Half a dB is 8 to 20 % of the errors here; other noise over the same draws, 1 %."""
    aligned = errors(tmp_path / "aligned", [5.5, 11.5, 17.5])
    synchronised = errors(tmp_path / "sync", [6, 12, 18], "--sync", "--cfo", "1000")
    assert all(s < a for s, a in zip(synchronised, aligned, strict=True)), (synchronised, aligned)


@pytest.mark.timing
@pytest.mark.skipif(not instructions("bfloat16"), reason="no bfloat16 instructions: slower")
def test_the_smallest_student_keeps_up_with_the_slots(tmp_path):
    """A slot of 26 PRB lasts 1 ms; the best of three runs, as other programs make them longer."""
    command = ["loopback", "--receiver", "deeprx-slim-0.pt", "--slots", "600", "--sinr", "12"]
    times = []
    for i in range(3):
        assert main([*command, "--out", str(tmp_path / str(i))]) == 0
        (point,) = report.read(tmp_path / str(i) / "report.json")["points"]
        assert point["slots"] == 600 and point["missed_slots"] == 0
        times.append(point["cpu_s_per_slot"])
        if times[-1] < SlotConfig().slot_s:
            break
    assert 0 < min(times) < SlotConfig().slot_s
