"""The figures and tables of README and docs/results.md are those of the demos' reference rows."""

import re
from pathlib import Path

import pytest

from editbench import demo
from editbench.results.points import POINT_COLUMNS

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def script(docs_script):
    return docs_script("demo_tables")


def test_figures_and_tables_are_current(script):
    files = script.written()
    assert len(files) == 6  # four figures and two pages
    for file, text in files.items():
        assert file.read_text(encoding="utf-8") == text, f"{file.name}: run python docs/demo_tables.py"


@pytest.mark.parametrize(("name", "streams"), [("demo", demo.SHORT), ("demo_long", demo.LONG)])
def test_the_reference_is_of_the_demo_as_it_is(script, name, streams):
    runs, points = script.reference(name)
    wanted = {(method, dataset) for method in demo.METHODS for dataset in streams.datasets}
    assert {(run["method"], run["dataset"]) for run in runs} == wanted and len(runs) == len(wanted)
    assert {run["edits"] for run in runs} == {streams.points[-1]} and {run["batch_size"] for run in runs} == {10}
    for run in runs:
        own = [p for p in points if (p["method"], p["dataset"]) == (run["method"], run["dataset"])]
        assert tuple(point["edits"] for point in own) == streams.points
        assert own[-1] == {name: run[name] for name in POINT_COLUMNS}


def test_every_method_has_a_colour(script):
    own = {file.parent.name for file in (DOCS.parent / "methods").glob("*/README.md")} - {"external_weights"}
    assert len(set(script.COLOURS.values())) == len(script.COLOURS) and set(script.COLOURS) == own
    assert set(script.FIGURES) == set(demo.LONG.datasets)


def test_the_figure_has_every_point_and_label(script):
    points = [
        {"method": method, "edits": edits, "score": 0.9, "score_low": 0.8, "score_high": 1.0}
        for method in ("scen", "nse")
        for edits in (10, 100)
    ]
    drawn = script.figure(points)
    assert drawn.count("<circle") == 4 and drawn.count("stroke-opacity") == 4
    labels = {name: float(y) for y, name in re.findall(r'y="([\d.]+)" text-anchor="start" fill="#\w+">(\w+)<', drawn)}
    assert {"scen", "nse"} <= labels.keys() and abs(labels["scen"] - labels["nse"]) >= script.LABEL


def test_records_without_paraphrases_are_drawn_by_reliability(script):
    ends = {"reliability": 0.25, "reliability_low": 0.2, "reliability_high": 0.3, "score": None}
    drawn = script.figure([{"method": "rome", "edits": edits, **ends} for edits in (10, 100)])
    assert "Reliability: share of the tokens of the answers" in drawn and drawn.count("<circle") == 2
    height = 34 + (360 - 34 - 46) * 0.75
    assert f'cy="{height:.1f}"' in drawn


def test_the_overview_has_the_headline_of_each_dataset(script):
    runs = [
        {"method": method, "dataset": dataset, "reliability": value, "locality": 0.5, "score": value}
        | ({} if dataset == "hallucination" else {"generality": 0.75})
        for method, value in (("rome", 0.25), ("scen", 1.0))
        for dataset in script.FIGURES
    ]
    titles, _, best, last = script.overview(runs).splitlines()
    assert titles == (
        "| method | CounterFact: reliability | generality | locality | ZsRE: reliability | generality | locality "
        "| Hallucination: reliability | locality |"
    )
    assert best == "| scen | 1.00 | 0.75 | 0.50 | 1.00 | 0.75 | 0.50 | 1.00 | 0.50 |"
    assert last.startswith("| rome | 0.25 | 0.75 |")
