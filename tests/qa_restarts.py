# SPDX-License-Identifier: GPL-3.0-or-later
"""Every example starts and stops again and again, and still receives after that."""

import json
import random
import re
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from companion import environment
from telemetry_reports import free_port

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
GRAPHICAL = (
    "loopback", "radio_loopback_soapy", "radio_software", "record", "remote_channel",
    "remote_receiver", "remote_transmitter", "replay", "send_file", "stock_ofdm", "switching",
    "synchronised",
)  # fmt: skip
ENDLESS = ["--slots", "1000000"]
ADDRESSES = ["--transmitted=ipc://transmitted", "--received=ipc://received"]
SENT = ["sent", "copy", "--sinr=20"]
SCRIPTS = {
    "loopback": ENDLESS,
    "radio_loopback": ENDLESS,
    "record_replay": ENDLESS,
    "remote": ENDLESS,
    "remote transmitter": ADDRESSES,
    "remote channel": ADDRESSES,
    "send_file": SENT,
    "stock_ofdm": ENDLESS,
    "switching": ENDLESS,
}
# Nobody sends; the recording is at its end
SILENT = {"remote_receiver", "replay", "record_replay"}
# What a stop leaves of a packet in GNU Radio's tagged stream blocks, the next start takes for one
ANEW = {"stock_ofdm"}
TIMES = [pytest.param(3, id="3"), pytest.param(100, marks=pytest.mark.slow, id="100")]
STOP_S = 10.0


def restart(top, times, receives=True, idle=lambda: None, receivers=()):
    """Starts and stops; then waits for a slot of each receiver. Returns the slowest stop in s."""
    from gnuradio.deeprx.blocks.guarded import raise_failure

    draw, worst = random.Random(times), 0.0

    def stop():
        nonlocal worst
        began = time.monotonic()
        top.stop()
        top.wait()
        worst = max(worst, time.monotonic() - began)

    for _ in range(times):
        top.start()
        time.sleep(draw.uniform(0, 0.1))
        idle()
        raise_failure(top)
        stop()
    before = [receiver.slots() for receiver in receivers]
    top.start()
    end = time.monotonic() + 30
    while receives and any(r.slots() == n for r, n in zip(receivers, before, strict=True)):
        time.sleep(0.02)
        idle()
        raise_failure(top)
        assert time.monotonic() < end, "no slot after the restarts"
    stop()
    return worst


def receivers_made():
    """A list to which every receiver is added that is made from now on."""
    from gnuradio import deeprx

    made, make = [], deeprx.receiver

    def receiver(*given, **named):
        made.append(make(*given, **named))
        return made[-1]

    deeprx.receiver = receiver
    return made


def in_a_window(name, times, receives, anew):
    """What grcc made of an example, here. anew: each start is of a flowgraph of its own."""
    from importlib import import_module

    from PyQt5 import Qt

    application = Qt.QApplication([])
    receivers, worst = receivers_made(), []
    for _ in range(times if anew else 1):
        receivers.clear()
        top = getattr(import_module(name), name)()
        again = 0 if anew else times
        worst.append(restart(top, again, receives, application.processEvents, receivers))
    return max(worst)


def as_a_script(path, times, arguments, receives, anew):
    """Each flowgraph that a script runs is restarted before that, then thrown away. anew: the
    script begins anew instead.
    """
    from gnuradio import deeprx

    receivers, worst = receivers_made(), []

    def run(top, *_, **__):
        worst.append(restart(top, 0 if anew else times, receives, receivers=receivers))
        receivers.clear()

    deeprx.run_flowgraph = run
    for _ in range(times if anew else 1):
        sys.argv = [path, *arguments]
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as ends:
            assert ends.code in (None, 0, "the copy differs"), ends.code
    return max(worst)


def check(ran):
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) < STOP_S


@pytest.fixture(scope="module")
def soapy_device(tmp_path_factory):
    """The folder of a SoapySDR module that gives back what it is sent."""
    if not Path("/usr/include/SoapySDR/Device.hpp").exists():
        pytest.skip("needs libsoapysdr-dev")
    module = tmp_path_factory.mktemp("soapy") / "libloopback.so"
    source = Path(__file__).with_name("soapy_loopback.cc")
    subprocess.run(
        ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-o", module, source, "-lSoapySDR"],
        check=True,
    )
    return module.parent


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("name", GRAPHICAL)
def test_in_companion(name, times, tmp_path, request, monkeypatch):
    if name == "radio_loopback_soapy":
        folder = request.getfixturevalue("soapy_device")
        monkeypatch.setenv("SOAPY_SDR_PLUGIN_PATH", str(folder))
    subprocess.run(
        ["grcc", "-o", tmp_path, EXAMPLES / f"{name}.grc"],
        env=environment(), check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    if name == "replay":
        golden = Path(__file__).with_name("golden")
        shutil.copy(golden / "cf32.sigmf-data", tmp_path / "recording.sigmf-data")
        shutil.copy(golden / "cf32.sigmf-meta", tmp_path / "recording.sigmf-meta")
    script = next(tmp_path.glob("*.py"))
    others = {"radio_loopback_soapy": ("lime", "loopback"), "send_file": ("52018", free_port())}
    if name in others:
        here, there = map(str, others[name])
        generated = script.read_text()
        assert here in generated
        script.write_text(re.sub(rf"\b{here}\b", there, generated))
    check(child(tmp_path, "in_a_window", script.stem, times, name not in SILENT, name in ANEW))


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name, times, tmp_path):
    (tmp_path / "sent").write_bytes(random.Random(1).randbytes(20_000_000))
    example, *role = name.split()
    arguments = [*role, *SCRIPTS[name]]
    path, receives = str(EXAMPLES / f"{example}.py"), example not in SILENT
    check(child(tmp_path, "as_a_script", path, times, arguments, receives, example in ANEW))


def test_every_example_is_there():
    """But a radio's that nothing here stands for, and what holds no flowgraph."""
    tested = {f"{name}.grc" for name in GRAPHICAL} | {f"{n.split()[0]}.py" for n in SCRIPTS}
    others = {"my_receiver.py", "radio_loopback_uhd.grc"}
    assert tested | others == {path.name for path in EXAMPLES.glob("*.*")}


def child(folder, kind, what, times, *more):
    call = f"qa_restarts.{kind}{(what, times, *more)!r}"
    return subprocess.run(
        [sys.executable, "-c", f"import os, qa_restarts; print({call}, flush=True); os._exit(0)"],
        env=environment(), cwd=folder, capture_output=True, text=True, timeout=60 + 6 * times,
    )  # fmt: skip
