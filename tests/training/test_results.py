# SPDX-License-Identifier: GPL-3.0-or-later
"""results/*.json: how they are counted; models and documents are those that they are of."""

import csv
import json
from functools import cache

import numpy as np
import pytest

from deeprx_common.model_schema import LIMIT, MEASURED
from deeprx_common.shipped import shipped_models
from deeprx_common.stats import mean_ci95, paired_ratio
from deeprx_training import cli
from deeprx_training.evaluation import evaluate as evaluation
from deeprx_training.evaluation.evaluate import (
    LS,
    SURE,
    Evaluation,
    EvaluationError,
    evaluation_conditions,
)
from deeprx_training.experiments import quote, results, study_page
from deeprx_training.export.describe import content_sha256, measured, read
from deeprx_training.files import TrainingError

WRITTEN = sorted((results.ROOT / "results").glob("*.json"))


@cache
def ships():
    """Of each model file that ships, what it says of itself and its content's SHA-256."""
    return {path: (read(path), content_sha256(path)) for path in shipped_models()}


@pytest.mark.parametrize("part", results.PARTS)
def test_everything_was_measured(part):
    assert part in {path.stem for path in WRITTEN}


@pytest.mark.parametrize("part", ["ber", "limits"])
def test_model_files_hold_the_results(part):
    fields = {"ber": MEASURED, "limits": LIMIT}[part]
    for path, (about, _) in ships().items():
        file = results.ROOT / "results" / f"{part}.json"
        assert about[part] == measured(path, about, file, fields), (
            "./dev train describe models/*.pt --results results mends it"
        )


@pytest.mark.parametrize("path", WRITTEN, ids=lambda p: p.stem)
def test_results_are_of_what_ships(path):
    """Of these programs and weights, and of all of them."""
    programs = json.loads(path.read_text())["models"]
    shipped = {about["name"]: sha for about, sha in ships().values()}
    assert programs == shipped, "./dev results measures anew"


@pytest.mark.parametrize("path", quote.documents(), ids=lambda p: str(p.relative_to(results.ROOT)))
def test_documents_quote_the_results(path):
    text = path.read_text()
    assert text == quote.filled(text, where=str(path)), "./dev results --write mends it"


