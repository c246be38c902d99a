# SPDX-License-Identifier: GPL-3.0-or-later
import io
import json
import os
from argparse import ArgumentTypeError

import pytest
from gnuradio.deeprx.cli import results
from matplotlib import pyplot as plt
from rich.console import Console
from scipy.stats import binomtest

from deeprx_common import energy, report, report_view
from deeprx_common.slot import SlotConfig, User
from deeprx_common.slot_file import slot_of


def make_point(**fields):
    return report.point(
        **{
            "receiver": "net",
            "model_sha256": "ab" * 32,
            "channel": "TDL-A",
            "delay_spread_s": 1e-7,
            "doppler_hz": 50,
            "domain": "time",
            "modulation": "16QAM",
            "n_prb": 26,
            "n_rx": 2,
            "dmrs": [2, 11],
            "sync": False,
            "snr_db": 9.0,
            "seed": 1,
            "slots": 30,
            "missed_slots": 0,
            "cluster_errors": [10, 30, 20],
            "cluster_bits": [1000, 1000, 1000],
            "inference_s": [1e-3, 2e-3, 3e-3],
            "cpu_s_per_slot": 2e-3,
            "flop_per_slot": 10**9,
            "energy_per_slot_j": energy.energy_per_slot(source="none: no counter")
            | {"modelled": 0.2, "model": "CPU time x 100 W a busy core, given"},
        }
        | fields
    )


BLOCK_KEYS = (
    "layers", "layer", "total_snr_db", "slot", "mcs", "blocks", "block_errors", "bler",
    "bler_ci95", "harq", "goodput_bit_per_s", "decoder", "energy_per_delivered_bit_j",
)  # fmt: skip


def make_block_point(**fields):
    known = {
        "cluster_block_errors": [1, 0, 2],
        "cluster_blocks": [10, 10, 10],
        "mcs": 14,
        "harq": {"transmissions": 4, "retransmissions": 3, "delivered": 29, "failed": 1},
        "goodput_bit_per_s": 6.52e6,
        "decoder": {"iterations": 2.25, "cpu_s": 1e-4},
        "energy_per_delivered_bit_j": energy.energy_per_slot(source="none") | {"modelled": 3.1e-8},
    }
    return make_point(**known | fields)


def make_report(*points):
    written = report.new(gnuradio="3.10")
    written["points"] += points
    return written


def rendered(points):
    console = Console(file=io.StringIO(), width=200)
    for table in report_view.tables(points):
        console.print(table)
    return console.file.getvalue()


def test_point_has_every_key_of_the_schema():
    point = make_point()
    assert list(point) == [
        "receiver", "model_sha256", "channel", "delay_spread_s", "doppler_hz", "domain",
        "modulation", "n_prb", "n_rx", "dmrs", "sync", "sinr_db", "snr_db", "sir_db", "seed",
        "slots", "clusters", "missed_slots", "bits", "bit_errors", "ber", "ber_ci95",
        "inference_s_per_slot", "cpu_s_per_slot", "flop_per_slot", "energy_per_slot_j",
        *BLOCK_KEYS,
    ]  # fmt: skip
    assert {point[key] for key in BLOCK_KEYS} == {None}
    assert (point["bits"], point["bit_errors"], point["clusters"]) == (3000, 60, 3)
    assert point["ber"] == pytest.approx(0.02)
    assert point["inference_s_per_slot"]["p50"] == pytest.approx(2e-3)


def test_sinr_adds_noise_and_interference():
    assert make_point()["sinr_db"] == 9.0
    assert make_point(snr_db=10.0, sir_db=10.0)["sinr_db"] == pytest.approx(10 - 3.0103, abs=1e-3)


def test_written_report_reads_back_the_same(tmp_path):
    written = make_report(make_point())
    report.write(written, tmp_path / "new" / "report.json")
    assert report.read(tmp_path / "new" / "report.json") == written
    assert written["host"]["cores"] >= 1


def test_point_of_a_live_radio_may_not_know_its_channel(tmp_path):
    point = make_point(channel=None, snr_db=None, cluster_errors=[], cluster_bits=[])
    assert point["sinr_db"] is None
    assert point["ber"] is None
    report.write(make_report(point), tmp_path / "report.json")
    assert "unknown channel" in rendered([point])


