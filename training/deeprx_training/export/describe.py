# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model file says of itself: its deeprx.json, read and rewritten where it is.

Every other record of the archive, program, weights and IR, stays byte for byte as it is.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from deeprx_common import zip_archive
from deeprx_common.model_archive import FOLDER
from deeprx_common.model_schema import LIMIT, MEASURED, MODEL
from deeprx_common.modulation import MODULATIONS
from deeprx_common.schema import check
from deeprx_common.slot import SlotConfig, User, legal_dmrs

from ..data.conditions import LENGTHS, Conditions
from ..files import TrainingError, write_atomically
from ..teaching import recipe as recipes
from ..teaching.checkpoint import read_model

# all that the contract has
EVERY_KIND = Conditions(
    n_rx=4,
    min_rx=1,
    scs_khz=dict.fromkeys((15, 30, 60), 1.0),
    n_symbols=dict.fromkeys(LENGTHS, 1.0),
    dmrs={symbols: 1.0 for length in LENGTHS for symbols in legal_dmrs(length)},
    cdm_groups={1: 1.0, 2: 1.0},
    users={1: 1.0, 2: 1.0},
)


def trained_on(conditions: Conditions) -> dict:
    """The ranges that slots were drawn from, as deeprx.json holds them. sir_db: null where no
    interferer was there. dmrs_symbols: how many a slot had.
    """
    c = conditions
    modulations = [m for m in MODULATIONS if c.modulations.get(m)]
    least, most = zip(*map(c.snr_db_with, modulations), strict=True)
    return {
        "channels": list(c.channels),
        "delay_spread_s": list(c.delay_spread_s),
        "doppler_hz": list(c.doppler_hz),
        "snr_db": [min(least), max(most)],
        "sir_db": list(c.sir_db) if c.interferer else None,
        "modulations": modulations,
        "dmrs_symbols": sorted({len(symbols) for symbols, weight in c.dmrs.items() if weight}),
        "n_rx": antennas(c),
    }


def trained_slots(conditions: Conditions) -> dict:
    """The lists of DMRS symbols and the subcarrier spacings that slots were drawn with: what a
    receiver trained on them takes, see contract.taken_slots().
    """
    return {
        "dmrs": list(map(list, _drawn(conditions.dmrs))),
        "scs_khz": _drawn(conditions.scs_khz),
    }


def antennas(conditions: Conditions) -> list[int]:
    """Numbers of antennas that slots were drawn with."""
    return list(range(conditions.min_rx or conditions.n_rx, conditions.n_rx + 1))


def shown_slots(conditions: Conditions) -> list[SlotConfig]:
    """One slot of every kind that is drawn, and of every length between: what shows export() which
    slots a receiver of the contract takes, whole ones of one user first.
    """
    c = conditions
    lengths = _drawn(c.n_symbols)
    users = {1: [(0,)], 2: [(0, 1), (0, 2)]}
    return [
        SlotConfig(
            n_symbols=n_symbols,
            dmrs=dmrs,
            cdm_groups=groups,
            scs_khz=spacing,
            users=tuple(User("16QAM", port=port) for port in ports),
        )
        for n_users in _drawn(c.users)
        for n_symbols in range(lengths[-1], lengths[0] - 1, -1)
        for dmrs in _drawn(c.dmrs_of(n_symbols))
        for groups in _drawn(c.cdm_groups)
        for ports in users[n_users][:groups]
        for spacing in _drawn(c.scs_khz)
    ]


def _drawn(weights: Mapping) -> list:
    return sorted(option for option, weight in weights.items() if weight)


def read(path: str | Path) -> dict:
    """A model file's deeprx.json; TrainingError where it is no model file."""
    return read_model(Path(path)).metadata


def content_sha256(path: str | Path) -> str:
    """Hexadecimal, of the records that compute: the same whatever deeprx.json says."""
    archive = read_model(Path(path))
    digest = hashlib.sha256()
    for name, data in sorted((archive.records | archive.debugging).items()):
        if name not in ("extra/deeprx.json", ".data/serialization_id"):
            digest.update(f"{name} {len(data)}\n".encode())
            digest.update(data)
    return digest.hexdigest()


def rewrite(path: str | Path, metadata: dict) -> None:
    """Give a model file another deeprx.json; TrainingError where it is no model file."""
    archive = read_model(Path(path))
    write(path, archive.records | archive.debugging, metadata)


def write(path: str | Path, records: Mapping[str, bytes | memoryview], metadata: dict) -> None:
    """A model file of these records and this deeprx.json."""
    about = {"extra/deeprx.json": json.dumps(metadata, indent=1).encode()}
    data = zip_archive.write_zip({**records, **about}, FOLDER)
    write_atomically(Path(path), lambda partial: Path(partial).write_bytes(data))


def describe(path: str | Path, results: str | Path | None = None) -> dict:
    """Rewrite deeprx.json from what the file and the results know now; returns it.

    trained and scs_khz are of the recipe that the file carries; with results, the folder that
    `./dev results` writes, ber and limits are what was measured there of this very program.
    TrainingError in one line where one of them does not fit the file.
    """
    metadata = {"engines": ["torchscript"], "trained": None, "limits": [], "scs_khz": None}
    metadata |= read(path)
    metadata = {key: metadata[key] for key in (*MODEL, *metadata) if key in metadata}
    try:
        check(metadata, MODEL, "deeprx.json")
        if text := metadata.get("training", {}).get("recipe"):
            conditions = recipes.conditions_of(text)
            metadata["trained"] = trained_on(conditions)
            metadata["scs_khz"] = trained_slots(conditions)["scs_khz"]
            metadata["training"]["recipe_sha256"] = recipes.content_sha256(text)
        if results:
            metadata["ber"] = measured(path, metadata, Path(results) / "ber.json", MEASURED)
            metadata["limits"] = measured(path, metadata, Path(results) / "limits.json", LIMIT)
        check(metadata, MODEL, "deeprx.json")
    except ValueError as error:
        raise TrainingError(f"{path}: {error}") from None
    rewrite(path, metadata)
    return metadata


def measured(
    path: str | Path, metadata: dict, file: Path, keys: Iterable[str]
) -> list[dict[str, object]]:
    """What a file of results says of a model file; TrainingError where it is of another program."""
    try:
        results = json.loads(file.read_text())
    except OSError as error:
        raise TrainingError(f"{file}: {error.strerror}; ./dev results writes it") from None
    except ValueError:
        raise TrainingError(f"{file}: expected JSON; ./dev results writes it") from None
    name = metadata["name"]
    try:
        measured_of = results["models"].get(name)
        points = [p for table in results["tables"].values() for p in table["points"]]
        rows = [{k: p[k] for k in keys} for p in points if p["receiver"] == name]
    except (LookupError, TypeError, AttributeError):
        raise TrainingError(f"{file}: expected what ./dev results writes") from None
    if measured_of != content_sha256(path):
        raise TrainingError(f"{file}: measured of another {name} than {path}; run ./dev results")
    return rows
