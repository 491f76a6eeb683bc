"""``editbench demo``: six methods over one long stream of edits into the embedded model, side by side on a laptop."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from editbench import compose, launch
from editbench.results import leaderboard
from editbench.results.csv_files import write_csv
from editbench.results.findings import findings
from editbench.results.points import POINT_COLUMNS, measure_of, points_of
from editbench.results.report import write_report
from editbench.results.tables import console, show, show_comparison
from editbench.results.terminal_chart import chart
from editbench.threads import usable_cores

if TYPE_CHECKING:
    from editbench.results.schema import Row

METHODS = ("rome", "finetune", "memit", "scen", "nse", "unedited")
"""Longest first, so that jobs side by side end together; MEMIT before NSE, which finds its covariance in the cache."""
REFERENCE = Path("results") / "reference" / "demo.csv"


@dataclass(frozen=True)
class Streams:
    """One stream for each dataset."""

    datasets: tuple[str, ...]
    points: tuple[int, ...]  # numbers of edits after which all so far are scored; the last is the end
    sample: int  # records scored, and plain texts measured, at a point before the end

    def shortened(self, edits: int) -> Streams:
        """These streams with so many edits."""
        return replace(self, points=(*(point for point in self.points if point < edits), edits))

    def run(self, method: str, dataset: str) -> list[str]:
        """Overrides of a run. Its metrics are the headline's: generated answers would take most of the time."""
        return [
            *(f"method={method}", f"dataset={dataset}", f"stream.edits={self.points[-1]}"),
            *("stream.batch_size=10", "stream.sample=random"),
            f"stream.evaluate_at=[{','.join(map(str, self.points[:-1]))}]",
            *("protocol.stages=[final]", f"protocol.retention_sample={self.sample}"),
            *(f"protocol.text_sample={self.sample}", f"protocol.metrics=[{HEADLINE_METRICS[dataset]}]"),
        ]


HEADLINE_METRICS = {
    "counterfact": "exact_match,agreement",
    "zsre": "exact_match,agreement",
    "hallucination": "token_accuracy,agreement_tokens",
}
SHORT = Streams(("counterfact",), (10, 30, 100, 200, 300), 50)
LONG = Streams(("counterfact", "zsre", "hallucination"), (10, 30, 100, 300, 600, 1000), 50)


def main(long: bool = False, edits: int | None = None, results: Path = Path("results"), again: bool = False) -> int:
    """Run all methods and show what came out; the exit status is 1 if a run failed. ``edits`` shortens the streams."""
    begun, streams = time.monotonic(), LONG if long else SHORT
    streams = streams if edits is None else streams.shortened(edits)
    place = [f"results.dir={results}", f"results.rerun={str(again).lower()}"]
    jobs = [[*streams.run(method, dataset), *place] for method in METHODS for dataset in streams.datasets]
    done = [job for job in _run(jobs, begun) if job.status == "done" and job.folder is not None]
    done.sort(key=lambda job: jobs.index([*job.overrides]))  # they end in any order
    rows = [job.row for job in done]
    show(rows)
    if REFERENCE.is_file():
        show_comparison(rows, REFERENCE)
    points = [point for job in done for point in points_of(Path(str(job.folder)))]
    write_csv(points, results / "points.csv", POINT_COLUMNS)
    for dataset in streams.datasets:
        _show_points([point for point in points if point["dataset"] == dataset], dataset)
    _write_all(results)
    print(f"{time.monotonic() - begun:.0f} s in all")
    return 0 if len(done) == len(jobs) else 1


def _run(jobs: Sequence[Sequence[str]], begun: float) -> Iterator[launch.JobResult]:
    """Run the jobs in turn, one on each core at a time, and say which have ended; failures are reported."""
    cores = min(usable_cores(), len(jobs))
    for number, result in enumerate(_side_by_side(jobs, cores) if cores > 1 else map(_job, jobs), start=1):
        what = ", ".join(str(result.row[name]) for name in ("method", "dataset") if result.row[name])
        taken = "done before" if result.done_before else f"{time.monotonic() - begun:.0f} s"
        print(f"[{number}/{len(jobs)}] {what or ' '.join(result.overrides[:2])}: {result.status}, {taken}", flush=True)
        yield result


def _side_by_side(jobs: Sequence[Sequence[str]], cores: int) -> Iterator[launch.JobResult]:
    """Results in the order in which jobs end. None waits in the pool, where an interruption would not reach it."""
    waiting, running = list(jobs), set[Future[launch.JobResult]]()
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        while waiting or running:
            while waiting and len(running) < cores:
                running.add(pool.submit(_job, waiting.pop(0), live=False))
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in ended)


def _job(overrides: Sequence[str], live: bool = True) -> launch.JobResult:
    """A run in one thread, as `editbench run` does it."""
    node = compose.compose_node(compose.check(overrides).only)
    return launch.run_job(node, overrides, live=live, cores=1)


def _show_points(points: Sequence[Row], dataset: str) -> None:
    """The figure, and what it shows in words."""
    where, measure = console(), measure_of(points)
    if points and where.encoding.startswith("utf"):  # its lines are of Braille
        print(
            chart(
                points,
                f"{dataset}: score over edits",
                width=where.width,
                colours=where.is_terminal and not where.no_color,
            )
        )
    for sentence in findings(points, measure):
        print(sentence)


def _write_all(results: Path) -> None:
    """Table and report of all runs that are there, and where they lie."""
    runs = leaderboard.collect_folders(results)
    write_csv(list(runs.values()), results / "leaderboard.csv")
    print(f"all runs in one table: {results / 'leaderboard.csv'}; scores over edits: {results / 'points.csv'}")
    if find_spec("plotly") is None:
        print("for a page with every curve and record: pip install 'editbench[plots]', then editbench report")
    elif runs:
        write_report(runs, results / "report.html")
        print(f"every curve and record: open {(results / 'report.html').resolve()}")
