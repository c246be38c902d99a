# SPDX-License-Identifier: GPL-3.0-or-later
"""Meters and windows over counters whose true energy is known."""

import contextlib
import itertools
import math
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pynvml
import pytest

from deeprx_common import energy
from deeprx_common.energy import hwmon as hwmon_meters
from deeprx_common.energy import meter as meters
from deeprx_common.energy import nvml as nvml_meters
from deeprx_common.energy import rapl as rapl_meters
from deeprx_common.energy import windows

UUID = "GPU-01020304-0506-0708-090a-0b0c0d0e0f10"


class World:
    """Time that passes only when someone sleeps or works, and the power drawn meanwhile.

    It stands in for the module time. Counters renew themselves at ticks that jitter, and not at
    all during a stall (from, to).
    """

    CLOCK_BOOTTIME, CLOCK_MONOTONIC = time.CLOCK_BOOTTIME, time.CLOCK_MONOTONIC

    def __init__(self, tick_s=0.02, jitter=0.0, stalls=(), mean_w=50.0, swing_w=10.0):
        self.now = self.asleep_s = self.busy_s = self.own_s = 0.0
        self._mean_w, self._swing_w, self._stalls = mean_w, swing_w, stalls
        self.on_pass = []  # called whenever time has passed
        spread = random.Random(5)
        ticks = (tick_s * (1 + jitter * spread.uniform(-1, 1)) for _ in itertools.count())
        self._ticks, self._tick = itertools.accumulate(ticks), 0.0
        self._next_tick = next(self._ticks)

    def watts(self, now):
        return self._mean_w + self._swing_w * math.sin(2 * now)

    def true_j(self, now):
        return self._mean_w * now + self._swing_w / 2 * (1 - math.cos(2 * now))

    def counted_j(self):
        """True energy at the counter's last tick."""
        while self._next_tick <= self.now:
            tick, self._next_tick = self._next_tick, next(self._ticks)
            if not any(start <= tick < end for start, end in self._stalls):
                self._tick = tick
        return self.true_j(self._tick)

    def monotonic(self):
        return self.now

    def process_time(self):
        return self.own_s

    def clock_gettime(self, clock):
        return self.now + (self.asleep_s if clock == self.CLOCK_BOOTTIME else 0.0)

    def sleep(self, seconds):
        self.now += seconds
        for call in self.on_pass:
            call()

    def keep_reading(self, meter, period_s):
        """In place of a meter's thread."""
        last = self.now

        def read():
            nonlocal last
            if self.now - last >= period_s:
                last = self.now
                with contextlib.suppress(OSError):
                    meter.joules()

        self.on_pass.append(read)

    def work(self, seconds=0.007):
        self.busy_s += 1.25 * seconds  # a fifth of what runs is others'
        self.own_s += seconds
        self.sleep(seconds)
        return 1


@pytest.fixture
def enter(monkeypatch):
    """enter(World(...)) puts meters and windows into that world."""

    def put(world):
        for module in (meters, windows):
            monkeypatch.setattr(module, "time", world)
        monkeypatch.setattr(windows, "cpu_busy_s", lambda: world.busy_s)
        monkeypatch.setattr(meters.Meter, "_keep_reading", lambda *a: world.keep_reading(*a))
        return world

    return put


class Powercap:
    """A tree like Linux's: two sockets with memory and cores, the platform, a package's twin."""

    RANGE_UJ = 40_000_000
    ZONES: ClassVar = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:1:0": "dram",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }

    def __init__(self, root):
        self.root, self._joules = root, dict.fromkeys(self.ZONES, 0.0)
        (root / "intel-rapl").mkdir()
        for zone, name in self.ZONES.items():
            (root / zone).mkdir()
            (root / zone / "name").write_text(f"{name}\n")
            (root / zone / "max_energy_range_uj").write_text(f"{self.RANGE_UJ - 1}\n")
            self.write(zone, 5_000_000)

    def write(self, zone, microjoules):
        """As the kernel shows it: never half a number."""
        new = self.root / "new"
        new.write_text(f"{microjoules}\n")
        new.rename(self.root / zone / "energy_uj")

    def follow(self, world):
        """Packages draw 40 % each, memory 10 % each of the world's power."""
        shares = {"intel-rapl:0": 0.4, "intel-rapl:1": 0.4, "intel-rapl:0:1": 0.1}
        shares |= {"intel-rapl:1:0": 0.1, "intel-rapl:2": 1.3}

        written = None

        def renew():
            nonlocal written
            counted_uj = world.counted_j() * 1e6
            if counted_uj == written:
                return
            written = counted_uj
            for zone, share in shares.items():
                self.write(zone, int(5_000_000 + share * counted_uj) % self.RANGE_UJ)

        renew()
        world.on_pass.append(renew)


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    fake = Powercap(tmp_path)
    monkeypatch.setattr(rapl_meters, "POWERCAP", tmp_path)
    return fake


