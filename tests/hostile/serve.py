# SPDX-License-Identifier: GPL-3.0-or-later
"""Both ends of a process that tries model files: a test or a campaign survives what it does not.

Each line to it is a JSON request {"way": a name, "path": a model file}, each line from it
{"verdict": "accepted", "refused" or "failed", "said": text, "rss": bytes that its memory grew by}.
"""

import contextlib
import io
import json
import os
import re
import resource
import select
import subprocess
import sys
from pathlib import Path

# No other status 3 is a file's: least of all one whose line ends with (--debug shows where)
JAIL_LOST = re.compile(
    r"deeprx: error: model file '.*': its jail (has ended(: [\w -]+| with status \d+)?"
    r"|was ended after [\d.]+ s without an answer; --jail-load and --jail-batch .* made it"
    r"|gave an answer that is none, and was ended)"
)


class Refused(Exception):
    """The user's one line."""


def run_command(main, arguments, ends=(0,)):
    """A command line in this process; ends: statuses that are no failure."""
    says = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(says):
        code = main(arguments)
    said = says.getvalue().rstrip("\n")
    if code == 2 or (code == 3 and JAIL_LOST.fullmatch(said)):  # a user's mistake, or a file's
        raise Refused(said)
    assert code in ends, f"status {code}: {said}"


def _peak():
    fields = Path("/proc/self/status").read_text().split()
    return 1024 * int(fields[fields.index("VmHWM:") + 1])


def _answer(way, path):
    try:
        return {"verdict": "accepted", "said": way(path) or ""}
    except Refused as refusal:
        return {"verdict": "refused", "said": str(refusal)}
    except Exception as error:  # the asker's to judge
        return {"verdict": "failed", "said": f"{type(error).__name__}: {error}"}


def serve(ways, harmless):
    """Answers until the input ends.

    ways: name: function of a path that raises Refused, or returns a text. harmless: a file.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    known = set()
    for line in sys.stdin:
        request = json.loads(line)
        way = ways[request["way"]]
        if way not in known:  # what every model needs is no model's
            _answer(way, harmless)
            known.add(way)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _peak()
        said = _answer(way, request["path"])
        print(json.dumps(said | {"rss": _peak() - before}), file=answers, flush=True)
    os._exit(0)  # a flowgraph may run


class Gone(AssertionError):
    """It died, or says nothing."""


class Victim:
    """A process of a script that serves; another one where the last is gone.

    log: file of what it prints. folder: its working directory. python: what runs it.
    """

    def __init__(
        self, script: Path, log: Path, folder: Path | None = None, python: str = sys.executable
    ):
        self.script, self.log, self.folder, self.python = script, log, folder, python
        self.process = None

    def ask(self, way: str, path, seconds: float) -> dict:
        if self.process is None:
            tests = str(Path(__file__).resolve().parents[1])
            modules = os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH"))))
            self.process = subprocess.Popen(
                [self.python, self.script.resolve()], cwd=self.folder, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("w"),
                start_new_session=True, env=os.environ | {"PYTHONPATH": modules},
            )  # fmt: skip
            self._ask(way, "no such file", 120)  # imports take their time
        return self._ask(way, path, seconds)

    def _ask(self, way, path, seconds):
        print(json.dumps({"way": way, "path": str(path)}), file=self.process.stdin, flush=True)
        line = None
        if select.select([self.process.stdout], [], [], seconds)[0]:
            line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = None if line is None else self.process.wait()
        self.end()
        raise Gone(f"no answer within {seconds} s" if code is None else f"it died: {code}")

    def end(self):
        if self.process:
            self.process.kill()
            self.process.communicate()
        self.process = None
