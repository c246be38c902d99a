# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx monitor as a user runs it: in a terminal, in a pipe, for scripts and for Prometheus."""

import json
import os
import pty
import random
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress

import pytest
import zmq
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.cli import monitor as monitor_command
from gnuradio.deeprx.cli.monitor import sparkline
from gnuradio.deeprx.telemetry import prometheus
from gnuradio.deeprx.telemetry.prometheus import Metrics
from gnuradio.deeprx.telemetry.pubsub import MAX_BYTES, SCHEMA, Message, Publisher, parse
from gnuradio.deeprx.telemetry.source import STALE_S, Source
from prometheus_client.parser import text_string_to_metric_families
from telemetry_reports import free_port, report_of, until

from deeprx_common import report

COMMAND = [sys.executable, "-m", "gnuradio.deeprx", "monitor"]


@contextmanager
def publishing(port, every_s=0.05, stranger=None, **fields):
    """A publisher in the background, as a probe in its flowgraph; slots and errors grow. stranger:
    the receiver's name in a second message each time.
    """
    publisher, stop = Publisher(str(port), source="roof"), threading.Event()

    def publish():
        slots = 400
        while not stop.wait(every_s):
            slots += 10
            report = report_of(slots=slots, errors=10 * slots, **fields)
            publisher.publish(report)
            if stranger:
                report["points"][0]["receiver"] = stranger
                publisher.publish(report)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield publisher
    finally:
        stop.set()
        thread.join()
        publisher.close()


