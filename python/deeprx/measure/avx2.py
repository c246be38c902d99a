# SPDX-License-Identifier: GPL-3.0-or-later
"""A processor with AVX-512 measured as one that has AVX2 and nothing newer."""

import os

from ..deeprx_python import instructions

_OURS = "DEEPRX_AVX2_ONLY"  # LDPC decoder, classical receivers, what an engine chooses
_LIMITS = {
    _OURS: "1",
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL",  # memcpy
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # in PyTorch and in OpenVINO
}


def stay_with_avx2() -> None:
    """For this process, before it asks for instructions, and for those that it starts.

    Raises ValueError where the processor has no AVX2.
    """
    os.environ.update(_LIMITS)
    if (best := instructions("float32")) != "AVX2":
        raise ValueError(f"--avx2: what this processor has for float32 is {best or 'no vectors'}")


def staying_with_avx2() -> bool:
    """Whether stay_with_avx2() was called."""
    return _OURS in os.environ
