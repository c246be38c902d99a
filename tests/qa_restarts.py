# SPDX-License-Identifier: GPL-3.0-or-later
"""Every example starts and stops again and again, and still receives after that."""

import json
import random
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from companion import environment

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
GRAPHICAL = (
    "loopback", "radio_software", "record", "remote_channel", "remote_receiver",
    "remote_transmitter", "replay", "stock_ofdm", "switching", "synchronised",
)  # fmt: skip
SCRIPTS = ("loopback", "radio_loopback", "record_replay", "stock_ofdm", "switching")
SILENT = {"remote_receiver", "replay"}  # nobody sends; the recording is at its end
TIMES = [pytest.param(3, id="3"), pytest.param(100, marks=pytest.mark.slow, id="100")]
STOP_S = 10.0


def restart(top, times, receives=True, idle=lambda: None):
    """Starts and stops; then waits for a slot of each receiver. Returns the slowest stop in s."""
    from gnuradio.deeprx.blocks.guarded import raise_failure

    draw, worst = random.Random(times), 0.0
    for _ in range(times):
        top.start()
        time.sleep(draw.uniform(0, 0.1))
        idle()
        raise_failure(top)
        began = time.monotonic()
        top.stop()
        top.wait()
        worst = max(worst, time.monotonic() - began)
    receivers = [b for b in vars(top).values() if hasattr(b, "slots") and hasattr(b, "dropped")]
    before = [receiver.slots() for receiver in receivers]
    top.start()
    end = time.monotonic() + 30
    while receives and any(r.slots() == n for r, n in zip(receivers, before, strict=True)):
        time.sleep(0.02)
        idle()
        raise_failure(top)
        assert time.monotonic() < end, "no slot after the restarts"
    top.stop()
    top.wait()
    return worst


def in_a_window(name, times, receives):
    """What grcc made of an example, here."""
    from importlib import import_module

    from PyQt5 import Qt

    application = Qt.QApplication([])
    top = getattr(import_module(name), name)()
    return restart(top, times, receives, application.processEvents)


def as_a_script(path, times):
    """Each flowgraph that a script runs is restarted before that, then thrown away."""
    from gnuradio import deeprx

    worst = []
    deeprx.run_flowgraph = lambda top, *_: worst.append(restart(top, times))
    sys.argv = [path, "--slots", "1000000"]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as ends:
        assert not ends.code, ends.code
    return max(worst)


def check(ran):
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) < STOP_S


# How far its last packets had come decides
STOCK = pytest.mark.xfail(reason="ofdm_cyclic_prefixer: Buffer too small for min_noutput_items")


def named(names):
    return [pytest.param(n, marks=[STOCK] if n == "stock_ofdm" else []) for n in names]


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("name", named(GRAPHICAL))
def test_in_companion(name, times, tmp_path):
    subprocess.run(
        ["grcc", "-o", tmp_path, EXAMPLES / f"{name}.grc"],
        env=environment(), check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    if name == "replay":
        golden = Path(__file__).with_name("golden")
        shutil.copy(golden / "cf32.sigmf-data", tmp_path / "recording.sigmf-data")
        shutil.copy(golden / "cf32.sigmf-meta", tmp_path / "recording.sigmf-meta")
    generated = next(tmp_path.glob("*.py")).stem
    check(child(tmp_path, "in_a_window", generated, times, name not in SILENT))


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("name", named(SCRIPTS))
def test_script(name, times, tmp_path):
    check(child(tmp_path, "as_a_script", str(EXAMPLES / f"{name}.py"), times))


def child(folder, kind, what, times, *more):
    call = f"qa_restarts.{kind}{(what, times, *more)!r}"
    return subprocess.run(
        [sys.executable, "-c", f"import os, qa_restarts; print({call}, flush=True); os._exit(0)"],
        env=environment(), cwd=folder, capture_output=True, text=True, timeout=60 + 4 * times,
    )  # fmt: skip
