# SPDX-License-Identifier: GPL-3.0-or-later
"""What strangers send: to every message port, and to a monitor. Used, or refused in a line."""

import io
import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import message_ports as ports
import numpy as np
import pmt
import pytest
import yaml
from gnuradio.deeprx.blocks.guarded import MessageError
from gnuradio.deeprx.blocks.messages import pdu, read_report
from gnuradio.deeprx.blocks.slot_statistics import MOST_MISSED, SlotStatistics
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.telemetry.source import Source
from slots import slot_of

from deeprx_common import files, report
from deeprx_common.files import write_arrays


@pytest.mark.parametrize("name", ports.PORTS)
def test_a_port_takes_or_refuses_whatever_is_sent(name):
    """In a flowgraph that runs, and whose block then takes a good message."""
    ran = subprocess.run(
        [sys.executable, "-c", f"import message_ports; message_ports.storm({name!r})"],
        cwd=Path(__file__).parent, capture_output=True, text=True, errors="replace", timeout=100,
    )  # fmt: skip
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said[-2000:]
    assert ran.stdout.endswith("done\n") and "Traceback" not in said
    assert "\x1b" not in said and "\x07" not in said
    assert max(map(len, said.splitlines())) < 1300
    told = "message ignored", " is refused: "  # in Python, in C++
    ignored = [line for line in said.splitlines() if any(words in line for words in told)]
    assert name == "receiver.model" or 1 <= len(ignored) <= 20  # a line, no flood


def test_every_message_port_in_companion_is_stormed():
    shown = set()
    for path in (Path(__file__).parents[1] / "grc").glob("*.block.yml"):
        block = yaml.safe_load(path.read_text())
        takes = [port["id"] for port in block.get("inputs", []) if port["domain"] == "message"]
        shown |= {f"{block['id'].removeprefix('deeprx_')}.{port}" for port in takes}
    assert len(shown) > 5 and shown <= {*ports.PORTS}


def test_a_slot_index_that_jumps_is_counted_within_the_report():
    """A tag may hold any 64 bits."""
    statistics = SlotStatistics(slot_of(**ports.SLOT), 100)
    for index in (0, 2**64 - 1, 0, 2**64 - 1):
        statistics.add_slot(index, np.zeros(statistics._config.n_bits, np.uint8))
    used = ports.telemetry()["points"][0]["energy_per_slot_j"]
    point = statistics.point(used)
    report.validate(report.new() | {"points": [point]})
    assert point["missed_slots"] == MOST_MISSED


def test_names_of_models_and_reasons_do_not_grow_without_end():
    statistics = SlotStatistics(slot_of(**ports.SLOT), 100)
    for k in range(1000):
        statistics.add_stats({"slot_index": k, "dropped": f"reason {k}"})
        statistics.add_stats({"slot_index": k, "inference_ns": 1, "model": f"model {k}"})
    for counted in (statistics.dropped, statistics.slots_by_model):
        assert len(counted) == 101 and counted["others"] == 900


@pytest.mark.parametrize("value", ports.BAD, ids=lambda v: repr(v)[:20])
def test_a_monitor_shows_or_refuses_a_message(value):
    """With this value in any place, between good messages of the same source."""
    good = ports.telemetry()
    source = Source("tcp://127.0.0.1:5599")
    shown = ports.monitored(json.dumps(good).encode(), source)
    assert "deeprx-student" in shown
    for path in ports.places(good):
        data = json.dumps(ports.changed(good, path, value)).encode()
        try:
            shown = ports.monitored(data, source)
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) < 400, path
            assert str(error).isprintable(), path
        else:
            assert "\x1b" not in shown and "\u202e" not in shown, path
            assert max(map(len, shown.splitlines()[:-1])) < 800, path  # the last one is JSON
    ports.monitored(json.dumps(good).encode(), source)


