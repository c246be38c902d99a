# SPDX-License-Identifier: GPL-3.0-or-later
"""Batch norms: each kind of slot is normalised by its own statistics, and what is held is held."""

import copy
from itertools import chain

import pytest
import torch

from deeprx_common.modulation import MODULATIONS
from deeprx_training.cli import main
from deeprx_training.data.channels import SlotGenerator, slots_of_every_kind
from deeprx_training.data.conditions import Conditions
from deeprx_training.receivers.nets import HybridRx, KindNorm
from deeprx_training.receivers.norms import settle
from deeprx_training.receivers.realtime import RealtimeRx
from deeprx_training.teaching import recipe as recipes
from deeprx_training.teaching import train
from deeprx_training.teaching.checkpoint import load_receiver
from deeprx_training.teaching.members import batch_norms
from deeprx_training.teaching.train import Trainer

TINY = """
steps = 7
batch = 4
warmup = 2
{more}
[[members]]
name = "tiny"
net = {{ net = "HybridRx", channels = {channels}, dilations = [[1, 1]] }}
{member}
[data]
channels = ["TDL-B", "TDL-D"]
modulations = {{ "16QAM" = 0.5, "256QAM" = 0.5 }}
"""


def recipe(folder, more="", member="", channels=4, name="r.toml"):
    path = folder / name
    path.write_text(TINY.format(more=more, member=member, channels=channels))
    return path


def trained(folder, path):
    trainer = Trainer(recipes.load(path), folder, accelerator="cpu")
    trainer.fit()
    return trainer.members.plain("tiny")


def test_every_modulation_and_dmrs_pattern_is_a_kind():
    kinds = [KindNorm.kind(bits, dmrs) for bits in MODULATIONS.values() for dmrs in (1, 2)]
    assert sorted(kinds) == list(range(KindNorm.KINDS))


def test_each_kind_is_normalised_by_its_own_statistics():
    torch.manual_seed(1)
    norm, quiet, loud = KindNorm(3), KindNorm.kind(4, 2), KindNorm.kind(8, 1)
    draw = {
        quiet: lambda: torch.randn(8, 3, 14, 12) + 1,
        loud: lambda: 5 * torch.randn(8, 3, 14, 12),
    }
    for _ in range(80):
        norm(draw[quiet](), quiet)
    torch.testing.assert_close(norm.running_mean[loud], norm.running_mean[quiet])  # never seen
    for _ in range(80):
        norm(draw[loud](), loud)
    norm.eval()
    for kind, batch in draw.items():
        x = batch()
        y = norm(x, kind)
        assert y.mean((0, 2, 3)).abs().max() < 0.1
        assert (y.std((0, 2, 3)) - 1).abs().max() < 0.1
        torch.testing.assert_close(torch.jit.script(norm)(x, kind), y)


def test_settled_statistics_are_those_of_slots_of_the_kind():
    torch.manual_seed(1)
    conditions = Conditions(
        channels=("TDL-B", "TDL-D"),
        modulations={"QPSK": 0.5, "256QAM": 0.5},
        dmrs={(2, 11): 0.9, (2,): 0.1},
        snr_db=(10.0, 20.0),
    )
    net = HybridRx(channels=4, dilations=((1, 1),))
    before = copy.deepcopy(net.state_dict())
    settle(net, chain(*slots_of_every_kind(conditions, 64)))
    assert not any(m.training for m in net.modules())
    assert all(
        torch.equal(v, before[k])
        for k, v in net.state_dict().items()
        if "num_batches" not in k and "running" not in k
    )
    seen = []
    net.net.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    far = []
    for modulation in conditions.modulations:
        for dmrs in conditions.dmrs:
            only = Conditions(
                conditions.channels,
                modulations={modulation: 1.0},
                dmrs={dmrs: 1.0},
                snr_db=(10, 20),
            )
            batch = SlotGenerator(only).batch(64, 3).of_layer(0)
            with torch.no_grad():
                net(batch.y, batch.p, batch.config.bits_per_symbol)
            x, kind = seen.pop()
            mean, std = x.mean((0, 2, 3)), x.std((0, 2, 3))
            off = ((net.net.norm.running_mean - mean) / std).abs().amax(1)
            assert off[kind] < 0.2
            torch.testing.assert_close(net.net.norm.running_var[kind].sqrt(), std, rtol=0.2, atol=0)
            far.append(off.max())
    assert max(far) > 0.2  # the kinds differ: one for all would not do


