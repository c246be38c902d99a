# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user of GNU Radio Companion sees: the blocks, and the examples."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import receiver_models as models
import yaml
from companion import EXAMPLES, Companion, environment, generate
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx.blocks.slot_equaliser import equalise
from gnuradio.grc.core.platform import Platform

from deeprx_common.slot import SlotConfig, User

ROOT = Path(__file__).resolve().parents[1]
# The other examples are tested with what they show: recordings, remote, switching, ...
FLOWGRAPHS = [EXAMPLES / "loopback.grc", EXAMPLES / "synchronised.grc"]
SCRIPTS = [EXAMPLES / "loopback.py", EXAMPLES / "remote.py"]
HEADLESS = [
    EXAMPLES / f"{name}.py"
    for name in ("loopback", "radio_loopback", "record_replay", "remote", "stock_ofdm", "switching")
]
BLOCKS = {
    block["id"]: block
    for path in sorted((ROOT / "grc").glob("*.block.yml"))
    for block in [yaml.safe_load(path.read_text())]
}
TAKE_A_SLOT = [
    key for key, block in BLOCKS.items() if "slot" in [p["id"] for p in block["parameters"]]
]

# Runs a generated flowgraph without a screen until every receiver was reported, then closes the
# window as a user would.
WATCH = """
import sys
from companion import watch
from PyQt5 import Qt

def enough(top):
    points = top.points(slots=25)
    if len(points) == 2:
        top.set_snr_db(3.0)  # a new operating point, at run time
    return len(points) == 4

def shown(top):
    return [top.display.widget.findChild(Qt.QTableWidget).rowCount(), top.points(slots=25)]

watch(sys.argv[1], enough, shown, seconds=30)
"""

# Runs an example in which something fails.
RUN = """
import runpy
import sys

del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
PROBES_FAIL = """
from gnuradio import deeprx
from gnuradio.deeprx.blocks.slot_statistics import SlotStatistics

receiver = deeprx.receiver
deeprx.receiver = lambda *_, **given: receiver(**given | {"model": "ls-lmmse"})  # soon there
SlotStatistics.add_slot = lambda *_: 1 / 0
"""
RECEIVERS_FAIL = """
from gnuradio import deeprx

receiver = deeprx.receiver
fails = {"model": "one_slot.pt", "trust": ["one_slot.pt"], "max_batch": 4}
deeprx.receiver = lambda *_, **given: receiver(**given | fails)
"""
# As its window does, but waits for the end
GENERATED = """
import os
import sys
from loopback_gui import loopback_gui
from PyQt5 import Qt

