# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver run without a flowgraph, again and again on the same slots: to time it, to count what
it costs.
"""

import io
from collections.abc import Callable

from deeprx_common.examples import received_slots
from deeprx_common.slot import SlotConfig

from .file import ModelFile


class EngineRunner:
    """What the receiver block runs, on a batch of slots of one shape; a call receives the batch.

    engine: "native", "torchscript", "openvino", or "auto", as the block chooses. name: the model's,
    with what sets it apart. description: what computes, as the receiver block says it. seconds,
    cpu_seconds: of each call so far, wall time and CPU time of all threads. A call includes what
    moves the grids to a GPU and the LLRs back, as in the receiver block. Raises what Engine raises.
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
        self.model, self.config, self.n_rx, self.batch = model, config, n_rx, batch
        self.name = model.name
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self._engine = model.engine(
            config, n_rx, device=device, threads=threads, max_batch=batch, engine=engine
        )
        self.description = self._engine.description
        self._engine.infer(*received_slots(config, n_rx, batch)[:2])

    def __call__(self) -> int:
        """Receive the batch; returns its slots."""
        seconds, cpu_seconds = self._engine.time(1, self.batch)[0]
        self.seconds.append(seconds)
        self.cpu_seconds.append(cpu_seconds)
        return self.batch


def torchscript_call(model: ModelFile, config: SlotConfig, n_rx: int) -> Callable[[], object]:
    """What receives a slot by the file's TorchScript in Python, on the CPU, where its operators can
    be seen: LLRs float32 [1, 1, 14, n_sc, >= bits].

    Raises RuntimeError or ValueError with one line that names the file.
    """
    import torch  # takes seconds, which EngineRunner does without

    data = model.program(config, n_rx)
    arguments = (
        *map(torch.from_numpy, received_slots(config, n_rx, 1)),
        [u.bits_per_symbol for u in config.users],
    )
    try:
        module = torch.jit.freeze(torch.jit.load(io.BytesIO(data), map_location="cpu").eval())
        with torch.inference_mode():
            for _ in range(3):  # the executor profiles, then compiles
                module(*arguments)
    except RuntimeError as error:
        cause = str(error).strip().splitlines()[-1].removeprefix("RuntimeError: ")
        raise RuntimeError(f"{model.path}: {cause}") from None
    return lambda: module(*arguments)
