# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx energy: receivers in turns, and what error rate their joules buy."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gnuradio.deeprx import Engine
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.models.file import read_model_file
from qa_profile import CpuTimeMeter
from receiver_models import ReadsFile, has_openvino, ir_of, save
from torch import nn

from deeprx_common import energy, report
from deeprx_common.slot import SlotConfig
from deeprx_common.stats import mean_ci95

FLOP = {"n_prb": 26, "n_rx": 2, "bits": 4, "matmul": 10**8, "other": 10**7}
BER = {
    "domain": "frequency", "channel": "TDL-A", "modulation": "16QAM", "dmrs": [2, 11],
    "sinr_db": 12.0, "ber": 0.02, "ber_ci95": [0.018, 0.022], "slots": 100, "clusters": 100,
    "seed": 1,
}  # fmt: skip


class Net(nn.Module):
    """Two convolutions, which may be in any precision."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(4, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, 4, 3, padding=1)

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        x = y.permute(0, 1, 4, 2, 3).flatten(1, 2).to(self.first.weight.dtype)
        return self.last(self.first(x).relu()).float().permute(0, 2, 3, 1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for name, channels, ber in (("small", 4, []), ("large", 24, [BER, {**BER, "sinr_db": 15.0}])):
        paths[name] = save(
            Net(channels), folder / f"{name}.pt", name=name, bits=4,
            modulations=["16QAM"], flop_per_slot=FLOP, ber=ber,
        )  # fmt: skip
    return paths


def run(models, out, *arguments, receivers=("small", "large")):
    given = [
        part for name in receivers for part in ("--receiver", models[name], "--trust", models[name])
    ]
    quick = ["--rounds", "2", "--window", "0.01", "--out", str(out)]
    assert main(["energy", *given, *quick, *map(str, arguments)]) == 0
    return report.read(out / "report.json")["points"]


def test_without_a_counter_all_joules_are_modelled(models, tmp_path, capsys):
    points = run(models, tmp_path)
    assert [p["receiver"] for p in points] == ["small", "large"]
    for p in points:
        joules = p["energy_per_slot_j"]
        assert joules["measured"] is joules["attributed"] is joules["net"] is None
        assert joules["modelled"] == pytest.approx(energy.CORE_W * p["cpu_s_per_slot"])
        assert joules["source"].startswith("none: ")
        assert p["energy_slots"] >= 2 * 2 * 2  # rounds, windows, slots of each
        assert 0 < p["inference_s_per_slot"]["p50"] <= p["inference_s_per_slot"]["p99"]
        assert 0 <= p["seconds_per_slot_ci95"][0] <= p["seconds_per_slot"]
    text = capsys.readouterr().out
    assert "modelled" in text and "measured" not in text.replace("was measured", "")


@pytest.mark.timing
def test_the_smaller_one_is_faster(models, tmp_path):
    small, large = run(models, tmp_path, "--rounds", 3, "--window", 0.1)
    assert small["cpu_s_per_slot"] < large["cpu_s_per_slot"]


def test_the_price_is_named_with_its_watts(models, tmp_path, capsys):
    for p in run(models, tmp_path, "--core-power", 7):
        joules = p["energy_per_slot_j"]
        assert joules["modelled"] == pytest.approx(7 * p["cpu_s_per_slot"])
        assert joules["model"] == "CPU time x 7 W a busy core, given"
    assert "CPU time x 7 W a busy core, given" in capsys.readouterr().out


def test_what_a_counter_counts_is_attributed(models, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(energy, "find_meter", lambda *_: CpuTimeMeter())
    points = run(models, tmp_path, "--window", 0.2, "--idle-power", 0)
    for p in points:
        joules = p["energy_per_slot_j"]
        assert joules["measured"] is None and joules["source"] == "fake"
        assert joules["attributed"] > 0 and joules["net"] == joules["attributed"]
        assert joules["ci95"][0] <= joules["attributed"] <= joules["ci95"][1]
        assert joules["modelled"] == pytest.approx(energy.CORE_W * p["cpu_s_per_slot"])
    assert "attributed" in capsys.readouterr().out


def test_interval_of_repeated_measurements():
    mean, (low, high) = mean_ci95([1.0, 2.0, 3.0])
    assert mean == 2.0
    half = 4.302653 / 3**0.5  # Student's t of 2 degrees of freedom
    assert (low, high) == (pytest.approx(2 - half), pytest.approx(2 + half))
    assert mean_ci95([5.0]) == (5.0, None)


def test_error_rates_come_from_the_model_files(models, tmp_path, capsys):
    small, large = run(models, tmp_path)
    assert small["ber"] is None and small["bits"] == 0
    assert large["ber"] == BER["ber"] and large["ber_ci95"] == BER["ber_ci95"]
    assert large["bits"] == 100 * SlotConfig().n_bits
    assert large["bit_errors"] == round(0.02 * large["bits"])
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert "no error rate at 12 dB of small" in capsys.readouterr().out


def counted(models, path, channels=("TDL-A",), slot=None):
    rates = report.new()
    for channel in channels:
        for k, name in enumerate(("small", "large")):
            rates["points"].append(
                report.point(
                    cluster_errors=[30 + k, 40], cluster_bits=[1000, 1000], inference_s=[],
                    snr_db=9.0, receiver=name, model_sha256=read_model_file(models[name]).sha256,
                    channel=channel, domain="time", modulation="16QAM", n_prb=26, n_rx=2,
                    dmrs=[2, 11], slots=2, missed_slots=0, slot=slot and slot.as_dict(),
                    energy_per_slot_j=energy.energy_per_slot(None),
                )
            )  # fmt: skip
    report.write(rates, path)
    return path


def test_error_rates_come_from_a_report(models, tmp_path):
    path = counted(models, tmp_path / "counted.json")
    points = run(models, tmp_path, "--report", path, "--sinr", 9)
    assert [p["bit_errors"] for p in points] == [70, 71]
    assert all(p["domain"] == "time" and p["slots"] == 2 for p in points)
    points = run(models, tmp_path, "--report", path, "--sinr", 10)
    assert [p["ber"] for p in points] == [None, None]


@pytest.mark.parametrize(
    ("slot", "options"),
    [
        (SlotConfig(n_prb=20), ["--n-prb", 20]),
        (SlotConfig(scs_khz=30), ["--scs-khz", 30]),
        (SlotConfig(cdm_groups=2), ["--slot", "slot.json"]),
    ],
)
def test_an_error_rate_is_of_the_slot_that_was_received(slot, options, tmp_path, monkeypatch):
    """As received: its code, identities and place in the carrier make no difference."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slot.json").write_text(json.dumps(slot.as_dict()))
    path = save(Net(4), tmp_path / "m.pt", name="small", bits=4, cdm_groups=[1, 2])
    models = {"small": path, "large": path}
    place = {"first_prb": 3, "carrier_prb": 40, "slot_number": None}
    same = replace(slot.with_user(mcs=14, rnti=7), **place)
    rates = counted(models, tmp_path / "counted.json", slot=same)

    def errors(*options):
        given = ["--report", rates, "--sinr", 9, *options]
        return run(models, tmp_path / "out", *given, receivers=["small"])[0]["bit_errors"]

    assert errors(*options) == 70
    assert errors() == 0  # nothing is known of the default slot


