# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluation: true statistics, LLRs' worth, transport blocks, and what the command line writes."""

import csv
import json
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from runtime import in_runtime, needs_the_blocks
from scipy.integrate import quad
from scipy.stats import binomtest
from torch import nn

from deeprx_common import report
from deeprx_common.commands import run_command
from deeprx_common.gold import gold
from deeprx_common.modulation import modulate
from deeprx_common.options import Parser
from deeprx_common.shipped import CLASSICAL, model_path
from deeprx_common.slot import SlotConfig, User, dmrs_symbols
from deeprx_common.stats import paired_difference
from deeprx_training import cli
from deeprx_training.data.channels import EVALUATION_CHANNELS, SlotGenerator, seed_of
from deeprx_training.data.conditions import Conditions
from deeprx_training.evaluation import coded
from deeprx_training.evaluation import evaluate as evaluation
from deeprx_training.evaluation import tables as summary
from deeprx_training.evaluation.evaluate import (
    LS,
    PERFECT,
    SURE,
    TRUE,
    Evaluation,
    EvaluationError,
    evaluation_conditions,
    of_slot,
)
from deeprx_training.evaluation.report import COLUMNS, evaluate
from deeprx_training.experiments import campaign
from deeprx_training.receivers import soft_bits
from deeprx_training.receivers.build import build
from deeprx_training.receivers.classical import Baseline
from deeprx_training.receivers.contract import OneLayer
from deeprx_training.receivers.wiener import PathStatistics, TrueStatistics
from deeprx_training.reference import Reference
from deeprx_training.teaching import checkpoint
from deeprx_training.teaching.checkpoint import ReceiverFile, read_receiver

ROOT = Path(__file__).parents[2]
SYMBOL_S = 1e-3 / 14
ALIKE = "--delay-spread 1e-7 --doppler 50"  # of all slots: no table and no picture breaks them down
ALIKE_TOO = {"delay_spread_s": (1e-7, 1e-7), "doppler_hz": (50.0, 50.0)}


def covariance(paths, slot, delay_spread, doppler, elements):
    """Of the channel at (antenna, symbol, subcarrier) elements, from the model's statistics."""
    r, t, k = (torch.tensor(e) for e in zip(*elements, strict=True))
    apart = t[:, None] - t
    lags = 2 * math.pi * doppler * SYMBOL_S * torch.arange(14, dtype=torch.float64)
    time = paths.over_time(lags)[apart.abs()]
    time = torch.where((apart < 0)[..., None], time.conj(), time)
    hertz = 15e3 * torch.from_numpy(slot.carriers).double()[k]
    turn = -2 * math.pi * (hertz[:, None] - hertz)[..., None] * paths.delays * delay_spread
    antennas = paths.antennas[:, r][:, :, r].movedim(0, -1)
    return (antennas * time * torch.polar(torch.ones_like(turn), turn)).sum(-1)


@pytest.mark.parametrize("channel", EVALUATION_CHANNELS)
def test_true_statistics_are_those_of_the_drawn_channels(channel):
    one = Conditions(
        channels=(channel,), n_prb=6, delay_spread_s=(2e-7, 2e-7), doppler_hz=(400.0, 400.0)
    )
    generator = SlotGenerator(one)
    batch = generator.batch(1500, 1).of_layer(0)
    elements = [(0, 0, 0), (0, 13, 0), (1, 0, 0), (0, 0, 71), (1, 13, 40), (1, 7, 71)]
    h = torch.stack([batch.h[:, r, t, k] for r, t, k in elements], 1).to(torch.complex128)
    paths = PathStatistics(generator.models[channel], 2)
    expected = covariance(paths, batch.config, 2e-7, 400.0, elements)
    assert (h.T @ h.conj() / len(h) - expected).abs().max() < 3.5 / len(h) ** 0.5
    torch.testing.assert_close(expected.diagonal().real, torch.ones(6).double())


