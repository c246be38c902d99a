# SPDX-License-Identifier: GPL-3.0-or-later
"""Publisher and Subscription over real sockets: keys, restarts, slow subscribers, nonsense."""

import errno
import json
import os
import socket
import stat
import subprocess
import sys
import time

import message_ports as ports
import pytest
import telemetry_reports
import zmq
from gnuradio.deeprx.blocks.slot_statistics import MOST_NAMES
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.telemetry import pubsub
from gnuradio.deeprx.telemetry.pubsub import (
    MAX_BYTES,
    QUEUE,
    SCHEMA,
    SUBSCRIPTION_BYTES,
    Publisher,
    Subscription,
    endpoint,
    make_keys,
    parse,
)
from telemetry_reports import free_port, report_of

from deeprx_common import report


def receive(subscription, seconds=5.0):
    """The next message, or None after a time."""
    if subscription.socket.poll(seconds * 1000):
        return subscription.receive()
    return None


def publish_until_received(publisher, subscription, seconds=5.0):
    """A subscriber hears nothing of what was sent before it had joined."""
    return telemetry_reports.until(
        lambda: publisher.publish(report_of()) or receive(subscription, 0.05), seconds
    )


@pytest.fixture
def subscribe():
    subscriptions = []

    def make(*arguments, **options):
        subscriptions.append(Subscription(*arguments, **options))
        return subscriptions[-1]

    yield make
    for subscription in subscriptions:
        subscription.close()


def test_message_is_a_report_with_schema_source_and_sequence(subscribe):
    port = str(free_port())
    publisher = Publisher(port, source="roof")
    subscription = subscribe(port)
    first = publish_until_received(publisher, subscription)
    publisher.publish(report_of(slots=7))
    message = receive(subscription)
    report.validate(message.report)
    assert message.report["telemetry"]["schema"] == SCHEMA == "deeprx.telemetry/1"
    assert (message.source, message.sequence) == ("roof", first.sequence + 1)
    assert message.run == first.run
    assert abs(message.time_s - time.time()) < 5
    assert message.point["slots"] == 7
    assert subscription.dropped == 0
    publisher.close()


def test_the_longest_report_can_be_read():
    names = {f"{n:03}" + "x" * 497: 2**63 - 1 for n in range(MOST_NAMES + 1)}
    sent = telemetry({"slots_by_model": names, "dropped_slots": names})
    assert 100_000 < len(sent) <= MAX_BYTES
    assert parse(sent).point["slots_by_model"] == names


def test_port_alone_stays_on_this_machine():
    assert endpoint("5599") == "tcp://127.0.0.1:5599"


@pytest.mark.parametrize(
    "address", ["tcp://*:5599", "tcp://0.0.0.0:5599", "tcp://[::]:5599", "tcp://eth0:5599"]
)
def test_address_open_to_others_needs_keys(address):
    with pytest.raises(ValueError, match="is open to other machines: give keys") as caught:
        Publisher(address)
    assert "\n" not in str(caught.value)


def test_port_in_use_is_one_line():
    port = str(free_port())
    first = Publisher(port)
    with pytest.raises(ValueError, match=f"cannot publish .*{port}.*Address already in use"):
        Publisher(port)
    first.close()
    Publisher(port).close()


def test_bad_address_is_one_line():
    with pytest.raises(ValueError, match="cannot connect to 'nowhere'"):
        Subscription("nowhere")


class TestKeys:
    def test_only_who_has_keys_hears(self, subscribe, tmp_path):
        keys, others = tmp_path / "keys", tmp_path / "others"
        make_keys(keys)
        make_keys(others)
        (others / "publisher.key").write_bytes((keys / "publisher.key").read_bytes())
        port = free_port()
        publisher = Publisher(f"tcp://0.0.0.0:{port}", keys)
        friend, stranger, plain = (subscribe(str(port), k) for k in (keys, others, None))
        assert publish_until_received(publisher, friend)
        for _ in range(20):
            publisher.publish(report_of())
        assert receive(friend)
        assert receive(stranger, 0.5) is None
        assert receive(plain, 0.1) is None
        publisher.close()

    def test_are_nobody_elses_to_read(self, tmp_path, capsys):
        folder = tmp_path / "keys"
        assert main(["keys", str(folder)]) == 0
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        names = sorted(path.name for path in folder.iterdir())
        assert names == [
            "monitor.key",
            "monitor.key_secret",
            "publisher.key",
            "publisher.key_secret",
        ]
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
        shown = capsys.readouterr().out
        assert all(str(path) in shown for path in folder.iterdir())
        assert main(["keys", str(folder)]) == 2
        assert capsys.readouterr().err.strip().endswith("give the name of a folder to be made")

    def test_are_whole_or_not_there(self, tmp_path, monkeypatch, capsys):
        def full(folder, name):
            (folder / f"{name}.key").write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(pubsub, "create_certificates", full)
        assert main(["keys", str(tmp_path / "keys")]) == 2
        told = capsys.readouterr().err
        assert told == f"deeprx: error: {tmp_path}/keys: No space left on device\n"
        assert not list(tmp_path.iterdir())

    def test_do_not_keep_the_process_from_ending(self, tmp_path):
        keys = tmp_path / "keys"
        make_keys(keys)
        program = (
            "from gnuradio.deeprx.telemetry.pubsub import Publisher\n"
            f"kept = Publisher('tcp://0.0.0.0:{free_port()}', {str(keys)!r})"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=20)

    def test_missing_ones_are_one_line(self, tmp_path):
        with pytest.raises(ValueError, match=r"publisher.key_secret.*deeprx keys"):
            Publisher("tcp://0.0.0.0:5599", tmp_path)
        with pytest.raises(ValueError, match=r"monitor.key_secret.*deeprx keys"):
            Subscription("5599", tmp_path)


