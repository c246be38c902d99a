# SPDX-License-Identifier: GPL-3.0-or-later
"""A study as its users run it: trained, counted and drawn; a run that fails stops no other."""

import json
import os

import pyarrow.parquet
import pytest
import torch

from deeprx_training.cli import main
from deeprx_training.experiments import study
from deeprx_training.teaching import recipe as recipes
from deeprx_training.teaching.train import Trainer

EXAMINATION = """[[examination]]
set = "evaluation"
domain = "time"
sinr_db = [9]
slots = 4
"""
STUDY = """
steps = 3
[recipe]
batch = 2
chunk = 2
distinct = 4
data_seed = 1
warmup = 2
teacher = "{teacher}"
[recipe.data]
channels = ["TDL-B"]
[nets]
tiny = {{ net = "HybridRx", channels = 4, dilations = [[1, 1]] }}
[settings]
scratch = {{}}
T4 = {{ loss = {{ kl = 1.0 }}, temperature = 4.0 }}
[[run]]
name = "seed1"
members = [["tiny", "scratch"], ["tiny", "T4"]]
[[run]]
name = "lost"
teacher = "nowhere.pt"
members = [["tiny", "T4"]]
[[examination]]
set = "evaluation"
domain = "time"
sinr_db = [9, 15]
slots = 4
{more}
"""
TEACHER = """
steps = 1
batch = 2
[[members]]
name = "teacher"
net = { net = "HybridRx", channels = 4, dilations = [[1, 1]] }
[data]
channels = ["TDL-B"]
"""


def test_a_study_trains_counts_and_is_drawn(tmp_path, capfd):
    (tmp_path / "t.toml").write_text(TEACHER)
    main(["teacher", str(tmp_path / "t.toml"), "--out", str(tmp_path / "t"), "--device", "cpu"])
    file, out = tmp_path / "s.toml", tmp_path / "out"
    teacher = f"{tmp_path}/t/last.ckpt"
    file.write_text(STUDY.format(teacher=teacher, more=""))
    command = ["study", str(file), "--cache", str(tmp_path / "c"), "--out", str(out)]
    assert main([*command, "--minutes", "2", "--device", "cpu"]) == 0
    said = capfd.readouterr()
    assert "1 of 2 runs ready" in said.out and "3 steps of" in said.out
    assert "lost: open: TrainingError: nowhere.pt" in said.err
    record = json.loads((out / "seed1" / "run.json").read_text())
    # the cache held every slot and the teacher's LLRs before training began
    assert record["step"] == 3 and record["cached_llr_slots"] == 8
    nets = torch.load(out / "seed1" / "last.ckpt", weights_only=True)["nets"]
    assert set(nets) == {"tiny-scratch", "tiny-T4"}
    rows = pyarrow.parquet.read_table(out / "results.parquet").to_pylist()
    kinds = {(r["kind"], r["receiver"]) for r in rows}
    assert {("scratch", "tiny-scratch"), ("distilled", "tiny-T4"), ("teacher", teacher)} < kinds
    assert {r["slots"] for r in rows} == {4} and {r["domain"] for r in rows} == {"time"}
    # stopped after a step, it goes on to the same weights; another study does not overwrite it
    whole = nets
    (out / "seed1" / "last.ckpt").unlink()
    # as each of the study's two runs
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
    recipe = recipes.load(out / "seed1" / "recipe.toml")
    trainer = Trainer(recipe, out / "seed1", "cpu", cache=tmp_path / "c")
    trainer.fit(on_step=trainer.stop)
    torch.set_num_threads(threads)
    assert trainer.step == 1
    (out / "results.parquet").unlink()
    assert main([*command, "--minutes", "2", "--device", "cpu"]) == 0
    assert "going on to step 3" in capfd.readouterr().out
    record = json.loads((out / "seed1" / "run.json").read_text())
    assert record["step"] == 3 and (out / "results.parquet").exists()
    nets = torch.load(out / "seed1" / "last.ckpt", weights_only=True)["nets"]
    for name, weights in whole.items():
        assert all(torch.equal(nets[name][k], w) for k, w in weights.items())
    before = (out / "seed1" / "last.ckpt").read_bytes()
    file.write_text(file.read_text().replace("warmup = 2", "warmup = 1"))
    assert main([*command, "--minutes", "2", "--device", "cpu"]) == 2
    assert "last.ckpt: of another study; choose another --out" in capfd.readouterr().err
    assert (out / "seed1" / "last.ckpt").read_bytes() == before
    file.write_text(STUDY.format(teacher=teacher, more=""))
    (out / "results.parquet").unlink()
    assert main([*command, "--tables"]) == 0 and main(["plot", str(out)]) == 0
    assert "| distilled |" in (out / "tables.md").read_text()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("[extra]", "look at 'extra'"),
        ('[[run]]\nname = "x"\nmembers = [["huge", "scratch"]]', "no net 'huge'"),
        ('[[run]]\nname = "x"', "needs a name and members"),
        ('[[examination]]\nset = "evaluation"\nslot = 3', "unknown key 'slot'"),
        (EXAMINATION.replace("evaluation", "test"), "or evaluation, found 'test'"),
        (EXAMINATION.replace("time", "space"), "or time, found 'space'"),
        (EXAMINATION + "runs = ['nobody']", "no run 'nobody'"),
        (EXAMINATION + "rates = ['half']", "a code rate below 1"),
        ("steps", "not a TOML file"),
    ],
)
def test_a_bad_study_gets_one_line(tmp_path, more, says):
    file = tmp_path / "s.toml"
    file.write_text(STUDY.format(teacher="t", more=more))
    with pytest.raises(study.StudyError, match=says) as error:
        study.load(file)
    assert "\n" not in str(error.value) and str(file) in str(error.value)


def test_the_shipped_studies_load():
    for file in study.STUDIES.glob("*.toml"):
        assert study.load(file).runs
