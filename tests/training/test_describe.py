# SPDX-License-Identifier: GPL-3.0-or-later
"""What model files say of themselves can be rewritten; what they compute stays as it is."""

import json
import shutil
import struct
import tomllib
import zipfile
from pathlib import Path

import pytest
import torch

from deeprx_common.examples import received_slots
from deeprx_common.slot import SlotConfig
from deeprx_training import cli
from deeprx_training.data.conditions import Conditions
from deeprx_training.export.describe import (
    MEASURED,
    content_sha256,
    describe,
    read,
    rewrite,
    shown_slots,
    trained_on,
)
from deeprx_training.files import TrainingError

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "models").glob("*.pt"))
SMALL = ROOT / "models" / "deeprx-pusch-small.pt"


def records(path):
    """Each record's bytes, and how far behind a multiple of 64 they are in the file."""
    data = Path(path).read_bytes()

    def place(record):
        name, extra = struct.unpack_from("<HH", data, record.header_offset + 26)
        return (record.header_offset + 30 + name + extra) % 64

    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {i.filename: (archive.read(i), place(i)) for i in archive.infolist()}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_files_say_what_they_were_trained_on(path):
    """In the terms of the recipe that they carry."""
    metadata = read(path)
    if metadata["kind"] == "baseline":
        assert metadata["trained"] is None
        return
    data = tomllib.loads(metadata["training"]["recipe"])["data"]
    if metadata["name"].startswith("deeprx-pusch"):
        assert metadata["trained"] == {
            "channels": ["TDL-B", "TDL-C", "TDL-D", "CDL-B", "CDL-C", "CDL-D"],
            "delay_spread_s": [1e-8, 1e-6],
            "doppler_hz": [0.0, 900.0],
            "snr_db": [-6.0, 32.0],
            "sir_db": [-3.0, 24.0],
            "modulations": ["QPSK", "16QAM", "64QAM", "256QAM"],
            "dmrs_symbols": [1, 2, 3, 4],
            "n_rx": [1, 2, 3, 4],
        }
        assert metadata["scs_khz"] == [15, 30, 60] and len(metadata["dmrs"]) == len(data["dmrs"])
        return
    assert metadata["trained"] == {
        "channels": ["TDL-B", "TDL-C", "TDL-D", "CDL-B", "CDL-C", "CDL-D"],
        "delay_spread_s": [1e-8, 3e-7],
        "doppler_hz": [0.0, 500.0],
        "snr_db": [-4.0, 32.0],
        "sir_db": [0.0, 36.0],
        "modulations": ["QPSK", "16QAM", "64QAM", "256QAM"],
        "dmrs_symbols": [1, 2],
        "n_rx": [2],
    }
    assert data["interferer"] > 0 and set(data["dmrs"]) == {"2", "2,11"}
    assert "scs_khz" not in data and metadata["scs_khz"] == [15]


def test_ranges_are_those_of_the_conditions():
    ranges = trained_on(
        Conditions(n_rx=4, doppler_hz=(5.0, 6.0), modulations={"64QAM": 1.0, "QPSK": 0.0})
    )
    assert ranges["sir_db"] is None and ranges["n_rx"] == [4] and ranges["dmrs_symbols"] == [2]
    assert ranges["doppler_hz"] == [5.0, 6.0] and ranges["modulations"] == ["64QAM"]


def test_snrs_are_those_of_the_modulations_that_are_drawn():
    of = {"QPSK": (-8.0, 4.0), "64QAM": (8.0, 40.0), "256QAM": (20.0, 50.0)}
    drawn = {"QPSK": 1.0, "64QAM": 1.0, "256QAM": 0.0}
    c = Conditions(modulations=drawn, snr_db=(-9.0, 45.0), snr_db_of=of)
    assert trained_on(c)["snr_db"] == [-8.0, 40.0]
    c = Conditions(modulations=drawn | {"16QAM": 1.0}, snr_db=(-9.0, 45.0), snr_db_of=of)
    assert trained_on(c)["snr_db"] == [-9.0, 45.0]


def test_lengths_between_those_drawn_are_taken():
    c = Conditions(n_symbols={14: 1.0, 12: 1.0, 11: 0.0}, dmrs={(2, 9): 1.0, (2, 11): 1.0})
    shown = {(slot.n_symbols, slot.dmrs) for slot in shown_slots(c)}
    assert shown == {(14, (2, 11)), (13, (2, 11)), (12, (2, 9))}


