# SPDX-License-Identifier: GPL-3.0-or-later
"""Points of the report, and receivers compared on the same slots, out of a flowgraph's probes."""

from gnuradio import gr

from deeprx_common import energy, report

from ..models.file import labels
from .flowgraph import Flowgraph


def new_report() -> dict:
    """A report without points, of these versions."""
    return report.new(gnuradio=gr.version()) | {"comparisons": []}


def add_points(
    measured: dict, flowgraph: Flowgraph, window: energy.Window, fields, slots, stopped
) -> list[dict]:
    """Add one point for each receiver and user to a report, and each one's difference to the best
    classical one on the same clusters, or to the first where none is classical.

    window: energy over the run. fields: for each receiver, further keys of its point. slots: how
    many there were, to count the missed ones by; None, or where the run was stopped: gaps in the
    slot index are what was missed. Raises ValueError with one line where what received is not the
    file that was read.
    """
    statistics = [probe.statistics for probe in flowgraph.probes]
    inference_s = sum(s.inference_total_s for s in statistics)
    users = flowgraph.config.n_layers
    points, counts = [], [[] for _ in range(users)]
    receivers = zip(flowgraph.models, labels(flowgraph.models), fields, strict=True)
    of_users = [(*receiver, layer) for receiver in receivers for layer in range(users)]
    for (model, name, known, layer), counted in zip(of_users, statistics, strict=True):
        if stopped and counted.slots == 0:
            continue
        if counted.model_sha256 not in (None, model.sha256):
            raise ValueError(
                f"{model.path}: was exchanged while it was measured: what was read has the SHA-256 "
                f"{model.sha256}, what received {counted.model_sha256}"
            )
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
        missed = {} if slots is None or stopped else {"missed_slots": slots - counted.slots}
        points.append(
            counted.point(
                used,
                used_by_bits if bits else None,
                receiver=name,
                model_sha256=model.sha256,
                n_rx=flowgraph.n_rx,
                flop_per_slot=flop,
                **known | missed,
            )
        )
        classical = model.metadata.get("kind") == "baseline"
        counts[layer].append((points[-1], counted.clusters, classical))
    measured["points"] += points
    for of_user in counts:
        measured["comparisons"] += _comparisons(of_user)
    return points


def _comparisons(counts: list[tuple[dict, dict, bool]]) -> list[dict]:
    """counts: of each receiver its point, {cluster: (errors, bits)}, whether it is classical."""
    classical = [c for c in counts if c[2] and c[0]["ber"] is not None]
    if not counts:
        return []
    reference = min(classical, key=lambda c: c[0]["ber"], default=counts[0])
    compared = []
    for point, clusters, _ in counts:
        shared = [k for k in reference[1] if k in clusters and reference[1][k][1] == clusters[k][1]]
        if point is reference[0] or not shared:
            continue
        errors, bits = zip(*(reference[1][k] for k in shared), strict=True)
        others = [clusters[k][0] for k in shared]
        compared.append(report.comparison(point, reference[0], others, errors, bits))
    return compared
