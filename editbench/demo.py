"""``editbench demo``: every method on the embedded world and model, in three minutes on a laptop."""

from __future__ import annotations

import time
from pathlib import Path

from editbench import plugins, single_run
from editbench.console import quiet_libraries, report_failure
from editbench.progress import watching
from editbench.results import leaderboard
from editbench.results.csv_files import write_csv
from editbench.results.tables import show, show_comparison

NEED_A_PATH = ("external_weights",)  # methods that score the user's own weights
REFERENCE = Path("results") / "reference" / "demo.csv"


def main(edits: int = 50, results: Path = Path("results"), again: bool = False) -> int:
    """Run all methods over one stream, show the runs beside the reference; the exit status is 1 if a run failed."""
    quiet_libraries()
    begun, folders, failures = time.monotonic(), [], 0
    methods = [name for name in plugins.entry_points(plugins.METHODS) if name not in NEED_A_PATH]
    for number, method in enumerate(methods, start=1):
        started, title = time.monotonic(), f"[{number}/{len(methods)}] {method}: {edits} sequential edits"
        overrides = [f"method={method}", f"stream.edits={edits}", "stream.sample=random", f"results.dir={results}"]
        overrides.append("protocol.stages=[final]")  # the table shows the end of the stream
        try:
            with watching(title):
                outcome = single_run.run([*overrides, f"results.rerun={str(again).lower()}"])
        except Exception as error:  # the other methods still run
            failures += 1
            print(f"{title}: failed", flush=True)
            report_failure(error)
            continue
        folders.append(outcome.folder)
        taken = "done before" if outcome.already_done else f"{time.monotonic() - started:.0f} s"
        print(f"{title}: {taken}", flush=True)
    rows = [leaderboard.read_row(folder) for folder in folders]
    show(rows)
    write_csv(leaderboard.collect(results), results / "leaderboard.csv")
    print(f"all runs in one table: {results / 'leaderboard.csv'}   ({time.monotonic() - begun:.0f} s in all)")
    if REFERENCE.is_file():
        show_comparison(rows, REFERENCE)
    return 1 if failures else 0
