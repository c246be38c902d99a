# SPDX-License-Identifier: GPL-3.0-or-later
"""Model contract 2: the shipped files give the LLRs that they gave before, the older ones under
contract 1, and take no other slots than they say.
"""

from pathlib import Path

import numpy as np
import pmt
import pytest
import receiver_models as models
import torch
from gnuradio import deeprx
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.models.file import read_model_file
from golden.make_llrs import FILE, N_RX, SLOTS, llrs
from qa_receiver import Flowgraph, random_symbols, slot_tags
from slots import slot_of

from deeprx_common.examples import received_slots
from deeprx_common.model_schema import WEIGHTS
from deeprx_common.shipped import shipped_models, study_models
from deeprx_common.slot import SlotConfig, User

GOLDEN = np.load(FILE)
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}  # RMS of the difference over RMS
NET = next(path for path in shipped_models() if "deeprx-student" in path)
MODELS = pytest.mark.parametrize("model", shipped_models(), ids=lambda path: Path(path).stem)
LONG = {"deeprx-teacher", "deeprx-pusch-small", "deeprx-published"}  # by default one modulation
FAMILY = [path for path in shipped_models() if "deeprx-pusch" in path]  # for every PUSCH


@pytest.mark.parametrize(
    ("modulation", "model"),
    [
        pytest.param(
            modulation,
            model,
            id=f"{modulation}-{Path(model).stem}",
            marks=pytest.mark.slow if Path(model).stem in LONG and modulation != "16QAM" else (),
        )
        for modulation in SLOTS
        for model in [*shipped_models(), *study_models()]
    ],
)
def test_llrs_are_those_that_were_kept(modulation, model):
    """By the program, and by what is run by default where that is another.

    And so are decisions, save for LLRs that are closer to zero than what LLRs may differ by: other
    instructions, another engine's order of sums, round them to either side.
    """
    file = read_model_file(model)
    y, p, expected = (GOLDEN[f"{modulation} {name}"] for name in ("y", "p", Path(model).stem))
    allowed = TOLERANCE[file.metadata["precision"]]
    size = np.sqrt(np.mean(expected**2))
    decided = np.abs(expected) > 4 * allowed * size
    assert decided.mean() > 0.9
    other = "native" in file.metadata["engines"]
    other |= any(record.endswith(".xml") for record in file.archive.records)
    for engine in ("torchscript", "auto") if other else ("torchscript",):
        computed = llrs(model, modulation, y, p, engine)
        assert np.sqrt(np.mean((computed - expected) ** 2)) <= allowed * size
        np.testing.assert_array_equal((computed > 0)[decided], (expected > 0)[decided])


@pytest.mark.parametrize(
    "model",
    [path for path in [*shipped_models(), *study_models()] if path not in FAMILY],
    ids=lambda path: Path(path).stem,
)
def test_other_slots_are_refused_with_what_it_takes(model):
    about = read_model_file(model).metadata
    assert (about["layers"], about["n_sym"], about["cdm_groups"]) == ([1], [14], [1])
    assert about["n_prb"] == [6, 273] and about["n_dmrs"] == [1, 2]
    slots = [slot_of(n_prb=6, dmrs=[3]), *(slot_of(n_prb=6, scs_khz=scs) for scs in (30, 60))]
    if about["kind"] == "baseline":
        assert about["dmrs"] is about["scs_khz"] is None
        for slot in slots:
            deeprx.Engine(model, n_rx=N_RX, slot=slot)
        return
    assert about["dmrs"] == [[2], [2, 11]] and about["scs_khz"] == [15]  # trained with these
    for slot, says in zip(
        slots,
        (
            "takes DMRS symbols [[2], [2, 11]], the receiver has dmrs=[3]",
            "takes scs_khz of [15], the receiver has scs_khz=30",
            "takes scs_khz of [15], the receiver has scs_khz=60",
        ),
        strict=True,
    ):
        for make in (deeprx.Engine, deeprx.receiver):
            with pytest.raises(RuntimeError) as error:
                make(model=model, n_rx=N_RX, slot=slot)
            assert str(error.value).endswith(
                f"the model {says}; ls-lmmse, sure-lmmse and gnb take this slot"
            )


EVERY = {
    "one PRB": (1, SlotConfig(n_prb=1, dmrs=(3,))),
    "a gNB's slot": (4, SlotConfig(n_prb=26, scs_khz=30, dmrs=(2, 7, 11), cdm_groups=2)),
    "four symbols": (3, SlotConfig(n_prb=52, scs_khz=60, n_symbols=4, dmrs=(2,))),
    "two users": (2, SlotConfig(n_prb=6, users=(User("256QAM"), User("QPSK", port=1)))),
    "two users in two groups": (
        4,
        SlotConfig(n_prb=7, users=(User("16QAM"), User("64QAM", port=2)), cdm_groups=2),
    ),
}


