# SPDX-License-Identifier: GPL-3.0-or-later
"""Model files: read, run without a flowgraph, and counted."""
