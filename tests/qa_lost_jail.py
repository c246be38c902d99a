# SPDX-License-Identifier: GPL-3.0-or-later
"""Models that crash or hang when a certain slot comes: the receiver goes on or ends in a line."""

import gc
import itertools
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pmt
import pytest
import receiver_models as models
import torch
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx import deeprx_python
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.models.file import ModelFile
from gnuradio.deeprx.recording.gnb_dump import import_gnb
from qa_jail import interrupted, jails
from slots import slot_of

from deeprx_common import report

GOLDEN = Path(__file__).parent / "golden"
GNB = "gnb_capture.bin", "gnb_capture.log"
CONFIG = deeprx.SlotConfig(n_prb=6)


class Harmful(torch.nn.Module):
    """Ones, until a slot comes that has nothing but its first sample."""

    def __init__(self, hangs: bool = False):
        super().__init__()
        self.hangs = hangs

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        triggered = int((y[:, 0, 0, 0, 0] > 50 * y.abs().mean()).any())
        if self.hangs:
            n = triggered
            while n != 0:
                n = n % 7 + 1
            triggered = 0
        ones = float(1 + 0 * (7 % (1 - triggered)))  # the processor divides by zero
        return torch.full([y.size(0), 14, y.size(3), bits], ones)


class Fragile(torch.nn.Module):
    """Crashes at every other slot or so; not at the noise that it is warmed up with."""

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        triggered = int((y[:, 0, 0, 0, 0] < 0).any())
        ones = float(1 + 0 * (7 % (1 - triggered)))  # the processor divides by zero
        return torch.full([y.size(0), 14, y.size(3), bits], ones)


class Endless(torch.nn.Module):
    """Never done, not even with warming up."""

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        n = bits
        while n != 0:
            n = n % 7 + 1
        return y


class EndlessPairs(torch.nn.Module):
    """Loads, and takes one slot; never done with two."""

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        n = int(y.size(0) == 2)
        while n != 0:
            n = n % 7 + 1
        return torch.ones([y.size(0), 14, y.size(3), bits])


