# SPDX-License-Identifier: GPL-3.0-or-later
"""Sweeps as their users run them: stopped, resumed on a cluster, with a trial that fails; and what
plot makes of their table.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch

from deeprx_training.cli import main
from deeprx_training.evaluation import figures as plots
from deeprx_training.experiments import sweep_file

ROOT = Path(__file__).parents[2]
RECIPE = """
steps = 3
batch = 4
chunk = 2
warmup = 2
[[members]]
name = "tiny"
net = { net = "HybridRx", channels = 4, dilations = [[1, 1]] }
[data]
channels = ["TDL-B"]
n_prb = 6
"""
EXAMINATION = """
[validation]
sinr_db = [6, 12]
slots = 4
"""
SWEEP = """
recipe = "r.toml"
[teachers.good]
recipe = "r.toml"
"members.tiny.net.channels" = 8
[teachers.bad]
recipe = "r.toml"
lr = 1e30
[[grid]]
steps = [300]
[[grid]]
teacher = ["good", "bad"]
"members.*.loss" = [{ bce = 0.3, kl = 0.7 }]
"members.tiny.temperature" = [2.0]
[evaluation]
sinr_db = [6, 12]
slots = 4
"""


def write(folder, sweep=SWEEP + EXAMINATION, recipe=RECIPE):
    (folder / "r.toml").write_text(recipe)
    (folder / "s.toml").write_text(sweep)
    return folder / "s.toml"


def names(path, out="out"):
    return [t.name for t in sweep_file.load(path, out).trials]


# The sweep file


def test_grids_expand_to_recipes_that_run_by_themselves(tmp_path):
    """Values land at their dotted paths, teachers come first, equal trials are one."""
    text = """
