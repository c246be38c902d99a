# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports over the network: what slot_probe publishes and what `deeprx monitor` receives.

A message is one report of one point as JSON text (deeprx_common.report), with a "telemetry" of its
own (TELEMETRY). ZeroMQ
PUB/SUB never lets the publisher wait: what a slow subscriber leaves lying beyond QUEUE messages is
dropped, and it sees how many by the sequence.

On this machine anyone may listen. Elsewhere both sides need CURVE keys (make_keys), which encrypt
and let in nobody else.
"""

import asyncio
import ipaddress
import json
import os
import shutil
import socket
import threading
import time
import uuid
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.auth import Authenticator, create_certificates, load_certificate
from zmq.utils.monitor import recv_monitor_message

from deeprx_common import report, schema

SCHEMA = "deeprx.telemetry/1"
QUEUE = 64  # messages that wait for a slow subscriber, on either side
# Of a message. A report has some 2000; one with two counts of 101 names of 500 characters, 110,000.
MAX_BYTES = 1 << 17
SUBSCRIPTION_BYTES = 4096  # of what a subscriber sends at a time, keys' handshake included

TELEMETRY = {
    "schema": schema.TEXT.of(f'"{SCHEMA}"'),
    "source": schema.TEXT.of("Who publishes."),
    "run": schema.TEXT.of("Hexadecimal; another one after every restart."),
    "sequence": schema.COUNT.of("0, 1, ... within a run."),
    "time_s": schema.number(0).of("Seconds since 1970."),
}


def endpoint(address: str) -> str:
    """ZeroMQ address of e.g. "tcp://127.0.0.1:5599", or of a port number alone: this machine."""
    return f"tcp://127.0.0.1:{address}" if address.isdigit() else address


def _stays_here(address: str) -> bool:
    scheme, _, rest = address.partition("://")
    host = rest.rpartition(":")[0].strip("[]")
    try:
        return scheme != "tcp" or host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, an interface, *
        return False


def make_keys(folder: str | Path) -> list[Path]:
    """Make CURVE keys of a publisher and a monitor: four files in a folder made for them.

    The publisher needs publisher.key_secret and monitor.key, the monitor the other two; neither
    reads more, so the folder may be the same on one machine and split between two.

    Raises ValueError where folder exists, since other machines may hold keys of it.
    """
    folder = Path(folder)
    before = os.umask(0o077)
    try:
        folder.mkdir(parents=True)
        for name in ("publisher", "monitor"):
            create_certificates(folder, name)
    except FileExistsError:
        raise ValueError(f"{folder} exists: give the name of a folder to be made") from None
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)  # what is half a key
        raise OSError(error.errno, error.strerror, str(folder)) from None
    finally:
        os.umask(before)
    return sorted(folder.iterdir())


def _key(folder: str | Path, name: str) -> tuple[bytes, bytes | None]:
    path = Path(folder) / name
    try:
        public, secret = load_certificate(path)
    except (OSError, ValueError):
        raise ValueError(
            f"expected a key in {path}, found none: make keys with `deeprx keys FOLDER`"
        ) from None
    return public, secret


class Publisher:
    """Publishes reports to any number of subscribers and waits for none.

    address: tcp://host:port, or a port number alone, which stays on this machine. keys: folder of
    make_keys(), needed where the address is not a loopback one. source: what a monitor calls this
    publisher; the host's name and process where empty.

    Raises ValueError with one line: address that cannot be bound, keys missing.
    """

    def __init__(self, address: str, keys: str | Path | None = None, source: str = ""):
        address = endpoint(address)
        if not keys and not _stays_here(address):
            raise ValueError(
                f"zmq_address {address!r} is open to other machines: give keys, made with "
                "`deeprx keys FOLDER`, or bind tcp://127.0.0.1:<port>"
            )
        context = zmq.Context()
        publishing = context.socket(zmq.PUB)
        publishing.linger = 0
        publishing.sndhwm = QUEUE
        publishing.maxmsgsize = SUBSCRIPTION_BYTES
        self.close = weakref.finalize(self, _close, publishing, context)
        self.close.atexit = False
        try:
            if keys:
                _let_in(context, publishing, Path(keys))
            publishing.bind(address)
        except zmq.ZMQError as error:
            self.close()
            raise ValueError(
                f"cannot publish at zmq_address {address!r}: {error}; expected tcp://host:port or "
                "a port number"
            ) from None
        except ValueError:
            self.close()
            raise
        self._socket = publishing
        self._telemetry = {
            "schema": SCHEMA,
            "source": source or f"{socket.gethostname()}:{os.getpid()}",
            "run": uuid.uuid4().hex,
            "sequence": 0,
        }

    def publish(self, report: dict) -> None:
        """Send a report (dict). Call it from one thread at a time."""
        telemetry = self._telemetry | {"time_s": time.time()}
        self._socket.send_string(json.dumps(report | {"telemetry": telemetry}, allow_nan=False))
        self._telemetry["sequence"] += 1


def _close(publishing: zmq.Socket, context: zmq.Context) -> None:
    publishing.close()
    context.term()


def _let_in(context: zmq.Context, publishing: zmq.Socket, keys: Path) -> None:
    """Make a socket a CURVE server that lets in whoever has a *.key in the folder.

    zmq.auth's own thread keeps the process from ending; this one ends with the context.
    """
    publishing.curve_publickey, publishing.curve_secretkey = _key(keys, "publisher.key_secret")
    publishing.curve_server = True
    _key(keys, "monitor.key")
    authenticator = Authenticator(context)
    authenticator.start()
    authenticator.configure_curve(location=str(keys))

    def authenticate():
        while True:
            try:
                message = authenticator.zap_socket.recv_multipart()
            except zmq.ContextTerminated:
                return authenticator.stop()
            if answer := authenticator.handle_zap_message(message):  # a coroutine since pyzmq 25
                asyncio.run(answer)

    threading.Thread(target=authenticate, daemon=True, name="telemetry keys").start()


@dataclass(frozen=True)
class Message:
    """report: validated, of one point. The rest is its "telemetry"."""

    report: dict
    source: str
    run: str
    sequence: int
    time_s: float

    @property
    def point(self) -> dict:
        return self.report["points"][0]


def parse(data: bytes) -> Message:
    """The message in what was received.

    Raises ValueError with one line where it is not of this schema.
    """
    try:
        message = schema.parse_json(data)
    except ValueError as error:
        raise ValueError(
            f"expected JSON of schema {SCHEMA!r}, found {data[:40]!r}: {error}"
        ) from None
    telemetry = message.get("telemetry") if isinstance(message, dict) else None
    named = telemetry.get("schema") if isinstance(telemetry, dict) else None
    if named != SCHEMA:
        raise ValueError(f"expected schema {SCHEMA!r}, found {named!r:.80}")
    schema.check(telemetry, TELEMETRY, "telemetry")
    report.validate(message)
    if len(message["points"]) != 1:
        raise ValueError(f"expected a report of one point, found {len(message['points'])}")
    return Message(message, *(telemetry[key] for key in list(TELEMETRY)[1:]))


class Subscription:
    """Receives what one publisher sends; it may come, go and come back.

    address: as Publisher's. keys: folder of make_keys(), where the publisher has keys. context: of
    ZeroMQ, shared by all that are polled together.

    `socket` is for a poller. To be closed by close(). Raises ValueError with one line: address of
    no use, keys missing.
    """

    def __init__(self, address: str, keys: str | Path | None = None, context=None):
        self.address = endpoint(address)
        self.dropped = 0  # messages of the present run that came too fast
        self.unreadable = 0
        self.complaint = ""  # about the last unreadable one
        self._last: Message | None = None
        self._event = None  # of the connection, the last that stay_connected() saw
        self.socket = (context or zmq.Context.instance()).socket(zmq.SUB)
        self.socket.linger = 0
        self.socket.rcvhwm = QUEUE
        self.socket.maxmsgsize = MAX_BYTES
        self._events = self._monitor()
        try:
            if keys:
                self.socket.curve_publickey, self.socket.curve_secretkey = _key(
                    keys, "monitor.key_secret"
                )
                self.socket.curve_serverkey, _ = _key(keys, "publisher.key")
            self.socket.subscribe("")
            self.socket.connect(self.address)
        except zmq.ZMQError as error:
            self.close()
            raise ValueError(
                f"cannot connect to {self.address!r}: {error}; expected tcp://host:port or a port "
                "number"
            ) from None
        except ValueError:
            self.close()
            raise

    def _monitor(self):
        """ZeroMQ's events of the connection. Its thread holds up every connection of the process
        until an event is taken: there is always room for one, and a name of its own, which no
        socket that is just being closed still has.
        """
        address = f"inproc://connection-{uuid.uuid4()}"
        self.socket.monitor(
            address,
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED,
        )
        events = self.socket.context.socket(zmq.PAIR)
        events.rcvhwm = 0
        events.linger = 0
        events.connect(address)
        return events

    def close(self) -> None:
        self.socket.disable_monitor()
        self._events.close()
        self.socket.close()

    @property
    def connected(self) -> bool:
        """Whether the publisher was there when stay_connected() looked last."""
        return self._event == zmq.EVENT_HANDSHAKE_SUCCEEDED

    def stay_connected(self) -> None:
        """To be called now and then, while nothing comes: ZeroMQ ends a connection that brought a
        message of more than MAX_BYTES, and does not try again.
        """
        before = self._event
        while self._events.poll(0):
            self._event = recv_monitor_message(self._events)["event"]
        if before == self._event == zmq.EVENT_DISCONNECTED:
            self._event = None
            self.unreadable += 1
            self.complaint = f"expected messages of at most {MAX_BYTES} bytes, found a longer one"
            with suppress(zmq.ZMQError):
                self.socket.disconnect(self.address)
            self.socket.connect(self.address)

    def receive(self) -> Message | None:
        """The next message that waits; None if there is none, or it is unreadable and counted."""
        try:
            message = parse(self.socket.recv(zmq.NOBLOCK))
        except zmq.Again:
            return None
        except ValueError as error:
            self.unreadable += 1
            self.complaint = str(error)
            return None
        last, self._last = self._last, message
        if last is None or last.run != message.run:
            self.dropped = 0
        else:
            self.dropped += max(0, message.sequence - last.sequence - 1)
        return message