@pytest.fixture
def no_counters(tmp_path, monkeypatch):
    monkeypatch.setattr(rapl_meters, "POWERCAP", tmp_path / "powercap")
    monkeypatch.setattr(hwmon_meters, "HWMON", tmp_path / "hwmon")


@pytest.fixture
def nvml(monkeypatch):
    """nvidia-ml-py with one board: what its calls return or raise is in the namespace."""
    board = SimpleNamespace(
        millijoules=lambda: 7_000_000, milliwatts=lambda: 0, lost=False, pids=[], field_error=0
    )

    def by_uuid(uuid):
        if uuid != UUID:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return board

    def ask(answer):
        def call(handle, *arguments):
            assert handle is board
            if board.lost:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
            return answer()

        return call

    def field():
        value = SimpleNamespace(uiVal=board.milliwatts())
        return [SimpleNamespace(nvmlReturn=board.field_error, value=value)]

    calls = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": by_uuid,
        "nvmlDeviceGetTotalEnergyConsumption": ask(lambda: board.millijoules()),
        "nvmlDeviceGetFieldValues": ask(field),
        "nvmlDeviceGetComputeRunningProcesses": ask(
            lambda: [SimpleNamespace(pid=pid) for pid in board.pids]
        ),
    }
    for name, call in calls.items():
        monkeypatch.setattr(pynvml, name, call)
    monkeypatch.setattr(nvml_meters, "cuda_uuid", lambda ordinal: [UUID][ordinal])
    return board


@pytest.fixture
def hwmon(tmp_path, monkeypatch):
    """add(chip, name, files) makes a chip of /sys/class/hwmon."""
    monkeypatch.setattr(hwmon_meters, "HWMON", tmp_path)

    def add(chip, name, **files):
        (tmp_path / chip).mkdir()
        for file, content in ({"name": name} | files).items():
            (tmp_path / chip / file).write_text(f"{content}\n")
        return tmp_path / chip

    return add


