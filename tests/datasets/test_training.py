"""Training records: the split train of the run's dataset, never with a subject that the stream edits."""

import pytest

from editbench import datasets
from editbench.config import DatasetConfig
from editbench.datasets.disjoint import CrossingError


def records(split):
    return datasets.from_config(DatasetConfig("counterfact", "pocket", limit=5, split=split)).records


def test_they_are_the_whole_split_in_order():
    config = DatasetConfig("counterfact", "pocket", limit=2)
    found = datasets.training_records(config, records("stream"))
    assert len(found) == 200 and found[:5] == records("train")


def test_a_subject_of_the_stream_is_refused():
    config = DatasetConfig("counterfact", "pocket", split="all")
    with pytest.raises(CrossingError, match="learns from the training record '0', whose subject the stream edits"):
        datasets.training_records(config, records("train"))
