# SPDX-License-Identifier: GPL-3.0-or-later
import argparse
import importlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import message_ports as ports
import numpy as np
import pmt
import pytest
import torch
from gnuradio import gr
from gnuradio.deeprx import deeprx_python
from gnuradio.deeprx.cli import COMMANDS, doctor, info, main, make_parser, options
from gnuradio.deeprx.measure.flowgraph import stop_on_ctrl_c
from gnuradio.deeprx.models.file import model_path, read_model_file
from receiver_models import save
from torch import nn

import deeprx_common
from deeprx_common import energy, report, slot_file
from deeprx_common.options import list_of, one_of
from deeprx_common.slot import SLOTS, SlotConfig


class LeastSquares(nn.Module):
    """A classical 16QAM receiver: pilots smoothed over five, linear in time, maximum ratio."""

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        received = torch.view_as_complex(y)
        at_pilots = (received * torch.view_as_complex(p).conj().unsqueeze(1))[:, :, [2, 11], ::2]
        planes = torch.view_as_real(at_pilots).movedim(-1, 2).flatten(0, 3).unsqueeze(1)
        planes = nn.functional.avg_pool1d(planes, [5], [1], [2], count_include_pad=False)
        planes = planes.repeat_interleave(2, dim=-1)
        n_slots, n_rx, n_sc = y.shape[0], y.shape[1], y.shape[3]
        planes = planes.reshape(n_slots, n_rx, 2, 2, n_sc).movedim(2, -1).contiguous()
        first, last = torch.view_as_complex(planes).unbind(2)
        time = ((torch.arange(14) - 2) / 9.0).reshape(14, 1)
        channel = first.unsqueeze(2) * (1 - time) + last.unsqueeze(2) * time
        gain = (channel.abs() ** 2).sum(1)
        x = torch.view_as_real((channel.conj() * received).sum(1) / gain)
        a = 0.4**0.5
        return torch.cat([-x, x.abs() - a], -1) * gain.unsqueeze(-1) * 20


FLOP = {"n_prb": 26, "n_rx": 2, "matmul": 10**8, "other": 10**7}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    paths = [folder / "one.pt", folder / "two.pt"]
    for path in paths:
        save(
            LeastSquares(), path, name=path.stem, modulations=["16QAM"], bits=4, flop_per_slot=FLOP
        )
    return [str(path) for path in paths]


def loopback(out, *arguments):
    """Of models that are trusted: a jail takes a second."""
    trust = [part for name in arguments if str(name).endswith(".pt") for part in ("--trust", name)]
    status = main(["loopback", "--out", str(out), *map(str, arguments), *trust])
    assert status == 0
    return report.read(out / "report.json")


def test_two_receivers_on_the_same_slots(models, tmp_path, capsys):
    measured = loopback(
        tmp_path, "--receiver", models[0], "--receiver", models[1], "--channel", "TDL-A,TDL-E",
        "--sinr", "6,12", "--slots", 60, "--burst", 5, "--seed", 3,
    )  # fmt: skip
    points = measured["points"]
    assert [(p["channel"], p["sinr_db"], p["receiver"]) for p in points] == [
        (channel, sinr, name)
        for channel in ("TDL-A", "TDL-E")
        for sinr in (6.0, 12.0)
        for name in ("one", "two")
    ]
    for p in points:
        assert (p["slots"], p["clusters"], p["missed_slots"]) == (60, 12, 0)
        assert p["bits"] == 60 * SlotConfig().n_bits
        assert p["inference_s_per_slot"]["p50"] > 0
        assert p["cpu_s_per_slot"] > 0
        assert p["flop_per_slot"] == 110_000_000
        price = energy.CORE_W * p["cpu_s_per_slot"]
        assert p["energy_per_slot_j"]["modelled"] == pytest.approx(price, rel=0.1)
        assert len(p["model_sha256"]) == 64
    # one program under two names: the same samples must give the same errors
    assert [p["bit_errors"] for p in points[::2]] == [p["bit_errors"] for p in points[1::2]]
    assert 0.08 < points[0]["ber"] < 0.17
    assert 0.01 < points[2]["ber"] < 0.06
    assert [c["ber_difference"] for c in measured["comparisons"]] == [0.0] * 4
    assert (tmp_path / "ber.png").stat().st_size > 1000
    text = capsys.readouterr().out
    assert "TDL-E, 100 ns, 50 Hz, 16QAM" in text
    assert "energy: modelled; intervals" in text
    assert text.count("CPU time x 4 W a busy core, assumed") == 1


def test_a_file_that_is_exchanged_after_it_was_read_changes_nothing(tmp_path, monkeypatch):
    """A report does not name a file that another one's LLRs are from."""
    path = tmp_path / "model.pt"
    small = ["--slots", "5", "--sinr", "9", "--n-prb", "6", "--meter", "none"]

    def measured():
        shutil.copy(model_path("baseline-lmmse"), path)
        assert main(["loopback", "--receiver", str(path), *small, "--out", str(tmp_path)]) == 0
        (point,) = report.read(tmp_path / "report.json")["points"]
        return point["model_sha256"], point["bit_errors"]

    def exchange(name, *more):
        file = read_model_file(name, *more)
        shutil.copy(model_path("baseline-sure"), path)
        return file

    expected = measured()
    monkeypatch.setattr(options, "read_model_file", exchange)
    assert measured() == expected


