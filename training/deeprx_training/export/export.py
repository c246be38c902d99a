# SPDX-License-Identifier: GPL-3.0-or-later
"""A trained receiver as one model file: TorchScript plus "deeprx.json", the contract that the
block reads.
"""

import io
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from deeprx_common import report
from deeprx_common.files import replacing
from deeprx_common.model_archive import ModelFileError, read_model_file
from deeprx_common.model_schema import CONTRACT, MEASURED, MODEL, TRAINED
from deeprx_common.revision import git_revision
from deeprx_common.schema import check
from deeprx_common.slot import MODULATIONS, N_SYMBOLS, SlotConfig

from ..files import write_atomically
from ..receivers.flop import example, flop_per_slot
from ..receivers.int8 import ENGINE, to_integer
from ..receivers.nets import FoldedNet, count_parameters
from .openvino_ir import IrError, ir_files, run_ir

LICENCE = "GPL-3.0-or-later"
# RMS of the LLRs' difference over their RMS
ALONE = 1e-3  # the same of one net with itself, where only rounding differs
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
    rows = []
    for path in reports:
        points = [p for p in report.read(path)["points"] if p["receiver"] == receiver]
        if not points:
            raise ExportError(f"{path}: holds no point of {receiver}; evaluate it first")
        rows += [{k: p[k] for k in MEASURED} for p in points]
    return rows


