# SPDX-License-Identifier: GPL-3.0-or-later
"""The script ./dev, in a folder that shares build and runtime environment and has no network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = (".venv", "apps", "build", "grc", "models", "python", "requirements-runtime.txt")

pytestmark = pytest.mark.skipif(
    not (ROOT / ".venv").exists() or not (ROOT / "build").exists(), reason="not set up by ./dev"
)


@pytest.fixture
def clone(tmp_path):
    (tmp_path / "dev").write_text((ROOT / "dev").read_text())
    for name in SHARED:
        (tmp_path / name).symlink_to(ROOT / name)
    for path in ROOT.glob("requirements-*.txt"):
        if path.name not in SHARED:
            (tmp_path / path.name).write_text(path.read_text())
    return tmp_path


def dev(clone, *arguments):
    variables = {"DEEPRX_DEV_READY": "1", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    return subprocess.run(
        ["bash", clone / "dev", *arguments],
        env=os.environ | variables, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("task", ["bench", "demo"])
def test_help_of_a_command_installs_nothing_more(clone, task):
    ran = dev(clone, task, "--help")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"usage: deeprx {task}")


@pytest.mark.parametrize("task", ["companion", "docs", "doctor", "lint", "setup", "test"])
def test_help_of_a_task_is_the_usage(clone, task):
    ran = dev(clone, task, "--help")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("usage: ./dev TASK")


def test_doctor_misses_no_training_environment(clone):
    (clone / "apps").unlink()
    (clone / "apps").mkdir()
    command = clone / "apps" / "deeprx"  # has its own tests, and times every model
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    ran = dev(clone, "doctor")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "  none   PyTorch, Sionna" in ran.stdout
    assert "WRONG" not in ran.stdout


@pytest.mark.parametrize("terminal", ["x-terminal-emulator", None])
def test_companion_misses_no_terminal(clone, tmp_path, monkeypatch, terminal):
    """Its dialogue at the first run opens where the setting is no file's path."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "gnuradio-companion").write_text(
        "import os; print(os.environ['GR_CONF_GRC_XTERM_EXECUTABLE'])"
    )
    needed = [terminal, "gnuradio-companion"] if terminal else ["gnuradio-companion"]
    for name in needed:
        (tools / name).touch()
        (tools / name).chmod(0o755)
    for name in ("bash", "dirname", "env", "python3"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.delenv("GR_CONF_GRC_XTERM_EXECUTABLE", raising=False)
    ran = dev(clone, "companion")
    assert ran.stdout.strip() == (str(tools / terminal) if terminal else "/"), ran.stderr


BOTH_AT_WORK = """
import os, time
def test_a():
    while len(os.listdir("begun")) < 2:
        time.sleep(0.01)
def test_b():
    pass
"""


def test_two_processes_run_each_file_once_and_whole(tmp_path):
    """As `./dev test` has them: one from the first file on, one from the last."""
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "begun").mkdir()
    for k in range(8):
        (tmp_path / f"test_{k}.py").write_text(BOTH_AT_WORK)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--begun", "begun"]
    both = [
        subprocess.Popen([*command, *more], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for more in ([], ["--last-first"])
    ]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    ran = [re.findall(r"test_(\d)\.py::test_(\w) PASSED", text) for text in said]
    assert sorted(ran[0] + ran[1]) == [(str(k), name) for k in range(8) for name in "ab"]
    first, last = ([int(k) for k, _ in tests] for tests in ran)
    assert first == sorted(first) and last == sorted(last, reverse=True)
    assert first[-1] < last[-1]


@pytest.mark.parametrize(
    ("known", "missing"),
    [
        ("installed amd64\ninstalled arm64\n", False),  # of two architectures
        ("config-files amd64\ninstalled arm64\n", True),
        ("installed all\n", False),
        ("", True),
    ],
)
def test_a_package_counts_where_it_is_of_this_machine(tmp_path, known, missing):
    (tmp_path / "known").write_text(known)
    for name, program in (("dpkg", "echo amd64"), ("dpkg-query", f"cat {tmp_path}/known")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / name).chmod(0o755)
    function = re.search(r"^install_missing\(\).*?^\}$", (ROOT / "dev").read_text(), re.M | re.S)
    script = "set -euo pipefail\nid() { echo 0; }\nstep() { exit 3; }\n"
    script += f"{function[0]}\ninstall_missing libx-dev"
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run(["bash", "-c", script], env=os.environ | path, capture_output=True)
    assert ran.returncode == (3 if missing else 0)
    assert (b"missing: libx-dev" in ran.stderr) == missing
