# SPDX-License-Identifier: GPL-3.0-or-later
"""Model contract 2: the shipped files give the LLRs that they gave under contract 1, and take no
other slots than those.
"""

from pathlib import Path

import numpy as np
import pytest
from gnuradio import deeprx
from gnuradio.deeprx.models.file import read_model_file
from golden.make_llrs import FILE, N_RX, SLOTS, llrs
from slots import slot_of

from deeprx_common.model_schema import WEIGHTS
from deeprx_common.shipped import shipped_models

GOLDEN = np.load(FILE)
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}  # RMS of the difference over RMS
MODELS = pytest.mark.parametrize("model", shipped_models(), ids=lambda path: Path(path).stem)


@MODELS
@pytest.mark.parametrize("modulation", SLOTS)
def test_llrs_are_those_of_contract_1(modulation, model):
    y, p, expected = (GOLDEN[f"{modulation} {name}"] for name in ("y", "p", Path(model).stem))
    found = llrs(model, SLOTS[modulation], y, p, "torchscript")
    allowed = TOLERANCE[read_model_file(model).metadata["precision"]]
    size = np.sqrt(np.mean(expected**2))
    assert np.sqrt(np.mean((found - expected) ** 2)) <= allowed * size
    decided = np.abs(expected) > 10 * allowed * size  # others may fall to either side
    assert decided.mean() > 0.9
    np.testing.assert_array_equal((found > 0)[decided], (expected > 0)[decided])


@MODELS
def test_other_slots_are_refused_with_what_it_takes(model):
    about = read_model_file(model).metadata
    assert (about["layers"], about["n_sym"], about["cdm_groups"]) == ([1], [14], [1])
    assert about["n_prb"] == [6, 273] and about["n_dmrs"] == [1, 2]
    if about["kind"] == "baseline":
        deeprx.Engine(model, n_rx=N_RX, slot=slot_of(n_prb=6, dmrs=[3]))
        return
    assert about["dmrs"] == [[2], [2, 11]]  # trained with these
    with pytest.raises(RuntimeError) as error:
        deeprx.Engine(model, n_rx=N_RX, slot=slot_of(n_prb=6, dmrs=[3]))
    assert "the model takes DMRS symbols [[2], [2, 11]], the receiver has dmrs=[3]" in str(error)


@MODELS
def test_nets_carry_their_weights_as_data(model):
    file = read_model_file(model)
    if file.metadata["kind"] == "baseline":
        assert file.metadata["net"] is None
        return
    assert file.metadata["net"]["net"] in ("RealtimeRx", "HybridRx")
    assert len(file.archive.records[f"extra/{WEIGHTS}"]) > 4 * file.metadata["params"] / 2
