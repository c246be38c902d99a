# SPDX-License-Identifier: GPL-3.0-or-later
"""What a test needs of the processor: it is skipped by name where that is missing."""

import os
from pathlib import Path

import pytest

# As in cpu_instructions.cc: any of these flags of /proc/cpuinfo
FLAGS = {
    "bfloat16": {"amx_bf16", "avx512_bf16", "bf16"},
    "int8": {"amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp"},
}


def needs(precision: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> pytest.MarkDecorator:
    """A mark for tests of arithmetic in "bfloat16" or "int8"."""
    lines = cpuinfo.read_text().splitlines()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
    has = FLAGS[precision] & set(flags) and "DEEPRX_AVX2_ONLY" not in os.environ
    return pytest.mark.skipif(not has, reason=f"no instructions for {precision} on this machine")
