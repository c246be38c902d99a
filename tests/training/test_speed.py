# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a training step is, in forms that compute the same."""

import json

import pytest

from deeprx_training.cli import main
from deeprx_training.experiments import speed
from deeprx_training.experiments.speed import Path


def test_forms_of_a_step_compute_the_same(tmp_path, monkeypatch, capsys):
    paths = [
        Path("crop", "first", "separable", "float32"),
        Path("crop", "last", "dense", "float32"),
    ]
    monkeypatch.setattr(speed, "PRB", {"crop": (2, 3)})
    monkeypatch.setattr(speed, "PATHS", paths)
    assert main(["speed", "--threads", "1", "--rounds", "2", "--out", str(tmp_path / "new")]) == 0
    assert "separable" in capsys.readouterr().out
    measured = json.loads((tmp_path / "new/speed.json").read_text())
    plain, dense = measured["rows"]
    assert plain["gradient_error"] == 0 and 0 < dense["gradient_error"] < 0.05
    for row in measured["rows"]:
        low, high = row["spread"]
        assert 0 < low <= row["resource_elements_per_s"] <= high
        elements = row["resource_elements_per_s"] / row["slots_per_s"]
        assert elements == pytest.approx(14 * 24, rel=1e-6)
    assert measured["threads"] == 1 and measured["rounds"] == 2


def test_a_gradient_that_is_not_finite_is_said_to_be():
    assert speed.off(None) == "all: not finite" and speed.off(0.343) == "34 %"
