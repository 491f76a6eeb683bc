"""Progress bars for everything that takes more than two seconds; nothing at all when nobody looks at a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET_SECONDS = 2.0


class Advance(Protocol):
    """Reports progress: call with the number of steps done since the last call, and an optional note."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """Advance by ``steps``."""


@contextmanager
def progress(description: str, total: int) -> Iterator[Advance]:
    """Yield an :class:`Advance`; a rich bar appears on standard error once the work has lasted two seconds.

    Nested bars stay quiet: the outermost one speaks.
    """
    global _active
    if _active or not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(description, total=total, note="")
    begun, shown = time.monotonic(), False

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal shown
        bar.update(task, advance=steps, note=note)
        if not shown and time.monotonic() - begun > QUIET_SECONDS:
            bar.start()
            shown = True

    _active = True
    try:
        yield advance
    finally:
        _active = False
        if shown:
            bar.stop()


def _silent(steps: int = 1, note: str = "") -> None:
    return


_active = False
