"""Several ledgers of one model: none takes back, or loses, what another has changed since."""

import gc

import pytest
import torch

from editbench.ledger import Dense, Ledger, LedgerError
from tests.tiny_models import tiny_lm

REFUSED = r"h.1.mlp.c_proj.weight of tiny-gpt2 was changed through another ledger since \(edits: b\): roll that"


@pytest.fixture
def lm():
    return tiny_lm("gpt2")


def write(ledger, id, layer=1):
    name = ledger.lm.mlp_out_name(layer)
    with ledger.transaction([id]) as transaction:
        transaction.apply(Dense(name, torch.full(ledger.lm.weight(name).shape, 0.1)))


def state(lm, layer=1):
    return lm.weight(lm.mlp_out_name(layer)).clone()


def test_ledgers_are_rolled_back_in_reverse_order(lm):
    first, second, states = Ledger(lm), Ledger(lm), [state(lm)]
    for ledger, id in ((first, "a"), (second, "b")):
        write(ledger, id)
        states.append(state(lm))
    with pytest.raises(LedgerError, match=REFUSED):
        first.rollback()
    with pytest.raises(LedgerError, match=REFUSED), first.pristine():
        pass
    with pytest.raises(LedgerError, match=REFUSED):
        write(first, "c")
    assert torch.equal(state(lm), states[2]) and first.edited_ids == ["a"]
    for ledger, before in ((second, states[1]), (first, states[0])):
        ledger.rollback()
        assert torch.equal(state(lm), before)


def test_a_ledger_that_was_rolled_back_starts_from_the_weights_of_now(lm):
    first, second = Ledger(lm), Ledger(lm)
    write(first, "a")
    first.rollback()
    write(second, "b")
    edited = state(lm)
    write(first, "c")
    first.rollback()
    assert torch.equal(state(lm), edited)
    with pytest.raises(LedgerError, match="NaN"), first.transaction(["d"]) as transaction:
        transaction.apply(Dense(lm.mlp_out_name(1), torch.full_like(edited, float("nan"))))
    assert torch.equal(state(lm), edited)


def test_ledgers_of_other_weights_do_not_meet(lm):
    first, second, before = Ledger(lm), Ledger(lm), state(lm)
    write(first, "a", layer=1)
    write(second, "b", layer=0)
    first.rollback()
    assert torch.equal(state(lm), before)


def test_a_ledger_that_nobody_has_is_in_no_way(lm):
    first, second, before = Ledger(lm), Ledger(lm), state(lm)
    write(first, "a")
    write(second, "b")
    second.before_rollback.append(second.rollback)  # as an editor's: a cycle, which waits for the collector
    gc.disable()
    try:
        del second
        first.rollback()
    finally:
        gc.enable()
    assert torch.equal(state(lm), before)
