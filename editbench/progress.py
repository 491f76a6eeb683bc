"""Progress while work goes on: bars, and of a run its phase and live status, on a terminal or as lines of a log.

    with progress("values", total=50) as advance:
        advance(10)

Within :func:`shown_in` its display shows everything. Elsewhere a bar is shown on a terminal after two seconds of work,
and nothing without a terminal. Rate and time left are computed here: rich's estimate does not count down between steps,
and forgets steps slower than its window.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

QUIET_SECONDS, PLAIN_SECONDS = 2.0, 30.0
"""Age from which a bar without a run, or within another, is shown; time between two lines of a log."""
FRAMES_A_SECOND = 4
MIN_BAR_WIDTH, MAX_BAR_WIDTH = 8, 40


class Advance(Protocol):
    """Reports progress."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """Add the steps since the last call, with an optional note."""


@dataclass
class Bar:
    """Work of ``total`` steps, ``before`` of them by an earlier process; times are of the monotonic clock."""

    description: str
    total: int
    before: int = 0
    done: int = 0
    note: str = ""
    begun: float = field(default_factory=lambda: time.monotonic())
    moved: float = 0.0

    def advance(self, steps: int, note: str) -> None:
        """Add ``steps`` to those done."""
        self.done, self.note, self.moved = self.done + steps, note, time.monotonic()

    @property
    def rate(self) -> float | None:
        """Steps a second in this process; None before the first."""
        steps, seconds = self.done - self.before, self.moved - self.begun
        return steps / seconds if steps > 0 and seconds > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds that the rest takes at this rate; None before the first step."""
        if self.rate is None:
            return None
        return max(0.0, (self.total - self.done) / self.rate - (time.monotonic() - self.moved))

    @property
    def numbers(self) -> str:
        """Steps done, rate, time left and note."""
        parts = [f"{self.done}/{self.total}"]
        if self.rate is not None and self.left is not None:
            each = f"{self.rate:.1f}/s" if self.rate >= 1 else f"{1 / self.rate:.1f} s each"
            parts += [each, f"{_clock(self.left)} left"]
        return ", ".join(filter(None, [*parts, self.note]))


@dataclass(frozen=True)
class LiveStatus:
    """Scores of a run so far."""

    edits: int  # tried
    unedited: int  # among them: unsupported or failed
    means: Mapping[str, Mapping[str, tuple[float, int]]]
    """Mean and number of records, by occasion ("so far", "after 20 edits") and headline measure."""
    perplexity: Mapping[str, tuple[float, float]]  # before the first edit and now, by texts

    def lines(self) -> Iterator[str]:
        """The status in words."""
        for occasion, means in self.means.items():
            if means:
                yield f"{occasion}: " + ", ".join(f"{kind} {mean:.3f} ({n})" for kind, (mean, n) in means.items())
        if self.perplexity:
            changes = (f"{texts} {before:.4g} → {now:.4g}" for texts, (before, now) in self.perplexity.items())
            yield f"perplexity: {', '.join(changes)}"
        if self.unedited:
            yield f"not edited: {self.unedited} of {self.edits}"


class Display:
    """Gets all progress of a block, and shows nothing; subclasses show it on a change, or by the clock."""

    def __init__(self, title: str = "") -> None:
        self.bars: list[Bar] = []  # of the work that goes on, the outermost first
        self.title, self.phase = title, ""  # no phase without a run
        self.status: LiveStatus | None = None  # of a run that has begun
        self.begun = time.monotonic()

    def changed(self) -> None:
        """Called after every change, by the thread that works: return soon."""

    def close(self) -> None:
        """Stop showing, and leave the terminal as it was."""

    def label(self, bar: Bar) -> str:
        """The phase and the bar's description."""
        return bar.description if self.phase in ("", bar.description) else f"{self.phase}: {bar.description}"

    def status_lines(self) -> list[str]:
        """The run's status, and memory and time used."""
        used = [f"{name} {_size(count)}" for name, count in memory().items()]
        footer = ", ".join([*used, f"running for {_clock(time.monotonic() - self.begun)}"])
        return [*(self.status.lines() if self.status is not None else ()), footer]


_display: Display | None = None


def display() -> Display | None:
    """The display of this block, if there is one."""
    return _display


