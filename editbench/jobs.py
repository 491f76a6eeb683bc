"""Jobs: what a run comes to for the process that does it, and for the one that was called.

A job runs where its launcher puts it: here, in another process, on another machine. What becomes of it is plain data,
which Hydra hands back to the process that was called, and there a :class:`Desk` takes it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from editbench.console import quiet_libraries, report_failure, row_as_json, show
from editbench.results.leaderboard import COLUMNS, read_row
from editbench.results.store import is_run
from editbench.terminal import watching

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from editbench.progress import View
    from editbench.results.schema import Row


@dataclass(frozen=True)
class JobResult:
    """What became of a job.

    Attributes:
        row: The run's row in the leaderboard; of a job that came to no run, only status and reason.
        folder: The run's folder, if there is one.
        overrides: What was asked for.
        done_before: Whether the run was there already, done.
    """

    row: Row
    folder: str | None = None
    overrides: Sequence[str] = field(default_factory=list)
    done_before: bool = False

    @property
    def status(self) -> str:
        """Of the run: "done", "failed" or "interrupted"."""
        return str(self.row["status"])

    def as_json(self) -> str:
        """One line for scripts."""
        facts = {"folder": self.folder, "done_before": self.done_before, "overrides": list(self.overrides)}
        return row_as_json(self.row, **facts)


def do(config: Any, overrides: Sequence[str] = (), *, number: str = "", live: bool = False) -> JobResult:
    """Do one run. Errors are said on standard error and in the result, and do not go on up.

    Args:
        config: Of the run.
        overrides: What of it was asked for.
        number: Which job of how many, in words.
        live: Whether this process may draw on the terminal.
    """
    from editbench import setup

    folder: Path | None = None
    try:
        folder = setup.folder_of(config).resolve()
        with _shown(config, number, live):
            outcome = setup.run(config)
    except (KeyboardInterrupt, Exception) as error:  # the other jobs of the sweep go on
        return _undone(error, folder, overrides)
    return JobResult(read_row(outcome.folder), str(outcome.folder.resolve()), overrides, outcome.already_done)


def prepare(config: Any, overrides: Sequence[str] = (), *, number: str = "", live: bool = False) -> JobResult:
    """Like :func:`do`, for what is computed ahead of runs; the result has no folder."""
    from editbench import setup

    try:
        with _shown(config, number, live):
            found = setup.prepare(config)
    except (KeyboardInterrupt, Exception) as error:
        return _undone(error, None, overrides)
    facts = {"method": config.method.name, "model": setup.model_name(config), "dataset": config.dataset.name}
    row = {**dict.fromkeys(COLUMNS), **facts, "status": "done", "edits": found.edits, "prepare_seconds": found.seconds}
    return JobResult(row, None, overrides)


def _shown(config: Any, number: str, live: bool) -> AbstractContextManager[View]:
    quiet_libraries()
    return watching(_title(config, number), live=live)


def _undone(error: BaseException, folder: Path | None, overrides: Sequence[str]) -> JobResult:
    """The result of a job that did not end well; its folder may be missing, or another's that is done."""
    if isinstance(error, Exception):
        report_failure(error)
        status, reason = "failed", f"{type(error).__name__}: {error}"
    else:
        status, reason = "interrupted", "stopped by the user; the same command goes on"
    if folder is not None and is_run(folder):
        row = read_row(folder)
        if (row["status"], row["reason"]) == (status, reason):
            return JobResult(row, str(folder), overrides)
    return JobResult({**dict.fromkeys(COLUMNS), "status": status, "reason": reason}, None, overrides)


def _title(config: Any, number: str) -> str:
    from editbench.setup import model_name

    what = [config.method.name, model_name(config), config.dataset.name, f"seed {config.stream.seed}", number]
    return ", ".join(filter(None, what))


def _prepared(row: Row) -> str:
    if row["edits"] is None:
        return f"nothing to prepare: {row['method']} needs nothing ahead"
    seconds = float(row["prepare_seconds"] or 0)
    return f"prepared: {row['method']} on {row['model']}, {row['edits']} edits of {row['dataset']}, {seconds:.1f} s"


class Desk:
    """Takes the results of jobs, shows each when it comes, and knows the exit status.

    Args:
        lines: Where one line of JSON a job goes; None prints tables for people instead.
        jobs: How many jobs there are, where it is known.
    """

    def __init__(self, lines: IO[str] | None = None, jobs: int | None = None) -> None:
        self._lines, self.jobs = lines, jobs
        self.results: list[JobResult] = []

    def number(self, job: int) -> str:
        """Which job of how many, in words; nothing where there is one."""
        return "" if self.jobs == 1 else f"job {job + 1}" + (f" of {self.jobs}" if self.jobs else "")

    def take(self, result: JobResult) -> None:
        """Take the result of a job that ran here."""
        self.results.append(result)
        if self._lines is not None:
            print(result.as_json(), file=self._lines, flush=True)
        elif result.status == "done" and result.folder is None:
            print(_prepared(result.row), flush=True)
        elif result.status == "done":
            show([result.row])
            note = " (done before; results.rerun=true does it again)" if result.done_before else ""
            print(f"files: {result.folder}{note}", flush=True)

    def take_returned(self, results: Sequence[JobResult | None]) -> None:
        """Take what all jobs of a sweep have come to, of which those that ran elsewhere are new, and end with a table.

        None stands for a job that was not begun, after an interruption.
        """
        new = [r for r in results if r is not None and not any(r is known for known in self.results)]
        self.results += new
        for result in new:
            if self._lines is not None:
                print(result.as_json(), file=self._lines, flush=True)
            elif result.status == "done" and result.folder is None:
                print(_prepared(result.row), flush=True)
            if result.status != "done":
                print(f"{result.status}: {' '.join(result.overrides)}: {result.row['reason']}", file=sys.stderr)
        rows = [result.row for result in self.results if result.folder is not None]
        if self._lines is None and (len(rows) > 1 or (rows and new)):
            show(rows)

    @property
    def exit_status(self) -> int:
        """0: all done; 130: interrupted; 1: a job failed."""
        found = {result.status for result in self.results}
        return 130 if "interrupted" in found else 1 if found - {"done"} else 0
