# SPDX-License-Identifier: GPL-3.0-or-later
"""The groups of an experiment side by side on Ray: on this machine, or on a cluster.

Either every group is trained to its recipe's end, as many at once as there are cores for, or,
within a given time, all at once for as many steps as fit, which is measured first. An experiment
that is run again, changed or not, repeats no finished group and resumes half-trained ones.
"""

import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from deeprx_common.terminal import make_console, progress_bar

from ..files import TrainingError
from ..teaching import recipe as recipes
from .file import Experiment, ExperimentError, Group
from .run import STOP, GroupRun, gather, is_finished, run_group, with_steps

SLOT_BYTES = 210_000  # of cache, with the LLRs of three teachers
FILL_SHARE, PROBE_SHARE, COUNT_SHARE, SPARE = 0.25, 0.03, 0.2, 0.93
PROBE_S = 60.0  # at most: these steps are not kept
PATIENCE_S = 300.0  # beyond the end, with who counts: it looks at the clock between batches only


@dataclass(frozen=True)
class Means:
    """What an experiment may use. address: HOST:PORT of a Ray cluster's head, None for this machine
    alone. cpus: cores, and threads, of each group; gpus: share of a GPU of each, None for what
    there is: a whole one, or within given seconds, where all groups run at once, an equal part.
    """

    address: str | None = None
    cpus: int | None = None
    gpus: float | None = None
    cache: str | None = None
    compile: bool = False
    seconds: float | None = None


def run(experiment: Experiment, out: str | Path, means: Means) -> dict[str, str]:
    """Run the groups that are not finished; returns {name: one line why} of those that failed.

    Ctrl-C lets the running groups save their state, then raises KeyboardInterrupt. The tables are
    written whatever happens.
    """
    if means.cpus is not None and means.cpus < 1:
        raise ExperimentError(f"--cpus: expected at least 1, found {means.cpus}")
    if means.gpus is not None and not 0 <= means.gpus <= 1:
        raise ExperimentError(f"--gpus: expected a share between 0 and 1, found {means.gpus:g}")
    out = Path(out)
    todo = [g for g in experiment.groups if not is_finished(out / g.name, experiment, g)]
    if means.seconds and any(g.teacher for g in todo):
        raise ExperimentError(
            "--minutes: all groups run at once, and some wait for teachers of this experiment: run "
            "it without, or train those first"
        )
    for group in todo:
        (out / group.name).mkdir(parents=True, exist_ok=True)
    try:
        if not todo:
            return {}
        with cluster(means.address) as ray:
            return (_Timed if means.seconds else _Queue)(ray, experiment, out, means, todo).run()
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


class _Groups:
    """The groups that are to be run, on Ray."""

    def __init__(self, ray, experiment: Experiment, out: Path, means: Means, todo: list[Group]):
        self.ray, self.experiment, self.out, self.means = ray, experiment, out, means
        self.todo, self.failed = todo, {}
        nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
        at_once = len(todo) if means.seconds else 1
        self.cpus, self.gpus = means.cpus or 1, means.gpus
        if means.cpus is None and means.seconds:
            self.cpus = min(1.0, sum(n.get("CPU", 0) for n in nodes) / at_once)
        if self.gpus is None:
            self.gpus = min(1.0, sum(n.get("GPU", 0.0) for n in nodes) / at_once)
        if not any(n.get("CPU", 0) >= self.cpus and n.get("GPU", 0) >= self.gpus for n in nodes):
            most = max(nodes, key=lambda n: n.get("CPU", 0))
            raise ExperimentError(
                f"a group asks for {self.cpus:g} CPU cores and {self.gpus:g} GPU, the largest "
                f"machine has {most.get('CPU', 0):g} and {most.get('GPU', 0):g}"
            )

    def about(self, group: Group) -> tuple:
        """What a GroupRun is made of."""
        threads = max(1, int(self.cpus))
        return (
            group, self.experiment, str(self.out), os.getcwd(), threads, self.gpus,
            self.means.cache, self.means.compile,
        )  # fmt: skip

    def outcome(self, ref, name: str):
        """(result, ""), or (None, one line why the group failed); what Python said goes into
        failed.txt of its folder.
        """
        failure = self.out / name / "failed.txt"
        failure.unlink(missing_ok=True)
        exceptions = self.ray.exceptions
        try:
            return self.ray.get(ref), ""
        except exceptions.RayTaskError as error:
            cause = error.cause
            failure.write_text(f"{error}\n")
            line = (str(cause).strip() or type(cause).__name__).splitlines()[0]
            expected = (recipes.RecipeError, TrainingError, ExperimentError, OSError)
            why = line if isinstance(cause, expected) else f"{type(cause).__name__}: {line}"
            return None, why
        except exceptions.RayError as error:
            failure.write_text(f"{error}\n")
            memory = isinstance(error, exceptions.OutOfMemoryError)
            why = "the machine ran out of memory" if memory else "its process died"
            return None, f"{why} ({failure} says more); run again to resume it"