application = Qt.QApplication([])
top = loopback_gui()
top.start()
top.wait()
sys.stdout.flush()
os._exit(0)
"""
FAILURES = {
    "probe": (PROBES_FAIL + RUN, "slot_probe: ZeroDivisionError: division by"),
    "receiver": (RECEIVERS_FAIL + RUN, "test: one slot only"),
}


@pytest.fixture(scope="module")
def platform():
    os.environ["GRC_BLOCKS_PATH"] = str(ROOT / "grc")
    platform = Platform(
        name="GRC of the tests",
        prefs=gr.prefs(),
        version=gr.version(),
        version_parts=(gr.major_version(), gr.api_version(), gr.minor_version()),
    )
    platform.build_library()
    return platform


def block_of(platform, key, **parameters):
    flowgraph = platform.make_flow_graph()
    block = flowgraph.new_block(key)
    for name, value in {"id": "block", **parameters}.items():
        block.params[name].set_value(value)
    flowgraph.rewrite()
    flowgraph.validate()
    return block


def ours(errors):
    """A block alone in a flowgraph lacks its connections, and that is not its fault."""
    return [text for _, text in errors if "not connected" not in text]


class TestBlocks:
    @pytest.mark.parametrize("key", BLOCKS)
    def test_loads_with_valid_defaults(self, platform, key, capfd):
        block = block_of(platform, key)
        assert ours(block.iter_error_messages()) == []
        assert block.category == ["deeprx"]
        assert "warn" not in capfd.readouterr().out.lower()

    @pytest.mark.parametrize("key", BLOCKS)
    def test_documentation_names_every_parameter(self, platform, key):
        written = " ".join(block_of(platform, key).documentation[""].split())
        for parameter in BLOCKS[key]["parameters"]:
            name = parameter["label"].partition(" (")[0]
            assert name in written, f"{key} does not explain {parameter['label']!r}"

    @pytest.mark.parametrize("key", BLOCKS)
    def test_every_parameter_reaches_the_block(self, key):
        templates = BLOCKS[key]["templates"]
        template = templates.get("make") or templates["var_make"]
        for parameter in BLOCKS[key]["parameters"]:
            assert re.search(rf"\b{parameter['id']}\b", template)

    @pytest.mark.parametrize(
        ("key", "parameters"),
        [
            ("deeprx_receiver", {"n_rx": "5"}),
            ("deeprx_receiver", {"slot": "26"}),
            ("deeprx_slot_source", {"slot": "None"}),
            ("deeprx_slot_source", {"layer": "1"}),
            ("deeprx_slot_transmitter", {"layer": "-1"}),
            ("deeprx_tdl_channel", {"delay_spread_s": "-1"}),
            ("deeprx_slot_probe", {"cluster_slots": "0"}),
            ("deeprx_slot_equaliser", {"every": "0"}),
        ],
    )
    def test_values_out_of_range_are_errors_in_grc(self, platform, key, parameters):
        assert ours(block_of(platform, key, **parameters).iter_error_messages())

    @pytest.mark.parametrize("key", TAKE_A_SLOT)
    def test_takes_the_default_slot(self, platform, key):
        """So that blocks work in a flowgraph that has no Slot. A code rate changes no RE."""
        slot = block_of(platform, key).params["slot"].get_evaluated()
        assert slot.with_user(mcs=14) == SlotConfig(users=(User(mcs=14),))
        assert slot.n_bits == SlotConfig().n_bits

    def test_other_slots_do_not_connect(self, platform):
        flowgraph = platform.make_flow_graph()
        front_end = flowgraph.new_block("deeprx_aligned_front_end")
        receiver = flowgraph.new_block("deeprx_receiver")
        receiver.params["slot"].set_value("deeprx.SlotConfig(n_prb=60)")
        flowgraph.rewrite()
        wire = flowgraph.connect(front_end.sources[0], receiver.sinks[0])
        flowgraph.rewrite()
        flowgraph.validate()
        assert any("size" in text for _, text in wire.iter_error_messages())


# What each parameter of Slot says, and the slot that it makes.
SLOTS = [
    ({}, SlotConfig()),
    ({"n_prb": "51", "first_prb": "3"}, SlotConfig(n_prb=51, first_prb=3)),
    ({"n_symbols": "13"}, SlotConfig(n_symbols=13)),
    ({"limited_buffer": "1277992"}, SlotConfig(limited_buffer=1277992)),
    ({"l0": "3", "additional_position": "2"}, SlotConfig(dmrs=(3, 7, 11))),
    ({"cdm_groups": "2"}, SlotConfig(cdm_groups=2)),
    ({"dmrs_n_id": "7", "n_scid": "1"}, SlotConfig(dmrs_n_id=7, n_scid=1)),
    (
        {"modulation": "64QAM", "code_rate": "0.5", "rnti": "0x4601", "n_id": "3", "port": "1"},
        SlotConfig(users=(User("64QAM", code_rate=0.5, rnti=0x4601, n_id=3, port=1),)),
    ),
    ({"mcs": "20", "mcs_table": "2"}, SlotConfig(users=(User(mcs=20, mcs_table=2),))),
    ({"mcs": "5", "modulation": "64QAM", "code_rate": "0.9"}, SlotConfig(users=(User(mcs=5),))),
    (
        {
            "users": "2", "mcs": "5", "mcs_2": "7", "mcs_table_2": "3", "rnti_2": "9",
            "n_id_2": "4",
        },
        SlotConfig(users=(User(mcs=5), User(mcs=7, mcs_table=3, rnti=9, n_id=4, port=1))),
    ),
    (
        {
            "users": "2", "cdm_groups": "2", "port_2": "2", "modulation_2": "QPSK",
            "code_rate_2": "0.3",
        },
        SlotConfig(cdm_groups=2, users=(User(), User("QPSK", code_rate=0.3, rnti=2, port=2))),
    ),
    (
        {"carrier_prb": "51", "scs_khz": "30", "fft_size": "768"},
        SlotConfig(carrier_prb=51, scs_khz=30, fft_size=768),
    ),
    (
        {"equal_prefixes": "True", "phase_compensation_hz": "3.5e9", "slot_number": "None"},
        SlotConfig(equal_prefixes=True, phase_compensation_hz=3.5e9, slot_number=None),
    ),
]  # fmt: skip


def flowgraph_of(platform, variables=None, **parameters):
    """A flowgraph with a Slot and a Slot Receiver that takes it, and both blocks."""
    flowgraph = platform.make_flow_graph()
    slot = flowgraph.new_block("variable_deeprx_slot")
    for name, value in {"id": "slot", **parameters}.items():
        slot.params[name].set_value(value)
    for name, value in (variables or {}).items():
        variable = flowgraph.new_block("variable")
        variable.params["id"].set_value(name)
        variable.params["value"].set_value(value)
    receiver = flowgraph.new_block("deeprx_receiver")
    for name, value in {"id": "receiver", "slot": "slot"}.items():
        receiver.params[name].set_value(value)
    flowgraph.rewrite()
    flowgraph.rewrite()  # as Companion does: variables are known after the first
    flowgraph.validate()
    return flowgraph, slot, receiver


class TestSlot:
    @pytest.mark.parametrize(("parameters", "expected"), SLOTS)
    def test_its_parameters_make_the_slot(self, platform, parameters, expected):
        flowgraph, slot, receiver = flowgraph_of(platform, **parameters)
        assert ours(slot.iter_error_messages()) == ours(receiver.iter_error_messages()) == []
        assert flowgraph.namespace["slot"] == expected
        generated = {"deeprx": deeprx, "self": SimpleNamespace()}
        exec(slot.get_var_make(), generated)  # as in the flowgraph that grcc writes
        assert generated["slot"] == generated["self"].slot == expected
        assert receiver.sinks[0].vlen == expected.fft_size
        outputs = [port for port in receiver.sources if port.domain == "stream"]
        assert len(outputs) == expected.n_layers
        assert "slot=slot," in receiver.templates.render("make")

    @pytest.mark.parametrize(
        ("parameters", "says"),
        [
            ({"n_prb": "300"}, "n_prb must be"),
            ({"n_prb": "20", "first_prb": "10", "carrier_prb": "25"}, "inside its carrier of 25"),
            ({"n_prb": '"26"'}, "a whole number"),
            ({"l0": "3", "additional_position": "3"}, "additional position 3 needs l0 = 2"),
            ({"mcs": "31"}, "mcs of table 1 must be 0 to 28"),
            ({"users": "2", "port_2": "2"}, "DMRS ports"),
            ({"scs_khz": "120"}, "scs_khz must be"),
        ],
    )
    def test_what_is_no_slot_is_an_error_that_says_why(self, platform, parameters, says):
        _, slot, receiver = flowgraph_of(platform, **parameters)
        assert any(says in text for text in ours(slot.iter_error_messages()))
        assert ours(receiver.iter_error_messages())

    @pytest.mark.parametrize("name", [f.name for f in fields(SlotConfig)])
    def test_a_variable_may_have_the_name_of_any_of_its_values(self, platform, name):
        flowgraph, *blocks = flowgraph_of(platform, variables={name: f"slot.{name}"})
        assert [ours(block.iter_error_messages()) for block in blocks] == [[], []]
        assert flowgraph.namespace[name] == getattr(SlotConfig(), name)

    def test_its_parameters_may_be_variables(self, platform):
        variables = {"width": "52", "kind": '"QPSK"'}
        flowgraph, *_ = flowgraph_of(platform, variables, n_prb="width", modulation="kind")
        assert flowgraph.namespace["slot"] == SlotConfig(n_prb=52, users=(User("QPSK"),))


class TestExamples:
    @pytest.mark.parametrize("path", FLOWGRAPHS, ids=lambda p: p.stem)
    def test_flowgraph_compiles_runs_and_ends(self, path, tmp_path):
        generated = generate(path.stem, tmp_path).stem
        assert not (EXAMPLES / f"{generated}.py").exists()  # GRC would overwrite it
        ran = subprocess.run(
            [sys.executable, "-c", WATCH, generated],
            env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        complaints = [
            line
            for line in ran.stderr.splitlines()
            if "XDG_RUNTIME_DIR" not in line and "propagateSizeHints" not in line
        ]
        assert complaints == []
        rows, points = json.loads(ran.stdout.splitlines()[-1])
        assert rows == 2
        assert {p["receiver"] for p in points} == {"ls-lmmse", "deeprx-pusch"}
        assert {p["snr_db"] for p in points} == {15.0, 3.0}
        for point in points:
            assert point["missed_slots"] == 0
            low, high = (0, 0.06) if point["snr_db"] == 15.0 else (0.1, 0.3)
            assert low < point["ber"] < high
            assert point["energy_per_slot_j"]["modelled"] > 0

    @pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
    def test_script_runs(self, path, tmp_path):
        ran = subprocess.run(
            [sys.executable, str(path), "--slots", "20"],
            env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert ran.stderr == ""
        assert "ls-lmmse" in ran.stdout and "deeprx-pusch" in ran.stdout

    @pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
    def test_script_says_mistakes_in_one_line(self, path, tmp_path):
        ran = subprocess.run(
            [sys.executable, str(path), "--slots", "-1"],
            env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ran.returncode == 2
        assert "must be at least 0" in ran.stderr.splitlines()[-1]
        assert "Traceback" not in ran.stderr

    @pytest.mark.parametrize(
        ("path", "fails", "says"),
        [
            pytest.param(
                path,
                *failure,
                id=f"{path.stem}-{name}",
                marks=pytest.mark.slow if name == "probe" and path.stem != "loopback" else (),
            )
            for path in HEADLESS
            for name, failure in FAILURES.items()
        ],
    )
    def test_script_of_a_block_that_fails_has_a_status(self, path, fails, says, tmp_path):
        models.save(models.OneSlot(), tmp_path / "one_slot.pt", n_rx=[1, 2])
        ran = subprocess.run(
            [sys.executable, "-c", fails, str(path), "--slots", "20"],
            env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ran.returncode == 2, ran.stderr
        line = ran.stderr.splitlines()[-1]
        assert line.startswith(f"{path.name}: error: {says}")
        assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("fails", [PROBES_FAIL, RECEIVERS_FAIL], ids=["probe", "receiver"])
def test_generated_flowgraph_of_a_block_that_fails_ends_with_a_line(fails, tmp_path):
    """Though nothing in it asks how its blocks are."""
    models.save(models.OneSlot(), tmp_path / "one_slot.pt", n_rx=[1, 2])
    generate("loopback", tmp_path)
    ran = subprocess.run(
        [sys.executable, "-c", fails + GENERATED],
        env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout + ran.stderr
    assert " ends here\n" in said and "Traceback" not in said


WHICH_QT = """
import gnuradio.deeprx.blocks.report_display
import pyqtgraph
print(pyqtgraph.Qt.QT_LIB)
"""

INTERRUPTED_IN_QT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from PyQt5.QtCore import QTimer
from PyQt5.QtWidgets import QApplication, QWidget
import deeprx_common.one_line_errors

class Window(QWidget):
    def showEvent(self, event):
        signal.raise_signal(signal.SIGINT)

application = QApplication([])
window = Window()
window.show()
QTimer.singleShot(1000, application.quit)
application.exec_()
print("went on")
"""

