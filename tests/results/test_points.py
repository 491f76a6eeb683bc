"""Points are a run's numbers where it was scored, in columns of the leaderboard, and a CSV keeps them."""

from editbench.results.columns import COLUMNS
from editbench.results.csv_files import read_csv, write_csv
from editbench.results.leaderboard import read_row
from editbench.results.points import POINT_COLUMNS, measure_of, points_of
from tests.results.runs import write_fixed_run, write_run


def test_a_run_has_a_point_at_each_evaluation_and_at_the_end(tmp_path):
    folder = write_run(tmp_path, "a", edits=8, evaluate_at=(2, 4, 8), rate=0.8)
    points, row = points_of(folder), read_row(folder)
    assert [point["edits"] for point in points] == [2, 4, 8]
    assert [point["score_n"] for point in points] == [2, 4, 8]
    assert all(tuple(point) == POINT_COLUMNS for point in points)
    assert set(POINT_COLUMNS) <= set(COLUMNS)
    assert points[-1] == {name: row[name] for name in POINT_COLUMNS}  # the final stage, not the interim one
    assert {(point["method"], point["dataset"], point["seed"]) for point in points} == {("rome", "counterfact", 0)}
    assert len({point["score"] for point in points}) == 3


def test_a_run_without_evaluation_points_has_its_end_and_a_failed_one_nothing(tmp_path):
    (point,) = points_of(write_fixed_run(tmp_path, "a"))
    assert (point["edits"], point["score"], point["locality"]) == (2, 0.5, 0.5)
    assert points_of(write_fixed_run(tmp_path, "b", status="failed", reason="no memory")) == []


def test_points_survive_a_file(tmp_path):
    points = points_of(write_run(tmp_path, "a", evaluate_at=(2,)))
    write_csv(points, tmp_path / "points.csv", POINT_COLUMNS)
    assert (tmp_path / "points.csv").read_text().startswith("method,hparams,model,dataset,")
    assert read_csv(tmp_path / "points.csv") == points


def test_methods_are_compared_by_the_score_or_else_by_reliability():
    assert measure_of([{"score": None, "reliability": 0.5}, {"score": 0.2, "reliability": 0.1}]) == "score"
    assert measure_of([{"score": None, "reliability": 0.5}]) == "reliability"
