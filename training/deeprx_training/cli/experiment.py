# SPDX-License-Identifier: GPL-3.0-or-later
"""./dev train experiment"""

import argparse
import sys

from ..values import number, whole
from .options import add_address, add_cache, add_compile, add_out, add_scale, value

ABOUT = """\
Trains every group of an experiment file and compares the receivers. A group is a process, whose
members learn from the same slots; groups run side by side on Ray, on this machine unless --address
names a cluster. Run again, the file changed or not, it repeats no finished group and resumes
half-trained ones. A failed group stops no other; the next run tries it again. Ctrl-C lets running
groups save their state. With --minutes it is a queue: groups run one after another in one process,
without Ray, and the same command takes the next step. Writes results.csv and results.parquet, which
`./dev train plot` draws: one row for each group, receiver, set of channels, domain and SINR.
"""
FILE = """\
an experiment file:
  recipe = "../recipes/student.toml"           what all groups start from, relative to the file; or
                                               a table [recipe] without members
  [nets]                                       [[group]] takes members from these two
  29k = { net = "HybridRx", channels = 32, dilations = [[2, 3]] }
  [settings]
  scratch = {}
  kd = { loss = { kl = 1.0 }, temperature = 4.0 }
  [[group]]
  name = "seed1"                               its folder
  members = [["29k", "scratch"], ["29k", "kd"]]
  seed = 1                                     whatever differs from the recipe
  [[grid]]                                     every combination of the lists; those that differ in
  seed = [1, 2, 3]                             members alone are one group; more [[grid]] add theirs
  teacher = ["large"]                          of [teachers], or CHECKPOINT[:MEMBER], or FILE.pt
  "members.student.temperature" = [1.0, 2.0]   any key of the recipe; members.* means all members
  "members.student.loss" = [{ bce = 0.3, kl = 0.7 }, { kl = 1.0 }]
  [teachers.large]                             optional: teachers to train first, once each
  recipe = "../recipes/teacher.toml"
  "members.teacher.net.channels" = 128         whatever differs from that recipe
  [[examination]]
  set = "validation"                           training channels, a seed of its own: choose on it;
                                               or evaluation, its channels and seed: to report
  sinr_db = [6, 12, 18]
  slots = 256                                  per SINR, each an independent channel
  domains = ["frequency", "time"]
  groups = ["seed1"]                           optional: only these
  mcs = 13                                     optional, of mcs_table: transport blocks' errors
  [[energy]]                                   optional: joules and time of receivers, at the end
  name = "energy"                              its folder
  receivers = ["large", "seed1:29k-kd"]        of [teachers], GROUP:MEMBER, or FILE.pt
  batches = [1, 8]                             slots received together
  [scale.minute]                               optional: sizes of the experiment, of which --scale
  groups = ["seed1"]                           names one: its groups, in this order,
  energy = ["energy"]                          its energy steps, after them,
  slots = 8                                    slots of each examination,
  steps = 4                                    and whatever differs from the recipe
"""


def configure(parser) -> None:
    parser.description, parser.epilog = ABOUT, FILE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("experiment", metavar="EXPERIMENT.toml", help="training/experiments/ has some")
    add_out(parser)
    add_cache(parser)
    add_scale(parser)
    add(
        "--minutes",
        type=value(number(0, above=True)),
        help="stop after so many minutes, to be continued",
    )
    add(
        "--cpus",
        type=value(whole(1)),
        metavar="N",
        help="cores, and threads, of each group (default: an equal part)",
    )
    add(
        "--gpus",
        type=value(number(0, 1)),
        metavar="SHARE",
        help="of a GPU for each group, 0 to 1 (default: 1 where there are any)",
    )
    add_address(parser)
    add_compile(parser)


def run(arguments) -> int:
    from ..experiments.cluster import Means
    from ..experiments.cluster import run as run_experiment
    from ..experiments.file import load
    from ..experiments.queue import run_step

    a = arguments
    if a.minutes and a.address:
        raise ValueError("--minutes: one process does it, expected no --address")
    experiment = load(a.experiment, a.out, a.scale)
    means, more = Means(a.address, a.cpus, a.gpus, a.cache, a.compile), False
    try:
        if a.minutes:
            failed, more = run_step(experiment, a.out, means, 60 * a.minutes)
        else:
            failed = run_experiment(experiment, a.out, means)
    except KeyboardInterrupt:
        print(f"{a.out}: stopped; the same command goes on from there", file=sys.stderr)
        return 130
    if more:
        print(f"{a.out}: {a.minutes:g} minutes are over; the same command takes the next step")
        return 0
    groups = {group.name for group in experiment.groups}
    done = len(groups - set(failed))
    print(f"{a.out}: results.csv, results.parquet of {done} of {len(groups)} groups")
    if failed:
        every = len(groups) + len(experiment.energy)
        what = "groups and steps" if experiment.energy else "groups"
        print(
            f"error: {len(failed)} of {every} {what} failed (failed.txt in {a.out}/GROUP says "
            "more); the same command tries them again",
            file=sys.stderr,
        )
        return 1
    print(f"next: ./dev train plot {a.out}")
    return 0
