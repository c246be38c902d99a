# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs and dumps as an open gNB writes them, of slots that tests know."""

import numpy as np

TIME = "2026-03-01T12:00:07.307140"
HEAD = TIME + " [{layer: <8}] [D] [{where: >8}] "


def rx_symbol(where: str, offset: int, size: int, sector: int = 0) -> str:
    return HEAD.format(layer="PHY", where=where) + (
        f"RX_SYMBOL: sector={sector} offset={offset} size={size}\n"
    )


def other_layers(where: str) -> str:
    """Lines that are no grid and no PUSCH, some of several lines."""
    return (
        HEAD.format(layer="MAC", where=where)
        + "UL rnti=0x4601 subPDUs: [SBSR: lcg=0 bs=0]\n"
        + HEAD.format(layer="RLC", where=where)
        + "RX PDU. pdu_len=4\n    0000: 80 00 00 01\n  rnti=0x9999\n"
        + HEAD.format(layer="PHY", where=where)
        + "PUSCH processing queue is full. Dropping PUSCH rnti=0x4601.\n"
        + HEAD.format(layer="SCHED", where=where)
        + "Processed slot events pci=1:\n- CRC: ue=0 rnti=0x4601 crc=OK\n"
    )


def fields(config, process=0, rv=0, new_data=True) -> dict:
    """Parameters of a PUSCH, in the order of a gNB's indented lines."""
    user = config.users[0]
    first = config.first_prb
    return {
        "rnti": f"0x{user.rnti:04x}",
        "h_id": process,
        "bwp": f"[0, {config.carrier_prb})",
        "prb": f"[{first}, {first + config.n_prb})",
        "symb": f"[0, {config.n_symbols})",
        "oack": 0,
        "ocsi1": 0,
        "part2": "entries=[]",
        "alpha": 0,
        "betas": "[0, 0, 0]",
        "mod": user.modulation,
        "tcr": user.code_rate,
        "rv": rv,
        "bg": _base_graph(config),
        "new_data": str(new_data).lower(),
        "n_id": user.n_id,
        "dmrs_mask": "{" + ", ".join(map(str, config.dmrs)) + "}",
        "tbs_lbrm": f"{config.limited_buffer // 8}bytes",
        "slot": f"0.{config.slot_number}",
        "cp": "normal",
        "nof_layers": 1,
        "ports": "0 1",
        "dc_position": 6 * config.carrier_prb,
        "n_scr_id": config.dmrs_n_id,
        "n_scid": str(bool(config.n_scid)).lower(),
        "n_cdm_g_wd": config.cdm_groups,
        "dmrs_type": 1,
    }


def _base_graph(config) -> int:
    size, rate = config.transport_block_size(), config.users[0].code_rate
    return 2 if size <= 292 or (size <= 3824 and rate <= 0.67) or rate <= 0.25 else 1


def pusch(where: str, parameters: dict, block: bytes, crc_ok: bool = True, **results) -> str:
    """A PUSCH's lines; results: indented ones behind its parameters."""
    p = parameters
    summary = " ".join(f"{key}={p[key]}" for key in ("rnti", "h_id", "prb", "symb", "mod", "rv"))
    crc = "OK" if crc_ok else "KO"
    text = HEAD.format(layer="PHY", where=where) + (
        f"PUSCH: {summary} tbs={len(block)} crc={crc} iter=2.0 sinr=21.4dB t=241.2us uci_t=0.0us "
        "ret_t=6.9us\n"
    )
    text += "".join(f"  {key}={value}\n" for key, value in (p | results).items())
    if crc_ok:
        for at in range(0, len(block), 16):
            text += f"    {at:04x}: {block[at : at + 16].hex(' ')}\n"
    return text


def dumped(config, grid: np.ndarray, n_rx: int = 2) -> np.ndarray:
    """The carrier's grid [n_rx, 14, 12 carrier_prb], complex64, with a slot's [n_symbols, n_sc]."""
    carrier = np.zeros((n_rx, 14, 12 * config.carrier_prb), "<c8")
    first = 12 * config.first_prb
    carrier[:, : config.n_symbols, first : first + config.n_sc] = grid[: config.n_symbols]
    return carrier
