# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run spends, by phase."""

import time

import pytest
import torch

from deeprx_common.energy import Meter, NoMeter
from deeprx_training.teaching.ledger import EnergyBill, Ledger


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Time passes in time.sleep() alone, whatever else the machine does."""
    now = [100.0]
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    for name in ("monotonic", "perf_counter"):
        monkeypatch.setattr(time, name, lambda: now[0])


def test_flop_and_seconds_of_a_phase():
    ledger = Ledger(gpu=False)
    a, b = torch.ones(10, 20), torch.ones(20, 30)
    for _ in range(4):
        with ledger.phase("forward", 5):
            a @ b
            time.sleep(0.02)
    p = ledger.phases["forward"]
    assert p.slots == 20 and p.flop == 4 * 2 * 10 * 20 * 30
    # the first pass counts FLOP, and is taken to last as long as the others
    assert p.timed_slots == 15 and p.seconds == pytest.approx(0.08)


def test_backward_flop_are_twice_the_forward_ones():
    ledger = Ledger(gpu=False)
    conv = torch.nn.Conv2d(4, 4, 3, padding=1)
    x = torch.ones(1, 4, 8, 8, requires_grad=True)
    with ledger.phase("forward", 1):
        y = conv(x).sum()
    with ledger.phase("backward", 1):
        y.backward()
    assert ledger.phases["forward"].flop == 2 * 4 * 4 * 9 * 64
    assert ledger.phases["backward"].flop == 2 * ledger.phases["forward"].flop


def test_shares_and_state():
    ledger = Ledger(gpu=False)
    for name, seconds in (("data", 0.01), ("backward", 0.03)):
        for _ in range(3):
            with ledger.phase(name, 1):
                time.sleep(seconds)
    shares = ledger.shares()
    assert shares["data"] == pytest.approx(0.25) and shares["backward"] == pytest.approx(0.75)
    other = Ledger(gpu=False)
    other.load_state(ledger.state())
    assert other.shares() == shares


class Watts100(Meter):
    def __init__(self):
        super().__init__("fake", "machine", 0.0)

    def _step(self, elapsed_s):
        return 100.0 * elapsed_s


def test_a_bill_goes_on_where_the_run_was_stopped():
    """100 W while it runs, nothing in between."""
    first = EnergyBill(Watts100(), gpu=True)
    first.start()
    time.sleep(0.2)
    first.stop()
    time.sleep(0.2)  # nobody's
    second = EnergyBill(Watts100(), gpu=True)
    second.load_state(first.state())
    second.start()
    time.sleep(0.1)
    joules, reason = second.joules()
    assert not reason and joules == pytest.approx(100 * 0.3)


def test_a_bill_without_a_counter_says_why():
    bill = EnergyBill(NoMeter("no counter here"), gpu=False)
    bill.start()
    bill.stop()
    assert bill.joules() == (None, "none: no counter here")
