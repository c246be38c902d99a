# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine "native": weights of a model file, run as data."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import receiver_models as models
from gnuradio import deeprx
from gnuradio.deeprx.models.file import read_model_file
from qa_receiver import assert_one_line, random_symbols, run, who_allocates

from deeprx_common.examples import received_slots

GOLDEN = Path(__file__).parent / "golden"
ABOUT = json.loads((GOLDEN / "pusch_rx.json").read_text())
TAKES = {"layers": [1, 2], "n_sym": list(range(4, 15)), "n_dmrs": [1, 2, 3, 4]}
TAKES |= {"cdm_groups": [1, 2], "net": ABOUT["net"]}


def read(data):
    """Names, and (type, shape, bytes) of a safetensors file's tensors."""
    (length,) = struct.unpack("<Q", data[:8])
    places = json.loads(data[8 : 8 + length])
    places.pop("__metadata__", None)
    whole = data[8 + length :]
    return {
        name: (t["dtype"], t["shape"], whole[slice(*t["data_offsets"])])
        for name, t in places.items()
    }


def written(tensors):
    header, data = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        place = [len(data), len(data) + len(values)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": place}
        data += values
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


TENSORS = read((GOLDEN / "pusch_rx.safetensors").read_bytes())
WEIGHTS = {name[4:]: t for name, t in TENSORS.items() if name.startswith("net.")}


def saved(path, weights=WEIGHTS, **metadata):
    """A model file with these weights, whose program is another receiver."""
    carried = {} if weights is None else {"weights.safetensors": written(weights)}
    return models.save(models.Layers(), path, carried, **(TAKES | metadata))


SMALLEST = {
    "pilot_channels": 1, "pilot_blocks": 0, "learned": 1, "channels": 1, "blocks": 0,
    "rounds": 0, "basis": 1, "filters": 1, "interference_channels": 1,
    "reliability_channels": 1,
}  # fmt: skip
LARGEST = {
    "pilot_channels": 256, "pilot_blocks": 8, "learned": 16, "basis": 12, "filters": 64,
    "interference_channels": 256, "reliability_channels": 64,
}  # fmt: skip


def weights_of(n):
    """Random ones of a PuschRx with these numbers."""
    shapes = {"more_windows": [2, 6 * n["learned"], 6, 7]}

    def net(name, inputs, channels, outputs, blocks, height):
        last = 3 + blocks
        convolutions = {"0": (channels, inputs, 1, 1), str(last): (outputs, channels, 1, 1)}
        for block in range(2, 2 + blocks):
            for part in ("inner", "outer"):
                convolutions[f"{block}.{part}"] = channels, channels, height, 3
        for at, shape in convolutions.items():
            shapes[f"{name}.net.{at}.weight"] = shape
            shapes[f"{name}.net.{at}.bias"] = shape[:1]

    gates = 7 * (5 + n["learned"])
    net("pilot_net", 37, n["pilot_channels"], gates, n["pilot_blocks"], 1)
    for r in range(n["rounds"]):
        outputs = n["basis"] + 2 * n["filters"] + 4
        net(f"rounds.{r}.net", 32, n["channels"], outputs, n["blocks"], 3)
        shapes[f"rounds.{r}.into.weight"] = n["basis"], 12, 1, 1
        shapes[f"rounds.{r}.over_frequency.weight"] = n["filters"], n["basis"], 1, 5
        shapes[f"rounds.{r}.over_time.weight"] = n["filters"], 1, 13, 1
        shapes[f"rounds.{r}.back.weight"] = 12, 2 * n["filters"], 1, 1
        net(f"interference.{r}.net", 19, n["interference_channels"], 5, 1, 1)
    net("reliability.net", 23, n["reliability_channels"], 7, 2, 3)
    rng = np.random.default_rng(1)
    fixed = {name: WEIGHTS[name] for name in ("dmrs_lists", "modes", "windows")}
    return fixed | {
        name: ("F32", list(shape), rng.normal(0, 0.02, shape).astype(np.float32).tobytes())
        for name, shape in shapes.items()
    }


def saved_net(path, **numbers):
    numbers = SMALLEST | numbers
    return saved(path, weights_of(numbers), net=numbers | {"net": "PuschRx"})


def slot_of(number):
    """The slot of that number, its y, p and LLRs of data, from PyTorch."""
    about = ABOUT["slots"][number]
    names = {2: "QPSK", 4: "16QAM", 6: "64QAM", 8: "256QAM"}
    ports = zip(about["bits"], about["ports"], strict=True)
    slot = deeprx.SlotConfig(
        n_prb=about["n_sc"] // 12,
        n_symbols=about["n_symbols"],
        dmrs=about["dmrs"],
        cdm_groups=about["cdm_groups"],
        users=[deeprx.User(names[bits], port=port) for bits, port in ports],
    )

    def golden(name):
        _, shape, values = TENSORS[f"slots.{number}.{name}"]
        return np.frombuffer(values, np.float32).reshape(shape)

    return slot, golden("y")[None], golden("p")[None], golden("llr")[:, slot.data_mask]


@pytest.mark.parametrize("number", range(len(ABOUT["slots"])))
@pytest.mark.parametrize("engine", ["auto", "native"])
def test_llrs_are_those_of_the_weights(number, engine, tmp_path):
    slot, y, p, expected = slot_of(number)
    path = saved(tmp_path / "m.pt")
    engine = deeprx.Engine(path, slot=slot, n_rx=y.shape[1], engine=engine)
    assert engine.description.startswith("native, float32, ")  # in no jail
    llr = engine.infer(y, p)[0][:, slot.data_mask]
    assert np.linalg.norm(llr - expected) < 1e-5 * np.linalg.norm(expected)


def is_of_symbols(name):
    return ".net.net." in name and not name.startswith("interference")


def halved(name, tensor):
    """A weight of the nets of symbols in bfloat16, to the nearest; another as it is."""
    _, shape, values = tensor
    if not is_of_symbols(name):
        return tensor
    bits = np.frombuffer(values, np.uint32)
    return "BF16", shape, ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16).tobytes()


