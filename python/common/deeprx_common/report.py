# SPDX-License-Identifier: GPL-3.0-or-later
"""The report, "deeprx.report/1": what the demo, the loopback, the benchmark and the probe write.

A report is a dict that JSON can hold: schema, host, versions and a list of points. A point is one
receiver at one operating point; point() makes it, validate() says what is wrong with one.
"""

import json
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .stats import error_rate, paired_difference

SCHEMA = "deeprx.report/1"



def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def _is_count(value) -> bool:
    return type(value) is int and 0 <= value < 2**63


# What a value must be, in words, and what says so. None: null is allowed, too.
TEXT = "a text", lambda v: isinstance(v, str)
NUMBER = "a finite number", _is_number
COUNT = "a whole number of 0 or more", _is_count
_WHOLE = "a whole number", lambda v: type(v) is int and abs(v) < 2**64
_FLAG = "true or false", lambda v: isinstance(v, bool)
_DICT = "a dictionary", lambda v: isinstance(v, Mapping)
_LIST = "a list", lambda v: isinstance(v, list)
_SYMBOLS = "a list of symbols", lambda v: isinstance(v, list) and all(map(_is_count, v))
_INTERVAL = (
    "two numbers, the lower first",
    lambda v: isinstance(v, list) and len(v) == 2 and all(map(_is_number, v)) and v[0] <= v[1],
)
_COUNTS = (
    "counts by name",
    lambda v: isinstance(v, Mapping) and all(map(_is_count, v.values())),
)


def _or_null(kind):
    return f"{kind[0]} or null", lambda v: v is None or kind[1](v)


_POINT = {
    "receiver": TEXT,
    "model_sha256": _or_null(TEXT),
    "channel": _or_null(TEXT),
    "delay_spread_s": _or_null(NUMBER),
    "doppler_hz": _or_null(NUMBER),
    "domain": TEXT,
    "modulation": TEXT,
    "n_prb": COUNT,
    "n_rx": _or_null(COUNT),
    "dmrs": _SYMBOLS,
    "sync": _or_null(_FLAG),
    "sinr_db": _or_null(NUMBER),
    "snr_db": _or_null(NUMBER),
    "sir_db": _or_null(NUMBER),
    "seed": _or_null(_WHOLE),
    "slots": COUNT,
    "clusters": COUNT,
    "missed_slots": COUNT,
    "bits": COUNT,
    "bit_errors": COUNT,
    "ber": _or_null(NUMBER),
    "ber_ci95": _or_null(_INTERVAL),
    "inference_s_per_slot": _DICT,
    "cpu_s_per_slot": _or_null(NUMBER),
    "flop_per_slot": _or_null(NUMBER),
    "energy_per_slot_j": _DICT,
}
_OPTIONAL = {
    "engine": TEXT, "queue_slots": COUNT, "slots_by_model": _COUNTS, "dropped_slots": _COUNTS,
}  # fmt: skip
_INFERENCE = dict.fromkeys(("mean", "p50", "p99"), _or_null(NUMBER))
_ENERGY = {
    **dict.fromkeys(("measured", "attributed", "net", "bound", "modelled"), _or_null(NUMBER)),
    "source": TEXT,
    "model": _or_null(TEXT),
}
_ENERGY_OPTIONAL = dict.fromkeys(("scope", "invalid"), _or_null(TEXT))


def sinr_db(snr_db: float | None, sir_db: float | None) -> float | None:
    """1/SINR = 1/SNR + 1/SIR, in dB; without an interferer (sir_db None) the SNR itself."""
    if snr_db is None or sir_db is None:
        return snr_db
    return -10 * float(np.log10(10 ** (-snr_db / 10) + 10 ** (-sir_db / 10)))


def summarise_s(seconds: Sequence[float]) -> dict:
    """Mean, median and 99th percentile of times per slot, in seconds; null where there are none."""
    if len(seconds) == 0:
        return {"mean": None, "p50": None, "p99": None}
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"mean": float(np.mean(seconds)), "p50": float(p50), "p99": float(p99)}


def point(
    *,
    cluster_errors: Sequence[int],
    cluster_bits: Sequence[int],
    inference_s: Sequence[float],
    snr_db: float | None = None,
    sir_db: float | None = None,
    **fields,
) -> dict:
    """One point of a report.

    cluster_errors, cluster_bits: per cluster (an independent channel). inference_s: seconds, one
    per slot. fields: the schema's other keys as they are; what a live radio cannot know (channel,
    delay_spread_s, doppler_hz, seed, ...) may be left out and is null.

    Raises ValueError where a key is missing or of the wrong type.
    """
    made = {key: None for key, (_, is_kind) in _POINT.items() if is_kind(None)}
    made |= {
        "snr_db": snr_db,
        "sir_db": sir_db,
        "sinr_db": sinr_db(snr_db, sir_db),
        "clusters": len(cluster_bits),
        "bits": int(sum(cluster_bits)),
        "bit_errors": int(sum(cluster_errors)),
        "inference_s_per_slot": summarise_s(inference_s),
    } | fields
    if len(cluster_bits):
        rate = error_rate(cluster_errors, cluster_bits)
        made |= {"ber": rate.rate, "ber_ci95": list(rate.ci95)}
    made = {key: made[key] for key in (*_POINT, *made) if key in made}
    check(made, _POINT, "point")
    return made


