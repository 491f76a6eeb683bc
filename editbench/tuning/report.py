"""How much is tuning? The rank of methods after so many trials, from the stored searches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from editbench.results.table_layout import NO_VALUE

if TYPE_CHECKING:
    from editbench.tuning.study import Study

TRIALS = (0, 10, 30)
TASK = ("model", "dataset", "edits", "objective")  # of searches that are ranked together


def ranks(studies: Sequence[Study], trials: Sequence[int] = TRIALS) -> list[dict[str, Any]]:
    """A row for each search: its facts, and by number of trials its best score and its rank in its task.

    Score and rank are None where a search has fewer trials. Equal scores share a rank.
    """
    tasks: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for study in studies:
        facts, done, untuned = study.facts, study.tried, study.untuned
        scores = {str(count): _best(study, count) if untuned and count <= len(done) else None for count in trials}
        row = {name: facts[name] for name in ("method", *TASK, "batch_size", "seed")}
        row |= {"trials": len(done), "zero": sum(one.outcome.score == 0 for one in done), "scores": scores}
        tasks[tuple(facts[name] for name in (*TASK, "records_hash", "seed"))].append(row)
    for rows in tasks.values():
        for row in rows:
            row["ranks"] = {str(count): _rank(str(count), row, rows) for count in trials}
    return [row for key in sorted(tasks, key=str) for row in sorted(tasks[key], key=_order)]


def _best(study: Study, trials: int) -> float:
    best = study.best(trials)
    assert best is not None
    return best.outcome.score


def _rank(count: str, row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> int | None:
    own = row["scores"][count]
    others = (other["scores"][count] for other in rows)
    return None if own is None else 1 + sum(other is not None and other > own for other in others)


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    """The best at the largest number of trials first."""
    scores = [score for score in row["scores"].values() if score is not None]
    return (-len(scores), *(-score for score in reversed(scores)), row["method"])


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """The rows of :func:`ranks`: "0.912 (2)" is a score and its rank."""
    caption = (
        "Best score so far and (rank among the methods of the same model, records and seed); 0 trials: the untuned "
        "settings. Scores are of the tuning records: no result of a benchmark."
    )
    found = Table(title="how much is tuning?", caption=caption)
    for title in ("method", "model", "dataset", "edits", "batch", "seed"):
        found.add_column(title)
    counts = list(rows[0]["scores"]) if rows else []
    for count in counts:
        found.add_column(f"{count} trials", justify="right")
    found.add_column("done", justify="right")
    found.add_column("score 0", justify="right")
    for row in rows:
        cells = [
            NO_VALUE if row["scores"][count] is None else f"{row['scores'][count]:.3f} ({row['ranks'][count]})"
            for count in counts
        ]
        labels = [str(row[name]) for name in ("method", "model", "dataset", "edits", "batch_size", "seed")]
        found.add_row(*labels, *cells, str(row["trials"]), str(row["zero"]))
    return found
