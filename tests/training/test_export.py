# SPDX-License-Identifier: GPL-3.0-or-later
"""Model files as they are written: whole and checked, or not at all."""

import pytest
import torch
from torch import nn

from deeprx_training import export as exporting
from deeprx_training.classical import Baseline
from deeprx_training.export import ExportError, export


class _Unlike(nn.Module):
    """Gives other LLRs as a program than it does in Python."""

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        llr = y.sum(1)[..., :1].expand(-1, -1, -1, bits)
        return -llr if torch.jit.is_scripting() else llr


def test_a_failed_export_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "m.pt"
    export(Baseline(), path, "m", "baseline", [2])
    good = path.read_bytes()
    with pytest.raises(ExportError, match=r"m\.pt: not written: LLRs differ from"):
        export(_Unlike(), path, "m", "student", [2], openvino=False)
    assert path.read_bytes() == good
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "m.pt"
    export(Baseline(), path, "m", "baseline", [2])
    good = path.read_bytes()

    def save(script, partial, _extra_files):
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(exporting.torch.jit, "save", save)
    with pytest.raises(RuntimeError, match=r"m\.pt: cannot be written: Pytorch"):
        export(Baseline(), path, "m", "baseline", [2])
    assert path.read_bytes() == good
