# SPDX-License-Identifier: GPL-3.0-or-later
"""A trained receiver as one model file: TorchScript plus "deeprx.json", the contract that the
block reads.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from deeprx_common import report
from deeprx_common.revision import git_revision
from deeprx_common.slot import MODULATIONS, N_SYMBOLS, SlotConfig

from .files import write_atomically
from .flop import example, flop_per_slot
from .int8 import ENGINE, to_integer
from .openvino_ir import IrError, ir_files, run_ir
from .receivers import FoldedNet, count_parameters

CONTRACT = "deeprx.model/1"
LICENCE = "GPL-3.0-or-later"
# RMS of the LLRs' difference over their RMS
PARITY = {"float32": 1e-4, "bfloat16": 3e-2, "int8": 1e-2}


class ExportError(ValueError):
    """The receiver cannot be exported; the message is one line."""


def to_precision(net: nn.Module, precision: str) -> nn.Module:
    """Convolutions in bfloat16 or, of a net that quantise() made, int8 if asked; normalisation and
    the classical arithmetic stay float32.
    """
    if precision == "int8":
        return to_integer(net)
    if precision == "bfloat16":
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.bfloat16()
    return net


def ber_table(reports: list[str], receiver: str) -> list[dict]:
    """What evaluations measured of a receiver: the model file's BER table, with intervals."""
    keys = (
        "domain",
        "channel",
        "modulation",
        "dmrs",
        "sinr_db",
        "ber",
        "ber_ci95",
        "slots",
        "clusters",
        "seed",
    )
    found = []
    for path in reports:
        points = [p for p in report.read(path)["points"] if p["receiver"] == receiver]
        if not points:
            raise ExportError(f"{path}: holds no point of {receiver}; evaluate it first")
        found += [{k: p[k] for k in keys} for p in points]
    return found


def export(
    net: nn.Module,
    path: str | Path,
    name: str,
    kind: str,
    n_rx: list[int],
    precision: str = "float32",
    training: dict | None = None,
    ber: list[dict] | None = None,
    parity: str | Path | None = None,
    openvino: bool = True,
) -> dict:
    """Write net as a model file, checked against eager PyTorch before it takes the place of a file
    that is there; returns its metadata.

    parity: an .npz to write, too, with the slots and the float32 net's LLRs, for `deeprx parity`
    to check the file in the receiver block. openvino: carry the net as OpenVINO IR, too, where that
    can express it. ExportError where the exported file's LLRs differ from the float32 net's (for
    int8, from what that rounds to) by more than PARITY.
    """
    net = net.cpu().eval().to(memory_format=torch.contiguous_format)
    y, p = example(n_rx[-1], batch=2)
    bits = MODULATIONS["16QAM"]
    flop = flop_per_slot(net, 2 if 2 in n_rx else n_rx[0])
    with torch.inference_mode():
        expected = net(y, p, bits)
    executed = to_precision(net, precision)
    script = torch.jit.script(executed)
    # OpenVINO makes integers of what rounds in float32
    traced = net if precision == "int8" else executed
    carried = _checked_ir(traced, n_rx, precision, path) if openvino else {}
    fold = net.net.fold if isinstance(getattr(net, "net", None), FoldedNet) else 1
    metadata = {
        "contract": CONTRACT,
        "name": name,
        "kind": kind,
        "precision": precision,
        # without instructions for int8, oneDNN's sums saturate
        "requires": ["int8"] if precision == "int8" else [],
        "quantized_engine": ENGINE if precision == "int8" else None,
        "engines": ["torchscript"] + (["openvino"] if carried else []),
        "prb_multiple_of": 1 if 12 % fold == 0 else fold,
        "n_rx": n_rx,
        "n_sym": N_SYMBOLS,
        "dmrs": None,  # any
        "modulations": list(MODULATIONS),
        "bits": max(MODULATIONS.values()),
        "params": count_parameters(net),
        "flop_per_slot": flop,
        "training": training or {},
        "ber": ber or [],
        "torch": torch.__version__,
        "git": git_revision(),
        "licence": LICENCE,
    }
    extra = {"deeprx.json": json.dumps(metadata, indent=1)} | carried

    def write(partial: Path) -> None:
        torch.jit.save(script, partial, _extra_files=extra)
        with torch.inference_mode():
            found = torch.jit.freeze(torch.jit.load(str(partial)).eval())(y, p, bits)
        error = _difference(found, expected, bits)
        if not error <= PARITY[precision]:
            raise ExportError(
                f"{path}: not written: LLRs differ from eager PyTorch's by {error:.1e} RMS, "
                f"allowed for {precision} is {PARITY[precision]:.0e}"
            )

    write_atomically(Path(path), write)
    if parity:
        data = ~SlotConfig().pilot_mask
        with report.replacing(parity) as temporary:
            np.savez(
                temporary,
                y=y.numpy(),
                llr=expected[..., :bits].numpy()[:, data].reshape(len(y), -1),
                modulation="16QAM",
                allowed=PARITY[precision],
            )
    return metadata


def _checked_ir(net: nn.Module, n_rx: list[int], precision: str, path) -> dict[str, bytes]:
    """The IRs of all modulations; none, and a line that says why, where there can be none."""
    if len(n_rx) > 1:
        print(f"{path}: TorchScript only: an OpenVINO IR is for one number of antennas")
        return {}
    y, p = example(n_rx[0], n_prb=52, batch=2)  # no shape of the traced slot may have stayed in it
    try:
        files = ir_files(net, *example(n_rx[0]), sorted(MODULATIONS.values()))
        found = {bits: run_ir(files, y, p, bits) for bits in MODULATIONS.values()}
    except IrError as error:
        print(f"{path}: TorchScript only: OpenVINO cannot run the net: {error}")
        return {}
    for bits, llr in found.items():
        with torch.inference_mode():
            error = _difference(llr, net(y, p, bits), bits)
        if not error <= PARITY[precision]:
            raise ExportError(
                f"{path}: the LLRs of its OpenVINO IR differ from PyTorch's by {error:.1e} RMS at "
                f"{bits} bits, allowed for {precision} is {PARITY[precision]:.0e}"
            )
    return files


def _difference(found: torch.Tensor, expected: torch.Tensor, bits: int) -> float:
    """RMS of the LLRs' difference over their RMS."""
    found, expected = found[..., :bits], expected[..., :bits]
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())