def comparison(
    a: Mapping, b: Mapping, errors_a: Sequence[int], errors_b: Sequence[int], bits: Sequence[int]
) -> dict:
    """BER of point a minus BER of point b over the clusters they share, with its 95 % interval."""
    found = paired_difference(errors_a, errors_b, bits)
    return {
        "a": a["receiver"],
        "b": b["receiver"],
        "channel": a["channel"],
        "sinr_db": a["sinr_db"],
        "ber_difference": found.difference,
        "ci95": list(found.ci95),
        "clusters": found.clusters,
    }


def host() -> dict:
    """CPU, cores, memory and operating system of this machine."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": platform.freedesktop_os_release().get("PRETTY_NAME", platform.platform()),
        "kernel": platform.release(),
    }


def new(**versions: str) -> dict:
    """A report without points. versions: what made it (gnuradio=..., torch=...)."""
    return {
        "schema": SCHEMA,
        "host": host(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__} | versions,
        "points": [],
    }


def check(found, kinds: Mapping, where: str, optional: Mapping = {}) -> None:
    """Raise ValueError with one line unless found is a mapping with a value of its kind at each key
    of kinds, and at those of optional that it has. A kind is what it is in words, and a function
    that says whether a value is one.
    """
    if not isinstance(found, Mapping):
        raise ValueError(f"{where} must be a dictionary, got {found!r:.80}")
    for key, (words, is_kind) in (*kinds.items(), *optional.items()):
        if key in found and not is_kind(found[key]):
            raise ValueError(f"{where}: {key!r} must be {words}, got {found[key]!r:.80}")
        if key in kinds and key not in found:
            raise ValueError(f"{where} lacks {key!r}")


def validate(report: Mapping) -> None:
    """Raise ValueError with one line where a report departs from its schema."""
    if not isinstance(report, Mapping) or report.get("schema") != SCHEMA:
        found = report.get("schema") if isinstance(report, Mapping) else type(report).__name__
        raise ValueError(f"expected a report of schema {SCHEMA!r}, got {found!r}")
    check(report, {"host": _DICT, "versions": _DICT, "points": _LIST}, "report")
    for k, found in enumerate(report["points"]):
        where = f"points[{k}]"
        check(found, _POINT, where, _OPTIONAL)
        check(found["inference_s_per_slot"], _INFERENCE, f"{where}.inference_s_per_slot")
        check(found["energy_per_slot_j"], _ENERGY, f"{where}.energy_per_slot_j", _ENERGY_OPTIONAL)
        if found["bit_errors"] > found["bits"]:
            raise ValueError(f"{where}: {found['bit_errors']} errors in {found['bits']} bits")
        if {found["ber"] is None, found["ber_ci95"] is None} != {found["bits"] == 0}:
            raise ValueError(f"{where}: 'ber', 'ber_ci95' must be null exactly without bits")


def write(report: Mapping, path: str | os.PathLike) -> None:
    """Validate a report and put it at path, whole or not at all (temporary name, then rename)."""
    validate(report)
    text = json.dumps(report, indent=1, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        Path(temporary).write_text(text)


def read(path: str | os.PathLike) -> dict:
    """Read and validate a report. Raises ValueError with one line that names the file."""
    try:
        report = json.loads(Path(path).read_text())
        validate(report)
    except OSError as error:
        raise ValueError(f"cannot read report {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a report: {error}") from error
    return report


def writable_folder(path: str | os.PathLike) -> None:
    """Make a folder for results, before the work that they take.

    Raises OSError, which names the folder, where nothing can be written there.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


class replacing:
    """A temporary name beside path, renamed to path when the body succeeds, removed when not."""

    def __init__(self, path: str | os.PathLike):
        self._path = Path(path)

    def __enter__(self) -> str:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, self._temporary = tempfile.mkstemp(
            dir=self._path.parent, prefix=".", suffix=self._path.suffix
        )
        os.close(handle)
        return self._temporary

    def __exit__(self, kind, value, trace):
        if kind is None:
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(self._temporary, 0o666 & ~umask)  # mkstemp's 0600 is for secrets
            os.replace(self._temporary, self._path)
        else:
            os.unlink(self._temporary)


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
        parts += ["synchronised"] if p["sync"] else []
        groups.setdefault(", ".join(parts), []).append(p)
    return groups


def energy_value(found: Mapping) -> tuple[float | None, str]:
    """The strongest value of an energy_per_slot_j, and its kind: measured, attributed, modelled."""
    for kind in ("measured", "attributed", "modelled"):
        if found[kind] is not None:
            return found[kind], kind
    return None, "none"


def _energy_kind(found: Mapping) -> str:
    """As energy_value(), with the price of what is modelled."""
    kind = energy_value(found)[1]
    return f"modelled, {found['model']}" if kind == "modelled" else kind