@pytest.mark.parametrize("model", FAMILY, ids=lambda path: Path(path).stem)
@pytest.mark.parametrize(("n_rx", "slot"), EVERY.values(), ids=EVERY)
def test_a_net_for_every_pusch_takes_it(n_rx, slot, model):
    """As PyTorch runs it."""
    y, p, d = received_slots(slot, n_rx, 2)
    engine = deeprx.Engine(model, slot=slot, n_rx=n_rx, max_batch=2)
    expected = eager(torch.jit.load(model), slot, y, p, d)
    tolerance = {"float32": 1e-4, "bfloat16": 1e-2}[read_model_file(model).metadata["precision"]]
    computed = engine.infer(y, p).reshape(2, slot.n_layers, slot.n_symbols, slot.n_sc, -1)
    for layer, llr in enumerate(expected):
        mine = computed[:, layer][:, slot.data_mask, : llr.shape[-1]]
        assert np.sqrt(np.mean((mine - llr) ** 2)) <= tolerance * np.sqrt(np.mean(llr**2))


@pytest.mark.parametrize("model", FAMILY, ids=lambda path: Path(path).stem)
def test_what_a_net_for_every_pusch_was_not_trained_on_is_refused(model):
    about = read_model_file(model).metadata
    assert (about["layers"], about["cdm_groups"], about["n_prb"]) == ([1, 2], [1, 2], [1, 273])
    assert (about["n_rx"], about["n_dmrs"], about["scs_khz"]) == (
        [1, 2, 3, 4],
        [1, 2, 3, 4],
        [15, 30, 60],
    )
    assert about["n_sym"] == [4, 5, 7, 8, 9, 10, 11, 12, 13, 14]
    with pytest.raises(RuntimeError) as error:
        deeprx.Engine(model, slot=SlotConfig(n_symbols=6, dmrs=(2,)))
    assert "the model takes symbols of [4, 5, 7, " in str(error.value)
    assert str(error.value).endswith("; ls-lmmse, sure-lmmse and gnb take this slot")


def test_a_message_that_names_a_net_of_another_spacing_is_answered():
    config = SlotConfig(scs_khz=30)
    symbols = random_symbols(config, 2, 4)
    flowgraph = Flowgraph("ls-lmmse", symbols, slot_tags(4), repeat=True, slot=config, trust=[])
    flowgraph.start()
    flowgraph.receiver.to_basic_block()._post(pmt.intern("model"), pmt.intern(NET))
    error = flowgraph.wait_for("model_error")["model_error"]
    flowgraph.stop()
    flowgraph.wait()
    assert "the model takes scs_khz of [15], the receiver has scs_khz=30; ls-lmmse" in error
    assert "\n" not in error and flowgraph.receiver.error() == ""


@pytest.mark.parametrize("trusted", [True, False], ids=["here", "jailed"])
def test_a_file_without_spacings_takes_any_and_another_its_own(trusted, tmp_path):
    def make(of_slot, **metadata):
        path = models.save(models.Layers(), tmp_path / "m.pt", **TAKES | metadata)
        trust = [path] if trusted else []
        deeprx.Engine(path, slot=SlotConfig(n_prb=6, scs_khz=of_slot), trust=trust)

    for scs_khz in (15, 30, 60):
        make(scs_khz)
        make(scs_khz, scs_khz=None)
        make(scs_khz, scs_khz=[scs_khz])
    with pytest.raises(RuntimeError, match=r"takes scs_khz of \[30, 60\], the receiver has scs_kh"):
        make(15, scs_khz=[30, 60])


def test_every_command_says_who_takes_a_slot_that_a_net_does_not(tmp_path, capfd):
    assert main(["record", str(tmp_path / "a"), "--slot", "gnb", "--slots", "2", "--aligned"]) == 0
    golden = Path(__file__).parent / "golden"
    capture = [str(golden / f"gnb_capture.{kind}") for kind in ("bin", "log")]
    assert main(["import-gnb", *capture, str(tmp_path / "gnb")]) == 0
    capfd.readouterr()
    recorded = [str(tmp_path / "a.sigmf-meta"), "--aligned"]
    for command in (
        ["loopback", "--slot", "gnb", "--slots", "2"],
        ["loopback", "--scs-khz", "30", "--slots", "2"],
        ["energy", "--slot", "gnb", "--meter", "none"],
        ["replay", *recorded],
        ["replay", str(tmp_path / "gnb.sigmf-meta")],
    ):
        out = ["--receiver", "deeprx-student", "--out", str(tmp_path / "out")]
        assert main([*command, *out]) == 2, command
        (line,) = capfd.readouterr().err.strip().splitlines()
        assert "the model takes" in line, line
        assert line.endswith("; ls-lmmse, sure-lmmse and gnb take this slot"), line


@MODELS
def test_nets_carry_their_weights_as_data(model):
    file = read_model_file(model)
    if file.metadata["kind"] == "baseline":
        assert file.metadata["net"] is None
        return
    assert file.metadata["net"]["net"] in ("HybridRx", "PuschRx")
    assert len(file.archive.records[f"extra/{WEIGHTS}"]) > 4 * file.metadata["params"] / 2


