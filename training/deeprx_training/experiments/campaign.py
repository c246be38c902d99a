# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of evaluations counted side by side by Ray's workers, on this machine or on a cluster.

A part is a pure function of its evaluation, and every worker has the same number of threads: who
counts what, and how many there are, changes no number.
"""

import hashlib
import os
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from deeprx_common import gold, mcs, modulation, slot
from deeprx_common.commands import Failure, is_told

from .. import data, receivers
from ..data.feed import code_sha256
from ..evaluation import coded, evaluate
from ..evaluation.evaluate import CountEach, Counts, Evaluation, EvaluationError, Part
from ..teaching.checkpoint import ReceiverFile, read_receiver

STEP_S = 0.5  # between looks at what has arrived, in which Ctrl-C is heard


@dataclass(frozen=True)
class Plan:
    """An evaluation as any process can make it. kept: its folder, which tells plans apart;
    receivers: as the command line names them, and the SHA-256 of their files; trust: SHA-256 of
    programs that may run; arguments: all others of Evaluation.
    """

    kept: Path
    receivers: tuple[tuple[str, str], ...] = field(compare=False)
    trust: tuple[str, ...] = field(compare=False)
    arguments: dict = field(compare=False)

    def evaluation(self, nets: dict[str, nn.Module]) -> Evaluation:
        return Evaluation(nets, **self.arguments, kept=self.kept)


def files_of(receivers: Iterable[ReceiverFile]) -> tuple[tuple[str, str], ...]:
    """A Plan's receivers."""
    return tuple((str(r.reference), r.sha256) for r in receivers)


def fingerprint(receivers: Iterable[ReceiverFile], **arguments) -> str:
    """Of all that an Evaluation's counts depend on but its number of slots, hexadecimal: the
    receivers' files, its other arguments, libraries and the code that draws and counts.
    """
    files = [(r.sha256, r.reference.member, r.reference.rounds) for r in receivers]
    known = [files, sorted(arguments.items()), _code()]
    return hashlib.sha256(repr(known).encode()).hexdigest()[:16]


@cache
def _code() -> list[str]:
    import sionna

    common = gold, mcs, modulation, slot
    code = code_sha256(*_modules(data), *_modules(receivers), evaluate, coded, *common)
    return [code, torch.__version__, sionna.__version__]


def _modules(package: ModuleType) -> list[ModuleType]:
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return [import_module(f"{package.__name__}.{name}") for name in names]


@lru_cache(maxsize=1)
def _nets(receivers: tuple[tuple[str, str], ...], trust: tuple[str, ...]) -> dict[str, nn.Module]:
    nets = {}
    for reference, sha256 in receivers:
        read = read_receiver(reference, trust=trust)
        if read.sha256 != sha256:
            raise EvaluationError(
                f"{read.reference.file}: was exchanged while it was evaluated: expected the "
                f"SHA-256 {sha256}, found {read.sha256}"
            )
        nets[read.name] = read.net
    return nets


@lru_cache(maxsize=64)
def _evaluation(plan: Plan) -> Evaluation:
    return plan.evaluation(_nets(plan.receivers, plan.trust))


def _count(
    evaluation: Callable[[Plan], Evaluation], plan: Plan, part: Part
) -> Counts | EvaluationError:
    try:
        return evaluation(plan).count(part)
    except EvaluationError as error:
        return error


def _count_on_ray(plan: Plan, part: Part, threads: int, folder: str) -> Counts | EvaluationError:
    os.chdir(folder)
    torch.set_num_threads(threads)
    try:
        return _count(_evaluation, plan, part)
    except Exception as error:
        error.told = is_told(error)  # where it is raised again, nobody can tell
        raise


Tasks = Iterator[tuple[Plan, Part] | None]  # None: nothing to do until more has been counted
Counted = Iterator[tuple[Plan, Part, Counts | EvaluationError]]
Pool = Callable[[Tasks], Counted]


def here(receivers: Iterable[ReceiverFile]) -> Pool:
    """A Pool that is this process, with its receivers."""
    nets = {r.name: r.net for r in receivers}
    evaluation = lru_cache(maxsize=64)(lambda plan: plan.evaluation(nets))
    return lambda tasks: ((plan, part, _count(evaluation, plan, part)) for plan, part in tasks)


def counting(pool: Pool, plan: Plan) -> CountEach:
    """Parts of one plan, counted by a Pool; raises what it found wrong."""

    def each(parts: Iterable[Part]) -> Iterator[tuple[Part, Counts]]:
        for _, part, counts in pool((plan, part) for part in parts):
            if isinstance(counts, EvaluationError):
                raise counts
            yield part, counts

    return each


@contextmanager
def ray_pool(address: str | None, workers: int | None, threads: int, gpu: bool) -> Iterator[Pool]:
    """A Pool of so many of Ray's workers with as many threads each; workers: None for as many as
    the cluster has cores for. gpu: whether each needs one. The cluster's machines share folders.

    Its iterator raises what a worker raised; Failure where one was lost.
    """
    from .cluster import cluster  # takes a second, and most evaluations have no workers

    with cluster(address) as ray:
        resources = ray.cluster_resources()
        most = int(resources.get("GPU", 0) if gpu else resources.get("CPU", 1) // threads)
        most = max(1, min(most, workers or most))
        task = ray.remote(_count_on_ray).options(num_cpus=threads, num_gpus=float(gpu))

        def pool(tasks: Tasks) -> Counted:
            flying = {}
            while True:
                while len(flying) < most and (todo := next(tasks, None)):
                    flying[task.remote(*todo, threads, os.getcwd())] = todo
                if not flying:
                    return
                for ref in ray.wait(list(flying), timeout=STEP_S)[0]:
                    yield *flying.pop(ref), _result(ray, ref)

        yield pool


def _result(ray: ModuleType, ref) -> Counts | EvaluationError:
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise Failure(
            f"a worker was lost: {reason}; the same command goes on, --workers says how many there "
            "are at once"
        ) from error
