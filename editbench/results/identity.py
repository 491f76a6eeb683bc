"""Identity of a run: the named parts that decide its numbers, and two digests of them in run.json.

Runs of one *identity* differ in their seed alone, and only they are averaged. *Comparable* runs were measured alike on
the same model, data and stream, whatever the method; only they compete in tables and are tested against each other. A
run of schema 1 has no parts, and neither digest.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from editbench.results.columns import mapping_in, number
from editbench.results.schema import SCHEMA, Cell, Row

Parts = dict[str, Any]  # by name ("stream.order"): a JSON value, or the digest of a long one

OWN = ("method", "stream.batch_size", "editbench", "torch", "transformers")
"""Parts, or prefixes of their names, in which comparable runs may differ."""
MACHINE = ("model.attention", "model.device", "editbench", "torch", "transformers")
"""Parts in which a run and its reference may differ: a reference checks that another machine gives the same."""
LABELS = ("model", "dataset", "protocol", "mode", "edits")  # columns of the task
METHOD = ("method", "hparams", "batch_size", "method_config")  # columns of the editing
_MAX_VALUE = 80  # characters of a part's value
_MAX_SHOWN = 24  # characters of a value in a message: enough to tell digests apart
_MAX_NAMED = 5  # differences named in a message


def part(value: Any) -> Any:
    """A value as a part: the value, or the digest of a long one."""
    text = json.dumps(value, sort_keys=True, default=str)
    return value if len(text) <= _MAX_VALUE else f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def identify(parts: Parts) -> dict[str, Any]:
    """The keys of a run's provenance that identify it: the parts and their two digests."""
    shared = without(parts, OWN)
    return {"schema": SCHEMA, "identity": _digest(parts), "comparable": _digest(shared), "parts": dict(parts)}


def without(parts: Mapping[str, Any], names: Collection[str]) -> Parts:
    """The parts except these names and those below them ("method" removes "method.layer")."""
    return {k: v for k, v in parts.items() if not any(k == name or k.startswith(f"{name}.") for name in names)}


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Sentences on the parts in which two runs differ: "versions.exact_match is 1 and 2"."""
    names = sorted(name for name in {*a, *b} if a.get(name) != b.get(name) or (name in a) != (name in b))
    return [f"{name} is {_value_text(a, name)} and {_value_text(b, name)}" for name in names]


def listed(differences: list[str]) -> str:
    """The first differences in one clause."""
    more = len(differences) - _MAX_NAMED
    return "; ".join([*differences[:_MAX_NAMED], *([f"and {more} more"] if more > 0 else [])])


def schema_of(row: Row) -> int:
    """The schema of a row; 1 without the column."""
    return int(number(row, "schema") or 1)


def digest_or_own(row: Row, column: str) -> str:
    """A row's "identity" or "comparable_group"; without one, a text that no other row has."""
    return str(row.get(column) or f"alone: {row.get('run')} {row.get('content_hash')}")


def copies(rows: Iterable[Row]) -> list[str]:
    """Sentences on finished runs of one identity that are no two seeds: one stream and seed, or equal final rows."""
    answers: dict[tuple[Cell, str], Row] = {}
    streams: dict[tuple[Cell, Cell, str], Row] = {}
    runs = {(row["run"], row.get("content_hash")): row for row in rows if row["status"] == "done"}  # points share one
    found = []
    for row in runs.values():
        identity = digest_or_own(row, "identity")
        if row.get("stream_hash") is not None:
            earlier = streams.setdefault((row["stream_hash"], row["seed"], identity), row)
            if earlier is not row:
                found.append(f"{earlier['run']} and {row['run']} have one stream and seed: {_NOT_AVERAGED}")
                continue
        if row.get("final_rows"):
            earlier = answers.setdefault((row["final_rows"], identity), row)
            if earlier["seed"] != row["seed"]:
                names = f"{earlier['run']} and {row['run']}"
                found.append(f"{names} have equal final rows under different seeds: {_NOT_AVERAGED}")
    return found


_NOT_AVERAGED = "copies are not averaged."


def look_alikes(rows: Iterable[Row]) -> list[str]:
    """Sentences on finished runs that look alike in a table and are neither averaged nor compared, with the reasons."""
    alike: dict[tuple[Cell, ...], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if row["status"] == "done" and row.get("identity"):
            alike[tuple(row.get(name) for name in LABELS)].setdefault(digest_or_own(row, "identity"), row)
    return [sentence for several in alike.values() for sentence in _sentences(list(several.values()))]


def _sentences(rows: list[Row]) -> list[str]:
    """A sentence on each row that looks like an earlier one."""
    found, named = [], set()
    for index, row in enumerate(rows):
        before = rows[:index]
        namesake = next((o for o in before if all(o.get(name) == row.get(name) for name in METHOD)), None)
        group = digest_or_own(row, "comparable_group")
        other = namesake or next((o for o in before if digest_or_own(o, "comparable_group") != group), None)
        if other is None or (namesake is None and group in named):
            continue
        compared = digest_or_own(other, "comparable_group") == group
        verdict = "not averaged" if compared else "neither averaged nor compared" if namesake else "not compared"
        ignored = () if namesake else OWN
        reasons = differences(*(without(mapping_in(one, "parts"), ignored) for one in (other, row)))
        found.append(f"{other['run']} and {row['run']} are {verdict}: {listed(reasons)}.")
        named |= {group, digest_or_own(other, "comparable_group")}
    return found


def _value_text(parts: Mapping[str, Any], name: str) -> str:
    text = json.dumps(parts[name], ensure_ascii=False) if name in parts else "missing"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _digest(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
