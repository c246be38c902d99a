# SPDX-License-Identifier: GPL-3.0-or-later
"""Sweeps: the trials of a sweep file, trained and examined side by side on Ray.

A sweep is a folder. trials/NAME/ holds each trial's recipe.toml, its training run and, once it is
done, result.parquet; NAME ends in a hash of what the trial trains, so a sweep that is run again,
changed or not, repeats no finished trial and resumes half-trained ones. results.csv and
results.parquet gather the trials: one row for each trial, receiver, set, domain and SINR.
"""

import json
import os
import secrets
import socket
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deeprx_common.files import replacing
from deeprx_common.stats import error_rate

from ..data import seeds
from ..data.channels import TRAINING_CHANNELS
from ..evaluation.evaluate import count_errors, evaluation_conditions
from ..receivers.flop import flop_per_slot
from ..receivers.nets import count_parameters
from ..teaching import recipe as recipes
from ..teaching.losses import LOSSES
from ..teaching.train import Trainer, TrainingError, load_receiver
from .sweep_file import Sweep, SweepError, Trial, trial_folder


def run_trial(
    trial: Trial,
    sweep: Sweep,
    out: str,
    cwd: str,
    cpus: int,
    gpus: float,
    cache: str | None,
    _teacher_is_ready=None,
) -> str:
    """Train a trial's recipe to its end and examine its receivers; returns the trial's name.

    Runs in a Ray worker. An interrupt saves the state of training and raises KeyboardInterrupt.
    """
    torch.set_num_threads(cpus)
    device = "cuda" if gpus else "cpu"
    try:
        os.chdir(cwd)
    except OSError:
        raise _not_shared(cwd) from None
    folder = trial_folder(out, trial.name)
    if not folder.is_dir():
        raise _not_shared(folder)
    facts, nets, spent = {}, {}, {}
    if trial.recipe:
        recipe = recipes.load(folder / "recipe.toml")
        trainer = Trainer(recipe, folder, device, cache=cache and Path(cache))
        trainer.resume()
        if not trainer.fit():
            raise KeyboardInterrupt
        spent = _spent(folder / "run.json", shared=0 < gpus < 1)
        for member in recipe.members:
            nets[member.name] = load_receiver(f"{trainer.checkpoint}:{member.name}")[1]
            facts[member.name] = member_facts(trial, recipe, member)
    if trial.is_teacher:
        net = load_receiver(trial.reference)[1]
        known = facts.get(trial.reference.partition(":")[2], {"trial": trial.name})
        nets, facts = {trial.is_teacher: net}, {trial.is_teacher: known | {"kind": "teacher"}}
    rows = []
    for name, net in nets.items():
        flop = flop_per_slot(net, sweep.n_rx, sweep.n_prb)
        facts[name] |= spent | {
            "params": count_parameters(net),
            "flop_per_slot": flop["matmul"] + flop["other"],
        }
    for name, examination in sweep.examinations.items():
        rows += _examine(name, examination, nets, facts, sweep, device)
    made = as_table(rows)
    made = made.replace_schema_metadata({"examinations": _stamp(sweep)})
    with replacing(folder / "result.parquet") as temporary:
        pa.parquet.write_table(made, temporary)
    return trial.name


def _not_shared(folder) -> SweepError:
    return SweepError(
        f"{folder} is not there on {socket.gethostname()}: on a cluster, run the sweep from, and "
        "with --out on, a disk that all its machines share"
    )


