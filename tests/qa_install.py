# SPDX-License-Identifier: GPL-3.0-or-later
"""gr-deeprx installed to a prefix, used from there with nothing of the build in the environment."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import receiver_models as models
from companion import HERE
from gnuradio import deeprx

BUILD = Path(deeprx.__file__).absolute().parents[3]
SYSTEM_PYTHON = "/usr/bin/python3"
EXAMPLES = sorted(p.stem for p in (Path(__file__).parents[1] / "examples").glob("*.py"))

pytestmark = pytest.mark.skipif(
    not (BUILD / "CMakeCache.txt").exists() or shutil.which("cmake") is None,
    reason="needs a build folder and cmake",
)

WATCH = """
from companion import watch
watch("loopback_gui", lambda top: len(top.points(slots=25)) == 2, lambda top: top.points(slots=25))
"""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """Moved after it was installed: nothing in it knows where it lies."""
    folder = tmp_path_factory.mktemp("install")
    subprocess.run(
        ["cmake", "--install", BUILD, "--prefix", folder / "there"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return (folder / "there").rename(folder / "here")


@pytest.fixture(scope="module")
def modules(prefix):
    (package,) = prefix.glob("lib/python3*/*-packages/gnuradio/deeprx")
    return package.parents[1]


def run(*command, cwd=None, **variables):
    ours = ("PYTHONPATH", "LD_LIBRARY_PATH", "GRC_BLOCKS_PATH", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    kept |= {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "QT_QPA_PLATFORM": "offscreen"}
    return subprocess.run(
        [str(c) for c in command],
        env=kept | {name: str(value) for name, value in variables.items()},
        cwd=cwd, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--version"], "gr-deeprx "),
        (["info", "deeprx-pusch.pt"], "deeprx-pusch"),
        (["info", "deeprx-published"], "deeprx-published"),
        (["loopback", "--receiver", "baseline-lmmse.pt", "--slots", "4", "--sinr", "9"], "9.0"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_command_runs_from_the_prefix(prefix, tmp_path, arguments, says):
    ran = run(prefix / "bin" / "deeprx", *arguments, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert says in ran.stdout


def test_a_strangers_file_runs_in_the_jail_of_the_prefix(prefix, tmp_path):
    models.save(models.Constant(1.0), tmp_path / "stranger.pt")
    if not (BUILD / "gr-deeprx/lib/deeprx-jail").exists():
        pytest.skip("built without libseccomp: there is no jail")
    ran = run(
        prefix / "bin" / "deeprx", "loopback", "--receiver", "stranger.pt", "--slots", "4",
        "--sinr", "9", cwd=tmp_path,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ", jailed" in ran.stdout


def test_command_uses_the_modules_of_its_prefix(prefix, modules):
    code = (prefix / "bin" / "deeprx").read_text()
    assert "status = main()" in code
    code = code.replace("status = main()", "status = print(main.__code__)")
    script = prefix / "bin" / "which"
    script.write_text(code)
    assert str(modules) in run(sys.executable, script).stdout


def test_command_says_which_python_lacks_what(prefix):
    ran = run("/usr/bin/env", "-i", sys.executable, "-S", prefix / "bin" / "deeprx", "--version")
    assert ran.returncode == 1
    assert ran.stderr.startswith("deeprx: error: ") and ran.stderr.count("\n") == 1
    assert "No module named 'numpy'" in ran.stderr or "gnuradio" in ran.stderr


def generate(example: str, prefix: Path, folder: Path):
    ran = run(
        "grcc", "-o", folder, prefix / f"share/gnuradio/examples/deeprx/{example}.grc",
        GRC_BLOCKS_PATH=prefix / "share/gnuradio/grc/blocks",
        PYTHONPATH=next(prefix.glob("lib/python3*/*-packages")),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.skipif(not Path(SYSTEM_PYTHON).exists(), reason=f"needs {SYSTEM_PYTHON}")
class TestSystemPython:
    def test_flowgraph(self, prefix, modules, tmp_path):
        generate("loopback", prefix, tmp_path)
        ran = run(SYSTEM_PYTHON, "-c", WATCH, cwd=tmp_path, PYTHONPATH=f"{modules}:{HERE}:.")
        assert ran.returncode == 0, ran.stderr
        points = json.loads(ran.stdout.splitlines()[-1])
        assert {p["receiver"] for p in points} == {"ls-lmmse", "deeprx-pusch"}

    def test_a_missing_package_is_one_line(self, prefix, modules, tmp_path):
        generate("record", prefix, tmp_path)
        hidden = "import runpy, sys; sys.modules['jsonschema'] = None; "
        code = "sys.argv[0] = 'record.py'; runpy.run_path('record.py', run_name='__main__')"
        ran = run(SYSTEM_PYTHON, "-c", hidden + code, cwd=tmp_path, PYTHONPATH=modules)
        assert ran.returncode == 1
        last = ran.stderr.splitlines()[-1]
        assert last.startswith("record.py: error: ")
        assert f"{SYSTEM_PYTHON} lacks the Python package jsonschema" in last
        assert "Traceback" not in ran.stderr

    @pytest.mark.parametrize("example", [e for e in EXAMPLES if e != "my_receiver"])
    def test_an_example_without_a_screen_runs_or_says_what_is_missing(
        self, example, prefix, modules
    ):
        script = prefix / f"share/gnuradio/examples/deeprx/{example}.py"
        ran = run(SYSTEM_PYTHON, script, "--help", PYTHONPATH=modules)
        if ran.returncode:
            assert ran.stderr.startswith(f"{example}.py: error: {SYSTEM_PYTHON} lacks the Python")
            assert ran.stderr.count("\n") == 1


def test_pytorch_that_is_gone_is_one_line(prefix, tmp_path):
    shutil.copytree(prefix, tmp_path / "moved", symlinks=True)
    for library in (tmp_path / "moved").rglob("*.so*"):
        if not library.is_symlink():
            library.write_bytes(library.read_bytes().replace(b"/torch/lib", b"/gone_/lib"))
    model = tmp_path / "moved/share/gr-deeprx/models/baseline-lmmse.pt"
    ran = run(tmp_path / "moved/bin/deeprx", "loopback", "--receiver", model, "--slots", "1")
    assert ran.returncode != 0
    assert ran.stderr.count("\n") == 1
    assert "PyTorch that gr-deeprx was built with" in ran.stderr


def test_blocks_need_neither_radio_drivers_nor_what_other_blocks_need(prefix, modules):
    program = """
