"""Rows by conditions, in an order, and those that later runs took the place of."""

import pytest

from editbench.results import ResultsError
from editbench.results.selection import current, ordered, where

ROWS = [
    {"run": "a", "method": "rome", "edits": 100, "final.x": 0.5},
    {"run": "b", "method": "rome", "edits": 10},
    {"run": "c", "method": None, "edits": 30},
]


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ([], "abc"),
        (["method=rome", "edits=100"], "a"),
        (["edits=10", "final.x="], "b"),
        (["final.x=0.50"], "a"),
        (["method="], "c"),
        (["method!=rome"], "c"),
        (["edits>10"], "ac"),
        (["edits >= 10", "edits<100"], "bc"),
        (["edits in 10, 30"], "bc"),
        (["method in rome,memit"], "ab"),
        (["final.x<1"], "a"),  # a row without a value is not below 1
    ],
)
def test_where_chooses_by_columns(conditions, found):
    assert "".join(row["run"] for row in where(ROWS, conditions)) == found


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("metod=rome", "no column 'metod'; did you mean 'method'"),
        ("rome", "not of the form column=value"),
        ("method>rome", "method is compared by = != in, not by >"),
        ("edits>many", "edits>many: 'many' is no number"),
    ],
)
def test_a_condition_that_means_nothing_is_refused(condition, message):
    with pytest.raises(ResultsError, match=message):
        where(ROWS, [condition])


def test_the_best_or_smallest_comes_first_and_what_is_missing_last():
    rows = [
        {"run": run, "score": score, "seconds_per_edit": 1} for run, score in zip("abc", (0.1, None, 0.9), strict=True)
    ]
    assert [row["run"] for row in ordered(rows, ["score"])] == ["c", "a", "b"]
    assert [row["run"] for row in ordered(rows, ["-score"])] == ["a", "c", "b"]
    assert [row["run"] for row in ordered(ROWS, ["edits"])] == ["b", "c", "a"]
    assert [row["run"] for row in ordered(ROWS, ["method", "-edits"])] == ["a", "b", "c"]
    with pytest.raises(ResultsError, match="did you mean 'score'"):
        ordered(rows, ["scor"])


def test_what_failed_goes_when_a_later_run_with_its_settings_finished():
    task = {"method": "rome", "model": "m", "dataset": "d", "edits": 2}
    failed = {**task, "run": "a", "status": "failed", "started": "2026-01-01"}
    other = {**failed, "run": "b", "method": "memit"}
    later = {**task, "run": "c", "status": "done", "started": "2026-01-02"}
    assert current([failed, other, later]) == ([other, later], [failed])
    assert current([failed | {"started": "2026-01-03"}, later])[1] == []


@pytest.mark.parametrize(
    ("failed", "past"),
    [
        ({}, True),
        ({"method_config": '{"layer": 5}'}, False),
        ({"hparams": "published"}, False),
        ({"parts": '{"method.layer": 0, "stream.order": "file", "torch": "2.0"}'}, False),
        ({"parts": '{"method.layer": 0, "torch": "2.0", "versions.exact_match": 1}'}, True),  # mended by an update
        ({"parts": None}, True),  # it failed before it had any
    ],
)
def test_what_failed_with_other_settings_stays(failed, past):
    task = {"method": "rome", "model": "m", "dataset": "d", "edits": 2, "hparams": "tuned", "started": "2026-01-01"}
    made = {**task, "method_config": '{"layer": 0}', "parts": '{"method.layer": 0, "torch": "2.1"}'}
    done = {**made, "run": "b", "status": "done"}
    row = {**made, "run": "a", "status": "failed", **failed}
    assert current([row, done]) == (([done], [row]) if past else ([row, done], []))
