# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation says what is there: links, command lines, blocks, options, recipe keys."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from gnuradio import deeprx
from gnuradio.deeprx.cli import COMMANDS
from gnuradio.deeprx.cli import main as deeprx_main

from deeprx_common.shipped import shipped_models

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))

from command_lines import describe, mistake  # noqa: E402

TRAINING_PYTHON = ROOT / ".venv-training/bin/python"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
NO_BLOCKS = (
    "Engine",
    "JailLimits",
    "SLOTS",
    "SlotConfig",
    "User",
    "dmrs_symbols",
    "model_path",
    "run_flowgraph",
)
BLOCKS = {path.name.partition(".")[0]: path for path in (ROOT / "grc").glob("*.block.yml")}
PROGRAMS = ("./dev", "deeprx", ".ci/run")


def command_lines(page):
    """(line, whole) of every command line on a page; whole: not only mentioned in a sentence."""
    text = page.read_text()
    fenced = re.compile(r"^```(?:|bash|sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    for block in fenced.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            if line.startswith(tuple(f"{p} " for p in PROGRAMS)):
                yield line, True
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose):
        span = " ".join(span.replace("\\|", "|").split())
        if span.startswith(tuple(f"{p} " for p in PROGRAMS)):
            yield span, False


def words_of(line):
    """Of one command, without its environment, comment, redirection and what is piped on."""
    words = shlex.split(line, comments=True)
    for k, word in enumerate(words):
        if word in ("|", "&&", ";", "&") or word.startswith((">", "2>")):
            return words[:k]
    return words


def script_mistake(path, argv):
    def main(arguments):
        sys.argv = [str(path), *arguments]
        runpy.run_path(str(path), run_name="__main__")

    before, folder = sys.argv, sys.path[:]
    sys.path.insert(0, str(path.parent))
    try:
        return mistake(main, argv)
    finally:
        sys.argv, sys.path[:] = before, folder


@cache
def tasks():
    said = subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^  (\w+)", said, re.MULTILINE)


def what_is_wrong(words):
    """One line, or none; of `./dev train`, its arguments are left for the training environment."""
    program, *rest = words
    if program == ".ci/run":
        return "" if (ROOT / program).exists() else "no such file"
    if program == "deeprx":
        return mistake(deeprx_main, rest)
    if not rest or rest[0] not in [*tasks(), "help"]:
        return f"no task {rest[:1]}"
    task, *rest = rest
    if task in ("demo", "bench"):
        return mistake(deeprx_main, [task, *rest])
    if task == "run" and rest[:1] == ["deeprx"]:
        return mistake(deeprx_main, rest[1:])
    if task == "run" and rest[:1] == ["python3"] and rest[1:2] not in ([], ["-c"]):
        path = ROOT / rest[1]
        return script_mistake(path, rest[2:]) if path.exists() else f"no file {rest[1]}"
    if task == "companion" and rest and not (ROOT / rest[0]).exists():
        return f"no file {rest[0]}"
    return ""


def matters(said, whole):
    """A sentence may name a command or an option without what must follow it."""
    return said and (whole or not re.search("are required|expected one argument", said))


def wrong(page, check):
    said = [(line, check(words_of(line)), whole) for line, whole in command_lines(page)]
    return "\n".join(f"{line}\n    {text}" for line, text, whole in said if matters(text, whole))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_command_lines_parse(page):
    assert wrong(page, what_is_wrong) == ""


