# SPDX-License-Identifier: GPL-3.0-or-later
"""The slot's description against the slots of an independent implementation.

golden/pusch_vectors.npz: see qa_transport_blocks.py.
"""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import yaml
from gnuradio import deeprx
from gnuradio.deeprx import deeprx_python

from deeprx_common.mcs import mcs, transport_block_size
from deeprx_common.modulation import MODULATIONS
from deeprx_common.slot import SLOTS, SlotConfig, User, dmrs_symbols, legal_dmrs

VECTORS = np.load(Path(__file__).parent / "golden/pusch_vectors.npz")
INDEX = list(enumerate(json.loads(str(VECTORS["index"]))))


def slot_of(vector: dict) -> SlotConfig:
    table = 2 if vector["mcs_table"].startswith("qam256") else 1
    user = User(mcs=vector["mcs_index"], mcs_table=table, rnti=vector["rnti"], n_id=vector["n_id"])
    return SlotConfig(
        n_prb=vector["n_prb"],
        first_prb=vector["prb_start"],
        n_symbols=vector["n_symbols"],
        dmrs=dmrs_symbols(vector["n_symbols"], vector["dmrs_additional_position"]),
        cdm_groups=vector["cdm_groups_without_data"],
        dmrs_n_id=vector["n_id"],
        users=(user,),
        carrier_prb=vector["carrier_prb"],
        scs_khz=vector["scs_khz"],
        slot_number=vector["slot"],
    )


@pytest.mark.parametrize("i, vector", INDEX, ids=[v["name"] for _, v in INDEX])
def test_a_slot_of_another_implementation_is_this_one(i, vector):
    slot = slot_of(vector)
    expected = VECTORS[f"grid{i}"]
    assert slot.transport_block_size() == vector["tbs"]
    assert slot.n_data_re == vector["data_re"]
    pilots = slot.pilot_mask()
    assert np.abs(expected[: slot.n_symbols] - slot.pilots()[0])[pilots].max() < 1e-6
    if vector["harq_ack_bits"]:
        return  # its data REs carry control information, too
    user = slot.users[0]
    block = deeprx_python.TransportBlock(
        size=vector["tbs"],
        coded_bits=slot.n_bits,
        bits_per_symbol=user.bits_per_symbol,
        code_rate=user.code_rate,
    )
    coded = block.encode(VECTORS[f"tb{i}"].tobytes(), vector["rv"])
    bits = coded ^ deeprx_python.data_scrambling(user.rnti, user.n_id, slot.n_bits)
    grid = np.zeros_like(expected)
    grid[: slot.n_symbols] = slot.grid(bits)
    assert np.abs(grid - expected).max() < 1e-5


def test_tables_are_those_of_the_library():
    for table in (1, 2, 3):
        for index in range(32):
            try:
                expected = deeprx_python.mcs(table, index)
            except ValueError:
                with pytest.raises(ValueError, match=f"mcs of table {table} must be 0 to"):
                    mcs(table, index)
                continue
            modulation, rate = mcs(table, index)
            assert (MODULATIONS[modulation], rate) == expected
            for n_prb in (*range(1, 30), 51, 106, 217, 273):
                for data_re in (36, 60, 108, 120, 132, 144, 156):
                    bits = expected[0]
                    assert transport_block_size(
                        n_prb, data_re, modulation, rate
                    ) == deeprx_python.transport_block_size(n_prb, data_re, bits, rate)


def test_users_of_one_group_are_orthogonal_over_pairs_of_pilots():
    slot = SlotConfig(first_prb=3, users=(User(), User(rnti=2, port=1)))
    first, second = slot.pilots()
    on = slot.pilot_mask(0)
    assert (slot.pilot_mask(1) == on).all() and slot.data_mask[2, 1] and not slot.data_mask[2, 0]
    pairs = (first * second.conj())[on].reshape(-1, 2)
    assert np.abs(pairs.sum(1)).max() < 1e-6 and np.abs(np.abs(pairs) - 1).max() < 1e-6
    assert (slot.alone(1).pilots()[0] == second).all()
    assert (slot.bits(1, 0, 0) != slot.bits(1, 0, 1)).mean() > 0.4


def test_users_of_two_groups_sit_beside_each_other_at_twice_the_power():
    slot = SlotConfig(cdm_groups=2, users=(User("QPSK"), User("64QAM", port=2)))
    assert not slot.data_mask[2].any()
    assert not (slot.pilot_mask(0) & slot.pilot_mask(1)).any()
    power = np.abs(slot.pilots()) ** 2
    assert np.allclose(power[0][slot.pilot_mask(0)], 2) and power[0].sum() == power[1].sum()
    assert slot.grid(slot.bits(1, 0, 1), layer=1).shape == (14, 312)


