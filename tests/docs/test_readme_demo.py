"""The README's figure and table are those of the reference rows."""

import importlib.util
import re
from pathlib import Path

import pytest

from editbench import demo
from editbench.results.csv_files import read_csv
from editbench.results.points import POINT_COLUMNS

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("readme_demo", DOCS / "readme_demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figure_and_table_are_current(script):
    runs, points = read_csv(script.RUNS), read_csv(script.POINTS)
    assert script.FIGURE.read_text(encoding="utf-8") == script.figure(points), "run python docs/readme_demo.py"
    [shown] = script.PART.findall(script.README.read_text(encoding="utf-8"))
    assert shown == script.part(runs, points), "run python docs/readme_demo.py"


def test_the_reference_is_of_the_demo_as_it_is(script):
    runs, points = read_csv(script.RUNS), read_csv(script.POINTS)
    assert {run["method"] for run in runs} == set(demo.METHODS) == set(script.COLOURS)
    assert {run["edits"] for run in runs} == {demo.SHORT.points[-1]} and {run["batch_size"] for run in runs} == {10}
    for run in runs:
        own = [point for point in points if point["method"] == run["method"]]
        assert tuple(point["edits"] for point in own) == demo.SHORT.points
        assert own[-1] == {name: run[name] for name in POINT_COLUMNS}


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
