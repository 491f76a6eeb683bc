"""Trackio: a local dashboard from a folder, ``<results>/trackio``, which all runs share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from editbench.tracking.base import TrackedRun, Tracker


class TrackioTracker(Tracker):
    """Logs to Trackio; its ``TRACKIO_*`` variables hold, ``TRACKIO_DIR`` among them."""

    package, install = "trackio", "editbench[trackio]"

    def start(self, run: TrackedRun) -> None:
        """Open the run, or continue an interrupted one."""
        os.environ.setdefault("TRACKIO_DIR", str(run.folder.parent / "trackio"))  # read when it is imported
        import trackio

        self._run: Any = trackio.init(
            project=self.config.project or "editbench",
            name=f"{run.name}-{run.key[:6]}",
            group=run.group,
            config={**run.config, "tags": list(run.tags), "sweep": run.sweep, "provenance": dict(run.provenance)},
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One line of the run's history."""
        self._run.log(dict(values), step=step)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table."""
        import trackio

        self._run.log({name: trackio.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])})

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        """Write the summary as a last point and close the run."""
        self._run.log({f"summary/{name}": value for name, value in summary.items()})
        self._run.finish()
