# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that strangers' model files run in: what it may, and what becomes of its receiver."""

import ctypes
import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pmt
import pytest
import receiver_models as models
import torch
import yaml
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx import deeprx_python
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.cli.options import add_options
from gnuradio.deeprx.models.file import read_model_file
from hostile.files import FILES
from slots import slot_of

from deeprx_common.commands import Failure
from deeprx_common.files import write_arrays
from deeprx_common.options import Parser
from deeprx_common.trusted import hash_of

TESTS = Path(__file__).parent
SIZE = {"slot": slot_of(n_prb=6), "max_batch": 2}


def jails(parent: int | None = None) -> list[int]:
    """Process ids of the jails of a process, by default this one."""
    running = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "comm").read_text().strip()
            line = re.search(r"^PPid:\t(\d+)", (folder / "status").read_text(), re.MULTILINE)
        except OSError:  # it has ended
            continue
        if name == "deeprx-jail" and int(line[1]) == (parent or os.getpid()):
            running.append(int(folder.name))
    return running


def status(process: int, thread: str, key: str) -> str:
    text = Path(f"/proc/{process}/task/{thread}/status").read_text()
    return re.search(rf"^{key}:\s+(\S+)", text, re.MULTILINE)[1]


def slots(batch: int):
    config = deeprx.SlotConfig(n_prb=6)
    rng = np.random.default_rng(1)
    y = rng.standard_normal((batch, 2, 14, 72, 2), np.float32)
    p = np.zeros((batch, 1, 14, 72, 2), np.float32)
    p[:, :, config.dmrs] = 1
    return y, p


@pytest.fixture
def stranger(tmp_path):
    return models.save(models.ConvNet(), tmp_path / "stranger.pt")


@pytest.fixture
def impatient():
    deeprx_python.set_jail_limits(memory=256 << 20, load_s=6, batch_s=1, most_batch_s=2)
    yield
    deeprx_python.set_jail_limits()


def test_a_stranger_runs_in_a_process_without_rights(stranger):
    engine = deeprx.Engine(stranger, **SIZE)
    assert engine.description.endswith(", jailed")
    (jail,) = jails()
    assert os.listdir(f"/proc/{jail}/fd") == []
    threads = os.listdir(f"/proc/{jail}/task")
    for thread in threads:
        assert status(jail, thread, "Seccomp") == "2"
        assert status(jail, thread, "NoNewPrivs") == "1"
        assert int(status(jail, thread, "CapEff"), 16) == 0
    assert Path(f"/proc/{jail}/oom_score_adj").read_text() == "1000\n"
    assert os.getpgid(jail) == jail  # Ctrl-C is for its receiver
    environment = Path(f"/proc/{jail}/environ").read_bytes()
    assert b"PATH=" not in environment.replace(b"LD_LIBRARY_PATH=", b"")
    del engine
    gc.collect()
    assert jails() == []


def test_limits_by_default(stranger):
    """Those of docs/concepts/jail.md: what Python sets, and what the kernel keeps."""
    assert (
        "*, memory: float = 2147483648.0, load_s: float = 60.0, batch_s: float = 5.0, "
        "most_batch_s: float = 30.0)"
    ) in deeprx.JailLimits.__init__.__doc__
    shown = "JailLimits(memory=2147483648, load_s=60, batch_s=5, most_batch_s=30)"
    assert repr(deeprx.JailLimits()) == shown  # as Companion shows it
    engine = deeprx.Engine(stranger, **SIZE)
    (jail,) = jails()
    limits = Path(f"/proc/{jail}/limits").read_text()
    data = int(re.search(r"^Max data size +(\d+)", limits, re.MULTILINE)[1])
    held = 1024 * int(status(jail, jail, "VmData"))  # by now
    assert 0 < data - (2 << 30) <= held
    del engine


