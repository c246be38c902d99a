# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python blocks, and the plain classes beneath them."""