recipe = "r.toml"
[[grid]]
seed = [1, 2]
data.snr_db = [[0.0, 10.0]]
"members.*.net.channels" = [4, 8]
[[grid]]
seed = [1]
"data.snr_db" = [[0.0, 10.0]]
members.tiny.net.channels = [4]
"""
    found = sweep_file.load(write(tmp_path, text), "out")
    assert len(found.trials) == 4 and (found.n_prb, found.n_rx) == (6, 2)
    assert all(len(t.name) < 130 for t in found.trials)
    recipe = found.trials[-1].recipe
    for line in ("seed = 2", "channels = 8", "snr_db = ["):
        assert line in recipe
    taught = sweep_file.load(write(tmp_path), "out").trials
    assert [t.is_teacher for t in taught] == ["good", "bad", "", "", ""]
    student = next(t for t in taught if t.taught_by == "good")
    assert student.teacher == taught[0].name
    assert f"out/trials/{taught[0].name}/last.ckpt:tiny" in student.recipe


def test_a_trial_is_known_by_what_it_trains(tmp_path):
    """Another base recipe or other weights of the teacher: other trials. A longer list: the same
    and more.
    """
    taught = SWEEP.replace('teacher = ["good", "bad"]', f'teacher = ["{tmp_path}/t.ckpt"]')
    taught = "\n".join(line for line in taught.splitlines() if "teachers" not in line)
    taught = taught.replace('recipe = "r.toml"\n"members', '"x').replace("lr = 1e30\n", "")
    taught = taught[: taught.index('"x')] + taught[taught.index("[[grid]]") :]
    (tmp_path / "t.ckpt").write_bytes(b"weights")
    first = names(write(tmp_path, taught))
    longer = names(write(tmp_path, taught.replace("[300]", "[300, 500]")))
    assert set(first) < set(longer)
    (tmp_path / "t.ckpt").write_bytes(b"other weights")
    retrained = names(write(tmp_path, taught))
    assert len(set(first) & set(retrained)) == 1  # the one without a teacher
    changed = names(write(tmp_path, taught, RECIPE.replace("batch = 4", "batch = 5")))
    assert not set(retrained[1:]) & set(changed[1:])


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda t: t.replace("[[grid]]\nsteps", "[[gird]]\nsteps"), "unknown key 'gird'"),
        (lambda t: t.replace("steps = [300]", "stpes = [300]"), "trial stpes=300: unknown key"),
        (lambda t: t.replace("steps = [300]", "steps = 300"), "steps: expected a list of values"),
        (lambda t: t.replace("steps = [300]", "steps = []"), "steps: expected a list of values"),
        (lambda t: t.replace("steps = [300]", '"members.tiny.net.x" = [1]'), "unknown key 'x'"),
        (lambda t: t.replace('"members.*.loss"', '"members.big.loss"'), "members are tiny"),
        (lambda t: t.replace("kl = 0.7", "lk = 0.7"), "or hint, found 'lk'"),
        (lambda t: t.replace('"bad"]', '"gone.ckpt"]'), "teacher 'gone.ckpt' is neither"),
        (lambda t: t.replace('["good", "bad"]', '["good"]'), "no trial learns from [teachers.bad]"),
        (lambda t: t.replace("slots = 4", "slots = 1"), "slots: expected at least 2"),
        (lambda t: t.replace("slots", "slot"), "unknown key 'slot'"),
        (lambda t: t.replace("sinr_db = [6, 12]", "sinr_db = [6]"), "two dB values or more"),
        (lambda t: t + 'domains = ["space"]', "frequency or time, found ['space']"),
        (lambda t: t.replace('"r.toml"', '"no.toml"', 1), "no.toml: cannot read the recipe"),
        (lambda t: t.replace("recipe =", "recipe", 1), "not a TOML file"),
        (lambda t: 'recipe = "r.toml"\n[[grid]]\n', "the grid is empty"),
        (lambda t: 'recipe = "r.toml"\ngrid = 3\n', "grid: expected tables [[grid]]"),
        (lambda t: 'recipe = "r.toml"\n', "the grid is empty"),
    ],
)
def test_bad_sweep_files_get_one_line(tmp_path, capsys, edit, says):
    path = write(tmp_path, edit(SWEEP + EXAMINATION))
    assert main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert says in message and message.count("\n") == 1, message
    assert not (tmp_path / "out").exists()


def test_bad_options_get_one_line(tmp_path, capsys):
    path = write(tmp_path)
    for options, says in [
        (["--out", str(tmp_path / "out"), "--address", "127.0.0.1:9"], "no Ray cluster"),
        (["--out", str(tmp_path / "out"), "--address", "somewhere"], "expected HOST:PORT"),
        (["--out", str(tmp_path / "out"), "--cpus", "0"], "--cpus: expected at least 1"),
        (["--out", str(tmp_path / "out"), "--gpus", "2"], "--gpus: expected a share"),
        (["--out", str(path)], "s.toml"),
    ]:
        assert main(["sweep", str(path), *options]) == 2, options
        message = capsys.readouterr().err
        assert says in message and message.count("\n") == 1, message
    for table, says in [("nowhere", "not there"), (str(path), "expected a sweep's results")]:
        assert main(["plot", table]) == 2
        message = capsys.readouterr().err
        assert says in message and message.count("\n") == 1, message


def test_shipped_sweeps_are_valid_and_name_their_command(monkeypatch):
    monkeypatch.chdir(ROOT)
    for path in Path("training/sweeps").glob("*.toml"):
        assert path.read_text().startswith(f"# ./dev train sweep {path} --")
        assert sweep_file.load(path, "runs/sweeps/x").trials


# A sweep on Ray


def listening(root_pid):
    """Local addresses, as /proc/net writes them, that a process and its descendants listen on."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family = {root_pid}
    while more := {p for p, parent in parents.items() if parent in family} - family:
        family |= more
    sockets = set()
    for pid in family:
        for fd in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(os.readlink(fd))
            except OSError:
                continue
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_a_sweep_stops_resumes_and_reports_what_failed(tmp_path, capsys):
    """Ctrl-C saves the half-trained trial; the next run repeats no finished one, resumes that one
    and reports the two that cannot succeed; without those the sweep is whole. The first run is on
    a cluster's address, the second on this machine alone; neither listens beyond loopback.
    """
    from deeprx_training.experiments.sweep import cluster

    path, out = write(tmp_path), tmp_path / "out"
    trials = {t.name: t for t in sweep_file.load(path, out).trials}
    long = out / "trials" / next(n for n in trials if n.startswith("steps=300"))
    taught = out / "trials" / next(n for n, t in trials.items() if t.taught_by == "good")
    # one trial at a time: importing torch is most of the work here
    options = ["--out", str(out), "--cpus", str(len(os.sched_getaffinity(0)))]

    with cluster(None) as ray:
        address = ray.get_runtime_context().gcs_address
        command = [sys.executable, "-m", "deeprx_training.cli", "sweep", path, *options]
        process = subprocess.Popen(
            [*command, "--address", address],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        deadline = time.time() + 300
        while not ((long / "log.jsonl").exists() and any(out.glob("trials/*/result.parquet"))):
            assert process.poll() is None and time.time() < deadline, process.communicate()[0]
            time.sleep(0.1)
        addresses = listening(os.getpid())
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "goes on from there" in text and "Traceback" not in text
    assert addresses and addresses <= LOOPBACK
    stopped_at = torch.load(long / "last.ckpt", weights_only=True)["step"]
    assert 0 < stopped_at < 300 and not (long / "result.parquet").exists()
    finished = {p: p.stat().st_mtime_ns for p in out.glob("trials/*/result.parquet")}

    assert main(["sweep", str(path), *options]) == 1
    text, error = capsys.readouterr()
    assert "the loss of tiny is not finite" in text and "its teacher failed: teacher=bad" in text
    assert "2 of 5 trials failed" in error and error.count("\n") == 1
    assert len(list(out.glob("trials/*/failed.txt"))) == 2
    assert all(p.stat().st_mtime_ns == t for p, t in finished.items())
    steps = [json.loads(line)["step"] for line in (long / "log.jsonl").read_text().splitlines()]
    assert steps == [100, 200, 300]
    assert "teacher=good" in (taught / "recipe.toml").read_text()

    healthy = SWEEP.replace('[teachers.bad]\nrecipe = "r.toml"\nlr = 1e30\n', "")
    write(tmp_path, healthy.replace(', "bad"]', "]") + EXAMINATION)
    assert main(["sweep", str(path), *options]) == 0  # all is finished
    assert "3 of 3 trials" in capsys.readouterr().out
    table = pa.parquet.read_table(out / "results.parquet")
    assert pa.csv.read_csv(out / "results.csv").num_rows == table.num_rows
    rows = table.to_pylist()
    key = [(r["trial"], r["receiver"], r["set"], r["domain"], r["sinr_db"]) for r in rows]
    assert len(set(key)) == len(key)
    kinds = {(r["kind"], r["receiver"]) for r in rows}
    assert {("scratch", "tiny"), ("distilled", "tiny"), ("teacher", "good")} < kinds
    assert {("baseline", "LS-LMMSE"), ("baseline", "perfect CSI")} < kinds
    assert {r["set"] for r in rows} == {"validation", "evaluation"}
    for r in rows:
        assert sum(r["errors"]) == r["bit_errors"] and r["ber_low"] <= r["ber"] <= r["ber_high"]
        if r["kind"] != "baseline":
            assert min(r["params"], r["train_s"], r["train_flop"], r["train_j_modelled"]) > 0
            assert (r["train_j"] is None) == (r["train_j_kind"] is None)
        if r["kind"] == "distilled":
            assert (r["teacher"], r["temperature"], r["loss_kl"]) == ("good", 2.0, 0.7)
    assert main(["plot", str(out)]) == 0
    assert (out / "ber-validation-frequency-16QAM.png").stat().st_size > 1000


# What plot makes of a table


def row(kind, shift_db, sinr, seed=1, slots=60, **more):
    """Errors that fall by a decade in 5 dB and cross 1e-2 shift_db earlier; slots differ."""
    rng = np.random.default_rng(5)
    level = 10 ** (-2 - (sinr + shift_db - 14) / 5)
    errors = (100_000 * level * rng.exponential(size=slots)).astype(int)
    common = {
        "trial": f"{kind}-{seed}-{more}", "kind": kind, "receiver": "s", "set": "validation",
        "domain": "frequency", "modulation": "16QAM", "sinr_db": float(sinr), "slots": slots,
        "bits": slots * 100_000, "bit_errors": int(errors.sum()), "errors": errors.tolist(),
        "ber": 0.0, "ber_low": 0.0, "ber_high": 0.0, "net": '{"net": "N"}', "params": 1000,
        "flop_per_slot": 5, "seed": seed, "data_seed": seed, "kd_until": 1.0, "teacher": "",
        "temperature": None, "train_s": 1.0, "train_flop": 1.0, "recipe_sha256": "",
        **{f"loss_{k}": 0.0 for k in ("bce", "kl", "skew_kl", "mse", "hint")},
    }  # fmt: skip
    return common | more


SINR = (6, 9, 12, 15, 18, 21)


def curve(kind, shifts, **more):
    return [
        row(kind, shift, s, seed, **more)
        for seed, shift in enumerate(shifts, 1)
        for s in SINR
    ]  # fmt: skip


def test_gain_is_the_shift_between_the_curves():
    """One dB ahead is one dB of gain, over seeds and over slots; seeds are paired."""
    rows = curve("scratch", (0.0, 0.1, -0.1)) + curve("distilled", (1.0, 1.2, 0.8), teacher="t")
    some = plots.curves(rows)
    taught = next(c for c in some if c.facts["kind"] == "distilled")
    found = plots.gain(taught, plots.scratch_of(taught, some), 1e-2)
    assert found.seeds == 3 and found.mean == pytest.approx(1.0, abs=0.05)
    # Student's t with 2 degrees of freedom: 4.303 standard errors of 0.1 / sqrt(3)
    assert found.over_seeds[1] - found.over_seeds[0] == pytest.approx(2 * 0.248, abs=0.1)
    low, high = found.over_slots
    assert low < found.mean < high and high - low < 0.7  # unpaired: about 1.5
    never = plots.gain(taught, plots.scratch_of(taught, some), 1e-9)
    assert not np.isfinite(never.mean)


def test_what_was_measured_tells_no_curves_apart():
    """Also a column that is new; what a recipe or its [data] sets does."""
    rows = curve("scratch", (0.0, 0.1, -0.1))
    rows = [r | {"peak_memory_gib": k} for k, r in enumerate(rows)]
    assert [c.errors.shape[0] for c in plots.curves(rows)] == [3]
    for key in ("batch", "lr", "optimizer", "data.cfo_hz"):
        other = [r | {key: r["seed"]} for r in rows]
        assert len(plots.curves(other)) == 3, key


def test_only_the_same_student_on_the_same_data_is_the_counterpart():
    rows = curve("distilled", (1.0,), teacher="t") + curve("scratch", (0.0,), batch=2)
    rows = [{"batch": 1} | r for r in rows]
    some = plots.curves(rows)
    assert plots.scratch_of(some[0], some) is None
    some = plots.curves([{"batch": 1} | r for r in curve("scratch", (0.0,))] + rows)
    taught = next(c for c in some if c.facts["kind"] == "distilled")
    assert plots.scratch_of(taught, some).facts["batch"] == 1


def test_curves_are_compared_on_the_seeds_that_all_have():
    rows = curve("distilled", (0.0, 1.0, 2.0), teacher="small")
    rows += [r for r in curve("distilled", (0.0, 1.0), teacher="large") if r["seed"] == 2]
    some = plots.curves(rows)
    cut = plots._same_seeds(some)
    assert [len(c.errors) for c in some] == [3, 1] and [len(c.errors) for c in cut] == [1, 1]
    assert cut[0].crossing(1e-2, 1)[0] == pytest.approx(cut[1].crossing(1e-2, 1)[0])


def test_block_error_rates_of_a_study_are_tabulated(tmp_path):
    rows = curve("scratch", (0.0,))
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "results.parquet")
    wrong = np.arange(100) < np.array([[100], [40], [0]])  # block error rates 1, 0.4 and < 0.04
    counted = {"block_errors 1/2 seed1/29k": wrong, "errors seed1/29k": wrong.astype(np.int32)}
    np.savez(tmp_path / "evaluation-frequency-coded.npz", sinr_db=[6, 9, 12], n_bits=1, **counted)
    plots.draw(tmp_path)
    table = (tmp_path / "tables.md").read_text().split("rate 1/2")[1].split("\n")
    cells = [c.strip() for c in table[-2].split("|")[1:-1]]
    assert cells[:2] == ["seed1/29k", "1 ± 2%"] and cells[2].startswith("0.4 ± ")
    # Clopper and Pearson, no error in 100: at most 1 - 0.025^(1/100) = 0.036; half an error counts
    # where the SINR is read: log 0.4/0.1 over log 0.4/0.005 of the way from 9 to 12 dB
    assert cells[3] == "< 0.04" and cells[4].startswith("9.95 [")