@pytest.mark.parametrize("way", ["Engine", "deeprx"])
def test_what_only_the_jail_refuses_takes_its_size_and_64_mib(way, tmp_path, capfd):
    """32 MiB of these the jail, which holds the file in the memory that the receiver read it to."""
    module = models.WritesFileInAnotherMethod(str(tmp_path / "written"))
    module.register_buffer("held", torch.zeros(150_000_000, dtype=torch.uint8))
    file = models.save(module, tmp_path / "m.pt")
    del module
    deeprx_python.set_jail_limits(memory=32 << 20)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = int(status(os.getpid(), os.getpid(), "VmRSS"))
    try:
        if way == "Engine":
            with pytest.raises(RuntimeError, match=r"aten::save .* is not allowed"):
                deeprx.Engine(file, **SIZE)
        else:
            assert main(["loopback", "--receiver", file, "--n-prb", "6", "--slots", "5"]) == 2
            assert "is not allowed in a model" in capfd.readouterr().err
    finally:
        deeprx_python.set_jail_limits()
    peak = 1024 * (int(status(os.getpid(), os.getpid(), "VmHWM")) - before)
    assert peak < Path(file).stat().st_size + (32 << 20)


def test_bytes_that_somebody_could_change_are_refused(stranger):
    with open(stranger, "rb") as file, pytest.raises(ValueError, match="sealed memfd"):
        deeprx.Engine(stranger, data=file, **SIZE)
    with pytest.raises(TypeError, match="SealedFile"):
        deeprx.receiver(stranger, data=Path(stranger).read_bytes())


def test_what_ships_and_what_is_trusted_runs_here(stranger):
    shipped = deeprx.Engine("baseline-lmmse", **SIZE)
    trusted = deeprx.Engine(stranger, trust=[stranger], **SIZE)
    assert "jailed" not in shipped.description + trusted.description
    assert jails() == []


def test_trust_is_in_what_a_file_holds(stranger, tmp_path):
    other = models.save(models.Echo(), tmp_path / "other.pt")
    assert deeprx.Engine(other, trust=[stranger], **SIZE).description.endswith(", jailed")
    copy = shutil.copy(stranger, tmp_path / "copy.pt")
    assert not deeprx.Engine(copy, trust=[stranger], **SIZE).description.endswith(", jailed")
    with pytest.raises(RuntimeError, match=r"trusted file '/none.pt': cannot be read"):
        deeprx.Engine(stranger, trust=["/none.pt"], **SIZE)


def test_trust_is_what_a_file_held_when_the_command_began(stranger, tmp_path):
    """A file that is exchanged behind a command's check is another one."""
    parser = Parser()
    add_options(parser, "trust")
    trust = parser.parse_args(["--trust", stranger]).trust
    assert not deeprx.Engine(stranger, trust=trust, **SIZE).description.endswith(", jailed")
    shutil.copy(models.save(models.Echo(), tmp_path / "other.pt"), stranger)
    assert deeprx.Engine(stranger, trust=trust, **SIZE).description.endswith(", jailed")
    with pytest.raises(RuntimeError, match="is not trusted, and this would run its program"):
        read_model_file(stranger, trust).program(deeprx.SlotConfig(n_prb=6), 2)


@pytest.mark.parametrize(
    "command", [["energy", "--calibrate"], ["bench", "--contender", "torchscript"]]
)
def test_a_program_that_would_run_without_a_jail_needs_trust(command, stranger, tmp_path, capsys):
    """Said before anything is measured."""
    small = ["--n-prb", "6", "--out", str(tmp_path / "out")]
    assert main([*command, "--receiver", stranger, *small]) in (1, 2)
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert f"{stranger}: is not trusted" in line
    assert f"--trust {stranger} lets it" in line
    assert "GFLOP/s" not in said.out


def times_opened(path, folder, *arguments, status=0):
    """By Python with such arguments, and by all processes of it."""
    log = folder / "log"
    strace = ["strace", "-f", "--seccomp-bpf", "--trace=open,openat,openat2", "-o"]
    ran = subprocess.run([*strace, log, sys.executable, *arguments], capture_output=True, text=True)
    assert ran.returncode == status, ran.stdout + ran.stderr
    return log.read_text().count(f'"{path}"')


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("jailed", [False, True])
@pytest.mark.parametrize("block", ["Engine", "receiver"])
def test_a_file_is_opened_once(block, jailed, stranger, tmp_path):
    """Hash, verdict and load are of the same bytes."""
    trust = [] if jailed else [hash_of(stranger).upper()]
    program = (
        "from gnuradio import deeprx\n"
        f"deeprx.{block}({stranger!r}, trust={trust}, slot=deeprx.SlotConfig(n_prb=6))"
    )
    assert times_opened(stranger, tmp_path, "-c", program) == 1


