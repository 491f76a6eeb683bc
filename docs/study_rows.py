"""The rows of the study's runs, ``results/reference/study``, and how they are collected from results folders.

``NAME.csv`` has the runs of one experiment, ``NAME_points.csv`` their scores after so many edits, if any, and
``ranks.jsonl`` compares the orders of methods.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.files import ResultsError
from editbench.json_lines import encode
from editbench.results.csv_files import read_csv, write_csv
from editbench.results.leaderboard import collect, collect_folders, group
from editbench.results.points import POINT_COLUMNS, points_of
from editbench.results.rank_stability import agreements
from editbench.results.table_layout import CONTROL

if TYPE_CHECKING:
    from editbench.results.schema import Row

STUDY = Path(__file__).resolve().parents[1] / "results" / "reference" / "study"
RANKS = STUDY / "ranks.jsonl"
IDLE = (CONTROL, "in_context", "retrieval")  # the last two change no answer of the embedded model
VARIED = {  # what the order of methods may depend on, and the measures that order them
    "metric": ("score", "reliability", "generality", "locality"),
    "dataset": ("reliability", "locality"),
    "seed": ("score",),
    "hparams": ("score",),
}


def rows_of(name: str) -> list[Row]:
    """The finished runs of an experiment, seeds together; none where it was not run."""
    file = STUDY / f"{name}.csv"
    return [row for row in group(read_csv(file)) if row["status"] == "done"] if file.exists() else []


def points(name: str) -> list[Row]:
    """The runs of an experiment after so many edits; none where they were scored at their end alone."""
    file = STUDY / f"{name}_points.csv"
    return read_csv(file) if file.exists() else []


def settings(row: Row) -> dict[str, Any]:
    """The method's settings of a run."""
    found: dict[str, Any] = json.loads(str(row["method_config"]))
    return found


def keep(folder: Path) -> None:
    """Collect the runs of each experiment in ``folder`` into its file of the study."""
    STUDY.mkdir(parents=True, exist_ok=True)
    for results in sorted(path for path in folder.iterdir() if path.is_dir()):
        write_csv(collect(results), STUDY / f"{results.name}.csv")
        found = [points_of(run) for run in collect_folders(results)]
        if any(len(own) > 1 for own in found):
            write_csv([point for own in found for point in own], STUDY / f"{results.name}_points.csv", POINT_COLUMNS)


def keep_ranks(study: Path) -> None:
    """Compare the orders of methods over the embedded world's runs, as far as there are runs to compare."""
    found = []
    for over, measures in VARIED.items():
        roots = [study / "embedded", *([study / "published"] if over == "hparams" else [])]
        runs = collect_folders(*filter(Path.is_dir, roots), conditions=[f"method!={name}" for name in IDLE])
        for some in _by_dataset(runs) if over == "metric" else [runs]:
            measured = [name for name in measures if any(row[name] is not None for row in some.values())]
            try:
                found += agreements(some, over, measured)
            except ResultsError as error:
                print(f"{over}: {error}")
    RANKS.write_text("".join(f"{encode(vars(one))}\n" for one in found), encoding="utf-8")


def _by_dataset(runs: dict[Path, Row]) -> list[dict[Path, Row]]:
    names = dict.fromkeys(row["dataset"] for row in runs.values())
    return [{path: row for path, row in runs.items() if row["dataset"] == name} for name in names]


def ranks() -> list[dict[str, Any]]:
    """Agreements of two orders of methods each, as :func:`keep_ranks` found them."""
    return [json.loads(line) for line in RANKS.read_text(encoding="utf-8").splitlines()]
