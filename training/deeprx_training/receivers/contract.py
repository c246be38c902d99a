# SPDX-License-Identifier: GPL-3.0-or-later
"""The model contract around receivers of one layer, which know no layers, and what they take."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from deeprx_common.slot import N_SYMBOLS, SlotConfig, User, legal_dmrs

if TYPE_CHECKING:  # the runtime exports receivers, too, and has not all that data needs
    from ..data.conditions import Conditions

# what receivers here interpolate in time through
DMRS = tuple(symbols for symbols in legal_dmrs(N_SYMBOLS) if len(symbols) <= 2)


def knows_layers(net: nn.Module) -> bool:
    """Whether its forward is the contract's."""
    return "d" in inspect.signature(net.forward).parameters


class OneLayer(nn.Module):
    """The contract's forward of a receiver forward(y, p, bits: int) of one layer, which takes p and
    gives LLRs without the layers' axis.
    """

    def __init__(self, receiver: nn.Module):
        super().__init__()
        self.receiver = receiver

    def forward(self, y: Tensor, p: Tensor, d: Tensor, bits: list[int]) -> Tensor:
        return self.receiver(y, p[:, 0], bits[0])[:, None]


def of_contract(net: nn.Module) -> nn.Module:
    """The contract's forward of a net of either kind; a program's own where LayerOf wraps it."""
    if isinstance(net, LayerOf):
        return net.program
    return net if knows_layers(net) else OneLayer(net)


class LayerOf(nn.Module):
    """The other way round: forward(y, p, bits) of one layer by a program of the contract, of slots
    with one CDM group without data.
    """

    def __init__(self, program: nn.Module):
        super().__init__()
        self.program = program
        self.training = program.training  # else whoever restores that of both changes the program

    def forward(self, y: Tensor, p: Tensor, bits: int) -> Tensor:
        return self.program(y, p[:, None], data_res(p), [bits])[:, 0]


def of_one_layer(net: nn.Module) -> nn.Module:
    """A net of either kind as a receiver of one layer."""
    return LayerOf(net) if knows_layers(net) else net


def taken_slots(
    dmrs: Sequence[Sequence[int]] | None = None, scs_khz: Sequence[int] | None = None
) -> dict:
    """What deeprx.json says of the slots that a receiver of one layer takes: those of 14 symbols
    with one CDM group without data. dmrs: lists of DMRS symbols; None: any of one or two. scs_khz:
    subcarrier spacings; None: any. ValueError where no slot has such DMRS symbols or spacings.
    """
    dmrs = dmrs and [list(SlotConfig(dmrs=symbols).dmrs) for symbols in dmrs]
    return {
        "layers": [1],
        "n_prb": [6, 273],
        "scs_khz": scs_khz and [SlotConfig(scs_khz=spacing).scs_khz for spacing in scs_khz],
        "n_sym": [N_SYMBOLS],
        "dmrs": dmrs,
        "n_dmrs": sorted({len(symbols) for symbols in dmrs}) if dmrs else [1, 2],
        "cdm_groups": [1],
    }


def check_taken(conditions: "Conditions") -> None:
    """ValueError where slots are drawn that the receivers here do not take."""
    taken = taken_slots()
    for key, known in {
        "dmrs": DMRS,
        "n_symbols": taken["n_sym"],
        "cdm_groups": taken["cdm_groups"],
        "users": taken["layers"],
    }.items():
        for value in getattr(conditions, key):
            if value not in known:
                options, value = _listed(known), _listed([value])
                several = "some of " if len(known) > 1 else ""
                raise ValueError(f"{key}: expected {several}{options}, got {value}")
    least = conditions.min_prb or conditions.n_prb
    if least < taken["n_prb"][0]:
        raise ValueError(f"n_prb: expected {taken['n_prb'][0]} or more, got {least}")


def _listed(values: Sequence) -> str:
    return ", ".join(str(list(v) if isinstance(v, tuple) else v) for v in values)


def kinds_of(slots: Sequence[SlotConfig]) -> dict:
    """The same of a receiver that takes slots like these, and any mixture of them."""
    return {
        "layers": sorted({slot.n_layers for slot in slots}),
        "n_prb": [1, 273],
        "scs_khz": sorted({slot.scs_khz for slot in slots}),
        "n_sym": sorted({slot.n_symbols for slot in slots}),
        "dmrs": sorted(map(list, {slot.dmrs for slot in slots})),
        "n_dmrs": sorted({len(slot.dmrs) for slot in slots}),
        "cdm_groups": sorted({slot.cdm_groups for slot in slots}),
    }


def of_size(slot: SlotConfig, n_prb: int, modulation: str) -> SlotConfig:
    """The same kind of slot with so many PRB, in a carrier of their own, and this modulation."""
    return replace(
        slot,
        n_prb=n_prb,
        first_prb=0,
        carrier_prb=None,
        fft_size=None,
        users=tuple(User(modulation, port=user.port) for user in slot.users),
    )


def bits_of(slot: SlotConfig) -> list[int]:
    """What forward() takes: bits per symbol, one entry a layer."""
    return [user.bits_per_symbol for user in slot.users]


def data_res(p: Tensor) -> Tensor:
    """The REs that carry data beside one CDM group without: bool [S, K], of p [B, S, K, 2]."""
    return (p[0] == 0).all(-1)


def misfit(takes: Mapping, slot: SlotConfig, n_rx: int) -> str:
    """Why a receiver, of which deeprx.json says what it takes, does not take a slot; empty: it
    does. Keys that are missing or null say nothing.
    """
    offered = {
        "n_rx": [n_rx],
        "layers": [slot.n_layers],
        "n_sym": [slot.n_symbols],
        "scs_khz": [slot.scs_khz],
        "cdm_groups": [slot.cdm_groups],
        "dmrs": [list(slot.dmrs)],
        "n_dmrs": [len(slot.dmrs)],
        "modulations": [user.modulation for user in slot.users],
    }
    for key, values in offered.items():
        for value in values:
            if takes.get(key) and value not in takes[key]:
                return f"takes {key} of {_listed(takes[key])}, found {value}"
    least, most = takes.get("n_prb") or (1, 273)
    multiple = takes.get("prb_multiple_of") or 1
    if not least <= slot.n_prb <= most or slot.n_prb % multiple:
        return f"takes {least} to {most} PRB in multiples of {multiple}, found {slot.n_prb}"
    return ""
