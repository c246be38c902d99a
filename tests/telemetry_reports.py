# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of telemetry, monitor and remote share: reports to publish, ports, waiting."""

import socket
import time

from deeprx_common import report


def report_of(slots=400, errors=40_000, **fields) -> dict:
    """A report of one point, as slot_probe makes it, without hardware."""
    energy = dict.fromkeys(("measured", "attributed", "net", "bound"))
    energy |= {"source": "none", "modelled": 0.0578, "model": "CPU time x 4 W"}
    point = {
        "receiver": "deeprx-student",
        "domain": "time",
        "modulation": "16QAM",
        "n_prb": 26,
        "dmrs": [2, 11],
        "snr_db": 12.0,
        "slots": slots,
        "missed_slots": 3,
        "energy_per_slot_j": energy,
        "queue_slots": 2,
    } | fields
    errors_of_halves = [errors // 2, errors - errors // 2]
    return report.new() | {
        "points": [
            report.point(
                cluster_errors=errors_of_halves,
                cluster_bits=[slots * 8112, slots * 8112],
                inference_s=[0.006, 0.008],
                **point,
            )
        ]
    }


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for_publisher(subscription):
    """Until the subscription's publisher, not there yet, knows of it."""
    until(lambda: subscription.stay_connected() or subscription.connected, 60)
    time.sleep(0.2)  # the handshake has ended on this side only


def until(condition, seconds=10.0):
    """The first true value of condition(), asked again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"nothing within {seconds} s")