RECEIVED = ["--n-prb", "6", "--meter", "none", "--out", "out", "--receiver"]
COMMANDS = {
    "info": [],
    "loopback": ["--slots", "4", "--sinr", "6,9", *RECEIVED],
    "energy": ["--rounds", "1", "--window", "0.05", *RECEIVED],
}


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_opens_a_file_once(command, stranger, tmp_path, monkeypatch):
    """Whatever it makes of it: what it says of a file, and what received."""
    monkeypatch.chdir(tmp_path)
    arguments = [command, *COMMANDS[command], stranger]
    assert times_opened(stranger, tmp_path, "-m", "gnuradio.deeprx", *arguments) == 1


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_parity_opens_a_file_once(stranger, tmp_path):
    y, _ = slots(2)
    config = deeprx.SlotConfig(n_prb=6)
    llr, slot = np.ones((2, config.n_bits), np.float32), json.dumps(config.as_dict())
    arrays = {"y": y, "llr": llr, "slot": np.array(slot), "allowed": np.array(1e-3)}
    write_arrays(arrays, tmp_path / "slots.npz")
    arguments = ["-m", "gnuradio.deeprx", "parity", stranger, str(tmp_path / "slots.npz")]
    assert times_opened(stranger, tmp_path, *arguments, status=1) == 1  # LLRs are no ones


def loaded(receiver, ask) -> dict:
    """What a receiver that runs says of the model that it was asked for."""
    top, answers = gr.top_block(), blocks.message_debug()
    size = receiver.input_signature().sizeof_stream_item(0)
    for antenna in range(2):
        source, slow = blocks.null_source(size), blocks.throttle(size, 1000)
        top.connect(source, slow, (receiver, antenna))
    top.connect(receiver, blocks.null_sink(gr.sizeof_float))
    top.msg_connect((receiver, "stats"), (answers, "store"))
    top.start()
    try:
        ask()
        deadline, loaded = time.monotonic() + 30, []
        while not loaded and time.monotonic() < deadline:
            time.sleep(0.05)
            told = [pmt.to_python(answers.get_message(k)) for k in range(answers.num_messages())]
            loaded = [message for message in told if "model_loaded" in message]
    finally:
        top.stop()
        top.wait()
    return loaded[0]


def test_trust_is_what_a_file_held_when_the_block_was_made(stranger, tmp_path):
    receiver = deeprx.receiver("baseline-lmmse", trust=[stranger], slot=slot_of(n_prb=6))
    shutil.copy(models.save(models.Echo(), tmp_path / "other.pt"), stranger)
    answer = loaded(receiver, lambda: receiver.set_model(stranger))
    assert answer["engine"].endswith(", jailed")


def test_no_message_adds_to_what_is_trusted(stranger):
    receiver = deeprx.receiver("baseline-lmmse", slot=slot_of(n_prb=6))
    request = pmt.to_pmt({"path": stranger, "trust": [stranger, hash_of(stranger)]})
    answer = loaded(receiver, lambda: receiver._post(pmt.intern("model"), request))
    assert answer["engine"].endswith(", jailed")


def test_no_callback_of_companion_adds_to_what_is_trusted():
    block = TESTS.parent / "grc" / "deeprx_receiver.block.yml"
    callbacks = yaml.safe_load(block.read_text())["templates"]["callbacks"]
    assert callbacks and not any("trust" in callback for callback in callbacks)


@pytest.mark.parametrize("engine", ["torchscript", "openvino"])
def test_llrs_are_the_same_to_the_bit(engine, tmp_path):
    if engine == "openvino" and not models.has_openvino():
        pytest.skip("gr-deeprx was built without OpenVINO")
    net = models.ConvNet()
    path = models.save(net, tmp_path / "model.pt", models.ir_of(net))
    here = deeprx.Engine(path, engine=engine, trust=[path], **SIZE)
    jailed = deeprx.Engine(path, engine=engine, **SIZE)
    y, p = slots(2)
    for batch in (1, 2, 1):
        computed = [e.infer(y[:batch], p[:batch]) for e in (here, jailed)]
        assert computed[1].shape == (batch, 1, 14, 72, 4)
        assert (computed[0][..., :4] == computed[1]).all()