def test_the_sequence_counts_from_the_carrier():
    carrier = SlotConfig(n_prb=51)
    part = SlotConfig(n_prb=20, first_prb=5, carrier_prb=51)
    assert (part.pilots() == carrier.pilots()[..., 60:300]).all()
    assert part.bins.start - carrier.bins.start == 60 and part.fft_size == carrier.fft_size


@pytest.mark.parametrize("scs_khz, fft_size", [(15, 512), (30, 768), (30, 1024), (60, 4096)])
def test_subframes_last_a_millisecond(scs_khz, fft_size):
    slot = SlotConfig(scs_khz=scs_khz, fft_size=fft_size, slot_number=None)
    slots = scs_khz // 15
    long = [slot.cp_lengths(i)[0] for i in range(slots)]
    assert sum(slot.n_samples(i) for i in range(slots)) == slot.sample_rate * 1e-3
    # TS 38.211 clause 5.3.1: symbols 0 and 7 2^mu of the subframe
    expected = {15: [True], 30: [True, True], 60: [True, False, True, False]}[scs_khz]
    assert [cp > 9 * fft_size // 128 for cp in long] == expected
    assert (slot.cp_lengths(0)[7] > 9 * fft_size // 128) == (scs_khz == 15)
    assert len(set(replace(slot, equal_prefixes=True).cp_lengths())) == 1


def test_phase_compensation_takes_the_carrier_at_each_symbols_start():
    slot = replace(SLOTS["gnb"], phase_compensation_hz=3.5e9 + 1e3)
    t, expected = 0, []
    for prefix in slot.cp_lengths(0) + slot.cp_lengths(1):
        t += prefix
        expected.append(np.exp(-2j * np.pi * ((3.5e9 + 1e3) * t / slot.sample_rate % 1)))
        t += slot.fft_size
    both = np.concatenate([slot.phase_compensation(0), slot.phase_compensation(1)])
    assert np.abs(both - expected).max() < 1e-3
    assert (slot.phase_compensation(2) == slot.phase_compensation(0)).all()  # a new subframe
    assert (SLOTS["gnb"].phase_compensation(1) == 1).all()


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("scs_khz", [15, 60])
def test_phase_compensation_is_that_of_the_number_in_the_frame(scs_khz, number):
    """Of a slot that is always this one, and of one that is counted."""
    counted = SlotConfig(scs_khz=scs_khz, phase_compensation_hz=3.5e9 + 1e3, slot_number=None)
    fixed = replace(counted, slot_number=number)
    assert (fixed.phase_compensation(0) == counted.phase_compensation(number)).all()


@pytest.mark.parametrize(
    "seed, slot_index, expected",
    [
        (1, 0, "d59a04c13b623d07e14cb12aceac47fc3e00cc5bb7f5e733487e833c0422fafc"),
        (7, 3, "f1073e85376cdb0944ae7714f156a3191596467d3a4bbffbae499d63da0c85eb"),
    ],
)
def test_the_default_slot_is_what_it_was_before_slots_of_the_standard(seed, slot_index, expected):
    """Bits and grid, in thousandths, as the former description gave them."""
    slot = SLOTS["default"]
    assert (slot.n_prb, slot.dmrs, slot.cdm_groups, slot.scs_khz) == (26, (2, 11), 1, 15)
    bits = slot.bits(seed, slot_index)
    grid = slot.grid(bits, slot_index).view(np.float32)
    thousandths = np.round(1000 * grid).astype("<i2")
    assert sha256(np.packbits(bits).tobytes() + thousandths.tobytes()).hexdigest() == expected
    assert (slot.fft_size, slot.sample_rate) == (512, 7.68e6)
    assert replace(slot, equal_prefixes=True).cp_lengths() == (36,) * 14


def test_the_slot_of_an_open_gnb_has_a_name():
    gnb = SLOTS["gnb"]
    assert (gnb.n_prb, gnb.dmrs, gnb.cdm_groups, gnb.scs_khz) == (51, (2, 7, 11), 2, 30)
    assert (gnb.sample_rate, gnb.slot_s, gnb.slots_per_frame) == (23.04e6, 0.5e-3, 20)


@pytest.mark.parametrize("slot", [*SLOTS.values(), *(slot_of(v) for _, v in INDEX)])
def test_a_slot_travels_as_json(slot):
    assert SlotConfig.from_dict(json.loads(json.dumps(slot.as_dict()))) == slot


@pytest.mark.parametrize(
    "values, line",
    [
        ({"n_prb": 0}, "n_prb must be 1 to 273 PRB, got 0"),
        ({"first_prb": 250, "carrier_prb": 260}, "inside its carrier of 260 PRB, got PRB 250 to"),
        ({"mapping_type": "B"}, "mapping_type must be A, the one that is received .*, got 'B'"),
        ({"mapping_type": None}, "mapping_type must be a printable text, got None"),
        ({"n_symbols": 3}, "n_symbols must be 4 to 14, got 3"),
        ({"dmrs": (0, 13)}, r"dmrs of 14 symbols must be one of \[2\], \[2, 11\], .*\[0, 13\]"),
        ({"n_symbols": 10}, r"dmrs of 10 symbols must be one of .*got \[2, 11\]"),
        ({"dmrs": (3, 5, 8, 11)}, "dmrs of 14 symbols must be one of"),
        ({"cdm_groups": 3}, "cdm_groups must be one of 1, 2, got 3"),
        ({"users": ()}, r"DMRS ports .* must be one of .*, got \[\]"),
        ({"users": (User(), User(port=2))}, r"with 1 CDM group without data .*got \[0, 2\]"),
        ({"users": (User(), User(port=1), User(port=2))}, r"got \[0, 1, 2\]"),
        ({"scs_khz": 45}, "scs_khz must be one of 15, 30, 60, got 45"),
        ({"fft_size": 300}, "fft_size must be a multiple of 128 that holds 312 subcarriers"),
        ({"fft_size": 256}, "fft_size must be a multiple of 128 that holds 312 subcarriers"),
        ({"slot_number": 10}, "slot_number must be 0 to 9, got 10"),
        ({"dmrs_n_id": -1}, "dmrs_n_id must be a whole number of 0 or more, got -1"),
        ({"n_prb": 26.5}, "n_prb must be a whole number of 0 or more, got 26.5"),
        ({"n_symbols": "14"}, "n_symbols must be a whole number of 0 or more, got '14'"),
        ({"slot_number": 3.7}, "slot_number must be a whole number of 0 or more or null, got 3.7"),
        ({"dmrs": (2.5, 11)}, r"dmrs must be a list of indices, got \[2.5, 11\]"),
        ({"dmrs": 2}, "dmrs must be a list of indices, got 2"),
        ({"scs_khz": np.float64(15)}, "scs_khz must be a whole number of 0 or more, got 15.0"),
        ({"equal_prefixes": 1}, "equal_prefixes must be true or false, got 1"),
        ({"phase_compensation_hz": "3.5e9"}, "must be a finite number or null, got '3.5e9'"),
        ({"users": User()}, r"users must be a list of Users, got User\("),
        ({"users": ["16QAM"]}, r"users must be a list of Users, got \['16QAM'\]"),
        ({"n_scid": 2}, "n_scid must be one of 0, 1, got 2"),
        (
            {"n_prb": 100, "users": (User(mcs=20),), "limited_buffer": 1},
            r"limited_buffer must be 0 \(not limited\) or hold .* block of 52224 bits, got 1",
        ),
        (
            {"users": (User(), User(code_rate=0.5, port=1, tbs=8456)), "limited_buffer": 8455},
            "hold the user's block of 8456 bits, got 8455",
        ),
    ],
)
def test_what_is_no_slot_is_refused_in_a_line(values, line):
    with pytest.raises(ValueError, match=line) as error:
        SlotConfig(**values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values, line",
    [
        ({"mcs": 29}, "mcs of table 1 must be 0 to 28, got 29"),
        ({"mcs": 28, "mcs_table": 2}, "mcs of table 2 must be 0 to 27, got 28"),
        ({"mcs": 1, "mcs_table": 4}, "mcs_table must be 1 to 3, got 4"),
        ({"modulation": "8PSK"}, "modulation must be one of QPSK, 16QAM, 64QAM, 256QAM, got '8PSK"),
        ({"code_rate": 1.0}, "code_rate must be above 0 and below 1, got 1.0"),
        ({"tbs": 100}, "tbs must be whole bytes of 8 bits, got 100"),
        ({"rnti": 65536}, "rnti must be 0 to 65535, got 65536"),
        ({"n_id": 1024}, "n_id must be 0 to 1023, got 1024"),
        ({"mcs": True}, "mcs must be a whole number of 0 or more or null, got True"),
        ({"mcs": 0.5}, "mcs must be a whole number of 0 or more or null, got 0.5"),
        ({"rnti": "1"}, "rnti must be a whole number of 0 or more, got '1'"),
        ({"modulation": 4}, "modulation must be a printable text or null, got 4"),
        (
            {"mcs": 5, "modulation": "256QAM"},
            "modulation must be QPSK, of MCS 5 of table 1, or left out, got 256QAM",
        ),
        (
            {"mcs": 5, "mcs_table": 2, "code_rate": 0.5},
            "code_rate must be 0.369140625, of MCS 5 of table 2, or left out, got 0.5",
        ),
        ({"code_rate": "0.5"}, "code_rate must be a number from 0 to 1 or null, got '0.5'"),
    ],
)
def test_what_is_no_user_is_refused_in_a_line(values, line):
    with pytest.raises(ValueError, match=line):
        User(**values)


def test_what_an_mcs_says_may_stand_beside_it():
    assert User() == User("16QAM") and User().code_rate is None
    assert User("16QAM", 5, 2, 378 / 1024) == User(mcs=5, mcs_table=2)
    slot = SlotConfig(users=(User(mcs=5),))
    assert slot.with_user(mcs=20) == SlotConfig(users=(User(mcs=20),))
    assert SlotConfig().with_user(mcs=5) == slot
    with pytest.raises(ValueError, match="modulation must be QPSK, of MCS 5"):
        slot.with_user(modulation="64QAM")


def test_mapping_type_a_may_be_said():
    assert SlotConfig.from_dict({"mapping_type": "A"}) == SlotConfig(mapping_type="A")
    assert SlotConfig(mapping_type="A") == SlotConfig()


def test_numbers_of_numpy_are_those_of_python():
    user = User(mcs=np.int64(14), rnti=np.uint16(7), tbs=np.int32(1024))
    slot = SlotConfig(
        n_prb=np.int64(26),
        dmrs=np.array([2, 11]),
        users=[user],
        equal_prefixes=np.bool_(True),
        phase_compensation_hz=np.float32(1e9),
    )
    assert slot == SlotConfig(
        users=(User(mcs=14, rnti=7, tbs=1024),), equal_prefixes=True, phase_compensation_hz=1e9
    )
    assert SlotConfig.from_dict(json.loads(json.dumps(slot.as_dict()))) == slot


def test_dmrs_symbols_are_of_whole_numbers():
    with pytest.raises(ValueError, match=r"n_symbols must be a whole number, got 12\.5"):
        dmrs_symbols(12.5)
    with pytest.raises(ValueError, match="n_symbols must be a whole number, got '14'"):
        dmrs_symbols("14")


def test_every_allocation_has_data_res():
    """The DMRS table leaves some in the shortest one: no data RE needs no line of its own."""
    least = []
    for n_symbols in range(4, 15):
        for dmrs in legal_dmrs(n_symbols):
            for groups in (1, 2):
                slot = SlotConfig(n_prb=2, n_symbols=n_symbols, dmrs=dmrs, cdm_groups=groups)
                assert slot.n_data_re == slot.data_mask.sum()
                least.append(slot.n_data_re // slot.n_prb)
    assert min(least) == 36


def test_position_3_needs_l0_of_2():
    with pytest.raises(ValueError, match="additional position 3 needs l0 = 2, got l0 = 3"):
        dmrs_symbols(14, 3, 3)


@pytest.mark.parametrize(
    "values, line",
    [
        ({"n_prb": "26"}, "slot: 'n_prb' must be a whole number of 0 or more, got '26'"),
        ({"users": []}, "slot: 'users' must be a list of one or two users, got"),
        ({"users": [{"rnti": True}]}, "'rnti' must be a whole number"),
        ({"cell": 3}, "slot: no parameter of a slot is called 'cell'"),
        ({"users": [{"mcs": 5, "modulation": "256QAM"}]}, "modulation must be QPSK, of MCS 5"),
        ({"users": [{"mimo": 3}]}, "slot: no parameter of a slot is called 'mimo'"),
        ({"mapping_type": "B"}, "mapping_type must be A, the one that is received"),
        ({"dmrs": [9]}, "dmrs of 14 symbols must be one of"),
    ],
)
def test_json_of_others_is_checked(values, line):
    with pytest.raises(ValueError, match=line):
        SlotConfig.from_dict(values)


COMPANION = [
    yaml.safe_load(path.read_text())
    for path in (Path(__file__).resolve().parents[1] / "grc").glob("deeprx_*.block.yml")
]
TAKE_A_SLOT = sorted(
    block["id"].removeprefix("deeprx_")
    for block in COMPANION
    if "slot" in [parameter["id"] for parameter in block["parameters"]]
)


@pytest.mark.parametrize("slot", ["gnb", 26, {"n_prb": 26}])
@pytest.mark.parametrize("name", [*TAKE_A_SLOT, "Engine"])
def test_every_block_says_what_is_no_slot(name, slot, tmp_path):
    others = {
        "Engine": {"model": "ls-lmmse"},
        "receiver": {"model": "ls-lmmse"},
        "recording_sink": {"path": tmp_path / "recording"},
    }.get(name, {})
    with pytest.raises(TypeError) as error:
        getattr(deeprx, name)(slot=slot, **others)
    assert str(error.value) == f"slot must be a SlotConfig, got {slot!r}"