def member_facts(trial: Trial, recipe: recipes.Recipe, member: recipes.Member) -> dict:
    """What the table says of a member besides what was measured."""
    plain = {k: v for k, v in vars(recipe).items() if isinstance(v, int | float | str)}
    del plain["text"], plain["sha256"], plain["folder"]
    taught = trial.taught_by and any(w for k, w in member.loss.items() if k != "bce")
    return {
        "trial": trial.name,
        "kind": "distilled" if taught else "scratch",
        "net": json.dumps(member.net),
        **plain,
        "teacher": trial.taught_by if taught else "",
        "temperature": float(member.temperature) if taught else None,
        **{f"loss_{k}": float(member.loss.get(k, 0.0)) for k in LOSSES},
        **{k: json.dumps(v) for k, v in trial.axes if k.startswith("data.")},
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


def _examine(name, examination, nets, facts, sweep: Sweep, device: str) -> list[dict]:
    channels = {"channels": TRAINING_CHANNELS} if name == "validation" else {}
    seed = seeds.VALIDATION if name == "validation" else seeds.EVALUATION
    rows = []
    for domain in examination.domains:
        n_bits, errors = count_errors(
            nets,
            list(examination.sinr_db),
            examination.slots,
            device,
            evaluation_conditions(
                domain,
                modulations={examination.modulation: 1.0},
                n_rx=sweep.n_rx,
                n_prb=sweep.n_prb,
                **channels,
            ),
            seed,
        )
        what = {"set": name, "domain": domain, "modulation": examination.modulation}
        rows += ber_rows(facts, errors, n_bits, examination.sinr_db, what)
    return rows


def ber_rows(facts: dict, errors: dict, n_bits: int, sinr_db, what: dict) -> list[dict]:
    """The table's rows for errors {receiver: int [P, S]} of slots of n_bits; facts by receiver."""
    rows = []
    for receiver, counted in errors.items():
        known = facts.get(receiver, {"trial": "", "kind": "baseline"})
        for sinr, per_slot in zip(sinr_db, counted, strict=True):
            found = error_rate(per_slot, [n_bits] * len(per_slot))
            rows.append(
                {"receiver": receiver}
                | known
                | what
                | {
                    "sinr_db": float(sinr),
                    "ber": found.rate,
                    "ber_low": found.ci95[0],
                    "ber_high": found.ci95[1],
                    "bit_errors": found.errors,
                    "bits": found.bits,
                    "slots": len(per_slot),
                    "errors": per_slot.tolist(),
                }
            )
    return rows


def write_table(table: pa.Table, folder: Path) -> None:
    """results.parquet, and results.csv without the errors of each slot."""
    with replacing(folder / "results.parquet") as temporary:
        pa.parquet.write_table(table, temporary)
    with replacing(folder / "results.csv") as temporary:
        pa.csv.write_csv(table.drop_columns("errors"), temporary)


def as_table(rows: list[dict]) -> pa.Table:
    keys = dict.fromkeys(k for row in rows for k in row)
    return pa.table({k: [row.get(k) for row in rows] for k in keys})


def _stamp(sweep: Sweep) -> bytes:
    return json.dumps({k: asdict(v) for k, v in sweep.examinations.items()}).encode()


def _finished(folder: Path, sweep: Sweep) -> bool:
    try:
        found = pa.parquet.read_schema(folder / "result.parquet").metadata or {}
    except (OSError, pa.ArrowInvalid):
        return False
    return found.get(b"examinations") == _stamp(sweep)


def gather(sweep: Sweep, out: str | Path) -> pa.Table | None:
    """The results of the finished trials as one table, written as results.parquet and results.csv
    (without the errors of each slot); None if there are none.
    """
    tables, seen = [], set()
    for trial in sweep.trials:
        folder = trial_folder(out, trial.name)
        if not _finished(folder, sweep):
            continue
        table = pa.parquet.read_table(folder / "result.parquet").replace_schema_metadata(None)
        columns = ("kind", "set", "domain", "receiver", "sinr_db")
        keys = list(zip(*(table[c].to_pylist() for c in columns), strict=True))
        tables.append(table.filter([k[0] != "baseline" or k not in seen for k in keys]))
        seen.update(keys)
    if not tables:
        return None
    table = pa.concat_tables(tables, promote_options="permissive")
    write_table(table, Path(out))
    return table


def run(
    sweep: Sweep,
    out: str | Path,
    address: str | None = None,
    cpus: int = 1,
    gpus: float | None = None,
    cache: str | None = None,
) -> dict[str, str]:
    """Run the trials that are not finished; returns {name: one line why} of those that failed.

    address: HOST:PORT of a Ray cluster's head, or None for this machine alone. cpus: cores of each
    trial; gpus: share of a GPU of each, None for a whole one where there are any. Ctrl-C lets the
    running trials save their state, then raises KeyboardInterrupt. The tables are written whatever
    happens.
    """
    if cpus < 1:
        raise SweepError(f"--cpus: expected at least 1, found {cpus}")
    if gpus is not None and not 0 <= gpus <= 1:
        raise SweepError(f"--gpus: expected a share between 0 and 1, found {gpus:g}")
    out = Path(out)
    for trial in sweep.trials:
        folder = trial_folder(out, trial.name)
        folder.mkdir(parents=True, exist_ok=True)
        if trial.recipe:
            with replacing(folder / "recipe.toml") as temporary:
                Path(temporary).write_text(trial.recipe)
    todo = [t for t in sweep.trials if not _finished(trial_folder(out, t.name), sweep)]
    try:
        return _run(todo, sweep, out, address, cpus, gpus, cache) if todo else {}
    finally:
        gather(sweep, out)


@contextmanager
def cluster(address: str | None) -> Iterator[ModuleType]:
    """Ray at an address, or on this machine's loopback, for as long as the body runs.

    Raises SweepError where there is no cluster at the address.
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
                raise SweepError(
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
        raise SweepError(f"--address: expected HOST:PORT, found {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise SweepError(
            f"--address {address}: no Ray cluster can be reached there ({error}); start one with: "
            "ray start --head"
        ) from None


def _run(todo, sweep, out, address, cpus, gpus, cache) -> dict[str, str]:
    with cluster(address) as ray:
        nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
        if gpus is None:
            gpus = min(1.0, max(n.get("GPU", 0.0) for n in nodes))
        if not any(n.get("CPU", 0) >= cpus and n.get("GPU", 0) >= gpus for n in nodes):
            most = max(nodes, key=lambda n: n.get("CPU", 0))
            raise SweepError(
                f"a trial asks for {cpus} CPU cores and {gpus:g} GPU, the largest machine has "
                f"{most.get('CPU', 0):g} and {most.get('GPU', 0):g}"
            )
        # a dead process is reported, not tried again: the next run goes on from its checkpoint
        task = ray.remote(run_trial).options(num_cpus=cpus, num_gpus=gpus, max_retries=0)
        refs = {}
        for trial in todo:  # teachers come first
            refs[trial.name] = task.remote(
                trial,
                sweep,
                str(out),
                os.getcwd(),
                cpus,
                gpus,
                cache,
                refs.get(trial.teacher),
            )
        try:
            return _watch(ray, todo, refs, sweep, out)
        except KeyboardInterrupt:
            print("stopping: the running trials save their state", file=sys.stderr)
            for ref in refs.values():
                ray.cancel(ref)
            ray.wait(list(refs.values()), num_returns=len(refs), timeout=60)
            raise


def _watch(ray, todo, refs, sweep: Sweep, out: Path) -> dict[str, str]:
    """Show progress until every trial has ended."""
    failed: dict[str, str] = {}
    names = {ref: name for name, ref in refs.items()}
    trials = {t.name: t for t in todo}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as progress:
        before = len(sweep.trials) - len(todo)
        whole = progress.add_task("trials", total=len(sweep.trials), completed=before)
        bars = {}
        while names:
            ready, _ = ray.wait(list(names), num_returns=len(names), timeout=0.5)
            for ref in ready:
                name = names.pop(ref)
                said = f"finished {name}"
                if reason := _outcome(ray, ref, trial_folder(out, name) / "failed.txt"):
                    teacher = trials[name].teacher
                    failed[name] = f"its teacher failed: {teacher}" if teacher in failed else reason
                    said = f"failed {name}: {failed[name]}"
                progress.console.print(said, highlight=False, markup=False, soft_wrap=True)
                if name in bars:
                    progress.remove_task(bars.pop(name))
                progress.advance(whole)
            for name in names.values():
                if (step := _step(trial_folder(out, name))) is not None:
                    if name not in bars:
                        total = tomllib.loads(trials[name].recipe).get(
                            "steps", recipes.Recipe.steps
                        )
                        bars[name] = progress.add_task(name, total=total)
                    progress.update(bars[name], completed=step)
    return failed


def _outcome(ray, ref, failure: Path) -> str | None:
    """None, or one line why the trial failed; what Python said goes into the file failure."""
    failure.unlink(missing_ok=True)
    try:
        ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        failure.write_text(f"{error}\n")
        line = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        expected = (recipes.RecipeError, TrainingError, SweepError, OSError)
        return line if isinstance(cause, expected) else f"{type(cause).__name__}: {line}"
    except ray.exceptions.RayError as error:
        failure.write_text(f"{error}\n")
        memory = isinstance(error, ray.exceptions.OutOfMemoryError)
        why = "the machine ran out of memory" if memory else "its process died"
        return f"{why} ({failure} says more); run again to resume it"
    return None


def _step(folder: Path) -> int | None:
    """The last step that a trial has logged, None before the first."""
    try:
        with (folder / "log.jsonl").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
            return json.loads(log.read().splitlines()[-1])["step"]
    except (OSError, IndexError, ValueError):
        return None
