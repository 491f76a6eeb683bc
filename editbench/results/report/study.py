"""What a study sweeps over: the settings in which runs of one method differ."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editbench.results.schema import Cell, Row

_TEXT_LENGTH = 60


def settings_that_vary(rows: Sequence[Row]) -> list[dict[str, float | str]]:
    """For each run the settings in which runs of its method differ, by their names on the command line.

    A number stays one. Lists of texts are told by their lengths if these tell them apart ("method.negatives (count)"),
    and everything else by its JSON, with a digest if it is long.
    """
    methods: dict[Cell, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        methods[row["method"]].append(index)
    found: list[dict[str, float | str]] = [{} for _ in rows]
    for runs in methods.values():
        settings = {index: _settings(rows[index]) for index in runs}
        for name in sorted({name for one in settings.values() for name in one}):
            values = {index: one[name] for index, one in settings.items() if name in one}
            if len(set(map(_json, values.values()))) > 1:
                for index, (label, value) in _told(name, values).items():
                    found[index][label] = value
    return found


def _settings(row: Row) -> dict[str, Any]:
    method = json.loads(str(row["settings"])) if row["settings"] else {}
    stream = {f"stream.{name}": row[name] for name in ("edits", "batch_size") if row[name] is not None}
    return {**{f"method.{name}": value for name, value in method.items()}, **stream}


def _told(name: str, values: dict[int, Any]) -> dict[int, tuple[str, float | str]]:
    """Name and value of a setting, run by run."""
    if all(isinstance(value, list) and all(isinstance(one, str) for one in value) for value in values.values()):
        counts = {_json(value): len(value) for value in values.values()}
        if len(set(counts.values())) == len(counts):
            return {index: (f"{name} (count)", len(value)) for index, value in values.items()}
    return {index: (name, _number_or_text(value)) for index, value in values.items()}


def _number_or_text(value: Any) -> float | str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    text = value if isinstance(value, str) and value else _json(value)
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:4]
    return text if len(text) <= _TEXT_LENGTH else f"{text[:_TEXT_LENGTH]}… ({digest})"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
