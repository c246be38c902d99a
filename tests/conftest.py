# SPDX-License-Identifier: GPL-3.0-or-later
import gc
import os
import signal
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest

# A shell starts background jobs with Ctrl-C ignored, and they hand that on to what they start
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    group = parser.getgroup("two processes on one suite")
    group.addoption(
        "--begun", type=Path, metavar="FOLDER", help="pass over files that another process began"
    )
    group.addoption("--last-first", action="store_true", help="begin with the last file")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--last-first"):
        files = [list(tests) for _, tests in groupby(items, lambda test: test.path)]
        items[:] = [test for tests in reversed(files) for test in tests]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    """True, as of a test that has run, where its file is another process's."""
    begun = item.config.getoption("--begun")
    return True if begun and not _ours(begun / item.path.stem) else None


@cache
def _ours(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.fixture(autouse=True, scope="session")
def _home(tmp_path_factory):
    """The user's without FFTW's wisdom: GNU Radio complains where another process writes it."""
    home = tmp_path_factory.mktemp("home")
    for path in Path.home().iterdir():
        if not path.name.startswith(".gr_fftw_wisdom"):
            (home / path.name).symlink_to(path)
    os.environ["HOME"] = str(home)


@pytest.fixture(autouse=True, scope="module")
def _flowgraphs_end_with_their_module():
    """Python holds flowgraphs in cycles, and receivers left over decide the process's threads."""
    yield
    gc.collect()


@pytest.fixture
def logged_from_info():
    """Blocks log from level info on, as in a program: commands of other tests leave less."""
    from gnuradio import gr

    level = gr.logging().default_level()
    gr.logging().set_default_level(gr.log_levels.info)
    yield
    gr.logging().set_default_level(level)
