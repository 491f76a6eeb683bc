"""Facts that no stream edits, with true answers: of the split for tuning, whose subjects are others."""

import pytest

from editbench import datasets
from editbench.config import DatasetConfig
from editbench.datasets.base import Settings
from editbench.datasets.true_facts import FACTS, true_facts, with_subjects
from editbench.records import PromptFormat


def test_they_are_of_the_split_for_tuning():
    config = DatasetConfig("counterfact", "pocket", limit=3)
    edited = datasets.from_config(config, None)
    facts = true_facts(config, edited)
    tune = datasets.load("counterfact", "pocket", split="tune").records
    assert facts == [(record.request.prompt, record.request.target_true) for record in tune[:FACTS]]
    assert [request.prompt for request in with_subjects(config, edited, 2)] == [prompt for prompt, _ in facts[:2]]
    assert with_subjects(config, edited, None) == []
    subjects = {record.request.subject for record in datasets.load("counterfact", "pocket").records}
    assert not any(subject in prompt for prompt, _ in facts for subject in subjects)


def test_they_stand_in_the_chat_template_as_the_edits_do():
    config = DatasetConfig("counterfact", "pocket", settings=Settings(chat_template=True))
    edited = datasets.from_config(config, PromptFormat("<user> ", " <assistant>"))
    plain = datasets.load("counterfact", "pocket", split="tune").records[0].request.prompt
    assert true_facts(config, edited)[0][0] == f"<user> {plain} <assistant>"
    assert with_subjects(config, edited, 1)[0].prompt == f"<user> {plain} <assistant>"


def test_a_run_that_may_edit_them_is_refused():
    config = DatasetConfig("counterfact", "pocket", split="all")
    with pytest.raises(ValueError, match=r"this run edits 'all'; set dataset.split=stream"):
        true_facts(config, datasets.from_config(config, None))


def test_records_without_true_answers_have_none():
    config = DatasetConfig("hallucination", "pocket")
    with pytest.raises(ValueError, match="the records of hallucination name no true answer"):
        true_facts(config, datasets.from_config(config, None))
