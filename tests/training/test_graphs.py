# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of DeepRx: as CUDA graphs, told what slots there are, and taught by a DeepRx."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deeprx_training.data.channels import SlotGenerator
from deeprx_training.data.conditions import Conditions
from deeprx_training.receivers import nets
from deeprx_training.teaching import graphs, recipe
from deeprx_training.teaching.teacher import Teacher
from deeprx_training.teaching.train import Trainer

RECIPE = """
steps = 24
batch = 8
chunk = 4
optimizer = "lamb"
warmup = 4
precision = "float32"
teacher = "models/deeprx-student.pt"

[[members]]
name = "scratch"
net = { net = "DeepRx", width = 0.125 }

[[members]]
name = "taught"
net = { net = "DeepRx", width = 0.125 }
loss = { kl = 1.0 }

[data]
n_prb = 8
channels = ["TDL-B", "TDL-D"]
modulations = { "16QAM" = 0.5, "QPSK" = 0.5 }
"""
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def trained(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of both members after the recipe's steps on a GPU."""
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE)
    trainer = Trainer(recipe.load(folder / "recipe.toml"), folder, "cuda")
    assert trainer.fit()
    return {
        f"{name}.{key}": value.detach().cpu().double()
        for name in trainer.members.nets
        for key, value in trainer.members.plain(name).state_dict().items()
    }


def apart(one: dict, other: dict) -> float:
    """RMS of the difference of all weights over their own."""
    a, b = (torch.cat([t.flatten() for t in weights.values()]) for weights in (one, other))
    return float((a - b).norm() / b.norm())


@needs_cuda
def test_a_graph_trains_as_its_kernels_do_one_by_one(tmp_path, monkeypatch):
    replays = 0
    replay = graphs.StepGraph.forward

    def counted(*given):
        nonlocal replays
        replays += 1
        return replay(*given)

    monkeypatch.setattr(graphs.StepGraph, "forward", counted)
    by_graph = trained(tmp_path / "graph")
    assert replays >= 2 * 24 - 2 * 2 * 4 * graphs.StepGraphs.PASSES_BEFORE
    replays = 0
    monkeypatch.setattr(graphs.StepGraphs, "PASSES_BEFORE", 24)
    one_by_one = trained(tmp_path / "kernels")
    assert not replays
    again = trained(tmp_path / "again")
    # convolutions' gradients are summed in any order: as far apart as two runs are, or little more
    assert apart(by_graph, one_by_one) < max(1e-3, 5 * apart(again, one_by_one))


@pytest.mark.parametrize(
    ("change", "as_graphs"),
    [
        ({}, True),
        ({"steps = 24": 'steps = 24\nslot_weight = "error"'}, False),
        ({"steps = 24": "steps = 24\nnorm_until = 0.5"}, False),
        ({"n_prb = 8": "n_prb = 8\nmin_prb = 6"}, False),
        ({"loss = { kl = 1.0 }": "loss = { kl = 1.0, hint = 0.1 }"}, False),
    ],
    ids=["", "weights by errors", "held norms", "many sizes", "hints"],
)
def test_only_steps_that_are_the_same_every_time_become_graphs(tmp_path, change, as_graphs):
    text = RECIPE
    for key, value in change.items():
        text = text.replace(key, value)
    assert (text != RECIPE) == bool(change)
    (tmp_path / "recipe.toml").write_text(text)
    members = Trainer(recipe.load(tmp_path / "recipe.toml"), tmp_path, "cpu").members
    assert [members._is_graph(m) for m in members.recipe.members] == [as_graphs] * 2


def test_what_slots_there_are_is_told_or_seen():
    p = torch.zeros(1, 14, 24, 2)
    p[:, (2, 11), ::2] = 1.0
    assert nets.kind_of(p, 4) == nets.KindNorm.kind(4, 2)
    with nets.slots_of_kind(6, 1):
        assert nets.kind_of(p, 4) == nets.KindNorm.kind(6, 1)
    assert nets.kind_of(p, 4) == nets.KindNorm.kind(4, 2)


def test_deeprx_teaches_in_float32_whatever_its_students_train_in(tmp_path):
    """In bfloat16 its LLRs are off by a tenth."""
    torch.manual_seed(3)
    net = nets.DeepRx(width=0.125).eval()
    saved = {
        "nets": {"deeprx": net.state_dict()},
        "specs": {"deeprx": json.dumps({"net": "DeepRx", "width": 0.125})},
    }
    torch.save(saved | {"recipe_sha256": "0" * 64}, tmp_path / "t.ckpt")
    text = RECIPE.replace("models/deeprx-student.pt", f"{tmp_path}/t.ckpt:deeprx")
    (tmp_path / "recipe.toml").write_text(text)
    loaded = replace(recipe.load(tmp_path / "recipe.toml"), precision="bfloat16")
    teacher = Teacher(loaded, torch.device("cpu"))
    batch = SlotGenerator(loaded.data).batch(4, 1)
    expected = net(batch.y, batch.p[:, 0], batch.config.bits_per_symbol)
    bits = batch.config.bits_per_symbol
    llr = teacher(batch)[:, 0, ..., :bits]
    assert (llr - expected[..., :bits]).norm() < 1e-4 * expected[..., :bits].norm()


def test_a_step_that_is_no_graph_is_told_and_trains(tmp_path, monkeypatch, capsys):
    """On a machine without CUDA no graph can be captured."""
    monkeypatch.setattr(graphs, "StepGraph", _out_of_memory)
    passes = graphs.StepGraphs(None, [torch.zeros(2)], nullcontext(), None)
    batch = SlotGenerator(Conditions(n_prb=6)).batch(2, 1)
    assert [passes.of(batch, None) for _ in range(6)] == [None] * 6
    said = capsys.readouterr().err
    assert said == "training: no CUDA graphs of further steps: CUDA out of memory.\n"


def _out_of_memory(*_):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
