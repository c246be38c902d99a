# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that are killed in their midst."""

import json
import subprocess

from telemetry_reports import until


def kill_when_there(path, command):
    """Run a command until it has written a file."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        until(lambda: path.exists() or process.poll() is not None, 180)
        assert process.poll() is None, process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def killed_with(path, command):
    """What is at a path when the command that writes it is killed as soon as it is there."""
    kill_when_there(path, command)
    return json.loads(path.read_text())
