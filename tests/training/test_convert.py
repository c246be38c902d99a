# SPDX-License-Identifier: GPL-3.0-or-later
"""Model files of contract 1 become files of contract 2 that give the same LLRs; none of it runs."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deeprx_common.model_archive import read_model_file
from deeprx_training import cli
from deeprx_training.export.convert import convert
from deeprx_training.files import TrainingError
from deeprx_training.receivers import weights
from deeprx_training.receivers.build import build
from deeprx_training.receivers.contract import LayerOf
from deeprx_training.receivers.flop import example
from deeprx_training.receivers.nets import HybridRx
from deeprx_training.teaching.checkpoint import load_receiver

ROOT = Path(__file__).parents[2]
ABOUT = {
    "contract": "deeprx.model/1",
    "name": "old",
    "kind": "student",
    "requires": [],
    "quantized_engine": None,
    "prb_multiple_of": 1,
    "n_rx": [2],
    "n_sym": 14,
    "dmrs": None,
    "modulations": ["QPSK", "16QAM"],
    "bits": 4,
    "training": {},
}
SPEC = {"net": "HybridRx", "channels": 8, "dilations": [[1, 1]]}
RECIPE = """steps = 1
[data]
dmrs = { "2" = 1, "3,11" = 3, "2,11" = 0 }
scs_khz = { 15 = 1, 30 = 0, 60 = 1 }
"""


def old_file(path, net, **about):
    extra = {"deeprx.json": json.dumps(ABOUT | about), "openvino/bits4.bin": b"as it was"}
    torch.jit.save(torch.jit.script(net.eval()), str(path), _extra_files=extra)
    return str(path)


def test_a_net_of_ours_gives_the_same_llrs_and_has_its_weights(tmp_path, capsys):
    net = build(SPEC).eval()
    nn.init.normal_(net.net.head.weight)  # zero, as it is made
    path = old_file(tmp_path / "m.pt", net, training={"net": SPEC, "recipe": RECIPE})
    assert cli.main(["convert", path]) == 0
    assert capsys.readouterr().out == f"{path}: old, deeprx.model/2, with its weights\n"
    archive = read_model_file(path)
    about = archive.metadata
    assert about["contract"] == "deeprx.model/2" and about["layers"] == [1]
    assert about["dmrs"] == [[2], [3, 11]] and about["n_dmrs"] == [1, 2]
    assert about["scs_khz"] == [15, 60]
    assert about["n_prb"] == [6, 273] and about["n_sym"] == [14] and about["cdm_groups"] == [1]
    assert about["training"] == {"recipe": RECIPE}
    assert about["net"] == SPEC | {"n_rx": 2, "fold": 2, "innovation": True, "refine": True}
    assert bytes(archive.records["extra/openvino/bits4.bin"]) == b"as it was"
    for name, tensor in weights.read(archive).items():
        assert torch.equal(tensor, net.state_dict()[name])
    rebuilt = load_receiver(path, rebuild=True)[1]
    assert isinstance(rebuilt, HybridRx)
    program = torch.jit.load(path).eval()
    y, p = example(2, 6, batch=2)
    with torch.inference_mode():
        for bits in (2, 4):
            assert torch.equal(LayerOf(program)(y, p, bits), net(y, p, bits))
            assert torch.equal(rebuilt(y, p, bits), net(y, p, bits))


class Recursive(nn.Module):
    """Its forward has a method that calls it."""

    def forward(self, y: Tensor, p: Tensor, bits: int) -> Tensor:
        if bits > 2:
            return torch.cat([self.half(y, p, bits), self.half(y, p, bits)], -1)
        return y[:, 0]

    def half(self, y: Tensor, p: Tensor, bits: int) -> Tensor:
        return p + y[:, 1]


class Outer(nn.Module):
    """Others of its methods call forward."""

    def forward(self, y: Tensor, p: Tensor, bits: int) -> Tensor:
        return (y[:, 0] + p).repeat(1, 1, 1, bits // 2)

    @torch.jit.export
    def louder(self, y: Tensor, p: Tensor, bits: int) -> Tensor:
        return 2 * self.forward(y, p, bits)


@pytest.mark.parametrize("kind", [Recursive, Outer])
def test_any_program_is_converted(tmp_path, kind):
    net, path = kind(), tmp_path / "m.pt"
    convert(old_file(path, net, dmrs=[[3]]))
    archive = read_model_file(path)
    about = archive.metadata
    assert about["net"] is about["scs_khz"] is None and about["dmrs"] == [[3]]
    assert weights.read(archive) is None
    y, p = example(2, 6)
    program = torch.jit.load(str(path))
    assert torch.equal(LayerOf(program)(y, p, 4), net(y, p, 4))
    if kind is Outer:
        assert torch.equal(program.louder(y, p, 4), 2 * net(y, p, 4))


class Harmful(nn.Module):
    """Writes a file as it is loaded."""

    def __init__(self, target: str):
        super().__init__()
        self.target = target

    def forward(self, y: Tensor, p: Tensor, bits: int) -> Tensor:
        return y[:, 0]

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.target, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.target, self.training = state
        torch.save(torch.ones(3), self.target)


def test_nothing_of_a_file_runs(tmp_path):
    target = tmp_path / "written"
    path = old_file(tmp_path / "m.pt", Harmful(str(target)))
    convert(path)
    assert not target.exists()
    torch.jit.load(path)
    assert target.exists()  # it would have


class NoInteger(nn.Module):
    def forward(self, y: Tensor, p: Tensor, bits: float) -> Tensor:
        return y[:, 0] * bits


def other_code(path):
    old_file(path, NoInteger())
    return "its program has no forward(y: Tensor, p: Tensor, bits: int) of contract 1"


def converted(path):
    convert(old_file(path, Outer()))
    return "expected contract 'deeprx.model/1', found 'deeprx.model/2': nothing to convert"


def other_bytes(path):
    path.write_bytes(b"no archive")
    return "is not a TorchScript archive"


def other_json(path):
    old_file(path, Outer(), modulations=4)
    return "'modulations' must be"


def other_recipe(path):
    old_file(path, Outer(), training={"recipe": "= 4"})
    return "Invalid statement"


@pytest.mark.parametrize(
    "about, says",
    [
        ({"training": 4}, "'training' must be a dictionary"),
        ({"training": {"recipe": 4}}, "expected a recipe's text, found a int"),
        ({"training": {"recipe": "= 4"}}, "m.pt: "),
        ({"training": ["recipe"]}, "'training' must be a dictionary"),
        ({"training": None}, "'training' must be a dictionary"),
        ({"training": {"recipe": "data = 4"}}, "expected a table"),
        ({"training": {"recipe": "[data]\nsnr_db = 4"}}, "snr_db"),
        ({"precision": ["int8"]}, "'precision' must be"),
        ({"contract": ["deeprx.model/1"]}, "expected contract"),
        ({"training": {"net": {"net": ["HybridRx"]}}}, ""),
        ({"dmrs": 2}, "'dmrs' must be"),
        ({"dmrs": [[5]]}, "dmrs of 14 symbols must be one of"),
        ({"bits": None}, "'bits' must be"),
    ],
)
def test_what_a_file_says_of_itself_may_be_anything(tmp_path, about, says):
    path = old_file(tmp_path / "m.pt", Outer(), **about)
    try:
        convert(path)
    except TrainingError as error:
        assert says and says in str(error) and str(error).isprintable()
    else:
        assert not says and read_model_file(path).metadata["net"] is None


@pytest.mark.parametrize("write", [other_code, converted, other_bytes, other_json, other_recipe])
def test_what_cannot_be_converted_is_one_line_and_stays(tmp_path, write):
    path = tmp_path / "m.pt"
    says = write(path)
    data = path.read_bytes()
    with pytest.raises(TrainingError) as error:
        convert(path)
    assert str(error.value).startswith(f"{path}: ") and says in str(error.value)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == data and list(tmp_path.iterdir()) == [path]


def test_a_file_of_contract_1_is_refused_by_the_command_that_converts_it(tmp_path, capsys):
    path = old_file(tmp_path / "m.pt", Outer())
    for rebuild in (False, True):
        with pytest.raises(TrainingError, match=r"`./dev train convert FILE\.pt` converts"):
            load_receiver(path, rebuild=rebuild)


def test_records_that_are_no_safetensors_are_one_line(tmp_path):
    path = shutil.copy(ROOT / "models" / "deeprx-pusch-small.pt", tmp_path / "m.pt")
    with zipfile.ZipFile(path) as old:
        records = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in records.items():
            new.writestr(name, data[:-1] if name.endswith("safetensors") else data)
    with pytest.raises(TrainingError, match=r"m\.pt: weights\.safetensors is no safetensors: "):
        load_receiver(str(path), rebuild=True)
