# SPDX-License-Identifier: GPL-3.0-or-later
"""receiver_controller: the cheapest model that holds a target error rate, while the slots go on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pmt
from gnuradio import gr
from scipy.special import expit

from deeprx_common.checks import check_whole
from deeprx_common.printable import printable
from deeprx_common.schema import LONGEST

from ..models.file import read_model_file
from .guarded import SelfKeeping
from .messages import read_stats
from .slot_stream import LENGTH_KEY, PacketReader

MOST_PAUSE = 32  # windows between two trials of a model that failed
MOST_LLRS = 1 << 20  # of a slot: more than 273 PRB of 256QAM carry
PENDING_SLOTS = 1000  # that wait for their other half, LLRs or stats


def expected_error_rate(llrs: np.ndarray) -> float:
    """Bit error rate that LLRs promise: the mean of 1 / (1 + exp |LLR|), 0 to 0.5.

    As good as the LLRs are calibrated. Not finite: 0.5, such bits are worth nothing.
    """
    rate = float(np.mean(expit(-np.abs(llrs))))
    return rate if rate == rate else 0.5


class SwitchingPolicy:
    """Decides which of n_models, cheapest first, is to receive.

    Error rates are averaged over windows of window_slots slots. A window above target moves to the
    next dearer model, as soon as the rest of the window could not bring its mean down again; the
    dearest stays, whatever its errors. A window below hysteresis * target tries the next cheaper
    model. Where that fails in its first window it is tried again after 1, 2, 4, ... windows more.

    Raises ValueError where a value is out of range.
    """

    def __init__(self, n_models: int, target: float, window_slots: int, hysteresis: float):
        if n_models < 2:
            raise ValueError(f"switching needs two models or more, got {n_models}")
        if not 0 < target < 0.5:
            raise ValueError(f"target_error_rate must be above 0 and below 0.5, got {target}")
        check_whole("window_slots", window_slots, 1)
        if not 0 < hysteresis < 1:
            raise ValueError(f"hysteresis must be above 0 and below 1, got {hysteresis}")
        self._target, self._window, self._hysteresis = target, window_slots, hysteresis
        self.choice: int | None = None
        self._usable = list(range(n_models))
        self._pauses = [0] * n_models  # windows to let pass before the model is tried once more
        self._waited = 0  # windows since the last move
        self._on_trial = False
        self._total, self._slots = 0.0, 0  # of the present window

    def add_slot(self, model: int | None, error_rate: float) -> int:
        """The choice after a slot that model received; None: that one is none of these.

        The first slot says where to start. Slots of another than the choice came before a swap.
        """
        if self.choice is None:
            self._move(max(self._usable) if model is None else model, on_trial=False)
        if model != self.choice:
            return self.choice
        self._total += error_rate
        self._slots += 1
        dearer = min((k for k in self._usable if k > self.choice), default=None)
        cheaper = max((k for k in self._usable if k < self.choice), default=None)
        if self._total > self._target * self._window and dearer is not None:
            if self._on_trial:
                self._pauses[self.choice] = min(MOST_PAUSE, 2 * self._pauses[self.choice] or 1)
            self._move(dearer, on_trial=False)
        elif self._slots == self._window:
            if self._on_trial:
                self._pauses[self.choice], self._on_trial = 0, False
            self._waited += 1
            low = self._total <= self._hysteresis * self._target * self._window
            self._total, self._slots = 0.0, 0
            if low and cheaper is not None and self._waited > self._pauses[cheaper]:
                self._move(cheaper, on_trial=True)
        return self.choice

    def give_up(self, model: int) -> None:
        """Never choose a model again, one that cannot be loaded; the next slot says what runs."""
        self._usable.remove(model)
        self.choice = None

    def _move(self, model: int, on_trial: bool) -> None:
        self.choice, self._on_trial, self._waited = model, on_trial, 0
        self._total, self._slots = 0.0, 0


class receiver_controller(SelfKeeping, gr.sync_block):
    """Swaps a receiver's model for the cheapest one that holds a target bit error rate.

    It needs no truth: the error rate of a slot is what its LLRs promise (expected_error_rate), so
    models should keep their promises, as baseline-sure, the student and the teacher do.
    baseline-lmmse takes its channel estimate for exact and promises a quarter too little, or less.
    Where no model holds the target, the last one receives.

    Input: float LLRs of the receiver, packets tagged packet_len and slot_index. Message port in
    `stats`: the receiver's, which says whose LLRs a slot has. Message port out `model`: to the
    receiver's, the path of a file; no slot is lost, the swap comes when it is loaded.

    models: files, from the cheapest to the most capable. target_error_rate: of bits, uncoded.
    window_slots, hysteresis: see SwitchingPolicy.

    Raises ValueError with one line: a value out of range, a file that is no model.
    """

    def __init__(
        self,
        models: Sequence[str | Path],
        target_error_rate: float = 1e-2,
        window_slots: int = 20,
        hysteresis: float = 0.5,
    ):
        files = [read_model_file(model) for model in models]
        self._names = [file.name for file in files]
        self._paths = [str(file.path) for file in files]
        self._places = {file.sha256 or file.name: place for place, file in enumerate(files)}
        if len(self._places) < len(files):
            raise ValueError(f"models must differ, got one twice among {', '.join(self._paths)}")
        self._policy = SwitchingPolicy(len(files), target_error_rate, window_slots, hysteresis)
        super().__init__("Receiver controller", [np.float32], None)
        self._asked: int | None = None  # the model that the receiver is loading
        self._packets = PacketReader(LENGTH_KEY, MOST_LLRS)
        self._rates: dict[int, float] = {}
        self._models: dict[int, int | None] = {}
        self.set_tag_propagation_policy(gr.TPP_DONT)
        self.message_port_register_in(pmt.intern("stats"))
        self.set_msg_handler(pmt.intern("stats"), self._handle)
        self.message_port_register_out(pmt.intern("model"))

    def work(self, input_items, output_items):
        for slot_index, _, llrs in self._packets.read(self, input_items[0]):
            if llrs is not None:
                self._rates[slot_index] = expected_error_rate(llrs)
                self._pair(slot_index)
        return len(input_items[0])

    def _handle(self, message) -> None:
        stats = read_stats(message)
        if "inference_ns" in stats:
            self._models[stats["slot_index"]] = self._places.get(
                stats.get("model_sha256") or stats.get("model")
            )
            self._pair(stats["slot_index"])
        elif self._asked is not None:
            self._hear(stats)

    def _hear(self, answer: dict) -> None:
        """Others send to the receiver, too: what they were answered, and what took the place of
        the request here.
        """
        own = answer.get("path") == printable(self._paths[self._asked], LONGEST)
        if own and "model_error" in answer:
            self.logger.warn(f"does without {self._names[self._asked]}: {answer['model_error']}")
            self._policy.give_up(self._asked)
            self._asked = None
        elif ("model_replaced" if own else "model_loaded") in answer:
            self._asked = None  # the next slot asks again

    def _pair(self, index: int) -> None:
        """LLRs and stats of a slot may come in either order."""
        if index in self._rates and index in self._models:
            model = self._models.pop(index)
            choice = self._policy.add_slot(model, self._rates.pop(index))
            if choice == model:
                self._asked = None
            elif choice != self._asked:
                self._asked = choice
                self.logger.info(f"slot {index}: to {self._names[choice]}")
                path = pmt.intern(self._paths[choice])
                self.message_port_pub(pmt.intern("model"), path)
        for waiting in (self._rates, self._models):
            if len(waiting) > PENDING_SLOTS:
                del waiting[next(iter(waiting))]
