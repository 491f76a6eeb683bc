"""A tracker that editbench does not ship: one JSON line for each call."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from editbench.tracking import Tracker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from editbench.tracking import TrackedRun


class JsonLinesTracker(Tracker):
    """Appends to a file in the run's folder."""

    @dataclass
    class Settings:
        """Settings of the tracker.

        Attributes:
            file: Name of the file.
        """

        file: str = "tracked.jsonl"

    def start(self, run: TrackedRun) -> None:
        """Write the run's name and tags."""
        self._file = run.folder / self.settings.file
        self._write(call="start", name=run.name, tags=run.tags)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        self._write(call="log", step=step, values=dict(values))

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a table's rows."""
        self._write(call="table", name=name, rows=[dict(row) for row in rows])

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        """Write the summary and the status."""
        self._write(call="finish", status=status, summary=dict(summary))

    def _write(self, **line: Any) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