@contextmanager
def shown_in(new: Display) -> Iterator[Display]:
    """Show all progress of the block in a new display, and close it, however the block ends."""
    global _display
    outer, _display = _display, new
    try:
        yield new
    finally:
        _display = outer
        new.close()


def phase(name: str) -> None:
    """Set the run's phase."""
    if _display is not None:
        _display.phase = name
        _display.changed()


@contextmanager
def progress(description: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show a bar for work of ``total`` steps, ``done`` of which an earlier process has done."""
    alone = LiveDisplay() if _display is None and is_terminal() else Display()
    with nullcontext(_display) if _display is not None else shown_in(alone) as shown:
        bar = Bar(description, total, done, done)
        shown.bars.append(bar)

        def advance(steps: int = 1, note: str = "") -> None:
            bar.advance(steps, note)
            shown.changed()

        try:
            yield advance
        finally:
            shown.bars.remove(bar)


def watching(title: str, *, live: bool = True) -> AbstractContextManager[Display]:
    """Show the run of the block; ``live`` if no other process draws on the terminal at the same time."""
    return shown_in(LiveDisplay(title) if live and is_terminal() else PlainDisplay(title))


def is_terminal() -> bool:
    """Whether standard error is a terminal, and not a dumb one, so that it can be drawn on."""
    if not sys.stderr.isatty():
        return False
    from rich.console import Console

    console = Console(stderr=True)
    return console.is_terminal and not console.is_dumb_terminal


class LiveDisplay(Display):
    """Frames on a terminal: of a run from its first phase on, else after two seconds."""

    def __init__(self, title: str = "", console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(title)
        self.console = console or Console(stderr=True)
        self.live = Live(
            get_renderable=self.frame, console=self.console, refresh_per_second=FRAMES_A_SECOND, transient=True
        )

    def changed(self) -> None:
        """Begin to draw when it is time."""
        if not self.live.is_started and (self.phase or time.monotonic() - self.begun > QUIET_SECONDS):
            self.live.start()

    def close(self) -> None:
        """Remove the frame and show the cursor again."""
        self.live.stop()

    def frame(self) -> RenderableType:
        """All lines as they are now; long ones wrap."""
        from rich.console import Group
        from rich.text import Text

        lines: list[RenderableType] = [Text(self.title, style="bold")] if self.title else []
        now, bars = time.monotonic(), list(self.bars)
        if not bars and self.phase:
            lines.append(Text(f"{self.phase} …"))
        for i, bar in enumerate(bars):
            if i == 0 or (now - bar.begun > QUIET_SECONDS and bar.total > 1):  # of inner bars only long ones
                lines.append(self._row(bar, self.label(bar) if i == 0 else bar.description))
        lines += [Text(line) for line in self.status_lines()] if self.title else []
        return Group(*lines)

    def _row(self, bar: Bar, label: str) -> RenderableType:
        """A bar between its label and its numbers, if it fits."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        width = min(self.console.width - len(label) - len(bar.numbers) - 3, MAX_BAR_WIDTH)
        if width < MIN_BAR_WIDTH:
            return Text(f"{label} {bar.numbers}")
        grid = Table.grid(padding=(0, 1))
        grid.add_row(Text(label), ProgressBar(total=bar.total, completed=bar.done, width=width), Text(bar.numbers))
        return grid


class PlainDisplay(Display):
    """One line every thirty seconds, for logs."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self._printed = self.begun

    def changed(self) -> None:
        """Print a line if the last one was long ago."""
        now = time.monotonic()
        if now - self._printed >= PLAIN_SECONDS:
            self._printed = now
            work = [f"{self.label(bar)} {bar.numbers}" for bar in self.bars[:1]] or [self.phase]
            print(f"{self.title}: {'; '.join([*work, *self.status_lines()])}", file=sys.stderr, flush=True)


class Messages(logging.Handler):
    """Log messages to the current standard error: above the live display while it is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message."""
        print(self.format(record), file=sys.stderr)


def memory() -> dict[str, int]:
    """Bytes in use: resident memory of this process where that can be read, and allocated memory of GPUs in use."""
    found = {}
    with suppress(OSError), open("/proc/self/statm") as file:
        import resource

        found["memory"] = int(file.read().split()[1]) * resource.getpagesize()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        found["GPU"] = sum(torch.cuda.memory_allocated(device) for device in range(torch.cuda.device_count()))
    return found


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
