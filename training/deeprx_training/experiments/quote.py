# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that documents quote from results/*.json, between marks:

    <!-- results: ber table=16qam sinr=0,6,12 -->
    ...
    <!-- end results -->

ber table=NAME [sinr=DB,..] [receivers=NAME,..] [crossings=no]; limits [receivers=NAME,..]; time;
cost; models; receivers; study (study_page). Pictures are drawn from the same files: PICTURES.
evaluation of=NAME [sections=N]: results/NAME.md as `./dev train evaluate` wrote it, or its first
sections.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from deeprx_common import schema
from deeprx_common.documents import read_document
from deeprx_common.figure import curve_style, figure, rate_curve
from deeprx_common.files import replacing
from deeprx_common.report import energy_value
from deeprx_common.report_view import energy_sources, frontier
from deeprx_common.shipped import shipped_models

from ..evaluation.cells import crossing_cell, markdown_table, rate_cell
from ..evaluation.evaluate import SURE
from ..export.describe import read
from ..files import TrainingError
from . import study_page
from .results import CLASSICAL, ROOT

_WRITTEN = {"command": schema.TEXT, "date": schema.TEXT}
_HEADING = _WRITTEN | {
    "host": schema.table({"cpu": schema.TEXT, "instructions": schema.TEXT}),
}
# What becomes of a file of another shape, or of a mark that asks for what it has not
_UNKNOWN = (
    ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError,
)  # fmt: skip
_MARK = re.compile(r"(<!-- results: ([^>]*?) -->\n).*?(<!-- end results -->)", re.DOTALL)


