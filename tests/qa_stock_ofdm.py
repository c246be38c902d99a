# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver between GNU Radio's own OFDM blocks: examples/stock_ofdm.py and stock_ofdm.grc."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from companion import environment, generate

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))

from stock_ofdm import StockOfdm  # noqa: E402

WATCH = """
from companion import watch

watch("stock_ofdm_gui", lambda top: top.points(slots=100), lambda top: top.points(slots=1))
"""


def check(point, sent):
    """At 25 dB. A header whose 8-bit checksum lies is a slot under a wrong index: 2.5e-3."""
    assert point["receiver"] == "deeprx-pusch"
    assert point["slots"] >= 0.8 * sent  # the synchroniser's fixed threshold misses some
    assert point["bits"] == 16224 * point["slots"]
    assert point["ber"] < 4e-3


@pytest.mark.parametrize("cfo_hz", [0.0, 3000.0])
def test_receives_what_the_stock_blocks_found(cfo_hz):
    flowgraph = StockOfdm(snr_db=25.0, n_slots=200, cfo_hz=cfo_hz)
    flowgraph.run()
    (point,) = flowgraph.probe.report()["points"]
    check(point, 200)


def test_less_signal_more_errors():
    flowgraph = StockOfdm(snr_db=15.0, n_slots=200)
    flowgraph.run()
    (point,) = flowgraph.probe.report()["points"]
    assert 2e-3 < point["ber"] < 3e-2


def test_flowgraph_compiles_and_receives(tmp_path):
    generate("stock_ofdm", tmp_path)
    ran = subprocess.run(
        [sys.executable, "-c", WATCH],
        env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("[{")]  # beside the log
    (point,) = json.loads(line)
    check(point, 100)


def test_script_prints_a_table_and_says_mistakes_in_one_line(tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, str(EXAMPLES / "stock_ofdm.py"), *arguments],
            env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    ran = run("--slots", "50")
    assert ran.returncode == 0, ran.stderr
    assert "deeprx-pusch" in ran.stdout and "synchronised" in ran.stdout
    refused = run("--slots", "-1")
    assert refused.returncode == 2
    assert "must be at least 0" in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr
