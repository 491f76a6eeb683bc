"""The store of facts beside a plain list, with edits of edits, deletions and rollbacks."""

import pytest
import torch

from editbench import Ledger
from editbench.prompt_edits.facts import Fact, FactStore
from tests.tiny_models import tiny_lm


@pytest.fixture
def ledger():
    return Ledger(tiny_lm("gpt2"))


def fact(id, prompt, batch, number=0.0):
    return Fact(id, prompt, f"answer {id}", batch, torch.full((2,), number))


def filled(ledger, *facts):
    store = FactStore()
    ledger.before_rollback.append(store.cut)
    for batch in sorted({fact.batch for fact in facts}):
        of_it = [fact for fact in facts if fact.batch == batch]
        with ledger.transaction([fact.id for fact in of_it]):
            pass
        store.add(of_it)
    return store


def ids(store, ledger):
    return [fact.id for fact in store.current(ledger)]


def test_the_newest_fact_of_a_prompt_counts(ledger):
    store = filled(ledger, fact("a", "p", 0, 1.0), fact("b", "q", 0, 2.0), fact("c", "p", 1, 3.0))
    assert ids(store, ledger) == ["b", "c"]
    assert store.vectors(ledger).tolist() == [[2.0, 2.0], [3.0, 3.0]]
    ledger.rollback(1)
    assert ids(store, ledger) == ["a", "b"]
    assert store.vectors(ledger).tolist() == [[1.0, 1.0], [2.0, 2.0]]


def test_what_the_ledger_forgets_no_longer_counts_and_comes_back_with_a_rollback(ledger):
    store = filled(ledger, fact("a", "p", 0), fact("b", "q", 1), fact("c", "r", 2))
    ledger.forget_id("a")
    store.changed()
    assert ids(store, ledger) == ["b", "c"]
    ledger.rollback(2)
    assert ids(store, ledger) == ["a", "b"]


def test_a_state_holds_everything_and_nothing_else_is_one(ledger):
    store, other = filled(ledger, fact("a", "é", 0, 1.0), fact("b", "q", 1, 2.0)), FactStore()
    assert other.state(ledger) == {}
    other.restore(store.state(ledger), ledger)
    assert ids(other, ledger) == ["a", "b"] and other.current(ledger)[0].prompt == "é"
    assert torch.equal(other.vectors(ledger), store.vectors(ledger))
    other.restore({}, ledger)
    assert ids(other, ledger) == [] and other.text_bytes == 0
    with pytest.raises(ValueError, match="not the state of a store of facts"):
        other.restore({"keys": torch.zeros(1)}, ledger)


def test_an_id_that_is_edited_again_leaves_its_older_prompt(ledger):
    store = filled(ledger, fact("a", "p", 0), fact("b", "q", 1), fact("a", "r", 2), fact("b", "r", 3))
    assert [(f.id, f.prompt) for f in store.current(ledger)] == [("b", "r")]
    ledger.rollback(3)
    assert [(f.id, f.prompt) for f in store.current(ledger)] == [("b", "q"), ("a", "r")]


def test_facts_of_another_editors_state_count_until_they_are_deleted(ledger):
    store = filled(ledger, fact("a", "p", 0, 1.0), fact("b", "q", 1, 2.0), fact("c", "r", 1, 3.0))
    ledger.forget_id("c")
    store.changed()
    elsewhere, other = Ledger(ledger.lm), FactStore()
    elsewhere.before_rollback.append(other.cut)
    other.restore(store.state(ledger), elsewhere)
    assert ids(other, elsewhere) == ["a", "b"]
    with elsewhere.transaction(["d"]):
        pass
    other.add([fact("d", "s", 0, 4.0)])
    assert ids(other, elsewhere) == ["a", "b", "d"]
    other.forget(elsewhere, other.current(elsewhere)[0])
    assert ids(other, elsewhere) == ["b", "d"]
    elsewhere.rollback(0)
    assert ids(other, elsewhere) == ["b"]
    again = FactStore()
    again.restore(store.state(ledger), ledger)  # where the ledger has them they are its own
    ledger.rollback(1)
    again.cut(1)
    assert ids(again, ledger) == ["a"]


def test_bytes(ledger):
    store = filled(ledger, fact("a", "é", 0))
    assert store.text_bytes == len("éanswer a".encode()) and [t.numel() for t in store.tensors()] == [2]
