"""States by batch, in memory and on disk, through rollbacks and resumes."""

import pytest
import torch

from editbench import Ledger
from editbench.gradient_based.batch_states import BatchStates
from editbench.ledger import Dense
from tests.tiny_models import tiny_lm


def state(number):
    return {"a": torch.tensor([float(number)])}


def kept(ledger, states, count):
    name = ledger.lm.mlp_out_name(0)
    for number in range(len(ledger), count):
        with ledger.transaction([str(number)]) as transaction:
            transaction.apply(Dense(name, torch.ones_like(ledger.lm.weight(name))))
            states.keep(ledger, transaction, state(number + 1))


def value(states, ledger):
    found = states.last(ledger)
    return float(found["a"]) if found else 0.0


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_rollback_finds_the_earlier_state(tmp_path, on_disk):
    ledger, states = Ledger(tiny_lm("gpt2"), tmp_path if on_disk else None), BatchStates()
    kept(ledger, states, 4)
    assert value(states, ledger) == 4
    for keep in (3, 1, 0):
        ledger.rollback(keep)
        assert value(states, ledger) == keep
    kept(ledger, states, 2)
    assert value(states, ledger) == 2


def test_a_batch_without_edits_leaves_the_state():
    ledger, states = Ledger(tiny_lm("gpt2")), BatchStates()
    kept(ledger, states, 2)
    with ledger.transaction([]):
        pass
    assert value(states, ledger) == 2


def test_a_resume_reads_the_last_state_of_the_ledger(tmp_path):
    ledger, states = Ledger(tiny_lm("gpt2"), tmp_path), BatchStates()
    kept(ledger, states, 3)
    again, fresh = Ledger(tiny_lm("gpt2"), tmp_path), BatchStates()
    again.replay()
    fresh.recall(again, {})
    assert value(fresh, again) == 3


def test_a_restored_state_has_nothing_before_it():
    ledger, states = Ledger(tiny_lm("gpt2")), BatchStates()
    kept(ledger, states, 3)
    states.restore(ledger, state(7))
    assert value(states, ledger) == 7
    ledger.rollback(1)
    with pytest.raises(ValueError, match="rolled back to a batch whose state is not known"):
        states.last(ledger)
    ledger.rollback()
    assert value(states, ledger) == 0
