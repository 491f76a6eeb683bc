"""The interface that all trackers share."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told about a run.

    Attributes:
        name: The run's folder name.
        key: The same each time that this run is taken up again, and no other run's.
        folder: The run's folder.
        config: The resolved config.
        provenance: Versions, hashes, machine: a :class:`~editbench.results.schema.Provenance`.
        group: Name that the runs of a sweep share.
        tags: Short labels.
    """

    name: str
    key: str
    folder: Path
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    group: str
    tags: tuple[str, ...]

    @classmethod
    def of(
        cls, folder: Path, info: Mapping[str, Any], config: Mapping[str, Any], group: str | None, tags: Sequence[str]
    ) -> TrackedRun:
        """Describe a run by its folder, run.json and config; ``group`` and ``tags`` are the user's."""
        provenance = info["provenance"]
        what = [str(provenance[key]["name"]) for key in ("dataset", "model", "method")]
        stream, identity = provenance["stream"], provenance["identity"][:8]
        return cls(
            name=str(info["run"]),
            key=hashlib.sha256(f"{info['run']} {info['started']}".encode()).hexdigest()[:16],
            folder=folder,
            config=config,
            provenance=provenance,
            group=group or "-".join([*what, f"e{stream['edits']}", f"b{stream['batch_size']}", identity]),
            tags=tuple(dict.fromkeys([*what, *tags])),
        )


class Tracker(ABC):
    """Shows a run in some service. Calls come in the order `start`, any of the others, `finish`."""

    @abstractmethod
    def start(self, run: TrackedRun) -> None:
        """Open the run, or take it up again."""

    @abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each of some curves; ``step`` is the number of edits made."""

    @abstractmethod
    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show rows that all have the same keys; values are strings, numbers or None."""

    @abstractmethod
    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        """Close the run with its summary and its status: "done", "failed" or "interrupted"."""


class NoTracker(Tracker):
    """Shows nothing."""

    def start(self, run: TrackedRun) -> None:
        """Nothing."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Nothing."""

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        """Nothing."""
