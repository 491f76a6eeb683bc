"""The command line as a user calls it: in a process of its own, with the mistakes that users make."""

import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from tests.small_runs import counterfact_rows
from tests.tiny_models import LINES, tiny_lm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny model, records and text."""
    folder = tmp_path_factory.mktemp("user")
    lm = tiny_lm("gpt2")
    lm.model.save_pretrained(folder / "tiny")
    lm.tokenizer.save_pretrained(folder / "tiny")
    (folder / "counterfact.json").write_text(json.dumps(list(counterfact_rows(40)), indent=1))
    (folder / "plain.txt").write_text("\n".join(LINES))
    return folder


def editbench(place, *arguments, check=False, **environment):
    variables = {**os.environ, "EDITBENCH_CACHE": str(place / "cache"), "HF_HUB_OFFLINE": "1", **environment}
    command = [sys.executable, "-m", "editbench.cli", *arguments]
    done = subprocess.run(command, cwd=place, env=variables, capture_output=True, text=True, timeout=120)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def run_arguments(*more):
    """A small run; ``more`` takes the place of the usual."""
    basic = ["model.path=tiny", "model.texts=plain.txt", "dataset=counterfact", "dataset.path=counterfact.json"]
    usual = ["method=finetune", "method.layer=1", "method.steps=2", "stream.edits=3", *basic]
    given = {a.partition("=")[0] for a in more}
    return ["run", *[a for a in usual if a.partition("=")[0] not in given], *more]


def test_help_and_lists(place):
    assert "leaderboard" in editbench(place, "--help", check=True).stdout
    methods = editbench(place, "list", "methods", check=True).stdout
    lines = {line.split()[0]: " ".join(line.split()) for line in methods.splitlines()}
    assert {"finetune", "rome", "unedited"} <= lines.keys()
    assert "ROME weights needs subject, covariance at most 1 at once Meng et al." in lines["rome"]
    assert "FT-L weights needs nothing any batch Zhu et al." in lines["finetune"]
    assert "pocket" in editbench(place, "list", "models", check=True).stdout
    assert "counterfact" in editbench(place, "list", "datasets", check=True).stdout
    assert "exact_match" in editbench(place, "list", "metrics", check=True).stdout


def test_a_run_prints_its_table_and_where_its_files_are_then_the_leaderboard(place):
    done = editbench(place, *run_arguments("stream.edits=3", "results.dir=ok"), check=True)
    assert "finetune" in done.stdout
    assert "files: " in done.stdout
    again = editbench(place, *run_arguments("stream.edits=3", "results.dir=ok"), check=True)
    assert "done before" in again.stdout
    board = editbench(place, "leaderboard", "results.dir=ok", check=True)
    assert "leaderboard.csv" in board.stdout
    header, row = (place / "ok" / "leaderboard.csv").read_text().splitlines()[:2]
    assert header.startswith("run,status,method")
    assert ",done,finetune,defaults,tiny,counterfact," in row


def test_a_sweep_runs_every_job_and_one_failure_does_not_sink_the_others(place):
    broken = ["method=finetune,rome", "method.layer=1,0", "model.covariance=nowhere.safetensors", "results.dir=sweep"]
    done = editbench(place, *run_arguments("-m", "stream.edits=2", *broken))
    assert done.returncode == 1
    assert "2 of 4 jobs failed:\n  job 3 of 4 (method=rome method.layer=1): " in done.stderr
    assert "error in job 3 of 4" in done.stderr
    board = editbench(place, "leaderboard", "results.dir=sweep", check=True)
    assert "4 runs" in board.stdout
    text = (place / "sweep" / "leaderboard.csv").read_text().partition("\n")[2]
    assert text.count(",done,") == 2
    assert text.count(",failed,") == 2
    again = editbench(
        place, *run_arguments("-m", "method.layer=1,0", "stream.edits=2", "results.dir=sweep", *broken[2:3])
    )
    assert again.stdout.count("reliability") == 1 and "2 of 2 runs were done before" in again.stdout


def test_a_sweep_that_cannot_work_is_refused_before_its_first_job(place):
    done = editbench(place, *run_arguments("-m", "method.layer=1,9", "stream.edits=2,99", "results.dir=refused"))
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == "error: 3 of 4 jobs cannot work, and none was run:"
    assert lines[1].startswith("  job 2 (method.layer=1 stream.edits=99): stream: edits=99, but")
    assert lines[2].startswith("  job 3 (method.layer=9 stream.edits=2): layer 9 does not exist: tiny has layers 0 to")
    assert list((place / "refused").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["method=checkpoint"], ["unknown method 'checkpoint'", "did you mean 'external_weights'"]),
        (["protocol.scorers=[exact_match]"], ["unknown key 'protocol.scorers'", "did you mean 'protocol.metrics'"]),
        (["method=romee"], ["unknown method 'romee'", "did you mean 'rome'"]),
        (["dataset=conterfact"], ["unknown dataset", "did you mean 'counterfact'"]),
        (["stream.edit=3"], ["unknown key 'stream.edit'", "did you mean 'stream.edits'"]),
        (["edits=3"], ["did you mean 'stream.edits'"]),
        (["method.layr=3"], ["did you mean 'method.layer'"]),
        (["stream.edits=many"], ["stream.edits", "many"]),
        (["method.layer=first"], ["finetune", "first"]),
        (["stream.edits=999"], ["999", "40"]),
        (["dataset.path=nowhere.json"], ["nowhere.json"]),
        (["model.path=nowhere"], ["no model at 'nowhere'", "no such folder"]),
        (["protocol.metrics=[exact_mach]"], ["did you mean 'exact_match'"]),
    ],
)
def test_mistakes_get_one_clear_line(place, arguments, parts, monkeypatch, capsys):
    from editbench import cli

    monkeypatch.chdir(place)
    assert cli.main(run_arguments("results.dir=mistakes", *arguments)) in (1, 2)
    errors = capsys.readouterr().err
    for part in parts:
        assert part in errors
    assert "Traceback" not in errors
    assert len(errors.strip().splitlines()) <= 3
    assert not (place / "runner.log").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "method=nse"], "unknown command 'prepare'; did you mean 'precompute'?"),
        (["list", "scorers"], "unknown list 'scorers'; did you mean 'metrics'?"),
        (["leaderbord"], "unknown command 'leaderbord'; did you mean 'leaderboard'?"),
    ],
)
def test_an_old_or_wrong_command_names_the_right_one(arguments, message, capsys):
    from editbench import cli

    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_bad_record_is_named_and_can_be_skipped(place):
    rows = list(counterfact_rows(4))
    del rows[2]["target_new"]
    (place / "bad.json").write_text(json.dumps(rows, indent=1))
    bad = run_arguments("dataset.path=bad.json", "results.dir=bad")
    done = editbench(place, *bad)
    for part in ("bad.json:", "'2'", "target_new", "on_error=skip"):
        assert part in done.stderr
    assert not (place / "bad").exists()
    done = editbench(place, *bad, "dataset.on_error=skip", check=True)
    run = next((place / "bad").iterdir())
    skipped = json.loads((run / "run.json").read_text())["provenance"]["dataset"]["skipped"]
    assert "target_new" in skipped[0]["reason"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere: a read-only folder cannot be made")
def test_a_read_only_results_folder_is_said_before_any_work(place):
    folder = place / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    done = editbench(place, *run_arguments("results.dir=locked"))
    assert "locked" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_results_path_that_is_a_file_is_said_before_any_work(place):
    (place / "taken").write_text("a file")
    done = editbench(place, *run_arguments("results.dir=taken"))
    assert done.returncode == 1
    assert "taken" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_loses_nothing_and_goes_on(place, number):
    name = f"stopped{int(number)}"
    arguments = run_arguments("stream.edits=40", "method.steps=20", f"results.dir={name}")  # long enough to be stopped
    command = [sys.executable, "-m", "editbench.cli", *arguments]
    variables = {**os.environ, "EDITBENCH_CACHE": str(place / "cache")}
    process = subprocess.Popen(
        command,
        cwd=place,
        env=variables,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a shell's background jobs inherit a deaf SIGINT
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        files = list((place / name).glob("*/edits.jsonl"))
        if files and len(files[0].read_text().splitlines()) >= 2:
            break
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be stopped"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    run = next((place / name).iterdir())
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    for file in ("edits.jsonl", "scores.jsonl"):
        for line in (run / file).read_text().splitlines():
            json.loads(line)
    editbench(place, *arguments, check=True)
    assert json.loads((run / "run.json").read_text())["status"] == "done"
    rows = [json.loads(line) for line in (run / "edits.jsonl").read_text().splitlines()]
    assert [row["batch"] for row in rows] == list(range(40))


def test_leaderboard_without_results_says_what_to_do(place):
    done = editbench(place, "leaderboard", "results.dir=none")
    assert done.returncode == 1
    assert "run something first" in done.stderr


def test_a_run_whose_scores_were_damaged_says_so_and_a_hostile_name_moves_nothing(place):
    arguments = run_arguments("results.dir=harmed", "results.name=a")
    editbench(place, *arguments, check=True)
    scores = place / "harmed" / "a" / "scores.jsonl"
    scores.write_bytes(scores.read_bytes()[:-10])
    for more in ([], ["--json"]):
        done = editbench(place, *arguments, *more)
        assert done.returncode == 1 and "scores.jsonl is not what the run wrote" in done.stderr
    assert editbench(place, "verify", "harmed/a").returncode == 1
    for name in (".", "../harmed", "/tmp"):
        done = editbench(place, *arguments[:-1], f"results.name={name}", "results.rerun=true")
        assert done.returncode == 1 and "which is not a folder name" in done.stderr
    assert scores.exists()