def in_training(*arguments, given=None):
    """JSON that a script prints in the training environment."""
    paths = f"{ROOT}/docs:{ROOT}/python/common:{ROOT}/training"
    ran = subprocess.run(
        [TRAINING_PYTHON, *arguments], input=json.dumps(given),
        env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_training_command_lines_parse():
    """In the training environment, all at once."""
    if not TRAINING_PYTHON.exists():
        pytest.skip("no training environment (./dev train --help makes it)")
    lines = [
        (f"{page.relative_to(ROOT)}: {line}", words[2:], whole)
        for page in PAGES
        for line, whole in command_lines(page)
        if (words := words_of(line))[:2] == ["./dev", "train"]
    ]
    assert len(lines) > 20
    script = (
        "import json, sys; from command_lines import mistake; from deeprx_training.cli import main;"
        "json.dump([mistake(main, words) for words in json.load(sys.stdin)], sys.stdout)"
    )
    answers = in_training("-c", script, given=[words for _, words, _ in lines])
    said = zip(lines, answers, strict=True)
    wrong = [f"{line}\n    {text}" for (line, _, whole), text in said if matters(text, whole)]
    assert "\n".join(wrong) == ""


def test_every_recipe_key_is_explained():
    if not TRAINING_PYTHON.exists():
        pytest.skip("no training environment (./dev train --help makes it)")
    said = in_training(ROOT / "docs/recipe_keys.py")
    assert set(said) == {"recipes", "experiments"}
    keys = [
        (page, table, key["key"], key["meaning"])
        for page, tables in said.items()
        for table, (_, keys) in tables.items()
        for key in keys
    ]
    assert len(keys) > 50
    assert [key for *key, meaning in keys if not meaning] == []


@pytest.mark.parametrize("command", describe(deeprx_main), ids=lambda c: " ".join(c.words))
def test_every_option_is_explained(command):
    assert command.description
    assert [option.names for option in command.options if not option.text] == []


@cache
def training_commands():
    return in_training(ROOT / "docs/command_lines.py")


def test_every_training_option_is_explained():
    if not TRAINING_PYTHON.exists():
        pytest.skip("no training environment (./dev train --help makes it)")
    commands = training_commands()
    assert len(commands) > 5
    assert [c["words"] for c in commands if not c["description"]] == []
    assert [(c["words"], o["names"]) for c in commands for o in c["options"] if not o["text"]] == []


def test_an_option_means_the_same_on_both_command_lines():
    """tests/qa_cli.py and tests/training/test_training.py compare the commands of each."""
    if not TRAINING_PYTHON.exists():
        pytest.skip("no training environment (./dev train --help makes it)")
    ranges = {"--delay-spread S[,S]", "--doppler HZ[,HZ]"}  # what evaluate draws from
    ranges |= {"--mcs N,..", "--n-rx N,..", "--doppler HZ,.."}  # what bler goes through
    of_training = [c["options"] for c in training_commands()]
    values = {}
    for options in (*(c.options for c in describe(deeprx_main)), *of_training):
        for option in options:
            names = option["names"] if isinstance(option, dict) else option.names
            if names[-1].startswith("--") and names[-1] not in ranges:
                values.setdefault(names[-1].partition(" ")[0], set()).add(names[-1])
    assert len(values) > 60
    assert [several for several in values.values() if len(several) > 1] == []


def test_site_builds_without_a_dead_link(tmp_path):
    pytest.importorskip("mkdocs", reason="./dev docs installs it")
    if not TRAINING_PYTHON.exists():
        pytest.skip("no training environment (./dev train --help makes it)")
    ran = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
        timeout=200,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    blocks = (tmp_path / "reference/blocks.html").read_text()
    for path in BLOCKS.values():
        label = re.search("^label: (.*)$", path.read_text(), re.MULTILINE)[1]
        assert f">{label}<" in blocks
    options = (tmp_path / "reference/command-line.html").read_text()
    for command in COMMANDS:
        assert f">deeprx {command}<" in options
    words = {
        page.name: re.sub("<[^>]*>", "", page.read_text()) for page in tmp_path.rglob("*.html")
    }
    assert "class MyReceiver" in words["own-receiver.html"]
    assert [name for name, text in words.items() if "--8" in text] == []
    assert "engine.infer(y: " in words["python.html"]


@pytest.mark.parametrize(
    "name", [name for name in deeprx.__all__ if name not in NO_BLOCKS], ids=str
)
def test_every_block_has_a_page_of_its_own_in_companion(name):
    assert (ROOT / f"grc/deeprx_{name}.block.yml").exists()


FIRST_FLOWGRAPH = "from gnuradio import deeprx, gr\n"


@pytest.mark.parametrize("page", ["README.md", "docs/start/first-flowgraph.md"])
def test_first_flowgraph_runs(page, tmp_path):
    blocks = re.findall(
        "^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL
    )
    (first,) = (block for block in blocks if block.startswith(FIRST_FLOWGRAPH))
    assert len([line for line in first.splitlines() if line]) == 12
    ran = subprocess.run(
        [sys.executable, "-c", first], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert 0.02 < float(ran.stdout.splitlines()[-1].removeprefix("BER ")) < 0.03


def test_estimates_of_the_messages_page_are_drawn(tmp_path):
    page = (ROOT / "docs/reference/messages.md").read_text()
    (example,) = re.findall("^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    check = "step = np.angle(np.vdot(h[:-1], h[1:])) * slot.fft_size / 2 / np.pi\nprint(step)"
    ran = subprocess.run(
        [sys.executable, "-c", f"{example}\n{check}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert -2.5 < float(ran.stdout.splitlines()[-1]) < 0  # TDL-A's 100 ns are 0.8 samples
    assert (tmp_path / "channel.png").stat().st_size > 1000


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES[:3], ids=lambda p: p.name)
def test_links_of_pages_beside_the_site_lead_somewhere(page):
    """Those of the site: mkdocs looks."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_readme_names_every_block_and_every_receiver():
    text = (ROOT / "README.md").read_text()
    assert [
        name for name in deeprx.__all__ if name not in NO_BLOCKS and f"`{name}`" not in text
    ] == []
    ships = [Path(path).stem for path in shipped_models()]
    assert [name for name in ships if f"| {name} |" not in text] == []


def test_messages_of_the_troubleshooting_page_are_in_the_code():
    page = (ROOT / "docs/how-to/troubleshooting.md").read_text()
    tables = re.findall("^\\| message contains .*?\n\n", page + "\n", re.MULTILINE | re.DOTALL)
    messages = re.findall("^\\| `([^`]+)`", "".join(tables), re.MULTILINE)
    assert len(messages) > 15
    code = [
        re.sub(r'"\s*(?:f?")|\s+', lambda m: " " if m[0].isspace() else "", path.read_text())
        for folder in ("gr-deeprx", "python", "training")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".cc", ".py")
    ]
    assert [m for m in messages if not any(m in text for text in code)] == []


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_every_parameter_of_a_block_is_explained(name):
    pytest.importorskip("mkdocs", reason="./dev docs installs it")
    from hooks import parameter_texts

    block = yaml.safe_load(BLOCKS[name].read_text())
    labels = {parameter["label"] for parameter in block["parameters"]}
    assert labels - set(parameter_texts(block)) == set()
