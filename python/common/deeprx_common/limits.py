# SPDX-License-Identifier: GPL-3.0-or-later
"""What channels may be asked for, (lowest, highest): beyond it a number is a mistake of unit."""

SNR_DB = (-50, 100)
DELAY_SPREAD_S = (0, 1e-5)
DOPPLER_HZ = (0, 1e4)
