# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots for tests."""

from deeprx_common.slot import SlotConfig, User


def slot_of(modulation: str = "16QAM", **parameters) -> SlotConfig:
    """A slot of one user."""
    return SlotConfig(users=(User(modulation),), **parameters)