@contextmanager
def flooding(port):
    """Nonsense that comes faster than it can be read, for ten seconds at most."""
    socket, stop = zmq.Context.instance().socket(zmq.PUB), threading.Event()
    socket.linger = 0
    socket.bind(f"tcp://127.0.0.1:{port}")
    nonsense, end = b"[" + b"1," * (MAX_BYTES // 2 - 2) + b"1]", time.monotonic() + 10

    def flood():
        while not stop.wait(0.001) and time.monotonic() < end:
            socket.send(nonsense)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        socket.close()


@contextmanager
def monitor(*arguments, **options):
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class TestOnce:
    def test_shows_what_a_source_reports(self, capsys):
        port = free_port()
        with publishing(port, slots_by_model={"baseline-sure": 300, "deeprx-student": 100}):
            assert main(["monitor", "--connect", str(port), "--once"]) == 0
        shown = capsys.readouterr().out
        for text in (
            f"127.0.0.1:{port}", "roof", "live", "deeprx-student at 12.0 dB", "3 missed",
            "p99 7.98 ms", "queue 2", "57.8 mJ/slot, modelled: CPU time x 4 W", "BER",
            "baseline-sure 300, deeprx-student 100",
        ):  # fmt: skip
            assert text in shown
        assert re.search(r"\d\.\d\de-\d\d +\d\.\de-\d\d … \d\.\de-\d\d", shown)  # the interval

    def test_json_is_a_report_of_each_source(self, capsys):
        ports = [free_port(), free_port()]
        connect = [part for port in ports for part in ("--connect", str(port))]
        with publishing(ports[0]), publishing(ports[1], receiver="baseline-sure"):
            assert main(["monitor", *connect, "--once", "--json"]) == 0
        reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        for printed in reports:
            report.validate(printed)
        assert [r["points"][0]["receiver"] for r in reports] == ["deeprx-student", "baseline-sure"]
        assert [r["telemetry"]["address"][-5:] for r in reports] == [f"{p:05}"[-5:] for p in ports]

    def test_sources_silent_or_flooding_are_an_error_beside_what_others_report(self, capsys):
        flooded, silent, port = free_port(), free_port(), free_port()
        connect = [part for p in (flooded, silent, port) for part in ("--connect", str(p))]
        began = time.monotonic()
        with flooding(flooded), publishing(port):
            assert main(["monitor", *connect, "--once", "--timeout", "1"]) == 2
        assert time.monotonic() - began < 5
        said = capsys.readouterr()
        assert "deeprx-student" in said.out
        names = ", ".join(f"tcp://127.0.0.1:{p}" for p in (flooded, silent))
        assert re.fullmatch(
            f"deeprx: error: no report from {names} within 1 s: expected schema .*\n", said.err
        )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--connect", "nowhere"], "cannot connect to 'nowhere'"),
        (["--keys", "/nowhere"], "expected a key in /nowhere/monitor.key_secret"),
        (["--once", "--timeout", "0"], "--timeout must be positive"),
        (["--prometheus", "0"], "--prometheus must be a port"),
    ],
)
def test_mistakes_are_one_line(arguments, says, capsys):
    assert main(["monitor", *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_json_lines_go_on_after_the_publisher_restarts():
    port = free_port()
    with monitor("--connect", str(port), "--json") as process:
        with publishing(port):
            first = json.loads(process.stdout.readline())
        with publishing(port):
            run = first["telemetry"]["run"]
            while run == first["telemetry"]["run"]:
                run = json.loads(process.stdout.readline())["telemetry"]["run"]
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        assert process.stderr.read() == ""


def test_a_flood_of_nonsense_is_a_line_a_second():
    port = free_port()
    flood = zmq.Context.instance().socket(zmq.PUB)
    flood.linger = 0
    flood.bind(f"tcp://127.0.0.1:{port}")
    with monitor("--connect", str(port), "--json") as process:
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(process.stderr))
        reader.start()
        sent = (b"{}", b"[", b"\x1b[2J")

        def ended():
            for data in sent:
                flood.send(data)
            return len(lines) > 1

        until(ended, 20)
        began, before = time.monotonic(), len(lines)
        until(lambda: ended() and time.monotonic() > began + 1)
        process.kill()
        reader.join()
    flood.close()
    assert len(lines) - before <= 3
    assert re.search(r"message ignored: .* \(\d\d+ so far\)$", lines[-1])
    assert "".join(lines).replace("\n", "").isprintable()


def test_pipe_gets_a_line_a_report_and_may_close():
    port = free_port()
    with publishing(port), monitor("--connect", str(port)) as process:
        line = process.stdout.readline()
        assert f"127.0.0.1:{port}" in line and "57.8 mJ/slot, modelled" in line
        process.stdout.close()
        assert process.wait(5) == 141
        assert process.stderr.read() == ""


def test_live_view_in_a_terminal():
    """Live, waiting and stale sources, strangers' text tamed; Ctrl-C leaves the terminal whole."""
    port, silent = free_port(), free_port()
    ours, theirs = pty.openpty()
    arguments = ["--connect", str(port), "--connect", str(silent)]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "90", "LINES": "40"}
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = b""

    def shows(*texts):
        nonlocal seen
        with suppress(OSError):  # the monitor ended
            while select.select([ours], [], [], 0)[0]:
                seen += os.read(ours, 65536)
        return all(text.encode() in seen for text in texts)

    try:
        with publishing(port, stranger="evil\x1b]0;title\x07"):
            until(lambda: shows("deeprx-student", "unreadable", "evil", "waiting", " live ", "▁"))
        seen = b""
        until(lambda: shows("stale: silent for"), STALE_S + 10)
        process.send_signal(signal.SIGINT)
        until(lambda: shows("\x1b[?25h"))  # the cursor is back
        assert process.wait(5) == 130
        shows()
        assert b"Traceback" not in seen and b"\x1b]0" not in seen
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def scrape(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        (s.name, *(v for k, v in sorted(s.labels.items()) if k != "address")): s.value
        for family in families
        for s in family.samples
    }


def test_half_a_request_keeps_no_thread(monkeypatch):
    monkeypatch.setattr(prometheus._Handler, "timeout", 0.2)
    port = free_port()
    prometheus.serve(port, [])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stranger:
        stranger.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert stranger.recv(1) == b""
    assert scrape(port) == {}


