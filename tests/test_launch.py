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


def test_a_folder_of_ones_own_becomes_an_override_of_all_jobs(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    wanted = ["a=1", f'hydra.searchpath=["file://{tmp_path.as_posix()}"]']
    for given in ([f"--config-dir={tmp_path}"], ["--config-dir", str(tmp_path)], [f"--config-dir=~/{tmp_path.name}"]):
        assert list(launch._with_own_folder(["a=1", *given])) == wanted
    with pytest.raises(NotADirectoryError, match="no such folder"):
        list(launch._with_own_folder(["--config-dir", str(tmp_path / "none")]))


def test_runs_that_were_done_before_are_one_table(capsys):
    reporter = launch.JobReporter(plan=[["a=1"], ["a=2"]])
    row = {**dict.fromkeys(COLUMNS), "run": "r", "status": "done", "method": "rome"}
    results = [launch.JobResult({**row, "run": name}, name, ["a=2"], done_before=True) for name in ("r", "s")]
    for one in results:
        reporter.add(one)
    assert "rome" not in capsys.readouterr().out
    reporter.add_returned(results)
    out = capsys.readouterr().out
    assert out.count("rome") == 2 and "2 of 2 runs were done before" in out


def test_the_same_command_is_the_same_sweep():
    jobs = [["method=rome", "stream.seed=0"], ["method=rome", "stream.seed=1"]]
    assert launch.sweep_id(jobs) == launch.sweep_id([list(job) for job in jobs]) != launch.sweep_id(jobs[:1])