import sys
hidden = ("gnuradio.uhd", "gnuradio.soapy", "gnuradio.zeromq", "matplotlib", "openvino")
hidden += ("prometheus_client", "pynvml", "rich", "sigmf", "torch")
sys.modules.update(dict.fromkeys(hidden))
from gnuradio import deeprx
for name in deeprx.__all__:
    if not name.startswith("recording"):
        getattr(deeprx, name)
"""
    ran = run(sys.executable, "-c", program, PYTHONPATH=modules)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_another_module_finds_and_uses_the_library(prefix, tmp_path):
    """find_package(gnuradio-deeprx) of a CMake project that knows the prefix only."""
    source = HERE / "other_module"
    run("cmake", "-G", "Ninja", "-S", source, "-B", tmp_path, f"-DCMAKE_PREFIX_PATH={prefix}")
    built = run("cmake", "--build", tmp_path)
    assert built.returncode == 0, built.stdout + built.stderr
    model = prefix / "share" / "gr-deeprx" / "models" / "baseline-lmmse.pt"
    ran = run(tmp_path / "other_module", model)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1].startswith("deeprx_receiver, TorchScript ")


@pytest.mark.parametrize("openvino", [True, False])
def test_configuring_says_which_engines_it_has(tmp_path, openvino):
    """OpenVINO is looked for beside the torch that was named, too."""
    source = tmp_path / "source"
    source.mkdir()
    for entry in HERE.parent.iterdir():
        if entry.name not in (".venv", "build"):
            (source / entry.name).symlink_to(entry)
    torch = Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages/torch"
    without = [] if openvino else ["-DCMAKE_DISABLE_FIND_PACKAGE_OpenVINO=ON"]
    configure = ("cmake", "-G", "Ninja", "-S", source, "-B", tmp_path / "build")
    ran = run(*configure, f"-DTORCH_ROOT={torch}", *without)
    assert ran.returncode == 0, ran.stderr
    torchscript, other = [line for line in ran.stdout.splitlines() if "Engine: " in line]
    assert "TorchScript 2." in torchscript and str(torch) in torchscript
    if not openvino:
        assert "no OpenVINO" in other and "-DOpenVINO_DIR=" in other
    elif (torch.parent / "openvino").is_dir():
        assert "Engine: OpenVINO 20" in other and str(torch.parent) in other
