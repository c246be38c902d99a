# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx demo: a loopback of the shipped baselines and a real-time student."""

from deeprx_common.slot import SlotConfig

from ..model_file import read_model_file
from .link import Link
from .loopback import Setup, add_run, measure
from .measure import open_meter

MODELS = ("baseline-lmmse.pt", "baseline-sure.pt", "deeprx-realtime-1.pt")


def configure(parser) -> None:
    add_run(parser, out="build/demo")
    parser.add_argument("--seed", type=int, default=1, help="of bits, fading and noise (1)")
    parser.add_argument("--slots", type=int, default=600, help="a channel and SINR (600)")


def run(arguments) -> int:
    meter, idle = open_meter(arguments)
    setup = Setup(
        models=[read_model_file(name) for name in MODELS],
        links=[
            Link(
                config=SlotConfig(),
                n_rx=2,
                channel=profile,
                delay_spread_s=100e-9,
                doppler_hz=300.0,
                sinr_db=sinr_db,
                sir_db=None,
                cfo_hz=0.0,
                slots=arguments.slots,
                burst=5,
                preamble=False,
                seed=arguments.seed,
            )
            for profile in ("TDL-A", "TDL-E")
            for sinr_db in (6.0, 9.0, 12.0, 15.0, 18.0)
        ],
        device=arguments.device,
        meter=meter,
        idle=idle,
        out=arguments.out,
    )
    return measure(setup)
