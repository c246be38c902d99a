# SPDX-License-Identifier: GPL-3.0-or-later
"""Points of the report, and receivers compared on the same slots, out of a flowgraph's probes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gnuradio import gr

from deeprx_common import energy, report

from ..blocks.cluster_counts import ClusterCounts
from ..blocks.slot_statistics import SlotStatistics
from ..models.file import PerfectReceiver, labels
from .flowgraph import Flowgraph


def new_report() -> dict:
    """A report without points, of these versions."""
    return report.new(gnuradio=gr.version()) | {"comparisons": []}


@dataclass(frozen=True)
class Counted:
    """A receiver's point for one user, and what it was made of."""

    point: dict
    statistics: SlotStatistics
    classical: bool


def add_points(
    measured: dict, flowgraph: Flowgraph, window: energy.Window, fields, slots, stopped
) -> list[Counted]:
    """Add one point for each receiver and user to a report; compare() takes what is returned.

    window: energy over the run. fields: for each of them, further keys of its point. slots: how
    many there were, to count the missed ones by; None, or where the run was stopped: gaps in the
    slot index are what was missed.
    """
    statistics = [probe.statistics for probe in flowgraph.probes]
    inference_s = sum(s.inference_total_s for s in statistics)
    users = flowgraph.config.n_layers
    every = []
    receivers = zip(flowgraph.models, labels(flowgraph.models), strict=True)
    of_users = [(*receiver, layer) for receiver in receivers for layer in range(users)]
    for (model, name, layer), counted, known in zip(of_users, statistics, fields, strict=True):
        if stopped and counted.slots == 0:
            continue
        flop = model.flop_per_slot(flowgraph.config.n_prb, flowgraph.n_rx)
        user_share = counted.inference_total_s / inference_s if inference_s else None
        shared = inference_s > 0 and len(flowgraph.models) > 1
        n_bits = flowgraph.config.alone(layer).n_bits
        served = window.served(counted.slots, counted.slots * n_bits, counted.cpu_s)
        share = users * user_share if shared else None
        used = energy.energy_per_slot(served, counted.inference_total_s, share)
        bits = counted.delivered_bits
        delivered = window.served(bits, bits, counted.cpu_s / users + counted.decoder_cpu_s)
        share = user_share if len(statistics) > 1 else None
        used_by_bits = energy.energy_per_slot(delivered, counted.inference_total_s / users, share)
        if isinstance(model, PerfectReceiver):
            used, bits = energy.energy_per_slot(source=f"none: {name} is no receiver"), 0
        missed = {} if slots is None or stopped else {"missed_slots": slots - counted.slots}
        point = counted.point(
            used,
            used_by_bits if bits else None,
            receiver=name,
            model_sha256=model.sha256,
            n_rx=flowgraph.n_rx,
            flop_per_slot=flop,
            **known | missed,
        )
        measured["points"].append(point)
        every.append(Counted(point, counted, model.classical))
    return every


def compare(every: Sequence[Counted], reference: str | None = None) -> list[dict]:
    """A report's comparisons of receivers of one operating point, user by user.

    reference: the receiver that all others are compared with; None: the best classical one, or the
    first where none is classical.
    """
    comparisons = []
    for layer in sorted({c.point["layer"] for c in every}):
        of_user = [c for c in every if c.point["layer"] == layer and c.statistics.clusters]
        if other := _reference(of_user, reference):
            pairs = (_comparison(c, other) for c in of_user if c is not other)
            comparisons += filter(None, pairs)
    return comparisons


def _reference(of_user: list[Counted], name: str | None) -> Counted | None:
    if name is not None:
        return next((c for c in of_user if c.point["receiver"] == name), None)
    if classical := [c for c in of_user if c.classical]:
        best = report.best([c.point for c in classical])
        return next(c for c in classical if c.point is best)
    return of_user[0] if of_user else None


def _comparison(a: Counted, b: Counted) -> dict | None:
    of_a, of_b = a.statistics, b.statistics
    bits = _paired(of_a.clusters, of_b.clusters)
    if bits is None:
        return None
    if of_a.most_transmissions > 1:  # failures decide which slots have new blocks
        deliveries = _paired(of_a.delivery_clusters, of_b.delivery_clusters)
        return report.comparison(a.point, b.point, bits, deliveries=deliveries)
    blocks = _paired(of_a.block_clusters, of_b.block_clusters)
    return report.comparison(a.point, b.point, bits, blocks)


def _paired(a: ClusterCounts, b: ClusterCounts) -> report.Pairs | None:
    """Where both have a cluster of one size; None: nowhere."""
    _, at, at_b = np.intersect1d(a.clusters, b.clusters, assume_unique=True, return_indices=True)
    same = a.of[at] == b.of[at_b]
    if not same.any():
        return None
    return a.counts[at][same], b.counts[at_b][same], a.of[at][same]
