# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring: flowgraphs of known slots, points of the report, contenders in turns, the machine."""
