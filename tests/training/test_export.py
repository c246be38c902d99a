# SPDX-License-Identifier: GPL-3.0-or-later
"""Model files as they are written: whole and checked, or not at all."""

import json
import zipfile

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deeprx_common.examples import received_slots
from deeprx_common.slot import SlotConfig, User
from deeprx_training.export import ExportError, save_receiver
from deeprx_training.export import export as exporting
from deeprx_training.export.export import export
from deeprx_training.receivers.classical import Baseline
from deeprx_training.receivers.contract import LayerOf
from deeprx_training.receivers.flop import example


class _Unlike(nn.Module):
    """Gives other LLRs as a program than it does in Python."""

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        llr = y.sum(1)[..., :1].expand(-1, -1, -1, bits)
        return -llr if torch.jit.is_scripting() else llr


def test_a_failed_export_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "m.pt"
    export(Baseline(), path, "m", "baseline", [2])
    good = path.read_bytes()
    assert {name.partition("/")[0] for name in zipfile.ZipFile(path).namelist()} == {"deeprx"}
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


class Mine(nn.Module):
    """One channel estimate a slot: what a newcomer writes first. Variants are what goes wrong."""

    def __init__(self, variant: str = ""):
        super().__init__()
        self.variant = variant
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        z, x = torch.view_as_complex(y), torch.view_as_complex(p)
        h = (z * x.conj()[:, None]).sum((2, 3)) / x.abs().square().sum((1, 2))[:, None]
        power = h.abs().square().sum(1)[:, None, None]
        s = torch.view_as_real((h.conj()[:, :, None, None] * z).sum(1) / power)
        llr = -self.gain * torch.cat([s] * 4, -1)
        if self.variant == "loud":
            llr = llr * y.abs().amax()
        elif self.variant == "crowd":
            llr = llr + llr.mean(0)
        elif self.variant == "double":
            llr = llr.double()
        elif self.variant == "short":
            llr = llr[..., :4]
        elif self.variant == "nan":
            llr = llr / 0 * 0
        elif self.variant == "two":
            llr = llr * y[:, 1, :, :, :1] / y[:, 1, :, :, :1]
        elif self.variant == "even":
            llr = llr.view(len(y), 14, -1, 24, 8).view(len(y), 14, -1, 8)
        return llr


class Unannotated(nn.Module):
    def forward(self, y, p, bits):
        return y


class Printing(nn.Module):
    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        with open("log", "a") as file:
            file.write("called")
        return y


def test_a_module_becomes_a_model_file_in_one_call(tmp_path):
    path = tmp_path / "mine.pt"
    info = save_receiver(Mine(), path, n_rx=[1, 2], modulations=["QPSK", "16QAM"], dmrs=[[2]])
    with zipfile.ZipFile(path) as archive:
        (record,) = (n for n in archive.namelist() if n.endswith("extra/deeprx.json"))
        assert json.loads(archive.read(record)) == info
    assert (info["name"], info["n_rx"], info["dmrs"], info["bits"]) == ("mine", [1, 2], [[2]], 4)
    assert info["params"] == 1 and info["modulations"] == ["QPSK", "16QAM"]
    assert info["scs_khz"] is None  # any
    assert info["trained"] is None and info["limits"] == []
    y, p = example(2, 6)
    assert torch.equal(LayerOf(torch.jit.load(path))(y, p, 2), Mine()(y, p, 2))


