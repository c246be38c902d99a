# SPDX-License-Identifier: GPL-3.0-or-later
"""What plot makes of an experiment's table."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from deeprx_training.cli import main
from deeprx_training.evaluation import curves, figures


def row(kind, shift_db, sinr, seed=1, slots=60, **more):
    """Errors that fall by a decade in 5 dB and cross 1e-2 shift_db earlier; slots differ."""
    rng = np.random.default_rng(5)
    level = 10 ** (-2 - (sinr + shift_db - 14) / 5)
    errors = (100_000 * level * rng.exponential(size=slots)).astype(int)
    common = {
        "group": f"{kind}-{seed}-{more}", "kind": kind, "receiver": "s", "set": "validation",
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
    some = curves.curves(rows)
    distilled = next(c for c in some if c.facts["kind"] == "distilled")
    ahead = curves.gain(distilled, curves.scratch_of(distilled, some), 1e-2)
    assert ahead.seeds == 3 and ahead.mean == pytest.approx(1.0, abs=0.05)
    # Student's t with 2 degrees of freedom: 4.303 standard errors of 0.1 / sqrt(3)
    assert ahead.over_seeds[1] - ahead.over_seeds[0] == pytest.approx(2 * 0.248, abs=0.1)
    low, high = ahead.over_slots
    assert low < ahead.mean < high and high - low < 0.7  # unpaired: about 1.5
    never = curves.gain(distilled, curves.scratch_of(distilled, some), 1e-9)
    assert not np.isfinite(never.mean)


def test_what_was_measured_tells_no_curves_apart():
    """Also a column that is new; what a recipe or its [data] sets does."""
    rows = curve("scratch", (0.0, 0.1, -0.1))
    rows = [r | {"peak_memory_gib": k} for k, r in enumerate(rows)]
    assert [c.errors.shape[0] for c in curves.curves(rows)] == [3]
    for key in ("batch", "lr", "optimizer", "data.cfo_hz"):
        other = [r | {key: r["seed"]} for r in rows]
        assert len(curves.curves(other)) == 3, key


def test_only_the_same_student_on_the_same_data_is_the_counterpart():
    rows = curve("distilled", (1.0,), teacher="t") + curve("scratch", (0.0,), batch=2)
    rows = [{"batch": 1} | r for r in rows]
    some = curves.curves(rows)
    assert curves.scratch_of(some[0], some) is None
    some = curves.curves([{"batch": 1} | r for r in curve("scratch", (0.0,))] + rows)
    distilled = next(c for c in some if c.facts["kind"] == "distilled")
    assert curves.scratch_of(distilled, some).facts["batch"] == 1


def test_curves_are_compared_on_the_seeds_that_all_have():
    rows = curve("distilled", (0.0, 1.0, 2.0), teacher="small")
    rows += [r for r in curve("distilled", (0.0, 1.0), teacher="large") if r["seed"] == 2]
    some = curves.curves(rows)
    cut = figures._same_seeds(some)
    assert [len(c.errors) for c in some] == [3, 1] and [len(c.errors) for c in cut] == [1, 1]
    assert cut[0].crossing(1e-2, 1)[0] == pytest.approx(cut[1].crossing(1e-2, 1)[0])


def without(key):
    return lambda rows: [{k: v for k, v in r.items() if k != key} for r in rows]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda rows: [{"a": 1}], "row 0 lacks 'group'"),
        (without("domain"), "row 0 lacks 'domain'"),
        (without("params"), "row 0 lacks 'params'"),
        (lambda rows: [r | {"errors": "a"} for r in rows], "'errors' must be a list of indices"),
        (lambda rows: [r | {"bits": 0} for r in rows], "'bits' must be a whole number of 1 or"),
        (lambda rows: [r | {"net": "[]"} for r in rows], "'net' must be a net, as JSON, got '[]'"),
        (lambda rows: rows[:-1], "s: expected as many slots at the same SINRs for each seed"),
        (lambda rows: [], "found a table without rows"),
    ],
)
def test_a_table_of_another_shape_is_a_line(tmp_path, capsys, spoil, says):
    rows = spoil(curve("scratch", (0.0, 0.1)))
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "results.parquet")
    assert main(["plot", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        (None, "expected arrays by name, as ./dev train experiment"),
        ({"sinr_db": [6], "block_errors a": [1]}, "expected block errors at each SINR and slot"),
        ({"sinr_db": [6], "block_errors a": [["x"]]}, "expected block errors at each SINR and sl"),
    ],
)
def test_block_errors_of_another_shape_are_a_line(tmp_path, capsys, arrays, says):
    rows = curve("baseline", (0.0,), set="x")
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "results.parquet")
    file = tmp_path / "x-mcs-1-13.npz"
    np.savez(file, **arrays) if arrays else file.write_text("x")
    assert main(["plot", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_block_error_rates_are_tabulated(tmp_path):
    rows = curve("scratch", (0.0,))
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "results.parquet")
    wrong = np.arange(100) < np.array([[100], [40], [0]])  # block error rates 1, 0.4 and < 0.04
    counted = {"block_errors seed1/29k": wrong, "errors seed1/29k": wrong.astype(np.int32)}
    np.savez(
        tmp_path / "evaluation-frequency-mcs-1-13.npz", sinr_db=[6, 9, 12], n_bits=1, **counted
    )
    figures.draw(tmp_path)
    table = (tmp_path / "tables.md").read_text().split("MCS 13 of table 1")[1].split("\n")
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
            teaching = {"teacher": teacher, "temperature": temperature, "loss_kl": 1.0}
            rows += curve("distilled", (ahead,), **student, **teaching)
            rows += curve("distilled", (2.0 - ahead,), set="evaluation", **student, **teaching)
        rows += curve("scratch", (0.0, 0.1), set="evaluation", **student)
    for name, size in (("small", 9000), ("large", 90000)):
        teacher = {"receiver": name, "params": size, "net": name}
        for which in ("validation", "evaluation"):
            rows += curve("teacher", (2.0,), set=which, **teacher)
    of_set = [r for r in rows if r["set"] == "evaluation"]
    evaluation = curves.curves(of_set, curves.scores_of(rows))
    distilled = [c for c in evaluation if c.facts["kind"] == "distilled"]
    best = figures._best(distilled, lambda c: c.facts["params"])
    assert [(c.facts["teacher"], c.facts["temperature"]) for c in best.values()] == [
        ("large", 2.0)
    ] * 2
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "results.parquet")
    written = {p.name for p in figures.draw(tmp_path)}
    kinds = ("ber", "flop", "teacher", "distilling")
    sets = ("validation", "evaluation")
    assert written == {f"{k}-{s}-frequency-16QAM.png" for k in kinds for s in sets} | {"tables.md"}
    tables = (tmp_path / "tables.md").read_text()
    # 6 distilled curves a set: their BER, against scratch in per cent, and in dB
    assert tables.count("| distilled, ") == 36 and "teacher large, T 2" in tables
