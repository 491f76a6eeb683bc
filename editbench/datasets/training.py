"""Records from which a method may learn: those of the split "train" of the run's dataset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from editbench.config import DatasetConfig
from editbench.datasets import splits
from editbench.datasets.disjoint import CrossingError
from editbench.datasets.loading import from_config
from editbench.records import EditRecord, PromptFormat
from editbench.words import folded


def training_records(
    dataset: DatasetConfig, chat_format: PromptFormat | None, edited: Iterable[EditRecord]
) -> tuple[EditRecord, ...]:
    """The records of the dataset's split "train", in its order and prompt format (:func:`from_config`).

    A CrossingError if the stream, whose records are ``edited``, has one of their subjects: with ``dataset.split=all``,
    which is the default of a file that is no published one.
    """
    found = from_config(replace(dataset, split=splits.TRAIN, limit=None), chat_format).records
    subjects = {_subject(record) for record in edited}
    crossing = next((record for record in found if _subject(record) in subjects), None)
    if crossing is not None:
        raise CrossingError(
            f"the method learns from the training record {crossing.id!r}, whose subject the stream edits; give "
            "dataset.split=stream, so that the stream leaves out what is for training"
        )
    return found


def _subject(record: EditRecord) -> str:
    return folded(record.request.subject or record.request.prompt)
