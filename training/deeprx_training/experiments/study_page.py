# SPDX-License-Identifier: GPL-3.0-or-later
"""The generated parts of the page "The case study, reproduced", out of results/case_study/*.json:

    <!-- results: study of=curves scale=cores -->
    <!-- end results -->

What was not measured yet says so, and which command measures it.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from deeprx_common.figure import curve_style, figure, rate_curve
from deeprx_common.stats import mean_ci95

from ..evaluation.cells import crossing_cell, markdown_table, rate_cell
from .speed import off

EXPERIMENT = "./dev train experiment training/experiments/deeprx.toml --scale"
QUEUE = "--gpus 1 --minutes 9 --cache /dev/shm/slots --out runs/case_study_gpu"
COMMANDS = {
    "minute": f"{EXPERIMENT} minute --out runs/case_study_minute",
    "cores": f"{EXPERIMENT} cores --cache runs/cache --out runs/case_study",
    "gpu": f"{EXPERIMENT} gpu {QUEUE}",
    "gpu-hours": f"{EXPERIMENT} gpu-hours {QUEUE}_hours",
    "speed": "./dev train speed --threads 1 --out results/case_study",
}
STUDENTS = ("eighth", "quarter", "half")
SET, VALIDATION = (f"{name}-frequency-16QAM" for name in ("evaluation", "validation"))
FLOOR_DB = (18.0, 21.0, 24.0, 27.0, 30.0)
RATIO_DB = (27.0, 30.0)


def part(folder: Path, of: str, scale: str = "cores", **options: str) -> str:
    """Markdown. folder: of the stored results. Raises KeyError or TypeError for what is unknown."""
    make, file = PARTS[of], folder / f"{'speed' if of == 'speed' else scale}.json"
    if file.exists():
        results = json.loads(file.read_text())
        if text := make(results, **options):
            return f"{text}\n\n`{results['command']}`, {results['date']}"
    if of in ("missing", "speed"):
        return f"Not yet measured: `{COMMANDS[file.stem]}`."
    where = f"*Not yet measured* at scale `{scale}`"
    return f"{where}: [how to go on](#what-is-missing-and-how-to-go-on)."


def _receivers(results: dict, of: str = SET) -> list[dict]:
    return results["sets"].get(of, {"receivers": []})["receivers"]


def _pairs(results: dict, of: str = SET) -> list[tuple[dict, dict]]:
    """(pair, its student), the student as the set has it."""
    known = {r["name"]: r for r in _receivers(results, of)}
    pairs = results["sets"].get(of, {"pairs": []})["pairs"]
    return [(pair, known[pair["student"]]) for pair in pairs]


def _about(receiver: dict) -> str:
    kind = receiver["kind"]
    if kind not in ("distilled", "scratch"):
        return f"teacher, {receiver['name']}" if kind == "teacher" else receiver["name"]
    if kind == "scratch":
        by_error = ", slots weighted by their errors"
        return f"{receiver['net']}, scratch{by_error * (receiver.get('slot_weight') == 'error')}"
    teacher = Path(receiver["teacher"]).stem
    name = f"{receiver['net']}, taught by {teacher} at T = {receiver['temperature']:g}"
    return name + (f", {receiver['bits_share']:g} on bits" if receiver["bits_share"] else "")


def _usual_teacher(results: dict) -> str | None:
    return next((student["teacher"] for _, student in _pairs(results)), None)


def _usual_weight(results: dict) -> str | None:
    """Of slots, in the loss."""
    return next((w for r in _receivers(results) if (w := r.get("slot_weight"))), None)


def _curves(results: dict, set: str = "evaluation") -> str | None:
    of = f"{set}-frequency-16QAM"
    receivers = _receivers(results, of)
    if not receivers:
        return None
    sinr = results["sets"][of]["sinr_db"]
    shown = [i for i, s in enumerate(sinr) if s % 6 == 0 or s > 20]
    lines = []
    for r in receivers:
        cells = [rate_cell(r["ber"][i], r["ci95"][i]) for i in shown]
        at = next(c for c in r["crossings"] if c["ber"] == 1e-2)
        seeds = str(r["seeds"] or "")
        lines.append(
            [_about(r), seeds, str(r["slots"]), *cells, crossing_cell(at["sinr_db"], at["ci95"])]
        )
    head = ["receiver", "seeds", "slots a point", *(f"{sinr[i]:g} dB" for i in shown)]
    left_out = results["sets"][of]["left_out"]
    note = f"\n\nNot yet counted at these SINRs: {', '.join(left_out)}." if left_out else ""
    return markdown_table([*head, "SINR at 1e-2"], lines) + note


def _seeds(results: dict) -> str | None:
    """Students of a size that was trained with several seeds: BER of each, and over that of the
    same from scratch.
    """
    students = [r for r in _receivers(results) if r["seeds"]]
    sizes = {r["net"] for r in students if r["seeds"] > 1}
    students = [r for r in students if r["net"] in sizes]
    usual = _usual_weight(results)
    scratch = {
        r["net"]: r["by_seed"]
        for r in students
        if r["kind"] == "scratch" and r.get("slot_weight") == usual
    }
    seeds = sorted({seed for r in students for seed in r["by_seed"]}, key=int)
    lines = []
    for at in RATIO_DB if students else ():
        i = results["sets"][SET]["sinr_db"].index(at)
        for r in students:
            cells, ratios = [], []
            for seed in seeds:
                ber, base = r["by_seed"].get(seed), scratch.get(r["net"], {}).get(seed)
                cell = f"{ber[i]:.3g}" if ber else "-"
                if ber and base and ber is not base:
                    ratios.append(ber[i] / base[i])
                    cell += f" ({ratios[-1]:.2f})"
                cells.append(cell)
            mean = "-"
            if len(ratios) > 1:
                middle, (low, high) = mean_ci95(ratios)
                mean = f"{middle:.2f} [{low:.2f}, {high:.2f}]"
            lines.append([_about(r), f"{at:g} dB", *cells, mean])
    heads = ["receiver", "SINR", *(f"seed {seed}" for seed in seeds), "over scratch, over seeds"]
    return markdown_table(heads, lines) if lines else None


def _figure(results: dict) -> str | None:
    if not _receivers(results):
        return None
    name = picture(results["scale"])
    return f"![BER over SINR, and students against the same from scratch](../images/{name})"


def _ratio(point: dict) -> str:
    if point["ratio"] is None:
        return "-"
    low, high = point["ci95"]
    return f"{point['ratio']:.2f} [{low:.2f}, {high:.2f}]"


def _lowest(pair: dict) -> str:
    """Gain at the lowest BER that both reach."""
    if not pair["gains"]:
        return "-"
    first = pair["gains"][0]
    ends = [end for end in first["over_slots"] if end is not None]
    between = f" [{ends[0]:+.2f}, {ends[1]:+.2f}]" if len(ends) == 2 else ""
    seeds = [end for end in first["over_seeds"] if end is not None]
    over = f", over seeds [{seeds[0]:+.1f}, {seeds[1]:+.1f}]" if len(seeds) == 2 else ""
    return f"{first['db']:+.2f}{between} at {first['ber']:g}{over}"


def _gains(results: dict, by: str) -> str | None:
    """Students against the same from scratch that differ in one thing."""
    pairs, usual = _pairs(results), _usual_teacher(results)
    same: dict[str, Callable[[dict], bool]] = {
        "size": lambda s: (
            s["teacher"] == usual and not s["bits_share"] and s["temperature"] in (1, 4)
        ),
        "temperature": lambda s: s["teacher"] == usual and not s["bits_share"],
        "weight": lambda s: (
            s["teacher"] == usual and s["net"] == "eighth" and s["temperature"] in (1, 4)
        ),
        "teacher": lambda s: (
            s["net"] == "eighth" and not s["bits_share"] and s["temperature"] in (1, 4)
        ),
    }
    key = {
        "size": "net",
        "temperature": "temperature",
        "weight": "bits_share",
        "teacher": "teacher",
    }
    chosen = [(p, s) for p, s in pairs if s["net"] in STUDENTS and same[by](s)]
    if len({s[key[by]] for _, s in chosen}) < 2:
        return None
    chosen.sort(key=lambda both: (both[1]["params"], both[1]["temperature"]))
    lines = []
    for pair, student in chosen:
        at = {p["sinr_db"]: p for p in pair["points"]}
        ratios = [_ratio(at[s]) for s in FLOOR_DB if s in at]
        about = [_about(student), str(pair["params"]), str(pair["seeds"])]
        lines.append([*about, *ratios, _lowest(pair)])
    head = ["student", "parameters", "seeds", *(f"{s:g} dB" for s in FLOOR_DB if s in at)]
    return markdown_table([*head, "gain in dB"], lines)


def _ms(seconds: float | None, digits: int = 3) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.{digits}g}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.0f} %"


def _steps(results: dict) -> Iterator[tuple[dict, list[dict]]]:
    for step in results["energy"]:
        yield step, step["points"]


def _named(point: dict) -> str:
    return " ".join(filter(None, [point["receiver"], point["form"]]))


def _energy(results: dict) -> str | None:
    tables = []
    for step, points in _steps(results):
        lines = []
        for p in points:
            estimates = p["estimates"]
            key = "error" if p["joules"] else "error_s"
            joules = _ms(p["joules"])
            if p["joules"] and p["joules_ci95"]:
                joules += " [{}, {}]".format(*(_ms(end) for end in p["joules_ci95"]))
            lines.append(
                [
                    _named(p),
                    str(p["batch"]),
                    _ms(p["seconds"]),
                    joules,
                    _ms(p["net"]),
                    *(_percent(estimates[e][key]) for e in ("flop", "clock", "traffic")),
                ]
            )
        what = "joules" if any(p["joules"] for p in points) else "time"
        head = ["receiver", "batch", "ms a slot", "mJ a slot", "net"]
        head += [f"FLOP/W, off in {what}", "FLOP/clock", "compute, memory, idle"]
        said = f"energy {step['kind']}: {step['source']}"
        if step["kind"] == "none":
            said = f"{step['source'].removeprefix('none: ')}, so what estimates miss is of the time"
        where = f"{step['device']}, {step['step']['precision']}, {said}, {step['date']}."
        tables.append(f"{where}\n\n{markdown_table(head, lines)}")
    return "\n\n".join(tables) or None


def _largest(points: list[dict]) -> list[dict]:
    batch = max(p["batch"] for p in points)
    return [p for p in points if p["batch"] == batch]


def _memory(results: dict) -> str | None:
    tables = []
    for step, points in _steps(results):
        lines = [
            [
                _named(p),
                f"{p['flop_per_slot'] / 1e6:.3g}",
                f"{p['bytes_per_slot'] / 1e6:.3g}",
                *(
                    f"{100 * p['parts'][k]:.0f} %"
                    for k in ("flop", "memory", "kernels", "calls", "rest")
                ),
            ]
            for p in _largest(points)
        ]
        head = ["receiver", "MFLOP", "MB moved", "FLOP", "memory", "kernels", "calls", "the rest"]
        batch = max(p["batch"] for p in points)
        where = f"{step['device']}, {step['step']['precision']}, batch {batch}; shares of the time:"
        tables.append(f"{where}\n\n{markdown_table(head, lines)}")
    return "\n\n".join(tables) or None


def _layers(results: dict) -> str | None:
    """Depthwise against dense, by kind of operator and by block of the widest DeepRx."""
    tables = []
    for step, points in _steps(results):
        both = [p for p in _largest(points) if p["form"]]
        if not both:
            continue
        widest = max(p["params"] for p in both)
        lines = []
        for p in (p for p in both if p["params"] == widest):
            for layer, o in p["layers"].items():
                if layer.startswith("net"):
                    lines.append([_named(p), layer, *_rates(o, p["batch"])])
            for kind in ("conv", "depthwise", "elementwise"):
                if kind in p["kinds"]:
                    lines.append([_named(p), f"all: {kind}", *_rates(p["kinds"][kind], p["batch"])])
        head = ["receiver", "layer", "ms a slot", "MFLOP", "MB", "GFLOP/s", "GB/s"]
        where = f"{step['device']}, {step['step']['precision']}, one operator after another:"
        tables.append(f"{where}\n\n{markdown_table(head, lines)}")
    return "\n\n".join(tables) or None


def _rates(o: dict, batch: int) -> list[str]:
    seconds = o["seconds"]
    rates = [f"{o[k] / seconds / 1e9:.3g}" if seconds else "-" for k in ("flop", "bytes")]
    return [_ms(seconds / batch), *(f"{o[k] / batch / 1e6:.3g}" for k in ("flop", "bytes")), *rates]


def _training(results: dict) -> str:
    lines = []
    for run in results["training"]:
        for phase, p in run["phases"].items():
            kind = run["energy_j"]["kind"] if p["joules"] is not None else "modelled"
            joules = p["joules"] if p["joules"] is not None else p["modelled_j"]
            lines.append(
                [
                    run["group"], phase, str(p["slots"]), f"{p['s']:.0f}",
                    f"{p['flop'] / 1e12:.3g}", f"{joules:.0f} ({kind})",
                ]
            )  # fmt: skip
    head = ["group", "phase", "slots", "seconds", "TFLOP", "joules"]
    notes = [
        f"{run['group']}: {len(run['precision'])} members, {run['slots']} draws, "
        f"{run['resource_elements'] / 1e6:.0f} M resource elements, {run['wall_s'] / 60:.0f} "
        f"minutes on {run['cpu'] if run['device'] == 'cpu' else run['device']}"
        for run in results["training"]
    ]
    models = dict.fromkeys(run["energy_j"]["model"] for run in results["training"])
    return f"{markdown_table(head, lines)}\n\n{'; '.join(notes)}. Modelled: {'; '.join(models)}."


def _payback(results: dict) -> str | None:
    lines = []
    for p in results["payback"]:
        saved = p["saved_flop_per_slot"]
        passes, training = p["teacher_forward_flop"], p["teacher_training_flop"]
        joules, saved_j = p["teacher_forward_j"], p["saved_j_per_slot"]
        training_j = p.get("teacher_training_j")  # results stored before it was counted have none
        lines.append(
            [
                p["student"],
                p["rival"] or "none here",
                f"{passes / 1e12:.3g}" if passes else "-",
                p["joules"] if joules is None else f"{joules:.0f} ({p['joules']})",
                f"{saved / 1e6:.3g}" if saved is not None else "-",
                _slots(passes, saved),
                _slots(passes + training, saved) if training else "-",
                "not yet measured" if None in (joules, saved_j) else _slots(joules, saved_j),
                "-" if None in (joules, training_j) else _slots(joules + training_j, saved_j),
            ]
        )
    head = ["student", "as good from scratch", "teacher's passes, TFLOP", "joules"]
    head += ["MFLOP saved a slot", "paid back after slots, by FLOP", "with the teacher's training"]
    return markdown_table([*head, "by joules", "with its training"], lines) if lines else None


def _slots(spent: float, saved: float | None) -> str:
    """Spent nothing: what was spent is another run's."""
    if saved is not None and saved <= 0:
        return "never"
    return f"{spent / saved:.3g}" if spent and saved else "-"


