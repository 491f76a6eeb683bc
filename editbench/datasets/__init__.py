"""Datasets by name: raw files, folders, the hub or the embedded world, read as validated records.

    load("counterfact", "counterfact.json")
    load("zsre", "hub:NAME@SPLIT", target="answers")
    load("hallucination", "pocket")

A dataset is one file with its layouts and settings, found by the entry-point group ``editbench.datasets``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from editbench import plugins
from editbench.checks import unknown
from editbench.datasets.loading import load_dataset, load_texts

if TYPE_CHECKING:
    from pathlib import Path

    from editbench.config import DatasetConfig
    from editbench.datasets.base import Dataset
    from editbench.records import RecordSet

__all__ = ["find", "from_config", "load", "load_texts"]


def load(
    name: str, path: str | Path, *, on_error: str = "raise", limit: int | None = None, **settings: Any
) -> RecordSet:
    """Load a dataset.

    Args:
        name: Registered name ("counterfact").
        path: A JSON or JSON Lines file; a folder that Hugging Face's ``datasets`` can read;
            "hub:NAME[:CONFIG][@SPLIT]"; or "pocket", the embedded world.
        on_error: Treatment of a record that cannot be used: "raise", or "skip" to list it in ``RecordSet.skipped``. A
            file that is broken as a whole always raises; a record without anything to edit is always listed.
        limit: Load the first ``limit`` records; None loads all.
        **settings: Fields of the dataset's settings: those of :class:`editbench.datasets.base.Settings`, ``target`` and
            ``nq_prefix`` (zsre), ``accurate_path`` (hallucination).

    Raises:
        RecordError: A record or file cannot be used; the message names file, line, id and field.
        ValueError: A name, a setting or its value is unknown.
    """
    dataset = find(name)
    known = [field.name for field in dataclasses.fields(dataset.settings)]
    for setting in settings:
        if setting not in known:
            raise unknown(f"setting of {name}", setting, known)
    return load_dataset(dataset, path, dataset.settings(**settings), on_error=on_error, limit=limit)


def from_config(config: DatasetConfig) -> RecordSet:
    """Load the dataset of a run's configuration; ``config.settings`` is an instance of its settings dataclass."""
    dataset = find(config.name)
    return load_dataset(dataset, config.path, config.settings, on_error=config.on_error, limit=config.limit)


def find(name: str) -> Dataset[Any]:
    """The dataset registered as ``name``."""
    dataset: Dataset[Any] = plugins.load(plugins.DATASETS, name, "dataset")
    return dataset
