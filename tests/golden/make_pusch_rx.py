# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes pusch_rx.safetensors and pusch_rx.json: a small PuschRx, slots of several kinds, and what
PyTorch makes of them.

In the training environment, where Sionna is:

    PYTHONPATH=python/common:training .venv-training/bin/python tests/golden/make_pusch_rx.py
"""

import json
from pathlib import Path

import safetensors.torch
import torch

from deeprx_training.data.channels import SlotGenerator
from deeprx_training.data.conditions import Conditions
from deeprx_training.receivers.build import build, described

NET = {"net": "PuschRx", "pilot_channels": 7, "learned": 2, "channels": 7, "basis": 5, "filters": 3}
NET |= {"interference_channels": 5, "reliability_channels": 6}
DMRS = [(2,), (2, 7), (2, 9), (2, 11), (2, 7, 11), (2, 5, 8, 11)]
TWO = {2: 1.0}
SLOTS = [
    {"n_prb": 3, "n_rx": 2, "dmrs": {(2, 7, 11): 1.0}, "modulations": {"16QAM": 1.0}},
    {"n_prb": 1, "n_rx": 1, "dmrs": {(2,): 1.0}, "n_symbols": {4: 1.0}},
    {
        "n_prb": 2, "n_rx": 4, "dmrs": {(2, 5, 8, 11): 1.0}, "cdm_groups": TWO,
        "modulations": {"256QAM": 1.0}, "interferer": 1.0, "sir_db": (3, 6),
    },
    {
        "n_prb": 2, "n_rx": 3, "dmrs": {(2, 9): 1.0}, "n_symbols": {10: 1.0}, "users": TWO,
        "modulations": {"QPSK": 1.0, "64QAM": 1.0},
    },
    {"n_prb": 2, "n_rx": 2, "dmrs": {(2, 7): 1.0}, "n_symbols": {9: 1.0}, "users": TWO}
    | {"cdm_groups": TWO},
    {"n_prb": 12, "n_rx": 1, "dmrs": {(2, 11): 1.0}, "modulations": {"QPSK": 1.0}},  # one round
]  # fmt: skip

torch.manual_seed(1)
net = build(NET).eval()
with torch.no_grad():
    for weight in net.parameters():
        weight.add_(0.1 * torch.randn_like(weight))  # some channels the guard refuses
    wanted = [
        i for i, row in enumerate(net.dmrs_lists) if tuple(row.nonzero().flatten().tolist()) in DMRS
    ]
    weights = {f"net.{name}": tensor.clone() for name, tensor in net.state_dict().items()}
    for name in ("net.dmrs_lists", "net.modes"):
        weights[name] = weights[name][wanted].clone()
    slots = []
    for i, kind in enumerate(SLOTS):
        conditions = Conditions(channels=("TDL-B",), standard=True, **kind).at(14.0)
        batch = SlotGenerator(conditions).batch(1, seed=1, step=0)
        config = batch.config
        bits = [user.bits_per_symbol for user in config.users]
        channel, noise = net.estimate(batch.y, batch.p, batch.data)
        weights |= {
            f"slots.{i}.y": batch.y[0],
            f"slots.{i}.p": batch.p[0],
            f"slots.{i}.llr": net(batch.y, batch.p, batch.data, bits)[0],
            f"slots.{i}.channel": channel[0],
            f"slots.{i}.noise": noise[0],
        }
        slots.append({
            "n_symbols": config.n_symbols,
            "n_sc": config.n_sc,
            "dmrs": config.dmrs,
            "cdm_groups": config.cdm_groups,
            "ports": [user.port for user in config.users],
            "bits": bits,
            "n_rx": batch.y.size(1),
        })  # fmt: skip
folder = Path(__file__).parent
whole = {name: tensor.contiguous().clone() for name, tensor in weights.items()}
(folder / "pusch_rx.safetensors").write_bytes(safetensors.torch.save(whole))
about = {"net": described(NET), "slots": slots}
(folder / "pusch_rx.json").write_text(json.dumps(about, indent=1) + "\n")
