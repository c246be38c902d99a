# SPDX-License-Identifier: GPL-3.0-or-later
"""A gNB's dump of uplink grids and its log: read, imported, and received to the byte.

golden/gnb_capture.{bin,log,truth.json}: the first eight grids of a capture in the format in which
srsRAN Project dumps its uplink, written from slots of an open-source UE implementation in C through
fading channels; truth.json has the blocks that were sent, decoded by the "gNB" or not. _rest: the
sixteen grids that follow.
"""

import base64
import json
import os
import shutil
import signal
import tracemalloc
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import gnb_logs
import numpy as np
import pytest
from classical_numpy import llrs
from gnuradio import blocks, deeprx, gr
from gnuradio.deeprx.cli import main
from gnuradio.deeprx.deeprx_python import TransportBlockDecoder, data_scrambling
from gnuradio.deeprx.measure.link import Link
from gnuradio.deeprx.measure.pusch_replay import Model, PuschReplay
from gnuradio.deeprx.models.file import read_model_file
from gnuradio.deeprx.recording.gnb_dump import import_gnb
from gnuradio.deeprx.recording.gnb_log import DumpedGrid, LoggedPusch, Unsupported, read_gnb_log
from gnuradio.deeprx.recording.pusch import RecordedPusch, received_grid
from gnuradio.deeprx.recording.recording import Recording
from gnuradio.deeprx.recording.writer import RecordingWriter
from scipy.stats import binomtest

from deeprx_common import report
from deeprx_common.report import NOT_FINITE
from deeprx_common.shipped import CLASSICAL
from deeprx_common.slot import SLOTS, SlotConfig, User, dmrs_symbols

GOLDEN = Path(__file__).parent / "golden"
DUMP, LOG = GOLDEN / "gnb_capture.bin", GOLDEN / "gnb_capture.log"
TRUTH, REST = (
    [bytes.fromhex(b) for b in json.loads((GOLDEN / f"{name}.truth.json").read_text()).values()]
    for name in ("gnb_capture", "gnb_capture_rest")
)
VECTORS = np.load(GOLDEN / "pusch_vectors.npz")
INDEX = json.loads(str(VECTORS["index"]))
ALONE = ("again", "rv1")  # too little of a block to be decoded alone


def logged(path):
    records = list(read_gnb_log(path))
    return [[r for r in records if isinstance(r, kind)] for kind in (DumpedGrid, LoggedPusch)]


def written(folder, text, name="gnb.log"):
    path = folder / name
    path.write_text(text)
    return path


def received(recording, decoder=None):
    """For each PUSCH of a recording the block that was decoded, and whether its CRC is right."""
    decoder = decoder or TransportBlockDecoder()
    for pusch in recording.pusch:
        user, config = pusch.config.users[0], pusch.config
        llr = llrs(received_grid(recording, pusch), config, pusch.slot_index)
        llr = llr * (1 - 2.0 * data_scrambling(user.rnti, user.n_id, config.n_bits))
        how = (pusch.rv, user.rnti, pusch.process, pusch.new_data)
        yield decoder.decode(pusch.transport_block, llr, *how)[:2]


def classical():
    return [Model(read_model_file(name), name) for name in CLASSICAL]


