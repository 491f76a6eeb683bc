"""Interface of a tracker, and the description of a run that a tracker gets."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from editbench.config import TrackerConfig


@dataclass(frozen=True)
class TrackedRun:
    """A run's description for a tracker."""

    name: str  # of the run's folder
    key: str  # the same in every process that continues this run, and different for every other run
    folder: Path
    config: Mapping[str, Any]  # resolved
    provenance: Mapping[str, Any]  # as in run.json
    group: str  # name that the runs of a sweep share
    tags: tuple[str, ...]

    @classmethod
    def of(
        cls, folder: Path, info: Mapping[str, Any], config: Mapping[str, Any], group: str | None, tags: Sequence[str]
    ) -> TrackedRun:
        """The description of the run in ``folder``; ``info`` is its run.json, ``group`` and ``tags`` are the user's."""
        provenance = info["provenance"]
        names = [str(provenance[key]["name"]) for key in ("dataset", "model", "method")]
        stream, identity = provenance["stream"], provenance["identity"][:8]
        return cls(
            name=str(info["run"]),
            key=hashlib.sha256(f"{info['run']} {info['started']}".encode()).hexdigest()[:16],
            folder=folder,
            config=config,
            provenance=provenance,
            group=group or "-".join([*names, f"e{stream['edits']}", f"b{stream['batch_size']}", identity]),
            tags=tuple(dict.fromkeys([*names, *tags])),
        )


class Tracker(ABC):
    """Shows a run in a service. Calls come in the order `start`, any of the others, `finish`.

    A package registers its trackers as entry points of the group ``editbench.trackers``.
    """

    @dataclass
    class Settings:
        """The tracker's own settings, ``tracker.settings`` in the config; none by default."""

    package: ClassVar[str | None] = None  # of the service's client; None if the tracker needs none
    install: ClassVar[str] = ""  # argument of `pip install` for it

    def __init__(self, config: TrackerConfig, settings: Any = None) -> None:
        self.config, self.settings = config, settings

    @abstractmethod
    def start(self, run: TrackedRun) -> None:
        """Open the run in the service, or continue it."""

    @abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each of some curves; ``step`` is the number of edits made."""

    @abstractmethod
    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show rows that all have the same keys in the same order; values are strings, numbers or None."""

    @abstractmethod
    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        """Close the run with its summary and its status: "done", "failed" or "interrupted"."""
