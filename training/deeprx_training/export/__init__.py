# SPDX-License-Identifier: GPL-3.0-or-later
from .export import ExportError, save_receiver

__all__ = ["ExportError", "save_receiver"]
