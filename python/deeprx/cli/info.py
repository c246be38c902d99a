# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx info: what a model file says of itself, read without running it."""

import json
import shlex

from rich.table import Table

from deeprx_common.printable import printable
from deeprx_common.terminal import make_console
from deeprx_common.trusted import is_trusted

from ..deeprx_python import engines, instructions
from ..models.file import ModelFile, read_model_file


def configure(parser) -> None:
    parser.add_argument(
        "model", nargs="+", metavar="MODEL.pt", help="model file, or name of a shipped one"
    )


def run(arguments) -> int:
    console = make_console()
    for path in arguments.model:
        model = read_model_file(path)
        table = Table(title=printable(path), title_justify="left", show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for key, value in model.metadata.items():
            if key not in _WORDS:
                table.add_row(key, _cell(key, value))
            elif value:
                title, words = _WORDS[key]
                table.add_row(title, words(value))
        if model.archive:
            table.add_row("on this machine's CPU", _here(model.metadata))
            table.add_row("file size", f"{len(model.archive.data):,} bytes")
            table.add_row("sha256", model.sha256)
            table.add_row("trusted", _trusted(model))
        console.print(table)
    return 0


def _trusted(model: ModelFile) -> str:
    if is_trusted(model.sha256):
        return "yes, it comes with gr-deeprx: its program runs in the receiver's process"
    return (
        "no: its program runs in a jail, and weights that run as data need none; --trust "
        f"{shlex.quote(printable(model.path))} of a command lets it run without, if you know who "
        "made it"
    )


def _here(metadata: dict) -> str:
    precision = metadata.get("precision", "float32")
    carried = metadata.get("engines", ["torchscript"])
    known = [e for e in engines() if e.partition(" ")[0].lower() in carried]
    if not known:
        return f"nothing: no engine for {', '.join(carried) or 'an empty file'}"
    engine = known[-1]
    by = instructions(precision) or f"slow: no {precision} instructions"
    return f"{engine}, {precision}, {by}"


def _cell(key: str, value) -> str:
    if key in ("dmrs", "scs_khz") and value is None:
        return "any"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, str):
        return value
    if key == "ber":
        return "\n".join(_measured(m) for m in value)
    if isinstance(value, dict):
        return "\n".join(
            f"{k}: {v if isinstance(v, str) else json.dumps(v)}" for k, v in value.items()
        )
    return json.dumps(value)


def _trained(ranges: dict) -> str:
    def span(key, unit, scale=1.0):
        low, high = ranges[key]
        return f"{low * scale:g} to {high * scale:g} {unit}"

    words = {
        "channels": lambda names: f"channels {', '.join(names)}",
        "delay_spread_s": lambda _: f"delay spread {span('delay_spread_s', 'ns', 1e9)}",
        "doppler_hz": lambda _: f"Doppler {span('doppler_hz', 'Hz')}",
        "snr_db": lambda _: f"SNR {span('snr_db', 'dB')}",
        "sir_db": lambda sir: f"SIR {span('sir_db', 'dB')}" if sir else "no interferer",
        "modulations": ", ".join,
        "dmrs_symbols": lambda counts: f"{' or '.join(map(str, counts))} DMRS symbols",
        "n_rx": lambda counts: f"{' or '.join(map(str, counts))} antennas",
    }
    return "\n".join(say(ranges[key]) for key, say in words.items() if key in ranges)


def _limits(conditions: list[dict]) -> str:
    return "\n".join(
        f"{c['condition']}: {c['errors_over_classical']:.2f} times the errors of {c['classical']} "
        f"[{c['ci95'][0]:.2f}, {c['ci95'][1]:.2f}]"
        for c in conditions
    )


_WORDS = {
    "trained": ("trained for", _trained),
    "limits": ("errors over classical", _limits),
}


def _measured(point: dict) -> str:
    low, high = point["ber_ci95"]
    return (
        f"{point['sinr_db']:>5g} dB  {point['ber']:.3g} [{low:.3g}, {high:.3g}]  "
        f"{point['modulation']}, {point['channel']}, {point['domain']} domain, "
        f"{point['slots']} slots"
    )
