"""Training records: the split train of the run's dataset, never with a subject that the stream edits."""

import pytest

from editbench import datasets
from editbench.config import DatasetConfig
from editbench.datasets.base import Settings
from editbench.datasets.disjoint import CrossingError
from editbench.records import PromptFormat


def records(split):
    return datasets.from_config(DatasetConfig("counterfact", "pocket", limit=5, split=split), None).records


def test_they_are_the_whole_split_in_order():
    config = DatasetConfig("counterfact", "pocket", limit=2)
    found = datasets.training_records(config, None, records("stream"))
    assert len(found) == 200 and found[:5] == records("train")


def test_they_stand_in_the_chat_template_where_the_dataset_asks_for_it():
    config = DatasetConfig("counterfact", "pocket", settings=Settings(chat_template=True))
    found = datasets.training_records(config, PromptFormat("<user> ", " <assistant>"), ())
    assert found[0].request.prompt == f"<user> {records('train')[0].request.prompt} <assistant>"


def test_a_subject_of_the_stream_is_refused():
    config = DatasetConfig("counterfact", "pocket", split="all")
    with pytest.raises(CrossingError, match="learns from the training record '0', whose subject the stream edits"):
        datasets.training_records(config, None, records("train"))
