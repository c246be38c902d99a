# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA boards: NVML's energy counter and instant power."""

import ctypes
import os
import re

from .meter import Counter, PowerSensor
from .price import Price


class _Board:
    """One GPU by what CUDA calls it or by its UUID; NVML counts differently than CUDA."""

    def __init__(self, device: str, source: str):
        try:
            import pynvml
        except ImportError as error:
            raise OSError("nvidia-ml-py is not installed") from error
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            uuid = device if device.startswith("GPU-") else cuda_uuid(ordinal(device))
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError as error:
            raise OSError(f"NVML: {error}") from error
        super().__init__(source, "gpu board", 1e-3)
        self.price = Price(device)

    def _ask(self, function: str, *arguments):
        try:
            return getattr(self._nvml, function)(self._handle, *arguments)
        except self._nvml.NVMLError as error:
            raise OSError(f"NVML: {error}") from error

    def disturbance(self) -> str:
        try:
            running = self._ask("nvmlDeviceGetComputeRunningProcesses")
        except OSError:
            return ""
        others = [p.pid for p in running if p.pid != os.getpid()]
        if len(others) == len(running):  # in a container NVML knows us by a number that we do not
            others = others[1:]
        if not others:
            return ""
        return f"another process is using the GPU (pid {', '.join(map(str, others))})"


def ordinal(device: str) -> int:
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if not match:
        raise ValueError(f"expected device cpu, cuda, cuda:<n> or GPU-<uuid>, got {device!r}")
    return int(match[1] or 0)


def cuda_uuid(index: int) -> str:
    """UUID of what this process calls cuda:<index>, from the CUDA driver.

    NVML numbers boards by their place on the bus and knows nothing of CUDA_VISIBLE_DEVICES.
    Raises OSError with one line.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise OSError("no NVIDIA driver (libcuda.so.1) on this machine") from None
    device, uuid = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    for status in (
        cuda.cuInit(0),
        cuda.cuDeviceGet(ctypes.byref(device), index),
        cuda.cuDeviceGetUuid(uuid, device),
    ):
        if status:
            raise OSError(f"CUDA has no device {index} (driver error {status})")
    text = bytes(uuid).hex()
    return "GPU-" + "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


class NvmlMeter(_Board, Counter):
    """One NVIDIA board through NVML's total-energy counter (Volta and later).

    device: "cuda", "cuda:1" or a UUID "GPU-...". Raises OSError with one line where there is no
    driver, device or counter.
    """

    def __init__(self, device: str = "cuda"):
        super().__init__(device, "NVML total energy")

    def _counts(self):
        return [self._ask("nvmlDeviceGetTotalEnergyConsumption")]


class NvmlPowerMeter(_Board, PowerSensor):
    """One NVIDIA board: the integral of NVML's instant power, for boards without a counter."""

    def __init__(self, device: str = "cuda"):
        super().__init__(device, "NVML instant power")

    def _watts(self):
        (field,) = self._ask("nvmlDeviceGetFieldValues", [self._nvml.NVML_FI_DEV_POWER_INSTANT])
        if field.nvmlReturn != 0:
            raise OSError(f"NVML instant power: {self._nvml.NVMLError(field.nvmlReturn)}")
        return field.value.uiVal * 1e-3