class TestRapl:
    def test_packages_and_memory_are_counted_once(self, powercap, enter):
        world = enter(World())
        meter = energy.RaplMeter()
        world.sleep(1)
        for zone, microjoules in {
            "intel-rapl:0": 6_000_000,
            "intel-rapl:0:0": 9_000_000,
            "intel-rapl:0:1": 5_250_000,
            "intel-rapl:1": 5_500_000,
            "intel-rapl:2": 30_000_000,
            "intel-rapl-mmio:0": 6_000_000,
        }.items():
            powercap.write(zone, microjoules)
        assert meter.joules() == pytest.approx(1.0 + 0.25 + 0.5)
        assert meter.scope == "cpu packages and dram"

    @pytest.mark.parametrize(
        ("choice", "scope", "share"),
        [("rapl:psys", "platform", 1.3), ("rapl:dram", "dram", 0.2), ("rapl:package", "cpu", 0.8)],
    )
    def test_one_domain_alone(self, powercap, enter, choice, scope, share):
        world = enter(World())
        powercap.follow(world)
        meter = energy.find_meter("cpu", choice)
        window = energy.EnergyWindow(meter)
        start = world.now
        world.sleep(0.4)
        expected = share * (world.true_j(world.now) - world.true_j(start))
        counted = window.read()
        assert abs(counted.joules - expected) <= counted.bound_j
        assert counted.scope.startswith(scope)

    def test_rights_missing(self, powercap, monkeypatch):
        read_text = meters.Path.read_text

        def refuse(path):
            if path.name == "energy_uj":
                raise PermissionError(13, "Permission denied", str(path))
            return read_text(path)

        monkeypatch.setattr(meters.Path, "read_text", refuse)
        with pytest.raises(OSError, match=r"may not read .*energy_uj: sudo chmod a\+r it, or run"):
            energy.find_meter("cpu", "rapl")
        assert "may not read" in energy.find_meter("cpu").source

    def test_counter_that_stands_still_from_the_start(self, powercap, enter):
        enter(World())
        with pytest.raises(OSError, match="RAPL powercap: the counter stood still for 1 s"):
            energy.find_meter("cpu", "rapl")

    @pytest.mark.parametrize(
        ("microjoules", "way"), [(1_000_000, "back by 4 J"), (39_000_000, "ahead by 34 J")]
    )
    def test_jump_loses_the_window_and_not_the_next(self, powercap, enter, microjoules, way):
        world = enter(World())
        meters.LIMIT_W, limit = 100.0, meters.LIMIT_W
        try:
            meter = energy.RaplMeter()
            window = energy.EnergyWindow(meter)
            world.sleep(0.1)
            powercap.write("intel-rapl:0", microjoules)
            with pytest.raises(OSError, match=f"the counter jumped {way}"):
                meter.joules()  # someone else's reading met it
        finally:
            meters.LIMIT_W = limit
        lost = window.read()
        assert (lost.joules, lost.bound_j) == (None, None)
        assert lost.reason == f"RAPL powercap: the counter jumped {way}"
        after = energy.EnergyWindow(meter)
        world.sleep(0.1)
        powercap.write("intel-rapl:0", microjoules + 500_000)
        assert after.read().joules == pytest.approx(0.5)

    def test_wraps_nobody_asked_for_are_counted(self, powercap):
        meter = energy.RaplMeter()  # 40 J: its thread reads every 4 ms
        for microjoules in range(5_000_000, 95_000_000, 1_000_000):
            powercap.write("intel-rapl:0", microjoules % powercap.RANGE_UJ)
            time.sleep(0.002)
        assert meter.joules() == pytest.approx(89)

    def test_reading_thread_ends_with_its_meter(self, powercap):
        before = threading.enumerate()
        meter = energy.RaplMeter()
        (thread,) = (t for t in threading.enumerate() if t not in before)
        del meter
        thread.join(5)
        assert not thread.is_alive()


