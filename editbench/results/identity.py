"""What decides a run's numbers, as named parts, and what follows: which runs are seeds of one thing, and which compare.

Two digests of the parts stand in run.json. Runs of one *identity* differ in their seed alone, and only they are
averaged. Runs that are *comparable* were measured alike on the same model, data and stream, whatever the method; only
they compete in tables and are tested against each other. A run that was made before there were parts has neither.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from editbench.results.schema import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from editbench.results.schema import Cell, Row

Parts = dict[str, Any]
"""By name ("stream.order", "versions.exact_match"): a value of JSON, or the digest of what is long."""

OWN = ("method", "stream.batch_size", "editbench", "torch", "transformers")
"""Parts, or the beginnings of their names, in which comparable runs may differ."""
MACHINE = ("model.attention", "model.device", "editbench", "torch", "transformers")
"""Parts in which a run and its reference may differ: a reference tells whether another machine gives the same."""
LABELS = ("model", "dataset", "protocol", "edits")
"""Columns that say what was asked of a method."""
METHOD = ("method", "hparams", "batch_size", "method_config")
"""Columns that say how it was edited."""
_LONGEST = 80  # characters of a part's value
_SHOWN = 24  # characters of it in a sentence: enough to tell digests apart
_NAMED = 5  # differences that a sentence names


def part(value: Any) -> Any:
    """A value as a part: itself, or its digest where it is long."""
    text = json.dumps(value, sort_keys=True, default=str)
    return value if len(text) <= _LONGEST else f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def identify(parts: Parts) -> dict[str, Any]:
    """What of a run's provenance says what it is: the parts and their two digests."""
    shared = without(parts, OWN)
    return {"schema": SCHEMA, "identity": _digest(parts), "comparable": _digest(shared), "parts": dict(parts)}


def without(parts: Mapping[str, Any], names: Collection[str]) -> Parts:
    """The parts but for these, and but for those whose names begin with one of these and a dot."""
    return {k: v for k, v in parts.items() if not any(k == name or k.startswith(f"{name}.") for name in names)}


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What two runs differ in, part by part: "versions.exact_match is 1 and 2"."""
    names = sorted(name for name in {*a, *b} if a.get(name) != b.get(name) or (name in a) != (name in b))
    return [f"{name} is {_said(a, name)} and {_said(b, name)}" for name in names]


def listed(differences: list[str]) -> str:
    """The differences in one clause; of many the first few."""
    more = len(differences) - _NAMED
    return "; ".join([*differences[:_NAMED], *([f"and {more} more"] if more > 0 else [])])


def parts_of(row: Row) -> Parts:
    """The parts of a row of the leaderboard; none of a run that was made before there were any."""
    text = row.get("parts")
    found = json.loads(text) if isinstance(text, str) else {}
    return found if isinstance(found, dict) else {}


def schema_of(row: Row) -> int:
    """The schema that a row was made with; before there was such a column, it was 1."""
    value = row.get("schema")
    return int(value) if isinstance(value, (int, float)) else 1


def stands_for(row: Row, column: str) -> str:
    """A row's "identity" or "comparable_group"; of a run that has none, something that no other row has."""
    return str(row.get(column) or f"alone: {row.get('run')} {row.get('content_hash')}")


def told_apart(rows: Iterable[Row]) -> list[str]:
    """Sentences on finished runs that look alike in a table and are neither averaged nor compared, with the reasons."""
    alike: dict[tuple[Cell, ...], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if row["status"] == "done" and row.get("identity"):
            alike[tuple(row.get(name) for name in LABELS)].setdefault(stands_for(row, "identity"), row)
    return [sentence for several in alike.values() for sentence in _sentences(list(several.values()))]


def _sentences(rows: list[Row]) -> list[str]:
    """On each row, whichever comes before it that it should be told from."""
    found, told = [], set()
    for index, row in enumerate(rows):
        before = rows[:index]
        namesake = next((o for o in before if all(o.get(name) == row.get(name) for name in METHOD)), None)
        group = stands_for(row, "comparable_group")
        other = namesake or next((o for o in before if stands_for(o, "comparable_group") != group), None)
        if other is None or (namesake is None and group in told):
            continue
        compared = stands_for(other, "comparable_group") == group
        verdict = "not averaged" if compared else "neither averaged nor compared" if namesake else "not compared"
        ignored = () if namesake else OWN
        reasons = differences(without(parts_of(other), ignored), without(parts_of(row), ignored))
        found.append(f"{other['run']} and {row['run']} are {verdict}: {listed(reasons)}.")
        told |= {group, stands_for(other, "comparable_group")}
    return found


def _said(parts: Mapping[str, Any], name: str) -> str:
    if name not in parts:
        return "missing"
    text = json.dumps(parts[name], ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _digest(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
