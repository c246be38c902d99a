# SPDX-License-Identifier: GPL-3.0-or-later
"""GNU Radio Companion as a user runs it, and what it generates.

watch(), for a process of its own (`python -c "from companion import watch; watch(...)"`), runs a
flowgraph that grcc generated, without a screen, and closes its window as a user would.
"""

import atexit
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"


def environment() -> dict:
    """Of grcc and of what it generates."""
    return os.environ | {
        "GRC_BLOCKS_PATH": str(HERE.parent / "grc"),
        "QT_QPA_PLATFORM": "offscreen",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{HERE}:{os.environ.get('PYTHONPATH', '')}",
    }


@cache
def _generated() -> Path:
    """What grcc makes of all examples: most of its time goes into its start."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    ran = subprocess.run(
        ["grcc", "-o", folder, *EXAMPLES.glob("*.grc")],
        env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


def generate(example: str, folder: Path) -> Path:
    """What grcc makes of an example, in this folder."""
    identity = re.search(r"^    id: (\w+)$", (EXAMPLES / f"{example}.grc").read_text(), re.M)[1]
    return Path(shutil.copy(_generated() / f"{identity}.py", folder))


def watch(name, enough, result, begin=lambda top: None, seconds=60.0):
    """Module `name`: begin(top) when it starts; once enough(top), or after so many seconds, prints
    result(top) as JSON and ends the process. top.shown: where there is a display, its last point of
    each receiver at each SNR.
    """
    from PyQt5 import Qt

    module = importlib.import_module(name)

    class Watched(getattr(module, name)):
        def __init__(self):
            super().__init__()
            self.shown = {}
            if hasattr(self, "display"):
                self.display.widget.received.connect(self.note)
            self.limit = time.monotonic() + seconds
            self.timer = Qt.QTimer()
            self.timer.timeout.connect(self.look)
            self.timer.start(100)
            begin(self)

        def note(self, report):
            for point in report["points"]:
                self.shown[point["receiver"], point["snr_db"]] = point

        def points(self, slots):
            return [p for p in self.shown.values() if p["slots"] >= slots]

        def look(self):
            if enough(self) or time.monotonic() > self.limit:
                self.timer.stop()
                print(json.dumps(result(self)), flush=True)
                self.close()

    module.main(top_block_cls=Watched)
    os._exit(0)  # PyQt may crash while Python takes its windows apart


class Companion:
    """GNU Radio Companion as `./dev companion` starts it, in a window of a screen of its own.

    Every file is a page; the first is in front. Use it in a with statement.
    """

    def __init__(self, folder: Path, files: list[Path]):
        self._log = folder / "console.txt"
        ours, theirs = os.pipe()
        self._screen = subprocess.Popen(
            ["Xvfb", "-displayfd", str(theirs), "-screen", "0", "1600x1000x24"],
            pass_fds=[theirs], stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs)
        with open(ours) as number:
            display = number.readline().strip()
        self._environment = environment() | {
            "DISPLAY": f":{display}",
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "QT_QPA_PLATFORM": "xcb",
            "DEEPRX_DEV_READY": "1",
            "PYTHONUNBUFFERED": "1",
            "GR_CONF_GRC_XTERM_EXECUTABLE": "/",  # is there and is none: no dialogue, no terminal
        }
        self._companion = subprocess.Popen(
            [HERE.parent / "dev", "companion", *files],
            env=self._environment, cwd=folder, stdin=subprocess.DEVNULL,
            stdout=self._log.open("w"), stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._n_pages = len(files)

    def __enter__(self):
        try:
            self._until(lambda: self._log.read_text().count(">>> Done") == self._n_pages, 100)
            self._window = self._until(lambda: self.windows("gnuradio-companion", "--class"), 100)[
                0
            ]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        os.killpg(self._companion.pid, signal.SIGKILL)
        self._companion.wait()
        self._screen.terminate()
        self._screen.wait()

    def windows(self, text: str, of: str = "--name") -> list[str]:
        """Those whose title holds `text`."""
        return self._xdotool("search", "--onlyvisible", of, text).split()

    def press(self, key: str) -> None:
        self._xdotool("windowfocus", "--sync", self._window, "key", key)

    def run(self, shows: str | None, seconds: float = 3, limit: float = 100) -> str:
        """F6 on the page in front, then its page is closed; what the flowgraph said until its end.

        That end is its own, or F7's, `seconds` after a window of the title `shows` has opened or
        this text was printed.
        """
        start = len(self._log.read_text())
        self.press("F6")

        def said():
            return self._log.read_text()[start:].partition("Executing: ")[2].partition("\n")[2]

        def ended():
            return re.search(r"^>>> Done.*$", said(), re.MULTILINE)

        self._until(lambda: ended() or (shows and (shows in said() or self.windows(shows))), limit)
        if not ended():
            time.sleep(seconds)
            self.press("F7")
            self._until(ended, limit)
        self.press("ctrl+w")
        return said()

    def _xdotool(self, *arguments: str) -> str:
        ran = subprocess.run(
            ["xdotool", *arguments], env=self._environment, capture_output=True, text=True
        )
        return ran.stdout

    def _until(self, reached, limit: float):
        end = time.monotonic() + limit
        while not (result := reached()):
            assert time.monotonic() < end, self._log.read_text()
            assert self._companion.poll() is None, self._log.read_text()
            time.sleep(0.2)
        return result
