# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages that are imported where they are used, and what to say where one is missing."""

import sys

PACKAGES = {"pynvml": "nvidia-ml-py", "zmq": "pyzmq"}  # that are not called as their module


def advice(error: ImportError) -> str:
    """One line: what an import that failed lacks, and what to do."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        module = error.name.partition(".")[0]
        package = PACKAGES.get(module, module)
        return (
            f"{sys.executable} lacks the Python package {package}: "
            "install it there, or run this with a Python that has it, as .venv's of a clone"
        )
    if "libtorch" in str(error) or "libc10" in str(error):
        return (
            "the PyTorch that gr-deeprx was built with is no longer where it was: build it again, "
            f"or set LD_LIBRARY_PATH to the folder lib of a torch package ({error})"
        )
    return str(error)
