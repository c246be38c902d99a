# SPDX-License-Identifier: GPL-3.0-or-later
"""Every example is stopped and started again and again, and receives after each start."""

import json
import os
import random
import re
import runpy
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
import zmq
from companion import EXAMPLES, environment, generate
from telemetry_reports import free_port

GRAPHICAL = (
    "loopback", "radio_loopback_soapy", "radio_software", "record", "remote_channel",
    "remote_receiver", "remote_transmitter", "replay", "send_file", "stock_ofdm", "switching",
    "synchronised",
)  # fmt: skip
ENDLESS = ["--slots", "1000000"]
LINKS = {"transmitted": "ipc://transmitted", "received": "ipc://received"}
ADDRESSES = [f"--{name}={address}" for name, address in LINKS.items()]
SENT = ["sent", "copy", "--sinr=20"]
SCRIPTS = {
    "loopback": ENDLESS,
    "radio_loopback": ENDLESS,
    "record_replay": ENDLESS,
    "remote": ENDLESS,
    "remote transmitter": ADDRESSES,
    "remote channel": ADDRESSES,
    "remote receiver": ADDRESSES,
    "send_file": SENT,
    "stock_ofdm": ENDLESS,
    # Each stop throws thousands of levels away that wait; the teacher takes too long
    "switching": ["--slots", "4000000", "--ladder", "baseline-lmmse.pt", "baseline-sure.pt"],
}
# Flowgraphs of Companion that scripts restart, too, or whose blocks radio_software has: with --slow
ALSO_OTHERS = {
    "loopback", "remote_channel", "remote_receiver", "remote_transmitter", "send_file",
    "stock_ofdm", "switching", "synchronised",
}  # fmt: skip
# What a stop leaves of a packet in GNU Radio's tagged stream blocks, the next start takes for one
ANEW = {"stock_ofdm"}
TIMES = [pytest.param(3, id="3"), pytest.param(100, marks=pytest.mark.slow, id="100")]
STOP_S = 10.0


def restart(top, times, receivers, idle=lambda: None):
    """Starts until each receiver has a slot; then stops at any moment, so many times, and starts
    again until each has another; a recording, until it outlasts as many restarts. Returns the
    slowest stop in s.
    """
    from gnuradio.deeprx.blocks.guarded import raise_failure

    draw, worst = random.Random(times), 0.0
    assert receivers

    def run(enough):
        nonlocal worst
        top.start()
        end = time.monotonic() + 60
        while not enough():
            time.sleep(0.02)
            idle()
            raise_failure(top)
            assert time.monotonic() < end, "no slot after a start"
        began = time.monotonic()
        top.stop()
        top.wait()
        worst = max(worst, time.monotonic() - began)
        idle()

    def receive(slots=1):
        enough = [receiver.slots() + slots for receiver in receivers]
        run(lambda: all(r.slots() >= n for r, n in zip(receivers, enough, strict=True)))

    receive()
    for _ in range(times):
        moment = time.monotonic() + draw.uniform(0, 0.1)
        run(lambda moment=moment: time.monotonic() > moment)
        receive()
    if any(hasattr(receiver, "paths") for receiver in receivers):
        receive(slots_of_restarts(times))
    return worst


def slots_of_restarts(times):
    """That are received in them, and lost by them."""
    return 50 * (times + 1)


def receivers_made():
    """A list to which each block is added that takes slots and is made from now on."""
    from gnuradio import deeprx

    made = []

    def noting(make):
        def note(*given, **named):
            made.append(make(*given, **named))
            return made[-1]

        return note

    deeprx.receiver = noting(deeprx.receiver)
    deeprx.recording_sink = noting(deeprx.recording_sink)
    return made


class FarEnd:
    """Who takes what an example sends."""

    def __init__(self, address):
        self._socket = zmq.Context.instance().socket(zmq.PULL)
        self._socket.connect(address)
        self._taken = 0

    def slots(self):
        """Messages so far, those that are still under way, too."""
        end = time.monotonic() + 0.2
        while time.monotonic() < end and self._socket.poll(50):
            self._socket.recv()
            self._taken += 1
        return self._taken


