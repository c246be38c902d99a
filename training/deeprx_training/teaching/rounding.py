# SPDX-License-Identifier: GPL-3.0-or-later
"""How a net that rounds is taught: the scales are chosen on slots, and it may be fine-tuned."""

import torch
from rich.progress import track
from torch import Tensor, nn

from ..data import seeds
from ..data.channels import SlotGenerator
from ..data.conditions import Conditions
from ..receivers.int8 import SIGNED, UNSIGNED, RoundedBody, best_step
from ..receivers.realtime import RealtimeRx
from .losses import bce, bernoulli_kl, sinr_weight

BATCH = 16


def calibrate(net: RealtimeRx, conditions: Conditions, slots: int) -> None:
    """Choose the steps of net's rounded bodies by what they see of these many slots."""
    bodies = net.bodies()
    seen: list[list[list[Tensor]]] = [[] for _ in bodies]

    def watch(body: RoundedBody, kept: list):
        def keep(_, inputs):
            kept.append([_some(x) for x in body.activations(*inputs)])

        return body.register_forward_pre_hook(keep)

    for body in bodies:
        body.steps = None
    hooks = [watch(body, kept) for body, kept in zip(bodies, seen, strict=True)]
    generator = SlotGenerator(conditions)
    with torch.no_grad():
        for i in range(-(-slots // BATCH)):
            batch = generator.batch(BATCH, seeds.CALIBRATION, i).of_layer(0)
            net(batch.y, batch.p, batch.config.bits_per_symbol)
    for hook in hooks:
        hook.remove()
    for body, kept in zip(bodies, seen, strict=True):
        each = [torch.cat(parts) for parts in zip(*kept, strict=True)]
        body.steps = [best_step(x, UNSIGNED if i else SIGNED) for i, x in enumerate(each)]


def _some(x: Tensor, most: int = 50_000) -> Tensor:
    return x.flatten()[:: -(-x.numel() // most)].clone()


def fine_tune(
    net: RealtimeRx, teacher: RealtimeRx, conditions: Conditions, steps: int, lr: float = 2e-4
) -> None:
    """Train net, which rounds, to the sent bits and the LLRs of the net that it rounds."""
    generator = SlotGenerator(conditions)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for step in track(range(steps), "fine-tuning", transient=True):
        batch = generator.batch(BATCH, seeds.TUNING, step).of_layer(0)
        bits = batch.config.bits_per_symbol
        with torch.no_grad():
            teacher_llr = teacher(batch.y, batch.p, bits)
        llr, weight = net(batch.y, batch.p, bits), sinr_weight(batch.sinr_db)
        loss = 0.5 * bce(llr, batch.bits, batch.data, weight)
        loss = loss + 0.5 * bernoulli_kl(llr, teacher_llr, batch.data, weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
