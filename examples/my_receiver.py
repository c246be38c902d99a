#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver of your own: any PyTorch module that follows the contract, as a model file.

./dev run python3 examples/my_receiver.py writes my_receiver.pt.
"""

import torch
from torch import nn
from torch.nn import functional


class MyReceiver(nn.Module):
    """Channel: a weighted mean of the pilots around. Then maximum ratio combining and max-log."""

    def __init__(self, n_rx: int = 2):
        super().__init__()
        self.n_rx = n_rx
        apart = torch.arange(-12.0, 13.0).abs()  # subcarriers
        self.over_frequency = nn.Parameter(torch.exp(-apart / 4).view(1, 1, 1, -1))
        symbols = torch.arange(14.0)
        self.over_time = nn.Parameter(torch.exp(-(symbols - symbols.view(-1, 1)).abs() / 4))

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        rows = functional.conv2d(x.flatten(0, 1).unsqueeze(1), self.over_frequency, padding=(0, 12))
        return self.over_time @ rows.view(x.shape)

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        """y [B, n_rx, 14, K, 2], p [B, 14, K, 2] -> LLRs [B, 14, K, bits], positive: 1."""
        yr, yi, pr, pi = y[..., 0], y[..., 1], p[:, None, :, :, 0], p[:, None, :, :, 1]
        pilots = pr.square() + pi.square()
        weight = self.mean(pilots)
        hr = self.mean(yr * pr + yi * pi) / weight
        hi = self.mean(yi * pr - yr * pi) / weight
        error = (yr - hr * pr + hi * pi).square() + (yi - hr * pi - hi * pr).square()
        noise = (error * pilots).sum((2, 3), keepdim=True) / pilots.sum((2, 3), keepdim=True)
        gain = ((hr.square() + hi.square()) / noise).sum(1, keepdim=True)
        xr = ((hr * yr + hi * yi) / noise).sum(1, keepdim=True) / gain
        xi = ((hr * yi - hi * yr) / noise).sum(1, keepdim=True) / gain
        power = 2 * (4.0 ** (bits // 2) - 1) / 3  # of points that lie 2 apart
        folded = [-torch.cat([xr, xi], 1).permute(0, 2, 3, 1) * power**0.5]
        for k in range(1, bits // 2):
            folded.append(folded[-1].abs() - 2.0 ** (bits // 2 - k))
        return 4 / power * gain.squeeze(1).unsqueeze(-1) * torch.cat(folded, -1)


if __name__ == "__main__":
    from deeprx_training.export import save_receiver

    metadata = save_receiver(MyReceiver(), "my_receiver.pt")
    print(f"my_receiver.pt: {metadata['params']} parameters, {', '.join(metadata['engines'])}")