def stepped(name, tensor):
    """A weight of the nets of symbols behind their first layer, of which an output's largest is 127
    steps; another as it is.
    """
    dtype, shape, values = tensor
    if not is_of_symbols(name) or ".net.net.0." in name or len(shape) != 4:
        return tensor
    weights = np.frombuffer(values, np.float32).reshape(shape)
    step = abs(weights).max((1, 2, 3), keepdims=True) / 127
    return dtype, shape, (np.round(weights / step) * step).astype(np.float32).tobytes()


IN_BFLOAT16 = {name: halved(name, tensor) for name, tensor in WEIGHTS.items()}
IN_INT8 = {name: stepped(name, tensor) for name, tensor in WEIGHTS.items()}
DIFFER = """
import sys
import numpy as np
import qa_native as native
from gnuradio.deeprx.measure.avx2 import stay_with_avx2
if "avx2" in sys.argv:
    stay_with_avx2()
from gnuradio import deeprx
from gnuradio.deeprx.models.file import read_model_file
path, found = sys.argv[1], []
for number in range(len(native.ABOUT["slots"])):
    slot, y, p, expected = native.slot_of(number)
    engine = deeprx.Engine(path, slot=slot, n_rx=y.shape[1])
    llr = engine.infer(y, p)[0][:, slot.data_mask]
    found.append(np.linalg.norm(llr - expected) / np.linalg.norm(expected))
deeprx.receiver(model=path, slot=slot, n_rx=y.shape[1])
print(engine.description)
print(*found)
"""


