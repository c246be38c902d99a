# SPDX-License-Identifier: GPL-3.0-or-later
"""Learned and classical OFDM receivers that turn slots into soft bits, and what surrounds them."""

from deeprx_common.shipped import model_path
from deeprx_common.slot import SlotConfig

from .blocks.front_end import aligned_front_end, sync_front_end
from .blocks.receiver_controller import receiver_controller
from .blocks.slot_equaliser import slot_equaliser
from .blocks.slot_probe import slot_probe
from .blocks.slot_source import slot_source
from .blocks.slot_transmitter import slot_transmitter
from .blocks.tdl_channel import tdl_channel
from .deeprx_python import Engine, receiver
from .radio.impairments import radio_impairments
from .recording.sink import recording_sink
from .recording.source import recording_source

__all__ = [
    "Engine",
    "SlotConfig",
    "aligned_front_end",
    "model_path",
    "radio_impairments",
    "receiver",
    "receiver_controller",
    "recording_sink",
    "recording_source",
    "slot_equaliser",
    "slot_probe",
    "slot_source",
    "slot_transmitter",
    "sync_front_end",
    "tdl_channel",
]
