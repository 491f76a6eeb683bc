"""Jobs: their results, what is printed of them, and the exit status."""

import io
import json

import pytest

from editbench import launch
from editbench.results.leaderboard import COLUMNS


def strict(line):
    return json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not strict JSON"))


def result(status, folder="f", **cells):
    row = {**dict.fromkeys(COLUMNS), "run": folder, "status": status, "reason": "x", **cells}
    return launch.JobResult(row, folder, ["a=2"])


@pytest.mark.parametrize(
    ("statuses", "code"), [([], 0), (["done"], 0), (["done", "failed"], 1), (["failed", "interrupted"], 130)]
)
def test_the_exit_status_says_what_became_of_the_jobs(statuses, code):
    reporter = launch.JobReporter(io.StringIO())
    for status in statuses:
        reporter.add(result(status))
    assert reporter.exit_status == code


def test_jobs_of_other_processes_are_taken_once_they_are_back(capsys):
    lines = io.StringIO()
    reporter = launch.JobReporter(lines, plan=[["a=1"], ["a=2"], ["a=3"]])
    here, elsewhere = result("done", "a"), result("failed", "b", method_config='{"layer": 1}')
    reporter.add(here)
    reporter.add_returned([here, elsewhere, None])
    assert [(strict(line)["folder"], strict(line)["method_config"]) for line in lines.getvalue().splitlines()] == [
        ("a", None),
        ("b", {"layer": 1}),
    ]
    assert capsys.readouterr() == ("", "1 of 3 jobs failed:\n  job 2 of 3 (a=2): x\n")
    assert (reporter.exit_status, reporter.number(1)) == (1, "job 2 of 3")
