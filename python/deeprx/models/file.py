# SPDX-License-Identifier: GPL-3.0-or-later
"""Model files: their metadata and hash, read without running anything, and their bytes, checked."""

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeprx_common.model_schema import parse_model_json
from deeprx_common.shipped import model_path, shipped_names
from deeprx_common.slot import SlotConfig

from ..deeprx_python import check_model


@dataclass(frozen=True)
class ModelFile:
    """metadata: the archive's deeprx.json. sha256: of the whole file, hexadecimal."""

    path: Path
    metadata: dict
    sha256: str

    @property
    def name(self) -> str:
        return self.metadata["name"]

    def flop_per_slot(self, n_prb: int, n_rx: int) -> int | None:
        """FLOP of one slot, which grow with the PRBs; None where other antennas were counted."""
        counted = self.metadata.get("flop_per_slot")
        if not counted or counted["n_rx"] != n_rx:
            return None
        return round((counted["matmul"] + counted["other"]) * n_prb / counted["n_prb"])

    def checked(self, config: SlotConfig, n_rx: int, device: str = "cpu") -> bytes:
        """The file's bytes, checked as the receiver block checks them before anything runs.

        Raises RuntimeError with one line that names the file.
        """
        data = self.path.read_bytes()
        try:
            check_model(
                data,
                n_prb=config.n_prb,
                n_rx=n_rx,
                modulation=config.modulation,
                dmrs=list(config.dmrs),
                device=device,
            )
        except RuntimeError as error:
            raise RuntimeError(f"{self.path}: {error}") from None
        return data


def labels(models: Sequence[ModelFile]) -> list[str]:
    """Their names, with the file where two have the same."""
    names = [model.name for model in models]
    return [
        f"{model.name} ({model.path})" if names.count(model.name) > 1 else model.name
        for model in models
    ]


def read_model_file(path: str | Path) -> ModelFile:
    """Read a model file's metadata out of its archive. path: as model_path() takes it.

    Raises ValueError with one line (what was expected, what was found, which file).
    """
    path = Path(model_path(path))
    try:
        data = path.read_bytes()
    except IsADirectoryError:
        raise ValueError(f"{path}: expected a model file (.pt), found a folder") from None
    except FileNotFoundError:
        raise ValueError(
            f"{path}: no such model file; those that ship: {shipped_names()}"
        ) from None
    except OSError as error:
        raise ValueError(f"{path}: cannot read the model file: {error.strerror}") from None
    try:
        with zipfile.ZipFile(path) as archive:
            records = [n for n in archive.namelist() if n.endswith("/extra/deeprx.json")]
            text = archive.read(records[0]) if len(records) == 1 else None
            damaged = archive.testzip()  # LibTorch would load it
    except (zipfile.BadZipFile, zlib.error):
        raise ValueError(
            f"{path}: expected a TorchScript archive, found something else ({len(data)} bytes)"
        ) from None
    if damaged:
        raise ValueError(
            f"{path}: the file is damaged: {damaged} has not the checksum that it was written with"
        )
    if text is None:
        raise ValueError(
            f"{path}: expected one extra/deeprx.json in the archive, found {len(records)}: "
            "not exported as a deeprx model"
        )
    try:
        metadata = parse_model_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return ModelFile(path, metadata, hashlib.sha256(data).hexdigest())
