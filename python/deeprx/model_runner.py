# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver run without a flowgraph, again and again on the same slots: to time it, to count what
it costs.
"""

import io
import time

import torch

from deeprx_common.examples import received_slots
from deeprx_common.slot import SlotConfig

from .deeprx_python import check_model
from .model_file import ModelFile


class ModelRunner:
    """A model file on a batch of slots of one shape; a call receives the batch.

    precision: of the convolutions, "float32", "bfloat16" or "float16"; None: as the file has them.
    name: the model's, with precision and batch where they are not the file's and 1. seconds,
    cpu_seconds: of each call so far, wall time and the calling thread's CPU time. A call includes
    what moves the grids to a GPU and the LLRs back, as in the receiver block.

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
        self.model, self.config, self.batch = model, config, batch
        self.device = device
        self.precision = precision or model.metadata.get("precision", "float32")
        self.name = model.name
        self.name += f", {precision}" if precision else ""
        self.name += f", batch {batch}" if batch > 1 else ""
        self._forget()
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
            if precision:
                _convert(module, getattr(torch, precision))
            self._module = torch.jit.freeze(module.to(device).eval())
            self._slots = tuple(map(torch.from_numpy, received_slots(config, n_rx, batch)))
            if device != "cpu":
                self._slots = tuple(part.pin_memory() for part in self._slots)
            for _ in range(3):  # the executor profiles, then compiles
                self()
        except RuntimeError as error:
            cause = str(error).strip().splitlines()[-1].removeprefix("RuntimeError: ")
            as_asked = f" in {precision}" if precision else ""
            raise RuntimeError(f"{model.path}{as_asked}: {cause}") from None
        self._forget()

    def _forget(self) -> None:
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []

    def infer(self) -> torch.Tensor:
        """LLRs of the batch, float32 [batch, 14, n_sc, >= bits], on the CPU."""
        y, p = (part.to(self.device, non_blocking=True) for part in self._slots)
        return self._module(y, p, self.config.bits_per_symbol).cpu()

    def __call__(self) -> int:
        """Receive the batch; returns its slots."""
        start, cpu_start = time.perf_counter(), time.thread_time()
        with torch.inference_mode():
            self.infer()
        self.cpu_seconds.append(time.thread_time() - cpu_start)
        self.seconds.append(time.perf_counter() - start)
        return self.batch


def _convert(module: torch.jit.ScriptModule, dtype: torch.dtype) -> None:
    for part in module.modules():
        if part.original_name.startswith("Conv"):
            part.to(dtype)