CONFIG = SlotConfig(
    n_prb=10,
    first_prb=3,
    dmrs=(2, 7, 11),
    cdm_groups=2,
    dmrs_n_id=7,
    users=(User("16QAM", code_rate=0.642578, tbs=3368, rnti=0x4601, n_id=9),),
    limited_buffer=8 * 159749,
    carrier_prb=51,
    scs_khz=30,
    slot_number=8,
)
BLOCK = bytes(range(256)) + bytes(3368 // 8 - 256)


class TestLog:
    def test_golden(self):
        grids, pusch = logged(LOG)
        assert len(grids) == 8 and len(pusch) == 7
        assert grids[1] == DumpedGrid(33, grids[0].time, 104, 4, 0, 17136, 17136)
        second = pusch[1]
        assert (second.frame, second.slot, second.process, second.rv) == (106, 5, 1, 0)
        assert second.new_data and second.crc_ok and second.base_graph == 1
        assert second.transport_block == TRUTH[1]
        assert pusch[0].transport_block is None
        assert not pusch[6].new_data and pusch[6].process == pusch[5].process
        assert second.slot_config(51, 30) == SlotConfig(
            n_prb=13,
            first_prb=38,
            dmrs=(2, 7, 11),
            cdm_groups=2,
            users=(User("256QAM", code_rate=0.694336, tbs=9480, rnti=0x4602),),
            limited_buffer=1277992,
            carrier_prb=51,
            scs_khz=30,
            slot_number=5,
        )

    def test_every_field(self, tmp_path):
        text = gnb_logs.pusch("17.8", gnb_logs.fields(CONFIG), BLOCK)
        _, (pusch,) = logged(written(tmp_path, text))
        assert pusch.slot_config(51, 30) == CONFIG
        assert pusch.transport_block == BLOCK

    def test_of_an_older_gnb(self, tmp_path):
        """As release 23.10 wrote it; its documentation shows such lines."""
        older = gnb_logs.fields(CONFIG)
        del older["part2"], older["tbs_lbrm"]
        older |= {"dmrs_mask": "00100001000100", "betas": "[0.0, 0.0, 0.0]", "lbrm": "3168bytes"}
        older |= {"ocsi2": "0"}
        text = gnb_logs.pusch("17.8", older, BLOCK, **{"crc": "OK", "max_iter": 1, "evm": 0.06})
        text = text.replace("[PHY     ]", "[UL-PHY1 ]").replace("\n  ", "\n     ")
        _, (pusch,) = logged(written(tmp_path, text))
        config = pusch.slot_config(51, 30)
        assert config.limited_buffer == 0
        assert config.dmrs == CONFIG.dmrs and config.users == CONFIG.users
        assert pusch.transport_block == BLOCK

    def test_of_a_newer_gnb(self, tmp_path):
        """Fields that nobody knows yet are passed over."""
        newer = {"colour": "[blue, 3)"} | gnb_logs.fields(CONFIG) | {"nof_spoons": "4"}
        text = gnb_logs.pusch("17.8", newer, BLOCK, sinr_evm="+20.1dB", cfo="-3.2Hz")
        _, (pusch,) = logged(written(tmp_path, text.replace(" sinr=", " colour=red sinr=")))
        assert pusch.slot_config(51, 30) == CONFIG
        assert pusch.transport_block == BLOCK

    def test_lines_of_other_layers(self, tmp_path):
        text = gnb_logs.pusch("17.8", gnb_logs.fields(CONFIG), BLOCK)
        others = gnb_logs.other_layers("17.8")
        whole = others + text + others + gnb_logs.rx_symbol("17.8", 5, 17136) + others + text
        (grid,), pusch = logged(written(tmp_path, whole))
        assert (grid.frame, grid.slot, grid.offset, grid.size) == (17, 8, 5, 17136)
        assert [p.slot_config(51, 30) for p in pusch] == [CONFIG, CONFIG]
        assert [p.transport_block for p in pusch] == [BLOCK, BLOCK]

    @pytest.mark.parametrize("lost", [3, -1])
    def test_a_block_that_was_not_logged_whole(self, tmp_path, lost):
        """hex_max_size cuts it short; a line that is missing makes the rest worth nothing."""
        lines = gnb_logs.pusch("17.8", gnb_logs.fields(CONFIG), BLOCK).splitlines(keepends=True)
        dump = [k for k, line in enumerate(lines) if line.startswith("    ")]
        del lines[dump[lost]]
        _, (pusch,) = logged(written(tmp_path, "".join(lines)))
        assert pusch.transport_block is None
        assert pusch.slot_config(51, 30) == CONFIG

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"oack": 2}, "with UCI"),
            ({"ocsi1": 4}, "with UCI"),
            ({"ocsi2": 4}, "with UCI"),
            ({"part2": "entries=[{0, 1}]"}, "with UCI"),
            ({"symb": "[2, 12)", "dmrs_mask": "{2, 7}"}, "of mapping type B"),
            ({"dmrs_mask": "{0, 7}"}, "of mapping type B"),
            ({"n_rs_id": 5}, "with transform precoding"),
            ({"dmrs_type": 2}, "with DMRS type 2"),
            ({"nof_layers": 2}, "of several layers"),
            ({"cp": "extended"}, "with an extended cyclic prefix"),
            ({"prb": "0...7,12"}, "on PRBs that are not contiguous"),
            ({"rv": None}, "without a transport block"),
            ({"tcr": None}, "without tcr= (a log of another version?)"),
            ({"n_cdm_g_wd": None}, "without n_cdm_g_wd= (a log of another version?)"),
            ({"symb": "0:14"}, "with symb=0:14 (a log of another version?)"),
            ({"n_id": "nine"}, "with n_id=nine (a log of another version?)"),
            ({"n_id": "9" * 5000}, f"with n_id={'9' * 37}... (a log of another version?)"),
            ({"n_scid": "maybe"}, "with n_scid=maybe (a log of another version?)"),
            ({"mod": "pi/2-BPSK"}, "that do not fit (modulation must be one of"),
            ({"mod": "\x1b[2J" + "9" * 5000}, "that do not fit (modulation must be a printable"),
            ({"dmrs_mask": "{2, 3}"}, "that do not fit (dmrs of 14 symbols must be one of"),
            ({"prb": "[40, 60)"}, "that do not fit (an allocation must end inside its carrier"),
            ({"tcr": "nan"}, "that do not fit (code_rate must be a number from 0 to 1"),
            ({"tbs_lbrm": "1bytes"}, "that do not fit (limited_buffer must be 0 (not limited) or"),
            (None, "without parameters (let the PHY log at level debug)"),
        ],
    )
    def test_what_is_passed_over(self, tmp_path, changes, reason):
        text = gnb_logs.pusch("17.8", gnb_logs.fields(CONFIG), BLOCK)
        if changes is None:
            text = text.splitlines()[0]
        else:
            given = {k: v for k, v in (gnb_logs.fields(CONFIG) | changes).items() if v is not None}
            lines = [f"  {key}={value}" for key, value in given.items()]
            summary = text.splitlines()[0]
            if given.get("rv") is None:
                summary = summary.replace(" rv=0", "")
            text = "\n".join([summary, *lines])
        _, (pusch,) = logged(written(tmp_path, text))
        with pytest.raises(Unsupported) as refused:
            pusch.slot_config(51, 30)
        assert str(refused.value).startswith(reason)
        assert str(refused.value).isprintable() and len(str(refused.value)) < 200

    def test_endless_lines_take_no_memory(self, tmp_path):
        path = tmp_path / "gnb.log"
        text = gnb_logs.pusch("17.8", gnb_logs.fields(CONFIG), BLOCK).encode()
        with open(path, "wb") as file:
            for _ in range(64):
                file.write(b"\xff" * (1 << 20))
            file.write(b"\n" + text)
            for _ in range(200_000):
                file.write(b"  a=b\n    0000: 00 00\n")
        tracemalloc.start()
        _, (pusch,) = logged(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 << 20
        assert pusch.transport_block == BLOCK


class TestGoldenCapture:
    @pytest.fixture
    def recording(self, tmp_path):
        done = import_gnb(DUMP, LOG, tmp_path / "a")
        assert (done.pusch, done.blocks, done.empty_grids) == (7, 4, 1)
        assert not done.skipped and not done.missing
        recording = Recording(done.paths[0])
        recording.verify()
        return recording

    def test_grids_are_the_dump_s(self, recording):
        dump = np.fromfile(DUMP, "<c8").reshape(8, 2, 14, 612)
        assert recording.grids and recording.n_rx == 2 and not recording.runs
        for pusch, grid in zip(recording.pusch, np.delete(dump, 1, 0), strict=True):
            first = 12 * pusch.config.first_prb
            expected = grid[:, :, first : first + pusch.config.n_sc]
            np.testing.assert_array_equal(received_grid(recording, pusch), expected)

    def test_blocks_and_verdicts_are_the_log_s(self, recording):
        _, pusch = logged(LOG)
        assert [p.crc_ok for p in recording.pusch] == [p.crc_ok for p in pusch]
        assert [p.block for p in recording.pusch] == [p.transport_block for p in pusch]
        slots = [p.slot_index for p in recording.pusch]
        assert slots == [20 * p.frame + p.slot for p in pusch]

    def test_blocks_are_decoded_to_the_byte(self, recording):
        """Every one that the gNB decoded, and some of the others."""
        blocks = list(received(recording))
        right = [block == sent and ok for (block, ok), sent in zip(blocks, TRUTH, strict=True)]
        assert all(r for r, pusch in zip(right, recording.pusch, strict=True) if pusch.crc_ok)
        assert sum(right) > sum(pusch.crc_ok for pusch in recording.pusch)
        wrong = [block for (block, ok), r in zip(blocks, right, strict=True) if ok and not r]
        assert not wrong

    def test_the_retransmission_needs_its_first_transmission(self, recording):
        (again,) = [k for k, pusch in enumerate(recording.pusch) if not pusch.new_data]
        assert recording.pusch[again].crc_ok and list(received(recording))[again][1]
        recording.pusch[again] = replace(recording.pusch[again], new_data=True)
        assert not list(received(recording))[again][1]

    def test_the_documented_annotation(self, recording):
        """With what it leaves out, and but for the block."""
        page = (GOLDEN.parents[1] / "docs/reference/sigmf-extension.md").read_text()
        documented = json.loads(page.split("```json")[2].split("```")[0])
        written = json.loads(recording.path.read_text())["annotations"][1]
        assert written.pop("deeprx:block")
        slots = [SlotConfig.from_dict(a.pop("deeprx:slot")) for a in (documented, written)]
        assert slots[0] == slots[1] and documented == written

    def test_sigmf_calls_it_valid(self, recording):
        import sigmf

        sigmf.sigmffile.fromfile(str(recording.path)).validate()


@pytest.fixture
def whole_capture(tmp_path):
    """The golden capture and its rest, imported."""
    for kind in ("bin", "log"):
        parts = (GOLDEN / f"gnb_capture{part}.{kind}" for part in ("", "_rest"))
        (tmp_path / f"gnb.{kind}").write_bytes(b"".join(part.read_bytes() for part in parts))
    done = import_gnb(tmp_path / "gnb.bin", tmp_path / "gnb.log", tmp_path / "a")
    assert (done.pusch, done.blocks, done.empty_grids) == (20, 13, 4)
    assert not done.skipped and not done.lines and not done.missing
    return Recording(done.paths[0])


def test_the_whole_capture_is_decoded_to_the_byte(whole_capture):
    """All that the gNB decoded, both retransmissions with their first ones, and five of the other
    seven.
    """
    blocks = list(received(whole_capture))
    right = [ok and block == sent for (block, ok), sent in zip(blocks, TRUTH + REST, strict=True)]
    assert [ok for _, ok in blocks] == right
    there = [pusch.crc_ok for pusch in whole_capture.pusch]
    again = [not pusch.new_data for pusch in whole_capture.pusch]
    assert all(r for r, decoded in zip(right, there, strict=True) if decoded)
    assert (sum(right), sum(there), sum(again)) == (18, 13, 2)
    assert all(decoded for decoded, a in zip(there, again, strict=True) if a)


def test_every_classical_receiver_receives_what_the_gnb_did(whole_capture):
    replay = PuschReplay(whole_capture, classical())
    replay.run()
    for point in replay.points():
        beside = point["beside"]
        assert (beside["errors_there"], beside["only_there"], point["undetected"]) == (7, 0, 0)
        assert beside["only_here"] >= 5


def vector_config(slot: dict) -> SlotConfig:
    return SlotConfig(
        n_prb=slot["n_prb"],
        first_prb=slot["prb_start"],
        n_symbols=slot["n_symbols"],
        dmrs=dmrs_symbols(slot["n_symbols"], slot["dmrs_additional_position"]),
        cdm_groups=slot["cdm_groups_without_data"],
        dmrs_n_id=slot["n_id"],
        users=(
            User(
                {2: "QPSK", 4: "16QAM", 6: "64QAM", 8: "256QAM"}[slot["bits_per_symbol"]],
                code_rate=slot["code_rate"],
                tbs=slot["tbs"],
                rnti=slot["rnti"],
                n_id=slot["n_id"],
            ),
        ),
        limited_buffer=1 << 20,
        carrier_prb=slot["carrier_prb"],
        scs_khz=slot["scs_khz"],
        slot_number=slot["slot"],
    )


def capture_of(names, folder, n_rx=2):
    """A dump and a log of vectors, a frame each."""
    grids, text, offset = [], "", 1234  # behind what a PRACH was dumped to
    for frame, name in enumerate(names):
        (i,) = [k for k, slot in enumerate(INDEX) if slot["name"] == name]
        slot = INDEX[i]
        config = vector_config(slot)
        where = f"{frame}.{slot['slot']}"
        same = [n for n in names[:frame] if INDEX[i]["tbs"] == 13320 and n == "first"]
        parameters = gnb_logs.fields(config, 3, slot["rv"], not same)
        parameters |= {"oack": slot["harq_ack_bits"]}
        text += gnb_logs.pusch(where, parameters, VECTORS[f"tb{i}"].tobytes())
        text += gnb_logs.other_layers(where)
        grids.append(gnb_logs.dumped(config, VECTORS[f"grid{i}"], n_rx))
        text += gnb_logs.rx_symbol(where, offset, grids[-1].size)
        offset += grids[-1].size
    dump = folder / "dump.bin"
    dump.write_bytes(bytes(8 * 1234) + b"".join(grid.tobytes() for grid in grids))
    return dump, written(folder, text)


CARRIERS = {}
for _slot in INDEX:
    CARRIERS.setdefault((_slot["scs_khz"], _slot["carrier_prb"]), []).append(_slot["name"])


class TestVectors:
    @pytest.mark.parametrize("carrier", list(CARRIERS), ids=str)
    def test_every_block_to_the_bit(self, carrier, tmp_path):
        """Slots of another implementation, but with UCI; again and rv1 behind first."""
        names = CARRIERS[carrier]
        done = import_gnb(*capture_of(names, tmp_path), tmp_path / "a", carrier[0])
        coded = [name for name in names if name not in ("ack1", "ack4")]
        assert done.skipped == ({"with UCI": 2} if len(coded) < len(names) else {})
        recording = Recording(done.paths[0])
        assert len(recording.pusch) == len(coded)
        for name, pusch, (block, ok) in zip(
            coded, recording.pusch, received(recording), strict=True
        ):
            (i,) = [k for k, slot in enumerate(INDEX) if slot["name"] == name]
            grid = VECTORS[f"grid{i}"][: pusch.config.n_symbols]
            for antenna in received_grid(recording, pusch):
                np.testing.assert_allclose(antenna, grid, atol=1e-5)
            assert ok and block == VECTORS[f"tb{i}"].tobytes() == pusch.block, name

    @pytest.mark.parametrize("name", ALONE)
    def test_too_little_redundancy_alone(self, name, tmp_path):
        done = import_gnb(*capture_of([name], tmp_path), tmp_path / "a")
        ((_, ok),) = received(Recording(done.paths[0]))
        assert not ok

    @pytest.mark.parametrize("name", ["n78", "short10", "one_prb"])
    def test_samples_that_somebody_annotated(self, name, tmp_path):
        """The same slots as samples of an NR carrier, amid others that nobody knows."""
        (i,) = [k for k, slot in enumerate(INDEX) if slot["name"] == name]
        config = vector_config(INDEX[i])
        index = 40 * config.slots_per_frame + config.slot_number
        symbols = np.zeros((14, config.fft_size), complex)
        grid = VECTORS[f"grid{i}"][: config.n_symbols]
        symbols[: config.n_symbols, config.bins] = grid
        symbols *= config.phase_compensation(index)[:, None]
        waves = np.fft.ifft(np.fft.ifftshift(symbols, axes=1)) * np.sqrt(config.fft_size)
        prefixed = [
            np.r_[w[-cp:], w] for w, cp in zip(waves, config.cp_lengths(index), strict=True)
        ]
        samples = np.concatenate(prefixed)
        rng = np.random.default_rng(3)
        around = rng.normal(size=(2, 777)) + 1j * rng.normal(size=(2, 777))
        writer = RecordingWriter(tmp_path / "a", 2, config.sample_rate, "cf32_le")
        for antenna in (around, [samples, 1j * samples], around):
            writer.write([np.asarray(part, np.complex64) for part in antenna])
        writer.close()
        block = VECTORS[f"tb{i}"].tobytes()
        pusch = RecordedPusch(777, config, index, 0, 0, True, block, True)
        meta = json.loads((tmp_path / "a.sigmf-meta").read_text())
        meta["annotations"] = [pusch.annotation(len(samples))]
        (tmp_path / "a.sigmf-meta").write_text(json.dumps(meta))
        recording = Recording(tmp_path / "a.sigmf-meta")
        assert recording.pusch == [pusch] and not recording.grids
        first, second = received_grid(recording, pusch)
        np.testing.assert_allclose(first, grid, atol=1e-5)
        np.testing.assert_allclose(second, 1j * grid, atol=1e-5)
        replay = PuschReplay(recording, classical())
        replay.run()
        for point in replay.points():
            assert (point["block_errors"], point["bit_errors"]) == (0, 0)

    def test_samples_of_another_rate(self, tmp_path):
        config = vector_config(INDEX[0])
        writer = RecordingWriter(tmp_path / "a", 1, 20e6, "cf32_le")
        writer.write([np.ones(30000, np.complex64)])
        writer.close()
        meta = json.loads((tmp_path / "a.sigmf-meta").read_text())
        pusch = RecordedPusch(0, config, config.slot_number, 0, 0, True)
        meta["annotations"] = [pusch.annotation(config.n_samples(config.slot_number))]
        (tmp_path / "a.sigmf-meta").write_text(json.dumps(meta))
        with pytest.raises(ValueError) as refused:
            Recording(tmp_path / "a.sigmf-meta")
        assert "expected its slot's 3.072e+07 samples/s, found 2e+07" in str(refused.value)


class TestCapture:
    """Logs that are in another order than the golden one."""

    def capture(self, folder, text, grids):
        dump = folder / "dump.bin"
        dump.write_bytes(b"".join(grid.tobytes() for grid in grids))
        return dump, written(folder, text)

    def slot(self, number, first_prb=0, rnti=0x4601):
        user = User("16QAM", code_rate=0.642578, tbs=3368, rnti=rnti, n_id=9)
        return SlotConfig(
            n_prb=10, first_prb=first_prb, dmrs=(2, 7, 11), cdm_groups=2, users=(user,),
            carrier_prb=51, scs_khz=30, slot_number=number,
        )  # fmt: skip

    def test_several_users_of_a_slot(self, tmp_path):
        """In any order, and logged before their grid is."""
        here = [self.slot(9, 20, 0x4602), self.slot(9, 0), self.slot(9, 35, 0x4603)]
        text = "".join(gnb_logs.pusch("5.9", gnb_logs.fields(c), BLOCK) for c in here)
        text += gnb_logs.rx_symbol("5.9", 0, 17136)
        grid = np.zeros((2, 14, 612), "<c8")
        for config in here:
            grid += gnb_logs.dumped(config, np.full((14, 120), config.first_prb + 1))
        done = import_gnb(*self.capture(tmp_path, text, [grid]), tmp_path / "a")
        recording = Recording(done.paths[0])
        assert done.pusch == 3 and recording.n_samples == 14 * 612
        assert [p.config.first_prb for p in recording.pusch] == [0, 20, 35]
        for pusch in recording.pusch:
            assert np.all(received_grid(recording, pusch) == pusch.config.first_prb + 1)

    def test_the_frame_number_begins_anew(self, tmp_path):
        """Frame 1023 is followed by 0; a slot may be logged behind the next one's."""
        wheres = [(1022, 19), (1023, 18), (0, 4), (1023, 19), (1, 4)]
        text, grids = "", []
        for k, (frame, number) in enumerate(wheres):
            config = self.slot(number)
            text += gnb_logs.rx_symbol(f"{frame}.{number}", 17136 * k, 17136)
            text += gnb_logs.pusch(f"{frame}.{number}", gnb_logs.fields(config), BLOCK)
            grids.append(gnb_logs.dumped(config, np.full((14, 120), k)))
        done = import_gnb(*self.capture(tmp_path, text, grids), tmp_path / "a")
        recording = Recording(done.paths[0])
        first = 20 * 1022 + 19
        assert [p.slot_index - first for p in recording.pusch] == [0, 19, 20, 25, 45]
        values = [received_grid(recording, p)[0, 0, 0] for p in recording.pusch]
        assert values == [0, 1, 3, 2, 4]

    def test_a_late_first_slot(self, tmp_path):
        """The log begins with frame 0, and ends with what 1023 left."""
        text, grids = "", []
        for k, (frame, number) in enumerate([(0, 10), (1023, 19)]):
            config = self.slot(number)
            text += gnb_logs.rx_symbol(f"{frame}.{number}", 17136 * k, 17136)
            text += gnb_logs.pusch(f"{frame}.{number}", gnb_logs.fields(config), BLOCK)
            grids.append(gnb_logs.dumped(config, np.full((14, 120), k)))
        done = import_gnb(*self.capture(tmp_path, text, grids), tmp_path / "a")
        assert [p.slot_index for p in Recording(done.paths[0]).pusch] == [20479, 20490]

    def timed(self, folder, slots):
        """slots: each one's seconds behind noon, frame and number."""
        text, grids = "", []
        for k, (seconds, frame, number) in enumerate(slots):
            config = self.slot(number)
            lines = gnb_logs.rx_symbol(f"{frame}.{number}", 17136 * k, 17136)
            lines += gnb_logs.pusch(f"{frame}.{number}", gnb_logs.fields(config, k % 16), BLOCK)
            when = datetime(2026, 3, 1, 12) + timedelta(seconds=seconds)
            text += lines.replace(gnb_logs.TIME, when.isoformat(timespec="microseconds"))
            grids.append(gnb_logs.dumped(config, np.full((14, 120), k)))
        return self.capture(folder, text, grids)

    @pytest.mark.parametrize(
        "pauses",
        [[6.0] * 20, [10.24], [7.68] * 4, [0.01, 30 * 10.24, 5.12, 0.0005], [5.13, 9.9, 3600.0]],
    )
    def test_pauses(self, tmp_path, pauses):
        """Of any length: in order, none lost. Threads log each slot up to 0.3 s late."""
        late = np.random.default_rng(1).uniform(0, 0.3, len(pauses) + 1)
        slots = np.rint(np.cumsum([1.007, *pauses]) * 2000).astype(int)
        logged = [
            (slot / 2000 + late[k], (slot // 20 + 1000) % 1024, slot % 20)
            for k, slot in enumerate(slots)
        ]
        done = import_gnb(*self.timed(tmp_path, logged), tmp_path / "a", 30)
        recording = Recording(done.paths[0])
        assert not done.skipped and not done.lines and not done.empty_grids
        indices = np.array([p.slot_index for p in recording.pusch])
        np.testing.assert_array_equal(indices - indices[0], slots - slots[0])
        assert 0 <= indices[0] < 20480
        values = [received_grid(recording, p)[0, 0, 0] for p in recording.pusch]
        assert values == list(range(len(slots)))

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda text: text.replace("12:00:01.02", "12:00:05.02"), "time and frame contradict"),
            (lambda text: text.replace("2026-03-01T12:00:01.02", "1926-03-01T12:00:01.02"), "time"),
            (lambda text: text.replace("[    2.14]", "[   600.14]"), "time and frame contradict"),
            (lambda text: text.replace("[    2.14]", "[    1.14]"), "of a slot that has one"),
        ],
    )
    def test_lines_that_contradict_the_others(self, tmp_path, change, says):
        slots = [(1 + frame / 100, frame, 14) for frame in range(6)]
        dump, log = self.timed(tmp_path, slots)
        changed = change(log.read_text())
        assert changed != log.read_text()
        log.write_text(changed)
        done = import_gnb(dump, log, tmp_path / "a")
        recording = Recording(done.paths[0])
        kept = [0, 1, 3, 4, 5]
        assert [p.slot_index for p in recording.pusch] == [20 * k + 14 for k in kept]
        assert [received_grid(recording, p)[0, 0, 0] for p in recording.pusch] == kept
        assert says in done.lines.text() and done.lines.total() == 2

    def test_times_that_do_not_decide(self, tmp_path):
        """A log of runs whose frames are no pauses of each other."""
        dump, log = self.timed(tmp_path, [(k / 1000, 256 * k, 14) for k in range(4)])
        with pytest.raises(ValueError) as refused:
            import_gnb(dump, log, tmp_path / "a")
        assert "expected lines of one run, found times and frames that" in str(refused.value)
        assert not (tmp_path / "a.sigmf-meta").exists()

    @pytest.mark.parametrize(("n_rx", "number", "scs"), [(1, 9, 15), (4, 19, 30), (2, 39, 60)])
    def test_antennas_and_spacing(self, tmp_path, n_rx, number, scs):
        config = self.slot(9)
        text = gnb_logs.rx_symbol(f"5.{number}", 0, 8568 * n_rx)
        text += gnb_logs.pusch(f"5.{number}", gnb_logs.fields(config), BLOCK)
        grid = gnb_logs.dumped(config, np.ones((14, 120)), n_rx)
        done = import_gnb(*self.capture(tmp_path, text, [grid]), tmp_path / "a")
        assert (done.n_rx, done.scs_khz, done.carrier_prb) == (n_rx, scs, 51)
        (pusch,) = Recording(done.paths[0]).pusch
        assert (pusch.config.scs_khz, pusch.config.slot_number) == (scs, number)

    def test_what_cannot_be_imported_is_counted(self, tmp_path, capsys):
        """Nothing is lost in silence; the slots beside are there."""
        text, grids = "", []
        for frame in range(7):
            config = self.slot(9)
            parameters = gnb_logs.fields(config)
            if frame in (1, 2):
                parameters |= {"oack": 1}
            if frame == 3:
                parameters |= {"bg": 1}
            text += gnb_logs.pusch(f"{frame}.9", parameters, BLOCK)
            if frame != 4:
                text += gnb_logs.rx_symbol(f"{frame}.9", 17136 * len(grids), 17136)
                grids.append(gnb_logs.dumped(config, np.ones((14, 120))))
        grids[-2][1, 3, 7] = np.nan
        grids[-1][:] = 0.0  # as a sparse file has
        dump, log = self.capture(tmp_path, text, grids)
        assert main(["import-gnb", str(dump), str(log), str(tmp_path / "a")]) == 0
        said, warned = capsys.readouterr()
        for reason in (
            "2 PUSCH, 2 of them with their transport block",
            "2 with UCI",
            "1 with bg=1, where TS 38.212 has 2",
            "1 of slots that were not dumped",
            "1 with values that are not finite",
            "grids without a PUSCH: 4",
        ):
            assert reason in said
        assert "dump.bin: 1 of 2 PUSCH hold only zeros" in warned
        assert len(Recording(tmp_path / "a.sigmf-meta").pusch) == 2