@pytest.mark.parametrize("n_rx", [1, 4])
def test_energy_is_modelled_for_any_number_of_antennas(n_rx, tmp_path, capsys):
    (point,) = loopback(
        tmp_path, "--receiver", "baseline-lmmse.pt", "--n-rx", n_rx, "--sinr", 9, "--slots", 5,
        "--core-power", 6, "--meter", "none",
    )["points"]  # fmt: skip
    joules = point["energy_per_slot_j"]
    assert point["flop_per_slot"] is None  # the file counted those of two antennas
    assert joules["modelled"] == pytest.approx(6 * point["cpu_s_per_slot"], rel=0.1)
    assert "CPU time x 6 W a busy core, given" in capsys.readouterr().out


def test_same_seed_same_errors(models, tmp_path):
    arguments = ["--receiver", models[0], "--sinr", 9, "--slots", 10]
    runs = [loopback(tmp_path, *arguments, "--seed", seed) for seed in (1, 1, 2)]
    errors = [run["points"][0]["bit_errors"] for run in runs]
    assert errors[0] == errors[1] != errors[2]


def test_synchronised_loopback_counts_every_slot(models, tmp_path):
    measured = loopback(
        tmp_path, "--receiver", models[0], "--sync", "--cfo", 1000, "--sinr", 15, "--slots", 50
    )
    (point,) = measured["points"]
    assert point["sync"] is True
    assert (point["slots"], point["missed_slots"]) == (50, 0)
    assert point["ber"] < 0.04


def test_no_slot_found(models, tmp_path, capsys):
    (tmp_path / "ber.png").write_bytes(b"of another run")
    two = ["--receiver", models[0], "--receiver", models[1], "--out", str(tmp_path)]
    assert main(["loopback", *two, "--sync", "--sinr", "-30", "--slots", "10"]) == 1
    points = report.read(tmp_path / "report.json")["points"]
    assert [(p["receiver"], p["slots"], p["missed_slots"]) for p in points] == [
        ("one", 0, 10),
        ("two", 0, 10),
    ]
    said = capsys.readouterr()
    assert "synchronisation: 0 slots found" in said.out
    assert "deeprx: 10 slots: no slot was received" in said.err and said.err.count("\n") == 1
    assert not (tmp_path / "ber.png").exists()


def test_what_was_found_by_the_preamble_is_said(models, tmp_path, capsys):
    given = ["--sync", "--cfo", "2000", "--sinr", "20,25", "--slots", "10"]
    measured = loopback(tmp_path, "--receiver", models[0], *given)
    lines = [line for line in capsys.readouterr().out.splitlines() if "synchronisation" in line]
    assert [line[:14] for line in lines] == ["TDL-A  20.0 dB", "TDL-A  25.0 dB"]
    for line, point in zip(lines, measured["points"], strict=True):
        # three more carry the last one through the chain
        assert "13 slots found, 10 of them measured" in line and "1 locks, 0 false ones" in line
        cfo_hz = float(re.search(r"(\d+) Hz offset", line)[1])
        assert cfo_hz == pytest.approx(2000, abs=100)
        assert point["synchronisation"]["false_locks"] == 0


def test_receivers_are_compared_with_the_best_classical_one(tmp_path, capsys):
    names = ["deeprx-pusch-small", "baseline-lmmse", "baseline-sure"]
    asked = [a for name in names for a in ("--receiver", name)]
    measured = loopback(tmp_path, *asked, "--sinr", "12", "--slots", "40", "--burst", "1")
    ber = {p["receiver"]: p["ber"] for p in measured["points"]}
    assert ber["baseline-sure"] < ber["baseline-lmmse"]
    pairs = [(c["a"], c["b"]) for c in measured["comparisons"]]
    assert pairs == [("deeprx-pusch-small", "baseline-sure"), ("baseline-lmmse", "baseline-sure")]
    said = capsys.readouterr().out
    assert "TDL-A  12.0 dB  baseline-lmmse: more errors than baseline-sure, BER +" in said
    assert "over 40 clusters" in said


