"""Rows of submissions: reported scores beside what others found, by roots; a hostile one harms none beside it."""

import json

import pytest

from editbench import cli
from editbench.results import ResultsError
from editbench.submission.board import rows_of
from editbench.submission.pack import submit
from editbench.submission.verify import verify


@pytest.fixture
def submissions(claimed, tmp_path):
    """An official submission, and a lower result with one seed."""
    folder = tmp_path / "submissions"
    about = submit([claimed("finetune", f"stream.seed={seed}") for seed in range(3)], folder / "a")
    submit([claimed("finetune", "stream.seed=0")], folder / "b", against=about["runs"][0]["root"])
    return folder


def say(submission, name, *verdicts):
    (submission / "verdicts").mkdir(exist_ok=True)
    (submission / "verdicts" / f"{name}.json").write_text("".join(f"{one.as_json()}\n" for one in verdicts))


def test_rows_have_what_is_reported_and_what_others_found(submissions, places, capsys):
    runs = sorted((submissions / "a" / "runs").iterdir())
    say(submissions / "a", "ann", verify(runs[0], 2, places=places), verify(runs[1]))
    say(submissions / "a", "bob", verify(runs[0], 3, places=places), verify(submissions / "b" / "runs" / runs[0].name))
    one, lower = rows_of(submissions)
    assert (one["submission"], one["seeds"], one["official"], one["against"]) == ("a", 3, "yes", None)
    assert (one["rescored"], one["reedited"], one["refused"]) == ("1 of 3", "1 of 3", "0 of 3")
    assert one["verified_by"] == "ann, bob" and isinstance(one["score"], float)
    assert (lower["submission"], lower["official"], lower["rescored"]) == ("b", "1 of 3 seeds", "0 of 1")
    assert lower["against"] and lower["verified_by"] is None
    assert one["comparable_group"] == lower["comparable_group"]
    assert cli.main(["leaderboard", "--from", str(submissions), "--format", "markdown"]) == 0
    out = capsys.readouterr().out
    assert "| submission |" in out and "1 of 3 seeds" in out
    assert cli.main(["leaderboard", "--from", str(submissions), "--json", "--out", str(submissions / "x.csv")]) == 0
    assert [json.loads(line)["submission"] for line in capsys.readouterr().out.splitlines()] == ["a", "b"]
    assert "submission" in (submissions / "x.csv").read_text().splitlines()[0]


def test_submissions_are_ordered_and_have_the_columns_that_are_asked_for(submissions, capsys):
    shown = ["leaderboard", "--from", str(submissions)]
    assert cli.main([*shown, "--json", "--sort=-submission"]) == 0
    assert [json.loads(line)["submission"] for line in capsys.readouterr().out.splitlines()] == ["b", "a"]
    assert cli.main([*shown, "--columns", "score,seeds", "--format", "markdown"]) == 0
    assert "locality" not in capsys.readouterr().out
    assert cli.main([*shown, "--columns", "scores"]) == 1 and "score" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--by", "method"], ["--wide"], ["--significance"], ["--reference", "x.csv"], ["--stage", "immediate"]]
)
def test_what_is_for_runs_alone_is_refused(tmp_path, option, capsys):
    assert cli.main(["leaderboard", "--from", str(tmp_path), *option]) == 1
    assert f"leave out {option[0]}, which is for a folder of runs" in capsys.readouterr().err


def test_what_a_submission_says_of_itself_is_not_believed(submissions):
    file = submissions / "b" / "submission.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "official": True, "method": "best", "score": 1.0}))
    lower = rows_of(submissions)[1]
    assert (lower["official"], lower["method"]) == ("1 of 3 seeds", "finetune")


@pytest.mark.parametrize("name", ["submission.json", "verdicts/eve.json", "runs"])
@pytest.mark.parametrize("text", ["{", "[]", '{"root": [1], "level": "x"}\n{"root"', "\0"])
def test_a_hostile_submission_harms_no_other(submissions, name, text):
    file = submissions / "b" / name
    if name == "runs":
        (file / next(file.iterdir()).name / "scores.jsonl").write_text(text)
    else:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    one, other = rows_of(submissions)
    assert one["submission"] == "a" and one["status"] == "done" and one["seeds"] == 3
    assert other["submission"] == "b" and other["status"] == "damaged" and other["reason"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(ResultsError, match="give the folder that holds the submissions"):
        rows_of(tmp_path / "nowhere")
