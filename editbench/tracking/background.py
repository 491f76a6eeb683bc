"""A tracker that can neither slow a run down nor end it.

The service's calls are made by a thread of their own, from a bounded queue. What fails is said once, what the queue
cannot hold is dropped and said once, and the end of the run waits for a bounded time only.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from importlib import import_module, util
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any, NamedTuple

from editbench.checks import unknown
from editbench.tracking.base import NoTracker, Tracker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from editbench.config import TrackerConfig
    from editbench.tracking.base import TrackedRun


logger = logging.getLogger(__name__)

Call = tuple[str, tuple[Any, ...]]


class Warner:
    """Says each kind of trouble once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._said: set[str] = set()

    def say(self, kind: str, message: str) -> None:
        """Warn, unless this kind of trouble has been said before."""
        if kind not in self._said:
            self._said.add(kind)
            logger.warning("tracker %s: %s. The run goes on; its own files hold everything.", self._name, message)

    @contextmanager
    def catching(self, doing: str) -> Iterator[None]:
        """Let no error of the block out; say the first one."""
        try:
            yield
        except Exception as error:  # whatever a service raises must not end a run
            first_line = (str(error).strip() or "no message").splitlines()[0]
            self.say("error", f"{doing} failed ({type(error).__name__}: {first_line}); further errors are not shown")


class BackgroundTracker(Tracker):
    """Passes calls on to ``backend`` in the background."""

    def __init__(self, backend: Tracker, settings: TrackerConfig) -> None:
        self.warner = Warner(settings.name)
        self._backend, self._settings = backend, settings
        self._calls: Queue[Call] = Queue(maxsize=settings.queue)
        self._begun = time.monotonic()
        self._tried_to_start, self._started = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name=f"tracker-{settings.name}", daemon=True)

    def start(self, run: TrackedRun) -> None:
        """Start the thread, and the backend in it."""
        self._begun = time.monotonic()
        self._thread.start()
        self._submit("start", run)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Pass on, later."""
        self._submit("log", step, values)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Pass on, later."""
        self._submit("table", name, rows)

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        """Pass on and wait: until the backend had its time to start, and then ``finish_seconds`` at most."""
        if not self._thread.ident:
            return
        self._tried_to_start.wait(max(0.0, self._begun + self._settings.start_seconds - time.monotonic()))
        deadline = time.monotonic() + self._settings.finish_seconds
        try:
            self._calls.put(("finish", (summary, status)), timeout=self._settings.finish_seconds)
        except Full:
            self._drop_all()  # a service that hangs: should it wake up, it closes the run and no more
            self._calls.put_nowait(("finish", (summary, status)))
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self.warner.say("late", f"not finished within {self._settings.finish_seconds:g} s; not waiting any longer")

    def _submit(self, name: str, *arguments: Any) -> None:
        try:
            self._calls.put_nowait((name, arguments))
        except Full:
            self.warner.say("full", f"{self._settings.queue} calls are waiting, further ones are dropped")

    def _drop_all(self) -> None:
        try:
            while True:
                self._calls.get_nowait()
        except Empty:
            return

    def _work(self) -> None:
        """The thread: one call after the other, until "finish"; none but "start" where that failed."""
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


MODES = ("online", "offline", "disabled")


class Service(NamedTuple):
    """Where a tracker's class is, which package it needs, and what installs that."""

    module: str
    tracker: str
    package: str
    install: str


SERVICES = {
    "wandb": Service("editbench.tracking.wandb", "WandbTracker", "wandb", "wandb"),
    "tensorboard": Service(
        "editbench.tracking.tensorboard", "TensorBoardTracker", "tensorboard", "editbench[tensorboard]"
    ),
    "trackio": Service("editbench.tracking.trackio", "TrackioTracker", "trackio", "editbench[trackio]"),
}

NAMES = ("none", *SERVICES)


def open_tracker(settings: TrackerConfig) -> Tracker:
    """The tracker that the settings name, guarded: none of its calls blocks or raises.

    Raises:
        ValueError: Unknown name or mode, a bound that is not positive, or the service's package is not installed.
    """
    if settings.name not in NAMES:
        raise unknown("tracker", settings.name, NAMES)
    if settings.mode is not None and settings.mode not in MODES:
        raise unknown("tracker mode", settings.mode, MODES)
    for bound in ("start_seconds", "finish_seconds", "queue"):
        if getattr(settings, bound) <= 0:
            raise ValueError(f"tracker.{bound} is {getattr(settings, bound)}; it must be positive")
    if settings.name == "none":
        return NoTracker()
    service = SERVICES[settings.name]
    if util.find_spec(service.package) is None:
        raise ValueError(
            f"tracker={settings.name} needs the package {service.package}, which is not installed: "
            f"pip install '{service.install}'"
        )
    backend: Tracker = getattr(import_module(service.module), service.tracker)(settings)
    return BackgroundTracker(backend, settings)
