# SPDX-License-Identifier: GPL-3.0-or-later
"""Error rate against time: what is on the front, and files that do not fit each other."""

import json

import numpy as np
import pytest

from deeprx_training.cli import main
from deeprx_training.evaluation.pareto import front, read

SINR_DB, SLOTS, BITS = np.arange(6.0, 25.0, 3.0), 64, 10_000


def write_bench(folder, receivers, contender="block", device="cpu"):
    """An evaluation and a bench of receivers {name: (dB behind perfect CSI, ms, GFLOP)}."""
    rng = np.random.default_rng(1)
    difficulty = rng.uniform(0.8, 1.2, (len(SINR_DB), SLOTS))

    def errors(db):
        ber = 10 ** (-2.0 - (SINR_DB - 13.0 - db) / 6)  # 1e-2 at 13 dB + db
        return np.round(BITS * ber[:, None] * difficulty).astype(int)

    counted = {name: errors(db) for name, (db, *_) in receivers.items()}
    np.savez(
        folder / "errors.npz", sinr_db=SINR_DB, n_bits=BITS, **counted,
        **{"perfect CSI": errors(0.0)},
    )  # fmt: skip
    points = [{"receiver": n, "model_sha256": f"sha of {n}"} for n in [*receivers, "perfect CSI"]]
    points[-1]["model_sha256"] = None
    (folder / "report.json").write_text(json.dumps({"points": points}))

    def spent(ms):  # on a GPU the CPU waits, or does not
        cpu_s = ms / 1e3 if device == "cpu" else 3e-6
        return {"cpu_s": cpu_s, "cpu_s_quartiles": [cpu_s / 1.1, cpu_s / 0.9]}

    rows = [
        {
            "receiver": name, "contender": contender, "model_sha256": f"sha of {name}",
            "flop_per_s": gflop * 1e12 / ms, "real_time": 1 / ms, **spent(ms),
        }
        for name, (_, ms, gflop) in receivers.items()
    ]  # fmt: skip
    bench = folder / "bench.json"
    bench.write_text(json.dumps({"schema": "deeprx.bench/2", "device": device, "rows": rows}))
    return bench


def test_the_front_is_what_nothing_beats():
    assert front([1, 2, 3, 4], [0.5, 0.7, 0.3, 0.2]) == [True, False, True, True]
    assert front([1, 1], [0.5, 0.4]) == [False, True]
    assert front([1, 1], [0.5, 0.5]) == [True, True]
    assert front([1, 2], [np.inf, 0.5]) == [False, True]
    assert front([1, 2], [np.nan, 0.5]) == [False, True]


def test_receivers_of_both_files_by_time(tmp_path, capsys):
    bench = write_bench(
        tmp_path,
        {"slow": (0.2, 2.0, 0.1), "worse": (0.9, 1.0, 0.04), "fast": (0.5, 0.4, 0.05)},
    )
    candidates = read(tmp_path, bench, "block")
    assert [c.name for c in candidates] == ["fast", "worse", "slow"]
    for c, (db, gflop) in zip(candidates, ((0.5, 0.05), (0.9, 0.04), (0.2, 0.1)), strict=True):
        assert c.gflop == pytest.approx(gflop)
        for g in c.behind:
            assert g.mean == pytest.approx(db, abs=0.05)
            assert g.over_slots[0] <= g.mean <= g.over_slots[1]
            assert g.over_slots[1] - g.over_slots[0] < 0.1  # paired: the draws cancel
    assert main(["plot", str(tmp_path), "--bench", str(bench)]) == 0
    table = capsys.readouterr().out.splitlines()
    assert "**0.5" in table[2] and "\\*" in table[2]
    assert "**" not in table[3] and "\\*" in table[3]  # slower than fast, but fewer FLOP
    assert "**0.2" in table[4]
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "front.md").read_text().splitlines() == table[:5]


def test_a_bench_on_a_gpu_has_wall_time(tmp_path, capsys):
    bench = write_bench(tmp_path, {"one": (0.2, 2.0, 0.1)}, device="cuda:0")
    (candidate,) = read(tmp_path, bench, "block")
    assert candidate.ms == pytest.approx(2.0) and candidate.gflop == pytest.approx(0.1)
    assert main(["plot", str(tmp_path), "--bench", str(bench)]) == 0
    assert "| wall ms a slot |" in capsys.readouterr().out


def spoilt_bench(text=None, **keys):
    def spoil(folder):
        file = folder / "bench.json"
        file.write_text(text or json.dumps(json.loads(file.read_text()) | keys))

    return spoil


def spoilt_errors(**arrays):
    """None: without it."""

    def spoil(folder):
        with np.load(folder / "errors.npz") as file:
            changed = dict(file) | arrays
        np.savez(folder / "errors.npz", **{k: a for k, a in changed.items() if a is not None})

    return spoil


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "bench.json").unlink(), "bench.json: No such file"),
        (spoilt_bench("{"), "bench.json: expected a bench.json, as ./dev bench writes it: Expect"),
        (spoilt_bench("[]"), "the document must be a dictionary, got []"),
        (spoilt_bench("{}"), "the document lacks 'schema'"),
        (spoilt_bench(schema="deeprx.scale/1"), "'schema' must be \"deeprx.bench/...\", got 'dee"),
        (spoilt_bench('{"schema": "deeprx.bench/1"}'), "the document lacks 'device'"),
        (spoilt_bench(rows=[{"receiver": "a"}]), "the document.rows[0] lacks 'contender'"),
        (lambda f: (f / "errors.npz").unlink(), "errors.npz: No such file"),
        (
            lambda f: (f / "errors.npz").write_bytes(b"PK"),
            "errors.npz: expected arrays by name, as",
        ),
        (spoilt_errors(one=None), "errors.npz: expected arrays by name"),
        (spoilt_errors(one=np.zeros(3, int)), "errors of each receiver at each SINR and slot"),
        (spoilt_errors(sinr_db=np.array("a")), "errors of each receiver at each SINR and slot"),
        (spoilt_errors(n_bits=np.array(1)), "expected from 0 to 1 errors a slot"),
        (lambda f: (f / "report.json").write_text("{}"), "the document lacks 'points'"),
        (lambda f: (f / "report.json").write_text('{"points": [1]}'), "points[0] must be a dict"),
        (lambda f: write_bench(f, {"other": (1, 1, 1)}, "engine"), "no model file is in both"),
    ],
)
def test_files_that_do_not_fit(tmp_path, capsys, spoil, says):
    bench = write_bench(tmp_path, {"one": (0.2, 2.0, 0.1)})
    spoil(tmp_path)
    assert main(["plot", str(tmp_path), "--bench", str(bench)]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
