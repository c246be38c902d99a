# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver run without a flowgraph, again and again on the same slots: to time it, to count what
it costs.
"""

from __future__ import annotations

import io
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from deeprx_common.examples import received_slots
from deeprx_common.slot import SlotConfig

from ..deeprx_python import Engine, check_model, engines
from .file import ModelFile

if TYPE_CHECKING:
    import torch


class ModelRunner(ABC):
    """A model file on a batch of slots of one shape; a call receives the batch.

    name: the model's, with what sets it apart. precision: of what multiplies; converted_to: the
    same where it is not the file's own. description: what computes, as the receiver block says it.
    seconds, cpu_seconds: of each call so far, wall time and CPU time. A call includes what moves
    the grids to a GPU and the LLRs back, as in the receiver block.
    """

    description: str
    converted_to: str | None = None

    def __init__(self, model: ModelFile, config: SlotConfig, n_rx: int, device: str, batch: int):
        self.model, self.config, self.n_rx = model, config, n_rx
        self.device, self.batch = device, batch
        self.precision = model.metadata.get("precision", "float32")
        self.name = model.name
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []

    @abstractmethod
    def _receive(self) -> tuple[float, float]:
        """Receive the batch; returns wall and CPU seconds."""

    def __call__(self) -> int:
        """Receive the batch; returns its slots."""
        seconds, cpu_seconds = self._receive()
        self.seconds.append(seconds)
        self.cpu_seconds.append(cpu_seconds)
        return self.batch


class EngineRunner(ModelRunner):
    """What the receiver block runs.

    engine: "torchscript", "openvino", or "auto", as the block chooses. CPU time is that of all
    threads of an inference. Raises what Engine raises.
    """

    def __init__(
        self,
        model: ModelFile,
        config: SlotConfig,
        n_rx: int,
        device: str = "cpu",
        batch: int = 1,
        engine: str = "auto",
        threads: int = 1,
    ):
        super().__init__(model, config, n_rx, device, batch)
        self._engine = Engine(
            str(model.path),
            n_prb=config.n_prb,
            n_rx=n_rx,
            modulation=config.modulation,
            dmrs=list(config.dmrs),
            device=device,
            threads=threads,
            max_batch=batch,
            engine=engine,
        )
        self.description = self._engine.description
        self._engine.infer(*received_slots(config, n_rx, batch))

    def _receive(self) -> tuple[float, float]:
        return tuple(self._engine.time(1, self.batch)[0])


class TorchScriptRunner(ModelRunner):
    """The file's TorchScript in Python, where its operators can be seen and its precision changed.

    precision: of the convolutions, "float32", "bfloat16" or "float16"; None: as the file has them.
    CPU time is the calling thread's.

    The file is checked as the block does it before anything of it runs. Raises RuntimeError or
    ValueError with one line that names the file.
    """

    def __init__(
        self,
        model: ModelFile,
        config: SlotConfig,
        n_rx: int,
        device: str = "cpu",
        batch: int = 1,
        precision: str | None = None,
    ):
        import torch  # takes seconds, which EngineRunner does without

        super().__init__(model, config, n_rx, device, batch)
        self._inference_mode = torch.inference_mode
        if precision and precision != self.precision:
            self.precision = self.converted_to = precision
        self.description = f"{engines()[0]}, {self.precision}"
        data = model.path.read_bytes()
        try:
            check_model(
                data,
                n_prb=config.n_prb,
                n_rx=n_rx,
                modulation=config.modulation,
                dmrs=list(config.dmrs),
                device=device,
            )
            module = torch.jit.load(io.BytesIO(data), map_location="cpu")
            if self.converted_to:
                _convert(module, getattr(torch, self.converted_to))
            self._module = torch.jit.freeze(module.to(device).eval())
            self._slots = tuple(map(torch.from_numpy, received_slots(config, n_rx, batch)))
            if device != "cpu":
                self._slots = tuple(part.pin_memory() for part in self._slots)
            for _ in range(3):  # the executor profiles, then compiles
                self._receive()
        except RuntimeError as error:
            cause = str(error).strip().splitlines()[-1].removeprefix("RuntimeError: ")
            as_asked = f" in {precision}" if precision else ""
            raise RuntimeError(f"{model.path}{as_asked}: {cause}") from None

    def infer(self) -> torch.Tensor:
        """LLRs of the batch, float32 [batch, 14, n_sc, >= bits], on the CPU."""
        y, p = (part.to(self.device, non_blocking=True) for part in self._slots)
        return self._module(y, p, self.config.bits_per_symbol).cpu()

    def _receive(self) -> tuple[float, float]:
        start, cpu_start = time.perf_counter(), time.thread_time()
        with self._inference_mode():
            self.infer()
        return time.perf_counter() - start, time.thread_time() - cpu_start


def _convert(module: torch.jit.ScriptModule, dtype: torch.dtype) -> None:
    for part in module.modules():
        if part.original_name.startswith("Conv"):
            part.to(dtype)
