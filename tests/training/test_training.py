# SPDX-License-Identifier: GPL-3.0-or-later
"""The training command line as its users run it: train, stop, resume, distil, evaluate, export."""

import importlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deeprx_training import cli
from deeprx_training.cli import main
from deeprx_training.files import TrainingError
from deeprx_training.receivers.build import build
from deeprx_training.teaching import recipe as recipes
from deeprx_training.teaching.members import learning_rate
from deeprx_training.teaching.precision import bfloat16_is_safe
from deeprx_training.teaching.train import Trainer

ROOT = Path(__file__).parents[2]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
ALIKE = "--channel TDL-A --delay-spread 1e-7 --doppler 50"  # slots of one kind take least time
TINY = """
steps = {steps}
batch = 4
chunk = 3
warmup = 2
{more}
[[members]]
name = "tiny"
net = {{ net = "HybridRx", channels = 4, dilations = [[1, 1]] }}
{member}
[data]
channels = ["TDL-B", "TDL-D"]
time_domain = 0.5
"""


def recipe(folder, name="r.toml", steps=7, more="", member=""):
    path = folder / name
    path.write_text(TINY.format(steps=steps, more=more, member=member))
    return str(path)


def weights(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)["nets"]["tiny"]


def test_whole_chain(tmp_path, capsys):
    """Teacher, student distilled from it, evaluation, export with the measured table."""
    assert main([recipe(tmp_path), "--out", str(tmp_path / "t"), "--device", "cpu"]) == 0
    kd = recipe(
        tmp_path,
        "kd.toml",
        more=f'teacher = "{tmp_path}/t/last.ckpt:tiny"',
        member="loss = { bce = 0.3, kl = 0.7 }\ntemperature = 2.0",
    )
    assert main([kd, "--out", str(tmp_path / "s"), "--device", "cpu"]) == 0
    log = [json.loads(line) for line in (tmp_path / "s" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 7 and set(log[-1]["tiny"]) == {"bce", "kl"}
    model = str(tmp_path / "tiny.pt")
    export = ["export", str(tmp_path / "s/last.ckpt"), model, "--no-openvino", "--recipe"]
    assert main([*export, kd]) == 0
    assert capsys.readouterr().err == ""
    assert main([*export, str(tmp_path / "r.toml")]) == 0
    assert "s/last.ckpt: trained by a recipe with SHA-256" in capsys.readouterr().err
    assert main([*export, kd]) == 0
    evaluate = f"evaluate {model} --trust {model} --sinr 12 --slots 8 {ALIKE} --device cpu --out"
    assert main([*evaluate.split(), str(tmp_path / "e")]) == 0
    assert (tmp_path / "e" / "ber.png").stat().st_size > 1000
    report = str(tmp_path / "e" / "report.json")
    assert main([*export, kd, "--report", report]) == 0
    with zipfile.ZipFile(model) as archive:
        metadata = json.loads(
            archive.read(next(n for n in archive.namelist() if n.endswith("extra/deeprx.json")))
        )
    assert metadata["training"]["recipe_sha256"] == recipes.load(kd).sha256
    assert metadata["ber"][0]["sinr_db"] == 12 and metadata["ber"][0]["slots"] == 8
    assert "tiny" in capsys.readouterr().out


def test_a_stopped_run_resumes_to_the_same_result(tmp_path):
    path = recipe(tmp_path)
    main([path, "--out", str(tmp_path / "whole"), "--device", "cpu"])
    trainer = Trainer(recipes.load(path), tmp_path / "parts", "cpu")
    assert not trainer.fit(on_step=lambda: trainer.step == 3 and trainer.stop())
    assert trainer.step == 4
    assert main([path, "--out", str(tmp_path / "parts"), "--device", "cpu"]) == 0
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


KILLED = """
import os, signal, sys
from deeprx_training.teaching import recipe
from deeprx_training.teaching import train
trainer = train.Trainer(recipe.load(sys.argv[1]), sys.argv[2], "cpu", save_every_s=0.0)
def kill():
    if trainer.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
trainer.fit(on_step=kill)
"""


@pytest.fixture
def one_thread():
    """Sums come out differently with another number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_killed_distillation_resumes_to_the_same_result(tmp_path, one_thread):
    """Nothing is left of the process but its last checkpoint, in the middle of a chunk."""
    teacher = recipe(tmp_path, "t.toml", steps=1)
    main([teacher, "--out", str(tmp_path / "t"), "--device", "cpu"])
    more = f'kd_until = 0.8\noptimizer = "lamb"\nteacher = "{tmp_path}/t/last.ckpt"'
    path = recipe(tmp_path, steps=8, more=more, member="loss = { kl = 1.0 }\ntemperature = 4.0")
    main([path, "--out", str(tmp_path / "whole"), "--device", "cpu"])
    command = [sys.executable, "-c", KILLED, path, str(tmp_path / "parts")]
    assert subprocess.run(command, timeout=120, env=ONE_THREAD).returncode == -signal.SIGKILL
    assert torch.load(tmp_path / "parts/last.ckpt", weights_only=True)["step"] == 5
    assert main([path, "--out", str(tmp_path / "parts"), "--device", "cpu"]) == 0
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def test_what_a_run_leaves(tmp_path):
    """run.json says what it took, by phase and over all its parts; TensorBoard has the losses."""
    teacher = recipe(tmp_path, "t.toml", steps=1)
    main([teacher, "--out", str(tmp_path / "t"), "--device", "cpu"])
    path = recipe(
        tmp_path,
        steps=9,
        more=f'kd_until = 0.6\noptimizer = "lamb"\nteacher = "{tmp_path}/t/last.ckpt"',
        member="loss = { bce = 0.5, skew_kl = 0.5, hint = 0.1 }",
    )
    out = tmp_path / "run"
    trainer = Trainer(recipes.load(path), out, "cpu")
    assert not trainer.fit(max_seconds=0, log_every=1)
    before = json.loads((out / "run.json").read_text())
    trainer = Trainer(recipes.load(path), out, "cpu")
    trainer.resume()
    assert trainer.fit(log_every=1)
    record = json.loads((out / "run.json").read_text())
    assert record["schema"] == "deeprx.training/1" and record["step"] == 9
    assert record["wall_s"] > before["wall_s"] > 0 and record["slots"] == 36
    assert record["resource_elements"] == 36 * 14 * 312
    phases = record["phases"]
    assert phases["forward"]["slots"] == phases["backward"]["slots"] == 36
    assert phases["teacher"]["slots"] == 4 * 6 and phases["data"]["slots"] >= 36  # 6 = 60 % of 9
    assert all(p["s"] > 0 for p in phases.values())
    modelled = sum(p["modelled_j"] for p in phases.values())
    assert record["energy_j"]["modelled"] == pytest.approx(modelled) and modelled > 0
    assert (record["energy_j"]["joules"] is None) == bool(record["energy_j"]["invalid"])
    # backwards: gradients of weights and of inputs, the first layer's inputs excepted
    assert 1 < phases["backward"]["flop"] / phases["forward"]["flop"] < 2
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert set(log[0]["tiny"]) == {"bce", "skew_kl", "hint"} and set(log[-1]["tiny"]) == {"bce"}
    # both runs' files may be of one second, and then stand in any order
    board = EventAccumulator(str(out / "tensorboard"), purge_orphaned_data=False).Reload()
    steps = sorted(e.step for e in board.Scalars("bce/tiny"))
    assert steps == list(range(1, 10))


TWO_USERS = """
steps = {steps}
batch = 8
chunk = 4
warmup = 4
lr = 1e-2
[[members]]
name = "a"
net = {{ net = "PuschRx", pilot_channels = 8, channels = 8, rounds = 1, filters = 4 }}
loss = {{ bce = 1.0, channel = 0.3 }}
[data]
channels = ["TDL-B", "TDL-D"]
n_prb = 4
n_rx = 4
min_rx = 2
standard = true
users = {{ 2 = 1 }}
cdm_groups = {{ 1 = 1, 2 = 1 }}
modulations = {{ "QPSK" = 1, "16QAM" = 1 }}
snr_db = [10, 20]
"""


def test_a_net_of_two_layers_learns_from_bits_and_channel(tmp_path, one_thread):
    def trained(out, steps, **options):
        path = tmp_path / f"{steps}.toml"
        path.write_text(TWO_USERS.format(steps=steps))
        assert Trainer(recipes.load(path), tmp_path / out, "cpu", **options).fit(log_every=1)
        return torch.load(tmp_path / out / "last.ckpt", weights_only=True)["nets"]["a"]

    trained("long", 40)
    log = [json.loads(line) for line in (tmp_path / "long/log.jsonl").read_text().splitlines()]
    for part in ("bce", "channel"):
        values = [line["a"][part] for line in log]
        assert sum(values[-10:]) < 0.9 * sum(values[:10]), part
    cached = {"cache": tmp_path / "cache"}
    whole = trained("whole", 8)
    for other in (trained("drawn", 8, **cached), trained("read", 8, **cached)):
        assert all(torch.equal(whole[k], other[k]) for k in whole)


WIDE = [[1, 1], [2, 3]]


@pytest.mark.parametrize(
    "net",
    [
        {"net": "HybridRx", "channels": 32, "dilations": WIDE},
        {"net": "PaperInputRx", "channels": 16, "dilations": WIDE, "fold": 4},
        {"net": "DeepRx", "width": 0.125, "blocks": 3},
    ],
)
def test_gradients_in_bfloat16_are_right(tmp_path, net):
    """Those of nets that train in it; memory that held NaN must not matter."""
    torch.manual_seed(1)
    net = build(net)
    assert bfloat16_is_safe(net)
    body = net.net.to(memory_format=torch.channels_last)
    first = next(m for m in body.modules() if isinstance(m, torch.nn.Conv2d))
    fold = getattr(body, "fold", 1)
    x = torch.randn(4, first.in_channels // fold, 14, 72)
    gradients = {}
    for dtype in (torch.float32, torch.bfloat16):
        body.zero_grad()
        junk = [torch.full((n,), torch.nan) for n in (10**4, 10**5, 10**6)]
        del junk
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = body(x, 0)
        (out.float() - 1).square().mean().backward()
        gradients[dtype] = [p.grad.clone() for p in body.parameters() if p.grad is not None]
    for a, b in zip(gradients[torch.bfloat16], gradients[torch.float32], strict=True):
        assert (a - b).norm() <= 0.15 * b.norm() + 1e-3, (a - b).norm() / b.norm()


def test_nets_that_bfloat16_would_break_train_in_float32(tmp_path, capsys):
    odd = recipe(tmp_path, steps=2)
    path = Path(odd)
    text = path.read_text().replace(
        "channels = 4, dilations = [[1, 1]]", f"channels = 20, dilations = {WIDE}"
    )
    path.write_text(text)
    trainer = Trainer(recipes.load(odd), tmp_path / "run", "cpu")
    assert trainer.members.precision == {"tiny": "float32"}
    path.write_text("precision = 'bfloat16'\n" + text)
    assert main([odd, "--out", str(tmp_path / "other"), "--device", "cpu"]) == 2
    assert "needs dilated convolutions with a multiple of 16" in capsys.readouterr().err


TELLING = """
import os, sys
from pathlib import Path
from deeprx_training import cli
from deeprx_training.teaching import train
fit = train.Trainer.fit
def told(self, **options):
    done = fit(self, **options)
    (net,) = self.members.nets.values()
    weights = b"".join(p.detach().numpy().tobytes() for p in net.parameters())
    Path(__file__).with_name("weights" + os.environ["RANK"]).write_bytes(weights)
    return done
train.Trainer.fit = told
sys.exit(cli.main(sys.argv[1:]))
"""


def test_processes_of_torchrun_train_one_net(tmp_path):
    """Two processes on CPUs; each draws its own slots, both hold the same weights."""
    path = recipe(tmp_path, steps=6)
    script = tmp_path / "telling.py"
    script.write_text(TELLING)
    command = f"torch.distributed.run --standalone --nproc-per-node 2 {script}"
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), path, "--out", str(out), "--device", "cpu"],
        capture_output=True,
        text=True,
        timeout=240,
        env=ONE_THREAD,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((out / "run.json").read_text())
    assert record["processes"] == 2 and record["slots"] == 6 * 4 * 2
    first, second = ((tmp_path / f"weights{rank}").read_bytes() for rank in range(2))
    assert first == second
    main([path, "--out", str(tmp_path / "one"), "--device", "cpu"])
    two, one = weights(out), weights(tmp_path / "one")
    assert two.keys() == one.keys() and not all(torch.equal(two[k], one[k]) for k in two)


@pytest.mark.parametrize("limit", [2_000, 40_000])
def test_a_full_disk_gets_one_line_and_leaves_the_last_state(tmp_path, capsys, limit):
    """A limit on file sizes stands for the full disk: writing fails in the middle of a file."""
    path = recipe(tmp_path, steps=3)
    out = tmp_path / "run"
    assert main([path, "--out", str(out), "--device", "cpu"]) == 0
    longer = Path(path)
    longer.write_text(longer.read_text().replace("steps = 3", "steps = 3 # more"))
    state = torch.load(out / "last.ckpt", weights_only=True)
    state["recipe_sha256"], state["step"] = recipes.load(longer).sha256, 1
    torch.save(state, out / "last.ckpt")
    before = (out / "last.ckpt").read_bytes()
    capsys.readouterr()
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
    try:
        status = main([path, "--out", str(out), "--device", "cpu"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    error = capsys.readouterr().err
    assert status == 2 and "cannot be written" in error and error.count("\n") == 1, error
    assert (out / "last.ckpt").read_bytes() == before
    assert not list(out.glob("*.tmp*"))


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_ctrl_c_keeps_the_run(tmp_path, number):
    path = Path(recipe(tmp_path, steps=100000))
    path.write_text(path.read_text() + "n_prb = 6\n")
    out = tmp_path / "run"
    command = [sys.executable, "-m", "deeprx_training.cli", path, "--out", out, "--device", "cpu"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ONE_THREAD,
    )
    deadline = time.time() + 90
    while not (out / "log.jsonl").exists() and time.time() < deadline:
        time.sleep(0.2)
    process.send_signal(number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "goes on from there" in text and "Traceback" not in text
    assert torch.load(out / "last.ckpt", weights_only=True)["step"] >= 100


def test_a_diverging_loss_stops_and_keeps_the_last_good_state(tmp_path, capsys):
    path = recipe(tmp_path, steps=3)
    trainer = Trainer(recipes.load(path), tmp_path / "run", "cpu")
    trainer.save()
    trainer.members.plain("tiny").net.first.weight.data.fill_(torch.nan)
    with pytest.raises(TrainingError, match=r"step 3 the loss of tiny is not finite; .* earlier"):
        trainer.fit()
    assert all(v.isfinite().all() for v in weights(tmp_path / "run").values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    """A last step may break them after its loss was fine."""
    trainer = Trainer(recipes.load(recipe(tmp_path, steps=1)), tmp_path / "run", "cpu")
    trainer.members.optimizers["tiny"].register_step_post_hook(
        lambda *_: next(iter(trainer.members.nets["tiny"].parameters())).data.fill_(torch.nan)
    )
    with pytest.raises(TrainingError, match=r"step 1 a weight of tiny .* nothing was saved before"):
        trainer.fit()
    assert not (tmp_path / "run" / "last.ckpt").exists()


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda t: t.replace("warmup", "warmpu"), "unknown key 'warmpu'"),
        (lambda t: t.replace("channels = 4", "chanels = 4"), "chanels"),
        (lambda t: t.replace("time_domain", "time_dmain"), "unknown key 'time_dmain'"),
        (lambda t: t.replace("steps = 7", "steps = "), "not a TOML recipe"),
        (lambda t: "deep = " + "[\n" * 10_000, ": nested too deeply"),
        (
            lambda t: "a" + ".a" * 20_000 + " = 1",
            ": expected lines of at most 500 characters, found",
        ),
        (lambda t: "a.a.a.a = 1\n" * 10_000, ": expected at most 65536 characters, found 120000"),
        (lambda t: t.replace("temperature", "loss = { kl = 1.0 }\ntemperature"), "names none"),
        (
            lambda t: t.replace("temperature", "loss = { channel = 1.0 }\ntemperature"),
            "loss.channel: expected a net that shows its estimates, found a HybridRx",
        ),
        (lambda t: t[: t.index("[[members]]")], "members is missing"),
        (lambda t: "optimizer = 'sgd'\n" + t, "expected 'adamw' or 'lamb', found 'sgd'"),
        (lambda t: "precision = 'int4'\n" + t, "expected 'auto', 'float32' or 'bfloat16'"),
        (lambda t: t.replace("batch = 4", "batch = 0"), "batch: expected 1 or more, found 0"),
        (lambda t: "distinct = 7\n" + t, "expected a multiple of chunk (3), found 7"),
        (lambda t: "crop_prb = 5\n" + t, "crop_prb: expected 0 or 6 to 26, found 5"),
        (lambda t: "crop_prb = 27\n" + t, "crop_prb: expected 0 or 6 to 26, found 27"),
        (
            lambda t: (
                "settle = 4\n"
                + t.replace('"HybridRx", channels = 4, dilations = [[1, 1]]', '"RealtimeRx"')
            ),
            "members tiny: settle: expected a net whose batch norms",
        ),
        (lambda t: t.replace("temperature", "loss = { kll = 1.0 }\ntemperature"), "'kll'"),
        (
            lambda t: t.replace("channels = 4", "channels = 0"),
            "members tiny: net: HybridRx: channels: expected 1 or more, found 0",
        ),
        (lambda t: t.replace("channels = 4", "channels = 10_000_000"), "expected 2048 or less"),
        (lambda t: t.replace("[[1, 1]]", "[1, 1]"), "dilations[0]: expected a list, found 1"),
        (lambda t: t.replace("[[1, 1]]", "[[0, 1]]"), "[0][0]: expected 1 or more, found 0"),
        (lambda t: t.replace("channels = 4", "channels = 4, bits = 2"), "unknown key 'bits'"),
        (lambda t: t.replace("channels = 4", "channels = 4, n_rx = 1"), "n_rx: expected 2, as"),
        (lambda t: t.replace('name = "tiny"', ""), "members[0]: name is missing"),
        (lambda t: t.replace("steps = 7", "steps = 'many'"), "steps: expected a whole number"),
        (lambda t: t.replace("steps = 7", "steps = 2.5"), "steps: expected a whole number"),
        (lambda t: "lr = inf\n" + t, "lr: expected a finite number, found inf"),
        (lambda t: "seed = -1\n" + t, "seed: expected 0 or more, found -1"),
        (lambda t: "data_seed = 20_250_710\n" + t, "data_seed: expected one that no evaluation"),
        (lambda t: "kd_until = 7\n" + t, "kd_until: expected 1.0 or less, found 7"),
        (lambda t: "data = 3\n" + t[: t.index("[data]")], "data: expected a table, found 3"),
        (
            lambda t: t.replace('["TDL-B", "TDL-D"]', "[]"),
            "channels: expected a list of at least 1",
        ),
        (lambda t: t.replace("TDL-B", "TDL-A"), "found 'TDL-A'"),
        (lambda t: t.replace("[data]", "[data]\nsnr_db = [9, 3]"), "the smaller number first"),
        (lambda t: t.replace("[data]", "[data]\nsnr_db = 3"), "snr_db: expected a list, found 3"),
        (
            lambda t: t.replace("[data]", "[data]\ninterferer = 2"),
            "interferer: expected 1.0 or less",
        ),
        (lambda t: t.replace("[data]", "[data]\ndmrs = { x = 1 }"), "one to four DMRS symbols"),
        (
            lambda t: t.replace("[data]", '[data]\ndmrs = { "2,8" = 1 }'),
            'one of "2", "2,5,8,11", "2,6,9", "2,7", "2,7,11", "2,9", "2,11", "3"',
        ),
        (lambda t: t.replace("[data]", "[data]\ndmrs = { 2 = 0 }"), "a weight above 0"),
        (lambda t: t.replace("[data]", "[data]\ncell_ids = [5, 65536]"), "found 65536"),
        (lambda t: t.replace("temperature", "loss = { bce = 0 }\ntemperature"), "weight above 0"),
        (
            lambda t: t.replace("temperature = 1.0", "temperature = 0"),
            "expected more than 0.0, found 0",
        ),
        (
            lambda t: (
                "teacher = 'no.ckpt'\n"
                + t.replace("temperature", "loss = { kl = 1.0 }\ntemperature")
            ),
            "no.ckpt: no such",
        ),
    ],
)
def test_bad_recipes_get_one_line(tmp_path, capsys, edit, says):
    path = Path(recipe(tmp_path, member="temperature = 1.0"))
    path.write_text(edit(path.read_text()))
    assert main([str(path), "--out", str(tmp_path / "run"), "--device", "cpu"]) == 2
    message = capsys.readouterr().err
    assert says in message and message.count("\n") == 1


def test_bad_files_get_one_line(tmp_path, capsys):
    path = recipe(tmp_path, steps=1)
    out = str(tmp_path / "run")
    assert main([path, "--out", out, "--device", "cpu"]) == 0
    other = recipe(tmp_path, "other.toml", steps=2)
    (tmp_path / "junk.ckpt").write_bytes(b"not a checkpoint")
    (tmp_path / "junk.pt").write_bytes(b"not a model")
    (tmp_path / "torn.ckpt").write_bytes((tmp_path / "run" / "last.ckpt").read_bytes()[:5000])
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    wider = json.loads(state["specs"]["tiny"]) | {"channels": 5}
    torch.save(state | {"specs": {"tiny": json.dumps(wider)}}, tmp_path / "wider.ckpt")
    torch.save(state | {"specs": {}}, tmp_path / "empty.ckpt")
    one = recipe(tmp_path, "one.toml", steps=1)
    Path(one).write_text(
        f'teacher = "{tmp_path}/run/last.ckpt"\n'
        + Path(one).read_text().replace("channels = 4", "n_rx = 1, channels = 4")
        + "n_rx = 1\n"
    )
    for command, says in [
        ([other, "--out", out], "belongs to another recipe"),
        (["missing.toml", "--out", out], "cannot read the recipe"),
        (
            ["export", f"{out}/last.ckpt:nobody", str(tmp_path / "m.pt")],
            "holds tiny, not 'nobody'",
        ),
        (
            ["export", str(tmp_path / "junk.ckpt"), str(tmp_path / "m.pt")],
            "expected a checkpoint",
        ),
        (["evaluate", str(tmp_path / "junk.pt"), "--out", out], "it ends too early"),
        (["evaluate", "models/deeprx-push.pt", "--out", out], "deeprx-pusch, "),
        (["evaluate", str(tmp_path / "torn.ckpt"), "--out", out], "torn.ckpt: "),
        (["evaluate", str(tmp_path / "wider.ckpt"), "--out", out], "are not those of the net"),
        (["evaluate", str(tmp_path / "empty.ckpt"), "--out", out], "found one without a net"),
        (["evaluate", path, "--out", str(tmp_path / "junk.pt")], "cannot be the output folder"),
        (["evaluate", f"{out}/last.ckpt", "--out", out, "--sinr", "1e9"], "expected -50 to 100"),
        (["evaluate", f"{out}/last.ckpt", "--out", out, "--delay-spread", "300"], "0 to 1e-05"),
        (["evaluate", f"{out}/last.ckpt", "--out", out, "--doppler", "nan"], "0 to 10000"),
        ([one, "--out", f"{out}1", "--device", "cpu"], "PRB in 16QAM with 1 antennas"),
        (
            ["export", f"{out}/last.ckpt", str(tmp_path / "junk.pt" / "m.pt")],
            "cannot be written",
        ),
    ]:
        assert main(command) == 2, command
        message = capsys.readouterr().err
        assert says in message and message.count("\n") == 1, message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_asking_for_a_missing_gpu_is_an_error(tmp_path, capsys):
    assert main([recipe(tmp_path), "--out", str(tmp_path / "run"), "--device", "cuda"]) == 2
    assert "a GPU was asked for" in capsys.readouterr().err


def test_shipped_recipes_are_valid_and_name_their_command():
    for path in (ROOT / "training" / "recipes").glob("*.toml"):
        first = path.read_text().splitlines()[0]
        assert first.startswith("# ./dev train ") and f"training/recipes/{path.name}" in first
        recipes.load(path)


def test_a_recipe_is_known_by_what_it_says(tmp_path):
    """A comment, a space or another order of keys is no other recipe; a run goes on over them."""
    path = Path(recipe(tmp_path, steps=2))
    first, text = recipes.load(path).sha256, path.read_text()
    assert main([str(path), "--out", str(tmp_path / "run"), "--device", "cpu"]) == 0
    path.write_text("# said later\nchunk = 3  # of 4\n" + text.replace("chunk = 3\n", ""))
    assert recipes.load(path).sha256 == first
    assert main([str(path), "--out", str(tmp_path / "run"), "--device", "cpu"]) == 0
    path.write_text(text.replace("chunk = 3", "chunk = 2"))
    assert recipes.load(path).sha256 != first


def test_a_recipe_finds_its_files_from_any_folder(tmp_path, monkeypatch):
    """Here, beside the recipe, or above it as in a clone; what is here goes first."""
    clone, away = tmp_path / "clone", tmp_path / "away"
    for folder in (clone / "training" / "recipes", clone / "runs", away / "runs"):
        folder.mkdir(parents=True)
    more = 'teacher = "runs/t.ckpt:tiny"'
    path = Path(recipe(clone / "training" / "recipes", more=more, member='start = "s.ckpt"'))
    (clone / "runs" / "t.ckpt").touch()
    path.with_name("s.ckpt").touch()
    monkeypatch.chdir(away)
    loaded = recipes.load(path)
    assert loaded.teacher == f"{clone}/runs/t.ckpt:tiny"
    assert loaded.members[0].start == str(path.with_name("s.ckpt"))
    (away / "runs" / "t.ckpt").touch()
    assert recipes.load(path).teacher == "runs/t.ckpt:tiny"
    (clone / "runs" / "t.ckpt").unlink()
    (away / "runs" / "t.ckpt").unlink()
    assert recipes.load(path).teacher == "runs/t.ckpt:tiny"


MINE = """
import torch
class Mine(torch.nn.Module):
    def __init__(self, channels: int = 4):
        super().__init__()
        self.first = torch.nn.Conv2d(6, channels, 3, padding=1)
        self.last = torch.nn.Conv2d(channels, 8, 1)
    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        scale = y.square().mean((1, 2, 3, 4)).rsqrt()
        x = torch.cat([y * scale[:, None, None, None, None], p[:, None]], 1)
        x = self.first(x.permute(0, 1, 4, 2, 3).flatten(1, 2))
        return self.last(x.relu()).permute(0, 2, 3, 1)
"""


def test_a_recipe_names_a_net_of_ones_own(tmp_path, monkeypatch, capsys):
    """Trained, evaluated and exported like the others; its module lies beside the recipe."""
    path = Path(recipe(tmp_path, steps=2))
    text = path.read_text()
    start = text.index("net = {")
    net = 'net = { net = "mine_of_a_test:Mine", channels = 3 }'
    path.write_text(text[:start] + net + text[text.index("\n", start) :])
    run = [str(path), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main(run) == 2
    error = capsys.readouterr().err
    assert "No module named 'mine_of_a_test'; modules are sought" in error
    (tmp_path / "mine_of_a_test.py").write_text(MINE)
    importlib.invalidate_caches()
    assert main(run) == 0
    sys.modules.pop("mine_of_a_test")  # as in a process of its own
    monkeypatch.setattr("deeprx_training.receivers.build._classes", {})
    monkeypatch.chdir(tmp_path)
    evaluate = ["evaluate", "run/last.ckpt", "--sinr", "12", "--slots", "2", "--out", "e"]
    evaluate += ALIKE.split()
    assert main([*evaluate, "--device", "cpu"]) == 2
    assert "last.ckpt: tiny is of mine_of_a_test:Mine, a class that" in capsys.readouterr().err
    assert main([*evaluate, "--device", "cpu", "--trust", "run/last.ckpt"]) == 0
    assert main(["export", "run/last.ckpt", "mine.pt", "--recipe", str(path)]) == 0
    evaluate[1] = "mine.pt"
    assert main([*evaluate, "--device", "cpu"]) == 2
    assert "--trust" in capsys.readouterr().err
    assert main([*evaluate, "--device", "cpu", "--trust", "mine.pt"]) == 0
    for change, says in (
        ("mine_of_a_test:Yours", "expected a torch.nn.Module of that name in mine_of_a_test.py"),
        ("mine_of_a_test:torch", "expected a torch.nn.Module"),
    ):
        path.write_text(path.read_text().replace("mine_of_a_test:Mine", change))
        assert main(run) == 2
        assert says in capsys.readouterr().err
        path.write_text(path.read_text().replace(change, "mine_of_a_test:Mine"))
    path.write_text(path.read_text().replace("channels = 3", "width = 3"))
    assert main(run) == 2
    assert "Mine: Mine.__init__() got an unexpected keyword argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        (["--sinr", "-3,0"], "sinr", [-3.0, 0.0]),
        (["--sinr", "6:18:3"], "sinr", [6.0, 9.0, 12.0, 15.0, 18.0]),
        (["--sinr", "floor"], "sinr", [18.0, 21.0, 24.0, 27.0, 30.0]),
        (["--channel", "tdl-a,CDL-E"], "channel", ["TDL-A", "CDL-E"]),
        (["--modulation", "16qam"], "modulation", "16QAM"),
        (["--dmrs", "2"], "dmrs", [2]),
        (["--n-rx", "4"], "n_rx", 4),
    ],
)
def test_options_of_evaluate(options, key, value):
    parsed = cli._parser().parse_args(["evaluate", "m.pt", "--out", "o", *options])
    assert getattr(parsed, key) == value


def test_an_option_means_the_same_in_every_command():
    """As tests/qa_cli.py has it for the runtime's."""
    meanings = {}
    for command in cli.COMMANDS:
        parser = cli._parser()._subparsers._group_actions[0].choices[command]
        importlib.import_module(f"deeprx_training.cli.{command}").configure(parser)
        for action in parser._actions:
            about = re.sub(r" \(default: .*\)$", "", action.help)
            meaning = about, action.metavar, action.choices, type(action)
            for option in action.option_strings:
                other, known = meanings.setdefault(option, (command, meaning))
                assert meaning == known, f"{option} of {command} and of {other}"
    assert len(meanings) > 30


def test_mistakes_in_options_get_one_line(capsys):
    for command, says in [
        (["evaluate", "m.pt", "--out", "o", "--dmrs", "2.5"], "expected whole numbers"),
        (
            ["evaluate", "m.pt", "--out", "o", "--slots", "1"],
            "--slots: expected 2 or more",
        ),
        (["evaluate", "m.pt", "--out", "o", "--slots", "x"], "expected a whole number, found 'x'"),
        (["evaluate", "m.pt", "--out", "o", "--threads", "0"], "--threads: expected 1 or more"),
        (["export", "m.ckpt", "o", "--settle", "1"], "--settle: expected 2 or more"),
        (["experiment", "e.toml", "--out", "o", "--minutes", "0"], "--minutes: expected more than"),
        (["quantise", "m", "o", "--recipe", "r", "--steps", "1"], "--steps: expected 2"),
        (["experiment", "s", "--out", "o", "--cpus", "0"], "--cpus: expected 1 or more, found 0"),
        (["experiment", "s", "--out", "o", "--gpus", "2"], "--gpus: expected 1.0 or less, found 2"),
        (["r.toml", "--out", "o", "--minutes", "0"], "--minutes: expected more than 0"),
        (["evaluate", "m.pt", "--out", "o", "--sinr", "x"], "expected numbers, as 6,9,12"),
        (["evaluate", "m.pt", "--out", "o", "--mcs", "x"], "--mcs: expected a whole number"),
        (["evaluate", "m.pt", "--out", "o", "--channel", "TDL-F"], "expected TDL-A, TDL-E"),
        (["student", "r.toml"], "invalid choice: 'student' (choose from"),
    ]:
        with pytest.raises(SystemExit) as ended:
            main(command)
        message = capsys.readouterr().err
        assert ended.value.code == 2 and says in message and message.count("\n") == 1, message
    assert re.search("from '?run'?, '?evaluate'?, ", message)  # as Python 3.12 and 3.13 have it


def test_help_and_version_load_no_torch():
    """They take as long as Python does."""
    code = (
        "import sys; from deeprx_training.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(sorted({'torch', 'sionna', 'ray'} & set(sys.modules)))"
    )
    for words in (["--help"], ["--version"], *([c, "--help"] for c in cli.COMMANDS)):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.endswith("[]\n"), (words, done.stderr)


def test_debug_shows_where_an_error_arose(tmp_path, capsys):
    command = ["missing.toml", "--out", str(tmp_path)]
    assert main(command) == 2 and "Traceback" not in capsys.readouterr().err
    assert main([*command, "--debug"]) == 2 and "Traceback" in capsys.readouterr().err


def test_the_python_that_is_required_has_what_is_used():
    """tomllib came with Python 3.11, which is what ruff checks the code for."""
    target = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["target-version"]
    oldest = f">={target[2]}.{target[3:]}"
    for project in ("training", "python/common"):
        metadata = tomllib.loads((ROOT / project / "pyproject.toml").read_text())["project"]
        assert metadata["requires-python"] == oldest


def test_learning_rate_warms_up_and_falls_to_zero(tmp_path):
    r = recipes.load(recipe(tmp_path, steps=100, more="lr = 1e-2\ndecay_from = 0.3"))
    assert learning_rate(r, 0) == pytest.approx(5e-3)
    assert learning_rate(r, 29) == pytest.approx(1e-2)
    assert learning_rate(r, 65) == pytest.approx(5e-3)
    assert learning_rate(r, 99) == pytest.approx(1e-2 / 70)


def test_members_share_first_weights_and_the_classical_part(tmp_path):
    """Twins stay twins, compiled or not; a batch passes the classical receiver once for both."""
    twins = 'name = "twin"\nnet = { net = "HybridRx", channels = 4, dilations = [[1, 1]] }'
    path = recipe(tmp_path, steps=3, member="[[members]]\n" + twins)
    ends = {}
    for compiled in (False, True):
        out = tmp_path / f"compiled-{compiled}"
        trainer = Trainer(recipes.load(path), out, "cpu", compile_nets=compiled)
        seen, once = [], trainer.members.plain("tiny").classical
        compute = once._compute
        once._compute = lambda y, p, bits, f=compute, s=seen: (s.append(y), f(y, p, bits))[1]
        assert trainer.fit() and len(seen) == 3
        nets = torch.load(out / "last.ckpt", weights_only=True)["nets"]
        assert all(torch.equal(w, nets["twin"][k]) for k, w in nets["tiny"].items())
        last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
        ends[compiled] = last["tiny"]["bce"]
    assert ends[True] == pytest.approx(ends[False], rel=1e-2)


_STATE = {"recipe_sha256": "0", "specs": {"m": '{"net": "DeepRx"}'}, "nets": {"m": {}}}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"specs": 5}, "found other tensors"),
        ({"specs": ["m"]}, "found other tensors"),
        ({"specs": {"m": 5}}, "found other tensors"),
        ({"nets": {"m": None}}, "found other tensors"),
        ({"nets": {"m": {5: torch.zeros(1)}}}, "found other tensors"),
        ({"recipe_sha256": 5}, "found other tensors"),
        ({"specs": {"m": '{"net": ["DeepRx"]}'}}, "expected one of DeepRx"),
        ({"specs": {"m": json.dumps({"net": "x" * 5000})}}, "expected one of DeepRx"),
        ({"specs": {"m": '{"net": ".a:B"}'}}, "a class that no recipe here names"),
        ({"specs": {"m": "[" * 100_000}}, "nested too deeply"),
        ({}, "are not those of the net that it names"),
    ],
)
def test_a_file_of_tensors_that_is_no_checkpoint_is_one_line(tmp_path, capsys, changed, says):
    torch.save(_STATE | changed, tmp_path / "c.ckpt")
    assert main(["export", str(tmp_path / "c.ckpt"), str(tmp_path / "m.pt"), "--no-openvino"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and len(error) < 1000 and says in error


def test_a_checkpoint_that_is_a_pipe_is_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "c.ckpt")
    assert main(["export", str(tmp_path / "c.ckpt"), str(tmp_path / "m.pt"), "--no-openvino"]) == 2
    assert "c.ckpt: expected a regular file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changed", [{"step": "x"}, {"step": -1}, {"wall_s": None}, {"ledger": []}, {"optimizers": 5}]
)
def test_a_run_that_cannot_go_on_from_its_checkpoint_says_so(tmp_path, capsys, changed):
    run = [recipe(tmp_path, steps=1), "--out", str(tmp_path / "a"), "--device", "cpu"]
    assert main(run) == 0
    path = tmp_path / "a" / "last.ckpt"
    torch.save(torch.load(path, weights_only=True) | changed, path)
    capsys.readouterr()
    assert main(run) == 2
    assert f"{path}: the weights of tiny are not those" in capsys.readouterr().err