def said_of_the_results():
    """(document, what it says of the results outside of its tables)"""
    ber, limits, energy, time = (
        json.loads((results.ROOT / f"results/{part}.json").read_text())
        for part in ("ber", "limits", "energy", "time")
    )
    rates = time["time"]["gemm_flop_per_s"]
    points = {p["receiver"]: p for p in energy["energy"]["points"]}
    pusch, student, teacher = (f"deeprx-{name}" for name in ("pusch", "student", "teacher"))
    small = f"{pusch}-small"

    def errors(table):  # over those of the best classical receiver
        return {
            p["receiver"]: p["errors_over_classical"] for p in limits["tables"][table]["points"]
        }

    def times(name, other, table, sinr_db):  # errors over the other's
        rates = {
            p["receiver"]: p["ber"] for p in ber["tables"][table]["points"]
            if p["sinr_db"] == sinr_db
        }  # fmt: skip
        return rates[name] / rates[other]

    def fewer(ratio):
        return f"{100 - 100 * ratio:.0f}"

    def more(ratio, digits=0):
        return f"{100 * ratio - 100:.{digits}f}"

    def crossed(rate):
        return {c["receiver"]: c["sinr_db"] for c in ber["tables"]["16qam"]["crossings"]
                if c["ber"] == rate}  # fmt: skip

    explained = {
        name: 100 * p["flop_per_slot"] / rates[p["precision"]] / p["seconds_per_slot"]
        for name, p in points.items()
    }

    def dearer(name, what):
        return points[teacher][what] / points[name][what]

    readme, index, cost = "README.md", "docs/results/index.md", "docs/results/cost.md"
    yield readme, f"perfect channel knowledge needs {crossed(1e-2)['perfect CSI']:.2f} dB"
    interfered, mild = errors("sir-0"), errors("256qam-mild")
    says = (
        f"with an interferer at 0 dB the teacher makes {more(interfered[teacher])} % more errors "
        f"than `baseline-sure`, the student {more(interfered[student])} % more, and `deeprx-pusch` "
        f"{fewer(interfered[pusch])} % fewer."
    )
    yield readme, says
    says = (
        f"On a mild channel with 256-QAM the student makes {more(mild[student])} % more, "
        f"`deeprx-pusch` {fewer(mild[pusch])} % fewer."
    )
    yield readme, says
    one_dmrs = [
        [times(pusch, other, "16qam-one-dmrs", sinr_db) for sinr_db in (6, 12, 18)]
        for other in (teacher, student)
    ]
    says = (
        f"at 12 dB `deeprx-pusch` makes {one_dmrs[0][1]:.1f} times the teacher's errors, and "
        f"{more(one_dmrs[1][1])} % more than the student."
    )
    yield readme, says
    says = (
        "makes {:.1f} times the teacher's errors at 6 dB, {:.1f} times at 12 dB and {:.1f} times "
        "at 18 dB. Against the student it makes {} %, {} % and {} % more."
    ).format(*one_dmrs[0], *map(more, one_dmrs[1]))
    yield index, says
    below = max(times(pusch, teacher, "16qam", sinr_db) for sinr_db in (0, 3, 6, 9))
    says = (
        f"makes up to {more(below, 1)} % more errors than the teacher below 12 dB, "
        f"{more(times(pusch, teacher, '16qam', 12), 1)} % more at 12 dB, and fewer above: "
        f"{fewer(times(pusch, teacher, '16qam', 18))} % at 18 dB and "
        f"{fewer(times(pusch, teacher, '16qam', 24))} % at 24 dB."
    )
    yield index, says
    two, three = (
        [crossed(rate)[name] for name in (pusch, teacher, "perfect CSI")] for rate in (1e-2, 1e-3)
    )
    says = (
        "needs {:.2f} dB for a BER of 1e-2 (the teacher {:.2f}, perfect channel knowledge {:.2f}) "
        "and {:.2f} dB for 1e-3 ({:.2f}; {:.2f})."
    ).format(*two, *three)
    yield index, says
    flop = 100 / dearer(pusch, "flop_per_slot")
    yield (
        index,
        f"the teacher's errors, with {flop:.2f} % of its FLOP and without having been taught",
    )
    seen = sorted((explained[pusch], explained[small]))
    says = (
        f"They explain {explained['baseline-sure']:.0f} % of the time of classical receivers in "
        f"TorchScript, {seen[0]:.0f} and {seen[1]:.0f} % of that of the nets for every PUSCH, and "
        f"{explained[teacher]:.0f} % of the teacher's"
    )
    yield index, says
    says = (
        f"makes {more(times(pusch, teacher, '16qam', 12), 1)} % more errors than the teacher at 12 "
        f"dB, at a {dearer(pusch, 'seconds_per_slot'):.0f}th of its modelled energy."
    )
    yield cost, says
    yield cost, f"the teacher's time | {100 - explained[teacher]:.0f} % off"
    yield cost, f"nets for every PUSCH | {seen[0]:.0f} and {seen[1]:.0f} % of it seen"
    for name in (pusch, small):
        flop, seconds = (dearer(name, what) for what in ("flop_per_slot", "seconds_per_slot"))
        yield cost, f"`{name}`, as a share of the teacher | 1/{flop:.0f} | 1/{seconds:.0f} |"


@pytest.mark.parametrize(("document", "says"), said_of_the_results())
def test_sentences_quote_the_results(document, says):
    assert says in " ".join((results.ROOT / document).read_text().split())


def test_a_stopped_run_counts_only_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "BATCH", 4)
    monkeypatch.setattr(evaluation.Evaluation, "_flop", lambda *_: 1)
    conditions = evaluation_conditions(channels=("TDL-A",), n_prb=6)

    def run(kept, stop_after=None):
        counting = Evaluation({}, [6.0, 12.0], 8, conditions, 5, ideals=(), kept=kept)
        drawn = []
        count = counting._count
        counting._count = lambda batch, *rest: drawn.append(len(batch.y)) or count(batch, *rest)

        def check(_):
            if len(drawn) == stop_after:
                raise KeyboardInterrupt

        counting.run(check)
        return counting.counted(), drawn

    whole, drawn = run(None)
    assert drawn == [4] * 4
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_after=3)
    rest, drawn = run(tmp_path)
    assert drawn == [4]
    for name in (LS, SURE):
        np.testing.assert_array_equal(rest.errors[name], whole.errors[name])
        np.testing.assert_array_equal(rest.margins[name], whole.margins[name])
    np.testing.assert_array_equal(rest.channel, whole.channel)


