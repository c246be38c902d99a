# SPDX-License-Identifier: GPL-3.0-or-later
"""From a trained real-time receiver to int8: calibration, and fine-tuning where that is not enough.

All slots are of the recipe's conditions and channels, with seeds that no training run has.
"""

import copy
from dataclasses import replace

from torch import nn

from deeprx_common.stats import sinr_at_ber

from ..data import seeds
from ..data.conditions import Conditions
from ..evaluation.evaluate import count_errors
from ..files import TrainingError
from ..receivers.int8 import to_rounded
from ..receivers.realtime import RealtimeRx
from ..teaching.rounding import calibrate, fine_tune

MAX_LOSS_DB = 0.1
TARGET_BER = 1e-2
SINR_DB = (12.0, 15.0, 18.0, 21.0)  # where 16QAM receivers cross it


def quantise(
    net: nn.Module, conditions: Conditions, slots: int = 256, steps: int = 300
) -> tuple[RealtimeRx, dict]:
    """The int8 receiver of a float32 one, with rounded bodies, and what was done and measured.

    slots: to calibrate on, and per SINR to compare on; steps: of the fine-tuning, which is done
    where int8 needs more than MAX_LOSS_DB more SINR for a BER of 1e-2. TrainingError where net is
    no RealtimeRx, or does not reach that BER.
    """
    if not isinstance(net, RealtimeRx):
        raise TrainingError(
            f"expected a RealtimeRx from a checkpoint to quantise, found a {type(net).__name__}"
        )
    net = copy.deepcopy(net).cpu().eval()
    rounded_net = to_rounded(net)
    calibrate(rounded_net, conditions, slots)
    sinr_db = sinr_at_target({"float32": net, "int8": rounded_net}, conditions, slots)
    tuned = sinr_db["int8"] - sinr_db["float32"] > MAX_LOSS_DB
    if tuned:
        print(f"int8 loses {sinr_db['int8'] - sinr_db['float32']:.2f} dB: fine-tuning")
        fine_tune(rounded_net, net, conditions, steps)
        sinr_db |= sinr_at_target({"int8": rounded_net}, conditions, slots)
    return rounded_net, {
        "weights": "int8, symmetric, a scale for each output channel",
        "activations": "8 bits, a scale for each tensor",
        "calibration_slots": slots,
        "fine_tuning_steps": steps if tuned else 0,
        "sinr_db_at_ber_1e-2": sinr_db,
        "channels": list(conditions.channels),
        "slots_per_sinr": slots,
        "seed": seeds.INT8_VALIDATION,
    }


def sinr_at_target(
    nets: dict[str, RealtimeRx], conditions: Conditions, slots: int
) -> dict[str, float]:
    """SINR in dB at which each net crosses BER 1e-2: 16QAM over the conditions' channels, without
    interferer and front end's residuals. TrainingError where one does not.
    """
    plain = replace(
        Conditions(), channels=conditions.channels, n_rx=conditions.n_rx, n_prb=conditions.n_prb
    )
    seed = seeds.INT8_VALIDATION
    bits, errors = count_errors(nets, list(SINR_DB), slots, conditions=plain, seed=seed)
    sinr_db = {}
    for name in nets:
        points = [(s, e, [bits] * slots) for s, e in zip(SINR_DB, errors[name], strict=True)]
        sinr_db[name] = sinr_at_ber(points, TARGET_BER)[0]
        if not abs(sinr_db[name]) < float("inf"):
            raise TrainingError(
                f"{name}: does not cross BER 1e-2 between {SINR_DB[0]:g} and "
                f"{SINR_DB[-1]:g} dB; train it further"
            )
    return sinr_db
