# SPDX-License-Identifier: GPL-3.0-or-later
"""Small TorchScript model files for the receiver's tests.

Most modules here are of one layer and know none: forward(y, p, bits: int), p [B, 14, n_sc, 2] and
LLRs [B, 14, n_sc, >= bits]. save() puts them into OneLayer, which has the contract's forward.
"""

import inspect
import json
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import torch
from torch import nn

from deeprx_common.examples import received_slots
from deeprx_common.slot import SlotConfig

METADATA = {
    "contract": "deeprx.model/2",
    "name": "test",
    "kind": "student",
    "precision": "float32",
    "requires": [],
    "quantized_engine": None,
    "layers": [1],
    "n_rx": [1, 2, 3, 4],
    "n_prb": [1, 273],
    "prb_multiple_of": 1,
    "n_sym": [14],
    "dmrs": None,
    "n_dmrs": [1, 2],
    "cdm_groups": [1],
    "modulations": ["QPSK", "16QAM", "64QAM", "256QAM"],
    "bits": 8,
    "params": 0,
}


def save(module: nn.Module, path: Path, carried: dict[str, bytes] | None = None, **metadata) -> str:
    """Write a model file; keywords replace entries of its deeprx.json. Returns the path.

    carried: further files of the archive, as OpenVINO IRs.
    """
    if list(inspect.signature(module.forward).parameters) == ["y", "p", "bits"]:
        module = OneLayer(module)
    files = {"deeprx.json": json.dumps({**METADATA, **metadata}), **(carried or {})}
    torch.jit.save(torch.jit.script(module.eval()), path, _extra_files=files)
    return str(path)


