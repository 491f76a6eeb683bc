"""A trial is a run; one that breaks has the score 0, and files that cannot be written break the search."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from editbench import single_run
from editbench.config import ResultsConfig
from editbench.datasets.disjoint import CrossingError
from editbench.files import ResultsError
from editbench.tuning.start import start, trial_config
from editbench.tuning.trial import run_trial


@pytest.fixture
def config(overrides, tmp_path):
    search = start(trial_config(overrides, 0), overrides)
    (tmp_path / "trials").mkdir()
    return search.run({"layer": 1, "learning_rate": 0.01}, ResultsConfig(str(tmp_path / "trials"), "0000"))


def test_a_run_gives_its_penalised_score_and_its_seconds(config):
    outcome = run_trial(config, keep=True)
    assert outcome.status == "done" and outcome.reason is None and 0 <= outcome.score <= 1
    assert set(outcome.headline) == {"reliability", "generality", "locality"}
    assert 0 < outcome.edit_seconds < outcome.seconds
    assert (config.folder / "scores.jsonl").exists()
    again = run_trial(config, keep=False)
    assert again.score == outcome.score and not config.folder.exists()


@pytest.mark.parametrize("error", [ValueError("singular"), RuntimeError("NaN"), FloatingPointError("x"), MemoryError()])
def test_settings_that_break_a_run_have_the_score_0(config, monkeypatch, error):
    def run(config):
        raise error

    monkeypatch.setattr(single_run, "run", run)
    outcome = run_trial(config, keep=False)
    assert (outcome.score, outcome.status) == (0.0, "failed") and outcome.reason.startswith(type(error).__name__)


@pytest.mark.parametrize(
    "error", [OSError("no space"), ResultsError("locked"), CrossingError("x"), KeyboardInterrupt()]
)
def test_what_says_nothing_about_settings_is_raised(config, monkeypatch, error):
    def run(config):
        raise error

    monkeypatch.setattr(single_run, "run", run)
    with pytest.raises(type(error)):
        run_trial(config, keep=False)


def test_a_trial_that_was_left_before_its_files_changed_is_begun_again(config, tmp_path):
    model = Path(shutil.copytree(config.model.path, tmp_path / "own model"))
    config = replace(config, model=replace(config.model, path=str(model)))
    score = run_trial(config, keep=True).score
    settings = model / "config.json"
    settings.write_text(settings.read_text() + "\n")
    outcome = run_trial(config, keep=False)
    assert (outcome.status, outcome.reason, outcome.score) == ("done", None, score)
