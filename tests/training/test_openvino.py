# SPDX-License-Identifier: GPL-3.0-or-later
"""Model files that carry their net as OpenVINO IR beside the TorchScript."""

import json
import zipfile

import pytest
import torch
from torch import Tensor, nn

from deeprx_training.export import ExportError, checks
from deeprx_training.export.export import export
from deeprx_training.export.openvino_ir import run_ir
from deeprx_training.receivers.flop import example
from deeprx_training.receivers.nets import HybridRx


class RealRx(nn.Module):
    """A small receiver of real arithmetic, whose convolutions may be bfloat16."""

    n_rx = 2

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.head = nn.Conv2d(6, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.tail = nn.Conv2d(16, 8, 1)

    def forward(self, y: Tensor, p: Tensor, bits: int) -> Tensor:
        b, r, s, k, _ = y.shape
        x = y.permute(0, 1, 4, 2, 3).reshape(b, 2 * r, s, k)
        x = torch.cat([x, p.permute(0, 3, 1, 2)], 1).to(self.head.weight.dtype)
        x = torch.relu(self.norm(self.head(x).float())).to(self.tail.weight.dtype)
        return self.tail(x).float().permute(0, 2, 3, 1)[..., :bits] * bits


class BranchingRx(nn.Module):
    """Does what no single trace shows."""

    n_rx = 2

    def __init__(self):
        super().__init__()
        self.inner = RealRx()

    def forward(self, y: Tensor, p: Tensor, bits: int) -> Tensor:
        llr = self.inner(y, p, bits)
        return 2 * llr if y.size(0) > 1 else llr


def carried(path):
    with zipfile.ZipFile(path) as archive:
        names = {n.partition("/extra/")[2]: n for n in archive.namelist() if "/extra/" in n}
        return {name: archive.read(record) for name, record in names.items()}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_file_carries_the_net_for_every_modulation(tmp_path, precision):
    net = RealRx().eval()
    path = tmp_path / "real.pt"
    metadata = export(net, path, "real", "student", [2], precision=precision)
    assert metadata["engines"] == ["torchscript", "openvino"]
    files = carried(path)
    assert json.loads(files["deeprx.json"])["engines"] == metadata["engines"]
    y, p = example(2, n_prb=11, batch=3)
    for bits in (2, 4, 6, 8):
        with torch.inference_mode():
            expected = net(y, p, bits)
        llr = run_ir(files, y, p, bits)
        assert llr.shape == expected.shape
        error = (llr - expected).square().mean() / expected.square().mean()
        assert error < checks.PARITY[precision] ** 2


def test_complex_net_is_torchscript_only(tmp_path, capsys):
    metadata = export(HybridRx(channels=4, dilations=((1, 1),)), tmp_path / "h.pt", "h", "x", [2])
    assert metadata["engines"] == ["torchscript"]
    assert carried(tmp_path / "h.pt").keys() == {"deeprx.json"}
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "TorchScript only" in out and "complex" in out


def test_openvino_can_be_left_out(tmp_path, capsys):
    export(RealRx(), tmp_path / "real.pt", "real", "student", [2], openvino=False)
    assert carried(tmp_path / "real.pt").keys() == {"deeprx.json"}
    assert capsys.readouterr().out == ""


def test_what_tracing_loses_is_noticed(tmp_path):
    with pytest.raises(ExportError, match="OpenVINO IR differ"):
        export(BranchingRx(), tmp_path / "m.pt", "m", "student", [2])


def test_ir_with_other_llrs_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "run_ir", lambda files, y, p, bits: 1 + run_ir(files, y, p, bits))
    with pytest.raises(ExportError, match="OpenVINO IR differ"):
        export(RealRx(), tmp_path / "real.pt", "real", "student", [2])
    assert not (tmp_path / "real.pt").exists()
