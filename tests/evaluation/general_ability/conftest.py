"""Fixtures of the tests of general ability."""

import pytest

import editbench
from editbench import single_run
from editbench.evaluation.general_ability import pocket_world
from editbench.evaluation.general_ability.pocket_world import items
from tests import test_editing_loop

make, tiny_folder = test_editing_loop.make, test_editing_loop.tiny_folder  # fixtures


@pytest.fixture(scope="module")
def pocket():
    """The pocket Llama; who changes it puts it back."""
    return editbench.load_model("pocket")


@pytest.fixture
def run(make, monkeypatch):
    """Do a run of four edits of a tiny model, one at a time, with a checkpoint after two."""
    monkeypatch.setattr(pocket_world, "MIN_RECALL", 0.0)  # the tiny model knows nothing
    monkeypatch.setattr(pocket_world, "items", lambda facts: items(facts[:6]))
    stream = ["stream.edits=4", "stream.batch_size=1", "stream.evaluate_at=[2]"]
    protocol = ["protocol.metrics=[exact_match,agreement]", "protocol.stages=[final]", "ability=pocket"]

    def go(*overrides, results="results"):
        return single_run.run(make(*stream, *protocol, *overrides, results=results, method=["method=finetune"]))

    return go
