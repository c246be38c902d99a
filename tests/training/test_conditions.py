# SPDX-License-Identifier: GPL-3.0-or-later
"""Named conditions: the file that ships, the rule, and the command that goes through them."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import receiver_models
import torch
from torch import nn

from deeprx_common.slot import User
from deeprx_training import cli
from deeprx_training.evaluation import evaluate, named, never_worse
from deeprx_training.evaluation.evaluate import SURE
from deeprx_training.evaluation.never_worse import Promises, corrected, of_bits, of_blocks, verdict
from deeprx_training.experiments import stress
from deeprx_training.experiments.campaign import here
from deeprx_training.receivers import soft_bits
from deeprx_training.teaching.checkpoint import read_receiver

ROOT = Path(__file__).parents[2]
FILE = ROOT / "training" / "experiments" / "conditions.toml"


@pytest.fixture(scope="module")
def shipped():
    return named.load(FILE)


def test_the_file_that_ships_has_60_conditions_of_every_kind(shipped):
    assert len(shipped) == 60 and len({each.seed for each in shipped}) == 60
    drawn = [each.conditions() for each in shipped]  # they are such as can be drawn
    assert all(c.snr_db[0] == each.condition.snr_db for c, each in zip(drawn, shipped, strict=True))

    def values(of, among=shipped):
        return {of(each) for each in among}

    at_15, at_30 = ([n for n in shipped if n.slot.scs_khz == scs] for scs in (15, 30))
    assert values(lambda n: n.condition.delay_spread_ns, at_15) >= {10, 100, 300, 500, 700, 1000}
    assert values(lambda n: n.condition.delay_spread_ns, at_30) >= {5, 50, 150, 250, 350, 500}
    assert values(lambda n: n.condition.doppler_hz) >= {0, 10, 50, 100, 300, 500, 900}
    assert values(lambda n: n.condition.sir_db) >= {None, 0, 6, 12, 20}
    models = {f"{kind}-{profile}" for kind in ("TDL", "CDL") for profile in "ABCDE"}
    assert values(lambda n: n.condition.channel) == models
    assert values(lambda n: n.condition.modulation) == {"QPSK", "16QAM", "64QAM", "256QAM"}
    assert values(lambda n: n.condition.n_rx) == {1, 2, 4}
    assert values(lambda n: n.condition.domain) == {"frequency", "time"}
    sinr_db = values(lambda n: n.condition.snr_db)
    assert min(sinr_db) == -6 and max(sinr_db) == 32
    assert values(lambda n: n.slot.n_prb) >= {1, 6, 26, 106, 273}
    assert values(lambda n: n.slot.n_symbols) >= {4, 7, 10, 12, 13, 14}
    assert values(lambda n: len(n.slot.dmrs)) == {1, 2, 3, 4}
    users_and_groups = {(users, groups) for users in (1, 2) for groups in (1, 2)}
    assert values(lambda n: (n.slot.n_layers, n.slot.cdm_groups)) == users_and_groups
    assert values(lambda n: n.slot.scs_khz) == {15, 30, 60}


def test_a_condition_says_how_much_comes_after_the_prefix(shipped):
    """TDL-C's last path is 8.6523 delay spreads late; the prefix at 15 kHz lasts 4.69 us."""
    late = {n.name: n.past_prefix() for n in shipped if n.name.startswith("delay-")}
    assert late["delay-500ns"] == 0 < late["delay-700ns"] < late["delay-1000ns"] < 0.05