TWO = SlotConfig(n_prb=6, cdm_groups=2, users=(User("16QAM"), User("QPSK", port=2)))
OTHERS = {
    "one": SlotConfig(n_prb=6),
    "two ports of a group": SlotConfig(n_prb=7, users=(User("64QAM"), User("64QAM", port=1))),
    "two groups": TWO,
    "a short slot": SlotConfig(n_prb=6, n_symbols=9, dmrs=(2, 7), users=TWO.users, cdm_groups=2),
    "four DMRS symbols": SlotConfig(n_prb=12, n_symbols=13, dmrs=(2, 5, 8, 11)),
}
TAKES = {
    "layers": [1, 2],
    "n_sym": [9, 13, 14],
    "n_dmrs": [1, 2, 3, 4],
    "cdm_groups": [1, 2],
    "bits": 8,
}


def eager(module, slot, y, p, d):
    """LLRs of data REs, one array a layer."""
    bits = [user.bits_per_symbol for user in slot.users]
    with torch.inference_mode():
        llr = module(*map(torch.from_numpy, (y, p, d)), bits).numpy()
    return [llr[:, layer][:, slot.data_mask, :n] for layer, n in enumerate(bits)]


def assert_layers(engine, slot, y, p, expected):
    computed = engine.infer(y, p)
    assert computed.shape[:4] == (len(y), slot.n_layers, slot.n_symbols, slot.n_sc)
    for layer, llr in enumerate(expected):
        mine = computed[:, layer][:, slot.data_mask, : llr.shape[-1]]
        np.testing.assert_allclose(mine, llr, rtol=1e-4, atol=1e-4 * np.abs(llr).max())


@pytest.mark.parametrize("trusted", [True, False], ids=["here", "jailed"])
@pytest.mark.parametrize("slot", OTHERS.values(), ids=OTHERS)
def test_a_file_receives_any_slot_that_it_takes(slot, trusted, tmp_path):
    """Layers, bits and the REs with data reach the program, and its LLRs their layers."""
    module = models.Layers()
    path = models.save(module, tmp_path / "m.pt", **TAKES)
    engine = deeprx.Engine(path, slot=slot, max_batch=3, trust=[path] if trusted else [])
    assert engine.description.endswith(", jailed") != trusted
    y, p, d = received_slots(slot, 2, 3)
    assert not d.all()
    for batch in (3, 1):
        y, p = y[:batch], p[:batch]
        assert_layers(engine, slot, y, p, eager(module, slot, y, p, d))


@pytest.mark.skipif(not models.has_openvino(), reason="built without OpenVINO")
@pytest.mark.parametrize("trusted", [True, False], ids=["here", "jailed"])
def test_an_ir_of_two_layers_is_found_by_their_bits(trusted, tmp_path):
    module = models.Layers()
    path = models.save(module, tmp_path / "m.pt", models.ir_of_layers(module, TWO), **TAKES)
    trust = [path] if trusted else []
    engine = deeprx.Engine(path, slot=TWO, max_batch=2, engine="openvino", trust=trust)
    y, p, d = received_slots(TWO, 2, 2)
    assert_layers(engine, TWO, y, p, eager(module, TWO, y, p, d))
    other = SlotConfig(n_prb=6, users=(User("QPSK"), User("QPSK", port=1)))
    with pytest.raises(RuntimeError, match=r"the file holds no openvino/bits2-2\.xml and \.bin"):
        deeprx.Engine(path, slot=other, engine="openvino", trust=trust)


@pytest.mark.parametrize(
    ("takes", "slot", "says"),
    [
        ({}, TWO, "takes layers of [1], the receiver has layers=2"),
        (TAKES | {"layers": [2]}, SlotConfig(), "takes layers of [2], the receiver has layers=1"),
        (TAKES | {"n_sym": [14]}, OTHERS["a short slot"], "symbols of [14]"),
        (TAKES | {"cdm_groups": [1]}, TWO, "cdm_groups of [1]"),
        (TAKES | {"n_dmrs": [1, 2]}, OTHERS["four DMRS symbols"], "takes [1, 2] DMRS symbols"),
        (TAKES | {"modulations": ["16QAM"]}, TWO, "modulation=QPSK"),
    ],
)
def test_other_layers_and_symbols_are_one_line(takes, slot, says, tmp_path):
    path = models.save(models.Layers(), tmp_path / "m.pt", **takes)
    with pytest.raises(RuntimeError) as error:
        deeprx.Engine(path, slot=slot)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).endswith("; ls-lmmse, sure-lmmse and gnb take this slot")


def test_llrs_without_an_axis_of_layers_are_one_line(tmp_path):
    class Flat(models.Layers):
        def forward(
            self, y: torch.Tensor, p: torch.Tensor, d: torch.Tensor, bits: list[int]
        ) -> torch.Tensor:
            return torch.cat([p[:, 0], p[:, 1]], -1)

    path = models.save(Flat(), tmp_path / "m.pt", **TAKES)
    with pytest.raises(RuntimeError, match=r"must give float32 LLRs \[1, 2, 14, 72, >= 4\]") as e:
        deeprx.Engine(path, slot=TWO, trust=[path])
    assert "\n" not in str(e.value)
