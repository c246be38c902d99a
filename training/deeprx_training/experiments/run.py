# SPDX-License-Identifier: GPL-3.0-or-later
"""One group of an experiment in one process: trained, examined, and put into the table.

DIR/GROUP/ holds the group's recipe.toml, its training run and, once it is examined, result.parquet
and, of examinations with codes, the block errors. DIR/results.parquet and results.csv gather them:
one row for each group, receiver, set, domain and SINR.
"""

import itertools
import json
import os
import shutil
import socket
import sys
import time
import tomllib
from contextlib import suppress
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import tomli_w
import torch

from deeprx_common.files import replacing
from deeprx_common.stats import error_rate

from ..data import seeds
from ..data.channels import EVALUATION_CHANNELS, TRAINING_CHANNELS
from ..evaluation.evaluate import LS, PERFECT, SURE, Counted, Evaluation, evaluation_conditions
from ..receivers.flop import flop_per_slot
from ..receivers.nets import count_parameters
from ..reference import Reference
from ..teaching import recipe as recipes
from ..teaching.checkpoint import load_receiver
from ..teaching.losses import LOSSES
from ..teaching.members import share_classical
from ..teaching.train import Trainer
from .file import Examination, Experiment, ExperimentError, Group

WARM_STEPS = 24  # most likely with every modulation
UNLIMITED = 10**6  # steps of a recipe that is only timed
STOP = "stop"  # a file in a group's folder that asks it to: no signal goes round a cluster
BASELINES = (LS, SURE, PERFECT)


class _OutOfTime(Exception):
    pass