def test_a_report_of_several_channels_needs_one_named(models, tmp_path, capsys):
    path = str(counted(models, tmp_path / "counted.json", ["TDL-A", "TDL-E"]))
    given = [
        "energy",
        "--receiver",
        models["small"],
        "--trust",
        models["small"],
        "--report",
        path,
        "--sinr",
        "9",
    ]
    assert main([*given, "--out", str(tmp_path)]) == 2
    text = capsys.readouterr().err
    assert "found 2 (TDL-A, TDL-E): name a --ber-channel" in text and text.count("\n") == 1
    points = run(models, tmp_path, "--report", path, "--sinr", 9, "--ber-channel", "TDL-E")
    assert {p["channel"] for p in points} == {"TDL-E"}


def test_batches(models, tmp_path):
    points = run(models, tmp_path, "--batch", "1,3", receivers=["large"])
    assert [p["receiver"] for p in points] == ["large", "large, batch 3"]
    assert [p["batch"] for p in points] == [1, 3]
    assert all(p["energy_slots"] % p["batch"] == 0 for p in points)
    assert [p["ber"] for p in points] == [0.02, 0.02]


def test_engine_is_the_blocks(tmp_path, capsys):
    module = Net(4)
    path = save(module, tmp_path / "m.pt", ir_of(module), name="net", bits=4, modulations=["16QAM"])
    (auto,) = run({"net": path}, tmp_path, receivers=["net"])
    assert auto["engine"] == Engine(path, trust=[path]).description
    assert f"net: {auto['engine']}" in capsys.readouterr().out
    (asked,) = run({"net": path}, tmp_path, "--engine", "torchscript", receivers=["net"])
    assert asked["engine"].startswith("TorchScript ")
    if has_openvino():
        assert auto["engine"].startswith("OpenVINO ")