def documents() -> list[Path]:
    """All that may hold marks."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text: str, results: Path = ROOT / "results", where: str = "") -> str:
    """A document's text with its tables as the results have them now; what was not measured yet
    stays as it is. TrainingError where a mark asks for what is not there.
    """

    def fill(mark: re.Match) -> str:
        kind, *options = mark[2].split()
        try:
            if kind == "study":
                wanted = dict(option.split("=") for option in options)
                table = study_page.part(results / "case_study", **wanted)
                return f"{mark[1]}{table}\n{mark[3]}"
            if kind == "evaluation":
                table = _evaluation(results, **dict(option.split("=") for option in options))
                return f"{mark[1]}{table}\n{mark[3]}" if table else mark[0]
            parts, make = TABLES[kind]
            files = [results / f"{part}.json" for part in parts]
            if not all(file.exists() for file in files):
                return mark[0]
            measured = [_read(file) for file in files]
            table = make(*measured, **dict(option.split("=") for option in options))
        except _UNKNOWN as error:
            raise TrainingError(f"{where}: cannot fill {mark[2]!r}: {error}") from None
        about = "".join(f"\n\n{_about(results)}" for results in measured)
        return f"{mark[1]}{table}{about}\n{mark[3]}"

    return _MARK.sub(fill, text)


def write_all() -> list[Path]:
    """Fill every document and draw the pictures; those that changed."""
    changed = []
    for path in documents():
        text = path.read_text()
        if (new := filled(text, where=str(path))) != text:
            with replacing(path) as temporary:
                Path(temporary).write_text(new)
            changed.append(path)
    return changed + draw_all(ROOT / "docs/images")


def draw_all(images: Path) -> list[Path]:
    """The pictures of what was measured, into a folder."""
    drawn = []
    for name, (part, draw) in PICTURES.items():
        if (file := ROOT / "results" / f"{part}.json").exists():
            try:
                results = _read(file, _WRITTEN)
                if "sets" in results and study_page.SET not in results["sets"]:  # energy alone
                    continue
                draw(results, path := images / name)
            except _UNKNOWN as error:
                raise TrainingError(f"{file}: cannot draw {name} from it: {error}") from None
            drawn.append(path)
    return drawn


def _read(file: Path, fields: Mapping[str, schema.Field] = _HEADING) -> dict:
    return read_document(file, fields, "results", "./dev results")


def _about(results: dict) -> str:
    host = results["host"]
    return f"`{results['command']}`, {results['date']}, {host['cpu']} ({host['instructions']})"


def _names(points: list[dict], receivers: str) -> list[str]:
    known = list(dict.fromkeys(p["receiver"] for p in points))
    names = receivers.split(",") if receivers else known
    if unknown := set(names) - set(known):
        raise ValueError(f"no receiver {unknown.pop()!r}; there are {', '.join(known)}")
    return names


def _evaluation(results: Path, of: str, sections: str = "") -> str:
    """Empty where nothing was measured yet."""
    if not (file := results / f"{of}.md").exists():
        return ""
    about, *parts = re.split(r"^(?=## )", file.read_text(), flags=re.MULTILINE)
    text = about + "".join(parts[: int(sections) if sections else None])
    return re.sub(r"^(?=##)", "#", text.strip(), flags=re.MULTILINE)


def _ber(
    results: dict, table: str, sinr: str = "", receivers: str = "", crossings: str = "yes"
) -> str:
    table = results["tables"][table]
    points = {(p["receiver"], p["sinr_db"]): p for p in table["points"]}
    crossed = {(c["receiver"], c["ber"]): (c["sinr_db"], c["ci95"]) for c in table["crossings"]}
    all_sinr = sorted({s for _, s in points})
    targets = sorted({t for _, t in crossed}, reverse=True) if crossings == "yes" else []
    chosen = [float(s) for s in sinr.split(",")] if sinr else all_sinr
    lines = []
    for name in _names(table["points"], receivers):
        cells = [rate_cell(points[name, s]["ber"], points[name, s]["ber_ci95"]) for s in chosen]
        lines.append([name, *cells, *(crossing_cell(*crossed[name, t]) for t in targets)])
    head = [f"SINR at {t:.0e}".replace("e-0", "e-") for t in targets]
    return markdown_table(["receiver", *(f"{s:g} dB" for s in chosen), *head], lines)


def _limits(results: dict, receivers: str = "") -> str:
    lines = []
    for table in results["tables"].values():
        points = {p["receiver"]: p for p in table["points"]}
        names = _names(table["points"], receivers)
        best = points[names[0]]["classical"]
        line = [table["title"], best, f"{points[best]['ber']:.3g}"]
        shown = [n for n in names if not n.startswith("baseline-")]
        for p in (points[name] for name in shown):
            low, high = p["ci95"]
            line.append(f"{p['errors_over_classical']:.2f} [{low:.2f}, {high:.2f}]")
        lines.append(line)
    return markdown_table(["condition", "best classical", "its BER", *shown], lines)


def _time(results: dict) -> str:
    lines = []
    for row in results["time"]["rows"]:
        if row["contender"] == "block" and row["cpu_s"]:
            low, high = (1e3 * s for s in row["cpu_s_quartiles"])
            shown = f"{1e3 * row['cpu_s']:.2f} [{low:.2f}, {high:.2f}]"
            lines.append([row["receiver"], row["precision"], shown, f"{row['real_time']:.2g}"])
    return markdown_table(
        ["receiver", "precision", "CPU ms a slot [quartiles]", "times real time"], lines
    )


def _cost(energy: dict, time: dict) -> str:
    points, rates = energy["energy"]["points"], time["time"]["gemm_flop_per_s"]
    lines = []
    for point in sorted(points, key=lambda p: p["seconds_per_slot"]):
        joules = point["energy_per_slot_j"]
        ms, low, high = (
            1e3 * s for s in (point["seconds_per_slot"], *point["seconds_per_slot_ci95"])
        )
        flop_s = point["flop_per_slot"] / rates[point["precision"]]
        value, kind = energy_value(joules)
        lines.append(
            [
                point["receiver"],
                " ".join(point["engine"].split()[:2]).rstrip(","),
                f"{ms:.3g} [{low:.3g}, {high:.3g}]",
                f"{1e3 * value:.3g} ({kind})",
                rate_cell(point["ber"], point["ber_ci95"]),
                f"{100 * flop_s / point['seconds_per_slot']:.2g} %",
            ]
        )
    head = ["receiver", "engine", "ms a slot", "mJ a slot", "BER", "FLOP alone explain"]
    sources = "; ".join(energy_sources(points))
    return markdown_table(head, lines) + f"\n\nEnergy: {sources}."


def _models() -> str:
    lines = []
    for about in _shipped():
        flop = about["flop_per_slot"]
        gflop = f"{(flop['matmul'] + flop['other']) / 1e9:.3g}"
        size = f"{about['params']:,}".replace(",", " ")
        lines.append([about["name"], size, gflop, about["precision"], _trained(about)])
    head = ["receiver", "parameters", "GFLOP a slot", "precision", "trained on"]
    return markdown_table(head, lines)


def _receivers(ber: dict, time: dict) -> str:
    block = {r["receiver"]: r for r in time["time"]["rows"] if r["contender"] == "block"}
    crossings = [c for c in ber["tables"]["16qam"]["crossings"] if c["ber"] == 1e-2]
    crossed = {c["receiver"]: (c["sinr_db"], c["ci95"]) for c in crossings}
    lines = []
    for about in _shipped():
        name = about["name"]
        cpu = block.get(name, {}).get("cpu_s")
        ms = f"{1e3 * cpu:.2g}" if cpu else "-"
        at = crossing_cell(*crossed[name]) if name in crossed else "-"
        lines.append([name, ms, at, _trained(about)])
    head = ["receiver", "CPU ms a slot", "SINR in dB at BER 1e-2", "trained on"]
    return markdown_table(head, lines)


def _shipped() -> list[dict]:
    """What the files say of themselves, cheapest first."""
    return sorted(map(read, shipped_models()), key=lambda m: m["flop_per_slot"]["matmul"])


def _trained(about: dict) -> str:
    if not about["trained"]:
        return "nothing to train"
    low, high = (round(1e9 * s) for s in about["trained"]["delay_spread_s"])
    return "{} to {} ns, {:g} to {:g} Hz".format(low, high, *about["trained"]["doppler_hz"])


# what is read of results/, and what makes a table of it
TABLES: dict[str, tuple[tuple[str, ...], Callable[..., str]]] = {
    "ber": (("ber",), _ber),
    "limits": (("limits",), _limits),
    "time": (("time",), _time),
    "cost": (("energy", "time"), _cost),
    "models": ((), _models),
    "receivers": (("ber", "time"), _receivers),
}


def _draw_ber(results: dict, path: Path) -> None:
    """BER over SINR, and the errors over those of the best classical receiver."""
    points = results["tables"]["16qam"]["points"]
    names = _names(points, "")
    curves = {name: [p for p in points if p["receiver"] == name] for name in names}
    best = {p["sinr_db"]: p["ber"] for p in curves[CLASSICAL[SURE]]}
    about = "left: 95 % intervals over slots"
    with figure(path, 2, size=(5.5, 4.5), title=about) as (rates, ratios):
        for k, (name, curve) in enumerate(curves.items()):
            sinr, ber, ci95 = ([p[key] for p in curve] for key in ("sinr_db", "ber", "ber_ci95"))
            rate_curve(rates, sinr, ber, ci95, name, **curve_style(k))
            over = [b / best[s] for s, b in zip(sinr, ber, strict=True)]
            ratios.plot(sinr, over, label=name, **curve_style(k))
        of = "TDL-A, TDL-E, CDL-A, CDL-E, 16QAM, 26 PRB, 2 antennas"
        x = "SINR per data RE and antenna, dB"
        rates.set(xlabel=x, ylabel="uncoded BER", title=of)
        ratios.set(xlabel=x, yscale="log", title=f"errors over those of {CLASSICAL[SURE]}")


# what results/ part.json is drawn as, in docs/images
PICTURES: dict[str, tuple[str, Callable]] = {
    "evaluation.png": ("ber", _draw_ber),
    "cost.png": ("energy", lambda results, path: frontier(results["energy"]["points"], path)),
} | {study_page.picture(s): (f"case_study/{s}", study_page.draw) for s in ("cores", "gpu")}
