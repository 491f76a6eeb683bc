"""A memory that is what its journal says, for a method that keeps a list of words."""

import json
from dataclasses import dataclass

import pytest
import torch

from editbench import EditRequest, Ledger, Resources
from editbench.files import ResultsError
from editbench.memory_based.journal import Entry, JournalledEditor
from tests.tiny_models import tiny_lm


@dataclass
class WordsConfig:
    layer: int = 1


class Words(JournalledEditor[WordsConfig]):
    config_class = WordsConfig

    def __init__(self, lm, ledger):
        super().__init__(lm, ledger, WordsConfig(), Resources())
        self.words = []

    def write(self, batch, transaction, result):
        self.keep(
            transaction, [Entry({"n": torch.tensor(len(r.target))}, {"id": r.id, "word": r.target}) for r in batch]
        )

    def take(self, entry):
        assert int(entry.tensors["n"]) == len(entry.metadata["word"])
        self.words.append((entry.metadata["id"], entry.metadata["word"]))

    def drop(self, id):
        self.words = [word for word in self.words if word[0] != id]

    def clear(self):
        self.words = []

    @property
    def held(self):
        return {id for id, _ in self.words}

    def state(self):
        return {"words": torch.frombuffer(bytearray(json.dumps(self.words).encode()), dtype=torch.uint8)}

    def fill(self, state):
        self.words = [tuple(word) for word in json.loads(bytes(state["words"].numpy()))]

    def choose(self, prompts):
        raise AssertionError

    @property
    def empty(self):
        return True


def batch(*ids):
    return [EditRequest(id, f"The word of {id} is", None, f"word {id}") for id in ids]


def ids(editor):
    return [id for id, _ in editor.words]


@pytest.mark.parametrize("disk", [False, True])
def test_rollback_and_deletion_in_order(tmp_path, disk):
    lm = tiny_lm()
    editor = Words(lm, Ledger(lm, tmp_path if disk else None))
    editor.edit(batch("a", "b"))
    editor.delete("a")
    editor.edit(batch("c"))
    editor.edit(batch("a", "d"))  # once more: the deletion was of the first
    editor.delete("c")
    assert ids(editor) == ["b", "a", "d"] and editor.ledger.edited_ids == ["b", "a", "d"]
    editor.ledger.rollback(3)
    assert ids(editor) == ["b", "a", "d"]
    editor.ledger.rollback(2)
    assert ids(editor) == ["b", "c"]
    if disk:
        other = Words(lm, Ledger(lm, tmp_path))
        other.ledger.replay()
        assert other.state_beside_ledger() == {}
        other.recall({})
        assert ids(other) == ["b", "c"]
        other.ledger.rollback(1)
        assert ids(other) == ["b"]
    editor.ledger.rollback()
    assert ids(editor) == []
    with pytest.raises(ValueError, match="there is no edit 'a'"):
        editor.delete("a")


def test_a_batch_that_fails_leaves_no_trace(tmp_path, monkeypatch):
    lm = tiny_lm()
    editor = Words(lm, Ledger(lm, tmp_path))
    editor.edit(batch("a"))
    monkeypatch.setattr("editbench.ledger_files.append_lines", lambda *args: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        editor.edit(batch("b"))
    assert ids(editor) == ["a"] and editor.ledger.edited_ids == ["a"]


def test_a_memory_restored_as_a_whole_has_no_past():
    lm = tiny_lm()
    first = Words(lm, Ledger(lm))
    first.edit(batch("a", "b"))
    second = Words(lm, Ledger(lm))
    second.ledger.entries = first.ledger.entries + first.ledger.entries
    second.recall(first.state_beside_ledger())
    assert len(second.words) == 2
    with pytest.raises(ValueError, match="batch 0 added .* restored as a whole"):
        second.ledger.rollback(1)
    assert len(second.words) == 2


@pytest.mark.parametrize("disk", [False, True])
def test_batches_add_to_a_memory_that_was_loaded(tmp_path, disk):
    lm = tiny_lm()
    first = Words(lm, Ledger(lm))
    first.edit(batch("a", "b", "c"))
    editor = Words(lm, Ledger(lm, tmp_path if disk else None))
    editor.restore(first.state())
    editor.edit(batch("d"))
    editor.edit(batch("e"))
    editor.ledger.rollback(1)
    assert ids(editor) == ["a", "b", "c", "d"]
    editor.delete("b")  # which is in no batch
    assert ids(editor) == ["a", "c", "d"]
    with pytest.raises(ValueError, match="no edit 'b'; known: a, c, d$"):
        editor.delete("b")
    if disk:
        other = Words(lm, Ledger(lm, tmp_path))
        other.ledger.replay(cut=False)
        other.recall(editor.state_beside_ledger())
        assert ids(other) == ["a", "c", "d"]
    editor.ledger.rollback()
    assert ids(editor) == ["a", "c"]


@pytest.mark.parametrize("disk", [False, True])
def test_a_memory_that_was_loaded_between_batches(tmp_path, disk):
    lm = tiny_lm()
    first = Words(lm, Ledger(lm))
    first.edit(batch("a"))
    editor = Words(lm, Ledger(lm, tmp_path if disk else None))
    editor.edit(batch("x"))
    editor.restore(first.state())
    editor.edit(batch("b"))
    editor.ledger.rollback(1)
    assert ids(editor) == ["a"]
    editor.ledger.rollback()
    assert ids(editor) == []
    editor.edit(batch("c"))
    assert ids(editor) == ["c"]


def test_a_file_is_of_one_method_and_one_weight(tmp_path):
    lm = tiny_lm()
    editor = Words(lm, Ledger(lm))
    editor.edit(batch("a"))
    editor.save(str(tmp_path / "words.safetensors"))
    Words(lm, Ledger(lm)).load(str(tmp_path / "words.safetensors"))
    other = Words(tiny_lm(), Ledger(lm))
    other.load(tmp_path / "words.safetensors")
    assert len(other.words) == 1
    other.projection = type(other.projection)(0, lm.mlp_out(0), "another", 1, 1)
    with pytest.raises(ValueError, match="holds the memory of"):
        other.load(tmp_path / "words.safetensors")
    with pytest.raises(ResultsError, match="cannot write .*words.safetensors: .*; make its folder first"):
        editor.save(tmp_path / "missing" / "words.safetensors")
