# SPDX-License-Identifier: GPL-3.0-or-later
"""The energy steps of an experiment, with counters of the test's own behind the real meters."""

import json
import math
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pynvml
import pytest
import torch

from deeprx_common.energy import Idle, NvmlMeter, find_meter, rapl
from deeprx_common.energy import nvml as nvml_meters
from deeprx_training.experiments import energy as steps
from deeprx_training.experiments.energy import is_measured, measure_all, measure_step
from deeprx_training.experiments.file import Energy, EnergyStep, Experiment, ExperimentError, load
from deeprx_training.files import write_atomically
from deeprx_training.receivers.build import build
from deeprx_training.receivers.nets import DeepRx, dense_form

ROOT = Path(__file__).parents[2]
WATTS, IDLE_W = 50.0, 10.0
NETS = {"tiny": {"net": "DeepRx", "width": 0.05, "blocks": 2}, "pilots": {"net": "RealtimeRx"}}


@pytest.fixture
def experiment(tmp_path):
    """A step over two receivers of a checkpoint of the test's own."""
    torch.set_num_threads(1)
    state = {
        "recipe_sha256": "",
        "specs": {name: json.dumps(spec) for name, spec in NETS.items()},
        "nets": {name: build(spec).state_dict() for name, spec in NETS.items()},
    }
    file = tmp_path / "last.ckpt"
    write_atomically(file, lambda path: torch.save(state, path))
    step = EnergyStep("step", ("a", "b"), batches=(1, 2), window_s=0.03, rounds=2, calibrate_s=0.3)
    energy = Energy(step, tuple(f"{file}:{name}" for name in NETS))
    return Experiment((), (), 2, 4, str(tmp_path), (energy,))


def longer(experiment):
    """With benchmarks that last longer than the tick of the processors' busy time."""
    (energy,) = experiment.energy
    return replace(
        experiment, energy=(replace(energy, step=replace(energy.step, calibrate_s=4.0)),)
    )


def measured(experiment, out):
    assert measure_all(experiment, out, "cpu", 1) == {}
    assert is_measured(experiment.energy[0], out)
    return json.loads((out / "step/energy.json").read_text())


@pytest.fixture
def nvml(monkeypatch):
    """A board of WATTS, whose counter steps every 5 ms, in place of the machine's."""

    def counter(handle):
        return int(1e3 * WATTS * math.floor(time.monotonic() / 5e-3) * 5e-3)

    for name, call in {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetTotalEnergyConsumption": counter,
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [],
    }.items():
        monkeypatch.setattr(pynvml, name, call)
    monkeypatch.setattr(nvml_meters, "cuda_uuid", lambda ordinal: "GPU-0")

    def board(device):
        meter = NvmlMeter("cuda")
        meter.measure_tick()
        return meter

    monkeypatch.setattr(steps, "find_meter", board)
    monkeypatch.setattr(steps, "measure_idle", lambda meter: Idle(IDLE_W))


@pytest.fixture
def powercap(monkeypatch, tmp_path):
    """A package of WATTS in a tree like Linux's."""
    zone = tmp_path / "powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0")
    (zone / "max_energy_range_uj").write_text(str(10**12))
    counter, start, stop = zone / "energy_uj", time.monotonic(), threading.Event()

    def count():
        text = str(int(1e6 * WATTS * (time.monotonic() - start)))
        write_atomically(counter, lambda path: open(path, "w").write(text))  # noqa: SIM115

    def run():
        while not stop.wait(2e-3):
            count()

    count()
    thread = threading.Thread(target=run)
    thread.start()
    monkeypatch.setattr(rapl, "POWERCAP", zone.parent)
    monkeypatch.setattr(steps, "measure_idle", lambda meter: Idle(IDLE_W))
    yield
    stop.set()
    thread.join()


def windows(record):
    return [window for point in record["points"] for window in point["windows"]]


def test_a_boards_joules_are_measured(experiment, nvml, tmp_path):
    record = measured(longer(experiment), tmp_path)
    assert (record["kind"], record["source"], record["scope"]) == (
        "measured", "NVML total energy", "gpu board",
    )  # fmt: skip
    for w in windows(record):
        assert not w["invalid"] and 0 < w["bound"] < w["joules"]
        watts = WATTS - IDLE_W  # of a window whose edges are off by its bound at most
        assert w["net"] / w["joules"] == pytest.approx(watts / WATTS, abs=w["bound"] / w["joules"])
    assert record["machine"]["power_source"] == "NVML total energy (gpu board)"


def test_packages_joules_are_attributed(experiment, powercap, tmp_path):
    record = measured(longer(experiment), tmp_path)
    assert (record["kind"], record["source"]) == ("attributed", "RAPL powercap")
    assert any(not w["invalid"] for w in windows(record))
    for w in windows(record):
        if not w["invalid"]:  # a share of what the packages draw
            assert 0 < w["joules"] * w["slots"] <= 1.1 * WATTS * 1.0


