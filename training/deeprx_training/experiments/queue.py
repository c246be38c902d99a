# SPDX-License-Identifier: GPL-3.0-or-later
"""The groups of an experiment one after another in this process, without Ray and for so long: a
step of a queue, on a machine that is lent for minutes.
"""

import os
import sys
import time
import traceback
from pathlib import Path

import torch

from .cluster import Means
from .energy import is_measured, measure_all
from .file import Experiment, Group
from .group import FAILED, Job, explained, run_group
from .table import gather, is_finished


def run_step(
    experiment: Experiment, out: Path, means: Means, seconds: float
) -> tuple[dict[str, str], bool]:
    """Go on with the first group that is not finished, and with the next ones while there is time;
    those that failed before come last, and then what receivers take of energy.

    Returns ({name: one line why} of those that failed, whether any is left to be tried). Ctrl-C
    saves the state of the running group and raises KeyboardInterrupt. The tables are written
    whatever happens.
    """
    end, failed = time.monotonic() + seconds, {}

    def failed_before(group: Group) -> bool:
        names = {group.name, group.teacher} - {""}
        return any((out / name / FAILED).exists() for name in names)

    groups = [g for g in experiment.groups if not is_finished(out / g.name, experiment, g)]
    groups.sort(key=failed_before)
    gpu = float(torch.cuda.is_available()) if means.gpus is None else means.gpus
    threads = means.cpus or torch.get_num_threads()
    try:
        for group in groups:
            folder = out / group.name
            if group.teacher in failed:
                failed[group.name] = f"its teacher failed: {group.teacher}"
                print(f"failed {group.name}: {failed[group.name]}", file=sys.stderr)
                continue
            folder.mkdir(parents=True, exist_ok=True)
            job = Job(
                group, experiment, out, os.getcwd(), threads, gpu, means.cache, means.compile, end
            )
            try:
                run_group(job)
            except KeyboardInterrupt:
                if time.monotonic() < end:
                    raise
                return failed, True
            except Exception as error:
                (folder / FAILED).write_text(traceback.format_exc())
                failed[group.name] = explained(error)
                print(f"failed {group.name}: {failed[group.name]}", file=sys.stderr)
            else:
                (folder / FAILED).unlink(missing_ok=True)
                print(f"finished {group.name}")
            left = group is not groups[-1] or not all(
                is_measured(e, out) for e in experiment.energy
            )
            if time.monotonic() > end and left:
                return failed, True
        try:
            failed |= measure_all(experiment, out, "cuda" if gpu else "cpu", threads, end)
        except KeyboardInterrupt:
            if time.monotonic() < end:
                raise
            return failed, True
        return failed, False
    finally:
        gather(experiment, out)