def test_publisher_that_restarts_is_no_loss(subscribe):
    port = str(free_port())
    publisher = Publisher(port)
    subscription = subscribe(port)
    before = publish_until_received(publisher, subscription)
    publisher.close()
    publisher = Publisher(port)
    after = publish_until_received(publisher, subscription)
    assert after.run != before.run
    assert subscription.dropped == 0
    publisher.close()


def test_slow_subscriber_holds_nobody_up_and_knows_what_it_missed(subscribe):
    port = str(free_port())
    publisher = Publisher(port)
    subscription = subscribe(port)
    first = publish_until_received(publisher, subscription).sequence
    text = "x" * 20_000  # more in all than the kernel holds for a connection
    started = time.monotonic()
    for _ in range(2000):
        publisher.publish(report_of(padding=text))
    assert time.monotonic() - started < 20
    received = [m for m in iter(lambda: receive(subscription, 0.5), None)]
    publisher.publish(report_of())
    last = receive(subscription)
    assert len(received) < 2000
    assert len(received) >= QUEUE
    assert last.sequence - first == len(received) + subscription.dropped + 1
    publisher.close()


def telemetry(point=None, **changes):
    fields = {"schema": SCHEMA, "source": "s", "run": "r", "sequence": 0, "time_s": 1.0} | changes
    sent = report_of() | {"telemetry": fields}
    if isinstance(point, dict):
        point = sent["points"][0] | point
    return json.dumps(sent if point is None else sent | {"points": [point]}).encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff\x00", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (telemetry(sequence=float("nan")), "expected JSON"),
        (b"[]", "expected schema"),
        (json.dumps(report_of()).encode(), "expected schema 'deeprx.telemetry/1', found None"),
        (telemetry(schema="deeprx.telemetry/9"), "found 'deeprx.telemetry/9'"),
        (telemetry(run=7), "telemetry: 'run' must be a printable text, got 7"),
        (telemetry().replace(b'"slots": 400', b'"slots": "many"'), "'slots' must be a whole"),
        (telemetry(time_s=-(10**400)), "expected numbers below 2^64, found -1000"),
        (
            telemetry({"ber_ci95": []}),
            "'ber_ci95' must be two numbers from 0 to 1, the lower",
        ),
        (telemetry({"queue_slots": "x"}), "'queue_slots' must be a whole number"),
        (telemetry({"slots_by_model": {"a": "b"}}), "'slots_by_model' must be counts by name"),
        (telemetry(0.5), "points[0] must be a dictionary, got 0.5"),
        (telemetry().replace(b'"points": [', b'"points": [], "more": ['), "found 0"),
    ],
)
def test_nonsense_is_counted_and_the_next_message_read(subscribe, data, says):
    port = free_port()
    stranger = zmq.Context.instance().socket(zmq.PUB)
    stranger.linger = 0
    stranger.bind(f"tcp://127.0.0.1:{port}")
    subscription = subscribe(str(port))
    telemetry_reports.until(
        lambda: stranger.send(data) or receive(subscription, 0.05) or subscription.unreadable
    )
    assert says in subscription.complaint
    assert "\n" not in subscription.complaint
    stranger.send(telemetry())
    assert telemetry_reports.until(lambda: receive(subscription, 0.05))
    stranger.close()


def test_connections_that_end_hold_up_no_later_ones():
    """ZeroMQ's one thread for all of them waits for ever for who reads a connection's events."""
    for _ in range(100):
        stranger = zmq.Context.instance().socket(zmq.PUB)
        stranger.linger = 0
        subscription = Subscription(str(stranger.bind_to_random_port("tcp://127.0.0.1")))
        telemetry_reports.until(
            lambda heard=subscription, to=stranger: to.send(telemetry()) or receive(heard, 0.05)
        )
        stranger.close()
        subscription.close()


def test_a_message_without_end_is_counted_and_the_next_one_read(subscribe):
    """ZeroMQ would end the connection for good."""
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        socket.linger = 0
        subscription = subscribe(str(socket.bind_to_random_port("tcp://127.0.0.1")))

        def hears(what, heard):
            def try_it():
                subscription.stay_connected()
                socket.send(what)
                time.sleep(0.1)
                return heard()

            return telemetry_reports.until(try_it, 10)

        good = json.dumps(ports.telemetry()).encode()
        assert hears(good, subscription.receive)
        assert hears(b" " * (MAX_BYTES + 1), lambda: subscription.unreadable)
        assert subscription.complaint.endswith("found a longer one")
        assert hears(good, subscription.receive)


def test_a_subscription_of_any_length_ends_its_connection_alone(subscribe):
    port = free_port()
    publisher = Publisher(str(port))
    subscription = subscribe(str(port))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stranger:  # RFC 23, ZMTP 3.0
        stranger.sendall(b"\xff" + bytes(8) + b"\x7f\x03\0NULL" + bytes(16 + 32))
        ready = b"\x05READY\x0bSocket-Type\0\0\0\x03SUB"
        stranger.sendall(b"\x04" + bytes([len(ready)]) + ready)
        length = 1 + SUBSCRIPTION_BYTES
        stranger.sendall(b"\x02" + length.to_bytes(8, "big") + b"\x01")
        while stranger.recv(4096):  # its greeting, then the end
            pass
    assert telemetry_reports.until(
        lambda: publisher.publish(report_of()) or receive(subscription, 0.05)
    )
    publisher.close()


def test_a_key_twice_among_very_many_is_found_at_once():
    keys = b",".join(b'"%d":0' % k for k in [*range(80_000), 79_999])
    start = time.monotonic()
    with pytest.raises(ValueError, match="'79999' twice"):
        parse(b"{" + keys + b"}")
    assert time.monotonic() - start < 20
