# SPDX-License-Identifier: GPL-3.0-or-later
"""Two users on the same PRBs through the whole link: what they reach, and that they are alike."""

import numpy as np
import pytest
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.cli.loopback import flowgraph_of
from gnuradio.deeprx.measure.link import Link
from gnuradio.deeprx.models.file import read_model_file
from scipy import special

from deeprx_common import report
from deeprx_common.slot import SlotConfig, User


def loopback(out, *arguments):
    command = ["loopback", "--users", "2", "--meter", "none", "--out", str(out)]
    assert main([*command, *map(str, arguments)]) == 0
    return report.read(out / "report.json")


def of_users(config, sinr_db, slots, receiver="sure-lmmse", **link):
    """A report's point of each user; every slot has a channel draw of its own."""
    values = {
        "n_rx": 2, "channel": "TDL-A", "delay_spread_s": 1e-7, "doppler_hz": 5.0, "sir_db": None,
        "cfo_hz": 0.0, "burst": 1, "preamble": False, "seed": 1,
    }  # fmt: skip
    asked = Link(config=config, sinr_db=sinr_db, slots=slots, **values | link)
    flowgraph = flowgraph_of([read_model_file(receiver)], asked, "cpu", "auto")
    flowgraph.run()
    points = [probe.report()["points"][0] for probe in flowgraph.probes]
    assert [p["slots"] for p in points] == [slots] * config.n_layers
    return points


def users(first="QPSK", second=None, groups=1, **slot):
    return SlotConfig(
        users=(User(first), User(second or first, rnti=2, port=groups)), cdm_groups=groups, **slot
    )


def perfect_csi_ber(snr_db, draws=500_000):
    """Of QPSK from two users to two antennas, LMMSE with the channel known, Rayleigh fading."""
    random = np.random.default_rng(0).standard_normal((2, draws, 2, 2))
    h = (random[0] + 1j * random[1]) / np.sqrt(2)
    inverse = np.linalg.inv(np.eye(2) + 10 ** (snr_db / 10) * h.conj().swapaxes(1, 2) @ h)
    sinr = 1 / np.diagonal(inverse, axis1=1, axis2=2).real - 1
    return float(special.ndtr(-np.sqrt(sinr)).mean())


@pytest.mark.parametrize(
    ("groups", "snrs_db"),
    [
        (1, (10, 30)),
        (2, (20,)),
        *(pytest.param(*rest, marks=pytest.mark.slow) for rest in [(1, (20,)), (2, (10, 30))]),
    ],
)
def test_both_users_reach_what_two_antennas_allow(groups, snrs_db):
    """One antenna is spent on the other user: the error rate falls with the SNR, as over one. To
    know the channel is worth less than 2.5 dB.
    """
    for snr_db in snrs_db:
        least, most = perfect_csi_ber(snr_db), perfect_csi_ber(snr_db - 2.5)
        for point in of_users(users(groups=groups), snr_db, 400):
            assert 0.8 * least < point["ber"] < most, (snr_db, least, point["ber"], most)


@pytest.mark.parametrize("receiver", ["ls-lmmse", "gnb"])
def test_a_swap_of_users_changes_nothing(receiver):
    slot = {"n_prb": 6, "dmrs": (2, 7, 11), "groups": 2}
    rates = [
        {p["modulation"]: p["ber_ci95"] for p in of_users(users(*pair, **slot), 15, 400, receiver)}
        for pair in (("QPSK", "64QAM"), ("64QAM", "QPSK"))
    ]
    for modulation in ("QPSK", "64QAM"):
        (low, high), (other_low, other_high) = (rate[modulation] for rate in rates)
        assert low < other_high and other_low < high


