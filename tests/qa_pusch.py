# SPDX-License-Identifier: GPL-3.0-or-later
"""The nets for every PUSCH in the block, through the loopback: bit errors of known slots beside
sure-lmmse.
"""

import json

import pytest
from gnuradio.deeprx.cli import main

RECEIVERS = "sure-lmmse", "deeprx-pusch", "deeprx-pusch-small"
# wrong bits of all users, of each receiver. Other instructions round LLRs near zero to
# either side
CASES = {
    "default": ([], (35968, 34665, 35077)),
    "fast": (["--doppler", "500", "--modulation", "64QAM", "--sinr", "18"], (85751, 33221, 35244)),
    "one antenna": (["--n-rx", "1", "--modulation", "QPSK", "--sinr", "6"], (38866, 38080, 38212)),
    "gNB, four antennas": (
        ["--slot", "gnb", "--n-rx", "4", "--doppler", "300"],
        (9493, 8859, 9045),
    ),
    "two users": (["--users", "2", "--n-rx", "4", "--sir", "15"], (24412, 21575, 21885)),
}


@pytest.mark.parametrize(("options", "expected"), CASES.values(), ids=CASES)
def test_bit_errors_of_known_slots(options, expected, tmp_path):
    receivers = [part for name in RECEIVERS for part in ("--receiver", name)]
    slots = ["--sinr", "10", "--slots", "40", "--seed", "19", "--delay-spread", "3e-7", *options]
    assert main(["loopback", *receivers, *slots, "--out", str(tmp_path)]) == 0
    wrong = dict.fromkeys(RECEIVERS, 0)
    for point in json.loads((tmp_path / "report.json").read_text())["points"]:
        assert point["slots"] == 40 and point["missed_slots"] == 0
        wrong[point["receiver"]] += point["bit_errors"]
    assert list(wrong.values()) == pytest.approx(expected, rel=2e-3)
