# SPDX-License-Identifier: GPL-3.0-or-later
"""SigMF recordings: what is written is valid and whole whatever ends it, what is read is exact."""

import errno
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import message_ports as ports
import numpy as np
import pmt
import pytest
import sigmf
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.recording.recording import ANNOTATION, Recording, SentSlots
from gnuradio.deeprx.recording.writer import RecordingWriter
from sigmf import validate
from slots import slot_of

from deeprx_common.slot import SLOT, SLOTS, SlotConfig

SMALL = slot_of(n_prb=6, modulation="QPSK")
SENT = SentSlots(SMALL, preamble=False, bit_seed=5, conditions={"snr_db": 20.0}, burst_slots=2)
RATE = SMALL.sample_rate


def noise(n_rx, n, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n_rx, n, 2)).astype(np.float32)
    return values.view(np.complex64)[..., 0]


def write(path, samples, slots=(), sent=SENT, **options):
    """A recording of samples with slots {sample: slot_index}; returns the writer, closed."""
    rate = sent.config.sample_rate
    writer = RecordingWriter(path, len(samples), rate, sent=sent, **options)
    for start in range(0, samples.shape[1], 1000):
        writer.write(list(samples[:, start : start + 1000]))
        for at, index in dict(slots).items():
            if start <= at < start + 1000:
                writer.slot(at, index)
    writer.close()
    return writer


def assert_valid(*paths):
    """By the official validator, which ends with status 1 where it finds anything."""
    validate.main([str(path) for path in paths])


def edit(path, change, section="global"):
    """Change the metadata of a recording as anybody could."""
    metadata = json.loads(path.read_text())
    change(metadata[section])
    path.write_text(json.dumps(metadata))


