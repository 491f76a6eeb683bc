"""Datasets: raw files, folders, the hub or the embedded world to validated records.

    load("counterfact", "counterfact.json")
    load("zsre", "hub:NAME@SPLIT", target="answers")
    load("hallucination", "pocket")

One file a dataset; each tells its layouts apart by the fields of a record.
"""

from __future__ import annotations

import dataclasses
import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from editbench.checks import unknown
from editbench.datasets.loading import load_dataset

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from editbench.datasets.base import Dataset
    from editbench.records import RecordSet

DATASETS: Mapping[str, str] = MappingProxyType(
    {
        "counterfact": "editbench.datasets.counterfact:COUNTERFACT",
        "zsre": "editbench.datasets.zsre:ZSRE",
        "hallucination": "editbench.datasets.hallucination:HALLUCINATION",
        "custom": "editbench.datasets.custom:CUSTOM",
    }
)
"""Name -> where the :class:`~editbench.datasets.base.Dataset` is, imported when it is used."""


def load(
    name: str, path: str | Path, *, on_error: str = "raise", limit: int | None = None, **settings: Any
) -> RecordSet:
    """Load a dataset.

    Args:
        name: One of :data:`DATASETS`.
        path: A JSON or JSON Lines file; a folder that Hugging Face's ``datasets`` can read;
            "hub:NAME[:CONFIG][@SPLIT]"; or "pocket", the embedded world.
        on_error: What to do with a record that cannot be used: "raise", or "skip" it and list it in
            ``RecordSet.skipped``. A file that is broken as a whole always raises; a record whose new answer is a true
            one already never does, and is listed.
        limit: Only the first so many records.
        **settings: The dataset's own settings: ``plain_path``, ``unrelated_path``, ``pocket_seed``, ``prompt_format``
            and ``paraphrases`` (all), ``target`` and ``nq_prefix`` (zsre), ``accurate_path`` (hallucination).

    Returns:
        The records in file order, the texts, what was skipped, and the fingerprint.

    Raises:
        RecordError: If a record or file cannot be used; the message names file, line, id and field.
        ValueError: If a name, a setting or its value is unknown.
    """
    dataset = find(name)
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error={on_error!r} is none of raise, skip")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit={limit!r} must be a whole number from 1, or None for all records")
    known = [field.name for field in dataclasses.fields(dataset.settings)]
    for setting in settings:
        if setting not in known:
            raise unknown(f"setting of {name}", setting, known)
    return load_dataset(dataset, path, dataset.settings(**settings), on_error=on_error, limit=limit)


def load_texts(path: str | Path) -> list[str]:
    """Plain texts: rows with a field ``text`` (JSON, JSON Lines, a folder or the hub), or the lines of a ``.txt`` file.

    Raises:
        RecordError: If the file or one of its rows cannot be used.
    """
    from editbench.datasets.base import Settings, parse_rows
    from editbench.datasets.files import read_texts
    from editbench.datasets.loading import PLAIN

    return [passage.text for passage in parse_rows(read_texts(path), PLAIN, Settings(), "raise").passages]


def find(name: str) -> Dataset[Any]:
    """The dataset of that name.

    Raises:
        ValueError: If there is none.
    """
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS)
    module, attribute = DATASETS[name].split(":")
    dataset: Dataset[Any] = getattr(importlib.import_module(module), attribute)
    return dataset
