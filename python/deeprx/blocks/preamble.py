# SPDX-License-Identifier: GPL-3.0-or-later
"""The two OFDM symbols ahead of each slot that a synchronised receiver finds it by."""

from binascii import crc_hqx

import numpy as np

from deeprx_common.gold import gold
from deeprx_common.modulation import modulate
from deeprx_common.slot import SlotConfig

N_SYMBOLS = 2
HEADER_BITS = 48  # slot index modulo 2^32, CRC-16


def preamble_samples(config: SlotConfig) -> int:
    """Samples of both symbols, cyclic prefixes included."""
    return N_SYMBOLS * (config.fft_size + min(config.cp_lengths()))


class Preamble:
    """Training and header symbol of a SlotConfig, each of unit mean power per subcarrier.

    The training symbol uses even subcarriers only, so its two halves are equal (Schmidl and Cox,
    IEEE Trans. Commun. 45(12), 1997). The header symbol repeats 48 bits over the subcarriers:
    slot_index modulo 2^32 and its CRC-16 (CCITT, started from the DMRS identity), BPSK turned by a
    Gold sequence of that identity. Copies of a bit lie 48 subcarriers apart.

    Raises ValueError where there are fewer subcarriers than bits.
    """

    def __init__(self, config: SlotConfig):
        fewest = HEADER_BITS // 12
        if config.n_prb < fewest:
            raise ValueError(
                f"a preamble says the slot's index in {fewest} PRB or more, got n_prb="
                f"{config.n_prb}: slots of fewer are received aligned"
            )
        self._identity = config.dmrs_n_id
        c_init = (1 << 30) + config.dmrs_n_id
        self.pilots = modulate(gold(c_init, config.n_sc), "QPSK")  # [n_sc / 2]
        self.training = np.zeros(config.n_sc, np.complex64)
        self.training[::2] = np.sqrt(2) * self.pilots
        self._turns = modulate(gold(c_init + (1 << 29), 2 * config.n_sc), "QPSK")
        self._bit = np.arange(config.n_sc) % HEADER_BITS

    def header(self, slot_index: int) -> np.ndarray:
        """Header symbol of a slot, complex64 [n_sc]."""
        counter = (slot_index % (1 << 32)).to_bytes(4, "big")
        word = counter + crc_hqx(counter, self._identity).to_bytes(2, "big")
        bits = np.unpackbits(np.frombuffer(word, np.uint8))
        return (1 - 2.0 * bits[self._bit]).astype(np.float32) * self._turns

    def decode(self, training: np.ndarray, header: np.ndarray) -> int | None:
        """Slot index modulo 2^32, or None where the CRC fails.

        training, header: received subcarriers of the two symbols, complex [n_rx, n_sc].
        """
        channel = training[:, ::2] * self.pilots.conj()
        edges = np.pad(channel, ((0, 0), (1, 1)), "edge")
        smooth = edges[:, :-2] + 2 * edges[:, 1:-1] + edges[:, 2:]
        metric = (np.repeat(smooth, 2, axis=1).conj() * header * self._turns.conj()).real.sum(0)
        sums = np.bincount(self._bit, weights=metric, minlength=HEADER_BITS)
        word = np.packbits(sums < 0).tobytes()
        if crc_hqx(word[:4], self._identity) != int.from_bytes(word[4:], "big"):
            return None
        return int.from_bytes(word[:4], "big")
