# SPDX-License-Identifier: GPL-3.0-or-later
"""Studies: many nets trained side by side on one machine within a given time, and compared.

A study file names nets, settings (losses and temperatures) and runs; a run trains some pairs of the
two on the same batches with one seed and one teacher. Every run is a process; all share one cache
of slots and of each teacher's LLRs. How many steps fit is measured first, and all runs get as many:
recipes as run are in the study's folder, RUN/recipe.toml, from whose checkpoints the same study
goes on. A sweep has no such limit of time and runs on a cluster.
"""

import multiprocessing
import os
import shutil
import sys
import time
import tomllib
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import tomli_w
import torch

from deeprx_common import limits
from deeprx_common.files import replacing

from .. import rules
from ..data import seeds
from ..data.channels import EVALUATION_CHANNELS, TRAINING_CHANNELS
from ..evaluation.evaluate import PERFECT, Evaluation, evaluation_conditions
from ..files import TrainingError
from ..receivers.flop import flop_per_slot
from ..receivers.nets import count_parameters
from ..teaching import recipe as recipes
from ..teaching.train import Trainer, load_receiver, share_classical
from .sweep import as_table, ber_rows, member_facts, write_table
from .sweep_file import Trial

STUDIES = Path(__file__).parents[2] / "studies"
SLOT_BYTES = 210_000  # of cache, with the LLRs of three teachers
FILL_SHARE, PROBE_SHARE, COUNT_SHARE, SPARE = 0.25, 0.03, 0.2, 0.93
PROBE_S = 60.0  # at most: these steps are not kept
PATIENCE_S = 300.0  # beyond the end, with who counts: it looks at the clock between batches only
WARM_STEPS = 24  # most likely with every modulation


class StudyError(ValueError):
    """A study that cannot be run; the message is one line."""


@dataclass(frozen=True)
class Examination:
    """What is counted after training: at most so many slots a point, as long as time lasts.

    set: validation (the training channels, a seed of their own: settings are chosen on it) or
    evaluation; runs: of which nets, all if empty; rates: of LDPC codes whose block errors are
    counted too.
    """

    set: str
    domain: str
    sinr_db: tuple[float, ...]
    slots: int
    runs: tuple[str, ...] = ()
    rates: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "-".join([self.set, self.domain, *(["coded"] if self.rates else [])])


@dataclass(frozen=True)
class Study:
    """runs: {name: recipe as a table, without steps}; steps: at most."""

    runs: dict[str, dict]
    examinations: tuple[Examination, ...]
    steps: int

    @property
    def teachers(self) -> list[str]:
        """Those that are there."""
        named = dict.fromkeys(r["teacher"] for r in self.runs.values() if r.get("teacher"))
        return [t for t in named if Path(t.partition(":")[0]).is_file()]


def load(path: str | Path) -> Study:
    """Read a study file; StudyError or RecipeError is one line that names what is wrong."""
    try:
        table = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not a TOML file: {error}") from None
    known = {"steps", "recipe", "nets", "settings", "run", "examination"}
    if set(table) != known:
        odd = sorted(set(table) ^ known)[0]
        raise StudyError(f"{path}: expected {', '.join(sorted(known))}; look at {odd!r}")
    runs = {}
    for run in table["run"]:
        if not {"name", "members"} <= set(run):
            raise StudyError(f"{path}: a [[run]] needs a name and members")
        members = []
        for net, setting in run["members"]:
            if net not in table["nets"] or setting not in table["settings"]:
                raise StudyError(
                    f"{path}: run {run['name']}: no net {net!r} or setting {setting!r}"
                )
            member = {"name": f"{net}-{setting}", "net": table["nets"][net]}
            members.append(member | table["settings"][setting])
        changes = {k: v for k, v in run.items() if k not in ("name", "members")}
        runs[run["name"]] = table["recipe"] | changes | {"members": members}
    examinations, required = [], ("set", "domain", "sinr_db", "slots")
    try:
        rules.table({"steps": table["steps"]}, {"steps": rules.whole(1)})
        for found in table["examination"]:
            checked = rules.table(found, _EXAMINATION, required)
            if unknown := sorted(set(checked.get("runs", ())) - set(runs)):
                raise ValueError(f"runs: no run {unknown[0]!r}")
            examinations.append(Examination(**checked))
    except ValueError as error:
        raise StudyError(f"{path}: {error}") from None
    return Study(runs, tuple(examinations), table["steps"])


