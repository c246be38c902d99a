# SPDX-License-Identifier: GPL-3.0-or-later
"""What a contender is told, what it answers, and how a model file is loaded for it.

It imports NumPy and deeprx_common only: start-up time and memory are those of the contender alone.
"""

import io
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from deeprx_common.examples import received_slots
from deeprx_common.model_archive import read_model_file
from deeprx_common.shipped import CLASSICAL
from deeprx_common.slot import SlotConfig

WARM_UP = 0.2  # of a turn, before what is counted: other contenders had the caches


@dataclass(frozen=True)
class Job:
    """What a contender does. model: its file, in the form the contender takes. slot: as
    SlotConfig.as_dict() gives it, of one user.

    batch: slots of an inference, in the block the most of one. queued: slots that the block's input
    holds at least; 0: as GNU Radio sizes it. cores: the process may use. jail_cores: its jail may,
    as the file is not trusted; []: it is. anew: an engine is made anew for each turn, as where its
    memory happens to lie makes more of a difference than a jail. llr: where the LLRs of the first
    batch go; "": nowhere. quantized_engine: that the file needs of LibTorch. jail: limits, as
    JailLimits takes them. sir_db: of an interferer in every slot, as received_slots() takes it.
    """

    contender: str
    model: str
    slot: dict
    n_rx: int
    cores: list[int]
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 1
    batch: int = 1
    queued: int = 0
    llr: str = ""
    quantized_engine: str = ""
    jail_cores: list[int] = field(default_factory=list)
    anew: bool = False
    jail: dict[str, float] = field(default_factory=dict)
    sir_db: float | None = None

    @property
    def trust(self) -> list[str]:
        """Files that need no jail."""
        return [] if self.jail_cores or self.model in CLASSICAL else [self.model]

    @property
    def received(self) -> dict:
        """Keywords of what receives such slots."""
        return {"slot": self.config, "n_rx": self.n_rx}

    def slots(self, n: int, bits=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As received_slots() gives them."""
        return received_slots(self.config, self.n_rx, n, bits, self.sir_db)

    @cached_property
    def config(self) -> SlotConfig:
        return SlotConfig.from_dict(self.slot)


@dataclass(frozen=True)
class Turn:
    """What a contender did in its turn.

    busy_s: CPU time of the process. receiver_s: CPU time of what receives, worker threads included.
    calls_s: of each inference, per slot: CPU time on a CPU, wall time on a GPU. latencies_s: its
    wall time, where it is called without a flowgraph. work_overhead_s: CPU time of the watched
    block's calls without their inference. queued: mean slots that waited behind a batch; batch:
    mean slots of one. stages: as Engine.time_stages() gives them.
    """

    slots: int
    seconds: float
    busy_s: float
    receiver_s: float
    calls_s: list[float]
    latencies_s: list[float] = field(default_factory=list)
    work_overhead_s: list[float] = field(default_factory=list)
    queued: float = 0.0
    batch: float = 1.0
    stages: list[dict] = field(default_factory=list)


def load_model(job: Job):
    """The model file as a torch.jit.ScriptModule, and what it needs set in this process."""
    import torch

    torch.set_num_threads(job.threads)
    if job.quantized_engine:
        torch.backends.quantized.engine = job.quantized_engine
    program = io.BytesIO(read_model_file(job.model).rewritten())
    return torch.jit.load(program, map_location="cpu").eval().to(job.device)


def traced(job: Job, convolutions=None):
    """The operators that a model file runs on a batch of this shape, as a torch.fx.GraphModule that
    takes y and p.

    convolutions: their dtype; None: as the file has them.
    """
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.utils._python_dispatch import TorchDispatchMode

    empty, item = torch.ops.aten.empty.memory_format, torch.ops.aten._local_scalar_dense.default
    made = []

    class Made(TorchDispatchMode):
        """TorchScript's torch.tensor() fills what aten.empty gives unseen by the tracer."""

        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            out = operator(*args, **(kwargs or {}))
            if operator is empty:
                made.append(out)
            return out

    def receive(y, p):
        with Made():
            return receiver(y, p, d, [job.config.bits_per_symbol])

    y, p, d = (torch.from_numpy(a).to(job.device) for a in job.slots(job.batch))
    receiver = load_model(job)
    for part in receiver.modules():
        if convolutions and part.original_name.startswith("Conv"):
            part.to(convolutions)
    receiver = torch.jit.freeze(receiver)
    with torch.no_grad():
        # what the program decides by is as these slots have it
        module = make_fx(receive, _error_on_data_dependent_ops=False)(y, p)
    for node in module.graph.find_nodes(op="call_function", target=item):
        module.graph.erase_node(node)
    empties = module.graph.find_nodes(op="call_function", target=empty)
    for i, (node, tensor) in enumerate(zip(empties, made, strict=True)):
        module.register_buffer(f"made_{i}", tensor.detach().clone())
        with module.graph.inserting_before(node):
            node.replace_all_uses_with(module.graph.get_attr(f"made_{i}"))
        module.graph.erase_node(node)
    module.recompile()
    return module
