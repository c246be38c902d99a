# SPDX-License-Identifier: GPL-3.0-or-later
"""FLOP of a slot: as counted, and by formula where the counter sees nothing."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deeprx_common.examples import received_slots
from deeprx_common.slot import SlotConfig

from .classical import WIDTHS, PilotEstimate
from .contract import bits_of, of_contract
from .nets import FoldedNet, HybridRx
from .pusch import PuschRx
from .realtime import RealtimeRx
from .references import GnbRx, LmmseRx


def example(n_rx: int, n_prb: int = 26, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """received_slots() as tensors y and p, whose one layer has no axis."""
    y, p, _ = received_slots(SlotConfig(n_prb=n_prb), n_rx, batch)
    return torch.from_numpy(y), torch.from_numpy(p[:, 0])


def classical_flop(re: int, pilots: int, n_rx: int, bits: int, mean: bool) -> int:
    """Elementwise operations of the classical chain, which the FLOP counter does not see.

    re resource elements in the slot, pilots of them known. A complex multiplication counts 6, a
    complex addition 2, a transcendental 1. Per antenna and pilot: LS 6, delay 8, turning 6, second
    differences 8, smoothing or averaging 6. Per antenna and RE: turning 6, two interpolations 12,
    covariance weights 8 n_rx, gain 8, combining 8. Per RE: 4 for normalising, then demapping: 5
    per PAM level of both axes and each bit, once more for the soft symbol's mean over the levels.
    """
    levels = 2 ** (bits // 2)
    demap = 2 * (bits // 2) * levels * 5
    soft = 2 * levels * 6 if mean else 0
    return pilots * n_rx * 34 + re * (n_rx * (34 + 8 * n_rx) + 4 + demap + soft)


def realtime_flop(net: RealtimeRx, re: int, pilots: int, bits: int) -> int:
    """Elementwise operations of RealtimeRx, counted as in classical_flop; batch norms and
    ReLUs are part of the convolutions.

    Per antenna and pilot: LS 6, delay 8, turning 6, second differences 8. Per antenna and RE:
    turning 6, interpolating over frequency 4 and time 8. Per RE, at the end and in each round:
    combining 12 per antenna and 2, the decisions 2 per bit; the end: 3 more per bit for max-log and
    the limit; a round: 6 per bit for the soft symbol and its power, 12 per antenna for the
    innovation and its size, 4 per antenna for what is added to the channel.
    """
    r = net.n_rx
    decide = 12 * r + 2 + 2 * bits
    return (
        pilots * r * 28
        + re * (18 * r + decide + 3 * bits)
        + re * len(net.rounds) * (decide + 6 * bits + 16 * r)
    )


def pusch_flop(net: PuschRx, n_rx: int, re: int, pilots: int, bits: int) -> int:
    """Elementwise operations of PuschRx for one layer, counted as in classical_flop; ReLUs are part
    of the convolutions.

    Per antenna and pilot: LS 8, delay 8, turning 6, second differences 6, movement and level 10;
    for each window its edges 2 and how far off it and its mean over time are 18; each time that the
    channel is held against the pilots 24. Per antenna and RE: interpolating two channels over
    frequency 16. Per RE, at the end and in each round: combining 12 per antenna, normalising and
    turning 14; the end: 22 per level of both axes for how likely it is, once for the noise that
    symbols show and once for LLRs, 6 for the noise that they show then, 7 per bit for its LLR, 9
    for the SINR; a round: 8 per bit for decisions and the soft symbol, 12 for turning it and what
    it missed, 28 per antenna for the innovation and its powers, steering, what is added to the
    channel and what is taken out of it; the first: 22 per level of both axes, of at most four, for
    how wrong decisions may be, and 4 per antenna for the noise that this comes to.
    """
    combined = 12 * n_rx + 14
    levels, n_rounds = 2 ** (bits // 2), len(net.rounds)
    return (
        pilots * n_rx * (38 + 20 * len(WIDTHS) + 24 * (1 + n_rounds))
        + re * (16 * n_rx + combined + 28 * levels + 7 * bits + 9)
        + re * n_rounds * (combined + 8 * bits + 12 + 28 * n_rx)
        + re * min(n_rounds, 1) * (22 * min(levels, 4) + 4 * n_rx)
    )


def gnb_flop(re: int, pilots: int, n_rx: int, bits: int) -> int:
    """Elementwise operations of the gNB's receiver, counted as in classical_flop.

    Per antenna and pilot: LS 6, frequency offset 8, averaging 8, low pass 60, noise 12. Per antenna
    and RE: interpolating 4, turning 6, gain 8, noise 4, combining 8. Per RE: 6 for normalising,
    then 5 per PAM level of both axes and each bit, and 4 per bit for rounding.
    """
    return pilots * n_rx * 94 + re * (n_rx * 30 + 6 + bits * 2 ** (bits // 2) * 5 + 4 * bits)


_SLOT = SlotConfig()


def flop_per_slot(net: nn.Module, n_rx: int, slot: SlotConfig = _SLOT) -> dict | None:
    """FLOP of one slot: convolutions and matrix products as counted, the rest by formula; None of
    two users, of which formulas do not tell.
    """
    bits = slot.bits_per_symbol
    y, p, d = map(torch.from_numpy, received_slots(slot, n_rx, 1))
    program, trains = of_contract(net), net.training
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        program.eval()(y, p, d, bits_of(slot))
    net.train(trains)
    if slot.n_layers > 1:
        return None
    re = slot.n_symbols * slot.n_sc
    pilots = len(slot.dmrs) * slot.n_sc // 2
    other = 0
    if isinstance(program, PuschRx):
        other += pusch_flop(program, n_rx, re, pilots, bits)
    if isinstance(program, LmmseRx):
        other += classical_flop(re, pilots, n_rx, bits, mean=False)
    if isinstance(program, GnbRx):
        other += gnb_flop(re, pilots, n_rx, bits)
    if isinstance(net, RealtimeRx):
        other += realtime_flop(net, re, pilots, bits)
    # starts from the classical receiver
    if isinstance(getattr(net, "estimate", None), PilotEstimate):
        other += classical_flop(re, pilots, n_rx, bits, isinstance(net, HybridRx))
        if isinstance(net, HybridRx):
            other += re * (n_rx * 34 + 80)  # the innovation, the refined combining and demapping
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and not isinstance(net, RealtimeRx):
            # with its ReLU, 3 per element
            share = net.net.fold if isinstance(getattr(net, "net", None), FoldedNet) else 1
            other += 3 * module.num_features * re // share
    return {
        "n_prb": slot.n_prb,
        "n_rx": n_rx,
        "bits": bits,
        "matmul": int(counter.get_total_flops()),
        "other": int(other),
    }
