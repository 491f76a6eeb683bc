"""Editors that carry a small state: saved, restored, recalled, refused."""

import pytest
import torch

from editbench import Ledger
from editbench.gradient_based.editor import BatchStateEditor
from editbench.ledger import Dense
from tests.small_runs import REQUESTS
from tests.tiny_models import tiny_lm


class Counter(BatchStateEditor[None]):
    """Adds one to a weight, and counts."""

    def write(self, batch, transaction, result):
        name = self.lm.mlp_out_name(0)
        transaction.apply(Dense(name, torch.ones_like(self.lm.weight(name))))
        count = float(self.state().get("count", 0)) + len(batch)
        self.states.keep(self.ledger, transaction, {"count": torch.tensor(count)})

    def check_state(self, state):
        if set(state) - {"count"}:
            raise ValueError(f"no count: {sorted(state)}")


def counter(folder=None):
    lm = tiny_lm("gpt2")
    return Counter(lm, Ledger(lm, folder), None)


def test_the_state_follows_edits_and_rollbacks_and_comes_back(tmp_path):
    first = counter(tmp_path)
    assert first.state() == {}
    first.edit(REQUESTS[:3])
    first.edit(REQUESTS[3:])
    assert float(first.state()["count"]) == 4 and first.state_beside_ledger() == {}
    second = counter(tmp_path)
    second.ledger.replay()
    second.recall({})
    assert float(second.state()["count"]) == 4
    second.ledger.rollback(1)
    assert float(second.state()["count"]) == 3


def test_a_ledger_in_memory_leaves_the_state_to_the_checkpoint():
    first, second = counter(), counter()
    first.edit(REQUESTS)
    state = first.state_beside_ledger()
    assert float(state["count"]) == 4
    second.edit(REQUESTS)
    second.recall(state)
    assert float(second.state()["count"]) == 4
    second.ledger.rollback()
    second.restore({})
    assert second.state() == {}
    with pytest.raises(ValueError, match="no count: .'facts'."):
        second.restore({"facts": torch.zeros(1)})
