# SPDX-License-Identifier: GPL-3.0-or-later
"""Model files: their metadata and hash, read without running anything, and their bytes, checked.
Receivers without a file in their place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeprx_common import model_archive
from deeprx_common.model_archive import ModelArchive, SealedFile
from deeprx_common.model_schema import check_metadata
from deeprx_common.shipped import CLASSICAL, model_path
from deeprx_common.slot import SlotConfig
from deeprx_common.trusted import is_trusted

from ..deeprx_python import Engine, check_model, receiver

PERFECT = "perfect-csi"


@dataclass(frozen=True)
class ModelFile:
    """A model file as it was read, once.

    metadata: the archive's deeprx.json. sha256: of the whole file, hexadecimal. trust: SHA-256 of
    files that may run outside of a jail, beside those that ship.
    """

    path: Path
    archive: ModelArchive
    trust: tuple[str, ...] = ()

    @property
    def metadata(self) -> dict:
        return self.archive.metadata

    @property
    def sha256(self) -> str:
        return self.archive.sha256

    @property
    def data(self) -> SealedFile | None:
        """What the file held when it was read."""
        return self.archive and self.archive.data

    @property
    def name(self) -> str:
        return self.metadata["name"]

    @property
    def classical(self) -> bool:
        return self.metadata.get("kind") == "baseline"

    def flop_per_slot(self, n_prb: int, n_rx: int) -> int | None:
        """FLOP of one slot, which grow with the PRBs; None where other antennas were counted."""
        counted = self.metadata.get("flop_per_slot")
        if not counted or counted["n_rx"] != n_rx:
            return None
        return round((counted["matmul"] + counted["other"]) * n_prb / counted["n_prb"])

    def engine(self, config: SlotConfig, n_rx: int, **how) -> Engine:
        """What receives such slots with the bytes that were read. how: as Engine has it, whose
        exceptions it raises.
        """
        return Engine(str(self.path), config, n_rx, data=self.data, trust=self.trust, **how)

    def receiver(self, config: SlotConfig, n_rx: int, **how) -> receiver:
        """The block that receives such slots with the bytes that were read. how: as deeprx.receiver
        has it, whose exceptions it raises.
        """
        return receiver(str(self.path), config, n_rx, data=self.data, trust=self.trust, **how)

    def checked(self, config: SlotConfig, n_rx: int, device: str = "cpu") -> bytes:
        """The program as LibTorch gets it, checked as the receiver block checks it before it runs.

        Raises RuntimeError with one line that names the file.
        """
        try:
            check_model(
                self.data,
                slot=config,
                n_rx=n_rx,
                device=device,
                trust=self.trust,
            )
        except RuntimeError as error:
            raise type(error)(f"{self.path}: {error}") from None
        return self.archive.rewritten()

    def program(self, config: SlotConfig, n_rx: int, device: str = "cpu") -> bytes:
        """The same, for who runs its program in a process that is no jail: the file is trusted.

        Raises RuntimeError with one line that names the file.
        """
        self.expect_trusted()
        return self.checked(config, n_rx, device)

    def expect_trusted(self) -> None:
        """Raises RuntimeError with one line where its program may run in a jail only."""
        if not is_trusted(self.sha256, self.trust):
            raise RuntimeError(
                f"{self.path}: is not trusted, and this would run its program outside of a jail: "
                f"--trust {self.path} lets it, if you know who made it"
            )


class NativeReceiver(ModelFile):
    """One of CLASSICAL, where a model file could be: path is its name, and there is no archive."""

    def __init__(self, name: str):
        super().__init__(Path(name), None)

    @property
    def metadata(self) -> dict:
        return {
            "name": str(self.path),
            "kind": "baseline",
            "precision": "float32",
            "engines": ["native"],
            "requires": [],
        }

    @property
    def sha256(self) -> None:
        return None

    def checked(self, config: SlotConfig, n_rx: int, device: str = "cpu") -> bytes:
        raise RuntimeError(f"{self.path}: is no model file and has no program")

    def expect_trusted(self) -> None:
        """It is ours."""


class PerfectReceiver(NativeReceiver):
    """Who knows the channel and the noise, as a simulation does: perfect_receiver."""

    def __init__(self):
        super().__init__(PERFECT)

    @property
    def metadata(self) -> dict:
        return {"name": PERFECT, "kind": "ideal"}


def labels(models: Sequence[ModelFile]) -> list[str]:
    """Their names, with the file where two have the same."""
    names = [model.name for model in models]
    return [
        f"{model.name} ({model.path})" if names.count(model.name) > 1 else model.name
        for model in models
    ]


def read_model_file(path: str | Path, trust: Sequence[str] = ()) -> ModelFile:
    """Read a model file's metadata out of its archive. path: as model_path() takes it, or one of
    CLASSICAL; trust: see ModelFile.

    Raises ValueError with one line (what was expected, what was found, which file).
    """
    if str(path) in CLASSICAL:
        return NativeReceiver(str(path))
    if str(path) == PERFECT:
        raise ValueError(f"{PERFECT}: only a simulation knows the channel: loopback, demo and bler")
    path = Path(model_path(path))
    archive = model_archive.read_model_file(path)
    try:
        check_metadata(archive.metadata)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return ModelFile(path, archive, tuple(trust))
