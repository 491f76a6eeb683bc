"""What is shown while work goes on: bars of what takes time and, of a run, its phase and where it stands.

Whoever works says so here and does not ask who looks:

    with progress("values", total=50) as advance:
        advance(10)

Within :func:`shown_in` a view takes in everything; :mod:`editbench.terminal` has those of a run. Elsewhere a bar is
shown by itself on a terminal, once the work has lasted two seconds; not on a terminal, nothing is.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

QUIET_SECONDS = 2.0


class Advance(Protocol):
    """Reports progress: call with the number of steps done since the last call, and an optional note."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """Advance by ``steps``."""


@dataclass
class Bar:
    """Work of a known number of steps.

    Attributes:
        description: What is done.
        total: Steps in all.
        before: Steps that an earlier process has done.
        done: Steps done, those included.
        note: What the last call said.
        begun: When it began, in seconds of the monotonic clock.
        moved: When the last step was done.
    """

    description: str
    total: int
    before: int = 0
    done: int = 0
    note: str = ""
    begun: float = field(default_factory=lambda: time.monotonic())
    moved: float = 0.0

    def advance(self, steps: int, note: str) -> None:
        """Take in that ``steps`` more are done."""
        self.done, self.note, self.moved = self.done + steps, note, time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.begun

    @property
    def rate(self) -> float | None:
        """Steps a second in this process; None before the first."""
        steps, seconds = self.done - self.before, self.moved - self.begun
        return steps / seconds if steps > 0 and seconds > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take at this rate; None before the first step."""
        if self.rate is None:
            return None
        return max(0.0, (self.total - self.done) / self.rate - (time.monotonic() - self.moved))


@dataclass(frozen=True)
class Standing:
    """Where a run stands.

    Attributes:
        edits: Edits made.
        unedited: Those among them that the method does not support or failed on.
        means: By occasion ("so far", "after 20 edits"), by headline measure: the mean and the records behind it.
        perplexity: By texts: before the first edit, and the last value.
    """

    edits: int
    unedited: int
    means: Mapping[str, Mapping[str, tuple[float, int]]]
    perplexity: Mapping[str, tuple[float, float]]


class View:
    """Takes in what goes on. This one shows nothing; others show it when they are told of a change, or by the clock.

    Attributes:
        bars: Those of the work that is going on, the outermost first.
        phase: What a run is doing; empty where no run says.
        standing: Where the run stands, once it has begun.
    """

    def __init__(self) -> None:
        self.bars: list[Bar] = []
        self.phase = ""
        self.standing: Standing | None = None

    def changed(self) -> None:
        """Called after every change, by the thread that works: return soon."""

    def close(self) -> None:
        """Stop showing, and leave the place as it was."""


AnyView = TypeVar("AnyView", bound=View)
_view: View | None = None


def view() -> View | None:
    """The view that takes in what goes on now, if there is one."""
    return _view


@contextmanager
def shown_in(new: AnyView) -> Iterator[AnyView]:
    """Let ``new`` take in what goes on in the block, and close it then, however the block ends."""
    global _view
    outer, _view = _view, new
    try:
        yield new
    finally:
        _view = outer
        new.close()


def phase(name: str) -> None:
    """Say what the run is doing from now on."""
    if _view is not None:
        _view.phase = name
        _view.changed()


@contextmanager
def progress(description: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Yield an :class:`Advance` for work of ``total`` steps, ``done`` of which an earlier process has done."""
    with nullcontext(_view) if _view is not None else _shown_alone() as shown:
        bar = Bar(description, total, done, done)
        shown.bars.append(bar)

        def advance(steps: int = 1, note: str = "") -> None:
            bar.advance(steps, note)
            shown.changed()

        try:
            yield advance
        finally:
            shown.bars.remove(bar)


def _shown_alone() -> AbstractContextManager[View]:
    """A view for one bar and those within it; one that shows nothing where nobody looks."""
    from editbench.terminal import LiveView, is_terminal

    return shown_in(LiveView() if is_terminal() else View())
