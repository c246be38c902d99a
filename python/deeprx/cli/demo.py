# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx demo: a loopback of the shipped baselines and a real-time student."""

from . import loopback

MODELS = ["baseline-lmmse", "baseline-sure", "deeprx-realtime-1"]


def configure(parser) -> None:
    loopback.configure(
        parser,
        receiver=MODELS,
        channel=["TDL-A", "TDL-E"],
        sinr=[6.0, 9.0, 12.0, 15.0, 18.0],
        doppler=300.0,
        slots=600,
    )


run = loopback.run
