# SPDX-License-Identifier: GPL-3.0-or-later
"""LLRs that are NaN or infinite: whatever receives, their slot is dropped and counted as that."""

import json
from pathlib import Path

import numpy as np
import pytest
import receiver_models as models
import torch
from gnuradio import deeprx
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.measure import compare
from gnuradio.deeprx.recording.gnb_dump import import_gnb

from deeprx_common import report
from deeprx_common.report import NOT_FINITE

GOLDEN = Path(__file__).with_name("golden")
CONFIG = deeprx.SlotConfig(n_prb=6)
LINK = ["--n-prb", "6", "--slots", "60", "--burst", "2", "--n-rx", "1"]
GNB = {"n_sym": [*range(4, 15)], "n_dmrs": [1, 2, 3, 4], "cdm_groups": [1, 2]}


class Broken(torch.nn.Module):
    """Gives this where data is, in slots whose first sample is negative, or in all."""

    def __init__(self, value: float, always: bool = False, beside: bool = False):
        super().__init__()
        self.receiver = models.Layers()
        self.value, self.always, self.beside = value, always, beside

    def forward(
        self, y: torch.Tensor, p: torch.Tensor, d: torch.Tensor, bits: list[int]
    ) -> torch.Tensor:
        llr = self.receiver(y, p, d, bits)
        spoilt = (y[:, 0, 0, 0, 0] < 0) | torch.tensor(self.always)
        place = d ^ torch.tensor(self.beside)
        mask = spoilt[:, None, None, None, None] & place[:, :, None]
        return llr.masked_fill(mask, self.value)


@pytest.fixture
def broken(tmp_path):
    return models.save(Broken(float("nan")), tmp_path / "broken.pt", name="broken", **GNB)


def grids(n):
    """n grids of noise, every other one with a first sample below zero."""
    y = np.random.default_rng(1).standard_normal((n, 1, 14, CONFIG.n_sc, 2), np.float32)
    y[:, 0, 0, 0, 0] = np.where(np.arange(n) % 2, -1, 1)
    pilots = CONFIG.pilots(0).astype(np.complex64)[..., None].view(np.float32)
    return y, np.broadcast_to(pilots, (n, *pilots.shape)).copy()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("trusted", [True, False], ids=["here", "in a jail"])
def test_an_engine_gives_no_such_llrs(value, trusted, tmp_path):
    path = models.save(Broken(value), tmp_path / "m.pt")
    trust = [path] if trusted else []
    engine = deeprx.Engine(path, n_rx=1, max_batch=2, slot=CONFIG, trust=trust)
    y, p = grids(2)
    assert np.isfinite(engine.infer(y[:1], p[:1])).all()
    for some in (slice(1, 2), slice(0, 2)):
        with pytest.raises(RuntimeError, match=f"^{NOT_FINITE}$"):
            engine.infer(y[some], p[some])


def test_what_is_not_data_may_be_anything(tmp_path):
    path = models.save(Broken(np.nan, always=True, beside=True), tmp_path / "m.pt")
    llr = deeprx.Engine(path, n_rx=1, slot=CONFIG).infer(*grids(1))
    assert np.isnan(llr).any() and np.isfinite(llr[:, :, CONFIG.data_mask]).all()


def dropped(points, receiver="broken"):
    """Its slots that were received and that were not, of all loopbacks alike."""
    (point,) = [p for p in points if p["receiver"] == receiver]
    lost = point["missed_slots"]
    assert 0 < point["slots"] < 60 and point["slots"] + lost == 60
    assert point["dropped_slots"] == {NOT_FINITE: lost}
    assert point["bits"] == point["slots"] * CONFIG.n_bits
    return lost


def test_loopback_and_replay_count_them(broken, tmp_path, capsys):
    receivers = ["--receiver", broken, "--receiver", "baseline-lmmse", "--out", str(tmp_path)]
    assert main(["loopback", *LINK, "--sinr", "12", *receivers]) == 0
    lost = dropped(report.read(tmp_path / "report.json")["points"])
    assert f"broken: {lost} slots dropped: {NOT_FINITE}\n" in capsys.readouterr().out
    assert main(["record", str(tmp_path / "a"), *LINK, "--sinr", "12"]) == 0
    assert main(["replay", str(tmp_path / "a.sigmf-meta"), "--aligned", *receivers]) == 0
    points = report.read(tmp_path / "report.json")["points"]
    assert f"broken: {dropped(points)} slots dropped: {NOT_FINITE}\n" in capsys.readouterr().out
    assert [p["slots"] for p in points if p["receiver"] == "baseline-lmmse"] == [60]


@pytest.mark.parametrize("always", [False, True], ids=["some", "all"])
def test_replay_of_pusch_counts_them(always, tmp_path, capsys):
    files = GOLDEN / "gnb_capture.bin", GOLDEN / "gnb_capture.log"
    path = import_gnb(*files, tmp_path / "a").paths[0]
    broken = models.save(Broken(float("nan"), always), tmp_path / "m.pt", name="broken", **GNB)
    given = ["--receiver", broken, "--receiver", "gnb", "--out", str(tmp_path)]
    assert main(["replay", str(path), *given]) == int(always)
    measured = report.read(tmp_path / "report.json")
    ours, other = measured["pusch"]
    lost = other["pusch"] - ours["pusch"]
    assert (lost == 7) if always else (0 < lost < 7)
    assert ours["dropped_slots"] == {NOT_FINITE: lost} and other["dropped_slots"] == {}
    assert ours["block_errors"] <= ours["pusch"]  # those dropped are none
    assert f"broken: {lost} slots dropped: {NOT_FINITE}\n" in capsys.readouterr().out
    assert len(measured["comparisons"]) == (not always)


def test_bench_says_so(tmp_path, monkeypatch, capsys):
    """Of a receiver that never gives others there is nothing to time."""
    monkeypatch.setattr(compare, "PRECISIONS", ())  # nor asked of the machine
    monkeypatch.setattr(compare, "ldpc_instructions", list)
    path = models.save(Broken(np.nan, always=True), tmp_path / "m.pt", name="broken")
    given = ["--n-prb", "6", "--seconds", "0.1", "--contender", "engine", "--out", str(tmp_path)]
    assert main(["bench", "--receiver", path, "--trust", path, *given]) != 0
    assert NOT_FINITE in capsys.readouterr().err
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [row["why"] for row in rows if row["contender"] == "engine"] == [NOT_FINITE]
