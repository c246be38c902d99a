# SPDX-License-Identifier: GPL-3.0-or-later
"""What publishers report, as Prometheus asks for it."""

import time
from contextlib import suppress
from socketserver import ThreadingMixIn
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from deeprx_common import report

from .source import Source

IDLE_S = 10.0  # of a connection that asks for nothing, or never to the end


class Metrics:
    """The sources as Prometheus asks for them."""

    def __init__(self, sources: list[Source]):
        self._sources = sources

    def collect(self):
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        def family(kind, name, explained, *names):
            metric = kind(f"deeprx_{name}", explained, labels=["address", *names])
            families.append(metric)
            return metric

        families = []
        up = family(GaugeMetricFamily, "up", "1 while reports come")
        dropped = family(
            CounterMetricFamily, "dropped_messages", "reports that this monitor was too slow for"
        )
        counters = {
            key: family(CounterMetricFamily, key, explained, "receiver")
            for key, explained in {
                "slots": "slots received",
                "missed_slots": "slots not received",
                "bits": "bits compared with what was sent",
                "bit_errors": "bits that differ from what was sent",
            }.items()
        }
        ber = family(
            GaugeMetricFamily,
            "bit_error_ratio",
            "uncoded: rate, and lower and upper end of its 95 % interval",
            "receiver",
            "value",
        )
        bler = family(
            GaugeMetricFamily,
            "block_error_ratio",
            "of first transmissions: rate, and lower and upper end of its 95 % interval",
            "receiver",
            "value",
        )
        goodput = family(
            GaugeMetricFamily,
            "goodput_bits_per_second",
            "information bits delivered in a second of air time",
            "receiver",
        )
        inference = family(
            GaugeMetricFamily, "inference_seconds", "of one slot", "receiver", "quantile"
        )
        queue = family(GaugeMetricFamily, "queue_slots", "waiting for the receiver", "receiver")
        energy = family(
            GaugeMetricFamily,
            "energy_joules_per_slot",
            "measured, attributed or modelled",
            "receiver",
            "provenance",
        )
        now = time.monotonic()
        for source in self._sources:
            up.add_metric([source.address], source.status(now) == "live")
            if (message := source.message) is None:
                continue
            point = message.point
            labels = [source.address, point["receiver"]]
            dropped.add_metric([source.address], source.dropped)
            for key, counter in counters.items():
                counter.add_metric(labels, point[key])
            for key, ratio in (("ber", ber), ("bler", bler)):
                if point.get(key) is not None:
                    values = (point[key], *point[f"{key}_ci95"])
                    for name, value in zip(("rate", "lower", "upper"), values, strict=True):
                        ratio.add_metric([*labels, name], value)
            if (delivered := point.get("goodput_bit_per_s")) is not None:
                goodput.add_metric(labels, delivered)
            for key, quantile in (("p50", "0.5"), ("p99", "0.99")):
                if (seconds := point["inference_s_per_slot"][key]) is not None:
                    inference.add_metric([*labels, quantile], seconds)
            if (waiting := point.get("queue_slots")) is not None:
                queue.add_metric(labels, waiting)
            joules, kind = report.energy_value(point["energy_per_slot_j"])
            if joules is not None:
                energy.add_metric([*labels, kind], joules)
        return families


def serve(port: int, sources: list[Source]) -> None:
    """Serve metrics of this machine's loopback address, in a thread of its own. Raises ValueError
    where the port cannot be had.
    """
    from prometheus_client import CollectorRegistry, make_wsgi_app

    registry = CollectorRegistry()
    registry.register(Metrics(sources))
    if not 1 <= port <= 65535:
        raise ValueError(f"--prometheus must be a port, 1 to 65535, got {port}")
    try:
        server = make_server("127.0.0.1", port, make_wsgi_app(registry), _Server, _Handler)
    except OSError as error:
        raise ValueError(f"cannot serve metrics at port {port}: {error.strerror}") from None
    Thread(target=server.serve_forever, daemon=True, name="metrics").start()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = IDLE_S

    def handle(self):
        with suppress(OSError):  # it goes away, or never ends its request and would keep a thread
            super().handle()

    def log_message(self, *_):
        """Nothing: the terminal is the monitor's."""