class _Queue(_Groups):
    """To the end of every recipe, as many groups at once as there are cores for."""

    def run(self) -> dict[str, str]:
        # a dead process is reported, not tried again: the next run goes on from its checkpoint
        options = {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_retries": 0}
        task = self.ray.remote(run_group).options(**options)
        refs = {}
        for group in self.todo:  # teachers come first
            refs[group.name] = task.remote(self.about(group), refs.get(group.teacher))
        try:
            return self._watch({ref: name for name, ref in refs.items()})
        except KeyboardInterrupt:
            print("stopping: the running groups save their state", file=sys.stderr)
            for ref in refs.values():
                self.ray.cancel(ref)
            self.ray.wait(list(refs.values()), num_returns=len(refs), timeout=60)
            raise

    def _watch(self, names: dict) -> dict[str, str]:
        """Show progress until every group has ended."""
        groups = {g.name: g for g in self.todo}
        with progress_bar(make_console(), "{task.completed:.0f}/{task.total:.0f}") as progress:
            every = len(self.experiment.groups)
            whole = progress.add_task("groups", total=every, completed=every - len(groups))
            bars = {}
            while names:
                ready, _ = self.ray.wait(list(names), num_returns=len(names), timeout=0.5)
                for ref in ready:
                    name = names.pop(ref)
                    said = f"finished {name}"
                    _, why = self.outcome(ref, name)
                    if why:
                        teacher = groups[name].teacher
                        why = f"its teacher failed: {teacher}" if teacher in self.failed else why
                        self.failed[name] = why
                        said = f"failed {name}: {why}"
                    progress.console.print(said, highlight=False, markup=False, soft_wrap=True)
                    if name in bars:
                        progress.remove_task(bars.pop(name))
                    progress.advance(whole)
                for name in names.values():
                    if (step := _step(self.out / name)) is not None:
                        if name not in bars:
                            steps = recipes.parse(groups[name].recipe, name).steps
                            bars[name] = progress.add_task(name, total=steps)
                        progress.update(bars[name], completed=step)
        return self.failed


def _step(folder: Path) -> int | None:
    """The last step that a group has logged, None before the first."""
    try:
        with (folder / "log.jsonl").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
            return json.loads(log.read().splitlines()[-1])["step"]
    except (OSError, IndexError, ValueError):
        return None


class _Timed(_Groups):
    """All groups at once, for as many steps as fit into a given time."""

    def run(self) -> dict[str, str]:
        begin = time.time()
        seconds = self.means.seconds
        self.end, self.counting = begin + seconds, begin + (1 - COUNT_SHARE) * seconds
        self.say = lambda text: print(f"{time.time() - begin:5.0f} s  {text}", flush=True)
        options = {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_restarts": 0}
        actor = self.ray.remote(GroupRun).options(**options)
        self.workers = {g.name: actor.remote(*self.about(g)) for g in self.todo}
        try:
            self._train({g.name: self._text(g) for g in self.todo if g.recipe})
            orders = {n: ("examine", self.end) for n in self.workers}
            if slots := self._ask(orders, self.end + PATIENCE_S):
                self.say(f"{min(slots.values())} slots a point counted")
        finally:
            for worker in self.workers.values():
                self.ray.kill(worker)
        return self.failed

    def _ask(self, orders: dict[str, tuple], deadline: float) -> dict:
        """Send workers an order each; {worker: result} of those that did it in time. One that
        fails is dropped, and said to be.
        """
        refs = {
            getattr(self.workers[name], order).remote(*arguments): name
            for name, (order, *arguments) in orders.items()
        }
        results = {}
        while refs:
            wait_s = max(0.0, deadline - time.time())
            try:
                ready, late = self.ray.wait(list(refs), num_returns=1, timeout=wait_s)
            except KeyboardInterrupt:
                print("stopping: the running groups save their state", file=sys.stderr)
                for name in refs.values():
                    (self.out / name / STOP).touch()
                self.ray.wait(list(refs), num_returns=len(refs), timeout=30)
                raise
            for ref in ready or late:
                name, why = refs.pop(ref), "out of time"
                if ready:
                    results[name], why = self.outcome(ref, name)
                if why:
                    results.pop(name, None)
                    self.failed[name] = f"{orders[name][0]}: {why}"
                    said = f"{name}: {self.failed[name]}; the others go on"
                    print(said, file=sys.stderr, flush=True)
                    self.ray.kill(self.workers.pop(name))
        return results

    def _train(self, texts: dict[str, str]) -> None:
        """The groups of these recipes; teachers that are only examined wait."""

        def left() -> list[str]:
            return [name for name in texts if name in self.workers]

        self._ask({n: ("open", texts[n]) for n in left()}, self.counting)
        self.say(f"{len(left())} of {len(texts)} groups ready")
        if not left():
            return
        first, *others = left()
        self._fill(first, others, texts)
        self.say("cache filled")
        self._ask({n: ("warm",) for n in others if n in self.workers}, self.counting)
        self.say("compiled and warm")
        folders = [self.out / g.name for g in self.experiment.groups if g.recipe]
        begun = [f / "recipe.toml" for f in folders if (f / "last.ckpt").exists()]
        if steps := max((recipes.load(file).steps for file in begun), default=0):
            self.say(f"going on to step {steps}")
        else:
            most = min(recipes.parse(t, n).steps for n, t in texts.items())
            steps = self._fitting(left(), most)
        orders = {n: ("train", with_steps(texts[n], steps), self.counting) for n in left()}
        done = self._ask(orders, self.counting + 20)
        short = [f"{n} only {s}" for n, s in done.items() if s < steps]
        self.say(f"{len(done)} groups trained" + (f"; {', '.join(short)}" if short else ""))

    def _text(self, group: Group) -> str:
        """The recipe, with no more distinct batches than the cache's disk holds."""
        recipe = recipes.parse(group.recipe, group.name)
        distinct = recipe.distinct
        if self.means.cache:
            Path(self.means.cache).mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.means.cache).free
            distinct = min(distinct, int(0.8 * free / SLOT_BYTES / recipe.batch))
        distinct = distinct // recipe.chunk * recipe.chunk
        return with_steps(group.recipe, recipe.steps, distinct=distinct)

    def _fill(self, first: str, others: list[str], texts: dict[str, str]) -> None:
        """The slots and teacher that most groups share go first and are drawn by all of these,
        while one group compiles what the others then find compiled.
        """
        teams: dict[tuple, list[str]] = {}
        for name in others if self.means.cache else ():
            recipe = recipes.parse(texts[name], name)
            teams.setdefault((recipe.teacher, str(recipe.plan.slots)), []).append(name)
        orders: dict[str, tuple] = {first: ("warm",)}
        deadline = self.end - (1 - FILL_SHARE) * self.means.seconds
        ranked = sorted(teams.values(), key=len, reverse=True)
        for some in (ranked[:1], ranked[1:]):
            for team in some:
                orders |= {n: ("fill", i, len(team), deadline) for i, n in enumerate(team)}
            self._ask({n: o for n, o in orders.items() if n in self.workers}, self.counting)
            orders = {}

    def _fitting(self, names: list[str], most: int) -> int:
        """As many steps as fit, and at most so many."""
        seconds = min(PROBE_S, PROBE_SHARE * self.means.seconds)
        pace = self._ask({n: ("probe", seconds) for n in names}, self.counting)
        if not pace:
            return 1
        # between groups that wait for one GPU (the mean) and groups that do not wait at all (the
        # slowest)
        step_s = (np.mean(list(pace.values())) + max(pace.values())) / 2
        steps = max(1, min(most, int(SPARE * (self.counting - time.time()) / step_s)))
        each = ", ".join(f"{n} {1e3 * s:.0f}" for n, s in pace.items())
        self.say(f"{steps} steps of {1e3 * step_s:.0f} ms ({each})")
        return steps
