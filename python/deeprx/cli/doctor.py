# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx doctor: what this machine has for receivers, what is slow, what is wrong."""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gnuradio import gr

from deeprx_common.energy import find_meter
from deeprx_common.host import host
from deeprx_common.shipped import shipped_models
from deeprx_common.slot import SlotConfig, User

from ..deeprx_python import Engine, engines, instructions
from ..models.file import ModelFile, read_model_file
from ..models.runner import EngineRunner

OK, SLOW, NONE, WRONG = "ok", "slow", "none", "WRONG"
CALLS, LEAST_CALLS = 40, 5
ENOUGH_S = 0.5  # of calls
_WITHOUT = {
    "float32": "no vector instructions that are known here",
    "bfloat16": "no instructions for it: such files run in float32 or by conversion",
    "int8": "no instructions for it: of such files only those of a PuschRx run",
}


@dataclass(frozen=True)
class Finding:
    """state: OK; SLOW, a slot takes longer than it lasts; NONE, not there and not needed; WRONG.

    advice: what to do, where something can be done. slot_s: of a receiver that learned, what a slot
    takes.
    """

    label: str
    state: str
    text: str
    advice: str = ""
    slot_s: float | None = None

    def __str__(self) -> str:
        lines = [f"  {self.state:6} {self.label:22} {self.text}"]
        lines += [f"  {'':6} {'':22} -> {self.advice}"] if self.advice else []
        return "\n".join(lines)


def configure(parser) -> None:
    parser.description = (
        "Says which engines are built in, whether there is a jail for strangers' files, which "
        "instructions the processor has for each precision, as what every model file runs here and "
        "how long a slot takes it, and which GPUs and energy counters there are; then advises. A "
        "receiver that takes longer than a slot lasts, 1 ms, is called slow. Exit status 1 where "
        "something is wrong."
    )
    parser.add_argument("model", nargs="*", metavar="MODEL.pt", help="default: all that ship")


def run(arguments) -> int:
    findings = []
    for title, part in (
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
        for finding in part:
            print(finding, flush=True)
            findings.append(finding)
    print("Advice", *(f"  {line}" for line in advice(findings)), sep="\n")
    wrong = sum(finding.state == WRONG for finding in findings)
    if wrong:
        print(f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong")
    return int(wrong > 0)


def advice(findings: list[Finding]) -> Iterator[str]:
    """What suits this machine, of what was found."""
    learned = sorted((f for f in findings if f.slot_s), key=lambda f: f.slot_s)
    keep_up = [f for f in learned if f.state == OK]
    if keep_up:
        most = keep_up[-1]
        yield (
            f"real time on one core: {', '.join(f.label for f in keep_up)}; of these {most.label} "
            f"computes most, {1e3 * most.slot_s:.2f} ms a slot"
        )
    elif learned:
        yield (
            f"no learned receiver keeps up with 1 ms a slot on one core here: the fastest is "
            f"{learned[0].label}, {1e3 * learned[0].slot_s:.2f} ms"
        )
    if learned and not instructions("bfloat16"):
        yield (
            "bfloat16 files are right here, and run in float32 or by conversion: there is nothing "
            "to change, a processor with AVX-512 BF16 or AMX runs them faster"
        )
    if _has("TorchScript") and not _has("OpenVINO"):
        yield "pip install openvino, then configure and build again: files with its IR run faster"
    for wrong in (f for f in findings if f.state == WRONG):
        yield f"{wrong.label}: {wrong.advice or wrong.text}"


def _torch():
    """PyTorch for Python, which only some commands need; or None."""
    try:
        import torch
    except ImportError:
        return None
    return torch


def _has(engine: str) -> bool:
    return any(name.startswith(engine) for name in engines())


def _software() -> Iterator[Finding]:
    torch = _torch()
    yield Finding("GNU Radio", OK, gr.version())
    yield Finding("NumPy", OK, np.__version__)
    if torch:
        yield Finding("PyTorch", OK, torch.__version__)
    else:
        yield Finding("PyTorch", NONE, "not in this Python: profile, energy and bench need it")
    yield Finding("engines", OK, ", ".join(engines()))
    if not _has("TorchScript"):
        yield Finding(
            "programs",
            NONE,
            "built without PyTorch: files run by their weights, and none needs a jail",
        )
        return
    if not _has("OpenVINO"):
        yield Finding("OpenVINO", NONE, "not built in: files that carry its IR run as TorchScript")
    yield _jail()


def _jail() -> Finding:
    """By a model in a file that does not ship."""
    with tempfile.TemporaryDirectory() as folder:
        stranger = Path(folder, "stranger.pt")
        stranger.write_bytes(read_model_file("baseline-lmmse").archive.rewritten())
        try:
            Engine(stranger, SlotConfig(n_prb=6))
        except RuntimeError as error:
            why = re.sub(r".* no jail for it here \((.*)\): .*", r"\1", str(error))
            return Finding("jail", NONE, f"model files that do not ship are refused: {why}")
    return Finding("jail", OK, "model files that do not ship run in it")


def _processor() -> Iterator[Finding]:
    machine = host()
    yield Finding("model", OK, f"{machine['cpu']}, {machine['cores']} cores")
    for precision in ("float32", "bfloat16", "int8"):
        by = instructions(precision)
        yield Finding(precision, OK if by else NONE, by or _WITHOUT[precision])


def _models(paths: list[str]) -> Iterator[Finding]:
    for path in paths or shipped_models():
        model = read_model_file(path)
        needs = [n for n in model.metadata["requires"] if not instructions(n)]
        if needs:
            yield Finding(model.name, NONE, f"needs instructions for {', '.join(needs)}")
            continue
        try:
            yield _runs(model)
        except RuntimeError as error:
            yield Finding(model.name, WRONG, " ".join(str(error).split()))


def _runs(model: ModelFile) -> Finding:
    about = model.metadata
    n_rx = 2 if 2 in about["n_rx"] else about["n_rx"][0]
    modulation = "16QAM" if "16QAM" in about["modulations"] else about["modulations"][0]
    runner = EngineRunner(model, SlotConfig(users=(User(modulation),)), n_rx)
    while len(runner.cpu_seconds) < LEAST_CALLS or (
        sum(runner.cpu_seconds) < ENOUGH_S and len(runner.cpu_seconds) < CALLS
    ):
        runner()
    taken = float(np.median(runner.cpu_seconds))
    slot_s = runner.config.slot_s
    text = f"{runner.description}: {1e3 * taken:.2f} ms, real-time factor {slot_s / taken:.2g}"
    state = OK if taken <= slot_s else SLOW
    unused = "openvino" in about.get("engines", ()) and "OpenVINO" not in runner.description
    return Finding(
        model.name,
        state,
        text,
        "the file carries OpenVINO IR, which is not used" * (unused and _has("OpenVINO")),
        taken if about.get("kind") != "baseline" else None,
    )


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
