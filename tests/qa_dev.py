# SPDX-License-Identifier: GPL-3.0-or-later
"""The script ./dev, in a folder that shares build and runtime environment and has no network."""

import os
import subprocess
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