def _ablation(results: dict) -> str | None:
    """Of nets trained on the same slots, what their input, structure and teaching make of it."""
    kinds = {"eighth": ("published", "DeepRx"), "dense": ("published", "dense, folded"),
             "hybrid": ("beside a classical receiver", "dense, folded")}  # fmt: skip
    receivers = _receivers(results)
    if {"dense", "hybrid"} - {r["net"] for r in receivers}:
        return None
    best = {r["name"]: r for r in receivers}["perfect CSI"]
    at = [results["sets"][SET]["sinr_db"].index(s) for s in (21.0, 27.0, 30.0)]
    teachers = (None, _usual_teacher(results))
    lines = []
    for r in receivers:
        alike = not r["bits_share"] and r["temperature"] in (None, 1.0)
        alike = alike and r.get("slot_weight") == _usual_weight(results)
        if r["net"] in kinds and r["teacher"] in teachers and alike:
            structure = kinds[r["net"]]
            cells = [rate_cell(r["ber"][i], r["ci95"][i]) for i in at]
            over = f"{r['ber'][at[0]] / best['ber'][at[0]]:.3g}"
            distilled = "yes" if r["kind"] == "distilled" else "no"
            lines.append([*structure, distilled, str(r["params"]), *cells, over])
    head = ["input", "structure", "taught", "parameters", "21 dB", "27 dB", "30 dB"]
    return markdown_table([*head, "over perfect CSI at 21 dB"], lines)