@pytest.mark.parametrize("channel", ["TDL-A", "CDL-E"])
def test_the_filter_through_the_paths_is_the_wiener_filter(channel):
    """Against the textbook form, with covariances of all pilots and of all resource elements."""
    c = Conditions(channels=(channel,), n_prb=6, cell_ids=(1, 1)).at(3.0)
    generator = SlotGenerator(c)
    batch = generator.batch(1, 2).of_layer(0)
    paths = PathStatistics(generator.models[channel], 2)
    y, h, cov = TrueStatistics(generator)._estimate(batch, torch.tensor([0]), paths)
    slot, drawn = batch.config, batch.drawn
    pilots = [(r, t, k) for r in range(2) for t in (2, 11) for k in range(0, 72, 2)]
    wanted = [(0, 0, 0), (1, 5, 33), (0, 13, 71), (1, 13, 71)]
    every = covariance(
        paths, slot, float(drawn.delay_spread_s), float(drawn.doppler_hz), pilots + wanted
    )
    n = len(pilots)
    p = torch.view_as_complex(batch.p)[0]
    z = torch.stack([y[0, t, k, r] * p[t, k].conj() for r, t, k in pilots]).to(torch.complex128)
    loaded = every[:n, :n] + float(batch.n0) * torch.eye(n)
    weights = torch.linalg.solve(loaded, every[:n, n:]).mH
    estimate = torch.stack([h[0, t, k, r] for r, t, k in wanted]).to(torch.complex128)
    torch.testing.assert_close(estimate, weights @ z, rtol=1e-4, atol=1e-4)
    error = (every[n:, n:] - weights @ every[:n, n:]).diagonal().real + float(batch.n0)
    variance = torch.stack([cov[0, t, k, r, r].real for r, t, k in wanted]).double()
    torch.testing.assert_close(variance, error, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("domain", ["frequency", "time"])
def test_true_statistics_lie_between_smoothing_and_perfect_csi(domain):
    """And promise the error rate they keep: no factor on the LLRs gains information."""
    run = Evaluation({}, [6.0, 15.0], 96, evaluation_conditions(domain), seed=4)
    run.run()
    counted = run.counted()
    bits = counted.bits(counted.slots)
    for i in range(2):
        for worse, better in ((SURE, TRUE), (TRUE, PERFECT)):
            less = paired_difference(counted.errors[better][i], counted.errors[worse][i], bits)
            assert less.ci95[1] < 0, (domain, i, worse, better)
        total = counted.margins[TRUE][i].sum(0)
        assert soft_bits.best_scale(total)[1] - soft_bits.information(total) < 1e-3


def test_slots_carry_the_doppler_that_sionna_drew():
    """The line of sight of TDL-E turns at 0.7 of the maximum Doppler shift."""
    c = Conditions(channels=("TDL-E",), n_prb=6, doppler_hz=(50.0, 500.0)).at(30.0)
    batch = SlotGenerator(c).batch(64, 3).of_layer(0)
    h = batch.h.mean((1, 3))  # the delays are short: the line of sight stays
    turned = (h[:, 1:] * h[:, :-1].conj()).sum(1).angle() / (2 * math.pi * SYMBOL_S)
    assert np.corrcoef(turned, 0.7 * batch.drawn.doppler_hz)[0, 1] > 0.9
    assert (turned - 0.7 * batch.drawn.doppler_hz).abs().median() < 20


def gaussian_margins(sigma, shape, seed=1):
    """Of consistent Gaussian LLRs: mean sigma^2 / 2."""
    rng = torch.Generator().manual_seed(seed)
    return sigma**2 / 2 + sigma * torch.randn(shape, generator=rng)


def test_information_of_gaussian_llrs():
    """J(sigma) of ten Brink, integrated here; wrong scaling loses some, and is found out."""
    sigma = 2.0
    density = lambda x: math.exp(-((x - 2) ** 2) / 8) / math.sqrt(8 * math.pi)  # noqa: E731
    expected = 1 - quad(lambda x: density(x) * math.log2(1 + math.exp(-x)), -30, 40)[0]
    margin = gaussian_margins(sigma, (4, 200_000))
    counts = soft_bits.histogram(margin).numpy()
    assert counts.shape == (4, len(soft_bits.CENTRES)) and (counts.sum(1) == 200_000).all()
    directly = 1 - torch.log2(1 + torch.exp(-margin)).mean(1)
    assert soft_bits.information(counts) == pytest.approx(directly.numpy(), abs=1e-3)
    assert soft_bits.information(counts.sum(0)) == pytest.approx(expected, abs=4e-3)
    doubled = soft_bits.histogram(2 * gaussian_margins(sigma, (1, 800_000))).numpy()[0]
    scale, best = soft_bits.best_scale(doubled)
    assert soft_bits.information(doubled) < expected - 0.03
    assert scale == pytest.approx(0.5, rel=0.1) and best == pytest.approx(expected, abs=4e-3)


def test_reliability_of_gaussian_llrs():
    counts = soft_bits.histogram(gaussian_margins(2.0, (1, 2_000_000))).numpy()[0]
    for b in soft_bits.reliability(counts)[:5]:
        assert b["wrong"] / b["bits"] == pytest.approx(b["promised"], rel=0.03), b
    few = soft_bits.histogram(torch.tensor([[0.1, 0.2, -0.6, 3.1, 99.0]])).numpy()[0]
    rows = [(b["llr"], b["bits"], b["wrong"]) for b in soft_bits.reliability(few)]
    assert rows == [([0, 1], 3, 1), ([3, 4], 1, 0), ([39, 40], 1, 0)]
    assert soft_bits.largest(few, 0.5) == 0.75 and soft_bits.largest(few, 1.0) == soft_bits.SPAN


VECTORS = np.load(ROOT / "tests" / "golden" / "pusch_vectors.npz")
SENT = {
    slot["name"]: (i, slot)
    for i, slot in enumerate(json.loads(str(VECTORS["index"])))
    if not slot["rv"] and not slot["harq_ack_bits"]
}


@pytest.mark.parametrize("name", SENT)
def test_coded_bits_are_those_of_another_implementation(name):
    """golden/pusch_vectors.npz, which tests/qa_transport_blocks.py describes; among them one to 29
    code blocks, both base graphs, bits that are sent twice.
    """
    i, slot = SENT[name]
    user = User(
        mcs=slot["mcs_index"],
        mcs_table=2 if slot["mcs_table"].startswith("qam256") else 1,
        rnti=slot["rnti"],
        n_id=slot["n_id"],
    )
    config = SlotConfig(
        n_prb=slot["n_prb"],
        first_prb=slot["prb_start"],
        n_symbols=slot["n_symbols"],
        dmrs=dmrs_symbols(slot["n_symbols"], slot["dmrs_additional_position"]),
        cdm_groups=slot["cdm_groups_without_data"],
        users=(user,),
    )
    assert config.transport_block_size() == slot["tbs"]
    bits = np.unpackbits(VECTORS[f"tb{i}"]).astype(np.float32)
    coded = block_of(config).encode(torch.from_numpy(bits)[None])[0].numpy()
    scrambled = coded.astype(np.uint8) ^ gold((user.rnti << 15) + user.n_id, config.n_bits)
    data = VECTORS[f"grid{i}"][: slot["n_symbols"]][config.data_mask]
    np.testing.assert_allclose(modulate(scrambled, user.modulation), data, atol=1e-5)


def block_of(config):
    user = config.users[0]
    size = config.transport_block_size()
    return coded.TransportBlock(size, config.n_bits, user.bits_per_symbol, user.code_rate)


def block_of_mcs(index, table=1):
    return block_of(SlotConfig(users=(User(mcs=index, mcs_table=table),)))


EVERY_MCS = [(table, i) for table, last in ((1, 28), (2, 27), (3, 28)) for i in range(last + 1)]
ENCODE = """
import json, sys
import numpy as np
from deeprx_common.slot import SlotConfig, User
from gnuradio.deeprx.deeprx_python import TransportBlock
coded = []
for table, index in json.loads(sys.argv[1]):
    config = SlotConfig(users=[User(mcs=index, mcs_table=table)])
    user, size = config.users[0], config.transport_block_size()
    block = TransportBlock(size, config.n_bits, user.bits_per_symbol, user.code_rate)
    coded.append(np.packbits(block.encode(config.block(1, index), 0)))
sys.stdout.buffer.write(np.concatenate(coded))
"""


@needs_the_blocks
@pytest.mark.slow
def test_every_mcs_is_coded_as_the_link_codes_it():
    run = in_runtime("-c", ENCODE, json.dumps(EVERY_MCS), check=True)
    rest = np.frombuffer(run.stdout, np.uint8)
    for table, index in EVERY_MCS:
        config = SlotConfig(users=(User(mcs=index, mcs_table=table),))
        bits = np.unpackbits(np.frombuffer(config.block(1, index), np.uint8)).astype(np.float32)
        coded_bits = block_of(config).encode(torch.from_numpy(bits)[None])[0].numpy()
        expected, rest = np.split(rest, [config.n_bits // 8])
        assert np.array_equal(np.packbits(coded_bits.astype(np.uint8)), expected), (table, index)
    assert not len(rest)


# code blocks; both base graphs, with and without bits that are sent again; the highest rate
@pytest.mark.parametrize(
    ("table", "index", "blocks"),
    [(1, 0, 1), (1, 13, 1), (1, 16, 2), (1, 28, 3), (2, 27, 4), (3, 0, 1), (3, 9, 1)],
)
def test_blocks_decode_above_capacity_and_not_below(table, index, blocks):
    """Consistent Gaussian LLRs of more and of less information than the rate; any bits."""
    block, user = block_of_mcs(index, table), User(mcs=index, mcs_table=table)
    n = 4056 * user.bits_per_symbol
    assert block.blocks == blocks
    bits = torch.randint(0, 2, (4, n), generator=torch.Generator().manual_seed(1))
    drawn = block.draw(4, 1)
    for fails in (True, False):
        sigma = sigma_of(0.75 * user.code_rate if fails else 1.25 * user.code_rate + 0.04)
        margin = gaussian_margins(sigma, bits.shape)
        llr = torch.where(bits.bool(), margin, -margin)
        assert (block.errors(llr, bits, drawn) == fails).all(), fails
    right = (bits * 2.0 - 1) * 9
    assert not block.errors(right, bits, drawn).any()
    assert block.errors(-right, bits, drawn).all()
    assert block.errors(torch.zeros(4, n), bits, drawn).all()  # not the zero word


def sigma_of(carried):
    """Of consistent Gaussian LLRs that carry so many bits a bit, at most 0.9999; by bisection."""
    low, high = 0.01, 20.0
    margin = gaussian_margins(1.0, 100_000) - 0.5
    while high - low > 1e-3:
        middle = (low + high) / 2
        loss = torch.log2(1 + torch.exp(-(middle**2 / 2 + middle * margin))).mean()
        low, high = (middle, high) if 1 - loss < min(carried, 0.9999) else (low, middle)
    return high


def test_one_wrong_code_block_is_a_wrong_block():
    block = block_of_mcs(16)  # two code blocks of 8112 bits
    bits = torch.randint(0, 2, (3, 16224), generator=torch.Generator().manual_seed(1))
    llr = (bits * 2.0 - 1) * 9
    llr[1, 8112:] *= -1  # the second code block of the second slot
    assert block.errors(llr, bits, block.draw(3, 1)).tolist() == [False, True, False]


@pytest.mark.parametrize(("index", "table", "sinr"), [(13, 1, 6.0), (5, 3, -7.0)])
def test_blocks_settled_without_decoding_are_settled_as_decoding_would(index, table, sinr):
    """On fading slots around the waterfall, where every kind occurs."""
    user = User(mcs=index, mcs_table=table)
    conditions = evaluation_conditions(modulations={user.modulation: 1.0})
    batch = SlotGenerator(conditions.at(sinr)).batch(16, 9).of_layer(0)
    m = user.bits_per_symbol
    llr = Baseline(sure=True)(batch.y, batch.p, m)[..., :m][:, batch.data].flatten(1)
    bits = batch.bits[:, batch.data].flatten(1)
    block = block_of_mcs(index, table)
    drawn = block.draw(16, 1)
    quick = block.errors(llr, bits, drawn)
    margin = block._combine(soft_bits.margins(llr, bits))
    assert torch.equal(quick, block._decode(margin, drawn))
    assert 0 < quick.sum() < 16


class Clairvoyant(nn.Module):
    """Draws the slots again and returns the bits that were sent; strike: at this call, Ctrl-C."""

    def __init__(self, sinr_db, slots, seed, strike=None, **changes):
        super().__init__()
        conditions = evaluation_conditions(**changes)
        self.llrs = [None]  # the evaluation tries it once
        for first in range(0, slots, evaluation.BATCH):
            for i, sinr in enumerate(sinr_db):
                generator = SlotGenerator(conditions.at(sinr))
                size = min(evaluation.BATCH, slots - first)
                batch = generator.batch(size, seed_of(seed, i), first // evaluation.BATCH)
                self.llrs.append(10.0 * batch.bits[:, 0] - 5.0)
        self.strike, self.calls = strike, 0

    def forward(self, y, p, bits):
        llr = self.llrs[self.calls]
        if self.calls == self.strike:
            os.kill(os.getpid(), signal.SIGINT)
        self.calls += 1
        return torch.zeros(*p.shape[:3], bits) if llr is None else llr


def test_a_net_below_perfect_csi_is_named():
    net = Clairvoyant([6.0, 9.0], 24, seed=2)
    sinr_db, conditions = [6.0, 9.0], evaluation_conditions()
    result, counted, stopped = evaluate({"oracle": net}, sinr_db, 24, conditions, 2)
    assert not stopped and counted.errors["oracle"].sum() == 0
    assert [(b["a"], b["sinr_db"]) for b in result["below_perfect_csi"]] == [
        ("oracle", 6.0),
        ("oracle", 9.0),
    ]
    assert "oracle is below perfect CSI at 6 dB" in summary.warnings(result)[0]


def test_ctrl_c_keeps_whole_curves(tmp_path, monkeypatch, capsys):
    """Struck in the second round over the points: what the first counted is written."""
    monkeypatch.setattr(evaluation, "BATCH", 16)
    channel, drawn = f"--channel TDL-A {ALIKE}", {"channels": ("TDL-A",), **ALIKE_TOO}
    net = Clairvoyant([6.0, 9.0], 20, 2, strike=4, **drawn)

    def oracle(reference, trust):
        return ReceiverFile(Reference.parse(reference), "oracle", net, "", {}, None, None)

    monkeypatch.setattr(checkpoint, "read_receiver", oracle)
    command = f"evaluate oracle.ckpt {channel} --seed 2 --device cpu --sinr"
    assert cli.main(f"{command} 6,9 --slots 20 --out {tmp_path}".split()) == 130
    assert "stopped: 16 of 20 slots at 2 of 2 SINR points" in capsys.readouterr().err
    points = report.read(tmp_path / "report.json")["points"]
    assert {p["slots"] for p in points} == {16} and len(points) == 2 * 6
    net = Clairvoyant([6.0], 4, 2, strike=1, **drawn)
    assert cli.main(f"{command} 6 --slots 4 --out {tmp_path}/b".split()) == 130
    assert "nothing is written" in capsys.readouterr().err and not list((tmp_path / "b").iterdir())


def test_workers_and_interruptions_change_no_number(tmp_path):
    """Two of Ray's workers, stopped by SIGTERM, which does what Ctrl-C does; this process then
    counts what is missing, and the whole afresh.
    """
    (tmp_path / "slot.json").write_text(json.dumps({"n_prb": 6}))
    options = (
        f"ls-lmmse --slot {tmp_path}/slot.json --sinr 3,6 --channel TDL-A {ALIKE} --device cpu"
    )
    stopped, fresh = tmp_path / "stopped", tmp_path / "fresh"
    command = f"evaluate {options} --slots 100000 --workers 2 --out {stopped}"
    process = subprocess.Popen(
        [sys.executable, "-m", "deeprx_training.cli", *command.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.time() + 600
    while len(list(stopped.glob("counted/*/*.npz"))) < 2:
        assert process.poll() is None and time.time() < deadline, process.communicate()[0]
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 130 and "of 100000 slots" in text and "Traceback" not in text
    kept = {p: p.stat().st_mtime_ns for p in stopped.glob("counted/*/*.npz")}
    part = min(report.read(stopped / "report.json")["points"][0]["slots"], 140)
    for out in (stopped, fresh):
        command = f"evaluate {options} --slots 140 --workers 1 --out {out}"
        assert cli.main(command.split()) == 0
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items())
    counted, again = (np.load(out / "errors.npz") for out in (stopped, fresh))
    assert counted[SURE].shape == (2, 140) and part >= evaluation.BATCH
    for name in again.files:
        np.testing.assert_array_equal(counted[name], again[name])


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_model_file_is_opened_once(tmp_path):
    """Its program, its SHA-256 and the slots that it takes are of the same bytes; on the slots of
    options as on named conditions.
    """
    commands = []
    for name, what in (
        ("drawn", f"--n-prb 6 --channel TDL-A {ALIKE} --sinr 9 --slots 4"),
        ("named", f"--conditions {ROOT}/training/experiments/conditions.toml --names qpsk-0db"),
    ):
        path = shutil.copy(model_path("baseline-lmmse"), tmp_path / f"{name}.pt")
        out = f"--out {tmp_path / name} --device cpu --workers 1"
        commands.append(f"evaluate {path} {what} {out}".split())
    program = (
        "import json, sys; from deeprx_training import cli; from deeprx_training.evaluation import "
        "never_worse as rule; rule.FEWEST_SLOTS = rule.MOST_SLOTS = rule.MOST_BLOCK_SLOTS = 4; "
        "print(list(map(cli.main, json.loads(sys.argv[1]))))"
    )
    strace = ["strace", "-f", "--seccomp-bpf", "--trace=open,openat,openat2", "-o"]
    ran = subprocess.run(
        [*strace, tmp_path / "log", sys.executable, "-c", program, json.dumps(commands)],
        capture_output=True,
        text=True,
    )
    assert ran.stdout.splitlines()[-1:] in (["[0, 0]"], ["[0, 1]"]), ran.stderr
    log = (tmp_path / "log").read_text()
    assert [log.count(f'"{tmp_path}/{name}.pt"') for name in ("drawn", "named")] == [1, 1]


def test_a_worker_counts_no_other_file(tmp_path):
    """It opens it for itself, maybe on another machine."""
    path = str(tmp_path / "mine.pt")
    shutil.copy(model_path("baseline-lmmse"), path)
    files = campaign.files_of([read_receiver(path)])
    shutil.copy(model_path("baseline-sure"), path)
    plan = campaign.Plan(tmp_path, files, (), {})
    refused = campaign._count_on_ray(plan, evaluation.Part(0, 0, 1), 1, os.getcwd())
    assert isinstance(refused, EvaluationError) and "mine.pt: was exchanged" in str(refused)


@pytest.mark.parametrize(
    ("arises", "status"),
    [(lambda: torch.zeros(2) @ torch.zeros(3), 3), (lambda: read_receiver("nothing.pt"), 2)],
    ids=["a bug", "a mistake"],
)
def test_an_error_of_a_worker_is_what_it_is_in_this_process(arises, status, monkeypatch, capsys):
    class TaskError(Exception):
        pass

    def get(_ref):
        """As Ray does: the error itself crosses over, without its traceback."""
        try:
            return campaign._count_on_ray(None, None, 1, os.getcwd())
        except Exception as error:
            task_error = TaskError()
            task_error.cause = pickle.loads(pickle.dumps(error))
            raise task_error from None

    exceptions = SimpleNamespace(RayTaskError=TaskError, RayError=TaskError)
    ray = SimpleNamespace(get=get, exceptions=exceptions)
    monkeypatch.setattr(campaign, "_evaluation", lambda plan: arises())
    parser = Parser(prog="worker")
    parser.set_defaults(run=lambda arguments: campaign._result(ray, None))
    assert run_command(parser, []) == status
    assert ("(--debug shows where)" in capsys.readouterr().err) == (status == 3)


def test_points_are_kept_while_they_grow(monkeypatch):
    """What a kill or a full disk leaves."""
    monkeypatch.setattr(evaluation, "BATCH", 16)
    net, kept = Clairvoyant([6.0, 9.0], 40, seed=2), []
    evaluate({"oracle": net}, [6.0, 9.0], 40, evaluation_conditions(), 2, keep=kept.append)
    for result in kept:
        report.validate(result)
    assert [{p["slots"] for p in result["points"]} for result in kept] == [{16}, {32}, {40}]
    assert all({p["sinr_db"] for p in result["points"]} == {6.0, 9.0} for result in kept)


def test_counts_of_another_shape_are_not_taken(tmp_path):
    def run():
        given = {"oracle": Clairvoyant([9.0], 2, seed=2)}, [9.0], 2, evaluation_conditions(), 2
        Evaluation(*given, kept=tmp_path).run()

    run()
    run()  # its own are taken
    (file,) = tmp_path.glob("*.npz")
    with np.load(file) as counted:
        known = dict(counted)
    errors, shape = known["errors:oracle"], "expected what each receiver makes of each slot"
    for spoilt, says in (
        (known | {"errors:oracle": errors[:1]}, shape),
        (known | {"channel:": errors}, shape),
        ({"errors:oracle": errors}, "expected arrays by name"),
    ):
        np.savez(file, **spoilt)
        with pytest.raises(EvaluationError, match=f"{says}; delete it"):
            run()


def test_evaluate_writes_everything(tmp_path, capsys):
    command = (
        f"evaluate baseline-sure --n-prb 6 --channel TDL-A,CDL-E --delay-spread 1e-7 --sinr 6,9,24 "
        f"--slots 24 --mcs 16 --seed 3 --out {tmp_path} --device cpu"
    )
    assert cli.main(command.split()) == 0
    out = capsys.readouterr().out
    assert "SINR at 1e-2" in out and "Block error rate, MCS 16 of table 1" in out
    for name in (
        "results.csv",
        "tables.md",
        "ber.png",
        "llr.png",
        "ber_by_channel.png",
    ):
        assert name in out and (tmp_path / name).stat().st_size > 500
    written = report.read(tmp_path / "report.json")
    same = [p for p in written["points"] if p["receiver"] in ("baseline-sure", SURE)]
    assert same[0]["bit_errors"] == same[1]["bit_errors"]  # the shipped file and its source
    assert not written["below_perfect_csi"]
    counted = np.load(tmp_path / "errors.npz")
    assert counted["channel"].shape == counted[SURE].shape == (3, 24)
    numbers = written["numbers"]
    by_channel = [
        n for n in numbers if (n["by"], n["receiver"], n["metric"]) == ("channel", SURE, "ber")
    ]
    bits = same[0]["bits"] / 24
    errors = sum(n["value"] * n["slots"] * bits for n in by_channel)
    assert errors == pytest.approx(counted[SURE].sum())
    for metric in ("ber = 0.01", "bler = 0.1"):
        gains = {n["receiver"]: n for n in numbers if n["metric"] == f"gain on {SURE} at {metric}"}
        assert [gains["baseline-sure"][k] for k in ("value", "low", "high")] == [0, 0, 0]
        assert gains["perfect CSI"]["value"] > 0.3
    for p in written["points"]:
        assert (p["mcs"], p["blocks"], p["modulation"]) == (16, 24, "16QAM")
        exact = binomtest(p["block_errors"], 24).proportion_ci(0.95, "exact")
        assert p["bler_ci95"] == pytest.approx([exact.low, exact.high])
        # bits of a block, TS 38.214: 6 PRB, 156 REs, 658/1024, quantised by 32
        assert p["goodput_bit_per_s"] == pytest.approx((1 - p["bler"]) * 2408 * 1000)
    wrong = {p["receiver"]: p["block_errors"] for p in written["points"] if p["sinr_db"] == 9}
    compared = {c["a"]: c for c in written["comparisons"] if c["sinr_db"] == 9 and c["b"] == SURE}
    assert compared[LS]["bler_difference"] == pytest.approx((wrong[LS] - wrong[SURE]) / 24)
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == set(COLUMNS) == set(numbers[0])
    assert {r["metric"] for r in rows} >= {
        "ber", "bler", "information", "ber difference to sure-lmmse", "sinr_db at ber = 0.01",
        "gain on sure-lmmse at ber = 0.01", "bler difference to sure-lmmse",
        "sinr_db at bler = 0.1",
    }  # fmt: skip
    intervals = [[r[k] for k in ("low", "value", "high")] for r in rows]
    intervals = [[float(v) for v in interval] for interval in intervals if all(interval)]
    assert len(intervals) > 20 and intervals == [sorted(interval) for interval in intervals]
    text = (tmp_path / "tables.md").read_text()
    for heading in (
        "Uncoded BER", "BER minus that of sure-lmmse", "gain at 0.01, dB", "MCS 16 of table 1",
        "BLER minus that of sure-lmmse", "gain at 0.1, dB", "By Doppler", "LLRs",
    ):  # fmt: skip
        assert heading in text
    (same, *_) = [line for line in text.splitlines() if "equal in all 24 clusters" in line]
    assert "baseline-sure" in same and same.count("equal in all 24 clusters") == 3
    assert "inf" not in text


def test_users_are_counted_apart_and_together(monkeypatch):
    """Of two, each with an MCS of its own, on pilots that they share; LLRs of the better one do not
    hide the other's. Ports and modulations are those of the slot in every batch.
    """
    users = (User(mcs=4), User(mcs=18, rnti=7, port=1))
    slot = SlotConfig(n_prb=6, dmrs=(2, 7, 11), cdm_groups=2, scs_khz=30, users=users)
    conditions = evaluation_conditions(n_rx=4, **of_slot(slot))
    names = {"joining": CLASSICAL, "ideals": (PERFECT,)}
    monkeypatch.setattr(evaluation, "BATCH", 32)
    run = Evaluation({}, [10.0], 48, conditions, 5, slot=slot, **names)
    drawn, count = [], run._count
    run._count = lambda batch, *rest: drawn.append(batch.config) or count(batch, *rest)
    run.run()
    for config in drawn:
        assert [user.port for user in config.users] == [0, 1]
        assert [user.modulation for user in config.users] == ["QPSK", "64QAM"]
    first, second, both = (run.counted(layer) for layer in (0, 1, None))
    assert list(both.errors) == [*CLASSICAL, PERFECT] and both.errors[LS].shape == (1, 48)
    assert first.config.users == users[:1] and second.config.users == users[1:]
    assert both.slot_bits == first.slot_bits + second.slot_bits == 8 * slot.n_data_re
    for name in both.errors:
        for counted in ("errors", "block_errors", "margins"):
            apart = getattr(first, counted)[name] + getattr(second, counted)[name]
            assert np.array_equal(apart, getattr(both, counted)[name])
        assert first.block_errors[name].sum() < 8 < second.block_errors[name].sum()
    best = [counted.errors[PERFECT].sum() for counted in (first, second)]
    for name in CLASSICAL:
        assert best[0] < first.errors[name].sum() and best[1] < second.errors[name].sum()


def test_interferers_have_pilots_of_their_own(monkeypatch):
    """Where conditions draw several kinds of slots, one is evaluated, among interferers of all."""
    slot = SlotConfig(n_prb=6, users=(User("QPSK"),))
    several = {
        "dmrs": {(2,): 1.0, (2, 11): 1.0},
        "cdm_groups": {1: 1.0, 2: 1.0},
        "modulations": {"QPSK": 1.0, "256QAM": 1.0},
        "interferer": 1.0,
        "interferer_dmrs": 0.5,
        "sir_db": (3.0, 3.0),
        "cell_ids": (0, 1007),
    }
    conditions = evaluation_conditions(**of_slot(slot) | several)
    with pytest.raises(EvaluationError, match="expected one modulation"):
        Evaluation({}, [20.0], 512, conditions, ideals=(PERFECT,))
    monkeypatch.setattr(evaluation, "BATCH", 32)
    run = Evaluation({}, [20.0], 768, conditions, ideals=(PERFECT,), slot=slot)
    drawn, count = [], run._count
    run._count = lambda batch, *rest: drawn.append(batch) or count(batch, *rest)
    run.run()
    assert {(b.config.dmrs, b.config.cdm_groups, b.config.modulation) for b in drawn} == {
        ((2, 11), 1, "QPSK")
    }
    others = [b.drawn.interferer for b in drawn]
    assert {(2,), (2, 11)} == {i.dmrs for i in others} and {1, 2} == {i.cdm_groups for i in others}
    errors = run.counted().errors
    assert 0 < errors[PERFECT].sum() < errors[SURE].sum() < errors[LS].sum()


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, y, p, bits):
        return torch.full((*p.shape[:3], bits), self.value)


def test_llrs_that_are_never_finite_are_an_error():
    run = Evaluation({"broken": Constant(math.nan)}, [6.0], 4, evaluation_conditions())
    with pytest.raises(EvaluationError, match="broken: gives LLRs that are not finite at 6 dB"):
        run.run()


class Sometimes(Constant):
    """Not a number in slots whose first sample is negative."""

    def forward(self, y, p, bits):
        llr = super().forward(y, p, bits)
        return llr.masked_fill((y[:, 0, 0, 0, 0] < 0)[:, None, None, None], math.nan)


def test_slots_with_llrs_that_are_not_finite_are_dropped():
    """By the receiver that gives them, and counted for none; the others are as without it."""
    alone = Evaluation({}, [6.0, 9.0], 24, evaluation_conditions())
    alone.run()
    nets = {"broken": Sometimes(1.0)}
    measured, counted, _ = evaluate(nets, [6.0, 9.0], 24, evaluation_conditions())
    lost = counted.dropped["broken"]
    assert all(0 < n < 24 for n in lost) and not counted.dropped[LS].any()
    assert counted.slots == 24 - lost.max()
    assert (counted.errors["broken"] >= 0).all()
    for point, errors in enumerate(counted.errors[LS]):
        others = iter(alone.counted().errors[LS][point])
        assert all(n in others for n in errors)  # some of them, in their order
    for p in measured["points"]:
        n = lost[[6.0, 9.0].index(p["sinr_db"])] if p["receiver"] == "broken" else 0
        assert p["slots"] == counted.slots and p["missed_slots"] == n
        assert p.get("dropped_slots", {}) == ({report.NOT_FINITE: n} if n else {})
    said = [f"broken dropped {n} slots at {s} dB" for n, s in zip(lost, (6, 9), strict=True)]
    assert [line.split(",")[0] for line in summary.warnings(measured)[:2]] == said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--reference LMMSE", "reference: expected one of ls-lmmse"),
        ("--n-rx 3", "deeprx-student: takes n_rx of 2, found 3"),
        ("--mcs half", "--mcs: expected a whole number, found 'half'"),
        ("--mcs -1", "--mcs: expected 0 or more, found -1"),
        ("--mcs 29", "mcs of table 1 must be 0 to 28, got 29"),
        ("--mcs 28 --mcs-table 2", "mcs of table 2 must be 0 to 27, got 28"),
        ("--mcs 1 --mcs-table 4", "--mcs-table: expected 3 or less, found 4"),
        ("--mcs-table 2", "--mcs-table is for --mcs, which was not given"),
        ("--mcs 4 --modulation QPSK", "--mcs says the modulation: give one of --mcs and"),
        ("--code-rate 1/2", "unrecognized arguments: --code-rate 1/2"),
        ("--slots 1", "--slots: expected 2 or more"),
        ("--sinr low", "--sinr: expected numbers"),
        ("--doppler=-5,5", "--doppler: expected one or two numbers from 0 to 10000 Hz"),
        ("--delay-spread 1,2,3", "--delay-spread: expected one or two numbers"),
        ("--channel TDL-X", "TDL-X"),
        ("--slot gnb", "deeprx-student: takes scs_khz of 15, found 30"),
        ("--users 2", "deeprx-student: takes layers of 1, found 2"),
        ("--n-prb 5", "deeprx-student: takes 6 to 273 PRB in multiples of 1, found 5"),
        ("--users 3", "--users: expected 2 or less, found 3"),
        (
            "--sir 6 --sinr 3,6",
            "an SIR of 6 dB rules out an SINR of 6 dB: give --sinr values below",
        ),
        ("--slot none.json", "expected default, gnb or a JSON file, found 'none.json'"),
        ("--dmrs 2,7,11", "deeprx-student: takes dmrs of [2], [2, 11], found [2, 7, 11]"),
        ("--dmrs 2,7", "dmrs of 14 symbols must be one of [2], [2, 11], [2, 7, 11]"),
    ],
)
def test_bad_options_get_one_line(tmp_path, capsys, options, says):
    command = f"evaluate {ROOT}/models/deeprx-student.pt --out {tmp_path} --device cpu {options}"
    try:
        status = cli.main(command.split())
    except SystemExit as ended:  # the parser found it
        status = ended.code
    assert status == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1, error


def test_a_wrong_name_lists_the_right_ones(tmp_path, capsys):
    assert cli.main(["evaluate", "deeprx-none", "--out", str(tmp_path), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "deeprx-none: no such checkpoint or model file; those that ship: baseline-lmmse" in error


def test_classical_receivers_have_the_names_that_they_have_in_gnu_radio(tmp_path, capsys):
    options = (
        f"--reference sure-lmmse --slots 2 --sinr 6 --channel TDL-A {ALIKE} --device cpu "
        f"--out {tmp_path}"
    )
    assert cli.main(f"evaluate ls-lmmse SURE-LMMSE {options}".split()) == 0
    written = report.read(tmp_path / "report.json")
    assert [p["receiver"] for p in written["points"]] == [*CLASSICAL, TRUE, PERFECT]
    assert {c["b"] for c in written["comparisons"]} == {SURE}


def test_a_gnbs_slot_of_two_users_is_evaluated(tmp_path, capsys):
    """A net for every slot beside all that know one; a table and numbers of each user."""
    torch.manual_seed(1)
    net = build({"net": "PuschRx", "rounds": 1})
    state = {"specs": {"any": json.dumps({"net": "PuschRx", "rounds": 1})}, "recipe_sha256": ""}
    torch.save(state | {"nets": {"any": net.state_dict()}}, tmp_path / "last.ckpt")
    command = (
        f"evaluate {tmp_path}/last.ckpt --slot gnb --n-prb 6 --users 2 --mcs 9 --n-rx 4 --slots 8 "
        f"--channel TDL-A,CDL-E {ALIKE} --sinr 6,12 --threads 1 --out {tmp_path} --device cpu"
    )
    assert cli.main(command.split()) == 0
    said = capsys.readouterr()
    assert "left out: true-statistics LMMSE" in said.err and said.err.count("\n") == 1
    assert "Block error rate of user 2 of 2, MCS 9 of table 1" in said.out
    written = report.read(tmp_path / "report.json")
    names = [*CLASSICAL, "any", PERFECT]
    for layer in (0, 1):
        points = [p for p in written["points"] if p["layer"] == layer]
        assert [p["receiver"] for p in points] == names * 2
        wrong = {p["receiver"]: p["bit_errors"] for p in points if p["sinr_db"] == 12}
        assert wrong[PERFECT] < wrong["any"] < 1.2 * wrong[LS]
        assert {(p["layers"], p["mcs"], p["blocks"]) for p in points} == {(2, 9, 8)}
    slot = SlotConfig.from_dict(written["points"][0]["slot"])
    assert [user.port for user in slot.users] == [0, 2] and slot.scs_khz == 30
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["user"] for row in rows} == {"1", "2"}
    text = (tmp_path / "tables.md").read_text()
    assert (
        "Uncoded BER of user 1 of 2, QPSK" in text and "ber_by_channel_user_2_of_2.png" in said.out
    )
    pooled = np.load(tmp_path / "errors.npz")[SURE].sum()
    of_users = [p["bit_errors"] for p in written["points"] if p["receiver"] == SURE]
    assert len(of_users) == 4 and pooled == sum(of_users)


def test_interferers_join_at_the_sinr_that_is_asked_for(tmp_path, capsys):
    command = f"evaluate gnb --sir 3 --sinr 0 --slots 64 --channel TDL-A {ALIKE}"
    assert cli.main(f"{command} --n-prb 6 --threads 1 --device cpu --out {tmp_path}".split()) == 0
    points = {p["receiver"]: p for p in report.read(tmp_path / "report.json")["points"]}
    point = points[SURE]
    assert (point["sinr_db"], point["sir_db"]) == (0.0, 3.0)
    assert point["snr_db"] == pytest.approx(-10 * math.log10(1 - 10**-0.3))
    assert points[PERFECT]["ber"] < point["ber"] < points["gnb"]["ber"]  # who takes it for noise


@pytest.mark.parametrize(
    ("options", "expected"),
    [("", ("QPSK", 4, [2])), ("--modulation 64QAM --dmrs 3,11", ("64QAM", None, [3, 11]))],
)
def test_slots_of_a_file_are_evaluated(tmp_path, options, expected):
    slot = SlotConfig(n_prb=10, scs_khz=30, dmrs=(2,), dmrs_n_id=7, users=(User(mcs=4),))
    (tmp_path / "slot.json").write_text(json.dumps(slot.as_dict()))
    command = f"evaluate ls-lmmse --slot {tmp_path}/slot.json --out {tmp_path} --slots 2 --sinr 6"
    assert cli.main(f"{command} --channel TDL-A {ALIKE} --device cpu {options}".split()) == 0
    point = report.read(tmp_path / "report.json")["points"][0]
    assert (point["modulation"], point["mcs"], point["dmrs"]) == expected
    sent = SlotConfig.from_dict(point["slot"])
    assert (sent.n_prb, sent.scs_khz, sent.dmrs_n_id) == (10, 30, 7)
    assert (point["blocks"] is None) == (point["mcs"] is None)


@pytest.mark.parametrize("user", [{"mcs": 4, "tbs": 800}, {"modulation": "QPSK", "code_rate": 0.4}])
def test_blocks_that_no_mcs_says_are_not_evaluated(tmp_path, capsys, user):
    (tmp_path / "slot.json").write_text(json.dumps({"users": [user]}))
    command = f"evaluate ls-lmmse --slot {tmp_path}/slot.json --out {tmp_path}/out --device cpu"
    assert cli.main(command.split()) == 2
    error = capsys.readouterr().err
    assert "expected an MCS, or no block" in error and error.count("\n") == 1


@needs_the_blocks
def test_exported_file_gives_the_nets_llrs_in_the_block(tmp_path, capsys):
    """Eager PyTorch here, TorchScript in the C++ block there; and one that is another receiver."""
    model, other, reference = (str(tmp_path / n) for n in ("m.pt", "other.pt", "m.npz"))
    assert cli.main(f"export baseline {model} --parity {reference}".split()) == 0
    assert cli.main(f"export baseline-sure {other}".split()) == 0

    def check(file):
        return in_runtime("-m", "gnuradio.deeprx", "parity", file, reference, text=True)

    same, different = check(model), check(other)
    assert same.returncode == 0 and ": the same receiver" in same.stdout, same
    assert different.returncode == 1 and "NOT the same receiver" in different.stdout, different
    wrong = check(str(ROOT / "README.md"))
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1, wrong


def test_a_file_of_which_nothing_is_known_is_evaluated_once_it_is_trusted(tmp_path, capsys):
    path, extra = tmp_path / "mine.pt", {"deeprx.json": '{"contract": "deeprx.model/2"}'}
    torch.jit.save(torch.jit.script(OneLayer(Baseline())), str(path), _extra_files=extra)
    out = tmp_path / "out"
    options = f"--slots 2 --sinr 6 --channel TDL-A {ALIKE} --device cpu"
    command = ["evaluate", str(path), "--out", str(out), *options.split()]
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert f"--trust {path} runs it" in said and said.count("\n") == 1
    assert cli.main([*command, "--trust", str(path)]) == 0
    points = {p["receiver"]: p for p in report.read(out / "report.json")["points"]}
    assert points["mine"]["bit_errors"] == points["ls-lmmse"]["bit_errors"] > 0