def test_interferers_are_for_receivers_that_do_not_know_the_channel():
    conditions = evaluation_conditions(
        channels=("TDL-A",), interferer=1.0, sir_db=(0.0, 0.0), cell_ids=(0, 1007)
    )
    with pytest.raises(EvaluationError, match="expected no interferer"):
        Evaluation({}, [30.0], 8, conditions)
    run = Evaluation({}, [30.0], 8, conditions, ideals=())
    run.run()
    assert run.counted().errors[LS].mean() > 0.1 * run.config.n_bits  # 0 dB of SINR, not 30


def test_ratio_of_errors_has_its_interval():
    rng = np.random.default_rng(1)
    hard = rng.exponential(size=400)  # draws that are hard for both cancel
    a, b = rng.poisson(300 * hard), rng.poisson(200 * hard)
    ratio, (low, high) = paired_ratio(a, b)
    assert low < 1.5 < high and high - low < 0.04 and low < ratio < high
    assert paired_ratio(b, b) == (1.0, (1.0, 1.0))
    with pytest.raises(ValueError, match="no ratio"):
        paired_ratio(a, 0 * b)


POINTS = [
    {"receiver": r, "sinr_db": s, "ber": ber, "ber_ci95": [0.9 * ber, 1.1 * ber]}
    for r, s, ber in (("a", 0.0, 0.1), ("a", 6.0, 0.02), ("b", 0.0, 0.3), ("b", 6.0, 0.0))
]
CROSSINGS = [
    {"receiver": r, "ber": t, "sinr_db": at, "ci95": [None, at]}
    for r in "ab"
    for t, at in ((1e-2, 7.0), (1e-3, None))
]
ABOUT = {"command": "./dev results", "date": "today", "host": {"cpu": "Zen", "instructions": "X"}}
BER = ABOUT | {"tables": {"t": {"title": "", "points": POINTS, "crossings": CROSSINGS}}}


def test_tables_stand_between_their_marks(tmp_path):
    (tmp_path / "ber.json").write_text(json.dumps(BER))
    text = (
        "before\n<!-- results: ber table=t sinr=6 receivers=b,a -->\nold\n<!-- end results -->\n"
        "between\n<!-- results: ber table=t crossings=no -->\n<!-- end results -->\n"
        "<!-- results: limits -->\nnot measured yet\n<!-- end results -->\nafter\n"
    )
    filled = quote.filled(text, tmp_path)
    lines = filled.splitlines()
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in lines if "|" in line]
    assert cells[0] == ["receiver", "6 dB", "SINR at 1e-2", "SINR at 1e-3"]
    assert cells[2] == ["b", "< 0", "7.00 [-, 7.00]", "-"]
    assert (
        cells[3][:2] == ["a", "0.02 ± 10%"]
        and len(cells) == 8
        and cells[4][1:3] == ["0 dB", "6 dB"]
    )
    assert lines[0] == "before" and "between" in lines and lines[-1] == "after"
    assert "`./dev results`, today, Zen (X)" in lines and "not measured yet" in lines
    assert "old" not in filled and quote.filled(filled, tmp_path) == filled


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("x", "expected results, as ./dev results writes it"),
        ("[]", "the document must be a dictionary"),
        (json.dumps({k: v for k, v in BER.items() if k != "host"}), "the document lacks 'host'"),
        (json.dumps(BER | {"tables": [1]}), "cannot fill 'ber table=t'"),
        (json.dumps(BER | {"tables": {"t": {"points": 1}}}), "cannot fill 'ber table=t'"),
    ],
)
def test_results_of_another_shape_are_a_line(tmp_path, monkeypatch, content, says):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/ber.json").write_text(content)
    text = "<!-- results: ber table=t -->\nold\n<!-- end results -->"
    with pytest.raises(TrainingError, match=says):
        quote.filled(text, tmp_path / "results")
    (tmp_path / "README.md").write_text("")
    monkeypatch.setattr(quote, "ROOT", tmp_path)
    with pytest.raises(TrainingError, match=r"ber\.json: cannot draw evaluation.png from it"):
        quote.write_all()


