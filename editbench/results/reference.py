"""Measured figures against committed ones: has something changed that should not have?"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from editbench.files import ResultsError
from editbench.results.identity import MACHINE, differences, listed, parts_of, schema_of, without
from editbench.results.leaderboard import read_csv
from editbench.results.schema import HEADLINES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from editbench.results.schema import Cell, Row

KEY = ("method", "hparams", "model", "dataset", "protocol", "edits", "batch_size", "seed")
"""The columns in which a run and its reference agree."""
RATES = ("score", *HEADLINES)
PERPLEXITIES = ("perplexity_before", "perplexity_after")
_ROUNDING = 1e-9  # 0.98 - 0.96 is a little more than 0.02


class Difference(TypedDict):
    """One figure of one run beside its reference.

    Attributes:
        run: The run's id.
        key: The values of `KEY`.
        measure: The leaderboard column.
        measured: The run's value; None if it has none.
        reference: The committed value; None if there is none.
        difference: measured - reference, for perplexities divided by the reference.
        verdict: "same", "differs", "not measured" (only the reference has a value), "no reference", or "refused".
        reason: Why a run is refused: it was not made as its reference was. Its one `Difference` is of no measure.
    """

    run: Cell
    key: dict[str, str]
    measure: str
    measured: float | None
    reference: float | None
    difference: float | None
    verdict: str
    reason: str


def compare(
    rows: Iterable[Row], reference_csv: str | Path, tolerance: float = 0.02, perplexity_tolerance: float = 0.02
) -> list[Difference]:
    """Compare each run's headline figures with the row of a committed leaderboard CSV that has the same `KEY`.

    Args:
        rows: What `collect` returned.
        reference_csv: A file that `write_csv` wrote; of its columns, `KEY` and those compared are needed.
        tolerance: Largest absolute difference of a rate that counts as the same.
        perplexity_tolerance: Largest relative difference of a perplexity that counts as the same.

    Returns:
        One `Difference` for each run and measure that either side has; a run without a reference row has "no reference"
        for each of its values. A run whose reference was made with another schema, other versions of formulas, or
        anything else than it but the machine and its libraries, is "refused", by name. Reference rows that were not run
        are not listed.

    Raises:
        ResultsError: If the CSV cannot be read, lacks a `KEY` column, or has two rows with the same key.
    """
    references: dict[tuple[str, ...], Row] = {}
    for reference in read_csv(reference_csv):
        if missing := [name for name in KEY if name not in reference]:
            raise ResultsError(f"{reference_csv} lacks the columns {missing}, which say what a row is a reference for")
        if references.setdefault(_key(reference), reference) is not reference:
            raise ResultsError(f"{reference_csv} has two rows for {dict(zip(KEY, _key(reference), strict=True))}")
    found: list[Difference] = []
    for row in rows:
        reference = references.get(_key(row), {})
        if reference and (reason := _unlike(row, reference)):
            found.append(_about(row, "", "refused", reason))
            continue
        for measure in (*RATES, *PERPLEXITIES):
            if difference := _difference(row, reference, measure, tolerance, perplexity_tolerance):
                found.append(difference)
    return found


def _unlike(row: Row, reference: Row) -> str:
    """In what a run and its reference were made differently; nothing where they were made alike."""
    schemas = schema_of(row), schema_of(reference)
    if schemas[0] != schemas[1]:
        return f"it has schema {schemas[0]}, the reference has schema {schemas[1]}; make the older one again"
    return listed(differences(*(without(parts_of(one), MACHINE) for one in (row, reference))))


def _about(row: Row, measure: str, verdict: str, reason: str = "") -> Difference:
    """A difference without figures."""
    key = dict(zip(KEY, _key(row), strict=True))
    return {
        "run": row["run"],
        "key": key,
        "measure": measure,
        "measured": None,
        "reference": None,
        "difference": None,
        "verdict": verdict,
        "reason": reason,
    }


def _difference(
    row: Row, reference: Row, measure: str, tolerance: float, perplexity_tolerance: float
) -> Difference | None:
    measured, expected = _number(row, measure), _number(reference, measure)
    if measured is None and expected is None:
        return None
    difference = None
    if measured is None:
        verdict = "not measured"
    elif expected is None:
        verdict = "no reference"
    else:
        relative = measure in PERPLEXITIES
        difference = (measured - expected) / (expected if relative else 1.0)
        limit = perplexity_tolerance if relative else tolerance
        verdict = "same" if abs(difference) <= limit + _ROUNDING else "differs"
    about = _about(row, measure, verdict)
    return {**about, "measured": measured, "reference": expected, "difference": difference}


def _key(row: Row) -> tuple[str, ...]:
    return tuple("" if row.get(name) is None else str(row[name]) for name in KEY)


def _number(row: Row, column: str) -> float | None:
    value = row.get(column)
    return float(value) if isinstance(value, (int, float)) else None
