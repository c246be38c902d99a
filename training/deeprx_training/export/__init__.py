# SPDX-License-Identifier: GPL-3.0-or-later
from .checks import ExportError
from .own_receiver import save_receiver

__all__ = ["ExportError", "save_receiver"]
