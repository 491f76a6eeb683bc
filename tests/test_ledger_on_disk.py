"""The ledger in a folder: what is on disk, how it is replayed, and what damage and stops leave."""

import json
import os
import shutil

import pytest
import torch

from editbench import ledger_files
from editbench.files import DamagedFile, ResultsError, content_digest
from editbench.ledger import Dense, Ledger, LedgerError, LowRank
from editbench.ledger_files import LedgerFiles
from editbench.weight_changes import from_tensors
from tests.test_ledger import TINY_ARCHITECTURES, changes, contents, same, weights, write
from tests.tiny_models import tiny_lm


def test_damaged_and_missing_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_files, "SEGMENT_BYTES", 1)  # a segment a batch
    ledger = Ledger(tiny_lm("gpt2"), tmp_path)
    for number in range(3):
        write(ledger, number)
    file = tmp_path / "segment-000001.bin"
    whole = file.read_bytes()
    lm = tiny_lm("gpt2")
    for at in (0, 9, 200, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DamagedFile, match=r"segment-000001\.bin, batch 1 .* is damaged"):
            Ledger(lm, tmp_path).replay()
        assert same(weights(lm), weights(tiny_lm("gpt2")))
    for size in (0, 5, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(DamagedFile, match=r"segment-000001\.bin, batch 1 .* is damaged"):
            Ledger(lm, tmp_path).replay()
    file.unlink()
    with pytest.raises(DamagedFile, match=r"segment-000001\.bin, batch 1 .* cannot be read: No such file"):
        Ledger(tiny_lm("gpt2"), tmp_path).replay()
    file.write_bytes(whole)
    index = tmp_path / "index.jsonl"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text(lines[0] + lines[2])
    with pytest.raises(DamagedFile, match=r"index\.jsonl: batch 1 is missing"):
        Ledger(tiny_lm("gpt2"), tmp_path).replay()
    index.write_text(lines[0] + lines[1].replace("edit-1", "edit-9") + lines[2])
    with pytest.raises(DamagedFile, match="is not the batch of the index"):
        Ledger(tiny_lm("gpt2"), tmp_path).replay()
    with pytest.raises(DamagedFile, match="holds 3 edit batches, 4 are needed"):
        Ledger(tiny_lm("gpt2"), tmp_path).replay(keep=4)


def test_batches_are_safetensors_with_readable_metadata(tmp_path):
    from safetensors import safe_open

    lm = tiny_lm("gpt2")
    write(Ledger(lm, tmp_path), 5)
    with safe_open(str(tmp_path / "segment-000000.bin"), framework="pt") as handle:
        assert json.loads(handle.metadata()["editbench"])["metadata"]["ids"] == ["edit-5"]
    ledger = Ledger(tiny_lm("gpt2"), tmp_path)
    (batch,) = LedgerFiles(tmp_path).index()
    assert batch.ids == ("edit-5",)
    tensors, metadata = LedgerFiles(tmp_path).load(0, batch)
    assert batch.blob.digest == content_digest(tensors, metadata)
    low, dense = from_tensors(tensors, metadata)
    assert isinstance(low, LowRank)
    assert isinstance(dense, Dense)
    assert torch.equal(low.left, changes(lm, 5)[0].left)
    assert ledger.entries == []


def test_equal_edits_give_equal_files(tmp_path):
    for name in ("a", "b"):
        ledger = Ledger(tiny_lm("gpt2"), tmp_path / name, keyframe_every=2)
        for number in range(3):
            write(ledger, number)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("segment_bytes", [1, 30_000, 64 << 20])
def test_a_rollback_truncates_the_files_to_what_they_were(segment_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_files, "SEGMENT_BYTES", segment_bytes)
    ledger = Ledger(tiny_lm("llama"), tmp_path, keyframe_every=2)
    states = [contents(tmp_path)]
    for number in range(6):
        write(ledger, number)
        if number == 3:
            ledger.forget_id("edit-1")
        states.append(contents(tmp_path))
    for keep in (5, 4, 3, 1):
        ledger.rollback(keep)
        assert contents(tmp_path) == states[keep]
        assert ("edit-1" in ledger.edited_ids) == (keep in (2, 3))
    ledger.rollback(0)
    assert contents(tmp_path) == {"index.jsonl": b""}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_replay_from_a_keyframe_has_the_bits_of_a_replay_from_the_start(architecture, dtype, tmp_path, caplog):
    ledger = Ledger(tiny_lm(architecture, dtype), tmp_path, keyframe_every=3)
    for number in range(8):
        write(ledger, number)
    applied = []

    def replayed(keep=None):
        applied.clear()
        again = Ledger(tiny_lm(architecture, dtype), tmp_path / "copy")
        apply = again._apply
        again._apply = lambda change: applied.append(change) or apply(change)
        again.replay(keep)
        return again

    def copied():
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))

    copied()
    again = replayed()
    assert len(applied) == 2 * 2 and same(weights(again.lm), weights(ledger.lm))
    assert torch.equal(again.delta(again.changed_weights[0]), ledger.delta(again.changed_weights[0]))
    assert again.digest() == ledger.digest() and again.edited_ids == ledger.edited_ids
    again.rollback(4)  # behind the first keyframe, with pristine weights from before it
    ledger.rollback(4)
    assert same(weights(again.lm), weights(ledger.lm))
    write(again, 9)
    write(ledger, 9)
    copied()
    (tmp_path / "copy" / "keyframe-000003.safetensors").write_bytes(b"damaged")
    again = replayed()
    assert "earlier keyframe" in caplog.text and len(applied) == 5 * 2
    assert same(weights(again.lm), weights(ledger.lm))


