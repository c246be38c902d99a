# SPDX-License-Identifier: GPL-3.0-or-later
"""Experiments as their users run them: stopped, resumed on a cluster, with a group that fails."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch

from deeprx_training.cli import main
from deeprx_training.evaluation.evaluate import Evaluation
from deeprx_training.experiments import results, study_page
from deeprx_training.experiments.energy import measure_all
from deeprx_training.experiments.file import ExperimentError, load
from deeprx_training.experiments.group import Job, run_group
from deeprx_training.experiments.table import gather, is_finished
from deeprx_training.files import TrainingError
from deeprx_training.teaching.checkpoint import load_receiver

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
[[examination]]
set = "validation"
sinr_db = [6, 12]
slots = 4
"""
GRIDS = """
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
[[examination]]
set = "evaluation"
sinr_db = [6, 12]
slots = 4
"""


def write(folder, text=GRIDS + EXAMINATION, recipe=RECIPE):
    (folder / "r.toml").write_text(recipe)
    (folder / "s.toml").write_text(text)
    return folder / "s.toml"


def names(path):
    return [g.name for g in load(path, Path("out")).groups]


# The experiment file


def test_grids_expand_to_recipes_that_run_by_themselves(tmp_path):
    """Values land at their dotted paths, teachers come before students, equal points are one."""
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
    experiment = load(write(tmp_path, text + EXAMINATION), Path("out"))
    assert (experiment.n_prb, experiment.n_rx) == (6, 2)
    assert all(len(g.name) < 130 for g in experiment.groups)
    groups = [tomllib.loads(g.recipe) for g in experiment.groups]
    # what differs in members alone learns from the same slots in one process
    trained = [(g["seed"], [m["net"]["channels"] for m in g["members"]]) for g in groups]
    assert trained == [(1, [4, 8]), (2, [4, 8])]
    assert [m["name"] for m in groups[1]["members"]] == ["tiny-channels=4", "tiny-channels=8"]
    assert all(g["data"]["snr_db"] == [0.0, 10.0] for g in groups)
    groups = load(write(tmp_path), Path("out")).groups
    assert [g.label for g in groups] == ["", "good", "", "bad", ""]
    student = next(g for g in groups if g.teacher_label == "good")
    assert student.teacher == groups[1].name
    assert f"out/{groups[1].name}/last.ckpt:tiny" in student.recipe


def test_a_grid_names_members_by_what_it_sets_in_them(tmp_path):
    """Of two members one is changed: the other is trained once. A value that is not the same under
    one name is a mistake.
    """
    two = RECIPE.replace("[data]", '[[members]]\nname = "b"\nnet = { net = "HybridRx" }\n[data]')
    text = 'recipe = "r.toml"\n[[grid]]\n"members.tiny.temperature" = [1.0, 2.0]\n' + EXAMINATION
    (group,) = load(write(tmp_path, text, two), Path("out")).groups
    members = [m["name"] for m in tomllib.loads(group.recipe)["members"]]
    assert members == ["tiny-temperature=1.0", "b", "tiny-temperature=2.0"]
    more = '[[grid]]\n"members.tiny.net.channels" = [8]\n'
    more += '[[grid]]\n"members.tiny.net.channels" = [8]\n"members.b.net.channels" = [4]\n'
    (group,) = load(write(tmp_path, text + more, two), Path("out")).groups
    assert group.name.startswith("grid-") and len(tomllib.loads(group.recipe)["members"]) == 5


