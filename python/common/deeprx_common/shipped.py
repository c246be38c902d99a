# SPDX-License-Identifier: GPL-3.0-or-later
"""The receivers that come with gr-deeprx: the model files in the folder models/, those of the case
study in models/study/, and those without a file.
"""

from pathlib import Path

FOLDERS = ("models", "models/study")
CLASSICAL = ("ls-lmmse", "sure-lmmse", "gnb")  # need no file: gr-deeprx/lib/phy/classical_receiver


def model_path(name: str | Path) -> str:
    """Where a model file is: name itself where that exists, else the shipped model of that name:
    "deeprx-student", "deeprx-student.pt" or "models/deeprx-student.pt".

    Shipped models are looked for in the source tree, then where they were installed. Another path,
    or a name found nowhere, comes back as it is: its reader says what is wrong with it.
    """
    if not Path(name).exists() and str(Path(name).parent) in (".", *FOLDERS):
        file = Path(name).name.removesuffix(".pt") + ".pt"
        for place in (*FOLDERS, *(f"share/gr-deeprx/{folder}" for folder in FOLDERS)):
            for parent in Path(__file__).resolve().parents:
                if (parent / place / file).is_file():
                    return str(parent / place / file)
    return str(name)


def existing_model(name: str | Path) -> str:
    """model_path() of a file that is there, or one of CLASSICAL. Raises RuntimeError, one line,
    where there is none.
    """
    path = model_path(name)
    if path not in CLASSICAL and not Path(path).exists():
        raise RuntimeError(f"model file {path!r}: {no_such_model()}")
    return path


def shipped_models() -> list[str]:
    """Every model file beside the one that every build runs, without those of the case study: they
    are for comparison, and no receiver that anyone should choose.
    """
    return sorted(map(str, Path(model_path("deeprx-pusch.pt")).parent.glob("*.pt")))


def study_models() -> list[str]:
    """The model files of the case study, where they are beside those."""
    return sorted(map(str, (Path(model_path("deeprx-pusch.pt")).parent / "study").glob("*.pt")))


def shipped_names() -> str:
    """Of every receiver to choose from, for a message that lists them."""
    return ", ".join(Path(path).stem for path in shipped_models())


def no_such_model() -> str:
    """What is said of a name that is no model file's."""
    return f"no such model file; those that ship: {shipped_names()}; without a file: " + ", ".join(
        CLASSICAL
    )
