"""Observer of a run: shows every row that the editing loop writes in a tracker and in the terminal's live view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from editbench import progress
from editbench.records import REWRITE
from editbench.results.columns import finite
from editbench.results.curves import LiveCurves, named, of_model
from editbench.tracking.base import NONE, TrackedRun, Tracker, Warner

Row = Mapping[str, Any]
_Arguments = ParamSpec("_Arguments")
_TABLED = ("immediate", "final")
_FIRST = ("position", "record", "status", "reason", "prompt", "target", "before")
"""First columns of the table of records; "before" is the unedited model's answer to the prompt."""


def _safe(
    method: Callable[Concatenate[RunObserver, _Arguments], None],
) -> Callable[Concatenate[RunObserver, _Arguments], None]:
    """Skip the call where nothing is shown; log its error and continue."""

    @wraps(method)
    def call(self: RunObserver, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        if self.tracker is not None or self.view is not None:
            with self.warner.catching(method.__name__):
                method(self, *args, **kwargs)

    return call


class RunObserver:
    """Shows a run in a tracker, and in the terminal's view if there is one when the observer is made.

        with RunObserver(open_tracker(config), headline) as observer:
            observer.start(run)
            observer.rows(rows)
            observer.edit(row)
            observer.done(summary, costs, read_row)

    The end of the block closes the run with its status. No call raises: an error is logged once, and the run goes on.
    ``memory`` gives peak bytes by name after each batch; with ``tables`` one row a record is sent at the end.
    """

    def __init__(
        self,
        tracker: Tracker | None = None,
        headline: Mapping[str, str] | None = None,
        memory: Callable[[], Mapping[str, int]] = dict,
        tables: bool = True,
    ) -> None:
        self.tracker, self.view = tracker, progress.display()
        self.warner = Warner(NONE if tracker is None else type(tracker).__name__)
        self._curves, self._records = LiveCurves(headline or {}), RecordTable()
        self._memory, self._tables = memory, tables and tracker is not None
        self._summary: dict[str, Any] = {}

    @_safe
    def start(self, run: TrackedRun) -> None:
        """Open the run in the tracker."""
        if self.tracker is not None:
            self.tracker.start(run)

    @_safe
    def resume(self, edits: Iterable[Row], scores: Sequence[Row]) -> None:
        """Continue the running means of an earlier process from its rows; the tracker has their points already."""
        for row in edits:
            self._curves.edit(row)
        self._curves.rows(scores)
        self._changed(scores)

    @_safe
    def edit(self, row: Row) -> None:
        """Show an edit row: one batch that was edited."""
        points = self._curves.edit(row)
        self._changed()
        memory = {f"cost/{name}": float(value) for name, value in self._memory().items() if value}
        self._log({step: {**values, **memory} for step, values in points.items()})

    @_safe
    def rows(self, rows: Sequence[Row]) -> None:
        """Show record and model rows."""
        points = self._curves.rows(rows)
        self._changed(rows)
        self._log(points)

    @_safe
    def done(self, summary: Mapping[str, Any], costs: Mapping[str, Any], row: Callable[[], Row] = dict) -> None:
        """Keep the run's summary, costs, and its row of the leaderboard for the end.

        ``row`` is read for a tracker alone: it takes all of the run's files.
        """
        read = row() if self.tracker is not None else {}
        columns = {name: value if isinstance(value, str) else finite(value) for name, value in read.items()}
        self._summary = {**flat_summary(summary, costs), **{n: v for n, v in columns.items() if v is not None}}

    @_safe
    def finish(self, status: str, reason: str | None = None) -> None:
        """Send the table of records and the summary, and close the run. Waits a bounded time."""
        if self.tracker is None:
            return
        if self._tables and (records := self._records.rows()):
            self.tracker.table("records", records)
        self.tracker.finish({**self._summary, "status": status, **({"reason": reason} if reason else {})}, status)

    def _log(self, points: Mapping[int, Mapping[str, float]]) -> None:
        if self.tracker is not None:
            for step, values in points.items():
                self.tracker.log(step, values)

    def _changed(self, rows: Sequence[Row] = ()) -> None:
        if self.view is not None:
            self.view.status = self._curves.status()
            self.view.changed()
        if self._tables:
            self._records.add(rows)

    def __enter__(self) -> RunObserver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self.finish("done")
        elif issubclass(kind, Exception):
            self.finish("failed", f"{kind.__name__}: {error}")
        else:  # Ctrl-C, a signal
            self.finish("interrupted", kind.__name__)


class RecordTable:
    """One row a record: its edit, the answers to it before, right after its own batch and at the end, and scores."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[str, Any]] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Add the record rows of these stages; other rows are ignored."""
        for row in rows:
            if row.get("stage") in _TABLED and "record" in row:
                at = {"position": row["position"], "record": row["record"]}
                seen = self._rows.setdefault(row["position"], at)
                seen.update(status=row["status"], reason=row.get("reason"))
                seen.update(_edit_of(row))
                scores = row["scores"] if row["status"] == "scored" else {}
                seen.update({f"{row['stage']}/{name}": finite(value) for name, value in scores.items()})

    def rows(self) -> list[dict[str, Any]]:
        """The rows by position, all with the same columns."""
        columns = list(dict.fromkeys(name for row in self._rows.values() for name in row))
        columns = [*_FIRST, *sorted(set(columns) - {*_FIRST})]
        return [{name: row.get(name) for name in columns} for _, row in sorted(self._rows.items())]


def _edit_of(row: Row) -> dict[str, Any]:
    """The edit's own prompt, its target and the model's answers; nothing of a row that kept no probes."""
    own = next((probe for probe in row.get("probes") or () if probe["kind"] == REWRITE), None)
    if own is None:
        return {}
    at_all_times = {name: own[name] for name in ("prompt", "target", "before") if own.get(name) is not None}
    return {**at_all_times, f"{row['stage']}/answer": own.get("answer")}


def flat_summary(summary: Mapping[str, Any], costs: Mapping[str, Any]) -> dict[str, float]:
    """A run's summary and costs as single numbers: "final/score", "final/reliability/mean", "cost/edit_seconds"."""
    flat: dict[str, float] = {}
    stages = {stage: part for stage in ("before", "immediate", "final") if (part := summary.get(stage))}
    for stage, part in stages.items():
        flat |= named(stage, {"score": part["score"], "score_arithmetic": part["score_arithmetic"]})
        for kind, measure in part["headline"].items():
            flat |= named(f"{stage}/{kind}", {key: measure[key] for key in ("mean", "low", "high", "n")})
        flat |= named(f"{stage}/records", part["records"])
        for of, scores in part["model"].items():
            flat |= named(stage, of_model(of, {name: one["mean"] for name, one in scores.items()}))
    flat |= named("cost", {name: value for name, value in costs.items() if name != "footprint"})
    return flat | named("footprint", costs.get("footprint") or {})
