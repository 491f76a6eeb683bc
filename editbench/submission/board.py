"""``editbench leaderboard --from FOLDER``: rows of submissions, a pure function of the folder that holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from editbench.files import ResultsError, read_bytes
from editbench.json_lines import decode
from editbench.results import leaderboard
from editbench.results.columns import COLUMNS
from editbench.results.recomputed import of_one_run
from editbench.results.run_folder import read_info
from editbench.results.schema import MANIFEST_FILE, MAX_INFO, Row
from editbench.submission.pack import RUNS_FOLDER, SUBMISSION_FILE, VERDICTS_FOLDER, unofficial
from editbench.submission.verify import REFUSED, VERIFIED

OWN = ("submission", "official", "rescored", "reedited", "refused", "verified_by", "against")
"""Columns of a submission, beside those of its runs."""


def rows_of(folder: str | Path) -> list[Row]:
    """A row for each submission in ``folder``, over its seeds, with the columns :data:`OWN`.

    The scores are those of the submitted rows ("reported"). ``rescored`` and ``reedited`` count the runs that somebody
    verified at level 2 and 3, ``refused`` those that somebody refused. What a submission says of itself is not
    believed: whether it is official follows from its runs. A damaged one has a row with status and reason.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ResultsError(f"{root} is not a folder; give the folder that holds the submissions")
    found = sorted(path for path in root.iterdir() if (path / SUBMISSION_FILE).is_file() and path.name[0] != ".")
    return [row for one in found for row in _rows(one)]


def _rows(submission: Path) -> list[Row]:
    try:
        with of_one_run(submission):
            about = decode(read_bytes(submission / SUBMISSION_FILE, limit=MAX_INFO))
            runs = leaderboard.collect_folders(submission / RUNS_FOLDER)
            verdicts = list(_verdicts(submission))
            roots = {str(row["run"]): _root(path) for path, row in runs.items()}
            infos = [read_info(path)["provenance"] for path, row in runs.items() if row["status"] == "done"]
            why = unofficial(infos) if infos else ["no finished run"]
            against = about.get("against")
            common: Row = {"submission": submission.name, "official": "; ".join(why) or "yes"}
            common |= {"against": str(against)[:12] if against else None}
            return [row | common | _checked(row, roots, verdicts) for row in leaderboard.group(list(runs.values()))]
    except ResultsError as error:
        empty: Row = dict.fromkeys((*COLUMNS, *OWN))
        return [
            empty | {"submission": submission.name, "run": submission.name, "status": "damaged", "reason": str(error)}
        ]


def _root(run: Path) -> str | None:
    try:
        return str(decode(read_bytes(run / MANIFEST_FILE, limit=MAX_INFO)).get("root"))
    except (ResultsError, ValueError):
        return None


def _verdicts(submission: Path) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """(name of who verified, verdict) of each line in the files of verdicts."""
    for file in sorted((submission / VERDICTS_FOLDER).glob("*.json")):
        for line in read_bytes(file, limit=MAX_INFO).splitlines():
            yield file.stem, decode(line)


def _checked(row: Row, roots: Mapping[str, str | None], verdicts: Iterable[tuple[str, Mapping[str, Any]]]) -> Row:
    """How many of the row's runs were verified at which level, and by whom."""
    own = {roots.get(name) for name in str(row["run"]).split(leaderboard.SEPARATOR)} - {None}
    of_row = [(name, verdict) for name, verdict in verdicts if verdict.get("root") in own]
    at = {
        level: {
            verdict["root"] for _, verdict in of_row if _says(verdict, VERIFIED) and verdict.get("level", 0) >= level
        }
        for level in (2, 3)
    }
    refused = {verdict["root"] for _, verdict in of_row if _says(verdict, REFUSED)}
    shown = {"rescored": at[2], "reedited": at[3], "refused": refused}
    counts: Row = {name: f"{len(runs)} of {len(own)}" for name, runs in shown.items()}
    return counts | {"verified_by": leaderboard.SEPARATOR.join(sorted({name for name, _ in of_row})) or None}


def _says(verdict: Mapping[str, Any], status: str) -> bool:
    return verdict.get("status") == status
