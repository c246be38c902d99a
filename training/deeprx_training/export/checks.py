# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an exported receiver is the one that was trained, and one that the block takes."""

from collections.abc import Sequence

import torch
from torch import nn

from deeprx_common.model_archive import SealedFile
from deeprx_common.slot import SlotConfig

from ..receivers.flop import example
from .openvino_ir import IrError, ir_files, run_ir

# RMS of the LLRs' difference over their RMS
PARITY = {"float32": 1e-4, "bfloat16": 3e-2, "int8": 1e-2}


class ExportError(ValueError):
    """The receiver cannot be exported; the message is one line."""


def difference(llr: torch.Tensor, expected: torch.Tensor, bits: int) -> float:
    """RMS of the LLRs' difference over their RMS."""
    llr, expected = llr[..., :bits], expected[..., :bits]
    return float((llr - expected).square().mean().sqrt() / expected.square().mean().sqrt())


def checked_ir(
    net: nn.Module, n_rx: Sequence[int], all_bits: list[int], n_prb: int, precision: str, path
) -> dict[str, bytes]:
    """The IRs of all modulations; none, and a line that says why, where there can be none."""
    if len(n_rx) > 1:
        print(f"{path}: TorchScript only: an OpenVINO IR is for one number of antennas")
        return {}
    y, p = example(n_rx[0], 2 * n_prb, batch=2)  # no shape of the traced slot may stay in it
    try:
        files = ir_files(net, *example(n_rx[0], n_prb), all_bits)
        llrs = {bits: run_ir(files, y, p, bits) for bits in all_bits}
    except IrError as error:
        print(f"{path}: TorchScript only: OpenVINO cannot run the net: {error}")
        return {}
    for bits, llr in llrs.items():
        with torch.inference_mode():
            error = difference(llr, net(y, p, bits), bits)
        if not error <= PARITY[precision]:
            raise ExportError(
                f"{path}: the LLRs of its OpenVINO IR differ from PyTorch's by {error:.1e} RMS at "
                f"{bits} bits, allowed for {precision} is {PARITY[precision]:.0e}"
            )
    return files


def vet(data: SealedFile, path, slot: SlotConfig, n_rx: int) -> None:
    """As the receiver block vets the program, where the blocks can be imported."""
    try:
        from gnuradio.deeprx.deeprx_python import check_model
    except ImportError:
        return
    try:
        check_model(data, slot=slot, n_rx=n_rx, device="cpu")
    except RuntimeError as error:
        raise ExportError(f"{path}: not written: the receiver block refuses it: {error}") from None
