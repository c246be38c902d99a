# SPDX-License-Identifier: GPL-3.0-or-later
"""Channels and seeds that must never meet: no receiver is judged by what it learned from."""

TRAINING_CHANNELS = ("TDL-B", "TDL-C", "TDL-D", "CDL-B", "CDL-C", "CDL-D")
EVALUATION_CHANNELS = ("TDL-A", "TDL-E", "CDL-A", "CDL-E")

EVALUATION = 20_250_710  # the published one: for reporting
LIMITS = 20_251_125  # what is behind the classical receivers, for reporting
CONDITIONS = 20_251_126  # the named ones, for reporting
VALIDATION = 20_251_103  # settings are chosen on it
CALIBRATION = 1_000_000_001  # int8 scales
TUNING = 1_000_000_002  # of what int8 rounds
INT8_VALIDATION = 1_000_000_003  # whether int8 needs that
SETTLING = 1_000_000_004  # batch norms' statistics

RESERVED = {name: seed for name, seed in list(vars().items()) if isinstance(seed, int)}