class GroupRun:
    """What a group's process does. share: of a GPU, 0 for none. Deadlines are time.time()."""

    def __init__(
        self,
        group: Group,
        experiment: Experiment,
        out: str,
        cwd: str,
        threads: int,
        share: float,
        cache: str | None,
        compile_nets: bool,
    ):
        torch.set_num_threads(threads)
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # not a pool for each process
        self.folder = Path(out) / group.name
        try:
            os.chdir(cwd)  # recipes name files relative to it
            if not self.folder.is_dir():
                raise OSError
        except OSError:
            raise ExperimentError(
                f"{self.folder} is not there on {socket.gethostname()}: on a cluster, run the "
                "experiment from, and with --out on, a disk that all its machines share"
            ) from None
        sys.path.append(experiment.folder)  # modules that recipes name
        self.group, self.experiment, self.share = group, experiment, share
        self.device = "cuda" if share else "cpu"
        self.cache, self.compile = cache and Path(cache), compile_nets
        self.trainer: Trainer | None = None

    def _start(self, text: str, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(out / "recipe.toml") as temporary:
            Path(temporary).write_text(text)
        recipe = recipes.load(out / "recipe.toml")
        self.trainer = Trainer(recipe, out, self.device, self.compile, self.cache)

    # Where time is limited: ready, cache filled, compiled and timed before a step counts

    def open(self, text: str) -> None:
        """Get everything ready that the first step would wait for. text: the recipe, whatever its
        steps.
        """
        self._text = text
        if (self.folder / "last.ckpt").exists():
            before = (self.folder / "recipe.toml").read_text()
            if with_steps(before, UNLIMITED) != with_steps(text, UNLIMITED):
                raise ExperimentError(
                    f"{self.folder}/last.ckpt: of another experiment; choose another --out"
                )
        self._start(with_steps(text, UNLIMITED), self.folder / "probe")

    def fill(self, part: int, parts: int, deadline: float) -> None:
        """This process's part of the cache; what is not there by then is drawn while training."""
        for _ in self.trainer.feed.fill(part, parts):
            if time.time() > deadline:
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
            self._start(with_steps(self._text, UNLIMITED), self.folder / "probe")
            self._steps(WARM_STEPS)

    def probe(self, seconds: float) -> float:
        """Seconds a step takes while all groups train."""
        marks = self._steps(UNLIMITED, seconds)
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

    def train(self, text: str, deadline: float | None = None) -> int:
        """To the end of the recipe or the deadline; returns the last step. Ctrl-C saves the state
        and raises KeyboardInterrupt.
        """
        self.trainer = None
        shutil.rmtree(self.folder / "probe", ignore_errors=True)
        self._start(text, self.folder)
        trainer, self.trainer = self.trainer, None
        trainer.resume()
        stop, looked = self.folder / STOP, 0.0
        stop.unlink(missing_ok=True)

        def look():
            nonlocal looked
            if time.monotonic() > looked + 1.0:
                looked = time.monotonic()
                if stop.exists():
                    trainer.stop()

        seconds = deadline and max(0.0, deadline - time.time())
        done = trainer.fit(max_seconds=seconds, on_step=look)
        if not (done or deadline):
            raise KeyboardInterrupt
        return trainer.step

    # What the receivers are worth

    def examine(self, deadline: float | None = None) -> int:
        """Writes result.parquet; returns the fewest slots a point that were counted."""
        nets, facts = self._receivers()
        rows, fewest, whole = [], UNLIMITED, True
        for examination in self.experiment.of(self.group):
            for domain in examination.domains:
                counted = self._count(examination, domain, nets, deadline)
                whole &= counted.slots == examination.slots
                fewest = min(fewest, counted.slots)
                if examination.rates:
                    self._write_block_errors(examination, domain, counted)
                    continue
                what = {"set": examination.set, "domain": domain}
                what |= {"modulation": examination.modulation}
                rows += _ber_rows(facts, counted, what)
        table = _as_table(rows)
        stamp = {"examinations": _stamp(self.experiment, self.group)} if whole else {}
        with replacing(self.folder / "result.parquet") as temporary:
            pa.parquet.write_table(table.replace_schema_metadata(stamp), temporary)
        return fewest

    def _receivers(self) -> tuple[dict, dict]:
        """The group's nets, and what the table says of them besides what is measured."""
        group, nets, facts = self.group, {}, {}
        if group.recipe:
            recipe = recipes.load(self.folder / "recipe.toml")
            spent = _spent(self.folder / "run.json", shared=0 < self.share < 1)
            for member in recipe.members:
                nets[member.name] = load_receiver(f"{self.folder}/last.ckpt:{member.name}")[1]
                facts[member.name] = _member_facts(group, recipe, member) | spent
        if group.label:
            net = load_receiver(group.reference, rebuild=True)[1]
            known = facts.get(Reference.parse(group.reference).member, {"group": group.name})
            nets = {group.label: net}
            facts = {group.label: known | {"kind": "teacher"}}
        for name, net in nets.items():
            flop = flop_per_slot(net, self.experiment.n_rx, self.experiment.n_prb)
            facts[name] |= {
                "params": count_parameters(net),
                "flop_per_slot": flop["matmul"] + flop["other"],
            }
        return nets, facts

    def _count(self, examination: Examination, domain: str, nets, deadline) -> Counted:
        channels, seed = EVALUATION_CHANNELS, seeds.EVALUATION
        if examination.set == "validation":
            channels, seed = TRAINING_CHANNELS, seeds.VALIDATION
        share_classical(nets.values())
        conditions = evaluation_conditions(
            domain,
            channels=channels,
            modulations={examination.modulation: 1.0},
            n_rx=self.experiment.n_rx,
            n_prb=self.experiment.n_prb,
        )
        run = Evaluation(
            nets,
            list(examination.sinr_db),
            examination.slots,
            conditions,
            seed,
            self.device,
            tuple(Fraction(r) for r in examination.rates),
            ideals=(PERFECT,),
        )

        counted = itertools.count(1)

        def check(_slots):  # every point is begun
            begun = next(counted) >= len(examination.sinr_db)
            if begun and deadline and time.time() > deadline:
                raise _OutOfTime

        with suppress(_OutOfTime):
            run.run(check)
        return run.counted()

    def _write_block_errors(self, examination: Examination, domain: str, counted: Counted) -> None:
        whose = "teacher" if self.group.label else self.group.name
        wrong = {
            f"block_errors {rate} {name if name in BASELINES else f'{whose}/{name}'}": slots
            for rate, of in counted.block_errors.items()
            for name, slots in of.items()
        }
        file = f"{examination.set}-{domain}-coded.npz"
        with replacing(self.folder / file) as temporary:
            np.savez_compressed(temporary, sinr_db=counted.sinr_db, **wrong)


def with_steps(text: str, steps: int, **changes) -> str:
    """A recipe's text with other steps, and other keys changed."""
    return tomli_w.dumps(tomllib.loads(text) | {"steps": steps} | changes)


def _member_facts(group: Group, recipe: recipes.Recipe, member: recipes.Member) -> dict:
    """What the table says of a member besides what was measured."""
    plain = {k: v for k, v in vars(recipe).items() if isinstance(v, int | float | str)}
    del plain["text"], plain["sha256"], plain["folder"]
    teacher = group.teacher_label if member.lessons else ""
    return {
        "group": group.name,
        "kind": "distilled" if teacher else "scratch",
        "net": json.dumps(member.net),
        **plain,
        "teacher": teacher,
        "temperature": float(member.temperature) if teacher else None,
        **{f"loss_{k}": float(member.loss.get(k, 0.0)) for k in LOSSES},
        **{k: json.dumps(v) for k, v in group.axes if k.startswith("data.")},
        "recipe_sha256": recipe.sha256,
    }


def _spent(path: Path, shared: bool) -> dict:
    """The training run's own record, of all members that were trained together. On a shared GPU the
    joules of the board are nobody's own and left out.
    """
    record = json.loads(path.read_text())
    energy = record["energy_j"]
    joules = None if shared else energy["joules"]
    return {
        "train_s": record["wall_s"],
        "train_flop": float(sum(p["flop"] for p in record["phases"].values())),
        "train_j": joules,
        "train_j_kind": energy["kind"] if joules is not None else None,
        "train_j_modelled": energy["modelled"],
    }


def _ber_rows(facts: dict, counted: Counted, what: dict) -> list[dict]:
    """The table's rows of what was counted; facts by receiver."""
    rows, n_bits = [], counted.config.n_bits
    for receiver, errors in counted.errors.items():
        known = facts.get(receiver, {"group": "", "kind": "baseline"})
        rows += [
            {"receiver": receiver}
            | known
            | what
            | {"sinr_db": float(sinr), "bits_per_slot": n_bits, "errors": per_slot.tolist()}
            for sinr, per_slot in zip(counted.sinr_db, errors, strict=True)
        ]
    return rows


def _as_table(rows: list[dict]) -> pa.Table:
    keys = dict.fromkeys(k for row in rows for k in row)
    return pa.table({k: [row.get(k) for row in rows] for k in keys})


def _stamp(experiment: Experiment, group: Group) -> bytes:
    return json.dumps([asdict(e) for e in experiment.of(group)]).encode()


def is_finished(folder: Path, experiment: Experiment, group: Group) -> bool:
    """Whether the group was trained and counted as the experiment has it now."""
    try:
        metadata = pa.parquet.read_schema(folder / "result.parquet").metadata or {}
    except (OSError, pa.ArrowInvalid):
        return False
    return metadata.get(b"examinations") == _stamp(experiment, group)


def gather(experiment: Experiment, out: Path) -> pa.Table | None:
    """The results of the groups that have some as one table, written as results.parquet and
    results.csv (without the errors of each slot), and the block errors of all; None if there are
    none. Where time ran out all are cut to the slots that each has.
    """
    rows, seen, coded = [], set(), {}
    for group in experiment.groups:
        folder = out / group.name
        for file in sorted(folder.glob("*-coded.npz")):
            with np.load(file) as arrays:
                coded.setdefault(file.name, {}).update(arrays)
        if not (folder / "result.parquet").exists():
            continue
        for row in pa.parquet.read_table(folder / "result.parquet").to_pylist():
            key = tuple(row[k] for k in ("set", "domain", "modulation", "receiver", "sinr_db"))
            if row["kind"] != "baseline" or key not in seen:
                rows.append(row)
            seen.add(key)
    for name, arrays in coded.items():
        slots = min(a.shape[1] for k, a in arrays.items() if k != "sinr_db")
        cut = {k: a if k == "sinr_db" else a[:, :slots] for k, a in arrays.items()}
        with replacing(out / name) as temporary:
            np.savez_compressed(temporary, **cut)
    if not rows:
        return None
    fewest: dict[tuple, int] = {}
    for row in rows:
        key = (row["set"], row["domain"], row["modulation"])
        fewest[key] = min(fewest.get(key, UNLIMITED), len(row["errors"]))
    for row in rows:
        errors = row["errors"][: fewest[row["set"], row["domain"], row["modulation"]]]
        rate = error_rate(errors, [row.pop("bits_per_slot")] * len(errors))
        row |= {"ber": rate.rate, "ber_low": rate.ci95[0], "ber_high": rate.ci95[1]}
        row |= {"bit_errors": rate.errors, "bits": rate.bits, "slots": len(errors)}
        row |= {"errors": errors}
    table = _as_table(rows)
    with replacing(out / "results.parquet") as temporary:
        pa.parquet.write_table(table, temporary)
    with replacing(out / "results.csv") as temporary:
        pa.csv.write_csv(table.drop_columns("errors"), temporary)
    return table


def run_group(about: tuple, _teacher_is_ready=None) -> str:
    """A Ray task: trains a group's recipe to its end and examines it; returns its name."""
    run = GroupRun(*about)
    if run.group.recipe:
        run.train(run.group.recipe)
    run.examine()
    return run.group.name
