# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx radio: a software radio, a SoapySDR device without hardware, and a USRP's calls."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pmt
import pytest
from companion import environment, generate
from gnuradio import blocks, deeprx, gr, uhd
from gnuradio.deeprx.blocks.slot_sinr import powers
from gnuradio.deeprx.blocks.slot_statistics import SlotStatistics
from gnuradio.deeprx.blocks.tdl import TdlFading
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.measure import radio_link
from gnuradio.deeprx.radio.monitor import radio_monitor
from gnuradio.deeprx.radio.radio import Tuning, transmit_scale
from gnuradio.deeprx.radio.soapy import counting_marks
from gnuradio.deeprx.radio.software import SoftwareRadio
from gnuradio.deeprx.radio.uhd import UhdRadio, timed_burst
from gnuradio.deeprx.recording.recording import Recording
from gnuradio.deeprx.recording.writer import RecordingWriter

from deeprx_common import report
from deeprx_common.slot import SLOTS, SlotConfig, User

ROOT = Path(__file__).resolve().parents[1]
BASELINE = str(ROOT / "models/baseline-lmmse.pt")
RATE = 7.68e6


@pytest.fixture(scope="module", autouse=True)
def soapy_loopback(tmp_path_factory):
    """A SoapySDR module that gives back what it is sent, where SoapySDR's headers are installed."""
    folder = tmp_path_factory.mktemp("soapy")
    os.environ["SOAPY_SDR_PLUGIN_PATH"] = str(folder)  # read when the first device is asked for
    if not Path("/usr/include/SoapySDR/Device.hpp").exists():
        return False
    source, module = ROOT / "tests/soapy_loopback.cc", folder / "libloopback.so"
    subprocess.run(
        ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-o", module, source, "-lSoapySDR"],
        check=True,
    )
    return True


@pytest.fixture
def loopback_device(soapy_loopback):
    if not soapy_loopback:
        pytest.skip("needs libsoapysdr-dev")


def run_radio(out, *options, status=0):
    """The report that deeprx radio leaves in out."""
    assert main(["radio", "--receiver", BASELINE, "--out", str(out), *map(str, options)]) == status
    return report.read(out / "report.json")


def through(block, samples, n_outputs=1):
    """What a block of one or more equal inputs makes of samples; complex64 [n_outputs, n], tags."""
    top = gr.top_block()
    sinks = [blocks.vector_sink_c() for _ in range(n_outputs)]
    for port, sink in enumerate(sinks):
        top.connect(blocks.vector_source_c(samples.tolist()), (block, port))
        top.connect((block, port), sink)
    top.run()
    return np.array([s.data() for s in sinks], np.complex64), sinks[0].tags()


def tone(hz, n=200_000, amplitude=0.25):
    return amplitude * np.exp(2j * np.pi * hz / RATE * np.arange(n))


def power_at(samples, hz):
    """Power of a complex tone in the samples, dB of full scale."""
    window = np.blackman(len(samples))
    turned = samples * np.exp(-2j * np.pi * hz / RATE * np.arange(len(samples)))
    return 20 * np.log10(np.abs(window @ turned) / window.sum())


