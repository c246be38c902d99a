# SPDX-License-Identifier: GPL-3.0-or-later
"""Transmitter, channel and receiver as processes of their own: examples/remote.py and its .grc."""

import importlib.util
import json
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from companion import environment, generate
from gnuradio.deeprx.telemetry.pubsub import Subscription
from telemetry_reports import free_port, until, wait_for_publisher

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


@contextmanager
def running(*command, **options):
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, **options,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def links():
    """Addresses of the two links over TCP."""
    return [f"--{name}=tcp://127.0.0.1:{free_port()}" for name in ("transmitted", "received")]


def loopback_points(slots):
    """What examples/loopback.py counts."""
    specification = importlib.util.spec_from_file_location("loopback", EXAMPLES / "loopback.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    flowgraph = module.Loopback(12.0, slots)
    flowgraph.run()
    return [probe.report()["points"][0] for probe in flowgraph.probes]


def test_errors_are_the_loopbacks_and_a_receiver_that_starts_again_finds_the_slots(links):
    port = free_port()
    subscriptions = [Subscription(str(port + k)) for k in range(2)]
    arguments = ["receiver", "--slots=20", f"--telemetry={port}", *links]
    with ExitStack() as stack:
        others = [stack.enter_context(running(EXAMPLES / "remote.py", "channel", *links))]
        with running(EXAMPLES / "remote.py", *arguments) as receiver:
            for subscription in subscriptions:
                wait_for_publisher(subscription)
            others.append(
                stack.enter_context(running(EXAMPLES / "remote.py", "transmitter", *links))
            )
            until(lambda: any(p.poll() is not None for p in (receiver, *others)), 90)
            assert [p.stderr.read() for p in others if p.poll() is not None] == []
            table, errors = receiver.communicate()
        assert (receiver.returncode, errors) == (0, "")
        reported = [until(subscription.receive).point for subscription in subscriptions]
        for received, expected in zip(reported, loopback_points(slots=20), strict=True):
            for key in ("receiver", "slots", "missed_slots", "bits", "bit_errors", "ber_ci95"):
                assert received[key] == expected[key]
            assert f" {expected['bit_errors']} " in table
        assert [p["bit_errors"] > 0 for p in reported] == [True, True]

        arguments = ["receiver", "--slots=0", f"--telemetry={port}", *links]
        with running(EXAMPLES / "remote.py", *arguments) as receiver:
            point = until(subscriptions[1].receive, 30).point
            assert 0 < point["ber"] < 0.1  # mistaken slots or antennas have 0.5
            assert point["missed_slots"] == 0
            receiver.send_signal(signal.SIGINT)
            table, errors = receiver.communicate(timeout=20)
        assert "deeprx-pusch" in table
        assert errors == ""

        # it comes when slots 0 to 19 are over, all lost: it ends by their index
        with running(EXAMPLES / "remote.py", "receiver", "--slots=20", *links) as receiver:
            table, errors = receiver.communicate(timeout=60)
        assert (receiver.returncode, errors) == (0, "")
        for subscription in subscriptions:
            subscription.close()


# Runs a generated flowgraph with a screen that is not there, until its display was told something.
WATCH = """
import sys
from companion import watch
watch(sys.argv[1], lambda top: top.points(slots=25), lambda top: top.points(slots=25)[0])
"""


@pytest.mark.slow
def test_companion_flowgraphs_work_together(tmp_path):
    ports = {number: str(free_port()) for number in ("5601", "5602", "5599")}
    for part in ("transmitter", "channel", "receiver"):
        script = generate(f"remote_{part}", tmp_path)
        text = script.read_text()
        for number, port in ports.items():
            text = text.replace(f"tcp://127.0.0.1:{number}", f"tcp://127.0.0.1:{port}")
        script.write_text(text)
    with (
        running("remote_transmitter.py", cwd=tmp_path),
        running("remote_channel.py", cwd=tmp_path),
        running("-c", WATCH, "remote_receiver", cwd=tmp_path) as receiver,
    ):
        shown, errors = receiver.communicate(timeout=60)
    assert receiver.returncode == 0, errors
    point = json.loads(shown.splitlines()[-1])
    assert point["receiver"] == "deeprx-pusch"
    assert point["missed_slots"] == 0
    assert 0 < point["ber"] < 0.1


def test_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        arguments = ["transmitter", f"--transmitted={address}"]
        with running(EXAMPLES / "remote.py", *arguments) as transmitter:
            _, errors = transmitter.communicate(timeout=30)
    assert transmitter.returncode == 2
    assert errors.splitlines()[-1].endswith("error: Address already in use")
