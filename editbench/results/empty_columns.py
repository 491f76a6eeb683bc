"""Sentences on columns that no row of a table has, where a setting is the reason."""

from __future__ import annotations

from collections.abc import Sequence

from editbench.results.columns import column, mapping_in, number
from editbench.results.schema import HEADLINES, Row


def empty_columns(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """A sentence for each of these columns that all finished rows of a data set and protocol lack, with the reason."""
    found: dict[str, None] = {}
    for row in (row for row in rows if row["status"] == "done" and row.get("parts")):
        for name in names:
            if number(row, name) is None and (why := _reason(row, name)):
                found[
                    f"{row.get('dataset')}, protocol {row.get('protocol')}: no {column(name).title}, since {why}."
                ] = None
    return list(found)


def _reason(row: Row, name: str) -> str | None:
    if name.startswith("perplexity"):
        scored = any(number(row, one) is not None for one in ("perplexity_before", "perplexity_after"))
        return None if scored else "there are no plain texts to score"
    if name in HEADLINES:
        measure = mapping_in(row, "parts").get(f"protocol.headline.{name}")
        if measure is None:
            return f"the protocol names no {name} for this dataset (protocol.headline)"
        kind = str(measure).partition(".")[0]
        return f"no record has a {kind} question that was scored" if not number(row, f"{name}_n") else None
    missing = [one for one in HEADLINES if number(row, one) is None]
    return f"there is no {' and no '.join(missing)}" if name.startswith("score") and missing else None
