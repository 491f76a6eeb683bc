"""Output of commands: JSON alone, quiet libraries, errors."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from editbench.visible_text import visible

if TYPE_CHECKING:
    import argparse


@contextmanager
def json_lines() -> Iterator[IO[str]]:
    """Standard output for JSON alone: other output of the block, of child processes too, goes to standard error."""
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
    """Turn off the progress bars of transformers, beside ours; warnings stay."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def report_failure(error: Exception, job: str = "") -> None:
    """Print an error in one line, of this job, and the traceback of errors that are ours to mend."""
    if not isinstance(error, (ValueError, OSError, RuntimeError)):
        traceback.print_exception(error)
    print(f"error{f' in {job}' if job else ''}: {visible(str(error))}", file=sys.stderr)


def stoppable(work: Callable[[], int], stopped: str) -> int:
    """Do a command's work, which SIGTERM may stop as Ctrl-C does; its exit status.

    130 with the sentence ``stopped`` after a stop, 1 after an error, which is printed in one line.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return work()
    except KeyboardInterrupt:
        print(f"\n{stopped}", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        return 1


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option ``--json`` of a command whose lines are ``what``."""
    parser.add_argument("--json", action="store_true", help=f"{what} on standard output, and nothing else")
