# SPDX-License-Identifier: GPL-3.0-or-later
"""slot_probe: bit error rate, time and energy per slot of a receiver in a running flowgraph."""

import json
import threading
import time
from functools import partial

import numpy as np
import pmt
from gnuradio import gr

from deeprx_common import report
from deeprx_common.checks import check_range, check_whole

from ..deeprx_python import message_port_in, message_port_out
from ..telemetry.report_log import ReportLog
from .guarded import Guarded
from .messages import pdu, read_block, read_stats
from .slot_energy import SlotEnergy
from .slot_statistics import SlotStatistics
from .slot_stream import LENGTH_KEY, PacketReader, slot_config
from .transport import seeded_bits

LONG_S = 0.02  # a report that takes longer, of very many clusters, may take a twentieth of the time


def in_flight_slots(config) -> int:
    """Slots that a loopback's buffers may hold between slot source and probe.

    Buffers are sized in samples: 44 slots were seen at 26 PRB, 165 at 6, 24 at 100.
    """
    return max(32, 32768 // config.fft_size)


class _slot_sink(Guarded, gr.sync_block):
    """Collects tagged slots of n_bits items and hands each to on_slot(slot_index, uint8 [n_bits]).

    A slot starts at its length tag. A packet of another length is skipped and reported once.
    """

    def __init__(self, name, item_type, n_bits, to_bits, on_slot, len_tag_key):
        super().__init__(name, [item_type], None)
        self._n_bits, self._to_bits, self._on_slot = n_bits, to_bits, on_slot
        self._packets = PacketReader(len_tag_key, n_bits)
        self._wrong_length_seen = False
        self.set_tag_propagation_policy(gr.TPP_DONT)

    def work(self, input_items, output_items):
        for slot_index, length, items in self._packets.read(self, input_items[0]):
            if length == self._n_bits:
                self._on_slot(slot_index, self._to_bits(items))
            elif not self._wrong_length_seen:
                self._wrong_length_seen = True
                gr.logger(self.name()).error(
                    f"expected slots of {self._n_bits} bits, found one of {length}: give the probe "
                    "the receiver's slot (such slots are not counted)"
                )
        return len(input_items[0])


class _llr_sink(_slot_sink):
    """The LLRs, and the messages on the same block: one without streams never ends by itself."""

    def __init__(self, n_bits, llr_sign, on_slot, on_stats, on_block, on_end, len_tag_key):
        super().__init__(
            "slot_probe", np.float32, n_bits, lambda llr: llr_sign * llr > 0, on_slot, len_tag_key
        )
        self._on_stats, self._on_block, self._on_end = on_stats, on_block, on_end
        for port, handler in (("stats", self._handle_stats), ("blocks", self._handle_block)):
            self.message_port_register_in(pmt.intern(port))
            self.set_msg_handler(pmt.intern(port), handler)
        self.message_port_register_out(pmt.intern("report"))

    def _handle_stats(self, message):
        self._on_stats(read_stats(message))

    def _handle_block(self, message):
        self._on_block(*read_block(message))

    def stop(self):
        self._on_end()
        return True

    def publish(self, text):
        # No symbol: GNU Radio keeps each for ever
        self.message_port_pub(pmt.intern("report"), pdu(text.encode()))


class slot_probe(gr.hier_block2):
    """Counts bit and block errors against the truth, missed slots, time and energy; publishes
    reports.

    Input 0: float LLRs, one tagged packet of n_bits a slot (tags packet_len and slot_index);
    positive means 1. Input 1, with reference_input: the bits that were sent, uint8, tagged the same
    way, early or late; without it the bits are those that slot_source makes of (seed, slot_index),
    or where the user has a code rate those that tb_encoder makes of tb_source's block. Message
    ports in `stats`: the receiver's, `blocks`: tb_decoder's, which has its LLRs pass first. Message
    port out `report`: a PDU of bytes, a report of one point as JSON; the same goes over ZMQ
    PUB, see telemetry.

    Parameters:
      seed: of slot_source or tb_source. cluster_slots: slots of one cluster, the unit of the 95 %
      interval: at least 10 coherence times (10 / Doppler), or the slots of one burst.
      n_slots: slots of this index and above are not counted; 0: all are.
      every_slots, every_s: publish after so many slots or seconds, whichever is first (0: not by
      that), and what is left when the flowgraph stops.
      zmq_address: e.g. "tcp://127.0.0.1:5599", or a port number alone, which stays on this machine;
      empty: no ZMQ. zmq_keys: folder made by `deeprx keys`, needed if other machines can connect.
      device: of the receiver, picks the meter. core_w: watts of a busy core, or of a busy GPU, for
      the modelled joules (0: an assumed power, which the report names). meter: of
      deeprx_common.energy.METERS, or a Meter.
      idle_w: what the meter's scope draws at rest, for joules net of idle; 0: measured for a second
      when the block is made, where there is a counter.
      log: *.jsonl or *.csv to which each published report is added; empty: none.
      conditions: keys of the report's point that are known here, e.g. {"channel": "TDL-A"}; see
      set_conditions().
      transmissions: of a transport block at most, where a link sends it again.
      llr_sign: -1 where the receiver was told to flip. slot: a SlotConfig; layer: of the user
      whose bits they are.

    Raises ValueError with one line for parameters out of range and an address that cannot be bound,
    OSError for a meter that was asked for and is not there.
    """

    def __init__(
        self,
        seed=1,
        reference_input=False,
        cluster_slots=100,
        n_slots=0,
        every_slots=100,
        every_s=0.0,
        zmq_address="",
        zmq_keys="",
        device="cpu",
        meter="auto",
        idle_w=0.0,
        core_w=0.0,
        log="",
        conditions=None,
        transmissions=1,
        llr_sign=1,
        len_tag_key=LENGTH_KEY,
        slot=None,
        layer=0,
    ):
        inputs = [gr.sizeof_float, gr.sizeof_char][: 1 + bool(reference_input)]
        gr.hier_block2.__init__(
            self,
            "slot_probe",
            gr.io_signature.makev(len(inputs), len(inputs), inputs),
            gr.io_signature(0, 0, 0),
        )
        check_whole("llr_sign", llr_sign)
        if llr_sign not in (1, -1):
            raise ValueError(f"llr_sign must be 1 or -1, got {llr_sign}")
        if seed is not None:  # of a recording it may be unknown
            check_whole("seed", seed)
        check_whole("n_slots", n_slots, 0)
        check_whole("every_slots", every_slots, 0)
        check_range("every_s", every_s, 0, unit="s")
        check_whole("transmissions", transmissions, 1)
        whole = slot_config(slot)
        config = whole.alone(layer)
        reference = sent = None
        if not reference_input:
            reference = seeded_bits(config, seed)
            if config.users[0].code_rate is not None:
                sent = partial(config.block, seed)
        self._lock = threading.Lock()
        self._new_statistics = lambda: SlotStatistics(
            whole, cluster_slots, reference, n_slots, sent, transmissions, layer
        )
        self._statistics = self._new_statistics()
        self._config = config
        self._in_flight = 0  # slots yet to come from before the last set_conditions()
        self._every_slots, self._every_s = every_slots, every_s
        self._published_slots, self._published_time = 0, time.monotonic()
        self._report_s = 0.0  # that the last one took to make
        self._seed = None if reference_input else seed
        self._conditions = dict(conditions or {})
        self._report = report.new(gnuradio=gr.version())
        self._publisher = None
        if zmq_address:
            from ..telemetry.pubsub import Publisher  # ZeroMQ, which others do not need

            self._publisher = Publisher(zmq_address, zmq_keys)
        self._log = ReportLog(log) if log else None
        self._energy = SlotEnergy(device, config.n_bits, meter, idle_w, core_w, whole.n_layers)

        # kept by name: GNU Radio holds only the C++ side of a Python block
        self._llrs = _llr_sink(
            config.n_bits,
            llr_sign,
            self._on_slot,
            self._on_stats,
            self._on_block,
            self._on_end,
            len_tag_key,
        )
        self.connect((self, 0), self._llrs)
        if reference_input:
            self._truth = _slot_sink(
                "slot_probe", np.uint8, config.n_bits, np.asarray, self._on_truth, len_tag_key
            )
            self.connect((self, 1), self._truth)
        for port in ("stats", "blocks"):
            message_port_in(self, port, self._llrs)
        message_port_out(self, "report", self._llrs)

    def _on_slot(self, slot_index, decisions):
        with self._lock:
            if self._in_flight:
                self._in_flight -= 1
                if not self._in_flight:
                    self._energy.restart()
                return
            self._statistics.add_slot(slot_index, decisions)
            slots, now = self._statistics.slots, time.monotonic()
            due = 0 < self._every_slots <= slots - self._published_slots
            due = due or 0 < self._every_s <= now - self._published_time
            if self._report_s > LONG_S:
                due = due and now - self._published_time >= 20 * self._report_s
            if due:
                self._published_slots, self._published_time = slots, now
        if due:
            self._publish()

    def _on_end(self):
        with self._lock:
            due = self._statistics.slots > self._published_slots
            self._published_slots = self._statistics.slots
        if due:
            self._publish()

    def _publish(self):
        start = time.monotonic()
        current = self.report()
        self._report_s = time.monotonic() - start
        self._llrs.publish(json.dumps(current))
        if self._publisher:
            self._publisher.publish(current)
        if self._log:
            try:
                self._log.append(current)
            except OSError as error:
                gr.logger("slot_probe").error(f"{self._log.path}: {error.strerror}; it ends here")
                self._log = None

    def _on_truth(self, slot_index, bits):
        with self._lock:
            self._statistics.add_reference(slot_index, bits)

    def _on_stats(self, stats):
        with self._lock:
            if not self._in_flight:
                self._statistics.add_stats(stats)
            self._energy.add_inference(stats.get("inference_ns", 0) * 1e-9)

    def _on_block(self, about, block):
        with self._lock:
            if not self._in_flight:
                self._statistics.add_block(about, block)

    def set_conditions(self, conditions):
        """Begin a new point where these differ from before, e.g. when an SNR slider moved.

        The in_flight_slots() next ones, sent under the old conditions, are not counted.
        """
        with self._lock:
            if conditions != self._conditions:
                self._conditions = dict(conditions)
                self._statistics = self._new_statistics()
                self._published_slots, self._published_time = 0, time.monotonic()
                self._in_flight = in_flight_slots(self._config)

    @property
    def statistics(self):
        """The SlotStatistics behind; read it when the flowgraph stands still, or while held()."""
        return self._statistics

    def held(self):
        """A context in which nothing is counted: what receives waits."""
        return self._lock

    def slots(self):
        """Slots received so far."""
        return self._statistics.slots

    def transmissions(self):
        """Transmissions of transport blocks decoded so far: a slot's comes after the slot."""
        return self._statistics.transmissions

    def complete(self):
        """Whether slot n_slots - 1 or a later one has come; some before it may be missing."""
        return self._statistics.complete

    def report(self):
        """Everything counted so far, a report of one point (dict); after the run, the final one."""
        with self._lock:
            statistics = self._statistics
            known = {"seed": self._seed, "flop_per_slot": statistics.flop_per_slot or None}
            known |= self._conditions
            used = self._energy.per_slot(statistics), self._energy.per_delivered_bit(statistics)
            return self._report | {"points": [statistics.point(*used, **known)]}
