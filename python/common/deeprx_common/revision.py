# SPDX-License-Identifier: GPL-3.0-or-later
"""Which revision of the project runs."""

import subprocess
from pathlib import Path


def git_revision() -> str:
    """Of the project's checkout; "unknown" outside one, with "+" where it has uncommitted
    changes.
    """
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
            cwd=here,
            capture_output=True,
            text=True,
        )
    except OSError:
        return "unknown"
    return described.stdout.strip() or "unknown"
