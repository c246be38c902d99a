# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes sionna_codec.json: what Sionna's LDPC encoder, decoder and block sizes give.

In the training environment, where Sionna is:

    .venv-training/bin/python tests/golden/make_sionna_codec.py
"""

import json
from itertools import product
from pathlib import Path

import numpy as np
import torch
from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder
from sionna.phy.nr.utils import calculate_tb_size, decode_mcs_index

# base graph, information bits, coded bits, bits per symbol: with and without fillers, sets 0 to 7
CODES = [
    (1, 22 * 96, 4 * 22 * 96 // 2, 2),
    (1, 8448, 9408, 8),
    (1, 3872, 11600, 4),
    (1, 22 * 80 - 8, 4000, 4),
    (1, 22 * 112 - 40, 3000, 6),
    (1, 22 * 144 - 16, 4800, 2),
    (1, 22 * 176, 8000, 8),
    (1, 22 * 208 - 80, 6600, 6),
    (1, 22 * 240 - 8, 7000, 4),
    (2, 48, 220, 2),
    (2, 336, 1000, 4),
    (2, 600, 1200, 4),
    (2, 3840, 19200, 2),
    (2, 72 * 10 - 8, 1200, 6),
    (2, 88 * 10, 2000, 8),
    (2, 104 * 10 - 24, 3000, 2),
    (2, 112 * 10, 2000, 2),
    (2, 240 * 10, 4000, 4),
    (2, 80 * 10, 1600, 4),
]
# base graph, information bits, coded bits, Es/N0 of a QPSK symbol in dB: where many blocks fail
CHANNELS = [
    (1, 704, 2112, -1.1),
    (1, 704, 1408, 1.2),
    (1, 704, 782, 6.6),
    (2, 720, 3600, -4.0),
    (2, 720, 1080, 3.3),
]
BLOCKS = 100


def hexed(bits) -> str:
    return np.packbits(np.asarray(bits, dtype=np.uint8)).tobytes().hex()


def encoded() -> list[dict]:
    codes = []
    for at, (graph, k, n, qm) in enumerate(CODES):
        bits = np.random.default_rng(at).integers(0, 2, k)
        coded = LDPC5GEncoder(k, n, num_bits_per_symbol=qm, bg=f"bg{graph}")(
            torch.tensor(bits[None], dtype=torch.float32), rv=[0, 1, 2, 3]
        )
        codes.append(
            {
                "base_graph": graph,
                "bits_per_symbol": qm,
                "n": n,
                "k": k,
                "bits": hexed(bits),
                "coded": [hexed(rv) for rv in coded[0].numpy()],
            }
        )
    return codes


def llrs(seed: int, n: int, es_n0_db: float) -> np.ndarray:
    """LLRs log P(1)/P(0) of zeros in noise: default_rng(seed).random(), by Box and Muller."""
    uniform = np.random.default_rng(seed).random(2 * n)
    normal = np.sqrt(-2 * np.log(1 - uniform[::2])) * np.cos(2 * np.pi * uniform[1::2])
    es = 10 ** (es_n0_db / 10)
    return -2 * (es + np.sqrt(es) * normal)


def decoded() -> list[dict]:
    """Which blocks 20 iterations of belief propagation leave wrong."""
    points = []
    for graph, k, n, es_n0_db in CHANNELS:
        decoder = LDPC5GDecoder(LDPC5GEncoder(k, n, bg=f"bg{graph}"), num_iter=20)
        llr = np.stack([llrs(seed, n, es_n0_db) for seed in range(BLOCKS)])
        with torch.inference_mode():
            bits = decoder(torch.tensor(llr, dtype=torch.float32)).numpy()
        points.append(
            {
                "base_graph": graph,
                "k": k,
                "n": n,
                "es_n0_db": es_n0_db,
                "blocks": BLOCKS,
                "wrong": np.flatnonzero(bits.any(1)).tolist(),
            }
        )
        print(graph, k, n, len(points[-1]["wrong"]), flush=True)
    return points


def sizes() -> list[list]:
    """MCS table, index, PRBs, data REs of a PRB, layers, bits per symbol, 1024 code rate, size."""
    rows = []
    shapes = [(1, 132), (3, 156), (24, 120), (106, 144), (273, 156)]
    for table, last in ((1, 28), (2, 27), (3, 28)):
        for index, (n_prb, re), layers in product(range(last + 1), shapes, (1, 2)):
            qm, rate = decode_mcs_index(index, table)
            coded = n_prb * re * layers * int(qm)
            size = calculate_tb_size(
                int(qm), float(rate), num_coded_bits=coded, num_layers=layers, verbose=False
            )[0]
            rows.append(
                [table, index, n_prb, re, layers, int(qm), round(2048 * float(rate)) / 2, int(size)]
            )
    return rows


if __name__ == "__main__":
    golden = {"encoded": encoded(), "sizes": sizes(), "decoded": decoded()}
    path = Path(__file__).with_name("sionna_codec.json")
    lines = [
        f' "{name}": [\n  ' + ",\n  ".join(json.dumps(row) for row in rows) + "\n ]"
        for name, rows in golden.items()
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
