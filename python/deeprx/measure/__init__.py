# SPDX-License-Identifier: GPL-3.0-or-later
"""What receivers are measured with: flowgraphs of known slots, points of the report."""
