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
    return files.append(ids, ["w"], tensors, {"changes": []}).blob


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


@pytest.mark.parametrize(("key", "other"), [("ids", "b"), ("weights", "v")])
def test_a_line_of_the_index_that_was_altered_is_named(key, other, tmp_path):
    files = LedgerFiles(tmp_path)
    files.append(["a"], ["w"], {}, {"changes": []})
    index = tmp_path / "index.jsonl"
    line = json.loads(index.read_text(encoding="utf-8"))
    index.write_text(json.dumps({**line, key: [other]}) + "\n", encoding="utf-8")
    (batch,) = files.index()
    for read in (files.check, files.load):
        with pytest.raises(DamagedFile, match="batch 0 .* is not the batch of the index"):
            read(0, batch)


# -- memory of methods -------------------------------------------------------------------------------------------------


def remember(files, *ids):
    memory = {id: ({"key": torch.full((3,), float(files.batches))}, {"id": id}) for id in ids}
    return files.append(ids, [], {}, {"changes": []}, memory)


def test_memory_stands_before_its_batch_and_is_read_part_by_part(tmp_path):
    files = LedgerFiles(tmp_path)
    remember(files, "a", "b")
    batch = remember(files, "c", "d")
    line = json.loads((tmp_path / "index.jsonl").read_text().splitlines()[1])
    places = {name: {k: v for k, v in asdict(blob).items() if k != "segment"} for name, blob in batch.memory.items()}
    assert line == {"batch": 1, "ids": ["c", "d"], "weights": [], **asdict(batch.blob), "memory": places}
    again = LedgerFiles(tmp_path)
    assert again.index()[1] == batch and list(again.index()[1].memory) == ["c", "d"]
    assert batch.memory["c"].end == batch.memory["d"].offset and batch.memory["d"].end == batch.blob.offset
    tensors, metadata = again.load_memory(batch.memory["d"])
    assert torch.equal(tensors["key"], torch.ones(3)) and metadata == {"id": "d"}
    digests = {name: blob.digest for name, blob in batch.memory.items()}
    assert again.check(1, batch)["memory"] == digests == again.load(1, batch)[1]["memory"]
    files.truncate(1)
    assert (tmp_path / "segment-000000.bin").stat().st_size == files.index()[0].blob.end


def test_the_metadata_of_memory_are_read_without_its_tensors(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_files, "SEGMENT_BYTES", 1)
    files = LedgerFiles(tmp_path)
    blobs = [blob for ids in ("ab", "cd") for blob in remember(files, *ids).memory.values()]
    assert len({blob.segment for blob in blobs}) == 2
    segment = tmp_path / blobs[0].segment
    data = bytearray(segment.read_bytes())
    data[blobs[0].end - 1] ^= 1  # a tensor's
    segment.write_bytes(data)
    assert [one["id"] for one in files.memory_metadata(blobs)] == ["a", "b", "c", "d"]
    assert [one["id"] for one in files.memory_metadata(reversed(blobs))] == ["d", "c", "b", "a"]


@pytest.mark.parametrize("how", ["length", "header", "digest", "short", "missing"])
def test_a_damaged_header_of_memory_is_named(tmp_path, how):
    files = LedgerFiles(tmp_path)
    blob = remember(files, "a").memory["a"]
    segment = tmp_path / blob.segment
    data = bytearray(segment.read_bytes())
    if how == "length":
        data[7] = 1
    elif how == "header":
        data[10] ^= 64
    elif how == "digest":
        data = data.replace(blob.digest.encode(), b"0" * 64)
    segment.write_bytes(data[:40] if how == "short" else data)
    if how == "missing":
        segment.unlink()
    with pytest.raises(DamagedFile, match=r"segment-000000.bin"):
        list(files.memory_metadata([blob]))


def test_memory_that_was_altered_or_exchanged_is_named(tmp_path):
    files = LedgerFiles(tmp_path)
    batch = remember(files, "a", "b")
    segment = tmp_path / batch.blob.segment
    data = bytearray(segment.read_bytes())
    data[batch.memory["a"].end - 1] ^= 1
    segment.write_bytes(data)
    with pytest.raises(DamagedFile, match=r"segment-000000.bin, memory \(bytes 0 to .* is damaged"):
        files.load_memory(batch.memory["a"])
    assert files.load_memory(batch.memory["b"])[1] == {"id": "b"}
    line = json.loads((tmp_path / "index.jsonl").read_text())
    line["memory"] = {"a": line["memory"]["b"], "b": line["memory"]["a"]}
    (tmp_path / "index.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(DamagedFile, match="batch 0 .* is not the batch of the index"):
        files.check(0, files.index()[0])


@pytest.mark.parametrize("writes", range(6))
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_batch_whose_writing_stops_anywhere_leaves_the_files_as_they_were(writes, error, tmp_path, monkeypatch):
    files = LedgerFiles(tmp_path)
    remember(files, "a")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    calls, encode = [], ledger_files.encode_tensors

    def stopped(*args):
        calls.append(args)
        if len(calls) == writes // 2 + 1:
            if writes % 2:  # half of it is on disk
                with open(tmp_path / "segment-000000.bin", "ab") as file:
                    file.write(b"torn")
            raise error
        return encode(*args)

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(ledger_files, "encode_tensors", stopped)
        remember(files, "b", "c")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    other = LedgerFiles(tmp_path / "other")
    remember(other, "a")
    assert remember(files, "b").blob == remember(other, "b").blob
