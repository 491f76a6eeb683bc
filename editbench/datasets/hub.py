"""Rows from the Hugging Face hub, or from a folder that its ``datasets`` library can read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from editbench.datasets.rows import Row, RowError, make_row
from editbench.records import RecordError

if TYPE_CHECKING:
    from collections.abc import Iterator

HUB_PREFIX = "hub:"
_ADDRESS = re.compile(r"(?P<name>[^:@]+)(:(?P<config>[^:@]+))?(@(?P<split>[^:@]+))?")


def read_table(path: str) -> Iterator[Row | RowError]:
    """The rows of one split, in order; a row's line is its number from 1.

    Args:
        path: A folder, or "hub:NAME[:CONFIG][@SPLIT]", where NAME may also be a folder. Without a split, the dataset
            must have only one.

    Raises:
        RecordError: If the address is malformed, the dataset cannot be reached or read, or the split is not there.
    """
    match = _ADDRESS.fullmatch(path.removeprefix(HUB_PREFIX)) if path.startswith(HUB_PREFIX) else None
    if match is None and path.startswith(HUB_PREFIX):
        raise RecordError(f"{path!r} is no hub address; write hub:NAME[:CONFIG][@SPLIT]")
    name, config, split = match.group("name", "config", "split") if match else (path, None, None)
    splits = _load(path, name, config)
    if split is None and len(splits) == 1:
        (split,) = splits
    if split not in splits:
        found = f"no split {split!r}" if split else "several splits"
        address = f"hub:{name}{f':{config}' if config else ''}@SPLIT"
        raise RecordError(f"{path}: {found}; give one of {', '.join(splits)} as {address}")
    for index, fields in enumerate(splits[split]):
        yield make_row(f"{path}:{index + 1}", index, fields)


def _load(path: str, name: str, config: str | None) -> Any:
    """All splits of a dataset; code that a dataset ships is never run."""
    import datasets

    try:
        return datasets.load_dataset(name, config)
    except ConnectionError as error:
        raise RecordError(
            f"{path}: the hub cannot be reached (offline?): {error}; "
            "download the file where there is a network, and give its path instead"
        ) from error
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise RecordError(
            f"{path}: datasets cannot load it: {error}; check name and config, or give a .json or .jsonl file"
        ) from error
