# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx demo: transport blocks, received by the shipped baselines and a real-time net."""

from . import loopback
from .options import Unset

MODELS = ["baseline-lmmse", "baseline-sure", "deeprx-pusch"]
MCS = 14  # 16QAM at a rate of 0.54


def configure(parser) -> None:
    loopback.configure(
        parser,
        receiver=MODELS,
        channel=["TDL-A", "TDL-E"],
        sinr=[6.0, 9.0, 12.0, 15.0, 18.0],
        doppler=300.0,
        slots=600,
        mcs=Unset(f"{MCS}; with --modulation none: bits"),
    )


def run(arguments) -> int:
    """As loopback's."""
    bits = all(user.code_rate is None for user in arguments.slot.users)
    if bits and arguments.mcs is None and arguments.modulation is None:
        arguments.mcs = MCS
    return loopback.run(arguments)