class OneLayer(nn.Module):
    """The contract's forward of a module of one layer."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(
        self, y: torch.Tensor, p: torch.Tensor, d: torch.Tensor, bits: list[int]
    ) -> torch.Tensor:
        return self.module(y, p[:, 0], bits[0]).unsqueeze(1)


class LayerOf(nn.Module):
    """The other way round, beside one CDM group without data."""

    def __init__(self, program: nn.Module):
        super().__init__()
        self.program = program

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        return self.program(y, p[:, None], (p[0] == 0).all(-1), [bits])[:, 0]


def has_openvino() -> bool:
    """Whether gr-deeprx was built with it."""
    from gnuradio.deeprx.deeprx_python import engines

    return any(name.startswith("OpenVINO") for name in engines())


def ir_of(module: nn.Module, n_rx: int = 2, bits: int = 4) -> dict[str, bytes]:
    """The module's forward as OpenVINO IR, as a model file carries it."""

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module.eval()

        def forward(self, y: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
            return self.module(y, p, bits)

    y, p = torch.randn(1, n_rx, 14, 312, 2), torch.randn(1, 14, 312, 2)
    shapes = {"y": [-1, n_rx, 14, -1, 2], "p": [-1, 14, -1, 2]}
    return _ir_files(Fixed(), {"y": y, "p": p}, shapes, f"bits{bits}")


def ir_of_layers(module: nn.Module, slot: SlotConfig, n_rx: int = 2) -> dict[str, bytes]:
    """The same of a module of the contract, for two layers of such slots."""

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module.eval()

        def forward(self, y: torch.Tensor, p: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
            return self.module(y, p, d, bits)

    bits = [user.bits_per_symbol for user in slot.users]
    arguments = dict(zip("ypd", map(torch.from_numpy, received_slots(slot, n_rx, 1)), strict=True))
    shapes = {"y": [-1, n_rx, 14, -1, 2], "p": [-1, 2, 14, -1, 2], "d": [14, -1]}
    return _ir_files(Fixed(), arguments, shapes, "bits" + "-".join(map(str, bits)))


def _ir_files(module: nn.Module, arguments: dict, shapes: dict, ir: str) -> dict[str, bytes]:
    sys.modules.setdefault("openvino_telemetry", None)  # importing OpenVINO reports to its maker
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        model = openvino.convert_model(module, example_input=tuple(arguments.values()))
    for port, name in zip(model.inputs, arguments, strict=True):
        port.get_tensor().set_names({name})
    model.reshape(shapes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ir.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        return {
            f"openvino/{ir}{suffix}": path.with_suffix(suffix).read_bytes()
            for suffix in (".xml", ".bin")
        }


def edit_code(path: str, old: str, new: str):
    """Replace text in the TorchScript sources of a model file, as an attacker could."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    n_places = 0
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            if "/code/" in name and name.endswith(".py"):
                n_places += data.count(old.encode())
                data = data.replace(old.encode(), new.encode())
            archive.writestr(name, data)
    assert n_places, f"{old!r} is not in the code of {path}"


class ConvNet(nn.Module):
    """A small convolutional receiver with random weights, for any number of antennas."""

    def __init__(self, n_rx=2, bits=4, channels=8, blocks=1, fold=1):
        super().__init__()
        torch.manual_seed(n_rx + bits)
        self.bits = bits
        self.fold = fold
        self.head = nn.Conv2d((2 * n_rx + 2) * fold, channels, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
            )
            for _ in range(2 * blocks)
        )
        self.tail = nn.Conv2d(channels, bits * fold, 1)

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        batch, n_rx, n_sym, n_sc, _ = y.shape
        planes = y.permute(0, 1, 4, 2, 3).reshape(batch, 2 * n_rx, n_sym, n_sc)
        x = torch.cat([planes, p.permute(0, 3, 1, 2)], 1)
        x = x.reshape(batch, -1, n_sym, n_sc // self.fold, self.fold).permute(0, 1, 4, 2, 3)
        x = self.head(x.reshape(batch, -1, n_sym, n_sc // self.fold))
        for layer in self.body:
            x = x + layer(x)
        x = self.tail(x).reshape(batch, self.bits, self.fold, n_sym, n_sc // self.fold)
        return x.permute(0, 3, 4, 2, 1).reshape(batch, n_sym, n_sc, self.bits)


class Layers(nn.Module):
    """Of the contract itself, for any number of layers: each layer's channel at its first pilots,
    and LLRs that are its matched filter's output; zero where there is no data.
    """

    def forward(
        self, y: torch.Tensor, p: torch.Tensor, d: torch.Tensor, bits: list[int]
    ) -> torch.Tensor:
        power = p.square().sum([2, 3, 4])[:, :, None, None]  # [B, layers, 1, 1]
        yr, yi = y[:, None, ..., 0], y[:, None, ..., 1]  # [B, 1, n_rx, symbols, n_sc]
        pr, pi = p[:, :, None, ..., 0], p[:, :, None, ..., 1]  # [B, layers, 1, symbols, n_sc]
        hr = (yr * pr + yi * pi).sum([3, 4])[..., None, None] / power[..., None]
        hi = (yi * pr - yr * pi).sum([3, 4])[..., None, None] / power[..., None]
        x = torch.stack([(hr * yr + hi * yi).sum(2), (hr * yi - hi * yr).sum(2)], -1)
        x = x * d[:, :, None].to(x.dtype)
        x = x * torch.tensor(bits, dtype=torch.float32)[:, None, None, None]
        return torch.cat([x] * (max(bits) // 2), -1)


class Estimating(Layers):
    """Estimates a flat channel: least squares over all pilots, and the noise beside them. Where the
    first symbol is louder than all others it fails, or gives NaN.
    """

    def __init__(self, text: str = ""):
        super().__init__()
        self.text = text

    @torch.jit.export
    def estimate(
        self, y: torch.Tensor, p: torch.Tensor, d: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        pilots, received = torch.view_as_complex(p), torch.view_as_complex(y)
        power = p.square().sum([2, 3, 4])[:, :, None]  # [B, layers, 1]
        h = torch.einsum("brsk,blsk->blr", received, pilots.conj()) / power
        sent = torch.einsum("blr,blsk->brsk", h, pilots)
        mask = (pilots.abs().sum(1) > 0)[:, None]  # [B, 1, symbols, n_sc]
        left = ((received - sent) * mask).abs().square().sum([2, 3])
        noise = left / (mask.sum([2, 3]) - p.size(1))
        if bool(y[:, :, 0].abs().max() > 10 * y[:, :, 1:].abs().max()):
            if self.text != "":
                raise RuntimeError(self.text)
            noise = noise * float("nan")
        shape = [-1, -1, -1, y.size(2), y.size(3)]
        return torch.view_as_real(h[..., None, None].expand(shape).contiguous()), noise


class WrongEstimate(Layers):
    @torch.jit.export
    def estimate(self, y: torch.Tensor, p: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        return y


class Echo(nn.Module):
    """LLRs are the pilots one subcarrier below: on data elements they show the pilots."""

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        return torch.roll(p, 1, 2).repeat(1, 1, 1, (bits + 1) // 2)


class Constant(nn.Module):
    """Every LLR has one value."""

    def __init__(self, value: float):
        super().__init__()
        self.value = value

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        return torch.full([y.shape[0], y.shape[2], y.shape[3], bits], self.value)


class Failing(nn.Module):
    """Raises an error with this text where the first symbol is louder than the others."""

    def __init__(self, text: str):
        super().__init__()
        self.text = text

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        if bool(y[:, :, 0].abs().max() > 10 * y[:, :, 1:].abs().max()):
            raise RuntimeError(self.text)
        return torch.ones(y.size(0), y.size(2), y.size(3), bits)


class OneSlot(nn.Module):
    """Takes no batches."""

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        if y.size(0) != 1:
            raise RuntimeError("one slot only")
        return torch.ones(y.size(0), y.size(2), y.size(3), bits)


class Division(nn.Module):
    """0/0 in an empty slot, 1 in others."""

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        energy = y.square().sum([1, 4]).unsqueeze(-1)
        return (energy / energy).repeat(1, 1, 1, bits)


class WrongShape(nn.Module):
    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        return y.flatten(1)


class ReadsFile(nn.Module):
    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        secret = torch.from_file("/etc/passwd", False, 16, dtype=torch.uint8)
        return y + secret.float().sum()


class WritesFileInAnotherMethod(nn.Module):
    def __init__(self, target: str):
        super().__init__()
        self.target = target

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        return y

    @torch.jit.export
    def helper(self, y: torch.Tensor):
        torch.save(y, self.target)


class WritesFileOnLoading(nn.Module):
    def __init__(self, target: str):
        super().__init__()
        self.target = target

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        return y

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.target, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.target = state[0]
        self.training = state[1]
        torch.save(torch.ones(3), self.target)


class WritesFileInSubmodule(nn.Module):
    def __init__(self, target: str):
        super().__init__()
        self.inner = WritesFileOnLoading(target)

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        return self.inner(y, p, bits)


def pick(state: str = "fine") -> str:
    return state


class CallsFunction(nn.Module):
    """A free function with a default argument, for an attacker to edit. Of the contract itself."""

    size: torch.jit.Final[int]

    def __init__(self):
        super().__init__()
        self.size = 7

    def forward(
        self, y: torch.Tensor, p: torch.Tensor, d: torch.Tensor, bits: list[int]
    ) -> torch.Tensor:
        if pick() == "fine":
            return y
        return y * self.size


class Int8Net(nn.Module):
    """All int8 operators that a receiver may need: convolutions with ReLU and with residual."""

    def __init__(self):
        super().__init__()
        torch.backends.quantized.engine = "onednn"
        weight = torch.randn(8, 8, 3, 3, generator=torch.Generator().manual_seed(1))
        scales, zeros = torch.full((8,), 0.03).double(), torch.zeros(8, dtype=torch.int64)
        weight = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.conv2d_prepack(
            weight, torch.zeros(8), [1, 1], [1, 1], [1, 1], 1
        )

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        x = y.permute(0, 1, 4, 2, 3).flatten(1, 2)
        x = torch.quantize_per_tensor(torch.cat([x, x], 1), 0.05, 128, torch.quint8)
        x = torch.ops.quantized.conv2d_relu(x, self.packed, 0.1, 0)
        x = torch.ops.quantized.conv2d_add_relu(x, x, self.packed, 0.5, 0)
        return x.dequantize().permute(0, 2, 3, 1)[..., :bits]