def test_failed_write_leaves_the_old_report_and_nothing_else(tmp_path):
    path = tmp_path / "report.json"
    report.write(make_report(), path)
    with pytest.raises(ValueError, match="'versions' must be a dictionary of finite numbers"):
        report.write(make_report() | {"versions": {"of": float("nan")}}, path)
    assert report.read(path)["points"] == []
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ber": "0.1"}, r"points\[0\]: 'ber' must be a number from 0 to 1 or null, got '0.1'"),
        (
            {"doppler_hz": float("nan")},
            "'doppler_hz' must be a number of 0 or more or null",
        ),
        ({"slots": None}, "'slots' must be a whole number of 0 or more, got None"),
        ({"slots": True}, "'slots' must be a whole number of 0 or more, got True"),
        ({"bit_errors": 9999}, "9999 errors in 3000 bits"),
        ({"ber": None}, "'ber', 'ber_ci95' must be null exactly without bits"),
        ({"energy_per_slot_j": {}}, r"points\[0\].energy_per_slot_j lacks 'measured'"),
        ({"block_errors": 31}, "31 errors in None blocks"),
        ({"bler": 0.1}, "'bler', 'bler_ci95' must be null exactly without blocks"),
        ({"decoder": {"iterations": 2.0}}, r"points\[0\].decoder lacks 'cpu_s'"),
    ],
)
def test_departure_from_the_schema_is_named(change, says):
    with pytest.raises(ValueError, match=says):
        report.validate(make_report(make_point() | change))


def test_missing_key_is_named():
    point = make_point()
    del point["seed"]
    with pytest.raises(ValueError, match=r"points\[0\] lacks 'seed'"):
        report.validate(make_report(point))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not a report"),
        ('{"a": 1, "a": 2}', "is not a report: expected each key once, found 'a' twice"),
        ("[]", "got 'list'"),
        (json.dumps({"schema": "deeprx.report/9"}), "got 'deeprx.report/9'"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, text, says):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=says) as raised:
        report.read(path)
    assert str(path) in str(raised.value)
    with pytest.raises(ValueError, match="No such file"):
        report.read(tmp_path / "none.json")