def _speed(results: dict) -> str:
    rows = sorted(results["rows"], key=lambda r: -r["resource_elements_per_s"])
    published = ("whole", "first", "separable", "float32")
    path = ("size", "layout", "form", "precision")
    slowest = next(r for r in rows if tuple(r[key] for key in path) == published)
    lines = [
        [
            {"whole": "26 PRB", "crop": "8 PRB"}[r["size"]],
            f"channels {r['layout']}",
            r["form"],
            r["precision"],
            f"{r['slots_per_s']:.3g}",
            f"{r['resource_elements_per_s'] / 1e6:.3g}",
            f"{r['resource_elements_per_s'] / slowest['resource_elements_per_s']:.2f}",
            off(r["gradient_error"]),
        ]
        for r in rows
    ]
    head = ["slots of", "layout", "form", "precision", "slots/s", "M resource elements/s"]
    head += ["times the published form", "gradient off by"]
    cpu, threads = results["host"], results["threads"]
    where = f"{cpu['cpu']} ({cpu['instructions']}), {threads} thread{'s' * (threads > 1)}"
    return f"{markdown_table(head, lines)}\n\n{where}, {results['rounds']} steps each, in turns."


def _winner(results: dict, net: str) -> tuple[dict, dict] | None:
    """Of a student net, the teaching that the validation set prefers by the mean logarithm of BER,
    over the seeds that all have.
    """
    validation = {r["name"]: r["by_seed"] for r in _receivers(results, VALIDATION)}
    of_net = [both for both in _pairs(results) if both[1]["net"] == net]
    of_net = [both for both in of_net if both[1]["name"] in validation]
    if not of_net:
        return None
    seeds = set.intersection(*(set(validation[s["name"]]) for _, s in of_net))

    def score(both: tuple[dict, dict]) -> float:
        by_seed = validation[both[1]["name"]]
        bers = np.array([by_seed[seed] for seed in seeds or by_seed])
        return float(np.log10(np.maximum(bers, 1e-9)).mean())

    return min(of_net, key=score)


