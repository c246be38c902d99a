# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a model file was refused."""


class ModelFileError(ValueError):
    """A file that is no model, or none that is allowed; the message is one line."""


def refuse(what: str):
    raise ModelFileError(f"refused, {what} is not allowed in a model")