def test_a_monitor_shows_or_refuses_what_lacks_a_part():
    good = ports.telemetry()
    for path in ports.places(good):
        lacking = ports.changed(good, path, None)
        inner = lacking
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        try:
            ports.monitored(json.dumps(lacking).encode())
        except ValueError as error:
            assert "\n" not in str(error), path


def test_a_monitor_shows_or_refuses_mutations():
    rng, good, source = random.Random(1), ports.telemetry(), Source("tcp://127.0.0.1:5599")
    refused = 0
    for _ in range(2000):
        data = ports.mutated(rng, good)
        try:
            assert "\x1b" not in ports.monitored(data, source)
        except ValueError as error:
            refused += 1
            assert str(error).isprintable(), data
    assert 500 < refused < 2000


def test_times_that_hardly_differ_are_no_rate():
    """Slots over 1e-300 s are infinitely many a second, which no bar has a place for."""
    source = Source("tcp://127.0.0.1:5599")
    for slots, at in ((1, 0.0), (2**62, 1e-300), (2**62 + 1, 2e-300)):
        ports.monitored(json.dumps(ports.telemetry({"slots": slots}, time_s=at)).encode(), source)
    assert list(source.slots_per_s) == [None, None, None]


@pytest.mark.parametrize(
    "message",
    [
        pmt.PMT_NIL,
        pmt.intern("{}"),
        pdu(b"{"),
        pdu(b"\xff"),
        pdu(b"[" * 100_000),
        pdu(json.dumps(ports.telemetry({"receiver": "\x1b[2J"})).encode()),
        ports.nested(50_000),
    ],
    ids=["nil", "symbol", "half", "no UTF-8", "deep", "escape", "nested"],
)
def test_a_display_refuses_what_is_no_report(message):
    with pytest.raises(MessageError, match="expected a report as JSON text") as caught:
        read_report(message)
    assert str(caught.value).isprintable()


def _terabytes():
    """Arrays whose headers say so."""
    array, file = io.BytesIO(), io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(array, header)
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("y", "llr", "slot", "allowed"):
            archive.writestr(f"{name}.npy", array.getvalue())
    return file.getvalue()


def _slots(**changed):
    """What an export writes, but for this."""
    file = io.BytesIO()
    slot = slot_of(n_prb=6)
    arrays = {
        "y": np.zeros((1, 2, 14, 72, 2), np.float32),
        "llr": np.zeros((1, slot.n_bits), np.float32),
        "slot": np.array(json.dumps(slot.as_dict())),
        "allowed": np.array(1e-5),
    }
    np.savez(file, **arrays | changed)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "expected a regular file"),
        (b"PK\x03\x04 no archive", "expected what"),
        (_terabytes(), "expected what"),
        (_slots(y=np.zeros((0, 2, 14, 72, 2), np.float32)), "expected what"),
        (_slots(llr=np.array(["a"])), "expected what"),
        (_slots(slot=np.array("[" * 50_000)), "expected what"),
        (_slots(allowed=np.zeros(2)), "expected what"),
        (_slots(allowed=np.array("a")), "expected what"),
    ],
    ids=["pipe", "damaged", "terabytes", "none", "texts", "deep", "two limits", "no limit"],
)
def test_parity_refuses_other_files(content, says, tmp_path, capsys):
    path = tmp_path / "slots.npz"
    os.mkfifo(path) if content is None else path.write_bytes(content)
    assert main(["parity", "baseline-lmmse", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"deeprx: error: {path}: {says}") and error.count("\n") == 1


def test_parity_reads_no_gigabytes(tmp_path, capsys, monkeypatch):
    """However few bytes they are compressed to."""
    path = tmp_path / "slots.npz"
    write_arrays(dict.fromkeys(("y", "llr", "slot", "allowed"), np.zeros(100_000)), path)
    assert path.stat().st_size < 1_000_000
    monkeypatch.setattr(files, "MOST_BYTES", 1_000_000)
    assert main(["parity", "baseline-lmmse", str(path)]) == 2
    assert capsys.readouterr().err == f"deeprx: error: {path}: File too large\n"
