"""Ranks of methods by the number of trials, from searches of known scores."""

from rich.console import Console

from editbench.tuning.report import ranks, table
from editbench.tuning.study import Study
from editbench.tuning.trial import Outcome
from tests.tuning.test_study import SPACE


def search(folder, method, untuned, scores, **facts):
    task = {"model": "tiny", "dataset": "zsre", "edits": 5, "objective": "score", "batch_size": 1, "seed": 0}
    study = Study.open(folder / f"{method}{len(facts)}", {"method": method, **task, "records_hash": "ab", **facts})
    study.set_untuned({}, Outcome(untuned, "done"))
    for score in scores:
        with study.next_trial(len(scores), SPACE, 6, 0) as trial:
            trial.tell(Outcome(score, "done"))
    return study


def test_ranks_change_with_the_trials(tmp_path):
    studies = [
        search(tmp_path, "memit", 0.1, [0.2, 0.0, 0.9]),
        search(tmp_path, "rome", 0.5, [0.4, 0.6, 0.7]),
        search(tmp_path, "nse", 0.5, [0.3]),
        search(tmp_path, "scen", 0.0, [0.1] * 3, records_hash="cd"),  # other records: a task of its own
    ]
    rows = {row["method"]: row for row in ranks(studies, (0, 1, 3))}
    assert rows["memit"]["scores"] == {"0": 0.1, "1": 0.2, "3": 0.9}
    assert rows["rome"]["scores"] == {"0": 0.5, "1": 0.5, "3": 0.7}
    assert rows["memit"]["ranks"] == {"0": 3, "1": 3, "3": 1} and rows["rome"]["ranks"] == {"0": 1, "1": 1, "3": 2}
    assert rows["nse"]["scores"]["3"] is None and rows["nse"]["ranks"] == {"0": 1, "1": 1, "3": None}
    assert rows["scen"]["ranks"] == {"0": 1, "1": 1, "3": 1}
    assert (rows["memit"]["trials"], rows["memit"]["zero"]) == (3, 1)
    console = Console(width=160, record=True)
    console.print(table(ranks(studies, (0, 1, 3))))
    text = console.export_text()
    assert "0.900 (1)" in text and "0.500 (1)" in text and "—" in text and "no result of a benchmark" in text


def test_a_search_that_has_just_begun_has_no_scores(tmp_path):
    task = {"model": "tiny", "dataset": "zsre", "edits": 5, "objective": "score", "batch_size": 1, "seed": 0}
    (row,) = ranks([Study.open(tmp_path / "s", {"method": "rome", **task, "records_hash": "ab"})])
    assert row["scores"] == {"0": None, "10": None, "30": None} == row["ranks"]
