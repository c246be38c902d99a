# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of an experiment: one row for each group, receiver, set, domain and SINR.

DIR/GROUP/result.parquet holds a group's rows and, beside it, are the block errors of examinations
with an MCS. DIR/results.parquet and results.csv gather the groups that have finished.
"""

import json
import tomllib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from deeprx_common import schema
from deeprx_common.files import replacing, write_arrays
from deeprx_common.stats import error_rate

from ..evaluation.curves import BLOCK_ERRORS, read_block_errors, read_rows
from ..evaluation.evaluate import LS, PERFECT, SURE, Counted
from ..reference import Reference
from ..teaching import recipe as recipes
from .file import Examination, Experiment, Group

BASELINES = (LS, SURE, PERFECT)
_EXAMINATIONS = schema.several(schema.table({"set": schema.TEXT, "modulation": schema.TEXT}))
EARLIER = {"LS-LMMSE": LS, "SURE-LMMSE": SURE}  # as tables that were counted before have them


def ber_rows(facts: dict, counted: Counted, examination: Examination, domain: str) -> list[dict]:
    """The rows of what was counted; facts: what the table says of a receiver, by name."""
    rows = []
    for receiver, errors in counted.errors.items():
        row = {"receiver": receiver} | facts.get(receiver, {"group": "", "kind": "baseline"})
        row |= {"set": examination.set, "domain": domain, "modulation": examination.modulation}
        for sinr, per_slot in zip(counted.sinr_db, errors, strict=True):
            rate = error_rate(per_slot, counted.bits(counted.slots))
            rows.append(
                row
                | {"sinr_db": float(sinr), "errors": per_slot.tolist(), "slots": counted.slots}
                | {"bit_errors": rate.errors, "bits": rate.bits}
                | {"ber": rate.rate, "ber_low": rate.ci95[0], "ber_high": rate.ci95[1]}
            )
    return rows


def write_group(folder: Path, experiment: Experiment, group: Group, rows: list[dict]) -> None:
    stamp = {"examinations": _stamp(experiment, group)} | trained_as(group)
    table = _as_table(rows).replace_schema_metadata(stamp)
    with replacing(folder / "result.parquet") as temporary:
        pa.parquet.write_table(table, temporary)


def write_block_errors(
    folder: Path, group: Group, examination: Examination, domain: str, counted: Counted
) -> None:
    whose = "teacher" if group.label else group.name
    wrong = {
        f"{BLOCK_ERRORS}{name if name in BASELINES else f'{whose}/{name}'}": slots
        for name, slots in counted.block_errors.items()
    }
    file = f"{examination.set}-{domain}-mcs-{examination.mcs_table}-{examination.mcs}.npz"
    write_arrays({"sinr_db": counted.sinr_db} | wrong, folder / file)


def is_finished(folder: Path, experiment: Experiment, group: Group) -> bool:
    """Whether the group was trained and counted as the experiment has it now."""
    same = _metadata(folder).get(b"examinations") == _stamp(experiment, group)
    return same and is_counted(folder, group)


def is_counted(folder: Path, group: Group) -> bool:
    """Whether something was counted of the group as the experiment trains it now, by its teacher's
    file as it is now. Tables of earlier versions do not say what file that was.
    """
    known, now = _metadata(folder), trained_as(group)
    if known and now and b"recipe_sha256" not in known:
        rows = read_rows(folder / "result.parquet")
        known |= {
            b"recipe_sha256": next((s for r in rows if (s := r.get("recipe_sha256"))), "").encode()
        }
    return bool(known) and all(known.get(k.encode(), v) == v for k, v in now.items())


def known_rows(folder: Path, examination: Examination) -> list[dict] | None:
    """Rows of one examination that the group's table has, None where it has not. What an experiment
    asks later is then counted alone.
    """
    try:
        before = schema.parse_json(_metadata(folder).get(b"examinations", "[]"))
        schema.check_value(before, _EXAMINATIONS, "examinations")
    except ValueError:
        return None
    alike = [e for e in before if (e["set"], e["modulation"]) == _kind(examination)]
    if examination.mcs is not None or alike != [json.loads(json.dumps(asdict(examination)))]:
        return None
    rows = read_rows(folder / "result.parquet")
    return [r for r in rows if (r["set"], r["modulation"]) == _kind(examination)]


def _kind(examination: Examination) -> tuple[str, str]:
    return examination.set, examination.modulation


def _metadata(folder: Path) -> dict[bytes, bytes]:
    """What the group's table says of its examinations and training."""
    try:
        return pa.parquet.read_schema(folder / "result.parquet").metadata or {}
    except (OSError, pa.ArrowInvalid):
        return {}


def _stamp(experiment: Experiment, group: Group) -> bytes:
    return json.dumps([asdict(e) for e in experiment.of(group)]).encode()


def trained_as(group: Group) -> dict[str, bytes]:
    """Of the recipe and of the teacher's file."""
    if not group.recipe:
        return {}
    digests = {"recipe_sha256": recipes.content_sha256(group.recipe)}
    teacher = Reference.parse(tomllib.loads(group.recipe).get("teacher", ""))
    if teacher.file.is_file():
        digests["teacher_sha256"] = teacher.sha256()
    return {k: v.encode() for k, v in digests.items()}


def gather(experiment: Experiment, out: Path) -> None:
    """Write results.parquet, results.csv (without the errors of each slot) and the block errors of
    all groups that have finished, where there are any.
    """
    blocks = {}
    folders = [out / g.name for g in experiment.groups if is_finished(out / g.name, experiment, g)]
    for folder in folders:
        for file in sorted(folder.glob("*-mcs-*.npz")):
            sinr_db, wrong = read_block_errors(file)
            arrays = {BLOCK_ERRORS + name: slots for name, slots in wrong.items()}
            blocks.setdefault(file.name, {}).update({"sinr_db": sinr_db} | arrays)
    rows = rows_of(folders)
    for name, arrays in blocks.items():
        write_arrays(arrays, out / name)
    if rows:
        table = _as_table(rows)
        with replacing(out / "results.parquet") as temporary:
            pa.parquet.write_table(table, temporary)
        with replacing(out / "results.csv") as temporary:
            pa.csv.write_csv(table.drop_columns("errors"), temporary)


def rows_of(folders: Iterable[Path]) -> list[dict]:
    """The rows of groups, those of receivers that join every group once; all have the same keys."""
    rows, baselines = [], set()
    for folder in folders:
        for row in read_rows(folder / "result.parquet"):
            row["receiver"] = EARLIER.get(row["receiver"], row["receiver"])
            key = tuple(row[k] for k in ("set", "domain", "modulation", "receiver", "sinr_db"))
            if row["kind"] != "baseline" or key not in baselines:
                rows.append(row)
            baselines.add(key)
    keys = dict.fromkeys(k for row in rows for k in row)
    return [{k: row.get(k) for k in keys} for row in rows]


def _as_table(rows: list[dict]) -> pa.Table:
    keys = dict.fromkeys(k for row in rows for k in row)
    return pa.table({k: [row.get(k) for row in rows] for k in keys})