# What each shows once it runs: a window of this title, or this text; None: it ends by itself
SHOWS = {
    "loopback": "DeepRx loopback",
    "record": None,
    "replay": "DeepRx, replay",
    "synchronised": "DeepRx, synchronised",
    "stock_ofdm": "Stock OFDM blocks",
    "send_file": "DeepRx, send a file",
    "switching": "DeepRx, switching",
    "radio_software": "DeepRx, radio without hardware",
    "radio_loopback_soapy": None,
    "radio_loopback_uhd": None,
    "remote_transmitter": "sending on tcp://",
    "remote_channel": "DeepRx, remote: channel",
    "remote_receiver": "DeepRx, remote: receiver",
}
NO_RADIO = {
    "radio_loopback_soapy": "no match",
    "radio_loopback_uhd": "No devices found",
}
SAYS = {
    "record": ["wrote recording.sigmf-meta"],
    "remote_transmitter": ["sending on tcp://127.0.0.1:5601"],
}
# Stock OFDM's synchroniser, with its fixed threshold, finds what is no slot. Code that Companion
# generates asks for the headers of X11, which nothing needs.
NO_COMPLAINT = re.compile(" :info: |Matplotlib|XInitThreads|slot [0-9]+ dropped: no length tag")
IN_DEFAULT_RUN = ("loopback", "record")


