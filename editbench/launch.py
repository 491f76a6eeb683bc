"""``editbench run`` and ``precompute``: one job or a sweep, on any launcher, with reports and exit status."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import hydra
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf.errors import OmegaConfBaseException

from editbench import compose, plugins
from editbench.console import json_lines, quiet_libraries, report_failure
from editbench.foresight import own_part, refuse_foreseen
from editbench.override_errors import in_words
from editbench.progress import watching
from editbench.results.columns import COLUMNS
from editbench.results.leaderboard import read_row, row_as_json
from editbench.results.run_folder import is_run
from editbench.results.tables import show
from editbench.threads import job_cores
from editbench.tracking.base import SWEEP
from editbench.visible_text import one_line, visible

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from editbench.jobs import Command
    from editbench.results.schema import Row

    Job = Callable[[DictConfig], "JobResult | None"]

SWEEP_FLAGS = ("-m", "--multirun")
JSON_FLAG = "--json"
HELP_FLAGS = {"-h", "--help"}
CONFIG_DIR = "--config-dir"
JOBS = "EDITBENCH_JOBS"  # variable of a job's environment: number of jobs in its sweep
INTERRUPTED = 130  # exit status
_reporter: JobReporter | None = None
"""Set in the process that the user called, while it runs jobs; None in a launcher's processes."""


