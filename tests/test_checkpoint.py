"""The run's checkpoint: what it saves it restores, rarely enough; damage and other weights are named."""

from __future__ import annotations

import math

import pytest
import torch

from editbench import checkpoint
from editbench.checkpoint import RunCheckpoint
from editbench.files import DamagedFile, read_tensors, write_tensors
from editbench.ledger import Dense, Ledger, LedgerError
from editbench.registry import make_editor
from tests.tiny_models import tiny_lm


@pytest.fixture
def editor(tmp_path):
    """An editor with one batch in its ledger, and memory of its own."""
    lm = tiny_lm("gpt2")
    editor = make_editor("unedited", lm, ledger=Ledger(lm, tmp_path))
    with editor.ledger.transaction(["a"]) as transaction:
        name = lm.mlp_out_name(1)
        transaction.apply(Dense(name, torch.full(tuple(lm.weight(name).shape), 0.01)))
    editor.state = lambda: {"memory": torch.arange(3.0)}
    return editor


def fresh(folder):
    lm = tiny_lm("gpt2")
    editor = make_editor("unedited", lm, ledger=Ledger(lm, folder))
    editor.restored = {}
    editor.restore = editor.restored.update
    return editor


def test_what_is_saved_is_restored(editor, tmp_path):
    saved = RunCheckpoint(tmp_path)
    assert not saved.exists and saved.head == ""
    saved.save(2, "head", editor, {"seconds": math.nan})
    again, other = RunCheckpoint(tmp_path), fresh(tmp_path)
    assert again.exists and again.head == "head"
    done, measured = again.restore(other)
    assert done == 2 and math.isnan(measured["seconds"])
    assert torch.equal(other.restored["memory"], torch.arange(3.0))
    assert other.ledger.edited_ids == ["a"] and other.ledger.digest() == editor.ledger.digest()


def test_without_a_state_the_ledger_is_emptied(editor, tmp_path):
    other = fresh(tmp_path)
    assert RunCheckpoint(tmp_path).restore(other) == (0, {})
    assert (tmp_path / "index.jsonl").read_bytes() == b"" and not list(tmp_path.glob("segment-*"))


def test_a_state_is_saved_at_most_so_often_and_takes_a_small_share_of_the_time(editor, tmp_path, monkeypatch):
    now, cost = [100.0], [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    write = checkpoint.write_tensors
    monkeypatch.setattr(checkpoint, "write_tensors", lambda *args: now.__setitem__(0, now[0] + cost[0]) or write(*args))
    saved = RunCheckpoint(tmp_path)

    def due_after(seconds):
        now[0] += seconds
        before = saved.head
        saved.save_if_due(1, f"{now[0]}", editor, {})
        return saved.head != before

    assert not due_after(4.9)
    cost[0] = 2.0
    assert due_after(0.2)
    assert not due_after(39.9)  # saving took two seconds: a twentieth of forty
    assert due_after(0.2)


def test_damage_and_other_weights_are_named(editor, tmp_path):
    saved = RunCheckpoint(tmp_path)
    saved.save(1, "head", editor, {})
    tensors, metadata = read_tensors(saved.file)
    write_tensors(saved.file, tensors, metadata | {"weights": "others"})
    with pytest.raises(LedgerError, match="gives other weights than the run had"):
        saved.restore(fresh(tmp_path))
    write_tensors(saved.file, tensors, {"batches": 1})
    with pytest.raises(DamagedFile, match=r"state\.safetensors is damaged \('ledger_batches' is missing\)"):
        saved.restore(fresh(tmp_path))
    saved.file.write_bytes(saved.file.read_bytes()[:-1])
    for read in (lambda: saved.head, lambda: saved.restore(fresh(tmp_path))):
        with pytest.raises(DamagedFile, match=r"state\.safetensors is damaged: it is truncated"):
            read()


def test_a_failed_saving_leaves_the_old_state(editor, tmp_path, monkeypatch):
    saved = RunCheckpoint(tmp_path)
    saved.save(1, "first", editor, {})
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        saved.save(2, "second", editor, {})
    assert saved.head == "first" and not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*"))
