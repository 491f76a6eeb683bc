"""What the session hands its rows to, as it writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from editbench import progress
from editbench.results.curves import Curves, finite, named, of_model
from editbench.tracking.background import Warner, open_tracker
from editbench.tracking.base import NoTracker, TrackedRun, Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from editbench.config import TrackerConfig
    from editbench.results import RunFolder

    Row = Mapping[str, Any]


class RunObserver:
    """Shows a run in a tracker, and in the view of a terminal if there is one when it is made.

    As a context manager it closes the run with the status that the block's end means.

        with Observer(open_tracker(settings), headline) as observer:
            observer.start(run)
            observer.rows(rows)
            observer.edit(row)
            observer.done(summary, costs)

    No call raises: an error is said once, and the run goes on.

    Args:
        tracker: Where to show it; without one, and without a view, every call is free.
        headline: Which measure stands for reliability, generality and locality.
        memory: Gives peak bytes by name; called after each batch.
        tables: Also send one row a record at the end.
    """

    def __init__(
        self,
        tracker: Tracker | None = None,
        headline: Mapping[str, str] | None = None,
        memory: Callable[[], Mapping[str, int]] = dict,
        tables: bool = True,
    ) -> None:
        self._tracker = tracker or NoTracker()
        self._view = progress.display()
        self._tracked = not isinstance(self._tracker, NoTracker)
        self._idle = not self._tracked and self._view is None
        self._curves, self._records = Curves(headline or {}), RecordTable()
        self._memory, self._tables = memory, tables and self._tracked
        self._summary: dict[str, Any] = {}
        self._warner = Warner(type(self._tracker).__name__)

    @classmethod
    def of(
        cls,
        settings: TrackerConfig,
        store: RunFolder,
        config: Mapping[str, Any],
        headline: Mapping[str, str],
        memory: Callable[[], Mapping[str, int]],
    ) -> RunObserver:
        """Open the tracker that the settings name, for the run in ``store``, and start it.

        Raises:
            ValueError: As :func:`~editbench.tracking.background.open_tracker`.
        """
        observer = cls(open_tracker(settings), headline, memory, settings.tables)
        observer.start(TrackedRun.of(store.path, store.info, config, settings.group, settings.tags))
        return observer

    def start(self, run: TrackedRun) -> None:
        """Open the run in the tracker."""
        with self._warner.catching("start"):
            self._tracker.start(run)

    def resume(self, edits: Iterable[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]]) -> None:
        """Take in what an earlier process wrote, and showed, so that running means go on from there."""
        if self._idle:
            return
        with self._warner.catching("resume"):
            for row in edits:
                self._curves.edit(row)
            self._curves.rows(scores)
            if self._tables:
                self._records.add(scores)
            self._stand()

    def edit(self, row: Mapping[str, Any]) -> None:
        """Show an edit row: one batch that was edited."""
        if self._idle:
            return
        with self._warner.catching("edit"):
            points = self._curves.edit(row)
            self._stand()
            memory = {f"cost/{name}": float(value) for name, value in self._memory().items() if value}
            for step, values in points.items():
                self._tracker.log(step, {**values, **memory})

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show score rows and text rows."""
        if self._idle:
            return
        with self._warner.catching("rows"):
            points = self._curves.rows(rows)
            self._stand()
            if self._tables:
                self._records.add(rows)
            for step, values in points.items():
                self._tracker.log(step, values)

    def done(self, summary: Mapping[str, Any], costs: Mapping[str, Any]) -> None:
        """Keep the run's summary and costs for the end."""
        with self._warner.catching("summary"):
            self._summary = dict(flat_summary(summary, costs))

    def finish(self, status: str, reason: str | None = None) -> None:
        """Send the table of records and the summary, and close the run. Waits a bounded time."""
        with self._warner.catching("finish"):
            if self._tables and (records := self._records.rows()):
                self._tracker.table("records", records)
            self._tracker.finish({**self._summary, "status": status, **({"reason": reason} if reason else {})}, status)

    def _stand(self) -> None:
        if self._view is not None:
            self._view.status = self._curves.status()
            self._view.changed()

    def __enter__(self) -> RunObserver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish("done")
        elif issubclass(kind, Exception):
            self.finish("failed", f"{kind.__name__}: {error}")
        else:  # Ctrl-C, a signal
            self.finish("interrupted", kind.__name__)


_TABLED = ("immediate", "final")


class RecordTable:
    """One row a record: what it scored right after its own batch, and at the end."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[str, Any]] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Take in score rows; those of other stages, and text rows, are passed over."""
        for row in rows:
            if row.get("stage") in _TABLED and "record" in row:
                at = {"position": row["position"], "record": row["record"]}
                seen = self._rows.setdefault(row["position"], at)
                seen.update(status=row["status"], reason=row.get("reason"))
                scores = row["scores"] if row["status"] == "scored" else {}
                seen.update({f"{row['stage']}/{name}": finite(value) for name, value in scores.items()})

    def rows(self) -> list[dict[str, Any]]:
        """The rows by position, all with the same columns."""
        columns = list(dict.fromkeys(name for row in self._rows.values() for name in row))
        columns = [*columns[:4], *sorted(columns[4:])]
        return [{name: row.get(name) for name in columns} for _, row in sorted(self._rows.items())]


def flat_summary(summary: Mapping[str, Any], costs: Mapping[str, Any]) -> dict[str, float]:
    """A run's `Summary` and `Costs` as single numbers: "final/score", "final/reliability/mean", "cost/edit_seconds"."""
    flat: dict[str, float] = {}
    for stage in ("before", "immediate", "final"):
        part = summary.get(stage)
        if not part:
            continue
        flat |= named(stage, {"score": part["score"], "score_arithmetic": part["score_arithmetic"]})
        for kind, measure in part["headline"].items():
            flat |= named(f"{stage}/{kind}", {key: measure[key] for key in ("mean", "low", "high", "n")})
        flat |= named(f"{stage}/records", part["records"])
        for of, scores in part["model"].items():
            for name, value in of_model(of, {name: one["mean"] for name, one in scores.items()}).items():
                flat[f"{stage}/{name}"] = value
    flat |= named("cost", {name: value for name, value in costs.items() if name != "footprint"})
    return flat | named("footprint", costs.get("footprint") or {})
