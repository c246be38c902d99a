# SPDX-License-Identifier: GPL-3.0-or-later
"""The radio that device arguments name."""

from .radio import Radio, key_values
from .soapy import SoapyRadio
from .software import SoftwareRadio
from .uhd import UhdRadio


def open_radio(args: str, scale: float, use_uhd: bool = False) -> Radio:
    """The radio that device arguments name. scale: of the samples that its sink is given."""
    if use_uhd:
        return UhdRadio(args)
    if key_values(args).get("driver") == "software":
        return SoftwareRadio(args, scale)
    return SoapyRadio(args)
