"""Splits: records that streams edit, on which settings are tuned, and on which networks are trained; by subject.

The embedded world has its own groups of subjects. Of a published file (``Dataset.reserved``) the last records are never
streamed: half of them are for tuning, half for training. Any other file is split by the subject's hash. A record
without a subject goes by its prompt. ``docs/data.md`` states the rules for users.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from editbench.datasets.base import Item, of_kind
from editbench.datasets.rows import RowError
from editbench.records import EditRecord, RecordError, SkippedRecord, Split
from editbench.words import folded

Parsed = list[Item] | RowError  # of a row: its items, or why it cannot be used

STREAM, TUNE, TRAIN, ALL = "stream", "tune", "train", "all"
SPLITS = (STREAM, TUNE, TRAIN)
CHOICES = (*SPLITS, ALL)
SMALLEST = 4
"""A file with fewer records than so many times the reserved ones is no published one."""
TENTHS = {TUNE: 1, TRAIN: 1}  # of all subjects, where hashes decide; the others are for streams


def choose(rows: Iterable[Parsed], wanted: str | None, reserved: int) -> tuple[Iterable[Parsed], Split]:
    """The rows of the wanted split, in order, and the facts of the split.

    ``reserved`` is the number of a published file's last records that no stream edits. Without a wanted split this is
    "stream" if they are reserved, else "all"; the rows are then read as far as the caller takes them.
    """
    if wanted == ALL or (wanted is None and not reserved):
        return rows, Split(ALL)
    every = list(rows)
    if reserved and sum(map(_size, every)) >= SMALLEST * reserved:
        names, shared = _by_place(every, reserved)
        split = Split(wanted or STREAM, f"the last {reserved} records are never streamed", shared)
    elif wanted is None:
        return every, Split(ALL)
    else:
        names, split = [_by_hash(row) for row in every], Split(wanted, "by the subject's hash")
    chosen = [row for row, name in zip(every, names, strict=True) if name == split.name]
    if not any(map(_records, chosen)):
        raise RecordError(f"no record belongs to the split {split.name} ({split.rule}); give more records")
    return chosen, split


def _records(row: Parsed) -> list[EditRecord]:
    return [] if isinstance(row, RowError) else of_kind(EditRecord, row)


def _size(row: Parsed) -> int:
    """Records of a row, those that cannot be edited included: a setting of the dataset moves no row elsewhere."""
    return 1 if isinstance(row, RowError) else len(_records(row)) + len(of_kind(SkippedRecord, row))


def _subject(row: Parsed) -> str | None:
    """The subject of a row's records, or the first one's prompt; None without records."""
    records = _records(row)
    return folded(records[0].request.subject or records[0].request.prompt) if records else None


def _by_place(rows: Sequence[Parsed], reserved: int) -> tuple[list[str | None], int]:
    """Each row's split, and the number of records in none, since a later row of another split has their subject."""
    names: list[str | None] = [None] * len(rows)
    owner: dict[str, str] = {}  # by subject
    behind = shared = 0
    for place in range(len(rows) - 1, -1, -1):
        name = TRAIN if behind < reserved // 2 else TUNE if behind < reserved else STREAM
        behind += _size(rows[place])
        subject = _subject(rows[place])
        if subject is None or owner.setdefault(subject, name) == name:
            names[place] = name
        else:
            shared += len(_records(rows[place]))
    return names, shared


def _by_hash(row: Parsed) -> str:
    """The split of a row by the first eight hex digits of its subject's SHA-256, modulo 10."""
    if (subject := _subject(row)) is None:
        return STREAM  # it has no records
    tenth = int(hashlib.sha256(subject.encode()).hexdigest()[:8], 16) % 10
    for name, tenths in TENTHS.items():
        if tenth < tenths:
            return name
        tenth -= tenths
    return STREAM