class TestMistakes:
    def refused(self, capfd, *arguments, status=2):
        assert main(["import-gnb", *map(str, arguments)]) == status
        said = capfd.readouterr().err
        assert said.count("\n") == 1 and said.startswith("deeprx: ")
        return said

    def test_a_dump_that_is_shorter_than_its_log(self, tmp_path, capfd):
        """What there is of it is imported."""
        dump = tmp_path / "dump.bin"
        dump.write_bytes(DUMP.read_bytes()[: 8 * 17136 * 5 + 100])
        said = self.refused(capfd, dump, LOG, tmp_path / "a", status=1)
        assert "ends 51396 values of 8 bytes before its log does" in said
        recording = Recording(tmp_path / "a.sigmf-meta")
        assert len(recording.pusch) == 4
        assert [ok for _, ok in received(recording)].count(True) >= 3

    @pytest.mark.parametrize(
        ("dump", "log", "says"),
        [
            (DUMP, DUMP, "found 0 RX_SYMBOL and 0 PUSCH lines"),
            (LOG, DUMP, "found 0 RX_SYMBOL and 0 PUSCH lines"),
            (DUMP, "nothing.log", "cannot read the log: No such file"),
            ("nothing.bin", LOG, "cannot read the dump: No such file"),
            (GOLDEN, LOG, "cannot read the dump: Is a directory"),
            (DUMP, GOLDEN, "cannot read the log: Is a directory"),
            (
                "/dev/null",
                LOG,
                "cannot read the dump: expected a regular file, found a character device",
            ),
            (
                "/dev/zero",
                LOG,
                "cannot read the dump: expected a regular file, found a character device",
            ),
            (
                DUMP,
                "/dev/zero",
                "cannot read the log: expected a regular file, found a character device",
            ),
        ],
    )
    def test_other_files(self, tmp_path, capfd, dump, log, says):
        assert says in self.refused(capfd, dump, log, tmp_path / "a")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ("sector=0 offset=1", "sector=1 offset=1", "found 0 and 1: let the gNB dump one cell"),
            ("size=17136", "size=17135", "values each for the 51 PRB"),
            ("bwp=[0, 51)", "bwp=all", "no PUSCH line says its bandwidth part: with bwp=all"),
            ("[   106.5]", "[   106.45]", "found slot 45 of a frame"),
            ("PUSCH: ", "PUSCH ", "found 8 RX_SYMBOL and 0 PUSCH lines"),
            ("\n  n_id=1", "", "7 without n_id= (a log of another version?)"),
            ("dmrs_type=1", "dmrs_type=2", "found no PUSCH to import, but 7 with DMRS type 2"),
            ("size=17136", "size=171360000", "values each for the 51 PRB"),
            ("offset=", "offset=99999999", "7 beyond the end of the dump"),
        ],
    )
    def test_other_logs(self, tmp_path, capfd, old, new, says):
        log = written(tmp_path, LOG.read_text().replace(old, new))
        assert says in self.refused(capfd, DUMP, log, tmp_path / "a")
        assert list(tmp_path.iterdir()) == [log]

    @pytest.mark.parametrize(
        ("old", "new", "says", "pusch"),
        [
            ("offset=17136 size=17136", "offset=17136 size=42", "1 grids of another size", 7),
            ("sector=0 offset=17136", "sector=1 offset=17136", "1 grids of another sector", 7),
            ("  bwp=[0, 51)", "  bwp=[0, 275)", "1 of a bandwidth part beyond the carrier", 6),
            ("  bwp=[0, 51)", "  bwp=[0, 102)", "1 of a bandwidth part beyond the carrier", 6),
            ("[   104.4] RX", "[   104.99] RX", "1 of slots that 30 kHz has not", 7),
            ("[   106.5] PUSCH: ", "[   106.25] PUSCH: ", "1 of slots that 30 kHz has not", 6),
            ("[   106.5] RX", "[  9999.5] RX", "1 of a time or frame that there is not", 6),
            ("[   106.5] PUSCH: ", "[   106-5] PUSCH: ", "1 without time, frame and slot", 6),
            ("[   106.5] RX", "[   106.5 RX", "1 without time, frame and slot", 6),
            ("sector=0 offset=34272", "sector=0 off?et=34272", "1 without sector, offset", 6),
        ],
    )
    def test_a_damaged_line(self, tmp_path, capsys, old, new, says, pusch):
        """Costs what it says, and is named; the others are imported as they are."""
        text = LOG.read_text()
        assert old in text
        log = written(tmp_path, text.replace(old, new, 1))
        line = 1 + next(
            k
            for k, (a, b) in enumerate(
                zip(text.splitlines(), log.read_text().splitlines(), strict=True)
            )
            if a != b
        )
        assert main(["import-gnb", str(DUMP), str(log), str(tmp_path / "a")]) == 0
        said = capsys.readouterr()
        assert f"{pusch} PUSCH, " in said.out and said.err == ""
        assert "carrier: 51 PRB at 30 kHz, 2 antennas" in said.out
        if "bandwidth" in says:
            line = 5  # its PUSCH's
        assert says in said.out and f"(line {line})" in said.out
        untouched = import_gnb(DUMP, LOG, tmp_path / "b").paths[0]
        all_of_them = [p.block for p in Recording(untouched).pusch]
        kept = [p.block for p in Recording(tmp_path / "a.sigmf-meta").pusch]
        assert len(kept) == pusch and set(kept) <= set(all_of_them)

    def test_a_spacing_that_is_assumed(self, tmp_path, capfd):
        """No slot of the log tells it."""
        (tmp_path / "c").mkdir()
        dump, log = capture_of(["n78"], tmp_path / "c")
        said = self.refused(capfd, dump, log, tmp_path / "a", status=0)
        assert "has no slot beyond 9 of a frame: 15 kHz is assumed; --scs says another" in said
        words = ["import-gnb", str(dump), str(log), str(tmp_path / "b"), "--scs", "30"]
        assert main(words) == 0
        assert capfd.readouterr().err == ""

    def test_pipes(self, tmp_path, capfd):
        """To which nobody writes."""
        pipe = tmp_path / "pipe.sigmf-meta"
        os.mkfifo(pipe)
        for dump, log in ((pipe, LOG), (DUMP, pipe)):
            said = self.refused(capfd, dump, log, tmp_path / "a")
            assert "expected a regular file, found a FIFO" in said
        assert main(["replay", str(pipe), "--receiver", "gnb"]) == 2
        assert "cannot read the metadata: expected a regular file" in capfd.readouterr().err
        assert list(tmp_path.iterdir()) == [pipe]

    def test_an_empty_dump(self, tmp_path, capfd):
        said = self.refused(capfd, written(tmp_path, "", "a.bin"), LOG, tmp_path / "a")
        assert "a.bin: expected a gNB's dump of grids, found an empty file" in said

    @pytest.mark.parametrize("out", ["", ".", "..", "folder/", "folder/.."])
    def test_a_folder_for_a_recording(self, tmp_path, capfd, monkeypatch, out):
        monkeypatch.chdir(tmp_path)
        said = self.refused(capfd, DUMP, LOG, out)
        assert f"expected the name of a recording, as folder/name, found '{out}'" in said
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_takes_no_files(self, capfd):
        assert "error: /proc/x.sigmf-data: " in self.refused(capfd, DUMP, LOG, "/proc/x")

    def test_blocks_that_are_not_there_whole(self, tmp_path, capsys):
        """Counted, of upper-case digits or not."""
        lines = LOG.read_text().splitlines()
        dump = [k for k, line in enumerate(lines) if line.startswith("    ")]
        for k in dump:
            lines[k] = lines[k].upper()
        assert main(["import-gnb", str(DUMP), str(written(tmp_path, "\n".join(lines))),
                     str(tmp_path / "a")]) == 0  # fmt: skip
        said = capsys.readouterr().out
        assert "4 of them with their transport block" in said and "truth" not in said
        lines[dump[3]] = lines[dump[3]].replace(" ", "?")
        log = written(tmp_path, "\n".join(lines))
        assert main(["import-gnb", str(DUMP), str(log), str(tmp_path / "b")]) == 0
        said = capsys.readouterr().out
        assert "3 of them with their transport block" in said
        assert "crc=OK without truth: 1 whose block is not there whole (hex_max_size: -1)" in said

    def test_two_logs_in_one(self, tmp_path, capsys):
        """Every PUSCH once."""
        log = written(tmp_path, 2 * LOG.read_text())
        assert main(["import-gnb", str(DUMP), str(log), str(tmp_path / "a")]) == 0
        said = capsys.readouterr().out
        assert "7 PUSCH, 4 of them" in said
        assert "8 grids of a slot that has one" in said
        assert "7 PUSCH of a user who has one in its slot" in said

    def test_grids_that_overlap(self, tmp_path, capsys):
        """One of two lines is wrong, and nobody knows which."""
        log = written(tmp_path, LOG.read_text().replace("offset=51408", "offset=34300"))
        assert main(["import-gnb", str(DUMP), str(log), str(tmp_path / "a")]) == 0
        said = capsys.readouterr().out
        assert "5 PUSCH, " in said and "2 of slots that were not dumped" in said
        assert "lines passed over: 2 grids that overlap in the dump (first: line 35)" in said

    def test_grids_of_two_sizes(self, tmp_path, capfd):
        """Half of them each."""
        log = written(tmp_path, LOG.read_text().replace("size=17136", "size=8568", 4))
        said = self.refused(capfd, DUMP, log, tmp_path / "a")
        assert "expected grids of one size, found" in said

    def test_a_log_at_level_info(self, tmp_path, capfd):
        lines = [line for line in LOG.read_text().splitlines() if not line.startswith("  ")]
        log = written(tmp_path, "\n".join(lines))
        said = self.refused(capfd, DUMP, log, tmp_path / "a")
        assert "without parameters (let the PHY log at level debug)" in said

    def test_another_spacing_than_the_log_s(self, tmp_path, capfd):
        said = self.refused(capfd, DUMP, LOG, tmp_path / "a", "--scs", "15")
        assert "expected slots of 15 kHz, found slot 19 of a frame" in said

    def test_a_recording_is_there(self, tmp_path, capfd):
        there = written(tmp_path, "mine", "a.sigmf-meta")
        for name in ("a", "a.sigmf-meta", "a.sigmf-data"):
            said = self.refused(capfd, DUMP, LOG, tmp_path / name)
            assert "a.sigmf-meta" in said and "is there already" in said
        assert there.read_text() == "mine" and list(tmp_path.iterdir()) == [there]

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda a: a.pop("deeprx:slot"), "lacks 'deeprx:slot'"),
            (lambda a: a["deeprx:harq"].pop("rv"), "lacks 'rv'"),
            (lambda a: a["deeprx:harq"].update(rv=4), "must be a whole number from 0 to 3"),
            (lambda a: a.update({"deeprx:block": "x"}), "must be bytes in base64 or null"),
            (lambda a: a.update({"deeprx:block": "aaaa"}), "expected a block of 864 bytes"),
            (
                lambda a: a.update({"core:sample_start": 1}),
                "where a grid of 8568 values begins, found 1 behind one",
            ),
            (lambda a: a.update({"core:sample_count": 8567}), "expected core:sample_count 8568"),
            (lambda a: a.update({"deeprx:crc_ok": "OK"}), "must be true or false or null"),
            (lambda a: a["deeprx:slot"].update(n_prb=99), "must end inside its carrier"),
            (lambda a: a["deeprx:slot"].update(limited_buffer=1), "hold the user's block of 6912"),
            (lambda a: a["deeprx:slot"].update(mapping_type="B"), "mapping_type must be A"),
            (lambda a: a["deeprx:slot"].update(colour=1), "no parameter of a slot is called"),
            (
                lambda a: a["deeprx:slot"]["users"][0].update(code_rate=None),
                "expected a slot of one user with a code_rate",
            ),
            (lambda a: a["deeprx:slot"]["users"][0].update(tbs=8), "tbs must be 24 to"),
            (lambda a: a["deeprx:slot"]["users"][0].update(mcs=0), "modulation must be QPSK, of"),
        ],
    )
    def test_annotations(self, tmp_path, change, says):
        done = import_gnb(DUMP, LOG, tmp_path / "a")
        meta = json.loads(done.paths[0].read_text())
        change(meta["annotations"][0])
        done.paths[0].write_text(json.dumps(meta))
        with pytest.raises(ValueError) as refused:
            Recording(done.paths[0])
        assert says in str(refused.value)
        assert str(refused.value).isprintable()


