# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing that was measured is lost: to a kill, a pipe that closes, a disk that is full."""

import csv
import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gnuradio.deeprx.cli import COMMANDS, main, results
from gnuradio.deeprx.recording.gnb_dump import import_gnb
from killed import kill_when_there, killed_with
from qa_monitor import publishing
from telemetry_reports import free_port

from deeprx_common import report
from deeprx_common.files import write_arrays

DEEPRX = [sys.executable, "-m", "gnuradio.deeprx"]
NAMED = ["--receiver", "baseline-lmmse", "--receiver", "baseline-sure", "--meter", "none"]
LOOPBACK = [
    *DEEPRX, "loopback", "--receiver", "baseline-lmmse", "--n-prb", "6", "--modulation", "QPSK",
    "--n-rx", "1", "--meter", "none", "--slots", "50",
]  # fmt: skip


def test_loopback_killed_leaves_its_finished_points(tmp_path):
    command = [*LOOPBACK, "--sinr", "0:90:0.25", "--out", str(tmp_path)]
    kept = killed_with(tmp_path / "report.json", command)
    report.validate(kept)
    assert 1 <= len(kept["points"]) < 100
    assert [p["sinr_db"] for p in kept["points"]] == [0.25 * k for k in range(len(kept["points"]))]


def test_energy_killed_leaves_its_finished_rounds(tmp_path):
    command = [
        *DEEPRX, "energy", "--receiver", "baseline-lmmse", "--n-prb", "6", "--meter", "none",
        "--rounds", "1000", "--window", "0.05", "--out", str(tmp_path),
    ]  # fmt: skip
    kept = killed_with(tmp_path / "report.json", command)
    report.validate(kept)
    assert [p["receiver"] for p in kept["points"]] == ["baseline-lmmse"]


def test_calibration_killed_leaves_its_finished_benchmarks(tmp_path):
    command = [
        *DEEPRX, "energy", "--calibrate", "60", "--receiver", "baseline-lmmse", "--n-prb", "6",
        "--meter", "none", "--out", str(tmp_path),
    ]  # fmt: skip
    kept = killed_with(tmp_path / "machine.json", command)
    assert kept["schema"] == "deeprx.profile/1" and kept["models"] == []
    assert 1 <= len(kept["benchmarks"]) < 5
    assert all(b["seconds"] > 0 and b["joules"] > 0 for b in kept["benchmarks"])


BENCH = {
    "bench": ("rows", ["--receiver", "baseline-sure", "--contender", "engine"]),
    "scale": ("points", []),
    "memory": ("samples", ["--slots", "1000000"]),
    "roofline": ("rows", []),
}


@pytest.mark.parametrize(
    "what", ["bench", "scale", "memory", pytest.param("roofline", marks=pytest.mark.slow)]
)
def test_bench_killed_leaves_what_is_finished(what, tmp_path):
    key, options = BENCH[what]
    command = [
        *DEEPRX, "bench", *([what] if what != "bench" else []), "--receiver", "baseline-lmmse",
        "--n-prb", "6", "--seconds", "0.4", *options, "--out", str(tmp_path),
    ]  # fmt: skip
    kept = killed_with(tmp_path / f"{what}.json", command)
    assert kept["complete"] is False and len(kept[key]) >= 1


