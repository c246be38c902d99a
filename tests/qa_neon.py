# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compiled for the vectors of aarch64 compiles, where a compiler for it is installed."""

import shutil
import subprocess
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[1] / "gr-deeprx/lib"
KERNELS = ["phy/ldpc_row_neon", "phy/ldpc_row_any", "phy/equaliser_any"]
KERNELS += ["kernels/pusch_any", "kernels/quads_any"]
NAMES = ("aarch64-linux-gnu-g++", "clang++", *(f"clang++-{k}" for k in range(30, 10, -1)))
UTILITY = """
namespace std {
template <typename type, type... values> struct integer_sequence {};
#ifdef __clang__
template <typename type, type n>
using make_integer_sequence = __make_integer_seq<integer_sequence, type, n>;
#else
template <typename type, type n>
using make_integer_sequence = integer_sequence<type, __integer_pack(n)...>;
#endif
}
"""
COMPILER = next(filter(None, map(shutil.which, NAMES)), None)


@pytest.mark.skipif(COMPILER is None, reason=f"needs {NAMES[0]} or clang++")
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_compile_for_aarch64(kernel, tmp_path):
    """They use no library, of which there may be none for another processor."""
    (tmp_path / "cstdint").write_text("#include <stdint.h>\n")
    (tmp_path / "utility").write_text(UTILITY)
    compiled = tmp_path / "kernel.o"
    options = ["-std=c++17", "-O2", "-ffreestanding", "-nostdinc++"]
    if "clang" in COMPILER:
        options += ["--target=aarch64-linux-gnu", "-nostdlibinc"]
    options += ["-isystem", tmp_path, "-I", LIB / "phy"]
    command = [COMPILER, *options, "-c", LIB / f"{kernel}.cc"]
    ran = subprocess.run([*command, "-o", compiled], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    is_neon = kernel != "phy/ldpc_row_any"  # which is for processors without
    assert (b"NEON\0" in compiled.read_bytes()) == is_neon
