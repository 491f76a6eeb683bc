"""Atomic replacement, locks, and tensor files that name their damage."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import torch

from editbench import files
from editbench.files import DamagedFile, ResultsError, content_digest, read_tensors, write_tensors


def test_a_failure_midway_through_writing_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_atomic(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(ResultsError, match="Input/output error"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# -- locks ------------------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from editbench import files
taken = files.lock(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_exclusive_names_its_holder_and_ends_with_the_process(tmp_path):
    path = tmp_path / "run.lock"
    assert not files.is_locked(path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
        assert files.is_locked(path)
        with pytest.raises(ResultsError, match=rf"is being written by process {holder.pid} on .*; wait for it"):
            files.lock(path)
        with pytest.raises(ResultsError, match="is being written by "):
            files.lock(path)
    finally:
        holder.kill()
        holder.communicate()
    assert not files.is_locked(path)
    taken = files.lock(path)
    assert files.is_locked(path)
    with pytest.raises(ResultsError, match=rf"process {os.getpid()} on "):
        files.lock(path)
    taken.release()
    taken.release()
    assert not files.is_locked(path)


def test_a_lock_that_cannot_be_made_is_explained(tmp_path):
    with pytest.raises(ResultsError, match=r"cannot lock .*missing"):
        files.lock(tmp_path / "missing" / "run.lock")


# -- tensors ----------------------------------------------------------------------------------------------------------

TENSORS = {
    "b": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
    "a": torch.tensor(3.0),
    "none": torch.zeros(0, 4),
    "columns": torch.arange(6).reshape(2, 3).T,
    "flags": torch.tensor([True, False]),
}
METADATA = {"ids": ["1", "ü", "\ud800"], "n": 3, "nested": {"z": None, "a": [1.5]}}


def test_tensors_come_back_and_equal_content_has_equal_bytes(tmp_path):
    digest = write_tensors(tmp_path / "a", TENSORS, METADATA)
    other = {name: TENSORS[name].clone() for name in reversed(TENSORS)}
    assert write_tensors(tmp_path / "b", other, dict(reversed(METADATA.items()))) == digest
    assert digest == content_digest(TENSORS, METADATA)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    tensors, metadata = read_tensors(tmp_path / "a")
    assert metadata == METADATA and tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype and torch.equal(tensor, TENSORS[name])
    write_tensors(tmp_path / "a", {}, {})
    assert read_tensors(tmp_path / "a") == ({}, {})


def test_other_tools_read_them(tmp_path):
    from safetensors import safe_open

    digest = write_tensors(tmp_path / "a", TENSORS, METADATA)
    with safe_open(str(tmp_path / "a"), framework="pt") as handle:
        assert json.loads(handle.metadata()["editbench"]) == {"digest": digest, "metadata": METADATA}
        assert torch.equal(handle.get_tensor("columns"), TENSORS["columns"])


@pytest.mark.parametrize(
    "change",
    [
        lambda t, m: (t | {"a": torch.tensor(3.0000002)}, m),
        lambda t, m: (t | {"a": torch.tensor([3.0])}, m),
        lambda t, m: ({**t, "c": t["a"]}, m),
        lambda t, m: ({("x" if k == "a" else k): v for k, v in t.items()}, m),
        lambda t, m: (t | {"b": t["b"].view(torch.float16)}, m),
        lambda t, m: (t, m | {"n": 4}),
    ],
)
def test_another_name_dtype_shape_value_or_metadata_has_another_digest(change):
    assert content_digest(*change(TENSORS, METADATA)) != content_digest(TENSORS, METADATA)


def test_every_altered_byte_and_every_cut_is_named(tmp_path):
    path = tmp_path / "state.safetensors"
    write_tensors(path, {"w": torch.arange(3.0), "v": torch.ones(2)}, {"n": 1})
    whole = path.read_bytes()
    altered = [whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :] for at in range(len(whole)) for bit in (1, 32)]
    short = re.sub(rb'"data_offsets":\[(\d+),\d+\]', rb'"data_offsets":[\1]  ', whole, count=1)
    others = [*(whole[:size] for size in range(len(whole))), whole + b"\0", b"", b"{" * 100_000, short]
    for data in [*altered, *others]:
        with pytest.raises(DamagedFile, match=r"state\.safetensors is damaged"):
            files.decode_tensors(data, str(path))
    path.write_bytes(whole[:-3])
    with pytest.raises(DamagedFile, match=r"state\.safetensors is damaged: it is truncated"):
        read_tensors(path)
    path.unlink()
    with pytest.raises(DamagedFile, match=r"state\.safetensors is missing"):
        read_tensors(path)


@pytest.mark.parametrize("dtype", sorted(files._DTYPES.values()))
def test_tensors_of_every_type_and_size_outlast_the_memory_that_they_were_read_from(dtype):
    written = {f"{shape}": torch.randint(0, 2, shape).to(getattr(torch, dtype)) for shape in ((), (0, 3), (1,), (2, 5))}
    header, body, _ = files.encode_tensors(written, {})
    memory = bytearray(bytes(header) + bytes(body))
    found = files.decode_tensors(memoryview(memory), "here")[0]
    memory[:] = bytes(len(memory))
    assert found.keys() == written.keys()
    for name, tensor in written.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


@pytest.mark.parametrize(
    ("name", "value"), [("shape", [4]), ("shape", [-3]), ("shape", ["3"]), ("dtype", "F8"), ("dtype", [])]
)
def test_a_sealed_header_of_another_tensor_is_refused(name, value):
    header, body, _ = files.encode_tensors({"a": torch.ones(3)}, {})
    entries, _ = files._split(memoryview(bytes(header) + bytes(body)))
    entries["a"][name] = value
    del entries["__metadata__"]
    sealed = files._header(entries, {}, files._digest(entries, body, {}))
    with pytest.raises(files.DamagedFile, match="here is damaged"):
        files.decode_tensors(sealed + bytes(body), "here")


def test_a_failed_write_of_tensors_leaves_the_old_file(tmp_path, monkeypatch):
    write_tensors(tmp_path / "a", TENSORS, METADATA)
    before = (tmp_path / "a").read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_tensors(tmp_path / "a", {}, {})
    assert (tmp_path / "a").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_is_there_is_left_alone_and_a_failure_leaves_none(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="is there already"), files.new_folder(tmp_path / "mine"):
        pass
    with pytest.raises(KeyError), files.new_folder(tmp_path / "new") as hidden:
        (hidden / "half").write_text("x")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