def test_its_cpu_time_counts(stranger):
    engine = deeprx.Engine(stranger, **SIZE)
    (jail,) = jails()
    clock = ~jail << 3 | 2  # clock_getcpuclockid(3)
    before = time.clock_gettime(clock)
    took = engine.time(50, 1)
    used = time.clock_gettime(clock) - before
    assert 0.9 * used < took[:, 1].sum() < 1.1 * used + 50e-3


@pytest.mark.timing
@pytest.mark.parametrize("apart", [False, True])
def test_it_costs_microseconds(apart, tmp_path):
    """More than without it, in the median: CPU time on one core, latency on two. The net does
    nothing.
    """
    cores = sorted(os.sched_getaffinity(0))[:2]
    if apart and len(cores) < 2:
        pytest.skip("one core")
    path = models.save(models.Constant(1.0), tmp_path / "model.pt")
    before, took = os.sched_getaffinity(0), []
    try:
        os.sched_setaffinity(0, cores[:1])
        for _ in range(10):  # where its memory lies makes a difference, too
            engines = [deeprx.Engine(path, trust=[path]), deeprx.Engine(path)]
            if apart:
                (jail,) = jails()
                for thread in os.listdir(f"/proc/{jail}/task"):
                    os.sched_setaffinity(int(thread), cores[1:])
            took += [[engine.time(100, 1) for engine in engines] for _ in range(5)]
            del engines
    finally:
        os.sched_setaffinity(0, before)
    wall_s, cpu_s = np.diff(np.median(np.array(took), (0, 2)), axis=0)[0]
    print(f"{1e6 * wall_s:.1f} us of latency more, {1e6 * cpu_s:.1f} us of CPU time")
    assert wall_s < 100e-6 if apart else cpu_s < 20e-6


def test_it_waits_without_cpu_time(stranger):
    engine = deeprx.Engine(stranger, **SIZE)
    engine.infer(*slots(1))
    (jail,) = jails()
    clock = ~jail << 3 | 2  # clock_getcpuclockid(3)
    before = time.clock_gettime(clock)
    time.sleep(1)
    assert time.clock_gettime(clock) - before < 5e-3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("remainder_by_0", "its jail has ended: Floating point exception"),
        ("load_endless", "its jail was ended after 2 s without an answer"),
        ("first_batch_endless", "its jail was ended after 2 s without an answer"),
        ("warm_up_endless", "its jail was ended after 2 s without an answer"),
        ("load_memory", "memory"),
    ],
)
def test_what_ends_a_jail_is_one_line(name, words, tmp_path, impatient):
    if name.endswith("endless"):
        deeprx_python.set_jail_limits(load_s=2)
    file = tmp_path / "hostile.pt"
    FILES[name](str(file), tmp_path / "written")
    with pytest.raises(RuntimeError) as error:
        deeprx.Engine(str(file), **SIZE).infer(*slots(1))
    text = str(error.value)
    assert words in text, text
    assert ("--trust" in text) == ("without an answer" in text)  # that may mend it
    assert str(file) in text and "\n" not in text
    assert jails() == []


@pytest.fixture
def endless(tmp_path):
    """A file that never has loaded."""
    FILES["load_endless"](str(tmp_path / "endless.pt"), tmp_path / "written")
    return str(tmp_path / "endless.pt")


ENDED = "its jail was ended after {} s without an answer; --jail-load and --jail-batch "


def test_a_block_has_limits_of_its_own(endless):
    for make in (deeprx.receiver, deeprx.Engine):
        with pytest.raises(Failure, match=ENDED.format(0.3)):
            make(endless, jail=deeprx.JailLimits(load_s=0.3), **SIZE)


def test_a_command_has_limits_and_says_what_to_do_where_a_jail_is_lost(endless, tmp_path, capsys):
    """Nobody's mistake: what the file needs is not known."""
    command = ["loopback", "--receiver", endless, "--n-prb", "6", "--out", str(tmp_path / "out")]
    try:
        assert main([*command, "--jail-load", "1"]) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert f"model file '{endless}': {ENDED.format(1)}" in line and "--trust" in line
        assert "--debug" not in line
        for option in ("--jail-memory", "--jail-load", "--jail-batch"):
            assert main([*command, option, "0"]) == 2
            assert "limits of a jail must be above 0" in capsys.readouterr().err
    finally:
        deeprx_python.set_jail_limits()


