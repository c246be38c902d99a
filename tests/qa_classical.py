# SPDX-License-Identifier: GPL-3.0-or-later
"""Classical receivers in C++: against the TorchScript baselines, and, for the open gNB's, against
its description as NumPy code.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from gnuradio import deeprx
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.deeprx_python import ClassicalReceiver
from gnuradio.deeprx.measure import compare
from qa_slots import INDEX, VECTORS, slot_of

from deeprx_common.modulation import MODULATIONS, constellation
from deeprx_common.slot import SLOTS, SlotConfig, User

BASELINES = {"ls-lmmse": "baseline-lmmse", "sure-lmmse": "baseline-sure"}


def fading(rng, slot: SlotConfig, n_rx: int, delay_s: float = 200e-9, doppler_hz: float = 100):
    """complex [n_layers, n_rx, n_symbols, n_sc]: six paths of random delays and shifts."""
    shape = (slot.n_layers, n_rx, 6, 1, 1)
    gain = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(12)
    late = rng.uniform(-delay_s, 2 * delay_s, shape) * slot.scs_khz * 1e3
    shift = rng.uniform(-doppler_hz, doppler_hz, shape) * slot.slot_s / 14
    symbol, carrier = np.arange(slot.n_symbols)[:, None], np.arange(slot.n_sc)
    return (gain * np.exp(2j * np.pi * (shift * symbol - late * carrier))).sum(2)


def sent(rng, slot: SlotConfig, slot_index: int = 0) -> np.ndarray:
    """complex [n_layers, n_symbols, n_sc] of random bits."""
    grids = [
        slot.grid(rng.integers(0, 2, slot.n_data_re * user.bits_per_symbol), slot_index, layer)
        for layer, user in enumerate(slot.users)
    ]
    return np.stack(grids)


def received(rng, slot: SlotConfig, n_rx: int, snr_db: float, slot_index: int = 0) -> np.ndarray:
    """complex64 [n_rx, n_symbols, n_sc]"""
    x = sent(rng, slot, slot_index)
    y = (fading(rng, slot, n_rx) * x[:, None]).sum(0)
    noise = rng.normal(size=(2, *y.shape)) * np.sqrt(10 ** (-snr_db / 10) / 2)
    return (y + noise[0] + 1j * noise[1]).astype(np.complex64)


def pairs(z: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(z.astype(np.complex64)).view(np.float32).reshape(*z.shape, 2)


@pytest.mark.parametrize("n_rx", [1, 2, 4])
@pytest.mark.parametrize("modulation", MODULATIONS)
@pytest.mark.parametrize("kind", BASELINES)
def test_llrs_equal_the_torchscript_baselines(kind, modulation, n_rx):
    baseline = torch.jit.load(deeprx.model_path(BASELINES[kind]))
    rng = np.random.default_rng(n_rx)
    for n_prb, dmrs in ((1, (2,)), (6, (2, 11)), (26, (2, 11)), (51, (2,))):
        slot = SlotConfig(n_prb=n_prb, dmrs=dmrs, users=(User(modulation),))
        receiver = ClassicalReceiver(slot, n_rx, kind)
        for snr_db in (-5, 10, 30):
            y = pairs(received(rng, slot, n_rx, snr_db))
            p = pairs(slot.pilots())
            with torch.inference_mode():
                expected = baseline(
                    *(torch.from_numpy(a) for a in (y[None], p[None], slot.data_mask)),
                    [slot.bits_per_symbol],
                )
            expected = expected[0, 0].numpy()[slot.data_mask][:, : slot.bits_per_symbol]
            llr = receiver.infer(y, p)[0][slot.data_mask]
            assert np.sqrt(np.mean((llr - expected) ** 2) / np.mean(expected**2)) < 1e-5


def gnb_receiver(y: np.ndarray, slot: SlotConfig) -> tuple[list, np.ndarray, np.ndarray]:
    """What an open gNB does by default, as its description reads.

    y: complex [n_rx, n_symbols, n_sc]. Returns LLRs of each layer's data, channel [n_layers, n_rx,
    n_symbols, n_sc], noise power [n_rx].
    """
    p, dmrs = slot.pilots(), np.array(slot.dmrs)
    n_rx, n_layers, symbols = len(y), slot.n_layers, np.arange(slot.n_symbols)
    first = [user.port // 2 for user in slot.users]
    same_group = n_layers == 2 and first[0] == first[1]

    # a raised cosine, 31 subcarriers long: every second one is a pilot
    length = min(slot.n_prb, 3) * 10 // 4
    t = np.arange(-length, length + 1) / 5
    taps = np.sinc(t) * np.cos(np.pi * 0.2 * t) / (1 - (0.4 * t) ** 2)
    taps /= taps.sum()
    n_virtual = slot.n_sc // 2 if slot.n_prb == 1 else length

    channel = np.empty((n_layers, *y.shape), complex)
    noise = np.empty(n_rx)
    for antenna in range(n_rx):
        # least squares at the pilots: [n_layers, dmrs, pilots]
        seen = np.stack([y[antenna, dmrs, k::2] for k in first])
        at = np.stack([p[layer, dmrs, k::2] for layer, k in enumerate(first)])
        z = seen * at.conj() / slot.cdm_groups
        step = 0.0
        if len(dmrs) > 1:
            step = np.angle((z[:, 1] * z[:, 0].conj()).sum()) / (dmrs[1] - dmrs[0])
        turn = np.exp(1j * step * dmrs)[:, None]
        h = (z / turn).mean(1)
        if same_group:
            h = np.repeat((h[:, ::2] + h[:, 1::2]) / 2, 2, 1)
        for layer in range(n_layers):
            extended = [h[layer]]
            for side in (0, -1):
                near = h[layer][:n_virtual] if side == 0 else h[layer][-n_virtual:]
                place = np.arange(n_virtual)
                beyond = place + (-n_virtual if side == 0 else n_virtual)
                modulus = np.polyval(np.polyfit(place, np.abs(near), 1), beyond)
                phase = np.polyval(np.polyfit(place, np.unwrap(np.angle(near)), 1), beyond)
                extended.insert(0 if side == 0 else 2, modulus * np.exp(1j * phase))
            h[layer] = np.convolve(np.concatenate(extended), taps, "same")[n_virtual:][
                : len(h[layer])
            ]
            carriers = np.arange(slot.n_sc)
            pilot_carriers = carriers[first[layer] :: 2]
            line = np.interp(carriers, pilot_carriers, h[layer].real) + 1j * np.interp(
                carriers, pilot_carriers, h[layer].imag
            )
            channel[layer, antenna] = line * np.exp(1j * step * symbols)[:, None]
        explained = turn * h[:, None] * at
        if same_group:
            seen, explained = seen[:1], explained.sum(0, keepdims=True)
        noise[antenna] = (np.abs(seen - explained) ** 2).sum() / (seen.size - 1)

    h = np.moveaxis(channel, (0, 1), (-1, -2))  # [..., n_rx, n_layers]
    inverse = np.linalg.pinv(h)
    x = (inverse @ np.moveaxis(y, 0, -1)[..., None])[..., 0]
    power = noise if n_layers == 1 else np.full(n_rx, noise.max())
    variance = (np.abs(inverse) ** 2 * power).sum(-1)
    llrs = []
    for layer, user in enumerate(slot.users):
        bits = user.bits_per_symbol
        points = constellation(user.modulation)
        labels = np.arange(2**bits)[:, None] >> np.arange(bits)[::-1] & 1
        data = slot.data_mask
        far = np.abs(x[data][:, layer, None] - points) ** 2 / variance[data][:, layer, None]
        llr = np.stack(
            [
                far[:, labels[:, bit] == 0].min(1) - far[:, labels[:, bit] == 1].min(1)
                for bit in range(bits)
            ],
            -1,
        )
        limit = 24 if bits == 2 else 20
        llrs.append((np.round(np.clip(llr / limit, -1, 1) * 120) / 120 * limit).ravel())
    return llrs, channel, noise


GNB_SLOTS = {
    "default": SlotConfig(),
    "gnb": replace(SLOTS["gnb"], n_prb=10, carrier_prb=None, fft_size=None),
    "one PRB": SlotConfig(n_prb=1, dmrs=(2,), users=(User("QPSK"),)),
    "two PRB": SlotConfig(n_prb=2, users=(User("64QAM"),)),
    "one group": SlotConfig(n_prb=5, users=(User("QPSK"), User("16QAM", rnti=2, port=1))),
    "two groups": SlotConfig(
        n_prb=6, dmrs=(2, 7, 11), cdm_groups=2, users=(User(), User("256QAM", rnti=2, port=2))
    ),
}


@pytest.mark.parametrize("n_rx", [2, 4])
@pytest.mark.parametrize("name", GNB_SLOTS)
def test_the_gnbs_receiver_is_what_its_description_says(name, n_rx):
    slot = GNB_SLOTS[name]
    rng = np.random.default_rng(1)
    receiver = ClassicalReceiver(slot, n_rx, "gnb")
    for snr_db in (5, 25):
        y = received(rng, slot, n_rx, snr_db)
        llrs = receiver.receive(y)
        channel, noise = receiver.estimate()
        expected_llrs, expected_channel, expected_noise = gnb_receiver(y, slot)
        np.testing.assert_allclose(channel, expected_channel, atol=2e-5)
        np.testing.assert_allclose(noise, expected_noise, rtol=1e-4)
        for llr, expected in zip(llrs, expected_llrs, strict=True):
            apart = np.abs(llr - expected)
            assert np.mean(apart > 1e-3) < 0.01  # where rounding takes the next of 8-bit steps
            assert apart.max() < 0.21


def decided_with_known_channel(y, h, noise, slot: SlotConfig) -> list[np.ndarray]:
    """Bits of each layer, by LMMSE over the antennas."""
    h, y = np.moveaxis(h, (0, 1), (-1, -2)), np.moveaxis(y, 0, -1)[..., None]
    inverse = np.linalg.inv(h.conj().swapaxes(-1, -2) @ h + noise * np.eye(slot.n_layers))
    x = (inverse @ h.conj().swapaxes(-1, -2) @ y)[slot.data_mask][..., 0]
    share = 1 - noise * np.diagonal(inverse, axis1=-2, axis2=-1).real[slot.data_mask]
    decided = []
    for layer, user in enumerate(slot.users):
        apart = np.abs((x / share)[:, layer, None] - constellation(user.modulation))
        label = apart.argmin(1)[:, None]
        decided.append((label >> np.arange(user.bits_per_symbol)[::-1] & 1).ravel())
    return decided


# Of the known channel: slot, antennas, the bit error rate over its, and the mean squared error of
# the channel over the noise. Two or three DMRS symbols and 15 pilots are averaged, weighted.
TRUTH = {
    "default": (SlotConfig(), 2, 1.2, 0.11),
    "gnb": (GNB_SLOTS["gnb"], 2, 1.15, 0.06),
    "one group": (
        SlotConfig(n_prb=20, users=(User("QPSK"), User("QPSK", rnti=2, port=1))), 4, 2.3, 0.11
    ),
    "two groups": (GNB_SLOTS["two groups"], 4, 1.15, 0.06),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["sure-lmmse", "gnb"])
@pytest.mark.parametrize("name", TRUTH)
def test_a_frequency_selective_channel_is_known_almost(name, kind):
    """Delays to 200 ns, 10 dB."""
    slot, n_rx, most_errors, most_error = TRUTH[name]
    receiver, noise = ClassicalReceiver(slot, n_rx, kind), 0.1
    rng = np.random.default_rng(1)
    wrong, wrong_if_known, error, measured = [], [], [], []
    for _ in range(10):
        h = fading(rng, slot, n_rx, delay_s=100e-9, doppler_hz=10)
        bits = [rng.integers(0, 2, slot.n_data_re * u.bits_per_symbol) for u in slot.users]
        x = np.stack([slot.grid(b, 0, layer) for layer, b in enumerate(bits)])
        y = (h * x[:, None]).sum(0)
        y = y + rng.normal(0, np.sqrt(noise / 2), (*y.shape, 2)) @ (1, 1j)
        decided = [llr > 0 for llr in receiver.receive(y.astype(np.complex64))]
        known = decided_with_known_channel(y, h, noise, slot)
        for layer, sent in enumerate(bits):
            wrong.append(np.mean(decided[layer] != sent))
            wrong_if_known.append(np.mean(known[layer] != sent))
        channel, power = receiver.estimate()
        error.append(np.mean(np.abs(channel - h) ** 2))
        measured.append(np.mean(power))
    print(
        np.mean(wrong) / np.mean(wrong_if_known),
        np.mean(wrong),
        np.mean(error) / noise,
        np.mean(measured) / noise,
    )
    assert 0 < np.mean(wrong) < most_errors * np.mean(wrong_if_known)
    assert np.mean(error) < most_error * noise
    assert 0.75 * noise < np.mean(measured) < 1.1 * noise


@pytest.mark.parametrize("kind", ["ls-lmmse", "sure-lmmse", "gnb"])
def test_bits_come_in_transmit_order(kind):
    """Without noise, of slot_index 3."""
    rng = np.random.default_rng(2)
    for slot in GNB_SLOTS.values():
        slot = replace(slot, slot_number=None)
        receiver = ClassicalReceiver(slot, 4, kind)
        bits = [rng.integers(0, 2, slot.n_data_re * u.bits_per_symbol) for u in slot.users]
        x = np.stack([slot.grid(b, 3, layer) for layer, b in enumerate(bits)])
        antennas = np.exp(1j * np.outer([0, 1, 2, 3], [0.3, 2.1]))[:, : slot.n_layers]
        y = np.einsum("rl,lsk->rsk", antennas, x).astype(np.complex64)
        for llr, expected in zip(receiver.receive(y, slot_index=3), bits, strict=True):
            np.testing.assert_array_equal(llr > 0, expected)


@pytest.mark.parametrize("kind", ["ls-lmmse", "sure-lmmse", "gnb"])
@pytest.mark.parametrize("i, vector", INDEX, ids=[v["name"] for _, v in INDEX])
def test_slots_of_another_implementation_are_received(i, vector, kind):
    """Over fading, 35 dB, four antennas."""
    slot, rng = slot_of(vector), np.random.default_rng(i)
    grid = VECTORS[f"grid{i}"][: slot.n_symbols]
    h = fading(rng, slot, 4, delay_s=50e-9, doppler_hz=20)[0]
    noise = rng.normal(size=(2, *h.shape)) * np.sqrt(10**-3.5 / 2)
    llr = ClassicalReceiver(slot, 4, kind).receive(h * grid + noise[0] + 1j * noise[1])[0]
    points = constellation(slot.modulation)
    label = np.abs(grid[slot.data_mask][:, None] - points).argmin(1)
    bits = label[:, None] >> np.arange(slot.bits_per_symbol)[::-1] & 1
    assert np.mean((llr > 0) != bits.ravel()) < 1e-3


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: ClassicalReceiver(SlotConfig(), 5, "gnb"), "n_rx must be 1 to 4, got 5"),
        (lambda: ClassicalReceiver(SlotConfig(), 2, "mmse"), "sure-lmmse, gnb, got 'mmse'"),
        (lambda: ClassicalReceiver(SlotConfig(), 2, "gnb", instructions="MMX"), "got 'MMX'"),
        (
            lambda: ClassicalReceiver(SlotConfig(), 2, "gnb").receive(np.zeros((1, 14, 312))),
            "grid must be complex64 [2, 14, 312], got [1, 14, 312]",
        ),
        (
            lambda: ClassicalReceiver(SlotConfig(), 2, "gnb").infer(
                np.zeros((2, 14, 312, 2)), np.zeros((14, 312, 2))
            ),
            "p must be float32 [1, 14, 312, 2], got [14, 312, 2]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(ValueError) as refused:
        call()
    assert words in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", BASELINES)
def test_a_slot_takes_at_most_0_3_ms(kind):
    """26 PRB, two antennas, 16QAM, on one core with AVX2; 2 to 2.6 ms in TorchScript."""
    try:
        receiver = ClassicalReceiver(SlotConfig(), 2, kind, instructions="AVX2")
    except ValueError:
        pytest.skip("needs AVX2")
    assert min(receiver.time(1) for _ in range(500)) < 0.3e-3


def test_receivers_without_a_file_are_the_baselines_and_a_gnbs(tmp_path, capsys):
    pairs_of = {"sure-lmmse": "baseline-sure", "ls-lmmse": "baseline-lmmse"}
    names = [*pairs_of, *pairs_of.values(), "gnb"]
    asked = [option for name in names for option in ("--receiver", name)]
    slots = ["--sinr", "9", "--slots", "20", "--out", str(tmp_path)]
    assert main(["loopback", *asked, *slots]) == 0
    said = capsys.readouterr()
    assert "sure-lmmse: native, float32, " in said.out + said.err
    points = json.loads((tmp_path / "report.json").read_text())["points"]
    counted = {point["receiver"]: point for point in points}
    assert list(counted) == names
    for native, file in pairs_of.items():
        assert counted[native]["bit_errors"] == pytest.approx(counted[file]["bit_errors"], abs=2)
        assert counted[native]["model_sha256"] is None and counted[file]["model_sha256"]
    assert 0 < counted["gnb"]["ber"] < 0.3


def test_the_bench_times_receivers_without_a_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compare, "PRECISIONS", ())  # the machine itself is of no matter here
    monkeypatch.setattr(compare, "ldpc_instructions", list)
    contenders = ["--contender", "block", "--contender", "engine", "--contender", "torchscript"]
    out = ["--seconds", "0.4", "--out", str(tmp_path)]
    assert main(["bench", "--receiver", "sure-lmmse", *contenders, *out]) == 0
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    ours = {row["contender"]: row for row in rows if row["receiver"] == "sure-lmmse"}
    best = ClassicalReceiver(SlotConfig(), 2, "sure-lmmse").instructions
    for contender in ("block", "engine"):
        assert ours[contender]["description"] == f"native, float32, {best}"
        assert ours[contender]["cpu_s"] > 0
    assert ours["torchscript"]["why"] == "there is no model file"
    assert "sure-lmmse: 26 PRB, 16QAM, 2 RX" in capsys.readouterr().out


def test_a_receiver_without_a_file_is_told_of(capsys):
    assert main(["info", "gnb"]) == 0
    assert "native" in capsys.readouterr().out
    assert main(["loopback", "--receiver", "gnb", "--engine", "openvino", "--slots", "1"]) != 0
    line = capsys.readouterr().err
    assert "receiver 'gnb': it is no model file and needs no engine" in line
    assert "Traceback" not in line