@pytest.mark.parametrize("read", [report.read, slot_of], ids=["report", "slot"])
def test_a_pipe_is_no_file_to_open(read, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setattr(os, "open", lambda *_, **__: pytest.fail("was opened"))
    with pytest.raises((ValueError, ArgumentTypeError), match=r"fifo.*expected a regular file"):
        read(str(tmp_path / "fifo"))


def test_table_shows_points_by_channel_and_sinr():
    points = [
        make_point(snr_db=12.0),
        make_point(),
        make_point(receiver="baseline"),
        make_point(channel="TDL-E", delay_spread_s=3e-7),
    ]
    text = rendered(points)
    assert text.index("TDL-A, 100 ns, 50 Hz") < text.index(" 9.0 ") < text.index(" 12.0 ")
    assert "TDL-E, 300 ns" in text
    assert "2.000e-02" in text
    assert "modelled" in text


def test_an_interval_that_says_little_is_marked():
    known = make_point(snr_db=3.0, cluster_errors=[18, 20, 22] * 9, cluster_bits=[1000] * 27)
    assert "?" not in rendered([known])
    unsure = make_point(cluster_errors=[30, 0, 0])
    low, high = unsure["ber_ci95"]
    assert high > 100 * low
    text = rendered([known, unsure])
    assert f"{low:.2e} {high:.2e}?" in text and text.count("?") == 2
    assert "?: the interval spans a factor of 10 or more" in text
    none = rendered([make_point(cluster_errors=[0, 0, 0])])  # only a bound is known, and said
    assert "?" not in none


def test_energy_value_prefers_what_was_measured():
    used = make_point()["energy_per_slot_j"]
    assert report.energy_value(used) == (0.2, "modelled")
    assert report.energy_value(used | {"attributed": 0.5}) == (0.5, "attributed")
    assert report.energy_value(used | {"attributed": 0.5, "measured": 0.7}) == (0.7, "measured")
    assert report.energy_value(used | {"modelled": None}) == (None, "none")


def test_plot_is_a_picture_even_without_errors(tmp_path):
    points = [make_point(), make_point(snr_db=20.0, cluster_errors=[0, 0, 0])]
    report_view.plot(points, tmp_path / "ber.png")
    assert (tmp_path / "ber.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["ber.png"]


@pytest.mark.filterwarnings("error")
def test_picture_takes_any_names(tmp_path):
    """As a recording's channel and a model file have them."""
    points = [
        make_point(channel="$\\frac{$ \u6f22", receiver=name) for name in ("$^{$ \u5b57", 500 * "a")
    ]
    report_view.plot(points, tmp_path / "ber.png")
    assert plt.imread(tmp_path / "ber.png").size


def test_points_of_two_users_say_which_and_the_total_snr():
    points = [make_point(layers=2, layer=layer) for layer in (0, 1)]
    report.validate(make_report(*points))
    assert [p["snr_db"] for p in points] == [9, 9]
    assert [p["total_snr_db"] for p in points] == pytest.approx([12.01] * 2, abs=0.001)
    assert make_point(layers=1, layer=0)["total_snr_db"] == 9
    text = rendered(points)
    assert "user 1 of 2" in text and "user 2 of 2" in text
    compared = report.comparison(points[1], points[1], ([1], [1], [1000]))
    assert report.user_of(compared) == "user 2 of 2"
    known_before = make_point(layers=2)  # of reports that did not say which
    for point in (make_point(layers=1, layer=0), known_before):
        assert "user" not in rendered([point])


def test_comparison_is_paired():
    a, b = make_point(), make_point(receiver="baseline")
    paired = report.comparison(a, b, ([10, 30, 20] * 2, [20, 40, 30] * 2, [1000] * 6))
    assert paired["ber_difference"] == pytest.approx(-0.01)
    assert paired["ci95"][1] < 0
    assert (paired["a"], paired["b"], paired["clusters"]) == ("net", "baseline", 6)


def test_comparison_of_blocks_is_paired():
    a, b = make_block_point(), make_block_point(receiver="baseline")
    bits = [10, 30, 20], [20, 40, 30], [1000] * 3
    paired = report.comparison(a, b, bits, blocks=([1, 0, 2], [2, 1, 4], [10] * 3))
    assert paired["bler_difference"] == pytest.approx(-4 / 30)
    assert paired["bler_ci95"][0] < paired["bler_difference"] < paired["bler_ci95"][1]
    assert "goodput_ci95" not in paired
    validated = make_report(a, b) | {"comparisons": [paired]}
    report.validate(validated)
    paired["bler_ci95"].reverse()
    with pytest.raises(ValueError, match=r"comparisons\[0\]: 'bler_ci95' must be two numbers"):
        report.validate(validated)


def test_comparison_of_deliveries_is_in_bits_of_air_time():
    """Two blocks more in 30 slots of 1 ms."""
    slot = SlotConfig(users=(User(mcs=14),))
    a, b = (make_block_point(receiver=r, slot=slot.as_dict(), layer=0) for r in ("net", "other"))
    bits = [10, 30, 20], [20, 40, 30], [1000] * 3
    paired = report.comparison(a, b, bits, deliveries=([9, 9, 10], [8, 9, 9], [10] * 3))
    more = paired["goodput_difference_bit_per_s"]
    assert more == pytest.approx(2 * slot.transport_block_size() / 30e-3)
    assert paired["goodput_ci95"][0] < more < paired["goodput_ci95"][1]
    assert "bler_difference" not in paired
    report.validate(make_report(a, b) | {"comparisons": [paired]})


def test_results_that_are_equal_in_every_cluster_say_so_without_an_interval():
    """Each kind of its own: here bits differ, and blocks and deliveries do not."""
    slot = SlotConfig(users=(User(mcs=14),))
    a, b = (make_block_point(receiver=r, slot=slot.as_dict(), layer=0) for r in ("net", "other"))
    bits, same = ([10, 30] * 5, [20, 40] * 5, [1000] * 10), ([5, 2] * 5, [5, 2] * 5, [5] * 10)
    paired = report.comparison(a, b, bits, same, same)
    assert (paired["bler_ci95"], paired["goodput_ci95"]) == (None, None)
    assert (paired["bler_difference"], paired["goodput_difference_bit_per_s"]) == (0, 0)
    assert paired["ci95"][1] < 0
    assert report.comparison(a, b, same)["ci95"] is None
    report.validate(make_report(a, b) | {"comparisons": [paired]})
    assert report_view.difference(0.0, paired["bler_ci95"], 10) == "equal in all 10 clusters"
    console = Console(file=io.StringIO(), width=200)
    compared = [paired, report.comparison(a, b, same)]
    results.show(make_report(a, b) | {"comparisons": compared}, console)
    said = console.file.getvalue()
    assert "other, BLER equal in all 10 clusters, goodput equal in all 10 clusters, BER -" in said
    assert said.count("] over 10 clusters\n") == 1
    assert "net: no difference shown from other, BER equal in all 10 clusters\n" in said


def test_too_few_clusters_to_tell_say_so():
    a, b = make_point(), make_point(receiver="baseline")
    paired = report.comparison(a, b, ([10] * 3, [20] * 3, [1000] * 3))
    told = report_view.difference(paired["ber_difference"], paired["ci95"], paired["clusters"])
    assert told == "too few clusters to tell, -1.00e-02"


def test_best_is_who_delivers_most_then_who_errs_least():
    bits = [make_point(cluster_errors=[errors] * 3) for errors in (20, 10, 30)]
    assert report.best(bits) is bits[1]
    blocks = [make_block_point(goodput_bit_per_s=g, cluster_errors=[e] * 3) for g, e in (
        (5e6, 5), (6e6, 30), (6e6, 20)
    )]  # fmt: skip
    assert report.best(blocks) is blocks[2]


def test_block_errors_are_counted_over_clusters_or_one_by_one():
    point = make_block_point()
    assert (point["blocks"], point["block_errors"], point["bler"]) == (30, 3, 0.1)
    over_clusters = point["bler_ci95"]
    alone = make_block_point(cluster_block_errors=[1] * 3 + [0] * 27, cluster_blocks=[1] * 30)
    exact = binomtest(3, 30).proportion_ci(method="exact")
    assert alone["bler_ci95"] == pytest.approx([exact.low, exact.high])
    assert alone["bler_ci95"] != over_clusters
    report.validate(make_report(point, alone))


def test_table_shows_blocks_where_there_were_any():
    text = rendered([make_block_point(), make_block_point(cluster_blocks=[], receiver="bits")])
    for shown in ("BLER", "1.00e-01", "MCS 14", "4 transmissions", "6.52", "2.2", "31.0"):
        assert shown in text, shown
    assert "BLER" not in rendered([make_point()])


def test_picture_shows_blocks_below_bits(tmp_path):
    points = [make_block_point(snr_db=s, channel=c) for s in (6, 9) for c in ("TDL-A", "TDL-E")]
    report_view.plot(points, tmp_path / "blocks.png")
    report_view.plot([make_point(snr_db=s) for s in (6, 9)], tmp_path / "bits.png")
    heights = [plt.imread(tmp_path / name).shape[0] for name in ("blocks.png", "bits.png")]
    assert heights[0] > 1.5 * heights[1]


def test_reports_of_version_1_are_read(tmp_path):
    old = make_report(make_point()) | {"schema": "deeprx.report/1"}
    for key in BLOCK_KEYS:
        del old["points"][0][key]
    (tmp_path / "report.json").write_text(json.dumps(old))
    assert report.read(tmp_path / "report.json") == old
    assert "net" in rendered(old["points"])
    report_view.plot(old["points"], tmp_path / "ber.png")
    of_blocks = old["points"][0] | {"blocks": 9, "block_errors": 0, "bler": 0, "bler_ci95": [0, 1]}
    with pytest.raises(ValueError, match="lacks 'layers'"):
        report.validate(old | {"points": [of_blocks]})
    with pytest.raises(ValueError, match="lacks 'layers'"):
        report.validate(old | {"schema": report.SCHEMA})