def energy_sources(points: Sequence[Mapping]) -> list[str]:
    """What counted the points' energy, how far it may be off at most, and the model's name.

    One line each; points of the same source and model share one.
    """
    bounds: dict[tuple[str, str], float] = {}
    for found in (p["energy_per_slot_j"] for p in points):
        source, model = found["source"], found["model"] or "none"
        if found.get("scope"):
            source += f" ({found['scope']})"
        if found.get("invalid"):
            source += f", not valid: {found['invalid']}"
        value, kind = energy_value(found)
        off = found["bound"] / value if kind in ("measured", "attributed") and value else 0.0
        bounds[source, model] = max(off, bounds.get((source, model), 0.0))
    return [
        source
        + (f", ±{100 * off:.2g} % by ticks" if off else "")
        + f"; modelled: {model}"
        for (source, model), off in bounds.items()
    ]


def _milli(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1e3:#.3g}" if value < 0.1 else f"{value * 1e3:.0f}"


def tables(points: Sequence[Mapping]) -> list:
    """One rich.table.Table for each channel, rows by SINR and receiver."""
    from rich import box
    from rich.table import Table

    made = []
    for title, group in _groups(points).items():
        kinds = sorted({_energy_kind(p["energy_per_slot_j"]) for p in group})
        table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE)
        table.pad_edge, table.padding = False, 0
        table.caption = f"energy: {'; '.join(kinds)}; intervals over clusters (95 %)"
        table.add_column("SINR\ndB", justify="right")
        table.add_column("\nreceiver", no_wrap=True)
        for heading in (
            "\nBER", "\n95 % interval", "bit\nerrors", "\nbits", "\nslots", "\nmissed",
            "\nclusters", "infer. ms\np50", "\np99", "CPU\nms", "mJ a\nslot",
        ):  # fmt: skip
            table.add_column(heading, justify="right", no_wrap=True)
        rows = sorted(group, key=lambda p: -np.inf if p["sinr_db"] is None else p["sinr_db"])
        last = None
        for p in rows:
            if last is not None and p["sinr_db"] != last:
                table.add_section()
            last = p["sinr_db"]
            times = p["inference_s_per_slot"]
            table.add_row(
                "-" if p["sinr_db"] is None else f"{p['sinr_db']:.1f}",
                p["receiver"],
                "-" if p["ber"] is None else f"{p['ber']:.3e}",
                "-" if p["ber"] is None else "{:.2e} {:.2e}".format(*p["ber_ci95"]),
                str(p["bit_errors"]),
                str(p["bits"]),
                str(p["slots"]),
                str(p["missed_slots"]),
                str(p["clusters"]),
                _milli(times["p50"]),
                _milli(times["p99"]),
                _milli(p["cpu_s_per_slot"]),
                _milli(energy_value(p["energy_per_slot_j"])[0]),
            )
        made.append(table)
    return made


def curve_style(k: int) -> dict:
    """Colour and marker of the k-th curve; those after the tenth in lighter colours."""
    from matplotlib import colormaps

    colour = colormaps["tab20"](2 * (k % 10) + (k // 10) % 2)
    return {"color": colour, "marker": "osDv^<>pP*"[k % 10]}


def plot(points: Sequence[Mapping], path: str | os.PathLike) -> None:
    """BER over SINR with 95 % intervals as a picture, one panel a channel, one line a receiver.

    A point without errors is an arrow from its upper bound down. Needs matplotlib.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    known = [p for p in points if p["ber"] is not None and p["sinr_db"] is not None]
    groups = _groups(known)
    figure, axes = pyplot.subplots(
        1,
        max(1, len(groups)),
        figsize=(1 + 5.5 * max(1, len(groups)), 5),
        sharey=True,
        squeeze=False,
    )
    names = list(dict.fromkeys(p["receiver"] for p in known))
    for axis, (title, group) in zip(axes[0], groups.items(), strict=False):
        for k, name in enumerate(names):
            line = sorted((p for p in group if p["receiver"] == name), key=lambda p: p["sinr_db"])
            style = curve_style(k) | {"markersize": 5}
            some = [p for p in line if p["bit_errors"]]
            if some:
                ber = np.array([p["ber"] for p in some])
                low, high = np.array([p["ber_ci95"] for p in some]).T
                axis.errorbar(
                    [p["sinr_db"] for p in some], ber, [ber - low, high - ber],
                    capsize=3, label=name, **style,
                )  # fmt: skip
            for p in line:
                if not p["bit_errors"]:
                    high = p["ber_ci95"][1]
                    bound = style | {"marker": ""}
                    axis.errorbar([p["sinr_db"]], [high], [high / 2], uplims=[True], **bound)
        axis.set(yscale="log", xlabel="SINR per data RE and antenna, dB", title=title)
        axis.title.set_fontsize("small")
        axis.grid(True, which="both", alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(title="95 % intervals over clusters")
    axes[0, 0].set_ylabel("uncoded BER")
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    pyplot.close(figure)