def test_a_batch_without_end_is_ended(tmp_path, impatient):
    file = tmp_path / "hostile.pt"
    FILES["inference_endless"](str(file), tmp_path / "written")
    engine = deeprx.Engine(str(file), **SIZE)
    y, p = slots(1)
    y[:, :, 0] *= 100  # which it waits for
    for _ in range(2):  # and every later call says so
        with pytest.raises(RuntimeError, match=r"its jail was ended after . s without an answer"):
            engine.infer(y, p)


@pytest.mark.parametrize("busy", [False, True])
def test_it_ends_with_its_receiver(busy, tmp_path, stranger):
    """However that ends: killed, it tells nobody."""
    file = tmp_path / "hostile.pt"
    FILES["load_endless"](str(file), tmp_path / "written")
    program = (
        "import sys, time\nfrom gnuradio import deeprx\n"
        "slot = deeprx.SlotConfig(n_prb=6)\n"
        f"engine = deeprx.Engine({str(file) if busy else stranger!r}, slot)\ntime.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        deadline = time.monotonic() + 30
        while not (running := jails(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        (jail,) = running
        time.sleep(2)
        assert jails(process.pid) == [jail]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and Path(f"/proc/{jail}").exists():
        time.sleep(0.05)
    assert not Path(f"/proc/{jail}").exists() or "Z" in Path(f"/proc/{jail}/stat").read_text()


OUTWARD = ("open", "openat", "openat2", "creat", "connect", "socket", "execve", "fork", "vfork")


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """A jailed load's calls as strace writes them, and which of them shuts the jail."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    folder, net = tmp_path_factory.mktemp("traced"), models.ConvNet()
    path = models.save(net, folder / "model.pt", models.ir_of(net))
    program = f"from gnuradio import deeprx\ndeeprx.Engine({path!r}, max_batch=2)"
    calls = f"--trace={','.join(OUTWARD)},clone,clone3,seccomp,landlock_restrict_self"
    log = folder / "log"
    subprocess.run(["strace", "-f", calls, "-o", log, sys.executable, "-c", program], check=True)
    lines = log.read_text().splitlines()
    (shut,) = [i for i, line in enumerate(lines) if "FLAG_TSYNC|" in line and " = 0" in line]
    return lines, shut


def test_behind_the_filter_nothing_is_opened_or_connected(traced):
    lines, shut = traced
    jail = lines[shut].split()[0]
    thread_ids = {jail}
    for line in lines:
        started = re.search(r"clone3?\b.*= (\d+)$", line)
        if started and line.split()[0] in thread_ids:
            thread_ids.add(started[1])
    assert len(thread_ids) > 1  # threads
    behind = [line for line in lines[shut + 1 :] if line.split()[0] in thread_ids]
    asked = [line for line in behind if line.split()[1].split("(")[0] in OUTWARD]
    assert not asked


def test_landlock_holds_before_the_filter_does(traced):
    create_ruleset, version_flag = 444, 1
    if ctypes.CDLL(None).syscall(create_ruleset, None, 0, version_flag) < 1:
        pytest.skip("this kernel has no Landlock")
    lines, shut = traced
    jail = lines[shut].split()[0]
    before = [line for line in lines[:shut] if line.split()[0] == jail]
    (restricted,) = [line for line in before if "landlock_restrict_self(" in line]
    assert restricted.endswith(" = 0")


def test_without_a_jail_a_stranger_is_refused(stranger, tmp_path):
    """The library alone, as where it was built without libseccomp."""
    libraries = {
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "libgnuradio-deeprx.so" in line
    }
    (library,) = libraries
    shutil.copy(library, tmp_path / "libgnuradio-deeprx.so.0")
    program = (
        "from gnuradio import deeprx\n"
        "deeprx.Engine('baseline-lmmse')\n"
        f"try:\n    deeprx.Engine({stranger!r})\nexcept RuntimeError as error:\n    print(error)\n"
        "from gnuradio.deeprx.cli import doctor\nprint(doctor._jail())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"LD_PRELOAD": str(tmp_path / "libgnuradio-deeprx.so.0")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert re.fullmatch(
        rf"model file '{stranger}': is not trusted, and there is no jail for it here \(.*\): "
        r"--trust .*\n"
        r"  none   jail +model files that do not ship are refused: there is no deeprx-jail [^:]*\n",
        answer.stdout,
    ), answer


WITHOUT = """
import ctypes, struct, sys
from gnuradio import deeprx

def answer(calls, error):
    instructions = []
    for call in calls:  # a number, and maybe its second and third argument
        places = list(zip((0, 24, 32), call))
        while places:
            (offset, value), *places = places
            instructions += [(0x20, 0, 0, offset), (0x15, 0, 1 + 2 * len(places), value)]
        instructions.append((0x06, 0, 0, 0x50000 | error))
    instructions.append((0x06, 0, 0, 0x7FFF0000))
    code = b"".join(struct.pack("HBBI", *one) for one in instructions)
    held = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(held))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, program, 0, 0) == 0

answer([map(int, call.split(":")) for call in sys.argv[2].split(",")], int(sys.argv[3]))
try:
    print(deeprx.Engine(sys.argv[1], slot=deeprx.SlotConfig(n_prb=6)).description)
except RuntimeError as error:
    print(error)
"""
LANDLOCK, SECCOMP, PIDFD, MEMFD = "444,445,446", "317", "434", "319"
DUPFD = "72:1030:5"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of calls are x86-64's")
@pytest.mark.parametrize(
    ("calls", "words"),
    [
        (LANDLOCK, r"TorchScript .*, jailed"),  # it does without
        (SECCOMP, r".* is not trusted, and there is no jail for it here \(seccomp.*\): --trust .*"),
        (PIDFD, r".* is not trusted, and there is no jail for it here \(a descriptor of its pro.*"),
        (
            DUPFD,
            r".* is not trusted, and there is no jail for it here \(a descriptor of its file.*",
        ),
        (MEMFD, r".*shared memory: Function not implemented"),
    ],
)
def test_a_kernel_without_a_call_jails_or_refuses(calls, words, stranger):
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT, stranger, calls, "38"], capture_output=True, text=True
    )
    lines = [line for line in ran.stdout.splitlines() if ":info:" not in line]
    assert len(lines) == 1 and re.fullmatch(words, lines[0]), ran


def test_children_that_nobody_waits_for(tmp_path):
    """A program that ignores SIGCHLD has the kernel forget jails that end, and reuse numbers."""
    FILES["remainder_by_0"](str(tmp_path / "m.pt"), tmp_path / "written")
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from gnuradio import deeprx\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        print(deeprx.Engine(path, slot=deeprx.SlotConfig(n_prb=6)).description)\n"
        "    except RuntimeError as error:\n"
        "        print(error)\n"
    )
    good = models.save(models.Constant(1.0), tmp_path / "good.pt")
    ran = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "m.pt", good],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    first, second = ran.stdout.splitlines()
    assert "its jail has ended" in first and second.endswith(", jailed"), ran


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize("name", ["memory", "load_s", "batch_s", "most_batch_s"])
def test_a_limit_is_a_number_that_can_be_kept(name, limit):
    with pytest.raises(ValueError, match="limits of a jail must be above 0 and below 1e15, got"):
        deeprx_python.set_jail_limits(**{name: limit})


@pytest.fixture
def beside_jail(tmp_path):
    """Runs Python with the library beside another jail: tests/hostile/jail.py."""
    libraries = {
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "libgnuradio-deeprx.so" in line
    }
    (library,) = libraries
    copy = Path(shutil.copy(library, tmp_path / "libgnuradio-deeprx.so.0"))
    jail = tmp_path / "deeprx-jail"
    jail.write_text((TESTS / "hostile/jail.py").read_text().replace("@PYTHON@", sys.executable, 1))
    jail.chmod(0o755)

    def run(misdeed, program):
        env = os.environ | {"LD_PRELOAD": str(copy), "OMP_MISDEED": misdeed}
        return subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60
        )

    return run


LOAD, BATCHES = 1, 3  # requests until then


@pytest.mark.parametrize(
    ("misdeed", "words"),
    [
        (f"wake,{LOAD}", "its jail was ended after 1 s without an answer; --jail-load .*"),
        (f"count,{LOAD}", "its jail was ended after 1 s without an answer; --jail-load .*"),
        (f"ahead,{LOAD}", "its jail was ended after 1 s without an answer; --jail-load .*"),
        (f"wake,{BATCHES}", "its jail was ended after . s without an answer(; --jail-load .*)?"),
        (f"status,{LOAD}", "its jail gave an answer that is none, and was ended"),
        (f"silent,{LOAD}", "its jail failed, and does not say why"),
        (f"escapes,{LOAD}", r"\?\[2Jfirst second\?*"),
        (f"exit,{BATCHES}", "its jail has ended with status 0"),
        (f"nan,{BATCHES}", "the model gave NaN or infinite LLRs"),
        (f"parameters,{LOAD}", "1"),
        ("killed,0", "its jail has ended: Killed"),  # while it starts
    ],
)
def test_a_jail_that_answers_as_it_likes(misdeed, words, stranger, beside_jail):
    program = (
        "import numpy as np\n"
        "from gnuradio import deeprx\n"
        "from gnuradio.deeprx import deeprx_python\n"
        "deeprx_python.set_jail_limits(load_s=1, batch_s=1, most_batch_s=1)\n"
        "y, p = np.ones((1, 2, 14, 72, 2), np.float32), np.ones((1, 1, 14, 72, 2), np.float32)\n"
        "try:\n"
        f"    engine = deeprx.Engine({stranger!r}, max_batch=2, slot=deeprx.SlotConfig(n_prb=6))\n"
        "    for _ in range(20):\n"
        "        llrs = engine.infer(y, p)\n"
        "    print(llrs.shape[0] * abs(llrs).max() if llrs.any() else 1)\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
    )
    answer = beside_jail(misdeed, program)
    said = answer.stdout.removeprefix(f"model file '{stranger}': ")
    assert re.fullmatch(words + "\n", said) and not answer.stderr, answer


def test_a_jail_without_memory_ends_in_silence():
    maps = Path("/proc/self/maps").read_text()
    library = re.search(r"/.*libgnuradio-deeprx.so.*", maps)[0]
    jail = Path(library).parent / "deeprx-jail"
    ran = subprocess.run([jail, str(os.getpid())], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", "")


@pytest.mark.parametrize("closed", [(0,), (2,), (0, 1, 2)])
def test_a_jail_for_a_program_without_standard_streams(closed, stranger, tmp_path):
    said = tmp_path / "said"
    program = (
        "import os, pathlib\n"
        "from gnuradio import deeprx\n"
        f"for stream in {closed}:\n    os.close(stream)\n"
        f"engine = deeprx.Engine({stranger!r}, slot=deeprx.SlotConfig(n_prb=6))\n"
        f"pathlib.Path({str(said)!r}).write_text(engine.description)\n"
    )
    subprocess.run([sys.executable, "-c", program], stdin=subprocess.DEVNULL, timeout=60)
    assert said.read_text().endswith(", jailed")


def test_a_forked_process_does_not_end_its_parents_jail(stranger):
    engine = deeprx.Engine(stranger, **SIZE)
    child = os.fork()
    if child == 0:
        del engine
        os._exit(0)
    os.waitpid(child, 0)
    assert engine.infer(*slots(1)).shape == (1, 1, 14, 72, 4)


def interrupted(program):
    """A process that runs a program, after Ctrl-C three seconds into a jail's life; its stderr."""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while not jails(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    finally:
        process.kill()
    return process, said


def test_ctrl_c_while_a_jail_loads(tmp_path):
    file = tmp_path / "hostile.pt"
    FILES["load_endless"](str(file), tmp_path / "written")
    slot = "deeprx.SlotConfig(n_prb=6)"
    program = f"from gnuradio import deeprx\ndeeprx.Engine({str(file)!r}, slot={slot})"
    process, said = interrupted(program)
    assert said.strip().endswith(b"KeyboardInterrupt"), said
    assert process.returncode == -signal.SIGINT
