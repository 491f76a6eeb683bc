"""One trial: a run of the method with some settings, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from editbench import single_run
from editbench.datasets.disjoint import CrossingError
from editbench.files import ResultsError
from editbench.results import RunFolder
from editbench.results.columns import number
from editbench.results.leaderboard import read_row
from editbench.results.run_folder import is_run
from editbench.results.schema import HEADLINES, Row
from editbench.tuning.start import OBJECTIVE

if TYPE_CHECKING:
    from editbench.config import RunConfig


@dataclass(frozen=True)
class Outcome:
    """Result of a trial, at its end: one that failed, or without a finite headline measure, has the score 0."""

    score: float
    status: str  # of the run
    reason: str | None = None  # why it has no score of its own
    headline: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0  # in all, in this process
    edit_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def run_trial(config: RunConfig, keep: bool) -> Outcome:
    """Do, or finish, the run of a trial; its folder is deleted afterwards, unless ``keep``.

    Settings that break the model or the method give an outcome with the score 0; files that cannot be read or written
    raise, since they say nothing about settings. A trial that was left, and whose files have changed since, is begun
    again.
    """
    began, reason = time.perf_counter(), None
    try:
        try:
            single_run.run(config)
        except single_run.OtherRunError:
            RunFolder.remove(config.folder)
            single_run.run(config)
    except (CrossingError, ResultsError, OSError):
        raise
    except (ArithmeticError, MemoryError, RuntimeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - began
    row: Row = read_row(config.folder) if is_run(config.folder) else {"status": "failed"}
    score = number(row, OBJECTIVE) if row["status"] == "done" else None
    if score is None and reason is None:
        reason = str(row.get("reason") or "no score: a headline measure has no finite number")
    outcome = Outcome(
        score=score or 0.0,
        status=str(row["status"]),
        reason=reason,
        headline={name: number(row, name) for name in HEADLINES},
        seconds=seconds,
        edit_seconds=number(row, "edit_seconds") or 0.0,
    )
    if not keep and is_run(config.folder):
        RunFolder.remove(config.folder)
    return outcome
