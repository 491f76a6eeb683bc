"""Measured figures against committed reference figures, with the tolerance of each column."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from editbench.files import ResultsError
from editbench.results.columns import column, columns_of, mapping_in, number
from editbench.results.csv_files import read_csv
from editbench.results.identity import MACHINE, differences, listed, schema_of, without

if TYPE_CHECKING:
    from editbench.results.schema import Cell, Row

KEY = ("method", "hparams", "model", "dataset", "protocol", "edits", "batch_size", "seed")  # of run and reference
_ROUNDING = 1e-9  # 0.98 - 0.96 is a little more than 0.02


class Difference(TypedDict):
    """One figure of one run beside its reference."""

    run: Cell
    key: dict[str, str]  # the values of `KEY`
    measure: str  # the leaderboard column; empty for a refused run
    measured: float | None
    reference: float | None
    difference: float | None  # `_difference`; None beside a reference of 0 to which it would be relative
    verdict: str  # "same", "differs", "not measured" (only the reference has a value), "no reference", or "refused"
    reason: str  # of a refusal: the run was not made as its reference was


def compare(
    rows: Iterable[Row],
    reference_csv: str | Path,
    tolerance: float | None = None,
    perplexity_tolerance: float | None = None,
) -> list[Difference]:
    """Compare each run's columns that have a tolerance with the row of a leaderboard CSV that has the same `KEY`.

    There is a `Difference` for each run and column that either side has. A run whose reference was made with anything
    else but another machine and its libraries is "refused", by name. Reference rows that were not run are not listed.
    ``tolerance`` replaces the columns' absolute tolerances, ``perplexity_tolerance`` the relative ones.
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
        facts = mapping_in(row, "metrics")
        for name in columns_of([row]):
            one, measured, expected = column(name, facts), number(row, name), number(reference, name)
            if one.tolerance is None or name.startswith("immediate."):  # references are of the end
                continue
            difference = _about(row, name, "not measured" if measured is None else "no reference")
            difference["measured"], difference["reference"] = measured, expected
            if measured is not None and expected is not None:
                given = perplexity_tolerance if one.relative else tolerance
                limit = one.tolerance if given is None else given
                difference["difference"] = off = _difference(measured, expected, one.relative)
                difference["verdict"] = "same" if off is not None and abs(off) <= limit + _ROUNDING else "differs"
            if measured is not None or expected is not None:
                found.append(difference)
    return found


def _difference(measured: float, expected: float, relative: bool) -> float | None:
    """How far a figure is from its reference, divided by it if ``relative``; None if nothing can be relative to it."""
    off = measured - expected
    if not relative or not off:
        return off
    return off / expected if expected else None


def _unlike(row: Row, reference: Row) -> str:
    """The differences in how a run and its reference were made, in words; empty if there are none."""
    schemas = schema_of(row), schema_of(reference)
    if schemas[0] != schemas[1]:
        return f"it has schema {schemas[0]}, the reference has schema {schemas[1]}; make the older one again"
    return listed(differences(*(without(mapping_in(one, "parts"), MACHINE) for one in (row, reference))))


def _about(row: Row, name: str, verdict: str, reason: str = "") -> Difference:
    return {
        "run": row["run"],
        "key": dict(zip(KEY, _key(row), strict=True)),
        "measure": name,
        "measured": None,
        "reference": None,
        "difference": None,
        "verdict": verdict,
        "reason": reason,
    }


def _key(row: Row) -> tuple[str, ...]:
    return tuple("" if row.get(name) is None else str(row[name]) for name in KEY)