def test_an_evaluation_stands_between_its_marks(tmp_path):
    def filled(mark):
        return quote.filled(f"<!-- results: {mark} -->\nold\n<!-- end results -->", tmp_path)

    assert "old" in filled("evaluation of=a/b")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.md").write_text("About.\n\n## One\n\n1\n\n### Deep\n\n## Two\n\n2\n")
    whole = filled("evaluation of=a/b").splitlines()[1:-1]
    assert whole == "About.\n\n### One\n\n1\n\n#### Deep\n\n### Two\n\n2".splitlines()
    assert filled("evaluation of=a/b sections=1").splitlines()[1:-1] == whole[:7]


def test_what_the_case_study_has_not_measured_says_so(tmp_path):
    def filled(mark):
        text = f"<!-- results: study {mark} -->\nold\n<!-- end results -->"
        return quote.filled(text, tmp_path).splitlines()[1:-1]

    says = "*Not yet measured* at scale `gpu`: [how to go on](#what-is-missing-and-how-to-go-on)."
    assert filled("of=verdict scale=gpu") == [says]
    (line,) = filled("of=missing scale=gpu")
    assert "--scale gpu --gpus 1 --minutes 9 " in line and line.startswith(
        "Not yet measured: `./dev"
    )
    assert filled("of=speed") == [f"Not yet measured: `{study_page.COMMANDS['speed']}`."]
    for mark in ("of=verdicts", "of=missing scale=huge", "of"):
        with pytest.raises(TrainingError, match="cannot fill 'study of"):
            filled(mark)


def test_what_the_page_of_the_case_study_says_in_words_is_so():
    """Of two cores: the floor, what teaching does to it, and the classical receivers."""
    stored = json.loads((results.ROOT / "results/case_study/cores.json").read_text())
    of = stored["sets"][study_page.SET]
    sinr = of["sinr_db"]
    receivers = {r["name"]: r for r in of["receivers"]}
    ber = {name: r["ber"] for name, r in receivers.items()}
    students = [name for name in ber if name.startswith(("eighth-", "quarter-"))]
    assert len(students) >= 7
    for name in students:
        assert min(ber[name]) > 2e-3
        assert all(max(ber[c][i] for c in (LS, SURE)) < b for i, b in enumerate(ber[name]))
    of_students = [pair for pair in of["pairs"] if pair["student"] in students]
    assert all(gain["ber"] > 1e-3 for pair in of_students for gain in pair["gains"])
    ratio = {
        pair["student"]: {p["sinr_db"]: (p["ratio"], *p["ci95"]) for p in pair["points"]}
        for pair in of["pairs"]
    }
    teacher = "deeprx-teacher"
    warm, hot = (f"eighth-T{t} by {teacher}" for t in (4, 8))
    folder = results.ROOT / "results/case_study"
    verdict = study_page.part(folder, "verdict")
    weights = study_page.part(folder, "gains", by="weight")
    assert f"| eighth, taught by {teacher} at T = 4, 0.5 on bits " in weights
    assert f"eighth, taught by {teacher} at T = 8 (chosen on validation)" in verdict
    scratch, taught = (receivers[name]["by_seed"] for name in ("eighth-scratch", hot))
    assert scratch.keys() == taught.keys() == {"1", "2", "3"}
    at = sinr.index(30.0)
    assert [s for s in sinr if ratio[hot][s][1] > 1] == [0.0, 3.0, 6.0, 9.0]
    assert [f"{ratio[name][0.0][0]:.2f}" for name in (warm, hot)] == ["1.07", "1.09"]
    for name, said in (
        (hot, ["0.56", "0.49", "0.63"]),
        (warm, ["0.69", "0.46", "0.91"]),
        (f"eighth-T1 by {teacher}", ["0.87", "0.75", "0.99"]),
        ("eighth-T1 by deeprx-published", ["0.86", "0.49", "1.24"]),
    ):
        by_seed = receivers[name]["by_seed"]
        mean, ends = mean_ci95([by_seed[s][at] / scratch[s][at] for s in scratch])
        assert [f"{value:.2f}" for value in (mean, *ends)] == said
    (gain,) = (g for pair in of_students if pair["student"] == hot for g in pair["gains"][:1])
    assert gain["ber"] == 1e-2 and f"{gain['db']:.1f}" == "4.5"
    ends = [f"{end:.1f}" for end in (*gain["over_slots"], *gain["over_seeds"])]
    assert ends == ["2.3", "7.1", "-1.6", "10.7"]
    for sinr_db, said in (
        (30.0, {"T1": "0.92", "T2": "0.79", "T4": "0.74", "T8": "0.56", "T4-bits": "0.71"}),
        (0.0, {"T1": "1.03", "T2": "1.05", "T4": "1.10", "T8": "1.11", "T4-bits": "1.03"}),
    ):
        i = sinr.index(sinr_db)
        for setting, over in said.items():
            of_seed = receivers[f"eighth-{setting} by {teacher}"]["by_seed"]["1"]
            assert f"{of_seed[i] / scratch['1'][i]:.2f}" == over
    for name, over in (
        ("eighth-T4 by deeprx-published", ["0.68"]),
        ("eighth-T4 by deeprx-student", ["0.60"]),
        ("eighth-weighted", ["0.75", "1.04"]),
    ):
        of_seed = receivers[name]["by_seed"]["1"]
        found = [f"{of_seed[i] / scratch['1'][i]:.2f}" for i in (at, 0)]
        assert found[: len(over)] == over
    for name, more in ((f"quarter-T1 by {teacher}", 1.04), (f"quarter-T4 by {teacher}", 1.07)):
        assert ratio[name][27.0][1] > 1 and f"{ratio[name][27.0][0]:.2f}" == f"{more}"
    at = sinr.index(21.0)
    over = {name: b[at] / ber["perfect CSI"][at] for name, b in ber.items()}
    for name in ("eighth", "dense"):
        assert 27.5 < over[f"{name}-T1 by {teacher}"] <= over[f"{name}-scratch"] < 30.5
    assert f"{over[hot]:.0f}" == "22"
    assert f"{over['hybrid-scratch']:.2f}" == "1.75"


