# SPDX-License-Identifier: GPL-3.0-or-later
"""A trained receiver as one model file: TorchScript plus "deeprx.json", the contract that the
block reads.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from deeprx_common import report, zip_archive
from deeprx_common.examples import received_slots
from deeprx_common.files import write_arrays
from deeprx_common.model_archive import FOLDER, ModelFileError, read_model_file
from deeprx_common.model_schema import CONTRACT, MEASURED, MODEL, TRAINED, WEIGHTS
from deeprx_common.modulation import MODULATIONS
from deeprx_common.revision import git_revision
from deeprx_common.schema import check
from deeprx_common.slot import SlotConfig

from ..files import write_atomically
from ..receivers import weights
from ..receivers.contract import (
    OneLayer,
    kinds_of,
    knows_layers,
    of_size,
    taken_slots,
)
from ..receivers.flop import flop_per_slot
from ..receivers.int8 import ENGINE, to_integer
from ..receivers.nets import FoldedNet, count_parameters
from ..receivers.pusch import PuschRx
from .checks import PARITY, ExportError, checked_ir, difference, vet

LICENCE = "GPL-3.0-or-later"


def to_precision(net: nn.Module, precision: str) -> nn.Module:
    """Convolutions in bfloat16, float16 or int8 if asked, the last of a PuschRx or of a net that
    quantise() made; normalisation and the classical arithmetic stay float32, and so does of a
    PuschRx all but nets_of_symbols().
    """
    if precision == "int8" and not isinstance(net, PuschRx):
        return to_integer(net)
    for part in net.nets_of_symbols() if isinstance(net, PuschRx) else [net]:
        if precision == "int8":
            part.to_int8()
        elif precision != "float32":
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    module.to(getattr(torch, precision))
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
    scs_khz: Sequence[int] | None = None,
    prb_multiple_of: int | None = None,
    described: dict | None = None,
    slots: Sequence[SlotConfig] = (),
) -> dict:
    """Write net as a model file, checked against eager PyTorch before it takes the place of a file
    that is there; returns its metadata.

    net: a receiver of one layer, forward(y, p, bits: int), or the contract's forward(y, p, d, bits)
    of slots like these in `slots`. described: what build() makes it from,
    whose weights the file then carries as data, too, unless LibTorch has them as integers.

    trained: describe.trained_on() of what it was trained on. modulations, dmrs and scs_khz (None:
    any) and prb_multiple_of (None: as the net folds): the slots it takes. parity: an .npz to write,
    too, with the slots and the float32 net's LLRs, for `deeprx parity` to check the file in the
    receiver block. openvino: carry the net as OpenVINO IR, too, where that can express it.
    ExportError where the exported file's LLRs differ from the float32 net's (of what quantise()
    made, from what that rounds to) by more than PARITY.
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
    whole = knows_layers(net)
    if whole and not slots:
        raise ExportError(
            f"{path}: expected slots that show what a {type(net).__name__} takes, found none: "
            "write it with deeprx_training.export.own_receiver.save_receiver(slots=...)"
        )
    takes = kinds_of(slots) if whole else taken_slots(dmrs, scs_khz)
    kind_of_slot = slots[0] if whole else SlotConfig(dmrs=tuple(dmrs[0]) if dmrs else (2, 11))
    slot = of_size(kind_of_slot, n_prb, modulation)
    example = *map(torch.from_numpy, received_slots(slot, n_rx[-1], 2)), [bits] * slot.n_layers
    flop = None
    if 1 in takes["layers"]:
        one_user = of_size(SlotConfig(), n_prb, modulation)
        flop = flop_per_slot(net, 2 if 2 in n_rx else n_rx[0], one_user)
    with torch.inference_mode():
        expected = (net if whole else OneLayer(net))(*example)
    executed = to_precision(net, precision)
    script = torch.jit.script(executed if whole else OneLayer(executed))
    integers = precision == "int8" and not isinstance(net, PuschRx)
    # OpenVINO makes integers of what rounds in float32
    traced = net if integers else executed
    all_bits = sorted(MODULATIONS[m] for m in modulations)
    native = type(net) is PuschRx and described and precision in PARITY
    carried = {}
    if openvino and whole and not native:
        print(f"{path}: TorchScript only: OpenVINO IRs are made of receivers of one layer")
    elif openvino and not whole:
        carried = checked_ir(traced, n_rx, all_bits, n_prb, precision, path)
    forms = {"torchscript": True, "openvino": carried, "native": native}
    metadata = {
        "contract": CONTRACT,
        "name": name,
        "kind": kind,
        "precision": precision,
        # without instructions for int8, oneDNN's sums saturate
        "requires": ["int8"] if integers else [],
        "quantized_engine": ENGINE if integers else None,
        "engines": [form for form, there in forms.items() if there],
        **takes,
        "n_rx": list(n_rx),
        "prb_multiple_of": prb_multiple_of,
        "modulations": list(modulations),
        "bits": all_bits[-1],
        "params": count_parameters(net),
        "flop_per_slot": flop,
        "trained": trained,
        "limits": [],
        "net": described,
        "training": training or {},
        "ber": ber or [],
        "torch": torch.__version__,
        "git": git_revision(),
        "licence": LICENCE,
    }
    check(metadata, MODEL, "deeprx.json")
    if described and not integers:
        carried[WEIGHTS] = weights.written(executed.state_dict())
    extra = {"deeprx.json": json.dumps(metadata, indent=1)} | carried

    def write(partial: str) -> None:
        torch.jit.save(script, partial, _extra_files=extra)
        try:
            program = io.BytesIO(read_model_file(partial).rewritten())
        except ModelFileError as error:
            raise ExportError(f"{path}: not written: {error}") from None
        with torch.inference_mode():
            llr = torch.jit.freeze(torch.jit.load(program).eval())(*example)
        error = difference(llr, expected, bits)
        if not error <= PARITY[precision]:
            raise ExportError(
                f"{path}: not written: LLRs differ from eager PyTorch's by {error:.1e} RMS, "
                f"allowed for {precision} is {PARITY[precision]:.0e}"
            )
        archive = read_model_file(partial)
        vet(archive.data, path, slot, n_rx[-1])
        # torch.jit.save calls the folder after the temporary file
        data = zip_archive.write_zip(archive.records | archive.debugging, FOLDER)
        Path(partial).write_bytes(data)

    write_atomically(Path(path), write)
    if parity:
        y = example[0].numpy()
        llr = expected[:, 0, ..., :bits].numpy()[:, slot.data_mask].reshape(len(y), -1)
        about = {"slot": json.dumps(slot.as_dict()), "allowed": PARITY[precision]}
        write_arrays({"y": y, "llr": llr} | about, parity)
    return metadata