def _rate(value: str) -> str:
    try:
        if 0 < Fraction(value) < 1:
            return value
    except (ValueError, TypeError, ZeroDivisionError):
        pass
    raise ValueError(f'expected a code rate below 1, e.g. "1/2", found {value!r}')


_EXAMINATION = {
    "set": rules.choice("validation", "evaluation"),
    "domain": rules.choice("frequency", "time"),
    "sinr_db": rules.several(rules.number(*limits.SNR_DB)),
    "slots": rules.whole(2),
    "runs": rules.several(rules.text),
    "rates": rules.several(_rate),
}


class _OutOfTime(Exception):
    pass


class _Worker:
    """What a run's process does when it is asked to; deadlines are time.monotonic()."""

    def __init__(self, name, table, folder: Path, cache: Path, device: str, compile_nets: bool):
        self.name, self.table, self.folder = name, table, folder
        self.cache, self.device, self.compile = cache, device, compile_nets
        self.trainer: Trainer | None = None

    def open(self, distinct: int) -> int | None:
        """Get everything ready that the first step would wait for; how many steps this run was
        begun with, if it was.
        """
        self.table["distinct"] = distinct
        checkpoint, steps = self.folder / "last.ckpt", None
        if checkpoint.exists():
            begun = tomllib.loads((self.folder / "recipe.toml").read_text())
            steps = begun.pop("steps")
            if begun != tomllib.loads(tomli_w.dumps(self.table)):
                raise TrainingError(f"{checkpoint}: of another study; choose another --out")
        self._start(self.folder / "probe", steps=10**6)
        return steps

    def _start(self, out: Path, steps: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(out / "recipe.toml") as temporary:
            Path(temporary).write_text(tomli_w.dumps(self.table | {"steps": steps}))
        recipe = recipes.load(out / "recipe.toml")
        self.trainer = Trainer(recipe, out, self.device, self.compile, self.cache)

    def fill(self, part: int, parts: int, deadline: float) -> None:
        """This worker's part of the cache; what is not there by then is drawn while training."""
        for _ in self.trainer.feed.fill(part, parts):
            if time.monotonic() > deadline:
                return

    def warm(self) -> None:
        """Some steps, so that nothing is compiled or tuned while it is timed."""
        try:
            self._steps(WARM_STEPS)
        except Exception as error:
            if not self.compile:
                raise
            print(f"not compiled: {error!r}", flush=True)
            self.compile = False
            self._start(self.folder / "probe", steps=10**6)
            self._steps(WARM_STEPS)

    def probe(self, seconds: float) -> float:
        """Seconds a step takes while all runs train."""
        marks = self._steps(10**6, seconds)
        late = marks[len(marks) // 3 :]
        return (late[-1] - late[0]) / (len(late) - 1) if len(late) > 1 else seconds

    def _steps(self, count: int, seconds: float | None = None) -> list[float]:
        """So many steps, or so many seconds; when each began."""
        marks = []

        def mark():
            marks.append(time.monotonic())
            if len(marks) >= count:
                self.trainer.stop()

        self.trainer.fit(max_seconds=seconds, on_step=mark)
        return marks

    def train(self, steps: int, deadline: float) -> int:
        self.trainer = None
        shutil.rmtree(self.folder / "probe")
        self._start(self.folder, steps)
        self.trainer.resume()
        self.trainer.fit(max_seconds=deadline - time.monotonic())
        step, self.trainer = self.trainer.step, None
        if self.device == "cuda":
            torch.cuda.empty_cache()
        return step

    def count(self, examination: Examination, references: dict[str, str], deadline: float) -> int:
        """Writes NAME.npz beside the runs' folders; returns the slots a point that were counted."""
        nets = {name: load_receiver(f, rebuild=True)[1] for name, f in references.items()}
        share_classical(nets.values())
        channels, seed = EVALUATION_CHANNELS, seeds.EVALUATION
        if examination.set == "validation":
            channels, seed = TRAINING_CHANNELS, seeds.VALIDATION
        device = "cuda" if self.device != "cpu" and torch.cuda.is_available() else "cpu"
        run = Evaluation(
            nets,
            list(examination.sinr_db),
            examination.slots,
            evaluation_conditions(examination.domain, channels=channels),
            seed,
            device,
            tuple(Fraction(r) for r in examination.rates),
            ideals=(PERFECT,),
        )

        def check(_slots):
            if time.monotonic() > deadline:
                raise _OutOfTime

        try:
            run.run(check)
        except _OutOfTime:
            print(f"{examination.name}: out of time", flush=True)
        counted = run.counted()
        blocks = {
            f"block_errors {rate} {name}": wrong
            for rate, of in counted.block_errors.items()
            for name, wrong in of.items()
        }
        with replacing(self.folder.parent / f"{examination.name}.npz") as temporary:
            np.savez_compressed(
                temporary,
                sinr_db=counted.sinr_db,
                n_bits=counted.config.n_bits,
                **{f"errors {n}": e.astype(np.int32) for n, e in counted.errors.items()},
                **blocks,
            )
        return counted.slots


def _serve(pipe, log: Path, threads: int, *about) -> None:
    """A worker process: (order, arguments) in, (what went wrong, result) out."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(threads)
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # not a pool for each worker
    worker = _Worker(*about)
    while True:
        try:
            order, *arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(("", getattr(worker, order)(*arguments)))
        except Exception as error:
            print(f"{order}: {error!r}", flush=True)
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            pipe.send((f"{type(error).__name__}: {line}", None))


class _Crew:
    """The workers that are left: one that fails an order is dropped, and said to be."""

    def __init__(self, study: Study, out: Path, cache: Path, device: str, compile_nets: bool):
        spawn = multiprocessing.get_context("spawn")
        threads = 1 if device == "cuda" else max(1, len(os.sched_getaffinity(0)) // len(study.runs))
        self._pipes, self._processes = {}, {}
        for name, table in study.runs.items():
            ours, theirs = spawn.Pipe()
            about = (name, table, out / name, cache, device, compile_nets)
            log = out / name / "worker.log"
            process = spawn.Process(target=_serve, args=(theirs, log, threads, *about), daemon=True)
            process.start()
            theirs.close()
            self._pipes[name], self._processes[name] = ours, process

    @property
    def names(self) -> list[str]:
        return list(self._pipes)

    def ask(self, orders: dict[str, tuple], deadline: float) -> dict:
        """Send each worker its order; {worker: result} of those that did it in time."""
        results, open_ = {}, {}
        for name, order in orders.items():
            try:
                self._pipes[name].send(order)
                open_[self._pipes[name]] = name
            except OSError:
                self._drop(name, "its process died")
        while open_:
            ready = wait(list(open_), timeout=max(0.0, deadline - time.monotonic()))
            for pipe in ready:
                name = open_.pop(pipe)
                try:
                    wrong, results[name] = pipe.recv()
                except (EOFError, OSError):
                    wrong = "its process died"
                if wrong:
                    results.pop(name, None)
                    self._drop(name, f"{orders[name][0]}: {wrong}")
            if not ready:
                for name in open_.values():
                    self._drop(name, f"{orders[name][0]}: out of time")
                return results
        return results

    def _drop(self, name: str, why: str) -> None:
        print(f"{name}: {why}; the others go on", file=sys.stderr, flush=True)
        self._processes.pop(name).kill()
        self._pipes.pop(name).close()

    def close(self) -> None:
        for pipe in self._pipes.values():
            pipe.close()
        for process in self._processes.values():
            process.join(30)
            process.kill()


def run(
    study: Study, out: Path, cache: Path, seconds: float, device: str, compile_nets: bool = False
) -> None:
    """Train and count within so many seconds; writes each run's folder, NAME.npz of each
    examination, results.parquet and results.csv.
    """
    begin = time.monotonic()
    end = begin + seconds
    cache.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)

    def say(text):
        print(f"{time.monotonic() - begin:5.0f} s  {text}", flush=True)

    crew = _Crew(study, out, cache, device, compile_nets)
    try:
        _train(study, crew, cache, end, seconds, say)
        _count(study, crew, out, end, say)
    finally:
        crew.close()
    tabulate(study, out)
    say(f"{out}: results.parquet, results.csv")


def _train(study: Study, crew: _Crew, cache: Path, end: float, seconds: float, say) -> None:
    distinct = {}
    for name, table in study.runs.items():
        fits = int(0.8 * shutil.disk_usage(cache).free / SLOT_BYTES / table["batch"])
        wanted = min(table["distinct"], fits)
        distinct[name] = wanted // table["chunk"] * table["chunk"]
    patience = end - COUNT_SHARE * seconds
    fill_until = end - (1 - FILL_SHARE) * seconds
    begun = crew.ask({n: ("open", distinct[n]) for n in crew.names}, patience)
    say(f"{len(crew.names)} of {len(study.runs)} runs ready, {min(distinct.values())} batches each")
    # the teacher that most runs share goes first and draws the slots for all, while one run
    # compiles what the others then find compiled
    teams: dict[str, list[str]] = {}
    first, *others = crew.names
    for name in others:
        teams.setdefault(study.runs[name].get("teacher", ""), []).append(name)
    order = sorted(teams, key=lambda t: (not t, -len(teams[t])))
    parts = {first: ("warm",)}
    for teachers in (order[:1], order[1:]):
        for team in (teams[t] for t in teachers if t or len(teams) == 1):
            parts |= {n: ("fill", i, len(team), fill_until) for i, n in enumerate(team)}
        crew.ask({n: p for n, p in parts.items() if n in crew.names}, patience)
        parts = {}
    say("cache filled")
    crew.ask({n: ("warm",) for n in crew.names if n != first}, patience)
    say("compiled and warm")
    if not crew.names:
        raise StudyError("no run could train; their worker.log says why")
    deadline = end - COUNT_SHARE * seconds
    steps = max((s for s in begun.values() if s), default=0)
    if steps:
        say(f"going on to step {steps}")
    else:
        probe_s = min(PROBE_S, PROBE_SHARE * seconds)
        pace = crew.ask({n: ("probe", probe_s) for n in crew.names}, patience)
        if not pace:
            raise StudyError("no run could train; their worker.log says why")
        # between runs that wait for one GPU (the mean) and runs that do not wait at all (the
        # slowest)
        step_s = (np.mean(list(pace.values())) + max(pace.values())) / 2
        steps = max(1, min(study.steps, int(SPARE * (deadline - time.monotonic()) / step_s)))
        each = ", ".join(f"{n} {1e3 * s:.0f}" for n, s in pace.items())
        say(f"{steps} steps of {1e3 * step_s:.0f} ms ({each})")
    done = crew.ask({n: ("train", steps, deadline) for n in crew.names}, deadline + 20)
    short = [f"{n} only {s}" for n, s in done.items() if s < steps]
    say(f"{len(done)} runs trained" + (f"; {', '.join(short)}" if short else ""))


def _references(study: Study, out: Path, examination: Examination) -> dict[str, str]:
    """{name in the files: checkpoint or model file} of what there is."""
    found = {f"teacher/{t}": t for t in study.teachers}
    for name, table in study.runs.items():
        checkpoint = out / name / "last.ckpt"
        if checkpoint.exists() and (not examination.runs or name in examination.runs):
            names = [m["name"] for m in table["members"]]
            found |= {f"{name}/{m}": f"{checkpoint}:{m}" for m in names}
    return found


def _count(study: Study, crew: _Crew, out: Path, end: float, say) -> None:
    todo = list(study.examinations)
    while todo and crew.names:
        some = dict(zip(crew.names, todo, strict=False))
        orders = {n: ("count", e, _references(study, out, e), end) for n, e in some.items()}
        done = crew.ask(orders, end + PATIENCE_S)
        for name, slots in done.items():
            say(f"{some[name].name}: {slots} slots a point")
        todo = todo[len(some) :]


def tabulate(study: Study, out: Path) -> None:
    """The tables of what was counted, in the form of a sweep's."""
    facts = {}
    for teacher in study.teachers:
        net = load_receiver(teacher, rebuild=True)[1]
        facts[f"teacher/{teacher}"] = {"trial": "", "kind": "teacher", "receiver": teacher} | _size(
            net
        )
    for name in study.runs:
        folder = out / name
        if not (folder / "last.ckpt").exists():
            continue
        recipe = recipes.load(folder / "recipe.toml")
        trial = Trial(name, recipe.text, taught_by=recipe.teacher)
        for member in recipe.members:
            net = load_receiver(f"{folder / 'last.ckpt'}:{member.name}")[1]
            known = member_facts(trial, recipe, member) | {"receiver": member.name}
            facts[f"{name}/{member.name}"] = known | _size(net)
    rows = []
    for examination in study.examinations:
        file = out / f"{examination.name}.npz"
        if examination.rates or not file.exists():
            continue
        with np.load(file) as counted:
            errors = {
                key.removeprefix("errors "): counted[key]
                for key in counted.files
                if key.startswith("errors ")
            }
            what = {"set": examination.set, "domain": examination.domain, "modulation": "16QAM"}
            rows += ber_rows(facts, errors, int(counted["n_bits"]), counted["sinr_db"], what)
    if not rows:
        raise StudyError(f"{out}: nothing was counted")
    write_table(as_table(rows), out)


def _size(net) -> dict:
    flop = flop_per_slot(net, net.n_rx if hasattr(net, "n_rx") else 2)
    return {"params": count_parameters(net), "flop_per_slot": flop["matmul"] + flop["other"]}