def test_what_the_page_says_of_the_published_net_is_so():
    """Against both classical receivers, against the hybrid teacher, and of its student."""
    with open(results.ROOT / "results/case_study/published.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["by"]]
    of = {(r["receiver"], r["metric"], r["sinr_db"]): r for r in rows}

    def numbers(metric: str, receiver: str) -> dict[float, tuple[float, float, float]]:
        found = {k[2]: r for k, r in of.items() if k[:2] == (receiver, metric)}
        return {float(s or 0): tuple(float(r[k] or "nan") for k in ("value", "low", "high"))
                for s, r in found.items()}  # fmt: skip

    names = ("deeprx-published", "deeprx-eighth", "deeprx-teacher", "ls-lmmse", "sure-lmmse")
    published, eighth, hybrid, ls, sure = (numbers("ber", name) for name in names)
    over = numbers("ber difference to sure-lmmse", "deeprx-published")
    assert all((low > 0) == (s <= 18) and high > 0 for s, (_, low, high) in over.items())
    assert all(eighth[s][0] > max(b[s][0] for b in (published, hybrid, ls, sure)) for s in eighth)
    stored = json.loads((results.ROOT / "results/case_study/cores.json").read_text())
    of = stored["sets"][study_page.SET]
    curve = {r["name"]: r["ber"] for r in of["receivers"]}
    (name,) = (name for name in curve if name.endswith("deeprx-published.pt"))

    def times(other: str) -> dict[float, float]:
        both = zip(of["sinr_db"], curve[name], curve[other], strict=True)
        return {s: ber / errors for s, ber, errors in both}

    assert [f"{times(LS)[s]:.2f}" for s in (0.0, 12.0, 30.0)] == ["0.90", "0.83", "0.77"]
    assert [f"{times(SURE)[s]:.2f}" for s in (0.0, 12.0, 21.0)] == ["1.06", "1.17", "1.11"]
    assert all(ratio < 1 for ratio in times(LS).values())
    assert all((ratio > 1) == (s <= 21) for s, ratio in times(SURE).items())
    assert f"{times('perfect CSI')[21.0]:.1f}" == "3.1"
    needs = {(r["name"], c["ber"]): c["sinr_db"] for r in of["receivers"] for c in r["crossings"]}
    hybrid = "models/deeprx-teacher.pt"
    assert f"{needs[LS, 1e-2] - needs[name, 1e-2]:.1f}" == "0.6"
    behind = [f"{needs[name, level] - needs[hybrid, level]:.1f}" for level in (1e-2, 1e-3)]
    assert behind == ["1.1", "2.9"]


def test_the_page_of_the_case_study_has_every_part():
    text = (results.ROOT / "docs/results/case-study.md").read_text()
    for part in study_page.PARTS:
        assert f"<!-- results: study of={part} " in text


def test_pictures_are_drawn_from_the_results(tmp_path):
    """results/ as it is, into a folder of the test's own."""
    drawn = quote.draw_all(tmp_path)
    assert {"evaluation.png", "cost.png", "case-study-cores.png"} <= {path.name for path in drawn}
    for path in drawn:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert (results.ROOT / "docs/images" / path.name).exists()


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        ("ber table=u", "d.md: cannot fill 'ber table=u': 'u'"),
        ("ber table=t receivers=c", "no receiver 'c'; there are a, b"),
        ("ber", "cannot fill 'ber'"),
        ("time table=t", "cannot fill 'time table=t'"),
    ],
)
def test_a_mark_that_asks_for_what_is_not_there(tmp_path, mark, says):
    (tmp_path / "ber.json").write_text(json.dumps(BER))
    (tmp_path / "time.json").write_text(json.dumps({"time": {"rows": []}}))
    with pytest.raises(TrainingError, match=says):
        quote.filled(f"<!-- results: {mark} -->\n<!-- end results -->", tmp_path, "d.md")


