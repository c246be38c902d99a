# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx doctor: what this machine has for receivers, what is slow, what is wrong."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from gnuradio import gr

from deeprx_common.energy import find_meter
from deeprx_common.host import host
from deeprx_common.shipped import shipped_models
from deeprx_common.slot import SLOT_S

from ..deeprx_python import Engine, engines, instructions
from ..model_file import read_model_file

OK, SLOW, NONE, WRONG = "ok", "slow", "none", "WRONG"
CALLS, LEAST_CALLS = 40, 5
ENOUGH_S = 0.5  # of calls


@dataclass(frozen=True)
class Finding:
    """state: OK; SLOW, a receiver could be faster here; NONE, not there and not needed; WRONG.

    advice: what to do, where something can be done.
    """

    label: str
    state: str
    text: str
    advice: str = ""

    def __str__(self) -> str:
        lines = [f"  {self.state:6} {self.label:22} {self.text}"]
        lines += [f"  {'':6} {'':22} -> {self.advice}"] if self.advice else []
        return "\n".join(lines)


def configure(parser) -> None:
    parser.description = (
        "Says which engines are built in, which instructions the processor has for "
        "each precision, as what every model file runs here and how long a slot takes it, and "
        "which GPUs and energy counters there are. A receiver that a slower engine or "
        "instructions run is called slow. Exit status 1 where something is wrong."
    )
    parser.add_argument("model", nargs="*", metavar="MODEL.pt", help="default: all that ship")


def run(arguments) -> int:
    wrong = 0
    for title, findings in (
        ("gr-deeprx", _software()),
        ("Processor", _processor()),
        (
            "Model files, CPU time of a slot of 26 PRB on one thread, engine alone",
            _models(arguments.model),
        ),
        ("GPU", _gpu()),
        ("Energy counters", _meters()),
    ):
        print(title, flush=True)
        for finding in findings:
            print(finding, flush=True)
            wrong += finding.state == WRONG
    if wrong:
        print(f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong")
    return int(wrong > 0)


def _torch():
    """PyTorch for Python, which only some commands need; or None."""
    try:
        import torch
    except ImportError:
        return None
    return torch


def _software() -> Iterator[Finding]:
    torch = _torch()
    yield Finding("GNU Radio", OK, gr.version())
    yield Finding("NumPy", OK, np.__version__)
    if torch:
        yield Finding("PyTorch", OK, torch.__version__)
    else:
        yield Finding("PyTorch", NONE, "not in this Python: profile, energy and bench need it")
    found = engines()
    yield Finding("engines", OK, ", ".join(found))
    if not any(name.startswith("OpenVINO") for name in found):
        yield Finding(
            "OpenVINO", SLOW, "not built in: real-time students run as TorchScript",
            "pip install openvino, then configure and build again",
        )  # fmt: skip


def _processor() -> Iterator[Finding]:
    machine = host()
    yield Finding("model", OK, f"{machine['cpu']}, {machine['cores']} cores")
    for precision in ("float32", "bfloat16", "int8"):
        found = instructions(precision)
        yield Finding(precision, OK if found else SLOW, found or "no instructions for it")


def _models(paths: list[str]) -> Iterator[Finding]:
    for path in paths or shipped_models():
        model = read_model_file(path)
        needs = [n for n in model.metadata["requires"] if not instructions(n)]
        if needs:
            yield Finding(model.name, NONE, f"needs instructions for {', '.join(needs)}")
            continue
        try:
            yield _runs(model.name, str(model.path), model.metadata)
        except RuntimeError as error:
            yield Finding(model.name, WRONG, " ".join(str(error).split()))


def _runs(name: str, path: str, metadata: dict) -> Finding:
    n_rx = 2 if 2 in metadata["n_rx"] else metadata["n_rx"][0]
    modulation = "16QAM" if "16QAM" in metadata["modulations"] else metadata["modulations"][0]
    engine = Engine(path, n_rx=n_rx, modulation=modulation)
    engine.time(LEAST_CALLS)
    calls = engine.time(LEAST_CALLS)[:, 1]
    calls = engine.time(int(np.clip(ENOUGH_S / np.median(calls), LEAST_CALLS, CALLS)))[:, 1]
    taken = float(np.median(calls))
    text = f"{engine.description}: {1e3 * taken:.2f} ms, real-time factor {SLOT_S / taken:.2g}"
    precision = metadata.get("precision", "float32")
    if not instructions(precision):
        advice = f"this processor converts {precision}: take a float32 file (docs/how-to/precision.md)"
        return Finding(name, SLOW, text, advice)
    if "openvino" in metadata.get("engines", ()) and not engine.description.startswith("OpenVINO"):
        return Finding(name, SLOW, text, "the file carries OpenVINO IR, which is not used")
    return Finding(name, OK, text)


def _gpu() -> Iterator[Finding]:
    torch = _torch()
    if not torch or not torch.cuda.is_available():
        yield Finding("CUDA", NONE, "PyTorch sees no CUDA device: receivers run on the CPU")
        return
    for i in range(torch.cuda.device_count()):
        yield Finding(
            f"cuda:{i}", OK, f"{torch.cuda.get_device_name(i)}, CUDA {torch.version.cuda}"
        )


def _meters() -> Iterator[Finding]:
    for label, device, choice in (
        ("NVML", "cuda", "nvml"),
        ("NVML instant power", "cuda", "nvml-power"),
        ("RAPL", "cpu", "rapl"),
        ("INA3221 (Jetson)", "cpu", "hwmon"),
    ):
        try:
            yield Finding(label, OK, find_meter(device, choice).describe())
        except (ImportError, OSError) as error:
            yield Finding(label, NONE, str(error))