def test_settling_without_such_norms_is_one_line(tmp_path, capsys):
    with pytest.raises(ValueError, match="a RealtimeRx has no statistics for each kind"):
        settle(RealtimeRx(channels=4, pilot_channels=4), [])
    path = recipe(tmp_path)
    trained(tmp_path / "run", path)
    export = ["export", str(tmp_path / "run/last.ckpt"), str(tmp_path / "m.pt")]
    assert main([*export, "--settle", "64"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "give a checkpoint's --recipe" in lines[0], lines
    assert main(["export", "baseline", "--settle", "64", str(tmp_path / "b.pt")]) == 2
    assert "give a checkpoint's --recipe" in capsys.readouterr().err


DEEPRX = """
steps = 3
batch = 4
precision = "bfloat16"
crop_prb = 6
{settle}
[[members]]
name = "tiny"
net = {{ net = "DeepRx", width = 0.1, blocks = 3 }}
[data]
channels = ["TDL-B"]
n_prb = 12
modulations = {{ "16QAM" = 0.5, "256QAM" = 0.5 }}
"""


def test_a_recipe_that_trains_on_crops_settles_on_whole_slots(tmp_path, monkeypatch):
    """As norms.settle does it to the net in float32, whatever it trained in, of every kind, also of
    one that training never saw; the run that is given again settles no more.
    """
    path = tmp_path / "r.toml"
    path.write_text(DEEPRX.format(settle=""))
    trained(tmp_path / "unsettled", path)
    expected, recipe = load_receiver(f"{tmp_path}/unsettled/last.ckpt")[1], recipes.load(path)
    before = copy.deepcopy(expected.state_dict())
    assert recipe.plan.conditions.n_prb == 6
    settle(expected, chain(*slots_of_every_kind(recipe.data, 8)))
    path.write_text(DEEPRX.format(settle="settle = 8"))
    net = trained(tmp_path / "settled", path)
    kinds = [KindNorm.kind(bits, 2) for bits in (4, 8)]
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], msg=name)
    for name, norm in net.named_modules():
        if isinstance(norm, KindNorm):
            assert not torch.allclose(
                norm.running_mean[kinds], before[f"{name}.running_mean"][kinds]
            )
    loaded = load_receiver(f"{tmp_path}/settled/last.ckpt")[1].state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in net.state_dict().items())
    monkeypatch.setattr(train, "settle", lambda *_: pytest.fail("settled again"))
    again = Trainer(recipes.load(path), tmp_path / "settled", accelerator="cpu")
    again.resume()
    assert again.fit()


def test_batch_norms_hold_their_statistics_from_norm_until_on(tmp_path):
    norms = batch_norms(trained(tmp_path / "run", recipe(tmp_path, more="norm_until = 0.4")))
    assert [int(n.num_batches_tracked.sum()) for n in norms] == [3] * len(norms)  # of 7 steps
    assert len(norms) == 3


def test_a_run_that_starts_from_weights_goes_on_from_them(tmp_path, capsys):
    first = trained(tmp_path / "first", recipe(tmp_path))
    start = f'start = "{tmp_path}/first/last.ckpt"'
    held = recipe(tmp_path, more="norm_until = 0.0\nlr = 1e-5", member=start, name="held.toml")
    second = trained(tmp_path / "second", held)
    for (name, a), (_, b) in zip(
        first.state_dict().items(), second.state_dict().items(), strict=True
    ):
        if "running" in name:
            assert torch.equal(a, b), name
        elif a.is_floating_point():
            torch.testing.assert_close(a, b, rtol=0, atol=1e-3, msg=name)
    assert not torch.equal(first.net.head.weight, second.net.head.weight)
    for channels, member, says in [
        (8, start, "first/last.ckpt: the weights of tiny are not those of the net"),
        (4, 'start = "runs/gone.ckpt"', "error: runs/gone.ckpt: no such checkpoint or model file"),
    ]:
        wrong = recipe(tmp_path, member=member, channels=channels, name="wrong.toml")
        assert main([str(wrong), "--out", str(tmp_path / "w"), "--device", "cpu"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and says in lines[0], lines
