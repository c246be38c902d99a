# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx replay: the loopback's error rates out of a recording, and the same bits on every run."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from companion import environment, generate
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.recording.recording import Recording
from gnuradio.deeprx.recording.resampling import resampling
from gnuradio.deeprx.recording.writer import RecordingWriter
from replays import replayed
from scipy.signal import resample_poly
from slots import slot_of

from deeprx_common import report
from deeprx_common.slot import SlotConfig

ROOT = Path(__file__).parents[1]
BASELINE = str(ROOT / "models" / "baseline-lmmse.pt")
SURE = str(ROOT / "models" / "baseline-sure.pt")
STUDENT = str(ROOT / "models" / "deeprx-student.pt")
PUSCH = str(ROOT / "models" / "deeprx-pusch.pt")
GOLDEN = Path(__file__).parent / "golden"
LINK = ["--n-prb", "12", "--sinr", "12", "--slots", "40", "--burst", "2", "--seed", "3"]

COUNTED_60 = ["--slot", "gnb", "--scs-khz", "60"]  # slots of two lengths
TWO_USERS = ["--slot", "gnb", "--users", "2", "--mcs", "5"]


def record(path, *arguments):
    assert main(["record", str(path), *LINK, *arguments]) == 0
    return path.with_suffix(".sigmf-meta")


def replay(path, *arguments, receivers=(BASELINE,), status=0):
    out = path.parent / "out"
    models = [a for model in receivers for a in ("--receiver", model)]
    assert main(["replay", str(path), *models, "--out", str(out), *arguments]) == status
    return report.read(out / "report.json")


def rewrite(path, change):
    metadata = json.loads(path.read_text())
    change(metadata)
    path.write_text(json.dumps(metadata))


def without_annotations(metadata):
    metadata["annotations"] = []


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """40 slots of 12 PRB with preamble, cf32_le; not to be changed."""
    return record(tmp_path_factory.mktemp("recorded") / "a", "--datatype", "cf32_le")


