# SPDX-License-Identifier: GPL-3.0-or-later
"""Who imports whom: every folder stands on a floor and imports what is below it, and nothing
imports itself by way of others. Read from the sources, so that imports within functions count, too.
"""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# name: its folder, and its floors from the ground up; folders of one floor do not see each other
PACKAGES = {
    "deeprx_training": (
        "training/deeprx_training",
        (
            ("",),  # modules beside the folders
            ("data",),
            ("receivers",),
            ("teaching",),
            ("evaluation",),
            ("export",),
            ("experiments",),
            ("cli",),
        ),
    ),
    "gnuradio.deeprx": (
        "python/deeprx",
        (
            ("telemetry", "models"),
            ("blocks",),
            ("recording", "radio"),
            ("measure",),
            ("cli",),
            ("",),  # the package itself shows what is in it
        ),
    ),
}


def imports(folder, package):
    """{module: modules of the package that it imports}, names relative to the package."""
    files = {
        ".".join(p.relative_to(folder).with_suffix("").parts).removesuffix("__init__").strip("."): p
        for p in folder.rglob("*.py")
    }
    return {name: set(_imported(name, path, files, package)) for name, path in files.items()}


def _imported(name, path, files, package):
    is_folder = path.name == "__init__.py"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            bases = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".") if name else []
            up = parts[: len(parts) - node.level + is_folder] if node.level else []
            base = ".".join([package] * bool(node.level) + up + [node.module or ""]).strip(".")
            bases = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for base in bases:
            module = base.removeprefix(f"{package}.") if base.startswith(f"{package}.") else None
            while module and module not in files:  # a name within a module
                module = module.rpartition(".")[0]
            if module and module != name:
                yield module


def faults(graph, floors):
    """Imports that go up or sideways, and one circle where there are any."""
    height = {folder: k for k, floor in enumerate(floors) for folder in floor}
    folders = {m.partition(".")[0] for m in graph if "." in m} | {f for f in height if f in graph}

    def home(module):
        first = module.partition(".")[0]
        return first if first in folders else ""

    for module, imported in graph.items():
        for other in imported:
            a, b = home(module), home(other)
            if a != b and not (a in height and b in height and height[b] < height[a]):
                yield f"{module} imports {other}"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "circle: " + " <- ".join(error.args[1])


@pytest.mark.parametrize("package", ["deeprx_training", "gnuradio.deeprx"])
def test_every_import_goes_down(package):
    folder, floors = PACKAGES[package]
    assert not list(faults(imports(ROOT / folder, package), floors))


def test_what_goes_up_or_round_is_seen(tmp_path):
    for name, text in {
        "low/a.py": "from ..high import b\n",
        "low/__init__.py": "",
        "high/b.py": "def f():\n    from .c import g\n",
        "high/c.py": "import pack.high.b\nfrom pack.low.a import x\n",
        "high/__init__.py": "from .b import f\n",
        "side/d.py": "from pack.high.c import g\n",
        "__init__.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    lines = list(faults(imports(tmp_path, "pack"), (("",), ("low",), ("high", "side"))))
    assert lines[:2] == ["low.a imports high.b", "side.d imports high.c"]
    assert len(lines) == 3 and lines[2].startswith("circle: ")


LIB = ROOT / "gr-deeprx/lib"
LOWER = {
    "phy": (),
    "kernels": ("phy",),
    "engines": ("kernels", "phy"),
    "blocks": ("engines", "kernels", "phy"),
}


@pytest.mark.parametrize("folder", LOWER)
def test_cpp_includes_go_down(folder):
    """torch and OpenVINO are for engines alone, GNU Radio's blocks for blocks; public headers name
    neither engine.
    """
    home = {path.name: path.parent.name for path in LIB.glob("*/*.h*")}
    sources = [p for p in (LIB / folder).iterdir() if p.suffix in (".cc", ".h")]
    assert len(sources) > 5
    for path in sources:
        for mark, name in re.findall('^#include ([<"])([^>"]+)[>"]', path.read_text(), re.M):
            if mark == '"':
                assert home.get(name, folder) in (folder, *LOWER[folder]), (path, name)
            top, *rest = name.split("/")
            if top in ("torch", "ATen", "c10", "openvino"):
                assert folder == "engines", (path, name)
            if top == "gnuradio" and folder != "blocks":
                assert rest[0] in ("deeprx", "fft"), (path, name)


def test_public_headers_name_no_engine():
    for path in (ROOT / "gr-deeprx/include").rglob("*.h"):
        assert not re.search('#include [<"](torch|ATen|c10|openvino)/', path.read_text()), path