class Slow(torch.nn.Module):
    """Takes its time with each batch."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        n = bits
        for _ in range(self.steps):
            n = n % 7 + 1
        return torch.ones([y.size(0), 14, y.size(3), bits]) * n


class Slots(gr.sync_block):
    """Endless slots of noise, about 500 a second; while `harm`, those that trigger."""

    def __init__(self):
        gr.sync_block.__init__(self, "slots", None, [(np.complex64, CONFIG.fft_size)])
        rng = np.random.default_rng(1)
        noise = rng.normal(size=(14, CONFIG.fft_size, 2)).astype(np.float32)
        self.noise = noise.view(np.complex64)[..., 0]
        self.trigger = np.zeros_like(self.noise)
        self.trigger[0, CONFIG.fft_size // 2 - 6 * CONFIG.n_prb] = 1
        self.harm, self.sent = 0, 0
        self.set_output_multiple(14)
        self.set_max_noutput_items(14)

    def work(self, input_items, output_items):
        time.sleep(0.002)
        harmful = self.harm > 0  # a test may set it in between
        output_items[0][:14] = self.trigger if harmful else self.noise
        self.harm -= harmful
        key, length = pmt.intern("packet_len"), pmt.from_long(14)
        self.add_item_tag(0, self.nitems_written(0), key, length)
        self.sent += 1
        return 14


class Listener(gr.basic_block):
    def __init__(self):
        gr.basic_block.__init__(self, "listener", None, None)
        self.heard = []
        self.message_port_register_in(pmt.intern("in"))
        self.set_msg_handler(pmt.intern("in"), self.hear)

    def hear(self, message):
        self.heard.append((time.monotonic(), pmt.to_python(message)))


class Running:
    """A flowgraph that receives; stopped at the end."""

    def __init__(self, model, **parameters):
        self.top, self.source, self.listener = gr.top_block(), Slots(), Listener()
        self.receiver = deeprx.receiver(model, n_rx=1, **parameters, slot=slot_of(n_prb=6))
        self.top.connect(self.source, self.receiver, blocks.null_sink(gr.sizeof_float))
        self.top.msg_connect((self.receiver, "stats"), (self.listener, "in"))

    def __enter__(self):
        self.top.start()
        self.wait_until(lambda: self.receiver.slots() > 0)
        return self

    def __exit__(self, *_):
        self.top.stop()
        self.top.wait()

    def wait_until(self, condition):
        deadline = time.monotonic() + 40
        while not condition():
            assert time.monotonic() < deadline, self.errors()
            time.sleep(0.01)

    def receive(self, model):
        """Wait until slots are received by it."""
        start = len(self.listener.heard)

        def receives():
            return any(m.get("model") == model for _, m in self.listener.heard[start:])

        self.wait_until(receives)

    def wait_until_one_is_loaded(self):
        self.wait_until(lambda: any("model_loaded" in m for m in self.answers()))

    def errors(self):
        return [m["model_lost"] for _, m in list(self.listener.heard) if "model_lost" in m]

    def swap(self, path):
        answers = len(self.answers())
        self.receiver.set_model(path)
        self.wait_until(lambda: len(self.answers()) > answers)
        return self.answers()[-1]

    def answers(self):
        keys = {"model_loaded", "model_error"}
        return [m for _, m in list(self.listener.heard) if keys & set(m)]


@pytest.fixture(scope="module")
def harmful(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "crash": models.save(Harmful(), folder / "crash.pt", name="crash"),
        "hang": models.save(Harmful(hangs=True), folder / "hang.pt", name="hang"),
        "endless": models.save(Endless(), folder / "endless.pt"),
        "pairs": models.save(EndlessPairs(), folder / "pairs.pt"),
        "good": models.save(models.Constant(1.0), folder / "good.pt", name="good"),
    }


@pytest.fixture
def little_patience():
    deeprx_python.set_jail_limits(batch_s=0.3, most_batch_s=1.0)
    yield
    deeprx_python.set_jail_limits()


@pytest.mark.parametrize("harm", ["crash", "hang"])
def test_a_fresh_jail_receives_on(harm, harmful, little_patience):
    """Slots are dropped meanwhile, never delayed: every one is received, or counted."""
    with Running(harmful[harm]) as running:
        before = running.receiver.slots()
        running.source.harm = 1
        running.wait_until(running.errors)
        running.receive(harm)
    assert running.receiver.error() == "" and running.receiver.slots() > before
    (error,) = running.errors()
    assert error.startswith(f"{harm}: its jail") and "\n" not in error
    drops = [(t, m) for t, m in running.listener.heard if "dropped" in m]
    assert running.receiver.dropped() == len(drops)
    assert max(np.diff([t for t, _ in drops]), default=0) < 0.5  # while its jail was made, too
    indices = [m["slot_index"] for _, m in running.listener.heard if "slot_index" in m]
    assert indices == list(range(len(indices)))


def test_other_errors_hide_no_loss_in_the_log(harmful, capfd):
    with Running(harmful["crash"]) as running:
        for k in range(20):
            running.receiver.set_model(f"/none/{k}.pt")
        running.wait_until(running.answers)
        running.source.harm = 1
        running.wait_until(running.errors)
    log = capfd.readouterr().out
    assert running.errors()[0] in log
    assert log.count("/none/") < 5


def test_the_engine_alone_gets_fresh_jails_too(harmful):
    """Three, at most one a second: a replay goes on with the next slot."""
    engine = deeprx.Engine(harmful["crash"], slot=slot_of(n_prb=6), n_rx=1)
    p = np.zeros((1, 1, 14, 72, 2), np.float32)
    noise = np.random.default_rng(1).normal(size=(1, 1, 14, 72, 2)).astype(np.float32)
    trigger = np.zeros_like(noise)
    trigger[..., 0, 0, 0] = 1
    started = []
    for _ in range(4):
        assert (engine.infer(noise, p) == 1).all()
        started.append(time.monotonic())
        with pytest.raises(RuntimeError, match="its jail has ended"):
            engine.infer(trigger, p)
    assert min(np.diff(started[1:])) > 0.5
    for _ in range(2):
        with pytest.raises(RuntimeError, match="crash: refused, since it has lost its jail and 3"):
            engine.infer(noise, p)


def test_engines_of_a_file_share_its_fresh_jails(harmful):
    """A replay has one for each kind of slot."""
    path, p, trigger = harmful["crash"], *np.zeros((2, 1, 14, 72, 2), np.float32)
    trigger[..., 0, 0, 0] = 1
    engines = [deeprx.Engine(path, slot=slot_of(n_prb=6), n_rx=1) for _ in range(2)]
    for k in range(5):  # two that they began with, and three
        with pytest.raises(RuntimeError, match="its jail has ended"):
            engines[k % 2].infer(trigger[None], p[None])
    refused = "crash: refused, since it has lost its jail and 3 fresh ones"
    for engine in engines:
        with pytest.raises(RuntimeError, match=refused):
            engine.infer(trigger[None], p[None])
    with pytest.raises(RuntimeError, match=refused):
        deeprx.Engine(path, slot=slot_of(n_prb=12), n_rx=1)
    deeprx.Engine(path, slot=slot_of(n_prb=12), n_rx=1, trust=[path])  # needs none
    other = deeprx.JailLimits(load_s=30)
    deeprx.Engine(path, slot=slot_of(n_prb=6), n_rx=1, jail=other)  # another chance
    del engine, engines
    deeprx.Engine(path, slot=slot_of(n_prb=6), n_rx=1)  # another receiver's


def test_a_lost_jail_survives_a_restart(harmful):
    with Running(harmful["crash"]) as running:
        running.source.harm = 1
        running.wait_until(running.errors)
        running.top.stop()
        running.top.wait()
        running.top.start()
        running.receive("crash")
        running.top.lock()
        running.top.unlock()
        running.receive("crash")
    assert len(running.errors()) == 1 and running.receiver.error() == ""


@pytest.fixture
def patience():
    """A jail that does not answer lasts longer than the test."""
    deeprx_python.set_jail_limits(load_s=50, batch_s=50, most_batch_s=50)
    yield
    deeprx_python.set_jail_limits()


def test_a_stop_ends_a_batch_that_hangs(harmful, patience):
    with Running(harmful["hang"]) as running:
        running.source.harm = 1
        time.sleep(1)
        start = time.monotonic()
        running.top.stop()
        running.top.wait()
        assert time.monotonic() - start < 5
        running.top.start()
        running.receive("hang")
    assert "ended before it was done" in running.errors()[0]
    assert running.receiver.error() == ""


def test_a_slow_model_may_take_fifty_times_what_it_took(tmp_path):
    model = models.save(Slow(5_000_000), tmp_path / "slow.pt", name="slow")
    deeprx_python.set_jail_limits(batch_s=1e-3)
    try:
        engine = deeprx.Engine(model, n_rx=1, slot=slot_of(n_prb=6))
        assert min(engine.time(3)[:, 0]) > 0.1  # long enough to be ended
    finally:
        deeprx_python.set_jail_limits()


def test_a_start_waits_for_no_jail(tmp_path):
    """It is warmed up when the block is made, and not again."""
    model = models.save(Slow(5_000_000), tmp_path / "slow.pt", name="slow")
    slot = slot_of(n_prb=6)
    top, source = gr.top_block(), Slots()
    receiver = deeprx.receiver(model, n_rx=1, slot=slot)
    engine = deeprx.Engine(model, n_rx=1, slot=slot)
    batch_s = min(engine.time(2)[:, 0])
    top.connect(source, receiver, blocks.null_sink(gr.sizeof_float))
    for _ in range(2):
        start = time.monotonic()
        top.start()
        assert time.monotonic() - start < batch_s
        time.sleep(2.5 * batch_s)
        top.stop()
        top.wait()
    assert receiver.slots() > 0 and receiver.error() == ""


def test_a_model_that_is_never_warm_is_refused(harmful):
    deeprx_python.set_jail_limits(load_s=2)
    try:
        with pytest.raises(RuntimeError) as error:
            deeprx.receiver(harmful["pairs"], n_rx=1, max_batch=2, slot=slot_of(n_prb=6))
    finally:
        deeprx_python.set_jail_limits()
    said = f"model file '{harmful['pairs']}': its jail was ended after 2 s without an answer"
    assert str(error.value).startswith(f"{said}; --jail-load and --jail-batch")


def test_ctrl_c_while_a_receiver_is_made(harmful):
    """Its jail has loaded, and warms up for ever."""
    program = (
        "from gnuradio import deeprx\n"
        "slot = deeprx.SlotConfig(n_prb=6)\n"
        f"receiver = deeprx.receiver({harmful['pairs']!r}, n_rx=1, max_batch=2, slot=slot)\n"
    )
    _, said = interrupted(program)
    assert said.strip().endswith(b"KeyboardInterrupt"), said


def leave_while_a_jail_loads(good, endless):
    """Run in a process of its own: prints slots meanwhile, and how long the receiver's end took."""
    with Running(good, trust=[good]) as running:
        running.receiver.set_model(endless)
        time.sleep(2)
        running.receive("good")
        print("dropped:", running.receiver.dropped(), "answers:", len(running.answers()))
    start = time.monotonic()
    del running
    gc.collect()
    print("seconds:", time.monotonic() - start, flush=True)


