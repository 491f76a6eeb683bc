"""Rows of data sets of Hugging Face's hub, and of folders that its ``datasets`` reads."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from editbench.datasets.rows import Row, RowError, make_row
from editbench.hub_names import hub_id, is_address
from editbench.records import RecordError

HUB_PREFIX = "hub:"

_ADDRESS = re.compile(r"(?P<name>[^:@]+)(:(?P<config>[^:@]+))?(@(?P<split>[^:@]+))?")


def read_table(path: str, *, streaming: bool = False) -> Iterator[Row | RowError]:
    """Rows of one split of a folder, or of "hub:NAME[:CONFIG][@SPLIT]", where NAME may be a folder.

    Without a split in the address, the dataset must have only one. A row's line is its number from 1. ``streaming``
    reads rows from the hub as they are asked for, instead of all before the first.
    """
    match = _ADDRESS.fullmatch(path.removeprefix(HUB_PREFIX)) if path.startswith(HUB_PREFIX) else None
    if match is None and path.startswith(HUB_PREFIX):
        raise RecordError(f"{path!r} is no hub address; write hub:NAME[:CONFIG][@SPLIT]")
    name, config, split = match.group("name", "config", "split") if match else (path, None, None)
    splits = _load(path, name, config, **({"streaming": True} if streaming else {}))
    if split is None and len(splits) == 1:
        (split,) = splits
    if split not in splits:
        found = f"no split {split!r}" if split else "several splits"
        address = f"hub:{name}{f':{config}' if config else ''}@SPLIT"
        raise RecordError(f"{path}: {found}; give one of {', '.join(splits)} as {address}")
    for index, fields in enumerate(splits[split]):
        yield make_row(f"{path}:{index + 1}", index, fields)


def _load(path: str, name: str, config: str | None, **options: bool) -> Any:
    """All splits of a dataset; code in the dataset is never run."""
    import datasets

    if Path(name).is_dir():
        _check_kinds(Path(name))
    try:
        return datasets.load_dataset(name, config, **options)
    except ConnectionError as error:
        remedy = "download the file where there is a network, and give its path instead"
        raise RecordError(f"{path}: the hub cannot be reached (offline?): {error}; {remedy}") from error
    except (EOFError, OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if (cut := _cut_off(Path(name))) is not None:
            raise RecordError(f"{cut}: the file is cut off; get it again") from error
        remedy = "check name and config, or give a .json or .jsonl file"
        raise RecordError(f"{path}: datasets cannot load it: {error}; {remedy}") from error


_KINDS = {".json": "JSON", ".jsonl": "JSON", ".csv": "CSV", ".tsv": "CSV", ".parquet": "Parquet"}
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def _check_kinds(folder: Path) -> None:
    """Refuse a folder with files of several kinds: ``datasets`` reads one, and says nothing of the others."""
    kinds: dict[str, str] = {}  # kind -> its first file
    for file in sorted(folder.iterdir()):
        known = [_KINDS[ending.lower()] for ending in file.suffixes if ending.lower() in _KINDS]
        if known and file.is_file() and file.name[0] not in "._" and not file.name.startswith("dataset_info"):
            kinds.setdefault(known[-1], file.name)
    if len(kinds) > 1:
        found = ", ".join(f"{name} ({kind})" for kind, name in kinds.items())
        raise RecordError(
            f"{folder}: it holds files of several kinds, {found}; give one of them, or a folder of one kind"
        )


def _cut_off(folder: Path) -> Path | None:
    """The first compressed file of a folder that does not reach its end, or None."""
    for file in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if file.suffix in _OPENERS:
            try:
                with _OPENERS[file.suffix](file) as opened:
                    while opened.read(1 << 20):
                        pass
            except EOFError:
                return file
            except (OSError, zlib.error, lzma.LZMAError):  # damaged in another way
                continue
    return None


def hub_hint(path: str) -> str | None:
    """A hint for a web address, or for a path that may be a hub id; None for others."""
    name = hub_id(path)
    if name is None:
        return "a web address is not read: download the file, and give its path" if is_address(path) else None
    what = "data sets of the hub are" if is_address(path) else "if it is a data set of the hub, it is"
    return f"{what} read by hub:{name}"
