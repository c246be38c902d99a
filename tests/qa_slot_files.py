# SPDX-License-Identifier: GPL-3.0-or-later
"""--slot FILE: whatever a slot can be, said in JSON as reports and recordings say it."""

import json
from dataclasses import replace

import pytest
from gnuradio.deeprx.cli import main, make_parser
from gnuradio.deeprx.cli.options import slot_config

from deeprx_common import report
from deeprx_common.slot import SLOTS, SlotConfig, User

GNB = SLOTS["gnb"]
PAIR = replace(GNB, users=(User(mcs=5, rnti=7), User(mcs=9, rnti=9, n_id=4, port=2)))
CARRIER = SlotConfig(n_prb=10, first_prb=20, carrier_prb=79, fft_size=1024)


def file_of(folder, values):
    path = folder / "slot.json"
    path.write_text(json.dumps(values))
    return str(path)


def asked(*arguments, command="loopback"):
    return slot_config(make_parser().parse_args([command, "--receiver", "gnb", *arguments]))


@pytest.mark.parametrize(
    "slot",
    [
        CARRIER,
        PAIR,
        replace(GNB, first_prb=3, n_prb=40, n_scid=1, phase_compensation_hz=3.5e9),
        SlotConfig(scs_khz=60, n_symbols=9, dmrs=(2, 7), slot_number=3, limited_buffer=8000),
    ],
)
def test_every_parameter_of_a_slot_can_be_asked_for(slot, tmp_path):
    assert asked("--slot", file_of(tmp_path, slot.as_dict())) == slot


def test_what_a_file_leaves_out_is_the_default_slot_s(tmp_path):
    assert asked("--slot", file_of(tmp_path, {"first_prb": 4})) == SlotConfig(first_prb=4)


@pytest.mark.parametrize(
    ("slot", "options", "wanted"),
    [
        (SlotConfig(), ["--n-prb", "6"], SlotConfig(n_prb=6)),
        (GNB, ["--n-prb", "20"], replace(GNB, n_prb=20)),
        (GNB, ["--n-prb", "60"], replace(GNB, n_prb=60, carrier_prb=60, fft_size=1024)),
        (CARRIER, ["--n-prb", "59"], replace(CARRIER, n_prb=59)),
        (CARRIER, ["--scs-khz", "30"], replace(CARRIER, scs_khz=30)),
        (PAIR, ["--dmrs", "2"], replace(PAIR, dmrs=(2,))),
        (PAIR, ["--users", "1"], PAIR.alone(0)),
        (
            PAIR,
            ["--mcs", "2", "--mcs-table", "2"],
            replace(
                PAIR,
                users=(
                    User(mcs=2, mcs_table=2, rnti=7),
                    User(mcs=2, mcs_table=2, rnti=9, n_id=4, port=2),
                ),
            ),
        ),
        (
            PAIR,
            ["--modulation", "64QAM"],
            replace(PAIR, users=(User("64QAM", rnti=7), User("64QAM", rnti=9, n_id=4, port=2))),
        ),
        (
            SlotConfig(users=(User("QPSK", code_rate=0.3, tbs=800, rnti=65535),)),
            ["--users", "2", "--mcs", "20"],
            SlotConfig(users=(User(mcs=20, rnti=65535), User(mcs=20, port=1))),
        ),
    ],
)
def test_options_override_the_file(slot, options, wanted, tmp_path):
    assert asked("--slot", file_of(tmp_path, slot.as_dict()), *options) == wanted


def test_a_gnb_s_carrier_stays_where_the_allocation_fits():
    slot = asked("--slot", "gnb", "--n-prb", "26")
    assert (slot.n_prb, slot.carrier_prb, slot.fft_size) == (26, 51, 768)
    assert slot.sample_rate == 23.04e6


def test_the_slot_of_a_report_is_received_again(tmp_path):
    command = ["loopback", "--receiver", "sure-lmmse", "--slots", "10", "--sinr", "9"]
    points = []
    for slot in (["--slot", "gnb", "--mcs", "5", "--n-prb", "8"], ["--slot", tmp_path / "slot"]):
        out = tmp_path / "out"
        assert main([*command, *map(str, slot), "--out", str(out)]) == 0
        points += report.read(out / "report.json")["points"]
        (tmp_path / "slot").write_text(json.dumps(points[0]["slot"]))
    for key in ("slot", "bit_errors", "block_errors", "mcs"):
        assert points[0][key] == points[1][key]


def test_demo_sends_what_a_file_says(tmp_path, monkeypatch):
    monkeypatch.setattr("gnuradio.deeprx.cli.demo.MODELS", ["ls-lmmse"])
    command = ["demo", "--channel", "TDL-A", "--sinr", "12", "--slots", "3", "--out", str(tmp_path)]
    for user, wanted in (({"mcs": 3}, 3), ({"modulation": "QPSK"}, 14)):
        assert main([*command, "--slot", file_of(tmp_path, {"users": [user]})]) == 0
        (point,) = report.read(tmp_path / "report.json")["points"]
        assert point["mcs"] == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"n_prb": 300}', "slot.json: n_prb must be 1 to 273 PRB, got 300"),
        ('{"n_prb": "6"}', "slot.json: 'n_prb' must be a whole number of 0 or more, got '6'"),
        ('{"prbs": 6}', "slot.json: no parameter of a slot is called 'prbs'"),
        ('{"users": [{"mcs": 40}]}', "slot.json: mcs of table 1 must be 0 to 28, got 40"),
        ("[1]", "slot.json must be a dictionary, got [1]"),
        ('{"n_prb": NaN}', "slot.json: expected a slot in JSON: expected finite numbers,"),
        ("n_prb = 6", "slot.json: expected a slot in JSON: Expecting value"),
        ('{"users": [{"mcs": 3, "mcs": 4}]}', "expected each key once, found 'mcs' twice"),
        ('{"dmrs": [2%s]}' % (", 11" * 10_000), "slot.json: dmrs of 14 symbols must be one of"),
        ("{}" + " " * (1 << 20), ": File too large"),
        ("\xff", "slot.json: expected a slot in JSON: "),
        (None, "expected default, gnb or a JSON file, found '"),
    ],
)
def test_what_is_no_slot_is_one_line(text, says, tmp_path, capsys):
    path = tmp_path / "slot.json"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SystemExit) as ended:
        main(["loopback", "--receiver", "gnb", "--slot", str(path)])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and says in line and str(path) in line and len(line) < 2000


@pytest.mark.parametrize(
    ("user", "says"),
    [
        ({"mcs": 28}, "a block of 240 bits does not fit: with its CRCs it has 256, and needs more "
         "coded bits, got 252"),
        ({"tbs": 8432, "code_rate": 0.5}, "expected a size of TS 38.214 clause 5.1.3.2, which 2 "
         "code blocks share in whole bytes, got 8432"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["loopback", "record"])
def test_a_block_that_does_not_fit_is_one_line(command, user, says, tmp_path, capsys):
    slot = {"n_prb": 1, "n_symbols": 4, "dmrs": [2], "users": [user]}
    ask = {"loopback": ["--receiver", "gnb"], "record": [str(tmp_path / "slots"), "--aligned"]}
    assert main([command, *ask[command], "--slot", file_of(tmp_path, slot)]) == 2
    assert capsys.readouterr().err == f"deeprx: error: {says}\n"
    assert not list(tmp_path.glob("slots*"))
