"""What commands print, and what they can choose from."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def json_lines() -> Iterator[IO[str]]:
    """Standard output for lines of JSON alone: in the block, whatever else prints, prints to standard error.

    The file descriptors are changed, so that this holds for other processes too.
    """
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as lines:
        os.dup2(2, 1)
        try:
            yield lines
        finally:
            sys.stdout.flush()
            lines.flush()
            os.dup2(lines.fileno(), 1)


def quiet_libraries() -> None:
    """Our own progress bars are enough. Warnings stay: a user gets none from us (a test sees to it), or needs them."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def report_failure(error: Exception) -> None:
    """One line for what users can mend; the traceback too for what only we can."""
    if not isinstance(error, (ValueError, OSError, RuntimeError)):
        traceback.print_exception(error)
    print(f"error: {error}", file=sys.stderr)
