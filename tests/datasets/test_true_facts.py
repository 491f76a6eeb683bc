"""Facts that no stream edits, with true answers: of the split for tuning, whose subjects are others."""

import pytest

from editbench import datasets
from editbench.config import DatasetConfig
from editbench.datasets.true_facts import FACTS, true_facts, with_subjects


def test_they_are_of_the_split_for_tuning():
    config = DatasetConfig("counterfact", "pocket", limit=3)
    facts = true_facts(config, "stream")
    tune = datasets.load("counterfact", "pocket", split="tune").records
    assert facts == [(record.request.prompt, record.request.target_true) for record in tune[:FACTS]]
    assert [request.prompt for request in with_subjects(config, "stream", 2)] == [prompt for prompt, _ in facts[:2]]
    assert with_subjects(config, "stream", None) == []
    edited = {record.request.subject for record in datasets.load("counterfact", "pocket").records}
    assert not any(subject in prompt for prompt, _ in facts for subject in edited)


def test_a_run_that_may_edit_them_is_refused():
    with pytest.raises(ValueError, match=r"this run edits 'all'; set dataset.split=stream"):
        true_facts(DatasetConfig("counterfact", "pocket", split="all"), "all")


def test_records_without_true_answers_have_none():
    with pytest.raises(ValueError, match="the records of hallucination name no true answer"):
        true_facts(DatasetConfig("hallucination", "pocket"), "stream")