class TestWriting:
    def test_floats_come_back_exactly(self, tmp_path):
        samples = noise(3, 2500)
        write(tmp_path / "a", samples, datatype="cf32_le")
        recording = Recording(tmp_path / "a.sigmf-meta")
        recording.verify()
        assert (recording.n_rx, recording.n_samples) == (3, 2500)
        assert recording.sample_rate == RATE
        np.testing.assert_array_equal(recording.read(0, 2500), samples)
        np.testing.assert_array_equal(recording.read(1234, 77), samples[:, 1234:1311])
        assert_valid(tmp_path / "a.sigmf-meta")

    def test_integers_are_rounded_scaled_and_clipped_in_the_open(self, tmp_path):
        samples = noise(2, 3000)
        samples[1, 7] = 100 - 3j
        samples[0, 9] = complex(np.nan, 1)
        writer = write(tmp_path / "a", samples, datatype="ci16_le", full_scale=8.0)
        assert writer.clipped == 1
        samples[1, 7] = complex(8 * 32767 / 32768, -3)
        samples[0, 9] = 1j
        recording = Recording(tmp_path / "a.sigmf-meta")
        error = recording.read(0, 3000) - samples
        assert max(np.abs(error.real).max(), np.abs(error.imag).max()) <= 8 / 65536 + 1e-7
        assert_valid(tmp_path / "a.sigmf-meta")

    def test_what_sigmf_itself_reads(self, tmp_path):
        samples = noise(2, 1000)
        write(tmp_path / "a", samples, datatype="ci16_le", full_scale=8.0)
        theirs = sigmf.fromfile(tmp_path / "a.sigmf-meta").read_samples() * 8
        np.testing.assert_array_equal(theirs.T, Recording(tmp_path / "a").read(0, 1000))

    def test_collection(self, tmp_path):
        samples = noise(2, 2000)
        write(tmp_path / "a", samples, {0: 4}, datatype="cf32_le", collection=True)
        names = sorted(p.name for p in tmp_path.iterdir())
        streams = [f"a-rx{k}.sigmf-{kind}" for k in range(2) for kind in ("data", "meta")]
        assert names == [*streams, "a.sigmf-collection"]
        recording = Recording(tmp_path / "a.sigmf-collection")
        recording.verify()
        np.testing.assert_array_equal(recording.read(10, 500), samples[:, 10:510])
        assert len(recording.runs) == 1
        assert_valid(*tmp_path.glob("*.sigmf-meta"))
        assert len(sigmf.fromfile(tmp_path / "a.sigmf-collection")) == 2

    def test_archive(self, tmp_path):
        samples = noise(2, 2000)
        writer = write(tmp_path / "a.sigmf-meta", samples, datatype="cf32_le", archive=True)
        assert [p.name for p in tmp_path.iterdir()] == ["a.sigmf"]
        assert writer.paths == [tmp_path / "a.sigmf"]
        recording = Recording(tmp_path / "a.sigmf")
        recording.verify()
        np.testing.assert_array_equal(recording.read(3, 1000), samples[:, 3:1003])
        assert_valid(tmp_path / "a.sigmf")

    def test_one_annotation_for_each_run_of_whole_slots(self, tmp_path):
        n = SENT.n_samples()
        places = {0: 0, n: 1, 2 * n: 2, 3 * n + 50: 3, 4 * n: 4, 5 * n: 6, 6 * n: 7}
        write(tmp_path / "a", noise(1, 7 * n - 1), places)
        runs = Recording(tmp_path / "a").runs
        # the slot at 3n + 50 was cut short by the next, the one at 6n by the end
        assert [(r.start, r.first_slot, r.n_slots) for r in runs] == [
            (0, 0, 3),
            (4 * n, 4, 1),
            (5 * n, 6, 1),
        ]
        assert all(run.sent.config == SMALL for run in runs)
        assert runs[0].sent.bit_seed == 5
        assert runs[0].sent.burst_slots == 2
        assert runs[0].sent.conditions["snr_db"] == 20.0
        assert runs[0].sent.conditions["channel"] is None

    @pytest.mark.parametrize("preamble", [False, True])
    @pytest.mark.parametrize("first", [2, 3])
    def test_runs_of_slots_of_two_lengths(self, tmp_path, preamble, first):
        """At 60 kHz, from a slot of either: they follow each other, and are found one by one."""
        config = slot_of(n_prb=6, modulation="QPSK", scs_khz=60, slot_number=None)
        sent = SentSlots(config, preamble)
        assert sent.n_samples(2) > sent.n_samples(3) == sent.n_samples(5)
        indices = [*range(first, first + 5), *range(first + 6, first + 9)]
        at, places = 0, {}
        for index in indices:
            places[at] = index
            at += sent.n_samples(index)
        write(tmp_path / "a", samples := noise(1, at), places, sent=sent, datatype="cf32_le")
        runs = Recording(tmp_path / "a").runs
        assert [(r.first_slot, r.n_slots) for r in runs] == [(first, 5), (first + 6, 3)]
        assert sum(r.n_samples for r in runs) == at
        top, sink = gr.top_block(), blocks.vector_sink_c()
        top.connect(deeprx.recording_source(tmp_path / "a", 1, aligned=True), sink)
        top.run()
        parts, tags = [], {}
        for start, index in places.items():
            tags[sum(map(len, parts))] = index
            end = start + sent.n_samples(index)
            parts.append(samples[0, end - config.n_samples(index) : end])
        np.testing.assert_array_equal(np.array(sink.data(), np.complex64), np.concatenate(parts))
        assert {t.offset: pmt.to_uint64(t.value) for t in sink.tags()} == tags

    def test_metadata_say_who_when_and_what_with(self, tmp_path):
        write(tmp_path / "a", noise(1, 10), hw="a radio", author="Ada", frequency_hz=1e9)
        metadata = json.loads((tmp_path / "a.sigmf-meta").read_text())
        assert metadata["global"]["core:hw"] == "a radio"
        assert metadata["global"]["core:author"] == "Ada"
        assert metadata["global"]["core:extensions"] == [
            {"name": "deeprx", "version": "2.0.0", "optional": True}
        ]
        assert metadata["captures"][0]["core:frequency"] == 1e9
        assert metadata["captures"][0]["core:datetime"].endswith("Z")

    def test_the_journal_is_a_valid_recording_at_any_time(self, tmp_path):
        writer = RecordingWriter(tmp_path / "a", 1, RATE, sent=SENT, journal_s=0.02)
        for k in range(5):
            writer.write(list(noise(1, SENT.n_samples())))
            writer.slot(k * SENT.n_samples(), k)
            deadline = time.monotonic() + 10
            while (runs := Recording(tmp_path / "a").runs) == [] or runs[0].n_slots <= k:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert_valid(tmp_path / "a.sigmf-meta")
        writer.close()

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"datatype": "cf64_le"}, "datatype must be one of ci16_le, cf32_le"),
            ({"full_scale": 0.0}, "full_scale must be above 0"),
            ({"collection": True, "archive": True}, "an archive holds one recording"),
        ],
    )
    def test_parameters_that_do_not_fit(self, tmp_path, options, says):
        with pytest.raises(ValueError, match=says):
            RecordingWriter(tmp_path / "a", 1, RATE, **options)
        assert list(tmp_path.iterdir()) == []

    def test_nothing_is_overwritten(self, tmp_path):
        write(tmp_path / "a", noise(1, 100))
        before = (tmp_path / "a.sigmf-data").read_bytes()
        for path in ("a", "a.sigmf-meta"):
            with pytest.raises(FileExistsError):
                write(tmp_path / path, noise(1, 100, seed=1))
        assert (tmp_path / "a.sigmf-data").read_bytes() == before


def record(path, *arguments, **process):
    command = [sys.executable, "-m", "gnuradio.deeprx", "record", str(path), "--n-prb", "6"]
    return subprocess.Popen(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **process,
    )  # fmt: skip


def wait_for_slots(path):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if path.exists() and json.loads(path.read_text())["annotations"]:
            return
        time.sleep(0.05)
    pytest.fail("nothing was recorded")


