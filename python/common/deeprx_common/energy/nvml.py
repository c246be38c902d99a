# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA boards: NVML's energy counter and instant power."""

import ctypes
import os
import re

from .meter import Counter, PowerSensor
from .price import Price


class _NvidiaGpu:
    """One GPU by what CUDA calls it or by its UUID; NVML counts differently than CUDA."""

    def __init__(self, device: str):
        try:
            import pynvml
        except ImportError as error:
            raise OSError("nvidia-ml-py is not installed") from error
        self.nvml = pynvml
        try:
            pynvml.nvmlInit()
            uuid = device if device.startswith("GPU-") else cuda_uuid(ordinal(device))
            self.handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError as error:
            raise OSError(f"NVML: {error}") from error

    def ask(self, function: str, *arguments):
        try:
            return getattr(self.nvml, function)(self.handle, *arguments)
        except self.nvml.NVMLError as error:
            raise OSError(f"NVML: {error}") from error

    def disturbance(self) -> str:
        try:
            found = self.nvml.nvmlDeviceGetComputeRunningProcesses(self.handle)
        except self.nvml.NVMLError:
            return ""
        others = [p.pid for p in found if p.pid != os.getpid()]
        if len(others) == len(found):  # in a container NVML knows us by a number that we do not
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


class NvmlMeter(Counter):
    """One NVIDIA board through NVML's total-energy counter (Volta and later).

    device: "cuda", "cuda:1" or a UUID "GPU-...". Raises OSError with one line where there is no
    driver, device or counter.
    """

    def __init__(self, device: str = "cuda"):
        self._gpu = _NvidiaGpu(device)
        super().__init__("NVML total energy", "gpu board", 1e-3)
        self.price = Price(device)

    def disturbance(self):
        return self._gpu.disturbance()

    def _counts(self):
        return [self._gpu.ask("nvmlDeviceGetTotalEnergyConsumption")]


class NvmlPowerMeter(PowerSensor):
    """One NVIDIA board: the integral of NVML's instant power, for boards without a counter."""

    def __init__(self, device: str = "cuda"):
        self._gpu = _NvidiaGpu(device)
        super().__init__("NVML instant power", "gpu board", 1e-3)
        self.price = Price(device)

    def disturbance(self):
        return self._gpu.disturbance()

    def _watts(self):
        (field,) = self._gpu.ask(
            "nvmlDeviceGetFieldValues", [self._gpu.nvml.NVML_FI_DEV_POWER_INSTANT]
        )
        if field.nvmlReturn != 0:
            raise OSError(f"NVML instant power: {self._gpu.nvml.NVMLError(field.nvmlReturn)}")
        return field.value.uiVal * 1e-3