def beside(example, times):
    """What an example needs beside itself to receive, begun, and who receives what it sends."""
    if example == "send_file":
        Path("sent").write_bytes(random.Random(1).randbytes(20_000_000))
    if example == "replay":
        record = runpy.run_path(EXAMPLES / "record_replay.py")["Record"]
        record(Path("recording"), slots_of_restarts(times)).run()
    ends = {
        "transmitter": ([], "transmitted"),
        "channel": (["Transmitter"], "received"),
        "receiver": (["Transmitter", "Channel"], None),
    }
    roles, sent = ends.get(re.sub("remote[ _]", "", example), ([], None))
    remote = runpy.run_path(EXAMPLES / "remote.py")
    others = [remote[role](Namespace(snr=12.0, **LINKS)) for role in roles]
    for other in others:
        other.start()
    return others, [FarEnd(LINKS[sent])] if sent else []


def in_a_window(example, module, times):
    """What grcc made of an example, here."""
    from importlib import import_module

    from PyQt5 import Qt

    application = Qt.QApplication([])
    _running, far = beside(example, times)
    receivers, worst = receivers_made(), []
    for again in [0] * times if example in ANEW else [times]:
        receivers[:] = far
        top = getattr(import_module(module), module)()
        worst.append(restart(top, again, receivers, application.processEvents))
    end(worst)


def as_a_script(example, times, arguments):
    """Each flowgraph that a script runs is restarted, then thrown away."""
    from gnuradio import deeprx

    _running, far = beside(example, times)
    receivers, worst = receivers_made(), []
    name, *role = example.split()
    begins = [0] * times if example in ANEW else [times]

    def run(top, *_, **__):
        worst.append(restart(top, begins[0], receivers + far))
        receivers.clear()

    deeprx.run_flowgraph = run
    for _ in begins:
        sys.argv = [f"{name}.py", *role, *arguments]
        try:
            runpy.run_path(EXAMPLES / f"{name}.py", run_name="__main__")
        except SystemExit as ends:
            assert ends.code in (None, 0, "the copy differs"), ends.code
    end(worst)


def end(worst):
    """Without taking anything apart: a link waits there until what was sent is taken."""
    print(max(worst), flush=True)
    os._exit(0)


def child(folder, call):
    ran = subprocess.run(
        [sys.executable, "-c", f"import qa_restarts; qa_restarts.{call}"],
        env=environment(), cwd=folder, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
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


def instead(example):
    """Of what a generated flowgraph has, what a test must do without: radio, ports, an end."""
    here = {
        "radio_loopback_soapy": {"lime": "loopback"},
        "record": {"n_slots=200": "n_slots=1000000"},
        "remote_transmitter": {"tcp://127.0.0.1:5601": LINKS["transmitted"]},
        "remote_channel": {
            "tcp://127.0.0.1:5601": LINKS["transmitted"],
            "tcp://127.0.0.1:5602": LINKS["received"],
        },
        "remote_receiver": {
            "tcp://127.0.0.1:5602": LINKS["received"],
            "tcp://127.0.0.1:5599": "ipc://reports",
        },
        "send_file": {"52018": str(free_port()), "deeprx-student.pt": "sent"},
    }
    return here.get(example, {})


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in ALSO_OTHERS else []) for n in GRAPHICAL],
)
def test_in_companion(name, times, tmp_path, request, monkeypatch):
    if name == "radio_loopback_soapy":
        folder = request.getfixturevalue("soapy_device")
        monkeypatch.setenv("SOAPY_SDR_PLUGIN_PATH", str(folder))
    script = generate(name, tmp_path)
    for here, there in instead(name).items():
        generated = script.read_text()
        assert here in generated
        script.write_text(re.sub(rf"\b{here}\b", there, generated))
    child(tmp_path, f"in_a_window({name!r}, {script.stem!r}, {times})")


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name, times, tmp_path):
    child(tmp_path, f"as_a_script({name!r}, {times}, {SCRIPTS[name]!r})")


def test_every_example_is_there():
    """But a radio's that nothing here stands for, and what holds no flowgraph."""
    tested = {f"{name}.grc" for name in GRAPHICAL} | {f"{n.split()[0]}.py" for n in SCRIPTS}
    others = {"my_receiver.py", "radio_loopback_uhd.grc"}
    assert tested | others == {path.name for path in EXAMPLES.glob("*.*")}