def not_finite(llr):
    raise RuntimeError(NOT_FINITE)  # as engines do


class Numpy:
    """A receiver for PuschReplay; wrong: of slots whose LLRs are others."""

    name = "numpy"

    def __init__(self, wrong=None):
        self.wrong = wrong or {}

    def prepare(self, config, n_rx, slot_index):
        change = self.wrong.get(slot_index, lambda llr: llr)
        return lambda grid: change(llrs(grid, config, slot_index))


class TestReplay:
    @pytest.fixture
    def imported(self, tmp_path):
        return import_gnb(DUMP, LOG, tmp_path / "a").paths[0]

    def point(self, path, receiver):
        replay = PuschReplay(Recording(path), [receiver])
        replay.run()
        (point,) = replay.points()
        return point

    def test_beside_the_gnb(self, imported):
        """Of the three that it did not decode two are received, in the first transmission."""
        point = self.point(imported, Numpy())
        assert (point["pusch"], point["block_errors"], point["undetected"]) == (7, 1, 0)
        beside = point["beside"]
        assert (beside["errors"], beside["errors_there"]) == (1, 3)
        assert (beside["only_here"], beside["only_there"]) == (2, 0)
        assert beside["difference"] == pytest.approx(-2 / 7)
        sizes = [p.config.n_bits for p in Recording(imported).pusch if p.block]
        assert point["bits"] == sum(sizes) and 0 < point["bit_errors"] < 0.01 * sum(sizes)

    def test_a_retransmission_is_combined(self, imported):
        """The last two slots are one block's, and of the last two in five LLRs are lost."""
        rng = np.random.default_rng(1)

        def less(llr):
            return llr * (rng.random(llr.shape) < 0.6)

        last = [p.slot_index for p in Recording(imported).pusch][-2:]
        combined = self.point(imported, Numpy({last[1]: less}))
        alone = self.point(imported, Numpy({last[0]: np.zeros_like, last[1]: less}))
        assert (combined["block_errors"], alone["block_errors"]) == (1, 2)

    def test_a_retransmission_without_its_first(self, imported):
        meta = json.loads(imported.read_text())
        del meta["annotations"][5]
        imported.write_text(json.dumps(meta))
        point = self.point(imported, Numpy())
        assert (point["pusch"], point["without_first"], point["block_errors"]) == (6, 1, 1)

    @pytest.mark.parametrize("lost", ["with UCI", "not finite", "of another version"])
    def test_a_retransmission_of_a_block_whose_first_is_lost(self, lost, tmp_path):
        """It is decoded alone, and not with what its process had before."""
        dump, log = capture_of(["rv3", "first", "again"], tmp_path)
        text = log.read_text().split("PUSCH: rnti")
        changes = {"with UCI": ("oack=0", "oack=1"), "of another version": ("h_id=", "harq=")}
        text[2] = text[2].replace(*changes.get(lost, ("", "")))
        done = import_gnb(dump, written(tmp_path, "PUSCH: rnti".join(text)), tmp_path / "a")
        recording = Recording(done.paths[0])
        slots = [pusch.slot_index for pusch in recording.pusch]
        spoilt = {slots[1]: not_finite} if lost == "not finite" else {}
        assert len(slots) == 2 + len(spoilt)
        assert recording.pusch[-1].earlier_missing == (not spoilt)
        point = self.point(done.paths[0], Numpy(spoilt))
        assert (point["without_first"], point["undetected"]) == (1, 0)
        assert (sum(point["dropped_slots"].values()), point["block_errors"]) == (len(spoilt), 1)

    def test_a_retransmission_of_another_block(self, imported):
        """By its size, though its soft bits are as many."""
        meta = json.loads(imported.read_text())
        meta["annotations"][6]["deeprx:slot"]["users"][0]["tbs"] -= 24  # 3 code blocks
        del meta["annotations"][6]["deeprx:block"]
        imported.write_text(json.dumps(meta))
        first, second = (p.transport_block for p in Recording(imported).pusch[5:])
        assert first.size != second.size and first.lifting_size == second.lifting_size
        point = self.point(imported, Numpy())
        assert (point["pusch"], point["without_first"], point["block_errors"]) == (7, 1, 2)

    @pytest.mark.parametrize(("others", "dropped"), [(255, 0), (256, 2)])
    def test_soft_buffers_of_256_processes(self, imported, others, dropped):
        """Other users' between the two transmissions of a block."""
        meta = json.loads(imported.read_text())
        first, again = meta["annotations"][5:]
        between = json.dumps(meta["annotations"][0] | {
            key: first[key] for key in ("core:sample_start", "deeprx:first_slot")
        })  # fmt: skip
        meta["annotations"] = [first, *(json.loads(between) for _ in range(others)), again]
        for k, other in enumerate(meta["annotations"][1:-1]):
            other["deeprx:slot"]["users"][0]["rnti"] = 1 + k
        imported.write_text(json.dumps(meta))
        point = self.point(imported, Numpy())
        assert (point["pusch"], point["dropped"]) == (2 + others, dropped)
        assert point["without_first"] == (dropped > 0)

    @pytest.mark.parametrize("wanted", [0, 3])
    def test_what_was_received_until_it_is_stopped(self, imported, wanted):
        replay = PuschReplay(Recording(imported), [Numpy()])
        done = [0]
        replay.run(lambda: done[-1] == wanted, done.append)
        (point,) = replay.points()
        assert point["pusch"] == wanted and done == list(range(wanted + 1))
        assert (point["bler"] is None) == (point["beside"] is None) == (wanted == 0)

    def test_ctrl_c_keeps_what_was_received(self, imported, capfd, monkeypatch):
        """It comes while the second PUSCH is received."""
        calls = []

        def prepare(self, config, n_rx, slot_index):
            calls.append(slot_index)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return lambda grid: llrs(grid, config, slot_index)

        monkeypatch.setattr(Model, "prepare", prepare)
        measured = self.replayed(imported, "--receiver", "gnb", status=130)
        assert measured["pusch"][0]["pusch"] == 2
        assert "stopped after 2 of 7 PUSCH" in capfd.readouterr().err

    def test_a_right_crc_of_another_block(self, imported):
        """What the log says of a block is believed more than a CRC of 24 bits."""
        meta = json.loads(imported.read_text())
        meta["annotations"][1]["deeprx:block"] = base64.b64encode(bytes(1185)).decode()
        imported.write_text(json.dumps(meta))
        point = self.point(imported, Numpy())
        assert (point["undetected"], point["block_errors"]) == (1, 2)

    def test_without_verdicts(self, imported):
        meta = json.loads(imported.read_text())
        for annotation in meta["annotations"]:
            annotation.pop("deeprx:crc_ok")
        imported.write_text(json.dumps(meta))
        point = self.point(imported, Numpy())
        assert point["beside"] is None and point["block_errors"] == 1

    @pytest.mark.parametrize("carrier", list(CARRIERS), ids=str)
    def test_every_vector(self, carrier, tmp_path):
        """Slots of another implementation, received by the receivers of C++."""
        names = CARRIERS[carrier]
        done = import_gnb(*capture_of(names, tmp_path), tmp_path / "a", carrier[0])
        replay = PuschReplay(Recording(done.paths[0]), classical())
        replay.run()
        for point in replay.points():
            assert (point["block_errors"], point["bit_errors"], point["undetected"]) == (0, 0, 0)

    def replayed(self, path, *arguments, status=0):
        out = path.parent / "out"
        assert main(["replay", str(path), *arguments, "--out", str(out)]) == status
        return report.read(out / "report.json")

    def test_command_line(self, imported, capsys):
        receivers = [word for name in CLASSICAL for word in ("--receiver", name)]
        measured = self.replayed(imported, *receivers)
        assert measured["points"] == []
        assert measured["recording"]["name"] == "a.sigmf-meta"
        assert [p["receiver"] for p in measured["pusch"]] == list(CLASSICAL)
        for point in measured["pusch"]:
            assert point["beside"]["only_there"] == 0  # all that the gNB decoded
            assert point["beside"]["only_here"] >= 1
            assert point["undetected"] == point["without_first"] == 0
            assert point["beside"]["ci95"] == [-1, 1]  # two clusters
        said = capsys.readouterr().out
        for point in measured["pusch"]:
            line = f"{point['receiver']}: {point['block_errors']} block errors where the receiver"
            assert line in said
        assert "there alone): too few clusters to tell, -0.29" in said

    def test_receivers_are_compared_with_each_other(self, imported, capsys):
        """Where one of them hears noise in the place of two slots."""
        slots = [p.slot_index for p in Recording(imported).pusch]
        broken = Numpy({slots[k]: np.zeros_like for k in (0, 1)})
        broken.name = "broken"
        replay = PuschReplay(Recording(imported), [*classical(), broken])
        replay.run()
        errors = {p["receiver"]: p["block_errors"] for p in replay.points()}
        best = min(CLASSICAL, key=errors.get)
        for reference, other in ((None, best), ("broken", "broken")):
            compared = replay.comparisons(CLASSICAL, reference)
            assert [c["a"] for c in compared] == [n for n in errors if n != other]
            for c in compared:
                assert c["b"] == other
                assert c["bler_difference"] == pytest.approx((errors[c["a"]] - errors[other]) / 7)
                if c["bler_ci95"] is None:
                    assert c["only_a"] == c["only_b"]
                else:
                    assert c["bler_ci95"][0] <= c["bler_difference"] <= c["bler_ci95"][1]
                assert c["only_b"] - c["only_a"] == errors[c["a"]] - errors[other]
        assert replay.comparisons(CLASSICAL)[-1]["only_b"] == 2
        words = ["--receiver", "gnb", "--receiver", "ls-lmmse", "--reference", "ls-lmmse"]
        (compared,) = self.replayed(imported, *words)["comparisons"]
        assert (compared["a"], compared["b"]) == ("gnb", "ls-lmmse")
        assert "blocks received that ls-lmmse did not" in capsys.readouterr().out

    def test_model_files(self, tmp_path):
        """On a slot that they take, and one that the same engine then takes again."""
        dump, log = capture_of(["one_group"], tmp_path)
        text = log.read_text()
        again = text.replace("[     0.0]", "[     1.0]").replace("h_id=3", "h_id=4")
        text += again.replace("offset=1234", f"offset={1234 + dump.stat().st_size // 8}")
        dump.write_bytes(2 * dump.read_bytes())
        log.write_text(text)
        done = import_gnb(dump, log, tmp_path / "a")
        receivers = ["deeprx-student", "deeprx-pusch", "baseline-lmmse", "ls-lmmse"]
        words = [word for name in receivers for word in ("--receiver", name)]
        measured = self.replayed(done.paths[0], *words)["pusch"]
        assert [point["receiver"] for point in measured] == receivers
        for point in measured:
            assert (point["pusch"], point["block_errors"], point["bit_errors"]) == (2, 0, 0)

    def test_a_file_that_is_exchanged_meanwhile_changes_nothing(self, tmp_path):
        """It is read once, for all kinds of slots."""
        path = shutil.copy(deeprx.model_path("deeprx-pusch"), tmp_path / "m.pt")
        opened = Model(read_model_file(path), "m")
        expected = Model(read_model_file("deeprx-pusch"), "m")
        rng = np.random.default_rng(1)
        exchange = (
            lambda: None,
            lambda: shutil.copy(deeprx.model_path("baseline-sure"), path),
            lambda: path.unlink(),
        )
        for change, scs_khz in zip(exchange, (15, 30, 60), strict=True):
            change()
            config = SlotConfig(n_prb=3, scs_khz=scs_khz)
            grid = np.ascontiguousarray(rng.standard_normal((2, 14, 36, 2))).view(complex)[..., 0]
            llrs = [model.prepare(config, 2, 0)(grid) for model in (opened, expected)]
            assert np.array_equal(*llrs)

    def test_a_model_that_refuses_some(self, imported, capfd):
        """Others receive them, and it receives one, which says of itself what was not sent."""
        meta = json.loads(imported.read_text())
        meta["annotations"][1]["deeprx:slot"] |= {"cdm_groups": 1, "dmrs": [2, 11]}
        imported.write_text(json.dumps(meta))
        slots = [p.slot_index for p in Recording(imported).pusch]
        words = ["--receiver", "sure-lmmse", "--receiver", "baseline-sure"]
        measured = self.replayed(imported, *words)
        all_of_them, one = measured["pusch"]
        assert (all_of_them["pusch"], all_of_them["refused"]) == (7, [])
        assert all_of_them["block_errors"] < 4
        assert (one["pusch"], one["block_errors"], one["beside"]["pusch"]) == (1, 1, 1)
        (refused,) = one["refused"]
        assert (refused["pusch"], refused["first_slot"]) == (6, slots[0])
        (compared,) = measured["comparisons"]
        assert compared["clusters"] == 1 and compared["bler_difference"] == 0
        said = capfd.readouterr().out
        assert f"baseline-sure: 6 PUSCH refused, the first in slot {slots[0]}: model file" in said

    def test_a_model_that_refuses_all(self, imported, capfd):
        """Its user hears so, and has what the others received."""
        words = ["--receiver", "sure-lmmse", "--receiver", "deeprx-student"]
        measured = self.replayed(imported, *words, status=1)
        assert [p["pusch"] for p in measured["pusch"]] == [7, 0]
        assert measured["pusch"][1]["bler"] is None and measured["comparisons"] == []
        said = capfd.readouterr().err
        assert "deeprx-student: took none of its PUSCH" in said and said.count("\n") == 1

    def test_a_refused_transmission_flushes_its_process(self, imported):
        """The block before is not combined with the refused one's retransmission."""
        pusch = Recording(imported).pusch
        first = pusch[-2].slot_index

        class Refusing(Numpy):
            def prepare(self, config, n_rx, slot_index):
                if slot_index == first:
                    raise RuntimeError("not that one")
                return super().prepare(config, n_rx, slot_index)

        point = self.point(imported, Refusing())
        assert (point["pusch"], point["without_first"]) == (6, 1)
        assert point["refused"] == [{"reason": "not that one", "pusch": 1, "first_slot": first}]

    def test_grids_of_another_run(self, imported, capfd):
        """Of which nothing can be decoded."""
        data = imported.with_suffix(".sigmf-data")
        values = np.fromfile(data, "<c8")
        np.random.default_rng(1).shuffle(values)
        values.tofile(data)
        meta = json.loads(imported.read_text())
        meta["global"].pop("core:sha512")
        imported.write_text(json.dumps(meta))
        self.replayed(imported, "--receiver", "gnb", status=1)
        said = capfd.readouterr().err
        assert "no block was received: are grids and parameters of one run?" in said
        assert said.count("\n") == 1

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--receiver", "deeprx-student"], "the model takes cdm_groups of [1], the receiver"),
            (["--receiver", "nothing.pt"], "nothing.pt"),
            (["--receiver", "gnb", "--reference", "a"], "--reference: expected one of gnb, found"),
            (["--receiver", "gnb", "--core-power", "9"], "energy of PUSCH is not measured"),
            (["--receiver", "gnb", "--meter", "rapl"], "energy of PUSCH is not measured"),
            (["--receiver", "gnb", "--sync"], "its PUSCH have no preamble: leave out --sync"),
            (["--receiver", "gnb", "--n-prb", "26"], "leave out --n-prb"),
        ],
    )
    def test_mistakes(self, imported, capfd, arguments, says):
        assert main(["replay", str(imported), *arguments]) == 2
        said = capfd.readouterr().err
        assert says in said and said.count("\n") == 1

    def test_grids_without_annotations(self, imported, capfd):
        meta = json.loads(imported.read_text())
        meta["annotations"] = []
        imported.write_text(json.dumps(meta))
        assert main(["replay", str(imported), "--receiver", "gnb"]) == 2
        assert "expected annotated PUSCH, found none" in capfd.readouterr().err

    def test_damaged_grids(self, imported, capfd):
        data = bytearray(imported.with_suffix(".sigmf-data").read_bytes())
        data[1000] ^= 1
        imported.with_suffix(".sigmf-data").write_bytes(data)
        assert main(["replay", str(imported), "--receiver", "gnb"]) == 2
        assert "the samples are not those that were recorded" in capfd.readouterr().err


