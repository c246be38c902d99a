# SPDX-License-Identifier: GPL-3.0-or-later
"""Without PyTorch and all else that only pip has: what Debian's packages run."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gnuradio.deeprx.recording.sigmf import sample_type, sha512
from sigmf.hashing import calculate_sha512
from sigmf.sigmffile import dtype_info

ROOT = Path(__file__).parents[1]
GONE = ("openvino", "prometheus_client", "pynvml", "safetensors", "sigmf", "torch")
HIDDEN = f"import sys; sys.modules.update(dict.fromkeys({GONE!r})); "


def run(code, *arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", HIDDEN + code, *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


COMMAND = "sys.argv[0] = 'deeprx'; from gnuradio.deeprx.cli import main; sys.exit(main())"
BOTH = ("--receiver", "deeprx-pusch", "--receiver", "sure-lmmse")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("loopback", *BOTH, "--slots", "4", "--sinr", "9"), "native, float32"),
        (("replay", ROOT / "tests/golden/ci16.sigmf-meta", *BOTH), "native, float32"),
        (("info", "deeprx-pusch"), "native, "),
        (("doctor", "deeprx-pusch"), "real-time factor"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_commands_run(arguments, says, tmp_path):
    ran = run(COMMAND, *arguments, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert says in ran.stdout


@pytest.mark.parametrize("datatype", ["ci16_le", "cf32_be", "cu8", "ri32_le", "cf64", "cu16_be"])
def test_types_of_samples_are_sigmfs(datatype):
    theirs = dtype_info(datatype)
    is_complex, component = sample_type(datatype)
    assert is_complex == theirs["is_complex"]
    assert component == np.dtype(theirs["component_dtype"])


def test_what_is_no_type_is_refused():
    for name in ("ci16_xx", "c8", "cf32_leXX", "", "qf32"):
        with pytest.raises(ValueError, match="expected a type of samples such as ci16_le"):
            sample_type(name)


def test_hash_is_sigmfs(tmp_path):
    file = tmp_path / "data"
    file.write_bytes(bytes(range(256)) * 5000)
    assert sha512(file) == calculate_sha512(file)
    assert sha512(file, 7, 1_200_000) == calculate_sha512(file, offset=7, size=1_200_000)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_build_without_pytorch_links_none_and_receives(tmp_path):
    build, prefix = tmp_path / "build", tmp_path / "prefix"
    options = ["-DDEEPRX_TORCH=OFF", "-DBUILD_TESTING=OFF", f"-DDEEPRX_PYTHON={sys.executable}"]
    if ccache := shutil.which("ccache"):
        options.append(f"-DCMAKE_CXX_COMPILER_LAUNCHER={ccache}")
    for step in (
        ["-S", ROOT, "-B", build, *options],
        ["--build", build, "--parallel", "2"],
        ["--install", build, "--prefix", prefix],
    ):
        subprocess.run(["cmake", *step], check=True, stdout=subprocess.DEVNULL)
    libraries = [p for p in prefix.rglob("*.so*") if not p.is_symlink()]
    assert len(libraries) == 2
    for library in libraries:
        linked = subprocess.run(["ldd", library], capture_output=True, text=True, check=True)
        assert "libgnuradio-runtime" in linked.stdout
        for name in ("libtorch", "libc10", "libopenvino"):
            assert name not in linked.stdout

    def command(receiver):
        return subprocess.run(
            [prefix / "bin/deeprx", "loopback", "--receiver", receiver, "--slots=4", "--sinr=9"],
            cwd=tmp_path, capture_output=True, text=True, timeout=120,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        )  # fmt: skip

    for receiver in ("deeprx-pusch", "deeprx-pusch-small", "ls-lmmse", "sure-lmmse", "gnb"):
        ran = command(receiver)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert "native, float32" in ran.stdout
    for receiver in ("deeprx-teacher", ROOT / "models/deeprx-teacher.pt"):
        ran = command(receiver)
        assert ran.returncode != 0 and ran.stderr.count("\n") == 1
        assert "deeprx-pusch" in ran.stderr and "sure-lmmse" in ran.stderr


def headless(folder, *arguments):
    """debian/headless.sh where nothing but its own tools can be run, and the dangerous ones are
    replaced; returns the process, and what it was about to purge and to delete.
    """
    for tool in ("sh", "grep", "xargs"):
        (folder / tool).symlink_to(shutil.which(tool))
    packages = "gcc-12 libboost-dev libqt5gui5 libllvm15 gnuradio python3-scipy gr-deeprx libc6"
    programs = {
        "dpkg-query": f"printf '%s\\n' {packages}",
        "dpkg": f'echo "$@" >>{folder}/asked',
        "rm": f'echo "$@" >>{folder}/asked',
    }
    for name, program in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{program}\n")
        (folder / name).chmod(0o755)
    (folder / "asked").touch()
    ran = subprocess.run(
        [folder / "sh", ROOT / "debian/headless.sh", *arguments],
        env={"PATH": str(folder)}, capture_output=True, text=True,
    )  # fmt: skip
    return ran, (folder / "asked").read_text().splitlines()


def test_an_image_loses_compilers_and_windows(tmp_path):
    ran, asked = headless(tmp_path, "this-root")
    assert ran.returncode == 0, ran.stderr
    assert asked[0].split() == [
        "--purge", "--force-depends", "gcc-12", "libboost-dev", "libqt5gui5", "libllvm15",
    ]  # fmt: skip
    assert len(asked) == 2 and asked[1].startswith("-rf /var/lib/apt/lists/")


def test_a_system_that_is_no_image_loses_nothing(tmp_path):
    ran, asked = headless(tmp_path)
    assert ran.returncode == 2 and not asked
    assert ran.stderr.startswith("headless.sh: it purges") and ran.stderr.count("\n") == 1
