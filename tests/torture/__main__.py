"""All sections, the table, and what was lost or went unnoticed.

``python -m tests.torture [--seconds N] [--workers 2] [--only TEXT] [--write]``
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from editbench import plugins
from tests.torture import crowds, flips, inputs, stops
from tests.torture.operations import in_child
from tests.torture.outcomes import Ending, Outcome, Section, table
from tests.torture.small import Runs

PAGE = Path(__file__).parents[2] / "docs/reliability.md"
BEGIN, END = "<!-- table -->\n", "<!-- end -->\n"


def sections(runs: Runs) -> list[Section]:
    """All that is tried."""
    others = [name for name in plugins.entry_points(plugins.METHODS) if name not in (*stops.KINDS, "external_weights")]
    tries = {
        "a kill, or a kill with a torn file, at every writing operation; five kinds of storage": stops.kills,
        "the same at 50 operations of each further method": partial(stops.kills, methods=others, most=stops.FURTHER),
        "a full disk, a broken one, a refusal, a short write at every writing operation": stops.errors,
        "too little memory": stops.memory,
        "a bit turned or the end cut off, in every region of a run's files": flips.runs_altered,
        "the same in the cache's files, which the next run reads": flips.caches_altered,
        "hostile run folders beside honest ones": crowds.hostile,
        "16 runs in one folder, while tables are made of it": crowds.crowd,
        "files of records with bytes altered": inputs.records,
        "ledgers with bytes altered": inputs.ledgers,
        "values of settings": inputs.settings,
        "command lines, parsed": inputs.arguments,
        "command lines, by the real command": inputs.commands,
    }
    return [Section(title, partial(of, runs)) for title, of in tries.items()]


def tortured(seconds: float | None, workers: int = 1, only: str = "") -> list[Section]:
    """Run sections with ``only`` in their titles, each for a share of the seconds (None: to its end), in processes."""
    with tempfile.TemporaryDirectory(prefix="editbench-torture-", ignore_cleanup_errors=True) as folder:
        found = [section for section in sections(Runs(Path(folder))) if only in section.title]
        gc.freeze()  # every run collects garbage when it begins: half of a trial's time otherwise
        share = seconds * workers / len(found) if seconds is not None else float("inf")
        with ThreadPoolExecutor(workers) as pool:
            for number, section in enumerate(found):
                pool.submit(_run, section, share, Path(folder) / f"section-{number}.log")
    return found


def _run(section: Section, seconds: float, log: Path) -> None:
    """Run a section in a fork, and take over what it found; a section that breaks off is lost."""

    def work() -> str:
        section.run(seconds)
        bad = [(one.what, one.ending.value, one.said) for one in section.bad]
        return json.dumps([{of.value: n for of, n in section.counts.items()}, bad, section.whole])

    begun = time.monotonic()
    status, said = in_child(work, log)
    section.seconds = time.monotonic() - begun
    if status:
        section.add(Outcome("the section", Ending.LOST, said))
    else:
        counts, bad, section.whole = json.loads(said)
        section.counts.update({Ending(name): count for name, count in counts.items()})
        section.bad += [Outcome(what, Ending(name), why) for what, name, why in bad]
    print(f"{section.seconds:6.0f} s  {section.counts.total():9,}  {section.title}", file=sys.stderr, flush=True)
    for outcome in section.bad[:5]:
        print(f"         {outcome.ending.value}: {outcome.what}: {outcome.said}", file=sys.stderr, flush=True)


def main() -> int:
    """Try, print the table, and write it into the page if asked to; 1 if anything was lost or silent."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, help="for all together (default: until everything was tried)")
    parser.add_argument("--workers", type=int, default=2, help="sections that run at once")
    parser.add_argument("--only", default="", metavar="TEXT", help="only sections in whose title this is")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    options = parser.parse_args()
    begun = time.monotonic()
    found = tortured(options.seconds, options.workers, options.only)
    text = table(found)
    print(text)
    if options.write:
        head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        date = f"{datetime.date.today():%Y-%m-%d}, {(time.monotonic() - begun) / 60:.0f} minutes"
        PAGE.write_text(f"{head}{BEGIN}\n{date}:\n\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return int(any(section.bad for section in found))


if __name__ == "__main__":
    sys.exit(main())
