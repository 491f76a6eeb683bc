"""Labels of a table's rows: every setting in which the rows differ, and that no other label implies."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from editbench.results.columns import COLUMNS, mapping_in, number

if TYPE_CHECKING:
    from editbench.results.schema import Cell, Row

LABELLED = ("method", "model", "dataset", "edits")
"""Columns that every table has."""
SOMETIMES = ("mode", "protocol", "batch_size", "split")
"""Columns of rows that differ in them."""
REMARKABLE = {"mode": "single"}
"""Values that are shown in a table of one row too."""
IMPLIED_BY = {
    "model": ("model", "model_precision"),
    "dataset": ("dataset", "edits", "protocol", "split"),
    "protocol": ("protocol", "dataset"),
    "ability": ("protocol", "dataset"),
}
"""By first part of a name in `parts`: columns that imply it, where each of their values goes with one of it."""
COVERED = ("method", "stream.edits", "stream.batch_size", "stream.mode", "model.device")
"""Parts, or what is below them, that columns have: methods by their name with what differs in their settings."""
_MAX_TEXT = 24


def labels_of(rows: Sequence[Row], more: Iterable[str] = ()) -> list[str]:
    """Names of the label columns: of rows, or of `parts` of what decides their numbers ("stream.sample")."""
    grouped = any(number(row, "seeds") not in (None, 1) for row in rows)
    seeds = ["seeds"] if grouped else ["seed"] if _differ(rows, "seed") else []
    found = [*LABELLED, *(name for name in SOMETIMES if _differ(rows, name) or _remarkable(rows, name)), *more]
    return list(dict.fromkeys([*found, *_parts(rows), *seeds]))


def titles_of(labels: Sequence[str]) -> list[str]:
    """Short titles: the last part of a name, the whole where two end alike."""
    short = [name if name in COLUMNS else name.rpartition(".")[2] for name in labels]
    count = Counter(short)
    return [one if count[one] == 1 or name in COLUMNS else name for one, name in zip(short, labels, strict=True)]


def label_value(row: Row, label: str) -> Cell:
    """A row's value of a label."""
    if label in row or label in COLUMNS:
        return row.get(label)
    value = _parts_of(row).get(label)
    text = value if value is None or isinstance(value, str) else str(value)
    return text if text is None or len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"


def _differ(rows: Iterable[Row], name: str) -> bool:
    return len({row.get(name) for row in rows} - {None}) > 1


def _remarkable(rows: Iterable[Row], name: str) -> bool:
    return name in REMARKABLE and REMARKABLE[name] in {row.get(name) for row in rows}


def _parts(rows: Sequence[Row]) -> list[str]:
    """Parts in which rows differ and that are no column."""
    known = [row for row in rows if _parts_of(row)]
    names = sorted({name for row in known for name in _parts_of(row)})
    return [
        name
        for name in names
        if not any(name == one or name.startswith(f"{one}.") for one in COVERED)
        and _tells_apart(known, name, IMPLIED_BY.get(name.partition(".")[0], ()))
    ]


def _tells_apart(rows: Sequence[Row], name: str, by: Sequence[str]) -> bool:
    """Whether rows that agree in the columns ``by`` differ in a part; the version of a formula may be missing."""
    values: dict[tuple[Cell, ...], set[str]] = defaultdict(set)
    for row in rows:
        if name in (parts := _parts_of(row)) or not name.startswith("versions."):
            values[tuple(row.get(one) for one in by)].add(repr(parts.get(name)))
    return any(len(several) > 1 for several in values.values())


def _parts_of(row: Row) -> dict[str, Any]:
    text = row.get("parts")
    return _decoded(text) if isinstance(text, str) else {}


@cache
def _decoded(text: str) -> dict[str, Any]:
    return mapping_in({"parts": text}, "parts")