@pytest.fixture
def copied(recorded, tmp_path):
    for path in recorded.parent.glob("a.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / recorded.name


class TestAgainstLoopback:
    @pytest.mark.parametrize(
        ("loopback", "recording", "replaying"),
        [
            (["--sync", "--cfo", "500"], ["--cfo", "500"], []),
            ([], ["--aligned"], ["--aligned"]),
            (COUNTED_60, [*COUNTED_60, "--aligned"], ["--aligned"]),
            (["--mcs", "5"], ["--mcs", "5", "--aligned"], ["--aligned"]),
            (["--sync", *TWO_USERS], TWO_USERS, []),
            *(
                pytest.param(*commands, marks=pytest.mark.slow)
                for commands in [
                    (["--sync", *COUNTED_60], COUNTED_60, []),
                    (TWO_USERS, [*TWO_USERS, "--aligned"], ["--aligned"]),
                ]
            ),
        ],
    )
    def test_the_same_errors(self, tmp_path, loopback, recording, replaying):
        """The very same samples: nothing is lost between recording and replay."""
        receivers = ("ls-lmmse", "gnb") if "gnb" in recording else (BASELINE, SURE)
        command = ["loopback", *LINK, *(a for r in receivers for a in ("--receiver", r))]
        assert main([*command, *loopback, "--out", str(tmp_path)]) == 0
        wanted = report.read(tmp_path / "report.json")
        path = record(tmp_path / "a", "--datatype", "cf32_le", *recording)
        again = replay(path, *replaying, receivers=receivers)
        same = ("receiver", "model_sha256", "channel", "delay_spread_s", "doppler_hz", "snr_db",
                "sinr_db", "seed", "n_prb", "n_rx", "sync", "slots", "missed_slots", "clusters",
                "bits", "bit_errors", "ber_ci95", "flop_per_slot", "layers", "layer", "mcs",
                "blocks", "block_errors")  # fmt: skip
        for ours, theirs in zip(again["points"], wanted["points"], strict=True):
            assert {k: ours[k] for k in same} == {k: theirs[k] for k in same}
        assert again["comparisons"] == wanted["comparisons"]
        assert again["points"][0]["missed_slots"] == 0

    @pytest.mark.parametrize("kind", ["--collection", "--archive"])
    def test_sixteen_bits_in_any_form(self, recorded, tmp_path, kind):
        """Quantisation is 70 dB below the noise: a few bits of 280 000 at most."""
        record(tmp_path / "a", kind)
        (path,) = [*tmp_path.glob("a.sigmf-collection"), *tmp_path.glob("a.sigmf")]
        (ours,) = replay(path)["points"]
        (theirs,) = replay(recorded)["points"]
        assert ours["slots"] == theirs["slots"] == 40
        assert ours["bit_errors"] == pytest.approx(theirs["bit_errors"], abs=30)

    def test_annotated_slots_of_a_recording_with_preamble(self, recorded):
        (aligned,) = replay(recorded, "--aligned")["points"]
        (synchronised,) = replay(recorded)["points"]
        assert (aligned["slots"], aligned["missed_slots"], aligned["sync"]) == (40, 0, False)
        assert aligned["bit_errors"] == pytest.approx(synchronised["bit_errors"], rel=0.2)


class TestSameBits:
    def test_whatever_the_scheduler_does(self, recorded):
        """Chunks of other sizes, as machines, loads and buffer sizes make them."""
        runs = [replayed(recorded, BASELINE, chunk=chunk) for chunk in (None, 700, 64, 2500)]
        for indices, (llrs,) in runs:
            assert indices == list(range(40))
            np.testing.assert_array_equal(llrs, runs[0][1][0])

    def test_resampled(self, tmp_path, recorded):
        path = resampled(recorded, tmp_path / "b", Fraction(5, 4))
        first, second = (
            replayed(path, BASELINE, chunk=chunk, n_prb=12)[1][0] for chunk in (None, 331)
        )
        assert len(first) == 40
        np.testing.assert_array_equal(first, second)

    def test_at_any_scale(self, recorded, tmp_path):
        """LLRs near zero may fall to either side."""
        models = (BASELINE, SURE, PUSCH)
        recording = Recording(recorded)
        samples = recording.read(0, recording.n_samples)
        _, llrs_by_model = replayed(recorded, *models)
        for name, scale in {"a": 1e-7, "b": 1e6}.items():
            writer = RecordingWriter(tmp_path / name, 2, recording.sample_rate, "cf32_le")
            writer.write(list(samples * np.float32(scale)))
            writer.close()
            path = tmp_path / f"{name}.sigmf-meta"
            indices, scaled_by_model = replayed(path, *models, n_prb=12)
            assert indices == list(range(40))
            for llrs, scaled in zip(llrs_by_model, scaled_by_model, strict=True):
                differ = (llrs > 0) != (scaled > 0)
                assert np.abs(llrs[differ]).max(initial=0) < 0.05
                assert differ.mean() < 1e-3

    @pytest.mark.parametrize("name", ["ci16", "cf32"])
    def test_golden(self, name):
        """tests/golden/make.py made recordings and bits; LLRs near zero may fall to either side."""
        kept = np.load(GOLDEN / f"{name}.npz")
        models = ("baseline-lmmse", "baseline-sure", "deeprx-student")
        paths = [ROOT / "models" / f"{model}.pt" for model in models]
        Recording(GOLDEN / f"{name}.sigmf-meta").verify()
        indices, llrs_by_model = replayed(GOLDEN / f"{name}.sigmf-meta", *paths)
        assert indices == kept["slots"].tolist()
        for model, llrs in zip(models, llrs_by_model, strict=True):
            bits, sure = (
                np.unpackbits(kept[f"{model} {what}"], axis=1, count=llrs.shape[1]).astype(bool)
                for what in ("bits", "sure")
            )
            assert sure.mean() > 0.85
            wrong = np.count_nonzero((llrs > 0)[sure] != bits[sure])
            assert wrong == 0, f"{model}: if it was meant to change, run tests/golden/make.py"


def resampled(path, to, ratio, datatype="cf32_le"):
    """The recording at another sample rate, without annotations, by scipy's own filter."""
    recording = Recording(path)
    samples = recording.read(0, recording.n_samples)
    other = resample_poly(samples, ratio.numerator, ratio.denominator, axis=1)
    writer = RecordingWriter(
        to, recording.n_rx, recording.sample_rate * float(ratio), datatype, full_scale=8.0
    )
    writer.write(list(other.astype(np.complex64)))
    writer.close()
    return to.with_suffix(".sigmf-meta")


class TestForeignRecordings:
    UNSAID = ("--n-prb", "12", "--burst", "2")

    def test_without_truth(self, copied, capsys):
        rewrite(copied, without_annotations)
        measured = replay(copied, *self.UNSAID, receivers=(BASELINE, SURE))
        point = measured["points"][0]
        assert (point["slots"], point["bits"], point["ber"], point["seed"]) == (40, 0, None, None)
        assert point["channel"] is None
        assert measured["comparisons"] == []
        text = capsys.readouterr().out
        assert "baseline-lmmse: no truth; estimated from its own LLRs: BER" in text
        truth = replay(copied, *self.UNSAID, "--seed", "3")["points"][0]
        assert truth["slots"] == 40
        assert 0.01 < truth["ber"] < 0.1
        quality = point["llr_quality"]
        assert quality == pytest.approx(truth["llr_quality"])
        assert 0.5 < quality["estimated_ber"] / truth["ber"] < 1.5
        assert 0.7 < quality["estimated_bits_per_bit"] < 1
        assert quality["mean_abs_llr"] > 2

    @pytest.mark.parametrize("ratio", [Fraction(125, 96), Fraction(25, 32), Fraction(1001, 1000)])
    def test_other_sample_rates(self, recorded, tmp_path, ratio):
        """5 MS/s and 3 MS/s for slots of 3.84 MS/s, and one that is hardly another."""
        path = resampled(recorded, tmp_path / "b", ratio, "ci16_le")
        (ours,) = replay(path, *self.UNSAID, "--seed", "3")["points"]
        (theirs,) = replay(recorded)["points"]
        assert ours["slots"] == 40
        assert ours["bit_errors"] == pytest.approx(theirs["bit_errors"], rel=0.1)

    @pytest.mark.parametrize("rate", [31.25e6, 3.8400384e6, 10e6 + 1])
    def test_any_rate_within_a_tenth_of_a_ppm(self, rate):
        """One that 1000ths of a ratio miss by 11 ppm, one 10 ppm beside, and an odd one."""
        bridge, n = resampling(rate, 3.84e6), 30_000_000
        top, sink = gr.top_block(), blocks.null_sink(8)
        top.connect(blocks.null_source(8), blocks.head(8, n), *bridge, sink)
        top.run()
        assert sink.nitems_read(0) == pytest.approx(n / rate * 3.84e6, rel=2e-7, abs=60)

    def test_an_odd_rate(self, recorded, tmp_path):
        """100 ppm beside a ratio of small numbers: the arbitrary resampler's."""
        ratio = Fraction(10001, 10000)
        path = resampled(recorded, tmp_path / "b", ratio)
        (ours,) = replay(path, *self.UNSAID, "--seed", "3")["points"]
        (theirs,) = replay(recorded)["points"]
        assert ours["slots"] == 40
        assert ours["bit_errors"] == pytest.approx(theirs["bit_errors"], rel=0.1)
        first, second = (replayed(path, BASELINE, chunk=c, n_prb=12)[1][0] for c in (None, 331))
        np.testing.assert_array_equal(first, second)

    def test_several_captures_with_a_gap(self, recorded, tmp_path):
        """A third of the slots was not recorded; the radio was retuned meanwhile."""
        recording = Recording(recorded)
        sent = recording.runs[0].sent
        first = recording.read(0, 13 * sent.n_samples() + 700)
        rest = 25 * sent.n_samples() + 900
        second = recording.read(rest, recording.n_samples - rest)
        writer = RecordingWriter(tmp_path / "b", 2, recording.sample_rate, "cf32_le")
        writer.write(list(first))
        writer.capture(first.shape[1], 2e9)
        writer.write(list(second))
        writer.close()
        measured = replay(tmp_path / "b.sigmf-meta", *self.UNSAID, "--seed", "3")
        (point,) = measured["points"]
        # the gap cuts slot 13 short; slot 26 is the first whole one again
        assert (point["slots"], point["missed_slots"]) == (27, 13)
        assert 0.01 < point["ber"] < 0.1

    @pytest.mark.parametrize("size", [-50, 50])
    def test_a_slip_spoils_its_slot_alone(self, recorded, tmp_path, size):
        """Samples lost or repeated amid slot 20, as a radio does that does not say so."""
        recording = Recording(recorded)
        samples = recording.read(0, recording.n_samples)
        at = 20 * recording.runs[0].sent.n_samples() + 2000
        writer = RecordingWriter(tmp_path / "b", 2, recording.sample_rate, "cf32_le")
        writer.write(list(samples[:, :at]))
        writer.write(list(samples[:, at - size :]))
        writer.close()
        slipped = replay(tmp_path / "b.sigmf-meta", *self.UNSAID, "--seed", "3")
        (ours,), (theirs,) = slipped["points"], replay(recorded)["points"]
        assert (ours["slots"], ours["missed_slots"]) == (40, 0)
        assert ours["synchronisation"]["slips"] == 1
        spoiled = ours["bits"] / 40 / 2  # of one slot, at worst
        assert ours["bit_errors"] < 1.05 * theirs["bit_errors"] + spoiled

    def test_bad_samples_are_counted(self, copied, capsys):
        recording = Recording(copied)
        samples = recording.read(0, recording.n_samples)
        samples[0, 12345:12355] = np.nan
        samples[1, 99] = np.inf
        writer = RecordingWriter(copied.parent / "b", 2, recording.sample_rate, "cf32_le")
        writer.write(list(samples))
        writer.close()
        measured = replay(copied.parent / "b.sigmf-meta", *self.UNSAID, "--seed", "3")
        assert measured["points"][0]["synchronisation"]["bad_samples"] == 11
        assert measured["points"][0]["slots"] == 40
        assert "11 bad samples" in capsys.readouterr().out

    def test_bad_samples_of_annotated_slots_drop_them(self, copied):
        data = np.fromfile(copied.with_suffix(".sigmf-data"), "<c8").reshape(-1, 2)
        period = Recording(copied).runs[0].sent.n_samples()
        data[10 * period + 1000, 0] = np.nan
        data.tofile(copied.with_suffix(".sigmf-data"))
        rewrite(copied, lambda m: m["global"].pop("core:sha512"))
        (point,) = replay(copied, "--aligned")["points"]
        assert (point["slots"], point["missed_slots"]) == (39, 1)
        assert sum(point["dropped_slots"].values()) == 1

    def test_noise_alone(self, tmp_path, capsys):
        rng = np.random.default_rng(1)
        noise = rng.standard_normal((2, 100_000, 2)).astype(np.float32).view(np.complex64)[..., 0]
        writer = RecordingWriter(tmp_path / "b", 2, 3.84e6, "cf32_le")
        writer.write(list(noise))
        writer.close()
        path, two = tmp_path / "b.sigmf-meta", (BASELINE, SURE)
        measured = replay(path, *self.UNSAID, "--seed", "3", receivers=two, status=1)
        for point in measured["points"]:
            assert (point["slots"], point["bits"], point["llr_quality"]) == (0, 0, None)
        assert len(measured["points"]) == 2 and not measured["comparisons"]
        said = capsys.readouterr()
        assert "baseline-lmmse" in said.out and "baseline-sure" in said.out
        assert "0 slots found" in said.out
        assert "b.sigmf-meta: no slot was received" in said.err

    def test_another_seed_than_the_transmitter_s(self, copied, capsys):
        rewrite(copied, without_annotations)
        (point,) = replay(copied, *self.UNSAID, "--seed", "4")["points"]
        assert (point["slots"], point["missed_slots"]) == (40, 0)
        assert point["ber"] == pytest.approx(0.5, abs=0.01)
        assert "is --seed 4 the transmitter's?" in capsys.readouterr().out
        replay(copied, *self.UNSAID, "--seed", "3")
        assert "transmitter's?" not in capsys.readouterr().out

    def test_another_seed_in_the_recording_than_the_transmitter_s(self, copied, capsys):
        rewrite(copied, lambda m: [a.update({"deeprx:bit_seed": 4}) for a in m["annotations"]])
        replay(copied)
        said = "is the recording's deeprx:bit_seed 4 the transmitter's?"
        assert said in capsys.readouterr().out


def test_ctrl_c_keeps_what_was_measured(copied):
    """In the midst of gigabytes of silence after the slots."""
    data = copied.with_suffix(".sigmf-data")
    os.truncate(data, 4 * 2**30)
    rewrite(copied, lambda m: m["global"].pop("core:sha512"))
    command = [sys.executable, "-m", "gnuradio.deeprx", "replay", str(copied)]
    command += ["--receiver", BASELINE, "--out", str(copied.parent)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while position(process.pid, data) < 20_000_000:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("deeprx: stopped after")
    assert errors.count("\n") == 1
    (point,) = report.read(copied.parent / "report.json")["points"]
    assert (point["slots"], point["missed_slots"]) == (40, 0)


def position(process, path):
    """How far a process has read a file, in bytes."""
    reached = [0]
    for link in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if link.samefile(path):
                info = Path(f"/proc/{process}/fdinfo/{link.name}").read_text()
                reached.append(int(info.split()[1]))
    return max(reached)


def test_annotated_index_above_32_bits(tmp_path):
    """The header carries its lower half, the annotations the rest."""
    sent = {"slot": slot_of("QPSK", n_prb=6)}
    first = 2**32 + 5
    top = gr.top_block()
    sink = deeprx.recording_sink(tmp_path / "a", 1.92e6, 1, "cf32_le", bit_seed=4, **sent)
    top.connect(
        deeprx.slot_source(4, first, 20, **sent), deeprx.slot_transmitter(True, **sent), sink
    )
    top.run()
    for arguments in ([], ["--aligned"]):
        (point,) = replay(tmp_path / "a.sigmf-meta", *arguments)["points"]
        assert (point["slots"], point["missed_slots"], point["bit_errors"]) == (20, 0, 0)


class TestMistakes:
    @pytest.mark.parametrize(
        ("change", "arguments", "says"),
        [
            (without_annotations, ["--aligned"], "expected annotations that place the slots"),
            (without_annotations, ["--burst", "0"], "--burst must be at least 1, got 0"),
            (
                without_annotations,
                ["--n-prb", "100"],
                "slots of 100 PRB occupy 18 MHz: expected at least 20 million samples/s",
            ),
            (
                lambda m: (without_annotations(m), m["global"].update({"core:sample_rate": 1e12})),
                ["--n-prb", "12"],
                "expected at most 3.84e+09 samples/s, found 1e+12",
            ),
            (None, ["--n-prb", "12", "--seed", "1"], "leave out --n-prb, --seed"),
            (
                lambda m: m["annotations"][0].update({"deeprx:preamble": False}),
                [],
                "not a whole number of slots",
            ),
            (
                lambda m: m["global"].update({"core:sample_rate": 5e6}),
                ["--aligned"],
                "not a whole number of slots",
            ),
        ],
    )
    def test_one_line(self, copied, capfd, change, arguments, says):
        if change:
            rewrite(copied, change)
        assert main(["replay", str(copied), "--receiver", BASELINE, *arguments]) == 2
        text = capfd.readouterr().err
        assert says in text
        assert text.startswith("deeprx: error: ")
        assert text.count("\n") == 1

    def test_slots_without_preamble_need_their_annotations(self, tmp_path, capfd):
        path = record(tmp_path / "a", "--aligned")
        assert main(["replay", str(path), "--receiver", BASELINE]) == 2
        assert "its slots have no preamble: give --aligned" in capfd.readouterr().err

    def test_two_kinds_of_slots(self, copied, capfd):
        def change(metadata):
            first = metadata["annotations"][0]
            half = first["core:sample_count"] // 2
            second = first | {"core:sample_start": half, "deeprx:bit_seed": 4}
            first["core:sample_count"] = second["core:sample_count"] = half
            metadata["annotations"].append(second)

        rewrite(copied, change)
        assert main(["replay", str(copied), "--receiver", BASELINE]) == 2
        assert "expected slots of one kind and bit seed" in capfd.readouterr().err

    def test_a_model_for_other_antennas(self, tmp_path, capfd):
        path = record(tmp_path / "a", "--n-rx", "1")
        assert main(["replay", str(path), "--receiver", STUDENT]) == 2
        text = capfd.readouterr().err
        assert "deeprx-student.pt" in text
        assert text.count("\n") == 1


def test_slot_config_of_the_golden_recordings():
    runs = [Recording(GOLDEN / f"{name}.sigmf-meta").runs for name in ("ci16", "cf32")]
    assert [run.sent.config for (run,) in runs] == [
        SlotConfig(n_prb=12, equal_prefixes=True),
        slot_of("QPSK", n_prb=12, equal_prefixes=True),
    ]


# Runs the generated flowgraph without a screen until both receivers reported 40 slots
WATCH = """
from companion import watch
watch("replay_gui", lambda top: len(top.points(slots=40)) == 2, lambda top: top.points(slots=1))
"""


class TestExamples:
    def run(self, folder, *command):
        ran = subprocess.run(
            [str(c) for c in command],
            env=environment(), cwd=folder, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr
        return ran.stdout

    @pytest.mark.slow
    def test_companion_records_and_replays(self, tmp_path):
        for name in ("record", "replay"):
            generate(name, tmp_path)
        self.run(tmp_path, sys.executable, "record.py")
        self.run(tmp_path, "sigmf_validate", "recording.sigmf-meta")
        text = self.run(tmp_path, sys.executable, "-c", WATCH)
        points = json.loads(text.splitlines()[-1])
        assert {p["receiver"] for p in points} == {"ls-lmmse", "deeprx-pusch"}
        for point in points:
            assert point["slots"] >= 40
            assert point["missed_slots"] == 0
            assert 0.01 < point["ber"] < 0.08

    def test_script(self, tmp_path):
        script = ROOT / "examples" / "record_replay.py"
        text = self.run(tmp_path, sys.executable, script, "--slots", "20")
        assert "recorded 20 slots" in text
        assert "ls-lmmse" in text and "deeprx-pusch" in text
        assert list(tmp_path.iterdir()) == []