def test_bler_killed_leaves_its_finished_links_and_goes_on(tmp_path):
    """Links of several MCS, each with what was counted of it."""
    command = [
        *DEEPRX, "bler", "--n-prb", "3", "--mcs", "7:9", "--errors", "10", "--receiver",
        "ls-lmmse", "--out", str(tmp_path),
    ]  # fmt: skip

    def links():
        with (tmp_path / "bler.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def counted():
        return {path: path.stat().st_mtime_ns for path in tmp_path.glob("counted/*/*.npz")}

    kill_when_there(tmp_path / "bler.csv", command)
    finished, points = links(), counted()
    assert 1 <= len(finished) < 3
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
    assert [link["mcs"] for link in links()] == ["7", "8", "9"]
    assert links()[: len(finished)] == finished
    assert counted().items() > points.items()  # nothing was counted again


def test_replay_killed_leaves_what_it_has_received(tmp_path):
    """In the midst of gigabytes of silence behind the slots."""
    path = tmp_path / "a.sigmf-meta"
    slots = ["--n-prb", "6", "--modulation", "QPSK", "--n-rx", "1", "--slots", "50"]
    assert main(["record", str(path), *slots]) == 0
    os.truncate(path.with_suffix(".sigmf-data"), 4 * 2**30)
    about = json.loads(path.read_text())
    about["global"].pop("core:sha512")
    path.write_text(json.dumps(about))
    command = [*DEEPRX, "replay", str(path), *NAMED, "--out", str(tmp_path)]
    kept = killed_with(tmp_path / "report.json", command)
    report.validate(kept)
    points = kept["points"]
    assert [p["receiver"] for p in points] == ["baseline-lmmse", "baseline-sure"]
    assert all(0 < p["slots"] <= 50 and p["bits"] > 0 for p in points)
    assert kept["recording"]["name"] == path.name
    assert [c["a"] for c in kept["comparisons"]] in (["baseline-lmmse"], ["baseline-sure"])


def test_replay_of_pusch_killed_leaves_what_it_has_received(tmp_path):
    golden = Path(__file__).with_name("golden")
    files = golden / "gnb_capture.bin", golden / "gnb_capture.log"
    path = import_gnb(*files, tmp_path / "a").paths[0]
    about = json.loads(path.read_text())
    known = [a for a in about["annotations"] if "deeprx:block" in a]
    about["annotations"] = [a for a in known for _ in range(1000)]
    path.write_text(json.dumps(about))
    command = [*DEEPRX, "replay", str(path), "--receiver", "gnb", "--out", str(tmp_path)]
    kept = killed_with(tmp_path / "report.json", command)
    report.validate(kept)
    assert len(known) < kept["pusch"][0]["pusch"] < 1000 * len(known)
    assert kept["pusch"][0]["bits"] > 0 and kept["recording"]["name"] == path.name


def test_radio_killed_leaves_what_it_has_received(tmp_path):
    command = [*DEEPRX, "radio", "--args", "driver=software", "--slots", "100000", *NAMED]
    kept = killed_with(tmp_path / "report.json", [*command, "--out", str(tmp_path)])
    report.validate(kept)
    assert len(kept["points"]) == 2
    assert all(0 < p["slots"] < 100_000 for p in kept["points"])
    assert kept["radio"]["samples"] > 0


def test_a_pipe_that_closes_leaves_the_finished_points(tmp_path):
    """As of `deeprx loopback ... | head -1`."""
    process = subprocess.Popen(
        [*LOOPBACK, "--sinr", "0:90:0.25", "--out", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert any(line.startswith("TDL-A 0 dB") for line in process.stdout)
    process.stdout.close()
    assert process.wait(30) == 141
    assert process.stderr.read() == ""
    assert len(report.read(tmp_path / "report.json")["points"]) >= 1


def test_a_table_that_nobody_reads_is_no_error():
    process = subprocess.Popen(
        [*DEEPRX, "info", "baseline-lmmse"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.wait(30) == 141
    assert process.stderr.read() == b""


def test_without_standard_output_files_hold_what_they_should(tmp_path):
    """Else the first file that is opened takes its number, and what blocks say."""
    ran = subprocess.run(
        ["sh", "-c", '"$@" >&- 2>&- <&-', "-", *LOOPBACK, "--sinr", "6,9", "--out", str(tmp_path)]
    )
    assert ran.returncode == 0
    assert len(report.read(tmp_path / "report.json")["points"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ber.png", "report.json"]


def test_a_full_disk_keeps_what_was_there_and_shows_the_rest(tmp_path):
    """Three pages: a report of two fits once, and not twice."""
    script = (
        'mount -t tmpfs -o size=12k none "$1" && shift && "$@"; status=$?; cat "$OUT"; exit $status'
    )
    ran = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "-", str(tmp_path),
         *LOOPBACK, "--sinr", "0:8:1", "--out", str(tmp_path)],
        capture_output=True, text=True, env=os.environ | {"OUT": str(tmp_path / "report.json")},
        timeout=120,
    )  # fmt: skip
    if "unshare" in ran.stderr or "mount:" in ran.stderr:
        pytest.skip(ran.stderr.strip())
    assert ran.returncode == 2
    assert ran.stderr == f"deeprx: error: {tmp_path}/report.json: No space left on device\n"
    table, _, text = ran.stdout.partition("\n{")
    kept = json.loads("{" + text)
    report.validate(kept)
    assert 1 <= len(kept["points"]) < 8
    shown = [line for line in table.splitlines() if "baseline-lmmse " in line and "e-" in line]
    assert len(shown) == len(kept["points"]) + 1  # and the point that found no room


SMALL = ["--n-prb", "6", "--n-rx", "1"]
TWO = ["--receiver", "ls-lmmse", "--receiver", "sure-lmmse", "--meter", "none"]
WRITING = {
    "loopback": ["loopback", *TWO, *SMALL, "--slots", "10", "--sinr", "6"],
    "demo": ["demo", "--meter", "none", "--n-prb", "6", "--slots", "10", "--sinr", "6"],
    "replay": ["replay", "RECORDING", *TWO],
    "replay-pusch": ["replay", "PUSCH", "--receiver", "gnb"],
    "radio": ["radio", "--args", "driver=software", *TWO, *SMALL, "--slots", "10"],
    "bler": ["bler", "--receiver", "ls-lmmse", *SMALL, "--mcs", "0", "--errors", "10"],
    "energy": ["energy", *TWO, *SMALL, "--rounds", "1", "--window", "0.02"],
    "bench": [
        "bench", "--receiver", "ls-lmmse", "--contender", "engine", *SMALL, "--seconds", "0.1",
    ],
    "record": ["record", "NEW", *SMALL, "--slots", "10"],
    "import-gnb": ["import-gnb", "DUMP", "LOG", "NEW"],
    "keys": ["keys", "NEW"],
    "info": ["info", "baseline-lmmse", "deeprx-pusch-small"],
    "doctor": ["doctor"],
    "monitor": ["monitor", "--connect", "SOURCE", "--once", "--json"],
}  # fmt: skip
SHOWING = ("info", "doctor", "monitor")  # have no files
BEFORE = ("bench",)  # says what it measures before it has: nothing is lost


def test_no_command_that_writes_is_left_out():
    """parity says one line of what another environment wrote."""
    assert {command[0] for command in WRITING.values()} == set(COMMANDS) - {"parity"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """What commands read, by what stands for it."""
    folder, golden = tmp_path_factory.mktemp("inputs"), Path(__file__).with_name("golden")
    dump, log = golden / "gnb_capture.bin", golden / "gnb_capture.log"
    assert main(["record", str(folder / "a"), *SMALL, "--slots", "10"]) == 0
    pusch = import_gnb(dump, log, folder / "pusch").paths[0]
    port = free_port()
    with publishing(port):
        yield {
            "RECORDING": folder / "a", "PUSCH": pusch, "DUMP": dump, "LOG": log,
            "SOURCE": f"tcp://127.0.0.1:{port}",
        }  # fmt: skip


@pytest.fixture
def writing(inputs, tmp_path, monkeypatch):
    """Runs one of WRITING here, with another standard output, and says what is in its folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "out"
    folder.mkdir()

    def run(name, stdout=None):
        command = [str((inputs | {"NEW": folder / "new"}).get(a, a)) for a in WRITING[name]]
        if not {"NEW", "SOURCE"}.intersection(WRITING[name]) and name not in SHOWING:
            command += ["--out", str(folder)]
        if stdout:
            monkeypatch.setattr(sys, "stdout", stdout)
        return main(command), sorted(p for p in tmp_path.rglob("*") if p.is_file())

    return run


def expect_whole(files):
    for path in files:
        assert not path.name.startswith(".")
        if path.suffix in (".json", ".sigmf-meta"):
            json.loads(path.read_text())
        assert path.suffix != ".sigmf-data" or path.with_suffix(".sigmf-meta") in files


@pytest.mark.parametrize("name", WRITING)
def test_a_full_standard_output_is_a_line_and_no_file_is_lost(name, writing, capfd):
    status, files = writing(name, open("/dev/full", "w"))  # noqa: SIM115
    assert status == 2
    assert capfd.readouterr().err == "deeprx: error: [Errno 28] No space left on device\n"
    expect_whole(files)
    assert bool(files) == (name not in (*SHOWING, *BEFORE))


@pytest.mark.parametrize("name", WRITING)
def test_a_standard_output_that_closes_is_no_error(name, writing, capfd):
    reader, writer = os.pipe()
    os.close(reader)
    status, files = writing(name, os.fdopen(writer, "w"))
    assert status == 141
    assert capfd.readouterr().err == ""
    expect_whole(files)
    assert bool(files) == (name not in (*SHOWING, *BEFORE))


@pytest.mark.parametrize("name", [name for name in WRITING if name not in SHOWING])
def test_a_full_disk_is_a_line_and_leaves_no_half_of_a_file(name, writing, capfd):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (250 if name == "keys" else 500, limits[1]))
    try:
        status, files = writing(name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("deeprx: error: ") and "File too large" in line
    expect_whole(files)


APPEND = """
import resource, sys
from gnuradio.deeprx.telemetry.report_log import ReportLog
from telemetry_reports import report_of

log = ReportLog(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    while True:
        log.append(report_of())
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_log_that_finds_no_room_holds_whole_lines(tmp_path, suffix):
    path = tmp_path / f"log.{suffix}"
    ran = subprocess.run(
        [sys.executable, "-c", APPEND, str(path)],
        capture_output=True, text=True, cwd=os.path.dirname(__file__), timeout=60,
    )  # fmt: skip
    assert ran.stdout.count("\n") == 1 and ran.stderr == ""
    text = path.read_text()
    assert text.endswith("\n") and text.count("\n") >= 2
    if suffix == "jsonl":
        for line in text.splitlines():
            report.validate(json.loads(line))
    else:
        assert len({line.count(",") for line in text.splitlines()}) == 1


def test_a_picture_that_finds_no_room_leaves_the_table(tmp_path, monkeypatch, capsys):
    def full(_points, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(results.report_view, "plot", full)
    assert main([*LOOPBACK[3:], "--sinr", "6", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.err == f"deeprx: error: {tmp_path}/ber.png: No space left on device\n"
    assert "6.0 baseline-lmmse " in said.out


def test_arrays_of_any_name_are_whole_or_not_there(tmp_path):
    arrays = {"file": np.arange(3), "args": np.array("x"), "a:b/c.npy": np.zeros((2, 2))}
    write_arrays(arrays, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as stored:
        assert stored.files == list(arrays)
        assert all(np.array_equal(stored[name], arrays[name]) for name in arrays)
    script = (
        "import resource, numpy as np; from deeprx_common.files import write_arrays\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        f"try: write_arrays({{'a': np.arange(1000)}}, {str(tmp_path / 'b.npz')!r})\n"
        "except OSError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.stdout == f"[Errno 27] File too large: {str(tmp_path / 'b.npz')!r}\n"
    assert ran.stderr == ""  # of what zipfile does when it is forgotten
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
