"""What a terminal shows while the commands run, what becomes of jobs, and what scripts read."""

import json
import os
import pty
import re
import sys

import pytest

from editbench import cli
from editbench.results.leaderboard import COLUMNS
from tests.commands.test_cli import editbench, place, run_arguments  # noqa: F401
from tests.test_progress import HIDE, SHOW

pytestmark = pytest.mark.slow


def strict(line):
    return json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not strict JSON"))


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
    broken = ["method=finetune,rome", "model.covariance=nowhere.safetensors", "results.dir=scripted"]
    done = editbench(place, *run_arguments("-m", "stream.edits=2", *broken, "--json"))
    assert done.returncode == 1 and "nowhere.safetensors" in done.stderr and "\x1b" not in done.stderr
    fine, failed = map(strict, done.stdout.splitlines())
    assert (fine["status"], fine["done_before"], fine["edits"], fine["method_config"]["layer"]) == ("done", False, 2, 1)
    assert fine["reliability_n"] == 2 and fine["reliability_low"] <= fine["reliability"] <= fine["reliability_high"]
    assert (failed["status"], failed["score"]) == ("failed", None) and "nowhere.safetensors" in failed["reason"]
    assert "method=rome" in failed["overrides"] and set(COLUMNS) <= fine.keys() & failed.keys()

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
