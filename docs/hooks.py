# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of the reference, out of the code: nothing in them is typed twice."""

import html
import inspect
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import yaml
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))

from command_lines import Command, Option, describe  # noqa: E402

TRAINING_PYTHON = ROOT / ".venv-training/bin/python"
SECTIONS = ("Input", "Output", "Parameters")


def on_files(files, config):
    for name, page in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    return files


def on_page_markdown(markdown, page, config, files):
    def insert(mark):
        return INSERTS[mark[1]]()

    return re.sub("<!-- generated: (.*?) -->", insert, markdown)


def _code(text) -> str:
    return f"`{text}`" if str(text) else ""


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _table(heads: list[str], rows: list[list]) -> list[str]:
    cells = [heads, ["---"] * len(heads), *([_cell(c) for c in row] for row in rows)]
    return [*("| " + " | ".join(row) + " |" for row in cells), ""]


def block_files() -> dict[str, dict]:
    """Every block as Companion has it, by its name in gnuradio.deeprx."""
    paths = sorted((ROOT / "grc").glob("*.block.yml"))
    blocks = [yaml.safe_load(path.read_text()) for path in paths]
    return {block["id"].removeprefix("deeprx_"): block for block in blocks}


def _sections(documentation: str) -> dict[str, str]:
    """What a block's documentation says, under "" and SECTIONS."""
    sections, section = {"": ""}, ""
    for line in documentation.splitlines():
        if line.endswith(":") and line.startswith(SECTIONS):
            section = next(name for name in SECTIONS if line.startswith(name))
            line = line.removeprefix(section).strip(" :")
            sections[section] = f"{line}\n" if line else ""
        else:
            sections[section] += line + "\n"
    return sections


def parameter_texts(block: dict) -> dict[str, str]:
    """What a block's documentation says of each parameter, "Label: text", by its label."""
    text = " ".join(_sections(block["documentation"]).get("Parameters", "").split())
    names = {}  # with and without the unit
    for label in (p["label"] for p in block["parameters"]):
        names |= {label.partition(" (")[0]: label, label: label}
    one = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    parts = re.split(rf"(?:^|(?<=\W))((?:{one})(?:, (?:{one}))*): ", text)
    texts = {}
    for said, about in zip(parts[1::2], parts[2::2], strict=True):
        texts |= {names[name]: about.strip() for name in re.findall(one, said)}
    return texts


def _call(name: str, function) -> list[str]:
    """How a function of the bindings is called: their docstrings begin with it."""
    signature = function.__doc__.strip().partition("\n")[0]
    arguments = signature.partition("(self: ")[2].partition(", " if ", " in signature else ")")[2]
    return ["```python", f"{name}({arguments}", "```", ""]


def bound(class_name: str) -> str:
    from gnuradio import deeprx

    bound = getattr(deeprx, class_name)
    called = _call(f"deeprx.{class_name}", bound.__init__)
    lines = [*called, html.escape(inspect.getdoc(bound)), ""]
    for name, member in vars(bound).items():
        if name.startswith("_"):
            continue
        lines += [f"#### `{name}`", ""]
        text = inspect.getdoc(member)
        if callable(member):
            lines += _call(f"{class_name.lower()}.{name}", member)
            text = text.partition("\n\n")[2]
        lines += [html.escape(text), ""]
    return "\n".join(lines)


