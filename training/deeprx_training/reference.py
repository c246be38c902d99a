# SPDX-License-Identifier: GPL-3.0-or-later
"""How a receiver is named: CHECKPOINT[:MEMBER[@ROUNDS]] or FILE.pt."""

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reference:
    """file: a training run's last.ckpt, or an exported model file; member: of the checkpoint, or ""
    for its first; rounds: that a RealtimeRx is cut to, or "".
    """

    file: Path
    member: str = ""
    rounds: str = ""

    @classmethod
    def parse(cls, text: str) -> "Reference":
        file, _, member = text.partition(":")
        member, _, rounds = member.partition("@")
        return cls(Path(file), member, rounds)

    @property
    def is_model_file(self) -> bool:
        return self.file.suffix == ".pt"

    def sha256(self) -> str:
        """Of the file and of what is taken of it, hexadecimal. Raises OSError."""
        what = f"{self.member}@{self.rounds}".encode()
        return hashlib.sha256(self.file.read_bytes() + what).hexdigest()

    def __str__(self) -> str:
        name = f"{self.member}@{self.rounds}" if self.rounds else self.member
        return f"{self.file}:{name}" if name else str(self.file)
