"""A run's rows at its evaluation points and at the end: the leaderboard's columns after so many edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.results.leaderboard import read_row
from editbench.results.run_folder import read_run
from editbench.results.schema import HEADLINES

if TYPE_CHECKING:
    from editbench.results.schema import Row

FACTS = ("method", "hparams", "model", "dataset", "protocol", "batch_size", "seed")
"""Columns that say what was run; they are the same at all points of a run."""
MEASURES = tuple(f"{name}{end}" for name in ("score", *HEADLINES) for end in ("", "_n", "_low", "_high"))
POINT_COLUMNS = (*FACTS, "edits", *MEASURES)


def points_of(folder: Path) -> list[Row]:
    """A row of :data:`POINT_COLUMNS` for each number of edits at which a run was scored, ascending.

    At the end it is the final stage that counts. An unfinished run has none.
    """
    row, summary = read_row(folder), read_run(folder)["summary"] or {}
    stages = [*(summary.get("interim") or ()), *filter(None, [summary.get("final")])]
    by_edits = {int(stage["edits"]): stage for stage in stages}
    facts = {name: row[name] for name in FACTS}
    return [{**facts, "edits": edits, **_measures(by_edits[edits])} for edits in sorted(by_edits)]


def _measures(stage: Mapping[str, Any]) -> Row:
    found: Row = {"score": stage["score"], **{f"score_{end}": stage[f"score_{end}"] for end in ("n", "low", "high")}}
    for kind in HEADLINES:
        estimate = stage["headline"][kind]
        found |= {kind: estimate["mean"], **{f"{kind}_{end}": estimate[end] for end in ("n", "low", "high")}}
    return found


def measure_of(points: Sequence[Row]) -> str:
    """The measure to compare methods by: the score, or where the records have no paraphrases the reliability."""
    return "score" if any(point["score"] is not None for point in points) else "reliability"
