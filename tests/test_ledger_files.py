"""The ledger's files: where batches go, what the index says of them, and keyframes."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch

from editbench import ledger_files
from editbench.files import DamagedFile
from editbench.ledger_files import Blob, LedgerFiles


def append(files, *ids, size=4):
    tensors = {"t": torch.full((size,), float(files.batches))}
    return files.append(ids, ["w"], tensors, {"changes": []})


def test_a_full_segment_takes_no_further_batch(tmp_path, monkeypatch):
    files = LedgerFiles(tmp_path / "ledger")
    size = append(files, "0").bytes
    monkeypatch.setattr(ledger_files, "SEGMENT_BYTES", 2 * size)
    for number in range(1, 5):
        append(files, str(number))
    blobs = [batch.blob for batch in files.index()]
    assert [(blob.segment, blob.offset) for blob in blobs] == [
        ("segment-000000.bin", 0),
        ("segment-000000.bin", size),
        ("segment-000002.bin", 0),
        ("segment-000002.bin", size),
        ("segment-000004.bin", 0),
    ]
    assert all((files.path / blob.segment).stat().st_size >= blob.end for blob in blobs)
    assert blobs[0] == Blob("segment-000000.bin", 0, size, blobs[0].digest)


def test_lines_of_the_index_are_as_documented(tmp_path):
    files = LedgerFiles(tmp_path)
    blob = append(files, "a", "b")
    files.add_keyframe({"w": torch.ones(2)})
    files.forget(["a"])
    batch, keyframe, forgotten = map(json.loads, (tmp_path / "index.jsonl").read_text().splitlines())
    assert batch == {"batch": 0, "ids": ["a", "b"], "weights": ["w"], **asdict(blob)}
    assert keyframe.keys() == {"after", "keyframe", "digest"}
    assert (keyframe["after"], keyframe["keyframe"]) == (1, "keyframe-000001.safetensors")
    assert forgotten == {"after": 1, "forgotten": ["a"]}
    assert files.index()[0].ids == ("b",) and files.index()[0].written == ("a", "b")


def test_the_last_usable_keyframe_is_chosen(tmp_path, caplog):
    files = LedgerFiles(tmp_path)
    for number in range(3):
        append(files, str(number))
        files.add_keyframe({"w": torch.full((2,), float(number))})
    assert files.keyframe(0) == (0, {})
    start, weights = files.keyframe(2)
    assert start == 2 and torch.equal(weights["w"], torch.ones(2))
    (tmp_path / "keyframe-000002.safetensors").write_bytes((tmp_path / "keyframe-000001.safetensors").read_bytes())
    assert files.keyframe(2)[0] == 1 and "not the keyframe of the index" in caplog.text
    for file in tmp_path.glob("keyframe-*"):
        file.unlink()
    assert files.keyframe(3) == (0, {}) and "keyframe-000003.safetensors is missing" in caplog.text


def test_a_batch_in_the_place_of_another_is_named(tmp_path):
    files = LedgerFiles(tmp_path)
    append(files, "a")
    append(files, "b")
    first, second = files.index()
    assert files.check(1, second)["ids"] == ["b"]
    with pytest.raises(DamagedFile, match="batch 0 .* is not the batch of the index"):
        files.check(0, second)
    first.blob, second.blob = second.blob, first.blob
    with pytest.raises(DamagedFile, match="batch 1 .* is not the batch of the index"):
        files.load(1, second)