def blocks() -> str:
    from gnuradio import deeprx

    lines = [
        "# Blocks",
        "",
        "In Companion under *[deeprx]*; in Python in `gnuradio.deeprx`.",
        "",
    ]
    for name, block in block_files().items():
        said = _sections(block["documentation"])
        lines += [f"## {block['label']}", "", said[""], ""]
        for section in ("Input", "Output"):
            if section in said:
                lines += [f"**{section}.** {said[section]}", ""]
        texts = parameter_texts(block)
        rows = [
            [
                p["label"],
                _code(p["id"]),
                _code(p.get("default", "")),
                texts.get(p["label"], ""),
            ]
            for p in block["parameters"]
        ]
        lines += _table(["parameter", "in the flowgraph's file", "default", ""], rows)
        python = getattr(deeprx, name, None)
        if python is not None:
            module = python.__module__.removeprefix("gnuradio.")
            if module.endswith("deeprx_python"):  # C++: bindings have no source to read
                lines += [f"### `deeprx.{name}`", "", *_call(f"deeprx.{name}", python.__init__)]
                lines += [html.escape(inspect.getdoc(python)), ""]
            else:
                lines += [f"::: {module}.{python.__name__}", "    options:"]
                lines += [f'      heading: "deeprx.{name}"', "      members: false", ""]
    return "\n".join(lines)


def _options(options: list[Option]) -> list[str]:
    return _table(["option", ""], [[_code(", ".join(o.names)), o.text] for o in options])


def _commands(program: str, title: str, intro: str, commands: list[Command]) -> str:
    lines = [f"# {title}", "", intro, ""]
    if commands[0].epilog:
        lines += [commands[0].epilog, ""]
    for command in commands[1:]:
        lines += [f"## {program} {' '.join(command.words)}", ""]
        lines += [command.description, "", "```", command.usage, "```", ""]
        if command.epilog:
            lines += ["```", command.epilog.rstrip(), "```", ""]
        lines += _options(command.options) if command.options else []
    return "\n".join(lines)


def _tasks() -> list[str]:
    """`./dev help`, a row a task."""
    text = subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True, check=True).stdout
    rows = []
    for line in text.splitlines()[1:]:
        if line.startswith("  ") and not line.startswith("   "):
            task, _, about = line.strip().partition("  ")
            rows.append([_code("./dev " + task), about.strip()])
    return ["## ./dev", "", *_table(["task", ""], rows)]


def command_line() -> str:
    from gnuradio.deeprx.cli import main

    page = _commands(
        "deeprx",
        "Command line",
        "`./dev run deeprx COMMAND` runs a command out of the source tree, `deeprx COMMAND` an "
        "installed one. Training has [a page of its own](train-command-line.md), and so have "
        "[exit statuses](exit-status.md).",
        describe(main),
    )
    return "\n".join([page, *_tasks()])


def _training(script: str, *arguments: str) -> list | dict:
    """JSON that a script prints in the training environment."""
    if not TRAINING_PYTHON.exists():
        raise PluginError("the training environment is missing: ./dev docs makes it")
    ran = subprocess.run(
        [TRAINING_PYTHON, ROOT / "docs" / script, *arguments],
        env=os.environ | {"PYTHONPATH": f"{ROOT}/training:{ROOT}/python/common"},
        capture_output=True,
        text=True,
    )
    if ran.returncode:
        raise PluginError(f"docs/{script} in the training environment: {ran.stderr}")
    return json.loads(ran.stdout)


def train_command_line() -> str:
    described = _training("command_lines.py")
    commands = [Command(**c | {"options": [Option(**o) for o in c["options"]]}) for c in described]
    return _commands(
        "./dev train",
        "Training command line",
        "It runs in an environment of its own, which `./dev train` makes. [Recipes](recipes.md), "
        "[exit statuses](exit-status.md).",
        commands,
    )


def _keys(page: str, title: str, intro: str) -> str:
    lines = [f"# {title}", "", intro, ""]
    for name, (about, keys) in _training("recipe_keys.py")[page].items():
        rows = [[_code(k["key"]), k["may be"], _code(k["default"]), k["meaning"]] for k in keys]
        lines += [f"## {name}", "", about, ""]
        lines += _table(["key", "may be", "default", ""], rows)
    return "\n".join(lines)


def recipes() -> str:
    return _keys(
        "recipes",
        "Recipes",
        "One TOML file says everything about a training run: `./dev train RECIPE.toml` takes it, "
        "and the model file that comes of it carries it. An unknown key, or a value out of range, "
        "is refused in one line. [Train a receiver](../how-to/train.md).",
    )


