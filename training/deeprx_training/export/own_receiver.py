# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver of one's own as a model file: tried on every kind of slot, then exported."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from deeprx_common.examples import received_slots
from deeprx_common.modulation import MODULATIONS
from deeprx_common.slot import SlotConfig

from ..receivers.contract import knows_layers, of_size
from .checks import ExportError, difference
from .export import export

ALONE = 1e-3  # the same of one net with itself, where only rounding differs


def save_receiver(
    module: nn.Module,
    path: str | Path,
    name: str | None = None,
    n_rx: Sequence[int] = (2,),
    modulations: Sequence[str] | None = None,
    dmrs: Sequence[Sequence[int]] | None = None,
    scs_khz: Sequence[int] | None = None,
    prb_multiple_of: int = 1,
    trained: dict | None = None,
    kind: str = "student",
    openvino: bool = True,
    slots: Sequence[SlotConfig] = (),
) -> dict:
    """Write a receiver of your own as a model file for the receiver block; returns its metadata.

    module: forward(y, p, bits: int) of one layer, in what TorchScript compiles; the file gets the
    contract's forward around it. y: float32 [B, n_rx, 14, K, 2], the received grid, whose scale is
    arbitrary; p: float32 [B, 14, K, 2], pilots as sent, zero elsewhere; bits of a symbol. It
    returns LLRs, log P(b=1)/P(b=0), float32 [B, 14, K, >= bits]. Or the contract's own forward(y,
    p, d, bits: list[int]); `slots` then show which layers, subcarrier spacings, symbols, DMRS
    symbols and CDM groups without data it takes.
    name: the file's, where it is None. n_rx, modulations (None: all), dmrs (lists of symbols; None:
    any), scs_khz (None: any), prb_multiple_of: which slots it takes; all kinds are tried.
    trained: what it was trained on, as describe.trained_on() has it. openvino: as in export().

    ExportError in one line where it does not compile, or does not give such LLRs. With the blocks
    at hand (./dev run) they vet the program, too; elsewhere they do so when they load it.
    """
    path, modulations = Path(path), list(modulations or MODULATIONS)
    name = name or path.stem
    if unknown := set(modulations) - set(MODULATIONS):
        raise ExportError(
            f"{name}: modulations: expected some of {', '.join(MODULATIONS)}, got {unknown.pop()!r}"
        )
    script = _compiled(module, name)
    whole = knows_layers(module)
    if bool(slots) != whole:
        raise ExportError(
            f"{name}: slots= shows what a module with the contract's forward(y, p, d, bits) takes: "
            f"expected {'some' if whole else 'none'}"
        )
    kinds = list(slots) or [SlotConfig(dmrs=tuple(dmrs[0]) if dmrs else (2, 11))]
    _try(script, name, kinds, n_rx, modulations, prb_multiple_of)
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
        scs_khz=scs_khz,
        prb_multiple_of=prb_multiple_of,
        slots=slots,
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
    if types not in (["Tensor", "Tensor", "int"], ["Tensor", "Tensor", "Tensor", "List[int]"]):
        raise ExportError(
            f"{name}: expected forward(y: Tensor, p: Tensor, bits: int) or forward(y: Tensor, "
            f"p: Tensor, d: Tensor, bits: list[int]), found arguments of "
            f"{', '.join(types) or 'no type'}: annotate bits"
        )
    return script


@torch.inference_mode()
def _try(script, name: str, kinds, all_n_rx, modulations, prb_multiple_of: int) -> None:
    """Whether it gives LLRs of every kind of slot that it is to take."""
    whole = knows_layers(script)
    fewest = 1 if whole else 6
    sizes = [prb_multiple_of * -(-n // prb_multiple_of) for n in (fewest, 26, 53)]
    for n_rx, n_prb, modulation, kind in itertools.product(all_n_rx, sizes, modulations, kinds):
        bits, slot = MODULATIONS[modulation], of_size(kind, n_prb, modulation)
        where = f"{n_rx} antennas, {n_prb} PRB, {modulation}"
        if whole:
            where += f", {slot.n_layers} layers, DMRS on {list(slot.dmrs)}"
        y, p, d = map(torch.from_numpy, received_slots(slot, n_rx, 2))

        def receive(y, p, d=d, bits=bits):
            return script(y, p, d, [bits] * p.size(1)) if whole else script(y, p[:, 0], bits)

        try:
            llr, louder, alone = receive(y, p), receive(8 * y, p), receive(y[:1], p[:1])
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise ExportError(f"{name}: fails with {where}: {reason}") from None
        shape = (2, *([slot.n_layers] if whole else []), slot.n_symbols, slot.n_sc)
        if llr.dtype != torch.float32 or llr.shape[:-1] != shape or llr.shape[-1] < bits:
            raise ExportError(
                f"{name}: expected float32 LLRs [{', '.join(map(str, shape))}, >= {bits}] with "
                f"{where}, found {str(llr.dtype).removeprefix('torch.')} {list(llr.shape)}"
            )
        if not llr[..., :bits].isfinite().all():
            raise ExportError(f"{name}: gives LLRs that are not finite with {where}")
        if not difference(alone, llr[:1], bits) <= ALONE:
            raise ExportError(f"{name}: a slot's LLRs depend on the other slots of its batch")
        if not difference(louder, llr, bits) <= ALONE:
            raise ExportError(
                f"{name}: LLRs change with the scale of y, which is arbitrary: normalise y first"
            )