def test_a_group_is_known_by_what_it_trains(tmp_path):
    """Another base recipe or other weights of the teacher: other groups. A longer list: the same
    and more.
    """
    text = f'''
recipe = "r.toml"
[[grid]]
steps = [300]
[[grid]]
steps = [300]
teacher = ["{tmp_path}/t.ckpt"]
"members.*.loss" = [{{ kl = 1.0 }}]
'''
    (tmp_path / "t.ckpt").write_bytes(b"weights")
    first = names(write(tmp_path, text + EXAMINATION))
    longer = names(write(tmp_path, text.replace("[300]", "[300, 500]") + EXAMINATION))
    assert set(first) < set(longer)
    (tmp_path / "t.ckpt").write_bytes(b"other weights")
    retrained = names(write(tmp_path, text + EXAMINATION))
    assert len(set(first) & set(retrained)) == 1  # the one without a teacher
    changed = names(write(tmp_path, text + EXAMINATION, RECIPE.replace("batch = 4", "batch = 5")))
    both = set(retrained) & set(changed)
    assert [name.partition("=")[0] for name in both] == ["teacher"]  # which is not trained


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda t: t.replace("[[grid]]\nsteps", "[[gird]]\nsteps"), "unknown key 'gird'"),
        (lambda t: t.replace("steps = [300]", "stpes = [300]"), "grid stpes=300: unknown key"),
        (lambda t: t.replace("steps = [300]", "steps = 300"), "steps: expected a list of values"),
        (lambda t: t.replace("steps = [300]", "steps = []"), "steps: expected a list of values"),
        (lambda t: t.replace("steps = [300]", '"members.tiny.net.x" = [1]'), "unknown key 'x'"),
        (lambda t: t.replace('"members.*.loss"', '"members.big.loss"'), "members are tiny"),
        (lambda t: t.replace("kl = 0.7", "lk = 0.7"), "or 'symbols', found 'lk'"),
        (lambda t: t.replace('"bad"]', '"gone.ckpt"]'), "teacher 'gone.ckpt' is neither"),
        (lambda t: t.replace('["good", "bad"]', '["good"]'), "no group learns from [teachers.bad]"),
        (lambda t: t.replace("slots = 4", "slots = 1"), "slots: expected 2 or more, found 1"),
        (lambda t: t.replace("slots", "slot"), "unknown key 'slot'"),
        (lambda t: t.replace("sinr_db = [6, 12]", "sinr_db = [6]"), "a list of at least 2"),
        (lambda t: t.replace('"validation"', '"test"'), "or 'evaluation', found 'test'"),
        (lambda t: t + "groups = ['nobody']", "no group 'nobody'"),
        (lambda t: t + "mcs = 29", "mcs of table 1 must be 0 to 28, got 29"),
        (lambda t: t + "mcs = 13\nmcs_table = 4", "mcs_table: expected 3 or less, found 4"),
        (lambda t: t + '[[group]]\nname = "x"', "members is missing"),
        (
            lambda t: t + '[[group]]\nname = "x"\nmembers = [["huge", "kd"]]',
            "group x: expected one of",
        ),
        (lambda t: t + 'domains = ["space"]', "or 'time', found 'space'"),
        (lambda t: t.replace('"r.toml"', '"no.toml"', 1), "no.toml: cannot read the recipe"),
        (lambda t: t.replace("recipe =", "recipe", 1), "not a TOML file"),
        (lambda t: "deep = " + "[\n" * 10_000, ": nested too deeply"),
        (
            lambda t: "a" + ".a" * 20_000 + " = 1",
            ": expected lines of at most 500 characters, found",
        ),
        (lambda t: "a.a.a.a = 1\n" * 10_000, ": expected at most 65536 characters, found 120000"),
        (lambda t: 'recipe = "r.toml"\n[[grid]]\n' + EXAMINATION, "nothing to train"),
        (lambda t: 'recipe = "r.toml"\ngrid = 3\n' + EXAMINATION, "grid: expected a list"),
        (lambda t: 'recipe = "r.toml"\n[[grid]]\nseed = [1]', "examination is missing"),
        (lambda t: t + "[scale.big]\ngroups = ['x']", "expected one of the file's (big), found ''"),
    ],
)
def test_bad_files_get_one_line(tmp_path, capsys, edit, says):
    path = write(tmp_path, edit(GRIDS + EXAMINATION))
    assert main(["experiment", str(path), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert says in message and message.count("\n") == 1, message
    assert not (tmp_path / "out").exists()


def test_bad_options_get_one_line(tmp_path, capsys):
    path = write(tmp_path)
    for options, says in [
        (["--out", str(tmp_path / "out"), "--address", "127.0.0.1:9"], "no Ray cluster"),
        (["--out", str(tmp_path / "out"), "--address", "somewhere"], "expected HOST:PORT"),
        (["--out", str(path)], "s.toml"),
        (["--out", str(tmp_path / "out"), "--scale", "big"], "(none), found 'big'"),
        (
            ["--out", str(tmp_path / "out"), "--address", "127.0.0.1:9", "--minutes", "1"],
            "expected no --address",
        ),
    ]:
        assert main(["experiment", str(path), *options]) == 2, options
        message = capsys.readouterr().err
        assert says in message and message.count("\n") == 1, message
    for table, says in [("nowhere", "not there"), (str(path), "expected an experiment's results")]:
        assert main(["plot", table]) == 2
        message = capsys.readouterr().err
        assert says in message and message.count("\n") == 1, message


def test_shipped_experiments_are_valid_and_name_their_command(monkeypatch):
    monkeypatch.chdir(ROOT)
    files = set(Path("training/experiments").glob("*.toml"))
    files.remove(Path("training/experiments/conditions.toml"))  # train evaluate's
    assert files
    for path in files:
        assert path.read_text().startswith(f"# ./dev train experiment {path} --")
        for scale in tomllib.loads(path.read_text()).get("scale", [""]):
            assert load(path, Path("runs/x"), scale).groups


SCALES = """
[recipe]
seed = 5
[nets]
tiny = { net = "PaperInputRx", channels = 4 }
[settings]
scratch = {}
[[group]]
name = "a"
members = [["tiny", "scratch"]]
[[group]]
name = "b"
seed = 3
members = [["tiny", "scratch"]]
[scale.small]
groups = ["b", "a"]
slots = 8
steps = 5
seed = 4
lr = 2e-2
weight_decay = 1e-3
warmup = 1
chunk = 1
crop_prb = 6
data.n_prb = 6
[scale.lost]
groups = ["c"]
[scale.alone]
groups = ["a"]
[scale.alone.teachers.u]
steps = 7
[scale.wrong]
groups = ["a"]
stpes = 3
[[examination]]
set = "evaluation"
sinr_db = [6, 12]
"""


def test_a_scale_is_the_experiment_in_another_size(tmp_path):
    """Its groups in its order, slots of the examinations, and the recipe, which groups change."""
    path = write(tmp_path, SCALES)
    experiment = load(path, Path("out"), "small")
    assert [g.name for g in experiment.groups] == ["b", "a"] and experiment.n_prb == 6
    assert [e.slots for e in experiment.examinations] == [8]
    recipes = [tomllib.loads(g.recipe) for g in experiment.groups]
    assert [(r["seed"], r["steps"]) for r in recipes] == [(3, 5), (4, 5)]
    as_in_the_file = ["lr", "weight_decay", "warmup", "chunk", "crop_prb"]
    assert [k for k in recipes[0] if k in as_in_the_file] == as_in_the_file
    for scale, says in [
        ("lost", "scale lost: groups: no group 'c'"),
        ("alone", "scale alone: teachers: no teacher 'u'"),
        ("wrong", "'stpes'"),
    ]:
        with pytest.raises(ExperimentError, match=says):
            load(path, Path("out"), scale)


def test_a_scale_sizes_the_teachers_that_are_trained(tmp_path):
    teachers = '[teachers.large]\nrecipe = "r.toml"\nseed = 9\n'
    teachers += "[scale.small.teachers.large]\nsteps = 7\n"
    text = SCALES.replace("[scale.lost]", teachers + "[scale.lost]")
    text = text.replace("[scale.small]\n", '[scale.small]\nteacher = "large"\n')
    teacher, *_ = load(write(tmp_path, text), Path("out"), "small").groups
    recipe = tomllib.loads(teacher.recipe)
    assert teacher.label == "large" and (recipe["steps"], recipe["seed"]) == (7, 9)


MINE = """
from deeprx_training.receivers.nets import HybridRx
class Mine(HybridRx):
    def __init__(self):
        super().__init__(channels=4, dilations=((1, 1),))
"""


def test_files_and_modules_are_sought_from_where_they_are_named(tmp_path, monkeypatch):
    """A teacher beside the recipe that names it, a module beside the experiment."""
    for folder in ("recipes", "experiments", "away"):
        (tmp_path / folder).mkdir()
    (tmp_path / "recipes" / "t.ckpt").write_bytes(b"weights")
    (tmp_path / "recipes" / "r.toml").write_text('teacher = "t.ckpt"\n' + RECIPE)
    (tmp_path / "experiments" / "mine_of_an_experiment.py").write_text(MINE)
    file = tmp_path / "experiments" / "s.toml"
    grid = '[[grid]]\nteacher = [""]\n"members.tiny.net" = [{ net = "mine_of_an_experiment:Mine" }]'
    file.write_text(f'recipe = "../recipes/r.toml"\n[[grid]]\nseed = [1]\n{grid}\n{EXAMINATION}')
    monkeypatch.chdir(tmp_path / "away")
    experiment = load(file, Path("out"))
    assert experiment.groups[-1].reference == f"{tmp_path}/recipes/t.ckpt"
    group = next(g for g in experiment.groups if g.recipe and not g.teacher_label)
    (tmp_path / "away" / "out" / group.name).mkdir(parents=True)
    monkeypatch.setattr(sys, "path", list(sys.path))
    threads = torch.get_num_threads()
    run_group(Job(group, experiment, Path("out"), str(tmp_path / "away"), threads))
    rows = pa.parquet.read_table(Path("out") / group.name / "result.parquet").to_pylist()
    assert {r["slots"] for r in rows} == {4} and "scratch" in {r["kind"] for r in rows}


# An experiment on Ray


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
    addresses = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                addresses.add(fields[1].partition(":")[0])
    return addresses


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_grids_stop_resume_and_report_what_failed(tmp_path, capsys):
    """Ctrl-C saves the half-trained group; the next run repeats no finished one, resumes that one
    and reports the two that cannot succeed; without those the experiment is whole. The first run is
    on a cluster, which listens on loopback alone, the second in this process.
    """
    from deeprx_training.experiments.cluster import cluster

    first = "[[grid]]\nsteps = [300]\n"
    assert first in GRIDS
    grids = GRIDS.replace(first, "") + first  # last, when others are finished
    path, out = write(tmp_path, grids + EXAMINATION), tmp_path / "out"
    groups = {g.name: g for g in load(path, out).groups}
    long = out / next(n for n in groups if n.startswith("steps=300"))
    student = out / next(n for n, g in groups.items() if g.teacher_label == "good")
    # one group at a time: importing torch is most of the work here
    options = ["--out", str(out), "--cpus", str(len(os.sched_getaffinity(0)))]

    with cluster(None) as ray:
        address = ray.get_runtime_context().gcs_address
        command = [sys.executable, "-m", "deeprx_training.cli", "experiment", path, *options]
        process = subprocess.Popen(
            [*command, "--address", address],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        deadline = time.time() + 300
        while not ((long / "log.jsonl").exists() and any(out.glob("*/result.parquet"))):
            assert process.poll() is None and time.time() < deadline, process.communicate()[0]
            time.sleep(0.1)
        addresses = listening(os.getpid())
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "goes on from there" in text and "Traceback" not in text
    assert addresses and addresses <= LOOPBACK
    stopped_at = torch.load(long / "last.ckpt", weights_only=True)["step"]
    assert 0 < stopped_at < 300 and not (long / "result.parquet").exists()
    finished = {p: p.stat().st_mtime_ns for p in out.glob("*/result.parquet")}

    options = ["--out", str(out), "--minutes", "60"]
    assert main(["experiment", str(path), *options]) == 1
    error = capsys.readouterr().err
    assert "the loss of tiny is not finite" in error and "its teacher failed: teacher=bad" in error
    assert "2 of 5 groups failed" in error and "Traceback" not in error
    assert all(p.stat().st_mtime_ns == t for p, t in finished.items())
    steps = [json.loads(line)["step"] for line in (long / "log.jsonl").read_text().splitlines()]
    assert steps == [100, 200, 300]
    assert "teacher=good" in (student / "recipe.toml").read_text()

    healthy = grids.replace('[teachers.bad]\nrecipe = "r.toml"\nlr = 1e30\n', "")
    write(tmp_path, healthy.replace(', "bad"]', "]") + EXAMINATION)
    assert main(["experiment", str(path), *options]) == 0  # all is finished
    assert "3 of 3 groups" in capsys.readouterr().out
    table = pa.parquet.read_table(out / "results.parquet")
    assert pa.csv.read_csv(out / "results.csv").num_rows == table.num_rows
    rows = table.to_pylist()
    key = [(r["group"], r["receiver"], r["set"], r["domain"], r["sinr_db"]) for r in rows]
    assert len(set(key)) == len(key)
    kinds = {(r["kind"], r["receiver"]) for r in rows}
    name = "tiny-loss=bce0.3+kl0.7-temperature=2.0"
    assert {("scratch", "tiny"), ("distilled", name), ("teacher", "good")} < kinds
    assert {("baseline", "ls-lmmse"), ("baseline", "perfect CSI")} < kinds
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


@pytest.mark.slow
def test_a_group_that_fails_on_ray_and_its_student_say_so(tmp_path, capsys):
    path = write(tmp_path, GRIDS.replace("[300]", "[2]") + EXAMINATION)
    assert main(["experiment", str(path), "--out", str(tmp_path / "out")]) == 1
    text, error = capsys.readouterr()
    assert "the loss of tiny is not finite" in text and "its teacher failed: teacher=bad" in text
    assert "2 of 5 groups failed" in error and error.count("\n") == 1
    assert len(list(tmp_path.glob("out/*/failed.txt"))) == 2


NAMED = """
[recipe]
steps = 3
batch = 2
chunk = 2
distinct = 4
data_seed = 1
warmup = 2
teacher = "{teacher}"
[recipe.data]
channels = ["TDL-B"]
n_prb = 6
[nets]
tiny = {{ net = "HybridRx", channels = 4, dilations = [[1, 1]] }}
[settings]
scratch = {{}}
T4 = {{ loss = {{ kl = 1.0 }}, temperature = 4.0 }}
[[group]]
name = "seed1"
members = [["tiny", "scratch"], ["tiny", "T4"]]
[[group]]
name = "lost"
lr = 1e30
members = [["tiny", "T4"]]
[[examination]]
set = "evaluation"
domains = ["time"]
sinr_db = [9, 15]
slots = 4
[[examination]]
set = "evaluation"
sinr_db = [9, 12]
slots = 4
groups = ["seed1"]
mcs = 13
"""
TEACHER = """
steps = 1
batch = 2
[[members]]
name = "teacher"
net = { net = "HybridRx", channels = 4, dilations = [[1, 1]] }
[data]
channels = ["TDL-B"]
n_prb = 6
"""


def test_named_groups_share_slots_and_teacher(tmp_path, capfd):
    """The members of a group ask the teacher about a slot once; groups share a cache; one that
    fails stops no other.
    """
    (tmp_path / "t.toml").write_text(TEACHER)
    main([str(tmp_path / "t.toml"), "--out", str(tmp_path / "t"), "--device", "cpu"])
    file, out = tmp_path / "s.toml", tmp_path / "out"
    teacher = f"{tmp_path}/t/last.ckpt"
    file.write_text(NAMED.format(teacher=teacher))
    command = ["experiment", str(file), "--cache", str(tmp_path / "c"), "--out", str(out)]
    command += ["--gpus", "0", "--minutes", "60"]  # in this process, one after another
    assert main(command) == 1
    output = capfd.readouterr()
    assert "failed lost: " in output.err and "is not finite" in output.err
    assert "1 of 3 groups failed" in output.err
    record = json.loads((out / "seed1" / "run.json").read_text())
    assert record["step"] == 3 and record["slots"] == 6
    assert record["phases"]["teacher"]["slots"] + record["cached_llr_slots"] == 8  # by chunks
    weights = torch.load(out / "seed1" / "last.ckpt", weights_only=True)["nets"]
    assert set(weights) == {"tiny-scratch", "tiny-T4"}
    rows = pa.parquet.read_table(out / "results.parquet").to_pylist()
    kinds = {(r["kind"], r["receiver"]) for r in rows}
    assert {("scratch", "tiny-scratch"), ("distilled", "tiny-T4"), ("teacher", teacher)} < kinds
    assert {r["slots"] for r in rows} == {4} and {r["domain"] for r in rows} == {"time"}
    counted = np.load(out / "evaluation-frequency-mcs-1-13.npz")
    names = {"seed1/tiny-scratch", "seed1/tiny-T4", f"teacher/{teacher}", "perfect CSI"}
    assert {f"block_errors {name}" for name in names} < set(counted.files)
    assert main(["plot", str(out)]) == 0
    assert "| distilled |" in (out / "tables.md").read_text()

    before = (out / "seed1" / "last.ckpt").read_bytes()
    assert is_trained(file, out, "seed1")
    state = torch.load(teacher, weights_only=True)
    torch.save(state | {"wall_s": 1.0}, teacher)
    assert not is_trained(file, out, "seed1")
    refused = r"seed1/last\.ckpt: had another teacher than \S+/t/last\.ckpt is now; choose another"
    with pytest.raises(TrainingError, match=refused):
        run_group(job(file, out, "seed1"))
    file.write_text(file.read_text().replace("warmup = 2", "warmup = 1"))
    assert not is_trained(file, out, "seed1")
    with pytest.raises(TrainingError, match=r"last\.ckpt: belongs to another recipe; choose an"):
        run_group(job(file, out, "seed1"))
    assert (out / "seed1" / "last.ckpt").read_bytes() == before
    table = pa.parquet.read_table(out / "seed1" / "result.parquet")  # as earlier versions wrote it
    said = {"examinations": table.schema.metadata[b"examinations"]}
    pa.parquet.write_table(table.replace_schema_metadata(said), out / "seed1" / "result.parquet")
    assert not is_trained(file, out, "seed1")
    file.write_text(file.read_text().replace("warmup = 1", "warmup = 2"))
    assert is_trained(file, out, "seed1")


def job(file, out, name) -> Job:
    experiment = load(file, out)
    group = next(g for g in experiment.groups if g.name == name)
    return Job(group, experiment, out, os.getcwd(), torch.get_num_threads())


def is_trained(file, out, name) -> bool:
    of = job(file, out, name)
    return is_finished(of.folder, of.experiment, of.group)


def test_an_examination_that_is_interrupted_goes_on(tmp_path, monkeypatch):
    """Each batch is counted once, and nothing is left of how it was done."""
    path = write(
        tmp_path, SCALES.replace("slots = 8", "slots = 130").replace("steps = 5", "steps = 1")
    )
    experiment, count, calls = load(path, tmp_path, "small"), Evaluation._count, []
    job = Job(experiment.groups[0], experiment, tmp_path, os.getcwd(), torch.get_num_threads())
    job.folder.mkdir()

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return count(*arguments)

    monkeypatch.setattr(Evaluation, "_count", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_group(job)
    assert len(list(job.counted.glob("*/*.npz"))) == 2
    run_group(job)
    assert len(calls) == 5  # two SINRs of 128 and 2 slots
    rows = pa.parquet.read_table(job.folder / "result.parquet").to_pylist()
    assert {r["slots"] for r in rows} == {130} and not job.counted.exists()


def test_an_examination_that_is_added_is_counted_alone(tmp_path, monkeypatch):
    """And one that is changed is counted anew."""
    text = SCALES.replace("steps = 5", "steps = 1")
    count, sets = Evaluation._count, []

    def counting(evaluation, *arguments):
        sets.append(evaluation._conditions.channels[0])
        return count(evaluation, *arguments)

    monkeypatch.setattr(Evaluation, "_count", counting)
    more = EXAMINATION.replace("[6, 12]", "[3, 6, 9]")

    def run(text):
        sets.clear()
        experiment = load(write(tmp_path, text), tmp_path, "small")
        job = Job(experiment.groups[0], experiment, tmp_path, os.getcwd(), 1)
        job.folder.mkdir(exist_ok=True)
        run_group(job)
        rows = pa.parquet.read_table(job.folder / "result.parquet").to_pylist()
        return {(r["set"], r["sinr_db"]) for r in rows}

    first = run(text)
    assert len(sets) == 2 and len(first) == 2
    added = {("validation", s) for s in (3.0, 6.0, 9.0)}
    assert run(text + more) == first | added and sets == ["TDL-B"] * 3
    assert run(text + more.replace("9", "12")) != first | added and sets == ["TDL-B"] * 3
    assert run(text + more.replace("9", "12")) and not sets

    # what was counted of another recipe's net is not told of the one that took its place
    (path,) = tmp_path.glob("*/result.parquet")
    table = pa.parquet.read_table(path)
    other = {**table.schema.metadata, b"recipe_sha256": b"another"}
    pa.parquet.write_table(table.replace_schema_metadata(other), path)
    assert run(text + more.replace("9", "12")) and len(sets) == 5


def test_a_queue_takes_its_next_step_until_all_is_done(tmp_path, capsys):
    """Each run ends at its time limit with its state saved, in training and in examination; a group
    that fails stops no other.
    """
    text = SCALES.replace("slots = 8", "slots = 130").replace("steps = 5", "steps = 3")
    lost = '[[group]]\nname = "lost"\nlr = 1e30\nmembers = [["tiny", "scratch"]]\n[scale.small]'
    text = text.replace("[scale.small]", lost).replace('["b", "a"]', '["b", "lost", "a"]')
    path, out = write(tmp_path, text), tmp_path / "out"
    command = ["experiment", str(path), "--scale", "small", "--out", str(out), "--gpus", "0"]
    steps, said = [], []
    while not said or "the next step" in said[-1]:
        returned = main([*command, "--minutes", "0.0001"])
        said.append(capsys.readouterr().out)
        if (out / "b" / "last.ckpt").exists():
            steps.append(torch.load(out / "b" / "last.ckpt", weights_only=True)["step"])
        assert len(said) < 30
    assert steps[:3] == [1, 2, 3] and len(said) > 11
    assert returned == 1 and "2 of 3 groups" in said[-1]
    assert "not finite" in (out / "lost" / "failed.txt").read_text()
    rows = pa.parquet.read_table(out / "results.parquet").to_pylist()
    assert {(r["group"], r["slots"]) for r in rows} == {("b", 130), ("a", 130), ("", 130)}


def test_the_case_study_runs_at_the_scale_of_a_minute(tmp_path, monkeypatch):
    """Students of the published form beside their teacher, on slots wider than they trained on."""
    monkeypatch.chdir(ROOT)
    experiment = load("training/experiments/deeprx.toml", tmp_path, "minute")
    assert experiment.n_prb == 8
    for group in experiment.groups:
        (tmp_path / group.name).mkdir()
        run_group(Job(group, experiment, tmp_path, str(ROOT), torch.get_num_threads()))
    gather(experiment, tmp_path)
    rows = pa.parquet.read_table(tmp_path / "results.parquet").to_pylist()
    kinds = {(r["receiver"], r["kind"], r["temperature"]) for r in rows}
    assert {
        ("eighth-scratch", "scratch", None),
        ("eighth-T1", "distilled", 1.0),
        ("eighth-T4", "distilled", 4.0),
        ("models/deeprx-teacher.pt", "teacher", None),
    } < kinds
    assert {r["params"] for r in rows if r["kind"] in ("scratch", "distilled")} == {27_768}
    assert {r["sinr_db"] for r in rows} == {3.0 * i for i in range(11)}
    drawn = {(r["train_slots"], r["train_resource_elements"]) for r in rows if r["temperature"]}
    assert drawn == {(16, 16 * 14 * 72)}
    assert measure_all(experiment, tmp_path, "cpu", 1) == {}
    check_study(tmp_path, monkeypatch)
    student, file = f"{tmp_path}/seed1/last.ckpt:eighth-T1", tmp_path / "deeprx-eighth.pt"
    recipe = ["--recipe", f"{tmp_path}/seed1/recipe.toml"]
    assert main(["export", student, str(file), "--no-openvino", *recipe]) == 0
    trained, shipped = (load_receiver(str(r), rebuild=True)[1] for r in (student, file))
    weights = shipped.state_dict()
    assert all(torch.equal(w, weights[name]) for name, w in trained.state_dict().items())


def use_root(root, monkeypatch):
    """Another folder that `study` reads experiments of and stores into."""
    (root / "training").mkdir(parents=True)
    (root / "training/experiments").symlink_to(ROOT / "training/experiments")
    (root / "training/recipes").symlink_to(ROOT / "training/recipes")
    monkeypatch.setattr(results, "ROOT", root)


@pytest.mark.parametrize("content", ["x", "[]", "{}", '{"schema": "deeprx.study/1"}'])
def test_a_stored_study_of_another_shape_is_a_line(tmp_path, monkeypatch, capsys, content):
    use_root(tmp_path, monkeypatch)
    (tmp_path / "results/case_study").mkdir(parents=True)
    (tmp_path / "results/case_study/minute.json").write_text(content)
    assert main(["study", "--scale", "minute", "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "minute.json: expected a study, as ./dev train study --scale minute writes it" in line


def check_study(out, monkeypatch):
    """What `study` stores of it, and what the page makes of that."""
    root = out / "root"
    use_root(root, monkeypatch)
    assert main(["study", "--scale", "minute", "--out", str(out)]) == 0
    stored = json.loads((root / "results/case_study/minute.json").read_text())
    assert stored["missing"] == [] == stored["missing_energy"] and stored["scale"] == "minute"
    assert set(stored["sets"]) == {"evaluation-frequency-16QAM", "validation-frequency-16QAM"}
    of = stored["sets"]["evaluation-frequency-16QAM"]
    rows = pa.parquet.read_table(out / "seed1/result.parquet").to_pylist()
    rates = {(r["receiver"], r["sinr_db"]): r for r in rows if r["set"] == "evaluation"}
    scratch = next(r for r in of["receivers"] if r["name"] == "eighth-scratch")
    assert scratch["ber"] == [rates["eighth-scratch", s]["ber"] for s in of["sinr_db"]]
    assert scratch["by_seed"] == {"1": pytest.approx(scratch["ber"])}
    pair = next(p for p in of["pairs"] if p["student"] == "eighth-T1 by deeprx-teacher")
    errors = [rates[name, 27.0]["bit_errors"] for name in ("eighth-T1", "eighth-scratch")]
    at = next(p for p in pair["points"] if p["sinr_db"] == 27.0)
    assert pair["scratch"] == "eighth-scratch" and at["ratio"] == errors[0] / errors[1]
    payback = stored["payback"][0]
    forward = stored["training"][0]["phases"]["teacher"]["flop"]
    assert payback["teacher_forward_flop"] == pytest.approx(forward / 2)
    assert payback["joules"] == "modelled" and payback["teacher_training_flop"] == 0
    (step,) = stored["energy"]
    point = step["points"][0]
    assert sum(point["parts"].values()) == pytest.approx(1)
    assert point["estimates"]["flop"]["error_s"] == pytest.approx(
        point["estimates"]["flop"]["seconds"] / point["seconds"] - 1
    )
    (out / step["step"]["name"]).rename(out / "energy-of-elsewhere")
    assert main(["study", "--scale", "minute", "--out", str(out)]) == 0
    again = json.loads((root / "results/case_study/minute.json").read_text())
    assert (again["energy"], again["missing_energy"]) == ([step], [])
    folder = root / "results/case_study"
    for name in study_page.PARTS:
        page = study_page.part(
            folder, name, "minute", **({"by": "size"} if name == "gains" else {})
        )
        assert page.startswith("Not yet" if name == "speed" else "*Not") == (
            name in ("gains", "seeds", "ablation", "speed")
        ), (name, page)
    table = study_page.part(folder, "curves", "minute")
    assert (
        "| eighth, taught by deeprx-teacher at T = 4 " in table
        and "| teacher, models/deeprx-teacher.pt " in table
    )
    assert f"{scratch['ber'][-1]:.3g}" in table and table.endswith(stored["date"])
    study_page.draw(stored, out / "picture.png")
    assert (out / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_seeds_are_told_apart_and_set_against_scratch_of_the_same(tmp_path):
    def student(kind, temperature, **by_seed):
        name = f"n-{kind}-{temperature}"
        about = {"name": name, "kind": kind, "net": "n", "temperature": temperature}
        about |= {"teacher": "models/t.pt"}
        return about | {"seeds": len(by_seed), "bits_share": None, "slot_weight": "sinr"} | {
            "by_seed": {seed[1:]: [0.5, ber, ber / 2] for seed, ber in by_seed.items()}
        }  # fmt: skip

    receivers = [
        {"name": "ls", "kind": "baseline", "seeds": None, "by_seed": {}, "slot_weight": None},
        student("scratch", None, s1=0.02, s2=0.04),
        student("distilled", 1.0, s1=0.01, s2=0.01),
        student("distilled", 4.0, s2=0.03),
        student("scratch", None, s1=0.005) | {"slot_weight": "error"},
        student("scratch", None, s1=0.07) | {"net": "m"},  # once: no seeds to tell apart
    ]
    sets = {study_page.SET: {"sinr_db": [0.0, 27.0, 30.0], "receivers": receivers}}
    stored = {"command": "c", "date": "d", "sets": sets}
    (tmp_path / "cores.json").write_text(json.dumps(stored))
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in study_page.part(tmp_path, "seeds").splitlines()[:9]
    ]
    assert rows[0] == ["receiver", "SINR", "seed 1", "seed 2", "over scratch, over seeds"]
    assert rows[2:6] == [
        ["n, scratch", "27 dB", "0.02", "0.04", "-"],
        ["n, taught by t at T = 1", "27 dB", "0.01 (0.50)", "0.01 (0.25)", "0.38 [-1.21, 1.96]"],
        ["n, taught by t at T = 4", "27 dB", "-", "0.03 (0.75)", "-"],
        ["n, scratch, slots weighted by their errors", "27 dB", "0.005 (0.25)", "-", "-"],
    ]
    assert rows[7][1:4] == ["30 dB", "0.005 (0.50)", "0.005 (0.25)"]
    assert "0.07" not in str(rows)


def test_teachings_are_chosen_on_the_seeds_that_all_have(tmp_path):
    """A lucky seed that others were not trained with decides nothing."""

    def student(name, **by_seed):
        about = {"name": name, "kind": "distilled", "net": "eighth", "teacher": "models/t.pt"}
        by_seed = {seed[1:]: [ber] for seed, ber in by_seed.items()}
        return about | {"temperature": float(name), "bits_share": None, "by_seed": by_seed}

    receivers = [student("1", s1=0.02, s2=0.02), student("4", s1=0.03, s2=0.001)]
    receivers.append(student("8", s1=0.025))
    pair = {"seeds": 1, "gains": [], "points": []}
    one = {"receivers": receivers, "pairs": [pair | {"student": s["name"]} for s in receivers]}
    sets = {study_page.SET: one, study_page.VALIDATION: one}
    stored = {"command": "c", "date": "d", "sets": sets, "energy": []}
    (tmp_path / "cores.json").write_text(json.dumps(stored))
    assert "eighth, taught by t at T = 1 (chosen" in study_page.part(tmp_path, "verdict")


@pytest.mark.parametrize(
    ("spent", "saved", "says"),
    [(600.0, 2.0, "300"), (600.0, 0.0, "never"), (0.0, -2.0, "never"), (0.0, 2.0, "-"),
     (600.0, None, "-")],
)  # fmt: skip
def test_what_was_spent_in_another_run_is_not_paid_back_at_once(spent, saved, says):
    assert study_page._slots(spent, saved) == says
