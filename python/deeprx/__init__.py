# SPDX-License-Identifier: GPL-3.0-or-later
"""Learned and classical OFDM receivers that turn slots into soft bits, and what surrounds them."""

from deeprx_common.slot import SlotConfig

from .deeprx_python import *
