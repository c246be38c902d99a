# SPDX-License-Identifier: GPL-3.0-or-later
"""The option --slot of both command lines."""

import argparse
from pathlib import Path

from .schema import parse_json
from .slot import SLOTS, SlotConfig


def slot_of(text: str) -> SlotConfig:
    """An argparse type: one of SLOTS by name, or a JSON file that SlotConfig.from_dict() takes."""
    if (name := text.strip().lower()) in SLOTS:
        return SLOTS[name]
    try:
        values = parse_json(Path(text).read_bytes())
    except OSError as error:
        expected = f"expected {', '.join(SLOTS)} or a JSON file, found {text!r}"
        raise argparse.ArgumentTypeError(f"{expected}: {error.strerror}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: expected a slot in JSON: {error}") from None
    try:
        return SlotConfig.from_dict(values, text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
