"""What a terminal shows while the commands run, what becomes of jobs, and what scripts read."""

import io
import json
import os
import pty
import re
import sys

import pytest

from editbench import cli, launch
from editbench.results.leaderboard import COLUMNS
from tests.commands.test_cli import editbench, place, run_arguments  # noqa: F401
from tests.test_progress import HIDE, SHOW

pytestmark = pytest.mark.slow


def strict(line):
    return json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not strict JSON"))


# -- jobs -------------------------------------------------------------------------------------------------------------


def result(status, folder="f", **cells):
    row = {**dict.fromkeys(COLUMNS), "run": folder, "status": status, "reason": "x", **cells}
    return launch.JobResult(row, folder, ["stream.seed=0"])


@pytest.mark.parametrize(
    ("statuses", "code"), [([], 0), (["done"], 0), (["done", "failed"], 1), (["failed", "interrupted"], 130)]
)
def test_the_exit_status_says_what_became_of_the_jobs(statuses, code):
    reporter = launch.JobReporter(io.StringIO())
    for status in statuses:
        reporter.take(result(status))
    assert reporter.exit_status == code


def test_jobs_of_other_processes_are_taken_once_they_are_back(capsys):
    lines = io.StringIO()
    reporter = launch.JobReporter(lines, jobs=3)
    here, elsewhere = result("done", "a"), result("failed", "b", method_config='{"layer": 1}')
    reporter.take(here)
    reporter.take_returned([here, elsewhere, None])
    assert [(strict(line)["folder"], strict(line)["method_config"]) for line in lines.getvalue().splitlines()] == [
        ("a", None),
        ("b", {"layer": 1}),
    ]
    assert capsys.readouterr() == ("", "failed: stream.seed=0: x\n")
    assert (reporter.exit_status, reporter.number(1)) == (1, "job 2 of 3")


# -- the command line -------------------------------------------------------------------------------------------------


def test_a_run_on_a_terminal_is_watched_and_leaves_its_table(place):  # noqa: F811
    command = [sys.executable, "-m", "editbench.cli", *run_arguments("stream.edits=2", "results.dir=watched")]
    variables = {**os.environ, "EDITBENCH_CACHE": str(place / "cache"), "TERM": "xterm", "COLUMNS": "70", "LINES": "30"}
    child, master = pty.fork()
    if child == 0:
        os.chdir(place)
        os.execve(sys.executable, command, variables)
    data = bytearray()
    while True:
        try:
            data += (read := os.read(master, 65536))
        except OSError:  # how Linux says that the other end is closed
            break
        if not read:
            break
    _, status = os.waitpid(child, 0)
    text = data.decode()
    assert os.waitstatus_to_exitcode(status) == 0, text
    assert text.count(HIDE) == text.count(SHOW) == 1
    before, _, after = text.partition(SHOW)
    assert "finetune, tiny, counterfact, seed 0" in before and "memory " in before and "loading …" in before
    assert re.search(r"^\W*reliability\W", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", after), re.MULTILINE)
    assert "files: " in after and "so far" not in after


def test_json_is_all_that_scripts_read(place, capsys, monkeypatch):  # noqa: F811
    sweep = run_arguments("-m", "stream.edits=2", "method.layer=1,9", "results.dir=scripted", "--json")
    done = editbench(place, *sweep)
    assert done.returncode == 1 and "layer 9 does not exist" in done.stderr and "\x1b" not in done.stderr
    fine, failed = map(strict, done.stdout.splitlines())
    assert (fine["status"], fine["done_before"], fine["edits"], fine["method_config"]["layer"]) == ("done", False, 2, 1)
    assert fine["reliability_n"] == 2 and fine["reliability_low"] <= fine["reliability"] <= fine["reliability_high"]
    assert (failed["status"], failed["score"]) == ("failed", None) and "layer 9" in failed["reason"]
    assert "method.layer=9" in failed["overrides"] and set(COLUMNS) <= fine.keys() & failed.keys()

    monkeypatch.chdir(place)
    assert cli.main(["leaderboard", "results.dir=scripted", "--json"]) == 0
    out, err = capsys.readouterr()
    by_run = {row["run"]: row for row in map(strict, out.splitlines())}
    assert by_run.keys() == {fine["run"], failed["run"]} and "2 runs" in err
    assert by_run[fine["run"]] == {k: v for k, v in fine.items() if k not in ("done_before", "overrides")}

    assert cli.main(["compare", fine["folder"], fine["folder"], "--json"]) == 0
    comparison = strict(capsys.readouterr().out)
    assert comparison["measures"]["reliability"]["difference"] == 0.0
    assert comparison["a"] == fine["folder"]


@pytest.mark.parametrize("what", ["methods", "models", "datasets", "metrics"])
def test_lists_for_scripts_name_what_lists_for_people_do(what, capsys):
    assert cli.main(["list", what, "--json"]) == 0
    names = [strict(line)["name"] for line in capsys.readouterr().out.splitlines()]
    cli.main(["list", what])
    assert names == [line.split()[0] for line in capsys.readouterr().out.splitlines()]
