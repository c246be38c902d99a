# SPDX-License-Identifier: GPL-3.0-or-later
"""The model files that come with gr-deeprx: whatever the folder models/ holds."""

from pathlib import Path


def model_path(name: str | Path) -> str:
    """Where a model file is: name itself where that exists, else the shipped model of that name.

    Shipped models, such as "deeprx-student.pt", are looked for in the source tree, then where they
    were installed. A path, or a name found nowhere, comes back as it is: its reader says what is
    wrong with it.
    """
    if Path(name).name == str(name) and not Path(name).exists():
        here = Path(__file__).resolve()
        for place in ("models", "share/gr-deeprx/models"):
            for parent in here.parents:
                if (parent / place / name).is_file():
                    return str(parent / place / name)
    return str(name)


def shipped_models() -> list[str]:
    """Every model file beside the shipped baseline."""
    return sorted(map(str, Path(model_path("baseline-lmmse.pt")).parent.glob("*.pt")))
