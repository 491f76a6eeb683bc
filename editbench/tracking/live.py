"""What the session hands its rows to, as it writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from editbench import progress
from editbench.tracking.guard import Warner
from editbench.tracking.observe import Curves, RecordTable, flat_summary
from editbench.tracking.opening import open_tracker
from editbench.tracking.tracker import NoTracker, TrackedRun, Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from editbench.results import RunStore
    from editbench.tracking.settings import TrackerSettings


class Observer:
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
        self._view = progress.view()
        self._tracked = not isinstance(self._tracker, NoTracker)
        self._idle = not self._tracked and self._view is None
        self._curves, self._records = Curves(headline or {}), RecordTable()
        self._memory, self._tables = memory, tables and self._tracked
        self._summary: dict[str, Any] = {}
        self._warner = Warner(type(self._tracker).__name__)

    @classmethod
    def of(
        cls,
        settings: TrackerSettings,
        store: RunStore,
        config: Mapping[str, Any],
        headline: Mapping[str, str],
        memory: Callable[[], Mapping[str, int]],
    ) -> Observer:
        """Open the tracker that the settings name, for the run in ``store``, and start it.

        Raises:
            ValueError: As :func:`~editbench.tracking.opening.open_tracker`.
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
            self._view.standing = self._curves.standing()
            self._view.changed()

    def __enter__(self) -> Observer:
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
