# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver of your own as a model file: ./dev run python3 examples/my_receiver.py writes it."""

import torch


class MyReceiver(torch.nn.Module):
    """Channel: a weighted mean of the pilots around. Then maximum ratio combining and max-log."""

    def __init__(self):
        super().__init__()
        t, f = torch.arange(14.0).view(-1, 1), torch.arange(25.0).view(1, 1, -1) - 12
        self.over_time = torch.nn.Parameter(torch.exp(-(t - t.T).abs() / 4))
        self.over_frequency = torch.nn.Parameter(torch.exp(-f.abs() / 4))

    def conj_times(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.stack([(a * b).sum(-1), a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]], -2)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        rows = torch.conv1d(x.flatten(0, 3).unsqueeze(1), self.over_frequency, padding=12)
        return (self.over_time @ rows.view(x.shape).flatten(3)).view(x.shape)

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        """y [B, n_rx, 14, K, 2], p [B, 14, K, 2] -> LLRs [B, 14, K, bits], positive: 1."""
        pilots = p.square().sum(-1)[:, None, :, None]  # [.., K]: OpenVINO wants subcarriers last
        z = self.conj_times(p.unsqueeze(1), y)
        h = self.mean(z) / self.mean(pilots)
        noise = (z - h * pilots).square().sum((2, 3, 4), True) / pilots.sum((2, 3, 4), True)
        gain = (h.square() / noise).sum((1, 3)).unsqueeze(2)
        power = 2 * (4.0 ** (bits // 2) - 1) / 3  # of points that lie 2 apart
        folded = [-(power**0.5) * (self.conj_times(h.transpose(3, 4), y) / noise).sum(1) / gain]
        for k in range(bits // 2 - 1, 0, -1):
            folded.append(folded[-1].abs() - 2.0**k)
        return (4 / power * gain * torch.cat(folded, 2)).transpose(2, 3)


if __name__ == "__main__":
    from deeprx_training.export import save_receiver

    print("my_receiver.pt:", save_receiver(MyReceiver(), "my_receiver.pt")["params"], "parameters")