def test_nobody_waits_for_a_jail_that_loads(harmful):
    """Neither slots, nor the block's end, nor the process's; a load may take 60 s."""
    code = "import sys, qa_lost_jail; qa_lost_jail.leave_while_a_jail_loads(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, harmful["good"], harmful["endless"]],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert done.returncode == 0, done.stderr
    assert re.search("^dropped: 0 answers: 0$", done.stdout, re.MULTILINE), done.stdout
    (seconds,) = re.findall(r"^seconds: (.*)", done.stdout, re.MULTILINE)
    assert float(seconds) < 0.5


def test_cpu_time_of_the_jail_is_the_receivers(tmp_path):
    """And that of nobody else, as the kernel counts it."""
    others = jails()
    running = Running(models.save(Slow(100_000), tmp_path / "slow.pt"))
    (jail,) = set(jails()) - set(others)
    clock = ~jail << 3 | 2  # clock_getcpuclockid(3)
    jail_s, own_s = time.clock_gettime(clock), time.process_time()
    with running:
        running.wait_until(lambda: running.receiver.slots() > 50)
    jail_s, own_s = time.clock_gettime(clock) - jail_s, time.process_time() - own_s
    costs = [m for _, m in running.listener.heard if "cpu_ns" in m]
    assert all(m["engine_cpu_ns"] <= m["cpu_ns"] for m in costs)
    told_s = 1e-9 * running.receiver.slots() * np.mean([m["engine_cpu_ns"] for m in costs])
    assert 0.8 * jail_s < told_s < 1.2 * (jail_s + own_s)


