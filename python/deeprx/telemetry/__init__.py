# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports on their way: published over ZeroMQ, and written to a log."""
