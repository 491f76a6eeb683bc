"""A folder that is made beside its place and takes it when it is whole; the next process goes on where one stopped."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from editbench.fetched import FILES, SOURCE_FILE, cache_folder, fetched_folder, usable_cache
from editbench.files import file_digests, lock, sync_folder, write_atomic


@contextmanager
def staging(name: str) -> Iterator[Path]:
    """Folder for the downloads of ``name``, which no other process uses meanwhile; :func:`install` ends its use."""
    usable_cache(cache_folder())
    place = fetched_folder(name)
    folder = place.with_name(f".{name}.part")
    folder.mkdir(parents=True, exist_ok=True)
    held = lock(folder / "lock")
    try:
        yield folder
    finally:
        held.release()


def install(name: str, made: Path, facts: Mapping[str, Any]) -> Path:
    """Put the folder ``made`` in the place of ``name``, and return that; an older one is replaced.

    Its facts, and the digests of its files, are written beside them.
    """
    facts = {**facts, FILES: file_digests(made)}
    write_atomic(made / SOURCE_FILE, json.dumps(facts, indent=1, ensure_ascii=False).encode() + b"\n")
    place = fetched_folder(name)
    old = made.with_name("old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        os.replace(place, old)
    os.replace(made, place)
    sync_folder(place.parent)
    for other in made.parent.iterdir():
        if other.name != "lock":
            shutil.rmtree(other) if other.is_dir() else other.unlink()
    return place
