# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that gives model files to the training command line, and TOML to its readers."""

import re
import shutil
import tempfile
from pathlib import Path

from hostile.serve import run_command, serve

from deeprx_common import commands
from deeprx_common.options import Parser
from deeprx_training.cli import main
from deeprx_training.evaluation import named
from deeprx_training.experiments import file as experiments
from deeprx_training.teaching import recipe as recipes

HARMLESS = "baseline-lmmse.pt"
OUT = tempfile.mkdtemp()
RECIPE = Path(__file__).parents[2] / "training" / "recipes" / "realtime.toml"


def evaluate(path):
    given = ["--sinr", "9", "--slots", "2", "--channel", "TDL-A", "--out", OUT]
    run_command(main, ["evaluate", path, *given])


def export(path):
    run_command(main, ["export", path, f"{OUT}/exported.pt", "--no-openvino"])


def quantise(path):
    run_command(main, ["quantise", path, f"{OUT}/int8.pt", "--recipe", str(RECIPE)])


def rewritten(command):
    """By a command that puts the file anew where it lies."""

    def rewrite(path):
        shutil.copy(path, f"{OUT}/rewritten.pt")
        run_command(main, [command, f"{OUT}/rewritten.pt"])

    return rewrite


def trained(key):
    """By a recipe that takes it as a teacher, or goes on from it."""
    text = RECIPE.with_name("smoke_distill.toml").read_text()
    if key == "start":
        text = text.replace("[[members]]\n", "[[members]]\nstart = PATH\n")
        text = text.replace('teacher = "runs/smoke/last.ckpt"\n', "")
        text = text.replace("bce = 0.5, kl = 0.5", "bce = 1.0")
    else:
        text = text.replace('"runs/smoke/last.ckpt"', "PATH")

    def train(path):
        if path != HARMLESS:
            Path(OUT, "recipe.toml").write_text(text.replace("PATH", f'"{path}"'))
            run_command(main, ["run", f"{OUT}/recipe.toml", "--out", f"{OUT}/run"])

    return train


def experiment(path):
    """At each of its scales."""
    text = Path(path).read_text(errors="replace")
    scales = re.findall("minute|cores|gpu", text) if "scale" in text else []
    for scale in dict.fromkeys(scales or [""]):
        experiments.load(path, OUT, scale)


def read(load):
    """What a command does that begins with it."""

    def run(arguments):
        load(arguments.path)
        return 0

    parser = Parser(prog="read")
    parser.add_argument("path")
    parser.set_defaults(run=run)

    def read_file(path):
        run_command(lambda arguments: commands.run_command(parser, arguments), [path])

    return read_file


WAYS = {
    "evaluate": evaluate,
    "export": export,
    "quantise": quantise,
    "convert": rewritten("convert"),
    "describe": rewritten("describe"),
    "run teacher": trained("teacher"),
    "run start": trained("start"),
    "recipe": read(recipes.load),
    "conditions": read(named.load),
    "experiment": read(experiment),
}

if __name__ == "__main__":
    serve(WAYS, HARMLESS)