def _verdict(results: dict) -> str:
    lines = []
    for net in STUDENTS:
        if not (chosen := _winner(results, net)):
            continue
        pair, student = chosen
        at = {p["sinr_db"]: p for p in pair["points"]}
        floors = [at[s] for s in RATIO_DB if s in at and at[s]["ratio"] is not None]
        ratios = ", ".join(f"{_ratio(p)} of its errors at {p['sinr_db']:g} dB" for p in floors)
        lower = bool(floors) and all(p["ci95"][1] < 1 for p in floors)
        higher = bool(floors) and all(p["ci95"][0] > 1 for p in floors)
        says = "confirmed" if lower else "refuted" if higher else "not shown"
        what = f"{_about(student)} (chosen on validation) against scratch"
        seeds = f"{pair['seeds']} seed{'s' * (pair['seeds'] > 1)}"
        lines.append(["lower error floor", what, f"**{says}**: {ratios}", seeds])
        reached = next((g for g in pair["gains"] if g["ber"] == 1e-3), None)
        if reached:
            gain = f"{reached['db']:+.2f} dB"
            says = "confirmed" if reached["db"] >= 4 else "refuted"
            lines.append(["4 dB at BER 1e-3", what, f"**{says}**: {gain}", seeds])
        else:
            gain = f"gain at the lowest BER that both reach: {_lowest(pair)}"
            lines.append(["4 dB at BER 1e-3", what, f"**not both reach 1e-3**; {gain}", seeds])
    measured = [p for _, points in _steps(results) for p in points if p["joules"]]
    if measured:
        for name, said in (("flop", "FLOP/W"), ("clock", "FLOP/clock"), ("traffic", "with memory")):
            errors = sorted(p["estimates"][name]["error"] for p in measured)
            ends = f"off by {_percent(errors[0])} to {_percent(errors[-1])}"
            lines.append(["estimated and measured energy agree", said, ends, ""])
    else:
        lines.append(
            ["estimated and measured energy agree", "", "not yet measured: no counter", ""]
        )
    return markdown_table(["the study says", "of", "found here", "over"], lines)


