"""``editbench tune`` as a user calls it, on a tiny model."""

import json

import pytest

from editbench.tuning import command
from editbench.tuning.command import main
from editbench.tuning.trial import Outcome


@pytest.fixture
def tune(overrides, tmp_path):
    """Calls the command with more arguments; the settings go to a folder of the test's own."""
    return lambda *more: main([*overrides, "--out", str(tmp_path / "out"), *more])


@pytest.fixture
def quick(monkeypatch):
    """Trials without runs: the score is that of the learning rate."""
    tried = []

    def run_trial(config, keep):
        tried.append((config.folder.name, config.method.settings.learning_rate))
        return Outcome(min(1.0, 100 * config.method.settings.learning_rate), "done", None, {}, 2.0, 1.5)

    monkeypatch.setattr(command, "run_trial", run_trial)
    return tried


def test_it_measures_prints_the_cost_and_writes_settings_that_a_run_takes(tune, tmp_path, capsys):
    assert tune("--trials", "1") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "measuring the untuned settings of finetune: 3 edits" and printed[1].startswith("untuned: ")
    assert printed[2].startswith("1 of 1 trials are left: about ") and "3 edits a trial" in printed[2]
    assert printed[3].startswith("trial 1: ")
    how = json.loads((tmp_path / "out" / "tiny.json").read_text())
    assert (how["trials"], how["edits"], len(how["records"]), how["split"]) == (1, 3, 3, "tune")
    assert how["score"] >= how["untuned_score"]
    assert f"settings: {tmp_path / 'out' / 'tiny.yaml'}" in printed
    assert (
        printed[-1].startswith("editbench run ")
        and "method.norm_bound=null method.steps=3 method.layer=" in printed[-1]
    )
    assert not [path for path in (tmp_path / "results" / "tuning").glob("*/trials/*") if path.is_dir()]


def test_the_same_command_goes_on_with_more_trials(tune, quick, tmp_path, capsys):
    assert tune("--trials", "0") == 0 and [name for name, _ in quick] == ["untuned"]
    assert "0 of 0 trials are left" in capsys.readouterr().out
    assert tune("--trials", "2") == 0 and tune("--trials", "4") == 0
    assert [name for name, _ in quick] == ["untuned", "0000", "0001", "0002", "0003"]
    assert "2 of 4 trials are left: about 4 s in one process (3 edits a trial, 0.50 s each, and 0.5 s" in (
        capsys.readouterr().out
    )
    how = json.loads((tmp_path / "out" / "tiny.json").read_text())
    assert how["trials"] == 4 and how["settings"]["learning_rate"] == max(rate for _, rate in quick)
    assert tune("--trials", "4", "--seed", "1") == 0 and len(quick) == 10  # a search of its own
    results = f"results.dir={tmp_path / 'results'}"
    assert main(["--report", results, "--at", "0,4,30", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [row["seed"] for row in rows] == [0, 1] and rows[0]["ranks"] == {"0": 1, "4": 1, "30": None}
    assert main(["--report", results]) == 0 and "how much is tuning?" in capsys.readouterr().out


def test_a_search_that_is_interrupted_goes_on_where_it_was(tune, quick, monkeypatch, capsys):
    real = command.run_trial

    def stopped(config, keep):
        if config.folder.name == "0001":
            quick.append(("stopped", config.method.settings.learning_rate))
            raise KeyboardInterrupt
        return real(config, keep)

    monkeypatch.setattr(command, "run_trial", stopped)
    assert tune("--trials", "3") == 130 and "the same command goes on" in capsys.readouterr().err
    monkeypatch.setattr(command, "run_trial", real)
    assert tune("--trials", "3") == 0
    rates = dict(quick)
    assert [name for name, _ in quick] == ["untuned", "0000", "stopped", "0001", "0002"]
    assert rates["stopped"] == rates["0001"]


def test_failed_trials_count_and_settings_without_a_score_are_not_written(tune, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "run_trial", lambda config, keep: Outcome(0.0, "failed", "RuntimeError: NaN"))
    assert tune("--trials", "2") == 1
    printed = capsys.readouterr()
    assert "nothing is known of their cost" in printed.out and "failed: RuntimeError: NaN" in printed.out
    assert "none of 2 trials has a score above 0; nothing was written" in printed.err
    assert not (tmp_path / "out").exists()


def test_a_reason_is_one_line_without_escapes(tune, monkeypatch, capsys):
    reason = "ValueError: record \x1b[2J of\ntwo lines"
    monkeypatch.setattr(command, "run_trial", lambda config, keep: Outcome(0.0, "failed", reason))
    assert tune("--trials", "1") == 1
    assert r"failed: ValueError: record \x1b[2J of two lines" in (out := capsys.readouterr().out) and "\x1b" not in out


def test_who_finds_no_trial_left_leaves_the_verdict_to_those_still_at_work(tune, monkeypatch, capsys):
    beside = []

    def run_trial(config, keep):
        if config.folder.name == "untuned":
            beside.append(tune("--trials", "1"))  # as another process would
        return Outcome(0.0, "done", None, {}, 2.0, 1.5)

    monkeypatch.setattr(command, "run_trial", run_trial)
    assert (tune("--trials", "1"), beside) == (1, [0])
    captured = capsys.readouterr()
    assert "1 of 1 trials are done; other processes do the rest, and write the settings" in captured.out
    assert captured.err.count("none of 1 trials has a score above 0") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method=finetunes"], "unknown method 'finetunes'; did you mean 'finetune'?"),
        (["method=rome", "--trials", "-1"], "--trials is -1; it must be 0 or more"),
        (["--report", "method=rome"], "'method=rome' is not understood; --report takes results.dir=DIR alone"),
    ],
)
def test_mistakes_are_named(arguments, message, capsys):
    assert main(arguments) == 1 and message in capsys.readouterr().err


def test_the_results_of_a_report_may_begin_at_home(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["--report", "results.dir=~/mine"]) == 1
    assert f"no search lies in {tmp_path / 'mine'}" in capsys.readouterr().err


def test_without_optuna_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["method=rome"]) == 1 and "pip install 'editbench[tune]'" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "text"), [(3, "3 s"), (119.6, "120 s"), (130, "2 min"), (9000, "2.5 h")])
def test_times_are_short(seconds, text):
    assert command._clock(seconds) == text
