# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped student in the whole flowgraph: what finding the slots by their preamble costs."""

from pathlib import Path

from gnuradio.deeprx.cli import main

from deeprx_common import report

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
