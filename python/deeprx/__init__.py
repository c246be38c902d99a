# SPDX-License-Identifier: GPL-3.0-or-later
"""Learned and classical OFDM receivers that turn slots into soft bits, and what surrounds them.

A name is loaded when it is first used: a flowgraph needs nothing that only other blocks need.
"""

from importlib import import_module

from deeprx_common.shipped import model_path
from deeprx_common.slot import SLOTS, SlotConfig, User, dmrs_symbols

_HOMES = {
    "Engine": "deeprx_python",
    "JailLimits": "deeprx_python",
    "aligned_front_end": "blocks.front_end",
    "link_receiver": "blocks.link_receiver",
    "link_transmitter": "blocks.link_transmitter",
    "radio_impairments": "radio.impairments",
    "receiver": "deeprx_python",
    "receiver_controller": "blocks.receiver_controller",
    "recording_sink": "recording.sink",
    "recording_source": "recording.source",
    "run_flowgraph": "blocks.guarded",
    "slot_equaliser": "blocks.slot_equaliser",
    "slot_probe": "blocks.slot_probe",
    "slot_source": "blocks.slot_source",
    "slot_transmitter": "blocks.slot_transmitter",
    "sync_front_end": "blocks.front_end",
    "tb_decoder": "blocks.transport",
    "tb_encoder": "blocks.transport",
    "tb_source": "blocks.transport",
    "tdl_channel": "blocks.tdl_channel",
}
__all__ = ["SLOTS", "SlotConfig", "User", "dmrs_symbols", "model_path", *_HOMES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