@pytest.mark.parametrize("limit", ["", "avx2"])
@pytest.mark.parametrize(
    ("precision", "weights", "instructions"),
    [
        ("bfloat16", IN_BFLOAT16, {"avx512_bf16": "AVX-512 BF16"}),
        ("int8", IN_INT8, {"avx512_vnni": "AVX-512 VNNI", "avx512vl": "", "avx2": "AVX2"}),
    ],
)
def test_a_file_is_computed_in_its_precision_where_the_processor_can(
    precision, weights, instructions, limit, tmp_path, monkeypatch
):
    flags = Path("/proc/cpuinfo").read_text()
    if limit and " avx2 " not in flags:
        pytest.skip("needs a processor with AVX2")
    path = saved(tmp_path / "m.pt", weights, precision=precision)
    monkeypatch.delenv("DEEPRX_AVX2_ONLY", raising=False)
    ran = subprocess.run(
        [sys.executable, "-c", DIFFER, path, limit],
        cwd=Path(__file__).parent, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    *said, description, found = ran.stdout.splitlines()
    assert "native" in "".join(said) and ":warning:" not in ran.stdout + ran.stderr
    if limit:
        instructions = {flag: name for flag, name in instructions.items() if flag == limit}
    best = next((name for flag, name in instructions.items() if f" {flag} " in flags), "")
    if best:
        assert description == f"native, {precision}, {best}"
    else:
        assert description.startswith("native, float32, ")
    assert 1e-5 < max(map(float, found.split())) < 0.05


def doubled(tensor):
    """The same numbers in float32."""
    dtype, shape, values = tensor
    if dtype == "F32":
        return tensor
    return "F32", shape, (np.frombuffer(values, np.uint16).astype(np.uint32) << 16).tobytes()


def test_another_precision_is_refused(tmp_path):
    path = saved(tmp_path / "m.pt", precision="int4")
    with pytest.raises(RuntimeError) as error:
        deeprx.Engine(path, slot=slot_of(0)[0])
    assert_one_line(error, path, '"precision" is not what deeprx.model/2 asks for there')


def test_numbers_in_bfloat16_are_what_they_are_in_float32(tmp_path):
    slot, y, p, _ = slot_of(0)
    llr = []
    for weights in (IN_BFLOAT16, {name: doubled(t) for name, t in IN_BFLOAT16.items()}):
        path = saved(tmp_path / "m.pt", weights)
        llr.append(deeprx.Engine(path, slot=slot, n_rx=y.shape[1]).infer(y, p).copy())
    np.testing.assert_array_equal(*llr)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_block_gives_the_engines_llrs_in_order(threads, tmp_path):
    path = saved(tmp_path / "m.pt")
    config, n = deeprx.SlotConfig(n_prb=6, dmrs=(2, 7, 11)), 23
    symbols = random_symbols(config, 2, n)
    how = {"threads": threads, "max_batch": 4, "max_latency_ms": 0, "trust": []}
    flowgraph = run(config, path, symbols, **how)
    grids = symbols.reshape(2, n, 14, -1)[..., config.bins].swapaxes(0, 1)
    pilots = np.stack([config.pilots(i) for i in range(n)]).astype(np.complex64)
    y, p = (np.ascontiguousarray(x)[..., None].view(np.float32) for x in (grids, pilots))
    llr = deeprx.Engine(path, slot=config, n_rx=2, max_batch=n, threads=threads).infer(y, p)
    expected = llr[:, 0, config.data_mask].reshape(n, -1)
    np.testing.assert_array_equal(flowgraph.slots(config), expected)
    stats = [m for m in flowgraph.stats() if "engine" in m]
    assert all(m["engine"].startswith("native") for m in stats)
    assert max(m["batch"] for m in stats) > 1


@pytest.mark.parametrize("sir_db", [None, 13.0, 20.0])
def test_what_disturbs_an_example_is_its_sinr(sir_db):
    slot = deeprx.SlotConfig()
    received, *_ = received_slots(slot, 2, 8, sir_db=sir_db)
    y, h = (
        received.view(np.complex64)[..., 0],
        np.stack([slot.grid(slot.bits(1, i, 0), i, 0) for i in range(8)]),
    )
    gains = (y * h[:, None].conj()).sum((2, 3), keepdims=True) / (abs(h) ** 2).sum((1, 2))[
        :, None, None, None
    ]
    left = y - gains * h[:, None]
    assert 10 * np.log10((abs(left) ** 2).mean()) == pytest.approx(-12, abs=0.1)
    coherent = abs((left[:, 0] * left[:, 1].conj())[..., :12].mean()) / (abs(left) ** 2).mean()
    share = 0 if sir_db is None else 10 ** ((12 - sir_db) / 10)
    assert coherent == pytest.approx(share, abs=0.05)


def test_stages_are_all_of_a_slot():
    """Sums are the convolutions that the shipped file says it has, up to rows' ends, which the
    lanes reach over, and to what is known of a slot before.
    """
    slot = deeprx.SlotConfig()
    engine = deeprx.Engine("deeprx-pusch", slot=slot)
    grid, pilots, _ = received_slots(slot, 2, 1)
    engine.infer(grid, pilots)
    calm = {stage["name"]: stage["calls"] for stage in engine.time_stages(1)}
    assert calm["round"] == 1  # noise alone is left
    noise = np.random.default_rng(1).normal(0, 1, grid[..., :60, :].shape)
    grid[..., :60, :] += noise  # in five PRBs
    llr = engine.infer(grid, pilots).copy()
    rounds = [engine.time_stages(1) for _ in range(2)]
    assert (engine.infer(grid, pilots) == llr).all()
    names = [stage["name"] for stage in rounds[0]]
    assert len({(s["name"], s["precision"]) for s in rounds[0]}) == len(names)
    assert {"pilots", "windows: sum", "round: round", "reliability: llrs"} <= set(names)
    sums = sum(s["flop"] for s in rounds[0] if s["name"].rpartition(": ")[2].startswith("sum"))
    about = read_model_file("deeprx-pusch").metadata
    if "round: net: unfold" in names:  # 16 rows, 6 sums for 4 of them, where there were 14 of 3
        n = about["net"]
        products = n["rounds"] * 2 * n["blocks"] * n["channels"] ** 2
        products += 2 * 2 * n["reliability_channels"] ** 2
        sums += 2 * 3 * products * (14 * 3 - 4 * 6) * (slot.n_prb + 2)
    assert sums == pytest.approx(about["flop_per_slot"]["matmul"], rel=0.15)
    with pytest.raises(ValueError, match="calls must be 1 or more, got 0"):
        engine.time_stages(0)


@pytest.mark.timing
@pytest.mark.parametrize("name", ["deeprx-pusch", "sure-lmmse"])
def test_stages_take_what_a_slot_takes(name):
    engine, stages_s, slot_s = deeprx.Engine(name), [], []
    for _ in range(100):
        stages_s.append(sum(stage["seconds"] for stage in engine.time_stages(4)))
        slot_s.append(engine.time(4)[:, 0].mean())
    assert min(stages_s) == pytest.approx(min(slot_s), rel=0.1)


@pytest.mark.parametrize("name", ["ls-lmmse", "sure-lmmse", "gnb"])
def test_classical_receivers_have_stages(name):
    stages = {s["name"]: s for s in deeprx.Engine(name).time_stages(2)}
    assert {"estimate: pilots", "equalise and demap"} <= set(stages)
    assert all(s["seconds"] >= 0 and s["bytes"] >= 0 for s in stages.values())
    assert stages["equalise and demap"]["flop"] > 0
    assert ("estimate: pilots: windows" in stages) == (name == "sure-lmmse")


def test_another_engine_has_no_stages():
    assert deeprx.Engine("baseline-lmmse").time_stages(1) == []


def test_threads_that_share_a_batch_count_as_cpu_time(tmp_path):
    """A slot costs on two threads what it costs on one, not half of it."""
    path = saved(tmp_path / "m.pt")
    least = {}
    for threads in (1, 2):
        how = {"slot": deeprx.SlotConfig(n_prb=52), "threads": threads, "max_batch": 16}
        engine = deeprx.Engine(path, **how)
        least[threads] = min(engine.time(20, 16)[:, 1])
        del engine
    assert least[2] > 0.75 * least[1]


@pytest.mark.parametrize(
    ("parameters", "precision"),
    [
        (", threads=2, max_batch=4, max_latency_ms=0", "float32"),
        (", threads=2, max_batch=4, max_latency_ms=0", "bfloat16"),
        (", threads=2, max_batch=4, max_latency_ms=0", "int8"),
        pytest.param("", "float32", marks=pytest.mark.slow),
    ],
)
def test_steady_state_allocates_nothing(parameters, precision, tmp_path):
    path = saved(tmp_path / "m.pt", precision=precision)
    counted = who_allocates(tmp_path, f"{path!r}, trust=[]{parameters}")
    assert any("pmt" in name for name in counted), counted  # it does count
    assert not [name for name in counted if "deeprx" in name], counted


def test_another_receiver_than_the_trusted_program_is_refused(tmp_path):
    path = saved(tmp_path / "m.pt")
    slot, y, *_ = slot_of(0)
    with pytest.raises(RuntimeError) as error:
        deeprx.Engine(path, slot=slot, n_rx=y.shape[1], trust=[path])
    assert_one_line(error, path, "what its weights make as data is another receiver than its")
    how = {"slot": slot, "n_rx": y.shape[1], "trust": [path], "engine": "torchscript"}
    assert deeprx.Engine(path, **how).description.startswith("TorchScript")


@pytest.mark.parametrize(
    ("weights", "metadata", "parameters", "words"),
    [
        (None, {}, {}, ["the file holds no weights.safetensors"]),
        (WEIGHTS, {"net": None}, {}, ["the file is of no net that it knows: PuschRx"]),
        (WEIGHTS, {"net": {"net": "RealtimeRx"}}, {}, ["the file is of no net that it knows"]),
    ],
)
def test_what_cannot_run_as_data_runs_as_the_program(
    weights, metadata, parameters, words, tmp_path
):
    path = saved(tmp_path / "m.pt", weights, **metadata)
    how = {"slot": slot_of(0)[0], **parameters}
    with pytest.raises(RuntimeError) as error:
        deeprx.Engine(path, engine="native", **how)
    assert_one_line(error, path, 'engine="native"', *words)
    assert deeprx.Engine(path, trust=[path], **how).description.startswith("TorchScript")


BACK = "rounds.1.back.weight"


def nan_first(values):
    """The bytes of float32 weights."""
    return np.float32(np.nan).tobytes() + values[4:]


def changed(name, **parts):
    dtype, shape, values = WEIGHTS[name]
    whole = {"dtype": dtype, "shape": shape, "values": values} | parts
    return WEIGHTS | {name: (whole["dtype"], whole["shape"], whole["values"])}


@pytest.mark.parametrize(
    ("weights", "net", "words"),
    [
        ({n: t for n, t in WEIGHTS.items() if n != BACK}, {}, f"the net's weights lack {BACK}"),
        (WEIGHTS | {"more": WEIGHTS[BACK]}, {}, "hold more, which it does not know"),
        (changed(BACK, shape=[6, 12, 1, 1]), {}, f"{BACK} must be [12, 6, 1, 1], is [6, 12, 1, 1]"),
        (changed(BACK, values=WEIGHTS[BACK][2][:-4]), {}, f'has other bytes of "{BACK}"'),
        (changed(BACK, dtype="I32"), {}, f"{BACK} must be F32 or BF16, is I32"),
        (changed(BACK, values=nan_first(WEIGHTS[BACK][2])), {}, f"{BACK} holds NaN or infinity"),
        (WEIGHTS, {"basis": 13}, '"basis" of its net must be a whole number from 1 to 12'),
        (WEIGHTS, {"rounds": "2"}, '"rounds" of its net must be a whole number'),
        (WEIGHTS, {"rounds": 1}, "which it does not know"),
        (WEIGHTS, {"channels": 10**30}, '"channels" of its net must be a whole number'),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_wrong_weights_are_one_line(weights, net, words, tmp_path):
    path = saved(tmp_path / "m.pt", weights, net=ABOUT["net"] | net)
    with pytest.raises(RuntimeError) as error:
        deeprx.Engine(path, slot=slot_of(0)[0])
    assert_one_line(error, path, words)


@pytest.mark.parametrize(
    ("channels", "blocks", "rounds", "product"),
    [
        (64, 8, 4, None),
        (128, 1, 8, None),
        (65, 8, 4, 135200),
        (64, 7, 5, 143360),
        (128, 3, 3, 147456),
    ],
)
def test_a_net_keeps_no_core_for_ever(channels, blocks, rounds, product, tmp_path):
    slot, y, p, _ = slot_of(1)
    sizes = {"channels": channels, "blocks": blocks, "rounds": rounds}
    path = saved_net(tmp_path / "m.pt", **sizes)
    if product is None:
        engine = deeprx.Engine(path, slot=slot, n_rx=1)
        assert engine.description.startswith("native") and len(engine.infer(y, p)) == 1
        return
    with pytest.raises(RuntimeError) as error:
        deeprx.Engine(path, slot=slot, n_rx=1)
    said = '"channels" squared times "blocks" times "rounds" of its net must be at most 131072'
    assert_one_line(error, path, f"{said}, is {product}")


@pytest.mark.timing
def test_the_largest_net_takes_seconds_a_slot(tmp_path):
    """Of two users on 273 PRB and four antennas."""
    users = [deeprx.User("256QAM", port=port) for port in (0, 1)]
    slot = deeprx.SlotConfig(n_prb=273, scs_khz=30, dmrs=(2, 5, 8, 11), users=users)
    for sizes in ((64, 8, 4), (128, 1, 8)):
        numbers = dict(zip(("channels", "blocks", "rounds"), sizes, strict=True))
        path = saved_net(tmp_path / "m.pt", **LARGEST | numbers)
        engine = deeprx.Engine(path, slot=slot, n_rx=4)
        seconds = min(engine.time(3)[:, 1])
        print(f"{numbers}: {seconds:.2f} s of CPU time a slot, {engine.description}")
        assert seconds < 10


def test_slots_that_the_file_does_not_take_are_refused(tmp_path):
    path = saved(tmp_path / "m.pt", n_rx=[2])
    with pytest.raises(RuntimeError) as error:
        deeprx.Engine(path, slot=slot_of(0)[0], n_rx=3)
    assert_one_line(error, path, "the model takes n_rx of [2], the receiver has n_rx=3")
    path = saved(tmp_path / "m.pt")
    with pytest.raises(RuntimeError) as error:
        deeprx.Engine(path, slot=deeprx.SlotConfig(dmrs=(3, 11), n_prb=6))
    assert_one_line(error, path, "the net does not know DMRS on symbols 3, 11")
