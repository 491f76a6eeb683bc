"""Edit requests of what a caller hands to an editor: requests, records, or dictionaries, read as those of files."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

from editbench.datasets.base import hint
from editbench.datasets.custom import CUSTOM, refuse_misspelt
from editbench.datasets.requests import first_answers
from editbench.datasets.rows import IDS, Row, RowError, make_row
from editbench.records import Editable, EditRecord, EditRequest, RecordError

_log = logging.getLogger(__name__)

_NAMES = {
    "prompt": ("prompt",),
    "subject": ("subject",),
    "target": ("target", "target_new"),
    "target_true": ("target_true", "ground_truth"),
}
_KNOWN = {name for layout in CUSTOM.layouts for name in (*layout.fields, *layout.optional)}


def as_requests(given: Editable | Iterable[Editable], unused: Iterable[str] | None = None) -> list[EditRequest]:
    """The requests in one thing that can be edited, or in several.

    Dictionaries without an id get the next one of ``unused`` that no other has; None numbers them from 0. A RecordError
    for one that cannot be used; fields that records of files do not have are told in a warning.
    """
    several: list[Any]
    if isinstance(given, (EditRequest, EditRecord, Mapping)):
        several = [given]
    elif isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"{type(given).__name__} cannot be edited; give an EditRequest, or several in a list")
    else:
        several = list(given)
    rows = [_row(one, place) for place, one in enumerate(several)]
    own = {one.id for one in rows if not isinstance(one, Row) or _has_id(one)}
    free = (id for id in (map(str, count()) if unused is None else unused) if id not in own)
    requests = [_request(one, free) if isinstance(one, Row) else one for one in rows]
    for id, times in Counter(request.id for request in requests).items():
        if times > 1:
            raise RecordError(f"{times} requests have the id {id!r}; give each its own")
    ignored = {name: None for one in rows if isinstance(one, Row) for name in one.unread() if name not in _KNOWN}
    if ignored:
        _log.warning("note: ignored fields: %s", ", ".join(hint(name, CUSTOM.layouts[0]) for name in ignored))
    return requests


def _row(one: object, place: int) -> Row | EditRequest:
    """A request as it is; a dictionary as the row of a file."""
    if isinstance(one, EditRecord):
        return one.request
    if isinstance(one, EditRequest):
        return one
    if not isinstance(one, Mapping):
        raise TypeError(
            f"{type(one).__name__} at {place} cannot be edited; give an EditRequest, a record or a dictionary"
        )
    fields = {str(name): list(value) if isinstance(value, tuple) else value for name, value in one.items()}
    row = make_row(f"request {place}", place, fields)
    if isinstance(row, RowError):
        raise row
    return row


def _has_id(row: Row) -> bool:
    return any(row.fields.get(name) is not None for name in IDS)


def _request(row: Row, free: Iterator[str]) -> EditRequest:
    refuse_misspelt(row)
    texts = {name: _text(row, keys) for name, keys in _NAMES.items()}
    for name in ("prompt", "target"):
        if texts[name] is None:
            key = next((key for key in _NAMES[name] if key in row.fields), None)
            shown = f"it is {row.fields[key]!r}" if key else f"it has {', '.join(row.fields) or 'nothing'}"
            raise RecordError(f"{row.where} has no {name}; {shown}")
    return EditRequest(row.id if _has_id(row) else next(free), **texts)  # type: ignore[arg-type]


def _text(row: Row, keys: tuple[str, ...]) -> str | None:
    """The text in one of these fields, the first of several spellings; None without. They may not contradict."""
    found = {key: texts for key in keys if (texts := first_answers(row, key))}
    if len({texts[0] for texts in found.values()}) > 1:
        said = " and ".join(f"{key} {texts[0]!r}" for key, texts in found.items())
        raise RecordError(f"{row.where} has {said}; give one of them")
    texts = next(iter(found.values()), [])
    if len(texts) > 1 and keys[0] in ("prompt", "subject"):
        raise RecordError(
            f"{row.where} has {len(texts)} texts as {keys[0]}; give a dictionary for each request, in a list"
        )
    return texts[0] if texts else None
