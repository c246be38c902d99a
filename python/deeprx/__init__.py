# SPDX-License-Identifier: GPL-3.0-or-later
"""Learned and classical OFDM receivers that turn slots into soft bits, and what surrounds them."""

from deeprx_common.shipped import model_path
from deeprx_common.slot import SlotConfig

from .deeprx_python import Engine, receiver
from .front_end import aligned_front_end, sync_front_end
from .radio_impairments import radio_impairments
from .receiver_controller import receiver_controller
from .recording_sink import recording_sink
from .recording_source import recording_source
from .slot_equaliser import slot_equaliser
from .slot_probe import slot_probe
from .slot_source import slot_source
from .slot_transmitter import slot_transmitter
from .tdl_channel import tdl_channel

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