def test_without_a_counter_there_is_time_and_the_reason(experiment, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(steps, "find_meter", lambda device: find_meter(device, "none"))
    record = measured(experiment, tmp_path)
    assert "finished step: none: not asked for" in capsys.readouterr().out
    assert record["kind"] == "none" and record["source"] == "none: not asked for"
    assert record["idle_w"] is None  # nor was rest waited for
    assert {w["joules"] for w in windows(record)} == {None}
    assert all(w["seconds"] > 0 for w in windows(record))
    forms = [(p["receiver"], p["form"], p["batch"]) for p in record["points"]]
    assert forms == [
        ("tiny", "separable", 1), ("tiny", "separable", 2), ("tiny", "dense", 1),
        ("tiny", "dense", 2), ("pilots", "", 1), ("pilots", "", 2),
    ]  # fmt: skip
    separable, dense = record["points"][1], record["points"][3]
    assert "depthwise" in separable["kinds"] and "depthwise" not in dense["kinds"]
    assert dense["flop"] > separable["flop"] and dense["bytes"] < separable["bytes"]
    assert {"net.blocks.0", "net.blocks.1", "net.head"} <= set(dense["layers"])
    assert sum(x["bytes"] for x in dense["layers"].values()) == dense["bytes"]
    assert dense["predicted"]["flop_j"] > 0 and not record["points"][0]["layers"]


def test_a_step_goes_on_where_its_time_was_over(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "find_meter", lambda device: find_meter(device, "none"))
    (energy,) = experiment.energy
    counted = []
    real = steps._Step._measure

    def measure(self, point):
        if len(counted) == 3:
            self.end = 0.0
            self._in_time()
        counted.append((point.record["receiver"], point.record["form"], point.batch))
        real(self, point)

    monkeypatch.setattr(steps._Step, "_measure", measure)
    with pytest.raises(KeyboardInterrupt):
        measure_step(energy, experiment, tmp_path, "cpu", 1, math.inf)
    assert not is_measured(energy, tmp_path)
    machine = json.loads((tmp_path / "step/energy.json").read_text())["machine"]
    counted.append(None)
    record = measured(experiment, tmp_path)
    assert len(counted) == 1 + 12 and [len(p["windows"]) for p in record["points"]] == [2] * 6
    assert record["machine"] == machine
    measure_all(experiment, tmp_path, "cpu", 1)
    assert len(counted) == 1 + 12
    # what another machine began does not count here
    record["device"], record["points"][0]["windows"] = "another", []
    (tmp_path / "step/energy.json").write_text(json.dumps(record))
    again = measured(experiment, tmp_path)
    assert len(counted) == 1 + 24 and again["machine"] != machine


@pytest.mark.parametrize("points", [None, [{}], [{"windows": 1}], [{"receiver": "a"}]])
def test_a_record_of_another_shape_is_none(experiment, tmp_path, points):
    (energy,) = experiment.energy
    (tmp_path / "step").mkdir()
    record = {"schema": steps.SCHEMA, "step": asdict(energy.step), "points": points}
    (tmp_path / "step/energy.json").write_text(json.dumps(record))
    assert not is_measured(energy, tmp_path)


def test_dense_form_computes_the_same():
    torch.manual_seed(1)
    net = DeepRx(width=0.1, blocks=3).eval()
    y, p = steps.example(2, 4)
    with torch.inference_mode():
        torch.testing.assert_close(dense_form(net)(y, p, 4), net(y, p, 4), rtol=1e-4, atol=1e-4)


def test_half_precision_is_of_the_convolutions(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "find_meter", lambda device: find_meter(device, "none"))
    (energy,) = experiment.energy
    step = replace(energy.step, precision="bfloat16", batches=(1,), rounds=1)
    record = measured(replace(experiment, energy=(replace(energy, step=step),)), tmp_path)
    assert record["step"]["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            ('"seed1:eighth-scratch"', '"seed1:ninth"'),
            "energy energy-look: 'seed1:ninth' is neither",
        ),
        (('["energy-look"]', '["look"]'), "scale minute: energy: no step 'look'"),
        (("window_s = 0.05", "window_s = 0"), "energy energy-look.window_s: expected more than 0"),
        (('name = "energy-look"', 'name = "seed1"'), "energy seed1: a group has this name"),
    ],
)
def test_steps_that_cannot_be_measured(tmp_path, monkeypatch, change, says):
    monkeypatch.chdir(ROOT)
    text = (ROOT / "training/experiments/deeprx.toml").read_text()
    assert change[0] in text
    text = text.replace(*change).replace('"../recipes', f'"{ROOT}/training/recipes')
    if "a group has" in says:
        text = text.replace('energy = ["energy-look"]', 'energy = ["seed1"]')
    file = tmp_path / "experiment.toml"
    file.write_text(text)
    with pytest.raises(ExperimentError) as error:
        load(file, tmp_path, "minute")
    assert says in str(error.value) and "\n" not in str(error.value)