def test_two_files_of_one_name_are_told_apart(models, tmp_path):
    copy = tmp_path / "copy.pt"
    copy.write_bytes(Path(models["small"]).read_bytes())
    points = run({"a": models["small"], "b": str(copy)}, tmp_path, receivers=["a", "b"])
    assert [p["receiver"] for p in points] == [f"small ({f})" for f in (models["small"], copy)]


def test_ctrl_c_keeps_the_rounds_so_far(models, tmp_path, monkeypatch, capsys):
    run_round = energy.Comparison.run_round

    def interrupted(self):
        if len(self.rounds) == 2:
            raise KeyboardInterrupt
        run_round(self)

    monkeypatch.setattr(energy.Comparison, "run_round", interrupted)
    given = [
        "energy",
        "--receiver",
        models["small"],
        "--trust",
        models["small"],
        "--window",
        "0.01",
        "--out",
        str(tmp_path),
    ]
    assert main(given) == 130
    assert str(tmp_path / "report.json") in capsys.readouterr().err
    assert report.read(tmp_path / "report.json")["points"][0]["energy_slots"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rounds", "0"], "--rounds and --batch must be at least 1, got 0 and 1"),
        (["--batch", "0"], "--rounds and --batch must be at least 1, got 5 and 0"),
        (["--window", "0"], "--window must be above 0 s, got 0"),
        (["--engine", "openvino"], 'engine="openvino"'),
        (["--report", "nowhere.json"], "cannot read report nowhere.json"),
        (["--calibrate", "0"], "--calibrate must be above 0 s and at most 600, got 0"),
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--core-power", "-1"], "watts of a busy core must be above 0, got -1"),
        (["--meter", "sun"], "unknown meter 'sun'"),
        (["--receiver", "nowhere.pt"], "nowhere.pt: no such model file; those that ship: "),
        (["--n-rx", "5"], "n_rx"),
        (["--device", "tpu"], "device must be"),
        (["--receiver", "HOSTILE"], "hostile.pt': refused"),
        (["--modulation", "QPSK"], "the model takes [16QAM]"),
    ],
)
def test_mistakes_get_one_line(models, tmp_path, capfd, arguments, says):
    given = {"HOSTILE": save(ReadsFile(), tmp_path / "hostile.pt")}
    try:
        status = main(
            ["energy", "--receiver", models["small"], "--out", str(tmp_path / "out")]
            + [given.get(a, a) for a in arguments]
        )
    except SystemExit as stop:
        status = stop.code
    text = capfd.readouterr().err
    assert status == 2
    assert says in text and text.count("\n") == 1
    assert not (tmp_path / "out").exists()
