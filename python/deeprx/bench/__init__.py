# SPDX-License-Identifier: GPL-3.0-or-later
"""Contenders measured in turns, each in a process of its own."""
