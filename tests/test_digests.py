"""Digests of files: a file is read once, and of a model only what transformers reads counts."""

from __future__ import annotations

import os
from pathlib import Path

from editbench.files import file_digests


def test_a_file_is_read_once_and_again_when_it_has_changed(tmp_path, monkeypatch):
    file, cache = tmp_path / "weights.bin", tmp_path / "cache"
    file.write_bytes(b"old")
    first = file_digests(file, cache)
    assert not cache.exists()  # it may yet change within the clock's tick
    monkeypatch.setattr("editbench.files._SETTLED", -60.0)
    assert file_digests(file, cache) == first and len(list(cache.rglob("*.json"))) == 1
    opened = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: opened.append(self.name) or real(self, *a, **k))
    assert file_digests(file, cache) == first and "weights.bin" not in opened
    times = file.stat()
    file.write_bytes(b"new")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as some tools that copy do
    assert file_digests(file, cache) != first and "weights.bin" in opened
    for kept in cache.rglob("*.json"):
        kept.write_text("{")  # torn: it is read again
    assert file_digests(file, cache) == file_digests(file)


def test_of_a_model_what_transformers_reads_counts(tmp_path):
    for name in ("config.json", "model.safetensors", "README.md", ".gitattributes", "original/weights.pth"):
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text(name)
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(name)
    (tmp_path / "data" / "config.json").unlink()
    assert set(file_digests(tmp_path / "model")) == {"config.json", "model.safetensors"}
    assert set(file_digests(tmp_path / "data")) == {"model.safetensors", "README.md", "original/weights.pth"}
    assert file_digests(tmp_path / "nothing") == {}