def test_an_altered_batch_that_a_keyframe_stands_for_is_named(tmp_path):
    ledger = Ledger(tiny_lm("gpt2"), tmp_path, keyframe_every=2)
    for number in range(3):
        write(ledger, number)
    file = tmp_path / "segment-000000.bin"
    data = bytearray(file.read_bytes())
    data[500] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedFile, match="batch 0"):
        Ledger(tiny_lm("gpt2"), tmp_path).replay()


def test_many_batches_are_a_few_files(tmp_path):
    files = LedgerFiles(tmp_path)
    for number in range(200):
        files.append([str(number)], ["w"], {"t": torch.full((4,), float(number))}, {"changes": []})
    assert sorted(contents(tmp_path)) == ["index.jsonl", "segment-000000.bin"]
    again = LedgerFiles(tmp_path)
    index = again.index()
    assert [batch.ids for batch in index] == [(str(i),) for i in range(200)] and again.batches == 200
    assert float(again.load(150, index[150])[0]["t"][0]) == 150.0


@pytest.mark.parametrize("fails", ["segment", "index", "index line", "keyframe", "forgotten"])
def test_a_failed_write_loses_and_replays_nothing(fails, tmp_path, monkeypatch):
    lm = tiny_lm("gpt2")
    ledger = Ledger(lm, tmp_path, keyframe_every=3)
    for number in range(5):
        write(ledger, number)
    before, files = weights(lm), contents(tmp_path)
    full = OSError(28, "No space left on device")
    replayed, replay = [], ledger._replay
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_replay", lambda number, *_: replayed.append(number) or replay(number, *_))
        failing_file = {"keyframe": "add_keyframe", "forgotten": "forget"}.get(fails)
        if failing_file is not None:
            patch.setattr(ledger._files, failing_file, lambda *_: (_ for _ in ()).throw(full))
        elif fails == "index line":
            patch.setattr(ledger_files, "append_lines", lambda *_: (_ for _ in ()).throw(full))
        else:
            fsync, calls = os.fsync, []
            at = {"segment": 1, "index": 2}[fails]

            def failing(descriptor):
                calls.append(descriptor)
                if len(calls) == at:
                    raise full
                fsync(descriptor)

            patch.setattr(os, "fsync", failing)
        with (
            pytest.raises((OSError, ResultsError), match="No space left"),
            ledger.transaction(["edit-5"]) as transaction,
        ):
            for change in changes(lm, 5):
                transaction.apply(change)
            transaction.forgotten += ["edit-1"] if fails == "forgotten" else []
    assert same(weights(lm), before) and contents(tmp_path) == files and replayed == []
    assert ledger.edited_ids == [f"edit-{i}" for i in range(5)]
    write(ledger, 6)
    fresh = Ledger(tiny_lm("gpt2"), tmp_path)
    fresh.replay()
    assert same(weights(fresh.lm), weights(lm)) and fresh.edited_ids == [*(f"edit-{i}" for i in range(5)), "edit-6"]


def test_keyframes_take_no_more_space_than_the_batches_and_a_stop_moves_none(tmp_path):
    def filled(folder, ledger, numbers):
        for number in numbers:
            with ledger.transaction([str(number)]) as transaction:
                transaction.apply(changes(ledger.lm, number, rank=1)[0])
        return contents(folder)

    whole = filled(tmp_path / "a", Ledger(tiny_lm("gpt2"), tmp_path / "a", keyframe_every=2), range(40))
    sizes = {kind: [len(data) for name, data in whole.items() if kind in name] for kind in ("keyframe", "segment")}
    assert 2 <= len(sizes["keyframe"]) < 19 and sum(sizes["keyframe"]) <= 1.1 * sum(sizes["segment"])
    filled(tmp_path / "b", Ledger(tiny_lm("gpt2"), tmp_path / "b", keyframe_every=2), range(23))
    again = Ledger(tiny_lm("gpt2"), tmp_path / "b", keyframe_every=2)
    again.replay()
    assert filled(tmp_path / "b", again, range(23, 40)) == whole


def test_what_a_killed_process_left_behind_the_last_batch_is_cut_off(tmp_path):
    ledger = Ledger(tiny_lm("gpt2"), tmp_path)
    write(ledger, 0)
    with open(tmp_path / "segment-000000.bin", "ab") as file:
        file.write(b"half a batch")
    with open(tmp_path / "index.jsonl", "ab") as file:
        file.write(b'{"batch": 1, "ids')
    again = Ledger(tiny_lm("gpt2"), tmp_path)
    again.replay()
    write(again, 1)
    write(ledger2 := Ledger(tiny_lm("gpt2"), tmp_path / "other"), 0)
    write(ledger2, 1)
    other = contents(tmp_path / "other")
    assert contents(tmp_path) == other


def test_a_ledger_on_disk_is_replayed_before_it_is_written(tmp_path):
    write(Ledger(tiny_lm("gpt2"), tmp_path), 0)
    with pytest.raises(LedgerError, match="replay them first"):
        write(Ledger(tiny_lm("gpt2"), tmp_path), 1)
