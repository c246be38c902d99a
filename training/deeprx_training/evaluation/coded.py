# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of transport blocks (TS 38.212), one block a slot.

Slots carry random bits, not codewords. With coded bits c and the slot's bits b, b = c xor s for a
scrambling sequence s = c xor b that the receiver may know: turning the sign of the LLRs where s is
1 gives the LLRs of c, exactly as descrambling does in TS 38.211 6.3.1.1.
"""

import numpy as np
import torch
from scipy.sparse import hstack
from sionna.phy.fec.crc import CRCEncoder
from sionna.phy.fec.ldpc import LDPC5GEncoder, LDPCBPDecoder
from torch import Tensor

from ..receivers.soft_bits import histogram, information, margins

ITERATIONS, STAGE = 20, 2
# code blocks decoded together: more do not fit a CPU's cache, fewer do not fill a GPU
GROUP = {"cpu": 4, "cuda": 128}
HOPELESS = 0.02


class TransportBlock:
    """A transport block's first transmission: CRCs, segmentation, base graph, LDPC code, rate
    matching (rv 0, buffers not limited) and bit interleaving of TS 38.212 clauses 6.2.1 to 6.2.6.

    size: bits, without CRC, of TS 38.214 clause 5.1.3.2; coded_bits that the slot has for it;
    bits_per_symbol; code_rate: the target, which chooses the base graph.

    CRC and LDPC encoder and belief propagation are Sionna's. Its own TBEncoder chooses the base
    graph by other numbers, and neither it nor the rate matching of its LDPC classes repeats bits.
    """

    def __init__(
        self,
        size: int,
        coded_bits: int,
        bits_per_symbol: int,
        code_rate: float,
        device: str = "cpu",
    ):
        low = size <= 292 or (size <= 3824 and code_rate <= 0.67) or code_rate <= 0.25
        graph, largest, repeats = (2, 3840, 5) if low else (1, 8448, 3)
        self._size, self._device = size, device
        self._block_crc = CRCEncoder("CRC24A" if size > 3824 else "CRC16", device=device)
        with_crc = size + self._block_crc.crc_length
        self.blocks = 1 if with_crc <= largest else -(-with_crc // (largest - 24))
        self._crc = CRCEncoder("CRC24B", device=device) if self.blocks > 1 else None
        k = with_crc // self.blocks + (24 if self._crc else 0)  # K' of clause 5.2.2
        # of the lowest rate that Sionna allows, so that its four versions together have every bit
        self._encoder = LDPC5GEncoder(k, repeats * k, bg=f"bg{graph}", device=device)
        buffer, punctured = self._encoder.n_cb_comp, 2 * self._encoder.z
        starts = self._encoder.get_start_positions_comp([0, 1, 2, 3])
        at = (np.array(starts)[:, None] + np.arange(repeats * k)) % buffer
        self._versions = torch.from_numpy(np.unique(at, return_index=True)[1]).to(device)

        # The parity-check matrix without fillers and without the parity bits that are not sent
        share, rest = divmod(coded_bits // bits_per_symbol, self.blocks)
        lengths = [share + (r >= self.blocks - rest) for r in range(self.blocks)]  # in symbols
        sent = min(max(lengths) * bits_per_symbol, buffer)
        rows = max(sent + punctured - k, 4 * self._encoder.z)
        checks = self._encoder.pcm[:rows].tocsc()
        parity = checks[:, self._encoder.k_ldpc :][:, :rows]
        self._decoder = LDPCBPDecoder(
            hstack([checks[:, :k], parity], "csr"),
            num_iter=STAGE,
            return_state=True,
            device=device,
        )
        self._punctured, self._n = punctured, k + rows - punctured
        # Where each coded bit comes from: interleaved, repeated, code block after code block
        self._index = torch.cat(
            [
                torch.arange(n * bits_per_symbol).view(bits_per_symbol, n).T.flatten() % buffer
                + r * self._n
                for r, n in enumerate(lengths)
            ]
        ).to(device)

    def encode(self, bits: Tensor) -> Tensor:
        """Of blocks {0, 1} float32 [B, size], the coded bits before scrambling [B, coded_bits]."""
        return self._encode(bits)[1].view(len(bits), -1)[:, self._index]

    def _encode(self, bits: Tensor) -> tuple[Tensor, Tensor]:
        """Code blocks with their CRCs [B * blocks, k], and those bits of their codewords that are
        sent [B * blocks, n].
        """
        code_blocks = self._block_crc(bits).view(len(bits) * self.blocks, -1)
        if self._crc:
            code_blocks = self._crc(code_blocks)
        versions = self._encoder(code_blocks, rv=[0, 1, 2, 3]).flatten(1)
        return code_blocks, versions[:, self._versions[: self._n]]

    def draw(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Random blocks, encoded, as errors() takes them."""
        rng = torch.Generator().manual_seed(seed)
        bits = torch.randint(0, 2, (count, self._size), generator=rng).float()
        return self._encode(bits.to(self._device))

    def errors(self, llr: Tensor, bits: Tensor, drawn: tuple[Tensor, Tensor]) -> Tensor:
        """Which blocks fail, bool [B]; llr float [B, coded_bits] and the slots' bits {0, 1}
        [B, coded_bits] in transmit order, drawn = draw(B, seed).

        Flooding belief propagation, at most ITERATIONS, which stops at the right codeword. Two
        kinds of code blocks are settled without it: LLRs that are all right are a fixed point; and
        no decoder gets a rate out of LLRs whose information, at the best of three scales, is
        HOPELESS below it.
        """
        combined = self._combine(margins(llr, bits))
        counts = histogram(combined).cpu().numpy()
        carried = np.max([information(counts, s) for s in (0.5, 1.0, 2.0)], 0)
        wrong = torch.from_numpy(carried < self._encoder.k / self._n - HOPELESS).to(llr.device)
        open_ = ((combined <= 0).any(1) & ~wrong).nonzero().flatten()
        wrong[open_] = self._decode(combined[open_], [d[open_] for d in drawn])
        return wrong.view(-1, self.blocks).any(1)

    def _combine(self, margin: Tensor) -> Tensor:
        """Of coded bits [B, coded_bits], to the code blocks' bits [B * blocks, n]; what was sent
        again is added.
        """
        buffers = margin.new_zeros(len(margin), self.blocks * self._n)
        return buffers.index_add_(1, self._index, margin).view(-1, self._n)

    def _decode(self, margin: Tensor, drawn: tuple[Tensor, Tensor]) -> Tensor:
        sent, codeword = drawn
        llr = torch.where(codeword.bool(), margin, -margin)
        llr = torch.nn.functional.pad(llr, (self._punctured, 0))
        wrong = torch.ones(len(llr), dtype=torch.bool, device=llr.device)
        for left in torch.arange(len(llr), device=llr.device).split(GROUP[llr.device.type]):
            state = None
            for _ in range(ITERATIONS // STAGE):
                if not len(left):
                    break
                decoded, state = self._decoder(llr[left], msg_v2c=state)
                still = (decoded[:, : sent.shape[1]] != sent[left]).any(1)
                wrong[left[~still]] = False
                left, state = left[still], state[still]
        return wrong
