# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver as OpenVINO IR, which the block's second engine runs faster than TorchScript."""

import sys
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


class IrError(RuntimeError):
    """OpenVINO cannot express the net; the message is one line."""


class _Fixed(nn.Module):
    """A net's forward for one number of bits."""

    def __init__(self, net: nn.Module, bits: int):
        super().__init__()
        self.net, self.bits = net, bits

    def forward(self, y: Tensor, p: Tensor) -> Tensor:
        return self.net(y, p, self.bits)


def ir_files(net: nn.Module, y: Tensor, p: Tensor, all_bits: list[int]) -> dict[str, bytes]:
    """IR of net's forward for each number of bits, as a model file carries it: extra files
    "openvino/bits4.xml" and ".bin", ... Inputs y and p, of any batch and any number of
    subcarriers; arithmetic at net's own precision.

    y, p: slots of the contract's shapes to trace with. Raises IrError where the net has operators
    that OpenVINO lacks, as complex ones.
    """
    openvino = _import_openvino()
    files = {}
    for bits in all_bits:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", torch.jit.TracerWarning)
                model = openvino.convert_model(_Fixed(net, bits), example_input=(y, p))
        except Exception as error:  # of several kinds, each with a report of many lines
            raise IrError(_cause(error)) from None
        for port, name in zip(model.inputs, "yp", strict=True):
            port.get_tensor().set_names({name})
        model.reshape({"y": [-1, y.shape[1], y.shape[2], -1, 2], "p": [-1, p.shape[1], -1, 2]})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ir.xml"
            openvino.save_model(model, path, compress_to_fp16=False)
            for suffix in (".xml", ".bin"):
                files[f"openvino/bits{bits}{suffix}"] = path.with_suffix(suffix).read_bytes()
    return files


def run_ir(files: dict[str, bytes], y: Tensor, p: Tensor, bits: int) -> Tensor:
    """LLRs of an IR that ir_files() made, on the CPU. Raises IrError where it does not run."""
    openvino = _import_openvino()
    core = openvino.Core()
    name = f"openvino/bits{bits}"
    try:
        model = core.read_model(files[name + ".xml"], files[name + ".bin"])
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return torch.from_numpy(compiled({"y": y.numpy(), "p": p.numpy()})[0].copy())
    except RuntimeError as error:
        raise IrError(_cause(error)) from None


def _import_openvino():
    # Importing OpenVINO reports to its maker over the network where this module can be imported
    sys.modules.setdefault("openvino_telemetry", None)
    import openvino

    return openvino


def _cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    if any("Complex" in line for line in lines):
        return "it computes with complex numbers"
    told = [
        line for line in lines if line and not line.startswith(("Exception", "Check ", "Front"))
    ]
    return told[-1] if told else type(error).__name__