class TestInterrupted:
    """By real signals and real full disks, of the command itself."""

    @pytest.mark.parametrize("kind", ["--datatype=ci16_le", "--collection"])
    def test_killed(self, tmp_path, kind):
        process = record(tmp_path / "a", "--slots", 10**6, kind)
        meta = tmp_path / ("a-rx0.sigmf-meta" if kind == "--collection" else "a.sigmf-meta")
        wait_for_slots(meta)
        process.kill()
        process.communicate()
        assert_valid(*tmp_path.glob("a*.sigmf-meta"))
        last = "a.sigmf-collection" if kind == "--collection" else "a.sigmf-meta"
        recording = Recording(tmp_path / last)
        (run,) = recording.runs
        assert run.n_slots > 10
        assert recording.n_samples >= run.sent.n_samples(run.first_slot, run.n_slots)

    def test_ctrl_c(self, tmp_path):
        process = record(tmp_path / "a", "--slots", 10**6)
        wait_for_slots(tmp_path / "a.sigmf-meta")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130
        assert errors.startswith("deeprx: stopped; kept: ")
        assert errors.count("\n") == 1
        recording = Recording(tmp_path / "a")
        assert recording.sha512[0]
        recording.verify()
        assert f"{recording.runs[0].n_slots} slots" in errors
        assert_valid(tmp_path / "a.sigmf-meta")

    def assert_kept(self, process, path, why):
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 2, errors
        lines = [line for line in errors.splitlines() if line.startswith("deeprx: error")]
        assert len(lines) == 1
        assert why in lines[0]
        assert "Traceback" not in errors
        recording = Recording(path)
        recording.verify()
        assert recording.runs[0].n_slots > 10
        assert_valid(path)

    def test_file_size_limit(self, tmp_path):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_001, 3_000_001))

        process = record(tmp_path / "a", "--slots", 10**6, preexec_fn=limit)
        self.assert_kept(process, tmp_path / "a.sigmf-meta", "File too large")
        assert (tmp_path / "a.sigmf-data").stat().st_size <= 3_000_001

    def test_disk_full(self, tmp_path):
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("mounting a small disk needs root")
        try:
            process = record(disk / "a", "--slots", 10**6)
            self.assert_kept(process, disk / "a.sigmf-meta", "No space left on device")
        finally:
            subprocess.run(["umount", str(disk)], check=True)


class TestRecordingSink:
    def test_radio_tags_begin_captures(self, tmp_path):
        tags = []
        for at, key, value in [
            (0, "rx_freq", pmt.from_double(1e9)),
            (0, "rx_time", pmt.make_tuple(pmt.from_uint64(10**9), pmt.from_double(0.25))),
            (700, "rx_freq", pmt.from_double(2e9)),
        ]:
            tags.append(gr.tag_utils.python_to_tag((at, pmt.intern(key), value, pmt.PMT_F)))
        samples = noise(1, 1000)[0]
        top = gr.top_block()
        sink = deeprx.recording_sink(
            tmp_path / "a", 1e6, n_rx=1, datatype="cf32_le", slot=slot_of(n_prb=6)
        )
        top.connect(blocks.vector_source_c(samples.tolist(), False, 1, tags), sink)
        top.run()
        assert sink.error() is None
        assert sink.samples() == 1000
        metadata = json.loads((tmp_path / "a.sigmf-meta").read_text())
        first, second = metadata["captures"]
        assert first["core:frequency"] == 1e9
        assert first["core:datetime"] == "2001-09-09T01:46:40.250000000Z"
        assert (second["core:sample_start"], second["core:frequency"]) == (700, 2e9)
        assert metadata["annotations"] == []
        recording = Recording(tmp_path / "a")
        assert [(c.start, c.n_samples) for c in recording.captures] == [(0, 700), (700, 300)]
        assert_valid(tmp_path / "a.sigmf-meta")

    def test_the_sample_rate_is_the_slots(self, tmp_path):
        for slot, options, rate in [
            (SLOTS["gnb"], {}, 23.04e6),
            (SlotConfig(), {}, 7.68e6),
            (SlotConfig(), {"sample_rate": 1e6}, 1e6),
        ]:
            deeprx.recording_sink(tmp_path / f"{rate:g}", slot=slot, **options).stop()
            metadata = json.loads((tmp_path / f"{rate:g}.sigmf-meta").read_text())
            assert metadata["global"]["core:sample_rate"] == rate

    def recorded(self, path, tags, n=3000, **options):
        """The captures of n samples with tags (sample, key, value)."""
        tags = [
            gr.tag_utils.python_to_tag((at, pmt.intern(key), value, pmt.PMT_F))
            for at, key, value in tags
        ]
        top = gr.top_block()
        sink = deeprx.recording_sink(
            path, 1e6, n_rx=1, datatype="cf32_le", **options, slot=slot_of(n_prb=6)
        )
        top.connect(blocks.vector_source_c(noise(1, n)[0].tolist(), False, 1, tags), sink)
        top.run()
        assert sink.error() is None
        assert_valid(path.with_suffix(".sigmf-meta"))
        assert Recording(path).n_samples == n
        return json.loads(path.with_suffix(".sigmf-meta").read_text())["captures"]

    def test_a_capture_at_zero_whenever_the_first_tag_comes(self, tmp_path):
        first, second = self.recorded(
            tmp_path / "a", [(1000, "rx_freq", pmt.from_double(2e9))], frequency_hz=1e9
        )
        assert (first["core:sample_start"], first["core:frequency"]) == (0, 1e9)
        assert (second["core:sample_start"], second["core:frequency"]) == (1000, 2e9)
        assert "core:datetime" in first and "core:datetime" not in second

    @pytest.mark.parametrize("begun", [0, 1_800_000_000])
    def test_a_clock_that_was_never_set_gives_no_date(self, tmp_path, begun):
        """It tells what was lost nevertheless: 500 samples of 1 MS/s ahead of sample 2000."""
        times = [(0, 0.25), (1000, 0.251), (2000, 0.2525)]
        captures = self.recorded(
            tmp_path / "a",
            [
                (at, "rx_time", pmt.make_tuple(pmt.from_uint64(begun), pmt.from_double(seconds)))
                for at, seconds in times
            ],
        )
        assert [c["core:global_index"] for c in captures] == [0, 1000, 2500]
        dates = [c.get("core:datetime", "none")[:4] for c in captures]
        this_year = time.strftime("%Y", time.gmtime())
        assert dates == (["2027"] * 3 if begun else [this_year, "none", "none"])
        assert [c.follows for c in Recording(tmp_path / "a").captures] == [False, True, False]

    def test_what_comes_after_a_stop_follows_nothing(self, tmp_path, monkeypatch):
        """Not even where this computer's times say that nothing was lost."""
        times = iter(["2026-11-25T12:00:00.000Z", "2026-11-25T12:00:00.001Z"])
        monkeypatch.setattr(RecordingWriter, "utc", staticmethod(lambda: next(times)))
        writer = RecordingWriter(tmp_path / "a", 1, RATE)
        for _ in range(2):
            writer.reopen()
            writer.write(noise(1, round(RATE / 1000)))
            writer.close()
        assert_valid(tmp_path / "a.sigmf-meta")
        assert [c.follows for c in Recording(tmp_path / "a").captures] == [False, False]

    @pytest.mark.parametrize("options", [{}, {"archive": True}, {"collection": True}])
    def test_lock_and_unlock_go_on_with_the_recording(self, tmp_path, options):
        """Three times, a probe being connected each time; what was recorded before stays."""
        slot = {"n_prb": 6, "modulation": "QPSK"}
        top = gr.top_block()
        source, transmitter = (
            deeprx.slot_source(5, slot=slot_of(**slot)),
            deeprx.slot_transmitter(slot=slot_of(**slot)),
        )
        sink = deeprx.recording_sink(
            tmp_path / "a",
            RATE,
            1,
            "cf32_le",
            preamble=False,
            bit_seed=5,
            slot=slot_of(**slot),
            **options,
        )
        top.connect(source, transmitter, sink)
        top.start()
        for _ in range(3):
            before = sink.samples()
            deadline = time.monotonic() + 20
            while sink.samples() < before + 5 * SMALL.n_samples():
                assert time.monotonic() < deadline and sink.error() is None
                time.sleep(0.001)
            top.lock()
            top.connect(transmitter, blocks.null_sink(8))
            top.unlock()
        top.stop()
        top.wait()
        assert sink.error() is None
        recording = Recording(sink.paths()[0])
        recording.verify()
        assert recording.n_samples == sink.samples()
        assert [c.follows for c in recording.captures][:2] == [False, False]
        runs = recording.runs
        assert sum(run.n_slots for run in runs) >= 14
        for run in runs:  # the first slot of each lies where it says
            symbol = recording.read(run.start + SMALL.cp_lengths()[0], SMALL.fft_size)[0]
            spectrum = np.fft.fft(symbol, norm="ortho")[SMALL.carriers]
            grid = SMALL.grid(SMALL.bits(5, run.first_slot), run.first_slot)
            np.testing.assert_allclose(spectrum, grid[0], atol=1e-4)

    def test_slots_are_annotated_where_they_begin(self, tmp_path):
        slot = {"n_prb": 6, "modulation": "QPSK"}
        top = gr.top_block()
        source = deeprx.slot_source(5, 3, 20, slot=slot_of(**slot))
        transmitter = deeprx.slot_transmitter(preamble=True, slot=slot_of(**slot))
        sink = deeprx.recording_sink(
            tmp_path / "a", RATE, n_rx=1, datatype="cf32_le", bit_seed=5, slot=slot_of(**slot)
        )
        top.connect(source, transmitter, sink)
        top.run()
        recording = Recording(tmp_path / "a")
        (run,) = recording.runs
        assert (run.start, run.first_slot, run.n_slots) == (0, 3, 20)
        assert sink.slots() == 20
        # the slot itself lies where the annotation says
        at = run.start + 7 * run.sent.n_samples() + (run.sent.n_samples() - SMALL.n_samples())
        symbol = recording.read(at + SMALL.cp_lengths()[0], SMALL.fft_size)[0]
        spectrum = np.fft.fft(symbol, norm="ortho")[SMALL.carriers]
        grid = SMALL.grid(SMALL.bits(5, 10), 10)
        np.testing.assert_allclose(spectrum, grid[0], atol=1e-4)