class TestNvml:
    def test_counts_millijoules_from_its_start(self, nvml, enter):
        world = enter(World())
        meter = energy.NvmlMeter("cuda:0")
        world.sleep(1)
        nvml.millijoules = lambda: 7_002_500
        assert meter.joules() == pytest.approx(2.5)
        assert energy.NvmlMeter(UUID).joules() == 0

    def test_board_is_the_one_that_cuda_means(self, monkeypatch):
        def uuid_of(uuid, device):
            uuid[:] = [device.value] * 16
            return 0

        def device_of(structure, ordinal):
            structure._obj.value = 9 - ordinal
            return 0 if ordinal < 2 else 101

        cuda = SimpleNamespace(
            cuInit=lambda flags: 0, cuDeviceGet=device_of, cuDeviceGetUuid=uuid_of
        )
        monkeypatch.setattr(nvml_meters.ctypes, "CDLL", lambda name: cuda)
        assert nvml_meters.cuda_uuid(1) == "GPU-08080808-0808-0808-0808-080808080808"
        with pytest.raises(OSError, match=r"CUDA has no device 2 \(driver error 101\)"):
            nvml_meters.cuda_uuid(2)

    @pytest.mark.parametrize("choice", ["nvml", "nvml-power"])
    def test_gpu_lost_during_a_window(self, nvml, enter, choice):
        world = enter(World(tick_s=0.1))
        nvml.millijoules = lambda: int(1e3 * world.counted_j())
        nvml.milliwatts = lambda: int(1e3 * world.watts(world.now))
        meter = energy.find_meter("cuda", choice)
        window = energy.EnergyWindow(meter)
        world.sleep(0.5)
        nvml.lost = True
        lost = window.read().served(10)
        assert (lost.joules, lost.per_slot(lost.joules)) == (None, None)
        assert lost.reason == "NVML: GPU is lost"
        nvml.lost = False
        world.sleep(0.5)
        assert window.read().reason == "NVML: GPU is lost"
        assert energy.find_meter("cuda", choice).source.startswith("NVML")

    def test_another_process_on_the_gpu(self, nvml, enter):
        world = enter(World(tick_s=0.1))
        nvml.millijoules = lambda: int(1e3 * world.counted_j())
        meter = energy.find_meter("cuda")
        nvml.pids = [os.getpid()]
        window = energy.EnergyWindow(meter)
        world.sleep(0.5)
        assert window.read().valid
        nvml.pids = [os.getpid(), 4711]
        assert window.read().reason == "another process is using the GPU (pid 4711)"
        nvml.pids = [os.getpid()]
        assert not window.read().valid  # what it drew is in there
        assert energy.EnergyWindow(meter).lost == ""

    def test_in_a_container_the_only_process_is_us(self, nvml, enter):
        world = enter(World(tick_s=0.1))
        nvml.millijoules = lambda: int(1e3 * world.counted_j())
        nvml.pids = [880001]
        meter = energy.find_meter("cuda")
        assert meter.disturbance() == ""
        nvml.pids = [880001, 880002]
        assert "880002" in meter.disturbance()

    def test_board_without_a_counter_has_instant_power(self, nvml, enter):
        world = enter(World(swing_w=0))

        def not_supported():
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

        nvml.millijoules = not_supported
        nvml.milliwatts = lambda: int(1e3 * world.watts(world.now))
        with pytest.raises(OSError, match="NVML: Not Supported"):
            energy.find_meter("cuda", "nvml")
        meter = energy.find_meter("cuda")
        assert meter.source == "NVML instant power"
        window = energy.EnergyWindow(meter)
        for _ in range(50):
            world.sleep(0.02)
        assert window.read().joules == pytest.approx(50.0)
        world.sleep(3)
        assert "no sample for 3.0 s" in window.read().reason

    def test_none_at_all(self, no_counters, monkeypatch):
        meter = energy.find_meter("cuda:1")  # no driver, or a board that is not there
        assert (meter.kind, meter.source[:6]) == ("none", "none: ")
        nothing = energy.EnergyWindow(meter).read()
        assert (nothing.joules, nothing.reason) == (None, meter.source)


INA3221 = {
    "in1_label": "VDD_IN", "in1_input": 5000, "curr1_input": 2000,
    "in2_label": "VDD_CPU_GPU_CV", "in2_input": 5000, "curr2_input": 1000,
    "in3_label": "VDD_SOC", "in3_input": 5000, "curr3_input": 400,
    "in4_input": 200, "curr4_input": 3400, "in7_label": "sum of shunt voltages", "in7_input": 9,
}  # fmt: skip


class TestHwmon:
    def test_jetson_input_rail_stands_for_those_it_feeds(self, hwmon, enter):
        world = enter(World())
        hwmon("hwmon0", "cpu_thermal", temp1_input=40000)
        chip = hwmon("hwmon1", "ina3221", **INA3221)
        meter = energy.find_meter("cpu")
        assert (meter.source, meter.scope) == ("hwmon VDD_IN", "board")
        window = energy.EnergyWindow(meter)
        world.sleep(0.5)
        (chip / "curr1_input").write_text("4000\n")
        world.sleep(0.1)
        counted = window.read()
        assert counted.joules == pytest.approx(10 * 0.5 + (10 + 20) / 2 * 0.1)  # mV x mA, trapezoid
        assert counted.bound_j >= (20 - 10) / 2 * 0.1  # either may have been all the time

    def test_rails_without_a_common_input_are_summed(self, hwmon, enter):
        world = enter(World())
        rails = {k: v for k, v in INA3221.items() if "1_" not in k}
        hwmon("hwmon1", "ina3221", **rails | {"in3_enable": 1, "in2_enable": 1})
        hwmon("hwmon2", "ina3221", in1_label="NC", in1_input=5000, curr1_input=9000)
        meter = energy.HwmonMeter()
        world.sleep(0.5)
        assert meter.joules() == pytest.approx((5 + 2) * 0.5)
        assert energy.HwmonMeter("VDD_SOC").source == "hwmon VDD_SOC"

    def test_chip_that_gives_microwatts(self, hwmon, enter):
        world = enter(World())
        hwmon("hwmon3", "power_meter", power1_average=150_000_000)
        window = energy.EnergyWindow(energy.find_meter("cpu", "hwmon:power_meter"))
        world.sleep(0.5)
        assert window.read().joules == pytest.approx(75)

    def test_missing_rail(self, hwmon):
        with pytest.raises(OSError, match="no power sensor VDD_IN under"):
            energy.find_meter("cpu", "hwmon:VDD_IN")