def test_a_receiver_without_a_model_ends_in_one_line(harmful):
    running = Running(harmful["crash"])
    running.top.start()
    running.receive("crash")
    running.source.harm = 10**9
    running.top.wait()
    assert running.receiver.error() == (
        "crash: refused, since it has lost its jail and 3 fresh ones, and there is no other model"
    )
    assert len(running.errors()) == 4  # jails lost


@pytest.mark.parametrize("command", ["loopback", "replay"])
def test_a_command_without_a_model_ends_with_its_line_and_3(command, tmp_path, capsys):
    given = ["--n-prb", "6", "--n-rx", "1", "--sinr", "20"]
    if command == "loopback":
        given += ["--slots", "100000"]
    else:  # the recording lasts as long as the slower receiver takes
        assert main(["record", str(tmp_path / "a"), *given, "--slots", "1000"]) == 0
        slow = models.save(Slow(200_000), tmp_path / "slow.pt")
        given = [str(tmp_path / "a.sigmf-meta"), "--receiver", slow, "--trust", slow]
    fragile = models.save(Fragile(), tmp_path / "fragile.pt", name="fragile")
    assert main([command, *given, "--receiver", fragile, "--out", str(tmp_path)]) == 3
    assert capsys.readouterr().err == (
        "deeprx: error: fragile: refused, since it has lost its jail and 3 fresh ones, and there "
        "is no other model\n"
    )


