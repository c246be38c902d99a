# SPDX-License-Identifier: GPL-3.0-or-later
"""SigMF recordings that carry their truth: read, written, and as blocks."""