class TestImpairments:
    def test_none_changes_nothing(self):
        sent = tone(100e3).astype(np.complex64)
        received, _ = through(deeprx.radio_impairments(2), sent, 2)
        np.testing.assert_array_equal(received, [sent, sent])

    @pytest.mark.parametrize(
        ("options", "rate"),
        [
            ({"slot": SLOTS["gnb"]}, 23.04e6),
            ({"slot": SLOTS["gnb"], "sample_rate": 5e6}, 5e6),
            ({}, RATE),
        ],
    )
    def test_offsets_are_in_the_slots_samples(self, options, rate):
        """Or in those of a radio at another rate."""
        sent = np.ones(3000, np.complex64)
        block = deeprx.radio_impairments(
            1, cfo_hz=7e3, gain_step_db=6.0, gain_step_s=1e-5, **options
        )
        (received,), _ = through(block, sent)
        turned = np.exp(2j * np.pi * 7e3 / rate * np.arange(3000))
        gain = 10 ** (0.3 * (np.arange(3000) // round(1e-5 * rate) % 2))
        np.testing.assert_allclose(received, turned * gain, atol=1e-3)

    def test_clock_turns_and_stretches(self):
        """10 ppm at 1 GHz: the tone is 10 kHz lower, and itself 10 ppm lower."""
        sent = tone(1e6, 400_000)
        block = deeprx.radio_impairments(1, frequency_hz=1e9, clock_ppm=10.0)
        (received,), _ = through(block, sent)
        received = received.astype(complex)
        assert len(received) == pytest.approx(len(sent) * (1 + 10e-6), abs=12)
        advance = np.angle(received[1001:] @ received[1000:-1].conj()) * RATE / (2 * np.pi)
        assert advance == pytest.approx(1e6 * (1 - 10e-6) - 10e3, abs=0.5)

    def test_cfo(self):
        (received,), _ = through(deeprx.radio_impairments(1, cfo_hz=-7e3), tone(50e3))
        assert power_at(received, 43e3) == pytest.approx(-12.04, abs=0.05)

    def test_iq_imbalance_leaves_an_image(self):
        block = deeprx.radio_impairments(1, iq_gain_db=0.5, iq_phase_deg=2.0)
        (received,), _ = through(block, tone(700e3))
        image = power_at(received, -700e3) - power_at(received, 700e3)
        assert image == pytest.approx(-29.4, abs=0.2)

    def test_dc(self):
        (received,), _ = through(deeprx.radio_impairments(1, dc=0.02), tone(700e3))
        assert power_at(received, 0) == pytest.approx(20 * np.log10(0.02 * 2**0.5), abs=0.05)

    def test_phase_noise(self):
        received, _ = through(deeprx.radio_impairments(2, phase_noise_deg=2.0), tone(0), 2)
        phase = np.degrees(np.angle(received[0][5000:]))
        assert np.std(phase) == pytest.approx(2.0, rel=0.1)
        np.testing.assert_array_equal(received[0], received[1])  # of one oscillator

    def test_gain_steps(self):
        block = deeprx.radio_impairments(1, gain_step_db=3.0, gain_step_s=1e-3, gain_db=-6.0)
        (received,), _ = through(block, tone(0, 20_000))
        level = 20 * np.log10(np.abs(received) / 0.25)
        np.testing.assert_allclose(level[:7680], -6, atol=0.01)
        np.testing.assert_allclose(level[7680:15360], -3, atol=0.01)
        np.testing.assert_allclose(level[15360:], -6, atol=0.01)

    @pytest.mark.parametrize("bits", [8, 12])
    def test_converter_rounds_and_clips(self, bits):
        sent = np.concatenate((tone(3e5, 50_000, 0.9), tone(3e5, 1000, 3.0)))
        (received,), _ = through(deeprx.radio_impairments(1, adc_bits=bits), sent)
        steps = received.view(np.float32) * 2 ** (bits - 1)
        np.testing.assert_array_equal(steps, np.rint(steps))
        assert steps.min() == -(2 ** (bits - 1)) and steps.max() == 2 ** (bits - 1) - 1
        noise = np.mean(np.abs(received[:50_000] - sent[:50_000]) ** 2)
        assert noise == pytest.approx(2 * 4.0 ** (1 - bits) / 12, rel=0.1)

    def test_lost_buffers_are_tagged_and_seeded(self):
        n = 400_000
        sent = np.arange(n) + 0j
        options = {"drop_every_s": 0.01, "drop_samples": 5000}

        def received(seed):
            return through(deeprx.radio_impairments(2, seed=seed, **options), sent, 2)

        (first, second), tags = received(3)
        np.testing.assert_array_equal(first, second)
        places = first.real.astype(int)
        assert set(np.diff(places)) == {1, 5001}
        assert 2 <= np.count_nonzero(np.diff(places) > 1) <= 12
        starts = [0, *(1 + np.flatnonzero(np.diff(places) > 1))]
        assert [t.offset for t in tags] == starts
        times = [pmt.to_python(t.value) for t in tags]
        since = [w - times[0][0] + f - times[0][1] for w, f in times]
        np.testing.assert_allclose(np.array(since) * RATE, places[starts], atol=0.1)
        assert np.array_equal(received(3)[0][0], first)
        assert not np.array_equal(received(4)[0][0], first)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"clock_ppm": 101},
            {"adc_bits": 1},
            {"drop_every_s": -1},
            {"drop_samples": 0},
            {"gain_step_s": 0},
            {"dc": float("nan")},
        ],
    )
    def test_out_of_range(self, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            deeprx.radio_impairments(**wrong)


@pytest.mark.parametrize("snr_db", [0, 15, 40])
def test_sinr_of_known_slots(snr_db):
    """Over TDL-A: the noise that was put in is the noise that is found."""
    config = SlotConfig()
    random = np.random.default_rng(1)
    total = np.zeros(2)
    for seed in range(10):
        fading = TdlFading("TDL-A", 2, 30e-9, 5.0, config.sample_rate, seed)
        gain = fading.process(np.eye(1, 512, 32, dtype=np.complex64)[0])  # an impulse
        response = np.fft.fft(gain)[:, config.carriers] * np.exp(
            2j * np.pi * 37 * config.carriers / 512
        )
        sent = config.grid(config.bits(1, seed), seed)
        noise = random.standard_normal((2, 2, *sent.shape)) * 10 ** (-snr_db / 20) / 2**0.5
        total += powers(response[:, None] * sent + noise[0] + 1j * noise[1], sent)
    assert 10 * np.log10(1 / (total[1] / 10)) == pytest.approx(snr_db, abs=0.3)


def test_monitor_reads_losses_level_and_clipping():
    sent = tone(1e5, 100_000, 0.5)
    sent[:50] = 1.0
    radio = deeprx.radio_impairments(1, drop_every_s=0.004, drop_samples=3000, adc_bits=12)
    monitor, sink = radio_monitor(RATE), blocks.vector_sink_c()
    top = gr.top_block()
    top.connect(blocks.vector_source_c(sent.tolist()), radio, sink)
    top.connect(radio, monitor)
    top.run()
    assert monitor.overflows >= 1
    assert monitor.lost_samples == 3000 * monitor.overflows
    assert monitor.samples == len(sink.data()) == len(sent) - monitor.lost_samples
    assert monitor.level_dbfs() == pytest.approx(-6.0, abs=0.05)
    assert monitor.clipped_share() == pytest.approx(50 / (2 * monitor.samples), rel=0.01)


def test_marks_on_stderr_are_counted_and_passed_on(capfd):
    with counting_marks() as marks:
        for part in (b"sOsO", b"a line\n", b"s", b"U", b"sOU"):
            os.write(2, part)
            time.sleep(0.1)
    os.write(2, b"sO after")
    assert marks.events == {"overflow": 3, "underflow": 1}
    assert capfd.readouterr().err == "sOsOa line\nsUsOUsO after"


class TestSoftwareRadio:
    def test_ideal_radio_is_the_loopback(self, tmp_path):
        """Same bits, fading and noise: the same error rate, over a socket, at another level."""
        air = "channel=TDL-A,delay_spread_s=100e-9,doppler_hz=50,snr_db=9,burst_slots=5,seed=4"
        (point,) = run_radio(
            tmp_path / "radio",
            f"--args=driver=software,preset=ideal,{air}",
            "--seed=4",
            "--slots=60",
        )["points"]
        options = ["--sync", "--sinr=9", "--slots=60", "--burst=5", "--seed=4", "--channel=TDL-A"]
        out = tmp_path / "loopback"
        assert main(["loopback", "--receiver", BASELINE, "--out", str(out), *options]) == 0
        (expected,) = report.read(out / "report.json")["points"]
        assert point["ber"] == pytest.approx(expected["ber"], rel=0.02)
        same = ("channel", "delay_spread_s", "doppler_hz", "slots", "missed_slots", "clusters")
        assert {k: point[k] for k in same} == {k: expected[k] for k in same}

    def test_blocks_of_a_slot_from_a_file_recorded_and_replayed(self, tmp_path, monkeypatch):
        """With blocks that are counted later than their slots: the last one is waited for."""
        count = SlotStatistics.add_block

        def late(*arguments):
            threading.Timer(0.5, count, arguments).start()

        monkeypatch.setattr(SlotStatistics, "add_block", late)
        slot = SlotConfig(n_prb=20, first_prb=4, carrier_prb=30, n_scid=1, users=(User(mcs=9),))
        path = tmp_path / "slot.json"
        path.write_text(json.dumps(slot.as_dict()))
        options = ["--slots=60", f"--slot={path}", "--seed=4"]
        air = "--args=driver=software,preset=ideal,snr_db=20"
        live = run_radio(tmp_path, air, *options, f"--record={tmp_path / 'air'}")
        monkeypatch.undo()
        (point,) = live["points"]
        assert (point["slots"], point["blocks"], point["block_errors"]) == (60, 60, 0)
        assert SlotConfig.from_dict(point["slot"]) == slot
        assert live["radio"]["sinr_db"] == pytest.approx(20, abs=1)  # of known bits
        command = ["replay", str(tmp_path / "air.sigmf-meta"), "--receiver", BASELINE]
        options = [f"--slot={path}", "--seed=4", f"--out={tmp_path}"]
        assert main([*command, *options]) == 0
        (again,) = report.read(tmp_path / "report.json")["points"]
        assert again["blocks"] >= 60 and again["block_errors"] == 0

    def test_cheap_radio_recorded_and_replayed(self, tmp_path, capsys):
        """An 8-bit receiver 10 ppm off at 915 MHz: what is lost is counted, and what it leaves."""
        recording = tmp_path / "air"
        options = ("--args=driver=software,drop_every_s=0.03", "--slots=120")
        live = run_radio(tmp_path / "live", *options, f"--record={recording}")
        (point,), radio = live["points"], live["radio"]
        assert radio["overflows"] >= 1
        assert radio["lost_samples"] == 16384 * radio["overflows"]
        assert 0 < point["missed_slots"] <= 4 * radio["overflows"]
        assert point["slots"] + point["missed_slots"] == 120
        assert 24 < radio["sinr_db"] < 27
        assert -13 < radio["level_dbfs"] < -11
        assert live["points"][0]["synchronisation"]["cfo_hz"] == pytest.approx(-9150, abs=50)
        assert point["ber"] < 2e-3
        said = capsys.readouterr().out
        assert f"{radio['overflows']} overflows, {radio['lost_samples']} samples lost" in said

        out = tmp_path / "replay"
        path = f"{recording}.sigmf-meta"
        options = ["--receiver", BASELINE, "--seed", "1", "--out", str(out)]
        assert main(["replay", path, *options]) == 0
        (again,) = report.read(out / "report.json")["points"]
        assert again["slots"] >= point["slots"]  # the tail, too
        assert again["bit_errors"] == pytest.approx(point["bit_errors"], rel=0.1, abs=5)
        meta = json.loads(Path(path).read_text())
        assert meta["captures"][0]["core:frequency"] == 915e6
        assert len(meta["captures"]) >= 1 + radio["overflows"]

    def test_a_full_disk_keeps_what_came_before(self, tmp_path, capfd, monkeypatch):
        write = RecordingWriter.write

        def full(writer, samples):
            if writer.n_samples > 100_000:
                raise OSError(28, "No space left on device")
            write(writer, samples)

        monkeypatch.setattr(RecordingWriter, "write", full)
        kept = run_radio(
            tmp_path, "--args=driver=software,drop_every_s=0", "--slots=30",
            f"--record={tmp_path}/air", status=2,
        )  # fmt: skip
        assert 5 <= kept["points"][0]["slots"] < 30
        assert kept["points"][0]["missed_slots"] == 0  # what was not received any more is not lost
        assert "No space left on device: it all ends here" in capfd.readouterr().err
        assert Recording(tmp_path / "air.sigmf-meta").n_samples > 100_000

    def test_clock_offset_of_a_bad_crystal_at_wifi_frequency(self, tmp_path):
        measured = run_radio(
            tmp_path, "--args=driver=software,preset=ideal,clock_ppm=-30", "--freq=2.45e9",
            "--slots=40",
        )  # fmt: skip
        assert measured["points"][0]["missed_slots"] == 0
        assert measured["points"][0]["synchronisation"]["cfo_hz"] == pytest.approx(73.5e3, abs=60)
        assert measured["radio"]["sinr_db"] > 28

    def test_two_processes(self, tmp_path):
        args = f"driver=software,address=ipc://{tmp_path}/air"
        sender = subprocess.Popen(
            [sys.executable, "-m", "gnuradio.deeprx", "radio", "--tx-args", args, "--slots", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            measured = run_radio(tmp_path, f"--rx-args={args},drop_every_s=0", "--slots=30")
            assert measured["points"][0]["slots"] >= 30
            assert measured["points"][0]["ber"] < 1e-3
            assert measured["points"][0]["missed_slots"] == 0
        finally:
            sender.send_signal(signal.SIGINT)
            _, said = sender.communicate(timeout=20)
        assert sender.returncode == 130
        assert said == ""

    def test_another_rate_moves_subcarriers_together(self, tmp_path):
        measured = run_radio(tmp_path, "--args=driver=software", "--rate=2e6", "--slots=20")
        assert measured["radio"]["sample_rate"] == 2e6
        assert measured["points"][0]["slots"] >= 15

    def test_its_rate_is_the_slot_s(self, tmp_path, capsys):
        options = ["--slot=gnb", "--receiver=gnb", "--slots=10", f"--out={tmp_path}"]
        assert main(["radio", "--args=driver=software", *options]) == 0
        measured = report.read(tmp_path / "report.json")
        assert measured["radio"]["sample_rate"] == 30e3 * 768
        with pytest.raises(SystemExit):
            main(["radio", "--help"])
        said = " ".join(capsys.readouterr().out.split())
        assert "samples/s (spacing times the slot's FFT size)" in said

    def test_no_signal(self, tmp_path, capfd, monkeypatch):
        monkeypatch.setattr(radio_link, "_QUIET_S", 0.5)
        options = ["--args=driver=software,snr_db=-30", "--slots=20", "--receiver=baseline-sure"]
        measured = run_radio(tmp_path, *options, status=1)
        assert [(p["slots"], p["missed_slots"]) for p in measured["points"]] == [(0, 20)] * 2
        said = capfd.readouterr()
        assert "synchronisation: 0 slots found" in said.out and "dBFS" in said.out
        last = said.err.splitlines()[-1]
        assert "software radio driver=software,snr_db=-30: no slot was received" in last

    def test_ctrl_c_keeps_what_was_measured(self, tmp_path, capfd, monkeypatch):
        slots = radio_link.Receiver.slots

        def interrupt(receiver):
            if (n := slots.fget(receiver)) >= 5:
                os.kill(os.getpid(), signal.SIGINT)
                monkeypatch.undo()
            return n

        monkeypatch.setattr(radio_link.Receiver, "slots", property(interrupt))
        kept = run_radio(tmp_path, "--args=driver=software", "--slots=100000", status=130)
        assert 5 <= kept["points"][0]["slots"] < 10_000
        assert "what was measured" in capfd.readouterr().err


class TestSoapy:
    @pytest.fixture(autouse=True)
    def _device(self, loopback_device):
        pass

    def test_loopback_with_losses(self, tmp_path, capfd):
        """Through gr-soapy's own sink and source, one overflow, one underflow."""
        args = "driver=loopback,overflow_at=300000,underflow_at=300000"
        measured = run_radio(tmp_path, f"--args={args}", "--slots=80", "--rx-antennas=LNAW,LNAL")
        (point,), radio = measured["points"], measured["radio"]
        assert (radio["overflows"], radio["underflows"]) == (1, 1)
        assert 2 <= point["missed_slots"] <= 4
        assert point["slots"] + point["missed_slots"] == 80
        assert radio["sinr_db"] > 30
        assert measured["points"][0]["synchronisation"]["locks"] == 2
        assert "sO" in capfd.readouterr().err

    def test_gain_reaches_the_device(self, tmp_path):
        tuned = run_radio(tmp_path, "--args=driver=loopback,run=gain", "--slots=30", "--rx-gain=6")
        assert tuned["points"][0]["missed_slots"] == 0
        assert tuned["radio"]["level_dbfs"] == pytest.approx(-6, abs=1.5)  # noise before and after

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ("--rate=50e6", "Rate must be in the range"),
            ("--rate=9e6", r"asked for 9e\+06 samples/s, gives 1e\+07"),
            ("--freq=10e9", r"expected a frequency of 1e\+08 to 3.8e\+09 Hz"),
            ("--rx-gain=90", "expected a gain of -12 to 61 dB, found 90"),
            ("--tx-gain=90", "expected a gain of -12 to 61 dB, found 90"),
            ("--n-rx=3", "Only 2 channels available"),
            ("--rx-antennas=LNAW,RX9", "expected an antenna of LNAL, LNAW, found 'RX9'"),
            ("--tx-antenna=RX9", "expected an antenna of BAND1, found 'RX9'"),
            ("--rx-antennas=LNAW", "expected 2 antenna names"),
        ],
    )
    def test_what_the_device_has_not(self, tmp_path, capfd, options, says):
        base = ["radio", "--receiver", BASELINE, "--out", str(tmp_path), "--args=driver=loopback"]
        assert main([*base, options]) == 2
        (error,) = capfd.readouterr().err.splitlines()
        assert error.startswith("deeprx: error: driver=loopback: ")
        assert re.search(says, error)


class _UsrpSink(gr.sync_block):
    """Takes samples and says one underflow, in a usrp_sink's words."""

    def __init__(self, *_):
        gr.sync_block.__init__(self, "usrp_sink", [np.complex64], None)
        self.message_port_register_out(pmt.intern("async_msgs"))
        self.tags, self.samples = [], 0

    def work(self, input_items, output_items):
        n = len(input_items[0])
        self.tags += self.get_tags_in_window(0, 0, n)
        if not self.samples:
            for code in ("underflow", "burst_ack"):
                codes = pmt.dict_add(
                    pmt.make_dict(), pmt.intern("event_code"), pmt.list1(pmt.intern(code))
                )
                message = pmt.cons(pmt.intern("uhd_async_msg"), codes)
                self.message_port_pub(pmt.intern("async_msgs"), message)
        self.samples += n
        return n

    def get_time_now(self):
        return uhd.time_spec(1000, 0.9)


class TestUhd:
    """No USRP: its calls, held against gr-uhd's own classes; the burst's tags in a flowgraph."""

    @staticmethod
    def device(kind):
        device = mock.create_autospec(kind, instance=True)
        device.get_samp_rate.return_value = RATE
        device.get_gain_range.return_value = mock.Mock(start=lambda: 0.0, stop=lambda: 76.0)
        device.get_freq_range.return_value = mock.Mock(start=lambda: 7e7, stop=lambda: 6e9)
        device.get_antennas.return_value = ("TX/RX", "RX2")
        return device

    def test_source_is_set_up(self, monkeypatch):
        device = self.device(uhd.usrp_source)
        source = mock.Mock(return_value=device)
        monkeypatch.setattr(uhd, "usrp_source", source)
        UhdRadio("type=b200").source(Tuning(RATE, 2.4e9, 40.0, ("RX2", "TX/RX")), 2)
        args, stream = source.call_args.args
        assert args == "type=b200"
        assert (stream.cpu_format, list(stream.channels)) == ("fc32", [0, 1])
        device.set_samp_rate.assert_called_once_with(RATE)
        assert device.set_center_freq.call_args_list == [mock.call(2.4e9, 0), mock.call(2.4e9, 1)]
        assert device.set_gain.call_args_list == [mock.call(40.0, 0), mock.call(40.0, 1)]
        assert device.set_antenna.call_args_list == [mock.call("RX2", 0), mock.call("TX/RX", 1)]
        assert device.set_time_now.call_args.args[0].get_real_secs() == pytest.approx(
            time.time(), abs=60
        )

    @pytest.mark.parametrize(
        ("tuning", "says"),
        [
            (Tuning(8e6, 2.4e9, 40.0), "asked for 8e"),
            (Tuning(RATE, 9e9, 40.0), "expected a frequency of 7e"),
            (Tuning(RATE, 2.4e9, 90.0), "expected a gain of 0 to 76 dB, found 90"),
            (Tuning(RATE, 2.4e9, 40.0, ("LNA",)), "expected an antenna of TX/RX, RX2"),
        ],
    )
    def test_what_the_device_has_not(self, monkeypatch, tuning, says):
        device = self.device(uhd.usrp_sink)
        monkeypatch.setattr(uhd, "usrp_sink", lambda *_: device)
        with pytest.raises(ValueError, match=says):
            UhdRadio("type=b200").sink(tuning)

    def test_a_run_is_one_timed_burst(self, monkeypatch):
        sink = _UsrpSink()
        assert all(hasattr(uhd.usrp_sink, name) for name in ("get_time_now", "has_msg_port"))
        monkeypatch.setattr(UhdRadio, "sink", lambda *_: sink)
        transmitter = radio_link.Transmitter(
            UhdRadio("type=b200"), Tuning(RATE, 1e9, 0.0), SlotConfig(), 5, seed=1
        )
        transmitter.run()
        tags = {pmt.symbol_to_string(t.key): (t.offset, pmt.to_python(t.value)) for t in sink.tags}
        assert tags["tx_sob"] == (0, True)
        assert tags["tx_time"][0] == 0
        assert tags["tx_time"][1] == (1001, pytest.approx(0.1))
        assert tags["tx_eob"] == (sink.samples - 1, True)
        assert sink.samples >= (5 + 3) * 8768 + 0.2 * RATE
        deadline = time.monotonic() + 5
        while not transmitter.burst.events and time.monotonic() < deadline:
            time.sleep(0.1)
        assert transmitter.burst.events == {"underflow": 1}

    def test_endless_burst_has_no_end(self):
        burst = timed_burst(0, _UsrpSink())
        _, tags = through(burst, tone(0, 1000))
        assert sorted(pmt.symbol_to_string(t.key) for t in tags) == ["tx_sob", "tx_time"]


# Runs a generated flowgraph without a screen until both receivers were reported, then closes it.
WATCH = """
import sys
from companion import watch

def received(top):
    return [top.front_end.statistics(), top.points(slots=1)]

watch(sys.argv[1], lambda top: len(top.points(slots=20)) == 2, received)
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    names = ("radio_software", "radio_loopback_soapy", "radio_loopback_uhd")
    for name in names:
        generate(name, folder)
    return folder


class TestExamples:
    def watch(self, folder, name):
        ran = subprocess.run(
            [sys.executable, "-c", WATCH, name],
            env=environment(), cwd=folder, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        (said,) = [line for line in ran.stdout.splitlines() if line.startswith("[{")]
        synchronised, points = json.loads(said)
        assert {p["receiver"] for p in points} == {"ls-lmmse", "deeprx-pusch"}
        return synchronised, points

    def test_software_radio(self, compiled):
        synchronised, points = self.watch(compiled, "radio_software")
        assert synchronised["cfo_hz"] == pytest.approx(-9150, abs=100)
        assert all(point["ber"] < 0.05 for point in points)

    def test_soapy_flowgraph(self, compiled, loopback_device):
        script = compiled / "radio_loopback_soapy.py"
        script.write_text(re.sub(r"\blime\b", "loopback", generated := script.read_text()))
        assert script.read_text() != generated
        _, points = self.watch(compiled, "radio_loopback_soapy")
        assert all(point["ber"] < 0.01 for point in points)

    def test_uhd_flowgraph_compiles(self, compiled):
        script = (compiled / "radio_loopback_uhd.py").read_text()
        assert "uhd.usrp_sink(" in script and "uhd.usrp_source(" in script

    @pytest.mark.parametrize("device", [[], ["--args", "driver=loopback,run=script"]])
    def test_script(self, soapy_loopback, device):
        if device and not soapy_loopback:
            pytest.skip("needs libsoapysdr-dev")
        ran = subprocess.run(
            [sys.executable, ROOT / "examples/radio_loopback.py", "--slots", "20", *device],
            capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert "deeprx-pusch" in ran.stdout and "ls-lmmse" in ran.stdout

    def test_script_says_mistakes_in_one_line(self):
        ran = subprocess.run(
            [sys.executable, ROOT / "examples/radio_loopback.py", "--args", "driver=nothere"],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ran.returncode == 2
        assert "no match" in ran.stderr.splitlines()[-1]


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (["--args=driver=nothere"], "driver=nothere: no such radio"),
            (["--args=lime"], "expected device arguments such as driver=lime, found 'lime'"),
            (["--args=driver=null"], "Only 0 channels available"),
            (["--args=type=b200", "--uhd"], "type=b200: No devices found"),
            (["--args=driver=software,clok=1"], "clok is not one of address,"),
            (["--args=driver=software,adc_bits=x"], "adc_bits must be int, found 'x'"),
            (["--args=driver=software,adc_bits=99"], "adc_bits must be 2 to 16"),
            (["--args=driver=software,preset=good"], "expected a preset of cheap-sdr, ideal"),
            (["--args=driver=software,channel=TDL-X"], "TDL-X"),
            (["--args=driver=software,address=foo"], "cannot receive from foo"),
            (["--args=driver=software", "--rx-antennas=A"], "expected 2 antenna names"),
            (["--tx-args=driver=software", "--rx-args=driver=software,seed=2"], "at an address"),
            (["--args=driver=software", "--n-rx=5"], "--n-rx must be 1 to 4"),
            (["--args=driver=software", "--slots=0"], "--slots must be at least 1"),
            (["--args=driver=software", "--rate=-1"], "--rate must be above 0"),
            (["--args=driver=software", "--rate=2e6", "--record=x"], "leave out --rate"),
            (["--args=driver=software", "--users=2"], "a radio sends one user's layer, found"),
            ([], "which radio"),
        ],
    )
    def test_one_line(self, tmp_path, capfd, options, says):
        out = tmp_path / "report"
        assert main(["radio", "--receiver", BASELINE, f"--out={out}", *options]) == 2
        error = capfd.readouterr().err.splitlines()[-1]
        assert error.startswith("deeprx: error: ") and says in error
        assert not out.exists()

    def test_receiver_is_needed(self, capfd):
        assert main(["radio", "--args=driver=software"]) == 2
        assert "which receiver?" in capfd.readouterr().err

    def test_port_in_use(self, tmp_path, capfd):
        args = f"driver=software,address=ipc://{tmp_path}/air"
        scale = transmit_scale(SlotConfig())
        held = SoftwareRadio("driver=software,address=tcp://127.0.0.1:57391", scale)
        sink = held.sink(Tuning(RATE, 1e9, 0.0))
        args = "--tx-args=driver=software,address=tcp://127.0.0.1:57391"
        assert main(["radio", args]) == 2
        assert "Address already in use" in capfd.readouterr().err
        del sink


def test_modules_that_a_machine_lacks_are_missed_where_they_are_used():
    """Without gr-soapy, gr-uhd and gr-zeromq everything loads, and a radio says what it needs."""
    script = """
import sys
sys.modules |= dict.fromkeys(("gnuradio.soapy", "gnuradio.uhd", "gnuradio.zeromq"))
from gnuradio.deeprx.cli import main, radio
from gnuradio.deeprx.radio.devices import open_radio
from gnuradio.deeprx.radio.radio import Tuning
for args, use_uhd in (("driver=lime", False), ("type=b200", True), ("driver=software", False)):
    try:
        open_radio(args, 1.0, use_uhd).source(Tuning(7.68e6, 1e9, 0.0), 1)
    except ValueError as error:
        print(error)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    for line, name in zip(ran.stdout.splitlines(), ("soapy", "uhd", "zeromq"), strict=True):
        assert f"expected GNU Radio's module {name}" in line