def test_prometheus():
    port, metrics = free_port(), free_port()
    with (
        publishing(port),
        monitor("--connect", str(port), "--json", "--prometheus", str(metrics)) as process,
    ):
        point = json.loads(process.stdout.readline())["points"][0]
        metric = scrape(metrics)
        name = "deeprx-student"
        assert metric["deeprx_up",] == 1
        assert metric["deeprx_dropped_messages_total",] == 0
        assert metric["deeprx_missed_slots_total", name] == 3
        assert metric["deeprx_slots_total", name] >= point["slots"]
        assert metric["deeprx_bits_total", name] >= point["bits"]
        low, rate, high = (
            metric["deeprx_bit_error_ratio", name, v] for v in ("lower", "rate", "upper")
        )
        assert low <= rate <= high
        assert metric["deeprx_inference_seconds", "0.5", name] == pytest.approx(0.007)
        assert metric["deeprx_queue_slots", name] == 2
        assert metric["deeprx_energy_joules_per_slot", "modelled", name] == 0.0578
        second = subprocess.run(
            [*COMMAND, "--prometheus", str(metrics)], capture_output=True, text=True, timeout=20
        )
        assert second.returncode == 2
        assert "cannot serve metrics at port" in second.stderr
        assert second.stderr.count("\n") == 1


class TestSource:
    @staticmethod
    def message(sequence, run="a", time_s=0.0, **fields):
        return Message(report_of(**fields), "s", run, sequence, time_s)

    def test_rates_are_of_what_came_since_the_last_message(self):
        source = Source("x")
        source.take(self.message(0, slots=100, errors=0, time_s=10), 0)
        source.take(self.message(1, slots=300, errors=16224, time_s=12), 2)
        assert source.slots_per_s[-1] == pytest.approx(100)
        assert source.ber[-1] == pytest.approx(16224 / (200 * 16224))

    def test_new_point_and_restart_begin_anew(self):
        source = Source("x")
        source.take(self.message(5, slots=300, time_s=10), 0)
        source.take(self.message(6, slots=50, errors=0, time_s=11), 1)  # new conditions
        assert (source.slots_per_s[-1], source.ber[-1]) == (50, 0)
        source.take(self.message(0, run="b", slots=400, time_s=12), 2)
        assert source.restarts == 1
        assert source.slots_per_s[-1] is None  # nobody knows since when

    def test_is_stale_after_three_times_its_pace(self):
        source = Source("x")
        assert source.status(100) == "waiting"
        source.take(self.message(0), 100)
        source.take(self.message(1), 110)
        assert source.status(110 + 29) == "live"
        assert source.status(110 + 31) == "stale"


class TestSparkline:
    def test_spans_smallest_to_largest(self):
        assert sparkline([0, 1, 2, 7]) == "▁▂▃█"

    def test_logarithmic(self):
        assert sparkline([1e-7, 1e-4, 1, 0], logarithmic=True) == "▁▄█▁"

    def test_gaps_and_constants(self):
        assert sparkline([None, 5.0, None, 5.0]) == " ▅ ▅"
        assert sparkline([None, 0.0], logarithmic=True) == ""


ODD = (
    None, True, -1, 0, 1.5, 10**300, -(10**400), "", "x\n\x1b[2J", "A" * 10_000, [], [1], [2, 1],
    [None, None], {}, {"a": "b"}, {"a": 1}, [[]], 1e308,
)  # fmt: skip


def places(value, path=()):
    """Paths to all values of nested dictionaries and lists."""
    if not isinstance(value, dict | list):
        return
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        yield from places(part, (*path, key))


def test_no_message_ends_the_monitor():
    """Each place of a message with each odd value, and pairs of such: refused, or shown."""
    fields = {"schema": SCHEMA, "source": "roof", "run": "r", "sequence": 0, "time_s": 1.0}
    good = report_of(slots_by_model={"a": 3}, engine="e") | {"telemetry": fields}
    draw, refused, shown = random.Random(1), 0, 0
    trials = [[(path, odd)] for path in places(good) for odd in ODD]
    trials += [trial + draw.choice(trials) for trial in draw.sample(trials, 400)]
    for trial in trials:
        message = json.loads(json.dumps(good))
        for path, odd in trial:
            *above, key = path
            at = message
            with suppress(KeyError, IndexError, TypeError):  # gone by the first change
                for step in above:
                    at = at[step]
                at[key] = odd
        try:
            parsed = parse(json.dumps(message).encode())
        except ValueError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        source = Source("tcp://127.0.0.1:5599")
        for message in (parse(json.dumps(good).encode()), parsed, parsed):
            source.take(message, 1.0)
            assert "\n" not in monitor_command._line(source)
            monitor_command._panel(source, 80)
            monitor_command._as_json(source)
            Metrics([source]).collect()
        shown += 1
    assert refused > 500 and shown > 100
