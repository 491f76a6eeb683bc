"""The rows of the study's runs, ``results/reference/study``, and how they are added from results folders.

``NAME.csv`` has the runs of one experiment, ``NAME_points.csv`` their scores after so many edits, if any,
``NAME/RUN.csv.gz`` the scores of a run's records at its end, by each protocol's measures, and ``ranks.jsonl`` compares
the orders of methods.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from editbench.files import ResultsError
from editbench.json_lines import encode
from editbench.results.csv_files import read_csv, write_csv
from editbench.results.leaderboard import collect_folders, group
from editbench.results.points import POINT_COLUMNS, points_of
from editbench.results.rank_stability import RecordScores, agreements, final_scores
from editbench.results.schema import HEADLINES
from editbench.results.selection import where
from editbench.results.table_layout import CONTROL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editbench.results.schema import Row

STUDY = Path(__file__).resolve().parents[1] / "results" / "reference" / "study"
RANKS = STUDY / "ranks.jsonl"
IDLE = (CONTROL, "in_context", "retrieval")  # the last two change no answer of the embedded model
Stamp = tuple[int, int]
ENDED = ("done", "failed", "interrupted")
SAME_RUN = ("method", "method_config", "dataset", "mode", "edits", "batch_size", "seed")  # the newer one counts
SAME_POINTS = ("method", "dataset", "batch_size", "seed")
PROTOCOLS = {  # by name: what an edit's own prompt, its paraphrases, and what should stay are scored by
    "exact": ("rewrite.exact_match", "paraphrase.exact_match", "locality.agreement"),
    "tokens": ("rewrite.token_accuracy", "paraphrase.token_accuracy", "locality.agreement_tokens"),
    "likelier": ("rewrite.nll_contrast", "paraphrase.nll_contrast", "locality.nll_contrast"),
    "written": ("rewrite.generation", "paraphrase.generation", "locality.generation_agreement"),
}
RECORD_COLUMNS = (*HEADLINES, *(name for names in PROTOCOLS.values() for name in names))
VARIED = {  # what the order of methods may depend on, and the measures that order them
    "metric": ("score", "reliability", "generality", "locality"),
    "dataset": ("reliability", "locality"),
    "seed": ("score",),
    "protocol": ("score",),
    "hparams": ("score",),
}


def rows_of(name: str) -> list[Row]:
    """The finished runs of an experiment, seeds together; none where it was not run."""
    return _grouped(STUDY / f"{name}.csv", _stamp(STUDY / f"{name}.csv"))


def rows_in(name: str) -> list[Row]:
    """The runs of an experiment, each; none where it was not run."""
    return _read(STUDY / f"{name}.csv", _stamp(STUDY / f"{name}.csv"))


def points(name: str) -> list[Row]:
    """The runs of an experiment after so many edits; none where they were scored at their end alone."""
    return rows_in(f"{name}_points")


@cache
def _grouped(file: Path, stamp: Stamp | None) -> list[Row]:
    return [row for row in group(_read(file, stamp)) if row["status"] == "done"]


@cache
def _read(file: Path, stamp: Stamp | None) -> list[Row]:
    """The rows of a file as it was then: claims look up one row after the other."""
    return read_csv(file) if stamp else []


def _stamp(file: Path) -> Stamp | None:
    """Time and size of a file; None where there is none."""
    return (file.stat().st_mtime_ns, file.stat().st_size) if file.exists() else None


def settings(row: Row) -> dict[str, Any]:
    """The method's settings of a run."""
    found: dict[str, Any] = json.loads(str(row["method_config"]))
    return found


def keep(folder: Path) -> None:
    """Add the runs in each results folder ``folder/NAME`` to the study's; a run replaces an older one like it."""
    for results in sorted(path for path in folder.iterdir() if path.is_dir()):
        runs = {path: row for path, row in collect_folders(results).items() if row["status"] in ENDED}
        _add(list(runs.values()), results.name, SAME_RUN)
        found = [points_of(path) for path in runs]
        if any(len(own) > 1 for own in found):
            _add([point for own in found for point in own], f"{results.name}_points", SAME_POINTS, POINT_COLUMNS)
        for path, row in runs.items():
            if row["status"] == "done":
                _write_records(final_scores(path, RECORD_COLUMNS), results.name, path.name)


