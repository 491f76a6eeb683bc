"""Interface of a tracker, the run that it gets, and the background thread in which every tracker works.

In the thread a tracker can neither slow a run down nor end it: an error is logged once, calls that the bounded queue
cannot hold are dropped and logged once, and the end of the run waits for a bounded time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from importlib import util
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, ClassVar

from editbench import plugins
from editbench.checks import above_zero, unknown
from editbench.config import TrackerConfig
from editbench.visible_text import visible

logger = logging.getLogger(__name__)

MODES = ("online", "offline", "disabled")
NONE = "none"
SWEEP = "EDITBENCH_SWEEP"  # variable of a job's environment: id of its sweep


@dataclass(frozen=True)
class TrackedRun:
    """A run's description for a tracker."""

    name: str  # of the run's folder
    key: str  # the same in every process that continues this run, and different for every other run
    folder: Path
    config: Mapping[str, Any]  # resolved
    provenance: Mapping[str, Any]  # as in run.json
    group: str  # name that runs share which differ in their seed only, or the user's
    tags: tuple[str, ...]
    sweep: str | None = None  # the same for all runs of one sweep's command; None for a run alone

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
            sweep=os.environ.get(SWEEP),
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


class Warner:
    """Logs each kind of problem once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._logged: set[str] = set()

    def warn(self, kind: str, message: str) -> None:
        """Log a warning, unless this kind of problem was logged before."""
        if kind not in self._logged:
            self._logged.add(kind)
            told = visible(message)  # a service's words
            logger.warning("tracker %s: %s. The run goes on; its own files hold everything.", self._name, told)

    @contextmanager
    def catching(self, action: str) -> Iterator[None]:
        """Catch every error of the block, and log the first one."""
        try:
            yield
        except Exception as error:  # no error of a service may end a run
            first_line = (str(error).strip() or "no message").splitlines()[0]
            self.warn("error", f"{action} failed ({type(error).__name__}: {first_line}); further errors are not shown")


class BackgroundTracker(Tracker):
    """Passes calls on to ``backend`` in a thread."""

    def __init__(self, backend: Tracker, config: TrackerConfig) -> None:
        super().__init__(config)
        self.warner = Warner(config.name)
        self._backend = backend
        self._calls: Queue[tuple[str, tuple[Any, ...]]] = Queue(maxsize=config.queue)
        self._begun = time.monotonic()
        self._tried_to_start, self._started = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name=f"tracker-{config.name}", daemon=True)

    def start(self, run: TrackedRun) -> None:
        """Start the thread, and the backend in it."""
        self._begun = time.monotonic()
        self._thread.start()
        self._submit("start", run)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Queue the call."""
        self._submit("log", step, values)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Queue the call."""
        self._submit("table", name, rows)

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        """Queue the call and wait: for the time that the start may take, and then ``finish_seconds`` at most."""
        if not self._thread.ident:
            return
        self._tried_to_start.wait(max(0.0, self._begun + self.config.start_seconds - time.monotonic()))
        deadline = time.monotonic() + self.config.finish_seconds
        closing = ("finish", (summary, status))
        with suppress(Full):
            self._calls.put(closing, timeout=self.config.finish_seconds)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            with suppress(Empty):  # drop all calls: a service that hangs only closes the run, should it wake up
                while True:
                    self._calls.get_nowait()
            self._calls.put_nowait(closing)
            self.warner.warn("late", f"not finished within {self.config.finish_seconds:g} s; not waiting any longer")

    def _submit(self, name: str, *arguments: Any) -> None:
        try:
            self._calls.put_nowait((name, arguments))
        except Full:
            self.warner.warn("full", f"{self.config.queue} calls are waiting, further ones are dropped")

    def _work(self) -> None:
        """Make calls until "finish"; none after a "start" that failed."""
        while True:
            name, arguments = self._calls.get()
            if name == "start" or self._started:
                with self.warner.catching(name):
                    getattr(self._backend, name)(*arguments)
                    self._started = True
            if name == "start":
                self._tried_to_start.set()
            if name == "finish":
                return


def open_tracker(config: TrackerConfig) -> BackgroundTracker | None:
    """The configured tracker in the background, where no call blocks or raises; None for "none"."""
    points = plugins.entry_points(plugins.TRACKERS)
    if config.name not in (NONE, *points):
        raise unknown("tracker", config.name, (NONE, *points))
    if config.mode is not None and config.mode not in MODES:
        raise unknown("tracker mode", config.mode, MODES)
    above_zero(**{f"tracker.{bound}": getattr(config, bound) for bound in ("start_seconds", "finish_seconds", "queue")})
    if config.name == NONE:
        return None
    kind: type[Tracker] = points[config.name].load()
    if kind.package is not None and util.find_spec(kind.package) is None:
        needs = f"tracker={config.name} needs the package {kind.package}"
        raise ValueError(f"{needs}, which is not installed: pip install '{kind.install}'")
    known = [field.name for field in fields(kind.Settings)]
    for name in config.settings:
        if name not in known:
            raise unknown(f"setting of tracker={config.name}", name, known)
    return BackgroundTracker(kind(config, kind.Settings(**config.settings)), config)