class TestFiveHundredSlots:
    """A gNB's default slot of 26 PRB over TDL-A, each slot with a fading draw of its own, dumped
    as a gNB does and imported.
    """

    N, SINR_DB, SEED = 500, 14.0, 11

    def dumped(self, folder):
        slot = SLOTS["gnb"].with_n_prb(26)
        config = replace(
            slot, users=(replace(slot.users[0], modulation=None, mcs=14, mcs_table=2),)
        )
        link = Link(
            config, n_rx=2, channel="TDL-A", delay_spread_s=100e-9, doppler_hz=100.0,
            sinr_db=self.SINR_DB, sir_db=None, cfo_hz=0.0, slots=self.N, burst=1, preamble=False,
            seed=self.SEED,
        )  # fmt: skip
        top, size = gr.top_block(), config.fft_size
        channel, front = link.connect(top), deeprx.aligned_front_end(n_rx=2, slot=config)
        for antenna in range(2):
            vectors = blocks.head(8 * size, 14 * self.N)
            sink = blocks.file_sink(8 * size, str(folder / f"{antenna}"))
            top.connect((channel, antenna), (front, antenna), vectors, sink)
        top.run()
        sink.close()
        symbols = [
            np.fromfile(folder / f"{antenna}", np.complex64).reshape(self.N, 14, size)
            for antenna in range(2)
        ]
        grids = np.stack(symbols, 1)[..., config.bins]
        text, data = "", []
        for index, grid in enumerate(grids):
            here = replace(config, slot_number=index % config.slots_per_frame)
            where = f"{index // config.slots_per_frame}.{here.slot_number}"
            block = config.block(self.SEED, index)
            text += gnb_logs.pusch(where, gnb_logs.fields(here, index % 16), block)
            data.append(gnb_logs.dumped(here, grid))
            text += gnb_logs.rx_symbol(where, index * data[-1].size, data[-1].size)
        dump = folder / "dump.bin"
        dump.write_bytes(b"".join(grid.tobytes() for grid in data))
        return dump, written(folder, text)

    @pytest.mark.slow
    def test_deeprx_pusch_loses_no_more_blocks_than_the_best_classical_receiver(self, tmp_path):
        done = import_gnb(*self.dumped(tmp_path), tmp_path / "a", 30)
        assert done.skipped == {}
        name = "deeprx-pusch"
        receivers = [*classical(), Model(read_model_file(name), name)]
        replay = PuschReplay(Recording(done.paths[0]), receivers)
        replay.run()
        points = {point["receiver"]: point for point in replay.points()}
        for point in points.values():
            assert point["pusch"] == self.N and point["undetected"] == 0
            assert 10 < point["block_errors"] < 150  # where receivers differ
        (compared,) = (c for c in replay.comparisons(CLASSICAL) if c["a"] == name)
        lost, differ = compared["only_b"], compared["only_a"] + compared["only_b"]
        assert not differ or binomtest(lost, differ, alternative="greater").pvalue > 0.05
