# SPDX-License-Identifier: GPL-3.0-or-later
import os
import sys
import time
from types import SimpleNamespace

import pytest

from deeprx_common import energy


@pytest.fixture
def powercap(tmp_path):
    """A tree like Linux's: two packages, one with a part; set(zone, uj) moves a counter."""

    def set_counter(zone, microjoules):
        (tmp_path / zone).mkdir(exist_ok=True)
        (tmp_path / zone / "energy_uj").write_text(f"{microjoules}\n")
        (tmp_path / zone / "max_energy_range_uj").write_text("999999999\n")

    (tmp_path / "intel-rapl").mkdir()
    for zone in ("intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1"):
        set_counter(zone, 5_000_000)
    return SimpleNamespace(root=tmp_path, set=set_counter)


@pytest.fixture
def nvml(monkeypatch):
    """nvidia-ml-py's module with one board, whose counter is state.millijoules."""

    class NVMLError(Exception):
        pass

    state = SimpleNamespace(millijoules=7_000_000, error=None)

    def total(device):
        assert device == "board 0"
        if state.error:
            raise NVMLError(state.error)
        return state.millijoules

    def handle(index):
        if index != 0:
            raise NVMLError("Invalid Argument")
        return "board 0"

    module = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=handle,
        nvmlDeviceGetTotalEnergyConsumption=total,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return state


def test_rapl_sums_packages_and_not_their_parts(powercap):
    meter = energy.RaplMeter(powercap.root)
    assert meter.joules() == 0
    powercap.set("intel-rapl:0", 6_000_000)
    powercap.set("intel-rapl:0:0", 9_000_000)
    powercap.set("intel-rapl:1", 5_500_000)
    assert meter.joules() == pytest.approx(1.5)


def test_rapl_wraps_around(powercap):
    meter = energy.RaplMeter(powercap.root)
    powercap.set("intel-rapl:0", 999_000_000)
    assert meter.joules() == pytest.approx(994)
    powercap.set("intel-rapl:0", 1_000_000)  # 1 J before the wrap, 1 J after
    assert meter.joules() == pytest.approx(996)


def test_rapl_that_may_not_be_read_says_what_to_do(powercap, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OSError, match="chmod a\\+r"):
        energy.RaplMeter(powercap.root)


def test_no_rapl(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    meter, why = energy.find_meter("cpu")
    assert meter is None
    assert why == f"no RAPL counter under {tmp_path}"


def test_nvml_counts_millijoules_from_its_start(nvml):
    meter, why = energy.find_meter("cuda")
    assert why == ""
    nvml.millijoules += 2500
    assert meter.joules() == pytest.approx(2.5)
    nvml.error = "GPU is lost"
    with pytest.raises(OSError, match="GPU is lost"):
        meter.joules()


def test_nvml_without_a_counter_says_why(nvml):
    assert energy.find_meter("cuda:1") == (None, "no NVIDIA energy counter: Invalid Argument")
    nvml.error = "Not Supported"
    assert energy.find_meter("cuda:0") == (None, "no NVIDIA energy counter: Not Supported")


class Ramp:
    """10 W, counted in ticks of 20 ms."""

    source, scope, resolution_j = "ramp", "test", 1e-3

    def joules(self):
        return time.monotonic() // 0.02 * 0.2


def test_tick_is_measured():
    assert energy.measure_tick(Ramp()) == pytest.approx(0.02, abs=0.005)


def test_tick_of_a_counter_that_stands_still():
    still = SimpleNamespace(joules=lambda: 1.0)
    assert energy.measure_tick(still, limit_s=0.02) == 0.02


def test_window_bounds_its_quantisation():
    window = energy.EnergyWindow(Ramp(), tick_s=0.02)
    time.sleep(0.2)
    found = window.read()
    assert found.seconds == pytest.approx(0.2, abs=0.05)
    assert abs(found.joules - 10 * found.seconds) <= 0.2 + 1e-9
    assert found.bound_j == pytest.approx(1e-3 + found.joules * 0.02 / found.seconds)


def test_busy_time_grows_with_work():
    before, start = energy.cpu_busy_s(), time.process_time()
    while time.process_time() - start < 0.1:
        pass
    assert energy.cpu_busy_s() - before >= 0.05


WINDOW = energy.Window(joules=20.0, seconds=2.0, busy_s=4.0, bound_j=0.4)


def test_cpu_joules_are_attributed_by_cpu_time():
    found = energy.energy_per_slot(100, 1.0, 1e9, "cpu", WINDOW, "RAPL powercap")
    assert found["measured"] is None
    assert found["attributed"] == pytest.approx(20.0 / 4 / 100)
    assert found["bound"] == pytest.approx(0.4 / 4 / 100)
    assert found["source"] == "RAPL powercap"


def test_gpu_joules_are_measured_unless_shared():
    alone = energy.energy_per_slot(100, 1.0, 1e9, "cuda:0", WINDOW, "NVML total energy")
    assert alone["measured"] == pytest.approx(0.2)
    assert alone["attributed"] is None
    shared = energy.energy_per_slot(100, 1.0, 1e9, "cuda", WINDOW, "NVML", gpu_share=0.25)
    assert shared["measured"] is None
    assert shared["attributed"] == pytest.approx(0.05)


def test_without_a_counter_nothing_is_measured_and_the_model_names_its_assumption():
    found = energy.energy_per_slot(100, 1.0, 1e9, "cpu", source="no RAPL counter")
    assert [found[k] for k in ("measured", "attributed", "net", "bound")] == [None] * 4
    assert found["source"] == "none: no RAPL counter"
    assert found["modelled"] == pytest.approx(1e9 / energy.CPU_FLOP_PER_S_PER_W)
    assert "assumed for cpu" in found["model"]


def test_unknown_flop_is_not_modelled():
    found = energy.energy_per_slot(100, 1.0, None, "cpu", source="x")
    assert found["modelled"] is None
    assert found["model"] is None