def test_receivers_are_compared_with_a_named_one(tmp_path, models, capsys):
    asked = ["--receiver", "baseline-sure", "--receiver", models[0], "--receiver", "ls-lmmse"]
    measured = loopback(tmp_path, *asked, "--reference", "one", "--sinr", "12", "--slots", "10")
    pairs = [(c["a"], c["b"]) for c in measured["comparisons"]]
    assert pairs == [("baseline-sure", "one"), ("ls-lmmse", "one")]
    capsys.readouterr()
    for command in (
        ["loopback", *asked],
        ["demo", *asked],
        ["radio", *asked, "--args", "driver=software"],
        ["replay", str(Path(__file__).parent / "golden/cf32.sigmf-meta"), *asked],
    ):
        assert main([*command, "--reference", "two", "--out", str(tmp_path)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "--reference: expected one of baseline-" in line
        assert "one, ls-lmmse, found 'two'" in line


def test_interferer_makes_up_the_sinr(models, tmp_path):
    measured = loopback(tmp_path, "--receiver", models[0], "--sir", 10, "--sinr", 6, "--slots", 40)
    (point,) = measured["points"]
    assert point["sir_db"] == 10
    assert point["snr_db"] == pytest.approx(8.205, abs=1e-3)
    assert point["sinr_db"] == pytest.approx(6.0)
    assert 0.06 < point["ber"] < 0.2


def test_the_last_dmrs_identity_has_an_interferer_too(models, tmp_path):
    given = ["--dmrs-n-id", 65535, "--sir", 20, "--sinr", 6, "--slots", 4]
    (point,) = loopback(tmp_path, "--receiver", models[0], *given)["points"]
    assert (point["slots"], point["slot"]["dmrs_n_id"]) == (4, 65535)


@pytest.mark.parametrize(
    ("number", "interrupt"),
    [
        (signal.SIGINT, signal.default_int_handler),
        pytest.param(signal.SIGTERM, signal.default_int_handler, marks=pytest.mark.slow),
        (signal.SIGTERM, signal.SIG_IGN),  # as a script starts background jobs
    ],
)
def test_ctrl_c_keeps_what_was_measured(models, tmp_path, number, interrupt):
    command = [sys.executable, "-m", "gnuradio.deeprx", "loopback", "--receiver", models[0]]
    command += ["--trust", models[0], "--sinr", "6,9,12", "--slots", "300", "--out", str(tmp_path)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, interrupt),
    )
    # GNU Radio may complain first, of an FFT wisdom file that another program is just writing
    assert any(line.startswith("TDL-A 6 dB (1/3)") for line in process.stdout)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped after" in errors
    assert "Traceback" not in errors
    points = report.read(tmp_path / "report.json")["points"]
    assert points[0]["slots"] == 300
    assert len(points) < 3
    assert points[0]["missed_slots"] == 0


@pytest.mark.parametrize(
    "seconds",
    [0, 0.5, 0.9, 2, *(pytest.param(s, marks=pytest.mark.slow) for s in (0.2, 1.4, 2.7, 3.5))],
)
def test_ctrl_c_during_start_up(tmp_path, seconds):
    """What is being imported may take it for a failure of its own, or lose it."""
    apps = Path(__file__).parents[1] / "apps/deeprx"
    command = [sys.executable, str(apps), "loopback", "--mcs", "14", "--harq", "4"]
    command += ["--receiver", "deeprx-student", "--slots", "100000", "--out", str(tmp_path)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    while _ignores_ctrl_c(process.pid):  # until Python has begun
        time.sleep(0.01)
    assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.count("\n") <= 1 and "error" not in errors


def _ignores_ctrl_c(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (ignored,) = re.findall(r"SigIgn:\s*(\w+)", status)
    return bool(int(ignored, 16) >> (signal.SIGINT - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("failure", [ImportError("initialization failed"), None])
def test_ctrl_c_that_is_lost(monkeypatch, capfd, number, failure):
    """An extension's import tells it as a failure, a destructor drops it: then what runs stops."""
    began = []

    def run(arguments):
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            time.sleep(5)
        if failure:
            raise failure
        with stop_on_ctrl_c() as stop:
            began.append(stop.is_set())
        return 0

    monkeypatch.setattr("gnuradio.deeprx.cli.doctor.run", run)
    assert main(["doctor"]) == 130
    assert began == ([] if failure else [True])
    assert capfd.readouterr().err == ""


def test_a_damaged_model_file_is_refused(tmp_path, capsys):
    """LibTorch would take the weights as they are."""
    whole = model_path("deeprx-pusch-small.pt")
    with zipfile.ZipFile(whole) as archive:
        stored = [i for i in archive.infolist() if i.compress_type == zipfile.ZIP_STORED]
    record = max(stored, key=lambda i: i.file_size)
    data = bytearray(Path(whole).read_bytes())
    data[record.header_offset + record.file_size // 2] ^= 0x80
    path = tmp_path / "damaged.pt"
    path.write_bytes(data)
    for command in (["info", str(path)], ["loopback", "--receiver", str(path)]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert "damaged.pt: is damaged: " in error and error.count("\n") == 1


def test_a_name_without_end_leaves_room_for_what_is_wrong_with_it(capsys):
    assert main(["info", "a" * 5000]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < 1000 and line.endswith(": File name too long")


def test_doctor_says_what_runs_how_fast_and_what_is_wrong(tmp_path, capsys):
    fast, classical = (model_path(f"{m}.pt") for m in ("deeprx-pusch-small", "baseline-lmmse"))
    assert main(["doctor", fast, classical]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^  ok +jail +model files that do not ship run in it$", said, re.M)
    for words in ("TorchScript 2.", "float32 ", "bfloat16 ", "int8 ", "RAPL", "CUDA"):
        assert words in said
    for name, engine in (("deeprx-pusch-small", "native"), ("baseline-lmmse", "TorchScript")):
        line = re.search(
            rf"^  \w+ +{name} +{engine}\b.* ([0-9.]+) ms, real-time factor", said, re.M
        )
        assert 0.01 < float(line[1]) < 100
    assert said.index("Advice") < said.index("deeprx-pusch-small", said.index("Advice"))
    broken = tmp_path / "broken.pt"
    save(nn.ReLU(), broken, name="broken")  # takes neither grid nor pilots
    assert main(["doctor", str(broken), classical]) == 1
    said = capsys.readouterr().out
    assert re.search(r"^  WRONG +broken +model file .*forward", said, re.M)
    assert re.search(r"^  \w+ +baseline-lmmse +TorchScript", said, re.M)  # the others, too
    assert "1 thing is wrong" in said


class TestAdvice:
    """Of other machines: what doctor asks for is put in its place."""

    @pytest.fixture
    def avx2(self, monkeypatch):
        monkeypatch.setattr(
            doctor, "instructions", lambda precision: "AVX2" * (precision == "float32")
        )

    def learned(self, **times):
        return [
            doctor.Finding(name, doctor.OK if ms <= 1 else doctor.SLOW, "", "", 1e-3 * ms)
            for name, ms in times.items()
        ]

    def test_without_bfloat16_its_files_are_right(self, avx2, capsys):
        assert main(["doctor", "deeprx-pusch-small", "deeprx-pusch"]) == 0
        said = capsys.readouterr().out
        assert "none   bfloat16               no instructions for it: such files run in" in said
        assert "only those of a PuschRx run" in said
        given = said[said.index("Advice") :]
        assert "bfloat16 files are right here" in given and "nothing to change" in given
        assert "float32 file" not in said  # there is none to take

    def test_the_largest_that_keeps_up(self, avx2):
        findings = self.learned(teacher=120.0, small=0.3, pusch=0.8, student=1.2)
        first, *_ = doctor.advice(findings)
        assert first == (
            "real time on one core: small, pusch; of these pusch computes most, 0.80 ms a slot"
        )

    def test_none_keeps_up(self, avx2):
        first, *_ = doctor.advice(self.learned(student=9.0, small=1.44))
        assert "no learned receiver keeps up" in first and "small, 1.44 ms" in first

    def test_without_openvino_and_pytorch(self, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "torch", None)
        monkeypatch.setattr(doctor, "engines", lambda: ["TorchScript 2.13.0"])
        assert main(["doctor", "baseline-lmmse"]) == 0
        said = capsys.readouterr().out
        assert "none   OpenVINO" in said and "  pip install openvino, then configure" in said
        assert "none   PyTorch" in said and "none   CUDA" in said


class TestOptions:
    """A name means the same in every command, which the shared table is there for."""

    @staticmethod
    def options():
        """(command, action) of all."""
        commands = make_parser()._subparsers._group_actions[0].choices
        for command, parser in commands.items():
            module = command.replace("-", "_")
            importlib.import_module(f"gnuradio.deeprx.cli.{module}").configure(parser)
            for action in parser._actions:
                if action.option_strings:
                    yield command, action

    def test_one_meaning(self):
        """But that bler goes through lists of what others take one of."""
        meanings = {}
        lists = {"--mcs", "--n-rx", "--doppler"}
        for command, action in self.options():
            if command == "bler" and lists.intersection(action.option_strings):
                assert action.metavar.endswith(",..")
                continue
            about = re.sub(r" \([^()]*\)$", "", action.help)  # without the default
            kind = getattr(action.type, "__qualname__", None), action.metavar, type(action)
            meaning = about, *kind, tuple(action.option_strings)
            for option in action.option_strings:
                other, known = meanings.setdefault(option, (command, meaning))
                assert meaning == known, f"{option} of {command} and of {other}"

    def test_every_default_is_of_its_kind(self):
        """A list where a list is parsed, a number where a number is; text is parsed itself."""
        for command, action in self.options():
            default = action.default
            if action.type is None or isinstance(action, argparse._AppendAction):
                continue
            if default is None or isinstance(default, str):
                continue
            text = ",".join(map(str, default)) if isinstance(default, list) else str(default)
            if default != [None]:
                assert action.type(text) == default, (command, action.option_strings)

    @pytest.mark.parametrize(
        ("kind", "text", "values"),
        [
            (float, "-3,0", [-3, 0]),
            (float, "6:18:3", [6, 9, 12, 15, 18]),
            (float, "6:12", [6, 7, 8, 9, 10, 11, 12]),
            (float, "-1:1:.5,9", [-1, -0.5, 0, 0.5, 1, 9]),
            (float, "0:1:0.3", [0, 0.3, 0.6, 0.9]),
            (float, "5:5", [5]),
            (int, "2,11", [2, 11]),
            (int, "0:8:4", [0, 4, 8]),
            (str, "A:B,C", ["A:B", "C"]),
            (one_of(["TDL-A", "TDL-E"]), "tdl-a,Tdl-E", ["TDL-A", "TDL-E"]),
        ],
    )
    def test_lists(self, kind, text, values):
        parsed = list_of(kind)(text)
        assert parsed == (pytest.approx(values) if kind is float else values)

    @pytest.mark.parametrize("text", ["", "6:", "9:6", "6:9:0", "6:9:-1", "1:2:3:4", "0:1e9", "x"])
    def test_lists_that_are_none(self, text):
        with pytest.raises(argparse.ArgumentTypeError, match=f"found {text!r}"):
            list_of(float)(text)

    @pytest.mark.parametrize("command", ["loopback", "demo", "record", "energy"])
    def test_a_list_may_begin_with_a_minus(self, command):
        rest = {"record": ["x"], "loopback": ["--receiver", "x"]}.get(command, [])
        options = make_parser().parse_args([command, *rest, "--sinr", "-3,-1.5", "--dmrs", "2"])
        assert (options.sinr, options.dmrs) == ([-3.0, -1.5], [2])

    def test_names_in_any_case(self):
        given = ["demo", "--channel", "tdl-a,TDL-e", "--modulation", "16qam", "--engine", "Auto"]
        options = make_parser().parse_args(given)
        assert options.channel == ["TDL-A", "TDL-E"]
        assert (options.modulation, options.engine) == ("16QAM", "auto")


@pytest.mark.parametrize(
    "name", ["baseline-lmmse", "baseline-lmmse.pt", "models/baseline-lmmse.pt"]
)
def test_receivers_that_ship_by_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert Path(model_path(name)).name == "baseline-lmmse.pt"
    assert main(["info", name]) == 0


def test_results_of_two_commands_never_mix(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda form, *_: form.replace("%Y%m%d-%H%M%S", "now"))
    for _ in range(2):
        assert main(["loopback", "--receiver", models[0], "--sinr", "9", "--slots", "4"]) == 0
    assert main(["record", "a", "--slots", "4"]) == 0
    assert main(["replay", "a.sigmf-meta", "--receiver", models[0]]) == 0
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {"deeprx-loopback-now", "deeprx-loopback-now-2", "deeprx-replay-now"}


def test_a_mistake_leaves_no_folder(models, tmp_path):
    """Found when the model is loaded, after the folder was made."""
    command = [sys.executable, "-m", "gnuradio.deeprx", "loopback", "--receiver", models[0]]
    ran = subprocess.run(
        [*command, "--modulation", "QPSK", "--meter", "none"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (2, "")
    assert list(tmp_path.iterdir()) == []


def test_a_clone_stays_clean():
    """What Companion generates from the examples, recordings and results are not for git."""
    root = Path(__file__).parents[1]
    ids = [
        re.search(r"^    id: (\w+)$", path.read_text(), re.M)[1]
        for path in (root / "examples").glob("*.grc")
    ]
    left = [f"examples/{name}.py" for name in ids]
    left += ["recording.sigmf-meta", "examples/recording.sigmf-data", "a.sigmf"]
    left += ["my_receiver.pt", "examples/my_receiver.pt"]
    left += [time.strftime("deeprx-loopback-%Y%m%d-%H%M%S/report.json")]
    command = ["git", "-C", str(root), "check-ignore", "--no-index", *left]
    ignored = subprocess.run(command, capture_output=True, text=True)
    if ignored.returncode == 128:
        pytest.skip("not a clone")
    assert ignored.stdout.split() == left
    tracked = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-ci", "--exclude-standard"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert tracked.stdout == ""


def python(code):
    """What a Python of its own prints and how it ends."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_commands_load_when_they_are_called():
    ran = python(
        "import sys; from gnuradio.deeprx.cli import COMMANDS, main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "modules = [f'gnuradio.deeprx.cli.{c}'.replace('-', '_') for c in COMMANDS]\n"
        "print(sorted(m for m in modules if m in sys.modules), "
        "'gnuradio.gr' in sys.modules, 'gnuradio.deeprx.deeprx_python' in sys.modules)"
    )
    assert all(re.search(rf"^    {c}\s", ran.stdout, re.MULTILINE) for c in COMMANDS)
    assert ran.stdout.splitlines()[-1] == "[] False False"


def test_public_names_are_what_they_say():
    """Loaded when used, also where their modules and folders were imported before."""
    sources = Path(__file__).parents[1] / "python" / "deeprx"
    folders = ("blocks", "recording", "radio", "telemetry", "models", "cli")
    modules = [
        ".".join(path.relative_to(sources).with_suffix("").parts)
        for folder in folders
        for path in (sources / folder).glob("*.py")
    ]
    ran = python(
        "import importlib; from gnuradio import deeprx\n"
        f"for name in {modules}: importlib.import_module('gnuradio.deeprx.' + name)\n"
        "print([n for n in deeprx.__all__ if n != 'SLOTS' and not callable(getattr(deeprx, n))],\n"
        "      set(deeprx.__all__) - set(dir(deeprx)))\n"
        "deeprx.nothing"
    )
    assert ran.stdout == "[] set()\n"
    assert ran.stderr.endswith("module 'gnuradio.deeprx' has no attribute 'nothing'\n")


def test_a_probe_needs_what_it_publishes_with_alone():
    ran = python(
        "import sys; sys.modules['zmq'] = None\n"
        "from gnuradio import deeprx; print(deeprx.slot_probe(seed=1).name())\n"
        "deeprx.slot_probe(seed=1, zmq_address='5999')"
    )
    assert ran.stdout == "slot_probe\n" and "zmq" in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize("command", ["loopback", "demo", "record", "radio", "energy", "replay"])
def test_help_shows_what_each_slot_has(command):
    """Of every option that says something of the slot, what is taken where it is not given."""
    parser = argparse.ArgumentParser()
    module = importlib.import_module(f"gnuradio.deeprx.cli.{command}")
    module.configure(parser)
    helps = {action.dest: action.help for action in parser._actions}
    said = [name for name in options.SLOT if name in helps and name != "slot"]
    assert {"modulation", "n_prb", "dmrs", "dmrs_n_id"} <= set(said)
    for name in said:
        shown = helps[name].rpartition("(")[2].removesuffix(")")
        default, *others = shown.split("; ")
        values = {"default": default} | dict(other.split(": ") for other in others)
        for slot in SLOTS if "slot" in helps else ["default"]:
            config = slot_file.changed_slot(SLOTS[slot], slot_file.given_slot(argparse.Namespace()))
            value = getattr(config, name)
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            assert values.get(slot, default) == text, (name, slot, shown)
    if "slot" not in helps:
        return
    assert values["gnb"] == "30"  # of scs_khz, the last one
    for name in ("cdm_groups", "fft_size"):  # what no option says
        assert re.search(rf"\b{getattr(SLOTS['gnb'], name)}\b", helps["slot"]), name


def test_a_machine_without_radio_drivers():
    """gr-uhd and gr-soapy are packages of their own, and few use Prometheus or draw: every command
    parses, and `info` runs, without them.
    """
    lacks = ["gnuradio.uhd", "gnuradio.soapy", "gnuradio.zeromq", "prometheus_client", "matplotlib"]
    ran = python(
        f"import sys; sys.modules.update(dict.fromkeys({lacks}))\n"
        "from gnuradio.deeprx.cli import COMMANDS, main\n"
        "for command in COMMANDS:\n"
        "    try: main([command, '--help'])\n"
        "    except SystemExit: pass\n"
        "sys.exit(main(['info', 'deeprx-pusch-small']))"
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count("usage: deeprx ") == len(COMMANDS)
    assert "deeprx-pusch-small" in ran.stdout


def test_what_several_files_must_state_agrees():
    """The version; and the libraries that a model file is written by and read by."""
    root = Path(__file__).parents[1]
    for name, pattern in (
        ("CMakeLists.txt", r"^project\(gr-deeprx VERSION (\S+)"),
        ("CITATION.cff", r"^version: (\S+)$"),
        ("CHANGELOG.md", r"^## \[(\S+)\]"),
        ("training/pyproject.toml", r'^version = "(\S+)"$'),
    ):
        stated = re.search(pattern, (root / name).read_text(), re.MULTILINE)[1]
        assert stated == deeprx_common.__version__, name
    for package in ("torch", "openvino"):
        runtime, training = (
            re.search(rf"\b{package}==[0-9.]+", (root / name).read_text())[0]
            for name in ("requirements-runtime.txt", "training/pyproject.toml")
        )
        assert runtime == training


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    says = capsys.readouterr().out
    ours, of_torch = deeprx_common.__version__, metadata.version("torch")
    assert says == f"gr-deeprx {ours}, GNU Radio {gr.version()}, PyTorch {of_torch}\n"


@pytest.mark.parametrize(
    ("bug", "says"),
    [
        (lambda _: np.zeros(3) + np.zeros(4), "ValueError: operands could not be broadcast"),
        (lambda _: json.loads("?"), "JSONDecodeError: Expecting value"),  # stated, but not by us
        (lambda _: torch.zeros(3) + torch.zeros(4), "RuntimeError: The size of tensor"),
        (lambda _: pmt.to_long(pmt.PMT_T), "ValueError: "),  # C++, but not ours
        (lambda _: {}["there"], "KeyError: 'there'"),
        (lambda _: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_bug_is_no_mistake_and_can_be_traced(monkeypatch, capsys, bug, says):
    monkeypatch.setattr(info, "run", bug)
    assert main(["info", "x"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line and line.endswith(" (--debug shows where)")
    for command in (["--debug", "info", "x"], ["info", "x", "--debug"]):
        assert main(command) == 3
        trace = capsys.readouterr().err
        assert trace.startswith("Traceback") and Path(__file__).name in trace
        assert trace.splitlines()[-1] == line.removesuffix(" (--debug shows where)")


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (lambda _: deeprx_python.Engine("ls-lmmse", n_rx=9), "n_rx"),
        (lambda _: deeprx_python.Engine("SECURITY.md"), "SECURITY.md"),
        (lambda _: Path("/nowhere").stat(), "/nowhere: No such file or directory"),
        (lambda _: os.write(os.open("/dev/full", os.O_WRONLY), b"x"), "No space left on device"),
        (lambda _: socket.socket().connect(("127.0.0.1", 1)), "Connection refused"),
        (lambda _: importlib.import_module("sionnna"), "lacks the Python package sionnna"),
    ],
)
def test_what_is_wrong_with_the_question_or_the_machine_is_no_bug(monkeypatch, capsys, told, says):
    """Statements of ours are in test_mistakes_get_one_line."""
    monkeypatch.setattr(info, "run", told)
    assert main(["info", "x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line and "--debug" not in line


def test_the_status_stands_where_nothing_can_be_told():
    program = (
        "import sys\n"
        "from deeprx_common.commands import run_command\n"
        "from deeprx_common.options import Parser\n"
        "parser = Parser()\n"
        "parser.set_defaults(run=lambda _: open('/nowhere'))\n"
        "sys.exit(run_command(parser, sys.argv[1:]))\n"
    )
    reading, left = os.pipe()
    os.close(reading)
    with open("/dev/full", "w") as full, open(os.devnull) as unwritable, os.fdopen(left, "w"):
        for stderr, redirected in ((full, ""), (unwritable, ""), (left, ""), (None, "2>&-")):
            for mistake in ([], ["--nosuch"]):
                command = [sys.executable, "-c", program, *mistake]
                shell = ["bash", "-c", f'"$@" {redirected}', "-", *command]
                done = subprocess.run(shell, stderr=stderr, stdout=subprocess.PIPE)
                assert (done.returncode, done.stdout) == (2, b""), (stderr, redirected, mistake)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["loopback", "--receiver", "nowhere.pt"],
            "nowhere.pt: no such model file; those that ship: baseline-lmmse, ",
        ),
        (["loopback", "--receiver", "/"], "expected a model file (.pt), found a folder"),
        (["loopback", "--receiver", "MODEL", "--channel", "TDL-X"], "expected TDL-A, TDL-B, TDL-C"),
        (["loopback", "--receiver", "MODEL", "--sinr", "six"], "expected numbers, as 6,9,12, or"),
        (
            ["loopback", "--receiver", "MODEL", "--sinr", "9:6"],
            "or a range, as 6:18:3, found '9:6'",
        ),
        (["loopback", "--receiver", "MODEL", "--modulation", "8PSK"], "QPSK, 16QAM, 64QAM, 256QAM"),
        (["loopback", "--receiver", "MODEL", "--sync", "--aligned"], "not allowed with"),
        (["record", "x", "--sinr", "6,9"], "--sinr: expected one value here, found 2"),
        (["loopback", "--receiver", "MODEL", "--sinr", "-3,0", "--slots", "0"], "got 0"),
        (["loopback", "--receiver", "MODEL", "--slots", "0"], "must be at least 1, got 0"),
        (["loopback", "--receiver", "MODEL", "--n-prb", "0"], "n_prb must be 1 to 273 PRB, got 0"),
        (
            ["loopback", "--receiver", "MODEL", "--n-rx", "5"],
            "--n-rx must be 1 to 4 antennas, got 5",
        ),
        (["loopback", "--receiver", "MODEL", "--dmrs", "20"], "dmrs of 14 symbols must be one"),
        (["loopback", "--receiver", "MODEL", "--modulation", "QPSK"], "QPSK"),
        (
            ["loopback", "--receiver", "MODEL", "--delay-spread", "-1"],
            "--delay-spread must be 0 to",
        ),
        (
            ["loopback", "--receiver", "MODEL", "--delay-spread", "100"],
            "--delay-spread must be 0 to 1e-05 s, got 100",
        ),
        (
            ["loopback", "--receiver", "MODEL", "--sinr", "nan"],
            "--sinr must be -50 to 100 dB, got nan",
        ),
        (["loopback", "--receiver", "MODEL", "--out", "/proc"], "/proc: "),
        (["loopback", "--receiver", "MODEL", "--sir", "5"], "rules out an SINR of 6 dB"),
        (["loopback"], "required: --receiver"),
        (["demo", "--slots", "-1"], "must be at least 1, got -1"),
        (
            ["info", "nowhere.pt"],
            "nowhere.pt: no such model file; those that ship: baseline-lmmse, ",
        ),
        (["fly"], "invalid choice: 'fly'"),
    ],
)
def test_mistakes_get_one_line(models, tmp_path, monkeypatch, capfd, arguments, says):
    if arguments[0] == "demo":
        monkeypatch.setattr("gnuradio.deeprx.cli.demo.MODELS", models[:1])
    monkeypatch.chdir(tmp_path)
    try:
        status = main([models[0] if a == "MODEL" else a for a in arguments])
    except SystemExit as stop:
        status = stop.code
    text = capfd.readouterr().err
    assert status == 2
    assert says in text
    assert "--debug" not in text
    assert text.startswith("deeprx")
    assert text.count("\n") == 1


def test_an_unknown_option_points_to_its_commands_help(capsys):
    with pytest.raises(SystemExit):
        main(["loopback", "--receiver", "ls-lmmse", "--snr", "3"])
    says = "deeprx loopback: error: unrecognized arguments: --snr 3 (deeprx loopback --help)"
    assert capsys.readouterr().err.strip() == says


def test_out_that_cannot_be_written_is_found_before_the_run(models, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["loopback", "--receiver", models[0], "--out", str(tmp_path / "file" / "x")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_info_shows_the_metadata_without_running_the_file(models, capsys):
    assert main(["info", models[0]]) == 0
    text = capsys.readouterr().out
    for shown in ("one", "deeprx.model/2", "16QAM", "matmul: 100000000", "sha256"):
        assert shown in text


TRAINED = {
    "channels": ["TDL-B", "CDL-D"],
    "delay_spread_s": [1e-8, 3e-7],
    "doppler_hz": [0, 500],
    "snr_db": [-4, 32],
    "sir_db": None,
    "modulations": ["QPSK", "16QAM"],
    "dmrs_symbols": [1, 2],
    "n_rx": [2],
}
LIMIT = {
    "condition": "delay spread 500 ns (TDL-C, 30 Hz, 18 dB)",
    "errors_over_classical": 1.55,
    "ci95": [1.41, 1.7],
    "classical": "baseline-sure",
}


@pytest.mark.parametrize(
    ("metadata", "says", "silent"),
    [
        (
            {"trained": TRAINED, "limits": [LIMIT]},
            [
                "channels TDL-B, CDL-D delay spread 10 to 300 ns Doppler 0 to 500 Hz "
                "SNR -4 to 32 dB no interferer QPSK, 16QAM 1 or 2 DMRS symbols 2 antennas",
                "delay spread 500 ns (TDL-C, 30 Hz, 18 dB): 1.55 times the errors of "
                "baseline-sure [1.41, 1.70]",
            ],
            ['TDL-B", ', "errors_over"],
        ),
        ({"trained": {"sir_db": [0, 36]}}, ["SIR 0 to 36 dB"], ["channels", "errors over", "DMRS"]),
        ({"trained": None, "limits": None}, [], ["trained", "errors over"]),
        ({"limits": []}, [], ["trained", "errors over"]),
        ({"scs_khz": None, "dmrs": None}, ["scs_khz any", "dmrs any"], ["null any"]),
        ({"scs_khz": [15, 30], "dmrs": [[2]]}, ["scs_khz [15, 30]", "dmrs [[2]]"], [" any "]),
    ],
)
def test_info_says_what_a_receiver_was_trained_for(tmp_path, capsys, metadata, says, silent):
    path = tmp_path / "x.pt"
    save(LeastSquares(), path, name="x", **metadata)
    assert main(["info", str(path)]) == 0
    shown = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    for words in says:
        assert words in shown
    for words in silent:
        assert words not in shown


def test_info_says_whether_a_file_is_trusted(models, tmp_path, capsys):
    said = {}
    odd = shutil.copy(models[0], tmp_path / "a b.pt")
    for model in ("baseline-lmmse", models[0], odd):
        assert main(["info", str(model)]) == 0
        said[model] = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    assert " trusted yes, it comes with gr-deeprx" in said["baseline-lmmse"]
    assert " trusted no: its program runs in a jail" in said[models[0]]
    assert f"--trust '{odd}' of a command" in said[odd].replace("pytest- ", "pytest-")


def test_trust_in_a_file_that_is_no_receiver_is_said(models, tmp_path, monkeypatch, capsys):
    shipped = model_path("baseline-lmmse")
    asked = make_parser().parse_args(
        [
            "bler",
            "--mcs",
            "9",
            "--receiver",
            models[0],
            "--receiver",
            shipped,
            "--receiver",
            "perfect-csi",
        ]
        + [part for name in (models[0], models[1], shipped) for part in ("--trust", name)]
    )
    options.read_models(asked.receiver, asked, simulated=True)
    assert (
        capsys.readouterr().err == f"deeprx: --trust {models[1]}: no receiver here is this file\n"
    )


def test_info_refuses_or_shows_whatever_a_file_says_of_itself(tmp_path, capsys):
    path, known = tmp_path / "x.pt", read_model_file("deeprx-pusch-small").metadata
    with zipfile.ZipFile(model_path("deeprx-pusch-small")) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    tries = [(place, value) for place in ports.places(known) for value in ports.BAD]
    shown = 0
    for place, value in random.Random(1).sample(tries, 200):
        said = json.dumps(ports.changed(known, place, value)).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in records.items():
                archive.writestr(name, said if name.endswith("/deeprx.json") else data)
        status = main(["info", str(path)])
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err and "\u202e" not in out + err, (place, value)
        assert (status, err.count("\n")) in ((0, 0), (2, 1)), (place, value, err)
        shown += status == 0
    assert 10 < shown < 190


def test_a_name_that_a_terminal_obeys_is_shown_harmlessly(capsys):
    assert main(["info", "no\x1b]0;owned\x07such\n.pt"]) == 2
    assert "no?]0;owned?such .pt: no such model file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["[/red]", "[bold]x", ":smile:"])
def test_names_with_brackets_are_shown_as_they_are(tmp_path, capsys, name):
    path = tmp_path / f"{name.replace('/', '')}.pt"
    save(LeastSquares(), path, name=name)
    assert main(["info", str(path)]) == 0
    shown = capsys.readouterr().out
    assert name in shown and path.name in shown


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"not a model", "is not a TorchScript archive"),
    ],
)
def test_info_refuses_other_files(tmp_path, capsys, content, says):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    assert main(["info", str(path)]) == 2
    assert f"{path}: {says}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({}, "has no deeprx.json"),
        ({"deeprx.json": "{"}, "deeprx.json is not JSON"),
        ({"deeprx.json": "[]"}, "deeprx.json is not an object"),
        ({"deeprx.json": json.dumps({"contract": "deeprx.model/3"})}, "found 'deeprx.model/3'"),
        ({"deeprx.json": json.dumps({"contract": "deeprx.model/2"})}, "deeprx.json lacks 'name'"),
        (
            {"deeprx.json": json.dumps({"contract": "deeprx.model/1"})},
            "expected 'deeprx.model/2': `./dev train convert FILE.pt` converts the file",
        ),
    ],
)
def test_info_refuses_other_contracts(tmp_path, capsys, extra, says):
    path = tmp_path / "x.pt"
    torch.jit.save(torch.jit.script(LeastSquares()), path, _extra_files=extra)
    assert main(["info", str(path)]) == 2
    text = capsys.readouterr().err
    assert says in text
    assert text.count("\n") == 1
