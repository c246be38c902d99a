# SPDX-License-Identifier: GPL-3.0-or-later
"""Model files of contract 1 to contract 2, as data: nothing of a file runs.

Contract 1 knew one layer and no axis for it. Its program stays as it is, under another name; the
new forward() takes p without that axis and gives the LLRs one.
"""

import re
from pathlib import Path

from deeprx_common.model_archive import ModelArchive
from deeprx_common.model_schema import CONTRACT, MODEL, OLD_CONTRACT, WEIGHTS
from deeprx_common.schema import check

from ..files import TrainingError
from ..receivers import weights
from ..receivers.build import NETS, described
from ..receivers.contract import taken_slots
from ..teaching import recipe as recipes
from ..teaching.checkpoint import read_model
from .describe import trained_slots, write

_FORWARD = re.compile(
    r"  def forward\(self: (?P<type>[\w.]+),\n"
    r"    (?P<y>\w+): Tensor,\n    (?P<p>\w+): Tensor,\n    (?P<bits>\w+): int\) -> Tensor:\n"
)
_INNER = "receive_one_layer"
_OUTER = f"""  def forward(self: {{type}},
    y: Tensor,
    p: Tensor,
    d: Tensor,
    bits: List[int]) -> Tensor:
    llr = (self).{_INNER}(y, torch.select(p, 1, 0), bits[0], )
    return torch.unsqueeze(llr, 1)
"""


def convert(path: str | Path) -> dict:
    """Rewrite a model file of contract 1 as one of contract 2 that gives the same LLRs of the same
    slots; returns its metadata. TrainingError in one line where it is none, or its program cannot
    be called so.
    """
    archive = read_model(Path(path))
    if archive.metadata.get("contract") != OLD_CONTRACT:
        raise TrainingError(
            f"{path}: expected contract {OLD_CONTRACT!r}, found "
            f"{archive.metadata.get('contract')!r:.80}: nothing to convert"
        )
    try:
        metadata, carried = _metadata(archive)
        records = archive.records | carried | _code(archive)
    except ValueError as error:
        raise TrainingError(f"{path}: {error}") from None
    write(path, records, metadata)
    return metadata


def _code(archive: ModelArchive) -> dict[str, bytes]:
    """The module's class with the forward of contract 2."""
    folder, _, name = archive.module_type.rpartition(".")
    record = f"code/{folder.replace('.', '/')}.py"
    text = bytes(archive.records.get(record, b"")).decode()
    classes = re.split(r"(?m)^(?=\S)", text)
    for i, lines in enumerate(classes):
        if not lines.startswith(f"class {name}("):
            continue
        forward = _FORWARD.search(lines)
        if not forward or forward["type"] != archive.module_type or _INNER in lines:
            break
        # the module may call itself
        inner = lines.replace("  def forward(self", f"  def {_INNER}(self")
        classes[i] = inner.replace("(self).forward(", f"(self).{_INNER}(") + _OUTER.format(
            type=archive.module_type
        )
        return {record: "".join(classes).encode()}
    raise ValueError(
        "its program has no forward(y: Tensor, p: Tensor, bits: int) of contract 1; export its net "
        "again"
    )


def _metadata(archive: ModelArchive) -> tuple[dict, dict[str, bytes]]:
    """deeprx.json of contract 2, and the net's weights where the net is a known one."""
    about = dict(archive.metadata)
    check(about, {key: MODEL[key] for key in ("dmrs", "training")}, "deeprx.json")
    training = dict(about.get("training", {}))
    spec, carried = training.pop("net", None), {}
    known = isinstance(spec, dict) and spec.get("net") in list(NETS)
    if known:
        net = described(spec)
        if about.get("precision") != "int8":  # whose program has no other weights
            carried[f"extra/{WEIGHTS}"] = weights.written(weights.of_program(archive))
    takes = {"dmrs": about.get("dmrs")}
    if text := training.get("recipe"):
        trained = trained_slots(recipes.conditions_of(text))
        takes = trained | {key: value for key, value in takes.items() if value}
    about |= taken_slots(**takes)
    about |= {"contract": CONTRACT, "net": net if known else None, "training": training}
    check(about, MODEL, "deeprx.json")
    return about, carried
