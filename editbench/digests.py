"""Digests of files; each file is read once until it changes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

from editbench.files import replacing

_MODEL = ("config.json", "adapter_config.json")
_OF_MODELS = (".json", ".jinja", ".model", ".txt", ".safetensors", ".bin", ".pt", ".pth", ".gguf")
_SETTLED = 2.0  # seconds: a file that was changed later may change again and keep its time
_BLOCK = 1 << 22


def file_digests(path: Path, cache: Path | None = None) -> dict[str, str]:
    """SHA-256 of a file ("") or of the files in a folder, by path from there; a missing path has none.

    Of a model's folder only the files that transformers reads count (configuration, tokenizer, generation settings,
    weights), of another all but hidden ones. ``cache`` keeps digests by a file's path, size, times and inode.
    """
    if path.is_file():
        return {"": _digest(path, cache)}
    files = sorted(_files(path)) if path.is_dir() else []
    return {file.relative_to(path).as_posix(): _digest(file, cache) for file in files}


def _files(folder: Path) -> Iterator[Path]:
    if any((folder / name).is_file() for name in _MODEL):
        yield from (file for file in folder.iterdir() if file.is_file() and file.suffix in _OF_MODELS)
        return
    for file in folder.rglob("*"):
        parts = file.relative_to(folder).parts
        if file.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
            yield file


def _digest(file: Path, cache: Path | None) -> str:
    file = file.resolve()
    found = file.stat()
    stamp = [str(file), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    name = hashlib.sha256(str(file).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    kept = cache / "digests" / f"{name}.json" if cache is not None else None
    if kept is not None and (known := _remembered(kept, stamp)) is not None:
        return known
    sha, begun = hashlib.sha256(), time.time()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            sha.update(block)
    if kept is not None and max(found.st_mtime, found.st_ctime) < begun - _SETTLED:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as temporary:
            temporary.write_text(json.dumps({"stamp": stamp, "sha256": sha.hexdigest()}), encoding="utf-8")
    return sha.hexdigest()


def _remembered(kept: Path, stamp: list[object]) -> str | None:
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
        return str(known["sha256"]) if known["stamp"] == stamp else None
    except (OSError, ValueError, KeyError, TypeError):  # not there, or not whole: it is read again
        return None
