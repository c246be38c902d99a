# SPDX-License-Identifier: GPL-3.0-or-later
"""What shipped recipes draw stays what their models were trained on."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from deeprx_training.data.channels import SlotGenerator
from deeprx_training.teaching import recipe as recipes

RECIPES = sorted((Path(__file__).parents[2] / "training" / "recipes").glob("*.toml"))
KNOWN = Path(__file__).with_name("drawn_batches.json")


def sha256(tensor):
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def exact(batch):
    return {
        "modulation": batch.config.modulation,
        "dmrs": list(batch.config.dmrs),
        "dmrs_n_id": batch.config.dmrs_n_id,
        "domain": batch.domain,
        "bits": sha256(batch.bits),
        "p": sha256(batch.p),
    }


def rounded(batch):
    """What may differ in its last bit from one processor to another."""
    return {
        "snr_db": batch.snr_db.tolist(),
        "sir_db": batch.sir_db.nan_to_num(posinf=1e9).tolist(),
        "y": batch.y.flatten()[::19973].tolist(),
        "h": torch.view_as_real(batch.h).flatten()[::19973].tolist(),
    }


@pytest.fixture(scope="module")
def draw():
    drawn = {}

    def draw(conditions):
        key = repr(conditions)  # many recipes have the same
        if key not in drawn:
            batches = SlotGenerator(conditions).chunk(4, 3, seed=1, step=2)
            drawn[key] = [batch.of_layer(0) for batch in batches]
        return drawn[key]

    return draw


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_draws_what_it_drew(draw, path):
    batches = draw(recipes.load(path).plan.conditions)
    for batch, known in zip(batches, json.loads(KNOWN.read_text())[path.name], strict=True):
        assert exact(batch) == known["exact"]
        for key, values in rounded(batch).items():
            assert values == pytest.approx(known["rounded"][key], rel=1e-3, abs=1e-4), key
