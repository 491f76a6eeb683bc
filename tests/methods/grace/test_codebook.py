"""The codebook: changes and their inverses, deletion, state."""

import pytest
import torch

from editbench.memory_based.projection import SECOND, Projection
from editbench.methods.grace.codebook import Change, Codebook, Search
from tests.small_runs import same
from tests.tiny_models import tiny_lm

AT = Projection.of(tiny_lm(), 1, SECOND)


def row(size, fill):
    return torch.full((size,), float(fill), dtype=torch.float64)


def change(edit, event, entry, **more):
    given = {"radius": 1.0, "label": (7, 8), "label_mean": -3.0, **more}
    if event in ("add", "split"):
        given.setdefault("key", row(AT.d_in, entry))
    return Change(edit, f"prompt of {edit}", event, entry, value=row(AT.d_out, 10 + entry), **given)


def filled():
    book = Codebook(AT, torch.empty(0, dtype=torch.float64))
    for one in (
        change("a", "add", 0),
        change("b", "split", 1, radius=0.5, shrunk=(0, 0.4), label=(9,)),
        change("c", "reuse", 0, radius=0.4),
    ):
        book.apply(one)
    return book


def test_changes_add_up():
    book = filled()
    assert book.radii == [0.4, 0.5] and book.numbers == [0, 1]
    assert [list(item.edits) for item in book.items] == [["a", "c"], ["b"]]
    assert [item.label for item in book.items] == [(7, 8), (9,)]
    assert book.nearest(row(AT.d_in, 0.9)[None]) == [(1, pytest.approx(0.1 * AT.d_in**0.5))]


@pytest.mark.parametrize(
    "last",
    [
        change("d", "add", 2),
        change("d", "split", 2, shrunk=(1, 0.1)),
        change("d", "expand", 1, radius=3.0, key=row(AT.d_in, 5)),
        change("d", "replace", 0, label=(4,)),
        change("a", "reuse", 1),
    ],
    ids=lambda one: one.event,
)
def test_a_trial_leaves_no_trace(last):
    book = filled()
    before = {name: tensor.clone() for name, tensor in book.state().items()}
    with book.trial() as make:
        make(last)
        make(change("e", "add", book.next))
        assert not same(book.state(), before)
    assert same(book.state(), before)


def test_replaced_edits_leave_their_entry_and_deleted_entries_their_place():
    book = filled()
    book.apply(change("d", "replace", 0, label=(4,)))
    assert list(book.items[0].edits) == ["d"] and book.items[0].label == (4,)
    book.drop("a")  # it has left already
    book.drop("d")
    assert book.numbers == [1] and len(book.keys) == len(book.values) == 1
    book.apply(change("f", "add", 2))
    assert book.numbers == [1, 2] and book.place(2) == 1


def test_changes_and_states_survive_their_way_to_disk():
    one = change("b", "split", 1, shrunk=(0, 0.4))
    back = Change.of(one.journal_entry())
    assert (back.shrunk, back.label, back.event) == (one.shrunk, one.label, one.event)
    assert torch.equal(back.key, one.key) and torch.equal(back.value, one.value)
    book, other = filled(), Codebook(AT, torch.empty(0, dtype=torch.float64))
    other.restore(book.state())
    assert same(other.state(), book.state()) and other.items == book.items
    other.restore({})
    assert other.state() == {} and len(other) == 0


def test_another_state_is_refused():
    book = filled()
    with pytest.raises(ValueError, match="not the state of a codebook"):
        book.restore({"keys": book.keys})
    with pytest.raises(ValueError, match="it is of another projection"):
        book.restore({**book.state(), "keys": book.keys[:, :3]})


def test_a_search_knows_what_the_batch_has_changed():
    """Against a search of its own for each key, while entries are added, shrunk, replaced and moved."""
    book, drawn = filled(), torch.Generator().manual_seed(0)
    keys = torch.randn(40, AT.d_in, generator=drawn, dtype=torch.float64)
    keys[30] = keys[3]
    search = Search(book, keys)
    for i, key in enumerate(keys):
        assert search.nearest(i) == book.nearest(key[None])[0]
        known = int(torch.randint(len(book), (), generator=drawn))
        kind = ("add", "split", "expand", "replace", "reuse")[i % 5]
        more = {"key": key} if kind in ("add", "split", "expand") else {}
        entry = book.next if kind in ("add", "split") else known
        one = change(f"new {i}", kind, entry, shrunk=(known, 0.1) if kind == "split" else None, **more)
        book.apply(one)
        search.note(one)


def test_a_search_begins_with_an_empty_codebook():
    book = Codebook(AT, torch.empty(0, dtype=torch.float64))
    search = Search(book, torch.stack([row(AT.d_in, 0), row(AT.d_in, 2)]))
    assert search.nearest(0) is None
    first = change("a", "add", 0)
    book.apply(first)
    search.note(first)
    assert search.nearest(1) == (0, pytest.approx(2 * AT.d_in**0.5))