def main(arguments: Sequence[str], *, precompute: bool = False) -> int:
    """Run the jobs of ``arguments``, or precompute for them. Returns the exit status."""
    as_json, arguments = JSON_FLAG in arguments, [a for a in arguments if a != JSON_FLAG]
    try:
        arguments = list(_with_own_folder(arguments))
        if HELP_FLAGS & {*arguments}:
            from editbench import explain

            print(explain.help_text(compose.check([a for a in arguments if not a.startswith("-")]).only))
            return 0
        flags = [a for a in arguments if a.startswith("-")]
        # --help, --cfg job and others are Hydra's own, with words that are no overrides
        of_hydra = [a for a in arguments if "=" not in a or a in flags] if {*flags} - {*SWEEP_FLAGS} else []
        command = compose.check([a for a in arguments if a not in (*flags, *of_hydra)])
        sweep = bool(flags) and not of_hydra or command.sweep
        if sweep:
            refuse_foreseen(command.jobs, command.hydra, command.launcher)
        else:
            command.only  # noqa: B018 - several values need -m
    except BrokenPipeError:
        raise
    except (ValueError, OSError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _keep_ray_out_of_home(arguments)
    with json_lines() if as_json else nullcontext() as lines:
        return _launch(_precompute_job if precompute else _job, command, sweep, of_hydra, JobReporter(lines))


def _launch(job: Job, command: Command, sweep: bool, of_hydra: list[str], reporter: JobReporter) -> int:
    global _reporter
    _reporter = reporter
    try:
        if of_hydra:
            compose.register(list(plugins.entry_points(plugins.METHODS)))  # --info lists them
            sys.argv = ["editbench run", *of_hydra, *command.jobs[0], *command.hydra]
            hydra.main(version_base="1.3", config_path=f"pkg://{compose.CONF}", config_name="config")(job)()
        else:
            run_jobs(job, command, sweep, reporter)
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {visible(in_words(error))}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        raise
    except Exception as error:  # of a launcher: a job that was killed, a queue that refuses
        report_failure(error)
        return 1
    finally:
        _reporter = None
    return reporter.exit_status


def run_jobs(job: Job, command: Command, sweep: bool, reporter: JobReporter) -> None:
    """Run a command's job in this process, or its jobs on Hydra's launcher, as Hydra's own sweeper would."""
    reporter.plan = command.jobs
    with hydra.initialize_config_module(compose.CONF, job_name="editbench", version_base="1.3"):
        hydra_itself: Any = GlobalHydra.instance().hydra
        if not sweep:
            hydra_itself.run("config", job, [*command.only, "hydra.mode=RUN"])
            return
        known = {JOBS: str(len(command.jobs)), SWEEP: sweep_id(command.jobs)}
        own = [*command.hydra, "hydra.mode=MULTIRUN", *(f"+hydra.job.env_set.{k}='{v}'" for k, v in known.items())]
        config = hydra_itself.compose_config("config", [*own, *command.jobs[0]], run_mode=RunMode.MULTIRUN)
        context = HydraContext(hydra_itself.config_loader, Callbacks(config))
        launcher = Plugins.instance().instantiate_launcher(context, job, config)
        reporter.add_returned([done.return_value for done in launcher.launch(command.jobs, initial_job_idx=0)])


def sweep_id(jobs: Sequence[Sequence[str]]) -> str:
    """The id of a sweep by its jobs: the same command, given again, goes on with the same sweep."""
    return hashlib.sha256(json.dumps([list(job) for job in jobs]).encode()).hexdigest()[:8]


def _precompute_job(node: DictConfig) -> JobResult | None:
    return _job(node, precompute=True)


def _job(node: DictConfig, precompute: bool = False) -> JobResult | None:
    """One job in this process, the user's or a launcher's; None after an interruption."""
    overrides, place = list(HydraConfig.get().overrides.task), HydraConfig.get().job.get("num") or 0
    if _reporter is None:
        return run_job(node, overrides, precompute=precompute, number=f"job {place + 1}", cores=_cores())
    if _reporter.exit_status == INTERRUPTED:
        return None
    result = run_job(node, overrides, precompute=precompute, number=_reporter.number(place), live=True)
    if result.status == "interrupted":
        print(
            "\ninterrupted. Every finished batch is on disk; the same command goes on from the last saved state.",
            file=sys.stderr,
        )
    _reporter.add(result)
    return result


def _cores() -> int:
    """Cores of this job, in a process of a launcher that runs several."""
    own = HydraConfig.get()
    return job_cores(str(own.runtime.choices["hydra/launcher"]), own.launcher, int(os.environ.get(JOBS, 1)))


def _with_own_folder(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments with ``--config-dir DIR`` as an override of Hydra's, which jobs elsewhere get too."""
    rest = iter(arguments)
    for argument in rest:
        flag, equals, folder = argument.partition("=")
        if flag != CONFIG_DIR:
            yield argument
            continue
        folder = folder if equals else next(rest, "")
        if not (place := Path(folder).expanduser()).is_dir():
            raise NotADirectoryError(f"{CONFIG_DIR} {folder}: no such folder; give one with experiment/NAME.yaml")
        yield f'{compose.SEARCHPATH}=["file://{place.resolve().as_posix()}"]'


def _keep_ray_out_of_home(arguments: Sequence[str]) -> None:
    """Set a token for a Ray that is started here; it would write one to the home directory otherwise."""
    if "launcher=ray" in arguments and not any("launcher.ray.init.address" in a for a in arguments):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@dataclass(frozen=True)
class JobResult:
    """Result of a job."""

    row: Row  # the run's in the leaderboard; only status and reason for a job without a run
    folder: str | None = None  # None for a job without a run
    overrides: Sequence[str] = ()
    done_before: bool = False

    @property
    def status(self) -> str:
        """Status of the run: "done", "failed" or "interrupted"."""
        return str(self.row["status"])


def run_job(
    node: DictConfig,
    overrides: Sequence[str] = (),
    *,
    precompute: bool = False,
    number: str = "",
    live: bool = False,
    cores: int | None = None,
) -> JobResult:
    """Do the run of Hydra's node, or precompute for it, which gives a result without a folder.

    Errors are printed to standard error and kept in the result, and end no other job. ``overrides`` are for the result,
    ``number`` ("job 2 of 3") is shown; ``live`` allows to draw on the terminal; ``cores`` as for
    :func:`editbench.single_run.run`.
    """
    from editbench import single_run

    folder: Path | None = None
    try:
        config = compose.parse(node)
        folder = None if precompute else config.folder.resolve()
        quiet_libraries()
        with watching(", ".join(filter(None, [*config.names, number])), live=live):
            done = single_run.precompute(config, cores) if precompute else single_run.run(config, cores)
    except (KeyboardInterrupt, Exception) as error:  # the other jobs of the sweep go on
        return _undone(error, folder, overrides, number)
    if isinstance(done, single_run.RunOutcome):
        return JobResult(read_row(done.folder), str(done.folder.resolve()), overrides, done.already_done)
    facts = {"method": config.method.name, "model": config.model.name, "dataset": config.dataset.name}
    row = {**dict.fromkeys(COLUMNS), **facts, "status": "done", "edits": done.edits, "prepare_seconds": done.seconds}
    return JobResult(row, None, overrides)


def _undone(error: BaseException, folder: Path | None, overrides: Sequence[str], number: str) -> JobResult:
    """Result of a job that failed or was stopped; its folder may be missing, or hold another run that is done."""
    if isinstance(error, Exception):
        report_failure(error, number)
        status, reason = "failed", f"{type(error).__name__}: {error}"
    else:
        status, reason = "interrupted", "stopped by the user; the same command goes on"
    if folder is not None and is_run(folder):
        row = read_row(folder)
        if (row["status"], row["reason"]) == (status, reason):
            return JobResult(row, str(folder), overrides)
    return JobResult({**dict.fromkeys(COLUMNS), "status": status, "reason": reason}, None, overrides)


def _precomputed_line(row: Row) -> str:
    if row["edits"] is None:
        return f"nothing to precompute: {row['method']} needs nothing in the cache"
    seconds = float(row["prepare_seconds"] or 0)
    return f"precomputed: {row['method']} on {row['model']}, {row['edits']} edits of {row['dataset']}, {seconds:.1f} s"


class JobReporter:
    """Prints the results of jobs, as ``lines`` of JSON or as tables, and keeps the exit status."""

    def __init__(self, lines: IO[str] | None = None, plan: Sequence[Sequence[str]] = ()) -> None:
        self._lines, self.plan = lines, plan  # overrides of all jobs; none where they are not known
        self.results: list[JobResult] = []

    @property
    def jobs(self) -> int | None:
        """Number of jobs; None if it is not known."""
        return len(self.plan) or None

    def number(self, job: int) -> str:
        """Number of the job and of all jobs, in words; empty for a single job."""
        return "" if self.jobs == 1 else f"job {job + 1}" + (f" of {self.jobs}" if self.jobs else "")

    def add(self, result: JobResult) -> None:
        """Add the result of a job that ran in this process, and print it."""
        self.results.append(result)
        if not self._printed(result) and result.status == "done" and not (result.done_before and self.jobs != 1):
            show([result.row])
            note = " (done before; results.rerun=true does it again)" if result.done_before else ""
            print(f"files: {result.folder}{note}", flush=True)

    def add_returned(self, results: Sequence[JobResult | None]) -> None:
        """Add the results of a sweep (None: a job not begun); print those of other processes and the table of all."""
        new = [r for r in results if r is not None and not any(r is known for known in self.results)]
        self.results += new
        for result in new:
            self._printed(result)
        rows = [result.row for result in self.results if result.folder is not None]
        before = sum(result.done_before for result in self.results)
        if self._lines is None and (len(rows) > 1 or (rows and (new or before))):
            show(rows)
        if before and self._lines is None:
            print(f"{before} of {len(results)} runs were done before; results.rerun=true does them again")
        undone = [(at, r) for at, r in enumerate(results) if r is not None and r.status != "done"]
        for status, several in groupby(sorted(undone, key=lambda one: one[1].status), lambda one: one[1].status):
            jobs = list(several)
            print(f"{len(jobs)} of {len(results)} jobs {'were ' * (status == 'interrupted')}{status}:", file=sys.stderr)
            for at, result in jobs:
                own = " ".join(own_part(result.overrides, self.plan or [()]))
                print("  " + one_line(f"{self.number(at)} ({own}): {result.row['reason']}"), file=sys.stderr)

    def _printed(self, result: JobResult) -> bool:
        """Print a result that is one line; whether it is."""
        if self._lines is not None:
            about = {"folder": result.folder, "done_before": result.done_before, "overrides": list(result.overrides)}
            print(row_as_json(result.row, **about), file=self._lines, flush=True)
        elif result.status == "done" and result.folder is None:
            print(_precomputed_line(result.row), flush=True)
        else:
            return False
        return True

    @property
    def exit_status(self) -> int:
        """0: all done; 130: interrupted; 1: a job failed."""
        found = {result.status for result in self.results}
        return INTERRUPTED if "interrupted" in found else 1 if found - {"done"} else 0
