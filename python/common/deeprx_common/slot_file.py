# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of both command lines that say which slot: --slot, and what others change of it."""

import argparse
from dataclasses import replace

from .checks import check_range
from .files import read_regular
from .schema import parse_json
from .slot import SLOTS, SlotConfig

MOST_BYTES = 1 << 20  # of a slot's file


def slot_of(text: str) -> SlotConfig:
    """An argparse type: one of SLOTS by name, or a JSON file that SlotConfig.from_dict() takes."""
    if (name := text.strip().lower()) in SLOTS:
        return SLOTS[name]
    try:
        values = parse_json(read_regular(text, MOST_BYTES))
    except OSError as error:
        expected = f"expected {', '.join(SLOTS)} or a JSON file, found {text!r}"
        raise argparse.ArgumentTypeError(f"{expected}: {error.strerror}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: expected a slot in JSON: {error}") from None
    try:
        return SlotConfig.from_dict(values, text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def given_slot(arguments) -> dict:
    """The options that say something of the slot."""
    names = ("modulation", "mcs", "mcs_table", "n_prb", "dmrs", "dmrs_n_id", "scs_khz", "users")
    return {n: v for n in names if (v := getattr(arguments, n, None)) is not None}


def changed_slot(slot: SlotConfig, given: dict) -> SlotConfig:
    """A slot with other values. n_prb: as SlotConfig.with_n_prb(). modulation, mcs, mcs_table: of
    every user. users: how many; a second one is like the first but for RNTI and DMRS port.
    """
    user = {n: given[n] for n in ("modulation", "mcs", "mcs_table") if n in given}
    given = {n: v for n, v in given.items() if n not in user}
    if {"modulation", "mcs"} <= user.keys():
        raise ValueError("--mcs says the modulation: give one of --mcs and --modulation")
    if "mcs_table" in user and "mcs" not in user and any(u.mcs is None for u in slot.users):
        raise ValueError("--mcs-table is for --mcs, which was not given")
    if "modulation" in user:
        user |= {"mcs": None}
    if user:  # which say all of this
        user = {"modulation": None, "code_rate": None, "tbs": None} | user
    users = [replace(u, **user) for u in slot.users]
    n_users = given.pop("users", len(users))
    check_range("--users", n_users, 1, 2)
    if n_users > len(users):
        second = {"rnti": users[0].rnti % 65535 + 1, "port": slot.cdm_groups}  # see SlotConfig
        users.append(replace(users[0], **second))
    if "n_prb" in given:
        slot = slot.with_n_prb(given.pop("n_prb"))
    return replace(slot, users=tuple(users[:n_users]), **given)
