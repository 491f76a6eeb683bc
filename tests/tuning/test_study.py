"""Trials come one after the other, whatever stopped; several processes share them, and none is done twice."""

import multiprocessing

import pytest

from editbench.files import ResultsError
from editbench.search_space import Layer, Range
from editbench.tuning.study import JOURNAL, Study, find_studies
from editbench.tuning.trial import Outcome

SPACE = {"layer": Layer(of=48), "learning_rate": Range(1e-3, 1.0, log=True)}
FACTS = {"method": "rome", "records_hash": "ab"}


def outcome(settings):
    return Outcome(1 - abs(settings["learning_rate"] - 0.1) - settings["layer"] / 10, "done")


def go(folder, trials, most=None):
    """Do trials; their settings."""
    study, found = Study.open(folder, FACTS), []
    while most is None or len(found) < most:
        with study.next_trial(trials, SPACE, 6, seed=3) as trial:
            if trial is None:
                break
            trial.tell(outcome(trial.settings))
            found.append(trial.settings)
    return found


def test_a_search_that_stops_and_goes_on_is_the_one_that_did_not(tmp_path):
    whole = go(tmp_path / "whole", 12)
    assert len(whole) == 12 and len({str(one) for one in whole}) == 12
    parts = go(tmp_path / "parts", 5) + go(tmp_path / "parts", 12, most=2)
    with pytest.raises(KeyboardInterrupt), Study.open(tmp_path / "parts", FACTS).next_trial(12, SPACE, 6, 3) as stopped:
        raise KeyboardInterrupt
    again = go(tmp_path / "parts", 12)
    assert again[0] == stopped.settings and parts + again == whole
    assert go(tmp_path / "parts", 12) == [] and go(tmp_path / "parts", 10) == []
    study = Study.read(tmp_path / "parts")
    assert [one.settings for one in study.tried] == whole and [one.number for one in study.tried] == list(range(1, 13))
    other = Study.open(tmp_path / "other", FACTS)
    with other.next_trial(1, SPACE, 6, seed=4) as trial:
        assert trial.settings != whole[0]


def test_the_sampler_learns_from_earlier_trials(tmp_path):
    study = [outcome(settings).score for settings in go(tmp_path / "study", 30)]
    assert sum(study[20:]) / 10 > sum(study[:10]) / 10 + 0.1


def test_the_best_is_the_first_of_the_highest_and_may_be_the_untuned_one(tmp_path):
    study = Study.open(tmp_path / "study", FACTS)
    assert study.best() is None and study.untuned is None
    study.set_untuned({"layer": 9}, Outcome(0.4, "done"))
    for score in (0.4, 0.7, 0.7):
        with study.next_trial(3, SPACE, 6, 0) as trial:
            trial.tell(Outcome(score, "done"))
    journal = (tmp_path / "study" / JOURNAL).read_bytes()
    read = Study.read(tmp_path / "study")
    assert read.best(0).number == 0 and read.best(1).number == 0 and read.best(2).number == 2 == read.best().number
    assert read.untuned.settings == {"layer": 9} and read.facts == FACTS
    assert (tmp_path / "study" / JOURNAL).read_bytes() == journal  # reading writes nothing


def test_a_journal_without_the_search_of_its_folder_is_named(tmp_path):
    Study.open(tmp_path / "one", FACTS)
    (tmp_path / "one").rename(tmp_path / "two")
    with pytest.raises(ResultsError, match="holds no search named two"):
        Study.read(tmp_path / "two")


def test_a_trial_at_work_is_left_to_its_process(tmp_path):
    one, other = Study.open(tmp_path / "study", FACTS), Study.open(tmp_path / "study", FACTS)
    with one.next_trial(2, SPACE, 6, 0) as first, other.next_trial(2, SPACE, 6, 0) as second:
        assert {first.number, second.number} == {0, 1} and first.settings != second.settings
        with other.next_trial(2, SPACE, 6, 0) as third:
            assert third is None
    with one.claimed("untuned") as mine, other.claimed("untuned") as theirs:
        assert mine and not theirs
    with other.claimed("untuned") as theirs:
        assert theirs


@pytest.mark.slow
def test_processes_share_the_trials(tmp_path):
    Study.open(tmp_path / "study", FACTS)
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        done = pool.starmap(go, [(tmp_path / "study", 8)] * 2)
    assert sum(map(len, done)) == 8 == len(Study.read(tmp_path / "study").tried)


def test_a_search_with_other_records_is_refused(tmp_path):
    Study.open(tmp_path / "study", FACTS)
    with pytest.raises(
        ValueError, match=r"study: records_hash has changed since this search was started \(ab, now cd\)"
    ):
        Study.open(tmp_path / "study", {**FACTS, "records_hash": "cd"})


def test_searches_are_found(tmp_path):
    with pytest.raises(ResultsError, match="no search lies in"):
        find_studies(tmp_path)
    Study.open(tmp_path / "b", FACTS), Study.open(tmp_path / "a", FACTS)
    assert [study.folder.name for study in find_studies(tmp_path)] == ["a", "b"]