class Whole(nn.Module):
    """The contract's forward: the first antenna's symbols, turned by each layer's pilots."""

    def forward(self, y: Tensor, p: Tensor, d: Tensor, bits: list[int]) -> Tensor:
        z, x = torch.view_as_complex(y)[:, :1], torch.view_as_complex(p)
        h = (z * x.conj()).sum((2, 3), keepdim=True) / x.abs().square().sum((2, 3), keepdim=True)
        s = torch.view_as_real(z / h) * d[:, :, None]
        return -torch.cat([s] * (max(bits) // 2), -1)


USERS = (User("16QAM"), User("16QAM", port=2))
SLOTS = [SlotConfig(), SlotConfig(users=USERS, cdm_groups=2, n_symbols=9, dmrs=(2, 7), scs_khz=30)]


def test_a_module_of_the_whole_contract_takes_what_its_slots_show(tmp_path, capsys):
    path = tmp_path / "mine.pt"
    about = save_receiver(Whole(), path, slots=SLOTS, modulations=["QPSK", "16QAM"])
    assert (about["layers"], about["n_sym"], about["cdm_groups"]) == ([1, 2], [9, 14], [1, 2])
    assert (about["dmrs"], about["n_dmrs"]) == ([[2, 7], [2, 11]], [2])
    assert about["scs_khz"] == [15, 30]
    assert about["flop_per_slot"]["matmul"] == 0 and about["engines"] == ["torchscript"]
    assert "TorchScript only" in capsys.readouterr().out
    y, p, d = map(torch.from_numpy, received_slots(SLOTS[1], 2, 2))
    program = torch.jit.load(path)
    assert torch.equal(program(y, p, d, [4, 2]), Whole()(y, p, d, [4, 2]))
    only_two = save_receiver(Whole(), path, slots=SLOTS[1:], openvino=False)
    assert only_two["layers"] == [2] and only_two["flop_per_slot"] is None


@pytest.mark.parametrize(
    ("module", "slots", "says"),
    [
        (Whole(), [], "slots= shows what a module with the contract's forward(y, p, d, bits) "),
        (Mine(), SLOTS, "takes: expected none"),
    ],
)
def test_slots_belong_to_the_whole_contract(tmp_path, module, slots, says):
    with pytest.raises(ExportError) as error:
        save_receiver(module, tmp_path / "mine.pt", slots=slots)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (Mine("loud"), "mine: LLRs change with the scale of y"),
        (Mine("crowd"), "mine: a slot's LLRs depend on the other slots"),
        (Mine("double"), "expected float32 LLRs [2, 14, 72, >= 2] with 1 antennas, 6 PRB, QPSK"),
        (Mine("short"), "found float32 [2, 14, 72, 4]"),
        (Mine("nan"), "mine: gives LLRs that are not finite with 1 antennas"),
        (Mine("two"), "mine: fails with 1 antennas, 6 PRB, QPSK: "),
        (Mine("even"), "mine: fails with 1 antennas, 53 PRB, QPSK: "),
        (Unannotated(), "mine: expected forward(y: Tensor, p: Tensor, bits: int)"),
        (Printing(), "mine: TorchScript does not compile it: "),
    ],
    ids=lambda v: getattr(v, "variant", None),
)
def test_what_is_no_receiver_gets_one_line_and_no_file(tmp_path, module, says):
    with pytest.raises(ExportError) as error:
        save_receiver(module, tmp_path / "mine.pt", n_rx=[1, 2])
    assert says in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_parity_is_checked_on_slots_that_the_net_takes(tmp_path):
    path, parity = tmp_path / "m.pt", tmp_path / "parity.npz"
    options = dict(openvino=False, prb_multiple_of=4)
    export(Mine(), path, "m", "student", [2], parity=parity, **options)
    with np.load(parity) as kept:
        y, llr = kept["y"], kept["llr"]
    assert y.shape == (2, 2, 14, 12 * 28, 2) and llr.shape == (2, (14 * 12 - 2 * 6) * 28 * 4)


def test_its_dmrs_symbols_and_spacings_are_those_of_slots(tmp_path):
    with pytest.raises(ValueError, match=r"dmrs of 14 symbols must be one of .*got \[2, 9\]"):
        save_receiver(Mine(), tmp_path / "mine.pt", dmrs=[[2, 9]])
    with pytest.raises(ValueError, match="scs_khz must be one of 15, 30, 60, got 20"):
        save_receiver(Mine(), tmp_path / "mine.pt", scs_khz=[15, 20])
    assert not list(tmp_path.iterdir())
    about = save_receiver(Mine(), tmp_path / "mine.pt", scs_khz=[30], openvino=False)
    assert about["scs_khz"] == [30]


def test_what_it_was_trained_on_must_be_complete(tmp_path):
    """The block and deeprx info show it."""
    with pytest.raises(ValueError, match="trained lacks 'delay_spread_s'"):
        save_receiver(Mine(), tmp_path / "mine.pt", trained={"channels": ["TDL-A"]})
    assert not list(tmp_path.iterdir())
