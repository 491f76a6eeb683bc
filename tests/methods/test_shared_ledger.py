"""Editors of two methods with one ledger, as the ledger's own error advises: each finds its own batches."""

import pytest
import torch

from editbench import Ledger
from tests.edits import edits
from tests.small_runs import SETTINGS, each, editor_of
from tests.tiny_models import tiny_lm

WITH_STATE = [m for m in SETTINGS if m not in ("unedited", "rome", "memit", "rect", "prune", "emmet", "pmet", "wise")]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def editors(lm, ledger, *methods):
    return [editor_of(method, lm, ledger) for method in methods]


@pytest.mark.parametrize("disk", [False, True])
@pytest.mark.parametrize("method", each(WITH_STATE, fast=["nse", "scen", "grace", "lora", "retrieval"]))
def test_batches_of_others_between_ones_own(tmp_path, method, disk):
    lm, folder = tiny_lm(), tmp_path / "ledger" if disk else None
    ledger, (first, second, third, fourth) = Ledger(lm, folder), edits(4)
    other, editor = editors(lm, ledger, "ultraedit" if method != "ultraedit" else "lora", method)
    other.edit([first])
    editor.edit([second])
    own = editor.state()
    other.edit([third])
    editor.edit([fourth])
    last = editor.state()
    assert same(last, editor.state())
    if disk:
        again = tiny_lm()
        resumed = Ledger(again, folder)
        [fresh] = editors(again, resumed, method)
        resumed.replay(cut=False)
        fresh.recall(editor.state_beside_ledger())
        assert same(fresh.state(), last)
    ledger.rollback(2)
    assert same(editor.state(), own)
    ledger.rollback(1)
    assert all(tensor.numel() == 0 for tensor in editor.state().values()) or not editor.state() or editor.empty


@pytest.mark.parametrize(
    "method", each(["grace", "melo", "wise", "nse", "memit_seq", "alphaedit"], fast=["grace", "nse"])
)
def test_a_memory_of_an_earlier_stream_stays_with_its_edits(method):
    first, second, third, fourth = edits(4)
    [before] = editors(lm := tiny_lm(), Ledger(lm), method)
    before.edit([first, second])
    state = {name: tensor.clone() for name, tensor in before.state().items()}
    [editor] = editors(lm := tiny_lm(), Ledger(lm), method)
    editor.restore(state)
    editor.edit([third])
    longer = {name: tensor.clone() for name, tensor in editor.state().items()}
    assert sum(t.numel() for t in longer.values()) > sum(t.numel() for t in state.values())
    editor.edit([fourth])
    editor.ledger.rollback(1)
    assert same(editor.state(), longer)
    editor.ledger.rollback()
    assert sum(t.numel() for t in editor.state().values()) == sum(t.numel() for t in state.values())
