# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs in the runtime environment, where the built blocks are."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv/bin/python"
needs_the_blocks = pytest.mark.skipif(
    not (PYTHON.exists() and (ROOT / "build/python").exists()), reason="needs the built blocks"
)


def in_runtime(*arguments, **parameters) -> subprocess.CompletedProcess:
    """Python there with such arguments; parameters: of subprocess.run()."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}/build/python:{ROOT}/python/common"}
    command = [PYTHON, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, **parameters)