def test_settings_are_chosen_on_validation_whatever_evaluation_says(tmp_path):
    rows = []
    for params, net in ((1000, '{"net": "A"}'), (4000, '{"net": "B"}')):
        student = {"params": params, "net": net, "flop_per_slot": params}
        rows += curve("scratch", (0.0, 0.1), **student)
        for teacher, temperature in (("small", 2.0), ("large", 1.0), ("large", 2.0)):
            ahead = 1.0 if (teacher, temperature) == ("large", 2.0) else 0.5
            taught = {"teacher": teacher, "temperature": temperature, "loss_kl": 1.0}
            rows += curve("distilled", (ahead,), **student, **taught)
            rows += curve("distilled", (2.0 - ahead,), set="evaluation", **student, **taught)
        rows += curve("scratch", (0.0, 0.1), set="evaluation", **student)
    for name, size in (("small", 9000), ("large", 90000)):
        teacher = {"receiver": name, "params": size, "net": name}
        for which in ("validation", "evaluation"):
            rows += curve("teacher", (2.0,), set=which, **teacher)
    evaluation = plots.curves([r for r in rows if r["set"] == "evaluation"], plots._scores(rows))
    taught = [c for c in evaluation if c.facts["kind"] == "distilled"]
    best = plots._best(taught, lambda c: c.facts["params"])
    assert [(c.facts["teacher"], c.facts["temperature"]) for c in best.values()] == [
        ("large", 2.0)
    ] * 2
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "results.parquet")
    written = {p.name for p in plots.draw(tmp_path)}
    kinds = ("ber", "flop", "teacher", "distilling")
    sets = ("validation", "evaluation")
    assert written == {f"{k}-{s}-frequency-16QAM.png" for k in kinds for s in sets} | {"tables.md"}
    tables = (tmp_path / "tables.md").read_text()
    # 6 distilled curves a set: their BER, against scratch in per cent, and in dB
    assert tables.count("| distilled, ") == 36 and "teacher large, T 2" in tables
