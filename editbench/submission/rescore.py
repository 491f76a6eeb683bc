"""Level 2: the ledger's edits put into the base model, and rows of a sample scored again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.editing_loop import RECORDS_TOGETHER
from editbench.submission.agreement import Scores, Tolerance, drawn
from editbench.submission.claim import CannotSay, Claim

if TYPE_CHECKING:
    from editbench.submission.rebuilt import Rebuilt, Replay

Row = Mapping[str, Any]
Point = tuple[int, str, int]
"""Batch, stage and number of edits of rows that were scored together."""
NOT_AGAIN = ("ability.", "footprint", "perplexity.edited", "perplexity.mean_of_three")
"""Beginnings of the names of model rows that are not scored again: tests of general ability take hours; bytes depend on
the machine; the others are means over all records, of which a sample is scored."""


def rescore(rebuilt: Rebuilt, folder: Path, sample: int, nonce: str, tolerance: Tolerance) -> tuple[Scores, bool]:
    """Score rows of the unedited model, of the model as a whole at the end, and a sample of final and interim rows.

    ``folder`` is for the ledger's copy. Also returns whether the weights have the bits that the run's had. Afterwards
    the model is unedited.
    """
    claim, scores = rebuilt.claim, Scores(tolerance)
    if rebuilt.stream.single:
        raise CannotSay("single edits are taken back, and none is kept: only --level 3 can check them")
    rows = [row for stage in ("final", "interim") for row in claim.records(stage)]
    if not rows:
        raise CannotSay("it has no final and no interim rows")
    replay = rebuilt.replay(folder)
    _compare(scores, _of_model(claim, "before"), replay.unedited_rows())
    same = replay.restore()
    chosen = drawn([f"{row['stage']}|{row['edits']}|{row['record']}" for row in rows], sample, claim.root, nonce)
    by_point: dict[Point, list[Row]] = defaultdict(list)
    for row in (rows[i] for i in chosen):
        by_point[_point(row)].append(row)
    by_point.setdefault(max(map(_point, rows), key=_order), [])
    for batch, stage, edits in sorted(by_point, key=_order, reverse=True):
        if stage == "interim":
            replay.go_back(claim.kept_after(batch))
        _score_point(scores, rebuilt, replay, by_point[batch, stage, edits], (stage, edits, batch))
    replay.go_back(0)
    return scores, same


def _point(row: Row) -> Point:
    return row["batch"], row["stage"], row["edits"]


def _order(point: Point) -> tuple[int, bool]:
    """Of the time of scoring: the end comes behind an evaluation point after the same batch."""
    return point[0], point[1] == "final"


def _score_point(
    scores: Scores, rebuilt: Rebuilt, replay: Replay, told: Sequence[Row], point: tuple[str, int, int]
) -> None:
    """Score the sampled rows of one stage at one place, and at the end the rows of the model as a whole."""
    stage, edits, batch = point
    records = rebuilt.records_of([row["record"] for row in told])
    if stage == "final":
        found = replay.score_model(records, stage, edits, batch)
        _compare(scores, _of_model(rebuilt.claim, stage), found)
    else:
        found = replay.score(records, stage, edits, batch)
    compare_records(scores, rebuilt, replay, told, found)


def compare_records(
    scores: Scores, rebuilt: Rebuilt, replay: Replay, told: Sequence[Row], found: Iterable[Row]
) -> None:
    """Compare rows; one that differs is scored again among the records beside which the run had scored it."""
    by_id = {row["record"]: row for row in found if "record" in row}
    for row in told:
        if scores.differences(row, by_id[row["record"]]):
            stage, edits, batch = row["stage"], row["edits"], row["batch"]
            every = [other for other in rebuilt.claim.records(stage, edits) if other["batch"] == batch]
            at = next(i for i, other in enumerate(every) if other["record"] == row["record"])
            start = at // RECORDS_TOGETHER * RECORDS_TOGETHER
            beside = [other["record"] for other in every[start : start + RECORDS_TOGETHER]]
            again = replay.score(rebuilt.records_of(beside), stage, edits, batch)
            by_id[row["record"]] = next(other for other in again if other["record"] == row["record"])
        scores.add(row, by_id[row["record"]])


def _of_model(claim: Claim, stage: str) -> list[Row]:
    return [row for row in claim.rows if row["stage"] == stage and "of" in row and not row["of"].startswith(NOT_AGAIN)]


def _compare(scores: Scores, told: Iterable[Row], found: Iterable[Row]) -> None:
    """Compare rows of the model as a whole."""
    by_name = {row["of"]: row for row in found if "of" in row}
    for row in told:
        scores.add(row, by_name.get(row["of"], {"scores": {}}))