GOOD = """
[slots]
small = { n_prb = 6 }
[[condition]]
name = "a"
slot = "small"
modulation = "16QAM"
channel = "TDL-A"
delay_spread_ns = 100
doppler_hz = 50
snr_db = 9
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('slot = "small"', 'slot = "large"', "a: slot: expected one of small, found 'large'"),
        ("n_prb = 6", "n_prb = 600", "n_prb"),
        ("n_prb = 6", "prb = 6", "prb"),
        ("snr_db = 9", "snr_db = 9\nsnr = 9", "condition a: unknown key 'snr'"),
        ("snr_db = 9", "", "condition a: snr_db is missing"),
        ('"TDL-A"', '"TDL-F"', "found 'TDL-F'"),
        ("snr_db = 9", "snr_db = 9\ncfo_hz = 30.0", 'expected domain = "time"'),
        ("[[condition]]", "[[conditions]]", "conditions.toml: condition is missing"),
        ("snr_db = 9", "snr_db = 9\n" + GOOD[GOOD.index("[[") :], "found two 'a'"),
        ("[slots]", "[slots", "conditions.toml: "),
    ],
)
def test_a_bad_file_gets_one_line(tmp_path, capsys, old, new, says):
    assert old in GOOD
    path = tmp_path / "conditions.toml"
    path.write_text(GOOD.replace(old, new))
    command = f"evaluate baseline-lmmse --conditions {path} --out {tmp_path}/out --device cpu"
    assert cli.main(command.split()) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1, error


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--names b", "expected some of a, found 'b'"),
        ("--slots 9", "--slots: the file of --conditions says it"),
        ("--mcs 3", "--mcs: the file of --conditions says it"),
    ],
)
def test_options_that_do_not_fit_get_one_line(tmp_path, capsys, options, says):
    path = tmp_path / "conditions.toml"
    path.write_text(GOOD)
    command = f"evaluate baseline-lmmse --conditions {path} --out {tmp_path}/out {options}"
    assert cli.main(command.split()) == 2
    assert says in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert cli.main(f"evaluate sure-lmmse --conditions {path} --out {tmp_path}/out".split()) == 2
    assert "expected one that is held against" in capsys.readouterr().err
    assert cli.main(f"evaluate baseline-lmmse --names a --out {tmp_path}/out".split()) == 2
    assert "--names: expected --conditions" in capsys.readouterr().err


# The rule


def on_fading(ratio, slots, seed=1, bits=10_000, mean=0.02, differ=0.08):
    """Errors of a receiver and a reference, whose ratio differs from slot to slot."""
    rng = np.random.default_rng(seed)
    rate = np.clip(rng.gamma(0.7, mean / 0.7, slots), 0, 0.3)
    reference = rng.binomial(bits, rate)
    return np.rint(reference * np.maximum(0, rng.normal(ratio, differ, slots))), reference


def test_bits_are_drawn_until_the_ratio_is_known_and_then_judged():
    few, many = (of_bits(*on_fading(1.03, slots), 10_000) for slots in (128, 2000))
    assert few.open and not few.decided and few.metric == "bits"
    assert many.decided and not many.open and many.ratio == pytest.approx(1.03, abs=0.006)
    assert verdict(many, 1.0) == "worse"  # beyond 1.02, whatever the test says
    better = of_bits(*on_fading(0.9, 2000), 10_000)
    assert verdict(better, 1.0) == "not worse" and better.p > 0.99
    slightly = of_bits(*on_fading(1.015, 2000), 10_000)
    assert verdict(slightly, 1.0) == "not worse" and verdict(slightly, 0.04) == "worse"
    at_most = of_bits(*on_fading(1.03, 4000, differ=0.5), 10_000)
    assert not at_most.decided and not at_most.open and verdict(at_most, 1.0) == "not decided"


def test_blocks_are_judged_where_the_reference_loses_some():
    def lost(rate, ratio, slots, seed=3):
        chance = np.random.default_rng(seed).random(slots)
        return (chance < rate * ratio).astype(int), (chance < rate).astype(int)

    few = of_blocks(*lost(0.1, 1.0, 500), 1)
    assert few.open and not few.decided and few.p is None
    enough = of_blocks(*lost(0.1, 1.3, 5000), 1)
    assert enough.decided and not enough.open and enough.metric == "blocks"
    assert enough.p < 1e-6 and verdict(enough, enough.p) == "worse"
    same = of_blocks(*lost(0.1, 1.04, 5000), 1)
    assert verdict(same, same.p) == "not worse"
    for rate in (0.0, 0.001, 0.6):  # nothing that a decoder's error rate could be read from
        out_of_range = of_blocks(*lost(rate, 1.5, 2000), 1)
        assert not out_of_range.open and verdict(out_of_range, None) == "not decided"


def test_tests_are_corrected_over_all_pairs_that_were_tested():
    drawn = on_fading(1.0, 1000, seed=1), on_fading(1.1, 1000, seed=2)
    pairs = [of_bits(*errors, 10_000) for errors in drawn]
    untested = of_blocks([0] * 500, [0] * 500, 1)
    p = corrected([*pairs, untested])
    assert p[1] == pytest.approx(2 * pairs[1].p) and p[0] == pairs[0].p and p[2] is None


def test_mcs_is_the_lowest_of_the_modulation():
    rates = {}
    for modulation in ("QPSK", "16QAM", "64QAM", "256QAM"):
        table, index = never_worse.lowest_mcs(modulation)
        user = User(mcs=index, mcs_table=table)
        assert user.modulation == modulation
        assert index == 0 or User(mcs=index - 1, mcs_table=table).modulation != modulation
        rates[modulation] = round(user.code_rate * 1024, 1)
    assert rates == {"QPSK": 120, "16QAM": 340, "64QAM": 438, "256QAM": 682.5}


def promises(scale, slots, bits=4000, sigma=3.0):
    """Of consistent Gaussian LLRs, times a factor."""
    rng = torch.Generator().manual_seed(1)
    margin = sigma**2 / 2 + sigma * torch.randn((slots, bits), generator=rng)
    gathered = Promises()
    for part in (scale * margin).split(100):
        gathered.add(soft_bits.histogram(part).numpy())
    return gathered.calibration()


def test_llrs_keep_what_they_promise_or_do_not():
    exact = promises(1.0, 500)
    assert exact.kept and exact.gain < 1e-4 and exact.scale == pytest.approx(1, abs=0.06)
    assert exact.bins[0].promised > 2000 and exact.bins[0].draws == 500
    loud = promises(1.3, 500)
    assert not loud.kept and loud.gain > 1e-3 and loud.scale < 0.9
    assert {b.low for b in loud.broken} > {2.0, 3.0} and loud.broken[0].ratio > 1.1
    few = promises(1.0, 5)  # intervals decide, which are wide
    assert few.kept and max(abs(b.ratio - 1) for b in few.bins) > 0.1
    assert not promises(2.0, 5).kept


def test_a_promise_of_few_errors_that_did_not_come_is_no_break():
    counts = np.zeros((400, len(soft_bits.CENTRES)), np.int32)
    counts[:, np.searchsorted(soft_bits.CENTRES, 7)] = 10  # 3.6 of 4000 promised, none wrong
    gathered = Promises()
    gathered.add(counts)
    (only,) = gathered.calibration().bins
    assert only.wrong == 0 and 3 < only.promised < 4 and only.kept
    gathered.add(counts)
    assert not gathered.calibration().bins[0].kept


# The command

TWO = GOOD + GOOD[GOOD.index("[[") :].replace('"a"', '"b"').replace("snr_db = 9", "snr_db = 40")


@pytest.fixture
def short(monkeypatch):
    for key in ("MOST_SLOTS", "FEWEST_SLOTS"):
        monkeypatch.setattr(never_worse, key, 48)
    monkeypatch.setattr(never_worse, "MOST_BLOCK_SLOTS", 64)
    monkeypatch.setattr(evaluate, "BATCH", 16)


def test_failures_come_first_and_are_the_exit_status(tmp_path, capsys, short, monkeypatch):
    """LS-LMMSE, which smooths less than SURE-LMMSE, and makes no errors at 40 dB; run again, it
    counts nothing.
    """
    path, out = tmp_path / "conditions.toml", tmp_path / "out"
    path.write_text(TWO)
    command = f"evaluate baseline-lmmse --conditions {path} --out {out} --device cpu --workers 1"
    assert cli.main(command.split()) == 1
    text = capsys.readouterr().out
    assert "baseline-lmmse: 2 worse" in text and "a: 48 slots" in text
    with (out / "conditions.csv").open() as file:
        rows = list(csv.DictReader(file))
    first = rows[0]
    assert [first[k] for k in ("condition", "reference", "verdict")] == ["a", SURE, "worse"]
    assert len(rows) == 4 and {r["judged"] for r in rows if r["condition"] == "b"} == {"blocks"}
    assert float(first["ratio"]) == pytest.approx(
        float(first["rate"]) / float(first["reference_rate"])
    )
    assert float(first["low"]) > 1.02 and float(first["perfect_csi_ber"]) < float(first["rate"])
    with (out / "llrs.csv").open() as file:
        assert {r["condition"] for r in csv.DictReader(file)} == {"a", "b"}
    table = (out / "conditions.md").read_text()
    assert table.index("| worse") < table.index("| not decided") and "TDL-A 100 ns, 50 Hz" in table

    def count(self, *_):
        raise AssertionError("counted again")

    monkeypatch.setattr(evaluate.Evaluation, "_count", count)
    assert cli.main(command.split()) == 1
    assert (out / "conditions.md").read_text() == table


def test_the_order_of_counting_changes_nothing(tmp_path, short):
    """As of many workers, which run ahead of the rule and come back in any order."""
    path = tmp_path / "conditions.toml"
    path.write_text(TWO)
    conditions = named.load(path)
    file = read_receiver(str(ROOT / "models/baseline-lmmse.pt"))
    receivers = stress.Receivers({"baseline-lmmse": file})
    alone = here([file])

    def ahead(tasks):
        """Five at once, the last first."""
        while todo := [task for _ in range(5) if (task := next(tasks))]:
            yield from reversed(list(alone(iter(todo))))

    (one, stopped), (other, _) = (
        stress.run(conditions, receivers, tmp_path / str(i), pool)
        for i, pool in enumerate((alone, ahead))
    )
    assert not stopped and [o.named.name for o in one] == ["a", "b"]
    assert [(o.slots, o.pairs, o.calibrations) for o in one] == [
        (o.slots, o.pairs, o.calibrations) for o in other
    ]
    assert one[0].slots == 48 and one[1].pairs["baseline-lmmse", SURE].metric == "blocks"


def test_ctrl_c_leaves_a_table_of_what_was_counted(tmp_path, short, capsys, monkeypatch):
    path, out = tmp_path / "conditions.toml", tmp_path / "out"
    path.write_text(GOOD)
    count, counted = evaluate.Evaluation._count, []

    def strike(self, *arguments):
        if len(counted) == 2:
            raise KeyboardInterrupt
        counted.append(1)
        return count(self, *arguments)

    monkeypatch.setattr(evaluate.Evaluation, "_count", strike)
    command = f"evaluate baseline-lmmse --conditions {path} --out {out} --device cpu --workers 1"
    assert cli.main(command.split()) == 130
    assert "goes on from there" in capsys.readouterr().err
    assert "Stopped: a after 32 slots." in (out / "conditions.md").read_text()


class Dropping(nn.Module):
    """LLRs that say nothing, and are no numbers in half of the slots."""

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        llr = torch.zeros(y.size(0), 14, y.size(3), bits)
        return llr.masked_fill((y[:, 0, 0, 0, 0] < 0)[:, None, None, None], float("nan"))


def test_slots_that_a_receiver_drops_count_against_it(tmp_path, short, capsys):
    """Its bits there are no better than guesses, its blocks are lost."""
    path, out = tmp_path / "conditions.toml", tmp_path / "out"
    path.write_text(TWO)
    file = receiver_models.save(Dropping(), tmp_path / "dropping.pt")
    command = f"evaluate {file} --trust {file} --conditions {path} --out {out} --device cpu"
    assert cli.main([*command.split(), "--workers", "1"]) == 1
    text = capsys.readouterr().out
    dropped = re.search(r"dropping: .*; dropped (\d+) slots, whose bits count as guessed", text)
    assert 20 < int(dropped[1]) < 90
    with (out / "conditions.csv").open() as file:
        rates = {row["judged"]: float(row["rate"]) for row in csv.DictReader(file)}
    assert rates == {"bits": pytest.approx(0.5, abs=0.02), "blocks": 1}


def test_receivers_stand_side_by_side(tmp_path, short, capsys):
    path, out = tmp_path / "conditions.toml", tmp_path / "out"
    refused = GOOD[GOOD.index("[[") :].replace('"a"', '"c"').replace("small", "pair")
    path.write_text(
        TWO.replace("[slots]", "[slots]\npair = { users = [{}, { port = 1, rnti = 2 }] }") + refused
    )
    receivers = "baseline-lmmse", "baseline-sure"
    command = f"evaluate {' '.join(receivers)} --conditions {path} --out {out} --device cpu"
    assert cli.main([*command.split(), "--workers", "1"]) == 1
    capsys.readouterr()
    with (out / "conditions.csv").open() as file:
        rows = {(r["condition"], r["reference"], r["receiver"]): r for r in csv.DictReader(file)}
    first, *_ = re.split("^## ", (out / "conditions.md").read_text(), flags=re.MULTILINE)[1:]
    for receiver in receivers:
        assert f"* {receiver}: " in first
    for reference in (SURE, "gnb"):
        table = first[first.index(f"### Errors over those of {reference}") :]
        cells = re.search(r"^\| a .*", table, re.MULTILINE)[0].split("|")[1:-1]
        for receiver, cell in zip(receivers, cells[4:], strict=True):
            row = rows["a", reference, receiver]
            worse = " worse" * (row["verdict"] == "worse")
            assert cell.strip() == f"{float(row['ratio']):.3f}{worse}"
        assert re.search(r"^\| b .* \| -", table, re.MULTILINE)  # where the reference loses nothing
        assert re.search(r"^\| c .* refused +\| refused", table, re.MULTILINE)


def test_a_receiver_that_does_not_take_a_condition_is_refused_there(tmp_path, short, capsys):
    path, out = tmp_path / "conditions.toml", tmp_path / "out"
    path.write_text(GOOD + "n_rx = 4\n")
    options = f"--conditions {path} --out {out} --device cpu --workers 1"
    assert cli.main(f"evaluate deeprx-student {options}".split()) == 1
    table = (out / "conditions.md").read_text()
    assert "| refused" in table and "deeprx-student: " in table and "Side by side" not in table
