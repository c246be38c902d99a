# SPDX-License-Identifier: GPL-3.0-or-later
"""A model file as ONNX, for one modulation and shape: to_onnx.py MODEL BITS SHAPE_OF_Y OUT.

A script, so that what PyTorch's exporter prints and holds is gone with it. Convolutions become
float32: ONNX Runtime has no others on a CPU, and OpenVINO chooses its precision itself.
"""

import json
import sys

import torch


class _FixedBits(torch.nn.Module):
    def __init__(self, receiver: torch.jit.ScriptModule, bits: int):
        super().__init__()
        self.receiver, self.bits = receiver, bits

    def forward(self, y: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return self.receiver(y, p, self.bits)


def main(model: str, bits: str, shape: str, out: str) -> None:
    receiver = torch.jit.load(model).eval()
    for part in receiver.modules():
        if part.original_name.startswith("Conv"):
            part.float()
    y = torch.randn(json.loads(shape))
    fixed = torch.jit.freeze(torch.jit.script(_FixedBits(receiver, int(bits)).eval()))
    torch.onnx.export(
        fixed,
        (y, y[:, 0].clone()),
        out,
        input_names=["y", "p"],
        output_names=["llr"],
        opset_version=17,
        dynamo=False,  # the other exporter takes no TorchScript
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
