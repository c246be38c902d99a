# SPDX-License-Identifier: GPL-3.0-or-later
"""Block errors behind the LDPC code of 5G NR (TS 38.212), one transport block a slot.

Slots carry random bits, not codewords. With a codeword c and the slot's bits b, b = c xor s for a
scrambling sequence s = c xor b that the receiver may know: turning the sign of the LLRs where s is
1 gives the LLRs of c, exactly as descrambling does in TS 38.211 6.3.1.1.
"""

from fractions import Fraction
from math import ceil

import numpy as np
import torch
from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder
from torch import Tensor

from .soft_bits import histogram, information, margins

MAX_INFORMATION_BITS = 8448  # of a code block, TS 38.212 5.2.2
ITERATIONS, STAGE = 20, 2
# code blocks decoded together: more do not fit a CPU's cache, fewer do not fill a GPU
GROUP = {"cpu": 4, "cuda": 128}
HOPELESS = 0.02


class TransportBlock:
    """One slot's bits as code blocks of equal length: TS 38.212 base graph, rate matching and bit
    interleaving (5.4.2.2) as Sionna implements them; without CRCs, since the truth is known.

    n_bits of a slot; bits per symbol; rate: information bits per coded bit, one of code_rate().
    Bits that do not fill a symbol of every code block stay uncoded.
    """

    def __init__(self, n_bits: int, bits: int, rate: Fraction, device: str = "cpu"):
        self.rate = rate
        self.blocks = ceil(n_bits * rate / MAX_INFORMATION_BITS)
        self.length = n_bits // self.blocks // bits * bits
        self._encoder = LDPC5GEncoder(
            ceil(self.length * rate), self.length, num_bits_per_symbol=bits, device=device
        )
        self._decoder = LDPC5GDecoder(
            self._encoder, num_iter=STAGE, return_state=True, device=device
        )

    def draw(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Random information bits float32 [count * blocks, k] and their codewords."""
        rng = torch.Generator().manual_seed(seed)
        shape = (count * self.blocks, self._encoder.k)
        sent = torch.randint(0, 2, shape, generator=rng).float().to(self._encoder.device)
        return sent, self._encoder(sent)

    def errors(self, llr: Tensor, bits: Tensor, drawn: tuple[Tensor, Tensor]) -> Tensor:
        """Which slots' blocks fail, bool [B]; llr float [B, N] and bits {0, 1} [B, N] in transmit
        order, drawn = draw(B, seed).

        Flooding belief propagation, at most ITERATIONS, which stops at the right codeword. Two
        kinds of code blocks are settled without it: LLRs that are all right are a fixed point; and
        no decoder gets a rate out of LLRs whose information, at the best of three scales, is
        HOPELESS below it.
        """
        used = self.blocks * self.length
        llr = llr[:, :used].reshape(-1, self.length)
        margin = margins(llr, bits[:, :used].reshape(-1, self.length))
        counts = histogram(margin).cpu().numpy()
        carried = np.max([information(counts, s) for s in (0.5, 1.0, 2.0)], 0)
        wrong = torch.from_numpy(carried < float(self.rate) - HOPELESS).to(llr.device)
        open_ = ((margin <= 0).any(1) & ~wrong).nonzero().flatten()
        wrong[open_] = self._decode(margin[open_], [d[open_] for d in drawn])
        return wrong.view(-1, self.blocks).any(1)

    def _decode(self, margin: Tensor, drawn: tuple[Tensor, Tensor]) -> Tensor:
        sent, codeword = drawn
        llr = torch.where(codeword.bool(), margin, -margin)
        wrong = torch.ones(len(llr), dtype=torch.bool, device=llr.device)
        for left in torch.arange(len(llr), device=llr.device).split(GROUP[llr.device.type]):
            state = None
            for _ in range(ITERATIONS // STAGE):
                if not len(left):
                    break
                decoded, state = self._decoder(llr[left], msg_v2c=state)
                still = (decoded != sent[left]).any(1)
                wrong[left[~still]] = False
                left, state = left[still], state[still]
        return wrong
