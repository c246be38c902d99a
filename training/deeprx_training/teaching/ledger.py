# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training run spends: slots, seconds and FLOP by phase (drawing the data, the teacher's
forward passes, the students' forward passes, the backward passes with the optimiser's steps), and
joules.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from deeprx_common.energy import EnergyWindow, Meter

PHASES = ("data", "teacher", "forward", "backward")


@dataclass
class Phase:
    """slots: gone through; timed_s over timed_slots of them. FLOP of convolutions and matrix
    products, as torch counts them, over counted_slots; elementwise work is left out.
    """

    slots: int = 0
    timed_slots: int = 0
    timed_s: float = 0.0
    counted_slots: int = 0
    counted_flop: int = 0

    @property
    def seconds(self) -> float:
        """All slots at the timed slots' rate."""
        return self.timed_s * self.slots / self.timed_slots if self.timed_slots else 0.0

    @property
    def flop(self) -> float:
        """All slots at the counted slots' FLOP."""
        return self.counted_flop * self.slots / self.counted_slots if self.counted_slots else 0.0


class Ledger:
    """Counts the FLOP of each phase's first pass and times those that follow.

    On a GPU, where a phase is timed only by waiting for it, one pass in 16 is.
    """

    EVERY_ON_GPU = 16

    def __init__(self, gpu: bool):
        self.gpu = gpu
        self.phases = {name: Phase() for name in PHASES}

    @contextmanager
    def phase(self, name: str, slots: int) -> Iterator[None]:
        """A pass of this phase over so many slots. Phases may run in threads of their own."""
        p = self.phases[name]
        passes = p.slots // slots
        p.slots += slots
        if not p.counted_slots:
            with FlopCounterMode(display=False) as counter:
                yield
            p.counted_flop, p.counted_slots = counter.get_total_flops(), slots
        elif self.gpu and passes % self.EVERY_ON_GPU:
            yield
        else:
            self._wait()
            begin = time.perf_counter()
            yield
            self._wait()
            p.timed_s += time.perf_counter() - begin
            p.timed_slots += slots

    def _wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()

    def state(self) -> dict:
        """Plain values, for a checkpoint."""
        return {name: vars(p).copy() for name, p in self.phases.items()}

    def load_state(self, state: dict) -> None:
        self.phases = {name: Phase(**state[name]) for name in PHASES}

    def shares(self) -> dict[str, float]:
        """Each phase's share of the seconds of all."""
        total = sum(p.seconds for p in self.phases.values())
        return {name: p.seconds / total if total else 0.0 for name, p in self.phases.items()}


class EnergyBill:
    """Joules of a run over all its parts: a run that was stopped goes on with its state().

    On a CPU a part is billed the process's share of the machine's CPU time (`attributed`), on a
    GPU the whole board (`measured`). A part without a valid window leaves the whole bill without a
    number, and with the reason.
    """

    def __init__(self, meter: Meter, gpu: bool):
        self.meter, self.gpu = meter, gpu
        self._joules, self._reason = 0.0, ""
        self._window: EnergyWindow | None = None

    def start(self) -> None:
        """A part of the run begins."""
        self._window, self._cpu_s = EnergyWindow(self.meter), time.process_time()

    def stop(self) -> None:
        """It ends."""
        self.load_state(self.state())
        self._window = None

    def state(self) -> dict:
        """Joules so far, or why there are none, for a checkpoint; call it between start and stop as
        often as one likes.
        """
        joules, reason = self._joules, self._reason
        if self._window:
            energy = self._window.read()
            if not self.gpu:
                cpu_s = time.process_time() - self._cpu_s
                energy = energy.served(slots=1, cpu_s=cpu_s).attributed()
            joules += energy.joules or 0.0
            reason = reason or energy.reason
        return {"joules": joules, "reason": reason}

    def load_state(self, state: dict) -> None:
        self._joules, self._reason = state["joules"], state["reason"]

    def joules(self) -> tuple[float | None, str]:
        """(joules so far or None, why there are none)."""
        state = self.state()
        return (None if state["reason"] else state["joules"]), state["reason"]


def spent(ledger: Ledger, bill: EnergyBill) -> dict:
    """What a run has taken so far, as run.json has it: phases, with slots, seconds, FLOP and
    joules, and energy_j.

    A slot that several members train on counts for each in `forward` and `backward`. A phase's
    `joules` are its share of the run's by time, `modelled_j` its time at the price of a busy GPU,
    or of as many busy cores as there are threads.
    """
    joules, reason = bill.joules()
    price, busy = bill.meter.price, 1 if bill.gpu else torch.get_num_threads()
    shares = ledger.shares()
    phases = {
        name: {
            "slots": p.slots,
            "s": p.seconds,
            "flop": p.flop,
            "joules": None if joules is None else joules * shares[name],
            "modelled_j": price.joules(p.seconds * busy),
        }
        for name, p in ledger.phases.items()
    }
    energy = {
        "kind": "measured" if bill.gpu else "attributed",
        "joules": joules,
        "source": bill.meter.source,
        "invalid": reason or None,
        "modelled": sum(p["modelled_j"] for p in phases.values()),
        "model": str(price) + ("" if bill.gpu else f"; {busy} threads, all of the time"),
    }
    return {"phases": phases, "energy_j": energy}
