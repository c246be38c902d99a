# SPDX-License-Identifier: GPL-3.0-or-later
"""The groups of an experiment side by side on Ray, on this machine or on a cluster: as many at once
as there are cores for. An experiment that is run again, changed or not, repeats no finished group
and resumes half-trained ones.
"""

import json
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from deeprx_common.terminal import make_console, progress_bar

from .energy import measure_all
from .file import Experiment, ExperimentError
from .group import FAILED, Job, explained, run_group
from .table import gather, is_finished


@dataclass(frozen=True)
class Means:
    """What an experiment may use. address: HOST:PORT of a Ray cluster's head, None for this machine
    alone. cpus: cores, and threads, of each group, None for an equal part; gpus: share of a GPU of
    each, None for a whole one where there are any.
    """

    address: str | None = None
    cpus: int | None = None
    gpus: float | None = None
    cache: Path | None = None
    compile: bool = False


def run(experiment: Experiment, out: Path, means: Means) -> dict[str, str]:
    """Run the groups that are not finished, then what receivers take of energy on this machine;
    returns {name: one line why} of those that failed.

    Ctrl-C lets the running groups save their state, then raises KeyboardInterrupt. The tables are
    written whatever happens.
    """
    todo = [g for g in experiment.groups if not is_finished(out / g.name, experiment, g)]
    for group in todo:
        (out / group.name).mkdir(parents=True, exist_ok=True)
    try:
        failed = {}
        if todo:
            with cluster(means.address) as ray:
                cpus, gpus = _shares(ray, means, len(todo))
                jobs = [
                    Job(g, experiment, out, os.getcwd(), cpus, gpus, means.cache, means.compile)
                    for g in todo
                ]
                failed = _Queue(ray, jobs, len(experiment.groups)).run()
        gpu = torch.cuda.is_available() and means.gpus != 0
        threads = means.cpus or torch.get_num_threads()
        return failed | measure_all(experiment, out, "cuda" if gpu else "cpu", threads)
    finally:
        gather(experiment, out)


@contextmanager
def cluster(address: str | None) -> Iterator[ModuleType]:
    """Ray at an address, or on this machine's loopback, for as long as the body runs.

    Raises ExperimentError where there is no cluster at the address.
    """
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "error"}
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    with tempfile.TemporaryDirectory(prefix="deeprx-", ignore_cleanup_errors=True) as files:
        if not address:
            # the switch is named after other systems, but is what keeps Ray on loopback
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
            # a token of this process alone: Ray's own stays in the user's home, for all to read
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        else:
            _reach(address)
        import ray  # reads the environment

        # Ray takes SIGTERM for itself and then ends the process with its own last words
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        if not address:
            ray.init(
                num_cpus=len(os.sched_getaffinity(0)),
                include_dashboard=False,
                object_store_memory=100 << 20,
                _temp_dir=files,
                **quiet,
            )
        else:
            try:
                ray.init(address=address, **quiet)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise ExperimentError(
                    f"--address {address}: {str(error).strip().splitlines()[0]}; if that cluster "
                    "wants a token, set RAY_AUTH_MODE=token"
                ) from None
        for number, handler in handlers.items():
            signal.signal(number, handler)
        try:
            yield ray
        finally:
            ray.shutdown()


def _reach(address: str) -> None:
    """Ray itself would try for a minute."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ExperimentError(f"--address: expected HOST:PORT, found {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise ExperimentError(
            f"--address {address}: no Ray cluster can be reached there ({error}); start one with: "
            "ray start --head"
        ) from None


def _shares(ray: ModuleType, means: Means, groups: int) -> tuple[int, float]:
    """Cores and GPU of each of so many groups; ExperimentError where no machine has as much."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(m.get("CPU", 0)) for m in machines]
    cpus = means.cpus or max(1, min(sum(cores) // groups, max(cores)))
    gpus = means.gpus
    if gpus is None:
        gpus = min(1.0, sum(m.get("GPU", 0.0) for m in machines))
    if not any(m.get("CPU", 0) >= cpus and m.get("GPU", 0) >= gpus for m in machines):
        most = max(machines, key=lambda m: m.get("CPU", 0))
        raise ExperimentError(
            f"a group asks for {cpus} CPU cores and {gpus:g} GPU, the largest machine has "
            f"{most.get('CPU', 0):g} and {most.get('GPU', 0):g}"
        )
    return cpus, gpus


class _Queue:
    """Jobs on Ray, in order. groups: of the experiment, those that are finished included."""

    def __init__(self, ray: ModuleType, jobs: list[Job], groups: int):
        self.ray, self.groups = ray, groups
        self.jobs = {job.group.name: job for job in jobs}
        self.failed: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        refs = {}
        for name, job in self.jobs.items():
            # a dead process is reported, not tried again: the next run goes on from its checkpoint
            options = {"num_cpus": job.threads, "num_gpus": job.gpu, "max_retries": 0}
            task = self.ray.remote(run_group).options(**options)
            refs[name] = task.remote(job, refs.get(job.group.teacher))
        try:
            self._watch({ref: name for name, ref in refs.items()})
        except KeyboardInterrupt:
            print("stopping: the running groups save their state", file=sys.stderr)
            for ref in refs.values():
                self.ray.cancel(ref)
            self.ray.wait(list(refs.values()), num_returns=len(refs), timeout=60)
            raise
        return self.failed

    def _watch(self, names: dict) -> None:
        """Show progress until every group has ended."""
        with progress_bar(make_console(), "{task.completed:.0f}/{task.total:.0f}") as progress:
            finished = self.groups - len(names)
            whole = progress.add_task("groups", total=self.groups, completed=finished)
            bars = {}
            while names:
                ready, _ = self.ray.wait(list(names), num_returns=len(names), timeout=0.5)
                for ref in ready:
                    name = names.pop(ref)
                    line = self._outcome(ref, name)
                    progress.console.print(line, highlight=False, markup=False, soft_wrap=True)
                    if name in bars:
                        progress.remove_task(bars.pop(name))
                    progress.advance(whole)
                for name in names.values():
                    if (step := _step(self.jobs[name].folder)) is not None:
                        if name not in bars:
                            steps = self.jobs[name].group.steps
                            bars[name] = progress.add_task(name, total=steps)
                        progress.update(bars[name], completed=step)

    def _outcome(self, ref, name: str) -> str:
        """One line about a group that has ended; of one that failed, what Python said goes into
        failed.txt of its folder.
        """
        job, exceptions = self.jobs[name], self.ray.exceptions
        failure = job.folder / FAILED
        failure.unlink(missing_ok=True)
        try:
            self.ray.get(ref)
            return f"finished {name}"
        except exceptions.RayTaskError as error:
            failure.write_text(f"{error}\n")
            why = explained(error.cause)
        except exceptions.RayError as error:
            failure.write_text(f"{error}\n")
            memory = isinstance(error, exceptions.OutOfMemoryError)
            why = "the machine ran out of memory" if memory else "its process died"
            why = f"{why} ({failure} says more); run again to resume it"
        if job.group.teacher in self.failed:
            why = f"its teacher failed: {job.group.teacher}"
        self.failed[name] = why
        return f"failed {name}: {why}"


def _step(folder: Path) -> int | None:
    """The last step that a group has logged, None before the first."""
    try:
        with (folder / "log.jsonl").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
            return json.loads(log.read().splitlines()[-1])["step"]
    except (OSError, LookupError, TypeError, ValueError):
        return None