def test_only_the_json_changes(tmp_path, capsys):
    path = shutil.copy(SMALL, tmp_path / "m.pt")
    before, content = records(path), content_sha256(path)
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].partition("/")[0]
    assert cli.main(["describe", str(path)]) == 0
    assert "m.pt: deeprx-pusch-small, trained on TDL-B, " in capsys.readouterr().out
    after = records(path)
    record = f"{folder}/extra/deeprx.json"
    assert before.keys() == after.keys() and content_sha256(path) == content
    assert abs(Path(path).stat().st_size - SMALL.stat().st_size) < 1000  # LibTorch compresses code
    assert all(after[n][0] == data for n, (data, _) in before.items() if n != record)
    assert {place for _, place in after.values()} == {0}  # LibTorch maps aligned records
    extra = {"deeprx.json": ""}
    y, p, d = map(torch.from_numpy, received_slots(SlotConfig(n_prb=6), 2, 1))
    llr = [torch.jit.load(f, _extra_files=extra)(y, p, d, [4]) for f in (path, SMALL)]
    assert torch.equal(*llr) and json.loads(extra["deeprx.json"]) == read(SMALL)


def test_other_weights_are_another_content(tmp_path):
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(SMALL) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data[:-1] + b"?" if name.endswith("/data/3") else data)
    assert content_sha256(path) != content_sha256(SMALL)


def results(folder, path, **points):
    name = read(path)["name"]
    for file, point in points.items():
        tables = {"t": {"points": [{"receiver": name} | point, {"receiver": "other"}]}}
        results = {"models": {name: content_sha256(path)}, "tables": tables}
        (folder / f"{file}.json").write_text(json.dumps(results))


def test_results_go_into_the_file_that_they_are_of(tmp_path):
    path = shutil.copy(SMALL, tmp_path / "m.pt")
    limit = {"condition": "c", "errors_over_classical": 1.5, "ci95": [1.4, 1.6], "classical": "b"}
    rate = dict(read(path)["ber"][0], seed=5)
    assert rate.keys() == MEASURED.keys()
    results(tmp_path, path, ber=rate | {"more": 1}, limits=limit | {"slots": 3})
    assert describe(path, tmp_path) == read(path)
    assert read(path)["ber"] == [rate] and read(path)["limits"] == [limit]
    other = shutil.copy(ROOT / "models" / "deeprx-pusch.pt", tmp_path / "deeprx-pusch.pt")
    good = Path(other).read_bytes()
    with pytest.raises(TrainingError, match=r"ber\.json: measured of another deeprx-pusch"):
        describe(other, tmp_path)
    assert Path(other).read_bytes() == good
    for text, says in (("[1]", "what ./dev results writes"), ("ber", "expected JSON")):
        (tmp_path / "ber.json").write_text(text)
        with pytest.raises(TrainingError, match=rf"ber\.json: .*{says}"):
            describe(path, tmp_path)


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"training": ["recipe"]}, "'training' must be a dictionary"),
        ({"training": None}, "'training' must be a dictionary"),
        ({"training": {"recipe": 4}}, "expected a recipe's text, found a int"),
        ({"training": {"recipe": "= 4"}}, "Invalid statement"),
        ({"training": {"recipe": "[data]\nsnr_db = 4"}}, "snr_db"),
        ({"training": {"recipe": "data = 4"}}, "expected a table"),
        ({"name": []}, "'name' must be"),
        ({"dmrs": 2}, "'dmrs' must be"),
    ],
)
def test_what_a_file_says_of_itself_may_be_anything(tmp_path, capsys, about, says):
    path = shutil.copy(SMALL, tmp_path / "m.pt")
    rewrite(path, read(path) | about)
    before = path.read_bytes()
    assert cli.main(["describe", str(path)]) == 2
    error = capsys.readouterr().err
    assert f"{path}: " in error and says in error and error.count("\n") == 1
    assert "--debug" not in error and path.read_bytes() == before


@pytest.mark.parametrize("data", [b"no archive", None])
def test_what_is_no_model_file_gets_one_line(tmp_path, capsys, data):
    path = tmp_path / "m.pt"
    if data is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("m/version", "3")
    else:
        path.write_bytes(data)
    assert cli.main(["describe", str(path)]) == 2
    error = capsys.readouterr().err
    assert "m.pt: is not a TorchScript archive" in error and error.count("\n") == 1