def export(
    net: nn.Module,
    path: str | Path,
    name: str,
    kind: str,
    n_rx: Sequence[int],
    precision: str = "float32",
    training: dict | None = None,
    ber: list[dict] | None = None,
    parity: str | Path | None = None,
    openvino: bool = True,
    trained: dict | None = None,
    modulations: Sequence[str] = tuple(MODULATIONS),
    dmrs: Sequence[Sequence[int]] | None = None,
    prb_multiple_of: int | None = None,
) -> dict:
    """Write net as a model file, checked against eager PyTorch before it takes the place of a file
    that is there; returns its metadata.

    trained: describe.trained_on() of what it was trained on. modulations, dmrs (None: any) and
    prb_multiple_of (None: as the net folds): the slots it takes. parity: an .npz to write, too,
    with the slots and the float32 net's LLRs, for `deeprx parity` to check the file in the receiver
    block. openvino: carry the net as OpenVINO IR, too, where that can express it. ExportError where
    the exported file's LLRs differ from the float32 net's (for int8, from what that rounds to) by
    more than PARITY.
    """
    if trained is not None:
        check(trained, TRAINED, "trained")
    net = net.cpu().eval().to(memory_format=torch.contiguous_format)
    if prb_multiple_of is None:
        fold = net.net.fold if isinstance(getattr(net, "net", None), FoldedNet) else 1
        prb_multiple_of = 1 if 12 % fold == 0 else fold
    n_prb = -(-26 // prb_multiple_of) * prb_multiple_of
    modulation = "16QAM" if "16QAM" in modulations else modulations[0]
    bits = MODULATIONS[modulation]
    y, p = example(n_rx[-1], n_prb, batch=2)
    flop = flop_per_slot(net, 2 if 2 in n_rx else n_rx[0], n_prb, bits)
    with torch.inference_mode():
        expected = net(y, p, bits)
    executed = to_precision(net, precision)
    script = torch.jit.script(executed)
    # OpenVINO makes integers of what rounds in float32
    traced = net if precision == "int8" else executed
    all_bits = sorted(MODULATIONS[m] for m in modulations)
    carried = _checked_ir(traced, n_rx, all_bits, n_prb, precision, path) if openvino else {}
    metadata = {
        "contract": CONTRACT,
        "name": name,
        "kind": kind,
        "precision": precision,
        # without instructions for int8, oneDNN's sums saturate
        "requires": ["int8"] if precision == "int8" else [],
        "quantized_engine": ENGINE if precision == "int8" else None,
        "engines": ["torchscript"] + (["openvino"] if carried else []),
        "prb_multiple_of": prb_multiple_of,
        "n_rx": list(n_rx),
        "n_sym": N_SYMBOLS,
        "dmrs": dmrs and [list(symbols) for symbols in dmrs],
        "modulations": list(modulations),
        "bits": all_bits[-1],
        "params": count_parameters(net),
        "flop_per_slot": flop,
        "trained": trained,
        "limits": [],
        "training": training or {},
        "ber": ber or [],
        "torch": torch.__version__,
        "git": git_revision(),
        "licence": LICENCE,
    }
    check(metadata, MODEL, "deeprx.json")
    extra = {"deeprx.json": json.dumps(metadata, indent=1)} | carried

    def write(partial: Path) -> None:
        torch.jit.save(script, partial, _extra_files=extra)
        try:
            program = io.BytesIO(read_model_file(partial).rewritten())
        except ModelFileError as error:
            raise ExportError(f"{path}: not written: {error}") from None
        with torch.inference_mode():
            llr = torch.jit.freeze(torch.jit.load(program).eval())(y, p, bits)
        error = _difference(llr, expected, bits)
        if not error <= PARITY[precision]:
            raise ExportError(
                f"{path}: not written: LLRs differ from eager PyTorch's by {error:.1e} RMS, "
                f"allowed for {precision} is {PARITY[precision]:.0e}"
            )
        _vet(Path(partial).read_bytes(), path, n_prb, n_rx[-1], modulation, dmrs)

    write_atomically(Path(path), write)
    if parity:
        data = ~SlotConfig().pilot_mask
        with replacing(parity) as temporary:
            np.savez(
                temporary,
                y=y.numpy(),
                llr=expected[..., :bits].numpy()[:, data].reshape(len(y), -1),
                modulation=modulation,
                allowed=PARITY[precision],
            )
    return metadata


def _vet(data: bytes, path, n_prb: int, n_rx: int, modulation: str, dmrs) -> None:
    """As the receiver block vets the program, where the blocks can be imported."""
    try:
        from gnuradio.deeprx.deeprx_python import check_model
    except ImportError:
        return
    symbols = list(dmrs[0]) if dmrs else [2, 11]
    slots = dict(n_prb=n_prb, n_rx=n_rx, modulation=modulation, dmrs=symbols, device="cpu")
    try:
        check_model(data, **slots)
    except RuntimeError as error:
        raise ExportError(f"{path}: not written: the receiver block refuses it: {error}") from None


def save_receiver(
    module: nn.Module,
    path: str | Path,
    name: str | None = None,
    n_rx: Sequence[int] = (2,),
    modulations: Sequence[str] | None = None,
    dmrs: Sequence[Sequence[int]] | None = None,
    prb_multiple_of: int = 1,
    trained: dict | None = None,
    kind: str = "student",
    openvino: bool = True,
) -> dict:
    """Write a receiver of your own as a model file for the receiver block; returns its metadata.

    module: forward(y, p, bits: int) in what TorchScript compiles. y: float32 [B, n_rx, 14, K, 2],
    the received grid, whose scale is arbitrary; p: float32 [B, 14, K, 2], pilots as sent, zero
    elsewhere; bits of a symbol. It returns LLRs, log P(b=1)/P(b=0), float32 [B, 14, K, >= bits].
    name: the file's, where it is None. n_rx, modulations (None: all), dmrs (lists of symbols; None:
    any), prb_multiple_of: which slots it takes; all kinds are tried. trained: what it was trained
    on, as describe.trained_on() has it. openvino: as in export().

    ExportError in one line where it does not compile, or does not give such LLRs. With the blocks
    at hand (./dev run) they vet the program, too; elsewhere they do so when they load it.
    """
    path, modulations = Path(path), list(modulations or MODULATIONS)
    name = name or path.stem
    if unknown := set(modulations) - set(MODULATIONS):
        raise ExportError(
            f"{name}: modulations: expected some of {', '.join(MODULATIONS)}, got {unknown.pop()!r}"
        )
    _try(_compiled(module, name), name, n_rx, modulations, prb_multiple_of)
    return export(
        module,
        path,
        name,
        kind,
        n_rx,
        openvino=openvino,
        trained=trained,
        modulations=modulations,
        dmrs=dmrs,
        prb_multiple_of=prb_multiple_of,
    )


def _compiled(module: nn.Module, name: str) -> torch.jit.ScriptModule:
    try:
        script = torch.jit.script(module.cpu().eval())
    except Exception as error:  # of many kinds, each with a report of many lines
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        where = next((line for line in lines if line.startswith("File ")), "")
        said = f"{lines[0] if lines else type(error).__name__} {where}".strip()
        raise ExportError(f"{name}: TorchScript does not compile it: {said}") from None
    types = [str(argument.type) for argument in script.forward.schema.arguments[1:]]
    if types != ["Tensor", "Tensor", "int"]:
        raise ExportError(
            f"{name}: expected forward(y: Tensor, p: Tensor, bits: int), found arguments of "
            f"{', '.join(types) or 'no type'}: annotate bits as int"
        )
    return script


@torch.inference_mode()
def _try(script, name: str, all_n_rx, modulations, prb_multiple_of: int) -> None:
    """Whether it gives LLRs of every kind of slot that it is to take."""
    sizes = [prb_multiple_of * -(-n // prb_multiple_of) for n in (6, 26, 53)]
    for n_rx, n_prb, modulation in itertools.product(all_n_rx, sizes, modulations):
        bits, where = MODULATIONS[modulation], f"{n_rx} antennas, {n_prb} PRB, {modulation}"
        y, p = example(n_rx, n_prb, batch=2)
        try:
            llr, louder = script(y, p, bits), script(8 * y, p, bits)
            alone = script(y[:1], p[:1], bits)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise ExportError(f"{name}: fails with {where}: {reason}") from None
        shape = (2, N_SYMBOLS, 12 * n_prb)
        if llr.dtype != torch.float32 or llr.shape[:-1] != shape or llr.shape[-1] < bits:
            raise ExportError(
                f"{name}: expected float32 LLRs [{', '.join(map(str, shape))}, >= {bits}] with "
                f"{where}, found {str(llr.dtype).removeprefix('torch.')} {list(llr.shape)}"
            )
        if not llr[..., :bits].isfinite().all():
            raise ExportError(f"{name}: gives LLRs that are not finite with {where}")
        if not _difference(alone, llr[:1], bits) <= ALONE:
            raise ExportError(f"{name}: a slot's LLRs depend on the other slots of its batch")
        if not _difference(louder, llr, bits) <= ALONE:
            raise ExportError(
                f"{name}: LLRs change with the scale of y, which is arbitrary: normalise y first"
            )


def _checked_ir(
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
            error = _difference(llr, net(y, p, bits), bits)
        if not error <= PARITY[precision]:
            raise ExportError(
                f"{path}: the LLRs of its OpenVINO IR differ from PyTorch's by {error:.1e} RMS at "
                f"{bits} bits, allowed for {precision} is {PARITY[precision]:.0e}"
            )
    return files


def _difference(llr: torch.Tensor, expected: torch.Tensor, bits: int) -> float:
    """RMS of the LLRs' difference over their RMS."""
    llr, expected = llr[..., :bits], expected[..., :bits]
    return float((llr - expected).square().mean().sqrt() / expected.square().mean().sqrt())
