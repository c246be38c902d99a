# SPDX-License-Identifier: GPL-3.0-or-later
"""One group of an experiment in its process: trained to its recipe's end, then counted.

DIR/GROUP/ holds the group's recipe.toml, its training run and, once it is counted, its table.
"""

import hashlib
import json
import math
import os
import shutil
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from deeprx_common.files import replacing
from deeprx_common.slot import SlotConfig

from ..data import seeds
from ..data.channels import EVALUATION_CHANNELS, TRAINING_CHANNELS
from ..evaluation.evaluate import PERFECT, Counted, Evaluation, evaluation_conditions
from ..files import TrainingError
from ..receivers.flop import flop_per_slot
from ..receivers.nets import count_parameters
from ..reference import Reference
from ..teaching import recipe as recipes
from ..teaching.checkpoint import load_receiver
from ..teaching.cost import read_run
from ..teaching.losses import LOSSES
from ..teaching.members import share_classical
from ..teaching.train import Trainer
from .file import Examination, Experiment, ExperimentError, Group
from .table import (
    ber_rows,
    is_counted,
    known_rows,
    trained_as,
    write_block_errors,
    write_group,
)

FAILED = "failed.txt"  # of a group's folder: what Python said


@dataclass(frozen=True)
class Job:
    """A group and what its process has. cwd: that files are named relative to; gpu: share of one, 0
    for none; end: of its time, by time.monotonic().
    """

    group: Group
    experiment: Experiment
    out: Path
    cwd: str
    threads: int
    gpu: float = 0.0
    cache: Path | None = None
    compile: bool = False
    end: float = math.inf

    @property
    def folder(self) -> Path:
        return self.out / self.group.name

    @property
    def counted(self) -> Path:
        """Where an examination that is not finished keeps what it has counted."""
        return self.folder / "counted"

    @property
    def device(self) -> str:
        return "cuda" if self.gpu else "cpu"


def run_group(job: Job, _teacher_is_ready=None) -> None:
    """A Ray task. Ctrl-C and the end of its time save its state and raise KeyboardInterrupt."""
    torch.set_num_threads(job.threads)
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # not a pool for each process
    try:
        os.chdir(job.cwd)
        if not job.folder.is_dir():
            raise OSError
    except OSError:
        raise ExperimentError(
            f"{job.folder} is not there on {socket.gethostname()}: on a cluster, run the "
            "experiment from, and with --out on, a disk that all its machines share"
        ) from None
    sys.path.append(job.experiment.folder)  # modules that recipes name
    if job.group.recipe:
        _train(job)
    _examine(job)


def _train(job: Job) -> None:
    path = job.folder / "recipe.toml"
    with replacing(path) as temporary:
        Path(temporary).write_text(job.group.recipe)
    trainer = Trainer(recipes.load(path), job.folder, job.device, job.compile, job.cache)
    trainer.resume()
    if not trainer.fit(max_seconds=job.end - time.monotonic()):
        raise KeyboardInterrupt


def _examine(job: Job) -> None:
    nets, facts = _receivers(job)
    rows, same = [], is_counted(job.folder, job.group)
    for examination in job.experiment.of(job.group):
        if same and (known := known_rows(job.folder, examination)) is not None:
            rows += known
            continue
        for domain in examination.domains:
            counted = _count(job, examination, domain, nets)
            if counted.block_errors:
                write_block_errors(job.folder, job.group, examination, domain, counted)
            else:
                rows += ber_rows(facts, counted, examination, domain)
    write_group(job.folder, job.experiment, job.group, rows)
    shutil.rmtree(job.counted, ignore_errors=True)


def _receivers(job: Job) -> tuple[dict[str, nn.Module], dict[str, dict]]:
    """The group's nets, and what the table says of them besides what is measured."""
    group, nets, facts = job.group, {}, {}
    if group.recipe:
        recipe = recipes.load(job.folder / "recipe.toml")
        spent = _spent(job.folder, shared=0 < job.gpu < 1)
        for member in recipe.members:
            nets[member.name] = load_receiver(f"{job.folder}/last.ckpt:{member.name}")[1]
            facts[member.name] = _member_facts(group, recipe, member) | spent
    if group.label:
        net = load_receiver(group.reference, rebuild=True)[1]
        known = facts.get(Reference.parse(group.reference).member, {"group": group.name})
        nets = {group.label: net}
        facts = {group.label: known | {"kind": "teacher"}}
    for name, net in nets.items():
        slot = SlotConfig(n_prb=job.experiment.n_prb)
        flop = flop_per_slot(net, job.experiment.n_rx, slot)
        facts[name] |= {
            "params": count_parameters(net),
            "flop_per_slot": flop["matmul"] + flop["other"],
        }
    return nets, facts


def _member_facts(group: Group, recipe: recipes.Recipe, member: recipes.Member) -> dict:
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
        **{k: json.dumps(v) for k, v in group.changes if k.startswith("data.")},
        "recipe_sha256": recipe.sha256,
    }


def _spent(folder: Path, shared: bool) -> dict:
    """The training run's own record, of all members that were trained together. On a shared GPU the
    joules of the board are nobody's own and left out.
    """
    record = read_run(folder)
    energy = record["energy_j"]
    joules = None if shared else energy["joules"]
    return {
        "train_slots": record["slots"],
        "train_resource_elements": record["resource_elements"],
        "train_s": record["wall_s"],
        "train_flop": float(sum(p["flop"] for p in record["phases"].values())),
        "train_j": joules,
        "train_j_kind": energy["kind"] if joules is not None else None,
        "train_j_modelled": energy["modelled"],
    }


def _count(job: Job, examination: Examination, domain: str, nets: dict) -> Counted:
    channels, seed = EVALUATION_CHANNELS, seeds.EVALUATION
    if examination.set == "validation":
        channels, seed = TRAINING_CHANNELS, seeds.VALIDATION
    share_classical(nets.values())
    of = repr((examination, domain, trained_as(job.group)))
    kept = job.counted / hashlib.sha256(of.encode()).hexdigest()[:16]
    known = len(list(kept.glob("*.npz")))
    conditions = evaluation_conditions(
        domain,
        channels=channels,
        modulations={examination.modulation: 1.0},
        n_rx=job.experiment.n_rx,
        n_prb=job.experiment.n_prb,
    )
    run = Evaluation(
        nets,
        list(examination.sinr_db),
        examination.slots,
        conditions,
        seed,
        job.device,
        examination.mcs,
        examination.mcs_table,
        ideals=(PERFECT,),
        kept=kept,
    )

    def in_time(_slots: int) -> None:
        nonlocal known
        known -= 1
        if known < 0 and time.monotonic() > job.end:  # a batch more, however short the time
            raise KeyboardInterrupt

    run.run(in_time)
    return run.counted()


def explained(error: BaseException) -> str:
    """One line about why a group failed."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    expected = (recipes.RecipeError, TrainingError, ExperimentError, OSError)
    return line if isinstance(error, expected) else f"{type(error).__name__}: {line}"