class TestFindMeter:
    def test_none_says_why(self, no_counters, tmp_path):
        meter = energy.find_meter("cpu")
        assert meter.source == f"none: no RAPL counter under {tmp_path / 'powercap'}"
        assert energy.find_meter("cpu", "none").source == "none: not asked for"

    @pytest.mark.parametrize(
        ("device", "choice", "says"),
        [
            ("cpu", "watt", "unknown meter 'watt': expected auto, none, rapl"),
            ("cpu", "rapl:core", "unknown meter 'rapl:core'"),
            ("cpu", "power:35", "unknown meter 'power:35'"),
            ("cpu", "nvml", "counts a GPU: give a device cuda"),
            ("cuda", "rapl:psys", "meter rapl:psys counts CPUs: give device cpu, got cuda"),
            ("gpu", "auto", "expected device cpu, cuda, cuda:<n> or GPU-<uuid>, got 'gpu'"),
        ],
    )
    def test_mistakes_are_one_line(self, device, choice, says):
        with pytest.raises(ValueError, match=says):
            energy.find_meter(device, choice)

    @pytest.mark.parametrize("watts", [0.0, -1.0, float("inf")])
    def test_watts_of_no_core(self, watts):
        with pytest.raises(ValueError, match="watts of a busy core must be above 0, got"):
            energy.find_meter("cpu", "none", watts)


@pytest.mark.parametrize(("kind", "tick_s"), [("rapl", 0.001), ("nvml", 0.02), ("nvml", 0.1)])
@pytest.mark.parametrize("stall", [(), (2.0, 2.6), (4.1, 4.9)], ids=["", "early", "late"])
class TestKnownEnergyComesBackWithinTheBound:
    """Ticks jitter by 40 %, counters wrap (RAPL), stand still for a while and catch up."""

    def meter(self, world, powercap, nvml, kind):
        if kind == "rapl":
            powercap.follow(world)
            return energy.find_meter("cpu", "rapl")
        nvml.millijoules = lambda: int(1e3 * world.counted_j())
        return energy.find_meter("cuda", "nvml")

    def test_window_on_the_counters_steps(self, tick_s, stall, kind, enter, powercap, nvml):
        world = enter(World(tick_s, jitter=0.4, stalls=[stall] if stall else ()))
        meter = self.meter(world, powercap, nvml, kind)
        assert 0.5 * tick_s < meter.tick_s < 1.5 * tick_s + 0.001
        spans = []

        def work():
            spans.append(world.now)
            return world.work()

        window = energy.measure(meter, work, seconds=4.0, bits_per_slot=100)
        start = world.now - window.seconds
        assert window.slots == sum(began > start - 1e-9 for began in spans)
        error = abs(window.joules - (world.true_j(world.now) - world.true_j(start)))
        assert error <= window.bound_j
        # a slot at either end, not a tick: at a tick of 0.1 s the bound is 14 times smaller
        assert window.bound_j < 1.1 * 50 * 2 * min(0.007, 1.5 * tick_s) + 0.01
        assert window.per_bit(window.joules) == pytest.approx(window.joules / window.slots / 100)

    def test_window_read_at_any_time(self, tick_s, stall, kind, enter, powercap, nvml):
        world = enter(World(tick_s, jitter=0.4, stalls=[stall] if stall else ()))
        meter = self.meter(world, powercap, nvml, kind)
        window = energy.EnergyWindow(meter)
        start = world.now
        for _ in range(160):
            before = world.now
            world.sleep(0.031)
            counted = window.read()
            # that it stopped since the last reading cannot be seen before the next
            stopped_just_now = stall and before <= stall[0] <= world.now
            if counted.valid and not stopped_just_now:
                error = abs(counted.joules - (world.true_j(world.now) - world.true_j(start)))
                assert error <= counted.bound_j
        assert counted.bound_j < 0.12 * counted.joules


