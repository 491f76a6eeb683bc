"""What is shown while work goes on: bars of what takes time and, of a run, its phase and where it stands.

Whoever works says so here and does not ask who looks:

    with progress("values", total=50) as advance:
        advance(10)

Within :func:`shown_in` a view takes in everything; :mod:`editbench.progress` has those of a run. Elsewhere a bar is
shown by itself on a terminal, once the work has lasted two seconds; not on a terminal, nothing is.
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from rich.console import Console, RenderableType


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
class LiveStatus:
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


class Display:
    """Takes in what goes on. This one shows nothing; others show it when they are told of a change, or by the clock.

    Attributes:
        bars: Those of the work that is going on, the outermost first.
        phase: What a run is doing; empty where no run says.
        standing: Where the run stands, once it has begun.
    """

    def __init__(self) -> None:
        self.bars: list[Bar] = []
        self.phase = ""
        self.standing: LiveStatus | None = None

    def changed(self) -> None:
        """Called after every change, by the thread that works: return soon."""

    def close(self) -> None:
        """Stop showing, and leave the place as it was."""


AnyDisplay = TypeVar("AnyDisplay", bound=Display)

_view: Display | None = None


def view() -> Display | None:
    """The view that takes in what goes on now, if there is one."""
    return _view


@contextmanager
def shown_in(new: AnyDisplay) -> Iterator[AnyDisplay]:
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


def _shown_alone() -> AbstractContextManager[Display]:
    """A view for one bar and those within it; one that shows nothing where nobody looks."""
    from editbench.progress import LiveDisplay, is_terminal

    return shown_in(LiveDisplay() if is_terminal() else Display())


FRAMES_A_SECOND = 4

PLAIN_SECONDS = 30.0
"""Between two lines where there is no terminal."""

BAR_WIDTHS = (8, 40)
"""The narrowest bar that is worth its place, and the widest."""


def watching(title: str, *, live: bool = True) -> AbstractContextManager[Display]:
    """Show the run in the block.

    Args:
        title: What runs.
        live: Whether this process may draw on the terminal; several of them at once would spoil each other's frames.
    """
    return shown_in(LiveDisplay(title) if live and is_terminal() else PlainDisplay(title))


def is_terminal() -> bool:
    """Whether standard error is a terminal that one can draw on; one that calls itself dumb is not."""
    if not sys.stderr.isatty():
        return False
    from rich.console import Console

    console = Console(stderr=True)
    return console.is_terminal and not console.is_dumb_terminal


class LiveDisplay(Display):
    """Frames on a terminal. Of a run they begin with its first phase; without a title, after two seconds."""

    def __init__(self, title: str = "", console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__()
        self.title, self._begun = title, time.monotonic()
        self._console = console or Console(stderr=True)
        self._live = Live(
            get_renderable=self.frame, console=self._console, refresh_per_second=FRAMES_A_SECOND, transient=True
        )

    def changed(self) -> None:
        """Begin to draw when it is time to."""
        if not self._live.is_started and (self.phase or time.monotonic() - self._begun > QUIET_SECONDS):
            self._live.start()

    def close(self) -> None:
        """Take the frame away and give the cursor back."""
        self._live.stop()

    def frame(self) -> RenderableType:
        """What is shown now; lines wrap where the terminal is narrow."""
        from rich.console import Group
        from rich.text import Text

        lines: list[RenderableType] = [Text(self.title, style="bold")] if self.title else []
        bars = _worth_showing(self.bars)
        if not bars and self.phase:
            lines.append(Text(f"{self.phase} …"))
        lines += [self._drawn(bar, _label(self.phase, bar) if bar is bars[0] else bar.description) for bar in bars]
        if self.title:
            lines += [Text(line) for line in (*_standing_lines(self.standing), _footer(self._begun))]
        return Group(*lines)

    def _drawn(self, bar: Bar, label: str) -> RenderableType:
        """A bar between its label and its numbers, if it fits."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        numbers = _numbers(bar)
        room = min(self._console.width - len(label) - len(numbers) - 3, BAR_WIDTHS[1])
        if room < BAR_WIDTHS[0]:
            return Text(f"{label} {numbers}")
        grid = Table.grid(padding=(0, 1))
        grid.add_row(Text(label), ProgressBar(total=bar.total, completed=bar.done, width=room), Text(numbers))
        return grid


class PlainDisplay(Display):
    """One line every thirty seconds, for logs."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title
        self._begun = self._said = time.monotonic()

    def changed(self) -> None:
        """Say a line if the last one was long ago."""
        now = time.monotonic()
        if now - self._said >= PLAIN_SECONDS:
            self._said = now
            print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """Everything in one line."""
        work = [f"{_label(self.phase, bar)} {_numbers(bar)}" for bar in self.bars[:1]] or [self.phase]
        return f"{self.title}: {'; '.join([*work, *_standing_lines(self.standing), _footer(self._begun)])}"


class Messages(logging.Handler):
    """Log messages to what standard error is at the moment: above the live view while that is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message."""
        print(self.format(record), file=sys.stderr)


def memory() -> dict[str, int]:
    """Bytes in use now: resident memory of this process where that can be read, and of each allocator that runs."""
    found = {}
    try:
        with open("/proc/self/statm") as file:
            import resource

            found["memory"] = int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        pass
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        found["GPU"] = sum(torch.cuda.memory_allocated(device) for device in range(torch.cuda.device_count()))
    return found


def _worth_showing(bars: list[Bar]) -> list[Bar]:
    """The outermost, and of those within it the ones that take their time and have steps to tell of."""
    return [bar for i, bar in enumerate(list(bars)) if i == 0 or (bar.age > QUIET_SECONDS and bar.total > 1)]


def _label(phase: str, bar: Bar) -> str:
    return bar.description if phase in ("", bar.description) else f"{phase}: {bar.description}"


def _numbers(bar: Bar) -> str:
    parts = [f"{bar.done}/{bar.total}"]
    if bar.rate is not None and bar.left is not None:
        parts += [f"{bar.rate:.1f}/s" if bar.rate >= 1 else f"{1 / bar.rate:.1f} s each", f"{_clock(bar.left)} left"]
    return ", ".join(filter(None, [*parts, bar.note]))


def _standing_lines(standing: LiveStatus | None) -> Iterator[str]:
    if standing is None:
        return
    for occasion, means in standing.means.items():
        if means:
            yield f"{occasion}: " + ", ".join(f"{kind} {mean:.3f} ({n})" for kind, (mean, n) in means.items())
    if standing.perplexity:
        of_each = (f"{texts} {before:.4g} → {now:.4g}" for texts, (before, now) in standing.perplexity.items())
        yield f"perplexity: {', '.join(of_each)}"
    if standing.unedited:
        yield f"not edited: {standing.unedited} of {standing.edits}"


def _footer(begun: float) -> str:
    bytes_in_use = [f"{name} {_size(count)}" for name, count in memory().items()]
    return ", ".join([*bytes_in_use, f"running for {_clock(time.monotonic() - begun)}"])


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
