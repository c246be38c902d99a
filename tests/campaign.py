# SPDX-License-Identifier: GPL-3.0-or-later
"""./dev fuzz: strangers' files and messages, changed at random, through all that takes them.

Parsers in C++ under libFuzzer; beside them, in processes that a finding may end: model files
through info, check, load and batches; archives through their two readers, which must agree; SigMF
metadata through replay; a gNB's log through import-gnb; telemetry through the monitor; PMTs through
every message port and as tags; recipes, experiments and conditions through their readers, in the
training environment. A finding is an end of the process, a hang, an exception that is no
refusal, a refusal of more than a line, a file written.
"""

import argparse
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import qa_native
import receiver_models
from fuzz import mutate
from gnuradio.deeprx.recording.gnb_dump import import_gnb
from gnuradio.deeprx.recording.sigmf import sha512
from hostile import archives as hostile_archives
from hostile import files
from hostile.serve import Gone, Victim
from telemetry_reports import report_of

from deeprx_common.revision import git_revision

TARGETS = Path(__file__).resolve().parent / "fuzz"
ROOT = TARGETS.parents[1]
GOLDEN = ROOT / "tests" / "golden"
HOSTILE = ROOT / "tests" / "hostile"
TRAINING = ROOT / ".venv-training" / "bin" / "python"
BUILD = ROOT / "build" / "fuzz"
STORM = ROOT / "build" / "storm" / "tests" / "swap_storm"
USUAL_ADDRESSES = ["setarch", "-R"]  # ThreadSanitizer needs them; some containers refuse
FINDINGS = BUILD / "findings"
MAX_LEN = {"data_form": 131072}  # a whole net
LINE = 1000  # characters of a refusal, at most
HANG_S = 90  # a jail's time for a load, and some


class Part:
    """One way in: a count of what went there, and of what was found.

    goal: inputs of a whole campaign; None: as much time as others have.
    """

    turn_s = 30  # it has a corpus to read first

    def __init__(self, name: str, goal: int | None = None):
        self.name, self.goal = name, goal
        self.known: set[str] = set()  # kinds of findings: each is kept once
        self.counts = dict.fromkeys(("inputs", "refused", "findings"), 0) | {"seconds": 0.0}

    def done(self) -> float:
        return self.counts["inputs"] / self.goal if self.goal else self.counts["seconds"]

    def report(self, input_: bytes | None, why: str) -> None:
        self.counts["findings"] += 1
        kind = re.sub(r"[^a-zA-Z_:]+", " ", why)[:80]
        if kind in self.known:
            return
        self.known.add(kind)
        where = ""
        if input_ is not None:
            path = FINDINGS / f"{self.name}-{self.counts['inputs']}"
            path.write_bytes(input_)
            where = f" ({path.relative_to(ROOT)})"
        print(f"\r\033[K{self.name}: {why}{where}", flush=True)