TYPES = [
    *(f"c{kind}_le" for kind in ("f32", "f64", "i32", "i16", "u32", "u16")),
    *(f"c{kind}_be" for kind in ("f32", "f64", "i32", "i16", "u32", "u16")),
    "ci8",
    "cu8",
]  # fmt: skip


def numpy_type(name):
    kind, _, order = name[1:].partition("_")
    return np.dtype(("<" if order != "be" else ">") + kind[0] + str(int(kind[1:]) // 8))


def encode(samples, name):
    """Samples as a data file of any SigMF type; full scale is 1."""
    kind = numpy_type(name)
    values = np.stack([samples.real, samples.imag], -1).astype(np.float64)
    values = np.moveaxis(values, 0, 1)  # [n, n_rx, 2]
    if kind.kind != "f":
        values = np.rint(values * 2.0 ** (8 * kind.itemsize - 1))
        values += 2.0 ** (8 * kind.itemsize - 1) if kind.kind == "u" else 0
    return values.astype(kind).tobytes()


def put(path, samples, name, captures=(), annotations=(), data=None, **fields):
    """A recording by hand."""
    shared = {
        "core:datatype": name,
        "core:version": "1.2.0",
        "core:sample_rate": RATE,
        "core:num_channels": len(samples),
        "core:extensions": [{"name": "deeprx", "version": "2.0.0", "optional": True}],
    } | fields
    text = json.dumps(
        {"global": shared, "captures": list(captures), "annotations": list(annotations)}
    )
    meta = path.with_suffix(".sigmf-meta")
    meta.write_text(text)
    path.with_suffix(".sigmf-data").write_bytes(encode(samples, name) if data is None else data)
    return meta


class TestReading:
    @pytest.mark.parametrize("name", TYPES)
    def test_every_complex_type(self, tmp_path, name):
        samples = noise(2, 500) * 0.2
        samples[1, 3] = -1 + 0.5j
        recording = Recording(put(tmp_path / "a", samples, name))
        bits = 8 * numpy_type(name).itemsize
        step = 1e-7 if "f" in name else max(2.0 ** (1 - bits), 1e-7)
        assert np.abs(recording.read(0, 500) - samples).max() <= step
        np.testing.assert_array_equal(recording.read(100, 50), recording.read(0, 150)[:, 100:])

    def test_captures_with_headers_offset_and_another_data_file(self, tmp_path):
        samples = noise(2, 300)
        body = encode(samples, "cf32_le")
        frame = 16
        data = b"head" + body[: 100 * frame] + b"another" + body[100 * frame :] + b"tail!"
        (tmp_path / "radio.bin").write_bytes(data)
        meta = put(
            tmp_path / "a", samples, "cf32_le",
            captures=[
                {"core:sample_start": 1000, "core:header_bytes": 4, "core:frequency": 1e9},
                {"core:sample_start": 1100, "core:header_bytes": 7, "core:frequency": 2e9},
            ],
            **{"core:offset": 1000, "core:dataset": "radio.bin", "core:trailing_bytes": 5},
        )  # fmt: skip
        (tmp_path / "a.sigmf-data").unlink()
        recording = Recording(meta)
        assert recording.n_samples == 300
        assert [(c.start, c.n_samples, c.frequency_hz) for c in recording.captures] == [
            (0, 100, 1e9),
            (100, 200, 2e9),
        ]
        np.testing.assert_array_equal(recording.read(90, 50), samples[:, 90:140])

    @pytest.mark.parametrize(
        ("second", "follows"),
        [
            ({"core:datetime": "2026-01-01T00:00:00.001041667Z"}, True),
            ({"core:datetime": "2026-01-01T00:00:00.001Z"}, True),
            ({"core:datetime": "2026-01-01T00:00:00.001"}, True),
            ({"core:datetime": "2026-01-01T00:00:00.001141667Z"}, False),
            ({"core:datetime": "2026-01-01T00:00:00.001041667Z", "core:frequency": 2e9}, False),
            ({"core:global_index": 2000}, True),
            ({"core:global_index": 2001, "core:datetime": "2026-01-01T00:00:00.001Z"}, False),
            ({}, True),
        ],
    )
    def test_a_capture_that_loses_nothing_is_no_break(self, tmp_path, second, follows):
        """2000 samples of 1.92 MS/s last 1.041667 ms."""
        first = {"core:sample_start": 0, "core:datetime": "2026-01-01T00:00:00.000000000Z"}
        captures = [first, {"core:sample_start": 2000} | second]
        meta = put(tmp_path / "a", noise(1, 3000), "cf32_le", captures)
        assert [c.follows for c in Recording(meta).captures] == [False, follows]
        top = gr.top_block()
        sink = blocks.vector_sink_c()
        top.connect(deeprx.recording_source(meta, 1), sink)
        top.run()
        rates = [t.offset for t in sink.tags() if pmt.symbol_to_string(t.key) == "rx_rate"]
        assert rates == ([0] if follows else [0, 2000])

    def test_whole_numbers_may_be_written_with_a_fraction(self, tmp_path):
        """As JSON Schema has it, and some programs write them."""
        annotation = SENT.annotation(0, 3, 2)
        annotation |= {key: float(value) for key, value in annotation.items()
                       if isinstance(value, int) and not isinstance(value, bool)}  # fmt: skip
        captures = [{"core:sample_start": 0.0}, {"core:sample_start": 1e2}]
        samples = noise(1, 2 * SENT.n_samples())
        meta = put(tmp_path / "a", samples, "cf32_le", captures, [annotation])
        recording = Recording(meta)
        (run,) = recording.runs
        assert (run.first_slot, run.n_slots, run.sent.bit_seed) == (3, 2, 5)
        assert all(type(n) is int for n in (run.start, run.n_samples, run.first_slot))
        assert [c.start for c in recording.captures] == [0, 100]
        assert recording.read(0, 200).shape == (1, 200)

    def test_positions_of_slots_count_from_the_first_sample(self, tmp_path):
        samples = noise(1, SENT.n_samples() + 20)
        meta = put(
            tmp_path / "a", samples, "cf32_le", [{"core:sample_start": 500}],
            [SENT.annotation(510, 3, 1)], **{"core:offset": 500},
        )  # fmt: skip
        assert Recording(meta).runs[0].start == 10

    def test_what_a_crash_left_of_the_last_sample_is_ignored(self, tmp_path):
        samples = noise(3, 100)
        meta = put(tmp_path / "a", samples, "cf32_le", data=encode(samples, "cf32_le") + b"12345")
        assert Recording(meta).n_samples == 100

    def test_ten_gigabytes_are_read_in_constant_memory(self, tmp_path):
        """Of a sparse file, in a process of its own; the first 250 MB, and the last samples."""
        meta = put(tmp_path / "a", noise(2, 1), "cf32_le")
        os.truncate(tmp_path / "a.sigmf-data", 10 * 2**30)
        if (tmp_path / "a.sigmf-data").stat().st_blocks > 1000:
            pytest.skip("the file system has no sparse files")
        script = f"""
import resource
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx.recording.recording import Recording
top = gr.top_block()
source = deeprx.recording_source({str(meta)!r})
for k in range(2):
    top.connect((source, k), blocks.head(8, 16_000_000), blocks.null_sink(8))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
top.run()
assert source.position >= 16_000_000
assert Recording({str(meta)!r}).read(10 * 2**30 // 16 - 1, 1).shape == (2, 1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        assert int(ran.stdout) < 64 * 1024  # KiB


def overlapping(metadata):
    middle = {"core:sample_start": SENT.n_samples(), "core:sample_count": SENT.n_samples()}
    metadata.append(metadata[0] | middle)


def spoiled(metadata):
    metadata[0]["deeprx:slot"]["n_prb"] = 0


@pytest.fixture
def good(tmp_path):
    n = SENT.n_samples()
    write(tmp_path / "a", noise(2, 3 * n), {0: 0, n: 1, 2 * n: 2}, datatype="cf32_le")
    return tmp_path / "a.sigmf-meta"


class TestBadInput:
    """Each mistake is one line of the command `replay`, and status 2."""

    def replay(self, path, says, capfd):
        models = Path(__file__).parents[1] / "models"
        command = ["replay", str(path), "--receiver", str(models / "baseline-lmmse.pt")]
        status = main([*command, "--aligned", "--out", str(path.parent / "out")])
        text = capfd.readouterr().err
        assert status == 2
        assert says in text
        assert text.startswith("deeprx: error: ")
        assert text.count("\n") == 1

    @pytest.mark.parametrize(
        ("section", "change", "says"),
        [
            ("global", {"core:sha512": "0" * 128}, "expected sha512 000000000000..., found "),
            ("global", {"core:datatype": "rf32_le"}, "complex (IQ) samples, found 'rf32_le'"),
            ("global", {"core:datatype": "cf16_le"}, "not valid SigMF: 'cf16_le' does not match"),
            ("global", {"core:sample_rate": None}, "not valid SigMF"),
            ("global", {"core:sample_rate": 1e-320}, "not a whole number of slots"),
            ("global", {"core:sample_rate": 1e-300}, "not a whole number of slots"),
            ("global", {"core:dataset": "."}, "a.sigmf-meta: expected its samples in "),
            ("global", {"core:num_channels": 0}, "not valid SigMF"),
            ("global", {"core:metadata_only": True}, "expected a recording, found metadata only"),
            ("global", {"core:sample_rate": float("inf")}, "finite numbers, found Infinity"),
            ("global", {"core:sample_rate": float("nan")}, "finite numbers, found NaN"),
            ("global", {"core:offset": 2**64}, "numbers below 2^64, found 18446744073709551616"),
            ("global", {"core:trailing_bytes": 2**62}, "expected samples, found none"),
            ("global", {"core:num_channels": "2"}, "not valid SigMF: '2' is not of type"),
            ("global", {"core:offset": 9}, "a capture starts before core:offset 9"),
            ("global", {"core:dataset": "nowhere.bin"}, "found no such file"),
            ("global", {"core:dataset": "../secret"}, "0/secret, found no such file"),
            ("global", {"deeprx:full_scale": "x", "core:datatype": "ci8"}, "full_scale above 0"),
            (
                "global",
                {"core:extensions": [{"name": "deeprx", "version": "3.0.0", "optional": True}]},
                "expected version 2.0.0 of the extension 'deeprx', found 3.0.0",
            ),
            (
                "global",
                {
                    "core:extensions": [
                        {"name": "deeprx", "version": "1.0.0", "optional": True},
                        {"name": "other", "version": "1.0.0", "optional": False},
                    ]
                },
                "needs the extension 'other', which is not known here",
            ),
        ],
    )  # fmt: skip
    def test_metadata(self, good, capfd, section, change, says):
        edit(good, lambda fields: fields.update(change), section)
        self.replay(good, says, capfd)

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (overlapping, f"annotation at sample {SENT.n_samples()}: overlaps the one before"),
            (spoiled, "annotation at sample 0: deeprx:slot: n_prb must be 1 to 273 PRB, got 0"),
            (
                lambda a: a[0]["deeprx:slot"].update(colour=1),
                "no parameter of a slot is called 'colour'",
            ),
            (
                lambda a: a[0].update({"deeprx:bit_seed": "x"}),
                "'deeprx:bit_seed' must be a whole number",
            ),
            (lambda a: a[0].update({"core:sample_count": 100}), "not a whole number of slots"),
            (lambda a: a[0].pop("core:sample_count"), "lacks core:sample_count"),
            (
                lambda a: a[0].update({"deeprx:first_slot": -1}),
                "first_slot' must be a whole number from 0",
            ),
            (lambda a: a[0].update({"deeprx:first_slot": 2**64 - 2}), "slot indices end at 2^64"),
            (lambda a: a[0].update({"deeprx:snr_db": float("inf")}), "numbers, found Infinity"),
            (lambda a: a[0].update({"deeprx:bit_seed": -(2**64)}), "numbers below 2^64"),
            (
                lambda a: a[0].update({"deeprx:burst_slots": 2.5}),
                "burst_slots' must be a whole number of 1 or more",
            ),
            (
                lambda a: a[0].update({"deeprx:burst_slots": 0}),
                "burst_slots' must be a whole number of 1 or more",
            ),
            (
                lambda a: a[0].update({"deeprx:slot": []}),
                "'deeprx:slot' must be a dictionary of finite numbers",
            ),
            (
                lambda a: a[0]["deeprx:slot"].update(users=[{"modulation": 3}]),
                "'modulation' must be a",
            ),
            (lambda a: a[0]["deeprx:slot"].update(n_prb="26"), "'n_prb' must be a whole number of"),
            (lambda a: a[0]["deeprx:slot"].update(dmrs=2), "'dmrs' must be a list of indices"),
            (
                lambda a: a[0].update({"deeprx:channel": "a\x1b[31m"}),
                "channel' must be a printable",
            ),
            (
                lambda a: a[0].update({"deeprx:doppler_hz": -1}),
                "doppler_hz' must be a number from 0 to 10000 Hz",
            ),
            (
                lambda a: a[0].update({"deeprx:delay_spread_s": 3}),
                "delay_spread_s' must be a number",
            ),
            (lambda a: a[0].update({"deeprx:snr_db": 1e9}), "snr_db' must be a number from -50"),
        ],
    )
    def test_annotations(self, good, capfd, change, says):
        edit(good, change, "annotations")
        self.replay(good, says, capfd)

    @pytest.mark.parametrize("value", ports.BAD, ids=lambda v: repr(v)[:20])
    def test_any_value_anywhere(self, good, value):
        """Used, or refused in a line that a terminal may see."""
        path = good.with_suffix(".sigmf-meta")
        metadata = json.loads(path.read_text())
        for place in ports.places(metadata):
            path.write_text(json.dumps(ports.changed(metadata, place, value)))
            try:
                runs = Recording(path).runs
            except ValueError as error:
                said = str(error).removeprefix(str(path))
                assert said.isprintable() and len(said) < 500, place
            else:
                assert all(str(r.sent.conditions["channel"]).isprintable() for r in runs), place

    def test_truncated_data(self, good, capfd):
        data = good.with_suffix(".sigmf-data")
        os.truncate(data, data.stat().st_size - 1600)
        n = 3 * SENT.n_samples()
        says = f"truncated: expected at least {n} samples, found {n - 100}"
        self.replay(good, says, capfd)

    def test_no_samples(self, good, capfd):
        os.truncate(good.with_suffix(".sigmf-data"), 0)
        self.replay(good, "expected samples, found none", capfd)

    def test_no_data(self, good, capfd):
        good.with_suffix(".sigmf-data").unlink()
        self.replay(good, "a.sigmf-data, found no such file", capfd)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"{", "not SigMF metadata"),
            (b"[]", "not valid SigMF"),
            (b'{"global": {}}', "not valid SigMF"),
            (b"\xff\xfe", "expected JSON in UTF-8"),
            (b"[" * 100_000, "not SigMF metadata: nested too deeply"),
            (b'{"global": 1, "global": 2}', "not SigMF metadata: expected each key once"),
        ],
    )
    def test_other_files(self, good, capfd, content, says):
        good.write_bytes(content)
        self.replay(good, says, capfd)

    def test_no_file(self, tmp_path, capfd):
        self.replay(tmp_path / "b.sigmf-meta", "cannot read the metadata: No such file", capfd)
        self.replay(tmp_path / "b.sigmf", "cannot read the archive: No such file", capfd)
        self.replay(tmp_path / "b.sigmf-collection", "No such file", capfd)

    def test_archives(self, tmp_path, capfd):
        write(tmp_path / "a", noise(2, 2000), archive=True)
        os.truncate(tmp_path / "a.sigmf", 9000)
        self.replay(tmp_path / "a.sigmf", "unexpected end of data", capfd)
        (tmp_path / "a.sigmf").write_bytes(b"no archive" * 100)
        self.replay(tmp_path / "a.sigmf", "expected a SigMF archive (tar)", capfd)
        shutil.make_archive(str(tmp_path / "b"), "tar", tmp_path, "a.sigmf")
        (tmp_path / "b.tar").rename(tmp_path / "b.sigmf")
        self.replay(tmp_path / "b.sigmf", "expected one recording in the archive", capfd)
        self.replay(tmp_path / "c.sigmf.gz", "unpack the archive first", capfd)

    @pytest.mark.parametrize(
        "pax",
        [
            b"30 GNU.sparse.map=a,b,c,d,e,f\n",
            b"99999999999999999999 a=b\n",
            b"19 size=-100000000\n",
        ],
    )
    def test_archives_whose_headers_make_no_sense(self, tmp_path, capfd, pax):
        write(tmp_path / "a", noise(2, 2000), archive=True)
        header = tarfile.TarInfo("pax")
        header.type, header.size = tarfile.XHDTYPE, len(pax)
        good = (tmp_path / "a.sigmf").read_bytes()
        (tmp_path / "b.sigmf").write_bytes(header.tobuf() + pax.ljust(512, b"\0") + good)
        self.replay(tmp_path / "b.sigmf", "b.sigmf: ", capfd)

    def test_an_archive_of_names_without_end(self, tmp_path, capfd):
        name = tarfile.TarInfo("././@LongLink")
        name.type, name.size = tarfile.GNUTYPE_LONGNAME, 1
        (tmp_path / "a.sigmf").write_bytes((name.tobuf() + b"a".ljust(512, b"\0")) * 3000)
        self.replay(tmp_path / "a.sigmf", "expected a SigMF archive (tar)", capfd)

    def test_an_archive_with_holes(self, tmp_path, capfd):
        """Whose metadata would take a terabyte."""
        write(tmp_path / "a", noise(2, 2000), archive=True)
        with tarfile.open(tmp_path / "a.sigmf") as archive:
            (data,) = [m for m in archive if m.name.endswith(".sigmf-data")]
            samples = archive.extractfile(data).read()
        hole = tarfile.TarInfo("b/b.sigmf-meta")
        hole.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 40)}
        hole.size = 1
        with tarfile.open(tmp_path / "b.sigmf", "w", format=tarfile.PAX_FORMAT) as archive:
            archive.addfile(hole, io.BytesIO(b"{"))
            archive.addfile(data, io.BytesIO(samples))
        self.replay(tmp_path / "b.sigmf", "expected files without holes", capfd)

    def test_what_is_no_file(self, tmp_path, capfd):
        for end in ("sigmf", "sigmf-meta", "sigmf-collection"):
            os.mkfifo(tmp_path / f"pipe.{end}")
            self.replay(tmp_path / f"pipe.{end}", "expected a regular file, found a FIFO", capfd)
        os.mkfifo(tmp_path / "queue")
        (tmp_path / "folder").mkdir()
        for name, kind in (
            (tmp_path / "queue", "a FIFO"),
            (tmp_path / "folder", "a folder"),
            (Path("/dev/zero"), "a character device"),
        ):
            self.replay(name, f"{name}: expected a SigMF recording, found {kind}", capfd)
        with (tmp_path / "b.sigmf-meta").open("wb") as file:
            file.truncate(1 << 40)
        self.replay(tmp_path / "b.sigmf-meta", "File too large", capfd)

    def test_archives_of_a_mac(self, tmp_path):
        """tar keeps a file's attributes beside it, in ._NAME."""
        write(tmp_path / "a", noise(2, 2000), archive=True)
        with tarfile.open(tmp_path / "a.sigmf") as archive:
            archive.extractall(tmp_path)
        for path in list((tmp_path / "a").iterdir()):
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7 attributes")
        (tmp_path / "._a").write_bytes(b"attributes")
        with tarfile.open(tmp_path / "b.sigmf", "w") as archive:
            archive.add(tmp_path / "._a", "._a")
            archive.add(tmp_path / "a", "a")
        assert Recording(tmp_path / "b.sigmf").n_samples == 2000

    def test_collections(self, tmp_path, capfd):
        collection = tmp_path / "a.sigmf-collection"
        write(tmp_path / "a", noise(2, 2000), collection=True)
        edit(tmp_path / "a-rx1.sigmf-meta", lambda f: f.update({"core:hw": "other"}))
        self.replay(collection, "is not the stream that a.sigmf-collection means", capfd)

        def without_rate(fields):
            del fields["core:sample_rate"]

        edit(tmp_path / "a-rx1.sigmf-meta", without_rate)
        times = [{"core:sample_start": k, "core:datetime": "2026-01-01T00:00:00Z"} for k in (0, 9)]
        edit(tmp_path / "a-rx1.sigmf-meta", lambda captures: captures.extend(times), "captures")
        digest = hashlib.sha512((tmp_path / "a-rx1.sigmf-meta").read_bytes()).hexdigest()
        edit(collection, lambda c: c["core:streams"][1].update(hash=digest), "collection")
        self.replay(collection, "samples/s as in the collection's first stream, found None", capfd)
        edit(collection, lambda c: c["core:streams"][0].update(name="../b"), "collection")
        self.replay(collection, "expected streams in the same folder", capfd)
        for name in (5, [1], None, {"a": 1}, "\ud800", "a\0b"):
            edit(collection, lambda c, n=name: c["core:streams"][0].update(name=n), "collection")
            self.replay(collection, "core:streams[0]: 'name' must be a printable text", capfd)
        edit(collection, lambda c: c["core:streams"].clear(), "collection")
        self.replay(collection, "core:streams must be a list of one stream or more", capfd)
        collection.write_text('{"collection": {}}')
        self.replay(collection, "expected a SigMF collection with core:streams", capfd)

    def test_record(self, tmp_path, capfd):
        assert main(["record", str(tmp_path / "a"), "--slots", "2", "--n-prb", "6"]) == 0
        for arguments, says in [
            (["a", "--slots", "2"], "is there already: choose another name"),
            (["b", "--slots", "0"], "must be at least 1, got 0"),
            (["b", "--archive", "--collection"], "an archive holds one recording"),
            (["a.sigmf-meta/b"], "a.sigmf-meta: File exists"),
        ]:
            capfd.readouterr()
            assert main(["record", str(tmp_path / arguments[0]), *arguments[1:]]) == 2
            text = capfd.readouterr().err
            assert says in text
            assert text.count("\n") == 1
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.sigmf-data", "a.sigmf-meta"]

    def test_record_where_there_is_no_room(self, tmp_path, monkeypatch, capfd):
        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "posix_fallocate", full)
        assert main(["record", str(tmp_path / "a"), "--slots", "2", "--n-prb", "6"]) == 2
        told = capfd.readouterr().err
        assert told == f"deeprx: error: {tmp_path}/a: No space left on device\n"
        assert not list(tmp_path.iterdir())


def test_the_documented_annotation_is_the_written_one(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "reference" / "sigmf-extension.md").read_text()
    documented = json.loads(page.split("```json")[1].split("```")[0])
    assert main(["record", str(tmp_path / "a"), "--slots", "60"]) == 0
    (written,) = json.loads((tmp_path / "a.sigmf-meta").read_text())["annotations"]
    assert written == documented
    for mark in ("annotation", "slot"):
        assert f"<!-- generated: sigmf {mark} -->" in page
    assert {key for key in written if key.startswith("deeprx:")} <= ANNOTATION.keys()
    assert written["deeprx:slot"].keys() == SLOT.keys() and "`deeprx:full_scale`" in page