@pytest.fixture(scope="class")
def companion(request, tmp_path_factory):
    """With a page for each example that is tested, in the order of the tests."""
    for program in ("Xvfb", "xdotool", "gnuradio-companion"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    if not (ROOT / ".venv").exists():
        pytest.skip("needs .venv, which ./dev companion runs")
    folder = tmp_path_factory.mktemp("companion")
    names = [
        item.callspec.params["name"]
        for item in request.session.items
        if getattr(item, "originalname", "") == "test_runs_in_companion"
    ]
    with Companion(folder, [shutil.copy(EXAMPLES / f"{n}.grc", folder) for n in names]) as opened:
        yield opened


class TestCompanion:
    @pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=[] if name in IN_DEFAULT_RUN else pytest.mark.slow)
            for name in SHOWS
        ],
    )
    def test_runs_in_companion(self, companion, name):
        said = [
            line
            for line in companion.run(SHOWS[name]).splitlines()
            if line and not NO_COMPLAINT.search(line)
        ]
        *said, ended = said
        if name in NO_RADIO:
            assert ended == ">>> Done (return code 1)"
            assert said[-1].startswith(f"{name}.py: error: block radio_")
            assert NO_RADIO[name] in said[-1]
            assert len([line for line in said if not line.startswith("[INFO]")]) == 1
        else:
            assert ended == ">>> Done"
            assert said == SAYS.get(name, [])

    def test_a_block_that_cannot_be_made_is_one_line(self, tmp_path):
        generate("replay", tmp_path)
        ran = subprocess.run(
            [sys.executable, "replay_gui.py"],
            env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ran.returncode == 1
        last = ran.stderr.splitlines()[-1]
        assert last.startswith("replay_gui.py: error: block source: recording.sigmf-meta: ")
        assert "Traceback" not in ran.stderr

    def test_ctrl_c_while_qt_calls_a_block_ends_the_flowgraph(self):
        ran = subprocess.run(
            [sys.executable, "-c", INTERRUPTED_IN_QT],
            env=environment(), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (ran.returncode, ran.stdout) == (-signal.SIGINT, "")
        assert "Traceback" not in ran.stderr

    def test_display_takes_the_qt_of_gnu_radio(self, tmp_path):
        (tmp_path / "PyQt6").mkdir()
        (tmp_path / "PyQt6" / "__init__.py").touch()
        ran = subprocess.run(
            [sys.executable, "-c", WHICH_QT],
            env=environment() | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ran.stdout.strip() == "PyQt5", ran.stderr


class TestSlotEqualiser:
    @pytest.mark.parametrize("dmrs", [(2,), (2, 11)])
    def test_undoes_delay_gain_and_phase(self, dmrs):
        config = SlotConfig(n_prb=8, dmrs=dmrs)
        sent = config.grid(config.bits(1, 0))
        delay = np.exp(-2j * np.pi * 3.3 * config.carriers / config.fft_size)
        received = np.stack([0.5 * delay * sent, 2j * delay * sent])
        assert np.abs(equalise(received, config.pilots()[0]) - sent).max() < 1e-3

    def test_takes_one_slot_of_many(self):
        config = SlotConfig(users=(User("QPSK"),))
        top = gr.top_block()
        source = deeprx.slot_source(n_slots=8, slot=config)
        transmitter = deeprx.slot_transmitter(slot=config)
        front_end = deeprx.aligned_front_end(n_rx=1, slot=config)
        equaliser = deeprx.slot_equaliser(n_rx=1, every=3, slot=config)
        sink = blocks.vector_sink_c()
        top.connect(source, transmitter, front_end, equaliser, sink)
        top.run()
        tags = [gr.tag_to_python(tag) for tag in sink.tags()]
        assert [t.value for t in tags if t.key == "slot_index"] == [0, 3, 6]
        assert [t.value for t in tags if t.key == "packet_len"] == [config.n_data_re] * 3
        sent = [config.grid(config.bits(1, k))[config.data_mask] for k in (0, 3, 6)]
        np.testing.assert_allclose(sink.data(), np.concatenate(sent), atol=1e-3)

    @pytest.mark.parametrize(
        ("options", "says"),
        [({"every": 0}, "every must be at least 1"), ({"n_rx": 5}, "n_rx must be 1 to 4")],
    )
    def test_bad_parameters_say_what_is_wrong(self, options, says):
        with pytest.raises(ValueError, match=says):
            deeprx.slot_equaliser(**options)


class TestModelPath:
    def test_shipped_model_is_found_from_any_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert Path(deeprx.model_path("deeprx-student.pt")).samefile(
            ROOT / "models/deeprx-student.pt"
        )

    def test_file_of_the_working_folder_comes_first(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "deeprx-student.pt").write_text("mine")
        assert deeprx.model_path("deeprx-student.pt") == "deeprx-student.pt"

    @pytest.mark.parametrize("name", ["nowhere.pt", "/nowhere/deeprx-student.pt"])
    def test_what_is_not_there_is_not_replaced(self, name):
        assert deeprx.model_path(name) == name
        with pytest.raises(RuntimeError, match=name):
            deeprx.receiver(model=deeprx.model_path(name))