def _missing(results: dict) -> str:
    missing = results["missing"] + results["missing_energy"]
    if not missing:
        return "Nothing is missing at this scale."
    return (
        f"Not yet measured at this scale: {', '.join(f'`{name}`' for name in missing)}. "
        f"`{COMMANDS[results['scale']]}` goes on with them."
    )


PARTS: dict[str, Callable[..., str | None]] = {
    "verdict": _verdict,
    "curves": _curves,
    "seeds": _seeds,
    "figure": _figure,
    "gains": _gains,
    "energy": _energy,
    "memory": _memory,
    "layers": _layers,
    "training": _training,
    "payback": _payback,
    "ablation": _ablation,
    "speed": _speed,
    "missing": _missing,
}


def picture(scale: str) -> str:
    return f"case-study-{scale}.png"


def draw(results: dict, path: Path) -> None:
    """BER over SINR of each student net beside teachers and classical receivers; and each way of
    teaching against the same net from scratch.
    """
    of = results["sets"][SET]
    receivers = of["receivers"]
    known = {r["net"] for r in receivers}
    nets = [net for net in STUDENTS if net in known]
    others = [r for r in receivers if r["kind"] in ("teacher", "baseline")]
    title = "evaluation channels, frequency domain, 16QAM; 95 % intervals over slots"
    x = "SINR per data RE and antenna, dB"
    with figure(
        path, len(nets) + 1, columns=3, size=(4.6, 4), title=title, legend="xx-small"
    ) as axes:
        for axis, net in zip(axes, nets, strict=False):
            for k, r in enumerate(others):
                look = {"color": str(0.2 + 0.5 * k / max(1, len(others))), "linewidth": 1}
                look["linestyle"] = ("--", ":", "-.")[k % 3]
                rate_curve(axis, of["sinr_db"], r["ber"], r["ci95"], _about(r), **look)
            for k, r in enumerate(r for r in receivers if r["net"] == net):
                rate_curve(axis, of["sinr_db"], r["ber"], r["ci95"], _about(r), **curve_style(k))
            axis.set(xlabel=x, ylabel="uncoded BER", ylim=(1e-6, 0.6), title=f"DeepRx, {net}")
        pairs = [both for both in _pairs(results) if both[1]["net"] in nets]
        for k, (pair, student) in enumerate(pairs):
            points = [p for p in pair["points"] if p["ratio"] is not None]
            at, middle = ([p[key] for p in points] for key in ("sinr_db", "ratio"))
            error = [
                [max(0.0, p["ratio"] - p["ci95"][0]) for p in points],
                [max(0.0, p["ci95"][1] - p["ratio"]) for p in points],
            ]
            axes[-1].errorbar(at, middle, error, label=_about(student), capsize=2, **curve_style(k))
        axes[-1].axhline(1, color="0.4", linestyle=":")
        axes[-1].set(xlabel=x, ylabel="errors over those of the same net from scratch")