@pytest.mark.parametrize("renewed_s", [0.005, 0.1])
def test_integral_of_a_power_sensor_comes_back_within_the_bound(renewed_s, enter, nvml):
    world = enter(World(swing_w=30))
    nvml.milliwatts = lambda: int(1e3 * world.watts(world.now // renewed_s * renewed_s))
    meter = energy.find_meter("cuda", "nvml-power")
    assert meter.tick_s == pytest.approx(renewed_s, abs=0.002)
    window = energy.EnergyWindow(meter)
    start, late = world.now, random.Random(1)
    for _ in range(400):
        world.sleep(meters.SAMPLE_S * late.uniform(0.9, 2))
    counted = window.read()
    error = abs(counted.joules - (world.true_j(world.now) - world.true_j(start)))
    assert error <= counted.bound_j < 0.15 * counted.joules


class TestWindow:
    @pytest.fixture
    def world(self, enter, nvml):
        world = enter(World(tick_s=0.1, swing_w=0))
        nvml.millijoules = lambda: int(1e3 * world.counted_j())
        return world

    def nothing(self, window, reason):
        assert reason in window.reason
        assert not window.valid
        values = (window.joules, window.bound_j, window.net_j, window.net_bound_j, window.watts)
        assert set(map(window.per_slot, values[:4])) | set(values) == {None}
        assert window.per_bit(window.joules) is None
        assert window.share(0.5) == window
        joules = energy.energy_per_slot(window)
        assert [joules[k] for k in ("measured", "attributed", "net", "bound", "per_bit")] == [
            None
        ] * 5
        assert reason in joules["invalid"]

    def test_the_machine_slept(self, world):
        window = energy.EnergyWindow(energy.find_meter("cuda"), energy.Idle(10))
        world.sleep(1)
        world.asleep_s += 3600
        self.nothing(window.read().served(5), "the machine slept for 3600.0 s")

    def test_no_slots(self, world):
        window = energy.EnergyWindow(energy.find_meter("cuda"), energy.Idle(10))
        world.sleep(1)
        self.nothing(window.read().served(0, 0, 0.0), "no slots in the window")

    def test_shorter_than_a_tick(self, world):
        window = energy.EnergyWindow(energy.find_meter("cuda"))
        world.sleep(0.05)
        reason = "the window of 50 ms is shorter than the counter's tick of 100 ms"
        self.nothing(window.read().served(5), reason)
        world.sleep(0.5)
        assert window.read().valid

    def test_less_than_at_rest(self, world):
        window = energy.EnergyWindow(energy.find_meter("cuda"), energy.Idle(80, 1))
        world.sleep(2)
        self.nothing(window.read().served(5), "50 W under load is less than the 80 W at rest")

    def test_counter_that_stops(self, world, nvml):
        window = energy.EnergyWindow(energy.find_meter("cuda"))
        world.sleep(1)
        window.read()
        stopped = int(1e3 * world.counted_j())
        nvml.millijoules = lambda: stopped
        world.sleep(0.5)
        assert window.read().valid
        world.sleep(1)
        self.nothing(
            window.read().served(5), "NVML total energy: the counter stood still for 1.5 s"
        )

    def test_counter_set_back(self, world, nvml):
        window = energy.EnergyWindow(energy.find_meter("cuda"))
        world.sleep(1)
        nvml.millijoules = lambda: 12
        self.nothing(window.read().served(5), "NVML total energy: the counter jumped back by")

    def test_idle_power_below_nothing(self):
        with pytest.raises(ValueError, match="idle power must be 0 W or more, got -3 W"):
            energy.Idle(-3.0)

    def test_net_of_idle_and_its_bound(self, world):
        meter = energy.find_meter("cuda")
        idle = energy.measure_idle(meter, 5.0)
        assert abs(idle.watts - 50) <= idle.bound_w <= 2.5
        world.true_j = lambda now: 120.0 * now
        window = energy.EnergyWindow(meter, energy.Idle(50, 0.5))
        world.sleep(10)
        counted = window.read().served(1000)
        assert abs(counted.net_j - 700) <= counted.net_bound_j
        assert counted.net_bound_j == pytest.approx(counted.bound_j + 5)
        assert counted.per_slot(counted.net_j) == pytest.approx(counted.net_j / 1000)


class TestComparison:
    """Power drifts by a third while three receivers take turns."""

    @pytest.fixture
    def drifting(self, enter, nvml):
        world = enter(World(tick_s=0.02))
        world.true_j = lambda now: 60 * now + 0.2 * now**2
        nvml.millijoules = lambda: int(1e3 * world.counted_j())
        return world

    def run(self, world, works, rounds=4, **options):
        meter = energy.find_meter("cuda")
        comparison = energy.Comparison(meter, works, seconds=1.0, **options)
        for _ in range(rounds):
            comparison.run_round()
        return comparison

    def test_drift_cancels(self, drifting):
        twins = self.run(drifting, {name: drifting.work for name in "AB"})
        one = twins.energy("A")
        assert one.rounds == 4
        assert one.ci95[1] - one.ci95[0] > 0.05 * one.mean  # the drift is there
        difference = twins.difference("A", "B")
        assert difference.ci95[0] <= 0 <= difference.ci95[1]
        assert abs(difference.mean) < 0.002 * one.mean + difference.bound

    def test_true_difference_is_found(self, drifting):
        def slower():
            return drifting.work(0.0077)

        comparison = self.run(drifting, {"A": drifting.work, "B": drifting.work, "C": slower})
        difference = comparison.difference("C", "A")
        assert difference.mean == pytest.approx(0.1 * comparison.energy("A").mean, rel=0.05)
        assert difference.ci95[0] > 0

    def test_order(self, drifting):
        turns = []

        def work(name):
            turns.append(name)
            return drifting.work()

        self.run(drifting, {n: lambda n=n: work(n) for n in "AB"}, rounds=2)
        assert [name for name, _ in itertools.groupby(turns)] == ["A", "B", "A", "B", "A", "B"]
        # A BB A B AA B: the first of each pair of neighbours is the end of the window before

    def test_cpu_share_and_net(self, drifting):
        comparison = self.run(drifting, {"A": drifting.work}, idle=energy.Idle(20), attribute=True)
        (windows_of_a,) = {tuple(w.kind for w in r["A"]) for r in comparison.rounds}
        assert windows_of_a == ("attributed", "attributed")
        assert comparison.energy("A").mean == pytest.approx(0.8 * 0.007 * 65, rel=0.1)
        per_slot = comparison.energy("A").mean - comparison.energy("A", net=True).mean
        assert per_slot == pytest.approx(0.8 * 0.007 * 20, rel=0.01)

    def test_invalid_windows_are_left_out_with_their_reason(self, drifting, nvml):
        def work():
            nvml.pids = [os.getpid(), 4711] if 3 < drifting.now < 4 else []
            return drifting.work()

        estimate = self.run(drifting, {"A": work}).energy("A")
        assert estimate.rounds < 4
        assert set(estimate.invalid) == {"another process is using the GPU (pid 4711)"}

    def test_interrupted_round_leaves_nothing(self, drifting):
        def work():
            if drifting.now > 5:
                raise KeyboardInterrupt
            return drifting.work()

        comparison = energy.Comparison(energy.find_meter("cuda"), {"A": work}, seconds=1.0)
        with pytest.raises(KeyboardInterrupt):
            for _ in range(4):
                comparison.run_round()
        assert len(comparison.rounds) == 2
        assert comparison.energy("A").rounds == 2

    def test_without_a_meter_time_is_still_measured(self, enter, no_counters):
        world = enter(World())
        window = energy.measure(energy.find_meter("cpu"), world.work, 1.0)
        assert window.joules is None
        assert window.cpu_s == pytest.approx(window.slots * 0.007)


def burn(seconds):
    start = time.thread_time()
    while time.thread_time() - start < seconds:
        pass


@pytest.mark.timing
def test_joules_are_attributed_to_who_burned_them():
    """A receiver burns 0.3 s of CPU time, its neighbours (a thread and a process) 0.1 s each.

    The meter is 10 J per CPU second of the machine, so that a right share gives 3 J whatever else
    runs here.
    """

    class PerCpuSecond(energy.Meter):
        def _step(self, elapsed_s):
            now, before = energy.cpu_busy_s(), getattr(self, "_before", energy.cpu_busy_s())
            self._before = now
            return 10 * (now - before)

    script = "import time\nwhile time.process_time() < 0.1: pass"
    meter = PerCpuSecond("test", "cpu packages", 0.1)
    meter.joules()
    window = energy.EnergyWindow(meter)
    process = subprocess.Popen([sys.executable, "-c", script])
    thread = threading.Thread(target=burn, args=(0.1,))
    thread.start()
    start = time.thread_time()
    burn(0.3)
    receiver_s = time.thread_time() - start
    thread.join()
    assert process.wait() == 0
    gross = window.read().served(100, cpu_s=receiver_s)
    assert gross.busy_s > 0.95 * 0.5  # the neighbours are seen
    attributed = gross.attributed()
    assert attributed.joules == pytest.approx(10 * receiver_s, rel=0.1)
    assert attributed.joules < 0.66 * gross.joules
    assert (attributed.kind, attributed.per_slot(attributed.joules)) == (
        "attributed",
        pytest.approx(0.03, rel=0.1),
    )


@pytest.mark.parametrize(
    ("device", "choice"),
    [("cpu", "rapl"), ("cpu", "hwmon"), ("cuda", "nvml"), ("cuda", "nvml-power")],
)
def test_counters_of_this_machine(device, choice):
    try:
        meter = energy.find_meter(device, choice)
    except OSError as error:
        pytest.skip(str(error))

    def work():
        burn(0.005)
        return 1

    window = energy.measure(meter, work, seconds=1.0)
    if not window.valid and "another process" in window.reason:
        pytest.skip(window.reason)
    assert window.reason == ""
    assert 0.1 < window.watts < 5000
    assert window.bound_j < 0.5 * window.joules


class TestReport:
    WINDOW = energy.Window(
        joules=20.0,
        bound_j=0.4,
        seconds=2.0,
        busy_s=4.0,
        kind="measured",
        source="RAPL powercap",
        scope="cpu packages",
        idle=energy.Idle(4.0),
    ).served(100, 1000, cpu_s=1.0)

    def test_cpu_joules_are_attributed_by_cpu_time(self):
        joules = energy.energy_per_slot(self.WINDOW)
        assert joules["measured"] is None
        assert joules["attributed"] == pytest.approx(20.0 / 4 / 100)
        assert joules["net"] == pytest.approx((20.0 - 8.0) / 4 / 100)
        assert joules["bound"] == pytest.approx(0.4 / 4 / 100)
        assert joules["per_bit"] == pytest.approx(20.0 / 4 / 1000)
        assert (joules["source"], joules["scope"]) == ("RAPL powercap", "cpu packages")
        assert joules["modelled"] == pytest.approx(energy.CORE_W * 1.0 / 100)

    def test_gpu_joules_are_measured_unless_shared(self):
        window = replace(self.WINDOW, price=energy.Price("cuda:0", 300.0))
        alone = energy.energy_per_slot(window, inference_s=0.5)
        assert (alone["measured"], alone["attributed"]) == (pytest.approx(0.2), None)
        shared = energy.energy_per_slot(window, 0.5, gpu_share=0.25)
        assert (shared["measured"], shared["attributed"]) == (None, pytest.approx(0.05))
        for joules in (alone, shared):  # whoever shares the board, the price is of its own time
            assert joules["modelled"] == pytest.approx(300 * 0.5 / 100)
            assert joules["model"] == "inference time x 300 W of the board, given"

    def test_without_a_counter_nothing_is_measured_and_the_model_names_its_assumption(
        self, no_counters
    ):
        window = energy.EnergyWindow(energy.find_meter("cpu")).read().served(100, cpu_s=1.0)
        joules = energy.energy_per_slot(window)
        keys = ("measured", "attributed", "net", "bound", "per_bit", "invalid")
        assert [joules[k] for k in keys] == [None] * 6
        assert joules["source"].startswith("none: no RAPL counter under")
        assert joules["modelled"] == pytest.approx(energy.CORE_W * 1.0 / 100)
        assert joules["model"] == f"CPU time x {energy.CORE_W:g} W a busy core, assumed"

    def test_unknown_time_is_not_modelled_and_says_so(self):
        joules = energy.energy_per_slot()
        assert (joules["modelled"], joules["model"]) == (None, "none: no CPU time was measured")
        assert joules["source"] == "none: not measured"
