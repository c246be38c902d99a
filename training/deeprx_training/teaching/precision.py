# SPDX-License-Identifier: GPL-3.0-or-later
"""In which precision nets train. Only their convolutional bodies run in bfloat16: the classical
arithmetic around them needs float32.
"""

import torch
from torch import nn

from ..receivers.nets import bodies


def bfloat16_is_safe(net: nn.Module) -> bool:
    """Whether a CPU computes this net's gradients rightly in bfloat16.

    oneDNN (in torch 2.13) gives wrong weight gradients, up to NaN, for dilated convolutions in
    channels-last order whose channels are not a multiple of 16. Separable ones are filled up.
    """
    dense = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.groups == 1]
    return not any(
        max(m.dilation) > 1 and (m.in_channels % 16 or m.out_channels % 16) for m in dense
    )


def usual(asked: str, gpu: bool) -> str:
    """What a recipe's precision comes to on this machine: float32 or bfloat16."""
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if asked != "auto":
        return asked
    return "bfloat16" if gpu or native else "float32"


def of_training(net: nn.Module, asked: str, gpu: bool) -> str:
    """The precision that a net trains in. ValueError where it would go wrong in the one asked."""
    if usual(asked, gpu) == "float32" or not bodies(net):
        return "float32"
    if gpu or bfloat16_is_safe(net):
        return "bfloat16"
    if asked == "bfloat16":
        raise ValueError(
            "bfloat16 on a CPU needs dilated convolutions with a multiple of 16 channels; change "
            "channels, or precision to auto or float32"
        )
    return "float32"


def cast(net: nn.Module, precision: str, device: torch.device) -> nn.Module:
    """The net, its bodies in this precision, in channels-last order."""
    if precision == "bfloat16":
        autocast = torch.autocast(device.type, torch.bfloat16)
        for body in bodies(net):
            body.forward = autocast(body.forward)
    return channels_last(net)


def channels_last(net: nn.Module) -> nn.Module:
    """The net, its weights of 2D convolutions in this order; net.to() refuses those of 3D ones."""
    for weight in (*net.parameters(), *net.buffers()):
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return net