def experiments() -> str:
    return _keys(
        "experiments",
        "Experiment files",
        "One TOML file says which receivers `./dev train experiment` trains and what is counted of "
        "them: [many runs, compared](../how-to/train.md#many-runs-compared).",
    )


def report() -> str:
    from deeprx_common import report

    lines = [
        "# Report",
        "",
        f"JSON, `{report.SCHEMA}`: what `deeprx loopback`, `replay`, `radio`, `demo`, `energy` and "
        "`./dev train evaluate` write, and Slot Probe publishes. Readers check it key by key. What "
        "a quantity means: [SNR and clusters](../concepts/snr.md), "
        "[energy](../concepts/energy.md).",
        "",
    ]
    for title, fields in (
        ("A report", report.REPORT),
        ("A point", report.POINT),
        ("inference_s_per_slot", report.INFERENCE),
        ("energy_per_slot_j, energy_per_delivered_bit_j", report.ENERGY),
        ("harq", report.HARQ),
        ("decoder", report.DECODER),
        ("A comparison", report.COMPARISON),
    ):
        lines += [f"## {title}", "", *_fields(fields)]
    return "\n".join(lines)


def _fields(fields: dict) -> list[str]:
    """Of a schema: keys, what they must be, what they mean."""
    rows = [
        [_code(key), field.words + (", may be missing" if field.optional else ""), field.meaning]
        for key, field in fields.items()
    ]
    return _table(["key", "is", ""], rows)


def model_json() -> str:
    from deeprx_common import model_schema

    lines = _fields(model_schema.MODEL)
    for title, fields in (
        ("flop_per_slot", model_schema.FLOP),
        ("trained", model_schema.TRAINED),
        ("limits, each", model_schema.LIMIT),
        ("ber, each", model_schema.MEASURED),
    ):
        lines += [f"### {title}", "", *_fields(fields)]
    return "\n".join(lines)


def stats() -> str:
    from gnuradio.deeprx.blocks.messages import STATS

    return "\n".join(_fields(STATS))


def decoded_blocks() -> str:
    from gnuradio.deeprx.blocks.messages import BLOCKS

    return "\n".join(_fields(BLOCKS))


def acks() -> str:
    from gnuradio.deeprx.blocks.messages import ACKS

    return "\n".join(_fields(ACKS))


def telemetry() -> str:
    from gnuradio.deeprx.telemetry.pubsub import TELEMETRY

    return "\n".join(_fields(TELEMETRY))


def sigmf_annotation() -> str:
    from gnuradio.deeprx.recording.recording import ANNOTATION

    return "\n".join(_fields(ANNOTATION))


def sigmf_slot() -> str:
    from deeprx_common.slot import SLOT

    return "\n".join(_fields(SLOT))


def replayed_pusch() -> str:
    from gnuradio.deeprx.measure.pusch_replay import BESIDE, COMPARED, RECEIVED, REFUSED

    lines = [*_fields(RECEIVED), "", "`beside` has", "", *_fields(BESIDE)]
    lines += ["", "each of `refused`", "", *_fields(REFUSED)]
    return "\n".join([*lines, "", "and each of `comparisons`", "", *_fields(COMPARED)])


def sigmf_user() -> str:
    from deeprx_common.slot import USER

    return "\n".join(_fields(USER))


PAGES = {
    "blocks": blocks,
    "command-line": command_line,
    "train-command-line": train_command_line,
    "recipes": recipes,
    "experiments": experiments,
    "report": report,
}
INSERTS = {
    "deeprx.json": model_json,
    "deeprx.Engine": partial(bound, "Engine"),
    "deeprx.JailLimits": partial(bound, "JailLimits"),
    "stats": stats,
    "acks": acks,
    "blocks": decoded_blocks,
    "telemetry": telemetry,
    "sigmf annotation": sigmf_annotation,
    "sigmf slot": sigmf_slot,
    "replayed pusch": replayed_pusch,
    "sigmf user": sigmf_user,
}
