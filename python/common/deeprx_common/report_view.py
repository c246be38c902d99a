# SPDX-License-Identifier: GPL-3.0-or-later
"""A report's points as tables and as pictures."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from .figure import curve_style, figure, rate_curve
from .report import energy_value, user_of
from .stats import FEWEST_CLUSTERS


def _groups(points: Sequence[Mapping]) -> dict[str, list[Mapping]]:
    """Points by what they have in common: everything but receiver and SINR."""
    groups: dict[str, list[Mapping]] = {}
    for p in points:
        parts = [p["channel"] or "unknown channel"]
        if p["delay_spread_s"] is not None:
            parts.append(f"{p['delay_spread_s'] * 1e9:.0f} ns")
        if p["doppler_hz"] is not None:
            parts.append(f"{p['doppler_hz']:g} Hz")
        parts += [p["modulation"], f"{p['n_prb']} PRB", f"DMRS {','.join(map(str, p['dmrs']))}"]
        if p["n_rx"] is not None:
            parts.append(f"{p['n_rx']} RX")
        if p["sir_db"] is not None:
            parts.append(f"SIR {p['sir_db']:g} dB")
        if p.get("mcs") is not None:
            parts.append(f"MCS {p['mcs']}")
        if p.get("harq"):
            parts.append(f"{p['harq']['transmissions']} transmissions")
        parts += ["synchronised"] if p["sync"] else []
        parts += filter(None, [user_of(p)])
        groups.setdefault(", ".join(parts), []).append(p)
    return groups


def energy_sources(points: Sequence[Mapping]) -> list[str]:
    """What counted the points' energy, how far it may be off at most, and the model's name.

    One line each; points of the same source and model share one.
    """
    bounds: dict[tuple[str, str], float] = {}
    for joules in (p["energy_per_slot_j"] for p in points):
        source, model = joules["source"], joules["model"] or "none"
        if joules.get("scope"):
            source += f" ({joules['scope']})"
        if joules.get("invalid"):
            source += f", not valid: {joules['invalid']}"
        value, kind = energy_value(joules)
        off = joules["bound"] / value if kind in ("measured", "attributed") and value else 0.0
        bounds[source, model] = max(off, bounds.get((source, model), 0.0))
    return [
        source + (f", ±{100 * off:.2g} % by ticks" if off else "") + f"; modelled: {model}"
        for (source, model), off in bounds.items()
    ]


def _with_blocks(points: Sequence[Mapping]) -> bool:
    return any(p.get("blocks") for p in points)


def number(value: float | None, form: str, scale: float = 1) -> str:
    """value times scale, as str.format() has it; a dash where it is not known."""
    return "–" if value is None else form.format(value * scale)


def _milli(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1e3:#.3g}" if value < 0.1 else f"{value * 1e3:.0f}"


def _unsure(p: Mapping) -> bool:
    """Whether there are errors, but hardly known how often they come."""
    return p["bit_errors"] > 0 and p["ber_ci95"][1] >= 10 * p["ber_ci95"][0]


def _interval(p: Mapping) -> str:
    if p["ber"] is None:
        return "-"
    return "{:.2e} {:.2e}".format(*p["ber_ci95"]) + ("?" if _unsure(p) else "")


_HEADINGS = (
    "\nBER", "\n95 % interval", "bit\nerrors", "\nbits", "\nslots", "\nmissed",
    "\nclusters", "infer. ms\np50", "\np99", "CPU\nms", "mJ a\nslot",
)  # fmt: skip
_BLOCK_HEADINGS = (
    "\nBLER", "\n95 % interval", "block\nerrors", "\nblocks", "goodput\nMbit/s", "iter-\nations",
    "decoder\nCPU ms", "nJ a bit\ndelivered",
)  # fmt: skip
_HARQ_HEADINGS = ("residual\nBLER", "retrans-\nmissions")


def tables(points: Sequence[Mapping]) -> list:
    """One rich.table.Table for each channel, and another one where it had transport blocks, rows by
    SINR and receiver.
    """
    shown = []
    for title, group in _groups(points).items():
        kinds = sorted({energy_value(p["energy_per_slot_j"])[1] for p in group})
        caption = f"energy: {'; '.join(kinds)}; intervals over clusters (95 %)"
        if any(map(_unsure, group)):
            caption += "\n?: the interval spans a factor of 10 or more: too few clusters"
        shown.append(_table(title, caption, _HEADINGS, group, _cells))
        if blocks := [p for p in group if p.get("blocks")]:
            caption = "block errors: of first transmissions; goodput: of air time"
            headings, cells = _BLOCK_HEADINGS, _block_cells
            if any(p["harq"] for p in blocks):
                headings, cells = headings + _HARQ_HEADINGS, _harq_cells
                caption += "; residual: of blocks whose last transmission failed"
            shown.append(_table("transport blocks", caption, headings, blocks, cells))
    return shown


def _table(title: str, caption: str, headings: Sequence[str], group: Sequence[Mapping], cells):
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE)
    table.pad_edge, table.padding = False, 0
    table.caption = caption
    table.add_column("SINR\ndB", justify="right")
    table.add_column("\nreceiver", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    last = None
    for p in sorted(group, key=lambda p: -np.inf if p["sinr_db"] is None else p["sinr_db"]):
        if last is not None and p["sinr_db"] != last:
            table.add_section()
        last = p["sinr_db"]
        table.add_row("-" if last is None else f"{last:.1f}", p["receiver"], *cells(p))
    return table


def _cells(p: Mapping) -> list[str]:
    times = p["inference_s_per_slot"]
    return [
        "-" if p["ber"] is None else f"{p['ber']:.3e}",
        _interval(p),
        str(p["bit_errors"]),
        str(p["bits"]),
        str(p["slots"]),
        str(p["missed_slots"]),
        str(p["clusters"]),
        _milli(times["p50"]),
        _milli(times["p99"]),
        _milli(p["cpu_s_per_slot"]),
        _milli(energy_value(p["energy_per_slot_j"])[0]),
    ]


def _block_cells(p: Mapping) -> list[str]:
    decoder, joules = p["decoder"] or {}, p["energy_per_delivered_bit_j"]
    iterations, value = decoder.get("iterations"), energy_value(joules)[0] if joules else None
    return [
        f"{p['bler']:.2e}",
        "{:.2e} {:.2e}".format(*p["bler_ci95"]),
        str(p["block_errors"]),
        str(p["blocks"]),
        "-" if p["goodput_bit_per_s"] is None else f"{p['goodput_bit_per_s'] * 1e-6:.2f}",
        "-" if iterations is None else f"{iterations:.1f}",
        _milli(decoder.get("cpu_s")),
        "-" if value is None else _milli(value * 1e6),
    ]


def _harq_cells(p: Mapping) -> list[str]:
    harq = p["harq"]
    if not harq:
        return [*_block_cells(p), "-", "-"]
    ended = harq["failed"] + harq["delivered"]
    residual = f"{harq['failed'] / ended:.2e}" if ended else "-"
    return [*_block_cells(p), residual, str(harq["retransmissions"])]


def plot(points: Sequence[Mapping], path: str | os.PathLike) -> None:
    """BER over SINR with 95 % intervals over clusters as a picture, one panel a channel, one line a
    receiver; where there were transport blocks, below it their error rate and the goodput. A point
    without errors is an arrow from its upper bound down.
    """
    known = [p for p in points if p["ber"] is not None and p["sinr_db"] is not None]
    groups = _groups(known)
    names = list(dict.fromkeys(p["receiver"] for p in known))
    rates = [("ber", "uncoded BER")]
    if _with_blocks(known):
        rates.append(("bler", "block error rate"))
    quantities = rates + [("goodput_bit_per_s", "goodput, Mbit/s")] * (len(rates) - 1)
    panels = [(key, label, *group) for key, label in quantities for group in groups.items()]
    with figure(
        path,
        max(1, len(panels)),
        columns=4 if len(rates) == 1 else max(1, len(groups)),
        size=(5.5, 4.5) if len(rates) == 1 else (5.5, 3.2),
        one_scale=len(rates) == 1,
        title="95 % intervals over clusters",
    ) as axes:
        for axis, (key, label, title, group) in zip(axes, panels, strict=False):
            for k, name in enumerate(names):
                line = [p for p in group if p["receiver"] == name and p.get(key) is not None]
                if line:
                    _curve(axis, line, key, name, **curve_style(k))
            axis.set(xlabel="SINR per data RE and antenna, dB", title=title, ylabel=label)


def _curve(axis, line: Sequence[Mapping], key: str, name: str, **style) -> None:
    if f"{key}_ci95" in line[0]:
        columns = ([p[of] for p in line] for of in ("sinr_db", key, f"{key}_ci95"))
        rate_curve(axis, *columns, name, **style)
        return
    ordered = sorted(line, key=lambda p: p["sinr_db"])
    mega = [p[key] * 1e-6 for p in ordered]
    axis.plot([p["sinr_db"] for p in ordered], mega, label=name, **style)


def difference(
    value: float, ci95: Sequence[float] | None, clusters: int, form: str = "+.2e", unit: str = ""
) -> str:
    """Of two receivers, with its 95 % interval over clusters, see report.COMPARISON; in words where
    the interval says nothing.
    """
    if ci95 is None:
        return f"equal in all {clusters} clusters"
    if clusters < FEWEST_CLUSTERS:
        return f"too few clusters to tell, {value:{form}}{unit}"
    low, high = ci95
    return f"{value:{form}} [{low:{form}}, {high:{form}}]{unit}"


def strongest_kind(points: Sequence[Mapping]) -> str:
    """The strongest kind of joules there is: others are never shown beside it."""
    kinds = {energy_value(p["energy_per_slot_j"])[1] for p in points}
    return next((k for k in ("measured", "attributed", "modelled") if k in kinds), "none")


def frontier(points: Sequence[Mapping], path: str | os.PathLike) -> bool:
    """Plot BER over joules per slot with 95 % intervals, and the line below which nobody is.

    False, and no file, where no receiver has both.
    """
    kind = strongest_kind(points)
    known = [p for p in points if p["ber"] and p["energy_per_slot_j"].get(kind)]
    if not known:
        return False
    known.sort(key=lambda p: p["energy_per_slot_j"][kind])
    joules = np.array([p["energy_per_slot_j"][kind] for p in known]) * 1e3
    ber = np.array([p["ber"] for p in known])
    p = known[0]
    where = [p["channel"], f"{p['sinr_db']:g} dB", p["modulation"], f"{p['n_prb']} PRB"]
    source = "; ".join(energy_sources([p]))
    with figure(path, size=(6.5, 4.5), title=f"energy: {source}") as (axis,):
        best = np.minimum.accumulate(ber)
        axis.step(joules, best, where="post", color="0.6", ls="--", zorder=0, label="frontier")
        for k, p in enumerate(known):
            ends = p["energy_per_slot_j"].get("ci95")
            across = ends and [[joules[k] - ends[0] * 1e3], [ends[1] * 1e3 - joules[k]]]
            low, high = p["ber_ci95"]
            up = [[ber[k] - low], [high - ber[k]]]
            style = curve_style(k) | {"capsize": 3, "label": p["receiver"]}
            axis.errorbar(joules[k], ber[k], up, across, **style)
        axis.set(
            xscale="log",
            yscale="log",
            xlabel=f"energy of one slot, mJ ({kind}), 95 % intervals",
            ylabel="uncoded BER",
            title=", ".join(part for part in where if part),
        )
        for which in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
            which(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else "")
    return True
