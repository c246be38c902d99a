# SPDX-License-Identifier: GPL-3.0-or-later
"""The training command line, for tests in the runtime environment."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-training/bin/python"
NEEDED = pytest.mark.skipif(
    not PYTHON.exists(), reason="no training environment: ./dev train --help makes it"
)
ALL = """
import json, sys
from deeprx_training.cli import main
for command in json.loads(sys.argv[1]):
    if main(command):
        sys.exit(f"failed: {command}")
"""


def train(folder: Path, *commands: str, path: Path | None = None) -> str:
    """Run commands one after another in one process, which takes seconds to import its libraries;
    what they print. path: of modules that they import.
    """
    modules = [ROOT / "training", ROOT / "python/common", *([path] if path else [])]
    ran = subprocess.run(
        [PYTHON, "-c", ALL, json.dumps([command.split() for command in commands])],
        cwd=folder, capture_output=True, text=True, timeout=280,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, modules))},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-1000:] + ran.stderr[-2000:]
    return ran.stdout
