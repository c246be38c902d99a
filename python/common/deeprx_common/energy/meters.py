# SPDX-License-Identifier: GPL-3.0-or-later
"""Which meter: the best one for a receiver's device, or the one that was asked for."""

from .hwmon import HwmonMeter
from .meter import Meter, NoMeter
from .nvml import NvmlMeter, NvmlPowerMeter, ordinal
from .price import Price
from .rapl import RaplMeter

METERS = "auto, none, rapl[:package|dram|psys], nvml, nvml-power, hwmon[:RAIL]"


def find_meter(device: str = "cpu", choice: str = "auto", busy_w: float | None = None) -> Meter:
    """The meter for a receiver's device, its update period measured (up to a second).

    device: "cpu", "cuda", "cuda:1" or "GPU-<uuid>". choice: one of METERS. "auto" takes the best
    there is, NVML before instant power, RAPL, and a Jetson's INA3221 last, and is a NoMeter with
    the reason where there is none. busy_w: of its price, see Price.

    Raises OSError with one line where the meter that was asked for is not there, ValueError for an
    unknown choice or device and for watts that are not above 0.
    """
    price = Price(device, busy_w)
    meter = _find(device, choice)
    meter.price = price
    return meter


def _find(device: str, choice: str) -> Meter:
    on_gpu = device != "cpu"
    if on_gpu and not device.startswith("GPU-"):
        ordinal(device)
    if choice == "none":
        return NoMeter("not asked for")
    if choice != "auto":
        meter = _named(choice, device)
        meter.measure_tick()
        return meter
    why = []
    for candidate in ("nvml", "nvml-power", "hwmon") if on_gpu else ("rapl", "hwmon"):
        try:
            return _find(device, candidate)
        except OSError as error:
            why.append(str(error))
    return NoMeter(why[0])  # of the counter that such a machine would have


def _named(choice: str, device: str) -> Meter:
    kind, _, detail = choice.partition(":")
    if kind == "rapl" and detail in ("", "package", "dram", "psys"):
        if device != "cpu":
            raise ValueError(f"meter {choice} counts CPUs: give device cpu, got {device}")
        return RaplMeter(domains=(detail,) if detail else ("package", "dram"))
    if kind == "hwmon":
        return HwmonMeter(detail or "ina3221")
    if choice in ("nvml", "nvml-power"):
        if device == "cpu":
            raise ValueError(
                f"meter {choice} counts a GPU: give a device cuda or cuda:<n>, got cpu"
            )
        return NvmlMeter(device) if choice == "nvml" else NvmlPowerMeter(device)
    raise ValueError(f"unknown meter {choice!r}: expected {METERS}")
