# SPDX-License-Identifier: GPL-3.0-or-later
"""Modulation and coding schemes and the sizes of their transport blocks (TS 38.214)."""

import math
from bisect import bisect_left

from .checks import check_whole
from .modulation import MODULATIONS

# Tables 5.1.3.1-1 to -3: target code rates times 1024
_TABLES = (
    {
        "QPSK": (120, 157, 193, 251, 308, 379, 449, 526, 602, 679),
        "16QAM": (340, 378, 434, 490, 553, 616, 658),
        "64QAM": (438, 466, 517, 567, 616, 666, 719, 772, 822, 873, 910, 948),
    },
    {
        "QPSK": (120, 193, 308, 449, 602),
        "16QAM": (378, 434, 490, 553, 616, 658),
        "64QAM": (466, 517, 567, 616, 666, 719, 772, 822, 873),
        "256QAM": (682.5, 711, 754, 797, 841, 885, 916.5, 948),
    },
    {
        "QPSK": (30, 40, 50, 64, 78, 99, 120, 157, 193, 251, 308, 379, 449, 526, 602),
        "16QAM": (340, 378, 434, 490, 553, 616),
        "64QAM": (438, 466, 517, 567, 616, 666, 719, 772),
    },
)

# Table 5.1.3.2-1
# fmt: off
_SMALL_SIZES = (
    24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 136, 144, 152, 160, 168, 176,
    184, 192, 208, 224, 240, 256, 272, 288, 304, 320, 336, 352, 368, 384, 408, 432, 456, 480,
    504, 528, 552, 576, 608, 640, 672, 704, 736, 768, 808, 848, 888, 928, 984, 1032, 1064, 1128,
    1160, 1192, 1224, 1256, 1288, 1320, 1352, 1416, 1480, 1544, 1608, 1672, 1736, 1800, 1864,
    1928, 2024, 2088, 2152, 2216, 2280, 2408, 2472, 2536, 2600, 2664, 2728, 2792, 2856, 2976,
    3104, 3240, 3368, 3496, 3624, 3752, 3824,
)
# fmt: on


def mcs(table: int, index: int) -> tuple[str, float]:
    """Modulation and target code rate of an MCS index: tables 5.1.3.1-1 (64QAM), -2 (256QAM) and -3
    (64QAM, low spectral efficiency), which hold for PUSCH without transform precoding (clause
    6.1.4.1).

    Raises ValueError where there is no such table, or the index is reserved or no whole number.
    """
    check_whole("mcs_table", table, 1, 3)
    rates = [(m, r / 1024) for m, row in _TABLES[table - 1].items() for r in row]
    check_whole(f"mcs of table {table}", index, 0, len(rates) - 1)
    return rates[index]


def transport_block_size(
    n_prb: int, data_re: int, modulation: str, code_rate: float, layers: int = 1
) -> int:
    """Bits of a transport block (clauses 5.1.3.2 and 6.1.4.2).

    data_re: REs of the allocation in one PRB, without DMRS and their CDM groups; above 156 counts
    as 156. Raises ValueError where a number is not positive and whole.
    """
    for name, value in (("n_prb", n_prb), ("data_re", data_re), ("layers", layers)):
        check_whole(name, value, 1)
    information = n_prb * min(data_re, 156) * code_rate * MODULATIONS[modulation] * layers
    if information <= 3824:
        step = 2 ** max(3, math.frexp(information)[1] - 7)
        size = max(24, step * math.floor(information / step))
        return _SMALL_SIZES[bisect_left(_SMALL_SIZES, size)]
    step = 2 ** (math.frexp(information - 24)[1] - 6)
    size = max(3840, step * math.floor((information - 24) / step + 0.5))
    most = 3816 if code_rate <= 0.25 else 8424  # bits of a code block, without CRC
    blocks = -(-(size + 24) // most) if code_rate <= 0.25 or size > most else 1
    return 8 * blocks * -(-(size + 24) // (8 * blocks)) - 24