def test_users_have_bits_and_errors_of_their_own(tmp_path, capsys):
    names = ["--receiver", "sure-lmmse", "--receiver", "ls-lmmse"]
    measured = loopback(tmp_path, *names, "--sinr", 12, "--slots", 40, "--sir", 20)
    points = measured["points"]
    assert [(p["receiver"], p["layers"], p["layer"]) for p in points] == [
        (name, 2, layer) for name in ("sure-lmmse", "ls-lmmse") for layer in (0, 1)
    ]
    for p in points:
        assert (p["slots"], p["missed_slots"], p["clusters"]) == (40, 0, 8)
        assert p["bits"] == 40 * SlotConfig().n_bits
        assert 0.01 < p["ber"] < 0.3
        assert (p["sinr_db"], p["sir_db"]) == (pytest.approx(12), 20)
        assert p["total_snr_db"] == pytest.approx(p["snr_db"] + 3.01, abs=0.01)
        slot = SlotConfig.from_dict(p["slot"])
        assert [(u.port, u.rnti) for u in slot.users] == [(0, 1), (1, 2)]
    assert points[0]["bit_errors"] != points[1]["bit_errors"]
    of = [(c["a"], c["b"], c["layer"]) for c in measured["comparisons"]]
    assert sorted(layer for *_, layer in of) == [0, 1] and all(a != b for a, b, _ in of)
    text = " ".join(capsys.readouterr().out.split())
    for layer in ("user 1 of 2", "user 2 of 2"):
        assert f"2 RX, SIR 20 dB, {layer}" in text
        assert f"TDL-A 12.0 dB, {layer}" in text


def test_each_user_has_transport_blocks(tmp_path):
    measured = loopback(
        tmp_path, "--receiver", "sure-lmmse", "--slot", "gnb", "--mcs", 5, "--sinr", "-12,40",
        "--slots", 20, "--burst", 1, "--doppler", 5, "--delay-spread", 3e-8,
    )  # fmt: skip
    low, high = measured["points"][:2], measured["points"][2:]
    assert [(p["blocks"], p["bler"]) for p in low] == [(20, 1.0)] * 2
    for layer, p in enumerate(high):
        slot = SlotConfig.from_dict(p["slot"])
        assert [u.port for u in slot.users] == [0, 2]
        size = slot.transport_block_size(layer)
        assert (p["layer"], p["mcs"], p["block_errors"]) == (layer, 5, 0)
        assert p["goodput_bit_per_s"] == pytest.approx(size / slot.slot_s)
        # of a delivered bit: half of the receiver, which serves both, and the user's own decoder
        busy = p["cpu_s_per_slot"] / 2 + p["decoder"]["cpu_s"]
        joules = p["energy_per_slot_j"]["modelled"] * busy / p["cpu_s_per_slot"]
        assert p["energy_per_delivered_bit_j"]["modelled"] * size == pytest.approx(joules)


def test_what_a_user_did_not_acknowledge_it_gets_again(tmp_path):
    measured = loopback(
        tmp_path, "--receiver", "ls-lmmse", "--mcs", 5, "--harq", 4, "--sinr", 3, "--slots", 120,
        "--n-prb", 6,
    )  # fmt: skip
    for p in measured["points"]:
        assert p["slots"] == 120
        assert p["harq"]["retransmissions"] > 5 and p["harq"]["delivered"] > 20
        assert p["block_errors"] > p["harq"]["failed"]


def test_users_are_found_by_their_preamble(tmp_path):
    for p in loopback(
        tmp_path, "--receiver", "sure-lmmse", "--sync", "--cfo", 1000, "--modulation", "QPSK",
        "--sinr", 20, "--slots", 40,
    )["points"]:  # fmt: skip
        assert (p["slots"], p["missed_slots"]) == (40, 0)
        assert p["ber"] < 0.03


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--receiver", "deeprx-student"], "takes layers of [1], the receiver has layers=2"),
        (["--receiver", "baseline-sure"], "takes layers of [1], the receiver has layers=2"),
        (["--receiver", "gnb", "--n-rx", "1"], "two users needs 2 antennas or more"),
        (["--receiver", "ls-lmmse", "--users", "3"], "--users must be 1 to 2, got 3"),
        (["--receiver", "ls-lmmse", "--harq", "2"], "give --mcs, too"),
    ],
)
def test_what_two_users_cannot_be_is_one_line(options, words, tmp_path, capsys):
    command = ["loopback", "--users", "2", *options, "--slots", "2", "--out", str(tmp_path)]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line