class Parser(Part):
    """A libFuzzer target; its corpus grows from campaign to campaign."""

    def run(self, seconds: float, stopped: threading.Event) -> None:
        corpus = BUILD / "corpus" / self.name
        corpus.mkdir(parents=True, exist_ok=True)
        seeds = TARGETS / "seeds" / self.name
        given = [BUILD / self.name, corpus, *([seeds] if seeds.exists() else [])]
        limits = [f"-max_total_time={max(1, round(seconds))}", "-timeout=10", "-rss_limit_mb=2048"]
        more = [
            "-print_final_stats=1",
            f"-max_len={MAX_LEN.get(self.name, 16384)}",
            f"-artifact_prefix={FINDINGS}/{self.name}-",
        ]
        process = subprocess.Popen(
            [*given, *limits, *more], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        said = []
        reader = threading.Thread(target=lambda: said.extend(process.stderr), daemon=True)
        reader.start()
        while process.poll() is None:
            if stopped.wait(0.1):
                process.send_signal(signal.SIGINT)
                process.wait()
        reader.join()
        text = "".join(said)
        if executed := re.search(r"number_of_executed_units: (\d+)", text):
            self.counts["inputs"] += int(executed[1])
        if process.returncode and not stopped.is_set():
            written = re.search(r"Test unit written to (\S+)", text)
            why = next((s for s in said if s.startswith(("SUMMARY", "expected:"))), "it ended")
            self.report(
                None, f"{why.strip()} ({Path(written[1]).name if written else text[-300:]})"
            )


class Storm(Part):
    """Models swapped every 12 ms under ThreadSanitizer, with starts, stops and destruction."""

    def run(self, seconds: float, stopped: threading.Event) -> None:
        models = [ROOT / "models" / "deeprx-pusch.pt", "sure-lmmse", "ls-lmmse", "missing.pt"]
        command = [*USUAL_ADDRESSES, STORM, str(max(2, round(seconds))), *models]
        options = f"suppressions={TARGETS / 'tsan.supp'} exitcode=0 history_size=4"
        process = subprocess.Popen(
            command, env=os.environ | {"TSAN_OPTIONS": options}, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        text, _ = process.communicate()
        if executed := re.search(r"(\d+) swaps asked for", text):
            self.counts["inputs"] += int(executed[1])
        if process.returncode:
            self.report(text.encode(), f"it ended: {process.returncode}")
        for race in text.split("WARNING: ThreadSanitizer: ")[1:]:
            summary = re.search(r"SUMMARY: ThreadSanitizer: (.*)", race)
            self.report(race.encode(), summary[1] if summary else race[:80])


class Inputs(Part):
    """Inputs made here, taken by a victim. make: of (draw, folder) -> [(way, path or text)].

    victim: its script, and what runs it.
    """

    turn_s = 5

    def __init__(
        self, name, goal, make, scratch: Path, at_end=(), victim=("victim.py", sys.executable)
    ):
        super().__init__(name, goal)
        self.make, self.at_end = make, at_end
        self.folder = scratch / name
        self.written = self.folder / "written"
        self.written.mkdir(parents=True)
        script, python = victim
        self.victim = Victim(HOSTILE / script, self.folder / "said", self.written, python)

    def run(self, seconds: float, stopped: threading.Event) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not stopped.is_set():
            draw = random.Random(f"{self.name} {self.counts['inputs']}")
            verdicts = [self._ask(*request) for request in self.make(draw, self.folder)]
            self.counts["inputs"] += 1
            self.counts["refused"] += "refused" in verdicts
        for request in self.at_end:
            self._ask(*request)

    def _ask(self, way: str, what) -> str:
        try:
            answer = self.victim.ask(way, what, HANG_S)
        except Gone as gone:
            answer = {"verdict": "gone", "said": str(gone)}
        said = answer["said"]
        why = ""
        if answer["verdict"] in ("gone", "failed"):
            why = said
        elif not said.isprintable() or len(said) > LINE:
            why = f"{len(said)} characters of refusal: {said!r:.300}"
        elif list(self.written.iterdir()):
            why = "a file was written"
            shutil.rmtree(self.written)
            self.written.mkdir()
        if why:
            data = (
                what.read_bytes()
                if isinstance(what, Path)
                else str(what).encode("utf-8", "replace")
            )
            self.report(data, f"{way}: {why:.400}")
        return answer["verdict"]

    def close(self):
        self.victim.end()


def model_files(draw, folder):
    """One file that is valid or attacks, changed."""
    path = folder / "changed.pt"
    path.write_bytes(mutate.archive(draw, _base(draw.choice(BASES), folder)))
    return [("info", path), ("many_engines", path)]


MODULES = {
    "constant": lambda: receiver_models.Constant(1.0),
    "echo": receiver_models.Echo,
    "net": lambda: receiver_models.ConvNet(2, 4),
    "int8": receiver_models.Int8Net,
}
SLOW = ("_endless", "_memory", "deep_", "long_")  # as they are, they take a minute or a gigabyte
AS_DATA = ("data", "halved", "stepped")
BASES = [*MODULES, "net_ir", *AS_DATA, *(n for n in files.FILES if not any(s in n for s in SLOW))]
_bases = {}


def _base(name, folder):
    if name not in _bases:
        path = folder / "base.pt"
        if name == "small":
            small = hostile_archives.records()
            _bases[name] = {f"m/{record}": data for record, data in small.items()}
            return _bases[name]
        if name == "data":
            qa_native.saved(path)
        elif name == "halved":
            qa_native.saved(path, qa_native.IN_BFLOAT16, precision="bfloat16")
        elif name == "stepped":
            qa_native.saved(path, qa_native.IN_INT8, precision="int8")
        elif name == "net_ir":
            net = receiver_models.ConvNet(2, 4)
            receiver_models.save(net, path, receiver_models.ir_of(net))
        elif name in MODULES:
            quantized = "onednn" if name == "int8" else None
            receiver_models.save(MODULES[name](), path, quantized_engine=quantized)
        else:
            files.FILES[name](str(path), folder / "written" / "by_the_program")
        _bases[name] = files.records(path)
    return _bases[name]


def archives(draw, folder):
    """A file that is small, or that C++'s reader of the archive was fuzzed with, changed."""
    path = folder / "changed.pt"
    fuzzed = _fuzzed()
    if fuzzed and draw.random() < 0.5:
        data = draw.choice(fuzzed).read_bytes()
        path.write_bytes(mutate.octets(draw, data) if draw.random() < 0.3 else data)
    else:
        path.write_bytes(mutate.archive(draw, _base(draw.choice(("small", *BASES)), folder)))
    return [("readers", path)]


@functools.cache
def _fuzzed():
    """As they were when the campaign began."""
    return sorted((BUILD / "corpus" / "archive").glob("*"))


def metadata(draw, folder):
    """Of recordings of samples, of one of grids, and of a collection."""
    if draw.random() < 0.2:
        return _collection(draw, folder)
    path = folder / "changed.sigmf-meta"
    base = draw.choice(("cf32", "ci16", "pusch"))
    meta = _pusch(folder) if base == "pusch" else GOLDEN / f"{base}.sigmf-meta"
    text = json.loads(meta.read_text())
    text["global"].pop("core:sha512")  # else it only says that the data were changed
    path.with_suffix(".sigmf-data").unlink(missing_ok=True)
    path.with_suffix(".sigmf-data").symlink_to(meta.with_suffix(".sigmf-data"))
    changed = mutate.json_text(draw, json.dumps(text))
    path.write_text(changed, encoding="utf-8", errors="surrogatepass")
    return [("pusch" if base == "pusch" else "replay", path)]


def _collection(draw, folder):
    for kind in ("meta", "data"):
        if not (part := folder / f"part.sigmf-{kind}").exists():
            part.symlink_to(GOLDEN / f"cf32.sigmf-{kind}")
    stream = {"name": "part", "hash": sha512(folder / "part.sigmf-meta")}
    text = json.dumps({"collection": {"core:version": "1.0.0", "core:streams": [stream, stream]}})
    path = folder / "changed.sigmf-collection"
    path.write_text(mutate.json_text(draw, text), encoding="utf-8", errors="surrogatepass")
    return [("replay", path)]


def _pusch(folder):
    meta = folder / "pusch.sigmf-meta"
    if not meta.exists():
        import_gnb(GOLDEN / "gnb_capture.bin", GOLDEN / "gnb_capture.log", meta)
    return meta


def gnb_logs(draw, folder):
    """Bytes of a log changed, and a value."""
    path = folder / "changed.log"
    lines = mutate.octets(draw, (GOLDEN / "gnb_capture.log").read_bytes()).split(b"\n")
    fields = [k for k, line in enumerate(lines) if b"=" in line]
    at = draw.choice(fields)
    key = draw.choice(re.findall(rb"\w+=", lines[at]) or [b"="])
    value = draw.choice((str(mutate.number(draw)), draw.choice(mutate.TEXTS)))
    lines[at] = lines[at].replace(key, key + value.encode("utf-8", "surrogatepass"), 1)
    path.write_bytes(b"\n".join(lines))
    return [("gnb", path)]


FIELDS = {
    "schema": "deeprx.telemetry/1",
    "source": "roof",
    "run": "r",
    "sequence": 0,
    "time_s": 1.0,
}
REPORT = json.dumps(report_of(slots_by_model={"a": 3}, engine="e") | {"telemetry": FIELDS})


def telemetry(draw, folder):
    return [("monitor", mutate.json_text(draw, REPORT))]


NAMED = [ROOT / "training" / "recipes", ROOT / "models"]  # by files of TOML


def recipes(draw, folder):
    """Recipes, experiments and conditions that ship."""
    for named in NAMED:
        if not (folder / named.name).exists():
            (folder / named.name).symlink_to(named)
    base = draw.choice(sorted(ROOT.glob("training/*/*.toml")))
    path = folder / "changed" / "changed.toml"
    path.parent.mkdir(exist_ok=True)
    text = mutate.toml_text(draw, base.read_text())
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    way = "conditions" if base.stem == "conditions" else base.parent.name.rstrip("s")
    return [(way, path)]


def ports(draw, folder):
    return [("ports", str(draw.random()))]


def seed_corpora():
    """What ships and what tests make, as inputs of the parsers to begin with."""
    for name, data in _seeds():
        path = BUILD / "corpus" / name
        path.mkdir(parents=True, exist_ok=True)
        (path / f"seed-{zlib.crc32(data):08x}").write_bytes(data)


def _seeds():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for base in ("constant", "int8", "net", "net_ir", "ir_gather_outside", "cast_of_class"):
            entries = _base(base, folder)
            (folder / "file").unlink(missing_ok=True)
            files.write(folder / "file", entries)
            yield "archive", (folder / "file").read_bytes()
            for entry, data in entries.items():
                for end, target in (
                    (".json", "info"),
                    (".xml", "ir"),
                    (".py", "code"),
                    (".pkl", "pickle"),
                ):
                    if entry.endswith(end):
                        yield target, data
        for base in AS_DATA:
            data = _base(base, folder)
            files.write(folder / "file", data)
            yield "data_form", (folder / "file").read_bytes()
            yield "weights", next(v for name, v in data.items() if name.endswith("safetensors"))
    for make in (hostile_archives.GOOD | hostile_archives.BAD).values():
        if len(file := make()) < MAX_LEN.get("archive", 16384):
            yield "archive", file


def lane(parts: list[Part], seconds: float, stopped: threading.Event) -> None:
    """Turns of the parts until time is up, but each once; then who is furthest from its goal."""
    end = time.monotonic() + seconds
    waiting = list(parts)
    while (waiting or time.monotonic() <= end - 0.5) and not stopped.is_set():
        part = waiting.pop() if waiting else min(parts, key=Part.done)
        began = time.monotonic()
        left = max(0.5, end - began)
        part.run(min(left, part.turn_s, seconds / 2 / len(parts)), stopped)
        part.counts["seconds"] += time.monotonic() - began


def load(parts: list[Part]) -> None:
    """Counts of the same revision go on."""
    try:
        before = json.loads((BUILD / "counts.json").read_text())
    except (OSError, ValueError):
        return
    if before["revision"] == git_revision():
        for part in parts:
            part.counts |= before["parts"].get(part.name, {})


def save(parts: list[Part]) -> None:
    counts = {"revision": git_revision(), "parts": {part.name: part.counts for part in parts}}
    new = BUILD / "counts.json.new"
    new.write_text(json.dumps(counts, indent=1))
    new.replace(BUILD / "counts.json")


def show(parts: list[Part]) -> None:
    """What was reached at this revision, in all runs."""
    row = "{:16}{:>12}{:>8}{:>12}{:>10}{:>10}".format
    print(row(git_revision(), "inputs", "of", "refused", "findings", "a second"))
    for part in parts:
        counts = part.counts
        refused = f"{counts['refused']:,}" if isinstance(part, Inputs) else ""
        goal = f"{part.goal:,}" if part.goal else ""
        pace = f"{counts['inputs'] / max(counts['seconds'], 1e-9):,.0f}"
        print(row(part.name, f"{counts['inputs']:,}", goal, refused, counts["findings"], pace))


def in_cpp() -> list[Part]:
    """Those that were built."""
    names = [path.stem for path in sorted(TARGETS.glob("*.cc"))]
    parsers = [Parser(name) for name in names if (BUILD / name).exists()]
    storms = STORM.exists() and subprocess.run([*USUAL_ADDRESSES, "true"]).returncode == 0
    return [*parsers, *([Storm("swap_storm")] if storms else [])]


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="default: %(default)s")
    arguments = parser.parse_args()
    FINDINGS.mkdir(parents=True, exist_ok=True)
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    scratch = Path(tempfile.mkdtemp(prefix="deeprx-fuzz-"))
    parsers = in_cpp()
    inputs = [
        Inputs("model_files", 10_000, model_files, scratch),
        Inputs("archives", 10_000, archives, scratch),
        Inputs("metadata", 10_000, metadata, scratch),
        Inputs("gnb_logs", 1_000, gnb_logs, scratch),
        Inputs("telemetry", 10_000, telemetry, scratch),
        Inputs("ports", 10_000, ports, scratch, [("ports", "wait")]),
    ]
    if TRAINING.exists():  # ./dev fuzz and ./dev test see to it
        training = "training_victim.py", str(TRAINING)
        inputs.append(Inputs("recipes", 1_000, recipes, scratch, victim=training))
    parts = [*parsers, *inputs]
    load(parts)
    if parsers:
        seed_corpora()
    stopped = threading.Event()
    seconds = 60 * arguments.minutes
    began, told, status = time.monotonic(), 0.0, 0
    pool = ThreadPoolExecutor()
    lanes = [
        pool.submit(lane, those, seconds, stopped)
        for those in (parsers, inputs[:1], inputs[1:])
        if those
    ]
    try:
        while not all(one.done() for one in lanes):
            for one in lanes:
                if one.done():
                    one.result()  # raises what went wrong here, in the campaign itself
            time.sleep(0.5)
            passed = time.monotonic() - began
            if sys.stdout.isatty() or passed - told > 30:
                told = passed
                done = ", ".join(f"{part.name} {part.counts['inputs']:,}" for part in parts)
                line = f"{passed / 60:.1f} of {arguments.minutes:g} min: {done}"
                print(
                    f"\r\033[K{line}" if sys.stdout.isatty() else line,
                    end="\n"[: not sys.stdout.isatty()],
                    flush=True,
                )
                save(parts)
    except KeyboardInterrupt:
        print("\nstopped: the next call goes on from here")
        status = 130
    finally:
        stopped.set()
        pool.shutdown()
        for part in inputs:
            part.close()
        shutil.rmtree(scratch, ignore_errors=True)
        save(parts)
    for one in lanes:
        one.result()
    print()
    show(parts)
    return status or int(any(part.counts["findings"] for part in parts))


if __name__ == "__main__":
    sys.exit(main())