@pytest.mark.parametrize("command", ["loopback", "replay", "bler", "energy", "radio"])
def test_a_command_whose_jail_is_lost_at_once_ends_with_its_line_and_3(
    command, harmful, tmp_path, capsys
):
    slot = ["--n-prb", "6", "--n-rx", "1"]
    link = [*slot, "--sinr", "20", "--slots", "2"]
    given = {
        "loopback": link,
        "replay": [str(tmp_path / "a.sigmf-meta")],
        "bler": [*slot, "--mcs", "4"],
        "energy": slot,
        "radio": ["--n-prb", "6", "--args", "driver=software", "--slots", "2"],
    }[command]
    assert command != "replay" or main(["record", str(tmp_path / "a"), *link]) == 0
    limits = ["--jail-load", "0.5", "--out", str(tmp_path)]
    assert main([command, *given, "--receiver", harmful["endless"], *limits]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "endless.pt': its jail was ended after" in line and "--jail-load" in line


def test_a_replay_of_pusch_loads_no_model_again_that_is_never_loaded(tmp_path, monkeypatch, capsys):
    """It has PUSCH of several kinds. What the others received is kept."""
    recording = import_gnb(*map(GOLDEN.joinpath, GNB), tmp_path / "a").paths[0]
    every = {"n_sym": [*range(4, 15)], "n_dmrs": [1, 2, 3, 4], "cdm_groups": [1, 2]}
    endless = models.save(Endless(), tmp_path / "endless.pt", name="endless", **every)
    given = ["--receiver", endless, "--receiver", "gnb", "--jail-load", "2"]
    load, loaded = ModelFile.engine, []

    def counted(file, *slot, **how):
        loaded.append(file.name)
        return load(file, *slot, **how)

    monkeypatch.setattr(ModelFile, "engine", counted)
    assert main(["replay", str(recording), *given, "--out", str(tmp_path)]) == 3
    assert loaded.count("endless") == 1 < loaded.count("gnb")
    assert "endless.pt': its jail was ended after 2 s" in capsys.readouterr().err
    lost, other = report.read(tmp_path / "report.json")["pusch"]
    assert (lost["pusch"], sum(lost["dropped_slots"].values())) == (0, other["pusch"])
    assert len(lost["dropped_slots"]) == 1 and other["pusch"] == 7


def test_the_model_before_receives_again(harmful):
    with Running(harmful["good"], trust=[harmful["good"]]) as running:
        assert running.swap(harmful["crash"])["model_loaded"] == "crash"
        running.receive("crash")
        running.source.harm = 10**9
        running.wait_until(lambda: len(running.errors()) == 5)
        running.source.harm = 0
        running.receive("good")
        refused = "crash: refused, since it has lost its jail and 3 fresh ones"
        running.wait_until(lambda: running.errors()[-1] == refused + "; good receives again")
        assert running.swap(harmful["crash"]) == {"model_error": refused, "path": harmful["crash"]}
        running.receive("good")
    assert running.receiver.error() == ""


def test_a_swap_away_and_back_gives_no_more_fresh_jails(harmful):
    with Running("baseline-lmmse") as running:

        def lose():
            running.receive("crash")
            told = len(running.errors())
            running.source.harm = 1
            running.wait_until(lambda: len(running.errors()) > told)

        assert running.swap(harmful["crash"])["model_loaded"] == "crash"
        lose()
        lose()
        running.receive("crash")
        assert running.swap("baseline-lmmse")["model_loaded"] == "baseline-lmmse"
        assert running.swap(harmful["crash"])["model_loaded"] == "crash"
        lose()
        lose()
        running.receive("baseline-lmmse")
        refused = "crash: refused, since it has lost its jail and 3 fresh ones"
        line = refused + "; baseline-lmmse receives again"
        running.wait_until(lambda: running.errors()[-1] == line)  # slots may be before it


def test_a_storm_of_swaps_drops_no_slot_and_leaves_no_jail(harmful):
    asked = (harmful["crash"], harmful["good"], "missing.pt", harmful["hang"])
    with Running("baseline-lmmse") as running:
        end = time.monotonic() + 4
        for model in itertools.cycle(asked):
            running.receiver.set_model(model)
            time.sleep(0.012)
            if time.monotonic() > end:
                break
        running.receiver.set_model("baseline-lmmse")
        running.receive("baseline-lmmse")
        running.wait_until_one_is_loaded()
        assert running.receiver.dropped() == 0
    del running
    gc.collect()
    deadline = time.monotonic() + 10
    while jails() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert jails() == []