def test_quick_results_are_measured_and_kept(tmp_path, monkeypatch, capsys):
    """Two small tables of two receivers, with the command line."""
    monkeypatch.setattr(results, "ROOT", tmp_path)
    models = [p for p in shipped_models() if "baseline-sure" in p or "small" in p]
    monkeypatch.setattr(results, "shipped_models", lambda: models)
    monkeypatch.setattr(results, "BER", {"qpsk": results.BER["qpsk"]})
    names = ("sir-0", "256qam-mild")
    monkeypatch.setattr(results, "LIMITS", {name: results.LIMITS[name] for name in names})
    assert cli.main(["results", "--quick", "--only", "ber", "--only", "limits"]) == 0
    assert "sir-0: 16 of 16 slots" in capsys.readouterr().out
    ber, limits = (
        json.loads((tmp_path / f"build/results-quick/{part}.json").read_text())
        for part in ("ber", "limits")
    )
    points = {(p["receiver"], p["sinr_db"]): p for p in ber["tables"]["qpsk"]["points"]}
    assert points["deeprx-pusch-small", 12.0]["ber"] < points["baseline-lmmse", 0.0]["ber"]
    assert ber["models"] == limits["models"] == {read(p)["name"]: content_sha256(p) for p in models}
    assert {"host", "date", "git", "versions", "command", "schema"} <= ber.keys()
    points = {p["receiver"]: p for p in limits["tables"]["sir-0"]["points"]}
    assert points[points["deeprx-pusch-small"]["classical"]]["errors_over_classical"] == 1.0
    assert points["deeprx-pusch-small"]["sinr_db"] == pytest.approx(-0.043, abs=1e-3)


def test_time_is_what_the_benchmark_says(tmp_path, monkeypatch, capsys):
    """With a benchmark of the test's own: what it is asked, what is kept, what its failure says."""
    monkeypatch.setattr(results, "ROOT", tmp_path)
    dev = tmp_path / "dev"
    dev.write_text('#!/bin/sh\nwhile [ "$1" != --out ]; do echo "$1"; shift; done >"$0.said"\n')
    dev.chmod(0o755)
    assert cli.main(["results", "--quick", "--only", "time"]) != 0  # it wrote nothing
    assert capsys.readouterr().err.count("\n") == 1
    with dev.open("a") as script:
        script.write('echo \'{"rows": []}\' >"$2/bench.json"\n')
    assert cli.main(["results", "--quick", "--only", "time"]) == 0
    written = json.loads((tmp_path / "build/results-quick/time.json").read_text())
    assert written["time"] == {"rows": []} and written["measured_by"].startswith(
        "./dev bench --cont"
    )
    words = (tmp_path / "dev.said").read_text().split()
    assert words[:3] == ["bench", "--contender", "block"] and words[-2:] == ["--seconds", "0.2"]
    dev.write_text("#!/bin/sh\nexit 3\n")
    assert cli.main(["results", "--quick", "--only", "time"]) == 2
    assert "./dev bench " in (error := capsys.readouterr().err) and "ended with 3" in error