def _add(rows: list[Row], name: str, same: Sequence[str], columns: Sequence[str] | None = None) -> None:
    file, new = STUDY / f"{name}.csv", {_key(row, same) for row in rows}
    old = [row for row in (read_csv(file) if file.exists() else []) if _key(row, same) not in new]
    write_csv(sorted([*old, *rows], key=lambda row: (str(row["dataset"]), str(row["method"]))), file, columns)


def _key(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in names)


def _write_records(scores: RecordScores, name: str, run: str) -> None:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["record", *RECORD_COLUMNS])
    for record, values in zip(scores.records, scores.values, strict=True):
        lines.writerow([record, *(f"{value:.17g}" if np.isfinite(value) else "" for value in values)])
    (STUDY / name).mkdir(parents=True, exist_ok=True)
    (STUDY / name / f"{run}.csv.gz").write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def read_records(file: Path, measures: Sequence[str]) -> RecordScores:
    """What :func:`keep` wrote of a run's records; of ``FILE/PROTOCOL``, the headline by the measures of that protocol.

    Raises:
        ResultsError: A measure is not among those that are kept.
    """
    if file.name in PROTOCOLS:
        by = dict(zip(HEADLINES, PROTOCOLS[file.name], strict=True))
        return read_records(file.parent, [by[name] for name in measures])
    with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
        known, *rows = csv.reader(text)
    if unknown := [name for name in measures if name not in known]:
        raise ResultsError(f"{file} has no {', '.join(unknown)}; it has {', '.join(known[1:])}")
    values = np.array([[float(row[known.index(name)] or "nan") for name in measures] for row in rows])
    return RecordScores([row[0] for row in rows], values.reshape(-1, len(measures)), known[1:])


def keep_ranks() -> None:
    """Compare the orders of methods over the embedded world's runs whose records are kept, as far as they can be."""
    found = []
    for over, measures in VARIED.items():
        for runs in _compared(over):
            measured = [name for name in measures if any(row[name] is not None for row in runs.values())]
            try:
                found += agreements(runs, over, measured, read_records)
            except ResultsError as error:
                print(f"{over}: {error}")
    RANKS.write_text("".join(f"{encode(vars(one))}\n" for one in found), encoding="utf-8")


def _compared(over: str) -> list[dict[Path, Row]]:
    """The groups of runs of which each is compared in itself."""
    runs = _with_records("embedded", *(["published"] if over == "hparams" else []))
    return _by_dataset(runs) if over == "metric" else [_by_protocol(runs) if over == "protocol" else runs]


def _by_protocol(runs: dict[Path, Row]) -> dict[Path, Row]:
    """The runs of which most records have all measures of a protocol, once for each protocol."""
    return {
        file / name: row | {"protocol": name}
        for file, row in runs.items()
        for name, measures in PROTOCOLS.items()
        if _has(file, measures)
    }


def _has(file: Path, measures: Sequence[str]) -> bool:
    if not set(measures) <= set(read_records(file, HEADLINES).known):
        return False  # kept before there were protocols
    return bool((np.isfinite(read_records(file, measures).values).mean(axis=0) > 0.5).all())


def _with_records(*names: str) -> dict[Path, Row]:
    """The runs of methods that edit, by the file of their records."""
    rows = {STUDY / name / f"{row['run']}.csv.gz": row for name in names for row in rows_in(name)}
    kept = {id(row) for row in where(list(rows.values()), [f"method!={name}" for name in IDLE])}
    return {file: row for file, row in rows.items() if id(row) in kept and file.exists()}


def _by_dataset(runs: dict[Path, Row]) -> list[dict[Path, Row]]:
    names = dict.fromkeys(row["dataset"] for row in runs.values())
    return [{path: row for path, row in runs.items() if row["dataset"] == name} for name in names]


def ranks() -> list[dict[str, Any]]:
    """Agreements of two orders of methods each, as :func:`keep_ranks` found them."""
    return [json.loads(line) for line in RANKS.read_text(encoding="utf-8").splitlines()]
